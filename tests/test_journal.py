"""The log of a run: its lines, when they are stored, and how they survive errors of the storage."""

from __future__ import annotations

import gc
import io
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import fsspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata import Logbook, NotataError
from notata.errors import ConflictError
from notata.growing import AppendThread, growing_file
from notata.growing.growing_file import RATE
from notata.run.journal import Journal, RunLogger
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.far import faults_in

MIB = 2**20
SECONDS = 60  # a limit for what happens at once, unless the machine is busy
HEAD = re.compile(r"\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[+-]\d\d:\d\d)?\] (\S+) (.*)", re.DOTALL)
ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=40)


class Clock:
    """A clock that the test advances."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.watched = threading.Event()

    def __call__(self) -> float:
        if threading.current_thread().name == "notata-append":
            self.watched.set()
        return self.now


class End:
    """A file in memory that grows. An append to a file below `whole` bytes sends it again, as with a bucket."""

    def __init__(self, content: bytes = b"", *, whole: int = 0, size: int | None = None) -> None:
        self.appends: list[bytes] = []
        self.sent = 0
        self.last = content[-1:]
        self.whole = whole
        self.size = len(content) if size is None else size

    @property
    def again(self) -> int:
        return self.size if self.size < self.whole else 0

    @property
    def text(self) -> str:
        return b"".join(self.appends).decode("utf-8")

    @property
    def messages(self) -> list[str]:
        return messages(self.text)

    def append(self, data: bytes) -> None:
        self.sent += len(data) + self.again
        self.size += len(data)
        self.appends.append(data)

    def close(self) -> None:
        pass


class Stuck(End):
    """A file whose appends wait until `gate` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def append(self, data: bytes) -> None:
        self.entered.set()
        assert self.gate.wait(SECONDS)
        super().append(data)
        self.size = 0  # so that each line is due immediately where FEW is 1


class Calling(End):
    """A file that runs a function in the middle of each append."""

    def __init__(self, call: Callable[[], None], most: int = 20) -> None:
        super().__init__()
        self.call, self.most = call, most

    def append(self, data: bytes) -> None:
        assert len(self.appends) < self.most, "it appends without end"
        super().append(data)
        self.call()


def no_thread(work: Callable[[], object], name: str) -> NoReturn:
    raise RuntimeError("can't start new thread")


class ByHand(Journal):
    """A journal without a thread; the test advances its clock and calls `work`."""

    def __init__(self, end: Any, **options: Any) -> None:
        super().__init__(end, thread=AppendThread(no_thread), **options)

    def work(self) -> None:
        """Append all lines that are due."""
        while (left := self.file.seconds_left()) is not None and left <= 0:
            self.file.try_append()


def messages(text: str) -> list[str]:
    """Return the messages of a log's lines, and check the format of each line."""
    found = [HEAD.fullmatch(line) for line in text.split("\n")[:-1]]
    assert text.endswith("\n") or not text
    assert all(found), text
    return [match[3] for match in found if match]


def logger_of(handler: logging.Handler, level: int = logging.DEBUG) -> logging.Logger:
    logger = logging.Logger("notata", level)  # as for a run's own lines, which contain no logger name
    logger.addHandler(handler)
    return logger


def at_once(end: End, **options: object) -> logging.Logger:
    return logger_of(Journal(end, at_once=True, **options))  # type: ignore[arg-type]


@contextmanager
def attached(handler: logging.Handler, name: str | None = None) -> Iterator[logging.Logger]:
    logger = logging.getLogger(name or "tests.journal")
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


def far(url: str | None = None, *, near: bool = False) -> tuple[FaultyBackend, Place]:
    """Return a backend that collects log lines unless it is `near`, and a second way to read its bytes."""
    place = Place("memory" if url is None else "local", url or f"memory://{uuid.uuid4().hex}")
    return faults_in(open_store(place.url), near), place


def stored(place: Place, key: str = "log.txt") -> str:
    return place.bytes(key).decode("utf-8")


def fail_always(store: FaultyBackend, key: str = "log.txt") -> None:
    """Make every operation on a key fail until the store is healed."""

    def again() -> BaseException:
        fail_always(store, key)
        return ConnectionError("on purpose")

    store.fail(1, key=key, error=again)


