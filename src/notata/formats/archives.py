"""Open zip files such that a forged one cannot claim memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, cast

from notata.errors import DecodeError
from notata.formats.base import reading

if TYPE_CHECKING:
    import zipfile

__all__ = ["opened_archive"]

_CONTENTS: Final = 2**24  # bytes of a table of contents: those of more than 100,000 members


@contextmanager
def opened_archive(what: str, file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Open a zip file to read it; errors are those of `notata.formats.base.reading`.

    `zipfile` reads the table of contents in one call, of as many bytes as the end of the file states.

    Raises:
        DecodeError: The table is longer than 16 MiB, or the file is no zip file.
    """
    from zipfile import ZipFile

    with reading(what, file) as source:
        bounded = _Bounded(source)
        with ZipFile(cast("IO[bytes]", bounded)) as archive:
            bounded.most = None
            yield archive


class _Bounded:
    """A file that refuses reads of more than `most` bytes, until `most` is None."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.most: int | None = _CONTENTS

    def read(self, size: int = -1) -> bytes:
        if self.most is None:
            return self._file.read(size)
        data = self._file.read(self.most + 1 if size < 0 else min(size, self.most + 1))
        if len(data) > self.most:
            raise DecodeError(f"this zip file is damaged: its table of contents is longer than {self.most:,} bytes")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave the file open, as `zipfile` does with a file object that it receives."""
