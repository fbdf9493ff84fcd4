"""Where the copies of runs go, and the check that two places can be copies of each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Real

from notata.errors import ConfigurationError
from notata.store import Location, Storage, Store, open_store

__all__ = ["MirrorStorage", "base_of_copies", "check_separate", "copy_of", "exit_timeout"]


@dataclass(frozen=True, repr=False)
class MirrorStorage(Storage):
    """A `Storage` for copies of runs, as the argument `mirror` takes it.

    Attributes:
        exit_timeout: Seconds that the interpreter waits for the copy at exit.

    >>> from notata import Logbook, MirrorStorage
    >>> with Logbook("copied", "memory://here", mirror=MirrorStorage("memory://there", exit_timeout=5)) as log:
    ...     log.mirror.url
    'memory://there/log_copied'
    """

    exit_timeout: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.url is None:
            raise ConfigurationError("a MirrorStorage needs a URL: the folder to which copies are written")
        seconds = self.exit_timeout
        if isinstance(seconds, bool) or not isinstance(seconds, Real) or not float(seconds) >= 0:
            raise ConfigurationError(f"invalid exit_timeout {seconds!r}: pass a number of seconds")


def exit_timeout(mirror: Location | None) -> float:
    """Return the seconds that the interpreter waits for a copy at exit."""
    return mirror.exit_timeout if isinstance(mirror, MirrorStorage) else MirrorStorage.exit_timeout


def copy_of(store: Store, mirror: Location | None, folder: str) -> Store | None:
    """Return the folder for the copy of a run, or None without a mirror. No request.

    Args:
        store: The run.
        mirror: The folder that contains the copies.
        folder: The name of the run's folder there.

    Raises:
        ConfigurationError: The run cannot be mirrored, or not there.
    """
    base = base_of_copies(store, mirror)
    if base is None:
        return None
    copy = base.below(folder)
    check_separate(store, copy)
    return copy


def base_of_copies(store: Store, mirror: Location | None) -> Store | None:
    """Return the base folder for the copies of runs at `store`, or None without a mirror. No request.

    Raises:
        ConfigurationError: Runs at `store` cannot be mirrored, or `mirror` cannot hold runs.
    """
    if mirror is None:
        return None
    if not store.is_local:
        raise ConfigurationError(
            f"mirror= copies from a local disk or from memory, and {store.url} is neither. Write there without "
            "mirror=, with background=True so that no call waits; or write to a local disk, and mirror that there.",
            url=store.url,
        )
    return open_store(mirror)


def check_separate(source: Store, target: Store) -> None:
    """Refuse two folders if they are the same, or one contains the other.

    Raises:
        ConfigurationError: One folder contains the other.
    """
    ours, theirs = (f"{_real(store.url)}/" for store in (source, target))
    if not (ours.startswith(theirs) or theirs.startswith(ours)):
        return
    if source.is_local or source.filesystem() == target.filesystem():  # else the same path on two storages
        raise ConfigurationError(f"{source.url} and {target.url} overlap: one contains the other", url=target.url)


def _real(url: str) -> str:
    return url.rstrip("/") if "://" in url else os.path.realpath(url).rstrip(os.sep).replace(os.sep, "/")
