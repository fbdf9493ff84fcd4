"""Path objects of files on a local disk; each keeps the backend that it came from, and passes it to derived paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

from upath.implementations.local import PosixUPath, WindowsUPath

from notata.errors import ExistsError
from notata.store.paths import TextAndBytes
from notata.store.pending import arrive
from notata.store.store import Store

if TYPE_CHECKING:
    from upath import UPath

    from notata.store.backends.local import LocalBackend

    _LocalPath = PosixUPath
else:
    _LocalPath = WindowsUPath if os.name == "nt" else PosixUPath

__all__ = ["LocalRunPath", "path_of"]


def path_of(file: str, backend: LocalBackend) -> UPath:
    """Return the path object of a file.

    Args:
        file: Its absolute name.
        backend: The folder that it is in. Its own reads and writes have the guarantees of this backend.
    """
    LocalRunPath.backend_kind = LocalRunPath.backend_kind or type(backend)
    return LocalRunPath._of(file, backend)


class _Keeping:
    """Wraps a class method that makes a path: the new path gets the store of the path that it is called on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, path: LocalRunPath | None, kind: type[LocalRunPath]) -> Callable[..., LocalRunPath]:
        make: Callable[..., LocalRunPath] = getattr(super(LocalRunPath, kind), self._name)
        return make if path is None else lambda *arguments: path._with_backend(make(*arguments))


class LocalRunPath(TextAndBytes, _LocalPath):  # type: ignore[misc]
    """A path on a local disk. Its own writes are atomic and create missing folders.

    It works wherever a `pathlib.Path` does. What another library does with it (`np.save`, the builtin `open`) is not
    atomic. Paths derived from it, for example by ``/`` or ``parent``, are of the same kind.
    """

    _backend: LocalBackend | None = None
    backend_kind: ClassVar[type[LocalBackend] | None] = None
    """The class of backends, for a path without one; the first path brings it, as this module must not import it."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)  # UPath's own looks up the class by protocol, and the empty protocol is taken

    @classmethod
    def _of(cls, file: str, backend: LocalBackend | None) -> Self:
        """Return the path of a file, faster than calling the class, which looks for a path to copy."""
        path = object.__new__(cls)
        cls.__init__(path, file)
        path._backend = backend
        return path

    def _with_backend(self, path: Self) -> Self:
        path._backend = self._backend
        return path

    if sys.version_info >= (3, 12):

        def with_segments(self, *segments: str | os.PathLike[str]) -> Self:
            return self._with_backend(super().with_segments(*segments))

    else:  # older versions make paths by class methods, which know no path to take the store from
        _from_parts = _Keeping("_from_parts")
        _from_parsed_parts = _Keeping("_from_parsed_parts")

        @property
        def parents(self) -> tuple[Self, ...]:
            return tuple(self._with_backend(path) for path in super().parents)

    def rename(self, target: Any, **_: Any) -> Self:
        return self._with_backend(super().rename(target))

    def replace(self, target: Any, **_: Any) -> Self:
        return self._with_backend(super().replace(target))

    def __reduce__(self) -> tuple[Any, ...]:
        backend = self._backend
        if backend is None:
            return LocalRunPath._of, (str(self), None)
        return _restored, (str(self), type(backend), *backend.trusted)

    def __fspath__(self) -> str:
        """Return the name after waiting for pending writes to it. Whatever opens or examines a path calls this."""
        name = super().__fspath__()
        arrive(name)
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
        path, backend = os.path.abspath(self), self._backend
        if backend is None:
            assert LocalRunPath.backend_kind is not None
            backend = LocalRunPath.backend_kind(os.path.dirname(path))
        return backend.beside(path)

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


def _restored(file: str, kind: type[LocalBackend], root: str, durable: bool) -> UPath:
    backend = kind(root)
    return path_of(file, backend.durably() if durable else backend)
