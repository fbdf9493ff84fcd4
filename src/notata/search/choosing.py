"""Selection of runs: list the runs of several places, filter, order and limit them."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from notata._base import display
from notata._base.notebook import Cell, grid, note, page, state
from notata.errors import ConfigurationError, NotataError, RunMissingError
from notata.run.listings import inside
from notata.search.finding import file_at, look_up
from notata.search.indexes import index_notes, runs_of_indexes
from notata.search.places import File, Place, Run
from notata.search.record import look_up_and_read, records
from notata.search.target import Failed, Target, URLs, raise_error, targets
from notata.search.where import FACTS, MISSING, Where, close_to, finder, indexed_alone, listed_alone, needs_values
from notata.series.labels import Named
from notata.store import TIMEOUT, Blob
from notata.table import frame_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STATUSES", "Query", "Runs", "Status", "Wheres", "runs"]

STATUSES: Final = ("running", "complete", "failed", "died", "replacing", "unreadable")
"""The possible values of a run's status."""

Status: TypeAlias = "str | Iterable[str] | None"
"""One of `STATUSES`, or several; None for any."""

Wheres: TypeAlias = "str | Where | Callable[[Run], bool]"
"""A filter: an expression as `Where` takes it, or a function of a `Run`."""

_FEW: Final = 1000  # runs that are listed to show their size
_SHOWN: Final = ("name", "status", "started", "age", "took", "size")

T = TypeVar("T")