def run(script: str, *arguments: str) -> str:
    """Run a script in a separate process and return its output."""
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def no_threads() -> bool:
    """Return True if every journal thread ends within some time, and those that they start."""
    end = time.monotonic() + SECONDS
    while running := [thread for thread in threading.enumerate() if thread.name == "notata-append"]:
        running[0].join(max(0.0, end - time.monotonic()))
        if running[0].is_alive():
            return False
    return True


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each collected line due immediately."""
    monkeypatch.setattr(growing_file, "FEW", 1)


# -- lines -------------------------------------------------------------------------------------------------


def test_a_line_has_the_local_time_the_level_and_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        end = End()
        before = datetime.now().replace(microsecond=0)
        at_once(end).warning("grid %s at %d", "é😀", 7)
        after = datetime.now()
    finally:
        monkeypatch.undo()
        time.tzset()
    match = HEAD.fullmatch(end.text[:-1])
    assert match
    assert before <= datetime.fromisoformat(match[1]) <= after
    assert match.groups()[1:] == ("WARNING", "grid é😀 at 7")


def test_each_line_has_the_time_of_its_own_second() -> None:
    own = Journal(End(), at_once=True)
    record = logging.LogRecord("test", logging.INFO, __file__, 1, "a", None, None)
    for record.created in (1e9, 1e9 + 0.999, 1e9 + 1, 1e9, 1e9 + 86400):
        assert own.format(record)[1:20] == time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR])
def test_a_line_below_the_level_is_not_stored(level: int) -> None:
    end = End()
    logger = at_once(end, level=level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(number, "%d", number)
    assert end.messages == [str(number) for number in (10, 20, 30, 40, 50) if number >= level]


def test_the_level_is_one_word() -> None:
    end = End()
    logger = at_once(end, level=0)
    logging.addLevelName(23, "TWO WORDS")
    try:
        logger.log(25, "a")
        logger.log(23, "b")
    finally:
        logging.addLevelName(23, "Level 23")  # restore the default
    assert [HEAD.fullmatch(line)[2] for line in end.text.splitlines()] == ["Level-25", "TWO-WORDS"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("a\nb", ["a", "  b"]),
        ("a\r\nb", ["a", "  b"]),
        ("a\rb", ["a", "  b"]),
        ("a\n\r\n\rb", ["a", "  ", "  ", "  b"]),
        ("a\n[2026-01-02T03:04:05] ERROR forged", ["a", "  [2026-01-02T03:04:05] ERROR forged"]),
        ("", [""]),
        ("a\n\n", ["a"]),
    ],
)
def test_a_message_of_several_lines_is_indented(message: str, lines: list[str]) -> None:
    end = End()
    at_once(end).info(message)
    head, *rest = end.text.split("\n")
    assert [HEAD.fullmatch(head)[3], *rest] == [*lines, ""]  # type: ignore[index]


@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
@example(["\ud800", "\udc80\n\udfff", "\ud83d\ude00", "100 %d %"])
@example(["\x00\x1b[31m", "\x85\u2028\x0b\x0c\x1c", "\ufeff"])
def test_each_message_is_separate_from_the_next(texts: list[str]) -> None:
    end = End()
    logger = at_once(end)
    for text in texts:
        logger.info(text)
    read = messages(end.text.replace("\n  ", "\r"))
    escaped = [text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00") for text in texts]
    assert read == [io.StringIO(text, newline=None).read().rstrip("\n").replace("\n", "\r") for text in escaped]


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    "call",
    [
        lambda logger: logger.info("%d", "x"),
        lambda logger: logger.info("%s %s", *[1]),
        lambda logger: logger.info("none", *[1]),
        lambda logger: logger.info("%s", Unprintable()),
        lambda logger: logger.info(Unprintable()),
    ],
)
def test_what_cannot_be_formatted_goes_to_logging_s_own_handling(
    call: Callable[[logging.Logger], None], capsys: pytest.CaptureFixture[str]
) -> None:
    end = End()
    logger = at_once(end)
    call(logger)
    assert "--- Logging error ---" in capsys.readouterr().err
    logger.info("next")
    assert end.messages == ["next"]


def test_a_traceback_is_redacted_here_and_left_to_others_as_it_is() -> None:
    end, others = End(), io.StringIO()
    logger = logging.Logger("test")
    before, after = logging.StreamHandler(others), logging.StreamHandler(others)
    own = Journal(end, at_once=True, redact=lambda text: text.replace("hunter2", "***"))
    for handler in (before, own, after):
        logger.addHandler(handler)
    try:
        raise ValueError("hunter2")
    except ValueError:
        logger.exception("it failed")
    assert others.getvalue().count("ValueError: hunter2") == 2
    assert "  ValueError: ***\n" in end.text
    assert "hunter2" not in end.text
    assert [line for line in end.text.splitlines() if not line.startswith("  ")] == [end.text.splitlines()[0]]


def test_the_level_can_change_as_the_run_goes_on() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    with place.logbook(environment=False) as log:
        log.debug("first")
        log.logger.setLevel(logging.DEBUG)
        log.handler.setLevel(logging.DEBUG)
        log.debug("second")
    assert messages(stored(place, "log_run/log.txt"))[1:-1] == ["second"]


def test_disabling_loggers_does_not_disable_the_log() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    with place.logbook(environment=False) as log:
        log.attach("tests.library")
        logging.disable(logging.CRITICAL)
        try:
            log.info("heard")
            log.logger.getChild("part").error("heard too")
            logging.getLogger("tests.library").error("unheard")
        finally:
            logging.disable(logging.NOTSET)
    assert messages(stored(place, "log_run/log.txt"))[1:-1] == ["heard", "heard too"]


def test_a_nul_is_written_as_its_escape() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    with pytest.raises(ValueError, match="c"), place.logbook(environment=False) as log:
        log.info("a\0b")
        raise ValueError("c\0d")
    assert "a\\x00b" in stored(place, "log_run/log.txt")
    for key in ("log.txt", "artifacts/debug/traceback.txt"):
        assert "\0" not in stored(place, f"log_run/{key}"), key


@pytest.mark.parametrize("configure", ["logging.config.dictConfig({'version': 1})", "logging.basicConfig(force=True)"])
def test_the_log_continues_after_logging_is_configured(configure: str, tmp_path: Path) -> None:
    script = """
