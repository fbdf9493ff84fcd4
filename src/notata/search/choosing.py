"""Selection of runs: list the runs of several places, filter, order and limit them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from notata._base import display
from notata._base.packages import needed
from notata.errors import ConfigurationError, NotataError, RunMissingError
from notata.run.listings import inside
from notata.search.finding import Place, URLs, each, file_at, is_pattern, look_up, no_run, raise_error
from notata.search.record import Run, look_up_and_read, records
from notata.search.where import FACTS, Where, close_to, listed_alone, look, needs_values
from notata.store import TIMEOUT, Blob, Store
from notata.table import holdable

if TYPE_CHECKING:
    import pandas as pd
    from upath import UPath

__all__ = ["STATUSES", "Choice", "Runs", "Wheres", "find_runs", "look_up_filtered", "runs"]

STATUSES: Final = ("running", "complete", "failed", "died", "replacing", "unreadable")
"""The possible values of a run's status."""

Wheres: TypeAlias = "str | Where | Callable[[Run], bool]"
"""A filter: an expression as `Where` takes it, or a function of a `Run`."""

_SHOWN: Final = ("name", "status", "started", "age", "seconds", "size")


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
        each_one = [run.status for run in self]
        return {status: each_one.count(status) for status in STATUSES if status in each_one}

    def __repr__(self) -> str:
        return f"<Runs: {self.summary()}>"

    def summary(self) -> str:
        """Return the number of runs, their statuses and their total size as text.

        >>> Runs([Run("a", "a", "memory://a", "complete", size=1200)]).summary()
        '1 run: 1 complete; 1.2 kB'
        """
        count = f"{len(self)} of {self.total}" if self.total > len(self) else f"{len(self)}"
        statuses = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        size = display.size(sum(run.size for run in self))
        return f"{count} run{'s' * (self.total != 1)}" + f": {statuses}; {size}" * bool(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame with one row a run: the columns of `notata ls -l`, with spans in seconds.

        Raises:
            PackageMissingError: pandas is not installed.

        >>> Runs([Run("a", "a", "memory://a", "complete", size=1200)]).to_pandas()["size"].tolist()
        [1200]
        """
        with needed("a DataFrame needs pandas", "pandas", "pandas"):
            import pandas as pd
        frame = pd.DataFrame(
            [{name: holdable(value(run)) for name, value in FACTS.items()} for run in self], columns=[*FACTS]
        )
        for name in ("started", "ended"):
            frame[name] = pd.to_datetime([getattr(run, name) for run in self], utc=True)
        return frame

    def _repr_html_(self) -> str:
        return display.rows(self.summary(), _SHOWN, [_shown(run) for run in self])


def _shown(run: Run) -> dict[str, str]:
    age = run.age
    return {
        "name": run.name,
        "status": run.status if run.certain else f"{run.status}?",
        "started": "" if run.started is None else run.started.isoformat(" ", "seconds"),
        "age": "" if age is None else display.duration(max(0.0, age)),
        "seconds": "" if run.seconds is None else display.duration(run.seconds),
        "size": display.size(run.size),
    }


def runs(
    urls: URLs | None = None,
    *,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
    values: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = raise_error,
    timeout: float = TIMEOUT,
) -> Runs:
    """Return a summary of each run at or below some places; a run found at several places appears once.

    Args:
        urls: See `notata.search.URLs`; by default the base folder.
        status: One of ``running``, ``complete``, ``failed``, ``died``, ``replacing``, ``unreadable``, or several.
        where: An expression such as ``"omega > 1 and age < days(2)"`` (see `Where`), or a function of a `Run`.
        sort: The key to order by: one of `notata.search.FACTS`, a parameter or a metric. Runs without it come last. By
            default places stay in the given order, and runs are ordered by folder.
        reverse: Reverse the order.
        limit: Maximum number of runs to return.
        values: Whether to read parameters and metrics; by default only if an expression or an order needs them.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, of each folder below it that
            cannot be opened, of each name that cannot be used, and of each file of a run that the storage refused. The
            search continues with the others. By default, the first such error is raised.
        timeout: As for `notata.Logbook`.

    Cost: one listing per 1000 files and one read for each run, 32 at once. With `limit` and neither filter nor order,
    only that many runs are read. Parameters and metrics take up to two more reads for each run outside an experiment.

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
    choice = Choice(status, where, sort, reverse, limit)
    values = choice.values if values is None else values

    def of_place(place: Place, read: Mapping[str, Blob]) -> Iterator[Run]:
        return records(place, values=values, failed=failed, read=read)

    return find_runs(urls, choice, of_place, storage_options, failed, timeout, prefetch=True)


def find_runs(
    urls: URLs | None,
    choice: Choice,
    of_place: Callable[[Place, Mapping[str, Blob]], Iterable[Run]],
    storage_options: Mapping[str, Any] | None,
    failed: Callable[[NotataError], None],
    timeout: float,
    *,
    prefetch: bool,
) -> Runs:
    """Return the selected runs of some places.

    Args:
        urls: As for `runs`.
        choice: The selection.
        of_place: Reads the runs of a place; its second argument has metadata.json files read before, by folder.
        storage_options: As for `runs`.
        failed: As for `runs`.
        timeout: As for `runs`.
        prefetch: Prefetch the metadata.json of runs during the listing; use it if all will be needed.
    """
    found: dict[str, Run] = {}
    total: set[str] = set()
    for url in each(urls):
        room = choice.room(len(found))
        try:
            if prefetch and room is None:
                place, read = look_up_and_read(url, storage_options, timeout=timeout, failed=failed)
            else:
                place, read = look_up(url, storage_options, timeout=timeout, failed=failed, by_id=True), {}
            if not place.runs:
                raise no_run(place)
            new = [(folder, run) for folder, run in place.runs.items() if run.store.url not in total]
            total |= {run.store.url for _, run in new}
            found |= {run.url: run for run in of_place(replace(place, runs=dict(new[:room])), read)}
        except NotataError as error:
            failed(error)
    return choice.of(found.values(), len(total))


@dataclass(frozen=True)
class Choice:
    """A selection and an order of runs.

    Attributes:
        status: Select runs with one of these statuses; None selects any.
        where: A filter.
        sort: The key to order by.
        reverse: Reverse the order.
        limit: Maximum number of runs.
    """

    status: str | Iterable[str] | None = None
    where: Wheres | None = None
    sort: str | None = None
    reverse: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        wanted = [self.status] if isinstance(self.status, str) else None if self.status is None else [*self.status]
        for name in wanted or ():
            if name not in STATUSES:
                raise ConfigurationError(f"unknown status {name!r}; choose from {', '.join(STATUSES)}")
        if self.limit is not None and self.limit < 0:
            raise ConfigurationError(f"limit must be 0 or more, not {self.limit}")
        object.__setattr__(self, "status", wanted or None)
        object.__setattr__(self, "where", Where(self.where) if isinstance(self.where, str) else self.where)

    @property
    def values(self) -> bool:
        """True if parameters and metrics are needed. A filter function may use any of them."""
        sorts = self.sort is not None and needs_values([self.sort.partition(".")[0]])
        return sorts or (self.where.values if isinstance(self.where, Where) else self.where is not None)

    @property
    def metadata(self) -> bool:
        """True if the selection needs more than a listing and index.csv provide."""
        sorts = self.sort is not None and not listed_alone([self.sort, self.sort.partition(".")[0]])
        return sorts or (self.where.metadata if isinstance(self.where, Where) else self.where is not None)

    @property
    def filters(self) -> bool:
        """True if the selection filters runs."""
        return self.status is not None or self.where is not None

    def room(self, count: int) -> int | None:
        """Return how many more runs to read after `count` of them; None for all."""
        if self.limit is None or self.filters or self.sort or self.reverse:
            return None
        return self.limit - count

    def of(self, found: Iterable[Run], total: int) -> Runs:
        """Return the selected runs, in order."""
        found = list(found)
        chosen = [run for run in found if self.status is None or run.status in self.status]
        if self.where is not None:
            chosen = [run for run in chosen if self.where(run)]  # type: ignore[operator]
        notes = self.where.notes() if isinstance(self.where, Where) else []
        if self.sort:
            if chosen and all(look(run, self.sort) is None for run in chosen):
                notes.append(f"no run has {self.sort}{close_to(self.sort, found)}")
            chosen = _sorted(chosen, self.sort, self.reverse)
        elif self.reverse:
            chosen.reverse()
        return Runs(chosen[: self.limit], total=total, notes=notes)


def look_up_filtered(
    url: str | os.PathLike[str] | UPath | Store,
    choice: Choice,
    storage_options: Mapping[str, Any] | None,
    *,
    failed: Callable[[NotataError], None],
    timeout: float,
) -> Place:
    """Look up one URL; with a filter, keep only the selected runs and their files.

    Cost: one listing; with a filter also one read for each run, and the reads for its parameters and metrics.

    Raises:
        RunMissingError: There is no run to filter.
        StorageError: It cannot be listed.
    """
    if not choice.filters:
        return look_up(url, storage_options, timeout=timeout, failed=failed)
    place, read = look_up_and_read(url, storage_options, timeout=timeout, failed=failed)
    if not place.runs:
        raise _no_run(url, place, storage_options, timeout)
    meant = choice.of(records(place, values=choice.values, failed=failed, read=read), len(place.runs))
    names = {run.url for run in meant}
    runs = {folder: found for folder, found in place.runs.items() if found.store.url in names}
    entries = {key: entry for key, entry in place.entries.items() if inside(key, runs) is not None}
    unfinished = {key: entry for key, entry in place.unfinished.items() if inside(key, runs) is not None}
    return replace(place, runs=runs, entries=entries, unfinished=unfinished)


def _no_run(
    url: str | os.PathLike[str] | UPath | Store, place: Place, options: Mapping[str, Any] | None, timeout: float
) -> RunMissingError:
    """Return the error for a place without a run to filter; the URL may name a file."""
    with suppress(NotataError):
        if not is_pattern(url):
            name = file_at(url, options, timeout=timeout).name
            message = (
                f"cannot filter {name}: it is a single file, and its run is unknown; pass a pattern of files instead"
            )
            return RunMissingError(message, url=place.store.url)
    return no_run(place)


def _sorted(found: Sequence[Run], name: str, reverse: bool) -> list[Run]:
    """Order numbers before texts before other values; runs without a value come last in both directions."""
    keyed = [(_rank(look(run, name)), run) for run in found]
    ranked = sorted(((rank, run) for rank, run in keyed if rank), key=lambda pair: pair[0] or (), reverse=reverse)
    return [run for _, run in ranked] + [run for rank, run in keyed if rank is None]


def _rank(value: Any) -> tuple[int, Any] | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, str(value))
