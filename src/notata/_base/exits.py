"""Handle the end of the process: make registered calls, and find the exception or signal that ended it.

Calls at exit use ``threading._register_atexit``, not `atexit`. When `atexit` functions run, the executor that resolves
host names is already closed, so a request to a host *name* fails (``cannot schedule new futures after shutdown``).
Calls at exit cannot start threads: Python 3.12.1 and later refuse that.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # registers its exit function first, so that ours runs before it
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from notata._base.nesting import thread_frames
from notata._base.secrets import redacted
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, Terminated

__all__ = ["Sigterm", "at_exit", "call_late", "exit_cause", "forget", "is_from_handler", "mark_used"]

Call = Callable[[], None]

_EXECUTORS: Final = ("concurrent.futures.", "loky.", "joblib.")

_PATIENCE: Final = 10.0  # seconds to wait for threads that do not use a run
_SLICE: Final = 0.1
_MOST: Final = 100_000

_calls: dict[Call, None] = {}
"""Calls at exit, in order. A separate list, as the interpreter's own list does not support removal."""

_late_calls: dict[Call, None] = {}
"""Calls to make after the functions of `atexit` have run."""

_used = 0.0
_ending = _is_late = False


def at_exit(call: Call) -> None:
    """Register `call` for the end of the interpreter, in this process or in a forked child."""
    _calls[call] = None


def forget(call: Call) -> None:
    """Unregister `call`."""
    _calls.pop(call, None)
    _late_calls.pop(call, None)


def call_late(call: Call) -> bool:
    """Register `call` to run after the `atexit` functions of the script. Return False if that is not possible.

    A child of `multiprocessing` does not run `atexit` functions.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    if _is_late or (multiprocessing is not None and multiprocessing.parent_process() is not None):
        return False
    _late_calls[call] = None
    return True


def exit_cause() -> BaseException | None:
    """Return the exception that ended the script: SIGTERM, or an uncaught exception; None if there is none."""
    if Sigterm.received is not None:
        ended = Sigterm.received
        return ended if ended.__traceback__ else ended.with_traceback(Sigterm.where)
    if hasattr(sys, "ps1"):  # in an interactive session, the last error belongs to an earlier line
        return None
    last: BaseException | None = getattr(sys, "last_value", None)
    return last


def is_from_handler(error: BaseException) -> bool:
    """Check whether a signal handler of the script raised an exception, so that a signal ended the process."""
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def _code(handler: object) -> CodeType | None:
    """Return the code object of a function or a method."""
    code = getattr(getattr(handler, "func", handler), "__code__", None)  # `func` is an attribute of functools.partial
    return code if isinstance(code, CodeType) else None


def mark_used() -> None:
    """Record that a thread of the script just used an object with a registered call."""
    global _used  # noqa: PLW0603
    _used = time.monotonic()


def _before_joining() -> None:
    """Make the calls before the interpreter joins its threads, if no thread still uses a run."""
    if not _calls:
        return
    try:
        ended = _threads_ended()
    except Terminated:  # do not wait for threads after SIGTERM
        _run()
    except BaseException:
        _run()
        raise
    else:
        if ended:
            _run()


def _after_joining() -> None:
    """Make the remaining calls after all threads have ended; resolving host names may fail by then."""
    global _is_late  # noqa: PLW0603
    _is_late = True
    _calls.update(_late_calls)
    _late_calls.clear()
    _run()


def _run() -> None:
    global _ending  # noqa: PLW0603
    _ending = True
    interrupt: BaseException | None = None
    for _ in range(_MOST):  # a call can register another one
        if not _calls:
            break
        call = next(iter(_calls))
        forget(call)
        try:
            call()
        except Exception as error:
            message = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            print(f"notata, at exit: {one_line(redacted(message), 4000)}", file=sys.stderr)  # noqa: T201
        except BaseException as error:  # Ctrl-C ends one call; the others still run
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _threads_ended() -> bool:
    """Wait for the threads of the script while they use a run, and `_PATIENCE` seconds longer.

    The interpreter would wait for them, too, but first it closes its executors, which resolve host names.
    """
    started = time.monotonic()
    while others := [thread for thread in threading.enumerate() if not _is_not_awaited(thread)]:
        left = max(started, _used) + _PATIENCE - time.monotonic()
        if left <= 0:
            return False
        others[0].join(min(left, _SLICE))
    return True


def _is_not_awaited(thread: threading.Thread) -> bool:
    """Check whether not to wait for a thread: it is a daemon, belongs to an executor, or waits for the main thread."""
    is_known = thread is threading.current_thread() or thread is threading.main_thread()
    of_executor = thread in concurrent.futures.thread._threads_queues or type(thread).__module__.startswith(_EXECUTORS)
    return is_known or thread.daemon or of_executor or _awaits_main(thread)


def _awaits_main(thread: threading.Thread) -> bool:
    """Check whether a thread joins the main thread, or polls whether the main thread is alive."""
    frame = thread_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code is threading.Thread.join.__code__:
            joined = frame.f_locals
            return joined.get("self") is threading.main_thread() and joined.get("timeout") is None
        if {"main_thread", "is_alive"} <= set(frame.f_code.co_names):
            return True
        frame = frame.f_back
    return False


atexit.register(_after_joining)
getattr(threading, "_register_atexit", atexit.register)(_before_joining)


class Sigterm:
    """A signal handler that raises `Terminated` in the main thread when SIGTERM arrives.

    A previous handler is called first, and `remove` restores it.

    Attributes:
        received: The exception that was raised; None before SIGTERM.
        where: The traceback of the main thread at SIGTERM, as the interpreter drops the traceback of a `SystemExit`.
    """

    received: Terminated | None = None
    where: TracebackType | None = None

    def __init__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "cannot use handle_sigterm=True in this thread: Python handles signals in the main thread only. Create "
                "the Logbook in the main thread"
            )
        Sigterm.received = Sigterm.where = None  # forget the signal of an earlier handler
        self._active = True
        self._pid = os.getpid()
        self._previous: Any = signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._active or os.getpid() != self._pid:  # not in a forked child
            self._pass_on(number, frame)
            return
        if Sigterm.received is not None or _ending:  # the process is already ending
            return
        Sigterm.received, Sigterm.where = Terminated(), _trace(frame)
        if callable(self._previous):
            self._previous(number, frame)
        raise Sigterm.received

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def remove(self) -> None:
        """Restore the previous handler, unless another one was installed since."""
        self._active = _ending  # stay active at exit, so that SIGTERM does not interrupt it
        if _ending:
            return
        here = threading.current_thread() is threading.main_thread()
        if here and os.getpid() == self._pid and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._previous)


def _trace(frame: FrameType | None) -> TracebackType | None:
    """Return the traceback of an exception that propagates from `frame` to the outermost call."""
    trace: TracebackType | None = None
    while frame is not None:
        trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return trace
