"""Determine the state of a run from its metadata.json. Nothing is written.

A run that never ended has the status ``initialized`` forever, whether it is running or dead. Its state follows from its
last heartbeat, by the clock of the storage if possible, and on the same machine from its process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from notata._base import keys, processes
from notata._base.terminal import one_line
from notata._base.times import moment
from notata.errors import ContainerMissingError, MissingError, StorageError, TooLargeError
from notata.store import Blob, Store

__all__ = [
    "COMMAND",
    "COPIED",
    "ENDED",
    "EXIT",
    "LEASE",
    "MIRROR",
    "MISSED",
    "OWN_FIELDS",
    "PARENT",
    "PINNED",
    "RESUMES",
    "ROW",
    "SUMMARY",
    "WORKERS",
    "RunState",
    "attempt_of",
    "claimable",
    "find_metadata",
    "is_gone",
    "is_pinned",
    "lease_of",
    "may_write",
    "metadata",
    "number",
    "parsed",
    "previous_runtime",
    "read_state",
    "resumed_fields",
    "state_of",
]

ENDED: Final = ("complete", "failed")
"""Values of `status` in metadata.json for a run that has ended."""

COMMAND: Final = "command"
"""Field of metadata.json: the command that `notata run` recorded."""

EXIT: Final = "exit"
"""Field of metadata.json: how the program that `notata run` recorded ended, with its processor time and memory."""

LEASE: Final = "lease"
"""Field of metadata.json: the owner of the run, and its last heartbeat."""

MIRROR: Final = "mirror"
"""Field of metadata.json: the URL of the mirror, without credentials."""

PARENT: Final = "parent"
"""Field of metadata.json: the URL of the run that this one continues or varies, without credentials."""

RESUMES: Final = "resumes"
"""Field of metadata.json: one entry for each time that the run was resumed."""

ROW: Final = "row"
"""Field of metadata.json: the row of the run in tables, with parameters and metrics at the end of the run."""

SUMMARY: Final = "series_summary"
"""Field of metadata.json: for each series of the run, last, smallest and largest value of each column."""

WORKERS: Final = "workers"
"""Field of metadata.json: True if processes other than the owner write files of the run."""

COPIED: Final = "copied"
"""Field of metadata.json: a copy is in progress. It takes the place of the fields of the end."""

PINNED: Final = "pinned"
"""Field of metadata.json: true protects the run from removal and from replacement by another run."""

OWN_FIELDS: Final = frozenset({"run_id", "status", LEASE, MIRROR, RESUMES, ROW, SUMMARY, WORKERS})
"""Fields of metadata.json that only notata sets."""

MISSED: Final = 4
"""Number of missed heartbeats after which a run counts as dead."""

_END_FIELDS: Final = {"end_time", EXIT, "failure_reason", "failure_type", "runtime_sec", ROW}

_LONG: Final = 1e9  # seconds; no run is older

_NAME: Final = 100  # displayed characters of a host or a process number, as the file may be forged
_REASON: Final = 500  # displayed characters of a failure reason

LATE: Final = 10.0
"""Maximum seconds between the end of a run and its last line or row, as a run can store its status first."""

_TICK: Final = 1.0  # seconds; the resolution of the clocks of S3 and GCS

Status: TypeAlias = Literal["running", "complete", "failed", "replacing", "died"]


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run, as a reader sees it.

    Attributes:
        status: ``running``; ``complete``; ``failed``; ``replacing``: the run is being replaced by another run or a
            copy; ``died``: the run never ended, and its process is gone or sends no heartbeats.
        last_seen: The time of the last heartbeat. In a bucket, its age is measured by the server's clock; on a local
            disk, by the time of the file and the clock of this machine.
        why: The reason for this status, in a few words.
        certain: False if it is unknown whether the run is running; the status is then ``running``.
    """

    status: Status
    last_seen: datetime
    why: str
    certain: bool = True


def find_metadata(store: Store) -> Blob | None:
    """Return the metadata.json of the run in a store; None if there is no run. One request."""
    try:
        return store.fetch(keys.METADATA)
    except ContainerMissingError:
        raise
    except MissingError:
        return None


def claimable(store: Store) -> Blob | None:
    """Return the metadata.json of a run to be removed or replaced; of a file that is too large, only the beginning."""
    try:
        return find_metadata(store)
    except TooLargeError:
        return store.fetch(keys.METADATA, 0, 4096)


def read_state(store: Store) -> tuple[dict[str, Any], RunState]:
    """Return the metadata and state of the run in a store. Nothing is written.

    One request, and another one if the run's process is gone, see `is_gone`.

    Raises:
        MissingError: There is no metadata.json.
        StorageError: It cannot be read, or is not a JSON object.
    """
    found = store.fetch(keys.METADATA)
    fields = metadata(found, store.url, keys.METADATA)
    if is_gone(fields):
        found = store.fetch(keys.METADATA)
        fields = metadata(found, store.url, keys.METADATA)
    return fields, state_of(fields, found)


def is_pinned(fields: Mapping[str, Any]) -> bool:
    """Check whether a run is protected from removal: any value of `PINNED` but false, null, 0 and empty ones counts.

    >>> is_pinned({"pinned": True}), is_pinned({"pinned": False}), is_pinned({})
    (True, False, False)
    """
    return bool(fields.get(PINNED))


def is_gone(fields: Mapping[str, Any]) -> bool:
    """Check whether a run has not ended, but its process is gone from this machine.

    Read the metadata again before you call it dead: the process may have ended the run after they were read, and then
    have exited.
    """
    has_ended = fields.get("status") in ENDED or fields.get("status") == "replacing"
    return not has_ended and processes.alive(str(lease_of(fields).get("process", ""))) is False


