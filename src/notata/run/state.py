"""How a run stands, as its metadata.json tells whoever reads it; nothing is written here.

A run that never ended says ``initialized`` for ever, alive or dead. What tells is its last sign of life, by the
storage's own clock where that can be had, and on the same machine its process.
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
    "COPIED",
    "ENDED",
    "LEASE",
    "MIRROR",
    "MISSED",
    "RESUMES",
    "ROW",
    "WORKERS",
    "RunState",
    "claimable",
    "continued",
    "judge",
    "lease_of",
    "look",
    "metadata",
    "number",
    "parsed",
    "spent",
    "stored",
]

ENDED: Final = ("complete", "failed")
"""What the status of a run is that has ended, as metadata.json says it."""

LEASE: Final = "lease"
"""The field of metadata.json that is ours: whose the run is, and their last sign of life."""

MIRROR: Final = "mirror"
"""The field of metadata.json that tells where the run is mirrored to, without credentials."""

RESUMES: Final = "resumes"
"""The field of metadata.json that tells when, after what, and so how often a run went on."""

ROW: Final = "row"
"""The field of metadata.json that tells what a table of runs shows of this one: parameters and metrics, at its end."""

WORKERS: Final = "workers"
"""The field of metadata.json that tells that others than the owner write files of the run."""

COPIED: Final = "copied"
"""The field of metadata.json that tells of a copy which is being made, in place of what the run says of its end."""

MISSED: Final = 4
"""Heartbeats without a sign of life after which a run has died."""

_OF_THE_END: Final = {"end_time", "failure_reason", "failure_type", "runtime_sec", ROW}

_LONG: Final = 1e9  # seconds: what is older was written by no run

_NAME: Final = 100  # characters that are shown of a host or a process number: anybody may have written it
_REASON: Final = 500  # and of why a run failed

_TICK: Final = 1.0  # second: the clocks of S3 and GCS tell no less

Status: TypeAlias = Literal["running", "complete", "failed", "replacing", "died"]


@dataclass(frozen=True, slots=True)
class RunState:
    """How a run stands, as a reader sees it.

    Attributes:
        status: ``running``; ``complete``; ``failed``; ``replacing``: another run, or a copy, is being put in its place;
            ``died``: it never ended, and its process is gone or silent.
        last_seen: The last sign of life: how long ago is measured by the clock of the bucket's server; on a local disk
            by the time of the file and the clock of this machine.
        why: What that rests on, in a few words.
        certain: False where a run counts as running only because nothing tells whether it does.
    """

    status: Status
    last_seen: datetime
    why: str
    certain: bool = True


def stored(store: Store) -> Blob | None:
    """The metadata.json at a store's root; None where there is no run. One request."""
    try:
        return store.fetch(keys.METADATA)
    except ContainerMissingError:
        raise
    except MissingError:
        return None


def claimable(store: Store) -> Blob | None:
    """As `stored`, for a caller who removes or replaces the run: of a file that is too large only the beginning."""
    try:
        return stored(store)
    except TooLargeError:
        return store.fetch(keys.METADATA, 0, 4096)


def look(store: Store) -> tuple[dict[str, Any], RunState]:
    """Metadata and state of the run at a store's root. One request; nothing is written.

    Raises:
        MissingError: There is no metadata.json.
        StorageError: It cannot be read, or is no JSON object.
    """
    found = store.fetch(keys.METADATA)
    fields = metadata(found, store.url, keys.METADATA)
    return fields, judge(fields, found)


def metadata(found: Blob, url: str, key: str) -> dict[str, Any]:
    """The fields of a metadata.json that was read.

    Raises:
        StorageError: It is no JSON object.
    """
    fields = parsed(found.data)
    if fields is None:
        raise StorageError(f"{url}/{key} is not the metadata of a run: it holds no JSON object", url=url, key=key)
    return fields


