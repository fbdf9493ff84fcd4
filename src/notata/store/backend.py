"""The interface of a storage: `Backend`, the verbs that `notata.store.Store` needs of it.

A backend stores bytes under keys. It raises the errors of its own library, which `failure` explains; everything else
(legal keys, file objects, batches, our errors) is in `Store` and the same for all.

To add a backend: derive a class from `Backend`, implement the ten abstract methods, with `put` exclusive and atomic for
``match=ABSENT`` and for a version, name it in ``store/__init__.py``, and add a fixture to ``tests/contract``. The suite
checks the rest, and ``docs/explanation/architecture.md`` has a recipe. The other methods have defaults, for storage
without folders, links and permissions.
"""

from __future__ import annotations

import builtins
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self

from notata._base.secrets import redacted, without_secrets
from notata.errors import ConflictError, NotataError
from notata.store.appending import Tail
from notata.store.builtin_errors import failure_of_builtin
from notata.store.entries import Blob, Entry
from notata.store.gaps import Gap, folder_or_gap
from notata.store.in_flight import BYTES_AT_ONCE, started_in_thread

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.files import Upload
    from notata.store.outlines import Outline
    from notata.store.store import Store

__all__ = ["ABSENT", "Backend", "Staging"]

ABSENT: Final = ""
"""Version to match when no file may exist under the key."""


class Staging(Protocol):
    """A file on a local disk beside its target, which another program writes before it is published.

    Attributes:
        path: Where to write it; it does not exist yet.
    """

    path: Path

    def publish(self) -> None:
        """Rename the file to its target."""

    def close(self) -> None:
        """Remove what was not published."""


class Backend(ABC):
    """Files under one root URL, in one kind of storage.

    Safe to use from many threads. A forked child opens its own connections.

    Attributes:
        url: The root, without credentials.
        folders: Whether it has real folders, so that ``a`` and ``a/b`` cannot both be files.
        is_local: Whether the files are on this machine, on a disk or in memory. A write then costs no round trip, so
            callers need not collect small ones.
        shared: Whether other processes can see the stored files.
        sized: Whether it knows a file's size and can read a range of it.
        leaves_unfinished: Whether a writer that is killed may leave a hidden file behind.
        queues: Whether a write may wait for other writes, so that the storage's own thread must not start one.
        supports_exclusive_create: Whether a put with `ABSENT` is atomic against all other writers.
        supports_cas: Whether a put with a version is an atomic compare-and-swap.
        gap: Description of what readers see while a file is replaced; empty if they see the old or the new file.
        appends_pieces: Whether an append to a file of 8 MiB or more takes its data by slices, so that these may be read
            from a disk.
        bytes_at_once: Number of bytes of one large file that may be in flight while it is written.
        version_name: The name of a file's version in a manifest; empty if manifests store no versions.
    """

    folders: bool = False
    is_local: bool = False
    shared: bool = True
    sized: bool = True
    leaves_unfinished: bool = False
    queues: bool = False
    appends_pieces: bool = False
    bytes_at_once: int = BYTES_AT_ONCE
    version_name: str = ""

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _notata_for_file(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} has storage options, which must not be stored in a file; keep its url")

    @property
    def supports_exclusive_create(self) -> bool:
        return True

    @property
    def supports_cas(self) -> bool:
        return True

    @property
    def gap(self) -> str:
        return ""

    # -- the ten verbs -------------------------------------------------------------------------------------

    @abstractmethod
    def put(self, key: str, data: bytes, match: str | None) -> str:
        """Store at most 8 MiB in one atomic request, with `match` only over that version. Return the new version."""

    @abstractmethod
    def begin_upload(self, key: str, match: str | None) -> Upload:
        """Start a streamed write; `match` is None or `ABSENT`."""

    @abstractmethod
    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        """Extend the file; raise a `ConflictError` if it does not match `tail`.

        Other fields of `tail` may save a lookup. Return the tail after the append, with the content if the next append
        needs it.
        """

    @abstractmethod
    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        """Read a range in one request; with `version`, only of that version.

        Without `end`, read to the end of the file, at most `limit` bytes: a larger file is a `TooLargeError`, and is
        not read into memory.
        """

    @abstractmethod
    def stat(self, key: str) -> Entry:
        """Look one file up."""

    @abstractmethod
    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        """Yield every file below `folder`, also reserved and unfinished ones, in any order, never from a cache.

        With `beginning`, only those whose names below `folder` begin with it. A folder that cannot be opened is a
        `Gap`, and so is a file whose name cannot be a key.
        """

    @abstractmethod
    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        """Remove files by exact name, those with a version only if it matches. Return the failures by name.

        A missing file, or one with another version by now, is no failure.
        """

    @abstractmethod
    def path(self, key: str, store: Store) -> UPath:
        """Return the path object of a key, or of the root for an empty key; its own reads and writes use `store`."""

    @abstractmethod
    def filesystem(self) -> AbstractFileSystem:
        """Return the underlying fsspec file system, connected in this process. It lacks the guarantees of a store."""

    @abstractmethod
    def enter(self, folder: str) -> None:
        """Move the root of this copy one folder down; `below` sets the URL."""

    # -- variants, which share the connection --------------------------------------------------------------

    def below(self, folder: str) -> Self:
        """Return the backend of a folder. No request."""
        other = copy.copy(self)
        other.url = self.shown(folder)
        other.enter(folder)
        return other

    def sparing(self, bytes_at_once: int) -> Self:
        """Return this backend with fewer bytes of one large file in flight: slower, but with less memory."""
        other = copy.copy(self)
        other.bytes_at_once = bytes_at_once
        return other

    def durably(self) -> Self:
        """Return this backend with durable writes; itself, if its writes are durable or can never be."""
        return self

    def following_links(self) -> Self:
        """Return this backend, with links to files read and listed as the files that they lead to."""
        return self

    def strictly(self) -> Self:
        """Return this backend, with every operation refused if its root is a link."""
        return self

    def serving_pages(self) -> Self:
        """Return this backend, with HTML files written as pages that browsers show, if the storage keeps such types."""
        return self

    # -- copies that the storage makes itself --------------------------------------------------------------

    def copies_from(self, source: Backend) -> bool:
        """Check whether the storage can copy files of another backend to this one itself. Tested once a process."""
        return False

    def copy_on_server(self, key: str, source: Backend, entry: Entry, match: str | None) -> str | None:
        """Let the storage copy one version of a file of `source`; `match` as in `put`. Return the new version.

        Return None if it cannot copy this file, or not with the condition.
        """
        return None

    # -- requests that need no thread to wait for them -----------------------------------------------------

    def start_put(self, key: str, data: bytes) -> Future[str]:
        """Start a `put` that replaces any version. The callbacks of the future must not wait for the storage."""
        return started_in_thread(self.put, key, data, None)

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        """Start a `get`."""
        return started_in_thread(self.get, key, start, end, version, limit)

    def prepare(self) -> None:
        """Start what the first request needs and what cannot start once the interpreter is ending. No request."""

    def arrive(self, key: str) -> None:
        """Wait for the pending writes to a key and to all keys below it."""

    def many_writes(self) -> AbstractContextManager[object]:
        """Return a context for many writes, of which none fails for the loss of an earlier one."""
        return nullcontext()

    # -- files ---------------------------------------------------------------------------------------------

    def open_read(self, key: str, *, once: bool = False) -> IO[bytes] | None:
        """Open a file to read it; None if `get` should read it in ranges.

        Args:
            key: The file.
            once: The caller reads it once, from start to end.
        """
        return None

    def stage(self, key: str) -> Staging | None:
        """Return a place on the disk of the target for a file that another program writes; None without a disk."""
        return None

    # -- folders, links and permissions --------------------------------------------------------------------

    def has_folder(self, key: str) -> bool:
        """Check whether a folder of this name exists; in a bucket, whether a file lies below it. One request."""
        return next(iter(self.list(key)), None) is not None

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        """Yield the name of each folder directly in `folder`, in any order, never from a cache; see `list`.

        By default this lists all files below `folder`.
        """
        seen, start = set(), len(folder) + 1 if folder else 0
        for found in self.list(folder, beginning):
            name, slash, _ = found.key[start:].partition("/")
            if slash and name not in seen:
                seen.add(name)
                yield folder_or_gap(folder, name)

    def list_outlined(self, folder: str, beginning: str, outline: Outline) -> Iterator[Entry | Gap]:
        """List as `list` does; a storage where outlines are cheaper leaves out the folders that it outlines."""
        return self.list(folder, beginning)

    def make_folder(self, key: str) -> bool:
        """Create a folder, or the root, with its parents. Return True if it is known to be new."""
        return False

    def make_folders(self, names: Sequence[str]) -> None:
        """Create several folders below the root."""
        for name in names:
            self.make_folder(name)

    def make_parents(self, key: str) -> None:
        """Create the parent folders of a key, if other programs need them."""

    def remove_empty_folders(self) -> None:
        """Remove the empty folders at and below the root."""

    def folds_names(self, *, may_write: bool = True) -> bool:
        """Check whether names that differ only in case are the same file; see `Store.folds_names`."""
        return False

    def irregular(self) -> builtins.list[str]:
        """Return the names of links, pipes and other special files below the root, which `list` leaves out."""
        return []

    def links(self) -> builtins.list[str]:
        """Return the keys of the links below the root. `delete` removes a link, never its target."""
        return []

    def permissions(self, key: str) -> int | None:
        """Return the permission bits of a file, or None if the storage has none."""
        return None

    def limit_permissions(self, key: str, mode: int | None) -> None:
        """Restrict the permissions of the next file stored under `key` to those in `mode`; None: do not restrict."""

    # -- errors --------------------------------------------------------------------------------------------

    def failure(self, error: Exception) -> tuple[type[NotataError], str]:
        """Return the class of our error for `error`, and a hint for the user. Backends check their own types first."""
        return failure_of_builtin(error, self.redacted(str(error) or type(error).__name__))

    def cause(self, error: Exception) -> Exception | None:
        """Return the cause for an error of ours: the backend's error, without secrets in its text."""
        return without_secrets(error)

    def redacted(self, text: str) -> str:
        """Return `text` with secrets redacted: storage options, credentials, and what looks like one."""
        return redacted(text, self.url)

    def conflict(self, key: str, why: str) -> ConflictError:
        """Return the error for a file that is not as its writer or reader expected."""
        return ConflictError(f"{self.shown(key)}: {why}; nothing was written", url=self.url, key=key)

    def shown(self, key: str | None) -> str:
        """Return the URL of a key, without credentials."""
        if not key:
            return self.url
        return f"{self.url}{key}" if self.url.endswith("://") else f"{self.url.rstrip('/')}/{key}"
