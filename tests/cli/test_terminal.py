"""The control characters of a terminal: each of them is printed as an escape."""

from __future__ import annotations

from notata._base.terminal import safe, safe_lines

ESCAPED = {
    "\x00": r"\x00", "\x07": r"\x07", "\x08": r"\x08", "\r": r"\r", "\x1b": r"\x1b", "\x1f": r"\x1f",  # C0
    "\x7f": r"\x7f", "\x80": r"\x80", "\x9b": r"\x9b", "\x9f": r"\x9f",  # DEL, C1
    "\u061c": r"\u061c", "\u200e": r"\u200e", "\u200f": r"\u200f",  # direction marks
    "\u2028": r"\u2028", "\u2029": r"\u2029",  # line breaks
    "\u202a": r"\u202a", "\u202e": r"\u202e", "\u2066": r"\u2066", "\u2069": r"\u2069",  # overrides and isolates
    "\udc9b": r"\udc9b", "\ufeff": r"\ufeff",  # a byte that is not UTF-8; a byte order mark
}  # fmt: skip
"""The first and the last of each range."""
PLAIN = " ~\xa0é\u061b\u061d\u200d\u2010\u2027\u202f\u2065\u206a\ud7ff\ue000\ufefe\U0001f600"


def test_whatever_controls_a_terminal_is_escaped_and_nothing_else() -> None:
    kept = {"\n": "\n", "\t": "\t"}
    for sign, escape in {**ESCAPED, "\n": r"\n", "\t": r"\t"}.items():
        assert safe(f"a{sign}b") == f"a{escape}b"
        assert safe_lines(f"a{sign}b") == f"a{kept.get(sign, escape)}b"
    assert safe(PLAIN) == safe_lines(PLAIN) == PLAIN
