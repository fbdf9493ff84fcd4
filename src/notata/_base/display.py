"""Format human-readable sizes, times and names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["brief", "counted", "duration", "indefinite", "listed", "more", "shortened", "size"]

_LARGEST: Final = 10**30  # bytes; a server can report a size beyond the range of a float


def size(count: int) -> str:
    """Return a human-readable size.

    >>> size(512), size(3_500_000)
    ('512 B', '3.5 MB')
    """
    if count < 1000:
        return f"{count} B"
    number = min(count, _LARGEST) / 1000
    for unit in ("kB", "MB", "GB"):
        if round(number, 1) < 1000:
            return f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def counted(number: int, what: str) -> str:
    """Return a number with its noun in the singular or plural.

    >>> counted(1, "run"), counted(3, "file")
    ('1 run', '3 files')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def brief(value: object, most: int = 100) -> str:
    """Return the beginning of the repr of any value, for an error.

    >>> brief("x" * 1000, 5), brief(10**5000)
    ("'xxxx", 'an integer of 16610 bits')
    """
    try:
        return repr(value)[:most]
    except Exception:  # Python does not print integers of more than 4300 digits, and a class may have its own repr
        if isinstance(value, int):
            return f"an integer of {value.bit_length()} bits"
        return indefinite(type(value).__name__)


def indefinite(name: str) -> str:
    """Return a name with its indefinite article.

    >>> indefinite("set"), indefinite("ndarray"), indefinite("object")
    ('a set', 'an ndarray', 'an object')
    """
    return f"{'an' if name.startswith(tuple('aeioAEIO')) or name == 'ndarray' else 'a'} {name}"


def listed(names: Iterable[str], most: int) -> str:
    """Return the first `most` names, separated by commas, and the number of further names.

    >>> listed(["a", "b"], 2), listed("abcde", 2), listed([], 2)
    ('a, b', 'a, b and 3 more', '')
    """
    named = list(names)
    return " ".join(filter(None, (", ".join(named[:most]), more(len(named), most))))


def more(count: int, most: int) -> str:
    """Return the text for the items beyond the first `most`; empty if there are none.

    >>> more(5, 3), more(3, 3)
    ('and 2 more', '')
    """
    return f"and {count - most} more" if count > most else ""


def duration(seconds: float | None) -> str:
    """Return a human-readable time span of at most two units; empty if it is unknown, and zero if it is negative.

    >>> [duration(seconds) for seconds in (0.0123, 4.26, 59.97, 252, 11_100, 187_200, -3, None)]
    ['12 ms', '4.3 s', '1 min 0 s', '4 min 12 s', '3 h 5 min', '2 d 4 h', '0 ms', '']
    """
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def shortened(text: str, width: int = 40) -> str:
    """Return a text of at most `width` characters; a longer text keeps its beginning and end.

    >>> shortened("sweep_dt_0.05_method_leapfrog--04e39daf28760228", 30)
    'sweep_dt_0.05_meth…daf28760228'
    """
    if len(text) <= width:
        return text
    end = (width - 1) * 2 // 5 if width > 1 else 0
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
