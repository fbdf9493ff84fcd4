"""Write and parse the times in the files of a run."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Final

from notata.errors import ConfigurationError

__all__ = ["SPAN_UNITS", "YEARS", "moment", "now", "span"]

SPAN_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""The units of a span of time, in seconds."""

_SPAN: Final = re.compile(rf"(\d+\.?\d*)([{''.join(SPAN_UNITS)}])")

YEARS: Final = range(1900, 9000)
"""Valid years of a time in a run. Sums and differences of such times are within the range of `datetime`."""


def now() -> str:
    """Return the current time as ISO 8601 text with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def moment(text: object, *, needs_zone: bool = False) -> datetime | None:
    """Parse a time of a run file, and return it with a time zone; None if `text` is not a time in `YEARS`.

    A time without a zone, as in notata 0.3.0, is in the time zone of this machine. With `needs_zone` it returns None.

    >>> moment("2026-03-01T09:30:00.250+01:00")
    datetime.datetime(2026, 3, 1, 9, 30, 0, 250000, tzinfo=datetime.timezone(datetime.timedelta(seconds=3600)))
    >>> moment("0001-01-01T00:00:00+00:00")
    """
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        if found is None or found.year not in YEARS:
            return None
        if found.utcoffset() is not None:
            return found
        return None if needs_zone else found.astimezone()
    except (ValueError, OverflowError):
        return None


def span(given: str | float | timedelta) -> float:
    """Return a span of time in seconds.

    Args:
        given: A number with a unit, such as ``"90d"``, ``"12h"``, ``"30m"`` or ``"2w"``; seconds; or a `timedelta`.

    Raises:
        ConfigurationError: It is no span of time, is negative, or has no end.

    >>> span("90d"), span("1.5h"), span(60), span(timedelta(minutes=2))
    (7776000.0, 5400.0, 60.0, 120.0)
    """
    seconds = math.nan
    if isinstance(given, timedelta):
        seconds = given.total_seconds()
    elif isinstance(given, str):
        found = _SPAN.fullmatch(given.strip())
        seconds = float(found[1]) * SPAN_UNITS[found[2]] if found else math.nan
    elif not isinstance(given, bool):
        seconds = float(given)
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(
            f"{given!r} is not a time span. Write a number and a unit: 30m, 12h, 90d or 2w for minutes, hours, days "
            "or weeks"
        )
    return seconds