class Runs(list[Run]):
    """A list of runs that a notebook shows as a table.

    Attributes:
        total: The number of runs at the places, before filter and limit.
        notes: Notes about the request, such as a name in a filter that no run has.
    """

    def __init__(self, found: Iterable[Run] = (), *, total: int | None = None, notes: Iterable[str] = ()) -> None:
        super().__init__(found)
        self.total = len(self) if total is None else total
        self.notes = list(notes)

    def counts(self) -> dict[str, int]:
        """Return the number of runs of each status, in the order of `STATUSES`.

        >>> Runs([Run("a", "a", "memory://a", "died"), Run("b", "b", "memory://b", "complete")]).counts()
        {'complete': 1, 'died': 1}
        """
        counted = Counter(run.status for run in self)
        return {status: counted[status] for status in STATUSES if status in counted}

    def __repr__(self) -> str:
        return f"<Runs: {self.summary()}>"

    def summary(self) -> str:
        """Return the number of runs, their statuses and their total size, as far as it is known, as text.

        A table on a disk does not list the files of current runs. For it, the size is left out beyond 1000 runs.

        >>> Runs([Run("a", "a", "memory://a", "complete", size=1200)]).summary()
        '1 run: 1 complete; 1.2 kB'
        """
        count = f"{len(self)} of {self.total}" if self.total > len(self) else f"{len(self)}"
        statuses = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        is_listed = len(self) <= _FEW or not any(run.is_outlined for run in self)
        sizes = [run.size for run in self if run.size is not None] if is_listed else []
        size = f"; {display.size(sum(sizes))}" if sizes else ""
        return f"{count} run{'s' * (self.total != 1)}" + f": {statuses}{size}" * bool(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame with one row a run: the columns of `notata ls -l`, with spans in seconds.

        Raises:
            PackageMissingError: pandas is not installed.

        >>> Runs([Run("a", "a", "memory://a", "complete", size=1200)]).to_pandas()["size"].tolist()
        [1200]
        """
        frame = frame_of({name: [value(run) for run in self] for name, value in FACTS.items()}, len(self))
        import pandas as pd

        for name in ("started", "ended"):
            frame[name] = pd.to_datetime([getattr(run, name) for run in self], utc=True)
        return frame

    def _repr_html_(self) -> str:
        """Return a table of the first runs and curves of the first 10, as HTML for a notebook.

        Cost: one read for each of at most 10 runs that have a series, of 8 MiB in all.
        """
        from notata.series.figures import Source, run_pictures  # imports numpy

        shown = [*_SHOWN, *(["failure_reason"] if any(run.failure_reason for run in self) else [])]
        sources = [
            Source(Named(run.run_id, run.name, run.params), run.store, run.entries) for run in self if run.entries
        ]
        table = grid("", shown, map(_shown, self), total=len(self))
        return page(self.summary(), table, run_pictures(sources), *map(note, self.notes))


def _shown(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "status": state(run.status, run.shown_status),
        "started": "" if run.started is None else run.started.isoformat(" ", "seconds"),
        "age": Cell(display.duration(run.age), is_number=True),
        "took": Cell(display.duration(run.seconds), is_number=True),
        "size": Cell("\N{EN DASH}" if run.size is None else display.size(run.size), is_number=True),
        "failure_reason": run.failure_reason,
    }


class Query:
    """A choice of runs: at which places, of which status, in which order, and how their storage is reached.

    Functions of `notata.search` take a query instead of URLs, so that it is written once for several of them. It has
    the filters and storage options then, and the function must not be given any.

    Args:
        urls: One place or several: a run, an experiment, a folder of runs, or a pattern, see `URLs`; by default the
            base folder.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        sort: The key to order by: one of `FACTS`, a parameter or a metric. Runs without it come last.
        reverse: Reverse the order.
        limit: Maximum number of runs: of all places for `runs` and `table`, of all that have the series for `series`
            and `curves`, of each place for other functions.
        storage_options: Options for fsspec.
        failed: Called with each error that does not end the search. By default, the first such error is raised.

    Raises:
        ConfigurationError: The filter is invalid, the status is unknown, or the limit is negative.

    >>> from notata import Logbook, search
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://query").mark_complete()
    >>> query = Query("memory://query", where="run_id == 'b'")
    >>> [run.run_id for run in search.runs(query)], search.tail(query, 1)[0].partition("] ")[2]
    (['b'], 'INFO Marked complete')
    """

    def __init__(
        self,
        urls: URLs | None = None,
        *,
        status: Status = None,
        where: Wheres | None = None,
        sort: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
        failed: Failed = raise_error,
    ) -> None:
        statuses = [status] if isinstance(status, str) else [*(status or ())]
        if strange := [name for name in statuses if name not in STATUSES]:
            raise ConfigurationError(f"unknown status {strange[0]!r}; choose from {', '.join(STATUSES)}")
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit must be 0 or more, not {limit}")
        self.targets = targets(urls, storage_options)
        self.failed = failed
        self._statuses = statuses
        self._where = Where(where) if isinstance(where, str) else where
        self._sort = sort
        self._reverse = reverse
        self._limit = limit
        self._newest_first = False

    @classmethod
    def of(cls, urls: URLs | Query | None, **options: Any) -> Query:
        """Return a query for the arguments of a function, which may be a query itself."""
        if not isinstance(urls, Query):
            return cls(urls, **options)
        if strange := [name for name, value in options.items() if not _is_default(value)]:
            raise ConfigurationError(f"a query already has its own filters and options; pass {strange[0]} to Query()")
        return urls

    def at(self, target: Target, failed: Failed) -> Query:
        """Return this query at one target, with another function for errors."""
        query = copy.copy(self)
        query.targets, query.failed = [target], failed
        return query

    def noting(self, errors: list[NotataError]) -> Query:
        """Return this query, which also adds its errors to a list."""
        query = copy.copy(self)

        def failed(error: NotataError) -> None:
            errors.append(error)
            self.failed(error)

        query.failed = failed
        return query

    # -- filter --------------------------------------------------------------------------------------------

    @property
    def filters(self) -> bool:
        """True if the query filters runs."""
        return bool(self._statuses) or self._where is not None

    @property
    def filter_text(self) -> str:
        """The filter as text: the expression, or the name of a function."""
        named = getattr(self._where, "__qualname__", None)
        return " ".join([*self._statuses, str(self._where or "") if named is None else named])

    def newest_first(self) -> Query:
        """Return this query with the order by start, the newest first, if it has no key to order by."""
        query = copy.copy(self)
        query._newest_first = self._sort is None
        return query

    @property
    def values(self) -> bool:
        """True if parameters and metrics are needed. A filter function may use any of them."""
        sorts = self._sort is not None and needs_values([self._sort.partition(".")[0]])
        return sorts or (self._where.values if isinstance(self._where, Where) else self._where is not None)

    @property
    def metadata(self) -> bool:
        """True if the query needs more than a listing and index.csv provide."""
        sorts = self._sort is not None and not listed_alone([self._sort, self._sort.partition(".")[0]])
        return sorts or (self._where.metadata if isinstance(self._where, Where) else self._where is not None)

    @property
    def listing(self) -> bool:
        """True if the query needs facts that no index has, such as the size; a filter function may use any of them."""
        sorts = self._sort is not None and not indexed_alone([self._sort.partition(".")[0]])
        return sorts or (self._where.listing if isinstance(self._where, Where) else self._where is not None)

    def notes(self) -> list[str]:
        """Return notes about the filter after the runs were searched, such as names that none of them has."""
        return self._where.notes() if isinstance(self._where, Where) else []

    def select(self, found: Iterable[Run], total: int, notes: Iterable[str] = ()) -> Runs:
        """Return the runs that match, in order.

        Args:
            found: The runs.
            total: Their number before the filter.
            notes: Notes that come before those about the filter.
        """
        found = found if isinstance(found, list) else list(found)
        chosen = [run for run in found if not self._statuses or run.status in self._statuses]
        chosen = [run for run in chosen if self._where is None or self._where(run)]
        notes = [*notes, *self.notes()]
        if self._sort:
            find = finder(self._sort)
            values = [None if (value := find(run)) is MISSING else value for run in chosen]
            if chosen and all(value is None for value in values):
                notes.append(f"no run has {self._sort}{close_to(self._sort, found)}")
            chosen = _sorted(chosen, values, self._reverse)
        elif self._newest_first:
            chosen = _by_start(chosen, newest_first=not self._reverse)
        elif self._reverse:
            chosen.reverse()
        return Runs(chosen[: self._limit], total=total, notes=notes)

    # -- search --------------------------------------------------------------------------------------------

    def each(self, work: Callable[[Target], Iterable[T]]) -> Iterator[T]:
        """Yield the results for each target; report an error, and continue with the next target."""
        for target in self.targets:
            try:
                yield from work(target)
            except NotataError as error:
                self.failed(error)

    def look_up(self, target: Target, failed: Failed | None = None) -> Place:
        """Look up a target; with a filter, keep only the runs that match, and their files.

        Cost: one listing; with a filter also one read for each run, and the reads for its parameters and metrics.

        Args:
            target: The target.
            failed: Called instead of that of the query.

        Raises:
            RunMissingError: There is no run to filter.
            StorageError: It cannot be listed.
        """
        failed = failed or self.failed
        if not self.filters:
            return look_up(target, failed=failed)
        place, read = look_up_and_read(target, failed=failed)
        if not place.runs:
            raise _none_to_filter(target, place)
        meant = self.select(records(place, values=self.values, failed=failed, read=read), len(place.runs))
        urls = {run.url for run in meant}
        runs = {folder: run for folder, run in place.runs.items() if run.url in urls}
        entries = {key: entry for key, entry in place.entries.items() if inside(key, runs) is not None}
        unfinished = {key: entry for key, entry in place.unfinished.items() if inside(key, runs) is not None}
        return replace(place, runs=runs, entries=entries, unfinished=unfinished)

    def look_up_or_file(self, target: Target, *, unfinished: bool = False) -> Place | File:
        """Look up a target as `look_up` does, or return the single file that it names, which costs one more request.

        Args:
            target: The target.
            unfinished: Accept a place that has only unfinished files.

        Raises:
            MissingError: There is neither.
        """
        place = self.look_up(target)
        there = place.entries or self.filters or (unfinished and place.unfinished)
        return place if there else file_at(target)

    def runs(
        self,
        of_place: Callable[[Place, Mapping[str, Blob]], Iterable[Run]],
        *,
        read_all: bool,
        keep: Callable[[Run], bool] | None = None,
        trusts_index: bool = False,
        outlined: bool = False,
    ) -> Runs:
        """Return the runs of all targets that match, in order; a run found at several targets appears once.

        Args:
            of_place: Reads the runs of a place; its second argument has metadata.json files read before, by folder.
            read_all: The metadata.json of every run will be needed, so read it during the listing. Otherwise only those
                of runs without an index are read then.
            keep: Decides from the listing alone which runs there are for filter, order and limit. By default, all.
            trusts_index: Take the runs of experiments with a large index from there, see `look_up`. `of_place` does not
                get them. This has no effect if the query needs facts that no index has.
            outlined: List only two files of each run, see `look_up`. This has no effect if more are needed.
        """
        found: list[Run] = []
        notes: list[str] = []
        total = 0
        seen: set[str] = set()
        ordered = self.filters or self._sort or self._reverse or self._newest_first
        trusts_index = trusts_index and not self.listing
        outlined = outlined and not (read_all or self.listing)
        for target in self.targets:
            room = None if self._limit is None or ordered else self._limit - len(found)
            try:
                if room is None:
                    place, read = look_up_and_read(
                        target,
                        failed=self.failed,
                        trusts_index=trusts_index,
                        indexed=read_all,
                        outlined=outlined,
                    )
                else:
                    place = look_up(
                        target, failed=self.failed, by_id=True, trusts_index=trusts_index, outlined=outlined
                    )
                    read = {}
                if not (place.runs or place.indexes):
                    raise place.no_run()
                new = self._unseen([*place.runs.values()], seen)
                place = replace(place, runs={run.folder: run for run in new})
                indexed = self._unseen(runs_of_indexes(place), seen)
                total += len(place.runs) + len(indexed)
                notes += index_notes(place)
                kept = [(folder, run) for folder, run in place.runs.items() if keep is None or keep(run)]
                listed = of_place(replace(place, runs=dict(kept[:room])), read)
                found += _in_order_of_folders([*listed], indexed)[:room]
            except NotataError as error:
                self.failed(error)
        return self.select(found, total, notes)

    def _unseen(self, runs: list[Run], seen: set[str]) -> list[Run]:
        """Return the runs that no target before has, and remember them for the next ones, if there are several."""
        if len(self.targets) == 1:
            return runs
        new = [run for run in runs if run.url not in seen]
        seen.update(run.url for run in new)
        return new


def _in_order_of_folders(listed: list[Run], indexed: list[Run]) -> list[Run]:
    """Return runs from a listing and from indexes, sorted by folder."""
    return sorted([*listed, *indexed], key=lambda run: run.folder) if listed and indexed else listed or indexed


def _is_default(value: object) -> bool:
    return value is None or value is False or value is raise_error or value == TIMEOUT


def _none_to_filter(target: Target, place: Place) -> RunMissingError:
    """Return the error for a place without a run to filter; the URL may name a file."""
    with suppress(NotataError):
        if not target.pattern:
            name = file_at(target).name
            message = (
                f"cannot filter {name}: it is a single file, and its run is unknown; pass a pattern that matches "
                "files instead"
            )
            return RunMissingError(message, url=place.store.url)
    return place.no_run()


def _sorted(found: Sequence[Run], values: Sequence[Any], reverse: bool) -> list[Run]:
    """Order numbers before texts before other values; runs without a value come last in both directions."""
    ranks = {at: rank for at, value in enumerate(values) if (rank := _rank(value)) is not None}
    order = sorted(ranks, key=ranks.__getitem__, reverse=reverse)
    return [found[at] for at in order] + [run for at, run in enumerate(found) if at not in ranks]


def _by_start(found: Iterable[Run], *, newest_first: bool) -> list[Run]:
    """Order runs by their start; those of unknown start come last in both directions."""
    sign = -1 if newest_first else 1
    return sorted(found, key=lambda run: math.inf if run.started is None else sign * run.started.timestamp())


def _rank(value: Any) -> tuple[int, Any] | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, str(value))


def runs(
    urls: URLs | Query | None = None,
    *,
    status: Status = None,
    where: Wheres | None = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
    values: bool | None = None,
    fresh: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Runs:
    """Return a summary of each run at or below some places; a run found at several places appears once.

    The runs of an experiment with more than 10,000 of them come from its index, and are not listed: `Runs.notes` says
    so and how old the index is. Runs that are running are missing, and so may be runs of killed processes. The sizes,
    files and metadata of the runs are unknown (see `Run`). A filter or an order that needs these looks at every run,
    and so does a filter function.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        sort: The key to order by: one of `FACTS`, a parameter or a metric. Runs without it come last. By default places
            stay in the given order, and runs are ordered by folder.
        reverse: Reverse the order.
        limit: Maximum number of runs to return.
        values: Whether to read parameters and metrics; by default only if an expression or an order needs them.
        fresh: Look at every run, also of an experiment with a large index.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, of each folder below it that
            cannot be opened, of each name that cannot be used, and of each file of a run that the storage refused. The
            search continues with the others. By default, the first such error is raised.

    Cost: one listing per 1000 files and one read for each run, 32 at once. A large index takes two listings and one
    read for each of its parts, however many runs there are. With `limit` and neither filter nor order, only that many
    runs are read. Parameters and metrics take up to two more reads for each run that has not ended, whose files have
    changed since, or that an earlier version of notata wrote.

    Raises:
        ConfigurationError: The filter is invalid, or the status is unknown.
        RunMissingError: There is no run.
        StorageError: A place cannot be listed.

    >>> from notata import Logbook
    >>> for omega in (1.0, 2.0, 3.0):
    ...     Logbook(f"o{omega:.0f}", "memory://search/runs", params={"omega": omega}).mark_complete()
    >>> [run.run_id for run in runs("memory://search/runs", where="omega > 1", sort="omega", reverse=True)]
    ['o3', 'o2']
    """
    query = Query.of(
        urls,
        status=status,
        where=where,
        sort=sort,
        reverse=reverse,
        limit=limit,
        storage_options=storage_options,
        failed=failed,
    )
    values = query.values if values is None else values

    def of_place(place: Place, read: Mapping[str, Blob]) -> Iterator[Run]:
        return records(place, values=values, failed=query.failed, read=read)

    return query.runs(of_place, read_all=True, trusts_index=not fresh)
