"""Merging of parts: many small parts become one of the next level, so that readers need few requests.

The merged part is written first, and the parts that it comes from are deleted afterwards. So no row is ever missing,
and a process that is killed in between leaves rows twice, which does no harm. Each row is sent at most three times:
when it is added, and once for each of two levels.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from notata._base import keys
from notata.errors import BatchError, ConflictError, ExistsError, FolderError, MissingError, StorageError
from notata.store import Blob, Entry, Store
from notata.store.in_flight import InFlight
from notata.table import parts
from notata.table.columns import parsed_rows
from notata.table.lines import decoded, encoded_header, encoded_row
from notata.table.parts import FOLDER, Part, csv_entry, listed_parts
from notata.table.runs import found_index, rows_now
from notata.table.sizes import SIZES, Sizes
from notata.table.stored import read_index

__all__ = ["claimed", "merge_parts", "remove_parts", "tidy"]

CLAIM: Final = f"{FOLDER}/compacting.json"
_LEVELS: Final = (0, 1)  # levels whose parts are merged into the next one
_ROUNDS: Final = 100
_CLAIM_SIZE: Final = 4096  # bytes of a claim; another program may have left any file there
_FIRST_LINE: Final = 512  # bytes of a part that are read for its header


def tidy(store: Store, sizes: Sizes = SIZES) -> None:
    """Merge parts if there are many, and add the rows of index.csv to the parts if they lack them.

    Cost: one listing, one request for the version of index.csv, and one for the first line of each part that was
    merged twice.

    Another process that does the same is left alone.

    Raises:
        StorageError: The storage failed. No row is lost.
    """
    listed = listed_parts(store)
    if not (_lack_csv(store, listed) or any(_group(listed, level, store, sizes) for level in _LEVELS)):
        return
    with claimed(store, sizes) as is_ours:
        if is_ours:
            _add_csv_rows(store, sizes)
            merge_parts(store, sizes)


# -- the claim ---------------------------------------------------------------------------------------------


@contextmanager
def claimed(store: Store, sizes: Sizes = SIZES) -> Iterator[bool]:
    """Yield whether this process alone may merge parts now.

    A storage that can neither create files exclusively nor compare and swap has no claim; then several processes may
    merge the same parts, and rows are there twice. The same happens if merging takes longer than the claim is valid.
    """
    if not (store.supports_exclusive_create and store.supports_cas):
        yield True
        return
    version = _claim(store, sizes.stale_after)
    try:
        yield bool(version)
    finally:
        if version:
            with suppress(StorageError, BatchError):
                found = store.stat(CLAIM)
                if found.version == version:
                    store.remove([found])


def _claim(store: Store, stale_after: float) -> str:
    """Claim the index; return the version of the claim, or an empty string if another process holds it."""
    try:
        return _new_claim(store, stale_after)
    except FolderError as error:
        is_file = store.exists(FOLDER)
        what = f"{store.url}/{FOLDER} is a file" if is_file else f"{store.url}/{CLAIM} is a folder"
        message = f"cannot write the index of {store.url}: {what}; remove it and try again"
        raise FolderError(message, url=store.url, key=CLAIM) from error


def _new_claim(store: Store, stale_after: float) -> str:
    data = json.dumps({"host": platform.node(), "pid": os.getpid(), "writer": parts.new_writer()}).encode()
    try:
        return store.create(CLAIM, data)
    except ExistsError:
        pass
    try:
        found = store.fetch(CLAIM, 0, _CLAIM_SIZE)
        if found.age is None or found.age < stale_after:
            return ""
        return store.replace(CLAIM, data, found.version)
    except (ConflictError, MissingError):
        return ""


# -- merging -----------------------------------------------------------------------------------------------


def merge_parts(store: Store, sizes: Sizes = SIZES) -> int:
    """Merge parts of a level into one of the next, as long as there are many. Return the number of new parts."""
    merged = 0
    writer = parts.new_writer()
    for _ in range(_ROUNDS):
        listed = listed_parts(store)
        group = next((group for level in _LEVELS if (group := _group(listed, level, store, sizes))), None)
        if group is None or not _merge(store, group, writer, merged):
            break
        merged += 1
    return merged


def _group(listed: Sequence[Part], level: int, store: Store, sizes: Sizes) -> list[Part] | None:
    """Return the parts of a level to merge: the smallest ones; None if there are too few."""
    small = [part for part in _sealed(listed, store, sizes) if part.level == level]
    small = sorted((part for part in small if part.entry.size <= sizes.merged // 2), key=lambda part: part.entry.size)
    if len(small) < sizes.together:
        return None
    chosen: list[Part] = []
    held = 0
    for part in small[: sizes.together]:
        held += part.entry.size
        if held > sizes.merged:
            break
        chosen.append(part)
    return chosen


def _sealed(listed: Sequence[Part], store: Store, sizes: Sizes) -> list[Part]:
    """Return the parts that no process extends any more: in a bucket, all of them."""
    if not store.is_local or not listed:
        return list(listed)
    newest: dict[str, int] = {}
    for part in listed:
        newest[part.writer] = max(part.number, newest.get(part.writer, 0))
    now = max(part.entry.modified for part in listed)
    return [
        part
        for part in listed
        if part.level
        or part.number < newest[part.writer]
        or (now - part.entry.modified).total_seconds() >= sizes.sealed_after
    ]


def _merge(store: Store, group: Sequence[Part], writer: str, number: int) -> bool:
    """Write the lines of parts as one part of the next level, and delete them."""
    found = _contents(store, [part.entry for part in group])
    if len(found) < 2:  # another process has merged them
        return False
    lines = b"".join(data if data.endswith(b"\n") else data + b"\n" for _, data in found)
    store.write(parts.name(group[0].level + 1, writer, number, lines.count(b"\n")), lines)
    remove_parts(store, [entry for entry, _ in found])
    return True


def remove_parts(store: Store, entries: Iterable[Entry]) -> None:
    """Delete parts, unless rows were appended since they were listed."""
    store.remove(entries)


def _contents(store: Store, entries: Sequence[Entry], size: int | None = None) -> list[tuple[Entry, bytes]]:
    """Return the content of parts, or its beginning, without parts that have changed since they were listed."""
    flying = InFlight[int, Blob]()
    with flying.until_landed():
        for place, entry in enumerate(entries):
            end = entry.size if size is None else min(size, entry.size)
            if end:
                flying.begin(place, end, store.start_fetch, entry.key, 0, end)
    for error in flying.errors.values():
        if not isinstance(error, MissingError | FolderError):
            raise error
    return [
        (entries[place], blob.data)
        for place, blob in sorted(flying.results.items())
        if blob.data and (size is not None or blob.version == entries[place].version)
    ]


# -- the rows of index.csv ---------------------------------------------------------------------------------


def _lack_csv(store: Store, listed: Sequence[Part]) -> bool:
    """Check whether no part contains the rows of index.csv, by the first lines of merged parts."""
    csv = csv_entry(store)
    if csv is None:
        return False
    merged = [part.entry for part in listed if part.level >= 2]
    covers = [cover for _, data in _contents(store, merged, _FIRST_LINE) for cover in decoded(data).covers]
    return (csv.key, csv.version) not in covers


def _add_csv_rows(store: Store, sizes: Sizes) -> None:
    """Write a part with the rows of index.csv that the parts lack, as complete as the runs have them.

    A smaller index.csv than one that parts follow is left as it is: another process is about to write it.
    """
    listed = listed_parts(store)
    if not _lack_csv(store, listed) or (found := found_index(store)) is None:
        return
    most = sizes.csv_local if store.is_local else sizes.csv_bucket
    all_rows = parsed_rows(found.data)
    if len(all_rows) < most:
        return
    rows = {row.run_id: row for row in all_rows if keys.is_run_id(row.run_id)}
    if sum(part.entry.size for part in listed) <= sizes.merged and (index := read_index(store)) is not None:
        own = index.own_rows
        rows = {id_: row for id_, row in rows.items() if id_ not in own or own[id_].revision != row.revision}
        rows = {id_: row for id_, row in rows.items() if id_ not in index.removed}
    header = encoded_header({keys.INDEX: found.version})
    lines = [encoded_row(row) for row in rows_now(store, rows.values())]
    store.write(parts.name(2, parts.new_writer(), 0, len(lines)), b"".join([header, *lines]))
