"""The memory of a watch: which states were reported already, in a small local file that one process uses at a time."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from notata.errors import ConfigurationError, DecodeError

if sys.platform != "win32":
    import fcntl

__all__ = ["AlertState", "default_folder"]

_MARK: Final = "notata_watch"
_VERSION: Final = 1
_OTHERS: Final = 10_000  # remembered runs that the last pass did not find in a watched state
_LONGEST: Final = 256 * 2**20  # bytes


def default_folder() -> Path:
    """Return the folder for such files: ``$XDG_STATE_HOME/notata``, or the place that this system has for it."""
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "notata"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "notata"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "notata"
    return Path.home() / ".local" / "state" / "notata"


class AlertState:
    """The states of runs that need no alert any more, in a JSON file.

    The file is replaced as a whole. It holds the runs that are in a watched state, and 10,000 others at most.

    Attributes:
        places: The places that were looked at before; at others, the present states are no news.
        runs: The state of each run that was reported, by URL.
        failed: The URLs of runs of which notifications failed, the last one at the end: others come first.

    Args:
        path: The file. A lock file ``<path>.lock`` lies beside it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     state = AlertState(Path(folder) / "watch.json")
    ...     with state.locked() as is_mine:
    ...         state.runs["memory://a/log_a"] = "failed"
    ...         state.store(["memory://a/log_a"])
    ...     AlertState(Path(folder) / "watch.json").load().runs
    {'memory://a/log_a': 'failed'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: set[str] = set()
        self.runs: dict[str, str] = {}
        self.failed: list[str] = []
        self._stored = b""

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock of the file; yield False if another process holds it. The system frees it when a process dies.

        Raises:
            ConfigurationError: The file cannot be used.
        """
        handle = self._opened()
        try:
            yield self._lock(handle)
        finally:
            os.close(handle)

    def _opened(self) -> int:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error

    def _lock(self, handle: int) -> bool:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                return False
            raise self._unusable(error) from error
        return True

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"cannot use the state file {self.path}: {error.strerror}. Pass another one with --state FILE"
        )

    def load(self) -> AlertState:
        """Read the file; a missing one is empty.

        Raises:
            DecodeError: The file is damaged.
            ConfigurationError: The file cannot be used.
        """
        self.places, self.runs, self.failed = set(), {}, []
        try:
            with open(self.path, "rb", opener=_without_waiting) as file:
                self._stored = file.read(_LONGEST + 1)
        except FileNotFoundError:
            self._stored = b""
            return self
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fields = json.loads(self._stored)
            if len(self._stored) > _LONGEST or fields[_MARK] != _VERSION:
                raise ValueError("it has a different format")
            self.places = {place for place in fields["places"] if isinstance(place, str)}
            self.failed = [url for url in fields["failed"] if isinstance(url, str)]
            self.runs = {url: state for url, state in fields["runs"].items() if isinstance(state, str)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DecodeError(
                f"the state file {self.path} was not written by this command, or is damaged. Remove it to start "
                "again, or pass another one with --state FILE"
            ) from error
        return self

    def store(self, current: Collection[str]) -> None:
        """Replace the file, if anything has changed.

        Args:
            current: The URLs of the runs that are in a watched state now.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        now = set(current)
        others = [url for url in self.runs if url not in now][-_OTHERS:]
        kept = {url: self.runs[url] for url in (*others, *(url for url in self.runs if url in now))}
        fields: dict[str, Any] = {_MARK: _VERSION, "places": sorted(self.places), "failed": self.failed, "runs": kept}
        data = json.dumps(fields, indent=0).encode()
        if data == self._stored:
            return
        try:
            self._replace(data)
        except OSError as error:
            raise self._unusable(error) from error
        self._stored, self.runs = data, kept

    def _replace(self, data: bytes) -> None:
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # only its user may read it
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer is empty."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
