"""``notata grep`` finds the same lines as the system's `grep`, on a disk and in buckets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata import ConfigurationError, Logbook, NotataError
from notata.cli import main
from notata.search import Files, Match, Patterns, Query, grep, grepping
from notata.search.grepping import searched
from notata.store import Blob, Entry, Store, open_store, prefetching
from notata.store.backends.memory import MemoryBackend
from tests.backends import Place
from tests.cli.conftest import Shelf
from tests.command import notata, process, terminal
from tests.contract.conftest import make_place
from tests.counting import counted
from tests.fleet import ODD, RUNS

TEXT = {".txt", ".json", ".yaml", ".csv", ""}
OWN = {"metadata.json", "manifest.json"}
BINARY = re.compile(rb"(?m)^(?:grep: |Binary file )(.*?)(?:: binary file)? matches\n")


def texts(folder: Path) -> list[str]:
    """Return the files of the fleet that are searched, in the form in which `grep` receives them."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    inside = [key for key in found if any(key.startswith(f"{run}/") for run in RUNS)]
    return [key for key in inside if Path(key).suffix in TEXT and Path(key).name not in OWN]


def real(folder: Path, *arguments: str, files: Sequence[str], binary: list[str] | None = None) -> tuple[int, bytes]:
    """Return the output of `grep` in UTF-8; names of matching binary files are added to `binary`."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["grep", *arguments, "--", *files] if "-e" in arguments else ["grep", *arguments, *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    told = BINARY.findall(done.stdout + done.stderr)  # on standard error since grep 3.5
    (binary if binary is not None else []).extend(name.decode() for name in told)
    assert not BINARY.sub(b"", done.stderr), done.stderr
    return done.returncode, BINARY.sub(b"", done.stdout)


def ours(*arguments: str, binary: Sequence[str] = ()) -> tuple[int, bytes]:
    """Return the output of the command; `binary` lists the files that it must report as matching binary files."""
    done = CliRunner().invoke(main, ["grep", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.stderr == "".join(f"Binary file {name} matches\n" for name in binary)
    return done.exit_code, done.stdout_bytes


def under(url: str, output: bytes) -> bytes:
    """Return the output of `grep` with URLs in place of paths; the odd name keeps its separators and numbers."""
    lines = output.split(b"\n")
    return b"\n".join(f"{url}/".encode() + line if line and line != b"--" else line for line in lines)


def test_output_equals_that_of_grep(shelf: Shelf, tmp_path: Path) -> None:
    done = process("grep", "-n", "ERROR|odd", shelf.url, *shelf.options, folder=tmp_path)
    code, said = real(shelf.local, "-nHE", "ERROR|odd", files=texts(shelf.local))
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.encode() == under(shelf.url, said)
    assert done.stdout.count("\n") >= 6


@pytest.mark.parametrize(
    "options",
    [
        ["-i", "error"],
        ["-c", "e"],
        ["-l", "ERROR"],
        ["-v", "-n", "e"],
        ["-n", "-C1", "ERROR"],
        ["-n", "-A2", "-B1", "-m1", "INFO"],
        ["-w", "-F", "-e", "dt", "-e", "in"],
        ["-x", "converged"],
        ["-h", "CAFÉ", "-i"],
        ["nowhere to be found"],
    ],
    ids=" ".join,
)
def test_grep_prints_the_same_on_every_backend(shelf: Shelf, options: list[str]) -> None:
    code, said = real(shelf.local, "-H", *options, files=texts(shelf.local))
    names = "-h" not in options
    mine = ["--no-filename" if option == "-h" else option for option in options]
    assert ours(*mine, shelf.url, *shelf.options) == (code, under(shelf.url, said) if names else said)


# -- any files, patterns and options -------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(["", "a", "ab", "b a", "aa-b", "é", "É a", "a_b", "  ", "ba\r", "b.a", "x" * 40]), max_size=7
)
ATOMS = st.sampled_from(
    ["a", "b", "ab", ".", "é", "[ab]", "a*", "b+", "a?b", "(a|b) ", "^a", "b$", "^$", r"\.", "x{3}"]
)
EXPRESSIONS = st.lists(ATOMS, min_size=1, max_size=3).map("".join)
PLAIN = st.sampled_from(["a", "ab", "É", "a b", ".", "b a", "^", "-", "aa"])


@st.composite
def files(draw: st.DrawFn) -> dict[str, bytes]:
    names = draw(st.lists(st.sampled_from(["a.txt", "b/c.csv", "d", "é.log"]), min_size=1, max_size=3, unique=True))
    made = {}
    for name in names:
        end = draw(st.sampled_from(["", "\n"]))
        made[name] = ("\n".join(draw(LINES)) + end).encode()
        if draw(st.integers(0, 9)) == 0:
            made[name] += b"a\0b\naa\n"
    return made


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    flags = draw(st.lists(st.sampled_from(["-i", "-v", "-n", "-w", "-x"]), unique=True))
    flags += draw(st.sampled_from([[], [], [], ["-c"], ["-l"], ["-l", "-c"], ["-q"]]))
    for name in draw(st.lists(st.sampled_from(["-A", "-B", "-C", "-m"]), unique=True, max_size=2)):
        flags += [name, str(draw(st.integers(0, 3)))]
    fixed = draw(st.booleans())
    patterns = draw(st.lists(PLAIN if fixed else EXPRESSIONS, min_size=1, max_size=2))
    return [*flags, "-F" if fixed else "-E", *(part for pattern in patterns for part in ("-e", pattern))]


def compared(made: dict[str, bytes], command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"memory://{uuid.uuid4().hex}"
        run = open_store(f"{url}/log_x")
        run.write("metadata.json", b"{}")
        for key, data in made.items():
            path = folder / "log_x" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            run.write(key, data)
        names = [f"log_x/{key}" for key in sorted(made)]
        binary: list[str] = []
        code, said = real(folder, "-H", *command, files=names, binary=binary)
        mine = [part for part in command if part != "-E"]
        all_files = ["--include", "*", "--exclude", "metadata.json"]
        told = [f"{url}/{name}" for name in binary]
        if binary:  # `grep` puts separators around them, but reports them elsewhere
            said = re.sub(rb"(?m)^--\n", b"", said)
        own_code, shown = ours(*mine, *all_files, url, binary=told)
        if binary:
            shown = re.sub(rb"(?m)^--\n", b"", shown)
        assert (own_code, shown) == (code, under(url, said))
        run.clear()


@given(files(), commands())
@settings(max_examples=60)
@example({"a.txt": b"a\na\nb\na\n"}, ["-m", "1", "-A", "2", "-n", "-E", "-e", "a"])
@example({"a.txt": b"ab a\nb\n", "d": b"a"}, ["-w", "-c", "-F", "-e", "a"])
def test_any_files_and_options(made: dict[str, bytes], command: list[str]) -> None:
    compared(made, command)


@given(files(), commands())
@settings(max_examples=30)
def test_files_in_pieces(made: dict[str, bytes], command: list[str]) -> None:
    whole = {key: data for key, data in made.items() if b"\0" not in data}  # results depend on the pieces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetching, "PART", 4)
        patch.setattr(grepping, "PIECE", 5)
        compared(whole or {"d": b"a\n"}, command)


def test_bytes_of_another_encoding_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "log_x").mkdir()
    (tmp_path / "log_x/metadata.json").write_text("{}")
    (tmp_path / "log_x/a.txt").write_bytes("grün\nblau\ngrau".encode("latin-1"))
    code, said = real(tmp_path, "-a", "-H", "gr", files=["log_x/a.txt"])
    assert ours("gr", str(tmp_path)) == (code, under(str(tmp_path), said))
    assert b"gr\xfcn" in said
    match = next(grep("gr", tmp_path))
    assert match.line.encode("utf-8", "surrogateescape") == b"gr\xfcn"
    assert json.loads(ours("gr", "--json", str(tmp_path))[1].split(b"\n")[0])["line"] == "gr\udcfcn"


# -- which files are searched ------------------------------------------------------------------------------------


def found(*arguments: str) -> list[str]:
    return ours("-l", *arguments)[1].decode().splitlines()


def test_which_files_are_searched(shelf: Shelf) -> None:
    url, options = shelf.url, shelf.options
    assert found(".", url, *options) == [
        f"{url}/{key}" for key in texts(shelf.local) if (shelf.local / key).stat().st_size
    ]
    logs = [f"{url}/{key}" for key in texts(shelf.local) if re.search(r"log_[^/]*/(workers/3/)?log\.txt$", key)]
    assert found("--logs", ".", url, *options) == logs
    one = f"{url}/log_notes"
    assert found("--include", "*.json", "--exclude", "manifest.json", ".", one, *options) == [
        f"{one}/artifacts/metrics.json", f"{one}/artifacts/nested/deep/config.json", f"{one}/metadata.json",
    ]  # fmt: skip
    assert found("--include", "artifacts/*.json", ".", one, *options) == [
        f"{one}/artifacts/metrics.json", f"{one}/artifacts/nested/deep/config.json",
    ]  # fmt: skip
    assert found("--exclude", "artifacts/*", "--exclude", "*.yaml", ".", one, *options) == [
        f"{one}/log.txt", f"{one}/workers/3/log.txt",
    ]  # fmt: skip


def test_a_file_that_is_named_is_searched_whatever_it_is(shelf: Shelf) -> None:
    url, options = shelf.url, shelf.options
    assert ours("ERROR", f"{url}/README.txt", *options) == (0, b"runs of spring; ERROR is a word here too\n")
    assert ours("-c", "run", f"{url}/*.txt", *options) == (0, f"{url}/README.txt:1\n".encode())
    model = f"{url}/log_notes/artifacts/model.pkl"
    for place in (model, f"{url}/log_notes/artifacts/*.pkl"):
        assert ours("ERROR", place, *options, binary=[model]) == (0, b"")
    assert ours("-c", "status", f"{url}/log_notes/metadata.json", *options)[0] == 0
    odd = f"{url}/log_{ODD}/log.txt"
    assert ours("-c", "odd", odd, *options) == (0, b"1\n")
    assert ours("-c", "-H", "odd", odd, *options) == (0, f"{odd}:1\n".encode())
    assert ours("-c", "--no-filename", "odd name", f"{url}/log_{ODD}/", "--logs", *options) == (0, b"1\n")


def test_files_that_are_no_text_are_reported_where_their_name_promised_it(tmp_path: Path) -> None:
    run = tmp_path / "log_x"
    (run / "artifacts").mkdir(parents=True)
    (run / "metadata.json").write_text("{}")
    for name in ("log.txt", "artifacts/binary", "artifacts/signal.raw"):
        (run / name).write_bytes(b"needle\0\n")
    assert ours("needle", str(tmp_path), binary=[f"{run}/log.txt"]) == (0, b"")
    assert ours("-c", "needle", str(run)) == (0, f"{run}/artifacts/binary:0\n{run}/log.txt:1\n".encode())
    assert found("--include", "*", "needle", str(tmp_path)) == [
        f"{run}/artifacts/binary", f"{run}/artifacts/signal.raw", f"{run}/log.txt",
    ]  # fmt: skip
    told = json.loads(ours("needle", "--json", str(run))[1])
    assert told == {
        "name": f"{run}/log.txt", "run_id": "x", "key": "log.txt", "number": None, "line": None, "matches": True,
    }  # fmt: skip


# -- what programs get -------------------------------------------------------------------------------------------


def test_json(shelf: Shelf) -> None:
    said = ours("--json", "-B1", "minimum", shelf.url, *shelf.options)[1].decode().splitlines()
    first, second = (json.loads(line) for line in said)
    name = f"{shelf.url}/log_notes/log.txt"
    assert {**second, "line": second["line"][22:]} == {
        "name": name, "run_id": "notes", "key": "log.txt", "number": 4, "matches": True,
        "line": "WARNING step size is at its minimum",
    }  # fmt: skip
    assert (first["number"], first["matches"]) == (3, False)
    count = json.loads(
        ours("--json", "-c", "minimum", f"{shelf.url}/log_notes", "--logs", *shelf.options)[1].split(b"\n")[0]
    )
    assert count == {"name": name, "run_id": "notes", "key": "log.txt", "count": 1}
    only = json.loads(ours("--json", "-l", "minimum", shelf.url, *shelf.options)[1])
    assert only == {"name": name, "run_id": "notes", "key": "log.txt"}


def test_exit_codes(shelf: Shelf, tmp_path: Path) -> None:
    def code(*arguments: str) -> int:
        return notata("grep", *arguments, *shelf.options, folder=tmp_path).returncode

    assert code("ERROR", shelf.url) == 0
    assert code("-q", "ERROR", shelf.url) == 0
    assert code("-rn", "ERROR", shelf.url) == 0
    assert code("-m0", "ERROR", shelf.url) == 1
    assert code("-q", "no such words", shelf.url) == 1
    assert code("ERROR", f"{shelf.url}/empty") == 1
    assert code("ERROR", f"{shelf.url}/nowhere", f"{shelf.url}/log_notes") == 1
    assert code("ERROR", f"{shelf.url}/logs") == 1
    wrong = notata("grep", "(", shelf.url, *shelf.options, folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    reason = "missing ), unterminated subpattern at position 0"
    assert wrong.stderr == f"Error: '(' is not a valid regular expression: {reason}\n"
    assert notata("grep", folder=tmp_path).returncode == 2
    assert code("-A", "-1", "x", shelf.url) == 2


def test_what_is_printed_if_several_things_are_asked_for() -> None:
    store = open_store("memory://grep-asked")
    text = b"".join(b"%d %s\n" % (number, b"x" if number in (3, 4, 9) else b"y") for number in range(1, 12))
    store.write_many({
        "log_a/metadata.json": b"{}", "log_a/log.txt": text, "log_a/artifacts/b.txt": b"x", "log_a/artifacts/c.txt": b""
    })  # fmt: skip
    log, url = f"{store.url}/log_a/log.txt", f"{store.url}/log_a"

    def grep(*arguments: str) -> tuple[int, list[str]]:
        done = notata("grep", *arguments, folder=Path.cwd())
        return done.returncode, done.stdout.splitlines()

    assert grep("-lc", "x", url) == (0, [f"{url}/artifacts/b.txt", log])
    assert grep("-c", "-m", "2", "x", log) == (0, ["2"])
    assert grep("-c", "z", log) == (1, ["0"])
    assert grep("-m", "0", "x", log) == (1, [])
    code, lines = grep("-c", "--json", "z", url)
    assert (code, [json.loads(line)["count"] for line in lines]) == (1, [0, 0, 0])
    assert grep("-q", "x", "nowhere", url)[0] == 0
    assert grep("-q", "z", url)[0] == 1
    assert grep("-C", "1", "-A", "0", "x", log) == (0, ["2 y", "3 x", "4 x", "--", "8 y", "9 x"])
    assert grep("-C", "0", "x", log) == (0, ["3 x", "4 x", "--", "9 x"])
    assert grep("-A", "1", "-m", "2", "-n", "x", log) == (0, ["3:3 x", "4:4 x", "5-5 y"])
    assert grep("-B", "4", "-n", "x", log)[1] == [
        "1-1 y", "2-2 y", "3:3 x", "4:4 x", "5-5 y", "6-6 y", "7-7 y", "8-8 y", "9:9 x",
    ]  # fmt: skip
    assert grep("-A", "1", "-v", "y", log)[1] == ["3 x", "4 x", "5 y", "--", "9 x", "10 y"]
    assert grep("-A", "1", "z", log) == (1, [])
    assert grep("x", f"{url}/artifacts/b.txt", f"{url}/artifacts/c.txt") == (0, [f"{url}/artifacts/b.txt:x"])


@pytest.mark.usefixtures("failing_log_b")
def test_errors_are_reported_and_set_the_exit_code(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    for name in ("a", "b", "c"):
        with Logbook(name, url) as log:
            log.info("needle")
    done = notata("grep", "-c", "needle", url, folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, f"{url}/log_a/log.txt:1\n{url}/log_c/log.txt:1\n")
    assert re.fullmatch(r"Error: cannot read \S+/log_b/log.txt: .*\n", done.stderr)
    assert notata("grep", "-q", "needle", url, folder=tmp_path).returncode == 0
    errors: list[NotataError] = []
    assert [match.run_id for match in grep("needle", url, failed=errors.append)] == ["a", "c"]
    assert len(errors) == 1
    with pytest.raises(NotataError, match="log_b"):
        list(grep("needle", url))


def test_a_file_with_a_name_that_no_storage_takes(tmp_path: Path) -> None:
    with Logbook("x", tmp_path) as log:
        log.info("needle")
    (tmp_path / "log_x/back\\slash.txt").write_text("needle\n")
    done = notata("grep", "-c", "needle", "log_x", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "log_x/log.txt:1\n")
    assert "it contains a backslash" in done.stderr


def test_the_base_folder_and_folders_without_runs(tmp_path: Path) -> None:
    with Logbook("x", tmp_path / "outputs") as log:
        log.info("needle")
    assert notata("grep", "-c", "needle", folder=tmp_path).stdout == "outputs/log_x/log.txt:1\n"
    (tmp_path / "elsewhere").mkdir()
    nothing = notata("grep", "needle", "elsewhere", folder=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr == "Error: there is nothing at elsewhere\n"
    (tmp_path / "elsewhere/notes.txt").write_text("needle\n")
    assert "there is no run at or below elsewhere" in notata("grep", "needle", "elsewhere", folder=tmp_path).stderr


def test_a_terminal_gets_colours_and_no_control_byte_of_a_run(fleet: Path, tmp_path: Path) -> None:
    code, got = terminal("grep", "-n", "-A1", "red|café|at its", f"{fleet}/log_notes", folder=tmp_path)
    assert code == 0
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", got)
    assert rb"artifacts/evil.txt:1:\x1b]0;owned\x07\x1b[31mred\x1b[0m \x9b2J caf" in plain
    assert b"\x1b[31m\x1b[1mred\x1b[0m" in got
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", plain)
    code, bare = terminal("grep", "-n", "-A1", "red|café|at its", f"{fleet}/log_notes", folder=tmp_path, NO_COLOR="1")
    assert (code, bare) == (0, plain)


def test_a_closed_pipe_ends_grep_quietly(tmp_path: Path) -> None:
    run = tmp_path / "log_x"
    run.mkdir()
    (run / "metadata.json").write_text("{}")
    (run / "log.txt").write_text("needle in a haystack\n" * 50_000)
    with subprocess.Popen(
        [sys.executable, "-m", "notata", "grep", "needle", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline() == f"{run}/log.txt:needle in a haystack\n".encode()
        started.stdout.close()
        assert (started.stderr.read(), started.wait(60)) == (b"", 141)


# -- what it costs ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "gcs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


def test_one_listing_and_one_request_for_each_file_that_is_searched(bucket: Place) -> None:
    for name in ("log_a", "log_b"):
        for key in ("metadata.json", "log.txt", "artifacts/notes.txt", "data/x.npy", "artifacts/empty.txt"):
            bucket.put(f"{name}/{key}", b"" if "empty" in key else b"needle\n")
    with counted() as sent:
        assert len(list(grep("needle", bucket.url, storage_options=bucket.options))) == 4
    assert len(sent) == 1 + 4, sent
    with counted() as sent:
        assert len(list(grep("needle", bucket.url, files=Files(logs=True), storage_options=bucket.options))) == 2
    assert len(sent) == 1 + 2, sent


def test_of_a_large_file_no_more_is_read_than_is_wanted(bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("log_a/metadata.json", b"{}")
    bucket.store().write("log_a/log.txt", b"needle\n" + b"hay\n" * 4_300_000 + b"needle")
    how: dict[str, Any] = {"storage_options": bucket.options}
    with counted() as sent:
        assert [match.number for match in grep("needle", bucket.url, most=1, **how)] == [1]
    assert len(sent) == 1 + 1, sent
    with counted() as sent:
        assert [file.any() for file in searched(Query(bucket.url, **how), Patterns("needle"), Files())] == [True]
    assert len(sent) == 1 + 1, sent
    with counted() as sent:
        assert [match.number for match in grep("needle", bucket.url, **how)] == [1, 4_300_002]
    assert len(sent) == 1 + 3, sent


class Slow(MemoryBackend):
    """Reads that end only when the test releases them."""

    coming: list[tuple[str, int, Future[Blob]]]

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        future: Future[Blob] = Future()
        self.coming.append((key, (end or 0) - start, future))
        return future


def slow(files: dict[str, bytes]) -> Slow:
    store = Slow(uuid.uuid4().hex)
    store.coming = []
    Store(store).write_many(files)
    return store


def test_matches_are_printed_while_later_files_are_read() -> None:
    store = slow({"metadata.json": b"{}", **{f"{number:03}.txt": b"needle\n" for number in range(100)}})
    matches = grep("needle", Store(store))
    got: list[Match] = []
    first = threading.Thread(target=lambda: got.append(next(matches)))
    first.start()
    while not store.coming or len(store.coming) < 32:
        first.join(0.001)
    store.coming[0][2].set_result(Blob(b"needle\n", 7, ""))
    first.join()
    assert [match.key for match in got] == ["000.txt"]
    assert len(store.coming) == 32
    assert isinstance(matches, Generator)
    matches.close()
    assert all(future.cancelled() for _, _, future in store.coming[1:])


def test_only_some_megabytes_are_in_flight() -> None:
    store = slow({"metadata.json": b"{}", **{f"{number:03}.txt": b"x" * 6_000_000 for number in range(9)}})
    done: list[int] = []
    reading = threading.Thread(target=lambda: done.append(len(list(grep("needle", Store(store))))))
    reading.start()
    for number in range(9):
        while len(store.coming) <= number:
            reading.join(0.001)
        open_ones = [size for _, size, future in store.coming if not future.done()]
        assert sum(open_ones) <= 32 * 2**20
        store.coming[number][2].set_result(Blob(b"hay", 3, ""))
    reading.join()
    assert done == [0]


def test_a_line_of_many_megabytes() -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.write_many(
        {"log_x/metadata.json": b"{}", "log_x/log.txt": b"a\n" + b"x" * 20_000_000 + b"needle" + b"y\nb\n"}
    )
    matches = list(grep("needle", store))
    assert [(match.number, len(match.line)) for match in matches] == [(2, 20_000_007)]
    store.clear()


class Many(MemoryBackend):
    """More runs than a test has time to write."""

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry]:
        for number in range(10_000):
            for key in ("log.txt", "metadata.json"):
                yield Entry(f"log_{number:05}/{key}", 7, datetime.now(UTC), "")

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        return Blob(b"needle\n" if key.endswith("7/log.txt") else b"strawy\n", 7, "")


def test_ten_thousand_runs() -> None:
    found = [match.run_id for match in grep("needle", Store(Many("many")))]
    assert found == [f"{number:05}" for number in range(7, 10_000, 10)]


# -- for scripts -----------------------------------------------------------------------------------------------


def test_spans_and_lazy_errors() -> None:
    with Logbook("spans", f"memory://{uuid.uuid4().hex}") as log:
        log.text("notes", "one two\nthree")
    url = str(log.url)
    match = next(grep(["o[nw]", "t"], url, files="notes.txt"))
    assert (match.key, match.spans, match.binary) == ("artifacts/notes.txt", [(0, 2), (4, 5)], False)
    assert [match.line for match in grep(Patterns("one", invert=True), url, files="*/notes.txt")] == ["three"]
    with pytest.raises(ConfigurationError, match="not a valid regular expression"):
        grep("(", url)
    assert [match.line for match in grep(Patterns("(?i)THREE", words=True), url)] == ["three"]


def test_ctrl_c_ends_a_pattern_that_would_take_for_ever(tmp_path: Path) -> None:
    (tmp_path / "quick.txt").write_text("aaa\n")
    (tmp_path / "slow.txt").write_text("a" * 64 + "!\n")  # the pattern can split this line in 2**64 ways
    command = [sys.executable, "-m", "notata", "grep", "--no-filename", "(a+)+$", "quick.txt", "slow.txt"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as searching:
        assert searching.stdout is not None
        assert searching.stdout.readline() == b"aaa\n"  # the command has reached the other file by now
        searching.send_signal(signal.SIGINT)
        out, error = searching.communicate(timeout=120)
    assert (searching.returncode, out, error) == (130, b"", b"Interrupted\n")
