"""``--status`` and ``--where``: commands act on matching runs only, and read nothing else."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Logbook, NotataError, RunMissingError, Storage
from notata.run.listings import name_of
from notata.search import (
    Files,
    Query,
    Run,
    contents,
    follow,
    grep,
    overviews,
    removable,
    remove,
    runs,
    tail,
    usage,
    verdicts,
)
from notata.search.target import Target
from notata.store import Blob, open_store
from notata.store.backends.memory import MemoryBackend
from tests.cli.conftest import Shelf
from tests.command import notata


@pytest.fixture
def sweep() -> str:
    """Create three runs: the first is complete, the others have failed."""
    url = f"memory://{uuid.uuid4().hex}"
    for name, dt in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
        with suppress(ArithmeticError), Logbook(name, url, params={"dt": dt}) as log:
            log.info("a step of %g", dt)
            if dt > 0.15:
                raise ArithmeticError("unstable")
    return url


def failed(folder: Path) -> list[str]:
    """Return the runs on a disk whose metadata.json says failed."""
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
    assert sorted(name_of(key) for key, _, _ in asked) == ["log.txt"] + ["metadata.json"] * 3


def test_filters_are_those_of_ls_and_of_the_functions(sweep: str, tmp_path: Path) -> None:
    both = ("--status", "failed", "--status", "died", "--where", "dt < 0.3")
    done = notata("grep", "--no-filename", "-c", "--logs", "step", sweep, *both, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")
    matches = grep("step", sweep, status=["failed"], where=lambda run: run.run_id > "b", files=Files(logs=True))
    assert [match.run_id for match in matches] == ["c"]
    assert tail(sweep, 1, status="complete")[0].endswith("INFO Marked complete")
    assert list(follow(sweep, 1, where="dt > 0.3"))[-1].endswith("unstable")
    assert [verdict.run_id for verdict in verdicts(sweep, status=["failed"], where="dt < 0.3")] == ["b"]
    assert {one.name for one in usage(sweep, by="run", where=lambda run: run.run_id > "b")} == {f"{sweep}/log_c"}
    found = contents(f"{sweep}/*/log.txt", status="failed", where=lambda run: run.params["dt"] < 0.3)
    assert [content.run_id for content in found] == ["b"]
    with pytest.raises(ConfigurationError, match="unknown status 'done'"):
        grep("step", sweep, status="done")
    with pytest.raises(ConfigurationError, match="unknown status 'done'"):
        verdicts(sweep, status="done")


def test_a_query_is_written_once_for_several_functions(sweep: str) -> None:
    told: list[NotataError] = []
    query = Query([sweep, f"{sweep}/nowhere"], status="failed", where="dt < 0.3", failed=told.append)
    assert [run.run_id for run in runs(query)] == ["b"]
    assert len(told) == 1
    assert [match.run_id for match in grep("step", query)] == ["b"]
    assert {one.name for one in usage(query, by="run")} == {f"{sweep}/log_b"}
    assert tail(query, 1)[0].endswith("unstable")
    assert [one.run.run_id for one in overviews(Query(sweep, where="dt > 0.3"))] == ["c"]
    assert list(overviews(Query(sweep, where="dt > 1"))) == []
    with pytest.raises(ConfigurationError, match="pass limit to Query"):
        runs(query, limit=0)
    assert [run.run_id for run in removable(Query(sweep, where="dt > 0.3"), recursive=True)] == ["c"]
    assert len(told) == 4


@pytest.mark.parametrize("options", [{"status": "failed"}, {"where": "dt > 0.3"}, {"storage_options": {"anon": True}}])
def test_a_filter_beside_a_query_is_refused_and_nothing_removed(sweep: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"pass {next(iter(options))} to Query"):
        remove(Query(sweep), recursive=True, **options)
    assert [run.run_id for run in runs(sweep)] == ["a", "b", "c"]


def test_a_target_has_its_own_options_and_a_run_that_was_not_found_no_folder(sweep: str) -> None:
    assert [run.run_id for run in runs([Storage(f"{sweep}/log_a"), f"{sweep}/log_c"])] == ["a", "c"]
    assert "hunter2" not in repr(Target("s3://bucket", {"secret": "hunter2"}))
    [found] = runs(Target(f"{sweep}/log_a"))
    assert found.reader.params == {"dt": 0.1}
    with pytest.raises(ConfigurationError, match="the folder of this run is unknown"):
        assert Run("a", "a", "memory://a").store
    with pytest.raises(ConfigurationError, match="expected a URL, a path or a UPath, not an int"):
        runs(3)  # type: ignore[arg-type]


def test_what_no_run_has_and_what_makes_no_sense_is_told(sweep: str, tmp_path: Path) -> None:
    for command in (("grep", "step"), ("tail",), ("rm", "-r", "--yes")):
        done = notata(*command, sweep, "--where", "dtt > 0.1", folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Note: no run has dtt; similar names: dt\n")
        assert notata(*command, sweep, "--where", "dt >", folder=tmp_path).returncode == 2
        assert notata(*command, sweep, "--status", "done", folder=tmp_path).returncode == 2
        done = notata(*command, sweep, "--status", "died", folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")


def test_a_file_that_was_named_is_of_no_run_to_filter(sweep: str, tmp_path: Path) -> None:
    done = notata("grep", "step", f"{sweep}/log_b/log.txt", "--status", "failed", folder=tmp_path)
    name = f"{sweep}/log_b/log.txt"
    told = (
        f"cannot filter {name}: it is a single file, and its run is unknown; pass a pattern that matches files instead"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {told}\n")
    with pytest.raises(RunMissingError):
        tail(f"{sweep}/log_b/log.txt", status="failed")
    done = notata("grep", "-c", "step", f"{sweep}/log_*/log.txt", "--where", "dt > 0.3", folder=tmp_path)
    assert done.stdout == f"{sweep}/log_c/log.txt:1\n"


def test_rm_takes_only_runs_that_are_meant(sweep: str, tmp_path: Path) -> None:
    store = open_store(sweep)

    def there() -> set[str]:
        return {entry.key.partition("/")[0] for entry in store.list()}

    done = notata("rm", f"{sweep}/log_a", "--yes", "--status", "failed", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "Nothing was removed: no run matches the filter\n")
    assert notata("rm", sweep, "--yes", "--status", "failed", folder=tmp_path).returncode == 2  # it takes -r
    assert there() == {"log_a", "log_b", "log_c"}
    assert [run.run_id for run in removable(sweep, recursive=True, status="failed", where="dt > 0.3")] == ["c"]
    store.write("log_c/metadata.json", b"broken")  # so its parameters are unknown
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


def test_verify_reads_files_of_runs_of_a_status_alone(
    sweep: str, tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    open_store(sweep).write("log_b/params.yaml", b"dt: 0.3")
    done = notata("verify", sweep, "--status", "complete", "--json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["run_id"] for line in done.stdout.splitlines()] == ["a"]
    read = [name_of(key) for key, _, _ in asked]
    assert (read.count("manifest.json"), read.count("log.txt"), read.count("params.yaml")) == (1, 1, 1)
    assert notata("verify", sweep, "--status", "failed", folder=tmp_path).returncode == 1
    assert notata("verify", sweep, "--where", "dt > 0.35", folder=tmp_path).returncode == 0


def test_verify_that_looked_at_no_run_does_not_say_that_all_is_well(sweep: str, tmp_path: Path) -> None:
    done = notata("verify", sweep, "--status", "died", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Nothing was verified: no run matches\n"
    done = notata("verify", sweep, "--where", "dtt > 0.1", folder=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "Note: no run has dtt; similar names: dt")
    done = notata("verify", "memory://nothing-to-verify", "--status", "died", folder=tmp_path)
    assert done.stdout.endswith(": cannot tell: there is no run at or below memory://nothing-to-verify\n")


def test_verify_reports_a_run_that_may_match_and_cannot_be_read(
    sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MemoryBackend.get

    def get(
        self: MemoryBackend, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        if self._file(key).endswith("log_b/metadata.json"):
            raise OSError("on purpose")
        return whole(self, key, start, end, version, limit)

    monkeypatch.setattr(MemoryBackend, "get", get)
    done = notata("verify", sweep, "--status", "failed", folder=tmp_path)
    assert done.returncode == 3
    told = done.stdout.splitlines()
    assert told[0].startswith(f"{sweep}: cannot tell: cannot read {sweep}/log_b/metadata.json: ")
    assert [line.partition(": ok")[0] for line in told[1:]] == [f"{sweep}/log_c"]


def test_du_counts_what_lies_in_runs_of_a_status(shelf: Shelf, tmp_path: Path) -> None:
    sizes = {
        run: sum(path.stat().st_size for path in (shelf.local / run).rglob("*") if path.is_file())
        for run in failed(shelf.local)
    }
    done = notata("du", "--by", "run", shelf.url, "--status", "failed", *shelf.options, folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{size}\t{shelf.url}/{run}" for run, size in sizes.items()]
    for by in (("-s",), ("-s", "--sort", "size")):
        done = notata("du", *by, shelf.url, "--status", "failed", *shelf.options, folder=tmp_path)
        assert done.stdout == f"{sum(sizes.values())}\t{shelf.url}\n"
    done = notata("du", "--by", "suffix", "--json", shelf.url, "--status", "failed", *shelf.options, folder=tmp_path)
    assert sum(json.loads(line)["size"] for line in done.stdout.splitlines()) == sum(sizes.values())


def test_du_and_cat_of_no_run_of_a_kind_find_nothing(sweep: str, tmp_path: Path) -> None:
    for command in (
        ("du", sweep),
        ("du", "--by", "run", sweep),
        ("du", f"{sweep}/log_*"),
        ("cat", f"{sweep}/*/log.txt"),
    ):
        done = notata(*command, "--status", "died", folder=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", ""), command
        done = notata(*command, "--where", "dtt > 1", folder=tmp_path)
        assert (done.returncode, done.stderr) == (1, "Note: no run has dtt; similar names: dt\n"), command


def test_cat_prints_files_of_runs_that_are_meant(shelf: Shelf, tmp_path: Path) -> None:
    done = notata("cat", f"{shelf.url}/**/log.txt", "--status", "failed", *shelf.options, folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "".join((shelf.local / run / "log.txt").read_text() for run in failed(shelf.local))


def test_cat_of_a_single_file_has_no_run_to_filter(sweep: str, tmp_path: Path) -> None:
    done = notata("cat", f"{sweep}/log_b/log.txt", "--status", "failed", folder=tmp_path)
    name = f"{sweep}/log_b/log.txt"
    told = (
        f"cannot filter {name}: it is a single file, and its run is unknown; pass a pattern that matches files instead"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {told}\n")
    done = notata("cat", f"{sweep}/nothing", "--status", "failed", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"Error: there is no run at or below {sweep}/nothing\n")
    done = notata("cat", sweep, "--where", "dt > 0.3", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {sweep} is a folder, not a file; it contains: log_c/")
