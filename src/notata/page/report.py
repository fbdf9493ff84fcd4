"""Reports: a page of many runs as one file that is complete in itself, written to any storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, Final, TypeAlias, cast

from notata._base.display import counted, size
from notata.errors import (
    ConfigurationError,
    DeadlineError,
    ExistsError,
    NotataError,
    RunMissingError,
    StorageError,
    UnknownNameError,
    UnreachableError,
)
from notata.page.bundle import chart_library, html_of
from notata.page.contents import Contents, Wanted
from notata.page.model import title_of
from notata.page.output import OpenOutput, Output, StoredOutput, bytes_of
from notata.page.unknown import unknown_groups
from notata.run.listings import inside
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.choosing import runs as find_runs
from notata.search.finding import look_up
from notata.search.following import Outages
from notata.search.places import Place
from notata.search.record import listed_runs, records
from notata.search.target import URL, Failed, Target, URLs, raise_error
from notata.store.gaps import ignore
from notata.table import Index

__all__ = ["OUTPUT", "Report", "ReportWatcher", "ReportWriter", "report"]

OUTPUT: Final = "report.html"
SIZE: Final = "20 MB"
_Files: TypeAlias = "frozenset[tuple[str, str, int, str]]"
"""Places, keys, sizes and versions of files."""

_DETAILED: Final = 1000  # runs from an index of which a report has details
_LEAST: Final = 20_000  # bytes of data that a report needs


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written.

    Attributes:
        url: The file, without credentials; ``-`` for an open file.
        size: Its size in bytes.
        runs: The number of its runs.
        total: The number of runs at the places, before filter and limit.
        left_out: Sentences about what does not fit in it, as the page shows them.
        problems: Messages about places and files that could not be read, and the notes, as the page shows them.
        notes: Notes about the request, such as a key to order by that no run has.
    """

    url: str
    size: int
    runs: int
    total: int
    left_out: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = f"{self.runs} of {self.total} runs" if self.total > self.runs else counted(self.runs, "run")
        return f"{self.url}: {count}, {size(self.size)}"


def report(
    urls: URLs | Query | None = None,
    output: URL | IO[bytes] = OUTPUT,
    *,
    title: str | None = None,
    series: str | Iterable[str] | None = None,
    group: str | Iterable[str] = (),
    max_size: int | str = SIZE,
    status: Status = None,
    where: Wheres | None = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
    force: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    output_options: Mapping[str, Any] | None = None,
    fresh: bool = False,
    failed: Failed | None = None,
) -> Report:
    """Write the runs at or below some places as one HTML file: table, curves, details, logs, output, pictures.

    The file is complete in itself and sends no request. It has the table of all runs, and as much of the rest as fits:
    details of runs, then curves, then previews of files. The page says what is left out.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        output: The file, as a path or any fsspec URL, or an open binary file. The write is atomic. An earlier report is
            replaced, and no other file.
        title: The title of the page; by default the name of the place.
        series: Names or patterns of the series and columns to draw, such as ``"val/*"``, or ``"residual/r"`` for a
            column of one series. By default all.
        group: A parameter, or several, over which curves are averaged, such as ``"seed"``.
        max_size: The size of the file at most: bytes, or a text such as ``"20 MB"``.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        sort: The key to order by: one of `FACTS`, a parameter or a metric. If not all fits, the first runs have more.
            By default the newest run is the first.
        reverse: Reverse the order.
        limit: Maximum number of runs.
        force: Replace a file that is not a report, too.
        storage_options: Options for fsspec, for `urls`.
        output_options: Options for fsspec, for `output`.
        fresh: Look at every run, also of an experiment with a large index, see `notata.search.runs`.
        failed: Called with each error that does not end the report. The page shows them in any case.

    Cost: that of `runs` with parameters and metrics; for each run one read of the end of its log, one of the end of its
    output if it has some, one of its manifest, and up to four more for failures; one request for each 8 MiB of a
    series, and about one for each preview; up to three to check `output`, and those of its write. Memory is that of the
    table and of the report; rows are read run by run.

    Raises:
        ConfigurationError: The filter, the size or the output is invalid, or the output is in a run.
        ExistsError: The output is a file that is not a report.
        RunMissingError: There is no run, or none that matches.
        UnknownNameError: No run has any of the series.
        StorageError: A place cannot be listed, or the report cannot be written.

    >>> from notata import Experiment
    >>> experiment = Experiment("sweep", "memory://reports")
    >>> for seed in (1, 2):
    ...     with experiment.add(seed=seed) as run:
    ...         run.scalars(step=0, loss=1 / seed)
    >>> written = report("memory://reports/sweep", "memory://reports/sweep.html", group="seed")
    >>> written.runs, written.left_out
    (2, ())
    """
    query = Query.of(
        urls,
        status=status,
        where=where,
        sort=sort,
        reverse=reverse,
        limit=limit,
        storage_options=storage_options,
        failed=raise_error if failed is None else failed,
    )
    to = output_of(output, output_options, force=force)
    to.check()
    writer = ReportWriter(query, to, title=title, series=series, group=group, max_size=max_size, fresh=fresh)
    return writer.write()


