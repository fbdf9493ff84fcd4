"""Convert the parameters of a framework to values that a run can store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notata import formats
from notata._base.warn import warn
from notata.errors import EncodeError
from notata.logbook import Logbook
from notata.run.recorder import Recorder

__all__ = ["plain_values", "store_params"]


def plain_values(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return parameters whose values have a plain form; other values become the name of their type or function.

    >>> import threading
    >>> plain_values({"rate": 0.1, "loss": max, "guard": threading.Event()})
    {'rate': 0.1, 'loss': 'builtins.max', 'guard': 'threading.Event'}
    """
    return {str(name): _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_values(value)
    if type(value) in (list, tuple):
        return [_plain(item) for item in value]
    try:
        return formats.plain(value)
    except EncodeError:
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"


def store_params(log: Recorder | None, values: Mapping[Any, Any]) -> None:
    """Merge parameters into those of the run; a worker has no parameters, so it stores none.

    Parameters that are too large are left out, with a warning.
    """
    if isinstance(log, Logbook) and values:
        plain = plain_values(values)
        if "ext" in plain:  # an argument of log.params
            plain["ext_"] = plain.pop("ext")
        try:
            log.params(**plain)
        except EncodeError as error:
            log.warning("The parameters of the framework were not recorded: %s", error)
            warn(f"the parameters of the framework were not recorded in {log.url}: {error}")