import logging, logging.config, sys
from notata import Logbook
with Logbook("run", sys.argv[1]) as log:
    log.attach()
    log.info("before")
    {}
    log.info("after")
"""
    run(script.format(configure), str(tmp_path))
    said = messages((tmp_path / "log_run" / "log.txt").read_text())
    assert said == ["Logbook initialized", "before", "after", "Marked complete"]


# -- who logs ----------------------------------------------------------------------------------------------


class CallerRecorder(logging.Filter):
    """Records a call of something that sees log records: a filter, a record factory, or the emit of a handler."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.callers.append(f"{record.filename} {record.funcName}")
        return True


def filtered(logger: RunLogger, seeing: CallerRecorder) -> None:
    logger.addFilter(seeing)


def filtered_in_the_journal(logger: RunLogger, seeing: CallerRecorder) -> None:
    logger.handlers[0].addFilter(seeing)


def handled_by_another(logger: RunLogger, seeing: CallerRecorder) -> None:
    other = logging.NullHandler()
    other.handle = seeing.filter  # type: ignore[method-assign]
    logger.addHandler(other)


def formatted(logger: RunLogger, seeing: CallerRecorder) -> None:
    class Form(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            seeing.filter(record)
            return super().format(record)

    logger.handlers[0].setFormatter(Form())


@pytest.mark.parametrize("watch", [filtered, filtered_in_the_journal, handled_by_another, formatted])
@pytest.mark.parametrize("below", [False, True])
def test_the_caller_of_a_line_is_recorded(watch: Callable[[RunLogger, CallerRecorder], None], below: bool) -> None:
    logger, seeing = RunLogger("test"), CallerRecorder()
    logger.addHandler(Journal(End(), at_once=True))
    watch(logger, seeing)
    said = logger.getChild("below") if below and watch is not filtered else logger
    said.info("a")
    assert seeing.callers == ["test_journal.py test_the_caller_of_a_line_is_recorded"]


def test_a_factory_of_records_sees_where_a_line_was_logged() -> None:
    logger, seeing = RunLogger("test"), CallerRecorder()
    logger.addHandler(Journal(End(), at_once=True))

    def factory(*arguments: Any) -> logging.LogRecord:
        record = logging.LogRecord(*arguments)
        seeing.filter(record)
        return record

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        logger.info("a")
    finally:
        logging.setLogRecordFactory(before)
    assert seeing.callers == ["test_journal.py test_a_factory_of_records_sees_where_a_line_was_logged"]


def test_the_stack_is_walked_for_stack_info_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(*_: Any) -> NoReturn:
        raise AssertionError("it walks the stack")

    end, logger = End(), RunLogger("notata")
    logger.addHandler(Journal(end, at_once=True))
    logger.info("here", stack_info=True)
    assert "test_the_stack_is_walked_for_stack_info_only" in end.text
    monkeypatch.setattr(logging.Logger, "findCaller", walk)
    logger.info("a")
    assert end.text.endswith(" INFO a\n")


# -- when --------------------------------------------------------------------------------------------------


def test_at_once_is_one_append_a_line() -> None:
    end = End()
    logger = at_once(end)
    for number in range(5):
        logger.info("%d", number)
        assert end.messages == [str(n) for n in range(number + 1)]
    assert len(end.appends) == 5
    assert no_threads()


def test_collected_lines_wait_five_seconds_for_others() -> None:
    end, clock = End(), Clock()
    own = ByHand(end, at_once=False, clock=clock)
    logger = logger_of(own)
    logger.info("a")
    clock.now += 4.9
    logger.info("b")
    own.work()
    assert end.appends == []
    clock.now += 0.1
    own.work()
    assert (end.messages, len(end.appends)) == (["a", "b"], 1)


def test_a_warning_is_due_within_a_second_and_many_share_one_append() -> None:
    end, clock = End(), Clock()
    own = ByHand(end, at_once=False, clock=clock)
    logger = logger_of(own)
    for number in range(100):
        logger.warning("%d", number)
        clock.now += 0.009
        own.work()
    assert end.appends == []
    clock.now = 1001.0
    own.work()
    assert (end.messages, len(end.appends)) == ([str(n) for n in range(100)], 1)


def test_the_first_line_after_a_cut_one_waits_like_any_other() -> None:
    store, place = far()
    place.put("log.txt", b"[2026-01-02T03:04:05] INFO cut")
    clock = Clock()
    own = ByHand(Store(store).appender("log.txt", end=b"\n"), at_once=False, clock=clock)
    logger_of(own).info("a")
    assert own.file.seconds_left() == 5
    own.flush()
    assert place.bytes("log.txt").startswith(b"[2026-01-02T03:04:05] INFO cut\n[")


@pytest.mark.parametrize(("content", "first"), [(b"", b"["), (b"a\n", b"a\n["), (b"a", b"a\n[")])
def test_a_line_that_was_cut_is_ended_before_the_next(content: bytes, first: bytes) -> None:
    for near in (True, False):
        store, place = far(near=near)
        place.put("log.txt", content)
        own = ByHand(Store(store).appender("log.txt", end=b"\n"), at_once=near)
        logger_of(own).info("next")
        own.flush()
        assert place.bytes("log.txt").startswith(first)
        assert place.bytes("log.txt").endswith(b"] INFO next\n")


def test_a_warning_is_due_within_a_second_again_after_a_successful_flush() -> None:
    store, place = far()
    clock = Clock()
    own = ByHand(Store(store).appender("log.txt", new=True), at_once=False, clock=clock)
    logger = logger_of(own)
    fail_always(store)
    logger.info("a")
    for _ in range(12):
        clock.now += 60
        own.work()
    store.heal()
    own.flush()
    assert messages(stored(place)) == ["a"]
    clock.now += 10
    logger.warning("b")
    left = own.file.seconds_left()
    assert left is not None
    assert left <= 1


BURSTS = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 6000), st.floats(0, 1), st.booleans()), min_size=1, max_size=25
)


