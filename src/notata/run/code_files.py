"""Store the code of a run in ``code/``, and keep the code of earlier attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted, size
from notata._base.processes import ForkCheck
from notata.errors import MissingError, NotataError
from notata.provenance.packages import installed_packages, packages_facts
from notata.run.state import attempt_of
from notata.store import Store

__all__ = ["CodeFiles", "changed_code"]

_FACTS: Final = {"patch": keys.PATCH, "untracked": keys.UNTRACKED, "installed": keys.PACKAGES}
_LONGEST: Final = 100  # characters of a digest or a commit of an earlier attempt


def changed_code(old: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the code of the attempt before, as far as it differs from that of this attempt.

    Args:
        old: The metadata of the attempt before.
        fresh: The metadata of this attempt.

    Returns:
        The commit, and the digests of the files, by name; and in ``files`` where these files are kept. Empty if the
        code is the same.

    >>> old = {"environment": {"git": {"commit": "3f", "patch": {"sha256": "9a"}}}}
    >>> changed_code(old, {"environment": {"git": {"commit": "3f"}}})
    {'patch': '9a', 'files': ['code/0/diff.patch']}
    """
    if "environment" not in fresh:
        return {}
    before, after = _facts(old), _facts(fresh)
    changed: dict[str, Any] = {name: value for name, value in before.items() if after.get(name) != value}
    kept = [_kept(_FACTS[name], attempt_of(old)) for name in changed if name in _FACTS]
    return {**changed, **({"files": kept} if kept else {})}


def _facts(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the commit, and the digest of each file of the code."""
    environment = _mapping(fields.get("environment"))
    git = _mapping(environment.get("git"))
    found: dict[str, Any] = {"commit": git.get("commit")}
    found |= {name: _mapping(git.get(name)).get("sha256") for name in ("patch", "untracked")}
    found["installed"] = _mapping(environment.get("installed")).get("sha256")
    return {name: value for name, value in found.items() if isinstance(value, str) and 0 < len(value) <= _LONGEST}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _kept(key: str, attempt: int) -> str:
    return f"{keys.CODE}/{attempt}/{key.rpartition('/')[2]}"


class CodeFiles:
    """The files in ``code/`` of one run. An error of the storage is a warning in the log, and the run continues.

    Args:
        store: The store of the run.
        files: The files, by key.
        info: Logs a line.
        warn: Logs a warning.
    """

    def __init__(
        self,
        store: Store,
        files: Mapping[str, bytes],
        info: Callable[..., None],
        warn: Callable[..., None],
    ) -> None:
        self._store = store
        self._files = files
        self._info, self._warn = info, warn
        self._fork = ForkCheck()
        self._started: dict[str, Future[str]] = {}

    def begin(self, changed: Mapping[str, Any], attempt: int) -> None:
        """Keep the files of the attempt before that differ, and store the new ones.

        In a bucket this does not wait for the requests, except for those of files to keep: see `settle`.

        Args:
            changed: What `changed_code` returns.
            attempt: The number of the attempt before.
        """
        unkept = {key for name, key in _FACTS.items() if name in changed and not self._keep(key, attempt)}
        for key, data in self._files.items():
            if key not in unkept:
                self._begin_write(key, data)
        if patch := self._files.get(keys.PATCH):
            self._info("The code has changes: saved in %s (%s)", keys.PATCH, size(len(patch)))

    def _keep(self, key: str, attempt: int) -> bool:
        """Move a file of the attempt before into the folder of its attempt. Return False if that fails."""
        try:
            with suppress(MissingError):
                self._store.copy(key, _kept(key, attempt))
                if key not in self._files:
                    self._store.delete([key])
        except NotataError as error:
            self._warn("%s of the previous attempt was kept, because it could not be moved: %s", key, error)
            return False
        return True

    def _begin_write(self, key: str, data: bytes) -> None:
        try:
            if self._store.is_local:
                self._store.write(key, data)
            else:
                self._started[key] = self._store.start_write(key, data)
        except NotataError as error:
            self._warn("%s was not stored: %s", key, error)

    def settle(self) -> None:
        """Wait until the files are stored. No request."""
        while self._started:
            key, future = self._started.popitem()
            if self._fork.is_forked():  # the parent stores them
                continue
            error = future.exception()
            if isinstance(error, NotataError):
                self._warn("%s was not stored: %s", key, error)

    def late_packages(self, known: object) -> Mapping[str, Any]:
        """Store the packages again if folders of packages were added, without waiting: see `settle`.

        Args:
            known: The field ``environment.installed``.

        Returns:
            The same field, if it has changed.
        """
        if keys.PACKAGES not in self._files:
            return {}
        found = installed_packages()
        if found != self._files[keys.PACKAGES]:
            self._files = {**self._files, keys.PACKAGES: found}
            self._begin_write(keys.PACKAGES, found)
        facts = packages_facts(found)
        return {} if facts == known else {"installed": facts}

    def __repr__(self) -> str:
        return f"<{counted(len(self._files), 'file')} of code>"
