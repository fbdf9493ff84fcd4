"""Detect that a call runs inside another call of the same thread, as a signal handler does."""

from __future__ import annotations

import gc
import sys
from types import FrameType

__all__ = ["is_running", "thread_frames"]


def is_running(frame: FrameType | None, innermost: FrameType | None = None) -> bool:
    """Check whether a call, given by its frame, is among the callers of this one.

    Args:
        frame: The frame of the call.
        innermost: The innermost frame of another thread, to check the calls of that thread instead.

    A signal handler, or the `__del__` of a collected object, can run within any call of its thread. A flag cannot
    detect this reliably: an interrupt can come before the flag is reset.

    >>> is_running(sys._getframe()), is_running(None)
    (True, False)
    """
    here: FrameType | None = None if frame is None else innermost or sys._getframe()
    while here is not None:
        if here is frame:
            return True
        here = here.f_back
    return False


def thread_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the identifier of the thread.

    `sys._current_frames` holds a lock of the interpreter. In Python 3.11, a garbage collection meanwhile may ask for it
    too, and the process waits for ever (https://github.com/python/cpython/issues/106883). So none happens.

    >>> import threading
    >>> threading.get_ident() in thread_frames()
    True
    """
    collects = gc.isenabled()
    try:
        gc.disable()
        return sys._current_frames()
    finally:
        if collects:
            gc.enable()
