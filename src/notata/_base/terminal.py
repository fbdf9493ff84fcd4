"""Text that any terminal, log line or error takes: what a run folder says never becomes a control sequence there."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Final

__all__ = ["one_line", "quoted", "safe", "safe_lines", "show"]

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"  # and what turns text around
)
_KEPT: Final = "\n\t"
_BREAKS: Final = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
_MORE: Final = "…"


def safe(text: str) -> str:
    r"""One line: control characters, and bytes that are no UTF-8, as their escapes.

    >>> safe("log_\x1b[31ma\nb")
    'log_\\x1b[31ma\\nb'
    """
    return _UNSAFE.sub(_escape, text)


def one_line(value: object, most: int = 200) -> str:
    r"""Return a value that somebody else wrote as one printable line of at most `most` characters.

    For whatever a run folder or a server says, before it enters a message, a line of a log or an error. Line breaks
    become spaces, other control characters their escapes, and a long text ends in ``…``.

    >>> one_line("n1\n  ssh-ed25519 AAAA\x1b[2J"), one_line("abcdef", 4)
    ('n1 ssh-ed25519 AAAA\\x1b[2J', 'abc…')
    """
    text = value if isinstance(value, str) else str(value)
    shown = safe(_BREAKS.sub(" ", text[: most + 1]))
    return shown if len(text) <= most and len(shown) <= most else shown[: most - 1] + _MORE


def quoted(text: str) -> str:
    """Return a name or another short text that somebody else wrote as an error may show it: in quotes and escaped.

    Of one that is longer than 120 characters the first 80 are shown.

    >>> quoted("log_a"), quoted("x" * 5000).endswith("x'… (5000 characters)")
    ("'log_a'", True)
    """
    return repr(text) if len(text) <= 120 else f"{text[:80]!r}… ({len(text)} characters)"


def safe_lines(text: str) -> str:
    r"""As `safe`, with ends of lines and tabs kept.

    >>> safe_lines("a\tb\n\x1b]0;title\x07c\n")
    'a\tb\n\\x1b]0;title\\x07c\n'
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in _KEPT else _escape(found), text)


def show(text: str) -> None:
    """Print lines on standard error, if they can be printed there."""
    with suppress(Exception):  # it is closed, or the terminal is lost
        print(safe_lines(text), file=sys.stderr, flush=True)  # noqa: T201


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")
