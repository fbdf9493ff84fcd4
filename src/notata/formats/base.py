"""The protocol of formats, and how notata calls them: a format's errors become ours, those of the file do not."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from notata._base.buffers import flat
from notata.errors import ConfigurationError, DecodeError, EncodeError, NotataError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Format", "Sink", "WriteFormat", "decode", "encode", "kind_of", "read", "reading", "write"]


@runtime_checkable
class WriteFormat(Protocol):
    r"""Writes one kind of value to a file; it need not read it back.

    Attributes:
        suffix: The suffix of its files, with the dot; empty if the name has it already.

    >>> class Lines:
    ...     suffix = ".lines"
    ...     def write(self, words, file):
    ...         file.writelines(word.encode() + b"\n" for word in words)
    >>> isinstance(Lines(), WriteFormat)
    True
    """

    @property
    @abstractmethod
    def suffix(self) -> str:
        """The suffix of its files."""

    def write(self, value: Any, file: IO[bytes], /) -> None:
        """Write the value to a binary file object that cannot seek."""


@runtime_checkable
class Format(WriteFormat, Protocol):
    r"""Writes one kind of value to a file, and reads it back. Your own format needs no base class.

    >>> class Lines:
    ...     suffix = ".lines"
    ...     def write(self, words, file):
    ...         file.writelines(word.encode() + b"\n" for word in words)
    ...     def read(self, file):
    ...         return file.read().decode().split()
    >>> decode(Lines(), encode(Lines(), ["a", "b"]))
    ['a', 'b']
    """

    def read(self, file: IO[bytes], /) -> Any:
        """Read the value from a seekable binary file object."""


def encode(form: WriteFormat, value: Any) -> bytes:
    r"""Return a small value as the bytes of its file.

    Raises:
        EncodeError: The format cannot hold the value.

    >>> from notata.formats import JSON
    >>> encode(JSON, {"loss": 0.5})
    b'{\n  "loss": 0.5\n}\n'
    """
    file = _Memory()
    try:
        form.write(value, file)
    except (NotataError, MemoryError):
        raise
    except Exception as error:
        raise _refusal(form, value, error) from error
    return file.getvalue()


class _Memory(io.BytesIO):
    """A `BytesIO` that ignores `close`, which wrappers of formats call."""

    def close(self) -> None:
        pass


def decode(form: WriteFormat, data: Buffer) -> Any:
    r"""Return the value in the bytes of a file.

    Raises:
        DecodeError: The format cannot read them.
        ConfigurationError: The format has no `read`.

    >>> from notata.formats import JSON
    >>> decode(JSON, b'{"loss": 0.5}')
    {'loss': 0.5}
    """
    return read(form, io.BytesIO(flat(data)))


def write(form: WriteFormat, value: Any, file: IO[bytes]) -> None:
    """Write a value by any format, ours or a user's.

    Args:
        form: The format.
        value: A value that the format accepts.
        file: A binary file object; it need not seek, and is left open.

    Raises:
        EncodeError: The format raised another error, which is the cause. Errors of `file`, `NotataError` and
            `MemoryError` are raised unchanged.

    >>> import io
    >>> from notata.formats import TEXT
    >>> file = io.BytesIO()
    >>> write(TEXT, "hello", file)
    >>> file.getvalue()
    b'hello'
    """
    sink = Sink(file)
    try:
        form.write(value, cast("IO[bytes]", sink))
    except (NotataError, MemoryError):
        raise
    except Exception as error:
        sink.check(error)
        raise _refusal(form, value, error) from error
    sink.check()


def read(form: WriteFormat, file: IO[bytes]) -> Any:
    """Read a value by any format, ours or a user's.

    Args:
        form: The format.
        file: A seekable binary file object at its start; it is left open, at any position.

    Raises:
        DecodeError: The format raised another error, which is the cause. Errors of `file` and `NotataError` are raised
            unchanged.
        ConfigurationError: The format has no `read`.

    >>> import io
    >>> from notata.formats import TEXT
    >>> read(TEXT, io.BytesIO(b"hello"))
    'hello'
    """
    back = getattr(form, "read", None)
    if not callable(back):
        raise ConfigurationError(
            f"{kind_of(form)} cannot read: it has no read(file); add one, or read the file as bytes"
        )
    with reading(kind_of(form), file) as source:
        return back(source)


def kind_of(form: object) -> str:
    """Return the name of a format in errors: its class.

    >>> from notata.formats import NPY
    >>> kind_of(NPY)
    'Npy'
    """
    return type(form).__name__.lstrip("_")


def _refusal(form: WriteFormat, value: object, error: Exception) -> EncodeError:
    message = f"{kind_of(form)} cannot write this {type(value).__name__}: {_error_text(error)}"
    if isinstance(error, io.UnsupportedOperation):
        message += "; this file cannot seek. Use PathFormat, which gives a library a real file"
    return EncodeError(message)


def _error_text(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Sink(io.RawIOBase):
    """A file for one format to write to. It records errors of the underlying file, and never closes that file.

    After an error or `stop`, it drops all further data. Otherwise, libraries that finish their file while an error
    passes through them would replace it by a second one.

    Attributes:
        error: The error that the underlying file raised.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._written = 0
        self._stopped = False
        self.error: BaseException | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Buffer, /) -> int:
        view = flat(data)
        if not self._stopped:
            try:
                self._file.write(view)
            except BaseException as error:
                self.error = error
                self._stopped = True
                raise
        self._written += view.nbytes
        return view.nbytes

    def stop(self) -> None:
        """Drop all further data."""
        self._stopped = True

    def check(self, seen: BaseException | None = None) -> None:
        """Raise the error of the underlying file, if there was one, whatever a library made of it."""
        if self.error is not None and self.error is not seen:
            raise self.error from seen
        if self.error is not None:
            raise self.error


@contextmanager
def reading(what: str, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield a buffered file to read from; closing it does not close `file`. Errors become a `DecodeError`.

    `NotataError` and errors of `file` itself are raised unchanged.

    >>> import io
    >>> with reading("Json", io.BytesIO(b"[1]")) as file:
    ...     file.readline()
    b'[1]'
    """
    if isinstance(getattr(file, "raw", None), _Source):  # one of ours, called by `read`
        source, buffered = cast("Any", file).raw, file
    else:
        source = _Source(file)
        buffered = cast("IO[bytes]", io.BufferedReader(source, 2**16))
    try:
        yield buffered
    except NotataError:
        raise
    except Exception as error:
        if error is source.error:
            raise
        if source.error is not None:
            raise source.error from error
        raise DecodeError(f"{what} cannot read this file: {_error_text(error)}") from error


class _Source(io.RawIOBase):
    """A file for one format to read from. It records errors of the underlying file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)  # errors are not recorded: a damaged file may cause an invalid position

    def tell(self) -> int:
        return self._file.tell()

    def readall(self) -> bytes:
        return self._watched(-1)

    def readinto(self, target: Buffer, /) -> int:
        view = flat(target)
        data = self._watched(view.nbytes)
        view[: len(data)] = data
        return len(data)

    def _watched(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except BaseException as error:
            self.error = error
            raise
