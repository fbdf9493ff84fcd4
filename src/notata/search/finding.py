"""Lookup of targets: the runs and files at or below one, from one listing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import (
    ContainerMissingError,
    FolderError,
    MissingError,
    StoredNameError,
)
from notata.run.listings import inside, name_of, orphans_in, outline_of_runs, runs_in, split
from notata.search.indexes import PARENT, experiment_of, experiment_of_index, of_parent
from notata.search.places import File, Place, Run
from notata.search.target import MAGIC, Failed, Target, below, called, matched_by, raise_error
from notata.store import Entry, Store
from notata.store.gaps import Gaps
from notata.store.outlines import Outline
from notata.table import Index, IndexFinder, scan_without_large

__all__ = ["Met", "file_at", "look_up"]

_ERRORS_SHOWN: Final = 20  # names skipped in one listing that are reported one by one

Met = Callable[[Store, str, Entry, bool], None]
"""Called during a listing with the store, folder and entry of the metadata.json of a run, and whether the listing has
shown an index before that may have its row."""


def file_at(target: Target) -> File:
    """Return the file that a target names. Cost: one request.

    Raises:
        MissingError: There is no file of this name, or it is a folder.
        ContainerMissingError: There is no such bucket.
    """
    store, key = target.beside()
    name = called(target.url, below(store.url, key))
    missing = MissingError(f"there is nothing at {name}", url=store.url, key=key)
    if not key:
        raise missing
    try:
        return File(name, store, store.locate(key))
    except ContainerMissingError:
        raise
    except (MissingError, FolderError) as error:
        raise missing from error


def look_up(
    target: Target,
    *,
    met: Met | None = None,
    failed: Failed = raise_error,
    by_id: bool = False,
    trusts_index: bool = False,
    known: Mapping[str, Index] | None = None,
    outlined: bool = False,
) -> Place:
    """Look up one target. Cost: one listing of the keys that begin with its part before the first wildcard.

    Args:
        target: The target.
        met: Called for most runs, because some can be recognized only at the end of the listing.
        failed: Called with the error of each folder below that cannot be opened, and of each file or run whose name
            cannot be used; at most 20, then once with the number of the others. By default, the first one is raised.
        by_id: If the listing is empty, look for a run with this id: ``outputs/a`` then means ``outputs/log_a``. This
            takes one more listing, also for a URL of a file.
        trusts_index: Do not list the runs of an experiment with a large index: `Place.indexes` has it then. That takes
            a page of the listing, one listing of the index, and one read for each of its parts.
        known: The `Place.indexes` of an earlier look-up, of which only what is new is read.
        outlined: On a disk, look at two files of each run, and list its files when they are first used.

    Raises:
        ConfigurationError: The URL is invalid, or of an unknown kind of storage.
        StorageError: The storage cannot be listed.
    """
    gaps = Gaps(_ERRORS_SHOWN)
    finder = IndexFinder(target.store, known) if trusts_index else None
    if trusts_index and (index := of_parent(target, known)) is not None:
        name = called(target.root, target.store.url)
        return Place(target.name, name, target.store, {}, {}, indexes={PARENT: index})
    outline = outline_of_runs() if outlined and not target.pattern else None
    place = _place(target, met, gaps, finder, outline)
    if target.pattern and any(not _has_matching(place, folder) for folder in place.indexes):
        return look_up(target, met=met, failed=failed, by_id=by_id)  # a pattern of files in runs, which no index has
    for error in gaps.errors(place.store.url):
        failed(error)
    if by_id and not place.entries and (other := target.of_id()):
        of_id = look_up(other, met=met, failed=failed, trusts_index=trusts_index)
        return of_id if of_id.runs else place
    return place


def _place(target: Target, met: Met | None, gaps: Gaps, finder: IndexFinder | None, outline: Outline | None) -> Place:
    store, pattern = target.store, target.pattern
    matched = matched_by(pattern) if pattern else None
    unfinished: dict[str, Entry] = {}
    entries = _listed(store, MAGIC.split(pattern, maxsplit=1)[0], matched, met, gaps, unfinished, finder, outline)
    name = called(target.root, store.url)
    outlined: Mapping[str, Mapping[str, Entry]] = outline.found if outline is not None else {}
    runs, _ = runs_in(entries, root=name_of(store.url), lost=True)
    if not (runs or outlined) and keys.METADATA in entries:  # a run whose folder is not named log_…
        runs = {"": entries}
    if _may_have_orphans(store.url, pattern):
        runs = dict(sorted((runs | orphans_in(entries, runs, root=name_of(store.url))).items()))
    if matched:
        own = {key: entry for key, entry in entries.items() if key == pattern or key.startswith(f"{pattern}/")}
        entries = own or {key: entry for key, entry in entries.items() if matched(key)}
        unfinished = {key: entry for key, entry in unfinished.items() if matched(key)}
        meeting = {inside(key, runs) for key in entries}
        runs = {folder: files for folder, files in runs.items() if folder in meeting}
    possible = _possible(dict(sorted({**runs, **outlined}.items())) if outlined else runs, store, gaps)
    left = split(unfinished, possible.keys() - outlined)
    found = {
        folder: Run.outlined(name, store, folder, files)
        if folder in outlined
        else Run.listed(below(name, folder), store.below(folder) if folder else store, folder, files, left[folder])
        for folder, files in possible.items()
    }
    large, others = ({}, {}) if finder is None else (finder.found, finder.others)
    return Place(below(name, pattern), name, store, entries, found, pattern, unfinished, large, others)


def _has_matching(place: Place, folder: str) -> bool:
    """Check whether the pattern of a place matches a run of a large index, or a folder above it."""
    matched = matched_by(place.pattern)
    names = (f"{keys.RUNS}/log_{run_id}/{keys.METADATA}" for run_id in place.indexes[folder].rows)
    return any(matched(keys.join(folder, name)) is not None for name in names)


def _may_have_orphans(url: str, pattern: str) -> bool:
    """Check whether a listing can contain runs that lost their metadata.json; a listing of a part of a run cannot."""
    above, _, name = url.rstrip("/").rpartition("/")
    return "/log_" not in f"/{above}" and not (pattern and name.startswith("log_"))


def _possible(runs: Mapping[str, Mapping[str, Entry]], store: Store, gaps: Gaps) -> dict[str, Mapping[str, Entry]]:
    """Return the runs that can be opened. Other programs may create folders with names that no key can have."""
    found = {}
    for folder, files in runs.items():
        if (problem := _problem(folder)) is None:
            found[folder] = files
            continue
        message = f"cannot open the run {quoted(below(store.url, folder))}: {problem}; rename its folder"
        gaps(StoredNameError(message, url=store.url, key=folder))
    return found


def _problem(folder: str) -> str | None:
    return keys.problem_of_stored(folder) if folder else None


def _listed(
    store: Store,
    beginning: str,
    matched: Callable[[str], str | None] | None,
    met: Met | None,
    gaps: Gaps,
    unfinished: dict[str, Entry],
    finder: IndexFinder | None,
    outline: Outline | None,
) -> dict[str, Entry]:
    """Return the files of a store by key, in order. An outermost folder ``log_…`` with a metadata.json is a run."""
    entries = {}
    if name_of(store.url).startswith("log_"):
        met = outline = None

    indexed: set[str] = set()  # folders of experiments

    def leave(entry: Entry) -> None:
        unfinished[entry.key] = entry

    def listed(folder: str, beginning: str) -> Iterator[Entry]:
        return store.scan(folder, beginning, skipped=gaps, unfinished=leave, outline=outline)

    for entry in scan_without_large(store, listed, finder, beginning=beginning):
        entries[entry.key] = entry
        if met is not None and (experiment := experiment_of_index(entry.key)) is not None:
            indexed.add(experiment)
        if met is not None and entry.key.endswith(f"/{keys.METADATA}"):
            parent, _, name = entry.key.removesuffix(f"/{keys.METADATA}").rpartition("/")
            outermost = name.startswith("log_") and not f"/{parent}".count("/log_")
            folder = keys.join(parent, name)
            if outermost and (matched is None or matched(entry.key)) and not _problem(folder):
                met(store, folder, entry, experiment_of(parent) in indexed)
    return dict(sorted(entries.items()))
