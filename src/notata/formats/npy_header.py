"""Read the header of an npy file such that a damaged one cannot claim memory."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from notata.errors import DecodeError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LONGEST_HEADER", "Header", "check_size", "read_header"]

LONGEST_HEADER: Final = 2**18
"""Bytes of the longest header to read and parse: about 10,000 columns. numpy's own limit allows about 200."""

_DIMENSIONS: Final = 64  # numpy's limit


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an npy file.

    Attributes:
        shape: Of the array.
        fortran: Whether the first index varies fastest.
        dtype: Of its elements.
        start: Offset of the data in the file.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def end(self) -> int:
        """Offset of the end of the data, if they are no pickle."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """Read the header of an npy file at its start.

    Raises:
        DecodeError: There is no header, or one that numpy would not write.
    """
    import numpy as np

    magic = file.read(np.lib.format.MAGIC_LEN)
    try:  # not around the reads: the file's own errors are raised unchanged
        version = np.lib.format.read_magic(io.BytesIO(magic))
    except ValueError as error:
        raise DecodeError(f"this is not an npy file: {error}") from error
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    head = file.read(2 if version == (1, 0) else 4)
    if (length := int.from_bytes(head, "little")) > LONGEST_HEADER:
        raise DecodeError(f"this npy file is damaged or has too many columns: its header has {length} bytes")
    text = head + file.read(length)
    try:  # (3, 0) differs from (2, 0) only in the encoding
        shape, fortran, dtype = header(io.BytesIO(text), max_header_size=LONGEST_HEADER)
    except ValueError as error:
        raise DecodeError(f"this npy file is damaged: {error}") from error
    if len(shape) > _DIMENSIONS:
        raise DecodeError(f"this npy file is damaged: its header states {len(shape)} dimensions")
    return Header(shape, fortran, dtype, np.lib.format.MAGIC_LEN + len(text))


def check_size(header: Header, size: int) -> None:
    """Refuse a truncated file.

    Raises:
        DecodeError: The header states more data than `size` bytes.
    """
    if header.end > size:
        raise DecodeError(f"this npy file is truncated: its header states {header.end} bytes, but it has {size}")
