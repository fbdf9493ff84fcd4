"""Add one row to a series that several processes write, each of them once, such as ``notata put`` in a shell script.

The series is not read again, as `Series` of a worker does to continue it: only its end, for the step. So a thousand
rows from a thousand processes cost a thousand times the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from notata._base.retries import attempts
from notata.errors import ConflictError, EncodeError, MissingError
from notata.series.rows import INT64, RESERVED, STEP, RowEncoder, invalid_step
from notata.series.summary import Column, kind_of
from notata.store import Store
from notata.store.appending import NOTHING, Tail

__all__ = ["append_row"]

_END: Final = 2**16  # bytes of the end of a series that are read
_TRIES: Final = 100  # appends while other processes append, too


def append_row(store: Store, key: str, values: Mapping[str, Any], step: int | None = None, *, attempt: int = 0) -> None:
    """Append a row. Other processes may append at the same time.

    Args:
        store: The store of the run.
        key: The key of the series.
        values: The values by name.
        step: The step; by default one more than that of the last row, or 0.
        attempt: The number of the attempt of the run.

    Raises:
        EncodeError: A value cannot be stored, or has another type than in the row before.
        ConflictError: Other processes appended first, again and again.
        StorageError: The storage refused.

    Cost: two requests for a small file; some more for one beyond 64 KiB, or if another process appends first.

    >>> from notata.store import open_store
    >>> store = open_store("memory://single-rows")
    >>> append_row(store, "series/scalars.jsonl", {"r": 0.5}, 7)
    >>> append_row(store, "series/scalars.jsonl", {"r": 0.25})
    >>> [json.loads(line)["step"] for line in store.read("series/scalars.jsonl").splitlines()]
    [7, 8]
    """
    for last in attempts(_TRIES, longest=0.5):
        end, tail = _end_of(store, key)
        before = _last_row(end)
        row, _ = _encoder(before, attempt).encode(_step(step, before, end), time.time(), values)
        try:
            store.append_once(key, row if not end or end.endswith(b"\n") else b"\n" + row, tail)
        except ConflictError:
            if last:
                raise
        else:
            return


def _end_of(store: Store, key: str) -> tuple[bytes, Tail]:
    """Return the end of a file as bytes, and for the next append."""
    try:
        found = store.fetch(key, 0, _END)
        if found.size <= _END:
            return found.data, Tail(found.size, found.version, found.data)
        return store.fetch(key, found.size - _END, found.size).data, Tail(found.size)
    except MissingError:
        return b"", NOTHING


def _last_row(end: bytes) -> dict[str, Any]:
    """Return the last whole row; empty if there is none."""
    for line in reversed(end.split(b"\n")[:-1]):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get(STEP)) is int:
            return row
    return {}


def _step(given: int | None, before: Mapping[str, Any], end: bytes) -> int:
    if given is None and not before and end:
        raise EncodeError(
            "cannot determine the step of this row: the series does not end with a complete row. Pass the step"
        )
    step = given if given is not None else before[STEP] + 1 if before else 0
    if not -INT64 < step < INT64:
        raise invalid_step(step)
    return int(step)


def _encoder(before: Mapping[str, Any], attempt: int) -> RowEncoder:
    """Return an encoder whose columns have the types of the row before."""
    kinds = {name: kind_of(value) for name, value in before.items() if isinstance(value, str | float | int | bool)}
    encoder = RowEncoder(attempt)
    encoder.resume([Column(name, "") for name in kinds if name not in RESERVED], kinds)
    return encoder
