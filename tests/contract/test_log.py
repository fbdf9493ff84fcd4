"""log.txt on every backend: lines in the documented format, each once and in order, and their cost in a bucket."""

from __future__ import annotations

import errno
import io
import logging
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import pytest

from notata import ConfigurationError, Logbook, RunEndedError, StorageError
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.counting import Send, counted, intercepted
from tests.tools.lines import measure, wanted

MANY = 100_000


@contextmanager
def lose_every_third_reply() -> Iterator[list[str]]:
    """Drop every third reply to a request that changes something, after the server has applied it."""
    changes: list[str] = []

    async def request(send: Send, method: str, url: Any, **kwargs: Any) -> Any:
        response = await send(method, url, **kwargs)
        if method != "GET":
            changes.append(str(url))
            if len(changes) % 3 == 2:
                await response.read()
                response.close()
                raise aiohttp.ServerDisconnectedError
        return response

    with intercepted(request):
        yield changes


# -- what is there -----------------------------------------------------------------------------------------


def test_the_documented_form(place: Place) -> None:
    log = place.logbook(log_level="debug")
    log.note("a note")
    log.note("an urgent one", logging.CRITICAL)
    log.debug("residual %.1e", 3e-9)
    log.info("100 %")
    log.warning("é\nsecond line")
    log.error("x %s %d", "y", 1)
    log.text("notes", "x")
    log.json("a/metrics", {})
    log.pickle("model", 1)
    log.bytes("raw", b"")
    with log.local("data/mesh.vtk") as path:
        path.write_text("")
    log.mark_complete()
    lines = place.bytes("log_run/log.txt").decode().splitlines()
    form = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?P<offset>[+-]\d\d:\d\d)?\] [A-Z]+ .*"
    found = [re.fullmatch(form, line) for line in lines if line[0] == "["]
    assert [match and match["offset"] is not None for match in found] == [True] + [False] * (len(found) - 1)
    assert place.log() == [
        "INFO Logbook initialized",
        "INFO a note",
        "CRITICAL an urgent one",
        "DEBUG residual 3.0e-09",
        "INFO 100 %",
        "WARNING é",
        "  second line",
        "ERROR x y 1",
        "INFO Saved text notes in artifacts/notes.txt",
        "INFO Saved JSON a/metrics in artifacts/a/metrics.json",
        "INFO Saved pickle model in artifacts/model.pkl",
        "INFO Saved bytes raw in artifacts/raw",
        "INFO Saved file mesh.vtk in data/mesh.vtk",
        "INFO Marked complete",
    ]


def test_on_local_storage_each_line_is_stored_at_once(place: Place) -> None:
    log = place.logbook()
    log.info("now")
    if place.bucket:
        log.flush()
    assert place.log()[-1] == "INFO now"
    log.mark_complete()
    log.info("after the end")
    log.flush()
    assert place.log()[-1] == "INFO after the end"


