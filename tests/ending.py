"""A script that records a run and ends in one of many ways: ``python -m tests.ending HOW URL OPTIONS [cold] [MORE]``.

OPTIONS and MORE arguments of the `Logbook` are JSON. It says ``ready`` when the run has begun, and what it does then it
does when its input ends or a signal comes.
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
from notata.store import open_store
from notata.testing import FaultyBackend


def cold() -> None:
    """Have each request connect anew and resolve its host anew, as after an idle time longer than the keep-alive."""
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
    """As scripts do that are asked to end, in the middle of their work."""

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
    """What is asked of it is never answered."""
    far = FaultyBackend(open_store("memory://far"))
    far.fail(1, error=stall)
    with begin(mirror=MirrorStorage(far, exit_timeout=0.1)):
        ready()


def end_well_with_a_copy_that_stalls(begin: Callable[..., Logbook]) -> None:
    """The same, of a file."""
    far = FaultyBackend(open_store("memory://far"))
    far.fail(1, key="artifacts/notes.txt", error=stall)
    with begin(mirror=MirrorStorage(far, exit_timeout=0.1)) as log:
        log.text("notes", "a")
        ready()


def stall() -> Exception:
    threading.Event().wait()
    return AssertionError()


def write_after_the_end(begin: Callable[..., Logbook]) -> None:
    """Late, by the logbook, and by another road, when the mirror's thread is done."""
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


def leave_it_to_a_thread(begin: Callable[..., Logbook]) -> None:
    """The main thread ends first; the other one ends the run."""
    log = begin()

    def work() -> None:
        threading.Event().wait(0.2)  # the main thread has ended by then, but for what is done at exit
        log.text("late", "by the thread")
        log.mark_complete()

    threading.Thread(target=work).start()
    ready()


def be_watched(begin: Callable[..., Logbook]) -> None:
    """A thread waits for the main one to end, and would wait for ever if that one waited for it."""
    exits.PATIENCE = 1000  # type: ignore[misc]
    begin()
    ready()
    threading.Thread(target=threading.main_thread().join).start()
    threading.Thread(target=poll).start()


def poll() -> None:
    while threading.main_thread().is_alive():
        threading.Event().wait(0.05)


def leave_a_thread_that_waits_long(begin: Callable[..., Logbook]) -> None:
    """A thread that does nothing with the run for longer than is waited for: the run is ended once it has ended."""
    exits.PATIENCE = 0.1  # type: ignore[misc]
    begin()
    ready()
    threading.Thread(target=threading.Event().wait, args=(0.5,)).start()


def get_sigterm_at_exit(begin: Callable[..., Logbook]) -> None:
    """What is done at exit goes on, with the next run, though it is asked to end meanwhile."""
    other = {"run_id": "other", "callback": lambda log: os.kill(os.getpid(), signal.SIGTERM)}
    begin(handle_sigterm=True, **other)
    begin(callback=lambda log: log.info("from the callback"))
    ready()


def get_sigterm_while_threads_are_waited_for(begin: Callable[..., Logbook]) -> None:
    """No time is left for the thread: what is known is stored."""

    def work() -> None:
        threading.Event().wait(0.3)  # the main thread waits for this one by then
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
    """`logging` flushes and closes the handlers that it knows, under its lock."""
    log = begin()
    log.attach("mine")
    logging.getLogger("mine").setLevel(logging.DEBUG)  # every logger asks anew which levels it takes
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    log.info("after that")
    log.mark_complete()
    ready()


def fork(begin: Callable[..., Logbook]) -> None:
    """A forked child that ends in its own way does not end its parent's run."""
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
