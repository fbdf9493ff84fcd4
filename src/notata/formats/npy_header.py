"""What an npy file says of itself before its data, read so that a damaged one claims no memory."""

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
"""Bytes of a header that are read, and parsed: those of some 10,000 columns. numpy's own limit comes to some 200."""

_DIMENSIONS: Final = 64  # of an array of numpy


@dataclass(frozen=True, slots=True)
class Header:
    """What an npy file says before its data.

    Attributes:
        shape: Of the array.
        fortran: Whether the first index varies fastest.
        dtype: Of its elements.
        start: Where the data begin in the file.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def end(self) -> int:
        """Where the data end, if they are no pickle."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """The header of an npy file at its start.

    Raises:
        DecodeError: There is none, or one that numpy does not write.
    """
    import numpy as np

    magic = file.read(np.lib.format.MAGIC_LEN)
    try:  # the file is read here alone: its own errors stay what they are
        version = np.lib.format.read_magic(io.BytesIO(magic))
    except ValueError as error:
        raise DecodeError(f"this is no npy file: {error}") from error
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    head = file.read(2 if version == (1, 0) else 4)
    if (length := int.from_bytes(head, "little")) > LONGEST_HEADER:
        raise DecodeError(f"this npy file is damaged, or too wide to be read: its header has {length} bytes")
    text = head + file.read(length)
    try:  # (3, 0) is (2, 0) with other letters
        shape, fortran, dtype = header(io.BytesIO(text), max_header_size=LONGEST_HEADER)
    except ValueError as error:
        raise DecodeError(f"this npy file is damaged: {error}") from error
    if len(shape) > _DIMENSIONS:
        raise DecodeError(f"this npy file is damaged: its header tells of {len(shape)} dimensions")
    return Header(shape, fortran, dtype, np.lib.format.MAGIC_LEN + len(text))


def check_size(header: Header, size: int) -> None:
    """Refuse a file that is cut off.

    Raises:
        DecodeError: Its header tells of more than so many bytes.
    """
    if header.end > size:
        raise DecodeError(f"this npy file is cut off: its header tells of {header.end} bytes, and there are {size}")
