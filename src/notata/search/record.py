"""Records of runs, many at once: status, times, sizes, and if requested parameters and metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from notata._base import keys
from notata._base.times import moment
from notata.errors import MissingError, NotataError
from notata.run.state import ENDED, RunState, lease_of, number, parsed, previous_runtime, state_of
from notata.search.finding import Found, Place, look_up, raise_error
from notata.store import TIMEOUT, Blob, Entry, Store
from notata.store.in_flight import InFlight
from notata.table import Row, rows_of

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["Run", "fetched", "look_up_and_read", "read_at", "records"]

_METADATA_SIZE = 4096  # estimated bytes, to limit reads in flight
_LONGEST = timedelta(days=365_000)  # maximum accepted time between two changes of a run, against wrong storage times


@dataclass(frozen=True, slots=True)
class Run:
    """A summary of a run.

    Attributes:
        name: The place as it was given, and the path below it.
        run_id: The id that was given when the run began.
        url: The URL of its folder, without credentials.
        status: The status of `notata.RunState`; ``unreadable`` if metadata.json is missing or cannot be read.
        certain: False if the run counts as running only because its state is unknown.
        why: The evidence for the status, in a few words.
        started: When it first began; None if unknown.
        ended: When it ended; None if it has not, or if unknown.
        seconds: Its duration, without pauses before a resumption; until now if it is running; until its last sign of
            life if it died. None if unknown.
        size: The size of all its files, in bytes.
        files: The number of its files.
        failure_reason: Why it failed, died or cannot be read; empty otherwise.
        params: Its parameters, if they were requested.
        metrics: The content of ``artifacts/metrics.json``, if it was requested.
        found: Its files, each with its size.
        metadata: The content of its metadata.json; empty if it cannot be read.
        metrics_error: Why requested parameters or metrics are missing; empty otherwise.
        unfinished: Bytes of files that are still being written, or that a killed process left; not part of `size`.
        unfinished_files: The number of those files; not part of `files`.
    """

    name: str
    run_id: str
    url: str
    status: str
    certain: bool = True
    why: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
    size: int = 0
    files: int = 0
    failure_reason: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    found: Found | None = field(default=None, repr=False, compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    metrics_error: str = ""
    unfinished: int = 0
    unfinished_files: int = 0

    @property
    def age(self) -> float | None:
        """Seconds since it began; None if unknown."""
        return None if self.started is None else (datetime.now(UTC) - self.started).total_seconds()

    @property
    def host(self) -> str:
        """The machine that it ran on; empty if unknown."""
        environment = self.metadata.get("environment")
        host = environment.get("host") if isinstance(environment, dict) else None
        return str(lease_of(self.metadata).get("host") or host or "")

    def record(self) -> dict[str, Any]:
        """Return its fields by name, as `notata ls` prints them; without parameters and metrics."""
        return {
            "name": self.name,
            "run_id": self.run_id,
            "url": self.url,
            "status": self.status,
            "certain": self.certain,
            "why": self.why,
            "started": self.started,
            "ended": self.ended,
            "age": self.age,
            "seconds": self.seconds,
            "size": self.size,
            "files": self.files,
            "host": self.host or None,
            "failure_reason": self.failure_reason,
            "unfinished": self.unfinished,
            "unfinished_files": self.unfinished_files,
        }


def records(
    place: Place,
    *,
    values: bool = False,
    failed: Callable[[NotataError], None] | None = None,
    read: Mapping[str, Blob] | None = None,
) -> Iterator[Run]:
    """Yield the runs of a place, sorted by folder.

    Args:
        place: The place.
        values: Include parameters and metrics: up to two more reads for each run that has not ended, or was written by
            notata 0.3.0.
        failed: Called with the error of each file that the storage refused. The run is yielded without its content.
        read: The metadata.json of runs that are already read, by folder.

    Cost: one read a run, 32 at once. No listing, because that of the place has the sizes.

    >>> from notata import Logbook
    >>> from notata.search.finding import look_up
    >>> with Logbook("a", "memory://records", params={"dt": 0.1}) as log:
    ...     path = log.json("metrics", {"error": 0.01})
    >>> run = next(records(look_up("memory://records"), values=True))
    >>> run.status, run.files, run.params, run.metrics
    ('complete', 5, {'dt': 0.1}, {'error': 0.01})
    """
    known = {folder: blob for folder, blob in (read or {}).items() if folder in place.runs}
    blobs, errors = fetched({folder: run for folder, run in place.runs.items() if folder not in known}, keys.METADATA)
    blobs |= known
    _tell(errors, failed)
    runs = {folder: (folder, run.files) for folder, run in place.runs.items() if folder in blobs}
    rows = rows_of(place.store, runs, blobs, lambda names: read_at(place.store, names, failed)) if values else {}
    for folder, found in place.runs.items():
        yield _record(found, blobs.get(folder), errors.get(folder), rows.get(folder))


def look_up_and_read(
    url: str | os.PathLike[str] | UPath | Store,
    options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
    failed: Callable[[NotataError], None] = raise_error,
) -> tuple[Place, dict[str, Blob]]:
    """Look up one URL, and return the metadata.json of those runs that were found during the listing, by folder.

    In a bucket the reads overlap with the listing, as most of the time of both is waiting.
    """
    flying = InFlight[str, Blob]()

    def met(store: Store, folder: str, entry: Entry) -> None:
        if not store.is_local:
            flying.begin(folder, entry.size, store.start_fetch, entry.key)

    with flying.until_landed():
        place = look_up(url, options, timeout=timeout, met=met, failed=failed, by_id=True)
    return place, flying.results


def fetched(runs: Mapping[str, Found], key: str) -> tuple[dict[str, Blob], dict[str, Exception]]:
    """Return one file of each of many runs, and the errors, by the same names. 32 reads at once."""
    flying = InFlight[str, Blob]()
    with flying.until_landed():
        for name, run in runs.items():
            size = run.files[key].size if key in run.files else _METADATA_SIZE
            flying.begin(name, size, run.store.start_fetch, key)
    return flying.results, flying.errors


def read_at(store: Store, names: Iterable[str], failed: Callable[[NotataError], None] | None = None) -> dict[str, Blob]:
    """Return many files of one place; errors are passed to `failed`, and their files omitted. 32 reads at once."""
    flying = InFlight[str, Blob]()
    with flying.until_landed():
        for name in names:
            flying.begin(name, _METADATA_SIZE, store.start_fetch, name)
    _tell(flying.errors, failed)
    return flying.results


def _tell(errors: Mapping[str, Exception], failed: Callable[[NotataError], None] | None) -> None:
    """Report what the storage refused; a missing file is not an error."""
    for error in errors.values():
        if failed is not None and isinstance(error, NotataError) and not isinstance(error, MissingError):
            failed(error)


def _record(found: Found, blob: Blob | None, error: Exception | None, row: Row | None) -> Run:
    fields = parsed(blob.data) if blob is not None else None
    if fields is None or blob is None:
        return _unread(found, _unreadable(error))
    state = state_of(fields, blob)
    began = moment(fields.get("start_time"))
    return Run(
        name=found.name,
        run_id=found.run_id,
        url=found.store.url,
        status=state.status,
        certain=state.certain,
        why=state.why,
        started=began,
        ended=moment(fields.get("end_time")) if state.status in ENDED else None,
        seconds=_seconds(fields, state, began, _until(found, fields, state)),
        size=found.size,
        files=len(found.files),
        failure_reason=_failure(fields, state),
        params=row.params if row else {},
        metrics=row.metrics if row else {},
        found=found,
        metadata=fields,
        metrics_error=row.metrics_error if row else "",
        unfinished=found.unfinished_size,
        unfinished_files=len(found.unfinished),
    )


def _unread(found: Found, why: str) -> Run:
    """Return a run of which only the listing is known."""
    return Run(
        name=found.name,
        run_id=found.run_id,
        url=found.store.url,
        status="unreadable",
        why=why,
        size=found.size,
        files=len(found.files),
        failure_reason=why,
        found=found,
        unfinished=found.unfinished_size,
        unfinished_files=len(found.unfinished),
    )


def _unreadable(error: Exception | None) -> str:
    if error is None:
        return f"{keys.METADATA} is not a JSON object"
    if isinstance(error, MissingError):
        return f"it has no {keys.METADATA}"
    return str(error) if isinstance(error, NotataError) else f"{keys.METADATA} cannot be read"


def _failure(fields: Mapping[str, Any], state: RunState) -> str:
    if state.status == "failed":
        return str(fields.get("failure_reason") or "")
    return state.why if state.status == "died" else ""


def _until(found: Found, fields: Mapping[str, Any], state: RunState) -> datetime | None:
    """Return the end of its duration: when it ended; if it died, its last sign of life; else now.

    The last sign of life is the stored heartbeat, by the clock of the writer, or a later file. How much later comes
    from the listing, whose times are all by one clock. The age that decides whether a run is dead is not used here: it
    is measured at each read, so that two calls would return different durations.
    """
    if state.status in ENDED:
        return moment(fields.get("end_time"))
    if state.status != "died":
        return datetime.now(UTC)
    beat, entry = moment(lease_of(fields).get("beat")), found.files.get(keys.METADATA)
    if entry is None:
        return beat or state.last_seen
    last = max(file.modified for file in found.files.values())
    return last if beat is None else beat + min(last - entry.modified, _LONGEST)


def _seconds(
    fields: Mapping[str, Any], state: RunState, began: datetime | None, until: datetime | None
) -> float | None:
    """Return the duration of a run until this time."""
    recorded = number(fields.get("runtime_sec"))
    if state.status in ENDED and recorded is not None:
        return recorded
    resumes = fields.get("resumes")
    last = resumes[-1] if isinstance(resumes, list) and resumes and isinstance(resumes[-1], dict) else {}
    went_on = moment(last.get("time")) or began
    if went_on is None or until is None:
        return None
    return round(previous_runtime(fields) + max(timedelta(0), until - went_on).total_seconds(), 3)
