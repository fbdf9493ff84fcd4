"""Write and parse the times in the files of a run."""

from __future__ import annotations

from datetime import datetime
from typing import Final

__all__ = ["YEARS", "moment", "now"]

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
