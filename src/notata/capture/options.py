"""The options of ``Logbook(capture=…)``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from notata.capture.patterns import SeriesPattern
from notata.errors import ConfigurationError

__all__ = ["Capture", "capture_of"]


@dataclass(frozen=True, slots=True)
class Capture:
    r"""Options of the argument `capture` of a `Logbook`: what to find in the output of this process.

    Args:
        series: Regular expressions with named groups, as in Python's `re`: each match becomes a row of a series. A text
            such as ``r"residual:: it (?P<step>\d+) res = (?P<r>\S+)"`` names the series before two colons; the default
            is ``output``. The group ``step`` is the step. A pattern sees one line at a time, of which the first 1000
            characters.

    Raises:
        ConfigurationError: A pattern is invalid.

    >>> Capture(series=[r"res = (?P<r>\S+)"]).patterns[0].series
    'output'
    """

    series: Iterable[str] = ()
    patterns: tuple[SeriesPattern, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", SeriesPattern.all_of(self.series))


def capture_of(given: object) -> Capture | None:
    """Return the options that the argument `capture` of a run stands for; None if nothing is captured.

    Raises:
        ConfigurationError: It is neither True, False nor a `Capture`.
    """
    if given is True:
        return Capture()
    if given is False or given is None:
        return None
    if isinstance(given, Capture):
        return given
    raise ConfigurationError(f"invalid capture of type {type(given).__name__}: pass True, False or Capture(series=[…])")
