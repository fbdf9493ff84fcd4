"""Matching of lines against regular expressions.

Text is bytes decoded as UTF-8 with ``surrogateescape``, so that any bytes are text and can be encoded back.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from notata._base.terminal import quoted
from notata.errors import ConfigurationError

__all__ = ["Line", "Patterns", "lines_of", "with_context"]

Line: TypeAlias = tuple[int, str, bool]
"""A line: its number, from 1, its text without the line end, and whether it matches."""

_SPECIAL: Final = re.compile(r"[\\.^$*+?{}\[\]|()]")
_FLAGS: Final = re.compile(r"(?:\(\?[aiLmsux]+\))*")


class Patterns:
    r"""A set of patterns; a line matches if one of them does.

    Args:
        patterns: Python regular expressions (`re`); each line of a pattern with several lines is one of its own.
        ignore_case: Ignore upper and lower case, in any alphabet.
        fixed: Match the patterns as plain text.
        words: Match whole words only.
        whole: Match whole lines only.
        invert: Match the lines that otherwise do not match.

    Raises:
        ConfigurationError: A pattern is not a valid regular expression.

    >>> patterns = Patterns("converged|diverged", words=True)
    >>> [line for line in ("converged", "unconverged", "has diverged.") if patterns.match(line)]
    ['converged', 'has diverged.']
    """

    def __init__(
        self,
        patterns: str | Iterable[str],
        *,
        ignore_case: bool = False,
        fixed: bool = False,
        words: bool = False,
        whole: bool = False,
        invert: bool = False,
    ) -> None:
        self._invert = invert
        given = [patterns] if isinstance(patterns, str) else patterns
        each = [part for pattern in given for part in pattern.split("\n")]
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        around = ("^(?:", ")$") if whole else (r"(?<!\w)(?:", r")(?!\w)") if words else ("", "")
        plain = bool(each) and all(part and (fixed or not _SPECIAL.search(part)) for part in each)
        if fixed or plain:
            each = ["|".join(map(re.escape, each))] if each else []
        self._expressions = [_compiled(part, around, flags) for part in each]
        # A match of plain text never spans lines, so one search scans all lines.
        self._quick = _compiled(each[0], around, flags | re.MULTILINE) if plain else None
        # `re` takes ten times as long when it ignores case.
        lowered = plain and ignore_case and each[0].isascii()
        self._lowered = _compiled(each[0].lower(), around, re.MULTILINE) if lowered else None

    def match(self, line: str) -> bool:
        """Check whether a line matches."""
        return any(expression.search(line) for expression in self._expressions) is not self._invert

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Return start and end of each match in a line, sorted, without nested ones; none with `invert`."""
        if self._invert:
            return []
        found = {match.span() for expression in self._expressions for match in expression.finditer(line)}
        spans: list[tuple[int, int]] = []
        for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
            if start < end and (not spans or start >= spans[-1][1]):
                spans.append((start, end))
        return spans

    def lines(self, text: str, number: int = 1, *, others: bool = False) -> Iterator[Line]:
        """Yield the matching lines of a text.

        Args:
            text: Whole lines; it ends with a line end.
            number: The number of the first line.
            others: Yield all other lines too.
        """
        if self._quick is not None and not self._invert and not others:
            return self._found(text, number)
        return self._each(text, number, others)

    def _found(self, text: str, number: int) -> Iterator[Line]:
        """Yield matching lines, with one search for each of them."""
        search, lower = self._search(text)
        at = 0
        while at < len(text) and (match := search(lower, at)):
            begin = text.rfind("\n", at, match.start()) + 1 or at
            end = text.find("\n", match.end())
            number += text.count("\n", at, begin)
            yield number, text[begin:end] if end >= 0 else text[begin:], True
            if end < 0:
                return
            number, at = number + 1, end + 1

    def _search(self, text: str) -> tuple[Callable[[str, int], re.Match[str] | None], str]:
        if self._lowered is not None and text.isascii():
            return self._lowered.search, text.lower()
        assert self._quick is not None
        return self._quick.search, text

    def _each(self, text: str, number: int, others: bool) -> Iterator[Line]:
        single = len(self._expressions) == 1 and not self._invert
        match: Callable[[str], object] = self._expressions[0].search if single else self.match
        for at, line in enumerate(lines_of(text), number):
            if match(line):
                yield at, line, True
            elif others:
                yield at, line, False


def _compiled(pattern: str, around: tuple[str, str], flags: re.RegexFlag) -> re.Pattern[str]:
    leading = _FLAGS.match(pattern)
    begun = leading[0] if leading else ""
    try:
        return re.compile(f"{begun}{around[0]}{pattern[len(begun) :]}{around[1]}", flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"{quoted(pattern)} is not a valid regular expression: {error}") from error


def lines_of(text: str) -> list[str]:
    r"""Split a text into lines without their ends; only ``\n`` ends a line.

    >>> lines_of("a\r\n\nb\fc")
    ['a\r', '', 'b\x0cc']
    """
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def with_context(lines: Iterable[Line], before: int, after: int, most: int | None) -> Iterator[Line]:
    """Yield the first `most` matching lines, each with the lines around it; every line once.

    >>> lines = [(number, "", number in (3, 4, 9)) for number in range(1, 12)]
    >>> [number for number, *_ in with_context(lines, 1, 2, None)]
    [2, 3, 4, 5, 6, 8, 9, 10, 11]
    """
    if not before and not after:
        yield from islice((line for line in lines if line[2]), most)
        return
    waiting: deque[Line] = deque(maxlen=before)
    count = left = 0
    for number, text, found in lines:
        if found and count != most:
            yield from waiting
            waiting.clear()
            yield number, text, True
            count, left = count + 1, after
        elif left:
            yield number, text, False
            left -= 1
        else:
            waiting.append((number, text, False))
        if count == most and not left:
            return
