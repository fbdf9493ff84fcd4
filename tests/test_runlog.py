"""Reading log.txt: the messages of a journal come back unchanged, and logs of 0.3.0 can be read."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notata import ConfigurationError, LogLine, PackageMissingError, RunLog
from notata.run.journal import Journal

HEAD = "[2026-03-01T09:30:00] "
TIME = datetime(2026, 3, 1, 9, 30)


def told(text: str) -> list[tuple[str, str]]:
    """Return levels and messages."""
    return [(line.level, line.message) for line in RunLog(text)]


# -- text to messages --------------------------------------------------------------------------------------


def test_messages_have_time_level_and_text() -> None:
    log = RunLog(f"{HEAD}INFO begun\n[2026-03-01T09:30:02] ERROR no mean flow\n  h = 0\n  \n    at x\n{HEAD}INFO end\n")
    assert list(log) == [
        LogLine(TIME, "INFO", "begun"),
        LogLine(datetime(2026, 3, 1, 9, 30, 2), "ERROR", "no mean flow\nh = 0\n\n  at x"),
        LogLine(TIME, "INFO", "end"),
    ]
    assert (len(log), log[-1].message, [line.message for line in log[:1]]) == (3, "end", ["begun"])
    assert str(log) == log.text
    assert repr(log) == "RunLog(3 messages)"
    assert str(log[0]) == f"{HEAD}INFO begun"
    assert log[0] in log


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", []),
        (f"{HEAD}INFO ", [("INFO", "")]),
        (f"{HEAD}INFO torn", [("INFO", "torn")]),
        (f"{HEAD}INFO a\n[2026-03-01T09:", [("INFO", "a\n[2026-03-01T09:")]),
        (f"{HEAD}Level 15 a\n", [("Level 15", "a")]),
        (f"{HEAD}Level -5 a\n", [("Level -5", "a")]),
        (f"{HEAD}Level-15 a\n", [("Level-15", "a")]),
        (f"{HEAD}Level up\n", [("Level", "up")]),
        (f"{HEAD}INFO a\nb\n\n c\n", [("INFO", "a\nb\n\n c")]),  # notata 0.3.0 does not indent
        (f"{HEAD}INFO a\n  {HEAD}INFO b\n", [("INFO", f"a\n{HEAD}INFO b")]),
        ("no time\n  indented\n" + HEAD + "INFO a\n", [("", "no time\n  indented"), ("INFO", "a")]),
        ("\n", [("", "")]),
        (f"[2026-02-31T09:30:00] INFO a\n{HEAD}INFO b\n", [("", "[2026-02-31T09:30:00] INFO a"), ("INFO", "b")]),
        (f"{HEAD}INFO a\r\n  b\r\n{HEAD}INFO c\r\n", [("INFO", "a\nb"), ("INFO", "c")]),
        (f"{HEAD}INFO 10%\r20%\n", [("INFO", "10%\r20%")]),
        (f"{HEAD}INFO a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b\n", [("INFO", "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b")]),
        (f"{HEAD}INFO  two spaces \n", [("INFO", " two spaces ")]),
        ("[\u0662026-03-01T09:30:00] INFO a\n", [("", "[\u0662026-03-01T09:30:00] INFO a")]),
    ],
)
def test_every_line_is_of_a_message(text: str, messages: list[tuple[str, str]]) -> None:
    assert told(text) == messages


@pytest.fixture
def noisy() -> Iterator[int]:
    logging.addLevelName(27, "A BIT LOUD")
    yield 27
    logging.addLevelName(27, "Level 27")


def test_messages_of_a_level_and_above(noisy: int) -> None:
    names = [
        "DEBUG",
        "Level 15",
        "INFO",
        "Level-25",
        "A-BIT-LOUD",
        "WARNING",
        "Level-35",
        "ERROR",
        "CRITICAL",
        "Level--5",
        "OWN",
    ]
    log = RunLog("no time\n" + "".join(f"{HEAD}{name} {name}\n" for name in names))
    assert [line.level for line in log.at("info")] == names[2:9]
    assert [line.level for line in log.at(noisy)] == names[4:9]
    assert [line.level for line in log.at(logging.ERROR)] == ["ERROR", "CRITICAL"]
    assert [line.level for line in log.at(15)] == names[1:9]
    with pytest.raises(ConfigurationError, match="invalid log level"):
        log.at("loud")


# -- a journal's lines -------------------------------------------------------------------------------------


class End:
    """A file in memory that grows."""

    again = 0

    def __init__(self) -> None:
        self.content = b""

    @property
    def size(self) -> int:
        return len(self.content)

    def append(self, data: bytes) -> None:
        self.content += data

    def close(self) -> None:
        pass


def journal() -> tuple[Journal, End]:
    end = End()
    return Journal(end, at_once=True, level=1), end


def record(message: str, level: int, args: Any = ()) -> logging.LogRecord:
    return logging.LogRecord("notata", level, "file", 1, message, args, None)


LINES = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\r\n [:]"), max_size=30)


@given(messages=st.lists(st.tuples(LINES, st.integers(1, 60)), max_size=5))
@example(messages=[("\n", 20), (f"a\n{HEAD}INFO not a message of its own\n\n", 30), ("\r", 15), (HEAD, 20)])
@example(messages=[("a\r\nb\rc\n\n", 20), ("x", 25), ("  indented\n  too", 20)])
def test_what_a_journal_writes_comes_back(messages: list[tuple[str, int]]) -> None:
    """Except as documented: line ends become ``\\n``, none at the end; a lone surrogate or NUL becomes its escape."""
    handler, end = journal()
    for message, level in messages:
        handler.handle(record(message, level))
    log = RunLog(end.content.decode())
    assert [line.message for line in log] == [
        message.encode("utf-8", "backslashreplace")
        .decode()
        .replace("\r\n", "\n")
        .replace("\r", "\n")
        .rstrip("\n")
        .replace("\0", "\\x00")
        for message, _ in messages
    ]
    assert [line.level for line in log] == [logging.getLevelName(level).replace(" ", "-") for _, level in messages]
    for least in (1, 15, 20, 33):
        assert len(log.at(least)) == sum(level >= least for _, level in messages)


def test_the_time_of_a_line_is_the_one_at_which_it_was_logged() -> None:
    handler, end = journal()
    logged = record("a", logging.INFO)
    logged.created = time.mktime((2026, 3, 1, 9, 30, 0, 0, 0, -1))
    handler.handle(logged)
    assert RunLog(end.content.decode())[0].time == TIME


def test_a_traceback_is_one_message() -> None:
    handler, end = journal()
    try:
        raise ValueError("h = -1\nno mean flow")
    except ValueError:
        failed = record("failed", logging.ERROR)
        failed.exc_info = sys.exc_info()
    handler.handle(failed)
    [line] = RunLog(end.content.decode())
    assert line.message.startswith('failed\nTraceback (most recent call last):\n  File "')
    assert line.message.endswith("\nValueError: h = -1\nno mean flow")


# -- the offset from UTC -------------------------------------------------------------------------------------


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_hour_that_repeats_at_the_end_of_summer_time_is_unambiguous(berlin: None) -> None:
    end = End()
    handler = Journal(end, at_once=True)
    moments = [datetime(2026, 10, 25, hour, minute, tzinfo=UTC) for hour in (0, 1) for minute in (30, 45)]
    for moment in moments:
        said = record(f"{moment:%H:%M}", logging.INFO)
        said.created = moment.timestamp()
        handler.handle(said)
    assert end.content.decode().splitlines() == [
        "[2026-10-25T02:30:00+02:00] INFO 00:30",
        "[2026-10-25T02:45:00] INFO 00:45",
        "[2026-10-25T02:30:00+01:00] INFO 01:30",
        "[2026-10-25T02:45:00] INFO 01:45",
    ]
    log = RunLog(end.content.decode())
    assert [line.utc for line in log] == moments
    assert [line.time for line in log] == [moment.astimezone().replace(tzinfo=None) for moment in moments]
    assert log.to_pandas()["utc"].is_monotonic_increasing


def test_a_log_of_0_3_0_has_no_offset() -> None:
    log = RunLog(f"no time\n{HEAD}INFO a\n[2026-03-01T09:30:00+00:00] INFO b\n{HEAD}INFO c\n")
    assert [line.message for line in log] == ["no time", "a", "b", "c"]
    assert [line.offset for line in log] == [None, None, timedelta(0), timedelta(0)]
    assert [line.utc is None for line in log] == [True, True, False, False]
    assert log.to_pandas()["utc"].isna().tolist() == [True, True, False, False]


# -- pandas ------------------------------------------------------------------------------------------------


def test_a_data_frame_has_a_row_for_each_message() -> None:
    frame = RunLog(f"no time\n{HEAD}INFO a\n  b\n{HEAD}Level-15 c\n").to_pandas()
    assert list(frame.columns) == ["time", "level", "message", "utc"]
    assert str(frame["time"].dtype) == "datetime64[s]"
    assert frame["time"].isna().tolist() == [True, False, False]
    assert frame["time"][1] == TIME
    assert frame["level"].tolist() == ["", "INFO", "Level-15"]
    assert frame["message"].tolist() == ["no time", "a\nb", "c"]


def test_a_data_frame_of_no_messages_has_the_same_columns() -> None:
    frame = RunLog("").to_pandas()
    assert (frame.shape, list(frame.columns), str(frame["time"].dtype)) == (
        (0, 4),
        ["time", "level", "message", "utc"],
        "datetime64[s]",
    )


def test_without_pandas_a_data_frame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissingError, match="pip install pandas") as caught:
        RunLog("").to_pandas()
    assert isinstance(caught.value, ImportError)
