"""Options of a sweep, checked before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from notata.errors import ConfigurationError

__all__ = ["Options", "check_arguments"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `notata.Experiment.sweep`, where they are described.

    Raises:
        ConfigurationError: One of them is invalid.
    """

    retries: int = 1
    max_in_flight: int = 1000
    wait: bool | float = True
    fresh: bool = False
    progress: bool | None = None

    def __post_init__(self) -> None:
        _check_number("retries", self.retries, 0)
        _check_number("max_in_flight", self.max_in_flight, 1)
        if not isinstance(self.wait, bool | int | float) or not self.wait >= 0:
            raise ConfigurationError(f"invalid wait {self.wait!r}: pass True, False or a number of seconds")


def check_arguments(task: object, space: object) -> None:
    """Check that a task can be called, and that a space may consist of points.

    Raises:
        ConfigurationError: One of them is invalid.
    """
    if not callable(task):
        raise ConfigurationError(f"invalid task {task!r}: pass a function, which is called as task(log, **params)")
    is_space = isinstance(space, Iterable) or hasattr(type(space), "__getitem__")
    if not is_space or isinstance(space, str | bytes | Mapping):
        hint = "grid(**space) makes them from a dictionary of values" if isinstance(space, Mapping) else "see grid"
        raise ConfigurationError(
            f"invalid space {space!r}: pass an iterable of dictionaries, one for each point, as in grid(dt=[0.1]); "
            f"{hint}"
        )


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"invalid {name} {value!r}: pass a whole number of at least {least}")