def metadata(found: Blob, url: str, key: str) -> dict[str, Any]:
    """Return the fields of a metadata.json.

    Raises:
        StorageError: It is not a JSON object.
    """
    fields = parsed(found.data)
    if fields is None:
        raise StorageError(
            f"cannot read {url}/{key}: it is not a JSON object, so it is not the metadata of a run", url=url, key=key
        )
    return fields


def state_of(fields: Mapping[str, Any], found: Blob) -> RunState:
    """Return the state of a run from its metadata.json `found`."""
    lease = lease_of(fields)
    silent = min(_silence(lease, found), _LONG)
    seen = datetime.now(UTC) - timedelta(seconds=silent)
    status = fields.get("status")
    if status in ENDED:
        return RunState(status, seen, f"status in its metadata{_reason_text(fields)}")
    if status == "replacing":
        what = "a copy from another location" if COPIED in fields else "a replacement by another run"
        return RunState(status, seen, f"{what} is in progress, or was interrupted")
    return RunState(*_life(lease, silent, seen))


def may_write(fields: Mapping[str, Any], state: RunState) -> bool:
    """Check whether a run ended so short a time ago that its process may still store its last lines or rows."""
    lease = lease_of(fields)
    age = (datetime.now(UTC) - state.last_seen).total_seconds()
    return bool(lease) and age < LATE and processes.alive(str(lease.get("process", ""))) is not False


def _life(lease: Mapping[str, Any], silent: float, seen: datetime) -> tuple[Status, datetime, str, bool]:
    """Return the fields of the `RunState` of a run that has not ended."""
    who = f"process {one_line(lease.get('pid'), _NAME)} on {one_line(lease.get('host'), _NAME)}"
    alive = processes.alive(str(lease.get("process", "")))
    if alive is not None:
        now = datetime.now(UTC)
        return ("running", now, f"{who} is alive", True) if alive else ("died", seen, f"{who} is gone", True)
    heartbeat = number(lease.get("heartbeat"))
    if heartbeat is None or heartbeat <= 0:
        why = f"it sends no heartbeats, so its state is unknown from here; the last change was {silent:.0f} s ago"
        return "running", seen, why, False
    if silent > MISSED * heartbeat + _TICK:
        return "died", seen, f"no heartbeat from {who} for {silent:.0f} s; one was due every {heartbeat:g} s", True
    return "running", seen, f"last heartbeat from {who} {silent:.0f} s ago; one is due every {heartbeat:g} s", True


def _reason_text(fields: Mapping[str, Any]) -> str:
    reason = one_line(str(fields.get("failure_reason") or "").partition("\n")[0], _REASON)
    return f": {reason}" if reason else ""


def _silence(lease: Mapping[str, Any], found: Blob) -> float:
    """Return the seconds since the last heartbeat: by the clock of the storage, else by that of the owner."""
    if found.age is not None:
        return found.age
    beat = moment(lease.get("beat"), needs_zone=True)
    return 0.0 if beat is None else max(0.0, (datetime.now(UTC) - beat).total_seconds())


def number(value: object) -> float | None:
    """Return a finite number as a float, else None, as metadata.json may be forged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def resumed_fields(fresh: Mapping[str, Any], old: Mapping[str, Any], state: RunState) -> dict[str, Any]:
    """Return the metadata of a resumed run: the old fields without its end, and one more entry in `RESUMES`.

    Args:
        fresh: The fields of a new run.
        old: The previous fields.
        state: The previous state.
    """
    entry = {
        "time": fresh["start_time"],
        "after": state.status,
        "last_seen": state.last_seen.astimezone().isoformat(timespec="milliseconds"),
        "runtime_sec": _runtime_at_end(old, state),
    }
    entry |= {name: old[name] for name in ("failure_reason",) if name in old}
    kept = {name: value for name, value in old.items() if name not in _END_FIELDS}
    new = {name: value for name, value in fresh.items() if name != "start_time"}
    return {**fresh, **kept, **new, RESUMES: [*_resumes(old), entry]}


def attempt_of(fields: Mapping[str, Any]) -> int:
    """Return the number of the attempt: how often the run was resumed."""
    return len(_resumes(fields))


def previous_runtime(fields: Mapping[str, Any]) -> float:
    """Return the run time in seconds before the run was last resumed, if known, else 0."""
    resumes = _resumes(fields)
    return (number(resumes[-1].get("runtime_sec")) if resumes else None) or 0.0


def _runtime_at_end(old: Mapping[str, Any], state: RunState) -> float:
    """Return the run time in seconds: as stored at its end, else up to the last heartbeat."""
    if (known := number(old.get("runtime_sec"))) is not None:
        return known
    resumes = _resumes(old)
    started = moment(resumes[-1].get("time") if resumes else old.get("start_time"))
    if started is None:
        return 0.0
    return round(previous_runtime(old) + max(0.0, (state.last_seen - started).total_seconds()), 3)


def _resumes(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    resumes = fields.get(RESUMES)
    return [entry for entry in resumes if isinstance(entry, dict)] if isinstance(resumes, list) else []


def parsed(data: bytes) -> dict[str, Any] | None:
    """Return metadata.json as a dictionary; None if it is not one."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def lease_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the field `LEASE`; empty if there is none, as in a run of notata 0.3.0."""
    lease = fields.get(LEASE)
    return lease if isinstance(lease, dict) else {}
