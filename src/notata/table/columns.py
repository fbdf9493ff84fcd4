"""Conversion between rows and the text of index.csv: columns, cells and lines, without access to storage.

Every cell is one line, so that `grep` shows whole rows, and numbers, words and texts keep their types.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from notata._base import keys, limits
from notata.errors import TooLargeError
from notata.run.values import ERROR
from notata.table.row import FIXED, ID, REASON, REVISION, STATUS, Row

__all__ = [
    "Columns",
    "appendable",
    "encoded_rows",
    "extendable",
    "header_of",
    "is_ours",
    "merged_rows",
    "parsed_rows",
    "revision_in",
]

_PARAMS: Final = "params."  # prefix of a name that another column has already
_METRICS: Final = "metrics."
_LONGEST: Final = 2**15 - 1  # maximum characters of a cell in spreadsheets; Python's csv module accepts four times that
_AT_ONCE: Final = 2**20  # bytes of lines that are parsed at once
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)")
_WORDS: Final = {"True": True, "False": False, "null": None, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, from left to right: parameters before the status, metrics after it."""

    params: Mapping[str, str]
    optional: Sequence[str]
    metrics: Mapping[str, str]

    @classmethod
    def of(cls, rows: Iterable[Row], before: Columns | None = None) -> Columns:
        """Return the columns of these rows and of `before`: parameters by name, status, then metrics by name."""
        rows = list(rows)
        before = before or cls({}, [], {})
        params = sorted(set(before.params).union(*[row.params for row in rows]))
        metrics = sorted(set(before.metrics).union(*[row.metrics for row in rows]))
        needed = {name for name in (REASON, ERROR) if any(getattr(row, name) for row in rows)} | {*before.optional}
        optional = [name for name in (REASON, ERROR) if name in needed]
        columns = {name: _PARAMS + name if _taken(name) else name for name in params}
        taken = set(columns.values())
        return cls(
            columns,
            optional,
            {name: _METRICS + name if _taken(name) or name in taken else name for name in metrics},
        )

    @classmethod
    def read(cls, header: Sequence[str]) -> Columns | None:
        """Return the columns of a header that notata wrote; None for another one."""
        if header[:1] != [ID] or STATUS not in header or len(set(header)) < len(header):
            return None
        middle = header.index(STATUS)
        return cls(
            {name.removeprefix(_PARAMS): name for name in header[1:middle]},
            [name for name in header[middle:] if name in (REASON, ERROR)],
            {name.removeprefix(_METRICS): name for name in header[middle + 1 :] if name not in FIXED},
        )

    @property
    def header(self) -> list[str]:
        return [ID, *self.params.values(), STATUS, *self.optional, *self.metrics.values(), REVISION]

    def record(self, row: Row) -> list[tuple[str, Any]]:
        """Return the row's values by column."""
        fixed = [(name, getattr(row, name)) for name in FIXED if getattr(row, name)]
        params = [(self.params[name], value) for name, value in row.params.items()]
        return fixed + params + [(self.metrics[name], value) for name, value in row.metrics.items()]

    def hold(self, row: Row) -> bool:
        """Check whether the columns can hold the row without a new column."""
        return (
            row.params.keys() <= self.params.keys()
            and row.metrics.keys() <= self.metrics.keys()
            and all(name in self.optional for name in (REASON, ERROR) if getattr(row, name))
        )


def _taken(name: str) -> bool:
    return name in FIXED or name.startswith((_PARAMS, _METRICS))


def parsed_rows(data: bytes) -> list[Row]:
    """Return the rows of an index.csv, the last one of each run; without incomplete rows, and none if it is invalid."""
    header = header_of(data)
    columns = Columns.read(header)
    if columns is None:
        return []
    rows: dict[str, Row] = {}
    cells = 0
    for line in _lines_below(data):
        if len(line) == len(header) and line != header:
            row = _of_cells(columns, dict(zip(header, line, strict=True)))
            rows[row.run_id] = row
            cells += len(row.params) + len(row.metrics)
            if cells > limits.INDEX_CELLS:
                raise TooLargeError(f"{keys.INDEX} has more than {limits.INDEX_CELLS:,} values", key=keys.INDEX)
    return list(rows.values())


def _of_cells(columns: Columns, cells: Mapping[str, str]) -> Row:
    return Row(
        _untext(cells[ID]),
        cells[STATUS],
        {name: _value(cells[column]) for name, column in columns.params.items() if cells[column]},
        {name: _value(cells[column]) for name, column in columns.metrics.items() if cells[column]},
        _untext(cells.get(REASON, "")),
        _untext(cells.get(ERROR, "")),
        cells.get(REVISION, ""),
    )


def encoded_rows(rows: Sequence[Row]) -> bytes:
    r"""Return an index.csv with these rows.

    >>> encoded_rows([Row("a", "complete", {"dt": 0.1}, {"n": 3}, revision="0")])
    b'run_id,dt,status,n,revision\na,0.1,complete,3,0\n'
    """
    columns = Columns.of(rows)
    return _written([[_text(name) for name in columns.header], *(_line(columns, row) for row in rows)])


