"""The earlier attempts of a run, from its metadata.json: how often it failed since a job began."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from notata._base import times
from notata.errors import ExistsError, NotataError
from notata.run.state import RESUMES
from notata.store import Store

__all__ = ["Attempts", "attempts_since", "is_interrupt", "job_began"]

_INTERRUPTS: Final = ("SIGTERM", "KeyboardInterrupt")  # reasons of a run that a signal ended
_SIZE: Final = 4096  # bytes of the file of a job; another program may have left any file there


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of one run since some time.

    Attributes:
        failed: How many ended with an exception of the task.
        died: How many ended because the process was killed.
        is_new: Whether the run was created since then.
    """

    failed: int
    died: int
    is_new: bool


def attempts_since(fields: Mapping[str, Any], since: datetime) -> Attempts:
    """Return the attempts of a run since some time. A running attempt counts as neither failed nor died.

    An attempt that a signal ended counts as neither: a job that is cancelled or moved says nothing about the task.

    Args:
        fields: The content of its metadata.json.
        since: The time.
    """
    resumes = fields.get(RESUMES)
    entries = [entry for entry in resumes if isinstance(entry, dict)] if isinstance(resumes, list) else []
    starts = [fields.get("start_time"), *(entry.get("time") for entry in entries)]
    ends = [(entry.get("after"), entry.get("failure_reason")) for entry in entries]
    ends.append((fields.get("status"), fields.get("failure_reason")))
    failed = died = 0
    for start, (status, reason) in zip(starts, ends, strict=True):
        if _is_since(start, since):
            failed += status == "failed" and not is_interrupt(reason)
            died += status == "died"
    return Attempts(failed, died, _is_since(starts[0], since))


def is_interrupt(reason: object) -> bool:
    """Check whether this is the failure reason of a run that a signal ended."""
    return reason in _INTERRUPTS


def _is_since(start: object, since: datetime) -> bool:
    moment = times.moment(start)
    return moment is not None and moment >= since


def job_began(store: Store, job: str | None) -> datetime:
    """Return when the first process of a job began to work on an experiment; without a job, now.

    The first process creates the file ``sweeps/<job>.json``. One or two requests.

    Args:
        store: The store of the experiment.
        job: The name of the job.
    """
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # as exact as the times of a run
    if job is None:
        return now
    key = f"sweeps/{job}.json"
    try:
        store.create(key, json.dumps({"began": now.isoformat(timespec="milliseconds")}).encode())
        return now
    except ExistsError:
        pass
    except NotataError:  # a storage without exclusive creation
        return now
    try:
        found = json.loads(store.read(key, 0, _SIZE))
        return times.moment(found.get("began") if isinstance(found, dict) else None, needs_zone=True) or now
    except (NotataError, ValueError, RecursionError):
        return now
