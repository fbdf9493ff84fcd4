"""A spool: a file in the temporary folder that file descriptors 1 and 2 append to, until its bytes are stored.

Writes to a file never wait for a reader. A pipe would: a C library that fills it while it holds Python's global lock
would wait for a thread that cannot run. What a process wrote to the spool survives its death by any signal, and
`recovered` returns it when the run is resumed on the same machine.

A spool begins with a header of `HEADER` bytes: a line with a mark, and two positions, up to which the output is stored
in the run, and shown. The space of what is stored and shown is given back to the file system, where it supports that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from notata._base import processes

__all__ = ["HEADER", "Spool", "forget", "recovered"]

HEADER: Final = 64
_MARK: Final = b"notata output spool\n"
_STORED: Final = 40  # offset of the position up to which the output is stored
_SHOWN: Final = 20  # offset of the position up to which it is shown; also in display.py
_PREFIX: Final = "notata-output-"
_CHUNK: Final = 2**20
_FREED: Final = 8 * 2**20  # bytes that are given back at once
_KEPT: Final = 7 * 86400.0  # seconds that the spool of a dead process is kept
_UNTAGGED: Final = "0-0-0"
_PUNCH: Final = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


class Spool:
    """A new spool.

    Args:
        url: The URL of the run, by which `recovered` finds it.
        is_shown: Whether another process shows the output; space is given back only when it is shown.

    Attributes:
        path: The file.
        writing: A file descriptor that appends.
        reading: A file descriptor for reading, and for the header.
        position: The position of the next read.
    """

    def __init__(self, url: str, *, is_shown: bool) -> None:
        name = f"{_PREFIX}{_digest(url)}-{processes.tag() or _UNTAGGED}-{secrets.token_hex(4)}"
        self.path = Path(tempfile.gettempdir(), name)
        self.reading = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.pwrite(self.reading, _MARK + b"%019d\n" % HEADER + b"%019d\n" % HEADER, 0)
        os.pwrite(self.reading, b"\n" * (HEADER - 60), 60)
        self.writing = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.position = self._freed = HEADER
        self._is_shown = is_shown

    @property
    def size(self) -> int:
        """The end of what was written."""
        return os.fstat(self.reading).st_size

    def read(self, end: int) -> bytes:
        """Return the next bytes before a position, at most a MiB; empty if there are none yet."""
        data = os.pread(self.reading, min(_CHUNK, max(0, end - self.position)), self.position)
        self.position += len(data)
        return data

    @property
    def shown(self) -> int:
        """The position up to which the output is shown."""
        return int(os.pread(self.reading, 19, _SHOWN))

    def mark_stored(self, position: int) -> None:
        """Note that the output before a position is stored, and give back its space."""
        os.pwrite(self.reading, b"%019d\n" % position, _STORED)
        if self._is_shown:
            position = min(position, self.shown)
        if position - self._freed >= _FREED:
            start = (self._freed + 4095) // 4096 * 4096  # never the header, whose block is kept
            _give_back(self.reading, start, position // 4096 * 4096 - start)
            self._freed = position

    def close(self, *, remove: bool) -> None:
        """Close and remove the file."""
        if remove:
            with suppress(OSError):
                self.path.unlink()
        for number in (self.reading, self.writing):
            with suppress(OSError):
                os.close(number)


def recovered(url: str) -> Iterator[bytes]:
    """Yield the output of killed processes that captured for a run on this machine, and remove their spools.

    What was being stored when a process was killed is part of it, too, so it may be there twice. Each spool is removed
    after its last bytes were taken. Spools of any run that are a week old are also removed.
    """
    for path in _left_by_dead_processes(url):
        try:
            yield from _rest(path)
            path.unlink()
        except (OSError, ValueError):
            continue


def forget(url: str) -> None:
    """Remove the spools of killed processes that captured for an earlier run at this URL."""
    for path in _left_by_dead_processes(url):
        with suppress(OSError):
            path.unlink()


def _left_by_dead_processes(url: str) -> Iterator[Path]:
    """Yield the spools of a run whose process is dead, and remove those of any run that are a week old."""
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        digest, *tag = path.name.removeprefix(_PREFIX).rsplit("-", 1)[0].split("-")
        with suppress(OSError, ValueError):
            if len(tag) != 3 or processes.is_running("-".join(tag)) is not False:
                continue
            if digest == _digest(url):
                yield path
            elif time.time() - path.lstat().st_mtime > _KEPT:
                path.unlink()


def _rest(path: Path) -> Iterator[bytes]:
    """Yield what is not stored yet, if the file is a spool of this user."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        facts = os.fstat(number)
        head = os.pread(number, HEADER, 0)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_nlink != 1:
            return
        if not head.startswith(_MARK) or len(head) < HEADER:
            return
        position = max(HEADER, int(head[_STORED : _STORED + 19]))
        while data := os.pread(number, _CHUNK, position):
            yield data
            position += len(data)
    finally:
        os.close(number)


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:16]


def _give_back(number: int, start: int, size: int) -> None:
    """Give the space of a part of a file back to the file system, where it supports that."""
    if size > 0 and (call := _fallocate()) is not None:
        call(number, _PUNCH, start, size)


@lru_cache(1)
def _fallocate() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):  # musl
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call
