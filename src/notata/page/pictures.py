"""Small PNG pictures of arrays with two dimensions.

References:
    W3C, Portable Network Graphics (PNG) Specification.
    The colours are those of viridis by S. van der Walt and N. Smith (CC0), at five values and linear in between.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from notata.formats.array_facts import ArrayFacts
from notata.formats.npy_header import check_size, read_header

__all__ = ["picture_of"]

_SIDE: Final = 256  # pixels
_LARGEST: Final = 2**26  # bytes of the values as float64
_COLOURS: Final = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_LAST: Final = 254  # the index of the last colour; the next one is transparent


def picture_of(facts: ArrayFacts, data: bytes) -> str:
    """Return the picture of a 2-d array of numbers as the data URL of a PNG; empty if there is none.

    Dark is the smallest value, and bright the largest; NaN and infinities are transparent. Of a large array each pixel
    has the mean of some values.

    Args:
        facts: The facts about the array.
        data: The bytes of the whole npy file.
    """
    if len(facts.shape) != 2 or min(facts.shape) < 2 or facts.stats is None:
        return ""
    file = io.BytesIO(data)
    header = read_header(file)
    if header.dtype.kind not in "biuf" or header.shape != facts.shape or 8 * _count(facts.shape) > _LARGEST:
        return ""
    check_size(header, len(data))
    values = np.frombuffer(data, header.dtype, _count(facts.shape), header.start)
    whole = values.reshape(facts.shape, order="F" if header.fortran else "C").astype(np.float64)
    return f"data:image/png;base64,{base64.b64encode(_png(_indices(_reduced(whole)))).decode()}"


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1]


def _reduced(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return an array of at most 256 x 256 values: means of blocks, without NaN and infinities."""
    finite = np.isfinite(values)
    sums, counts = np.where(finite, values, 0.0), finite.astype(np.float64)
    largest = np.abs(sums).max()
    scale = largest if largest > 1e200 else 1.0  # so that sums stay finite
    sums = sums / scale
    for axis in (0, 1):
        if values.shape[axis] > _SIDE:
            edges = np.arange(_SIDE) * values.shape[axis] // _SIDE
            sums, counts = np.add.reduceat(sums, edges, axis), np.add.reduceat(counts, edges, axis)
    with np.errstate(all="ignore"):
        return np.where(counts > 0, sums / counts * scale, np.nan)


def _indices(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return the index of the colour of each value."""
    finite = np.isfinite(values)
    found = np.full(values.shape, _LAST + 1, np.uint8)
    if finite.any():
        half = values / 2  # the difference of two numbers may be too large
        low, high = half[finite].min(), half[finite].max()
        span = high - low
        along = (half[finite] - low) / span if span > 0 else np.zeros(int(finite.sum()))
        found[finite] = np.rint(along * _LAST).astype(np.uint8)
    return found


def _png(indices: npt.NDArray[np.uint8]) -> bytes:
    """Return a PNG with the palette, from the indices of its colours."""
    height, width = indices.shape
    at = np.linspace(0, len(_COLOURS) - 1, _LAST + 1)
    channels = [np.interp(at, np.arange(len(_COLOURS)), [colour[one] for colour in _COLOURS]) for one in range(3)]
    palette = np.rint(np.stack(channels, 1)).astype(np.uint8).tobytes() + bytes(3)
    lines = np.hstack([np.zeros((height, 1), np.uint8), indices]).tobytes()
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", palette),
        _chunk(b"tRNS", bytes([255] * (_LAST + 1) + [0])),
        _chunk(b"IDAT", zlib.compress(lines, 6)),
        _chunk(b"IEND", b""),
    ])  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
