"""Locations of copies, and the check that two places can be copies of each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from notata.errors import ConfigurationError
from notata.store import Location, Store, open_store

__all__ = ["base_of_copies", "check_separate"]


def base_of_copies(
    store: Store,
    mirror: Location | None,
    options: Mapping[str, Any] | None,
    timeout: float,
) -> Store | None:
    """Return the base folder for the copies of runs at `store`, or None without a mirror. No request.

    Raises:
        ConfigurationError: Runs at `store` cannot be mirrored, or `mirror` cannot hold runs.
    """
    if mirror is None:
        if options is not None:
            raise ConfigurationError("mirror_options need mirror=, which is not given")
        return None
    if not store.is_local:
        raise ConfigurationError(
            f"mirror= copies from a local disk or from memory, and {store.url} is neither. Write there without "
            "mirror=, with background=True so that no call waits; or write to a local disk, and mirror that there.",
            url=store.url,
        )
    return open_store(mirror, options, timeout=timeout)


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
