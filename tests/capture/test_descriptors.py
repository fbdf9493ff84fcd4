"""``Logbook(capture=True)``: the output of this process, its C libraries and its children, at the file descriptors."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from notata import Logbook, LogReader
from tests.nursery import Script


def ran(name: str, base: Path) -> tuple[str, str]:
    """Run a script to its end, and return what it showed."""
    script = Script("tests.capture.scripts", [name, str(base)])
    return script.communicate()


def output(base: Path, run: str = "r") -> str:
    return (base / f"log_{run}" / "output.txt").read_text()


def test_output_is_recorded_in_every_way_and_shown(tmp_path: Path) -> None:
    shown, errors = ran("every_way", tmp_path)
    own = "it 1 res = 1.5D-3\na write\na child\nit 2 res = 0.5\na fork\nno line end"
    assert shown == f"before\n{own}after\n"
    assert errors == "password=hunter2\n"
    recorded = output(tmp_path)
    assert sorted(recorded.split("\n")) == sorted([*own.split("\n"), "password=***"])
    rows = [json.loads(line) for line in (tmp_path / "log_r/series/output.jsonl").read_text().splitlines()]
    assert [(row["step"], row["r"]) for row in rows] == [(1, 0.0015), (2, 0.5)]
    assert LogReader(tmp_path / "log_r").state.status == "complete"


def test_what_was_printed_before_a_kill_is_shown_and_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    shown, errors = ran("killed", tmp_path)
    lines = "".join(f"line {number}\n" for number in range(2000))
    assert (shown, errors) == (lines, "last words\n")
    assert len(list(tmp_path.glob("notata-output-*"))) == 2
    ran("resumed", tmp_path)
    recorded = output(tmp_path).splitlines()
    assert sorted({*recorded} - {"last words", "second attempt"}) == sorted(lines.splitlines())
    assert "last words" in recorded
    assert recorded[-1] == "second attempt"
    assert len(recorded) <= 2 * 2001 + 1  # what was being stored at the kill may be there twice
    assert not list(tmp_path.glob("notata-output-*"))


def test_a_new_run_does_not_get_what_a_killed_run_of_its_id_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ran("killed", tmp_path)
    ran("replacing", tmp_path)
    assert not list(tmp_path.glob("notata-output-*"))
    ran("resumed", tmp_path)
    assert output(tmp_path) == "new run\nsecond attempt\n"


def test_a_library_that_holds_the_lock_does_not_wait_for_a_thread(tmp_path: Path) -> None:
    shown, _ = ran("without_the_lock", tmp_path)
    assert shown == output(tmp_path) == ("x" * 99 + "\n") * 50_000


def test_two_runs_at_once_get_what_is_printed_while_they_are_open(tmp_path: Path) -> None:
    shown, _ = ran("two_runs", tmp_path)
    assert shown == "one\ntwo\nthree\nfour\n"
    assert output(tmp_path, "first") == "one\ntwo\n"
    assert output(tmp_path, "second") == "two\nthree\n"


def test_a_run_that_another_writer_takes_over_restores_the_descriptors(tmp_path: Path) -> None:
    shown, _ = ran("taken_over", tmp_path)
    assert shown == "mine\nrestored\n"


def test_a_stream_without_a_descriptor_is_recorded_too(tmp_path: Path) -> None:
    shown, _ = ran("other_streams", tmp_path)
    assert shown == "from C\nin a cell\n'in a cell\\n'\n"  # the script shows its own stream at its end
    assert output(tmp_path) == "in a cell\nfrom C\n'in a cell\\n'\n"


def test_a_bad_pattern_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    shown, _ = ran("bad_pattern", tmp_path)
    assert shown == "ConfigurationError False\n"


def test_a_failed_run_restores_the_descriptors(tmp_path: Path) -> None:
    before = [os.fstat(number) for number in (1, 2)]
    streams = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), Logbook("r", tmp_path, capture=True):
        os.write(1, b"one\n")
        _ = 1 / 0
    assert all(os.path.samestat(old, os.fstat(number)) for number, old in zip((1, 2), before, strict=True))
    assert (sys.stdout, sys.stderr) == streams
    assert output(tmp_path) == "one\n"
