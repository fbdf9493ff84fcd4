"""Sync of a tree of runs in memory: copied files, the status at each moment, and refusals."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from fsspec.core import strip_protocol
from hypothesis import given
from hypothesis import strategies as st

from notata import (
    BatchError,
    ConfigurationError,
    FolderError,
    KeyNameError,
    Logbook,
    LogReader,
    NotataError,
    RunExistsError,
    RunMissingError,
    UnreachableError,
    sync,
)
from notata._base.threads import Event
from notata.mirror.evidence import digest_of
from notata.mirror.files import CopyResult
from notata.mirror.options import CopyOptions
from notata.mirror.runs import RunCopy
from notata.store import Entry, Store, open_store
from notata.store.files import PART
from notata.store.gaps import Skipped
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata

START = "2026-01-01T00:00:00.000+00:00"


@pytest.fixture
def here() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}/here")


@pytest.fixture
def there(here: Place) -> Place:
    return Place("memory", here.url.replace("/here", "/there"))


def metadata(status: str = "complete", **fields: Any) -> bytes:
    return json.dumps({"run_id": "a", "status": status, "start_time": START, **fields}).encode()


def run(status: str = "complete", **fields: Any) -> dict[str, bytes]:
    """Return the files of one run."""
    return {
        "log_a/metadata.json": metadata(status, **fields),
        "log_a/params.yaml": b"omega: 2.0\n",
        "log_a/log.txt": b"[2026-01-01T00:00:00] INFO one\n[2026-01-01T00:00:00] INFO two\n",
        "log_a/manifest.json": b"{}",
        "log_a/artifacts/notes.txt": b"converged",
        "log_a/artifacts/empty": b"",
        "log_a/data/odd # 100% é e\u0301?.npy": b"\x93NUMPY",
        "log_a/workers/3/log.txt": b"[2026-01-01T00:00:00] INFO three\n",
        "log_a/workers/3/manifest.json": b"{}",
    }


def status(place: Place, folder: str = "log_a") -> str:
    fields: dict[str, str] = json.loads(place.bytes(f"{folder}/metadata.json"))
    return fields["status"]


def below(place: Place, folder: str = "log_a") -> FaultyBackend:
    return FaultyBackend(place.store().below(folder))


def writes(store: FaultyBackend) -> list[str]:
    return [f"{step.verb} {step.key}" for step in store.operations if step.verb not in ("get", "list", "stat")]


# -- what is copied ------------------------------------------------------------------------------------------


def test_a_run_is_copied_whole_and_the_second_time_not_at_all(here: Place, there: Place) -> None:
    here.fill(run())
    target = FaultyBackend(there.store())
    report = sync(f"{here.url}/log_a", target)
    assert there.files() == here.files() == run()
    assert report.copied == {key.removeprefix("log_a/"): len(data) for key, data in run().items()}
    assert (report.runs, report.bytes, report.equal) == (1, sum(map(len, run().values())), 0)
    assert report.destination == f"{there.url}/log_a"
    before = len(target.operations)
    again = sync(f"{here.url}/log_a", target)
    assert (again.bytes, again.equal, again.copied, again.appended) == (0, len(run()), {}, {})
    assert not [step for step in target.operations[before:] if step.verb not in ("get", "list")]


NAMES = [
    "log_a/artifacts/x",
    "log_a/artifacts/y/z.txt",
    "log_a/log.txt",
    "runs/log_b/data/v.npy",
    "index.csv",
    "n/é.md",
]
CONTENT = st.sampled_from([b"", b"a", b"b", b"ab", b"abc", b"a" * 70_000, b"a" * 69_999 + b"b"])
FILES = st.dictionaries(st.sampled_from(NAMES), CONTENT)
METADATA = st.sampled_from(["log_a/metadata.json", "runs/log_b/metadata.json"])


@given(
    FILES,
    FILES,
    st.dictionaries(METADATA, st.sampled_from(["initialized", "complete", "failed"]), min_size=1),
    st.dictionaries(METADATA, st.sampled_from(["initialized", "replacing"])),
    st.booleans(),
)
def test_whatever_is_on_both_sides_they_are_equal_then(
    ours: dict[str, bytes], theirs: dict[str, bytes], runs: dict[str, str], copies: dict[str, str], delete: bool
) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    here, there = Place("memory", f"{root}/here"), Place("memory", f"{root}/there")
    ours |= {key: metadata(status) for key, status in runs.items()}
    copies = {key: status for key, status in copies.items() if delete or key in runs}
    theirs |= {key: metadata(status) for key, status in copies.items()}
    here.fill(ours)
    there.fill(theirs)
    report = sync(here.url, there.url, delete=delete)
    assert here.files() == ours
    assert there.files() == (ours if delete else theirs | ours)
    assert set(report.deleted) == (theirs.keys() - ours.keys() if delete else set())
    assert len(report.copied) + len(report.appended) + report.equal == len(ours)
    assert {key for key in ours if theirs.get(key) == ours[key]}.isdisjoint(report.copied)
    assert sync(here.url, there.url, delete=delete).bytes == 0
    here.store().clear()
    there.store().clear()


def test_a_tree_has_runs_and_other_files(here: Place, there: Place) -> None:
    files = {f"sweep/runs/{key}": data for key, data in run().items()}
    files |= {"sweep/index.csv": b"run_id\na\n", "README": b"read", "old/log_b/notes.txt": b"no run: no metadata"}
    files |= {"sweep/runs/log_a/artifacts/log_c/metadata.json": metadata("complete", start_time="inside of another")}
    here.fill(files)
    report = sync(here.url, there.url)
    assert there.files() == files
    assert report.runs == 1
    assert sync(here.url, there.url).equal == len(files)


def test_a_log_is_appended_to_where_the_destination_has_its_beginning(here: Place, there: Place) -> None:
    line = b"[2026-01-01T00:00:00] INFO step\n"
    here.fill(run() | {"log_a/log.txt": line * 9000})
    target = FaultyBackend(there.store())
    sync(here.url, target)
    here.fill({"log_a/log.txt": line * 9001, "log_a/workers/3/log.txt": line * 3, "log_a/artifacts/log.txt": line})
    before = len(target.operations)
    report = sync(here.url, target)
    assert report.appended == {"log_a/log.txt": len(line)}
    assert "log_a/workers/3/log.txt" in report.copied  # the target has different lines
    assert [f"{step.verb} {step.key}" for step in target.operations[before:] if step.key == "log.txt"] == [
        "get log.txt",  # the last 64 KiB of the target
        "append log.txt",
    ]
    assert there.files() == here.files()
    here.fill({"log_a/artifacts/log.txt": line * 2})  # not the log of a run, so it is sent as a whole
    assert sync(here.url, there.url).copied == {"log_a/artifacts/log.txt": 2 * len(line)}


@pytest.mark.parametrize("old", [b"x" * 70_000, b"a" * 69_999 + b"x", b"a" * 200_000, b"x", b""])
def test_a_log_with_a_different_start_is_sent_whole(here: Place, there: Place, old: bytes) -> None:
    here.fill(run() | {"log_a/log.txt": b"a" * 100_000})
    there.fill(run() | {"log_a/log.txt": old})
    assert sync(here.url, there.url).copied == {"log_a/log.txt": 100_000}
    assert there.files() == here.files()


def test_large_files_and_those_of_the_same_size(here: Place, there: Place) -> None:
    large = os.urandom(2 * PART + 1)
    here.fill(run() | {"log_a/artifacts/large": large, "log_a/artifacts/other": large[:PART]})
    sync(here.url, there.url)
    changed = large[:-1] + bytes([large[-1] ^ 1])
    here.fill({"log_a/artifacts/large": changed})
    report = sync(here.url, there.url)
    assert report.copied == {"log_a/artifacts/large": len(large)}
    assert there.files() == here.files()


def test_bytes_of_all_files_are_reported_to_a_callback(here: Place, there: Place) -> None:
    from fsspec.callbacks import Callback

    class Notes(Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    here.fill(run() | {"log_a/artifacts/large": bytes(PART + 5), "README": b"read"})
    there.fill({"log_a/artifacts/notes.txt": b"converged"})
    callback = Notes()
    sync(here.url, there.url, progress=callback)
    whole = sum(len(data) for key, data in here.files().items() if key != "log_a/metadata.json")
    assert callback.value == whole
    assert callback.size == whole + len(metadata())


def test_metadata_is_copied_after_the_files_it_describes(here: Place, there: Place) -> None:
    here.fill(run())
    target = below(there)
    RunCopy(here.store().below("log_a"), Store(target), CopyOptions(at_once=1)).update()
    steps = writes(target)
    assert steps[0] == steps[-1] == "put metadata.json"
    assert steps[-5:-1] == [
        "put log.txt",
        "put workers/3/log.txt",
        "put manifest.json",
        "put workers/3/manifest.json",
    ]
    assert steps[-6] == "put params.yaml"


# -- what is never said too early ----------------------------------------------------------------------------


class Watched(FaultyBackend):
    """A destination that runs a check after every step."""

    look: Callable[[], None] = staticmethod(lambda: None)

    @contextmanager
    def _step(self, verb: str, key: str = "") -> Iterator[None]:
        try:
            with super()._step(verb, key):
                yield
        finally:
            self.look()


def check_complete_runs(here: dict[str, bytes], there: Place, old: dict[str, bytes]) -> Callable[[], None]:
    """Check that a run that says complete is whole: either the previous version or the new one."""
    lock = threading.Lock()

    def look() -> None:
        with lock:
            raw = there.raw()
            name = strip_protocol(f"{there.url}/log_a/metadata.json")
            if name not in raw.store or json.loads(raw.store[name].getvalue())["status"] != "complete":
                return
            now = {key: raw.store.get(strip_protocol(f"{there.url}/{key}")) for key in here}
            found = {key: None if file is None else file.getvalue() for key, file in now.items()}
            assert found == here or found == {key: old.get(key) for key in here}

    return look


OLD = run() | {"log_a/artifacts/notes.txt": b"diverged ", "log_a/artifacts/extra": b"old", "index.csv": b"old"}
NEW = run(resumes=[{"time": START}]) | {"log_a/artifacts/later": b"new"}
LARGE = {"log_a/artifacts/large": bytes(PART + 1)}
LOGS = {"log_a/log.txt": run()["log_a/log.txt"] + b"[2026-01-01T00:00:01] INFO three\n"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("side", ["target", "source"])
@pytest.mark.parametrize("case", ["nothing there", "an older copy", "another run"])
def test_a_sync_that_fails_anywhere_never_claims_completion_and_the_next_one_finishes(
    side: str, case: str, after: bool
) -> None:
    new = NEW | LOGS | (LARGE if case == "nothing there" else {})
    old = {"nothing there": {}, "an older copy": OLD, "another run": OLD | {"log_a/metadata.json": metadata(start=1)}}[
        case
    ]
    if case == "another run":
        old = old | {"log_a/metadata.json": metadata(start_time="2025-01-01T00:00:00.000+00:00")}
    delete = case == "another run"
    for nth in range(1, 200):
        root = f"memory://{uuid.uuid4().hex}"
        here, there = Place("memory", f"{root}/here"), Place("memory", f"{root}/there")
        here.fill(new)
        there.fill(old)
        source, target = Watched(here.store()), Watched(there.store())
        target.look = check_complete_runs(new, there, old)
        (source if side == "source" else target).fail(nth, after=after)
        with suppress(NotataError):
            sync(source, target, delete=delete)
        steps = len(source.operations if side == "source" else target.operations)
        source.heal()
        target.heal()
        target.look()
        sync(source, target, delete=delete)
        assert there.files() == (new if delete else old | new)
        here.store().clear()
        there.store().clear()
        if nth > steps:
            return
    raise AssertionError("it never ran out of steps to fail")


def interrupting(nth: int, look: Callable[[], None]) -> Callable[[], None]:
    """Count the steps and interrupt the main thread at the n-th, as Ctrl-C does, whichever thread makes it."""
    count = itertools.count(1)

    def step() -> None:
        look()
        if next(count) == nth:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    return step


@pytest.mark.parametrize("side", ["target", "source"])
def test_an_interrupted_sync_leaves_whole_files_and_the_next_one_finishes(side: str) -> None:
    """The signal arrives at any step, in the thread that waits for the others."""
    new = NEW | LOGS | LARGE
    for nth in range(1, 40, 2):
        root = f"memory://{uuid.uuid4().hex}"
        here, there = Place("memory", f"{root}/here"), Place("memory", f"{root}/there")
        here.fill(new)
        source, target = Watched(here.store()), Watched(there.store())
        (source if side == "source" else target).look = interrupting(nth, check_complete_runs(new, there, {}))
        with suppress(KeyboardInterrupt):
            sync(source, target)
        for key in there.names(logs=True):
            assert there.bytes(key) == new[key] or key == "log_a/metadata.json"
        sync(here.url, there.url)
        assert there.files() == new
        here.store().clear()
        there.store().clear()


def test_a_run_that_is_still_written_is_copied_as_it_is_by_many_at_once(here: Place, there: Place) -> None:
    """Three threads sync repeatedly while a run is written and resumed: no error, and the copy is correct."""
    ended = threading.Event()
    problems: list[BaseException] = []

    def check() -> None:
        with suppress(FileNotFoundError):
            fields = json.loads(there.bytes("log_a/metadata.json"))
            if fields["status"] == "complete":
                assert there.bytes(f"log_a/artifacts/last{len(fields.get('resumes', []))}.txt") == b"x"

    def again_and_again() -> None:
        try:
            last = False
            while not last:
                last = ended.is_set()
                sync(here.url, there.url)
                check()
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=again_and_again) for _ in range(3)]
    with Logbook("a", here.url) as log:
        for worker in workers:
            worker.start()
        for step in range(60):
            log.text(f"step{step}", "x" * step)
            log.text("status", f"at {step}")
            log.info("step %d", step)
        log.text("last0", "x")
    with Logbook("a", here.url, resume=True) as log:
        for step in range(40):
            log.text("status", f"again at {step}")
            log.info("step %d", step)
        log.text("last1", "x")
    ended.set()
    for worker in workers:
        worker.join()
    assert problems == []
    assert there.files() == here.files()
    assert LogReader(f"{there.url}/log_a").state.status == "complete"


# -- what is refused -----------------------------------------------------------------------------------------


def test_another_run_of_the_id_is_not_mixed_with_this_one(here: Place, there: Place) -> None:
    here.fill(run() | {f"runs/{key}": data for key, data in run().items()} | {"index.csv": b"rows"})
    theirs = run(start_time="2025-05-05T00:00:00.000+00:00") | {"log_a/artifacts/mine": b"precious"}
    there.fill(theirs)
    with pytest.raises(BatchError) as failed:
        sync(here.url, there.url)
    [error] = failed.value.exceptions
    assert isinstance(error, RunExistsError)
    assert "a different run with this id" in str(error)
    assert "--delete" in str(error)
    now = there.files()
    assert {key: now[key] for key in theirs} == theirs
    assert {key: data for key, data in now.items() if key not in theirs} == {
        key: data for key, data in here.files().items() if not key.startswith("log_a/")
    }
    report = sync(here.url, there.url, delete=True)
    assert there.files() == here.files()
    assert report.deleted == {"log_a/artifacts/mine": 8}


def test_a_run_that_was_to_be_replaced_is_replaced_by_the_next_sync(here: Place, there: Place) -> None:
    here.fill(run())
    there.fill(run(start_time="2025-05-05T00:00:00.000+00:00") | {"log_a/artifacts/mine": b"old"})
    target = FaultyBackend(there.store())
    target.fail(4)  # the deletion, after the list and the read and write of metadata.json
    with suppress(NotataError):
        sync(here.url, target, delete=True)
    assert json.loads(there.bytes("log_a/metadata.json"))["copied"] == "over"
    assert "log_a/artifacts/mine" in there.files()
    assert sync(here.url, there.url).deleted == {"log_a/artifacts/mine": 3}
    assert there.files() == run()


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ({"status": "initialized"}, {"status": "complete"}, "complete there, and initialized here"),
        ({}, {"resumes": [{}]}, "resumed there (1 times, and 0 here)"),
        (
            {"status": "initialized", "lease": {"owner": "x", "beat": "2026-01-01T00:00:00+00:00"}},
            {"status": "initialized", "lease": {"owner": "x", "beat": "2026-01-01T01:00:01+01:00"}},
            "later sign of life",
        ),
    ],
)
@pytest.mark.parametrize("delete", [False, True])
def test_a_destination_that_is_ahead_is_left_alone(
    here: Place, there: Place, ours: dict[str, Any], theirs: dict[str, Any], why: str, delete: bool
) -> None:
    here.fill(run(**ours) | {"log_a/artifacts/notes.txt": b"older"})
    there.fill(run(**theirs))
    with pytest.raises(BatchError, match="sync in the other direction") as failed:
        sync(here.url, there.url, delete=delete)
    assert why in str(failed.value)
    assert there.files() == run(**theirs)
    sync(there.url, here.url)
    assert here.files() == run(**theirs)


def test_one_folder_in_the_other_is_refused(here: Place, tmp_path: Path) -> None:
    here.fill(run())
    for source, target in [
        (here.url, here.url),
        (here.url, f"{here.url}/log_a/copy"),
        (f"{here.url}/log_a", here.url),
        (here.url, here.url.removesuffix("/here")),
        (str(tmp_path), str(tmp_path / "x" / "..")),
    ]:
        with pytest.raises(ConfigurationError, match="one contains the other"):
            sync(source, target, delete=True)
    assert here.files() == run()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="one contains the other"):
        sync(tmp_path / "real", tmp_path / "link" / "inside")
    sync(here.url, f"{here.url}s")  # a common prefix of the names is not a parent folder


def test_a_source_without_files_is_an_error_and_deletes_nothing(here: Place, there: Place) -> None:
    there.fill(run())
    with pytest.raises(RunMissingError, match="no folder with files at"):
        sync(here.url, there.url, delete=True)
    assert there.files() == run()


# -- where it goes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("below", "folder"), [("", "log_a"), ("/runs", "runs/log_a"), ("/log_b", "log_b")])
def test_a_run_goes_below_unless_the_destination_is_a_run_by_its_name(
    here: Place, there: Place, below: str, folder: str
) -> None:
    here.fill(run())
    sync(f"{here.url}/log_a", f"{there.url}{below}")
    assert {key.replace(f"{folder}/", "log_a/"): data for key, data in there.files().items()} == run()


@pytest.mark.parametrize("delete", [False, True])
def test_a_recorded_mirror_is_shown_and_never_written_to(delete: bool, here: Place, there: Place) -> None:
    there.fill({"log_a/kept": b"kept", "kept": b"kept"})
    here.fill(run(mirror=f"{there.url}/log_a"))
    for source, command in (
        (f"{here.url}/log_a", f"notata sync {here.url}/log_a {there.url}/log_a"),
        (here.url, f"notata sync {here.url} {there.url}"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            sync(source, destination_options={"secret": "of the user"}, delete=delete)
        assert str(refused.value).endswith(f"If you trust it, run: {command}")
    assert there.files() == {"log_a/kept": b"kept", "kept": b"kept"}


def test_the_command_in_that_error_copies_the_run(here: Place, there: Place) -> None:
    files = run(mirror=there.url)
    here.fill(files)
    with pytest.raises(ConfigurationError) as refused:
        sync(f"{here.url}/log_a")
    program, verb, source, destination = shlex.split(str(refused.value).rpartition("run: ")[2])
    assert (program, verb) == ("notata", "sync")
    sync(source, destination)
    assert there.files() == files


@pytest.mark.parametrize(
    "mirror",
    [
        *("/tmp/x; rm -rf ~", "$(id)", "a\nb", "\x1b[2J", "s3://key:secret77@bucket/x", "s3://[", "x" * 9000, 5, None),
        *("--delete", "-o", [], {}),
    ],
)
def test_an_invalid_recorded_mirror_is_ignored(mirror: Any, here: Place) -> None:
    here.fill(run(mirror=mirror))
    with pytest.raises(ConfigurationError) as refused:
        sync(f"{here.url}/log_a")
    told = str(refused.value)
    assert "no destination" in told
    assert told.isprintable()
    assert len(told) < 1000
    assert "secret77" not in told
    if "run: " in told:
        words = shlex.split(told.rpartition("run: ")[2])
        assert len(words) == 4
        assert not words[3].startswith("-")


def test_runs_that_record_several_mirrors_are_reported(here: Place, there: Place) -> None:
    here.fill(run(mirror=there.url))
    here.put("log_c/metadata.json", metadata(mirror="memory://elsewhere/log_c"))
    with pytest.raises(ConfigurationError, match=r"record these mirrors: memory://\S+, memory://\S+. Name the dest"):
        sync(here.url)


def test_without_a_destination_and_a_mirror_it_is_an_error(here: Place) -> None:
    here.fill(run())
    for source in (here.url, f"{here.url}/log_a"):
        with pytest.raises(ConfigurationError, match="records no mirror"):
            sync(source)


def test_a_resumed_run_does_not_mirror_to_the_recorded_url(here: Place, there: Place) -> None:
    here.fill(run(status="failed", mirror=there.url))
    with Logbook("a", here.url, resume=True) as log:
        assert log.mirror is None
    assert there.files() == {}


# -- what is deleted -----------------------------------------------------------------------------------------


def test_nothing_is_deleted_unless_asked_and_then_all_that_the_source_does_not_have(here: Place, there: Place) -> None:
    here.fill(run() | {"README": b"read"})
    extra = {f"old/{key}": data for key, data in run().items()} | {"log_a/artifacts/x": b"x", "notes.md": b"n"}
    there.fill(extra)
    outside = Place("memory", f"{there.url}-too")
    outside.fill({"kept": b"kept"})
    assert sync(here.url, there.url).deleted == {}
    assert there.files() == here.files() | extra
    target = FaultyBackend(there.store())
    would = sync(here.url, target, delete=True, dry_run=True)
    assert writes(target) == []
    assert there.files() == here.files() | extra
    report = sync(here.url, target, delete=True)
    assert report.deleted == would.deleted == {key: len(data) for key, data in extra.items()}
    assert there.files() == here.files()
    assert outside.files() == {"kept": b"kept"}


def test_of_a_run_the_folder_of_the_run_alone_is_cleared(here: Place, there: Place) -> None:
    here.fill(run())
    there.fill({"log_b/metadata.json": metadata(), "notes.md": b"n", "log_a/artifacts/x": b"x"})
    sync(f"{here.url}/log_a", there.url, delete=True)
    assert there.files() == run() | {"log_b/metadata.json": metadata(), "notes.md": b"n"}


def test_a_folder_of_an_illegal_name_is_reported_and_the_rest_is_made_equal(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    Logbook("a", here).mark_complete()
    (here / "notes.txt").write_text("new")
    Logbook("old", there).mark_complete()
    (there / "log_\x1b").mkdir()
    (there / "log_\x1b/metadata.json").write_text("{}")
    done = notata("sync", "--delete", "here", "there", folder=tmp_path)
    assert (done.returncode, "cannot be a key" in done.stderr) == (2, True)
    assert sorted(path.name for path in there.iterdir()) == ["log_\x1b", "log_a", "notes.txt"]


def test_a_run_that_is_deleted_is_not_complete_meanwhile(here: Place, there: Place) -> None:
    here.fill({"README": b"read"})
    for nth in range(1, 12):
        there.fill(run())
        target = Watched(there.store())
        target.look = check_complete_runs(run(), there, {})
        target.fail(nth)
        with suppress(NotataError):
            sync(here.url, target, delete=True)
        target.heal()
        sync(here.url, target, delete=True)
        assert there.files() == {"README": b"read"}


# -- what does not hold still, and what cannot be copied -----------------------------------------------------


class Changing(FaultyBackend):
    """A source that changes just before the n-th read of a file."""

    def change_before(self, key: str, change: Callable[[], None], verb: str = "get") -> None:
        self.changes = {(verb, key): change}

    @contextmanager
    def _step(self, verb: str, key: str = "") -> Iterator[None]:
        changes: dict[tuple[str, str], Callable[[], None]] = self.__dict__.get("changes", {})
        if (verb, key) in changes:
            changes.pop((verb, key))()
        with super()._step(verb, key):
            yield


def test_a_file_that_vanishes_is_left_out_and_one_that_came_for_it_is_copied(here: Place, there: Place) -> None:
    here.fill(run())
    source = Changing(here.store().below("log_a"))

    def rename() -> None:
        here.put("log_a/artifacts/renamed.txt", here.bytes("log_a/artifacts/notes.txt"))
        here.store().delete(["log_a/artifacts/notes.txt"])

    source.change_before("artifacts/notes.txt", rename)
    assert "metadata.json" in RunCopy(Store(source), there.store().below("log_a")).update()
    assert there.files() == here.files()
    assert "log_a/artifacts/renamed.txt" in there.files()


@pytest.mark.parametrize("data", [b"", b"shorter", b"x" * 100, bytes(PART + 1)])
def test_a_file_that_changes_before_it_is_read_is_copied_as_it_is_then(here: Place, there: Place, data: bytes) -> None:
    here.fill(run())
    source = Changing(here.store().below("log_a"))
    source.change_before("artifacts/notes.txt", lambda: here.put("log_a/artifacts/notes.txt", data))
    RunCopy(Store(source), there.store().below("log_a")).update()
    assert there.files() == here.files()


def test_a_large_file_that_changes_while_it_is_read_is_read_anew(here: Place, there: Place) -> None:
    here.fill(run() | {"log_a/artifacts/large": b"a" * (2 * PART)})
    source = Changing(here.store().below("log_a"))
    begun = threading.Event()

    def change() -> None:
        begun.set()
        source.change_before("artifacts/large", lambda: here.put("log_a/artifacts/large", b"b" * (2 * PART)))

    source.change_before("artifacts/large", change)
    RunCopy(Store(source), there.store().below("log_a")).update()
    assert begun.is_set()
    assert there.files() == here.files()


def test_a_destination_that_changes_meanwhile_is_looked_at_again(here: Place, there: Place) -> None:
    here.fill(run())
    target = Changing(there.store().below("log_a"))
    target.change_before("artifacts/notes.txt", lambda: there.put("log_a/artifacts/notes.txt", b"other"), "put")
    RunCopy(here.store().below("log_a"), Store(target)).update()
    assert there.files() == here.files()
    there.put("log_a/metadata.json", metadata("initialized"))
    target.change_before("metadata.json", lambda: there.put("log_a/metadata.json", metadata("replacing")), "put")
    assert "metadata.json" in RunCopy(here.store().below("log_a"), Store(target)).update()
    assert there.files() == here.files()


def test_a_run_that_ends_and_is_copied_by_another_one_meanwhile_is_not_ahead(here: Place, there: Place) -> None:
    here.fill(run("initialized"))
    there.fill(run("initialized", lease={"beat": "2026"}))
    target = Changing(there.store().below("log_a"))

    def end() -> None:
        here.fill(run())
        there.fill(run())

    target.change_before("metadata.json", end)
    listed = {entry.key: entry for entry in Store(target).list()}
    assert "metadata.json" in RunCopy(here.store().below("log_a"), Store(target)).update(listed=listed)
    assert there.files() == run()


def test_a_run_whose_metadata_is_taken_by_another_one_meanwhile_is_refused(here: Place, there: Place) -> None:
    here.fill(run())
    target = Changing(there.store().below("log_a"))
    other = metadata("initialized", start_time="another")
    target.change_before("metadata.json", lambda: there.put("log_a/metadata.json", other), "put")
    with pytest.raises(RunExistsError, match="a different run"):
        RunCopy(here.store().below("log_a"), Store(target)).update()
    assert there.files() == {"log_a/metadata.json": other}


@pytest.mark.parametrize("name", ["a\\b", "tab\there", "x?versionId=3", "x" * 256])
def test_a_name_that_cannot_be_a_key_is_reported_and_all_else_copied(here: Place, there: Place, name: str) -> None:
    here.fill(run() | {f"log_a/artifacts/{name}": b"odd", "index.csv": b"rows"})
    with pytest.raises(BatchError) as failed:
        sync(here.url, there.url)
    [error] = failed.value.exceptions
    assert isinstance(error, KeyNameError)
    assert "cannot be a key" in str(error)
    assert error.url == f"{here.url}/log_a"
    assert status(there) == "replacing"  # the copy is marked as incomplete
    assert {key: data for key, data in there.files().items() if not key.endswith("metadata.json")} == {
        key: data for key, data in here.files().items() if name not in key and not key.endswith("metadata.json")
    }
    here.raw().rm_file(f"{here.url}/log_a/artifacts/{name}")
    sync(here.url, there.url)
    assert status(there) == "complete"


def test_a_file_where_a_folder_is_needed_is_reported_and_all_else_copied(here: Place, there: Place) -> None:
    here.fill(run() | {"log_a/artifacts/x/y": b"below"})
    there.fill({"log_a/artifacts/x": b"a file"})
    with pytest.raises(BatchError) as failed:
        sync(here.url, there.url)
    [error] = failed.value.exceptions
    assert isinstance(error, FolderError)
    assert len(there.files()) == len(run()) + 1
    assert status(there) == "replacing"


def test_files_without_metadata_are_not_put_into_a_run(here: Place, there: Place) -> None:
    here.fill({"log_a/artifacts/notes.txt": b"whose?", "README": b"read"})
    there.fill(run())
    with pytest.raises(BatchError, match="is a run, and"):
        sync(here.url, there.url)
    assert there.files() == run() | {"README": b"read"}


def test_links_and_pipes_are_skipped_and_reported(tmp_path: Path, there: Place) -> None:
    local = Place("local", str(tmp_path / "here"))
    local.fill(run())
    artifacts = tmp_path / "here/log_a/artifacts"
    (artifacts / "to_a_file").symlink_to(artifacts / "notes.txt")
    (artifacts / "to_a_folder").symlink_to(tmp_path)
    (artifacts / "to_nothing").symlink_to(tmp_path / "nothing")
    os.mkfifo(artifacts / "pipe")
    (artifacts / ".notata-unfinished").write_text("half")
    report = sync(local.url, there.url)
    names = ("pipe", "to_a_file", "to_a_folder", "to_nothing")
    assert report.left_out == tuple(f"log_a/artifacts/{name}" for name in names)
    assert "4 left out" in str(report)
    assert there.files() == run()
    report = sync(local.url, there.url, follow_links=True)
    assert report.left_out == tuple(f"log_a/artifacts/{name}" for name in names if name != "to_a_file")
    assert there.files() == run() | {"log_a/artifacts/to_a_file": b"converged"}


def test_names_that_are_no_text_are_reported(tmp_path: Path, there: Place) -> None:
    local = Place("local", str(tmp_path / "here"))
    local.fill(run())
    with open(os.fsencode(tmp_path) + b"/here/log_a/artifacts/\xff", "wb") as file:
        file.write(b"x")
    with pytest.raises(BatchError, match="lone surrogate"):
        sync(local.url, there.url)
    assert len(there.files()) == len(run())


def test_an_unreachable_storage_is_not_tried_for_every_file(here: Place, there: Place) -> None:
    here.fill(run("initialized") | {f"log_a/artifacts/{number}": b"x" for number in range(500)})

    class Gone(FaultyBackend):
        tried = 0

        def put(self, key: str, data: bytes, match: str | None) -> str:
            self.tried += 1
            raise ConnectionError("gone")

    gone = Gone(there.store().below("log_b"))
    there.fill({"log_b/metadata.json": metadata("initialized")})
    with pytest.raises(BatchError) as failed:
        RunCopy(here.store().below("log_a"), Store(gone), CopyOptions(at_once=4)).update()
    assert isinstance(failed.value.exceptions[0], UnreachableError)
    assert gone.tried < 10


# -- one run, again and again --------------------------------------------------------------------------------


def sent(results: Mapping[str, CopyResult]) -> dict[str, tuple[str, int]]:
    """Return the files of a run that were sent."""
    return {key: (found.verb, found.bytes) for key, found in results.items() if found.verb in ("copied", "appended")}


def test_what_is_known_to_be_there_is_not_looked_at_again(here: Place, there: Place) -> None:
    here.fill(run("initialized"))
    target, known = below(there), dict[str, str]()
    copy = RunCopy(here.store().below("log_a"), Store(target), known=known)
    assert "metadata.json" in copy.update()
    assert known == {entry.key: entry.version for entry in here.store().below("log_a").list()}
    before = len(target.operations)
    assert sent(copy.update()) == {}
    assert target.operations[before:] == []
    here.fill({"log_a/artifacts/new": b"n"} | LOGS)
    added = len(LOGS["log_a/log.txt"]) - len(run()["log_a/log.txt"])
    assert sent(copy.update()) == {"artifacts/new": ("copied", 1), "log.txt": ("appended", added)}
    assert writes(target)[-2:] == ["put artifacts/new", "append log.txt"]
    assert there.files() == here.files()


def test_a_copy_of_some_files_claims_no_end(here: Place, there: Place) -> None:
    here.fill(run("initialized"))
    known = dict[str, str]()
    copy = RunCopy(here.store().below("log_a"), there.store().below("log_a"), known=known)
    results = copy.update(only=["artifacts/notes.txt", "gone", "metadata.json"])
    assert results.keys() == {"artifacts/notes.txt", "metadata.json"}
    assert there.files() == {
        key: run("initialized")[key] for key in ("log_a/artifacts/notes.txt", "log_a/metadata.json")
    }
    here.fill(run())
    copy.update(only=["log.txt", "metadata.json"])
    assert status(there) == "initialized"
    now = here.store().below("log_a").stat("metadata.json").version
    assert known["metadata.json"] != now
    assert "metadata.json" in copy.update()
    assert known["metadata.json"] == now
    assert there.files() == run()


@pytest.mark.parametrize("only", [None, ["log.txt", "metadata.json"]])
def test_what_was_known_of_one_run_is_not_taken_for_another_one(here: Place, there: Place, only: list[str]) -> None:
    """For example, a mirrored run is started again in its folder with `overwrite=True`."""
    here.fill(run("initialized"))
    copy = RunCopy(here.store().below("log_a"), there.store().below("log_a"), CopyOptions(replace=True), known={})
    copy.update()
    here.store().clear()
    line = b"[2026-02-02T00:00:00] INFO of another run\n"
    new = {"log_a/metadata.json": metadata("initialized", start_time="2026-02-02"), "log_a/log.txt": line * 10}
    here.fill(new)
    copy.update(only=only)
    assert there.files() == new
    here.fill({"log_a/log.txt": line * 11})
    assert sent(copy.update()) == {"log.txt": ("appended", len(line))}
    assert there.files() == here.files()


def test_a_replaced_copy_puts_no_file_into_another_run(here: Place, there: Place) -> None:
    """For example, a job is started again on another machine while the first one is running."""
    elsewhere = Place("memory", f"memory://{uuid.uuid4().hex}")
    here.fill(run("initialized"))
    second = run("initialized") | {"log_a/metadata.json": metadata("initialized", start_time="2026-02-02")}
    elsewhere.fill(second)
    first = RunCopy(here.store().below("log_a"), there.store().below("log_a"), CopyOptions(replace=True), known={})
    first.update()
    RunCopy(elsewhere.store().below("log_a"), there.store().below("log_a"), CopyOptions(replace=True)).update()
    here.fill({"log_a/artifacts/notes.txt": b"of the first", "log_a/artifacts/new": b"of the first"})
    for only in (["artifacts/notes.txt"], ["artifacts/new", "metadata.json"], None):
        with pytest.raises(RunExistsError, match="contains a different run with this id"):
            first.update(only=only)
    assert there.files() == second


def _when_listed(store: Store, what: Callable[[], object]) -> Store:
    """Return a store in whose folder something happens after its first listing."""
    list_ = store.list
    todo = [what]

    def listed(folder: str = "", beginning: str = "", *, skipped: Skipped | None = None) -> list[Entry]:
        found = list_(folder, beginning, skipped=skipped)
        if todo:
            todo.pop()()
        return found

    store.list = listed  # type: ignore[method-assign]
    return store


def test_a_run_that_is_resumed_while_it_is_copied_is_not_complete_there_with_what_comes_then(
    here: Place, there: Place
) -> None:
    here.fill(run(lease={"owner": "first"}))
    resumed = {
        "log_a/metadata.json": metadata("initialized", lease={"owner": "second"}, resumes=[{}]),
        "log_a/artifacts/notes.txt": b"of the second attempt",
    }
    source = _when_listed(here.store().below("log_a"), lambda: here.fill(resumed))
    RunCopy(source, there.store().below("log_a")).update()
    assert status(there) == "initialized"
    assert there.files() == here.files()


@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("copied_before", [True, False])
def test_a_run_that_is_replaced_while_it_is_copied_is_not_mixed_with_the_new_one(
    here: Place, there: Place, delete: bool, copied_before: bool
) -> None:
    here.fill(run())
    target = there.store().below("log_a")
    if copied_before:
        RunCopy(here.store().below("log_a"), target).update()
    new = run("initialized") | {
        "log_a/metadata.json": metadata("initialized", start_time="2026-02-02"),
        "log_a/artifacts/notes.txt": b"of another run",
    }

    def replaced() -> None:
        here.store().clear()
        here.fill(new)

    here.fill({"log_a/artifacts/notes.txt": b"changed late"})
    source = _when_listed(here.store().below("log_a"), replaced)
    copy = RunCopy(source, target, CopyOptions(delete=delete, replace=delete))
    with nullcontext() if delete else pytest.raises(RunExistsError):
        copy.update()
    if delete:
        assert there.files() == new
    else:
        assert status(there) == "replacing"


def test_a_run_that_is_begun_anew_while_its_folder_is_listed_loses_nothing_where_it_is_complete(
    here: Place, there: Place
) -> None:
    """The listing of a folder that was just cleared does not show whether a file was deleted."""
    here.fill(run())
    target = there.store().below("log_a")
    RunCopy(here.store().below("log_a"), target).update()
    source = here.store().below("log_a")
    list_ = source.list

    def listed(folder: str = "", beginning: str = "", *, skipped: Skipped | None = None) -> list[Entry]:
        if "2026-02-02" not in here.bytes("log_a/metadata.json").decode():
            here.store().clear()
            here.fill({"log_a/metadata.json": metadata("replacing", start_time="2026-02-02")})
        return list_(folder, beginning, skipped=skipped)

    source.list = listed  # type: ignore[method-assign]
    with pytest.raises(RunExistsError):
        RunCopy(source, target, CopyOptions(delete=True)).update()
    assert there.files() == run()


def test_late_files_are_copied_before_the_manifest_that_lists_them(here: Place, there: Place) -> None:
    here.fill(run() | {"log_a/manifest.json": b"{}"})

    def written_late() -> None:
        here.fill({"log_a/artifacts/late": b"l", "log_a/manifest.json": b'{"artifacts/late": 1}'})

    RunCopy(_when_listed(here.store().below("log_a"), written_late), there.store().below("log_a")).update()
    assert there.files() == here.files()
    assert there.bytes("log_a/artifacts/late") == b"l"


def test_a_copy_stops_on_request(here: Place, there: Place) -> None:
    here.fill(run())
    stop = Event()
    source = Changing(here.store().below("log_a"))
    source.change_before("artifacts/notes.txt", stop.set)
    with pytest.raises(InterruptedError):
        RunCopy(Store(source), there.store().below("log_a"), CopyOptions(stop=stop)).update()
    assert "log_a/log.txt" not in there.files()
    state = LogReader(f"{there.url}/log_a").state
    assert (state.status, state.why) == ("replacing", "a copy from another location is in progress, or was interrupted")


def test_what_is_no_run_is_an_error(here: Place, there: Place) -> None:
    with pytest.raises(RunMissingError, match=r"it has no metadata\.json"):
        RunCopy(here.store(), there.store()).update()


def test_damaged_metadata_is_copied_last_and_over_no_other(here: Place, there: Place) -> None:
    here.fill(run() | {"log_a/metadata.json": b"{ half"})
    sync(here.url, there.url)
    assert there.files() == here.files()
    here.fill(run())
    with pytest.raises(BatchError, match="cannot be read"):
        sync(here.url, there.url)
    sync(here.url, there.url, delete=True)
    assert there.files() == here.files()
    here.fill({"log_a/metadata.json": b"{ half"})
    target = FaultyBackend(there.store())
    here.store().delete(["log_a/params.yaml"])
    sync(here.url, target, delete=True)
    assert writes(target) == ["put metadata.json", "delete ", "put metadata.json"]  # it is not complete in between
    assert there.files() == here.files()


# -- digests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 7])
def test_the_digest_of_parts_is_that_of_s3(size: int) -> None:
    data = os.urandom(size)
    parts = [data[start : start + PART] for start in range(0, size, PART)]
    expected = md5(b"".join(md5(part).digest() for part in parts)).hexdigest()
    pieces = [data[start : start + 1_000_003] for start in range(0, size, 1_000_003)]
    assert digest_of(iter(pieces), "md5-parts:") == f"md5-parts:{expected}-{len(parts)}"


def test_other_digests() -> None:
    assert digest_of(iter([b"1234", b"56789"]), "crc32c:") == "crc32c:e3069283"  # RFC 3720, B.4; reveng's check value
    assert digest_of(iter([b""]), "md5:") == "md5:d41d8cd98f00b204e9800998ecf8427e"
    assert digest_of(iter([b""]), "sha3:") == ""


def test_a_listing_has_what_the_store_knows(here: Place) -> None:
    here.fill(run())
    assert {entry.digest for entry in here.store().list()} == {""}
    assert Entry("k", 1, next(iter(here.store().list())).modified, "v").digest == ""


def test_a_store_is_taken_as_it_is(here: Place, there: Place) -> None:
    here.fill(run())
    source: Store = open_store(here.url)
    assert sync(source, there.store()).runs == 1