def output_of(output: URL | IO[bytes], options: Mapping[str, Any] | None = None, *, force: bool = False) -> Output:
    """Return the output for an argument."""
    if hasattr(output, "write") and not hasattr(output, "backend"):
        return OpenOutput(cast("IO[bytes]", output))
    return StoredOutput(cast("URL", output), options, force=force)


class ReportWriter:
    """Writes reports of the runs of a query; the arguments are those of `report`.

    Attributes:
        query: The query.
        output: The place of the report.
        trusts_index: True if runs of experiments with a large index come from there.
        running: The runs of the last report that were not known to have ended: their statuses by URL.
    """

    def __init__(
        self,
        query: Query,
        output: Output,
        *,
        title: str | None = None,
        series: str | Iterable[str] | None = None,
        group: str | Iterable[str] = (),
        max_size: int | str = SIZE,
        fresh: bool = False,
    ) -> None:
        self.query = query.newest_first()
        self._fresh = fresh
        self.trusts_index = not (fresh or query.listing)
        self.output = output
        self.running: dict[str, str] = {}
        self._given = None if query.failed is raise_error else query.failed
        places = [target.name for target in query.targets]
        self._wanted = Wanted(
            title_of(places) if title is None else title,
            places,
            _texts(series) or None,
            _texts(group),
        )
        self._max_size = bytes_of(max_size)
        frame = sum(map(len, html_of(self._wanted.title, (), chart=chart_library())))
        self._budget = self._max_size - frame
        if self._budget < _LEAST:
            needed = size(frame + _LEAST)
            raise ConfigurationError(f"a report takes {needed} without data; raise max_size (--max-size)")

    def write(self, *, allow_empty: bool = False, wait_for_storage: bool = False, check: bool = False) -> Report:
        """Write a report of the runs as they are now.

        Args:
            allow_empty: If no run matches or has the series, write a report without, instead of nothing.
            wait_for_storage: Raise the error of a storage that does not answer, instead of a report without some runs.
            check: Check just before the write that the output is still a report, or missing.

        Raises:
            ExistsError: The output has become a file that is not a report.
            RunMissingError: There is no run, or none that matches.
            UnknownNameError: No run has any of the series.
            StorageError: A place cannot be listed, or the report cannot be written.
        """
        problems = _Problems(self._given, wait_for_storage)
        self.query.failed = problems
        runs = find_runs(self.query, values=True, fresh=self._fresh)
        if not runs.total:
            raise problems.first or RunMissingError(f"there is no run at {', '.join(self._wanted.places)}")
        if not runs and not allow_empty:
            raise self._none_matches(runs) from problems.first
        return self.write_runs(_with_files(runs, problems), problems, allow_unknown=allow_empty, check=check)

    def _none_matches(self, runs: Runs) -> RunMissingError:
        """Return the error for a filter that no run matches."""
        hints = "".join(f"; {text}" for text in runs.notes)
        where = ", ".join(self._wanted.places)
        return RunMissingError(f"no run of {runs.total} at {where} matches, so no report was written{hints}")

    def write_runs(
        self, runs: Runs, problems: _Problems, *, allow_unknown: bool = False, check: bool = False
    ) -> Report:
        """Write a report of these runs."""
        self.output.check_runs(run.url for run in runs)
        contents = Contents(runs, self._wanted, self._budget, problems, problems.messages, allow_unknown)
        notes = [*runs.notes, *unknown_groups(self._wanted.group, runs)]
        problems.messages += notes
        contents.collect()
        if check:
            self.output.check()
        size = self.output.write(html_of(self._wanted.title, contents.blocks, chart=chart_library()))
        self.running = {run.url: run.shown_status for run in runs if run.status in ("running", "replacing")}
        left_out = tuple(contents.left_out)
        return Report(self.output.url, size, len(runs), runs.total, left_out, tuple(problems.messages), tuple(notes))