@settings(max_examples=60)
@given(BURSTS, st.sampled_from([5 * MIB, MIB, 0]))
@example([(300, 200, 1.0, True)] * 25, 5 * MIB)
@example([(1, 1, 0.0, True)], 5 * MIB)
def test_many_fast_lines_send_at_most_three_times_their_size(
    bursts: list[tuple[int, int, float, bool]], whole: int
) -> None:
    end, clock = End(whole=whole), Clock()
    own = ByHand(end, at_once=False, clock=clock)
    logger = logger_of(own)
    for count, size, pause, warn in bursts:
        line = "x" * size
        for _ in range(count):
            logger.log(logging.WARNING if warn else logging.INFO, line)
            own.work()
        clock.now += pause * count * (size + 30) / (10 * RATE)  # ten times what the rate limit requires
        own.work()
    own.flush()
    assert len(end.messages) == sum(count for count, *_ in bursts)
    assert end.sent <= 3 * end.size


def cost_of(gap: float, size: int, before: int, warnings: int, seconds: float = 3600.0) -> float:
    """Return the overhead in bytes per second, for one line every `gap` seconds, `warnings` of them warnings."""
    end, clock = End(whole=5 * MIB, size=before), Clock()
    own = ByHand(end, at_once=False, clock=clock)
    logger = logger_of(own)
    line, number = "x" * size, 0
    while clock.now < 1000 + seconds:
        number += 1
        logger.log(logging.WARNING if warnings and number % warnings == 0 else logging.INFO, line)
        until = clock.now + gap
        while (left := own.file.seconds_left()) is not None and clock.now + left <= until:
            clock.now += max(0.0, left)
            own.file.try_append()
        clock.now = until
    return (end.sent - sum(map(len, end.appends)) - before) / (clock.now - 1000)  # the last gap may end later


