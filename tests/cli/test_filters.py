"""``--status`` and ``--where`` of commands that do something with runs: only with those, and nothing else is read."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from notata import ConfigurationError, Logbook, RunMissingError
from notata.listings import name_of
from notata.search import follow, grep, removable, tail
from notata.store import open_store
from tests.cli.conftest import Shelf
from tests.command import notata


@pytest.fixture
def sweep() -> str:
    """Three runs: the first is complete, the others have failed."""
    url = f"memory://{uuid.uuid4().hex}"
    for name, dt in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
        with suppress(ArithmeticError), Logbook(name, url, params={"dt": dt}) as log:
            log.info("a step of %g", dt)
            if dt > 0.15:
                raise ArithmeticError("unstable")
    return url


def failed(folder: Path) -> list[str]:
    """The runs on a disk whose metadata.json says so."""
    found = []
    for path in sorted(folder.rglob("metadata.json")):
        with suppress(ValueError):
            if json.loads(path.read_text())["status"] == "failed":
                found.append(path.parent.relative_to(folder).as_posix())
    return found


def test_grep_and_tail_look_into_runs_of_a_status(shelf: Shelf, tmp_path: Path) -> None:
    names = [f"{shelf.url}/{run}/log.txt" for run in failed(shelf.local)]
    assert names
    done = notata("grep", "-l", "--logs", "", shelf.url, "--status", "failed", *shelf.options, folder=tmp_path)
    assert (done.stderr, done.stdout.splitlines()) == ("", names)
    done = notata("tail", "--json", "-n1", shelf.url, "--status", "failed", *shelf.options, folder=tmp_path)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == names


def test_nothing_is_read_of_other_runs(sweep: str, tmp_path: Path, asked: list[tuple[str, int, int]]) -> None:
    done = notata("grep", "-c", "step", sweep, "--logs", "--status", "failed", folder=tmp_path)
    assert done.stdout == f"{sweep}/log_b/log.txt:1\n{sweep}/log_c/log.txt:1\n"
    assert sorted(name_of(key) for key, _, _ in asked) == ["log.txt"] * 2 + ["metadata.json"] * 3
    asked.clear()
    assert notata("tail", "-q", "-n1", sweep, "--where", "dt > 0.3", folder=tmp_path).stdout.count("\n") == 1
    read = ["log.txt"] + ["metadata.json"] * 3 + ["params.yaml"] * 3  # as no experiment has their rows
    assert sorted(name_of(key) for key, _, _ in asked) == read


def test_filters_are_those_of_ls_and_of_the_functions(sweep: str, tmp_path: Path) -> None:
    both = ("--status", "failed", "--status", "died", "--where", "dt < 0.3")
    done = notata("grep", "--no-filename", "-c", "--logs", "step", sweep, *both, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")
    matches = grep("step", sweep, status=["failed"], where=lambda run: run.run_id > "b", logs=True)
    assert [match.run_id for match in matches] == ["c"]
    assert tail(sweep, 1, status="complete")[0].endswith("INFO Marked complete")
    assert list(follow(sweep, 1, where="dt > 0.3"))[-1].endswith("unstable")
    with pytest.raises(ConfigurationError, match="no status 'done'"):
        grep("step", sweep, status="done")


def test_what_no_run_has_and_what_makes_no_sense_is_told(sweep: str, tmp_path: Path) -> None:
    for command in (("grep", "step"), ("tail",), ("rm", "-r", "--yes")):
        done = notata(*command, sweep, "--where", "dtt > 0.1", folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Note: no run has dtt; close to it: dt\n")
        assert notata(*command, sweep, "--where", "dt >", folder=tmp_path).returncode == 2
        assert notata(*command, sweep, "--status", "done", folder=tmp_path).returncode == 2
        done = notata(*command, sweep, "--status", "died", folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")


def test_a_file_that_was_named_is_of_no_run_to_filter(sweep: str, tmp_path: Path) -> None:
    done = notata("grep", "step", f"{sweep}/log_b/log.txt", "--status", "failed", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"Error: there is no run at {sweep}/log_b/log.txt, or below it\n")
    with pytest.raises(RunMissingError):
        tail(f"{sweep}/log_b/log.txt", status="failed")
    done = notata("grep", "-c", "step", f"{sweep}/log_*/log.txt", "--where", "dt > 0.3", folder=tmp_path)
    assert done.stdout == f"{sweep}/log_c/log.txt:1\n"


def test_rm_takes_only_runs_that_are_meant(sweep: str, tmp_path: Path) -> None:
    store = open_store(sweep)

    def there() -> set[str]:
        return {entry.key.partition("/")[0] for entry in store.list()}

    done = notata("rm", f"{sweep}/log_a", "--yes", "--status", "failed", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "Nothing was removed: no run there is of this kind\n")
    assert notata("rm", sweep, "--yes", "--status", "failed", folder=tmp_path).returncode == 2  # it takes -r
    assert there() == {"log_a", "log_b", "log_c"}
    assert [run.run_id for run in removable(sweep, recursive=True, status="failed", where="dt > 0.3")] == ["c"]
    store.write("log_c/metadata.json", b"broken")  # so nothing tells what its parameters are
    done = notata("rm", "-r", sweep, "--yes", "--where", "not dt < 0.15", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert there() == {"log_a", "log_c"}
    assert notata("rm", "-r", sweep, "--yes", "--status", "unreadable", folder=tmp_path).returncode == 0
    assert there() == {"log_a"}


def test_several_statuses_have_commas_between(sweep: str, tmp_path: Path) -> None:
    died = open_store(sweep).below("log_died")
    died.write("manifest.json", b"{}")  # without metadata.json
    for given in (
        ("complete,unreadable",),
        ("complete", "unreadable"),
        ("complete, unreadable",),
        ("complete,died", "unreadable,complete"),
    ):
        options = [f"--status={one}" for one in given]
        done = notata("ls", sweep, *options, folder=tmp_path)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [f"{sweep}/log_a", died.url]
    done = notata("grep", "--logs", "of", sweep, "--status", "failed,complete", folder=tmp_path)
    assert done.stdout.count("a step of") == 3
    for wrong, word in (("failed,done", "done"), ("failed,", ""), ("failed died", "failed died")):
        done = notata("ls", sweep, "--status", wrong, folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{word!r} is not one of 'running', 'complete', 'failed', 'died'" in done.stderr


def test_a_shell_completes_each_of_several_statuses(tmp_path: Path) -> None:
    def completed(word: str) -> list[str]:
        line = f"notata\nls\n--status\n{word}"
        environment = {"COMP_WORDS": line, "COMP_CWORD": "3", "_NOTATA_COMPLETE": "bash_complete"}
        told = notata(folder=tmp_path, **environment).stdout.splitlines()
        return [line.removeprefix("plain,") for line in told]

    assert completed("un") == ["unreadable"]
    assert completed("failed,r") == ["failed,running", "failed,replacing"]
    assert "failed,died,failed" not in completed("failed,died,")
