"""A script that records a run and ends in one of many ways: ``python -m tests.ending HOW URL OPTIONS [cold] [MORE]``.

OPTIONS and MORE arguments of the `Logbook` are JSON. The script prints ``ready`` when the run has started. It continues
when its standard input is closed or a signal arrives.
"""

from __future__ import annotations

import atexit
import json
import logging.config
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import aiohttp

from notata import Logbook, MirrorStorage
from notata._base import exits
from notata._base.nesting import thread_frames
from notata.store import open_store
from notata.testing import FaultyBackend


def cold() -> None:
    """Make each request connect and resolve its host again, as after an idle time longer than the keep-alive."""
    original = aiohttp.TCPConnector.__init__

    def connector(self: aiohttp.TCPConnector, *arguments: Any, **options: Any) -> None:
        options.pop("keepalive_timeout", None)
        original(self, *arguments, **{**options, "force_close": True, "use_dns_cache": False})

    aiohttp.TCPConnector.__init__ = connector  # type: ignore[method-assign]


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def end_well(begin: Callable[..., Logbook]) -> None:
    with begin():
        ready()


def raise_in_the_block(begin: Callable[..., Logbook]) -> None:
    with begin():
        ready()
        raise ValueError("h = -1")


def raise_without_a_block(begin: Callable[..., Logbook]) -> None:
    begin()
    ready()
    try:
        raise KeyError("h")
    except KeyError as error:
        raise ValueError("h = -1") from error


def exit_with_3(begin: Callable[..., Logbook]) -> None:
    begin()
    ready()
    sys.exit(3)


def exit_with_3_in_the_block(begin: Callable[..., Logbook]) -> None:
    with begin():
        ready()
        sys.exit(3)


def exit_with_0_in_the_block(begin: Callable[..., Logbook]) -> None:
    with begin():
        ready()
        sys.exit(0)


def exit_with_0_in_a_signal_handler(begin: Callable[..., Logbook]) -> None:
    """A script that exits in a signal handler, as many do on SIGTERM."""

    def handler(*_: object) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, handler)
    with begin():
        ready()


def end_by_atexit(begin: Callable[..., Logbook]) -> None:
    log = begin()
    atexit.register(log.mark_complete)
    atexit.register(log.info, "from atexit")
    ready()


def end_by_atexit_after_an_error(begin: Callable[..., Logbook]) -> None:
    end_by_atexit(begin)
    raise ValueError("h = -1")


def forget_to_end(begin: Callable[..., Logbook]) -> None:
    begin().info("the last line")
    ready()


def end_well_with_a_mirror_that_stalls(begin: Callable[..., Logbook]) -> None:
    """The storage of the mirror never responds."""
    far = FaultyBackend(open_store("memory://far"))
    far.fail(1, error=stall)
    with begin(mirror=MirrorStorage(far, exit_timeout=0.1)):
        ready()


def end_well_with_an_upload_that_stalls(begin: Callable[..., Logbook]) -> None:
    """The storage of the mirror never responds to the upload of a file."""
    far = FaultyBackend(open_store("memory://far"))
    far.fail(1, key="artifacts/notes.txt", error=stall)
    with begin(mirror=MirrorStorage(far, exit_timeout=0.1)) as log:
        log.text("notes", "a")
        ready()


def stall() -> Exception:
    threading.Event().wait()
    return AssertionError()


def write_after_the_end(begin: Callable[..., Logbook]) -> None:
    """Write to the run after it has ended and the mirror's thread has finished: through the logbook and a path."""
    with begin() as log:
        ready()
    assert log.mirror is not None
    log.mirror.flush()
    for thread in threading.enumerate():
        if thread.name == "notata-mirror":
            thread.join()
    log.text("late", "a")
    with open(str(log["artifacts/later.txt"]), "w") as file:
        file.write("b")


def exit_at_once(begin: Callable[..., Logbook]) -> None:
    begin()
    ready()
    os._exit(0)


def wait(begin: Callable[..., Logbook]) -> None:
    begin()
    ready()


def wait_for_sigterm(begin: Callable[..., Logbook]) -> None:
    begin(handle_sigterm=True)
    ready()


