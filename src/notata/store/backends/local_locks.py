"""Locks of open files and folders on a local disk, with a time limit for every wait.

Any user who may read a file can hold its lock, for any time. So notata tries to get a lock again and again until the
time limit, and never lets the system wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from notata._base import keys
from notata._base.nesting import is_running, thread_frames
from notata._base.retries import pauses
from notata.store.backends.local_folders import Folder

if sys.platform != "win32":
    import fcntl

    _TAKE: Final = fcntl.LOCK_EX | fcntl.LOCK_NB

__all__ = ["LockHeldError", "NoLockError", "OwnLockError", "hold", "locked", "release"]

_NO_LOCKS: Final = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
DEAD_AFTER: Final = 30.0  # seconds; a lock is held for microseconds, so an older one is that of a dead process
_FIRST_PAUSE: Final = 5e-5
_LONGEST_PAUSE: Final = 0.02
_LOCK: Final = f"{keys.RESERVED}lock"
_PASSED: Final = {__file__, os.path.join(os.path.dirname(__file__), "local.py"), contextlib.__file__}


class NoLockError(Exception):
    """The file system does not support locks here."""


class LockHeldError(TimeoutError):
    """Another process held a lock for the whole time limit.

    Attributes:
        path: Of the locked file or folder.
        seconds: The time limit.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(f"another process holds the lock of {path}")
        self.path = path
        self.seconds = seconds


class OwnLockError(OSError):
    """A call that this one interrupts holds the lock: a signal handler cannot wait for its own thread."""


_claims: Final[dict[int, FrameType]] = {}
"""The calls that hold or request a lock, by the descriptor of the locked file.

They show a signal handler that its own thread holds a lock, and which locks an interrupt left behind.
"""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_claims.clear)


def hold(handle: int, path: str, seconds: float, claimer: FrameType | None = None) -> None:
    """Acquire the lock of an open file.

    Args:
        handle: The file's descriptor.
        path: The name of the file in errors.
        seconds: The time limit.
        claimer: The frame of the call that releases the lock before it returns; by default, `_caller` finds it.

    Raises:
        LockHeldError: Another process held it for the whole time.
        NoLockError: The file system has no locks.
        OwnLockError: A call that this one interrupts holds it.
    """
    _claims[handle] = _caller() if claimer is None else claimer
    try:
        try:
            fcntl.flock(handle, _TAKE)  # the usual case
        except BlockingIOError:
            _wait(handle, path, seconds)
    except OSError as error:
        _claims.pop(handle, None)
        if error.errno in _NO_LOCKS:
            raise NoLockError(path) from error
        raise


def _wait(handle: int, path: str, seconds: float) -> None:
    """Acquire a lock that another call holds, as `hold` does."""

    def take() -> None:
        try:
            fcntl.flock(handle, _TAKE)
        except BlockingIOError:
            _look_at_own(handle, path)
            raise

    _try_until(take, path, seconds)


def release(handle: int) -> None:
    """Release the lock of an open file. Closing the file is not enough, as a forked child has it open too."""
    fcntl.flock(handle, fcntl.LOCK_UN)
    _claims.pop(handle, None)


def _caller() -> FrameType:
    """Return the frame that holds a lock until it returns: the first one outside the modules that acquire locks."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename in _PASSED or frame.f_code.co_flags & inspect.CO_GENERATOR
    ):
        frame = frame.f_back
    return frame


def _look_at_own(handle: int, path: str) -> None:
    """Refuse a lock that this thread already holds, and release one that an interrupt left behind.

    Raises:
        OwnLockError: This thread holds it.
    """
    wanted = os.fstat(handle)
    claims = list(_claims.items())  # first: the call of a claim that is made after the look at the threads runs in none
    stacks: list[FrameType | None] = [*thread_frames().values()]
    for other, frame in claims:
        if other == handle or not _is_same(other, wanted):
            continue
        if is_running(frame):
            raise OwnLockError(errno.EBUSY, "the call that this one interrupts holds the lock", path)
        if not any(is_running(frame, stack) for stack in stacks) and _claims.get(other) is frame:
            release(other)  # but leave it open, as its owner may still close it


def _is_same(handle: int, wanted: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), wanted)
    return False


@contextmanager
def locked(folder: Folder, seconds: float) -> Iterator[None]:
    """Hold a folder's lock, which the system releases when its holder dies.

    The folder itself is locked, so nothing is left behind. NFS and Windows do not support that, so there a lock file is
    used. If the file system has no locks at all (possible on Lustre), the lock is an exclusively created file. If an
    outer call of this thread holds the lock already, this does not wait: the files have locks of their own.

    Raises:
        LockHeldError: Another process held it for all of `seconds`.
    """
    if sys.platform == "win32":
        with _locked_windows(folder, seconds):
            yield
        return
    handle = folder.open_to_read()
    try:
        try:
            hold(handle, folder.path, seconds)
        except NoLockError:
            with _made(folder, seconds):
                yield
            return
        except OwnLockError:
            pass
        except LockHeldError:
            raise
        except OSError:
            beside = folder.open(_LOCK, os.O_RDWR | os.O_CREAT)
            os.close(handle)
            handle = beside
            hold(handle, folder.path_of(_LOCK), seconds)
        yield
    finally:
        with suppress(OSError):
            release(handle)
        os.close(handle)


@contextmanager
def _locked_windows(folder: Folder, seconds: float) -> Iterator[None]:
    import msvcrt

    handle = folder.open(_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        lock, unlock = msvcrt.LK_NBLCK, msvcrt.LK_UNLCK  # type: ignore[attr-defined,unused-ignore]
        locking = msvcrt.locking  # type: ignore[attr-defined,unused-ignore]

        def take() -> None:
            try:
                locking(handle, lock, 1)
            except PermissionError as error:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it") from error

        _try_until(take, folder.path_of(_LOCK), seconds)
        try:
            yield
        finally:
            locking(handle, unlock, 1)
    finally:
        os.close(handle)


@contextmanager
def _made(folder: Folder, seconds: float) -> Iterator[None]:
    """Hold a lock that is the existence of a file. A lock of a dead process is broken after a while."""

    def make() -> None:
        try:
            os.close(folder.open(_LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError as error:
            with suppress(FileNotFoundError):
                if time.time() - folder.stat(_LOCK).st_mtime > DEAD_AFTER:
                    folder.unlink(_LOCK)
            raise BlockingIOError(errno.EWOULDBLOCK, "another process made it") from error

    _try_until(make, folder.path_of(_LOCK), seconds + DEAD_AFTER)
    try:
        yield
    finally:
        folder.unlink(_LOCK)


def _try_until(take: Callable[[], object], path: str, seconds: float) -> None:
    """Call `take` until it raises no `BlockingIOError`."""
    between, begun = pauses(_FIRST_PAUSE, _LONGEST_PAUSE), 0.0
    while True:
        try:
            take()
            return
        except BlockingIOError as error:
            now = time.monotonic()
            begun = begun or now
            left = begun + seconds - now
            if left <= 0:
                raise LockHeldError(path, seconds) from error
        time.sleep(min(next(between), left))