def merged_rows(data: bytes, rows: Sequence[Row]) -> bytes:
    """Return an index.csv with these rows, each in the place of an earlier row of its run.

    Other cells are copied unchanged: the less time this takes, the less likely is a conflict with another writer.
    """
    header = header_of(data)
    before = Columns.read(header)
    if before is None:
        return encoded_rows(rows)
    columns = Columns.of(rows, before)
    names = {name: name for name in FIXED}
    names |= {columns.params[name]: column for name, column in before.params.items()}
    names |= {columns.metrics[name]: column for name, column in before.metrics.items()}
    at = {column: place for place, column in enumerate(header)}
    places = [at.get(names[name], len(header)) if name in names else len(header) for name in columns.header]
    lines: dict[str, list[str]] = {}
    for cells in _lines_below(data):
        if len(cells) == len(header) and cells != header:
            cells.append("")
            lines[_untext(cells[0])] = [cells[place] for place in places]
    lines |= {row.run_id: _line(columns, row) for row in rows}
    return _written([[_text(name) for name in columns.header], *lines.values()])


def extendable(data: bytes) -> Columns | None:
    """Return the columns of an index.csv to which lines can be appended; None if it must be rewritten."""
    header = header_of(data)
    columns = Columns.read(header)
    return columns if columns is not None and columns.header == header and data.endswith(b"\n") else None


def appendable(data: bytes | bytearray, columns: Columns, row: Row) -> bytes:
    """Return the line to append to an index.csv with these columns; empty if it must be rewritten."""
    if not columns.hold(row) or _beginning(row.run_id) in data:
        return b""
    return _written([_line(columns, row)])


def revision_in(data: bytes, run_id: str) -> str | None:
    r"""Return the revision of a run in an index.csv; None if it has no row of the run.

    >>> revision_in(b"run_id,status,revision\na,complete,0f\n", "a")
    '0f'
    """
    at = data.find(_beginning(run_id))
    if at < 0:
        return None
    cells = (_lines(data[at + 1 : data.find(b"\n", at + 1)]) or [[""]])[0]
    return cells[-1]


def _beginning(run_id: str) -> bytes:
    """Return the beginning of a run's line, with the end of the line before."""
    return b"\n" + _written([[_text(run_id), ""]])[:-1]


def is_ours(data: bytes) -> bool:
    """Check whether an index.csv has the last column, which notata 0.3.0 does not write."""
    return header_of(data)[-1:] == [REVISION]


def _line(columns: Columns, row: Row) -> list[str]:
    """Return the row's cells. Too long ones are omitted together with the revision, so that readers read the run.

    The row of a pinned run has no revision either, as there is no column for pins.
    """
    values = {name: _text(value) if name in FIXED else _cell(value) for name, value in columns.record(row)}
    kept = {name: text for name, text in values.items() if len(text) <= _LONGEST}
    if len(kept) < len(values) or row.pinned:
        kept.pop(REVISION, None)
    return [kept.get(name, "") for name in columns.header]


def _cell(value: Any) -> str:
    """Return a value as text that `_value` reads back: numbers and words as in Python, everything else as JSON."""
    if isinstance(value, str):
        plain = value and value.isprintable() and value[0] not in '"[{' and _NUMBER.fullmatch(value) is None
        return value if plain and value not in _WORDS else json.dumps(value)
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _value(cell: str) -> Any:
    if cell in _WORDS:
        return _WORDS[cell]
    if cell[0] in '"[{':
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    if _NUMBER.fullmatch(cell):
        if "." in cell or "e" in cell or "E" in cell:
            return float(cell)
        try:
            return int(cell)
        except ValueError:  # Python reads at most 4300 digits
            return float(cell)
    return cell


def _text(value: str) -> str:
    """Return a text on one line, so that `grep` shows whole rows."""
    return value if value.isprintable() and not value.startswith('"') else json.dumps(value)


def _untext(cell: str) -> str:
    return str(_value(cell)) if cell.startswith('"') else cell


def _lines(data: bytes) -> list[list[str]]:
    """Return the complete lines; an incomplete or invalid line does not affect the others."""
    import csv

    texts = [line.removesuffix("\r") for line in data.decode("utf-8", "replace").split("\n")]
    texts = [text for text in texts if text]
    with suppress(csv.Error):
        lines = list(csv.reader(texts, strict=True))
        if len(lines) == len(texts):
            return lines
    lines = []
    for text in texts:
        with suppress(csv.Error):  # the row is stored with its run
            lines += csv.reader([text], strict=True)
    return lines


def _lines_below(data: bytes) -> Iterator[list[str]]:
    """Yield the lines below the header, parsed a MiB at a time: lists of cells take up to 20 times their bytes."""
    start = data.find(b"\n") + 1
    while start < len(data):
        end = data.find(b"\n", min(len(data), start + _AT_ONCE)) + 1 or len(data)
        yield from _lines(data[start:end])
        start = end


def header_of(data: bytes) -> list[str]:
    r"""Return the names of the columns, from left to right.

    >>> header_of(b"run_id,dt,status\na,0.1,complete\n")
    ['run_id', 'dt', 'status']
    """
    return [_untext(name) for name in (_lines(data[: data.find(b"\n") + 1]) or [[]])[0]]


def _written(lines: Iterable[Sequence[str]]) -> bytes:
    import csv

    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode("utf-8", "backslashreplace")
