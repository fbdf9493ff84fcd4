"""Unfinished files of a killed writer are reported and removed; those of a running process are not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from notata import Logbook, search
from notata.store import open_store
from notata.store.unfinished import new_name
from tests.command import notata

SIZE = 20 * 2**20
DAY = 86_400

WRITER = """
import sys
from notata.store import open_store

with open_store(sys.argv[1]).open("artifacts/large.bin", "wb") as file:
    file.write(bytes(20 * 2**20))
    print("ready", flush=True)
    sys.stdin.read()
"""
RUN = """
import sys
from notata import Logbook

log = Logbook("run", sys.argv[1], environment=False, heartbeat=0)
with log.open("artifacts/large.bin", "wb") as file:
    file.write(bytes(20 * 2**20))
    print("ready", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells processes apart")


@contextmanager
def writing(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that is in the middle of a large write."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def killed(folder: Path) -> None:
    with writing(RUN, folder) as process:
        process.kill()


def hidden(folder: Path) -> dict[str, int]:
    """Return hidden files of a folder, found by walking the file system directly."""
    return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file() and ".notata-" in str(path)}


def dead_tag() -> str:
    """Return the tag of a process that has ended."""
    command = [sys.executable, "-c", "from notata._base import processes; print(processes.tag())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def leave(path: Path, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def resumed(folder: Path) -> Logbook:
    return Logbook("run", folder, resume=True, environment=False, heartbeat=0)


def test_a_resumed_run_removes_what_its_killed_writer_left(tmp_path: Path) -> None:
    killed(tmp_path)
    (size,) = hidden(tmp_path).values()
    assert size >= SIZE // 2
    with resumed(tmp_path) as log:
        assert hidden(tmp_path) == {}
        line = log.log_path.read_text().splitlines()[-1]
    assert line.endswith(f"INFO Removed unfinished writes of ended processes: 1 writes, {size} bytes")


def test_three_kills_leave_no_more_than_one(tmp_path: Path) -> None:
    for _ in range(3):
        with writing(RUN.replace("heartbeat=0", "heartbeat=0, resume=True"), tmp_path) as process:
            process.kill()
        assert len(hidden(tmp_path)) == 1


def test_overwriting_and_removing_a_run_remove_them(tmp_path: Path) -> None:
    killed(tmp_path)
    Logbook("run", tmp_path, overwrite=True, environment=False, heartbeat=0).mark_complete()
    assert hidden(tmp_path) == {}
    killed(tmp_path / "other")
    assert notata("rm", "-y", "other/log_run", folder=tmp_path).returncode == 0
    assert not (tmp_path / "other/log_run").exists()


def test_what_another_process_still_writes_is_left(tmp_path: Path) -> None:
    Logbook("run", tmp_path, environment=False, heartbeat=0).mark_complete()
    run = tmp_path / "log_run"
    with writing(WRITER, run) as process:
        (name,) = hidden(run)
        os.utime(run / "artifacts" / name, (0, 0))  # it stays, however old
        with resumed(tmp_path):
            assert [*hidden(run)] == [name]
        process.communicate("")
        assert process.returncode == 0
    assert (run / "artifacts/large.bin").stat().st_size == SIZE
    assert hidden(run) == {}


def test_unfinished_writes_contain_the_name_of_their_process(tmp_path: Path) -> None:
    assert re.fullmatch(rf"\.notata-[0-9a-f]{{12}}-{os.getpid()}-[0-9]+-[0-9a-f]{{16}}", new_name())
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, new_name().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert f"-{child}-".encode() in file.read()


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (".notata-0123456789abcdef", DAY - 600, True),  # the names of earlier versions
        (".notata-0123456789abcdef", DAY + 600, False),
        (".notata-0123456789ab-1-2-0123456789abcdef", DAY - 600, True),  # from another machine
        (".notata-0123456789ab-1-2-0123456789abcdef", DAY + 600, False),
        (".notata-0123456789abcdef/weights.bin", DAY + 600, False),  # made by `local`
        (".notata-lock", 100 * DAY, True),
        (".notata-of-another", 100 * DAY, True),
        ("dead", 0, False),
    ],
)
def test_files_of_unknown_state_are_kept_for_a_day(name: str, age: float, stays: bool, tmp_path: Path) -> None:
    Logbook("run", tmp_path, environment=False, heartbeat=0).mark_complete()
    name = f".notata-{dead_tag()}-0123456789abcdef" if name == "dead" else name
    path = leave(tmp_path / "log_run/data" / name, age)
    resumed(tmp_path).mark_complete()
    assert path.exists() is stays


