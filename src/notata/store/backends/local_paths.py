"""Path objects of files on a local disk; each keeps the store that it came from, and passes it to derived paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Self, cast

from upath.implementations.local import PosixUPath, WindowsUPath

from notata.errors import ExistsError
from notata.store.paths import TextAndBytes
from notata.store.store import Store

if TYPE_CHECKING:
    from upath import UPath

    from notata.store.backends.local import LocalBackend

    _LocalPath = PosixUPath
else:
    _LocalPath = WindowsUPath if os.name == "nt" else PosixUPath

__all__ = ["LocalRunPath", "path_of"]


def path_of(file: str, backend: LocalBackend, store: Store) -> UPath:
    """Return the path object of a file.

    Args:
        file: Its absolute name.
        backend: The folder that it is in. Its own reads and writes have the guarantees of this backend.
        store: The store that the path belongs to: `backend`, or what is around it. It knows which writes are pending.
    """
    return LocalRunPath._of(file, _Home(backend, store))


@dataclass(frozen=True, slots=True)
class _Home:
    """The backend and the store that a path shares with those derived from it."""

    backend: LocalBackend
    store: Store | None

    def arrive(self, file: str) -> None:
        """Wait for the pending writes to a file or below a folder."""
        if self.store is not None and self.store.queues:
            key = os.path.relpath(os.path.abspath(file), self.backend.url).replace(os.sep, "/")
            if key != ".." and not key.startswith("../"):
                self.store.arrive("" if key == "." else key)


class _Keeping:
    """Wraps a class method that makes a path: the new path gets the store of the path that it is called on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, path: LocalRunPath | None, kind: type[LocalRunPath]) -> Callable[..., LocalRunPath]:
        make: Callable[..., LocalRunPath] = getattr(super(LocalRunPath, kind), self._name)
        return make if path is None else lambda *arguments: path._with_home(make(*arguments))


class LocalRunPath(TextAndBytes, _LocalPath):  # type: ignore[misc]
    """A path on a local disk. Its own writes are atomic and create missing folders.

    It works wherever a `pathlib.Path` does. What another library does with it (`np.save`, the builtin `open`) is not
    atomic. Paths derived from it, for example by ``/`` or ``parent``, are of the same kind.
    """

    _home: _Home | None = None

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)  # UPath's own looks up the class by protocol, and the empty protocol is taken

    @classmethod
    def _of(cls, file: str, home: _Home | None) -> Self:
        """Return the path of a file, faster than calling the class, which looks for a path to copy."""
        path = object.__new__(cls)
        cls.__init__(path, file)
        path._home = home
        return path

    def _with_home(self, path: Self) -> Self:
        path._home = self._home
        return path

    if sys.version_info >= (3, 12):

        def with_segments(self, *segments: str | os.PathLike[str]) -> Self:
            return self._with_home(super().with_segments(*segments))

    else:  # older versions make paths by class methods, which know no path to take the store from
        _from_parts = _Keeping("_from_parts")
        _from_parsed_parts = _Keeping("_from_parsed_parts")

        @property
        def parents(self) -> tuple[Self, ...]:
            return tuple(self._with_home(path) for path in super().parents)

    def rename(self, target: Any, **_: Any) -> Self:
        return self._with_home(super().rename(target))

    def replace(self, target: Any, **_: Any) -> Self:
        return self._with_home(super().replace(target))

    def __reduce__(self) -> tuple[Any, ...]:
        home = self._home
        return _restored, (str(self), *(home.backend.trusted if home is not None else ("", False)))

    def __fspath__(self) -> str:
        """Return the name after waiting for pending writes to it. Whatever opens or examines a path calls this."""
        name = super().__fspath__()
        if self._home is not None:
            self._home.arrive(name)
        return name

    # Python 3.13 uses the text of a path for these methods.

    def iterdir(self) -> Iterator[Self]:  # type: ignore[override]
        self.__fspath__()
        return super().iterdir()

    def glob(self, *arguments: Any, **options: Any) -> Iterator[Self]:  # type: ignore[override]
        self.__fspath__()
        return super().glob(*arguments, **options)

    def walk(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        self.__fspath__()
        return super().walk(*arguments, **options)

    def _inside(self) -> tuple[LocalBackend, str]:
        """Return the backend of this file's folder, and its name there."""
        path = os.path.abspath(self)
        if self._home is not None:
            return self._home.backend.beside(path)
        return _backend_of(os.path.dirname(path)).beside(path)

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
        backend, name = self._inside()
        store = Store(backend)
        if "+" in mode:
            with store.guard("open", name):
                return open(self, mode, buffering, encoding, errors, newline, opener=backend.opener(name))
        return store.open(name, mode, encoding=encoding, errors=errors, newline=newline)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Create an empty file if the name is free; with ``exist_ok=False``, exactly one of many callers succeeds."""
        backend, name = self._inside()
        try:
            Store(backend).create(name, b"")
        except ExistsError:
            if not exist_ok:
                raise
            os.utime(self, follow_symlinks=os.utime not in os.supports_follow_symlinks)


def _backend_of(folder: str) -> LocalBackend:
    return cast("LocalBackend", Store.reopen(folder).backend)


def _restored(file: str, root: str, durable: bool) -> LocalRunPath:
    if not root:
        return LocalRunPath._of(file, None)
    backend = _backend_of(root)
    return LocalRunPath._of(file, _Home(backend.durably() if durable else backend, None))
