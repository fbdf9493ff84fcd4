"""The index of an experiment whose runs are copies: it contains the runs that are there, and no others."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from notata._base import keys
from notata.store import Store
from notata.table import parts
from notata.table.compaction import CLAIM
from notata.table.csv_file import ended
from notata.table.lines import encoded_header, encoded_removal, encoded_row
from notata.table.parts import csv_entry
from notata.table.runs import read_runs
from notata.table.stored import read_index

__all__ = ["experiment_of_index_file", "record_changed", "record_copies"]

_SMALL: Final = 2**20  # bytes up to which new lines are a part of level 0, which is merged with others
_COVERING: Final = 2  # the lowest level of parts that contain the rows of index.csv


def experiment_of_index_file(key: str) -> str | None:
    """Return the folder of the experiment whose ``index/`` has a file; None for other files.

    >>> experiment_of_index_file("sweep/index/0-3f9a-000001.jsonl"), experiment_of_index_file("index/compacting.json")
    ('sweep', '')
    """
    if f"/{key}".endswith(f"/{CLAIM}"):
        return key[: -len(CLAIM)].rstrip("/")
    return parts.experiment_of_part(key)


def record_copies(
    store: Store, there: Iterable[str], *, changed: Collection[str], removed: Collection[str], size: int = parts.SIZE
) -> dict[str, int]:
    """Write new parts of an index after runs were copied to an experiment, or removed from it.

    Rows of changed runs are read from the runs, and so are the rows that the parts lack. Earlier rows of changed and
    removed runs are hidden. From then on, the parts contain everything that the current index.csv does.

    Args:
        store: The store of the experiment.
        there: The ids of all runs in it.
        changed: The ids of runs whose metadata.json may have changed.
        removed: The ids of runs that were removed.
        size: Bytes of a part; the last row may exceed it.

    Returns:
        The size of each new part, by key.

    Cost: a listing and a read of the parts, one read for each run whose row is read, and one request for each new part.

    Raises:
        BatchError: Runs could not be read; it holds the error of each. Nothing was written.
        StorageError: The storage failed. Call this function again.
    """
    csv = csv_entry(store)
    index = read_index(store)
    own = {} if index is None else index.own_rows
    wanted = dict.fromkeys([*changed, *(run_id for run_id in there if run_id not in own)])
    rows = {row.run_id: row for row in ended(read_runs(store, wanted))}
    hidden = [run_id for run_id in dict.fromkeys([*changed, *removed]) if run_id in own]
    now = max([time.time(), *(own[run_id].time for run_id in hidden)])
    lines = [encoded_removal(run_id, now) for run_id in hidden if run_id not in rows]
    for run_id, row in rows.items():
        before = encoded_removal(run_id, now) if run_id in own else b""
        lines.append(before + encoded_row(row._replace(time=now + 0.001)))
    is_covered = csv is None or (index is not None and (csv.key, csv.version) in index.covers)
    header = b"" if csv is None or is_covered else encoded_header({keys.INDEX: csv.version})
    return _written(store, lines, header, size)


def record_changed(store: Store, run_ids: Iterable[str]) -> None:
    """Add the rows of ended runs whose metadata.json was changed, if the index of their experiment has parts.

    An index.csv needs none: its readers check each row.

    Args:
        store: The store of the experiment.
        run_ids: The ids of the runs.

    Cost: one request; if there are parts, one read for each run and one request more.

    Raises:
        StorageError: The index has the earlier rows. Call this function again.
    """
    if not store.has_folder(parts.FOLDER):
        return
    now = time.time()
    lines = [encoded_row(row._replace(time=now)) for row in ended(read_runs(store, run_ids))]
    if lines:
        store.write(parts.name(0, parts.new_writer(), 0), b"".join(lines))


def _written(store: Store, lines: list[bytes], header: bytes, size: int) -> dict[str, int]:
    """Write lines as parts; the header is in the last one, so that it is written when all others are."""
    writer, written = parts.new_writer(), dict[str, int]()
    small = not header and sum(map(len, lines)) <= _SMALL
    for piece, is_last in _pieces(lines, size):
        data = b"".join([header, *piece] if is_last else piece)
        if data:
            number = len(written)
            rows = data.count(b"\n")
            name = parts.name(0, writer, number) if small else parts.name(_COVERING, writer, number, rows)
            store.write(name, data)
            written[name] = len(data)
    return written


def _pieces(lines: list[bytes], size: int) -> Iterator[tuple[list[bytes], bool]]:
    """Yield the lines of each part, and whether it is the last one; there is at least one."""
    start, held = 0, 0
    for end, line in enumerate(lines):
        if held >= size:
            yield lines[start:end], False
            start, held = end, 0
        held += len(line)
    yield lines[start:], True
