"""Reading of runs, many at once: status, times, and if requested parameters and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from notata._base import keys
from notata._base.times import moment
from notata.errors import MissingError, NotataError
from notata.run.state import ENDED, RunState, is_gone, is_pinned, lease_of, number, parsed, previous_runtime, state_of
from notata.search.finding import look_up
from notata.search.places import Place, Run
from notata.search.target import Failed, Target, raise_error
from notata.store import Blob, Entry, Store
from notata.store.gaps import ignore
from notata.store.in_flight import InFlight, started_in_thread
from notata.table import Row, rows_of

__all__ = ["NO_METADATA", "listed_now", "listed_runs", "look_up_and_read", "read_at", "records"]

NO_METADATA: Final = f"it has no {keys.METADATA}"
"""Why a run is unreadable if it is not there, or has lost its metadata.json."""

_METADATA_SIZE = 4096  # estimated bytes, to limit reads in flight
_LISTING_SIZE = 10_000  # estimated bytes of the listing of one run
_LONGEST = timedelta(days=365_000)  # maximum accepted time between two changes of a run, against wrong storage times


def records(
    place: Place, *, values: bool = False, failed: Failed | None = None, read: Mapping[str, Blob] | None = None
) -> Iterator[Run]:
    """Yield the runs of a place with their status, sorted by folder.

    Args:
        place: The place.
        values: Include parameters and metrics: up to two more reads for each run that has not ended, whose files have
            changed since, or that an earlier version of notata wrote.
        failed: Called with the error of each file that the storage refused. The run is yielded without its content.
        read: The metadata.json of runs that are already read, by folder.

    Cost: one read a run, 32 at once, and another one if its process is gone. No listing, because that of the place has
    the sizes.

    >>> from notata import Logbook
    >>> from notata.search.finding import look_up
    >>> with Logbook("a", "memory://records", params={"dt": 0.1}) as log:
    ...     path = log.json("metrics", {"error": 0.01})
    >>> run = next(records(look_up(Target("memory://records")), values=True))
    >>> run.status, run.files, run.params, run.metrics
    ('complete', 5, {'dt': 0.1}, {'error': 0.01})
    """
    blobs = {folder: blob for folder, blob in (read or {}).items() if folder in place.runs}
    flying = InFlight[str, Blob]()
    with flying.until_landed():
        for folder, run in place.runs.items():
            if folder not in blobs:
                entry = run.entries.get(keys.METADATA)
                flying.begin(folder, entry.size if entry else _METADATA_SIZE, run.store.start_fetch, keys.METADATA)
    blobs |= flying.results
    _report(flying.errors, failed)
    found = {
        folder: _summarized(run, blobs.get(folder), flying.errors.get(folder)) for folder, run in place.runs.items()
    }
    gone = [folder for folder, run in found.items() if run.status == "died" and is_gone(run.metadata)]
    names = {keys.join(folder, keys.METADATA): folder for folder in gone}
    for key, blob in read_at(place.store, names, failed).items():
        folder = names[key]
        blobs[folder], found[folder] = blob, _summarized(place.runs[folder], blob, None)
    rows: dict[str, Row] = {}
    if values:  # those of an unreadable run are unknown, so that a filter does not remove it
        runs = {folder: (folder, run.entries) for folder, run in found.items() if run.status != "unreadable"}
        blobs = {folder: blobs[folder] for folder in runs}
        partial = {folder for folder in runs if not place.is_whole(folder)}
        rows = rows_of(place.store, runs, blobs, lambda names: read_at(place.store, names, failed), partial=partial)
    for folder, run in found.items():
        yield _with_values(run, rows[folder]) if folder in rows else run


def look_up_and_read(
    target: Target,
    *,
    failed: Failed = raise_error,
    trusts_index: bool = False,
    indexed: bool = True,
    outlined: bool = False,
) -> tuple[Place, dict[str, Blob]]:
    """Look up a target, and return the metadata.json of those runs that were found during the listing, by folder.

    In a bucket the reads overlap with the listing, as most of the time of both is waiting.

    Args:
        target: The target.
        failed: As in `look_up`.
        trusts_index: As in `look_up`.
        indexed: Also read runs whose row an index may have.
        outlined: As in `look_up`.
    """
    flying = InFlight[str, Blob]()

    def met(store: Store, folder: str, entry: Entry, is_indexed: bool) -> None:
        if not store.is_local and (indexed or not is_indexed):
            flying.begin(folder, entry.size, store.start_fetch, entry.key)

    with flying.until_landed():
        place = look_up(target, met=met, failed=failed, by_id=True, trusts_index=trusts_index, outlined=outlined)
    return place, flying.results


def listed_runs(runs: Sequence[Run], failed: Failed | None = None) -> Iterator[Run]:
    """Yield runs that come from an index with their files and metadata, and with the parameters and metrics they have.

    Args:
        runs: The runs, of one place or several.
        failed: Called with the error of each file that the storage refused.

    Cost: one listing and one read for each, 32 at once.
    """
    flying = InFlight[str, Run]()
    with flying.until_landed():
        for run in runs:
            flying.begin(run.url, _LISTING_SIZE, started_in_thread, listed_now, run)
    _report(flying.errors, failed)
    found = {url: run for url, run in flying.results.items() if run.entries}  # the others were removed meanwhile
    read = {}
    if found:
        place = Place("", "", next(iter(found.values())).store, {}, found)
        read = {run.url: run for run in records(place, failed=failed)}
    for run in runs:
        now = read.get(run.url)
        if now is not None:
            now = replace(now, params=run.params, metrics=run.metrics, metrics_error=run.metrics_error)
        yield now or run


def listed_now(run: Run) -> Run:
    """Return a run with its files as a listing of its folder shows them now, and nothing else. One listing."""
    entries = {entry.key: entry for entry in run.store.scan(skipped=ignore)}
    left = {} if run.is_indexed else run.unfinished_entries
    return Run.listed(run.name, run.store, run.folder, entries, left)


def read_at(store: Store, names: Iterable[str], failed: Failed | None = None) -> dict[str, Blob]:
    """Return many files of one place; errors are passed to `failed`, and their files omitted. 32 reads at once."""
    flying = InFlight[str, Blob]()
    with flying.until_landed():
        for name in names:
            flying.begin(name, _METADATA_SIZE, store.start_fetch, name)
    _report(flying.errors, failed)
    return flying.results


def _report(errors: Mapping[str, Exception], failed: Failed | None) -> None:
    """Report what the storage refused; a missing file is not an error."""
    for error in errors.values():
        if failed is not None and isinstance(error, NotataError) and not isinstance(error, MissingError):
            failed(error)


def _summarized(run: Run, blob: Blob | None, error: Exception | None) -> Run:
    """Return a run with the facts from its metadata.json."""
    fields = parsed(blob.data) if blob is not None else None
    if fields is None or blob is None:
        why = _unreadable(error)
        return replace(run, status="unreadable", why=why, failure_reason=why)
    state = state_of(fields, blob)
    began = moment(fields.get("start_time"))
    return replace(
        run,
        status=state.status,
        certain=state.certain,
        why=state.why,
        started=began,
        ended=moment(fields.get("end_time")) if state.status in ENDED else None,
        seconds=_seconds(fields, state, began, _until(run, fields, state)),
        failure_reason=_failure(fields, state),
        pinned=is_pinned(fields),
        metadata=fields,
    )


def _with_values(run: Run, row: Row) -> Run:
    """Return a run with the parameters and metrics of its row in a table."""
    return replace(run, params=row.params, metrics=row.metrics, metrics_error=row.metrics_error)


def _unreadable(error: Exception | None) -> str:
    if error is None:
        return f"{keys.METADATA} is not a JSON object"
    if isinstance(error, MissingError):
        return NO_METADATA
    return str(error) if isinstance(error, NotataError) else f"{keys.METADATA} cannot be read"


def _failure(fields: Mapping[str, Any], state: RunState) -> str:
    if state.status == "failed":
        return str(fields.get("failure_reason") or "")
    return state.why if state.status == "died" else ""


def _until(run: Run, fields: Mapping[str, Any], state: RunState) -> datetime | None:
    """Return the end of its duration: when it ended; if it died, its last sign of life; else now.

    The last sign of life is the stored heartbeat, by the clock of the writer, or a later file. How much later comes
    from the listing, whose times are all by one clock. The age that decides whether a run is dead is not used here: it
    is measured at each read, so that two calls would return different durations.
    """
    if state.status in ENDED:
        return moment(fields.get("end_time"))
    if state.status != "died":
        return datetime.now(UTC)
    beat, entry = moment(lease_of(fields).get("beat")), run.entries.get(keys.METADATA)
    if entry is None:
        return beat or state.last_seen
    last = max(file.modified for file in run.entries.values())
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
