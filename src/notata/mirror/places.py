"""Where the copies of runs go, and which places cannot be copies of each other; it copies nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from notata.errors import ConfigurationError
from notata.store import Store, open_store

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["apart", "base_of_copies"]


def base_of_copies(
    store: Store,
    mirror: str | os.PathLike[str] | UPath | Store | None,
    options: Mapping[str, Any] | None,
    timeout: float,
) -> Store | None:
    """The base folder of the copies that are to follow what is at `store`, if there are to be any. No request.

    Raises:
        ConfigurationError: `store` is no place to follow, or `mirror` cannot hold runs.
    """
    if mirror is None:
        if options is not None:
            raise ConfigurationError("mirror_options are for the storage of mirror, and that is not given")
        return None
    if not store.is_local:
        raise ConfigurationError(
            f"mirror= copies what is on a local disk or in memory, and {store.url} is neither. Write there alone, with "
            "background=True so that no call waits; or to a local disk, and have that mirrored there.",
            url=store.url,
        )
    return open_store(mirror, options, timeout=timeout)


def apart(source: Store, target: Store) -> None:
    """Refuse two folders of which one is, or lies in, the other.

    Raises:
        ConfigurationError: They are not apart.
    """
    ours, theirs = (f"{_real(store.url)}/" for store in (source, target))
    if not (ours.startswith(theirs) or theirs.startswith(ours)):
        return
    if source.is_local or source.filesystem() == target.filesystem():  # else one name in two places
        raise ConfigurationError(f"{source.url} and {target.url} are not apart: one lies in the other", url=target.url)


def _real(url: str) -> str:
    return url.rstrip("/") if "://" in url else os.path.realpath(url).rstrip(os.sep).replace(os.sep, "/")
