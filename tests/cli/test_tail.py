"""``notata tail``: the ends of logs as `tail` shows them, and growing logs, on a disk and in buckets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import Logbook, MissingError
from notata._base import processes
from notata.errors import AccessError, ContainerMissingError, DeadlineError, StorageError, UnreachableError
from notata.run import state
from notata.search import File, Query, follow, following, tail, tailing
from notata.search.following import Following
from notata.search.tailing import News, logs_at
from notata.store import Blob, Store, open_store
from notata.store.wrapper import Wrapper
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.cli.conftest import Shelf
from tests.command import notata, process, terminal
from tests.contract.conftest import make_place
from tests.counting import Send, counted, intercepted
from tests.fleet import RUNS


def real(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["tail", *arguments], cwd=folder, capture_output=True, check=True).stdout


def named(url: str, output: str) -> str:
    return output.replace("==> ", f"==> {url}/")


def test_output_equals_that_of_tail(shelf: Shelf, tmp_path: Path) -> None:
    done = process("tail", "-n", "3", f"{shelf.url}/log_notes", *shelf.options, folder=tmp_path)
    expected = real(shelf.local, "-n", "3", "log_notes/log.txt").decode()
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    several = notata("tail", f"{shelf.url}", *shelf.options, folder=tmp_path)
    logs = [f"{run}/log.txt" for run in RUNS]
    assert several.stdout == named(shelf.url, real(shelf.local, *sorted(logs)).decode())
    quiet = notata("tail", "-q", "-n1", f"{shelf.url}/sweep", *shelf.options, folder=tmp_path)
    sweep = [log for log in sorted(logs) if log.startswith("sweep/")]
    assert quiet.stdout == real(shelf.local, "-q", "-n1", *sweep).decode()
    workers = notata("tail", "-n1", "--workers", f"{shelf.url}/log_notes", *shelf.options, folder=tmp_path)
    both = ["log_notes/log.txt", "log_notes/workers/3/log.txt"]
    assert workers.stdout == named(shelf.url, real(shelf.local, "-n1", *both).decode())


def test_files_are_shown_too_without_other_output(shelf: Shelf, tmp_path: Path) -> None:
    notes = f"{shelf.url}/log_notes/artifacts/notes.txt"
    one = notata("tail", "-n2", notes, *shelf.options, folder=tmp_path)
    assert one.stdout == "ERROR in the middle\nlast line without end"
    pattern = notata("tail", "-n1", f"{shelf.url}/log_*/artifacts/notes.txt", *shelf.options, folder=tmp_path)
    keys = [f"{run}/artifacts/notes.txt" for run in ("log_died", "log_lost", "log_notes")]
    assert pattern.stdout == named(shelf.url, real(shelf.local, "-n1", *keys).decode())
    for nothing in ("nowhere", "empty", "log_notes/nothing.txt"):
        done = notata("tail", f"{shelf.url}/{nothing}", *shelf.options, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"Error: there is nothing at .*\n", done.stderr)
        assert notata("tail", "-f", f"{shelf.url}/{nothing}", *shelf.options, folder=tmp_path).returncode == 1


def test_a_number_alone_is_how_many_lines(shelf: Shelf, tmp_path: Path) -> None:
    for count in (0, 1, 3):
        wanted = notata("tail", "-n", str(count), f"{shelf.url}/log_notes", *shelf.options, folder=tmp_path).stdout
        for arguments in ((f"-{count}", f"{shelf.url}/log_notes"), (f"{shelf.url}/log_notes", f"-{count}")):
            done = notata("tail", *arguments, *shelf.options, folder=tmp_path)
            assert (done.returncode, done.stdout) == (0, wanted)
    assert wanted.count("\n") == 3
    assert notata("tail", "--", "-3", folder=tmp_path).stderr == "Error: there is nothing at -3\n"
    assert notata("ls", "-3", folder=tmp_path).returncode == 2


@pytest.mark.usefixtures("failing_log_b")
def test_a_log_that_cannot_be_read_is_reported_and_the_others_are_shown(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    for name in ("a", "b", "c"):
        Logbook(name, url).mark_complete()
    done = notata("tail", "-q", "-n1", url, folder=tmp_path)
    assert (done.returncode, done.stdout.count("Marked complete")) == (3, 2)
    assert re.fullmatch(r"Error: cannot read \S+/log_b/log.txt: .*\n", done.stderr)
    assert notata("tail", "-f", url, folder=tmp_path).returncode == 3


def test_json(shelf: Shelf, tmp_path: Path) -> None:
    done = notata("tail", "-n", "4", "--json", f"{shelf.url}/log_notes", *shelf.options, folder=tmp_path)
    first, *_, last = (json.loads(line) for line in done.stdout.splitlines())
    assert (last["name"], last["run_id"], last["key"]) == (f"{shelf.url}/log_notes/log.txt", "notes", "log.txt")
    assert (last["level"], last["message"]) == ("INFO", "Marked complete")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", last["time"])
    assert first["message"].startswith("Saved ")


def test_names_and_exit_codes_of_logs_that_are_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = open_store("memory://tail-codes")
    for name, status in (("a", "complete"), ("b", "failed")):
        fields = {"run_id": name, "status": status}
        store.write_many({f"log_{name}/metadata.json": json.dumps(fields).encode(), f"log_{name}/log.txt": b"1\n2\n"})
    a, b = (f"{store.url}/log_{name}" for name in "ab")

    def tail(*arguments: str) -> tuple[int, str]:
        done = notata("tail", *arguments, folder=tmp_path)
        return done.returncode, done.stdout

    both = f"==> {a}/log.txt <==\n2\n\n==> {b}/log.txt <==\n2\n"
    assert tail("-n", "1", a, b) == (0, both)
    assert tail("-n", "1", "-q", a, b) == (0, "2\n2\n")
    assert tail("-n", "1", "-f", a, b) == (1, both)
    assert tail("-n", "1", "-f", a) == (0, "2\n")
    assert tail("-n", "1", "-f", "--workers", a) == (0, f"==> {a}/log.txt <==\n2\n")
    assert tail("-n", "1", "-f", "-q", "--workers", a) == (0, "2\n")
    assert tail("-n", "1", "-f", b) == (1, "2\n")
    assert tail("-n", "1", "-f", "nowhere", a) == (1, "2\n")
    assert tail("-f", a, "--status", "failed") == (1, "")
    assert tail(a, "--status", "failed") == (1, "")

    class Never:
        """A follower that reads no files."""

        def __init__(self, logs: list[File], lines: int, **options: Any) -> None:
            self.ends = {"x": end}
            assert options["forever"]

        def __iter__(self) -> Iterator[News]:
            return iter([News(log, "1\n"), News(log, "2\n")])

    log = next(logs_at(Query(a)))
    monkeypatch.setattr("notata.search.following.Following", Never)
    for said, code in (("complete", 0), ("died", 1), ("gone", 1)):
        end = said
        assert tail("-F", "--workers", a) == (code, f"==> {a}/log.txt <==\n1\n2\n")


@given(st.lists(st.binary(max_size=9), max_size=12).map(b"\n".join), st.integers(0, 13))
def test_any_file_and_any_number_of_lines(data: bytes, lines: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tailing, "END_BYTES", 4)
        store = open_store(name)
        store.write("log_x/metadata.json", b"{}")
        store.write("log_x/log.txt", data)
        (log,) = logs_at(Query(name))
        said = "".join(news.text for news in tailing.tails([log], lines))
        expected = real(Path(name), "-n", str(lines), "log_x/log.txt")
        assert said.encode("utf-8", "surrogateescape") == expected
        assert len(tail(name, lines)) == len(expected.split(b"\n")) - (expected[-1:] in (b"", b"\n"))


def test_a_terminal_gets_no_control_byte_of_a_log(tmp_path: Path) -> None:
    with Logbook("evil", tmp_path) as log:
        log.info("\x1b]0;owned\x07 café")
    code, got = terminal("tail", "-f", str(tmp_path / "log_evil"), folder=tmp_path)
    assert code == 0
    assert rb"INFO \x1b]0;owned\x07 caf" in got
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f]", got)


# -- what comes ------------------------------------------------------------------------------------------------


class Scene:
    """A followed log; each wait runs the next step."""

    def __init__(self, url: str | Store, *steps: Callable[[], object], **options: Any) -> None:
        self.told: list[str] = []
        self.waited: list[float] = []
        self.read: list[str] = []
        self._steps = list(steps)
        lines = options.pop("lines", 10)
        self.logs = list(
            logs_at(
                Query(url, storage_options=options.pop("options", None)),
                workers=options.get("workers", False),
                series=options.pop("series", None),
            )
        )
        self.watched = Following(self.logs, lines, tell=self.told.append, wait=self._wait, **options)

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        if not self._steps:
            raise KeyboardInterrupt
        self._steps.pop(0)()

    def play(self) -> Scene:
        try:
            for news in self.watched:
                self.read.append(news.text)
        except KeyboardInterrupt:
            self.told.append("interrupted")
        return self


def nothing() -> None:
    """A step in which nothing happens."""


def a_log(data: bytes = b"", status: str = "") -> Store:
    store = open_store(f"memory://{uuid.uuid4().hex}/log_x")
    store.write("metadata.json", json.dumps({"status": status or "initialized"}).encode())
    if data:
        store.write("log.txt", data)
    return store


def ended(store: Store, status: str = "complete", **fields: Any) -> Callable[[], object]:
    return lambda: store.write("metadata.json", json.dumps({"status": status, **fields}).encode())


def test_a_log_that_grows_until_its_run_ends() -> None:
    store = a_log(b"one\ntwo\nthr")

    def last() -> None:
        store.append("log.txt", b"four\n")
        ended(store)()

    scene = Scene(
        store,
        lambda: store.append("log.txt", b"ee\n\xc3"),
        lambda: store.append("log.txt", b"\xa9"),
        nothing,
        lambda: store.append("log.txt", b"\nhalf"),
        last,
        nothing,
        lines=1,
    )
    scene.play()
    assert scene.read == ["three\n", "é\n", "halffour\n"]
    assert scene.told == [f"{store.url}: complete"]
    assert scene.watched.ends == {store.url: "complete"}


HERE: dict[str, Any] = {"lease": {"process": processes.identity()}}


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the last lines of a run waited for however slow this machine is."""
    monkeypatch.setattr(state, "LATE", 600.0)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("status", ["complete", "failed"])
