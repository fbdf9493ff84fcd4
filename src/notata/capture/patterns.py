r"""Find values in output by regular expressions: each match becomes a row of a series.

``res = (?P<r>\S+)`` is a pattern for the series ``output``; ``residual:: res = (?P<r>\S+)`` is one for the series
``residual``. Two colons separate them, as ``loss: (?P<loss>\S+)`` is a common pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.capture.searchers import Searcher, SlowSearchError, searcher_of
from notata.errors import ConfigurationError, KeyNameError
from notata.series.rows import RESERVED, STEP, Scalar

__all__ = ["SEARCHED", "SERIES", "Finder", "SeriesPattern", "value_of"]

SERIES: Final = "output"
"""The series of patterns that name none."""

SEARCHED: Final = 1000
"""Characters of a line that are searched."""

_NAME: Final = re.compile(r"([\w./-]+):: ?")
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdDqQ][-+]?\d+|[-+]\d{3})?")
_INTEGER: Final = re.compile(r"[-+]?\d{1,18}")
_BARE_EXPONENT: Final = re.compile(r"(?<=[\d.])(?=[-+]\d{3}\Z)")
_FLAGS: Final = re.compile(r"\(\?[a-zA-Z-]+\)")  # of the whole expression, such as (?i)
_WORDS: Final = {"nan": "nan", "inf": "inf", "infinity": "inf"}
_LITERAL_ESCAPES: Final = frozenset(".[]()+*?{}|^$\\/-:=#% <>,;&'\"!@~")


@dataclass(frozen=True, slots=True)
class SeriesPattern:
    r"""A regular expression with named groups, and the series that its matches become rows of.

    The group ``step`` is the step of the row, an integer; without it, rows are counted.

    Args:
        series: The name of the series.
        expression: The regular expression, as in Python's `re`. It sees one line at a time, of which the first
            `SEARCHED` characters.

    Raises:
        ConfigurationError: The expression is invalid, or has no named group.
        KeyNameError: The series cannot have this name.

    >>> SeriesPattern.parse(r"residual:: it (?P<step>\d+) res = (?P<r>\S+)").series
    'residual'
    """

    series: str
    expression: str

    def __post_init__(self) -> None:
        keys.series_file(self.series)
        names = [name for name in _compiled(self.expression).groupindex if name != STEP]
        if not names:
            raise ConfigurationError(
                f"invalid pattern {quoted(self.expression)}: it has no named group for a value. Name the part that is "
                r"the value, as in 'res = (?P<res>\S+)'"
            )
        if taken := sorted(RESERVED.intersection(names)):
            raise ConfigurationError(
                f"invalid pattern {quoted(self.expression)}: a row has its own field {taken[0]!r}. Choose another name "
                "for the group"
            )

    @classmethod
    def parse(cls, text: str) -> SeriesPattern:
        """Return the pattern that ``[NAME:: ]EXPRESSION`` describes.

        Raises:
            ConfigurationError: The expression is invalid, or has no named group.
        """
        named = _NAME.match(text)
        if named is None:
            return cls(SERIES, text)
        try:
            return cls(named[1], text[named.end() :])
        except KeyNameError as error:
            raise ConfigurationError(
                f"invalid pattern {quoted(text)}: {named[1]!r} cannot be the name of a series, {error}. To search for "
                f"text that begins like a name, name the series: 'output:: {text[:80]}'"
            ) from error

    @classmethod
    def all_of(cls, given: Iterable[SeriesPattern | str]) -> tuple[SeriesPattern, ...]:
        """Return several patterns, each given as an object or as the text that `parse` takes.

        Raises:
            ConfigurationError: One is invalid.
        """
        given = (given,) if isinstance(given, str | SeriesPattern) else given
        return tuple(one if isinstance(one, SeriesPattern) else cls.parse(str(one)) for one in given)


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        at = getattr(error, "pos", None)
        where = "" if at is None else f" at character {at + 1}, {quoted(expression[at : at + 20])}"
        why = getattr(error, "msg", str(error))
        raise ConfigurationError(
            f"invalid pattern {quoted(expression)}: {why}{where}. Correct the regular expression: see Python's re "
            "module, and put a backslash before characters such as ( and * that stand for themselves"
        ) from error


def value_of(text: str | None) -> Scalar:
    """Return a text that a program printed as a number, if it is one.

    The forms of Fortran are numbers, too: ``1.5D-3`` and ``1.5-103``.

    >>> value_of("1.5D-3"), value_of("-12"), value_of("Infinity"), value_of("converged"), value_of("1.5-103")
    (0.0015, -12, inf, 'converged', 1.5e-103)
    """
    if text is None:
        return None
    plain = text.strip()
    if _INTEGER.fullmatch(plain):
        return int(plain)
    if _NUMBER.fullmatch(plain) and plain.isascii():
        return float(_BARE_EXPONENT.sub("e", re.sub("[dDqQ]", "e", plain)))
    word = plain.lstrip("+-").lower()
    if word in _WORDS and len(plain) - len(word) <= 1:
        return -float(_WORDS[word]) if plain[0] == "-" else float(_WORDS[word])
    return text


class Finder:
    """Searches blocks of output for one pattern.

    Only lines with a text that each match contains are searched, if the pattern has such a text. A pattern whose search
    takes too long is not used again, see `notata.capture.searchers`.

    Args:
        pattern: The pattern.
        add: Adds a row: its values, and its step or None.
        warn: Logs a warning, with arguments as in `logging`.
        searcher: Searches lines; by default `searcher_of` the pattern.

    Attributes:
        expression: The regular expression.
    """

    def __init__(
        self,
        pattern: SeriesPattern,
        add: Callable[[dict[str, Scalar], int | None], object],
        warn: Callable[..., object],
        searcher: Searcher | None = None,
    ) -> None:
        self.expression = pattern.expression
        self._pattern = pattern
        self._searcher = searcher_of(pattern.expression) if searcher is None else searcher
        self._literal = required_text(pattern.expression).encode()
        self._add, self._warn = add, warn
        self._is_used = self._says_no_match = True
        self._has_match = False
        self._refused = 0

    @property
    def is_unmatched(self) -> bool:
        """True if no line has matched so far, and all were searched."""
        return self._is_used and not self._has_match

    def lines(self, block: bytes) -> None:
        """Search whole lines."""
        if not self._is_used or (self._literal and self._literal not in block):
            return
        try:
            for groups in self._searcher.search(self._candidates(block)):
                self._found(groups)
        except SlowSearchError:
            self._is_used = False
            self._warn(
                "notata has stopped using the pattern %r, because searching with it takes too long. Write it without "
                "nested repetitions such as (a+)+, and with few parts such as .*",
                self._pattern.expression,
            )

    def _candidates(self, block: bytes) -> Iterator[str]:
        literal = self._literal
        if not literal:
            for line in block.split(b"\n"):
                yield _text(line)
            return
        at = block.find(literal)
        while at >= 0:
            start = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at)
            end = len(block) if end < 0 else end
            yield _text(block[start:end])
            at = block.find(literal, end)

    def _found(self, groups: dict[str, str | None]) -> None:
        self._has_match = True
        values = {name: value_of(text) for name, text in groups.items() if text is not None}
        step = values.pop(STEP, None)
        if not values:
            return
        try:
            self._add(values, step)  # type: ignore[arg-type]  # the series refuses a step that is no integer
        except Exception as error:  # a column changed its type, or the run is displaced
            self._refused += 1
            if self._refused == 1:
                self._warn(
                    "A match of the pattern %r was not added to the series %s: %s. Further ones are not reported",
                    self._pattern.expression,
                    self._pattern.series,
                    error,
                )

    def finish(self) -> None:
        """Log that no line matched, or the number of matches not stored. The finder can still be used."""
        self._searcher.close()
        if self.is_unmatched and self._says_no_match:
            self._says_no_match = False
            self._warn("No line of the output matches the pattern %s", quoted(self.expression))
        if self._refused > 1:
            self._warn("%d matches of the pattern %r were not stored", self._refused, self._pattern.expression)
        self._refused = 0


def _text(line: bytes) -> str:
    return line[: 4 * SEARCHED].decode("utf-8", "replace")[:SEARCHED]


def required_text(expression: str) -> str:
    r"""Return the longest text that each match of a regular expression contains, as far as is easily seen; else ``""``.

    >>> required_text(r"step (\d+), res *= (?P<r>\S+)"), required_text(r"(?i)res (\S+)"), required_text("a|b")
    ('step ', '', '')
    """
    outside = _outside_groups(expression)
    if "|" in re.sub(r"\\.", "", outside) or _FLAGS.search(expression):
        return ""
    runs, run, at = [], "", 0
    while at < len(outside):
        mark = outside[at]
        at += 1
        if mark == "\\":
            escaped = outside[at : at + 1]
            at += 1
            mark = escaped if escaped in _LITERAL_ESCAPES else "\0"
        elif mark in ".^$\0":
            mark = "\0"
        if outside[at : at + 1] in ("*", "?", "+", "{"):
            at = _after_repetition(outside, at)
            mark = "\0"
        if mark == "\0":
            runs.append(run)
            run = ""
        else:
            run += mark
    return max([*runs, run], key=len)


def _after_repetition(text: str, at: int) -> int:
    if text[at] == "{":
        end = text.find("}", at)
        at = len(text) if end < 0 else end + 1
    else:
        at += 1
    return at + (text[at : at + 1] in ("?", "+"))


def _outside_groups(expression: str) -> str:
    r"""Return an expression with groups and sets replaced by NUL."""
    kept, depth, at = "", 0, 0
    while at < len(expression):
        mark = expression[at]
        at += 1
        if mark == "\\":
            kept += "" if depth else expression[at - 1 : at + 1]
            at += 1
        elif mark == "[":
            end = at + (expression[at : at + 1] == "^")
            end += expression[end : end + 1] == "]"
            while expression[end : end + 1] not in ("]", ""):
                end += 2 if expression[end] == "\\" else 1
            at = end + 1
            kept += "" if depth else "\0"
        elif mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
            kept += "\0" if depth == 0 else ""
        elif not depth:
            kept += mark
    return kept