def judge(fields: Mapping[str, Any], found: Blob) -> RunState:
    """How a run stands whose metadata.json was read as `found`."""
    lease = lease_of(fields)
    silent = min(_silence(lease, found), _LONG)
    seen = datetime.now(UTC) - timedelta(seconds=silent)
    status = fields.get("status")
    if status in ENDED:
        return RunState(status, seen, f"its metadata says so{_because(fields)}")
    if status == "replacing":
        what = "it is being copied from elsewhere" if COPIED in fields else "another run is being put in its place"
        return RunState(status, seen, f"{what}, or was to be")
    return RunState(*_life(lease, silent, seen))


def _life(lease: Mapping[str, Any], silent: float, seen: datetime) -> tuple[Status, datetime, str, bool]:
    """Whether a run lives that has not ended."""
    who = f"process {one_line(lease.get('pid'), _NAME)} on {one_line(lease.get('host'), _NAME)}"
    alive = processes.alive(str(lease.get("process", "")))
    if alive is not None:
        return ("running", datetime.now(UTC), f"{who} lives", True) if alive else ("died", seen, f"{who} is gone", True)
    heartbeat = number(lease.get("heartbeat"))
    if heartbeat is None or heartbeat <= 0:
        why = f"it has no heartbeat, so from here nothing tells; last change {silent:.0f} s ago"
        return "running", seen, why, False
    if silent > MISSED * heartbeat + _TICK:
        return "died", seen, f"no sign of life from {who} for {silent:.0f} s; one was due every {heartbeat:g} s", True
    return "running", seen, f"{who} gave a sign of life {silent:.0f} s ago; one is due every {heartbeat:g} s", True


def _because(fields: Mapping[str, Any]) -> str:
    reason = one_line(str(fields.get("failure_reason") or "").partition("\n")[0], _REASON)
    return f": {reason}" if reason else ""


def _silence(lease: Mapping[str, Any], found: Blob) -> float:
    """Seconds since the last sign of life: by the storage's clock, else by the owner's."""
    if found.age is not None:
        return found.age
    beat = moment(lease.get("beat"), needs_zone=True)
    return 0.0 if beat is None else max(0.0, (datetime.now(UTC) - beat).total_seconds())


def number(value: object) -> float | None:
    """A finite number, if it is one: anybody may have written it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def continued(fresh: Mapping[str, Any], old: Mapping[str, Any], state: RunState) -> dict[str, Any]:
    """The metadata of a run that goes on: what it had, without its end, and one more entry in `RESUMES`.

    Args:
        fresh: The fields that it would have if it began now.
        old: Those that it had.
        state: How it stood.
    """
    entry = {
        "time": fresh["start_time"],
        "after": state.status,
        "last_seen": state.last_seen.astimezone().isoformat(timespec="milliseconds"),
        "runtime_sec": _spent_before(old, state),
    }
    entry |= {name: old[name] for name in ("failure_reason",) if name in old}
    kept = {name: value for name, value in old.items() if name not in _OF_THE_END}
    new = {name: value for name, value in fresh.items() if name != "start_time"}
    return {**fresh, **kept, **new, RESUMES: [*_resumes(old), entry]}


def spent(fields: Mapping[str, Any]) -> float:
    """Seconds that a run took before it went on last, as far as is known."""
    resumes = _resumes(fields)
    return (number(resumes[-1].get("runtime_sec")) if resumes else None) or 0.0


def _spent_before(old: Mapping[str, Any], state: RunState) -> float:
    """Seconds that a run took by now: as it says itself, else up to its last sign of life."""
    if (known := number(old.get("runtime_sec"))) is not None:
        return known
    resumes = _resumes(old)
    begun = moment(resumes[-1].get("time") if resumes else old.get("start_time"))
    if begun is None:
        return 0.0
    return round(spent(old) + max(0.0, (state.last_seen - begun).total_seconds()), 3)


def _resumes(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    resumes = fields.get(RESUMES)
    return [entry for entry in resumes if isinstance(entry, dict)] if isinstance(resumes, list) else []


def parsed(data: bytes) -> dict[str, Any] | None:
    """metadata.json as a dictionary, if it is one."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def lease_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The field `LEASE`; empty where there is none, as in a run of notata 0.3.0."""
    lease = fields.get(LEASE)
    return lease if isinstance(lease, dict) else {}