def test_a_store_that_cannot_remove_unfinished_writes_does_not_stop_a_resume(tmp_path: Path) -> None:
    Logbook("run", tmp_path, environment=False, heartbeat=0).mark_complete()
    path = leave(tmp_path / "log_run/data/.notata-0123456789abcdef", 2 * DAY)
    store = open_store(tmp_path)

    def refuse(names: object) -> dict[str, Exception]:
        return {str(path): PermissionError("denied")}

    store.backend.delete = refuse  # type: ignore[method-assign]
    with Logbook("run", store, resume=True, environment=False, heartbeat=0) as log:
        assert "WARNING Unfinished writes of earlier attempts were not removed: " in log.log_path.read_text()
    assert log.status == "complete"


# -- reports -----------------------------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Create a run with two unfinished writes of 1000 bytes each."""
    with Logbook("run", tmp_path, environment=False, heartbeat=0, preallocate=True) as log:
        log.text("notes", "whole")
    for folder in ("artifacts", "data"):
        (tmp_path / "log_run" / folder / ".notata-0123456789abcdef").write_bytes(bytes(1000))
    return tmp_path


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


NOTE = "Note: not counted: 2 unfinished writes, 2.0 kB. A killed process leaves them; "


@pytest.mark.parametrize(
    "arguments", [("du",), ("du", "-s"), ("du", "--by", "run"), ("du", "--by", "suffix"), ("tree",)]
)
def test_du_and_tree_report_them(arguments: tuple[str, ...], left: Path) -> None:
    files = sum(path.stat().st_size for path in left.rglob("*") if path.is_file() and not path.name.startswith("."))
    done = notata(*arguments, "log_run", folder=left)
    assert done.stderr.startswith(NOTE)
    assert ".notata-" not in done.stdout
    told = lines(notata(*arguments, "log_run", "--json", folder=left).stdout)
    top = [one for one in told if not one["depth"]]
    assert sum(int(str(one["size"])) for one in top) == files
    assert sum(int(str(one["unfinished"])) for one in top) == 2000
    assert sum(int(str(one["unfinished_files"])) for one in top) == 2


def test_each_folder_has_its_own(left: Path) -> None:
    told = {one.name: (one.unfinished, one.unfinished_files) for one in search.usage(left / "log_run")}
    run = str(left / "log_run")
    assert told == {run: (2000, 2), f"{run}/artifacts": (1000, 1), f"{run}/data": (1000, 1)}
    (tree,) = search.trees(left / "log_run/data")
    assert (tree.files, tree.size, tree.unfinished, tree.unfinished_files) == (0, 0, 1000, 1)
    parts = {tree.label: tree.unfinished for tree in search.trees(f"{left}/log_*/*")}
    assert (parts["artifacts"], parts["data"]) == (1000, 1000)


def test_a_filter_counts_those_of_its_runs(left: Path) -> None:
    leave(left / "log_other/data/.notata-0123456789abcdef")
    (left / "log_other/metadata.json").write_text('{"status": "failed"}')
    (complete,) = search.usage(left, by="run", status="complete")
    (failed,) = search.usage(left, by="run", status="failed")
    assert (complete.unfinished, failed.unfinished) == (2000, 4)


def test_ls_and_show_report_them(left: Path) -> None:
    (told,) = lines(notata("ls", "--json", folder=left, NOTATA_BASE_DIR=str(left)).stdout)
    assert (told["unfinished"], told["unfinished_files"]) == (2000, 2)
    assert re.search(r"unfinished +2 writes, 2\.0 kB", notata("show", "log_run", folder=left).stdout)
    (told,) = lines(notata("show", "log_run", "--json", folder=left).stdout)
    assert (told["unfinished"], told["unfinished_files"]) == (2000, 2)


def test_nothing_is_said_where_there_are_none(tmp_path: Path) -> None:
    Logbook("run", tmp_path, environment=False, heartbeat=0).mark_complete()
    for command in ("du", "tree"):
        assert notata(command, "log_run", folder=tmp_path).stderr == ""
    assert "unfinished" not in notata("show", "log_run", folder=tmp_path).stdout
