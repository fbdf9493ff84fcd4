"""Text of a hostile run folder appears in logs, errors and on the terminal as one printable line of bounded length."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from notata import Logbook, Worker
from notata._base.terminal import one_line
from notata.cli import main
from notata.errors import BatchError, NotataError

KEY = "ssh-ed25519 AAAAC3attacker"
HOSTILE = f"n1\n{KEY}\r\n\x1b]0;title\x07\x1b[2J\u202e\x9b31m\x00"
LONG = HOSTILE + "x" * 100_000
NEXT_LINE = "\n" + KEY


def plant(base: Path, name: str = "night", *, text: str = HOSTILE, status: str = "initialized", **fields: Any) -> Path:
    """Create a run whose every field is `text` and whose last heartbeat is long ago."""
    folder = base / f"log_{name}"
    folder.mkdir(parents=True)
    lease = {"owner": text, "host": text, "pid": text, "process": text, "heartbeat": 1, "beat": text}
    said = {
        "run_id": text, "status": status, "start_time": text, "end_time": text, "failure_reason": text,
        "failure_type": text, "mirror": text, "resumes": [{"time": text, "after": text}], "lease": lease,
        "environment": {"host": text, "pid": text, "user": text, "platform": text,
                        "git": {"commit": text, "branch": text}},
        text[:100]: text,
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(said | fields))
    (folder / "log.txt").write_text("[2026-01-01T00:00:00] INFO begun\n")
    os.utime(folder / "metadata.json", (1, 1))
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], standalone_mode=True)


def assert_printable(text: str, longest: int = 5000) -> None:
    """Check for control sequences, injected lines and overlong lines."""
    assert [char for char in text if not (char.isprintable() or char in "\n\t ")] == []
    for line in text.splitlines():
        assert not line.lstrip().startswith(KEY), line
        assert len(line) <= longest, len(line)


@pytest.mark.parametrize("text", [HOSTILE, LONG], ids=["controls", "long"])
@pytest.mark.parametrize("how", ["resume", "resume='force'"])
def test_a_resumed_log_gets_one_line_of_what_the_folder_says(text: str, how: str, tmp_path: Path) -> None:
    folder = plant(tmp_path, text=text)
    with Logbook("night", tmp_path, resume=True if how == "resume" else "force"):
        pass
    lines = (folder / "log.txt").read_text().splitlines()
    assert "Logbook resumed" in lines[1]
    assert_printable("\n".join(lines), 500)
    assert all(line.startswith("[") for line in lines)


def test_a_worker_s_log_and_warning_have_one_line_of_what_the_folder_says(tmp_path: Path) -> None:
    folder = plant(tmp_path, text=LONG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Worker(folder, 0):
            pass
    told = [str(one.message) for one in caught]
    assert any("is dead" in one for one in told)
    assert_printable("".join(told).replace("\n", NEXT_LINE), 1000)
    logs = [path.read_text() for path in folder.rglob("workers/*/log.txt")]
    assert len(logs) == 1
    assert_printable(logs[0], 1000)


@pytest.mark.parametrize("status", ["complete", "failed", "initialized", "replacing", HOSTILE])
@pytest.mark.parametrize("text", [HOSTILE, LONG], ids=["controls", "long"])
@pytest.mark.parametrize("command", [
    ("ls", "{base}"), ("ls", "-l", "{base}"), ("show", "{run}"), ("table", "{base}"), ("verify", "{run}"),
    ("compare", "{run}", "{run}"), ("tree", "{base}"), ("du", "{base}"), ("tail", "{run}"), ("grep", "x", "{run}"),
    ("rm", "--yes", "{run}"), ("sync", "{run}"), ("sync", "{run}", "{base}/copy"),
    ("rm", "-r", "--dry-run", "--keep-best", "1:lr", "{base}"), ("pin", "{run}"), ("lineage", "{run}"),
    ("lineage", "--dot", "{run}"), ("watch", "--all", "--on", "failed,complete,died", "--state", "{base}/s", "{base}"),
])  # fmt: skip
def test_no_command_prints_a_control_sequence(command: tuple[str, ...], text: str, status: str, tmp_path: Path) -> None:
    folder = plant(tmp_path / "outputs", text=text, status=status)
    done = invoke(*(part.format(base=tmp_path / "outputs", run=folder) for part in command))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert_printable(done.stdout, 250_000)  # a table for programs contains the run's own text
    assert_printable(done.stderr)


def test_errors_of_every_kind_are_one_line(tmp_path: Path) -> None:
    plant(tmp_path, text=LONG, status="replacing")
    with pytest.raises(NotataError) as refused:
        Logbook("night", tmp_path)
    assert_printable(str(refused.value).replace("\n", NEXT_LINE))
    with pytest.raises(NotataError) as refused:
        Logbook("night", tmp_path, resume=True)
    assert_printable(str(refused.value).replace("\n", NEXT_LINE))
    kinds: list[type[NotataError]] = [NotataError, *NotataError.__subclasses__()]
    for kind in kinds:
        error: NotataError = BatchError(LONG, [ValueError("x")]) if issubclass(kind, BatchError) else kind(LONG)
        assert "\n" not in str(error)
        assert_printable(str(error))
    assert_printable(str(BatchError(LONG, [ValueError("x")]).derive([ValueError("y")])))


@pytest.mark.skipif(sys.platform == "win32", reason="such names do not exist there")
def test_names_of_files_are_one_line_in_logs_and_reports(tmp_path: Path) -> None:
    source = tmp_path / "odd"
    source.mkdir()
    (source / "fine.txt").write_text("x")
    (source / f"a\n{KEY}").symlink_to(tmp_path)
    with Logbook("a", tmp_path) as log:
        log.folder(source)
    text = (tmp_path / "log_a" / "log.txt").read_text()
    assert KEY in text
    assert_printable(text)
    (tmp_path / "log_a" / f"b\n{KEY}").symlink_to(tmp_path)
    done = invoke("sync", tmp_path / "log_a", tmp_path / "copies")
    assert KEY in done.stdout + done.stderr
    assert_printable(done.stdout + done.stderr)


def test_one_line_is_printable_and_bounded() -> None:
    for most in (1, 2, 10, 200):
        for text in (HOSTILE, LONG, "\x00" * 50, "é" * most, "\n\n", ""):
            shown = one_line(text, most)
            assert len(shown) <= most
            assert "\n" not in shown
            assert shown.isprintable() or shown == ""
    assert one_line("plain — ø", 50) == "plain — ø"
