"""A format for libraries that need a file name; it uses a temporary folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final

from notata.errors import ConfigurationError, DecodeError, EncodeError, NotataError

__all__ = ["PathFormat"]

_CHUNK: Final = 2**20


@dataclass(frozen=True, slots=True, init=False)
class PathFormat:
    """A format made of two functions that take the name of a local file.

    Values go through a file in a temporary folder, which must have enough space, and are copied in pieces of 1 MiB, in
    both directions. The temporary file is deleted when `read` returns, so the function must read all its data before.

    Args:
        suffix: With the dot; the temporary file has it too.
        write: Called as ``write(value, path)``; it must create one file of exactly that name.
        read: Called as ``read(path)``; without it, the format can only write.

    Raises:
        ConfigurationError: The suffix has no dot or has a slash, or an argument is no function.

    >>> import sqlite3
    >>> from notata.formats import decode, encode
    >>> def write(rows, path):
    ...     database = sqlite3.connect(path)
    ...     with database:
    ...         _ = database.execute("create table t (x)")
    ...         _ = database.executemany("insert into t values (?)", [(row,) for row in rows])
    ...     database.close()
    >>> def read(path):
    ...     database = sqlite3.connect(path)
    ...     rows = [x for x, in database.execute("select x from t")]
    ...     database.close()
    ...     return rows
    >>> SQLITE = PathFormat(".sqlite", write, read)
    >>> decode(SQLITE, encode(SQLITE, [1, 2.5, "three"]))
    [1, 2.5, 'three']
    """

    suffix: str
    writer: Callable[[Any, str], object]
    reader: Callable[[str], Any] | None

    def __init__(
        self, suffix: str, write: Callable[[Any, str], object], read: Callable[[str], Any] | None = None
    ) -> None:
        if not isinstance(suffix, str) or not suffix.startswith(".") or {"/", "\\", "\0"} & set(suffix):
            raise ConfigurationError(
                f"a suffix must look like '.vtk', with the dot and without a slash, not {suffix!r}"
            )
        if not callable(write) or not (read is None or callable(read)):
            raise ConfigurationError("PathFormat takes two functions, write(value, path) and read(path)")
        object.__setattr__(self, "suffix", suffix)
        object.__setattr__(self, "writer", write)
        object.__setattr__(self, "reader", read)

    def write(self, value: Any, file: IO[bytes]) -> None:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="notata-") as folder:
            path = os.path.join(folder, f"value{self.suffix}")
            try:
                self.writer(value, path)
            except (NotataError, MemoryError):
                raise
            except Exception as error:
                raise EncodeError(
                    f"{_name(self.writer)} cannot write this {type(value).__name__}: {type(error).__name__}: {error}"
                ) from error
            if not os.path.isfile(path):
                raise EncodeError(
                    f"{_name(self.writer)} did not write the file {os.path.basename(path)!r}, but "
                    f"{sorted(os.listdir(folder))}; it must write one file with exactly the given name"
                )
            with open(path, "rb") as made:
                shutil.copyfileobj(made, file, _CHUNK)

    def read(self, file: IO[bytes]) -> Any:
        if self.reader is None:
            raise ConfigurationError(f"cannot read {self.suffix} files: this PathFormat has no read function; pass one")
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="notata-") as folder:
            path = os.path.join(folder, f"value{self.suffix}")
            with open(path, "wb") as copy:
                shutil.copyfileobj(file, copy, _CHUNK)
            try:
                return self.reader(path)
            except NotataError:
                raise
            except Exception as error:
                raise DecodeError(
                    f"{_name(self.reader)} cannot read this file: {type(error).__name__}: {error}"
                ) from error


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
