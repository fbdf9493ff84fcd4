"""One look at the folder of a run that is being written, and the copy of the files that are due.

The look is a listing. So every file is copied, by whatever means it was written, and another program that finds the
folder later can finish the copy. The rules:

* files when `notata.mirror.schedule` says that they are due; log.txt, which only grows, is appended to;
* metadata.json last, whenever it changed: that of an ended run only after all other files;
* everything at once, when the run has ended, or a caller waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from notata._base import keys
from notata._base.display import counted
from notata._base.display import size as shown_size
from notata._base.threads import Event
from notata.errors import NotataError, RunDisplacedError
from notata.mirror.options import CopyOptions, Room
from notata.mirror.runs import RunCopy
from notata.mirror.schedule import Schedule
from notata.mirror.thread import Clock
from notata.run.state import ENDED, lease_of, metadata, parsed
from notata.store import Entry, Store
from notata.store.files import PART
from notata.store.gaps import ignore

__all__ = ["Behind", "Follower"]

BATCH_BYTES: Final = 4 * PART
BATCH_FILES: Final = 200
STATUS_INTERVAL: Final = 10.0  # seconds after which logs and metadata.json are copied between two batches

_AT_ONCE: Final = 4
_EXTENDED: Final = 5 * 2**20  # bytes from which all buckets append without sending a file again; S3 has this limit


class Behind(NamedTuple):
    """The files and bytes of a run that are not copied yet.

    >>> str(Behind(12, 34_000_000))
    '12 files (34.0 MB)'
    """

    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{counted(self.files, 'file')} ({shown_size(self.bytes)})"


class Follower:
    """Copies the files of one run that have changed and are due. For use from one thread at a time.

    Attributes:
        listing_seconds: The time that the last listing of the run's folder took.

    Args:
        source: The run's folder. It contains metadata.json, as the run has begun.
        target: The folder of the copy.
        replace: Replace the copy of another run with this id.
        stop: Set it to stop.
        clock: The clock.
    """

    def __init__(self, source: Store, target: Store, *, replace: bool, stop: Event, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._owner = lease_of(parsed(source.read(keys.METADATA)) or {}).get("owner")
        self._schedule = Schedule()
        self._log_sizes: dict[str, int] = {}  # copied bytes of each log
        self._is_target_known = False  # completely, as the last copy succeeded
        self.listing_seconds = 0.0
        options = CopyOptions(
            replace=replace, at_once=_AT_ONCE, room=Room(PART), streams=threading.Semaphore(1), stop=stop
        )
        self._copy = RunCopy(source, target.sparing(PART), options, known=self._schedule.known)

    def behind(self) -> Behind:
        """Return the number of files and bytes that are not copied yet. One listing; may be called in any thread."""
        files, size = 0, 0
        for entry in self._source.list(skipped=ignore):
            if self._schedule.known.get(entry.key) != entry.version:
                files, size = files + 1, size + max(0, entry.size - self._log_sizes.get(entry.key, 0))
        return Behind(files, size)

    def is_source_gone(self) -> bool:
        """Check whether the run's folder was moved or removed, so that it has no metadata.json."""
        try:
            return not self._source.exists(keys.METADATA)
        except NotataError:
            return False

    def copy(self, *, whole: bool) -> bool:
        """Look for changed files, and copy those that are due, or with `whole` all.

        Returns:
            Whether there were changed files, due or not.

        Raises:
            RunDisplacedError: Another writer has taken over the run, and may have a mirror of its own.
            Exception: See `RunCopy.update`. The content of the target is then unknown.
        """
        known, self._is_target_known = self._is_target_known, False
        ended = self._has_ended()  # before the listing: if the run has ended by now, the listing is complete
        began = self._clock.now()
        changed = self._schedule.changed(self._source.list(skipped=ignore))
        self.listing_seconds = self._clock.now() - began
        if known and not (whole or ended):
            self._copy_some(self._due(changed))
        elif changed:
            self._copy.update()
            self._record_copied(changed.values())
        self._is_target_known = True
        return bool(changed)

    def _has_ended(self) -> bool:
        fields = metadata(self._source.fetch(keys.METADATA), self._source.url, keys.METADATA)
        if lease_of(fields).get("owner") != self._owner:
            raise RunDisplacedError(
                f"run {fields.get('run_id')!r} at {self._source.url} now belongs to another writer, so this mirror "
                "has stopped",
                url=self._source.url,
                key=keys.METADATA,
            )
        return fields.get("status") in ENDED

    def _due(self, changed: Mapping[str, Entry]) -> dict[str, Entry]:
        """Return the changed files that are to be copied now; those of the run's status need not be quiet."""
        now = self._clock.now()
        due = self._schedule.due(changed, now)
        return due | {key: changed[key] for key in changed if _is_status(key) and self._schedule.is_rested(key, now)}

    def _copy_some(self, due: Mapping[str, Entry]) -> None:
        """Copy files of a running run in batches; the logs and metadata.json last, and between long batches."""
        status = {key: entry for key, entry in due.items() if _is_status(key)}
        last_status = self._clock.now()
        for batch in batches(entry for key, entry in due.items() if key not in status):
            began = self._clock.now()
            if began - last_status > STATUS_INTERVAL:
                self._copy_status({keys.METADATA: None, **status})
                last_status = began
            self._copy.update(only=[entry.key for entry in batch])
            self._schedule.sent(batch, began, self._clock.now())
        self._copy_status(status)

    def _copy_status(self, status: Mapping[str, Entry | None]) -> None:
        """Copy the logs and metadata.json, except those that may not be sent again yet."""
        now = self._clock.now()
        due = {key: entry for key, entry in status.items() if self._schedule.is_rested(key, now)}
        if due:
            self._copy.update(only=list(due))
            self._record_copied(entry for entry in due.values() if entry is not None)

    def _record_copied(self, copied: Iterable[Entry]) -> None:
        """Record the copied length of logs, and how many bytes the next append sends again."""
        for entry in copied:
            if keys.is_growing(entry.key):
                self._log_sizes[entry.key] = entry.size
                again = 0 if self._target.is_local or entry.size >= _EXTENDED else entry.size
                self._schedule.sends_again(entry.key, again, self._clock.now())


def _is_status(key: str) -> bool:
    """Check whether a file shows the progress of a run: metadata.json with its heartbeat, and the logs."""
    return key == keys.METADATA or keys.is_growing(key)


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield batches of files that take about the same time, small files first."""
    batch: list[Entry] = []
    size = 0
    for entry in sorted(entries, key=lambda entry: entry.size):
        if batch and (size + entry.size > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch
