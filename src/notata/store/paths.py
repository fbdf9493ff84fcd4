"""Path objects whose own reads and writes have the guarantees of their store.

`RunPath` is a `upath.UPath` over a store, for memory and buckets. A local disk has its own class, a real `pathlib.Path`
(``local_paths.py``). Methods that are not overridden here are universal_pathlib's.
"""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, cast

from fsspec.utils import glob_translate
from upath import UPath
from upath.extensions import ProxyUPath

from notata._base import keys
from notata.errors import ConfigurationError, ExistsError

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Buffer
    from upath.types import StatResultType

    from notata.store.store import Store

__all__ = ["RunPath", "TextAndBytes"]


class TextAndBytes:
    """Reads and writes of a whole file, through the `open` method of the class that mixes this in."""

    __slots__ = ()

    if TYPE_CHECKING:

        def open(
            self, mode: str = ..., *, encoding: str | None = ..., errors: str | None = ..., newline: str | None = ...
        ) -> IO[Any]: ...

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """Return the text. The default encoding is UTF-8 in every locale."""
        with self.open("r", encoding=encoding, errors=errors, newline=newline) as file:
            return str(file.read())

    def write_bytes(self, data: Buffer) -> int:
        """Write atomically, and return the number of bytes. One request to a bucket up to 8 MiB."""
        with self.open("wb") as file:
            return int(file.write(data))

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Write atomically, by default as UTF-8, and return the number of characters."""
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        with self.open("w", encoding=encoding, errors=errors, newline=newline) as file:
            return int(file.write(data))


class RunPath(TextAndBytes, ProxyUPath):
    """A path in memory or in a bucket. Its own reads are never cached; its writes and deletions are exact and atomic.

    The operating system has no file of this name. For `np.save` and other functions that need one, use `Logbook.open`
    or `Logbook.local`. A path derived from it by ``/``, ``parent`` or ``iterdir`` keeps these guarantees as long as it
    stays below the store's root; outside, it is a plain `UPath`.
    """

    __slots__ = ("_made", "_store", "_where")

    _store: Store
    _where: tuple[str, Mapping[str, Any], str]
    _made: tuple[UPath, str] | None

    @classmethod
    def of(cls, store: Store, url: str, options: Mapping[str, Any], key: str) -> UPath:
        """Return the path object of `key` in `store`, whose root is `url` for universal_pathlib.

        The underlying `UPath` is made only when needed, as that takes as long as writing a small file.
        """
        return cast("UPath", cls._bound(store, (url, options, key), None))  # a UPath by registration

    @classmethod
    def _bound(cls, store: Store, where: tuple[str, Mapping[str, Any], str], made: tuple[UPath, str] | None) -> Self:
        self = object.__new__(cls)
        self._store = store
        self._where = where
        self._made = made
        return self

    def _stock(self) -> tuple[UPath, str]:
        """Return the underlying `UPath`, and the path of the store's root."""
        if self._made is None:
            url, options, key = self._where
            root = UPath(url, **options)
            self._made = root / key if key else root, root.path.rstrip("/")
        return self._made

    @property
    def _upath(self) -> UPath:
        return self._stock()[0]

    @property
    def __wrapped__(self) -> UPath:
        """The underlying `UPath`, on this process's connection (a forked child has its own)."""
        upath = self._upath
        upath._fs_cached = self._store.filesystem()
        return upath

    @__wrapped__.setter
    def __wrapped__(self, upath: UPath) -> None:
        self._made = upath, self._stock()[1]

    def __fspath__(self) -> str:
        """Refuse to be a file name, as the operating system has no such file.

        Raises:
            TypeError: Always; the message says what to use instead.
        """
        raise TypeError(
            f"{self} is not on a local disk, so the builtin open, numpy, pandas and others cannot open it by name. "
            "Pass them a file object, path.open('wb') or log.open(key, 'wb'), or a temporary local file, log.local(key)"
        )

    def _from_upath(self, upath: UPath, /) -> Self:  # type: ignore[override]
        if isinstance(upath, RunPath) or not upath.is_absolute():
            return upath  # type: ignore[return-value]
        mine, root = self._stock()
        if upath.protocol != mine.protocol or not f"{upath.path}/".startswith(f"{root}/"):
            return upath  # type: ignore[return-value]
        return type(self)._bound(self._store, self._where, (upath, root))

    @property
    def _key(self) -> str:
        if self._made is None:
            return self._where[2]
        upath, root = self._made
        return upath.path[len(root) :].strip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._store, self._key)

    def _notata_for_file(self) -> tuple[Any, ...]:
        """Return how `notata.formats` pickles the path into a file: without storage options."""
        return UPath, (str(self._upath),)

    # -- reads and writes with the store's guarantees ------------------------------------------------------

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **_: Any,
    ) -> IO[Any]:
        """Open as `notata.Logbook.open` does: ``w`` publishes at a clean close, ``x`` creates, ``a`` appends."""
        return self._store.open(self._key, mode, encoding=encoding, errors=errors, newline=newline)

    def __open_reader__(self) -> BinaryIO:
        return self._store.open(self._key, "rb")  # type: ignore[return-value]

    def __open_writer__(self, mode: Literal["a", "w", "x"]) -> BinaryIO:
        return self._store.open(self._key, f"{mode}b")  # type: ignore[return-value]

    def read_bytes(self) -> bytes:
        """Return the bytes. One request up to 8 MiB."""
        return self._store.read_all(self._key)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Create an empty file if the name is free; with ``exist_ok=False``, exactly one of many callers succeeds.

        An existing file keeps its content and its time: a bucket cannot change its time alone.
        """
        try:
            self._store.create(self._key, b"")
        except ExistsError:
            if not exist_ok:
                raise

    # -- folders and names, which fsspec would expand as a glob or create as a bucket ----------------------

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Check whether a file exists here, or a folder that is not empty.

        Raises:
            StorageError: The storage cannot tell. This never counts as False.
        """
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Check whether a file exists here; raises as `exists` does."""
        return bool(self._key) and self._store.exists(self._key)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Check whether a folder exists here (in a bucket, one with files); raises as `exists` does."""
        return self._store.has_folder(self._key)

    def stat(self, *, follow_symlinks: bool = True) -> StatResultType:
        """Return size and time as universal_pathlib does; errors of the storage become a `StorageError`."""
        self._store.arrive(self._key)
        with self._store.guard("look up", self._key):
            return super().stat(follow_symlinks=follow_symlinks)

    @property
    def fs(self) -> Any:
        """The file system, after waiting for pending writes here: the caller may access the storage directly."""
        self._store.arrive(self._key)
        return super().fs

    @property
    def storage_options(self) -> Mapping[str, Any]:
        """The options of the file system, after waiting as `fs` does."""
        self._store.arrive(self._key)
        return super().storage_options

    @property
    def info(self) -> Any:
        """The path's cached file type, after waiting as `fs` does."""
        self._store.arrive(self._key)
        return super().info

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove exactly this file."""
        if not missing_ok:
            self._store.stat(self._key)
        self._store.delete([self._key])

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Create a folder, if the storage has folders; a bucket needs none."""
        if self._store.folders:
            self.__wrapped__.mkdir(mode=mode, parents=parents, exist_ok=exist_ok)

    def rmdir(self, recursive: bool = False) -> None:
        """Remove an empty folder, or with `recursive` everything below it."""
        self._store.arrive(self._key)
        below = [entry.key for entry in self._store.list(self._key)]
        if below and not recursive:
            raise OSError(errno.ENOTEMPTY, "the folder is not empty; pass recursive=True to remove it", str(self))
        self._store.delete(below)
        if self._store.folders:
            with suppress(FileNotFoundError):
                self.__wrapped__.fs.rmdir(self._upath.path)

    def rename(self, target: str | UPath, **_: Any) -> Self:  # type: ignore[override]
        """Move this file, or everything below this folder: a copy on the server, then a deletion. Not atomic.

        Args:
            target: A path of the same run, or a name relative to this path's parent.

        Raises:
            ConfigurationError: The target is outside the run; copy the file there and remove this one.
        """
        goal = target if isinstance(target, UPath) else self.parent / target
        if not isinstance(goal, RunPath) or goal._store.url != self._store.url:
            raise ConfigurationError(
                f"cannot rename {self}: the target is not below {self._store.url}; copy it there, then remove it here",
                url=self._store.url,
            )
        if goal._key == self._key:
            return self
        moved = [entry.key for entry in self._store.list(self._key)]
        if not moved or self._store.exists(self._key):
            moved.append(self._key)
        for key in moved:
            self._store.copy(key, f"{goal._key}{key[len(self._key) :]}")
        self._store.delete(moved)
        return goal

    replace = rename  # type: ignore[assignment]

    def iterdir(self) -> Iterator[Self]:
        """Yield the children of this folder, without unfinished writes."""
        self._store.arrive(self._key)
        with self._store.guard("list", self._key):
            children = list(super().iterdir())
        return (child for child in children if not keys.is_reserved(child.name))

    def glob(self, pattern: str, **_: Any) -> Iterator[Self]:
        """Yield matching files and folders below this one. One listing, whatever characters its own name has."""
        matches = re.compile(glob_translate(pattern)).fullmatch
        start = len(self._key) + 1 if self._key else 0
        names: set[str] = set()
        for entry in self._store.list(self._key):
            parts = entry.key[start:].split("/")
            names.update("/".join(parts[: count + 1]) for count in range(len(parts)))
        for name in sorted(filter(matches, names)):
            yield self / name

    def rglob(self, pattern: str, **_: Any) -> Iterator[Self]:
        """Yield matching files and folders at any depth."""
        return self.glob(f"**/{pattern}")


def _waiting(name: str) -> Callable[..., Any]:
    """Return a method of universal_pathlib that first waits for pending writes."""
    method = getattr(ProxyUPath, name)

    @functools.wraps(method)
    def wait_and_call(self: RunPath, *arguments: Any, **options: Any) -> Any:
        self._store.arrive(self._key)
        return method(self, *arguments, **options)

    return wait_and_call


for _name in ("copy", "copy_into", "lstat", "move", "move_into", "samefile", "walk"):
    setattr(RunPath, _name, _waiting(_name))


def _restored(store: Store, key: str) -> UPath:
    return store.path_for(key)
