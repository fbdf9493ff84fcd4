"""Interpret terminal output: overwritten text and escape sequences, so that a progress bar leaves its last state.

Text without control characters passes through in whole blocks. Otherwise `Screen` follows the cursor in a few rows, as
a terminal does, and a row is *final* when the cursor leaves it by a line end. If the cursor moved up, as for several
bars at once, rows are final only when they are more than `ROWS` above the cursor, or when the cursor has not moved up
for a while.

References:
    ECMA-48, control functions for coded character sets.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["LINE", "ROWS", "Screen"]

LINE: Final = 64 * 2**10
"""Characters of a row: a longer line is final in pieces of this length, which `Screen` returns without line ends."""

ROWS: Final = 64
"""Rows that the cursor can move up."""

_COLUMNS: Final = 4096  # columns that a movement can skip
_CONTROLS: Final = (b"\r", b"\b", b"\x1b", b"\0")
_TOKEN: Final = re.compile(
    r"(?P<text>[^\x00\x08\n\r\x1b]+)"
    r"|(?P<nul>\x00+)"
    r"|(?P<plain>[\x08\n\r])"
    r"|\x1b\[(?P<parameters>[0-?]{0,64})[ -/]{0,8}(?P<final>[@-~])"
    r"|\x1b[\]P_^X][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)"  # titles and links
    r"|(?P<open>\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[\]P_^X][^\x07\x1b\n]{0,4096}\x1b?|[ -/]{0,8})?\Z)"
    r"|\x1b[ -/]{0,8}(?P<short>[0-OQ-WYZ\\`-~])"
    r"|\x1b"
)


class Screen:
    r"""The rows of a terminal that the cursor can still reach. The same bytes give the same result in any cuts.

    Rules: ``\r\n`` is a line end, ``\r`` and backspace move the cursor, and later text overwrites. Sequences that move
    the cursor or erase text in the last `ROWS` rows are followed; all others, such as colours, are removed. NUL becomes
    ``\x00``, as `grep` takes a file with a NUL for binary. Other bytes are kept, also if they are not UTF-8.

    >>> screen = Screen()
    >>> [bytes(part) for part in screen.feed(b" 1%\r50%\r\x1b[32m99%\x1b[0m\ndone")]
    [b'99%\n']
    >>> screen.finish()
    b'done'
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._held = b""  # an unfinished line without control characters
        self._is_plain = True  # no row is held, except `_held`
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._open = ""  # an unfinished escape sequence
        self._rows: list[str | None] = [""]  # None: an inserted row that nothing was written to
        self._row = self._column = 0
        self._moves_up = False
        self._lines_since_up = 0
        self._is_overwritten = False
        self._final: list[str] = []

    @property
    def is_empty(self) -> bool:
        """True if nothing is held."""
        return self._is_plain and not self._held

    @property
    def is_moving(self) -> bool:
        """True while a progress bar or other rows that are overwritten are held."""
        return not self._is_plain and (self._is_overwritten or self._moves_up)

    def feed(self, data: bytes) -> Iterator[bytes]:
        r"""Take output, and yield what is final: whole lines, or a piece of a long line, without ``\n`` at its end."""
        data, self._held = self._held + data, b""
        while data:
            if not self._is_plain:
                end = 0 if self._moves_up else data.find(b"\n") + 1
                end = end or len(data)
                yield from self._followed(data[:end])
            elif end := data.rfind(b"\n") + 1:
                yield from self._lines(data[:end])
            elif len(data) <= LINE and not any(mark in data for mark in _CONTROLS):
                self._held = data
                return
            else:
                end = len(data)
                yield from self._followed(data)
            data = data[end:]

    def _lines(self, block: bytes) -> Iterator[bytes]:
        """Yield whole lines; only those with control characters, and very long ones, are followed one by one."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        start, next_long = 0, _long_line(block, 0)
        found = dict.fromkeys(_CONTROLS, -1)  # the next place of each one
        while start < len(block):
            for mark in [mark for mark, at in found.items() if at < start]:
                at = block.find(mark, start)
                found[mark] = len(block) if at < 0 else at
            if next_long < start:
                next_long = _long_line(block, start)
            first = min(next_long, *found.values())
            if self._is_plain:
                line = block.rfind(b"\n", start, first) + 1 if first < len(block) else len(block)
                if line > start:
                    yield block[start:line]
                    start = line
            if start < len(block):
                end = block.find(b"\n", max(start, first if self._is_plain else start)) + 1 or len(block)
                yield from self._followed(block[start:end])
                start = end

    def _followed(self, data: bytes) -> Iterator[bytes]:
        """Follow the cursor, and yield what is final."""
        text = self._open + self._decoder.decode(data)
        self._open = ""
        self._is_plain = False
        for found in _TOKEN.finditer(text):
            self._apply(found)
        if not (self._moves_up or self._open or self._column or self._decoder.getstate()[0]) and self._rows == [""]:
            self._is_plain = True
        yield from self._taken()

    def _taken(self) -> Iterator[bytes]:
        """Yield what is final: a block of whole lines, and pieces of long lines one by one."""
        final, self._final = self._final, []
        whole: list[str] = []
        for text in final:
            whole.append(text)
            if not text.endswith("\n"):
                yield _encoded("".join(whole))
                whole = []
        if whole:
            yield _encoded("".join(whole))

    # -- the cursor ----------------------------------------------------------------------------------------

    def _apply(self, found: re.Match[str]) -> None:
        kind = found.lastgroup
        if kind == "text":
            self._write(found[0])
        elif kind == "plain":
            self._control(found[0])
        elif kind == "nul":
            self._write("\\x00" * len(found[0]))
        elif kind == "final":
            self._sequence(found["final"], found["parameters"])
        elif kind == "open":
            self._open = found[0]
        elif kind == "short" and found["short"] == "M":
            self._up(1)

    def _write(self, text: str) -> None:
        row = self._rows[self._row] or ""
        column = self._column
        if column == len(row):
            row += text
        else:
            self._is_overwritten |= column < len(row)
            row = row[:column].ljust(column) + text + row[column + len(text) :]
        self._column = column + len(text)
        while len(row) > LINE:
            self._finish_above()
            self._final.append(row[:LINE])
            row, self._column = row[LINE:], max(0, self._column - LINE)
        self._rows[self._row] = row

    def _control(self, mark: str) -> None:
        if mark == "\n":
            self._line_end()
        elif mark == "\r":
            self._column = 0
        else:
            self._column = max(0, self._column - 1)

    def _line_end(self) -> None:
        self._column = 0
        if not self._moves_up:
            self._finish_above()  # rows that the cursor moved down from
            self._final.append(f"{self._shown(self._rows[0] or '')}\n")
            self._rows = [""]
            self._is_overwritten = False
            return
        self._lines_since_up += 1
        if self._rows[self._row] is None:
            self._rows[self._row] = ""
        self._down(1)
        if self._lines_since_up >= ROWS:
            self._settle()

    def _down(self, count: int) -> None:
        self._row += count
        while len(self._rows) <= self._row:
            self._rows.append("")
        while len(self._rows) > ROWS and self._row:
            self._finish_rows(1)

    def _up(self, count: int) -> None:
        count = min(count, ROWS - 1)
        self._moves_up, self._lines_since_up = True, 0
        if missing := max(0, count - self._row):  # rows that were final already
            missing = min(missing, max(0, ROWS - len(self._rows)))
            self._rows[:0] = [None] * missing
            self._row += missing
        self._row = max(0, self._row - count)

    def _sequence(self, final: str, parameters: str) -> None:
        numbers = [int(part[:6]) if part.isascii() and part.isdigit() else 0 for part in parameters.split(";")]
        count = max(1, numbers[0])
        if final in "AF":
            self._up(count)
        elif final in "BE":
            self._down(min(count, ROWS - 1))
        elif final in "Hf" and numbers[0] <= 1:
            self._up(self._row)
        if final in "EFHf":
            self._column = 0
        elif final == "C":
            self._column += min(count, _COLUMNS)
        elif final == "D":
            self._column = max(0, self._column - count)
        elif final == "G":
            self._column = min(count - 1, _COLUMNS)
        elif final in "JK":
            self._erase(numbers[0], below=final == "J")

    def _erase(self, part: int, *, below: bool) -> None:
        """Erase from the cursor to the end (0), from the start to the cursor (1), or all (2 and more)."""
        row = self._rows[self._row] or ""
        self._is_overwritten |= bool(row)
        if part == 1:
            self._rows[self._row] = " " * min(len(row), self._column + 1) + row[self._column + 1 :]
            return
        self._rows[self._row] = "" if part else row[: self._column]
        if below:
            del self._rows[self._row + 1 :]
            if part:
                self._rows[: self._row] = [None] * self._row

    # -- rows that are final -------------------------------------------------------------------------------

    def _finish_rows(self, count: int) -> None:
        self._final += [f"{self._shown(row)}\n" for row in self._rows[:count] if row is not None]
        del self._rows[:count]
        self._row -= count

    def _shown(self, row: str) -> str:
        """Return a row without the spaces that cleared the end of an earlier text."""
        return row.rstrip(" ") if self._is_overwritten or self._moves_up else row

    def _finish_above(self) -> None:
        self._finish_rows(self._row)

    def _settle(self) -> None:
        """Make the rows above the cursor final, and forget that it moved up, if the cursor is in the last row."""
        self._finish_above()
        if len(self._rows) == 1:
            self._moves_up = self._is_overwritten = False
            self._rows = [self._rows[0] or ""]

    def settle(self) -> bytes:
        """Return rows that are probably final, as the cursor has not moved up for a while."""
        if self._moves_up and self._lines_since_up:
            self._settle()
            if not self._moves_up and self._rows == [""] and not (self._column or self._open):
                self._is_plain = not self._decoder.getstate()[0]
        return b"".join(self._taken())

    def state(self) -> bytes:
        """Return the rows that are not final as lines, to show the state of a progress bar."""
        rows = [shown for row in self._rows if row and (shown := self._shown(row))]
        return _encoded("".join(f"{row}\n" for row in rows)) if self.is_moving else b""

    def finish(self) -> bytes:
        """Return all that is left; the last line has a line end only if the output had one."""
        if text := self._decoder.decode(b"", final=True):
            for found in _TOKEN.finditer(self._open + text):
                self._apply(found)
        self._final.append("\n".join(self._shown(row) for row in self._rows if row is not None))
        left = b"".join(self._taken()) + self._held
        self._begin()
        return left


def _long_line(block: bytes, start: int) -> int:
    """Return the start of the first line of more than `LINE` bytes, or the size of the block."""
    size = len(block)
    if size - start <= LINE:
        return size
    half = LINE // 2
    if all(block.find(b"\n", at, at + half) >= 0 for at in range(start, size - half, half)):
        return size  # the usual case, and quick
    while start < size:
        end = block.find(b"\n", start, start + LINE + 1)
        if end < 0:
            return start if size - start > LINE else size
        start = end + 1
    return size


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
