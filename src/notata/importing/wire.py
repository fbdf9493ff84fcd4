"""Read the log of Weights & Biases, ``run-<id>.wandb``: frames as in LevelDB's log, each with a protobuf message.

Current versions of the package write the file in Go, and have no reader for Python. A protobuf message is a sequence of
numbered fields, and the numbers never change, so the few fields that an import needs are read here.

References:
    https://github.com/google/leveldb/blob/main/doc/log_format.md
    https://protobuf.dev/programming-guides/encoding/
    https://github.com/wandb/wandb/blob/main/wandb/proto/wandb_internal.proto
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from notata._base.terminal import quoted
from notata.errors import DecodeError

__all__ = ["Message", "records"]

_HEAD: Final = b":W&B"
_HEAD_SIZE: Final = 7
_BLOCK: Final = 32 * 2**10
_FRAME: Final = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_LARGEST: Final = 256 * 2**20  # bytes of a record
_FIXED: Final = {1: 8, 5: 4}
_BITS: Final = 64


class Message:
    r"""A message: its fields by number, each with all its values: bytes, or integers.

    >>> message = Message(b"\x08\x96\x01\x12\x03abc")
    >>> message.integer(1), message.text(2), message.text(3)
    (150, 'abc', '')
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[Any]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def _last(self, number: int, kind: type) -> Any:
        value = self._fields.get(number, [None])[-1]
        return value if isinstance(value, kind) else None

    def integer(self, number: int) -> int:
        """Return a signed integer; 0 if it is missing."""
        value = self._last(number, int) or 0
        return value - (1 << _BITS) if value >> (_BITS - 1) else value

    def double(self, number: int) -> float:
        """Return a number of 64 bits; 0 if it is missing."""
        value = self._last(number, bytes) or b""
        return struct.unpack("<d", value)[0] if len(value) == 8 else 0.0

    def text(self, number: int) -> str:
        """Return a text; empty if it is missing."""
        return (self._last(number, bytes) or b"").decode("utf-8", "replace")

    def texts(self, number: int) -> list[str]:
        """Return all texts of a field."""
        return [value.decode("utf-8", "replace") for value in self._fields.get(number, ()) if isinstance(value, bytes)]

    def message(self, number: int) -> Message:
        """Return a message in this one; an empty one if it is missing."""
        return Message(self._last(number, bytes) or b"")

    def messages(self, number: int) -> list[Message]:
        """Return all messages of a field."""
        return [Message(value) for value in self._fields.get(number, ()) if isinstance(value, bytes)]


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each field.

    Raises:
        DecodeError: The data is no message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise DecodeError("a record is damaged: it has a field of an unknown type")
        if at + size > end:
            raise DecodeError("a record is damaged: a field is longer than it")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < _BITS:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & ((1 << _BITS) - 1), at
    raise DecodeError("a record is damaged: it ends within a number")


def records(file: IO[bytes], name: str, torn: Callable[[str], object]) -> Iterator[bytes]:
    """Yield the records of a log.

    Args:
        file: The log.
        name: Its name, for messages.
        torn: Called if the log ends in the middle of a record, as after a crash.

    Raises:
        DecodeError: It is no such log, a checksum is wrong, or a record is too large.
    """
    parts: list[bytes] = []
    size = 0
    for kind, data in _frames(file, name):
        if kind in (_FULL, _FIRST):
            parts, size = [], 0
        parts.append(data)
        size += len(data)
        if size > _LARGEST:
            raise DecodeError(f"{quoted(name)} has a record of more than {_LARGEST:,} bytes")
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []
        elif kind == 0:
            break
    if parts:
        torn(f"the last record of {quoted(name)}, which is incomplete")


def _frames(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and data of each frame; type 0 for one that is incomplete."""
    block = file.read(_BLOCK)
    if not block.startswith(_HEAD):
        raise DecodeError(f"{quoted(name)} is not a log of Weights & Biases")
    at = _HEAD_SIZE
    while block:
        while len(block) - at >= _FRAME.size:
            crc, size, kind = _FRAME.unpack_from(block, at)
            at += _FRAME.size
            if kind == 0 and size == 0:  # the rest of the block is empty
                at = _BLOCK
                break
            data = block[at : at + size]
            at += size
            if len(data) < size and len(block) < _BLOCK:
                yield 0, data
                return
            if kind > _LAST or zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
                raise DecodeError(f"{quoted(name)} is damaged: a checksum is wrong")
            yield kind, data
        if at < len(block) < _BLOCK:
            yield 0, b"?"
            return
        block, at = file.read(_BLOCK), 0
