"""Escape untrusted text for terminals, log lines and errors, so that it has no control sequences."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Final

__all__ = ["one_line", "quoted", "safe", "safe_lines", "show"]

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"  # including text direction
)
_KEPT: Final = "\n\t"
_BREAKS: Final = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
_MORE: Final = "…"


def safe(text: str) -> str:
    r"""Return a text as one line: control characters and invalid UTF-8 become escapes.

    >>> safe("log_\x1b[31ma\nb")
    'log_\\x1b[31ma\\nb'
    """
    return _UNSAFE.sub(_escape, text)


def one_line(value: object, most: int = 200) -> str:
    r"""Return an untrusted value as one printable line of at most `most` characters.

    Use it for text from a run folder or a server in messages, log lines and errors. Line breaks become spaces, other
    control characters become escapes, and a long text ends with ``…``.

    >>> one_line("n1\n  ssh-ed25519 AAAA\x1b[2J"), one_line("abcdef", 4)
    ('n1 ssh-ed25519 AAAA\\x1b[2J', 'abc…')
    """
    text = value if isinstance(value, str) else str(value)
    shown = safe(_BREAKS.sub(" ", text[: most + 1]))
    return shown if len(text) <= most and len(shown) <= most else shown[: most - 1] + _MORE


def quoted(text: str) -> str:
    """Return an untrusted name or other short text for an error message, in quotes and escaped.

    If it is longer than 120 characters, only the first 80 are shown.

    >>> quoted("log_a"), quoted("x" * 5000).endswith("x'… (5000 characters)")
    ("'log_a'", True)
    """
    return repr(text) if len(text) <= 120 else f"{text[:80]!r}… ({len(text)} characters)"


def safe_lines(text: str) -> str:
    r"""Return a text like `safe`, but keep line ends and tabs.

    >>> safe_lines("a\tb\n\x1b]0;title\x07c\n")
    'a\tb\n\\x1b]0;title\\x07c\n'
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in _KEPT else _escape(found), text)


def show(text: str) -> None:
    """Print lines on standard error, and ignore errors."""
    with suppress(Exception):  # standard error can be closed, or the terminal lost
        print(safe_lines(text), file=sys.stderr, flush=True)  # noqa: T201


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")
