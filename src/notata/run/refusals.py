"""Describe why a run cannot be claimed, resumed or changed: each error says what failed, why, and what to do."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Mapping
from typing import Any, Final

from notata._base import keys, processes
from notata._base.terminal import one_line
from notata._base.threads import NO_THREADS
from notata.errors import RunDisplacedError, RunEndedError, RunExistsError, StorageError
from notata.run.state import RunState, lease_of, read_state
from notata.store import Store

__all__ = ["Refusals", "is_written_by_ancestor"]

_GUARD_HINT: Final = (
    'If the script starts processes, put its code below `if __name__ == "__main__":`, as each child imports it again; '
    "to write from a child, use log.worker(rank)"
)


def is_written_by_ancestor(fields: Mapping[str, Any]) -> bool:
    """Check whether the owner of a run is alive and an ancestor of this process; outside Linux, only the parent."""
    lease = lease_of(fields)
    if isinstance(name := lease.get("process"), str) and name:
        return processes.is_ancestor(name)
    return lease.get("host") == platform.node() and lease.get("pid") == os.getppid()


class Refusals:
    """Returns the errors of one run.

    Args:
        store: The store of the run.
        run_id: The id of the run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run = f"run {run_id!r}"

    # -- claim ---------------------------------------------------------------------------------------------

    def exists(self) -> RunExistsError:
        """Return the error for a run id that is in use. One request."""
        status, details = self._describe_existing()
        return self._exists(
            f"cannot create {self._run}: it already exists at {self._store.url}{details}. Choose another run_id, or "
            "omit it to generate one. To resume a run that has ended or died, pass resume=True (with notata run: "
            "--resume). To remove the run and start over, pass overwrite=True.",
            status,
        )

    def written_by_ancestor(self) -> RunExistsError:
        """Return the error for a run of a parent process: `multiprocessing` imports the script again in each child."""
        return self._exists(
            f"cannot claim {self._run} at {self._store.url}: a parent of this process is writing it. {_GUARD_HINT}",
            "running",
        )

    def pinned(self, status: object) -> RunExistsError:
        """Return the error for a pinned run that another one would replace."""
        return self._exists(
            f"cannot replace {self._run} at {self._store.url}: it is pinned. Choose another run_id, or unpin the run "
            "with notata unpin URL",
            status if isinstance(status, str) else None,
        )

    def not_resumable(self, state: RunState) -> RunExistsError:
        """Return the error for a run that cannot be resumed in this state."""
        if state.status == "complete":
            what, then = "is complete", "Pass resume=True to resume it anyway."
        elif state.status == "failed":
            what, then = "has failed", "Pass resume=True to resume it."
        elif state.status == "replacing":
            what, then = "is being replaced", "Pass overwrite=True to continue the replacement."
        elif not state.certain:
            what, then = "may be running", "If you know that no process is writing it, pass resume='force'."
        else:
            what, then = "is running", "Wait for it to end, or end it."
        details = f"cannot resume {self._run} at {self._store.url}: it {what} ({state.why}). {then}"
        return self._exists(details, state.status)

    def claimed_meanwhile(self) -> RunExistsError:
        """Return the error for a run that another writer claimed at the same time."""
        return self._exists(
            f"cannot resume {self._run} at {self._store.url}: another writer has just claimed it. Wait for it to end."
        )

    def _exists(self, details: str, status: str | None = None) -> RunExistsError:
        error = RunExistsError(details, url=self._store.url, key=keys.METADATA)
        error.status = status
        return error

    def _describe_existing(self) -> tuple[str | None, str]:
        """Return the status of the existing run, and details for a message, if they can be read."""
        try:
            fields, state = read_state(self._store)
            hint = f". Its writer is a parent of this process. {_GUARD_HINT}" if is_written_by_ancestor(fields) else ""
            return state.status, f" (status {state.status}, started {one_line(fields['start_time'], 50)}){hint}"
        except Exception:
            return None, ""

    # -- change --------------------------------------------------------------------------------------------

    def displaced(self) -> RunDisplacedError:
        """Return the error for a run that belongs to another writer."""
        return self._displaced(
            f"{self._run} at {self._store.url} now belongs to another writer; this writer cannot change its state. "
            "Stop this writer"
        )

    def removed(self) -> RunDisplacedError:
        """Return the error for a run whose folder is gone."""
        return self._displaced(
            f"{self._run} at {self._store.url} is gone: its {keys.METADATA} is missing, so its folder was moved or "
            "deleted. Files saved from now on would not belong to any run; stop this writer"
        )

    def in_child(self) -> RunDisplacedError:
        """Return the error for an end in a forked child."""
        return self._displaced(
            f"cannot end {self._run} at {self._store.url} in a forked child: the parent process owns it. End it in the "
            "parent"
        )

    def _displaced(self, details: str) -> RunDisplacedError:
        return RunDisplacedError(details, url=self._store.url, key=keys.METADATA)

    def has_failed(self) -> RunEndedError:
        """Return the error for a failed run that is to become complete."""
        details = f"cannot mark {self._run} complete: it has already failed. Start a new run, or resume it"
        return RunEndedError(details, url=self._store.url, key=keys.METADATA)

    def no_heartbeat(self) -> StorageError:
        """Return the error for a heartbeat that cannot be started."""
        return StorageError(f"cannot start the heartbeat thread of {self._run}: {NO_THREADS}", url=self._store.url)

    def refused(self, tries: int, versions: Collection[str]) -> StorageError:
        """Return the error for a change that the storage refused at each attempt, although this owner owns the run.

        Args:
            tries: The number of attempts.
            versions: The versions of metadata.json that were found.
        """
        if len(versions) == 1:
            why = (
                f"the storage refuses to replace {keys.METADATA} although it is unchanged, so its conditional writes "
                "(If-Match) do not work. Run `notata doctor` on the base folder"
            )
        else:
            why = f"other processes changed {keys.METADATA} {len(versions) - 1} times. Try again"
        details = f"cannot change the state of {self._run} at {self._store.url} after {tries} attempts: {why}"
        return StorageError(details, url=self._store.url, key=keys.METADATA)
