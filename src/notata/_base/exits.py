"""Handle the end of the process: make registered calls, and find the exception or signal that ended it.

The process passes through the phases of `Phase`. In *running*, the script runs. When it is over, the exit waits for the
threads of the script that still use a run; see `Role`. In *ending*, the registered calls are made: each open run stores
its data and its status. In *late*, the functions of `atexit` have run, and the remaining calls are made.

On SIGTERM, a handler of `Sigterm` responds in one of three ways; see `Response`. The first SIGTERM raises `Terminated`
in the main thread. The ``with`` block of a run then ends the run as failed; without a block, the call at exit does so,
with SIGTERM as the `exit_cause`, and does not wait for threads. A second SIGTERM, and one that arrives while the
process is ending, is ignored, so that everything can be stored. The handler stays until the last step of the end of the
run.

Calls at exit use ``threading._register_atexit``, not `atexit`. When `atexit` functions run, the executor that resolves
host names is already closed, so a request to a host *name* fails (``cannot schedule new futures after shutdown``).
Calls at exit cannot start threads: Python 3.12.1 and later refuse that.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # registers its exit function first, so that ours runs before it
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from enum import Enum
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from notata._base.nesting import thread_frames
from notata._base.processes import ForkCheck
from notata._base.secrets import redacted
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, Terminated

__all__ = [
    "Phase",
    "Response",
    "Role",
    "Sigterm",
    "at_exit",
    "call_late",
    "exit_cause",
    "forget",
    "is_from_handler",
    "mark_used",
    "pending",
    "run_all",
]

Call = Callable[[], None]

_OWN: Final = "notata-"  # the beginning of the names of notata's threads
_EXECUTORS: Final = ("concurrent.futures.", "loky.", "joblib.")

PATIENCE: Final = 10.0  # seconds to wait for threads that do not use a run
_SLICE: Final = 0.1
_MOST: Final = 100_000

_calls: dict[Call, None] = {}
"""Calls at exit, in order. A separate list, as the interpreter's own list does not support removal."""

_late_calls: dict[Call, None] = {}
"""Calls to make after the functions of `atexit` have run."""


class Phase(Enum):
    """The progress of the process towards its end."""

    RUNNING = "running"  # the script runs, or the exit waits for its threads
    ENDING = "ending"  # the calls are made
    LATE = "late"  # the functions of `atexit` have run


phase = Phase.RUNNING
_last_use = 0.0
"""When a thread of the script last used an object with a registered call, as `time.monotonic`."""


def at_exit(call: Call) -> None:
    """Register `call` for the end of the interpreter, in this process or in a forked child."""
    _calls[call] = None


def pending() -> tuple[Call, ...]:
    """Return the calls that are to be made at exit, in order."""
    return tuple(_calls)


def forget(call: Call) -> None:
    """Unregister `call`."""
    _calls.pop(call, None)
    _late_calls.pop(call, None)


def call_late(call: Call) -> bool:
    """Register `call` to run after the `atexit` functions of the script. Return False if that is not possible.

    A child of `multiprocessing` does not run `atexit` functions.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    if phase is Phase.LATE or (multiprocessing is not None and multiprocessing.parent_process() is not None):
        return False
    _late_calls[call] = None
    return True


def exit_cause() -> BaseException | None:
    """Return the exception that ended the script: SIGTERM, or an uncaught exception; None if there is none."""
    if (received := Sigterm.received) is not None:
        return received if received.__traceback__ else received.with_traceback(Sigterm.where)
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
    """Record that a thread of the script just used an object with a registered call. Threads of notata do not count."""
    global _last_use  # noqa: PLW0603
    if not threading.current_thread().name.startswith(_OWN):
        _last_use = time.monotonic()


def _before_joining() -> None:
    """Make the calls before the interpreter joins its threads, if no thread still uses a run."""
    if not _calls:
        return
    try:
        have_ended = Sigterm.received is not None or _wait_for_threads()
    except Terminated:  # do not wait for threads after SIGTERM
        have_ended = True
    except BaseException:
        run_all()
        raise
    if have_ended:
        run_all()


def _after_joining() -> None:
    """Make the remaining calls after all threads have ended; resolving host names may fail by then."""
    global phase  # noqa: PLW0603
    phase = Phase.LATE
    _calls.update(_late_calls)
    _late_calls.clear()
    run_all()


def run_all() -> None:
    """Make all calls that are to be made at exit, and report those that fail."""
    global phase  # noqa: PLW0603
    if phase is Phase.RUNNING:
        phase = Phase.ENDING
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


def _wait_for_threads() -> bool:
    """Wait for the threads of the script while they use a run, and `PATIENCE` seconds longer. Return if they ended.

    The interpreter would wait for them, too, but first it closes its executors, which resolve host names.
    """
    started = time.monotonic()
    while others := [thread for thread in threading.enumerate() if _role(thread) is Role.WORKER]:
        left = max(started, _last_use) + PATIENCE - time.monotonic()
        if left <= 0:
            return False
        others[0].join(min(left, _SLICE))
    return True


class Role(Enum):
    """The role of a thread, which decides whether the exit waits for it."""

    WORKER = "works for the script"  # the exit waits for these threads only
    OWN = "is the main thread or the current one"
    DAEMON = "may be stopped at any time"
    OF_EXECUTOR = "is joined by its executor"
    WATCHER = "waits for the end of the main thread"


def _role(thread: threading.Thread) -> Role:
    if thread in (threading.current_thread(), threading.main_thread()):
        return Role.OWN
    if thread.daemon:
        return Role.DAEMON
    if thread in concurrent.futures.thread._threads_queues or type(thread).__module__.startswith(_EXECUTORS):
        return Role.OF_EXECUTOR
    return Role.WATCHER if _waits_for_main(thread) else Role.WORKER


def _waits_for_main(thread: threading.Thread) -> bool:
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


class Response(Enum):
    """The response of a handler to SIGTERM."""

    RAISE = "call the previous handler, and raise Terminated in the main thread"
    IGNORE = "nothing: this is the second SIGTERM, or the process is already ending"
    PASS_ON = "call the previous handler only: this one was removed, or the process is a forked child"


class Sigterm:
    """A signal handler that raises `Terminated` in the main thread when SIGTERM arrives; see `Response`.

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
        self._is_removed = False
        self._fork = ForkCheck()
        # None stands for a handler that was not installed from Python, which cannot be restored.
        self._previous: Any = signal.signal(signal.SIGTERM, self._handle) or signal.SIG_DFL

    def response(self) -> Response:
        """Return what the handler would do on SIGTERM now."""
        if self._is_removed or self._fork.is_forked():
            return Response.PASS_ON
        return Response.RAISE if Sigterm.received is None and phase is Phase.RUNNING else Response.IGNORE

    def _handle(self, number: int, frame: FrameType | None) -> None:
        response = self.response()
        if response is Response.PASS_ON:
            self._pass_on(number, frame)
        elif response is Response.RAISE:
            Sigterm.received, Sigterm.where = Terminated(), _trace(frame)
            if callable(self._previous):
                self._previous(number, frame)
            raise Sigterm.received

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def remove(self) -> None:
        """Restore the previous handler, unless another one was installed since. At exit, keep ignoring SIGTERM."""
        if phase is not Phase.RUNNING:
            return
        self._is_removed = True
        here = threading.current_thread() is threading.main_thread()
        if here and not self._fork.is_forked() and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._previous)


def _trace(frame: FrameType | None) -> TracebackType | None:
    """Return the traceback of an exception that propagates from `frame` to the outermost call."""
    trace: TracebackType | None = None
    while frame is not None:
        trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return trace
