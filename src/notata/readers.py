"""Runs that were written, or are being written: how they stand. It never writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from notata import keys
from notata.errors import MissingError
from notata.state import RunState, look
from notata.store import TIMEOUT, Store, open_store

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["LogReader"]


class LogReader:
    """A run as those see it who do not write it.

    Reading changes nothing, and what is told is what is stored at that moment: a run that is being written can be
    watched. One request for each look, and one to begin with.

    Attributes:
        run_id: As it was given.
        url: Where the run lies, without credentials.
        path: The run's folder.

    Args:
        path: The folder of a run, ``log_<run_id>``: any fsspec URL, local path or UPath.
        storage_options: For fsspec. They reach no file, no message and no repr.
        timeout: As for `Logbook`.

    Raises:
        MissingError: There is no run. It is a `FileNotFoundError`.
        StorageError: It cannot be read.

    >>> from notata import Logbook
    >>> with Logbook("seen", "memory://reading") as run:
    ...     LogReader("memory://reading/log_seen").state.status
    'running'
    >>> LogReader("memory://reading/log_seen").state.status
    'complete'
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | UPath | Store,
        *,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._store = open_store(path, storage_options, timeout=timeout)
        try:
            look(self._store)
        except MissingError as error:
            raise MissingError(
                f"there is no run at {self.url}: it has no {keys.METADATA}. A run's folder is called log_<run_id>",
                url=self.url,
                key=keys.METADATA,
            ) from error

    def __repr__(self) -> str:
        return f"LogReader({self.url!r})"

    @property
    def run_id(self) -> str:
        """The id of the run, from the name of its folder."""
        return self.url.rstrip("/").rpartition("/")[2].removeprefix("log_")

    @property
    def url(self) -> str:
        """Where the run lies, without credentials."""
        return self._store.url

    @property
    def path(self) -> UPath:
        """The run's folder."""
        return self._store.place()

    @property
    def meta(self) -> dict[str, Any]:
        """metadata.json. One request.

        >>> run = Logbook("meta", "memory://reading")
        >>> LogReader("memory://reading/log_meta").meta["status"]
        'initialized'
        """
        return look(self._store)[0]

    @property
    def state(self) -> RunState:
        """How the run stands: ``running``, ``complete``, ``failed``, ``replacing`` or ``died``. One request.

        A run has died that never ended and whose process is gone (seen from the same machine), or that missed four
        heartbeats (from anywhere, by the storage's clock).

        >>> run = Logbook("state", "memory://reading")
        >>> state = LogReader("memory://reading/log_state").state
        >>> state.status, state.certain
        ('running', True)
        """
        return look(self._store)[1]