def _with_files(runs: Runs, failed: Failed) -> Runs:
    """Return the runs, the first of those that come from an index with their files and metadata.

    Cost: one listing and one read for each of these.
    """
    indexed = {run.url: run for run in runs if run.is_indexed}
    first = [*indexed.values()][:_DETAILED]
    if not first:
        return runs
    known = {run.url: run for run in listed_runs(first, failed)}
    return Runs([known.get(run.url, run) for run in runs], total=runs.total, notes=runs.notes)


class _Problems:
    """Collects errors that do not end a report.

    Attributes:
        messages: Their messages, each once.
        first: The first of them.
    """

    def __init__(self, given: Failed | None, wait_for_storage: bool) -> None:
        self.messages: list[str] = []
        self.first: NotataError | None = None
        self._given = given
        self._waits = wait_for_storage

    def __call__(self, error: NotataError) -> None:
        """Add an error."""
        if self._waits:
            _raise_outage(error)
        self.first = self.first or error
        if str(error) not in self.messages:
            self.messages.append(str(error))
        if self._given is not None:
            self._given(error)


def _texts(given: str | Iterable[str] | None) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else [*given]


# -- watching ----------------------------------------------------------------------------------------------


class ReportWatcher:
    """Keeps a report current; iteration yields each report that was written, and does not end.

    A look takes one listing, and one request for each run that was running. Nothing is written if nothing has changed.
    While the storage does not answer, the last report stays. A file that has replaced the report ends the iteration.

    Args:
        writer: Writes the reports.
        seconds: Seconds between two looks.
        tell: Called with messages: an outage and its end.
        wait: Called to wait for some seconds.
    """

    def __init__(
        self,
        writer: ReportWriter,
        seconds: float,
        *,
        tell: Callable[[str], object] = bool,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._writer = writer
        self._seconds = seconds
        self._outages = Outages(tell)
        self._wait = wait
        self._seen: _Files | None = None
        self._indexes: dict[int, Mapping[str, Index]] = {}  # the large indexes of each target

    def __iter__(self) -> Generator[Report, None, None]:
        while True:
            try:
                seen = self._changed()
                if seen is not None:
                    is_later = self._seen is not None
                    written = self._writer.write(allow_empty=is_later, wait_for_storage=True, check=True)
                    self._seen = seen
                    self._outages.end()
                    yield written
                self._outages.end()
            except UnknownNameError:  # all runs were removed; there may be new ones
                if self._seen is None:
                    raise
            except ExistsError:  # the output is not a report any more
                raise
            except StorageError as error:
                self._outages.begin(error)
            self._wait(self._seconds)

    def _changed(self) -> _Files | None:
        """Return the files of all runs, as listings show them; None if nothing has changed since the last report.

        Of runs in a large index, only the index is looked at. A run that dies stores nothing, so the states of runs
        that were running are read, too.
        """
        places = [self._look_up(number, target) for number, target in enumerate(self._writer.query.targets)]
        seen = frozenset(
            (place.store.url, key, entry.size, entry.version)
            for place in places
            for key, entry in place.entries.items()
            if inside(key, place.runs) is not None
        )
        seen |= {
            (place.store.url, folder, len(index.rows), index.as_of.isoformat())
            for place in places
            for folder, index in place.indexes.items()
        }
        before = self._writer.running
        if self._seen != seen:
            return seen
        watched = (
            replace(place, runs={folder: run for folder, run in place.runs.items() if run.url in before})
            for place in places
        )
        now = {run.url: run.shown_status for place in watched for run in records(place, failed=_raise_outage)}
        return seen if now != before else None

    def _look_up(self, number: int, target: Target) -> Place:
        known = self._indexes.get(number)
        place = look_up(target, failed=ignore, by_id=True, trusts_index=self._writer.trusts_index, known=known)
        self._indexes[number] = place.indexes
        return place


def _raise_outage(error: NotataError) -> None:
    """Raise the error of a storage that does not answer."""
    if isinstance(error, UnreachableError | DeadlineError):
        raise error
