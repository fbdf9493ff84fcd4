"""How a process ends: what is still to be done then, and which exception or signal ended it. It knows nothing of runs.

Work at exit goes through ``threading._register_atexit``, not `atexit`: by the time of the latter the executor that
resolves host names is closed, so a request to a host *name* fails (``cannot schedule new futures after shutdown``).
What is done then starts no thread: Python 3.12.1 refuses that already.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # registers its own end first, so that ours comes before it
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from notata._base.secrets import redacted
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, Terminated

__all__ = ["Sigterm", "abandon", "at_exit", "cause", "forget", "is_of_handler", "later", "used"]

Call = Callable[[], None]

_EXECUTORS: Final = ("concurrent.futures.", "loky.", "joblib.")

_PATIENCE: Final = 10.0  # seconds that threads get which do not work with a run
_SLICE: Final = 0.1
_MOST: Final = 100_000

_calls: dict[Call, None] = {}
"""What is to be done at exit, in order. The interpreter's own list cannot be taken from again."""

_late_calls: dict[Call, None] = {}
"""What has time until the functions of `atexit` have run."""

_used = 0.0
_ending = _is_late = False


def at_exit(call: Call) -> None:
    """Have `call` made when the interpreter ends, in this process or in one forked from it."""
    _calls[call] = None


def forget(call: Call) -> None:
    """Take `call` back."""
    _calls.pop(call, None)
    _late_calls.pop(call, None)


def later(call: Call) -> bool:
    """Call `call` after the script's own functions of `atexit`. Return False if that is not possible.

    A child of `multiprocessing` ends without them.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    if _is_late or (multiprocessing is not None and multiprocessing.parent_process() is not None):
        return False
    _late_calls[call] = None
    return True


def abandon(prefix: str) -> None:
    """Have the interpreter's end not wait for the daemon threads of executors whose names begin so.

    An executor's threads are daemons where a daemon thread made them, and joined all the same.
    """
    threads: Any = concurrent.futures.thread._threads_queues
    for thread in [thread for thread in threads if thread.daemon and thread.name.startswith(prefix)]:
        threads.pop(thread, None)


def cause() -> BaseException | None:
    """The exception that ended the script, if one did: SIGTERM, or one that nobody caught."""
    if Sigterm.received is not None:
        ended = Sigterm.received
        return ended if ended.__traceback__ else ended.with_traceback(Sigterm.where)
    if hasattr(sys, "ps1"):  # in a session, the last error is that of some earlier line
        return None
    last: BaseException | None = getattr(sys, "last_value", None)
    return last


def is_of_handler(error: BaseException) -> bool:
    """Whether an exception came out of a signal handler of the script: the process was asked to end."""
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def _code(handler: object) -> CodeType | None:
    """The code of a function or a method."""
    code = getattr(getattr(handler, "func", handler), "__code__", None)  # func: of a functools.partial
    return code if isinstance(code, CodeType) else None


def used() -> None:
    """Take note that a thread of the script works with what is to be ended at exit."""
    global _used  # noqa: PLW0603
    _used = time.monotonic()


def _early() -> None:
    """Before the interpreter joins the threads: end everything, if no thread may be working with it still."""
    if not _calls:
        return
    try:
        ended = _threads_ended()
    except Terminated:  # no time for threads any more
        _run()
    except BaseException:
        _run()
        raise
    else:
        if ended:
            _run()


def _late() -> None:
    """When every thread has ended; a host's name may not be found any more."""
    global _is_late  # noqa: PLW0603
    _is_late = True
    _calls.update(_late_calls)
    _late_calls.clear()
    _run()


def _run() -> None:
    global _ending  # noqa: PLW0603
    _ending = True
    interrupt: BaseException | None = None
    for _ in range(_MOST):  # a call may ask for another one
        if not _calls:
            break
        call = next(iter(_calls))
        forget(call)
        try:
            call()
        except Exception as error:
            told = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            print(f"notata, at exit: {one_line(redacted(told), 4000)}", file=sys.stderr)  # noqa: T201
        except BaseException as error:  # Ctrl-C ends one of them; the others are short, too
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _threads_ended() -> bool:
    """Wait for the script's own threads as long as they work with a run, and `_PATIENCE` beyond.

    The interpreter waits for them next, but closes its executors before, and with them the way to a host's name.
    """
    begun = time.monotonic()
    while others := [thread for thread in threading.enumerate() if not _ends_by_itself(thread)]:
        left = max(begun, _used) + _PATIENCE - time.monotonic()
        if left <= 0:
            return False
        others[0].join(min(left, _SLICE))
    return True


def _ends_by_itself(thread: threading.Thread) -> bool:
    """Whether it is not to be waited for: an executor's, which ends when told to, or one that waits for the main."""
    mine = thread is threading.current_thread() or thread is threading.main_thread()
    of_executor = thread in concurrent.futures.thread._threads_queues or type(thread).__module__.startswith(_EXECUTORS)
    return mine or thread.daemon or of_executor or _awaits_main(thread)


def _awaits_main(thread: threading.Thread) -> bool:
    """Whether it joins the main thread, or asks again and again whether that is alive."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code is threading.Thread.join.__code__:
            joined = frame.f_locals
            return joined.get("self") is threading.main_thread() and joined.get("timeout") is None
        if {"main_thread", "is_alive"} <= set(frame.f_code.co_names):
            return True
        frame = frame.f_back
    return False


atexit.register(_late)
getattr(threading, "_register_atexit", atexit.register)(_early)


class Sigterm:
    """Turns SIGTERM into `Terminated`, raised in the main thread, while it is installed.

    A handler that was there before is called first, and is put back by `remove`.

    Attributes:
        received: What was raised; None before.
        where: Where the main thread was then. The interpreter takes that from a `SystemExit` which it lets end it.
    """

    received: Terminated | None = None
    where: TracebackType | None = None

    def __init__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError("handle_sigterm=True works in the main thread only: there Python handles signals")
        Sigterm.received = Sigterm.where = None  # what an earlier one began is over
        self._active = True
        self._pid = os.getpid()
        self._before: Any = signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._active or os.getpid() != self._pid:  # a forked child is not ours to end
            self._pass_on(number, frame)
            return
        if Sigterm.received is not None or _ending:  # what the first one asked for, or the exit, goes on
            return
        Sigterm.received, Sigterm.where = Terminated(), _trace(frame)
        if callable(self._before):
            self._before(number, frame)
        raise Sigterm.received

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(number, frame)
        elif self._before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def remove(self) -> None:
        """Put the handler of before back, unless somebody else's was installed since."""
        self._active = _ending  # the process ends in any case, and is not to be cut short
        if _ending:
            return
        here = threading.current_thread() is threading.main_thread()
        if here and os.getpid() == self._pid and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._before)


def _trace(frame: FrameType | None) -> TracebackType | None:
    """The traceback that an exception would have which came all the way from `frame`."""
    trace: TracebackType | None = None
    while frame is not None:
        trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return trace
