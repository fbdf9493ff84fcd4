"""Who owns a run: its metadata.json, claimed once and changed only by compare and swap.

It knows the fields that say whose a run is; what else a run writes, it does not know.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from notata import formats, keys
from notata.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    ContainerMissingError,
    ExistsError,
    MissingError,
    RunDisplacedError,
    RunEndedError,
    RunExistsError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.store import Store

__all__ = ["LEASE", "Lease"]

LEASE: Final = "lease"
"""The field of metadata.json that is ours: the owner's token, without which two equal files would be one version."""


_NOT_CREATED: Final = (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    ExistsError,
    UnprotectedWarning,
    UnreachableError,
)
"""What says of a create that it had no effect; anything else leaves that open."""


class Lease:
    """One writer's hold on one run.

    Safe to use from many threads of the owner's process.

    Attributes:
        fields: What metadata.json holds, as far as this owner knows.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._token = secrets.token_hex(16)
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._version = ""
        self.fields: dict[str, Any] = {}

    def claim(self, fields: Mapping[str, Any]) -> None:
        """Take a run id that nobody has. One request on a bucket.

        Raises:
            RunExistsError: Somebody has it. On local and memory a folder with any file in it counts.
        """
        if self._store.folders and self._store.occupied():
            self._taken(None)
        try:
            self._create(fields)
        except ExistsError as error:
            self._taken(error)

    def replace(self, fields: Mapping[str, Any]) -> None:
        """Take a run id whoever has it, and remove all that its old run left.

        metadata.json is switched first, to status ``replacing``: a reader never takes the rest of the old run for
        the new one, and of several who do this at once one succeeds. 4 requests on a bucket, and the deletions.

        Raises:
            RunExistsError: Another one took it meanwhile.
        """
        replacing = {**fields, "status": "replacing"}
        try:
            try:
                self._version = self._store.fetch(keys.METADATA).version
            except MissingError:
                self._create(replacing)
            else:
                self._swap(replacing)
            self._store.clear(keep=[keys.METADATA])
            self._swap(fields)
        except (ExistsError, ConflictError) as error:
            self._taken(error)

    def update(self, **fields: Any) -> None:
        """Change fields of metadata.json. One request.

        Raises:
            RunDisplacedError: Another owner has the run by now; nothing was changed.
        """
        with self._lock:
            self._change(fields)

    def end(self, status: str, **fields: Any) -> bool:
        """Set the status with which the run ends. One request.

        Returns:
            Whether that was news; False where the run has this status already.

        Raises:
            RunEndedError: It has failed, and that stands.
            RunDisplacedError: Another owner has the run by now, or this process is not the one that claimed it.
        """
        if os.getpid() != self._pid:
            raise RunDisplacedError(
                f"run {self._run_id!r} at {self._store.url} is its parent process's; a forked child cannot end it",
                url=self._store.url,
                key=keys.METADATA,
            )
        with self._lock:
            return self._change({**fields, "status": status})

    def _change(self, fields: Mapping[str, Any]) -> bool:
        adopted = False
        while self._is_news(fields.get("status")):
            try:
                self._swap({**self.fields, **fields})
            except ConflictError as error:
                self._adopt(error)
                adopted = True
            else:
                return True
        return adopted  # an earlier try took effect after all, and only now is that known

    def _is_news(self, status: str | None) -> bool:
        stored = self.fields.get("status")
        if stored == "failed" and status == "complete":
            raise RunEndedError(
                f"run {self._run_id!r} has failed already and cannot become complete; a new run can",
                url=self._store.url,
                key=keys.METADATA,
            )
        return status is None or status != stored

    def _adopt(self, conflict: ConflictError) -> None:
        """Take over what is there if it is this owner's: an edit by hand, or a write whose reply was lost."""
        if not self._found_mine():
            raise RunDisplacedError(
                f"run {self._run_id!r} at {self._store.url} belongs to another writer by now; this one cannot change "
                "its state any more",
                url=self._store.url,
                key=keys.METADATA,
            ) from conflict

    def _found_mine(self) -> bool:
        """Read what is stored, and take it over if it bears this owner's token."""
        try:
            found = self._store.fetch(keys.METADATA)
            stored = json.loads(found.data)
            if stored[LEASE]["owner"] != self._token:
                return False
        except (MissingError, ValueError, LookupError, TypeError):
            return False
        self.fields, self._version = stored, found.version
        return True

    def _create(self, fields: Mapping[str, Any]) -> None:
        document = self._signed(fields)
        try:
            self._version = self._store.create(keys.METADATA, formats.encode(formats.JSON, document))
        except _NOT_CREATED:
            raise
        except BaseException as error:  # a deadline, an interrupt: it may have taken effect
            self._settle(error)
        else:
            self.fields = document

    def _settle(self, error: BaseException) -> None:
        """After a create of unknown effect: go on if the run is ours; if the user wants to stop, say so in it."""
        try:
            mine = self._found_mine()
        except Exception:
            mine = False
        if not mine:
            raise error
        if not isinstance(error, Exception):
            self._change({"status": "failed", "failure_reason": type(error).__name__})
            raise error

    def _swap(self, fields: Mapping[str, Any]) -> None:
        document = self._signed(fields)
        self._version = self._store.replace(
            keys.METADATA, formats.encode(formats.Json("metadata"), document), self._version
        )
        self.fields = document

    def _signed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**fields, LEASE: {"owner": self._token}}

    def _taken(self, cause: Exception | None) -> NoReturn:
        raise RunExistsError(
            f"run {self._run_id!r} exists already at {self._store.url}{self._state()}. Choose another run_id, leave it "
            "out to have one made, or pass overwrite=True to remove that run and start over.",
            url=self._store.url,
            key=keys.METADATA,
        ) from cause

    def _state(self) -> str:
        """What the present run says of itself, as far as it can be read."""
        try:
            stored = json.loads(self._store.read(keys.METADATA))
            return f" (status {stored['status']}, started {stored['start_time']})"
        except Exception:
            return ""
