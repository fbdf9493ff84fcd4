"""Files for readers and writers: one that cannot seek, some that fail, and the store's own."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any, cast

from notata.formats import Format, WriteFormat
from notata.store import open_store

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Stream(io.RawIOBase):
    """A binary file that accepts bytes and supports neither seek nor tell."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.largest = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        self.largest = max(self.largest, view.nbytes)
        self.data += view
        return view.nbytes


class Failing(io.BytesIO):
    """A file whose reads and writes fail after a number of bytes."""

    def __init__(self, error: BaseException, data: bytes = b"", after: int = 0) -> None:
        super().__init__(data)
        self.error = error
        self.after = after

    def _count(self, size: int) -> None:
        self.after -= size
        if self.after < 0:
            raise self.error

    def write(self, data: Buffer, /) -> int:
        self._count(memoryview(data).nbytes)
        return super().write(data)

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._count(len(data))
        return data


def binary(file: object) -> IO[bytes]:
    return cast("IO[bytes]", file)


def written(form: WriteFormat, value: object) -> bytes:
    """Return the encoded bytes of a value, written to a stream that cannot seek."""
    file = Stream()
    form.write(value, binary(file))
    return bytes(file.data)


def through_a_store(form: Format, value: object) -> Any:
    store = open_store("memory://formats-test")
    with store.open("a/b", "wb") as file:
        form.write(value, file)
    with store.open("a/b", "rb") as file:
        return form.read(file)
