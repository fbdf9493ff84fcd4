"""The path objects of files on a local disk; they know their store by the folder that they lie in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Self

from upath.implementations.local import PosixUPath, WindowsUPath

from notata.errors import ExistsError
from notata.store.local import UNSTORED, LocalStore
from notata.store.paths import TextAndBytes

if TYPE_CHECKING:
    from upath import UPath

    _LocalPath = PosixUPath
else:
    _LocalPath = WindowsUPath if os.name == "nt" else PosixUPath

__all__ = ["LocalRunPath", "path_of"]


def path_of(file: str, *, durable: bool) -> UPath:
    """The path object of a file; what is written through it outlasts a power cut if it is `durable`."""
    return (DurableRunPath if durable else LocalRunPath)._of(file)


class LocalRunPath(TextAndBytes, _LocalPath):  # type: ignore[misc]
    """A path on a local disk. Its own writes are atomic, and make the folders that they need.

    It works wherever a `pathlib.Path` does; what another library does with it (`np.save`, the builtin `open`) is that
    library's own affair, and not atomic.
    """

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)  # UPath's own looks its class up by protocol, and the empty one is taken

    @classmethod
    def _of(cls, file: str) -> Self:
        """The path of a file; quicker than the call of the class, which looks for a path to copy."""
        path = object.__new__(cls)
        cls.__init__(path, file)
        return path

    def __fspath__(self) -> str:
        """The name, once what is on its way there is stored: whatever opens a path or looks at it asks for this."""
        name = super().__fspath__()
        if UNSTORED and (arrive := UNSTORED.get(os.path.abspath(name))) is not None:
            arrive()
        return name

    # Python 3.13 has these go by the text of a path.

    def iterdir(self) -> Iterator[Self]:  # type: ignore[override]
        self.__fspath__()
        return super().iterdir()

    def glob(self, *arguments: Any, **options: Any) -> Iterator[Self]:  # type: ignore[override]
        self.__fspath__()
        return super().glob(*arguments, **options)

    def walk(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        self.__fspath__()
        return super().walk(*arguments, **options)

    def _inside(self) -> tuple[LocalStore, str]:
        path = os.path.abspath(self)
        return LocalStore(os.path.dirname(path)), os.path.basename(path)

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **_: Any,
    ) -> IO[Any]:
        """As `notata.Logbook.open`: ``w`` shows nothing before it closes cleanly, ``x`` claims, ``a`` appends."""
        if "+" in mode:
            return open(self, mode, buffering, encoding, errors, newline)
        store, name = self._inside()
        return store.open(name, mode, encoding=encoding, errors=errors, newline=newline)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file where nothing is; of many racing with ``exist_ok=False`` one succeeds."""
        store, name = self._inside()
        try:
            store.create(name, b"")
        except ExistsError:
            if not exist_ok:
                raise
            os.utime(self)


class DurableRunPath(LocalRunPath):
    """One whose own writes are on the disk when they return, and those of the paths that are made of it."""

    def _inside(self) -> tuple[LocalStore, str]:
        store, name = super()._inside()
        return store.durably(), name
