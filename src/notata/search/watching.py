"""Watching of curves: read the rows that runs add, until all runs have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from notata._base import keys
from notata.errors import ContainerMissingError, MissingError, NotataError, StorageError
from notata.run.state import ENDED
from notata.search.curving import STEP, Curve, curves_of
from notata.search.following import LONGEST, SLOWER, Outages, end_of
from notata.search.growing_rows import GrowingRows
from notata.search.places import File, Run
from notata.search.prefetch import prefetched
from notata.series.reading import PIECE
from notata.series.summary import SCALARS
from notata.store import Blob
from notata.store.gaps import ignore

__all__ = ["CurveWatcher"]

_NEAR: Final = 1.0  # seconds between two polls of local files
_FAR: Final = 2.0
_RECENT: Final = timedelta(minutes=1)  # clocks may differ: a run that ended earlier adds no rows


@dataclass(slots=True)
class _Run:
    """A run that is watched.

    Attributes:
        run: The run, as listed.
        rows: The rows of its files, by key.
        end: The final status, once it is known; empty before.
        why: The reason of that status.
    """

    run: Run
    rows: dict[str, GrowingRows] = field(default_factory=dict)
    end: str = ""
    why: str = ""


class CurveWatcher:
    """Polls the series of runs; iteration yields all their curves, at first and whenever rows were added.

    A poll takes one request for each file, which reads only new rows, and one for the state of each run to which no row
    was added. While nothing is added, the interval grows up to tenfold.

    Attributes:
        ends: The final status of each run that has ended, by its name; ``gone`` without metadata.json.

    Args:
        runs: The runs, from `notata.search.curving.runs_with`.
        y: The columns, as for `notata.search.curves`.
        x: The coordinate, as for `notata.search.curves`.
        series: The name of the series.
        smooth: The weight of the moving average.
        workers: Include the series of workers, and those that start later.
        interval: Seconds between two polls; by default 1 on a local disk, else 2.
        tell: Called with messages: the end of a run, an outage, a replaced file, a column with texts.
        wait: Called to wait for some seconds.
    """

    def __init__(
        self,
        runs: Iterable[Run],
        y: Sequence[str] | None = None,
        x: str = STEP,
        *,
        series: str = SCALARS,
        smooth: float = 0.0,
        workers: bool = False,
        interval: float | None = None,
        tell: Callable[[str], object] = bool,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.ends: dict[str, str] = {}
        self._runs = {run.url: _Run(run, end=_first_end(run), why=_reason(run)) for run in runs}
        self._y, self._x, self._smooth = y, x, smooth
        self._series = series
        self._workers = workers
        near = all(one.run.store.is_local for one in self._runs.values())
        self._interval = interval if interval is not None else _NEAR if near else _FAR
        self._tell = tell
        self._wait = wait
        self._outages = Outages(tell)
        self._told: set[str] = set()
        for one in self._runs.values():
            own = keys.series_file(series)
            one.rows[own] = GrowingRows(one.run.file(own), series)
            self._add_workers(one, one.run.entries)

    def __iter__(self) -> Generator[list[Curve], None, None]:
        watched = [*self._runs.values()]
        is_first, pause = True, self._interval
        while watched:
            ended = [one for one in watched if one.end]
            grown = self._read(watched)
            if grown or is_first:
                is_first = False
                yield [*self._curves()]
            if not self._outages.has_one:
                for one in ended:
                    self.ends[one.run.name] = one.end
                    self._tell(f"{one.run.name}: {one.end}{one.why}")
                    watched.remove(one)
                self._read_states([one for one in watched if one.run.url not in grown])
            pause = self._interval if grown else min(pause * SLOWER, self._interval * LONGEST)
            if watched and (self._outages.has_one or not any(one.end for one in watched)):
                self._wait(pause)

    def _curves(self) -> Iterator[Curve]:
        for one in self._runs.values():
            for rows in one.rows.values():
                if rows.data is None:
                    continue
                data = rows.data.without_repeated()
                for curve in curves_of(one.run, data, self._y, self._x, rows.rank, failed=self._tell_once):
                    yield curve.smoothed(self._smooth)

    def _tell_once(self, error: NotataError) -> None:
        if str(error) not in self._told:
            self._told.add(str(error))
            self._tell(str(error))

    def _read(self, watched: Iterable[_Run]) -> set[str]:
        """Read new rows; return the URLs of the runs that have some."""
        wanted = [(one, rows) for one in watched for rows in one.rows.values()]
        grown = set()
        with closing(prefetched((at, *at[1].range) for at in wanted)) as coming:
            for (one, rows), future in coming:
                assert future is not None
                try:
                    if self._take(rows, future):
                        grown.add(one.run.url)
                except ContainerMissingError:
                    raise
                except MissingError:  # the run has no such series yet
                    self._outages.end()
                except StorageError as error:
                    self._outages.begin(error)
        return grown

    def _take(self, rows: GrowingRows, future: Future[Blob]) -> bool:
        found = future.result()
        self._outages.end()
        columns = None if self._y is None else [*self._y, self._x]
        return rows.take(found, columns=columns, replaced=self._tell)

    def _read_states(self, runs: Iterable[_Run]) -> None:
        metadata = [(one, File.of(one.run.name, one.run.store, keys.METADATA)) for one in runs]
        with closing(prefetched((one, file, 0, PIECE) for one, file in metadata)) as coming:
            for one, future in coming:
                assert future is not None
                try:
                    end, why, is_final = end_of(future, one.run.store)
                    if end == "failed" and not (is_final or one.run.store.is_local):
                        end = why = ""  # in a bucket, its last rows come after its status
                    one.end, one.why = end, why
                    if self._workers:
                        self._add_workers(
                            one, [entry.key for entry in one.run.store.list(keys.WORKERS, skipped=ignore)]
                        )
                except StorageError as error:
                    self._outages.begin(error)

    def _add_workers(self, one: _Run, found: Iterable[str]) -> None:
        """Watch series of workers that are not watched yet."""
        for key in found if self._workers else ():
            rank, name = keys.series_name(key) or (None, "")
            if rank is not None and name == self._series and key not in one.rows:
                one.rows[key] = GrowingRows(one.run.file(key), self._series, rank)


def _first_end(run: Run) -> str:
    """Return the final status of a run whose state is known; empty if it has not ended, or may add rows."""
    if run.status == "failed" and not run.store.is_local and _is_recent(run.ended):
        return ""
    return run.status if run.status in ENDED or run.status in ("died", "unreadable") else ""


def _is_recent(ended: datetime | None) -> bool:
    return ended is None or abs(datetime.now(UTC) - ended) < _RECENT


def _reason(run: Run) -> str:
    return f": {run.failure_reason}" if run.failure_reason else ""