@settings(max_examples=25)
@given(st.floats(0.5, 40), st.integers(1, 500), st.integers(0, 5 * MIB - 1), st.sampled_from([0, 1, 2, 7, 50]))
@example(1.0, 100, 5 * MIB - 1_000_000, 0)
@example(3.0, 100, 300_000, 1)
@example(19.0, 147, 3_347_955, 0)
def test_slow_lines_cost_a_hundred_kilobytes_a_second_at_most(
    gap: float, size: int, before: int, warnings: int
) -> None:
    """Warnings and other lines are sent at two intervals, so together they cost twice as much."""
    assert cost_of(gap, size, before, warnings) <= RATE * (2.0 if warnings else 1.0)


def test_a_thread_stores_what_is_enough_and_ends(eager: None) -> None:
    end = Stuck()
    end.gate.set()
    logger = logger_of(Journal(end, at_once=False, clock=Clock()))
    logger.info("a")
    assert end.entered.wait(SECONDS)
    assert no_threads()
    assert end.messages == ["a"]


def test_no_thread_is_left_after_a_flush() -> None:
    end, clock = End(), Clock()
    own = Journal(end, at_once=False, clock=clock)
    logger_of(own).info("a")
    assert clock.watched.wait(SECONDS)
    own.flush()
    assert end.messages == ["a"]
    assert no_threads()


# -- an end that does not take them ------------------------------------------------------------------------


def test_a_logging_thread_never_waits_and_lines_beyond_the_bound_are_counted(
    eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "HELD", 20_000)
    monkeypatch.setattr(growing_file, "RESERVE", 5_000)
    end = Stuck()
    own = Journal(end, at_once=False, clock=Clock())
    logger = logger_of(own)
    logger.info("first")
    assert end.entered.wait(SECONDS)
    for number in range(1000):
        logger.info("%d %s", number, "x" * 100)
    for number in range(1000, 1100):
        logger.warning("%d %s", number, "x" * 100)
    assert own.file.pending_bytes <= 26_000
    end.gate.set()
    own.flush()
    logger.info("2000")
    own.flush()
    said = end.messages
    assert said[0] == "first"
    expected, dropped = 0, 0
    for message in said[1:]:
        if gap := re.fullmatch(r"notata: (\d+) lines are missing here; they could not be stored", message):
            expected += int(gap[1])
            dropped += int(gap[1])
        else:
            number = int(message.partition(" ")[0])
            assert number == expected or (number, expected) == (2000, 1100)
            expected += 1
    assert dropped > 800
    assert sum(message.endswith("x") for message in said) == 1100 - dropped
    assert any(1000 <= int(message.partition(" ")[0]) < 1100 for message in said if message.endswith("x"))


def test_the_count_of_missing_lines_is_stored_though_no_line_follows(
    eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "HELD", 200)
    end = Stuck()
    own = Journal(end, at_once=False, clock=Clock())
    logger = logger_of(own)
    logger.info("first")
    assert end.entered.wait(SECONDS)
    for _ in range(7):
        logger.info("x" * 300)
    end.gate.set()
    own.flush()
    assert end.messages == ["first", "notata: 7 lines are missing here; they could not be stored"]


