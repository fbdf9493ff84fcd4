"""``notata ls``: every run with its status and contents, and the requests and imports that this takes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from notata import Logbook, RunMissingError, StorageError
from notata.cli import output
from notata.errors import AccessError, NotataError
from notata.search import runs
from notata.store import Blob, open_store
from notata.store.backends import memory
from tests.cli.conftest import Shelf
from tests.command import Done, notata, process, terminal
from tests.counting import counted
from tests.fleet import ODD, RUNS
from tests.notebook import cells
from tests.servers import Server

Fill = Callable[..., str]
_names = itertools.count()


@pytest.fixture
def fill() -> Fill:
    """Write a metadata.json for each run by hand, in memory or elsewhere, with the given fields."""

    def write(*told: dict[str, Any], url: str = "", options: dict[str, Any] | None = None) -> str:
        url = url or f"memory://ls-{next(_names)}"
        files = {
            f"{fields.pop('folder', '')}log_{fields['run_id']}/metadata.json".lstrip("/"): json.dumps(
                {"status": "complete", "start_time": "2026-03-01T09:30:00+00:00"} | fields
            ).encode()
            for fields in told
        }
        if url.startswith("memory://"):
            fsspec.filesystem("memory").pipe({f"{url}/{key}": data for key, data in files.items()})
        else:
            open_store(url, options).write_many(files)
        return url

    return write


def ls(*arguments: str, folder: Path) -> Done:
    return notata("ls", *arguments, folder=folder)


def names(done: Done) -> list[str]:
    return [line.partition("\t")[0].rpartition("log_")[2] for line in done.stdout.splitlines()]


# -- what the plain tools say ------------------------------------------------------------------------------


def _sh(command: str, folder: Path) -> str:
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_runs_are_those_that_find_and_stat_show(shelf: Shelf) -> None:
    done = process("ls", shelf.url, *shelf.options, folder=shelf.local)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = _sh("find . -name metadata.json -o -name manifest.json | sed 's|^./||; s|/[^/]*$||' | sort -u", shelf.local)
    assert [row[0] for row in rows] == [f"{shelf.url}/{folder}" for folder in found.splitlines()]
    assert [row[1] for row in rows] == list(RUNS.values())
    for row, folder in zip(rows, found.splitlines(), strict=True):
        sizes = subprocess.run(
            ["find", folder, "-type", "f", "-printf", "%s\n"],
            cwd=shelf.local,
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(row[4]) == sum(map(int, sizes.stdout.split()))


def test_as_json_with_the_names_of_the_fields(shelf: Shelf) -> None:
    done = ls(shelf.url, "--json", *shelf.options, folder=shelf.local)
    told = {line["run_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert all(list(line) == [
        "name", "run_id", "url", "status", "certain", "why", "started", "ended", "age", "seconds", "size", "files",
        "host", "failure_reason", "unfinished", "unfinished_files",
    ] for line in told.values())  # fmt: skip
    assert len(told) == len(RUNS)
    old, failed, lost, running = (told[name] for name in ("old", "sweep_dt_0.4_omega_2", "lost", "running"))
    assert (old["status"], old["seconds"], old["files"], old["host"]) == ("complete", 90.5, 5, None)
    began = datetime.fromisoformat(old["started"])
    assert began.tzinfo is not None
    assert began.astimezone().replace(tzinfo=None) == datetime(2025, 3, 1, 9, 30)
    assert "unstable" in failed["failure_reason"]
    assert (lost["started"], lost["age"], lost["failure_reason"]) == (None, None, "it has no metadata.json")
    assert (running["ended"], running["certain"]) == (None, True)
    assert told[ODD]["name"] == f"{shelf.url}/log_{ODD}"


def test_a_name_that_is_shown_can_be_asked_for(shelf: Shelf) -> None:
    done = ls(f"{shelf.url}/sweep/runs/log_*0.2*", *shelf.options, folder=shelf.local)
    name = done.stdout.partition("\t")[0]
    assert name == f"{shelf.url}/sweep/runs/log_sweep_dt_0.2_omega_2"
    assert ls(name, *shelf.options, folder=shelf.local).stdout.partition("\t")[0] == name
    below = [line.partition("\t")[0] for line in notata("ls", "sweep", folder=shelf.local).stdout.splitlines()]
    assert [name.partition("/")[0] for name in below] == ["sweep"] * 3


# -- which, and in which order -----------------------------------------------------------------------------


@pytest.fixture
def sweep(fill: Fill) -> str:
    now = datetime.now(UTC)
    return fill(
        {"run_id": "c", "runtime_sec": 5.0, "start_time": (now - timedelta(days=3)).isoformat()},
        {"run_id": "a", "runtime_sec": 50, "start_time": (now - timedelta(hours=1)).isoformat(), "status": "failed"},
        {"run_id": "b", "start_time": "nonsense", "pad": "x" * 5000},
        {"run_id": "d", "start_time": (now - timedelta(days=1)).isoformat(), "status": "initialized"},
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "abcd"),
        (["-r"], "dcba"),
        (["--sort", "age"], "adcb"),
        (["--sort", "age", "-r"], "cdab"),
        (["--sort", "size", "-r", "-n", "1"], "b"),
        (["--sort", "seconds"], "cadb"),
        (["--sort", "status"], "bcad"),
        (["--sort", "age", "-n", "2"], "ad"),
        (["--status", "running", "-n", "1"], "d"),
        (["--where", "size > 1000", "-n", "1"], "b"),
        (
            ["--status", "failed", "--status", "running", "--where", "size < 1000", "--sort", "age", "-r", "-n", "1"],
            "d",
        ),
        (["-n", "2"], "ab"),
        (["-n", "2", "-r"], "dc"),
        (["--status", "failed", "--status", "running"], "ad"),
        (["--where", "age < days(2)"], "ad"),
        (["--where", "size > 1000 or status == 'failed'"], "ab"),
        (["--status", "died"], ""),
    ],
)
def test_which_runs_and_in_which_order(sweep: str, arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = ls(sweep, *arguments, folder=tmp_path)
    if "seconds" in arguments:  # run d is still running, so its duration is about a day by now
        expected = "cadb"
    assert "".join(names(done)) == expected
    assert done.returncode == (0 if expected else 1)


def test_an_order_by_parameters_and_metrics(tmp_path: Path) -> None:
    for name, omega in (("a", 2.0), ("b", "text"), ("c", 1), ("d", None), ("e", float("nan")), ("g", [3])):
        with Logbook(name, tmp_path, params={"omega": omega, "solver": {"order": ord(name)}}) as log:
            log.json("metrics", {"error": -ord(name)})
    Logbook("f", tmp_path).mark_complete()
    for key, expected in (
        ("omega", "cabgdef"),
        ("solver.order", "abcdegf"),
        ("error", "gedcbaf"),
        ("params.omega", "cabgdef"),
    ):
        assert "".join(names(ls(".", "--sort", key, folder=tmp_path))) == expected, key
    missing = ls(".", "--sort", "omgea", folder=tmp_path)
    assert missing.stderr == "Note: no run has omgea; similar names: omega\n"
    assert len(names(missing)) == 7
    assert ls(".", "--sort", "omgea", "--status", "failed", folder=tmp_path).stderr == ""
    assert repr(runs(str(tmp_path), limit=2)).startswith("<Runs: 2 of 7 runs: 2 complete; ")


def test_a_run_that_lies_at_two_places_comes_once(sweep: str, tmp_path: Path) -> None:
    assert names(ls(f"{sweep}/log_c", sweep, folder=tmp_path)) == ["c", "a", "b", "d"]


def test_no_more_runs_are_read_than_are_given_and_none_twice(
    sweep: str, fill: Fill, asked: list[tuple[str, int, int]]
) -> None:
    other = fill({"run_id": "x"}, {"run_id": "y"})
    assert [run.run_id for run in runs([other, sweep], limit=3)] == ["x", "y", "a"]
    assert len(asked) == 3
    asked.clear()
    assert [run.run_id for run in runs([sweep, other, f"{other}/log_y"], limit=4)] == ["a", "b", "c", "d"]
    assert len(asked) == 4
    asked.clear()
    assert runs([f"{sweep}/log_c", sweep]).total == 4
    assert len(asked) == 4


def test_usage_and_what_is_not_there(fill: Fill, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (["empty"], ["nowhere"], [], ["memory://nothing-here"]):
        done = ls(*arguments, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: there is no run at ")
    for wrong in (["--status", "fine"], ["-n", "0"], ["--sort"], ["nosuch://x"]):
        assert ls(*wrong, folder=tmp_path).returncode == 2, wrong
    url = fill({"run_id": "x"})
    half = ls(url, "nowhere", folder=tmp_path)
    assert (half.returncode, names(half)) == (1, ["x"])
    base = notata("ls", folder=tmp_path, NOTATA_BASE_DIR=url)
    assert names(base) == ["x"]
    with pytest.raises(RunMissingError):
        runs(str(tmp_path / "nowhere"))


def test_a_run_that_the_storage_refuses_is_reported_and_the_others_are_listed(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fill(*({"run_id": name} for name in "abc"))
    whole = memory.MemoryBackend.get

    def get(self: memory.MemoryBackend, key: str, *rest: Any) -> Any:
        if self.url.endswith("log_b") or "log_b" in key:
            raise AccessError("not for you", url=self.url, key=key)
        return whole(self, key, *rest)

    monkeypatch.setattr(memory.MemoryBackend, "get", get)
    done = ls(url, folder=tmp_path)
    assert (done.returncode, done.stderr) == (3, "Error: not for you\n")
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["complete", "unreadable", "complete"]
    told: list[NotataError] = []
    assert len(runs(url, failed=told.append)) == 3
    with pytest.raises(StorageError):
        runs(url)
    assert [str(error) for error in told] == ["not for you"]


def test_ten_thousand_runs(fill: Fill, tmp_path: Path) -> None:
    url = fill(*({"run_id": f"{number:05}", "folder": f"set-{number % 7}/"} for number in range(10_000)))
    done = ls(url, "--sort", "run_id", "-r", folder=tmp_path)
    assert names(done) == [f"{number:05}" for number in reversed(range(10_000))]


# -- a terminal --------------------------------------------------------------------------------------------


def test_a_terminal_gets_colours_a_summary_and_nothing_of_a_run_s_own(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred\x1b[0m \x9b2J\r\n\ttwo"
    folder = tmp_path / "log_evil"
    folder.mkdir()
    told = {"run_id": "evil", "status": "failed", "failure_reason": evil, "lease": {"host": evil}}
    (folder / "metadata.json").write_text(json.dumps(told))
    (folder / "params.json").write_text(json.dumps({evil: evil, "x": 1}))
    (tmp_path / "log_living").mkdir()
    (tmp_path / "log_living/metadata.json").write_text('{"status": "initialized"}')
    for command, columns in (("ls", 200), ("table", 40)):
        code, got = terminal(command, ".", *(["-l"] if command == "ls" else []), folder=tmp_path, columns=columns)
        assert code == 0
        text = got.decode().replace("\r\n", "\n")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert not [sign for sign in plain if (sign < " " and sign != "\n") or "\x7f" <= sign <= "\x9f"]
        assert "\x1b[31mfailed\x1b[0m" in text
        assert "\x1b[31mred" not in text
        assert plain.splitlines()[-1].startswith("2 runs: 1 running, 1 failed; ")
        assert ("running?" in plain) == (command == "ls")
    bare = terminal("ls", ".", folder=tmp_path, NO_COLOR="1")[1]
    assert b"\x1b" not in bare
    piped = ls(".", "-l", folder=tmp_path)
    assert [line.count("\t") for line in piped.stdout.splitlines()] == [9, 9]
    assert "\x1b" not in piped.stdout


def test_long_names_come_last_on_a_terminal_that_is_too_narrow(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = fill({"run_id": "x" * 60}, {"run_id": "a"})
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    wide = notata("ls", where, "-l", folder=tmp_path, COLUMNS="300").stdout.splitlines()
    assert wide[0].split() == ["run", "status", "age", "duration", "size", "started", "files", "host", "reason"]
    narrow = notata("ls", where, folder=tmp_path, COLUMNS="80").stdout.splitlines()
    assert narrow[0].split() == ["status", "age", "duration", "size", "run"]
    assert [line.split()[-1] for line in narrow[1:3]] == [f"{where}/log_a", f"{where}/log_{'x' * 60}"]
    assert narrow[3].startswith("2 runs: ")


def test_a_terminal_gets_no_age_before_the_beginning_and_no_endless_reason(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    where = fill({"run_id": "a", "status": "failed", "start_time": later, "failure_reason": "x" * 100})
    piped = notata("ls", where, "-l", folder=tmp_path).stdout.rstrip("\n").split("\t")
    assert piped[-2:] == ["x" * 100, f"{where}/log_a"]
    assert float(piped[2]) < -3000
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    line = notata("ls", where, "-l", folder=tmp_path, COLUMNS="300").stdout.splitlines()[1]
    assert "  0 ms  " in line
    assert line.endswith(f"  {'x' * 80}…")


def test_an_address_is_shown_where_it_says_more_than_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Logbook("a", tmp_path).mark_complete()
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    told = notata("ls", ".", "-l", folder=tmp_path, COLUMNS="300").stdout.splitlines()
    assert told[0].split()[-1] == "url"
    assert told[1].endswith(f"  {tmp_path}/log_a")


@pytest.mark.parametrize("command", ["ls", "table"])
def test_a_terminal_shows_how_many_runs_do_not_match(
    command: str, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = fill({"run_id": "a"}, {"run_id": "b"})
    arguments = (command, where, "--status", "failed")
    assert notata(*arguments, folder=tmp_path).stdout == ""
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    done = notata(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "0 of 2 runs\n")


@pytest.mark.parametrize("command", ["ls", "show", "du", "tail"])
def test_without_an_argument_the_error_names_the_place_that_was_used(command: str, tmp_path: Path) -> None:
    told = notata(command, folder=tmp_path).stderr.splitlines()
    assert told[0].startswith("Error: there is no")
    assert told[1:] == [
        "No URL was given, so notata looked in NOTATA_BASE_DIR or outputs. To look in the current folder, pass ."
    ]
    assert len(notata(command, ".", folder=tmp_path).stderr.splitlines()) <= 1


def test_a_notebook_shows_the_runs(fill: Fill) -> None:
    found = runs(fill({"run_id": "<b>", "failure_reason": "x"}, {"run_id": "c", "status": "failed"}))
    assert [row[:2] for row in cells(found._repr_html_())] == [
        ["name", "status"],
        [found[0].name, "● complete"],
        [found[1].name, "● failed"],
    ]
    frame = found.to_pandas()
    assert frame["status"].tolist() == ["complete", "failed"]
    assert str(frame["started"].dtype).startswith("datetime64")


# -- cost --------------------------------------------------------------------------------------------------


def _kinds(sent: list[str]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for request in sent:
        listing = "list-type=2" in request or re.search(r"/o\?|/b/[^/]+/o/?(\?|$)", request) is not None
        kind = "list" if listing else request.partition(" ")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_listing_and_a_read_for_each_run(
    kind: str, fill: Fill, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue("moto_server" if kind == "s3" else "gcs_server")
    url = f"{server.url}/ls-{next(_names)}"
    fill(*({"run_id": f"{number:02}"} for number in range(40)), url=url, options=server.options)
    options = [f"--storage-option={name}={value}" for name, value in server.options.items()]
    for arguments, reads in (
        ([], 40),
        (["--status", "failed"], 40),
        (["--sort", "age", "-n", "3"], 40),
        (["-n", "3"], 3),
    ):
        with counted() as sent:
            ls(url, *arguments, *options, folder=tmp_path)
        assert _kinds(sent) == {"list": 1, "GET": reads}, arguments
    with counted() as sent:
        assert names(ls(f"{url}/log_1*", *options, folder=tmp_path)) == [str(number) for number in range(10, 20)]
    assert _kinds(sent) == {"list": 1, "GET": 10}
    # A nested folder that looks like a run is not a run and is not read. Nothing is read twice.
    fill(
        {"run_id": "in", "folder": "log_01/artifacts/"},
        url=url,
        options=server.options,
    )
    for place, found, lists in (
        ([f"{url}/log_01"], ["01"], 1),
        ([f"{url}/log_01", f"{url}/log_0*"], [f"0{n}" for n in (1, 0, *range(2, 10))], 2),
    ):
        with counted() as sent:
            assert names(ls(*place, *options, folder=tmp_path)) == found
        assert _kinds(sent)["list"] == lists
        assert len(sent) - lists <= len(found) + lists - 1
    open_store(url, server.options).clear()


HEAVY = ["numpy", "yaml", "s3fs", "gcsfs", "pandas", "botocore", "aiobotocore", "aiohttp", "matplotlib",
         "rich", "google", "requests", "obstore", "pyarrow", "difflib", "html"]  # fmt: skip


def test_help_and_a_local_listing_import_little(tmp_path: Path) -> None:
    Logbook("a", tmp_path, params={"omega": 1}).mark_complete()
    code = (
        "import sys\n"
        "from notata.cli import main\n"
        "count, *arguments = sys.argv[1:]\n"
        "try: main(arguments, prog_name='notata')\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print([name for name in {!r} if name in sys.modules], file=sys.stderr)\n"
    )
    storage = ["fsspec", "upath", "asyncio", "ssl"]
    for arguments, forbidden in (
        (["--help"], [*HEAVY, *storage, "notata.search"]),
        (["ls", "--help"], [*HEAVY, *storage, "notata.search"]),
        (["ls", str(tmp_path)], [*HEAVY, *storage, "notata.search.comparing"]),
    ):
        command = [sys.executable, "-c", code.format(forbidden), "x", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert done.stderr.strip() == "[]", arguments


def test_a_command_ends_without_a_search_for_cycles(tmp_path: Path) -> None:
    """Python's own search at the exit takes 0.2 s if the libraries of a bucket are loaded."""
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000, file=sys.stderr))\n"
        "from notata.cli import main\n"
        "main(sys.argv[1:], prog_name='notata')\n"
    )
    command = [sys.executable, "-c", code, "ls", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr.splitlines() == ["True"]


@pytest.mark.parametrize("stored", ["beat", "listing"])
def test_the_duration_of_a_dead_run_is_the_same_in_each_listing(
    stored: str, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = {"host": "far", "pid": 7, "heartbeat": 1, "beat": "2026-03-01T09:31:30.250+00:00"}
    if stored == "listing":
        lease["beat"] = None
    url = fill({"run_id": "a", "status": "initialized", "lease": lease})
    written = open_store(url).stat("log_a/metadata.json").modified
    whole, ages = memory.MemoryBackend.get, itertools.count(10, 0.1)

    def get(
        self: memory.MemoryBackend,
        key: str,
        start: int,
        end: int | None,
        version: str | None = None,
        limit: int | None = None,
    ) -> Blob:
        return dataclasses.replace(
            whole(self, key, start, end, version, limit), age=next(ages)
        )  # a different age at each read

    monkeypatch.setattr(memory.MemoryBackend, "get", get)
    begun = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    seconds = 90.25 if stored == "beat" else round((written - begun).total_seconds(), 3)
    for _ in range(2):
        [run] = runs(url)
        assert (run.status, run.seconds) == ("died", seconds)
        for command in ("ls", "show", "table"):
            columns = ["--columns", "seconds"] if command == "table" else []
            told = json.loads(notata(command, f"{url}/log_a", "--json", *columns, folder=tmp_path).stdout)
            assert told["seconds"] == seconds, command
        assert ls(url, folder=tmp_path).stdout.split("\t")[3] == f"{seconds:.3f}"
