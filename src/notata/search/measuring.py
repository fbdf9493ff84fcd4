"""What lies where, and how large it is: folders and files as a tree, and sums by folder, run or kind of file.

Nothing is read: one listing a place tells all. Folders are those that files lie in, as a bucket has no others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from notata._base.keys import is_reserved
from notata.errors import ConfigurationError, FolderError, MissingError, NotataError
from notata.run.listings import inside, name_of
from notata.search.choosing import Choice, Wheres, narrowed
from notata.search.finding import File, Place, URLs, each, file_at, given, tell_nobody
from notata.search.record import records
from notata.store import TIMEOUT, Entry, Store

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["By", "Usage", "trees", "usage"]

By: TypeAlias = Literal["folder", "run", "suffix"]

_FOLDERS: Final = ("folder", "run")


@dataclass(slots=True)
class Usage:
    """What something holds.

    Attributes:
        name: What it is called: the place as it was given, and the path below it; of a kind of files their suffix.
        kind: ``folder``; ``run``, a folder too; ``file``; ``suffix``; ``others``, the files of a place that lie in no
            run.
        size: Of its files, in bytes.
        files: How many it has.
        depth: How many folders below the place it lies.
        status: How a run stands, where that was asked for.
        unfinished: Bytes of files that are still being written, or that a killed process left; not part of `size`.
        unfinished_files: How many those are; they do not count in `files`.
        inner: What lies in a folder, by name, folders with a slash at the end: a bucket may have both of one name.
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
        """The last part of its name."""
        return name_of(self.name) or self.name

    @property
    def is_folder(self) -> bool:
        """Whether files lie in it."""
        return self.kind in _FOLDERS

    def sorted(self) -> list[Usage]:
        """What lies in it, by name."""
        return [self.inner[name] for name in sorted(self.inner, key=lambda name: (name.rstrip("/"), name))]

    def record(self) -> dict[str, Any]:
        """Its fields by name, without what lies in it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "size": self.size,
            "files": self.files,
            "depth": self.depth,
            "unfinished": self.unfinished,
            "unfinished_files": self.unfinished_files,
        }

    def _add(self, entry: Entry) -> None:
        """Count one file, or one unfinished write."""
        if is_reserved(entry.key):
            self.unfinished += max(0, entry.size)
            self.unfinished_files += 1
        else:
            self.size += max(0, entry.size)
            self.files += 1


def trees(
    urls: URLs | None = None,
    *,
    status: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> Iterator[Usage]:
    """What lies at and below each place, a tree for each; of a pattern one for each file or folder that it means.

    Cost: one listing a place, a request per 1000 files on a bucket.

    Args:
        urls: See `URLs`; a place may be a file.
        status: Tell how each run stands, too: one read a run, 32 at once.
        storage_options: For fsspec.
        failed: Is told of each place that cannot be listed, or where nothing is; the others are looked at.
        timeout: As for `notata.Logbook`.

    >>> from notata import Logbook
    >>> path = Logbook("a", "memory://usage/trees").text("debug/notes", "converged")
    >>> tree = next(trees("memory://usage/trees/log_a/artifacts"))
    >>> tree.files, tree.size, list(tree.inner), list(tree.inner["debug/"].inner)
    (1, 9, ['debug/'], ['notes.txt'])
    """
    for url in each(urls):
        yield from _trees_at(url, Choice(), status, storage_options, failed, timeout)


def usage(
    urls: URLs | None = None,
    *,
    by: By = "folder",
    depth: int | None = None,
    files: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> Iterator[Usage]:
    """How many bytes there are: sums of the sizes of files, other people's included.

    Cost: as of `trees`, and what a filter takes, see `runs`.

    Args:
        urls: See `URLs`; a place may be a file.
        by: ``folder``: each folder after those in it, a place after all that is below it, as `du` tells them. ``run``:
            each run, and what lies in none. ``suffix``: each kind of file in all of the places, the largest first.
        depth: Folders that lie deeper are left out, but count.
        files: Tell files too, of folders.
        status: Count only what lies in runs of this status, or of several; as for `runs`.
        where: Count only what lies in runs for which this holds; as for `runs`.
        storage_options: For fsspec.
        failed: As for `trees`.
        timeout: As for `notata.Logbook`.

    Raises:
        ConfigurationError: `by` is none of these, the filter cannot be read, or there is no such status.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     path = Logbook(name, "memory://usage/sums").text("notes", "converged")
    >>> [(one.name, one.files) for one in usage("memory://usage/sums", by="run")]
    [('memory://usage/sums/log_a', 3), ('memory://usage/sums/log_b', 3)]
    >>> [(one.name, one.files) for one in usage("memory://usage/sums/log_*/artifacts", by="suffix")]
    [('.txt', 2)]
    """
    if by not in ("folder", "run", "suffix"):
        raise ConfigurationError(f"by is 'folder', 'run' or 'suffix', not {by!r}")
    choice = Choice(status, where)
    if by == "folder":
        for url in each(urls):
            for tree in _trees_at(url, choice, False, storage_options, failed, timeout):
                yield from _sums(tree, depth, files)
        return
    places = _places(urls, choice, storage_options, failed, timeout)
    if by == "run":
        for place in places:
            yield from _by_run(place)
    else:
        yield from _by_suffix(places)


def _trees_at(
    url: str | os.PathLike[str] | UPath | Store,
    choice: Choice,
    status: bool,
    options: Mapping[str, Any] | None,
    failed: Callable[[NotataError], None],
    timeout: float,
) -> list[Usage]:
    """What lies at and below one place, in the runs that are meant; with `status` how each of them stands."""
    try:
        place = narrowed(url, choice, options, failed=failed, timeout=timeout)
        if not (place.entries or place.unfinished or choice.filters):
            file = _alone(url, options, timeout)
            return [Usage(given(url), "folder") if file is None else _of_file(file.name, file.entry)]
        stands = {run.name: run.status for run in records(place)} if status else {}
        return list(_trees(place, stands))
    except NotataError as error:
        failed(error)
        return []


def _places(
    urls: URLs | None,
    choice: Choice,
    options: Mapping[str, Any] | None,
    failed: Callable[[NotataError], None],
    timeout: float,
) -> Iterator[Place]:
    for url in each(urls):
        try:
            place = narrowed(url, choice, options, failed=failed, timeout=timeout)
            if (
                not (place.entries or place.unfinished or choice.filters)
                and (file := _alone(url, options, timeout)) is not None
            ):
                place = Place(file.name, file.name, place.store, {file.entry.key: file.entry}, {})
        except NotataError as error:
            failed(error)
            continue
        yield place


def _alone(
    url: str | os.PathLike[str] | UPath | Store, options: Mapping[str, Any] | None, timeout: float
) -> File | None:
    """A place without any file below it: a file, or None for a folder of a disk that is empty."""
    try:
        return file_at(url, options, timeout=timeout)
    except MissingError as error:
        if isinstance(error.__cause__, FolderError):
            return None
        raise


def _of_file(name: str, entry: Entry, depth: int = 0) -> Usage:
    return Usage(name, "file", max(0, entry.size), 1, depth)


def _trees(place: Place, stands: Mapping[str, str]) -> Iterator[Usage]:
    parts, unfinished = place.parts(), place.unfinished_parts()
    for top in [*parts, *(top for top in unfinished if top not in parts)]:
        entries = parts.get(top, {})
        for key, entry in sorted(entries.items()):
            if key == top:
                yield _of_file(place.named(key), entry)
        entries = entries | unfinished.get(top, {})
        below = {key[len(top) + 1 :] if top else key: entry for key, entry in entries.items() if key != top}
        if below:
            yield _tree(place, top, below, stands)


def _tree(place: Place, top: str, entries: Mapping[str, Entry], stands: Mapping[str, str]) -> Usage:
    """The tree of what lies below one folder, by its path from there."""

    def folder_at(path: str, depth: int) -> Usage:
        name = place.named(path)
        return Usage(name, "run" if path in place.runs else "folder", depth=depth, status=stands.get(name, ""))

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
    """A tree's folders, each after what lies in it; without recursion, as a disk's folders may be a thousand deep."""
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