def wait_for_sigterm_in_the_block(begin: Callable[..., Logbook]) -> None:
    with begin(handle_sigterm=True):
        ready()


def wait_for_the_exit() -> None:
    """Wait until the main thread waits for the other threads, as it does at exit."""
    while True:
        frame = thread_frames().get(threading.main_thread().ident or 0)
        while frame is not None:
            if (frame.f_code.co_filename, frame.f_code.co_name) == (exits.__file__, "_wait_for_threads"):
                return
            frame = frame.f_back
        threading.Event().wait(0.01)


def end_in_another_thread(begin: Callable[..., Logbook]) -> None:
    """The main thread ends first; another thread ends the run."""
    log = begin()

    def work() -> None:
        wait_for_the_exit()
        log.text("late", "by the thread")
        log.mark_complete()

    threading.Thread(target=work).start()
    ready()


def join_the_main_thread(begin: Callable[..., Logbook]) -> None:
    """A thread waits for the main thread to end. If the main thread waited for it, both would hang."""
    exits.PATIENCE = 1000  # type: ignore[misc]
    begin()
    ready()
    threading.Thread(target=threading.main_thread().join).start()
    threading.Thread(target=poll).start()


def poll() -> None:
    while threading.main_thread().is_alive():
        threading.Event().wait(0.05)


def leave_a_slow_thread(begin: Callable[..., Logbook]) -> None:
    """A thread that does not use the run takes longer than the time limit: the run ends when the thread ends."""
    exits.PATIENCE = 0.1  # type: ignore[misc]
    begin()
    ready()
    threading.Thread(target=threading.Event().wait, args=(0.5,)).start()


def get_sigterm_at_exit(begin: Callable[..., Logbook]) -> None:
    """The work at exit continues with the next run, although SIGTERM arrives."""
    other = {"run_id": "other", "callback": lambda log: os.kill(os.getpid(), signal.SIGTERM)}
    begin(handle_sigterm=True, **other)
    begin(callback=lambda log: log.info("from the callback"))
    ready()


def get_sigterm_while_waiting_for_threads(begin: Callable[..., Logbook]) -> None:
    """The thread gets no more time: the pending data is stored."""

    def work() -> None:
        wait_for_the_exit()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0.3)

    begin(handle_sigterm=True)
    ready()
    threading.Thread(target=work).start()


def get_sigterm_beside_a_thread(begin: Callable[..., Logbook]) -> None:
    """The thread runs until the run has ended; waiting for the thread first would take forever."""
    exits.PATIENCE = 1000  # type: ignore[misc]
    log = begin(handle_sigterm=True)

    def work() -> None:
        while log.status != "failed":
            threading.Event().wait(0.05)

    threading.Thread(target=work).start()
    ready()


def terminate(log: Logbook) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    log.info("after the signal")


def get_sigterm_in_the_callback(begin: Callable[..., Logbook]) -> None:
    with begin(handle_sigterm=True, callback=terminate):
        ready()


def configure_logging(begin: Callable[..., Logbook]) -> None:
    """`logging` flushes and closes its handlers while it holds its lock."""
    log = begin()
    log.attach("mine")
    logging.getLogger("mine").setLevel(logging.DEBUG)  # every logger computes its effective level again
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    log.info("after that")
    log.mark_complete()
    ready()


def fork(begin: Callable[..., Logbook]) -> None:
    """When a forked child exits, its parent's run does not end."""
    with begin() as log:
        child = multiprocessing.get_context("fork").Process(target=log.info, args=("from the child",))
        child.start()
        child.join()
        assert child.exitcode == 0
        ready()


def main(how: str, url: str, options: str, *rest: str) -> None:
    if "cold" in rest:
        cold()
    further = [json.loads(each) for each in rest if each != "cold"]

    def begin(run_id: str = "run", **arguments: Any) -> Logbook:
        for each in further:
            arguments |= each
        if isinstance(mirror := arguments.get("mirror"), dict):
            arguments["mirror"] = MirrorStorage(**mirror)
        log = Logbook(run_id, url, storage_options=json.loads(options), **arguments)
        log.info("begun")
        return log

    globals()[how](begin)


if __name__ == "__main__":
    main(*sys.argv[1:])
