"""Keep what a program prints in output.txt: `Output` takes its bytes in any pieces.

The bytes pass through these places, in this order:

1. `Screen` (``lines.py``): overwritten lines, such as those of a progress bar, leave their last state;
2. `Redactor` (``redacting.py``): secrets are redacted;
3. `Finder` (``patterns.py``), one for each pattern: matches become rows of a series;
4. `GrowingFile`: the bytes are stored at once on a disk, and in growing chunks in a bucket.

At most `PENDING` bytes wait for the storage. If more come, `feed` waits, so the program that prints them waits, too,
and memory stays flat. If the storage accepts nothing for `PATIENCE` seconds, further output is dropped and counted
until it does; the file and the log state how much is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from notata._base import keys
from notata.capture.lines import Screen
from notata.capture.patterns import Finder, SeriesPattern
from notata.capture.redacting import Redactor
from notata.growing import GrowingFile
from notata.series.rows import Scalar

__all__ = ["PATIENCE", "PENDING", "Output"]

PENDING: Final = 16 * 2**20
"""Bytes that may wait for the storage; `feed` waits while there are more."""

PATIENCE: Final = 60.0
"""Seconds that `feed` waits for a storage that accepts nothing, before output is dropped."""

_SHOW_FIRST: Final = 10.0  # seconds until the state of a progress bar is shown; then twice as many, up to
_SHOW_LAST: Final = 600.0  # this many
_SETTLED: Final = 5.0  # seconds without a cursor that moves up, after which rows are final
_RETRIED: Final = 1.0  # seconds between two checks whether a storage that failed works again
_POLL: Final = 0.5  # seconds between two attempts while `feed` waits

AddRow = Callable[[str, dict[str, Scalar], int | None], object]


class Output:
    """Takes what a program prints, and keeps it in a growing file.

    `feed` is called by one thread; `finish` may be called by another one.

    Args:
        file: The file; `GrowingFile.missing` is not used, as `Output` waits before lines are dropped.
        redact: Redacts the secrets in a text.
        patterns: What to find in the output.
        add: Adds a row to a series: its name, the values, and the step or None.
        warn: Logs a warning, with arguments as in `logging`.
        sink: Gets all bytes as they come, such as the terminal. If it raises an OSError, it is not called again.
        is_displaced: Returns whether another writer is known to own the run; output is not stored then.
        clock: Returns a monotonic time in seconds.
        pending: As `PENDING`.
        patience: As `PATIENCE`.

    Attributes:
        lost: Bytes that could not be stored.
    """

    def __init__(
        self,
        file: GrowingFile,
        *,
        redact: Callable[[str], str],
        patterns: Sequence[SeriesPattern] = (),
        add: AddRow = lambda *_: None,
        warn: Callable[..., object] = bool,
        sink: Callable[[bytes], object] | None = None,
        is_displaced: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        pending: int = PENDING,
        patience: float = PATIENCE,
    ) -> None:
        self._file, self._warn, self._sink, self._clock = file, warn, sink, clock
        self._pending, self._patience = pending, patience
        self._is_displaced = is_displaced
        self._screen, self._redactor = Screen(), Redactor(redact)
        self._finders = [
            Finder(pattern, lambda values, step, name=pattern.series: add(name, values, step), warn)  # type: ignore[misc]
            for pattern in patterns
        ]
        self._lock = threading.RLock()
        self._is_dropping = False
        self._tried_at = 0.0  # the last check whether the storage works again
        self._unreported = 0
        self._line_is_open = False
        self._shown_at = self._fed_at = clock()
        self._show_after = _SHOW_FIRST
        self.lost = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes. With ``b""``, which a reader sends once a second or so, only what is due is done.

        Waits while the storage is behind. Never raises an error of the storage.
        """
        self._pass_on(data)
        with self._lock:
            if self._file.is_displaced or self._is_displaced():
                return
            for part in self._screen.feed(data):
                self._keep(part)
            self._show()

    def finish(self) -> None:
        """Store what is left: `end`, then `flush`. Call it again after an error; `feed` can still be called.

        Raises:
            StorageError: The storage refused. The bytes stay pending and are retried.
        """
        self.end()
        self.flush()

    def end(self) -> None:
        """Give what is incomplete to the file: the last line, and the state of a progress bar."""
        with self._lock:
            if self._file.is_displaced or self._is_displaced():
                return
            if left := self._screen.finish():
                self._keep_lines(left)
            self._put(self._redactor.finish())
            for finder in self._finders:
                finder.finish()
            if self._unreported:
                self._report()

    def flush(self) -> None:
        """Store the pending bytes.

        Raises:
            StorageError: The storage refused. The bytes stay pending and are retried.
        """
        self._file.flush()

    def close(self) -> None:
        """Close the file. Later bytes are still stored."""
        self._file.close()

    def _pass_on(self, data: bytes) -> None:
        if self._sink is not None and data:
            try:
                self._sink(data)
            except OSError:  # the terminal is closed
                self._sink = None

    # -- in ------------------------------------------------------------------------------------------------

    def _keep(self, part: bytes) -> None:
        """Keep whole lines, or a piece of a long line."""
        if part.endswith(b"\n"):
            self._keep_lines(part)
        else:
            self._put(self._redactor.piece(part))

    def _keep_lines(self, part: bytes) -> None:
        lines = self._redactor.lines(part)
        for finder in self._finders:
            finder.lines(lines)
        self._put(lines)

    def _show(self) -> None:
        """Show the state of a progress bar in the file, after 10 s, then after twice as long, up to 10 minutes."""
        now = self._clock()
        if not self._screen.is_moving:
            self._shown_at, self._show_after = now, _SHOW_FIRST
        elif now - self._shown_at >= self._show_after:
            self._shown_at, self._show_after = now, min(2 * self._show_after, _SHOW_LAST)
            if settled := self._screen.settle():
                self._keep(settled)
            if state := self._screen.state():
                self._keep(state)

    # -- out -----------------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        """Give bytes to the file; wait if it is behind, and drop them if it stays behind."""
        if not data:
            return
        if not self._has_room(len(data)):
            self._drop(len(data))
            return
        if self._unreported:
            self._report()
        self._file.write(data)
        self._line_is_open = not data.endswith(b"\n")

    def _has_room(self, size: int) -> bool:
        most = max(0, self._pending - size)
        if self._file.pending_bytes <= most or self._file.is_displaced:
            self._is_dropping = False
            return True
        if self._is_dropping:
            return self._has_recovered(most)
        before, since = self._file.pending_bytes, self._clock()
        while self._clock() - since < self._patience:
            if self._file.wait(most, _POLL):
                return True
            now = self._file.pending_bytes
            if now < before:
                before, since = now, self._clock()
        return False

    def _has_recovered(self, most: int) -> bool:
        """Check once a second whether the storage works again."""
        now = self._clock()
        if now - self._tried_at < _RETRIED:
            return False
        self._tried_at = now
        if not self._file.wait(most, 0):
            return False
        self._is_dropping = False
        return True

    def _drop(self, size: int) -> None:
        if not self._is_dropping:
            self._is_dropping, self._tried_at = True, self._clock()
            self._warn(
                "Output of the program cannot be stored since %.0f s and is dropped until it can; the program goes on",
                self._patience,
            )
        self._unreported += size
        self.lost += size

    def _report(self) -> None:
        """State in the file and in the log how much is missing."""
        count, self._unreported = self._unreported, 0
        start = b"\n" if self._line_is_open else b""
        self._line_is_open = False
        self._warn("%d bytes of the output are missing in %s; they could not be stored", count, keys.OUTPUT)
        with suppress(Exception):
            self._file.write(start + b"[notata: %d bytes are missing here; they could not be stored]\n" % count)