def test_the_last_line_of_a_run_may_come_after_its_status(status: str) -> None:
    store = a_log(b"[09:00] INFO Logbook initialized\n[09:00] ERROR Marked failed: before\n")
    store.append("log.txt", b"[09:01] INFO Logbook resumed\n")
    last = f"[09:02] INFO Marked {status}\n"
    scene = Scene(
        store,
        ended(store, status, **HERE),
        *[nothing] * 8,
        lambda: store.append("log.txt", b"[09:02] INFO step\n"),
        nothing,
        lambda: store.append("log.txt", last.encode()),
        lines=0,
    ).play()
    assert scene.read == ["[09:02] INFO step\n", last]
    assert scene.told == [f"{store.url}: {status}"]


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("gone", ["its process", "a while", "neither"])
def test_a_last_line_that_does_not_come_is_not_waited_for_long(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_log(b"[09:00] INFO Logbook initialized\n")
    if gone == "its process":
        monkeypatch.setattr(processes, "alive", lambda name: False if name else None)
    if gone == "a while":
        monkeypatch.setattr(state, "LATE", 0.0)
    scene = Scene(store, ended(store, **HERE), *[nothing] * 6, lines=0).play()
    assert scene.told == ["interrupted" if gone == "neither" else f"{store.url}: complete"]


@pytest.mark.usefixtures("_patient")
def test_rows_of_a_failed_run_may_come_after_its_status() -> None:
    """Those of a complete run are stored before it is complete."""
    for status, expected in (("failed", ['{"a": 1}\n']), ("complete", [])):
        store = a_log()
        store.write("series/scalars.jsonl", b'{"a": 0}\n')
        later = lambda store=store: store.append("series/scalars.jsonl", b'{"a": 1}\n')  # noqa: E731
        scene = Scene(store, ended(store, status, **HERE), *[nothing] * 6, later, lines=0, series="scalars").play()
        assert scene.read == expected


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_a_run_that_has_ended_already(status: str) -> None:
    store = a_log(b"one\nhalf")
    ended(store, status, failure_reason="diverged")()
    scene = Scene(store).play()
    assert scene.read == ["one\n", "half"]
    assert scene.waited == []
    assert scene.told == [f"{store.url}: failed: diverged" if status == "failed" else f"{store.url}: complete"]


def test_a_log_that_comes_later_and_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PIECE", 100)
    store = a_log()
    lines = "".join(f"line {number}\n" for number in range(100))
    scene = Scene(store, nothing, lambda: store.write("log.txt", lines.encode()), ended(store)).play()
    assert "".join(scene.read) == lines
    assert len(scene.read) > 5
    assert len(scene.waited) == 3


def test_the_pause_grows_while_no_line_arrives() -> None:
    store = a_log(b"one\n")
    scene = Scene(store, *[nothing] * 9, lambda: store.append("log.txt", b"two\n"), interval=1.0).play()
    assert scene.waited[:7] == [pytest.approx(1.5**step) for step in range(1, 6)] + [10.0, 10.0]
    assert scene.waited[-2:] == [10.0, 1.0]


@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
def test_a_replaced_log_is_read_from_its_start(longer: bool) -> None:
    store = a_log(b"[09:00] one\n[09:01] two\n")
    other = b"[10:00] other\n" * (5 if longer else 1)
    scene = Scene(store, lambda: store.write("log.txt", other), ended(store)).play()
    assert scene.read == ["[09:00] one\n[09:01] two\n", other.decode()]
    replaced = f"{store.url}/log.txt was replaced by another file, which begins here"
    assert scene.told == [replaced, f"{store.url}: complete"]


def test_a_run_that_is_overwritten_and_one_that_is_removed() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    first = Logbook("x", url)
    first.info("first")
    runs: list[Logbook] = []

    def overwrite() -> None:
        runs.append(Logbook("x", url, overwrite=True))
        runs[0].info("second")

    scene = Scene(f"{url}/log_x", nothing, overwrite, lambda: runs[0].mark_complete(), nothing).play()
    lines = [line.partition("] ")[2] for text in scene.read for line in text.splitlines()]
    assert [line.partition(" in place of ")[0] for line in lines] == [
        "INFO Logbook initialized", "INFO first", "INFO Logbook initialized", "INFO second", "INFO Marked complete",
    ]  # fmt: skip
    assert scene.told[-1] == f"{url}/log_x: complete"
    assert len(scene.told) == 2
    store = a_log(b"one\n")
    gone = Scene(store, store.clear).play()
    assert gone.told[0] == f"{store.url}/log.txt was removed"
    assert gone.watched.ends == {store.url: "gone"}


def test_forever_follows_a_resumed_run() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    with pytest.raises(ArithmeticError), Logbook("x", url):
        raise ArithmeticError("diverged")
    runs: list[Logbook] = []

    def resume() -> None:
        runs.append(Logbook("x", url, resume=True))
        runs[0].info("again")

    scene = Scene(
        f"{url}/log_x", resume, *[nothing] * 3, lambda: runs[0].mark_complete(), *[nothing] * 5, forever=True
    ).play()
    assert [word for word in "".join(scene.read).split() if word in ("diverged", "again", "complete")] == [
        "diverged", "again", "complete",
    ]  # fmt: skip
    assert scene.told == [
        f"{url}/log_x: failed: diverged", f"{url}/log_x was resumed", f"{url}/log_x: complete", "interrupted",
    ]  # fmt: skip


def test_workers_that_come_later() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    run = Logbook("x", url)
    scene = Scene(f"{url}/log_x", lambda: run.worker(3).info("here"), run.mark_complete, nothing, nothing, workers=True)
    for news in scene.watched:
        scene.read += [f"{news.log.name}: {line.partition('] ')[2]}" for line in news.lines]
    assert scene.read.count(f"{url}/log_x/workers/3/log.txt: INFO here") == 1
    assert scene.told == [f"{url}/log_x: complete"]


def test_several_runs_end_one_after_the_other() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    runs = [Logbook(name, url) for name in ("a", "b")]
    scene = Scene(url, runs[1].mark_complete, lambda: runs[0].mark_failed("no"), lines=0).play()
    assert scene.told == [f"{url}/log_b: complete", f"{url}/log_a: failed: no"]
    assert ["Marked" in text for text in scene.read] == [True, True]


def test_an_outage_is_reported_once_and_followed_through() -> None:
    inner = a_log(b"one\n")
    faults = FaultyBackend(inner)

    def out() -> None:
        for nth in range(1, 5):
            faults.fail(nth)

    scene = Scene(Store(faults), out, *[nothing] * 5, lambda: inner.append("log.txt", b"two\n"), ended(inner)).play()
    assert scene.read == ["one\n", "two\n"]
    assert len(scene.told) == 3
    assert "no server answered" in scene.told[0]
    assert scene.told[1:] == ["the storage is available again", f"{inner.url}: complete"]


class Refusing(Wrapper):
    """A storage whose reads fail while there is an error."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner.backend)
        self.errors: list[StorageError] = []
        self.looks: list[str] = []

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        self.looks.append(key)
        if not self.errors:
            return super().start_get(key, start, end, version, limit)
        failed: Future[Blob] = Future()
        failed.set_exception(self.errors[0])
        return failed


class RefusingFar(Refusing):
    """The same, but remote."""

    is_local = False


@pytest.mark.parametrize("error", [DeadlineError("late"), StorageError("odd"), UnreachableError("down")])
def test_whatever_kind_of_outage_it_is_reported_once_and_nothing_else_is_asked_meanwhile(error: StorageError) -> None:
    inner = a_log(b"one\n")
    store = Refusing(inner)

    def out() -> None:
        store.errors.append(error)
        store.looks.clear()

    def back() -> None:
        store.errors.clear()
        assert set(store.looks) == {"log.txt"}
        inner.append("log.txt", b"two\n")

    scene = Scene(Store(store), out, *[nothing] * 5, back, ended(inner)).play()
    assert scene.read == ["one\n", "two\n"]
    assert scene.told == [
        f"{error}; waiting for the storage", "the storage is available again", f"{inner.url}: complete",
    ]  # fmt: skip


def test_a_bucket_that_is_missing_ends_it() -> None:
    store = Refusing(a_log(b"one\n"))
    scene = Scene(Store(store), lambda: store.errors.append(ContainerMissingError("no bucket")), nothing)
    with pytest.raises(ContainerMissingError):
        scene.play()


def test_how_often_the_log_and_the_status_are_polled() -> None:
    inner = a_log(b"one\n")
    for store, pause in ((Refusing(inner), 0.3), (RefusingFar(inner), 1.5)):
        logs = list(logs_at(Query(Store(store))))
        waited: list[float] = []

        def wait(seconds: float, waited: list[float] = waited) -> None:
            waited.append(seconds)
            if len(waited) == 4:
                raise KeyboardInterrupt

        store.looks.clear()
        with pytest.raises(KeyboardInterrupt):
            list(Following(logs, wait=wait))
        assert waited[0] == pytest.approx(pause)
        assert [store.looks.count(key) for key in ("log.txt", "metadata.json")] == [5, 2]


def test_an_incomplete_line_of_a_replaced_file_is_dropped() -> None:
    store = a_log(b"[09:00] one\n[09:01] ha")
    other = b"[10:00] other\n" * 5
    scene = Scene(store, lambda: store.write("log.txt", other), ended(store)).play()
    assert scene.read == ["[09:00] one\n", other.decode()]
    store = a_log(b"[09:00] one\n[09:01] ha")
    scene = Scene(store, lambda: store.append("log.txt", b"lf\n"), ended(store), lines=0).play()
    assert scene.read == ["lf\n"]
    store = a_log(b"[09:00] one\n")
    watched = iter(Following(list(logs_at(Query(store))), 0, wait=lambda _: ended(store)()))
    store.write("log.txt", b"[09:00] one\n[09:01] two\n")
    assert next(watched).text == "[09:01] two\n"
    store = a_log(b"[09:00] one\n")
    scene = Scene(store, lambda: store.write("log.txt", other), lines=0)
    assert scene.play().read == [other.decode()]


def test_a_resumed_run_has_no_end() -> None:
    store = a_log(b"one\n")
    ended(store, "failed")()
    scene = Scene(store, nothing, ended(store, "initialized"), *[nothing] * 9, forever=True).play()
    assert scene.told == [f"{store.url}: failed", f"{store.url} was resumed", "interrupted"]
    assert scene.watched.ends == {}


def test_last_lines_however_many_and_however_long() -> None:
    store = open_store("memory://tail-lines")
    for data in (
        b"one\ntwo\nthree",
        b"one\n\nthree\n",
        b"\n",
        b"",
        b"x" * 70_000 + b"\n" + (b"y" * 50_000 + b"\n") * 4,
    ):
        store.write("x.txt", data)
        whole = data.decode().split("\n")
        whole = whole if whole[-1] else whole[:-1]
        for lines in range(7):
            assert tail(f"{store.url}/x.txt", lines) == whole[len(whole) - min(lines, len(whole)) :]


def test_the_run_of_a_file() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    Logbook("a", url, params={"dt": 1}).mark_complete()
    open_store(url).write("notes.txt", b"x\n")
    told = {
        name: [log.run_id for log in logs_at(Query(f"{url}/{name}"))]
        for name in ("log_a", "log_a/log.txt", "log_a/params.yaml", "log_a/*.txt", "*.txt", "notes.txt")
    }
    assert told == {
        "log_a": ["a"], "log_a/log.txt": ["a"], "log_a/params.yaml": [None], "log_a/*.txt": ["a"],
        "*.txt": [None], "notes.txt": [None],
    }  # fmt: skip


def test_an_error_that_is_no_outage_ends_it() -> None:
    store = FaultyBackend(a_log(b"one\n"))
    scene = Scene(Store(store), lambda: store.fail(1, error=lambda: PermissionError("on purpose")), nothing)
    with pytest.raises(AccessError):
        scene.play()


def test_lines_for_scripts() -> None:
    store = a_log(b"one\ntwo\n\nthree")
    ended(store)()
    told: list[str] = []
    assert list(follow(store, 2, tell=told.append)) == ["", "three"]
    assert told == [f"{store.url}: complete"]
    with pytest.raises(MissingError):
        next(follow("memory://nowhere"))


# -- what it costs ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "gcs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


def test_a_poll_is_one_request_for_new_bytes(bucket: Place) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    bucket.put("log_x/metadata.json", b'{"status": "initialized"}')
    bucket.put("log_x/log.txt", lines)
    with counted() as sent:
        assert len(tail(bucket.url, storage_options=bucket.options)) == 10
    assert len(sent) == 2, sent
    counts: list[int] = []
    data: list[int] = []

    async def measured(send: Send, method: str, url: Any, **options: Any) -> Any:
        response = await send(method, url, **options)
        if "log.txt" in str(url):
            data.append(response.content_length)
        return response

    with counted() as sent, intercepted(measured):

        def grown() -> None:
            bucket.put("log_x/log.txt", lines + b"one more\n")
            sent.clear()
            data.clear()

        scene = Scene(
            f"{bucket.url}/log_x",
            sent.clear,
            lambda: counts.append(len(sent)),
            grown,
            lambda: counts.append(len(sent)),
            options=bucket.options,
        )
        scene.play()
    assert scene.read[-1] == "one more\n"
    assert counts == [1, 1]
    assert data[0] == 64 + len(b"one more\n")


# -- as a process ----------------------------------------------------------------------------------------------

WRITER = """
import json, sys
from notata import Logbook
log = Logbook("x", sys.argv[1], storage_options=json.loads(sys.argv[2]))
for line in sys.stdin:
    if line.startswith("fail"):
        log.mark_failed("told to")
        break
    log.info(line.strip())
    log.flush()
    print("stored", flush=True)
else:
    log.mark_complete()
"""


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def say(writer: subprocess.Popen[str], line: str) -> None:
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(f"{line}\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "stored\n"


def until(follower: subprocess.Popen[str], words: str) -> None:
    assert follower.stdout is not None
    while words not in (line := follower.stdout.readline()):
        assert line, "it exited"


@pytest.mark.parametrize("name", ["local", "s3", "gcs"])
def test_a_process_follows_a_run_to_its_end(name: str, request: pytest.FixtureRequest) -> None:
    place = make_place(name, request)
    options = [f"--storage-option={key}={value}" for key, value in place.options.items()]
    command = ["-m", "notata", "tail", "-f", "--interval", "0.05", f"{place.url}/log_x", *options]
    with start("-c", WRITER, place.url, json.dumps(place.options)) as writer:
        say(writer, "step 1")
        with start(*command) as follower:
            until(follower, "INFO step 1")
            say(writer, "step 2")
            until(follower, "INFO step 2")
            writer.communicate("" if name == "local" else "fail\n")
            rest, told = follower.communicate()
    good = name == "local"
    assert (rest.partition("] ")[2], told, follower.returncode) == (
        "INFO Marked complete\n" if good else "ERROR Marked failed: told to\n",
        f"{place.url}/log_x: {'complete' if good else 'failed: told to'}\n",
        0 if good else 1,
    )
    place.store().clear()


def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    run = Logbook("x", tmp_path)
    run.info("step 1")
    with start("-m", "notata", "tail", "-F", str(run.url)) as follower:
        until(follower, "step 1")
        os.kill(follower.pid, signal.SIGINT)
        assert follower.communicate() == ("", "Interrupted\n")
    assert follower.returncode == 130