FAULTS = st.lists(st.none() | st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=100)
@given(FAULTS, st.booleans(), st.booleans())
@example([(1, True), (1, True), (2, False), None], False, True)
@example([(1, False), None], True, False)
def test_each_line_is_there_once_and_in_order_whatever_fails(
    faults: list[tuple[int, bool] | None], near: bool, flushing: bool
) -> None:
    store, place = far(near=near)
    own = ByHand(Store(store).appender("log.txt", new=not near), at_once=near)
    logger = logger_of(own)
    for number, fault in enumerate(faults):
        store.heal()
        if fault is not None:
            store.fail(fault[0], key="log.txt", after=fault[1])
        logger.info("same")
        logger.info("%d", number)
        if flushing:
            with suppress(NotataError):
                own.flush()
    store.heal()
    own.flush()
    assert messages(stored(place)) == [text for n in range(len(faults)) for text in ("same", str(n))]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_immediate_line_is_stored_when_the_call_returns_once_the_storage_works(after: bool) -> None:
    store, place = far()
    logger = logger_of(Journal(Store(store).appender("log.txt"), at_once=True))
    store.fail(1, key="log.txt", after=after)
    logger.info("a")
    store.heal()
    logger.info("b")
    assert messages(stored(place)) == ["a", "b"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_thread_tries_again_what_failed(eager: None, after: bool) -> None:
    store, place = far()
    heard = threading.Event()
    own = Journal(Store(store).appender("log.txt", new=True), at_once=False, clock=Clock())
    logger = logger_of(own)
    store.fail(1, key="log.txt", after=after)
    with attached(Listening(heard), "notata"):
        logger.info("a")
        assert heard.wait(SECONDS)
        logger.info("b")
        own.flush()
    assert messages(stored(place)) == ["a", "b"]


class Listening(logging.Handler):
    """A handler that records messages and signals each of them."""

    def __init__(self, heard: threading.Event) -> None:
        super().__init__()
        self.heard = heard
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        self.heard.set()


# -- many at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("near", [True, False])
def test_each_thread_s_lines_stay_in_order(eager: None, near: bool) -> None:
    end = End()
    own = Journal(end, at_once=near)
    logger = logger_of(own)

    def work(name: str) -> None:
        for number in range(300):
            logger.info("%s %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcde"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own.flush()
    said = [message.split() for message in end.messages]
    assert {name: [int(n) for who, n in said if who == name] for name in "abcde"} == {
        name: list(range(300)) for name in "abcde"
    }


@pytest.mark.parametrize("near", [True, False])
def test_a_line_logged_during_an_append_neither_hangs_nor_is_doubled(near: bool) -> None:
    """For example from a signal handler."""
    done: list[str] = []

    def once() -> None:
        if not done:
            done.append("done")
            logger.info("inner")

    end = Calling(once)
    own = ByHand(end, at_once=near)
    logger = logger_of(own)
    logger.info("outer")
    own.flush()
    own.flush()  # the first one need not store lines that arrived meanwhile
    assert end.messages == ["outer", "inner"]


def test_a_line_logged_during_an_immediate_line_is_stored_immediately() -> None:
    said = ["inner", "innermost"]
    end = Calling(lambda: logger.info(said.pop(0)) if said else None)
    own = Journal(end, at_once=True)
    logger = logger_of(own)
    logger.info("outer")
    assert end.messages == ["outer", "inner", "innermost"]


class Told(End):
    """A file that is closed during its first append, and records the events."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[str] = []

    def append(self, data: bytes) -> None:
        self.happened.append("begun")
        if not self.appends:
            self.journal.close()
        super().append(data)
        self.happened.append("done")

    def close(self) -> None:
        self.happened.append("closed")

    journal: Journal


@pytest.mark.parametrize("near", [True, False])
def test_a_journal_closed_during_an_append_closes_its_file_after_it(near: bool) -> None:
    end = Told()
    end.journal = own = ByHand(end, at_once=near)
    for text in ("a", "late"):
        logger_of(own).info(text)
        own.flush()
    happened = [after for before, after in itertools.pairwise(["", *end.happened]) if before != after]
    assert happened == ["begun", "done", "closed", "begun", "done", "closed"]
    assert end.messages == ["a", "late"]


def test_a_flush_ends_though_each_append_is_itself_logged() -> None:
    """A client library may log its requests while the root logger is attached."""
    end = Calling(lambda: logger.debug("request"))
    own = ByHand(end, at_once=False, level=logging.DEBUG)
    logger = logger_of(own)
    logger.info("a")
    own.flush()
    assert end.messages[0] == "a"


def test_a_flush_ends_though_another_thread_goes_on_logging() -> None:
    def elsewhere() -> None:
        thread = threading.Thread(target=logger.info, args=("meanwhile",))
        thread.start()
        thread.join()

    end = Calling(elsewhere)
    own = ByHand(end, at_once=False)
    logger = logger_of(own)
    logger.info("a")
    own.flush()
    assert end.messages[0] == "a"


def test_logging_s_shutdown_does_not_wait_for_its_own_records() -> None:
    """`logging.shutdown` flushes a handler while it holds its lock; the client's thread logs to that handler."""
    waited: list[bool] = []

    def request() -> None:
        thread = threading.Thread(target=logger.warning, args=("slow request",), name="fsspecIO", daemon=True)
        thread.start()
        thread.join(SECONDS)
        waited.append(thread.is_alive())

    end = Calling(request)
    own = ByHand(end, at_once=False)
    with attached(own) as logger:
        logger.warning("a")
        logging.shutdown([weakref.ref(own)])
    assert end.messages[0] == "tests.journal: a"
    assert not any(waited)


@pytest.mark.parametrize("near", [True, False])
def test_a_log_on_the_root_logger_survives_a_failing_storage(eager: None, near: bool) -> None:
    store, place = far(near=near)
    heard = threading.Event()
    own = Journal(Store(store).appender("log.txt"), at_once=near, clock=Clock())
    listening = Listening(heard)
    with attached(own, "root"), attached(listening, "notata"):
        before = len(store.operations)
        fail_always(store)
        for number in range(20):
            logging.getLogger("tests.solver").warning("%d", number)
        assert heard.wait(SECONDS)
        store.heal()
        own.flush()
    said = [text.removeprefix("tests.solver: ") for text in messages(stored(place))]
    assert [text for text in said if text.isdigit()] == [str(n) for n in range(20)]
    assert len(said) <= 22
    assert len(store.operations) - before <= 60
    assert [text.partition(";")[0] for text in listening.said] == ["notata: cannot store log.txt now"]


def test_two_runs_on_the_root_logger_do_not_log_each_other_in_a_loop() -> None:
    def request() -> None:
        logging.getLogger("tests.client").warning("a request failed, trying again")

    first, second = Calling(request), Calling(request)
    journals = [
        Journal(end, at_once=False, clock=itertools.count(0, 100).__next__)  # all lines are due
        for end in (first, second)
    ]
    with attached(journals[0], "root"), attached(journals[1], "root"):
        logging.getLogger("tests.solver").warning("a")
        assert no_threads()
    assert (first.messages[0], second.messages[0]) == ("tests.solver: a", "tests.solver: a")
    assert len(first.appends) + len(second.appends) < 10


# -- another process ---------------------------------------------------------------------------------------

FORK = """
import logging, os, sys, threading
from notata import Logbook
from notata.store import open_store
from notata.testing import FaultyBackend


class Backend(FaultyBackend):
    is_local = sys.argv[2] == "near"


store = Backend(open_store(sys.argv[1]))
log = Logbook("run", store, environment=False, heartbeat=0)
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def forked(script: str, folder: Path, how: str) -> list[str]:
    run(FORK + script, str(folder), how)
    return messages((folder / "log_run" / "log.txt").read_text())


@needs_fork
@pytest.mark.parametrize("how", ["near", "far"])
def test_a_forked_child_s_lines_and_its_parent_s_are_there_once(how: str, tmp_path: Path) -> None:
    script = """
log.info("before")
pid = os.fork()
if not pid:
    log.info("child")
    log.flush()
    os._exit(0)
log.info("meanwhile")
os.waitpid(pid, 0)
log.info("after")
log.mark_complete()
"""
    expected = ["Logbook initialized", "before", "child", "meanwhile", "after", "Marked complete"]
    assert Counter(forked(script, tmp_path, how)) == Counter(expected)


@needs_fork
@pytest.mark.parametrize("how", ["near", "far"])
def test_a_child_that_logs_the_same_line_as_its_parent_is_logged_too(how: str, tmp_path: Path) -> None:
    script = """
log.flush()
log.handler.setFormatter(logging.Formatter("[2026-01-02T03:04:05] %(levelname)s %(message)s"))
for _ in range(3):
    pid = os.fork()
    if not pid:
        log.info("started")
        log.flush()
        os._exit(0)
    os.waitpid(pid, 0)
log.info("started")
log.mark_complete()
"""
    assert Counter(forked(script, tmp_path, how))["started"] == 4


@needs_fork
@pytest.mark.parametrize("how", ["near", "far"])
def test_lines_of_children_forked_while_many_threads_log_are_stored(how: str, tmp_path: Path) -> None:
    script = """
import warnings
warnings.simplefilter("ignore")  # of Python 3.12: that a process with threads is forked
stop = threading.Event()
def work(name):
    number = 0
    while not stop.is_set():
        log.info("%s %d", name, number)
        number += 1
        stop.wait(0.001)
threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
for thread in threads:
    thread.start()
for number in range(8):
    pid = os.fork()
    if not pid:
        log.info("child %d", number)
        log.flush()
        os._exit(0)
    os.waitpid(pid, 0)
stop.set()
for thread in threads:
    thread.join()
log.mark_complete()
"""
    said = forked(script, tmp_path, how)
    assert max(Counter(said).values()) == 1
    assert [text for text in said if text.startswith("child")] == [f"child {number}" for number in range(8)]
    for name in "abc":
        numbers = [int(text[2:]) for text in said if text.startswith(f"{name} ")]
        assert numbers == list(range(len(numbers)))


class Contested(End):
    """A file that another writer changes before each of some appends."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def append(self, data: bytes) -> None:
        if self.times:
            self.times -= 1
            raise ConflictError("it was changed meanwhile")
        super().append(data)


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_an_owner_continues_its_log_after_a_change_by_others(near: bool, times: int) -> None:
    end = Contested(times)
    asked: list[bool] = []

    def mine() -> bool:
        asked.append(True)
        return True

    own = ByHand(end, at_once=near, is_owner=mine)
    logger = logger_of(own)
    logger.info("a")
    logger.info("b")
    own.flush()
    assert end.messages == ["a", "b"]
    assert len(asked) == times


@pytest.mark.parametrize("near", [True, False])
def test_a_run_of_another_owner_stops_logging(near: bool) -> None:
    end, heard = Contested(1), threading.Event()
    own = ByHand(end, at_once=near, is_owner=lambda: False)
    logger = logger_of(own)
    listening = Listening(heard)
    with attached(listening, "notata"):
        for number in range(5):
            logger.info("%d", number)
            own.flush()
    assert end.appends == []
    assert len(listening.said) <= 1


def test_a_run_with_an_unknown_owner_keeps_its_lines() -> None:
    def mine() -> bool:
        if down:
            raise down.pop()
        return True

    down: list[Exception] = [ConnectionError("no answer")] * 3
    end, clock = Contested(1), Clock()
    own = ByHand(end, at_once=False, is_owner=mine, clock=clock)
    logger_of(own).info("a")
    for _ in range(8):
        clock.now += 100
        own.work()
    assert end.messages == ["a"]


@pytest.mark.parametrize("text", ["by hand\n", "by hand"])
def test_an_edit_by_hand_is_kept_and_the_log_continues_after_it(text: str) -> None:
    store, place = far()
    log = Logbook("run", store, environment=False)
    log.flush()
    place.put("log_run/log.txt", place.bytes("log_run/log.txt") + text.encode())
    log.info("next")
    log.mark_complete()
    said = stored(place, "log_run/log.txt")
    assert [line.rpartition("] ")[2] for line in said.splitlines()] == [
        "INFO Logbook initialized",
        "by hand",
        "INFO next",
        "INFO Marked complete",
    ]


def test_a_run_that_was_replaced_does_not_write_into_its_successor_s_log() -> None:
    store, place = far()
    old = Logbook("run", store, environment=False)
    old.info("old")
    old.flush()
    new = Logbook("run", store, environment=False, overwrite=True)
    old.info("stray")
    old.flush()
    old.info("stray")
    old.flush()
    new.mark_complete()
    said = messages(stored(place, "log_run/log.txt"))
    assert [text.split()[0] for text in said] == ["Logbook", "Marked"]


# -- nothing left ------------------------------------------------------------------------------------------


def test_nothing_is_left_in_logging_after_a_run() -> None:
    store, place = far()
    loggers = set(logging.root.manager.loggerDict)
    target = logging.Logger("solver")
    log = Logbook("run", store, environment=False)
    log.attach(target)
    log.attach(target)
    log.attach()
    log.attach("notata")
    target.warning("stiff")
    log.mark_complete()
    assert target.handlers == []
    assert log.handler not in logging.root.handlers
    assert log.handler not in logging.getLogger("notata").handlers
    assert no_threads()
    left = weakref.ref(log.handler)
    del log
    gc.collect()
    assert left() is None
    assert set(logging.root.manager.loggerDict) == loggers
    assert "solver: stiff" in messages(stored(place, "log_run/log.txt"))


def test_a_store_of_any_kind_takes_a_journal(tmp_path: Path) -> None:
    store: Store = open_store(str(tmp_path))
    own = Journal(store.appender("log.txt"), at_once=True)
    logger_of(own).info("a")
    with fsspec.open(f"{tmp_path}/log.txt", "rb") as file:
        assert messages(file.read().decode()) == ["a"]
