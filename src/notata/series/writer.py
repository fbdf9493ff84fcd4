"""Write series: `SeriesWriters` holds the series of one writer of a run; each one appends rows to a growing file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys, limits
from notata._base.display import indefinite
from notata._base.processes import ForkCheck, Lock
from notata._base.threads import whole
from notata.errors import EncodeError, StorageError, TooLargeError
from notata.growing import Appender, AppendThread, GrowingFile
from notata.series.rows import INT64, STEP, RowEncoder, invalid_step, step_of
from notata.series.summary import stored, summary_of
from notata.store import Store

if TYPE_CHECKING:
    from notata.store.stored_path import StoredPath

__all__ = ["Series", "SeriesWriters"]

_RECOUNTED: Final = 1_000_000  # rows that are read again at the end if an interrupt came in the middle of a row


class Series:
    """Values over time in ``series/<name>.jsonl``: one JSON object on a line for each row.

    Safe to use from many threads and signal handlers. Get one by `Logbook.series` or `Worker.series`.

    Attributes:
        name: The name.
        path: The path of the file. In a bucket the file may lag some seconds behind; `Logbook.flush` makes it current.

    >>> residual = log.series("residual")
    >>> residual.add(iteration=7, r=1e-6, t=0.01)
    >>> print(residual.path.read_text().partition('"iteration"')[2], end="")
    : 7, "r": 1e-06, "t": 0.01}
    """

    def __init__(self, name: str, key: str, writers: SeriesWriters) -> None:
        self.name = name
        self._key = key
        self._writers = writers
        self._begin_process()
        self._fork = ForkCheck()
        self._file = writers.growing_file(key)
        self._encoder = RowEncoder(writers.attempt)
        self._rows = 0
        self._step: int | None = None  # of the last row
        self._is_begun = not writers.continues
        self._is_exact = True  # False: the summary may lack a row, or have one too many

    def _begin_process(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may have held it."""
        self._lock = threading.RLock()  # a row's step and its place in the file belong together

    def __repr__(self) -> str:
        return f"Series({self.name!r}, {self.path!s})"

    @property
    def path(self) -> StoredPath:
        """The path of the file."""
        return self._writers.store.path_for(self._key)

    def add(self, values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **more: Any) -> None:
        """Add a row.

        On a local disk and in memory the row is stored when the call returns. In a bucket, rows are collected and
        stored within seconds, less often as the file grows; `flush`, the end of the run and the end of the interpreter
        store all rows. A call never waits for a bucket, with one exception: the first call in a resumed run, or in a
        worker, reads the earlier rows.

        Args:
            values: Values by name, for names that are not Python identifiers.
            step: An integer. The default is one more than that of the row before, or 0. It may go backwards.
            **more: More values. Each is a number, a boolean, a text of at most 1000 characters, or None; numpy, torch
                and JAX scalars on any device are converted, which waits for the device. A column has one type.

        Raises:
            EncodeError: A name or value cannot be stored; no part of the row is.
            RunDisplacedError: Another writer has taken over the run.
            StorageError: The earlier rows cannot be read.

        Cost: no request in the calling thread. A row of five values has some 100 bytes.
        """
        self.add_row(values, step, more)

    def add_row(self, values: Mapping[str, Any] | None, step: int | None, more: dict[str, Any]) -> None:
        """Add a row, as `add` does for callers whose keyword arguments are already in a dictionary, `more`."""
        if values is not None:
            more = {**_mapping(values), **more}
            if step is None and STEP in more:
                step = more.pop(STEP)
        self._writers.check()
        self._fork.when_forked(self._begin_process)
        with self._lock:
            if step is not None and type(step) is not int:
                step = step_of(step)
            if not self._is_begun:
                self._begin(step)
            if step is None:
                step = 0 if self._step is None else self._step + 1
            if not -INT64 < step < INT64:
                raise invalid_step(step)
            before, self._step = self._step, step  # before the row is encoded: a signal handler may add one meanwhile
            try:
                row, found = self._encoder.encode(step, time.time(), more)
            except BaseException:
                self._step = before
                raise
            self._is_begun = True
            try:
                self._file.write(row)
                self._rows += 1
                self._encoder.add(step, found)
            except BaseException:  # an interrupt, before the row was stored or after it
                self._is_exact = False
                raise

    def _begin(self, step: int | None) -> None:
        """Continue the series of earlier attempts: its rows before `step` belong to the curve, as for readers.

        None means the step after that of the last row.
        """
        reading = _reading()
        store = self._writers.store
        try:
            before = reading.read_series(store, self._key, self.name, missing_ok=True)
        except TooLargeError:
            before = reading.read_last(store, self._key, self.name)
            self._writers.warn("%s is too large to read again: its summary covers only its last rows", self._key)
        kinds = {column.name: column.kind for column in before.summary_columns() if column.count}
        if step is None and before.rows:
            step = int(before.step[-1]) + 1
        if step is not None:
            before = before.continued_at(step, self._writers.attempt)
        self._rows = before.rows
        self._step = int(before.step[-1]) if before.rows else None
        self._encoder.resume(before.summary_columns(), kinds)

    def summary(self) -> dict[str, Any]:
        """Return number of rows, last step, and for each column `last`, `min`, `max`, `min_step`, `max_step`, `count`.

        >>> log.series("energy").add(step=3, kinetic=0.5)
        >>> log.series("energy").summary()["columns"]["kinetic"]["min"]
        0.5
        """
        with self._lock:
            if not self._is_begun:
                self._begin(None)
        return self.shortened_summary(limits.SERIES_COLUMNS)

    @property
    def has_rows(self) -> bool:
        """True if this writer added a row."""
        return self._is_begun and self._rows > 0

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self._encoder.columns)

    def shortened_summary(self, most: int) -> dict[str, Any]:
        """Return the summary of the first `most` columns."""
        if not self._is_exact and self._rows <= _RECOUNTED:
            with self._lock, suppress(StorageError):
                self._file.flush()
                self._begin(None)
                self._is_exact = True
        return self.known_summary(most)

    def known_summary(self, most: int) -> dict[str, Any]:
        """Return the summary of the first `most` columns as it is known now, without a request and without waiting."""
        columns = list(self._encoder.columns.values())[:most]
        return summary_of(self._rows, self._step, columns)

    def flush(self) -> None:
        """Store the pending rows.

        Raises:
            StorageError: They could not be stored. They stay pending and are retried.
        """
        self._file.flush()

    def close(self) -> None:
        """Close the file. Later rows are still stored."""
        self._file.close()


