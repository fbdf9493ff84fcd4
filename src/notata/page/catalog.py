"""The runs that the live page shows: first from index.csv, then from listings, which read only what changed.

The runs of an experiment with a large index come from there, and are not listed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from notata._base import keys
from notata._base.garbage import paused_collection
from notata.errors import (
    AccessError,
    DeadlineError,
    MissingError,
    NotataError,
    RunMissingError,
    TooLargeError,
    UnreachableError,
)
from notata.page.model import ids_of
from notata.search.choosing import Query, Runs, Status
from notata.search.finding import look_up
from notata.search.indexes import index_notes, runs_of_indexes
from notata.search.places import Place, Run
from notata.search.record import listed_now, records
from notata.search.tables import indexed
from notata.search.target import Failed, Target, below, called, raise_error
from notata.store.gaps import ignore
from notata.table import Index, Row, parsed_rows, read_index

__all__ = ["Catalog", "Choice", "Snapshot"]

_READ: Final = 1000
"""Runs without a known row that a listing reads one by one. If there are more, index.csv is used for those it has."""

_OWN_FILES: Final = (keys.METADATA, keys.METRICS, keys.PARAMS_YAML, keys.PARAMS_JSON)
_STALE: Final = f"from {keys.INDEX}, which no listing has confirmed yet"
_PROBLEMS: Final = 100
_GLANCED: Final = 200  # running runs whose state is read between two listings
_ROWS: Final = 100_000  # runs that the page shows
_NEARLY_ALL: Final = 900  # rows of an index.csv from which on there may be parts of an index with more


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter and an order of the runs; the fields are those of `notata.search.Query` and `notata.search.runs`."""

    status: Status = None
    where: str | None = None
    sort: str | None = None
    reverse: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The runs at one moment.

    Attributes:
        runs: The runs that the user chose, in order.
        ids: These runs by their id in the page.
        number: Grows with each change.
        is_stale: True if the rows come from index.csv only.
        problems: Messages about places and files that cannot be read.
        outage: The error of a place that could not be listed, whose runs are those of an earlier listing.
        changed: Ids of the runs that are new or have changed since the snapshot before, also of those that are gone.
    """

    runs: Runs = field(default_factory=Runs)
    ids: Mapping[str, Run] = field(default_factory=dict)
    number: int = 0
    is_stale: bool = True
    problems: tuple[str, ...] = ()
    outage: NotataError | None = None
    changed: tuple[str, ...] = ()


class Catalog:
    """The runs at some places. All methods can be called from many threads.

    Args:
        targets: The places.
        choice: Which of their runs are shown.

    Raises:
        ConfigurationError: The filter or a place is invalid.
    """

    def __init__(self, targets: Sequence[Target], choice: Choice | None = None) -> None:
        self._targets = targets
        self._choice = choice or Choice()
        self._query()  # checks the filter
        self.stores = [target.store for target in targets]
        self._lock = threading.Lock()
        self._found: dict[int, Mapping[str, Run]] = {}  # the runs of each target by URL, before the filter
        self._places: dict[int, Place] = {}  # as the last listing found them
        self._indexes: dict[int, Mapping[str, Index]] = {}  # the large indexes of each target
        self._trusts_index = not (self._choice.fresh or self._query().listing)
        self._unlisted = set(range(len(targets)))  # numbers of targets that were not listed yet
        self._problems: list[str] = []
        self._former: Mapping[str, Run] = {}  # ids of the snapshot before: more runs may have changed all ids
        self._snapshot = Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        """The runs as they are known now; no request."""
        return self._snapshot

    def find(self, run_id: str) -> Run:
        """Return a run by its id in the page. No request, once the places have been listed.

        Raises:
            RunMissingError: There is none.
            NotataError: A place could not be listed.
        """
        for snapshot in (self.open, self._confirmed):
            ids = snapshot().ids
            if run_id in ids:
                return ids[run_id]
        if run_id in self._former:
            return self._former[run_id]
        if self._snapshot.outage is not None:
            raise self._snapshot.outage
        raise RunMissingError("this page has no run with this id; it may have been removed")

    def _confirmed(self) -> Snapshot:
        return self.refresh() if self._snapshot.is_stale else self._snapshot

    def open(self) -> Snapshot:
        """Return the runs, at first those of index.csv. One request; a listing if index.csv has no rows.

        If the storage fails, there are no runs yet, and the error is in the snapshot.
        """
        if self._snapshot.number:
            return self._snapshot  # without the lock, which a listing holds for long
        with self._lock:
            if self._snapshot.number:
                return self._snapshot
            try:
                for number, target in enumerate(self._targets):
                    self._found[number] = {run.url: run for run in self._rows_of_index(number, target)}
            except NotataError as error:
                return self._renew([], [str(error)], error)
            if rows := [*self._every()]:
                return self._renew(rows, (), None)
        return self.refresh()

    def refresh(self) -> Snapshot:
        """List the places again, and read the runs that are new, are running or have changed.

        Of a large index, only what is new is read. A place that cannot be listed keeps its runs, and the error is in
        the snapshot.
        """
        with self._lock:
            problems: list[str] = []
            outage = None
            before = dict(self._found)
            for number in range(len(self._targets)):
                known = self._found.get(number, {})
                try:
                    self._found[number] = self._listed(number, known, problems)
                    self._unlisted.discard(number)
                except RunMissingError as error:
                    self._found[number] = {}
                    self._unlisted.discard(number)
                    problems.append(str(error))
                except NotataError as error:
                    outage = error
                    problems.append(str(error))
            is_same = self._problems == problems and all(self._found[at] is before.get(at) for at in self._found)
            self._problems = problems
            if is_same and outage is None and self._snapshot.outage is None and not self._snapshot.is_stale:
                self._snapshot = replace(self._snapshot, changed=())
                return self._snapshot
            return self._renew([*self._every()], problems, outage)

    @property
    def may_change(self) -> bool:
        """True if `glance` has something to read."""
        return any(_is_waiting(run) for run in self._snapshot.runs)

    def glance(self) -> Snapshot:
        """Read the state of runs that are running, without a listing. One request a run, at most 200."""
        with self._lock:
            outage = None
            for number, place in self._places.items():
                known = self._found[number]
                waiting = [
                    folder for folder, run in place.runs.items() if run.url in known and _is_waiting(known[run.url])
                ]
                try:
                    now = self._states(_part(place, waiting[:_GLANCED]), known)
                    self._found[number] = {**known, **{run.url: run for run in now}}
                except NotataError as error:
                    outage = error
            return self._renew([*self._every()], self._problems, outage)

    def _states(self, place: Place, known: Mapping[str, Run]) -> Iterator[Run]:
        """Yield the runs of a place as they are now, with parameters and metrics; a listing of each that has ended."""
        changed: dict[str, Run] = {}
        for run in records(place, failed=raise_error):
            if run.metadata == known[run.url].metadata:
                yield _with_values(run, known[run.url])
            else:
                changed[run.folder] = place.runs[run.folder] if _is_waiting(run) else listed_now(run)
        yield from records(replace(place, runs=changed), values=True, failed=raise_error)

    def _every(self) -> Iterable[Run]:
        """Return the runs of all targets, each once."""
        return {url: run for runs in self._found.values() for url, run in runs.items()}.values()

    def _query(self) -> Query:
        choice = self._choice
        return Query(
            self._targets,
            status=choice.status,
            where=choice.where,
            sort=choice.sort,
            reverse=choice.reverse,
            failed=ignore,
        )

    def _renew(self, found: Sequence[Run], problems: Iterable[str], outage: NotataError | None) -> Snapshot:
        """Store the next snapshot, and return it."""
        before = self._snapshot
        is_stale = bool(self._unlisted)
        runs = _bounded(self._query().select(found, len(found), self._freshness()))
        ids = ids_of(runs)
        messages = [*dict.fromkeys([*problems, *runs.notes])][:_PROBLEMS]
        changed = {id_ for id_, run in ids.items() if id_ not in before.ids or not _looks_same(before.ids[id_], run)}
        changed |= before.ids.keys() - ids.keys()
        is_same = (
            not changed
            and before.is_stale == is_stale
            and before.problems == tuple(messages)
            and [*ids] == [*before.ids]
            and all(run is before.ids[id_] or run == before.ids[id_] for id_, run in ids.items())
        )
        self._former = before.ids
        self._snapshot = Snapshot(
            runs, ids, before.number + (not is_same or not before.number), is_stale, tuple(messages), outage,
            tuple(sorted(changed)),
        )  # fmt: skip
        return self._snapshot

    def _freshness(self) -> list[str]:
        """Return a note for each large index. It has no age, which would change the page all the time."""
        return [text for place in self._places.values() for text in index_notes(place, with_age=False)]

    # -- rows of index.csv ---------------------------------------------------------------------------------

    def _rows_of_index(self, number: int, target: Target) -> Iterator[Run]:
        """Yield the runs of a target that is an experiment, as its index.csv shows them; none if its index is large."""
        if target.pattern or self._query().metadata:
            return
        try:
            rows = parsed_rows(target.store.fetch(keys.INDEX).data)
        except (AccessError, MissingError, TooLargeError):
            return
        if len(rows) >= _NEARLY_ALL and self._trusts_index:
            index = read_index(target.store)
            if index is not None and index.is_large:
                self._indexes[number] = {"": index}  # for the listing that follows
                return
        name = called(target.root, target.store.url)
        for row in sorted(rows, key=lambda row: row.run_id):
            if (run := _of_row(row, name, target)) is not None:
                yield run

    # -- listings ------------------------------------------------------------------------------------------

    def _listed(self, number: int, known: Mapping[str, Run], problems: list[str]) -> Mapping[str, Run]:
        """Return the runs of a target by URL, sorted by folder; `known` itself if all come from unchanged indexes."""
        target = self._targets[number]

        def failed(error: NotataError) -> None:
            if isinstance(error, UnreachableError | DeadlineError):
                raise error  # the storage fails, and not one file: the runs stay as they were
            problems.append(str(error))

        indexes = self._indexes.get(number, {})
        place = look_up(target, failed=failed, by_id=True, trusts_index=self._trusts_index, known=indexes)
        before = self._places.get(number)
        self._places[number], self._indexes[number] = place, place.indexes
        if not (place.runs or place.indexes):
            raise place.no_run()
        if before is not None and not (before.runs or place.runs) and _are_same(indexes, place.indexes):
            return known
        with paused_collection():
            of_indexes = {run.url: _same_run(run, known) for run in runs_of_indexes(place)}
        return {run.url: run for run in self._read(place, known, failed)} | of_indexes

    def _read(self, place: Place, known: Mapping[str, Run], failed: Failed) -> Iterator[Run]:
        """Yield the runs of a place that were listed, sorted by folder."""
        kept, waiting, new = _sorted_by_change(place, known)
        if len(new) > _READ and not self._query().metadata:
            kept |= indexed(_part(place, new), failed)
        read = {run.folder: run for run in records(_part(place, new - kept.keys()), values=True, failed=failed)}
        for run in records(_part(place, waiting), failed=failed):
            read[run.folder] = _with_values(run, known[run.url])
        for folder in place.runs:
            yield kept[folder] if folder in kept else read[folder]


def _are_same(before: Mapping[str, Index], now: Mapping[str, Index]) -> bool:
    return before.keys() == now.keys() and all(now[folder] is before[folder] for folder in now)


def _same_run(run: Run, known: Mapping[str, Run]) -> Run:
    """Return the known run if it has the same row."""
    old = known.get(run.url)
    return old if old is not None and old.has_row_of(run) else run


def _bounded(runs: Runs) -> Runs:
    """Return the runs that the page shows, with a note about the others."""
    if len(runs) <= _ROWS:
        return runs
    text = f"the page shows the first {_ROWS:,} of {len(runs):,} runs; choose fewer with --where"
    return Runs(runs[:_ROWS], total=runs.total, notes=[*runs.notes, text])


def _of_row(row: Row, name: str, target: Target) -> Run | None:
    """Return the run of a row of index.csv, of which no file is known; None if the row is forged."""
    try:
        folder = keys.join(keys.RUNS, keys.run_folder(row.run_id))
        store = target.store.below(folder)
    except NotataError:
        return None
    run = replace(Run.listed(below(name, folder), store, folder, {}, {}), size=None, files=None)
    run = replace(run, unfinished=None, unfinished_files=None)
    return run.with_row(row, _STALE)


def _part(place: Place, folders: Iterable[str]) -> Place:
    """Return a place with only some of its runs."""
    return replace(place, runs={folder: place.runs[folder] for folder in sorted(folders)})


def _sorted_by_change(place: Place, known: Mapping[str, Run]) -> tuple[dict[str, Run], set[str], set[str]]:
    """Return known runs that have not changed, and the folders of those that may have died, and of all others."""
    kept, waiting, new = dict[str, Run](), set[str](), set[str]()
    for folder, run in place.runs.items():
        old = known.get(run.url)
        if old is None or _versions(old) != _versions(run) or old.status in ("", "unreadable"):
            new.add(folder)
        elif _is_waiting(old):
            waiting.add(folder)
        else:
            kept[folder] = old.listed_again(run)
    return kept, waiting, new


def _is_waiting(run: Run) -> bool:
    """Check whether a run may have died, although none of its files has changed."""
    return run.status in ("running", "replacing") and run.certain


def _with_values(run: Run, old: Run) -> Run:
    return replace(run, params=old.params, metrics=old.metrics, metrics_error=old.metrics_error)


def _versions(run: Run) -> list[str | None]:
    return [run.entries[key].version if key in run.entries else None for key in _OWN_FILES]


def _looks_same(old: Run, new: Run) -> bool:
    """Check whether a run looks the same in the table, apart from its size and duration, which grow all the time."""
    if old is new:
        return True
    same = all(getattr(old, name) == getattr(new, name) for name in _COMPARED)
    return same and repr(old.params) == repr(new.params) and repr(old.metrics) == repr(new.metrics)  # NaN is not NaN


_COMPARED: Final = (
    "url",
    "status",
    "certain",
    "started",
    "ended",
    "files",
    "failure_reason",
    "metrics_error",
    "pinned",
)