def test_levels(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTATA_LOG_LEVEL", "error")
    with place.logbook("a") as log:
        log.warning("no")
        log.error("yes")
    assert place.log("a") == ["ERROR yes"]
    with place.logbook("b", log_level=logging.WARNING) as log:
        log.info("no")
        log.warning("yes")
    assert place.log("b") == ["WARNING yes"]
    with pytest.raises(ConfigurationError, match="invalid log level 'loud': pass a number, or one of CRITICAL"):
        place.logbook("c", log_level="loud")
    assert "log_c/metadata.json" not in place.names()


def test_loggers_of_others(place: Place) -> None:
    name = f"tests.{uuid.uuid4().hex}"
    solver, plain = logging.getLogger(f"{name}.solver"), logging.getLogger(f"{name}.plain")
    plain.setLevel(logging.DEBUG)
    with place.logbook() as log:
        log.attach(name)
        log.attach(name)
        plain.addHandler(log.handler)
        solver.warning("from below")
        plain.info("once, though it has the handler and is below a logger that has it")
        logging.getLogger(name).debug("not at this level")
    solver.warning("after the end")
    plain.removeHandler(log.handler)
    log.flush()
    assert place.log() == [
        "INFO Logbook initialized",
        f"WARNING {name}.solver: from below",
        f"INFO {name}.plain: once, though it has the handler and is below a logger that has it",
        "INFO Marked complete",
    ]
    assert logging.getLogger(name).handlers == []
    with pytest.raises(RunEndedError, match="cannot attach a logger"):
        log.attach(name)


def test_a_line_of_another_logger_has_its_name(place: Place) -> None:
    name = f"tests.{uuid.uuid4().hex}"
    with place.logbook() as log:
        log.attach()
        log.logger.getChild("part").info("of the run")
        logging.warning("of the root logger")
        try:
            raise ValueError("h = -1")
        except ValueError:
            logging.getLogger(name).exception("failed")
    lines = place.log()
    assert lines[1:4] == ["INFO of the run", "WARNING of the root logger", f"ERROR {name}: failed"]
    assert lines[4] == "  Traceback (most recent call last):"
    assert lines[-2:] == ["  ValueError: h = -1", "INFO Marked complete"]


def test_the_lines_are_shown_on_the_terminal_too(capsys: pytest.CaptureFixture[str]) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    with place.logbook(echo=True, log_level="WARNING") as log:
        log.info("not at this level")
        log.warning("two\nlines \x1b[31m")
        log.attach("tests.echo")
        logging.getLogger("tests.echo").error("of a library")
    shown = capsys.readouterr()
    first, *lines = shown.err.splitlines()
    assert (shown.out, first) == ("", f"notata: run 'run' at {place.url}/log_run")
    stored = place.bytes("log_run/log.txt").decode().replace("\x1b", "\\x1b").splitlines()
    assert lines == stored
    assert [line.partition("] ")[2] or line for line in lines] == [
        "WARNING two", "  lines \\x1b[31m", "ERROR tests.echo: of a library",
    ]  # fmt: skip
    with place.logbook("quiet") as log:
        log.warning("unheard")
    assert capsys.readouterr() == ("", "")


def test_a_closed_terminal_does_not_disturb_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")

    class Lost(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    for stderr in (Lost(), None):
        monkeypatch.setattr(sys, "stderr", stderr)
        with place.logbook(None, echo=True) as log:
            log.info("a")
        monkeypatch.undo()
        assert place.log(log.run_id)[1:] == ["INFO a", "INFO Marked complete"]


def test_a_formatter_of_the_users_own_sees_the_line_that_logged(place: Place) -> None:
    with place.logbook() as log:
        log.handler.setFormatter(logging.Formatter("%(filename)s %(funcName)s %(message)s"))
        for say in (log.note, log.debug, log.info, log.warning, log.error, log.exception):
            say("here")
        log.logger.getChild("below").info("there")
    lines = place.bytes("log_run/log.txt").decode().splitlines()
    me = "test_log.py test_a_formatter_of_the_users_own_sees_the_line_that_logged"
    assert [line for line in lines if "here" in line] == [f"{me} here"] * 5 + [f"{me} there"]


def test_two_runs_of_one_id_have_logs_of_their_own(place: Place) -> None:
    """0.3.0 looked up the logger by the id, so the second run wrote into the first run's file."""
    base = f"{place.url}/elsewhere"
    with place.logbook("same") as here, Logbook("same", base, storage_options=place.options) as there:
        here.info("here")
        there.info("there")
    assert place.log("same")[1:-1] == ["INFO here"]
    assert [line.split("] ")[1] for line in place.bytes("elsewhere/log_same/log.txt").decode().splitlines()][1:-1] == [
        "INFO there"
    ]


def test_many_threads(place: Place) -> None:
    def work(thread: int) -> None:
        for number in range(100):
            log.info("%d %d", thread, number)

    with place.logbook() as log:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said = [line.split()[1:] for line in place.log()[1:-1]]
    for one in range(8):
        assert [int(number) for name, number in said if name == str(one)] == list(range(100))
    assert len(said) == 800


# -- what it costs in a bucket -----------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_clock")
def test_many_lines_are_each_there_once_in_order_and_cheap(bucket: Place) -> None:
    cost = measure(bucket, MANY)
    assert cost.lines == wanted(MANY)
    assert cost.sent <= 3 * cost.size
    assert cost.requests <= 40


def test_many_lines_are_each_there_once_though_replies_are_lost(bucket: Place) -> None:
    with lose_every_third_reply() as changes:
        cost = measure(bucket, MANY)
    assert len(changes) > 6
    assert cost.lines == wanted(MANY)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_many_lines_are_each_there_once_though_appends_fail(bucket: Place, after: bool) -> None:
    """A failed append is tried again: both at sizes that are rewritten and at one that is extended."""
    store = FaultyBackend(bucket.store())
    log = Logbook("run", store, heartbeat=0)
    failures: list[str] = []

    def fail() -> Exception:
        failures.append("log.txt")
        return ConnectionError("on purpose")

    expected = []
    for step in range(6):
        for number in range(3_000):
            message = f"{step} {number:6d} {'x' * 550}"
            expected.append(f"INFO {message}")
            log.info(message)
        store.fail(1, key="log.txt", after=after, error=fail)
        with suppress(StorageError):  # or the journal's thread has already seen the error
            log.flush()
        assert len(failures) == step + 1
    log.mark_complete()
    assert len(bucket.bytes("log_run/log.txt")) > 10e6
    assert bucket.log()[1:-1] == expected


@pytest.mark.usefixtures("stopped_clock")
def test_a_large_resumed_log_is_extended_not_sent_again(bucket: Place) -> None:
    with bucket.logbook() as log:
        for _ in range(100):
            log.info("x" * 80_000)
    with bucket.logbook(resume=True, heartbeat=0) as log:
        log.info("one more line")
        with counted() as sent:
            log.flush()
        assert sent.bytes < 10_000, sent
    assert bucket.log()[-2] == "INFO one more line"
