"""Where something is stored and how it is reached, as one value: `Storage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

from notata._base.secrets import shown_url
from notata.errors import ConfigurationError

if TYPE_CHECKING:
    import os

    from upath import UPath

    from notata.store.backend import Backend
    from notata.store.store import Store

__all__ = ["TIMEOUT", "Storage"]

TIMEOUT: Final = 30.0
"""Seconds that one request may take, plus the time for its size."""


@dataclass(frozen=True, repr=False)
class Storage:
    """A location with all that is needed to reach it. Functions accept it in place of a URL.

    Making one makes no request.

    Attributes:
        url: Any fsspec URL, local path or `upath.UPath`. The default is the environment variable NOTATA_BASE_DIR, else
            ``outputs``.
        options: The options of the fsspec file system (`storage_options` elsewhere), such as ``key``, ``secret`` and
            ``endpoint_url`` for S3. They never appear in a file, message or repr.
        timeout: Seconds that one request may take, and 1 second more for each 50 kB that it sends. While the response
            keeps coming, it may take longer: the time starts again with each piece. A storage that has never responded
            gets at most 10 seconds.
        durable: Make written data survive a power failure, not only the end of the process. On a local disk, notata
            calls fsync for each file and each log line before the call returns. A bucket is durable without it.
        progress: Show a progress bar in the terminal when more than 8 MiB are written or read.

    Raises:
        ConfigurationError: A value has the wrong type.

    >>> from notata import Logbook, Storage
    >>> with Logbook("patient", Storage("memory://outputs", timeout=60)) as log:
    ...     log.url
    'memory://outputs/log_patient'
    """

    url: str | os.PathLike[str] | UPath | Store | Backend | None = None
    options: Mapping[str, Any] | None = field(default=None, hash=False)
    timeout: float = TIMEOUT
    durable: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        check_seconds("timeout", self.timeout)
        if self.options is not None and not isinstance(self.options, Mapping):
            raise ConfigurationError(
                f"storage_options must be a dictionary of options for fsspec, not {type(self.options).__name__}"
            )
        for name in ("durable", "progress"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"invalid {name} {getattr(self, name)!r}: pass True or False")

    def __repr__(self) -> str:
        others = [f"{one.name}={getattr(self, one.name)!r}" for one in fields(self)[2:]]
        return f"{type(self).__name__}({', '.join([repr(self._shown()), *others])})"

    def _shown(self) -> str | None:
        """Return the URL without credentials."""
        url = self.url if self.url is None else getattr(self.url, "url", None) or str(self.url)
        return shown_url(url) if url is not None and "://" in url else url

    def _notata_for_file(self) -> tuple[Any, ...]:
        """Return how `notata.formats` stores it in a file: without storage options."""
        return type(self), (self._shown(),)


def check_seconds(name: str, value: object) -> None:
    """Raise an error if `value` is not a positive number of seconds.

    Raises:
        ConfigurationError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}")
