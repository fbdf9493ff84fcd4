"""Whether a call runs within another call of its own thread, as a signal handler does; it knows nothing else."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["is_running"]


def is_running(frame: FrameType | None, innermost: FrameType | None = None) -> bool:
    """Check whether a call, given by its frame, is among the callers of this one.

    Args:
        frame: Of the call.
        innermost: Look at the calls of another thread, from its innermost one, instead.

    A signal handler, or the `__del__` of an object that is collected, may run within any call of its thread. A flag
    cannot tell that: an interrupt may come before the flag is taken back.

    >>> is_running(sys._getframe()), is_running(None)
    (True, False)
    """
    here: FrameType | None = None if frame is None else innermost or sys._getframe()
    while here is not None:
        if here is frame:
            return True
        here = here.f_back
    return False