class SeriesWriters:
    """The series of one writer of a run: of its owner, or of a worker.

    Args:
        store: The store of the run, without a queue.
        thread: The thread that appends rows.
        appender: Returns the appender of a file.
        rank: The rank of the worker; None for the owner.
        attempt: The number of the attempt: how often the run was resumed.
        continues: Whether the files may exist.
        is_owner: Called after another process changed a file; returns whether this writer still owns the run.
        check: Raises an error if another writer is known to own the run.
        warn: Logs a warning, with arguments as in `logging`.

    Attributes:
        store: The store of the run.
        attempt: The number of the attempt.
        continues: Whether the files may exist.
        check: Raises an error if another writer is known to own the run.
        warn: Logs a warning, with arguments as in `logging`.
    """

    def __init__(
        self,
        store: Store,
        thread: AppendThread,
        *,
        appender: Callable[[str], Appender],
        rank: str | None = None,
        attempt: int = 0,
        continues: bool = False,
        is_owner: Callable[[], bool] = lambda: True,
        check: Callable[[], object] = bool,
        warn: Callable[..., object] = bool,
    ) -> None:
        self.store = store
        self.attempt = attempt
        self.continues = continues
        self.check = check
        self._thread = thread
        self._appender = appender
        self._rank = rank
        self._is_owner = is_owner
        self.warn = warn
        self._lock = Lock()
        self._series: dict[str, Series] = {}

    def __getitem__(self, name: str) -> Series:
        series = self._series.get(name) if isinstance(name, str) else None
        if series is None:
            key = keys.series_file(name, self._rank)
            _, name = keys.series_name(key) or (None, name)  # one series for all names of one file
            with self._lock.held():
                series = self._series.get(name)
                if series is None:
                    series = self._series[name] = Series(name, key, self)
        return series

    def growing_file(self, key: str) -> GrowingFile:
        """Return the growing file of a series."""

        def missing(count: int) -> bytes:
            rows = "1 row" if count == 1 else f"{count} rows"
            self.warn("%s of %s could not be stored and are missing", rows, key)
            return b""

        return GrowingFile(
            self._appender(key),
            key,
            at_once=self.store.is_local,
            is_owner=self._is_owner,
            missing=missing,
            thread=self._thread,
        )

    def summaries(self) -> dict[str, Any]:
        """Return the summary of each series for metadata.json, of `limits.SERIES_SUMMARY` columns in all.

        Series of earlier attempts that this one did not continue are not included.
        """
        written = {name: series for name, series in self._series.copy().items() if series.has_rows}
        left, found = limits.SERIES_SUMMARY, {}
        for number, name in enumerate(sorted(written, key=lambda name: written[name].width)):
            share = left // (len(written) - number)  # a narrow series leaves the rest of its share to wider ones
            found[name] = stored(written[name].shortened_summary(share))
            left -= len(found[name]["columns"])
        return {name: found[name] for name in written}

    def known_summaries(self) -> dict[str, Any]:
        """Return the summary of each series that has rows, without a request and without waiting."""
        written = self._series.copy().items()
        return {name: series.known_summary(limits.SERIES_COLUMNS) for name, series in written if series.has_rows}

    def flush(self) -> None:
        """Store the pending rows of all series.

        Raises:
            StorageError: Those of one could not be stored; the others are.
        """
        problem: StorageError | None = None
        for series in list(self._series.values()):
            try:
                series.flush()
            except StorageError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def close(self) -> None:
        """Close the files."""
        for series in list(self._series.values()):
            series.close()


def _reading() -> Any:
    """Return `notata.series.reading`, which imports numpy: after an interrupted import, numpy cannot be imported."""
    return whole(partial(import_module, "notata.series.reading"))


def _mapping(values: object) -> Mapping[str, Any]:
    if isinstance(values, Mapping):
        return values
    raise EncodeError(
        f"invalid values of type {indefinite(type(values).__name__)}: pass names and values, or a dictionary"
    )
