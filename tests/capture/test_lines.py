"""Terminal output becomes lines: `Screen` against a terminal that follows one character at a time."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from notata.capture.lines import LINE, ROWS, Screen

SEQUENCES = [
    b"\r", b"\n", b"\r\n", b"\b", b"\0", b"\x1b[K", b"\x1b[1K", b"\x1b[2K", b"\x1b[A", b"\x1b[2A", b"\x1b[B",
    b"\x1b[1;32m", b"\x1b[0m", b"\x1b[3C", b"\x1b[2D", b"\x1b[4G", b"\x1b[J", b"\x1b[2J", b"\x1b[H", b"\x1b[?25l",
    b"\x1b]8;;x://y\x1b\\",
    b"\x1b]0;title\x07", b"\x1b(B", b"\x1bM", b"\x1b", b"\x1b[", b"\x1b]", b"\x1b[E", b"\x1b[F", b"\x1b[1J",
    b"\xff", b"\xc3", "█".encode(), b"\x07",
]  # fmt: skip
TEXTS = st.sampled_from([b"a", b"bc", b"  ", b"12%", b"res = 1.5"])
STREAMS = st.lists(st.sampled_from(SEQUENCES) | TEXTS | st.binary(max_size=3), max_size=30).map(b"".join)


def kept(*parts: bytes) -> bytes:
    screen = Screen()
    lines = [piece for part in parts for piece in screen.feed(part)]
    return b"".join(lines) + screen.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut data at some places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class SlowTerminal:
    """A terminal as a grid of characters, without any speed. Lines are final at their end until the cursor moves up."""

    def __init__(self) -> None:
        self.final: list[str] = []
        self.grid: list[list[str] | None] = [[]]
        self.row = self.column = self.since_up = 0
        self.moved = self.overwritten = False

    def read(self, data: bytes) -> bytes:
        text = data.decode("utf-8", "surrogateescape")
        while text:
            sequence = re.match(r"\x1b\[([0-?]{0,64})[ -/]{0,8}([@-~])", text)
            ignored = re.match(r"\x1b[\]P_^X][^\x07\x1b\n]{0,4096}(\x07|\x1b\\)|\x1b[ -/]{0,8}[0-LN-OQ-WYZ\\`-~]", text)
            unfinished = re.match(r"\x1b(\[[0-?]{0,64}[ -/]{0,8}|[\]P_^X][^\x07\x1b\n]*\x1b?|[ -/]{0,8})?\Z", text)
            if sequence:
                self.move(sequence[1], sequence[2])
            elif ignored or unfinished:
                sequence = ignored or unfinished
            elif text[0] == "\x1b":
                sequence = re.match(r"\x1b[ -/]{0,8}M|\x1b", text)
                if sequence and len(sequence[0]) > 1:
                    self.up(1)
            else:
                self.character(text[0])
            text = text[len(sequence[0]) if sequence else 1 :]
        rows = ["".join(row) for row in self.grid if row is not None]
        return ("".join(self.final) + "\n".join(map(self.trimmed, rows))).encode("utf-8", "surrogateescape")

    def trimmed(self, row: str) -> str:
        return row.rstrip(" ") if self.overwritten or self.moved else row

    def character(self, mark: str) -> None:
        if mark == "\r":
            self.column = 0
        elif mark == "\b":
            self.column = max(0, self.column - 1)
        elif mark == "\n":
            self.line_end()
        elif mark == "\0":
            for one in "\\x00":
                self.put(one)
        else:
            self.put(mark)

    def cells(self) -> list[str]:
        cells = self.grid[self.row]
        if cells is None:
            cells = self.grid[self.row] = []
        return cells

    def put(self, mark: str) -> None:
        cells = self.cells()
        self.overwritten |= self.column < len(cells)
        while len(cells) <= self.column:
            cells.append(" ")
        cells[self.column] = mark
        self.column += 1

    def line_end(self) -> None:
        self.column = 0
        row = self.cells()
        if self.moved:
            self.since_up += 1
            self.row += 1
            if self.row == len(self.grid):
                self.grid.append([])
        else:
            rows = [*self.grid[: self.row], row]
            self.final += [self.trimmed("".join(row)) + "\n" for row in rows if row is not None]
            self.grid, self.row, self.overwritten = [[]], 0, False

    def up(self, count: int) -> None:
        self.moved, self.since_up = True, 0
        while self.row < count:
            self.grid.insert(0, None)
            self.row += 1
        self.row -= count

    def move(self, parameters: str, final: str) -> None:
        first = parameters.split(";")[0]
        number = int(first) if first.isascii() and first.isdigit() else 0
        if final in "AF":
            self.up(max(1, number))
        if final in "BE":
            for _ in range(max(1, number)):
                self.row += 1
                if self.row == len(self.grid):
                    self.grid.append([])
        if final in "Hf" and number <= 1:
            self.up(0)
            self.row = 0
        if final in "EFHf":
            self.column = 0
        if final == "C":
            self.column += max(1, number)
        if final == "D":
            self.column = max(0, self.column - max(1, number))
        if final == "G":
            self.column = max(1, number) - 1
        if final in "JK":
            self.erase(number, final)

    def erase(self, number: int, final: str) -> None:
        cells = self.grid[self.row] or []
        self.overwritten |= bool(cells)
        if number == 1:
            self.grid[self.row] = [" " if at <= self.column else mark for at, mark in enumerate(cells)]
            return
        self.grid[self.row] = [] if number else cells[: self.column]
        if final == "J":
            del self.grid[self.row + 1 :]
            if number:
                self.grid[: self.row] = [None] * self.row


def test_rows_that_the_cursor_moved_down_from_are_kept() -> None:
    assert kept(b"a\x1b[2Bb\nc\n") == b"a\n\n b\nc\n"
    assert kept(b"\x1b[B" * 200 + b"a\n" + b"\x1b[E\nb") == b"\n" * 200 + b"a\n\n\nb"


@given(STREAMS, st.lists(st.integers(0, 200), max_size=6))
@example(b"a\x1b[2Bb\nc\n", [])
@example(b"\xe2\x96\r\x88", [2])
@example(b"a\r\nb", [2])
@example(b"\x1b[", [1])
@example(b"\x1b[\xc2", [])
def test_the_screen_shows_what_a_slow_terminal_shows_in_any_cuts(data: bytes, places: list[int]) -> None:
    expected = SlowTerminal().read(data)
    assert kept(data) == expected
    assert kept(*cut(data, places)) == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_bytes_without_control_characters_are_kept_as_they_are(data: bytes, places: list[int]) -> None:
    data = re.sub(rb"[\r\x08\x1b\x00]", b"", data)
    assert kept(*cut(data, places)) == data


def test_a_progress_bar_leaves_one_line() -> None:
    bar = b"".join(b"\r%3d%%|%s|" % (done, b"#" * done) for done in range(101))
    assert kept(b"begin\n", bar, b"\n", b"end\n") == b"begin\n100%|" + b"#" * 100 + b"|\nend\n"


def test_several_bars_leave_their_first_and_last_state() -> None:
    frames = [b"a %d%%\nb %d%%\nc %d%%" % (n, n, n) for n in (0, 50, 100)]
    again = b"\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2K"
    assert kept(again.join(frames) + b"\n") == b"a 0%\nb 0%\na 100%\nb 100%\nc 100%\n"


def test_rows_far_above_the_cursor_are_final() -> None:
    screen = Screen()
    list(screen.feed(b"\x1b[A"))
    lines = b"".join(b"%d\n" % n for n in range(3 * ROWS))
    assert b"".join(screen.feed(lines)) + screen.finish() == lines


def test_a_long_line_comes_in_pieces_and_none_is_held_whole() -> None:
    screen = Screen()
    pieces = [piece for _ in range(100) for piece in screen.feed(b"x" * 10_000)]
    assert [len(piece) for piece in pieces] == [LINE] * (1_000_000 // LINE)
    assert len(b"".join(pieces) + screen.finish()) == 1_000_000


@given(st.lists(st.integers(LINE - 2, LINE + 2), min_size=1, max_size=3), st.integers(1, 3 * LINE))
def test_pieces_of_long_lines_do_not_depend_on_the_cuts(sizes: list[int], place: int) -> None:
    data = b"".join(b"y" * size + b"\n" for size in sizes)
    for parts in ([data], [data[:place], data[place:]]):
        screen = Screen()
        pieces = [piece for part in parts for piece in screen.feed(part)]
        assert all(len(line) <= LINE for piece in pieces for line in piece.split(b"\n"))
        assert b"".join(pieces) + screen.finish() == data


def test_the_state_of_a_bar_is_known_while_it_moves() -> None:
    screen = Screen()
    list(screen.feed(b"begin\n10%\r20%"))
    assert screen.is_moving
    assert screen.state() == b"20%\n"
    list(screen.feed(b"\n"))
    assert not screen.is_moving
