"""``notata rm`` and `notata.search.remove`: they remove whole runs only, despite failures and other writers."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from notata import ConfigurationError, Experiment, Logbook, RunDisplacedError, RunExistsError, RunMissingError
from notata.errors import ConflictError, NotataError
from notata.reader import LogReader
from notata.run.removal import remove_run
from notata.search import Run, removable, removals, remove
from notata.store import Blob, Store, open_store
from notata.store.backends.gcs import GCSBackend
from notata.store.backends.memory import MemoryBackend
from notata.store.wrapper import Wrapper
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata, process
from tests.contract.conftest import make_place
from tests.counting import counted
from tests.fleet import ODD

KEYS = {"artifacts/n.txt", "data/x.npy", "log.txt", "manifest.json", "metadata.json", "params.yaml"}


@pytest.fixture(params=["memory", "local", "s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


def fill(place: Place, *run_ids: str) -> None:
    for run_id in run_ids:
        with place.logbook(run_id, params={"omega": 2.0}) as log:
            log.text("n", run_id)
            log.array("x", [1.0])


def options(place: Place) -> list[str]:
    return [f"--storage-option={name}={value}" for name, value in place.options.items()]


# -- what goes, and what stays -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["local", "s3", "gcs"])
def test_only_the_named_run_is_removed(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = make_place(name, request)
    fill(place, "a", "ab", "b")
    for foreign in ("notes.md", "log_a.txt", "log_a-too/x.txt", "index.csv"):
        place.put(foreign, b"foreign")
    before = place.files()
    done = process("rm", f"{place.url}/log_a", "--yes", *options(place), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    gone = {key: data for key, data in before.items() if key.startswith("log_a/")}
    assert {key.partition("/")[2] for key in gone} == KEYS
    assert done.stdout.startswith(f"Removed 1 run, {len(gone)} files, ")
    assert place.files() == {key: data for key, data in before.items() if key not in gone}
    if name == "local":
        assert sorted(path.name for path in Path(place.url).iterdir()) == [
            "index.csv", "log_a-too", "log_a.txt", "log_ab", "log_b", "notes.md",
        ]  # fmt: skip
    place.store().clear()


def test_what_is_no_run_is_refused_and_reported(tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path / "sweep")), "a", "b")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/table.csv").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/metadata.json").write_text('{"title": "no run", "run_id": 5}')
    (tmp_path / "third").mkdir()
    (tmp_path / "third/metadata.json").write_text('{"title": "no run", "status": "open"}')
    before = sorted(path for path in tmp_path.rglob("*"))
    for arguments, code, told in [
        (["data"], 1, "there is no run at data; only runs can be removed"),
        (["data/table.csv"], 1, "there is no run at data/table.csv"),
        (["nowhere"], 1, "there is no run at nowhere"),
        (["other"], 1, "other has a metadata.json, but is not a run"),
        (["third"], 1, "third has a metadata.json, but is not a run"),
        (["sweep"], 2, "sweep is not a run, but has 2 runs below it; pass -r to remove them"),
        (["sw*"], 2, "sw* is not a run, but has 2 runs below it"),
        (["sweep/log_a/artifacts"], 1, "there is no run at sweep/log_a/artifacts"),
        (["sweep/log_a/*"], 2, "matches files of sweep/log_a; only whole runs can be removed"),
        (["-r", "sweep/*/artifacts/n.txt"], 2, "matches files of sweep/log_a"),
        (["-r", "sweep/log_?/da*"], 2, "matches files of sweep/log_a"),
        ([], 2, "no URL given: name the runs to remove"),
    ]:
        done = notata("rm", "--yes", *arguments, folder=tmp_path)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert told in done.stderr
        assert len(done.stderr.splitlines()) <= 2
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_patterns_folders_and_odd_names(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path / "out"))
    fill(place, "a", "ab", "b", ODD)
    fill(Place("local", str(tmp_path / "out/deep/er")), "c")
    (tmp_path / "out/deep/keep.txt").write_text("kept")
    assert notata("rm", "-y", f"out/log_{ODD}", folder=tmp_path).returncode == 0
    assert notata("rm", "-y", "out/log_a*", folder=tmp_path).stdout.startswith("Removed 2 runs, 12 files, ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["deep", "log_b"]
    would = notata("rm", "-r", "out", "--dry-run", folder=tmp_path)
    assert [line.split("\t")[::3] for line in would.stdout.splitlines()[:-1]] == [
        ["complete", "out/deep/er/log_c"],
        ["complete", "out/log_b"],
    ]
    assert would.stdout.splitlines()[-1].startswith("2 runs, 12 files, ")
    assert (tmp_path / "out/log_b/metadata.json").exists()
    done = notata("rm", "-ry", "out", str(tmp_path / "out/log_b"), "--json", folder=tmp_path)
    assert [json.loads(line)["removed"] for line in done.stdout.splitlines()] == [True, True]
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["keep.txt"]


def test_damaged_runs_and_links_are_removed_but_not_the_targets_of_links(tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path)), "lost", "broken", "linked")
    (tmp_path / "log_lost/metadata.json").unlink()
    (tmp_path / "log_broken/metadata.json").write_text("{not json")
    (tmp_path / "log_broken/plots/empty").mkdir(parents=True)
    (tmp_path / "log_broken/artifacts/.notata-5f3a").write_text("unfinished")
    (tmp_path / "log_broken/artifacts/a\\b").write_text("odd")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("kept")
    (tmp_path / "log_linked/link").symlink_to(tmp_path / "elsewhere")
    files = 3 * len(KEYS)  # one was lost, one has an odd name; unfinished files do not count
    done = notata("rm", "-y", "log_lost", "log_broken", "log_linked", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "removed the link, but not its target: log_linked/link\n")
    assert done.stdout.startswith(f"Removed 3 runs, {files} files, ")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "elsewhere", "elsewhere/kept",
    ]  # fmt: skip


def test_a_link_to_a_run_is_refused_and_a_folder_behind_one_is_not(tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path / "out")), "a", "b")
    (tmp_path / "out/log_latest").symlink_to("log_a")
    (tmp_path / "link").symlink_to("out")
    for link in ("out/log_latest", "out/log_latest/"):
        done = notata("rm", "-y", "--force", link, folder=tmp_path)
        assert (done.returncode, "is a link to a run" in done.stderr) == (2, True)
    assert notata("ls", "out/log_latest", folder=tmp_path).stdout.startswith("out/log_latest\tcomplete")
    assert notata("rm", "-y", "link/log_b", folder=tmp_path).returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["log_a", "log_latest"]


def test_the_index_of_an_experiment_is_left_as_it_is(tmp_path: Path) -> None:
    experiment = Experiment("sweep", tmp_path)
    for dt in (0.1, 0.2):
        with experiment.add(dt=dt) as log:
            log.json("metrics", {"error": dt})
    assert len(experiment.reader.table()) == 2
    index = (tmp_path / "sweep/index.csv").read_bytes()
    assert notata("rm", "-y", "sweep/runs/log_sweep_dt_0.1", folder=tmp_path).returncode == 0
    assert (tmp_path / "sweep/index.csv").read_bytes() == index
    assert [row["dt"] for row in Experiment("sweep", tmp_path).reader.table()] == [0.2]


# -- being asked ---------------------------------------------------------------------------------------------


def test_without_a_terminal_nothing_is_asked_or_removed(tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path)), "a")
    done = process("rm", "log_a", folder=tmp_path, given="y\n")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "Error: Not a terminal: pass --yes to confirm."
    assert (tmp_path / "log_a/metadata.json").exists()


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_with_standard_input_closed_nothing_goes_without_yes(closed: str, tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path)), "a")
    command = f'exec "$0" -m notata rm log_a "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "Not a terminal" in done.stderr or "2>&-" in closed
    assert (tmp_path / "log_a/metadata.json").exists()
    sure = ["sh", "-c", command, sys.executable, "--yes"]
    done = subprocess.run(sure, cwd=tmp_path, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "log_a").exists()


def test_on_a_terminal_it_is_asked(tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path)), "a")
    ended, shown = _asked(tmp_path, b"YES\n", "rm", "log_a")
    assert ended == 0
    assert b"Remove 1 run, 6 files, " in shown
    assert b"? [y/N] " in shown
    assert not (tmp_path / "log_a").exists()


class Terminal(io.StringIO):
    """A terminal on which a user can answer prompts."""

    def isatty(self) -> bool:
        return True


def test_only_yes_is_taken_for_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("memory", "memory://rm-asked")
    for answer, taken in (("\n", 0), ("", 0), ("n\n", 0), ("yup\n", 0), ("y\n", 1), (" Yes \n", 1)):
        fill(place, "a", "b")
        monkeypatch.setattr(sys.modules["notata.cli.rm"], "sys", SimpleNamespace(stdin=Terminal(answer)))
        done = notata("rm", f"{place.url}/log_*", folder=Path.cwd())
        assert (done.returncode, place.names() == []) == (1 - taken, bool(taken)), answer
        assert [line.split()[0] for line in done.stderr.splitlines()[:2]] == ["complete", "complete"]
        assert ("Nothing was removed" in done.stderr) != taken
        place.store().clear()


def test_a_terminal_that_is_lost_at_the_question_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(Terminal):
        def readline(self, *_: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error")

    place = Place("memory", "memory://rm-lost")
    fill(place, "a")
    monkeypatch.setattr(sys.modules["notata.cli.rm"], "sys", SimpleNamespace(stdin=Lost()))
    done = notata("rm", f"{place.url}/log_a", folder=Path.cwd())
    assert done.returncode == 1
    assert done.stderr.endswith("Nothing was removed\n")
    assert place.names()
    place.store().clear()


def test_ctrl_c_at_the_question_removes_nothing(tmp_path: Path) -> None:
    fill(Place("local", str(tmp_path)), "a", "b")
    ended, shown = _asked(tmp_path, b"\x03", "rm", "-r", ".")
    assert ended == 130
    assert shown.rstrip().endswith(b"Interrupted")
    assert b"complete" in shown
    assert (tmp_path / "log_a").exists()


def _asked(folder: Path, answer: bytes, *arguments: str) -> tuple[int, bytes]:
    """Run the command with its own controlling terminal, and answer its prompt."""
    child, master = pty.fork()
    if not child:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "notata", *arguments])
    shown = bytearray()
    answered = False
    try:
        while piece := os.read(master, 4096):
            shown += piece
            if b"[y/N]" in shown and not answered:
                os.write(master, answer)
                answered = True
    except OSError:  # Linux reports a closed other end this way
        pass
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bytes(shown)


# -- runs that live ------------------------------------------------------------------------------------------


def test_a_run_that_is_running_is_refused_without_force(place: Place) -> None:
    log = place.logbook("a", heartbeat=30)
    fill(place, "b")
    told: list[NotataError] = []
    done = remove(place.url, storage_options=place.options, recursive=True, failed=told.append)
    assert [(one.run.run_id, one.removed) for one in done] == [("b", True)]
    assert isinstance(told[0], RunExistsError)
    assert "is running" in str(told[0])
    assert LogReader(f"{place.url}/log_a", storage_options=place.options).state.status == "running"
    assert remove(f"{place.url}/log_a", storage_options=place.options, force=True)[0].removed
    assert place.names() == []
    with pytest.raises(RunDisplacedError):
        log.mark_complete()
    assert not any("metadata.json" in name for name in place.names())


def test_a_run_that_began_again_during_the_question_is_kept(place: Place) -> None:
    fill(place, "a", "b", "c")
    runs = removable(f"{place.url}/log_*", storage_options=place.options)
    again = place.logbook("a", resume=True)
    with place.logbook("b", overwrite=True) as log:
        log.text("n", "new")
    told: list[NotataError] = []
    done = list(removals(runs, failed=told.append))
    assert [one.removed for one in done] == [False, False, True]
    assert [type(error) for error in told] == [ConflictError, ConflictError]
    assert "log_b is a different run by now, and was kept" in str(told[1])
    assert place.bytes("log_b/artifacts/n.txt") == b"new"
    again.mark_complete()


class Between(Wrapper):
    """Call a function just before the first, second, … deletion, as another process might act."""

    def __init__(self, inner: Store, when: int, act: Callable[[], Any]) -> None:
        super().__init__(inner.backend)
        self.when, self.act = when, act

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        self.when -= 1
        if self.when == 0:
            self.act()
        return super().delete(names)


def test_another_process_replaces_or_removes_the_run_meanwhile() -> None:
    place = Place("memory", "memory://rm-else")
    place.logbook("a", heartbeat=30)
    store = place.store().below("log_a")
    fields = json.loads(store.read("metadata.json"))
    others = {**fields, "status": "replacing", "lease": {**fields["lease"], "owner": "another"}}
    (run,) = removable(store, force=True)
    told: list[NotataError] = []

    def removed(chosen: Run, found: dict[str, Any]) -> bool:
        store.write("metadata.json", json.dumps(found).encode())
        return next(removals([chosen], failed=told.append)).removed

    assert not removed(run, fields)  # its owner resumes it
    assert not removed(run, others)  # another process replaces it
    store.write("metadata.json", json.dumps({**fields, "status": "replacing"}).encode())
    (replaced,) = removable(store)
    assert not removed(replaced, {**fields, "status": "replacing"})  # its owner, which is running
    assert [type(error) for error in told] == [RunExistsError, ConflictError, RunExistsError]
    told.clear()
    going = {name: value for name, value in fields.items() if name != "lease"}
    assert removed(run, {**going, "status": "replacing"})  # another process removes it too
    assert (told, place.names()) == ([], [])


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_claimed_before_the_first_step_is_kept(lost: bool) -> None:
    place = Place("memory", "memory://rm-first")
    fill(place, "a")
    run = place.store().below("log_a")
    if lost:
        run.delete(["metadata.json"])
    found = None if lost else run.fetch("metadata.json")
    with place.logbook("a", overwrite=True) as log:
        log.text("n", "new")
    with pytest.raises(ConflictError, match="another writer has claimed the run"):
        remove_run(run, found)
    assert log.reader.verify().ok
    assert log.reader.load_text("n") == "new"


def test_the_owner_is_checked_before_each_thousand_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notata.run.removal.AT_ONCE", 2)
    place = Place("memory", "memory://rm-thousands")
    fill(place, "a", "b")
    between = Between(place.store().below("log_a"), 1, lambda: place.logbook("a", overwrite=True).mark_complete())
    run = Store(between)
    with pytest.raises(ConflictError):
        remove_run(run, run.fetch("metadata.json"))
    assert between.when == 0  # one of three deletions
    faulty = FaultyBackend(place.store().below("log_b"))
    place.store().filesystem().pipe_file("/rm-thousands/log_b/.notata-5f3a", b"unfinished")
    faulty.fail(6)  # after the metadata.json, a listing, a swap, a deletion and a stat
    remains = remove_run(Store(faulty), Store(faulty).fetch("metadata.json"))
    assert remains.errors.keys() == {"data/x.npy", "log.txt"}
    assert remains.gone.keys() == {"artifacts/n.txt", "manifest.json", "params.yaml"}
    assert json.loads(place.bytes("log_b/metadata.json"))["status"] == "replacing"


def test_a_run_that_cannot_be_looked_at_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(self: MemoryBackend, key: str, *rest: Any) -> Blob:
        if self._file(key).endswith("log_b/metadata.json"):
            raise OSError("on purpose")
        return whole(self, key, *rest)

    place = Place("memory", "memory://rm-unreadable")
    fill(place, "a", "b")
    whole = MemoryBackend.get
    monkeypatch.setattr(MemoryBackend, "get", get)
    for arguments in (["--status", "complete"], []):
        done = notata("rm", "-ry", place.url, *arguments, folder=Path.cwd())
        assert (done.returncode, done.stderr.count("on purpose")) == (3, 1)
        assert {name.partition("/")[0] for name in place.names()} == {"log_b"}


def respect_delete_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make fake-gcs-server respect the conditions of deletions, as GCS does."""

    def delete(self: GCSBackend, names: dict[str, str | None]) -> dict[str, Exception]:
        now = {entry.key: entry.version for entry in Store(self).list_all()}
        return original(self, {name: version for name, version in names.items() if version in (None, now.get(name))})

    original = GCSBackend.delete
    monkeypatch.setattr(GCSBackend, "delete", delete)


