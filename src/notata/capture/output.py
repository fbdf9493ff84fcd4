"""Keep what a program prints in output.txt: `Output` takes its bytes in any pieces.

The bytes pass through these places, in this order:

1. `Screen` (``lines.py``): overwritten lines, such as those of a progress bar, leave their last state;
2. `Redactor` (``redacting.py``): secrets are redacted;
3. `Finder` (``patterns.py``), one for each pattern: matches become rows of a series;
4. `GrowingFile`: the bytes are stored at once on a disk, and in growing chunks in a bucket.

At most `PENDING` bytes wait for a disk, and `SPOOLED` for a bucket, most of them in a temporary file. If more come,
`feed` waits, so the program that prints them waits, too, and memory stays flat. If the storage accepts nothing for
`PATIENCE` seconds, further output is dropped and counted until it does; the file and the log state how much is missing.
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

__all__ = ["PATIENCE", "PENDING", "SPOOLED", "Output"]

PENDING: Final = 16 * 2**20
"""Bytes that may wait for a disk; `feed` waits while there are more."""

SPOOLED: Final = 4 * 2**30
"""The same for a bucket, for which bytes wait in a file in the temporary folder."""

PATIENCE: Final = 60.0
"""Seconds that `feed` waits for a storage that accepts nothing, before output is dropped."""

_SHOW_FIRST: Final = 10.0  # seconds until the state of a progress bar is shown; then twice as many, up to
_SHOW_LAST: Final = 600.0  # this many
_BLOCK: Final = 2**17  # bytes that are handled at once; the system does not reuse the memory of larger blocks
_RETRIED: Final = 1.0  # seconds between two checks whether a storage that failed works again
_POLL: Final = 0.5  # seconds between two attempts while `feed` waits


class _Stream:
    """One stream of the program, such as standard output: its rows and its secrets are its own."""

    def __init__(self, redact: Callable[[str], str], now: float) -> None:
        self.screen, self.redactor = Screen(), Redactor(redact)
        self.shown_at, self.show_after = now, _SHOW_FIRST


AddRow = Callable[[str, dict[str, Scalar], int | None], object]


class Output:
    """Takes what a program prints, and keeps it in a growing file.

    `feed` is called by one thread; `finish` may be called by another one. Several streams are merged line by line.

    Args:
        file: The file; `GrowingFile.missing` is not used, as `Output` waits before lines are dropped.
        redact: Redacts the secrets in a text.
        patterns: What to find in the output.
        add: Adds a row to a series: its name, the values, and the step or None.
        warn: Logs a warning, with arguments as in `logging`.
        sink: Gets all bytes as they come, such as the terminal. If it raises an OSError, it is not called again.
        is_displaced: Returns whether another writer is known to own the run; output is not stored then.
        clock: Returns a monotonic time in seconds.
        pending: The bytes that may wait; by default `PENDING`, or `SPOOLED` if the file has an overflow.
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
        pending: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._file, self._warn, self._sink, self._clock = file, warn, sink, clock
        self._pending = pending or (SPOOLED if file.has_overflow else PENDING)
        self._patience = patience
        self._is_displaced = is_displaced
        self._redact = redact
        self._streams: dict[int, _Stream] = {}
        self._finders = [
            Finder(pattern, lambda values, step, name=pattern.series: add(name, values, step), warn)  # type: ignore[misc]
            for pattern in patterns
        ]
        self._lock = threading.RLock()
        self._is_dropping = False
        self._tried_at = 0.0  # the last check whether the storage works again
        self._unreported = 0
        self._open_line: int | None = None  # the stream whose line has no end yet
        self._given = 0
        self.lost = 0

    @property
    def stored(self) -> int:
        """The bytes of the file that are stored, of those that this object wrote."""
        return self._given - self._file.pending_bytes

    @property
    def unmatched(self) -> list[str]:
        """The regular expressions that no line has matched so far."""
        return [finder.expression for finder in self._finders if finder.is_unmatched]

    def given(self, stream: int = 0) -> int | None:
        """Return the bytes that were given to the file so far; None if a part of the stream is still held."""
        own = self._streams.get(stream)
        return self._given if own is None or (own.screen.is_empty and own.redactor.is_empty) else None

    def feed(self, data: bytes, stream: int = 0) -> None:
        """Take the next bytes. With ``b""``, which a reader sends once a second or so, only what is due is done.

        Waits while the storage is behind. Never raises an error of the storage.

        Args:
            data: The bytes.
            stream: The number of the stream, if several are merged.
        """
        self._pass_on(data)
        with self._lock:
            if self._file.is_displaced or self._is_displaced():
                return
            own = self._streams.get(stream)
            if own is None:
                own = self._streams[stream] = _Stream(self._redact, self._clock())
            for start in range(0, len(data), _BLOCK):
                for part in own.screen.feed(data[start : start + _BLOCK]):
                    self._keep(part, stream)
            self._show(own, stream)

    def take(self, data: bytes) -> int:
        """Take bytes of an earlier attempt, and return their number. They are not shown."""
        sink, self._sink = self._sink, None
        self.feed(data)
        self._sink = sink
        return len(data)

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
            for number, own in self._streams.items():
                if left := own.screen.finish():
                    self._keep_lines(left, number)
                self._put(own.redactor.finish(), number)
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

    def _keep(self, part: bytes, stream: int) -> None:
        """Keep whole lines, or a piece of a long line."""
        if part.endswith(b"\n"):
            self._keep_lines(part, stream)
        else:
            self._put(self._streams[stream].redactor.piece(part), stream)

    def _keep_lines(self, part: bytes, stream: int) -> None:
        lines = self._streams[stream].redactor.lines(part)
        for finder in self._finders:
            finder.lines(lines)
        self._put(lines, stream)

    def _show(self, own: _Stream, stream: int) -> None:
        """Show the state of a progress bar in the file, after 10 s, then after twice as long, up to 10 minutes."""
        now = self._clock()
        if not own.screen.is_moving:
            own.shown_at, own.show_after = now, _SHOW_FIRST
        elif now - own.shown_at >= own.show_after:
            own.shown_at, own.show_after = now, min(2 * own.show_after, _SHOW_LAST)
            for lines in (own.screen.settle(), own.screen.state()):
                if lines:
                    self._keep(lines, stream)

    # -- out -----------------------------------------------------------------------------------------------

    def _put(self, data: bytes, stream: int) -> None:
        """Give bytes to the file; wait if it is behind, and drop them if it stays behind."""
        if not data:
            return
        if not self._has_room(len(data)):
            self._drop(len(data))
            return
        if self._unreported:
            self._report()
        if self._open_line not in (None, stream):
            data = b"\n" + data
        self._given += len(data)
        self._file.write(data)
        self._open_line = None if data.endswith(b"\n") else stream

    def _has_room(self, size: int) -> bool:
        most = max(0, (PENDING if self._file.is_crammed else self._pending) - size)
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
                "The storage has accepted no output of the program for %.0f s. Until it does, output is dropped; the "
                "program keeps running",
                self._patience,
            )
        self._unreported += size
        self.lost += size

    def _report(self) -> None:
        """State in the file and in the log how much is missing."""
        count, self._unreported = self._unreported, 0
        start, self._open_line = b"" if self._open_line is None else b"\n", None
        self._warn("%d bytes of the output are missing from %s; they could not be stored", count, keys.OUTPUT)
        with suppress(Exception):
            line = start + b"[notata: %d bytes are missing here; they could not be stored]\n" % count
            self._given += len(line)
            self._file.write(line)
