"""Rows of series that the live page has shown: kept in memory up to a limit, so that only new bytes are read."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from notata._base import keys
from notata.errors import MissingError, NotataError
from notata.search.curving import STEP, Curve, curves_of
from notata.search.growing_rows import GrowingRows
from notata.search.places import Run
from notata.search.prefetch import prefetched
from notata.series.many import series_files
from notata.store import Blob

__all__ = ["RowCache", "RowFile", "files_of"]

LIMIT: Final = 512 * 2**20  # bytes of parsed rows
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class RowFile:
    """The file of a series of one run, or of one of its workers."""

    run: Run
    series: str
    key: str
    rank: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """The URL of the run and the key, which identify the file."""
        return self.run.url, self.key

    @property
    def listed_size(self) -> int | None:
        """Its size in the last listing; None if that did not have it."""
        return self.run.entries[self.key].size if self.key in self.run.entries else None

    @property
    def may_grow(self) -> bool:
        """True unless the run has ended, as far as the last listing knows."""
        return self.run.status not in ("complete", "failed", "died")


def files_of(run: Run, series: str) -> list[RowFile]:
    """Return the files of a series of one run, as listed; of an unlisted run, that of its owner, which may not exist.

    Raises:
        KeyNameError: The name is no legal name of a series.
    """
    if not run.entries:
        return [RowFile(run, series, keys.series_file(series))]
    found = series_files(run.name, run.store, run.entries, series, workers=True)
    return [RowFile(run, series, file.key, file.rank) for file in found]


@dataclass(slots=True)
class _Kept:
    """The rows of one file.

    Attributes:
        rows: The rows.
        size: The bytes that they take.
        read: The time of the last read; minus infinity before the first.
    """

    rows: GrowingRows
    size: int = 0
    read: float = _NEVER


class RowCache:
    """Parsed rows by file; those that were used least recently are dropped. It can be used from many threads.

    Args:
        limit: Bytes of rows that are kept. The file that was read last is kept even if it is larger.
        fresh: Seconds during which rows are not read again for a request.
        clock: Returns the time in seconds.
    """

    def __init__(self, limit: int = LIMIT, fresh: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._fresh = fresh
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._reading: dict[str, threading.Lock] = {}  # one read of a series at a time, so that no row is read twice

    @property
    def size(self) -> int:
        """The bytes of all rows that are kept."""
        with self._lock:
            return sum(one.size for one in self._kept.values())

    def end(self, file: RowFile) -> int | None:
        """Return up to which byte a file was read; None if it was not."""
        with self._lock:
            kept = self._kept.get(file.name)
        return None if kept is None or kept.read == _NEVER else kept.rows.end

    def is_whole(self, file: RowFile) -> bool:
        """Check whether the rows that are kept are all rows of a file that has stopped growing."""
        return not file.may_grow and file.listed_size is not None and self.end(file) == file.listed_size

    def curves(
        self, files: Iterable[RowFile], column: str, failed: Callable[[NotataError], None]
    ) -> Generator[Curve, None, None]:
        """Yield one curve of each file that has the column, in order; only rows that are not kept are read.

        Cost: one request a file and 8 MiB, 32 at once; none if its rows were read just now, or if its run has ended.
        """
        for file, rows in self.read(files, failed):
            if rows.data is not None and column in rows.data:
                yield from curves_of(file.run, rows.data.without_repeated(), [column], STEP, file.rank, failed=failed)

    def read(
        self, files: Iterable[RowFile], failed: Callable[[NotataError], None], *, polls: bool = False
    ) -> Generator[tuple[RowFile, GrowingRows], None, None]:
        """Yield the rows of files, in order, each with rows that were added since; a missing file is left out.

        Args:
            files: Files of one series.
            failed: Called with the error of each file that cannot be read; its earlier rows are yielded.
            polls: Read each file, also if it was read just now.
        """
        wanted = [*files]
        with self._lock_of(wanted[0].series if wanted else ""):
            due = {file.name for file in wanted if polls or self._is_due(file)}
            ranges = ((one, *one.rows.range) for file in wanted if file.name in due for one in [self._of(file)])
            with closing(prefetched(ranges)) as coming:
                for file in wanted:
                    try:
                        one, future = next(coming) if file.name in due else (self._of(file), None)
                        if future is not None or one.read == _NEVER:
                            self._take(one, future)
                        self._keep(file, one)
                    except MissingError:
                        self._forget(file)
                        continue
                    except NotataError as error:
                        failed(error)
                    yield file, one.rows

    def _take(self, one: _Kept, future: Future[Blob] | None) -> None:
        """Add the bytes that were requested, or those of rows that were dropped since."""
        source, start, end = one.rows.range
        one.rows.take(source.store.fetch(source.entry.key, start, end) if future is None else future.result())
        one.read = self._clock()
        one.size = one.rows.size

    def _lock_of(self, series: str) -> threading.Lock:
        with self._lock:
            return self._reading.setdefault(series, threading.Lock())

    def _of(self, file: RowFile) -> _Kept:
        with self._lock:
            kept = self._kept.get(file.name) or _Kept(GrowingRows(file.run.file(file.key), file.series, file.rank))
        if file.key in file.run.entries:  # a later listing may show a larger file
            kept.rows.file = file.run.file(file.key)
        return kept

    def _is_due(self, file: RowFile) -> bool:
        with self._lock:
            kept = self._kept.get(file.name)
        return kept is None or (not self.is_whole(file) and self._clock() - kept.read >= self._fresh)

    def _keep(self, file: RowFile, kept: _Kept) -> None:
        """Keep rows as those used last, and drop others beyond the limit."""
        with self._lock:
            self._kept[file.name] = kept
            self._kept.move_to_end(file.name)
            held = sum(one.size for one in self._kept.values())
            while held > self._limit and len(self._kept) > 1:
                held -= self._kept.popitem(last=False)[1].size

    def _forget(self, file: RowFile) -> None:
        with self._lock:
            self._kept.pop(file.name, None)