@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize("name", ["memory", "local", "gcs"])  # S3 deletes by name, as the reference documentation says
def test_a_run_claimed_meanwhile_keeps_its_new_files(
    name: str, when: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(name, request)
    respect_delete_conditions(monkeypatch)
    fill(place, "a")
    taken: list[Logbook] = []

    def take() -> None:
        taken.append(place.logbook("a", overwrite=True, params={"omega": 3.0}))
        taken[0].text("n", "of the new run")
        taken[0].flush()

    run = Store(Between(place.store().below("log_a"), when, take))
    found = run.fetch("metadata.json")
    if when == 1:
        with pytest.raises(ConflictError, match="another writer has claimed the run"):
            remove_run(run, found)
    else:
        assert not remove_run(run, found).errors
    taken[0].mark_complete()
    assert LogReader(f"{place.url}/log_a", storage_options=place.options).verify().ok
    assert place.bytes("log_a/artifacts/n.txt") == b"of the new run"
    assert b"3.0" in place.bytes("log_a/params.yaml")
    place.store().clear()


def test_on_s3_a_run_claimed_before_the_last_check_is_kept(request: pytest.FixtureRequest) -> None:
    place = make_place("s3", request)
    fill(place, "a")
    run = place.store().below("log_a")
    found = run.fetch("metadata.json")
    with place.logbook("a", overwrite=True) as log:
        log.text("n", "new")
    with pytest.raises(ConflictError):
        remove_run(run, found)
    assert log.reader.verify().ok
    place.store().clear()


# -- failures ------------------------------------------------------------------------------------------------


class OneByOne(Wrapper):
    """A backend that deletes file by file, so that a failure can occur in between."""

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        return {name: error for name, version in names.items() for error in self._one(name, version)}

    def _one(self, name: str, version: str | None) -> Iterator[Exception]:
        try:
            self.inner.delete({name: version})
        except Exception as error:
            yield error


@pytest.mark.parametrize("after", [False, True])
def test_whatever_fails_the_run_is_whole_or_says_replacing_and_the_repeat_finishes(after: bool) -> None:
    place = Place("memory", f"memory://rm-faults-{after}")
    outcomes = []
    for nth in range(1, 100):
        fill(place, "a", "b")
        store = FaultyBackend(place.store().below("log_a"))
        store.fail(nth, after=after)
        told: list[NotataError] = []
        remove(Store(OneByOne(store)), failed=told.append)
        left = [key for key in place.names(logs=True) if key.startswith("log_a/")]
        if not told:
            break
        if left:
            status = json.loads(place.bytes("log_a/metadata.json"))["status"]
            assert status == ("complete" if len(left) == len(KEYS) and status != "replacing" else "replacing")
            outcomes.append(status)
            assert notata("rm", "-y", "--json", f"{place.url}/log_a", folder=Path.cwd()).returncode == 0
        assert [key for key in place.names(logs=True) if key.startswith("log_a/")] == []
        assert len([key for key in place.names(logs=True) if key.startswith("log_b/")]) == len(KEYS)
        place.store().clear()
    assert nth > len(KEYS)
    assert {"complete", "replacing"} == set(outcomes)
    place.store().clear()


def test_what_fails_is_reported_and_the_exit_code_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Place("local", str(tmp_path)), "a", "b")

    kept = (tmp_path / "log_a/data").stat()

    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        if path == "x.npy" and dir_fd is not None and os.path.samestat(os.fstat(dir_fd), kept):
            raise PermissionError(13, "no")
        original(path, dir_fd=dir_fd)

    original = os.unlink
    monkeypatch.setattr(os, "unlink", unlink)
    done = notata("rm", "-ry", ".", folder=tmp_path)
    monkeypatch.undo()
    assert done.returncode == 3
    assert done.stderr.startswith("Error: cannot delete ")
    assert done.stdout.startswith("Removed 1 run, 10 files")
    assert json.loads((tmp_path / "log_a/metadata.json").read_text())["status"] == "replacing"
    assert notata("rm", "-y", "log_a", folder=tmp_path).returncode == 0
    assert not (tmp_path / "log_a").exists()


