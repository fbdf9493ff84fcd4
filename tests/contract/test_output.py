"""output.txt on every backend: each byte once and in order, also when the storage fails, and in resumed runs."""

from __future__ import annotations

import json
import os

import pytest

from notata import Logbook, LogReader
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.contract.conftest import REAL

BLOCK = b"".join(b"step %5d res = 1.5D-3\n" % number for number in range(4000))


def test_output_is_stored_and_verified(place: Place) -> None:
    log = place.logbook()
    output = log._open_output()  # noqa: SLF001 - as `notata run` does
    for start in range(0, len(BLOCK), 1000):
        output.feed(BLOCK[start : start + 1000])
    output.feed(b"no end")
    log.mark_complete()
    assert place.bytes("log_run/output.txt") == BLOCK + b"no end"
    files = json.loads(place.bytes("log_run/manifest.json"))["files"]
    assert files["output.txt"]["size"] == len(BLOCK) + 6
    reader = LogReader(f"{place.url}/log_run", storage_options=place.options)
    assert reader.verify().ok
    assert reader.output() == (BLOCK + b"no end").decode()


def test_a_resumed_run_continues_its_output(place: Place) -> None:
    for number, resume in enumerate((False, True)):
        log = place.logbook(resume=resume)
        log._open_output().feed(b"attempt %d" % number)  # noqa: SLF001
        log.mark_complete()
    assert place.bytes("log_run/output.txt") == b"attempt 0\nattempt 1"


def test_a_run_captures_its_process(place: Place) -> None:
    with place.logbook(capture=True):
        os.write(1, b"from a library\n")
        print("from Python")
    assert place.bytes("log_run/output.txt") == b"from a library\nfrom Python\n"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_failed_append_is_made_once(nth: int, after: bool) -> None:
    storage = FaultyBackend(open_store("memory://faulty-output"))
    log = Logbook("run", storage)
    output = log._open_output()  # noqa: SLF001
    storage.fail(nth, key="log_run/output.txt", after=after)
    for start in range(0, len(BLOCK), 20_000):
        output.feed(BLOCK[start : start + 20_000])
    log.mark_complete()
    assert open_store("memory://faulty-output").read("log_run/output.txt") == BLOCK


@pytest.mark.parametrize("place", ["s3", *REAL], indirect=True)
def test_what_waits_on_the_disk_is_appended_in_one_request_for_each_part(
    place: Place, monkeypatch: pytest.MonkeyPatch, stopped_clock: None
) -> None:
    monkeypatch.setattr("notata.growing.growing_file.LARGEST", 2**20)
    log = place.logbook()
    output = log._open_output()  # noqa: SLF001
    data = BLOCK * 100
    output.feed(data)
    log.flush()
    output.feed(data * 2)
    log.mark_complete()
    assert place.bytes("log_run/output.txt") == data * 3
    reader = LogReader(f"{place.url}/log_run", storage_options=place.options)
    assert reader.verify().ok
