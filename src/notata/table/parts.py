"""The parts of an index: their names in the folder ``index/``, and writing whole ones.

A row begins in a part of level 0, ``index/0-<writer>-<number>.jsonl``. Parts of one level are merged into one of the
next, ``index/<level>-<writer>-<number>-<rows>.jsonl``; `REWRITTEN` is the level of those that `write_index` makes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from notata._base import keys
from notata.errors import FolderError, MissingError
from notata.store import Entry, Store
from notata.store.gaps import ignore
from notata.table.lines import encoded_header, encoded_row
from notata.table.row import Row

__all__ = [
    "FOLDER",
    "REWRITTEN",
    "Part",
    "csv_entry",
    "experiment_of_part",
    "listed_parts",
    "new_writer",
    "parts_of",
    "write_parts",
]

FOLDER: Final = "index"
REWRITTEN: Final = 3
"""The level of parts that contain the whole index, as it was when they were written."""

SIZE: Final = 64 * 2**20
"""Bytes of a part that is merged or rewritten."""

_KEY: Final = re.compile(
    rf"(?:(?P<experiment>.+)/)?{FOLDER}/(?P<level>[0-9])-(?P<writer>[0-9a-f]+)-(?P<number>[0-9]+)(?:-[0-9]+)?\.jsonl"
)


@dataclass(frozen=True, slots=True)
class Part:
    """One listed part.

    Attributes:
        entry: The file.
        level: How often its rows were merged.
        writer: The random name of the process that wrote it.
        number: Counts the parts of that process.
    """

    entry: Entry
    level: int
    writer: str
    number: int

    @classmethod
    def of(cls, entry: Entry) -> Part | None:
        """Return the part that a listed file of an experiment is; None for other files."""
        found = _KEY.fullmatch(entry.key)
        if found is None or found["experiment"] is not None:
            return None
        return cls(entry, int(found["level"]), found["writer"], int(found["number"]))


def experiment_of_part(key: str) -> str | None:
    """Return the folder of the experiment that a part belongs to; None for other files.

    >>> experiment_of_part("sweep/index/0-3f9a-000001.jsonl"), experiment_of_part("index/0-3f9a-000001.jsonl")
    ('sweep', '')
    """
    found = _KEY.fullmatch(key)
    return None if found is None else found["experiment"] or ""


def new_writer() -> str:
    """Return a random name for a writer of parts."""
    return secrets.token_hex(6)


def name(level: int, writer: str, number: int, rows: int | None = None) -> str:
    """Return the key of a part.

    >>> name(0, "3f9a", 1), name(1, "3f9a", 2, 640)
    ('index/0-3f9a-000001.jsonl', 'index/1-3f9a-000002-640.jsonl')
    """
    return f"{FOLDER}/{level}-{writer}-{number:06}{'' if rows is None else f'-{rows}'}.jsonl"


def listed_parts(store: Store) -> list[Part]:
    """Return the parts of an experiment, sorted by name. One listing."""
    return parts_of(store.list(FOLDER, skipped=ignore))


def csv_entry(store: Store) -> Entry | None:
    """Return size and version of the index.csv of an experiment; None if there is none. One request."""
    try:
        return store.stat(keys.INDEX)
    except (MissingError, FolderError):
        return None


def parts_of(entries: Iterable[Entry]) -> list[Part]:
    """Return the parts in a listing."""
    return [part for part in map(Part.of, entries) if part is not None]


def write_parts(
    store: Store,
    rows: Iterable[Row],
    *,
    time: float = 0.0,
    covers: Mapping[str, str] | None = None,
    level: int = REWRITTEN,
    size: int = SIZE,
) -> list[str]:
    """Write rows as new parts of an index; memory holds one part at a time.

    Args:
        store: The store of the experiment.
        rows: The rows.
        time: The time of rows that have none, in Unix seconds.
        covers: Versions of files, by key, whose rows are all among these.
        level: The level of the parts.
        size: Bytes of a part; the last row may exceed it.

    Returns:
        The keys of the parts. There is at least one, which is empty without rows.

    >>> from notata.store import open_store
    >>> from notata.table import read_index
    >>> store = open_store("memory://write-parts")
    >>> names = write_parts(store, [Row(f"run-{number}", "complete") for number in range(1000)])
    >>> len(names), read_index(store).rows["run-7"].status
    (1, 'complete')
    """
    writer = new_writer()
    written: list[str] = []
    for header, lines in _pieces(rows, time, encoded_header(covers) if covers else b"", size):
        key = name(level, writer, len(written), len(lines))
        store.write(key, header + b"".join(lines))
        written.append(key)
    return written


def _pieces(rows: Iterable[Row], time: float, header: bytes, size: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the lines of each part. The header begins the last one, so that it is written when all others are."""
    lines: list[bytes] = []
    held = 0
    for row in rows:
        if held >= size:
            yield b"", lines
            lines, held = [], 0
        lines.append(encoded_row(row if row.time else row._replace(time=time)))
        held += len(lines[-1])
    yield header, lines