@pytest.mark.parametrize(("name", "most"), [("s3", 7), ("gcs", 6 + len(KEYS))])
def test_few_requests(name: str, most: int, request: pytest.FixtureRequest) -> None:
    place = make_place(name, request)
    fill(place, "a")
    run = removable(f"{place.url}/log_a", storage_options=place.options)
    with counted() as sent:
        assert next(removals(run)).removed
    assert len(sent) <= most, sent
    assert place.names() == []


def test_ten_thousand_runs_are_found_by_one_listing_and_many_go_at_once() -> None:
    fs = fsspec.filesystem("memory")
    real = open_store("memory://rm-many")
    for number in range(10_000):
        real.write(f"log_{number}/metadata.json", b'{"run_id": "x", "status": "complete"}')
    real.write("notes.md", b"kept")
    store = FaultyBackend(real)
    runs = removable(Store(store), recursive=True)
    assert len(runs) == 10_000
    assert [operation.verb for operation in store.operations].count("list") == 1
    assert sum(done.removed for done in removals(runs[:20])) == 20
    assert len(fs.find("/rm-many")) == 9_981
    for path in [path for path in fs.store if path.startswith("/rm-many/")]:  # `clear` scans all files for each folder
        del fs.store[path]
    fs.pseudo_dirs[:] = [path for path in fs.pseudo_dirs if not path.startswith("/rm-many")]


def test_the_api_says_what_is_wrong() -> None:
    fill(Place("memory", "memory://rm-api"), "a")
    with pytest.raises(RunMissingError):
        remove("memory://rm-nothing")
    with pytest.raises(ConfigurationError):
        remove("memory://rm-api")
    (record,) = [one.record() for one in remove("memory://rm-api", recursive=True)]
    assert (record["removed_files"], record["removed_size"]) == (len(KEYS), record["size"])


def test_an_illegal_name_in_a_bucket_is_removed_too(request: pytest.FixtureRequest) -> None:
    place = make_place("s3", request)
    fill(place, "a")
    place.put("log_a/artifacts/a\\b", b"odd")
    told: list[NotataError] = []
    done = remove(f"{place.url}/log_a", storage_options=place.options, failed=told.append)
    assert [one.removed for one in done] == [True]
    assert told == []
    assert place.names() == []
