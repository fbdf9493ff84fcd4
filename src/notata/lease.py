"""Who owns a run: its metadata.json, claimed once and changed only by compare and swap.

It knows the fields that say whose a run is; what else a run writes, it does not know.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from notata import formats, keys
from notata.errors import ConflictError, ExistsError, MissingError, RunDisplacedError, RunExistsError
from notata.store import Store

__all__ = ["LEASE", "Lease"]

LEASE: Final = "lease"
"""The field of metadata.json that is ours: the owner's token, without which two equal files would be one version."""


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
            wanted = {**self.fields, **fields}
            try:
                self._swap(wanted)
            except ConflictError as error:
                self._adopt(error)
                self._swap({**self.fields, **fields})

    def _adopt(self, conflict: ConflictError) -> None:
        """Take over what is there if it is this owner's: an edit by hand, or a write whose reply was lost."""
        try:
            found = self._store.fetch(keys.METADATA)
            stored = json.loads(found.data)
            mine = stored[LEASE]["owner"] == self._token
        except (MissingError, ValueError, LookupError, TypeError):
            mine = False
        if not mine:
            raise RunDisplacedError(
                f"run {self._run_id!r} at {self._store.url} belongs to another writer by now; this one cannot change "
                "its state any more",
                url=self._store.url,
                key=keys.METADATA,
            ) from conflict
        self.fields, self._version = stored, found.version

    def _create(self, fields: Mapping[str, Any]) -> None:
        document = self._signed(fields)
        self._version = self._store.create(keys.METADATA, formats.encode(formats.JSON, document))
        self.fields = document

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
