"""Sizes of files and folders: as a tree, and as sums by folder, run or kind of file.

No file is read: one listing a place is enough. Only folders that contain files exist, as in a bucket.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from notata._base.keys import is_reserved
from notata.errors import ConfigurationError, FolderError, MissingError
from notata.run.listings import inside, name_of
from notata.search.choosing import Query, Status, Wheres
from notata.search.places import File, Place
from notata.search.record import records
from notata.search.target import Failed, Target, URLs, raise_error
from notata.store import Entry

__all__ = ["By", "Usage", "trees", "usage"]

By: TypeAlias = Literal["folder", "run", "suffix"]

_FOLDERS: Final = ("folder", "run")


@dataclass(slots=True)
class Usage:
    """The size and content of a folder, a file or a group of files.

    Attributes:
        name: The place as it was given, and the path below it; for a kind of files their suffix.
        kind: ``folder``; ``run``, a folder too; ``file``; ``suffix``; ``others``, the files of a place that are in no
            run.
        size: The size of its files, in bytes.
        files: The number of its files.
        depth: The number of folders between the place and this one.
        status: The status of a run, if it was requested.
        unfinished: Bytes of files that are still being written, or that a killed process left; not part of `size`.
        unfinished_files: The number of those files; not part of `files`.
        inner: The entries of a folder by name, with a slash at the end of folders: a bucket may have both of one name.
    """

    name: str
    kind: str
    size: int = 0
    files: int = 0
    depth: int = 0
    status: str = ""
    unfinished: int = 0
    unfinished_files: int = 0
    inner: dict[str, Usage] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The last part of the name."""
        return name_of(self.name) or self.name

    @property
    def is_folder(self) -> bool:
        """True if it can contain files."""
        return self.kind in _FOLDERS

    def sorted(self) -> list[Usage]:
        """Return the entries of a folder, sorted by name."""
        return [self.inner[name] for name in sorted(self.inner, key=lambda name: (name.rstrip("/"), name))]

    def record(self) -> dict[str, Any]:
        """Return its fields by name, without the entries of a folder."""
        names = ("name", "kind", "size", "files", "depth", "unfinished", "unfinished_files")
        return {name: getattr(self, name) for name in names}

    def add(self, other: Usage) -> None:
        """Count the files of another entry, too."""
        for name in ("size", "files", "unfinished", "unfinished_files"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def _add(self, entry: Entry) -> None:
        """Count one file, or one unfinished write."""
        if is_reserved(entry.key):
            self.unfinished += max(0, entry.size)
            self.unfinished_files += 1
        else:
            self.size += max(0, entry.size)
            self.files += 1


def trees(
    urls: URLs | Query | None = None,
    *,
    status: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Iterator[Usage]:
    """Yield a tree of the files at and below each place; for a pattern, a tree for each matching file or folder.

    Cost: one listing a place, a request per 1000 files on a bucket.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; a file is allowed too. By default the base folder.
        status: Include the status of each run: one read a run, 32 at once.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or is empty; the others are listed. By
            default, the first such error is raised.

    Raises:
        MissingError: There is nothing at a place.
        StorageError: A place cannot be listed.

    >>> from notata import Logbook
    >>> path = Logbook("a", "memory://usage/trees").text("debug/notes", "converged")
    >>> tree = next(trees("memory://usage/trees/log_a/artifacts"))
    >>> tree.files, tree.size, list(tree.inner), list(tree.inner["debug/"].inner)
    (1, 9, ['debug/'], ['notes.txt'])
    """
    query = Query.of(urls, storage_options=storage_options, failed=failed)
    return query.each(lambda target: list(_trees_at(target, query, status)))


def usage(
    urls: URLs | Query | None = None,
    *,
    by: By = "folder",
    depth: int | None = None,
    files: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Iterator[Usage]:
    """Yield sums of the sizes of files, including files that notata did not write.

    Cost: one listing a place, a request per 1000 files on a bucket, and the reads of a filter.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; a file is allowed too. By default the base folder.
        by: ``folder``: each folder after those in it, and a place after all folders below it, as `du` does. ``run``:
            each run, and the files in no run. ``suffix``: each kind of file in all of the places, the largest first.
        depth: Omit folders deeper than this; their files still count.
        files: Include files in the output, with ``by="folder"``.
        status: Only files in runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only files in runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`),
            or for which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more
            for one that has not ended, or whose parameters or metrics have changed since.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or is empty; the others are listed. By
            default, the first such error is raised.

    Raises:
        ConfigurationError: `by` or the status is unknown, or the filter is invalid.
        MissingError: There is nothing at a place.
        StorageError: A place cannot be listed.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     path = Logbook(name, "memory://usage/sums").text("notes", "converged")
    >>> [(one.name, one.files) for one in usage("memory://usage/sums", by="run")]
    [('memory://usage/sums/log_a', 3), ('memory://usage/sums/log_b', 3)]
    >>> [(one.name, one.files) for one in usage("memory://usage/sums/log_*/artifacts", by="suffix")]
    [('.txt', 2)]
    """
    if by not in ("folder", "run", "suffix"):
        raise ConfigurationError(f"by must be 'folder', 'run' or 'suffix', not {by!r}")
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    if by == "folder":
        trees = query.each(lambda target: list(_trees_at(target, query, status=False)))
        return (one for tree in trees for one in _sums(tree, depth, files))
    places = query.each(lambda target: [_place_at(target, query)])
    return _by_suffix(places) if by == "suffix" else (one for place in places for one in _by_run(place))


def _found_at(target: Target, query: Query) -> Place | File | None:
    """Return a place or a single file; None for an empty folder on a disk."""
    try:
        return query.look_up_or_file(target, unfinished=True)
    except MissingError as error:
        if isinstance(error.__cause__, FolderError):
            return None
        raise


def _trees_at(target: Target, query: Query, status: bool) -> Iterator[Usage]:
    """Yield the trees of the selected runs; with `status`, including the status of each run."""
    found = _found_at(target, query)
    if isinstance(found, Place):
        states = {run.name: run.status for run in records(found)} if status else {}
        yield from _trees(found, states)
    else:
        yield _of_file(found.name, found.entry) if found else Usage(target.name, "folder")


def _place_at(target: Target, query: Query) -> Place:
    found = _found_at(target, query)
    if isinstance(found, Place):
        return found
    name, entries = (found.name, {found.entry.key: found.entry}) if found else (target.name, {})
    return Place(name, name, target.store, entries, {})


def _of_file(name: str, entry: Entry, depth: int = 0) -> Usage:
    return Usage(name, "file", max(0, entry.size), 1, depth)


def _trees(place: Place, states: Mapping[str, str]) -> Iterator[Usage]:
    parts, unfinished = place.parts(place.entries), place.parts(place.unfinished)
    for top in [*parts, *(top for top in unfinished if top not in parts)]:
        entries = parts.get(top, {})
        for key, entry in sorted(entries.items()):
            if key == top:
                yield _of_file(place.named(key), entry)
        entries = entries | unfinished.get(top, {})
        below = {key[len(top) + 1 :] if top else key: entry for key, entry in entries.items() if key != top}
        if below:
            yield _tree(place, top, below, states)


def _tree(place: Place, top: str, entries: Mapping[str, Entry], states: Mapping[str, str]) -> Usage:
    """Return the tree of the files below one folder, which are given by their path relative to it."""

    def folder_at(path: str, depth: int) -> Usage:
        name = place.named(path)
        return Usage(name, "run" if path in place.runs else "folder", depth=depth, status=states.get(name, ""))

    root = folder_at(top, 0)
    for key, entry in entries.items():
        folder, path = root, top
        folder._add(entry)
        *folders, name = key.split("/")
        for part in folders:
            if is_reserved(part):
                break
            path = f"{path}/{part}" if path else part
            inner = folder.inner.get(f"{part}/")
            if inner is None:
                inner = folder.inner[f"{part}/"] = folder_at(path, folder.depth + 1)
            folder = inner
            folder._add(entry)
        if is_reserved(key):
            continue
        path = f"{path}/{name}" if path else name
        folder.inner[name] = _of_file(place.named(path), entry, folder.depth + 1)
    return root


def _sums(tree: Usage, depth: int | None, files: bool) -> Iterator[Usage]:
    """Yield a tree's folders, each after its content; without recursion, because folders may be a thousand deep."""
    waiting = [(tree, False)]
    while waiting:
        one, done = waiting.pop()
        if done or not one.is_folder:
            yield one
            continue
        waiting.append((one, True))
        if depth is None or one.depth < depth:
            inner = [(two, False) for two in one.sorted() if files or two.is_folder]
            waiting.extend(reversed(inner))


def _by_run(place: Place) -> Iterator[Usage]:
    sums = {folder: Usage(run.name, "run") for folder, run in place.runs.items()}
    others = Usage(place.given, "others")
    for key, entry in (*place.entries.items(), *place.unfinished.items()):
        folder = inside(key, place.runs)
        (others if folder is None else sums[folder])._add(entry)
    yield from sums.values()
    if others.files or others.unfinished_files:
        yield others


def _by_suffix(places: Iterable[Place]) -> Iterator[Usage]:
    sums: dict[str, Usage] = {}
    for place in places:
        for key, entry in (*place.entries.items(), *place.unfinished.items()):
            suffix = "" if is_reserved(key) else os.path.splitext(name_of(key))[1].lower()
            sums.setdefault(suffix, Usage(suffix, "suffix"))._add(entry)
    yield from sorted(sums.values(), key=lambda one: (-one.size, one.name))
