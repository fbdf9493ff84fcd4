"""``notata show``: an overview of a run."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notata import Logbook, errors
from notata.search import overviews, runs, show
from notata.store import Blob, open_store
from notata.store.backends.memory import MemoryBackend
from tests.cli.conftest import Shelf
from tests.command import notata, process, terminal
from tests.counting import counted
from tests.fleet import ODD, RUNS
from tests.notebook import cells
from tests.servers import Server


def parts(text: str) -> dict[str, list[str]]:
    """Return the printed lines of one run by the heading of their section."""
    found: dict[str, list[str]] = {}
    for part in text.rstrip("\n").split("\n\n"):
        title, *lines = part.split("\n")
        assert all(line.startswith("  ") for line in lines)
        found[title.partition(",")[0]] = [line[2:] for line in lines]
    return found


def test_it_shows_what_the_files_of_a_run_say(shelf: Shelf, tmp_path: Path) -> None:
    done = process("show", "-n", "3", f"{shelf.url}/log_notes", *shelf.options, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    folder = shelf.local / "log_notes"
    found = parts(done.stdout)
    assert list(found) == ["notes  complete", "params", "metrics", "artifacts", "arrays", "log"]
    tail = subprocess.run(["tail", "-n", "3", folder / "log.txt"], capture_output=True, text=True, check=True).stdout
    assert found["log"] == tail.splitlines()
    facts = dict(line.split(None, 1) for line in found["notes  complete"])
    metadata = json.loads((folder / "metadata.json").read_bytes())
    environment = metadata["environment"]
    assert facts["place"] == f"{shelf.url}/log_notes"
    assert facts["host"] == f"{environment['host']}, process {environment['pid']}, user {environment['user']}"
    assert facts["python"].startswith(f"CPython {environment['python']['version']}, ")
    assert facts["started"].startswith(metadata["start_time"][:19].replace("T", " "))
    assert facts["workers"] == "3"
    assert facts["size"].endswith(f" in {sum(path.is_file() for path in folder.rglob('*'))} files")
    assert found["params"] == ["omega   2.0", 'solver  {"name": "rk4", "order": 4}']
    assert found["metrics"] == ["energy  0.5", "note    fine", "steps   1000"]
    assert [line.split()[0] for line in found["artifacts"]] == sorted(
        path.relative_to(folder / "artifacts").as_posix() for path in (folder / "artifacts").rglob("*.*")
    )
    assert found["arrays"][0].split() == ["energy.npy", "216", "B"]


def test_each_run_of_a_folder_whatever_its_kind(shelf: Shelf, tmp_path: Path) -> None:
    done = notata("show", "--all", "--json", shelf.url, *shelf.options, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    records = {one["name"].removeprefix(f"{shelf.url}/"): one for one in map(json.loads, done.stdout.splitlines())}
    assert {folder: one["status"] for folder, one in records.items()} == RUNS
    lost, broken, old = (records[f"log_{name}"] for name in ("lost", "broken", "old"))
    assert (lost["why"], list(lost["artifacts"]), len(lost["log"])) == ("it has no metadata.json", ["notes.txt"], 3)
    assert (broken["failure_reason"], broken["log"]) == (
        "metadata.json is not a JSON object",
        ["[2026-03-01T09:30:00] INFO begun"],
    )
    assert (old["params"], old["metrics"], old["seconds"]) == ({"omega": 1.5, "dt": 0.01}, {"energy": 1.25}, 90.5)
    assert (old["environment"], old["data"]) == ({}, {"x.npy": 152})
    failed = records["sweep/runs/log_sweep_dt_0.4_omega_2"]
    assert (failed["failure"]["type"], failed["failure"]["message"]) == (
        "ArithmeticError",
        "the step 0.4 is unstable",
    )
    assert failed["failure"]["frames"][-1]["code"] == 'raise ArithmeticError(f"the step {dt} is unstable")'
    assert failed["failure"]["frames"][-1]["function"] == "_swept"
    assert "is gone" in records["log_died"]["why"]
    assert records["log_running"]["log"][-1].endswith("WARNING residual is large")
    assert records[f"log_{ODD}"]["run_id"] == ODD


def test_the_fields_of_json_have_these_names(fleet: Path, tmp_path: Path) -> None:
    done = notata("show", "--json", f"{fleet}/log_notes", folder=tmp_path)
    assert list(json.loads(done.stdout)) == [
        "name", "run_id", "url", "status", "certain", "why", "started", "ended", "age", "seconds", "size",
        "files", "host", "failure_reason", "unfinished", "unfinished_files", "params", "metrics", "environment",
        "fields", "failure", "caught", "caught_in_all", "artifacts", "data", "plots", "sizes",
        "workers", "mirror", "resumes", "parent", "inputs", "series", "log", "log_size", "output",
            "output_size", "problems",
    ]  # fmt: skip


def test_a_folder_of_several_runs_is_refused_unless_all_are_asked_for(fleet: Path, tmp_path: Path) -> None:
    done = notata("show", str(fleet), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {fleet} has 11 runs, such as {fleet}/log_broken, ")
    with pytest.raises(errors.ConfigurationError, match="has 11 runs"):
        show(fleet)
    assert notata("show", f"{fleet}/log_l*", "-n", "0", folder=tmp_path).stdout.count("  place  ") == 2
    done = notata("show", f"{fleet}/logs", f"{fleet}/log_old", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"Error: there is no run at or below {fleet}/logs\n")
    assert done.stdout.startswith("old  complete\n")


def test_the_id_of_a_run_finds_it(tmp_path: Path) -> None:
    for name in ("exp001", "exp001/inner"):
        Logbook(name.rpartition("/")[2], tmp_path / name.rpartition("/")[0]).mark_complete()
    assert (tmp_path / "exp001").is_dir()  # it contains a run of its own
    (tmp_path / "log_exp001").rename(tmp_path / "log_exp002")
    for arguments in (("show", "exp002", "-n", "0"), ("show", "-0", "./exp002/"), ("ls", "exp002"), ("tail", "exp002")):
        done = notata(*arguments, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert show(str(tmp_path / "exp002")).run.run_id == "exp002"
    assert show(str(tmp_path / "exp001")).run.run_id == "inner"
    with pytest.raises(errors.RunMissingError, match=r"there is no run at or below .*/exp003"):
        show(str(tmp_path / "exp003"))
    Logbook("a", "memory://show/ids").mark_complete()
    assert show("memory://show/ids/a").run.url == "memory://show/ids/log_a"


@pytest.mark.parametrize("beat", [True, False])
def test_the_duration_of_a_killed_run_ends_with_its_last_write(beat: bool, tmp_path: Path) -> None:
    folder = tmp_path / "log_killed"
    folder.mkdir()
    begun = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    lease: dict[str, Any] = {"host": "far", "pid": 7, "heartbeat": 1}
    if beat:
        lease["beat"] = (begun + timedelta(seconds=1)).isoformat()
    fields = {"run_id": "killed", "status": "initialized", "start_time": begun.isoformat(), "lease": lease}
    (folder / "metadata.json").write_text(json.dumps(fields))
    (folder / "log.txt").write_text("[2026-03-01T09:30:00] INFO begun\n")
    offset = 3600 if beat else 0  # the clock of a file server may differ
    for name, seconds in (("metadata.json", 1), ("log.txt", 251)):
        time = begun.timestamp() + seconds + offset
        os.utime(folder / name, (time, time))
    [run] = runs(str(tmp_path))
    assert (run.status, run.seconds) == ("died", 251.0)
    printed = parts(notata("show", "killed", folder=tmp_path).stdout)["killed  died"]
    assert [line.split(None, 1)[1] for line in printed if line.startswith("took")] == [
        "4 min 11 s up to its last sign of life"
    ]


def test_a_folder_of_one_run_means_that() -> None:
    Logbook("only", "memory://show/one/deep").mark_complete()
    assert show("memory://show/one").run.run_id == "only"


# -- what is read ------------------------------------------------------------------------------------------


def test_little_is_read_of_a_large_run(asked: list[tuple[str, int, int]]) -> None:
    with Logbook("large", "memory://show", params={"dt": 0.1}) as log:
        log.json("metrics", {"error": 0.5})
        log.array("field", list(range(10**5)))
        for number in range(20_000):
            log.info("step %d of a long computation", number)
    asked.clear()
    found = show("memory://show/log_large", lines=5)
    assert [line.partition("] ")[2] for line in found.log][-1] == "INFO Marked complete"
    assert len(found.log) == 5
    assert found.run.metrics == {"error": 0.5}
    keys = [key.rpartition("log_large/")[2] for key, _, _ in asked]
    assert sorted(keys) == ["log.txt", "metadata.json"]
    [(_, start, size)] = [one for one in asked if one[0].endswith("log.txt")]
    assert (start + size, size) == (found.log_size, 4096)


def test_requests_of_a_run_that_ended_of_a_failed_one_and_of_many(moto_server: Server) -> None:
    url = f"{moto_server.url}/show-requests"
    for number in range(4):
        with suppress(ValueError), Logbook(str(number), url, storage_options=moto_server.options) as log:
            log.params(dt=0.1)
            if number == 3:
                raise ValueError("h = -1")
    for place, count in (("log_0", 3), ("log_3", 4), ("log_*", 1 + 4 * 2 + 1)):
        with counted() as sent:
            list(overviews(f"{url}/{place}", storage_options=moto_server.options))
        assert len(sent) == count, sent


def test_the_end_of_the_output_is_shown_like_that_of_the_log(asked: list[tuple[str, int, int]], tmp_path: Path) -> None:
    store = open_store("memory://show/printed/log_a")
    text = "".join(f" step {step} of the solver\n" for step in range(20_000))
    store.write_many({"output.txt": text.encode(), "metadata.json": b'{"status": "complete"}'})
    asked.clear()
    found = show(store, lines=3)
    assert found.output == (" step 19997 of the solver", " step 19998 of the solver", " step 19999 of the solver")
    assert [(size, start + size) for key, start, size in asked if key == "output.txt"] == [(4096, len(text))]
    store.write("output.txt", b"\x1b[31mNaN\xff\r\nno end")
    printed = notata("show", "memory://show/printed/log_a", folder=tmp_path)
    assert parts(printed.stdout)["output"] == ["\\x1b[31mNaN\\udcff", "no end"]
    assert show(store, lines=0).output == ()


@pytest.mark.parametrize("lines", [1, 3, 1000])
def test_as_many_last_lines_as_are_asked_for_however_long(lines: int, asked: list[tuple[str, int, int]]) -> None:
    text = "".join(f"[2026-03-01T09:30:00] INFO {number} {'é' * 700}\n" for number in range(300))
    store = open_store("memory://show/lines/log_a")
    store.write_many({"log.txt": text.encode(), "metadata.json": b'{"status": "complete"}'})
    asked.clear()
    assert list(show(store, lines=lines).log) == text.splitlines()[-lines:]
    if lines < 10:
        assert sum(size for key, _, size in asked if key == "log.txt") < 2**15


def test_a_log_without_an_end_and_one_of_one_long_line() -> None:
    store = open_store("memory://show/odd-log/log_a")
    store.write_many({"log.txt": b"one\r\ntwo\xff\nthree", "metadata.json": b"{}"})
    assert show(store).log == ("one", "two\udcff", "three")
    store.write("log.txt", b"x" * 2**21)
    [line] = show(store).log
    assert 2**20 <= len(line) < 2**21


# -- failures ----------------------------------------------------------------------------------------------


def failing(name: str) -> Any:
    def deep(left: int) -> None:
        if not left:
            raise ValueError("h = -1")
        deep(left - 1)

    with suppress(ValueError), Logbook(name, "memory://show"):
        deep(9)
    return open_store(f"memory://show/log_{name}")


def test_a_failure_has_its_last_frames(tmp_path: Path) -> None:
    failing("frames")
    found = parts(notata("show", "memory://show/log_frames", folder=tmp_path).stdout)
    assert found["failure"][0] == "ValueError: h = -1"
    assert [line.strip() for line in found["failure"][2::2]] == ["deep(left - 1)"] * 2 + ['raise ValueError("h = -1")']
    assert len(show("memory://show/log_frames").failure.frames) == 5  # type: ignore[union-attr]


def test_what_led_to_a_failure_is_shown(tmp_path: Path) -> None:
    with suppress(RuntimeError), Logbook("chain", "memory://show"):
        try:
            try:
                raise KeyError("h")
            except KeyError:
                raise OSError("no disk")  # noqa: B904
        except OSError as error:
            raise RuntimeError("the step failed") from error
    lines = parts(notata("show", "memory://show/log_chain", folder=tmp_path).stdout)["failure"]
    told = [line for line in lines if not line.startswith(" ")]
    assert told == [
        "RuntimeError: the step failed",
        "caused by OSError: no disk",
        "raised while handling KeyError: 'h'",
    ]
    assert [line.strip() for line in lines[1:] if "raise OSError" in line] == ['raise OSError("no disk")  # noqa: B904']
    described = json.loads(notata("show", "--json", "memory://show/log_chain", folder=tmp_path).stdout)["failure"]
    assert (described["cause"]["type"], described["cause"]["context"]["message"]) == ("OSError", "'h'")
    html = show("memory://show/log_chain")._repr_html_()
    assert "caused by OSError" in html
    assert "no disk" in html


def test_the_members_of_a_group_are_shown(tmp_path: Path) -> None:
    with suppress(ExceptionGroup), Logbook("group", "memory://show"):
        raise ExceptionGroup("two of three failed", [ValueError("h = -1"), KeyError("dt")])
    lines = parts(notata("show", "memory://show/log_group", folder=tmp_path).stdout)["failure"]
    told = [line for line in lines if not line.startswith(" ")]
    assert told[0].startswith("ExceptionGroup: two of three failed")
    assert told[1:] == ["member 1: ValueError: h = -1", "member 2: KeyError: 'dt'"]


@pytest.mark.parametrize("name", ["cause", "context", "exceptions"])
def test_a_forged_chain_of_failures_is_bounded(name: str, tmp_path: Path) -> None:
    store = failing(f"forged-{name}")
    told: Any = {"type": "E", "message": "", "frames": []}
    for _ in range(200):
        told = {"type": "E", "message": "", "frames": [], name: [told] * 2 if name == "exceptions" else told}
        if name == "exceptions" and len(json.dumps(told)) > 2**19:
            break
    store.write("artifacts/debug/failure.json", json.dumps(told).encode())
    failure = show(store).failure
    assert failure is not None
    assert len(list(failure.chain())) <= 2**12
    store.write("artifacts/debug/failure.json", json.dumps({"frames": [], name: [3]}).encode())
    assert show(store).problems == ("artifacts/debug/failure.json does not describe an exception",)


def test_without_a_description_it_is_the_end_of_the_traceback() -> None:
    store = failing("text")
    store.delete(["artifacts/debug/failure.json"])
    failure = show(store).failure
    assert failure is not None
    assert (failure.type, failure.message, failure.frames) == ("ValueError", "h = -1", ())
    assert failure.text.endswith("ValueError: h = -1\n")
    store.write("artifacts/debug/failure.json", b'{"frames": [{"line": 1}]}')
    found = show(store)
    assert found.failure == failure
    assert found.problems == ("artifacts/debug/failure.json does not describe an exception",)


def test_a_resumed_run_that_completed_shows_no_failure() -> None:
    failing("again")
    Logbook("again", "memory://show", resume=True).mark_complete()
    found = show("memory://show/log_again")
    assert (found.run.status, found.failure, len(found.resumes)) == ("complete", None, 1)
    assert found.resumes[0]["after"] == "failed"


def test_exceptions_that_were_caught_are_shown_the_last_three(tmp_path: Path) -> None:
    with Logbook("caught", "memory://show") as log:
        for number in range(5):
            with log.catch():
                raise KeyError(number)
    found = show("memory://show/log_caught")
    assert ([one.message for one in found.caught], found.caught_in_all) == (["2", "3", "4"], 5)
    printed = notata("show", "memory://show/log_caught", folder=tmp_path).stdout
    assert "\ncaught, 5 in all, the last 3\n  KeyError: 2\n    File " in printed


# -- what is damaged, and what is odd ----------------------------------------------------------------------


def test_a_run_with_damaged_metadata_shows_parameters_and_metrics() -> None:
    with Logbook("half", "memory://show", params={"dt": 0.1}) as log:
        log.json("metrics", {"error": 0.5})
    store = open_store("memory://show/log_half")
    store.write("metadata.json", b"[")
    found = show(store)
    assert (found.run.status, found.run.params, found.run.metrics) == ("unreadable", {"dt": 0.1}, {"error": 0.5})
    store.write_many({"params.yaml": b"a: [", "artifacts/metrics.json": b"[1, 2]"})
    found = show(store)
    assert (found.run.params, found.run.metrics) == ({}, {})
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "params.yaml",
        "artifacts/metrics.json contains a list instead of names and values",
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"no json", b"[]", b'{"frames": 3}', b'{"frames": [{}]}', b"[" * 100_000,
        b'{"frames": [{"file": "a", "line": "x", "function": "f"}]}', b'{"frames": [3]}',
    ],
)  # fmt: skip
def test_a_failure_without_an_exception(data: bytes) -> None:
    store = open_store("memory://show/no-failure/log_a")
    store.write_many({"metadata.json": b'{"status": "failed"}', "artifacts/debug/failure.json": data})
    found = show(store)
    assert (found.failure, found.problems) == (None, ("artifacts/debug/failure.json does not describe an exception",))


def test_the_end_of_a_long_traceback_begins_with_a_whole_line() -> None:
    text = "".join(f"line {number:04}\n" for number in range(4000))
    store = open_store("memory://show/long/log_a")
    store.write_many({"metadata.json": b'{"status": "failed"}', "artifacts/debug/traceback.txt": text.encode()})
    failure = show(store).failure
    assert failure is not None
    assert text.endswith("\n" + failure.text)
    assert 2**14 - 10 <= len(failure.text) < 2**14


def test_show_continues_when_the_log_becomes_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(
        self: MemoryBackend, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        if key == "log.txt" and len(asked) > 0:
            raise OSError("on purpose")
        asked.extend([key] * (key == "log.txt"))
        return whole(self, key, start, end, version, limit)

    asked: list[str] = []
    whole = MemoryBackend.get
    store = open_store("memory://show/refused/log_a")
    store.write_many({"log.txt": b"x" * 9000 + b"\none\ntwo\n" + b"y" * 4000, "metadata.json": b"{}"})
    monkeypatch.setattr(MemoryBackend, "get", get)
    found = show(store, lines=3)
    assert found.log == ("one", "two", "y" * 4000)
    assert len(found.problems) == 1
    assert "on purpose" in found.problems[0]


def test_fields_of_the_user_are_shown(tmp_path: Path) -> None:
    fields = {
        "status": "complete", "lease": {"host": "owner", "pid": 3}, "why": "x" * 300,
        "environment": {"host": "node7", "argv": ["python", "my script.py", "--dt=1"]},
    }  # fmt: skip
    store = open_store("memory://show/words")
    store.write_many({f"log_{name}/metadata.json": json.dumps(fields).encode() for name in "ab"})
    done = notata("show", "--all", store.url, folder=tmp_path)
    first, second = done.stdout.split("b  complete\n")
    assert first.endswith("…\n\n")
    assert f"\n  why  {'x' * 200}…\n" in first
    facts = parts(first)["a  complete"]
    assert [line.split(maxsplit=1) for line in facts[:3]] == [
        ["place", f"{store.url}/log_a"], ["host", "node7, process 3"], ["command", "python 'my script.py' --dt=1"],
    ]  # fmt: skip
    assert second.startswith("  place")


def test_a_resumed_run_is_shown_by_its_last_part(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    times = [(now - timedelta(seconds=ago)).isoformat() for ago in (1000, 900, 10)]
    fields = {
        "status": "initialized", "start_time": times[0], "end_time": times[1], "runtime_sec": 100.0,
        "resumes": [{"time": times[2], "after": "failed", "runtime_sec": 100.0}],
    }  # fmt: skip
    ahead = {"status": "complete", "start_time": times[1], "end_time": times[0]}
    first = {"status": "complete", "start_time": "0001-01-01T00:00:00"}
    store = open_store("memory://show/parts")
    for name, told in (("a", fields), ("b", ahead), ("c", first)):
        store.write(f"log_{name}/metadata.json", json.dumps(told).encode())
    went_on, turned, _ = runs(store.url)
    assert (went_on.status, went_on.ended) == ("running", None)
    assert went_on.seconds is not None
    assert 110 <= went_on.seconds < 200
    assert turned.seconds == 0


def test_invalid_metadata_is_shown_as_far_as_possible(tmp_path: Path) -> None:
    odd = {
        "status": "complete", "environment": [1], "resumes": "no", "mirror": {"x": 1}, "start_time": 5, "lease": 3,
        "row": [], "runtime_sec": "long", "mine": {"a": [1]},
    }  # fmt: skip
    open_store("memory://show").write("log_odd/metadata.json", json.dumps(odd).encode())
    done = notata("show", "memory://show/log_odd", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert parts(done.stdout)["metadata"] == ['mine  {"a": [1]}']


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 400])
def test_a_time_that_is_no_number_hides_neither_the_run_nor_others(number: str, tmp_path: Path) -> None:
    store = open_store("memory://odd")
    store.write("log_a/metadata.json", f'{{"status": "complete", "runtime_sec": {number}}}'.encode())
    store.write("log_b/metadata.json", b'{"status": "complete", "runtime_sec": 2}')
    for command in (["ls", "-l"], ["show", "--all"], ["table", "--columns", "seconds"], ["rm", "-r", "--dry-run"]):
        done = notata(*command, store.url, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert [run.seconds for run in runs(store.url)] == [None, 2.0]


def test_values_nested_however_deep_are_reported_as_json(tmp_path: Path) -> None:
    deep = '{"status": "complete", "deep": ' + '{"a":' * 900 + "1" + "}" * 901
    open_store("memory://nested").write("log_a/metadata.json", deep.encode())
    told = notata("show", "--json", "memory://nested/log_a", folder=tmp_path)
    assert json.loads(told.stdout)["fields"]["deep"]["a"]["a"]["a"]
    assert told.stdout.count('"a": ') == 98


def test_a_folder_of_many_files_is_cut(tmp_path: Path) -> None:
    store = open_store("memory://show/log_many")
    store.write_many({f"artifacts/{number:04}": b"12" for number in range(1000)} | {"metadata.json": b"{}"})
    found = notata("show", store.url, folder=tmp_path).stdout
    assert "\nartifacts, 1000 files of 2.0 kB\n  0000" in found
    assert "\n  0019  2 B\n  … and 980 more" in found
    assert len(json.loads(notata("show", "--json", store.url, folder=tmp_path).stdout)["artifacts"]) == 1000


def test_a_long_name_leaves_the_others_where_they_are(tmp_path: Path) -> None:
    with Logbook("a", "memory://show/names") as log:
        log.scalars({"loss": 0.5, "x" * 400: 1.5, "accuracy": 0.25})
    lines = notata("show", "memory://show/names", folder=tmp_path).stdout.splitlines()
    at = lines.index("series scalars, 1 row up to step 0")
    assert lines[at + 1] == "  accuracy  0.25  min 0.25 at 0, max 0.25 at 0"
    assert lines[at + 2] == "  loss      0.5  min 0.5 at 0, max 0.5 at 0"
    assert lines[at + 3].endswith("xxx…  1.5  min 1.5 at 0, max 1.5 at 0")


def test_nothing_of_a_run_controls_a_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x9b2J"
    with suppress(ValueError), Logbook("evil", tmp_path, params={"name": evil}) as log:
        log.info(evil)
        log.json("metrics", {evil: evil})
        raise ValueError(evil)
    code, got = terminal("show", "log_evil", folder=tmp_path, NO_COLOR="1")
    text = got.decode()
    assert code == 0
    assert not [char for char in text if (ord(char) < 32 and char not in "\r\n\t") or 127 <= ord(char) < 160]
    assert text.count("owned") >= 5
    assert "\x1b[1;31mevil  failed" in terminal("show", "log_evil", folder=tmp_path)[1].decode()


def test_a_notebook_shows_the_same(fleet: Path) -> None:
    shown = show(fleet / "log_notes")._repr_html_()
    assert ["energy", "0.5"] in cells(shown, "metrics")
    assert "artifacts/notes.txt" in shown
