"""``notata rerun``: real git repositories, scripts in processes of their own, hostile run folders."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notata import Experiment, Logbook, LogReader, Storage
from notata.errors import ConfigurationError, RunExistsError, RunMissingError
from notata.program import record
from notata.rerun import Plan, plan, rerun
from notata.rerun.checkout import Repository, find_repository
from notata.rerun.packages import editable_folders, installed
from notata.run.redirection import ORIGIN, RERUN, Redirection, redirected
from tests.command import notata

FIT = """\
import argparse
from pathlib import Path
from notata import Logbook
import model
parser = argparse.ArgumentParser()
parser.add_argument("--dt", type=float, default=0.1)
parser.add_argument("--out", default="outputs")
args = parser.parse_args()
with Logbook("fit", args.out, params=vars(args)) as log:
    log.text("result", str(model.calculate(args.dt)))
    log.scalars(value=model.calculate(args.dt))
"""


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a script in a folder of its own."""
    top = tmp_path / "solver"
    (top / "sub").mkdir(parents=True)
    (top / "sub/fit.py").write_text(FIT)
    (top / "sub/model.py").write_text("def calculate(dt):\n    return 2 * dt\n")
    (top / ".gitignore").write_text("outputs/\n__pycache__/\n")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    return top


def environ(**variables: str) -> dict[str, str]:
    return {**os.environ, "NOTATA_CODE": "1", **variables}


def script(repository: Path, *arguments: str, **variables: str) -> None:
    """Run the script as a user does."""
    subprocess.run(
        [sys.executable, "fit.py", *arguments], cwd=repository / "sub", env=environ(**variables), check=True, timeout=60
    )


def tell(url: str | Path, **changes: Any) -> None:
    """Change the metadata of a run, as anyone can who can write to its folder."""
    path = Path(url) / "metadata.json"
    fields = json.loads(path.read_text())
    for name, value in changes.items():
        part, _, own = name.partition("__")
        if own:
            fields.setdefault(part, {})[own] = value
        else:
            fields[part] = value
    path.write_text(json.dumps(fields))


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Path:
    """A run whose folder says that it was made by the script, without running it."""
    with Logbook("fit", tmp_path / "runs", params={"dt": 0.1}) as log:
        log.text("result", "0.2")
    facts = {"commit": git(repository, "rev-parse", "HEAD"), "branch": "main", "dirty": False}
    command = [sys.executable, "fit.py", "--dt", "0.1"]
    tell(str(log.path), environment__git=facts, environment__command=command, environment__cwd=str(repository / "sub"))
    return Path(str(log.path))


# -- the run that takes the place of another one ---------------------------------------------------------------


def told(monkeypatch: pytest.MonkeyPatch, old: str = "a", base: str = "memory://new", **fields: Any) -> None:
    monkeypatch.setenv(RERUN, Redirection(old, "b", base, {"run_id": old, "how": "rerun"}, **fields).encode())


def test_the_first_run_of_the_id_takes_the_new_id_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch)
    other = Logbook("other", "memory://old")
    log = Logbook("a", "memory://old")
    again = Logbook("a", "memory://old")
    assert (other.url, log.url, again.url) == ("memory://old/log_other", "memory://new/log_b", "memory://old/log_a")
    assert log.run_id == "b"
    assert LogReader(log.url).meta[ORIGIN] == {"run_id": "a", "how": "rerun"}
    assert ORIGIN not in LogReader(again.url).meta
    assert RERUN not in os.environ


def test_a_generated_id_is_that_of_a_run_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, "2026-03-01T08-30-00.250Z-4f2a9c")
    assert Logbook("a", "memory://old").run_id == "a"
    assert Logbook(None, "memory://old").run_id == "b"
    told(monkeypatch, "a")
    assert Logbook(None, "memory://old").run_id != "b"


def test_options_of_the_script_are_kept_on_the_same_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Redirection("a", "b", "s3://bucket/new", options={"endpoint_url": "http://h"})
    own = {"key": "k", "secret": "s"}
    assert found.place("s3://bucket/new", own) == ("s3://bucket/new", own)
    assert found.place("s3://other", own) == ("s3://bucket/new", {**own, "endpoint_url": "http://h"})
    assert found.place(str(tmp_path), own) == ("s3://bucket/new", {"endpoint_url": "http://h"})
    storage, options = found.place(Storage("s3://other", own, timeout=5), None)
    assert isinstance(storage, Storage)
    assert (storage.url, storage.timeout, options) == ("s3://bucket/new", 5, None)
    assert storage.options == {**own, "endpoint_url": "http://h"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"old": 1, "new": "b", "base": "c"}', '{"old": "a"}', "[" * 100_000])
def test_what_is_no_redirection_changes_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RERUN, text)
    assert redirected("a") is None
    assert Logbook("a", "memory://old").url == "memory://old/log_a"


def test_a_run_of_an_experiment_can_be_redirected(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment("e", "memory://exp")
    told(monkeypatch, experiment.run_id(dt=0.1), "memory://exp/e/runs")
    with experiment.add(dt=0.1) as log:
        pass
    assert log.url == "memory://exp/e/runs/log_b"
    assert [row["run_id"] for row in experiment.reader.table()] == ["b"]


# -- the worktree ------------------------------------------------------------------------------------------------


def head(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD")


def patch_of(name: str, mode: str = "100644", line: str = "x") -> bytes:
    return (
        f"diff --git a/{name} b/{name}\nnew file mode {mode}\nindex 0000000..1111111\n--- /dev/null\n+++ b/{name}\n"
        f"@@ -0,0 +1 @@\n+{line}\n"
    ).encode()


@pytest.mark.parametrize(
    "patch",
    [
        patch_of("../outside"),
        patch_of("sub/../../outside"),
        patch_of(".git/hooks/post-checkout"),
        patch_of(".GIT/config"),
        patch_of("link", "120000", "../../outside").replace(
            b"+../../outside\n", b"+../../outside\n\\ No newline at end of file\n"
        ),
        patch_of("link", "120000", "/etc").replace(b"+/etc\n", b"+/etc\n\\ No newline at end of file\n")
        + patch_of("link/outside"),
        b"nonsense",
        patch_of("sub/fit.py"),
    ],
)
def test_a_patch_that_leads_out_or_does_not_apply_is_refused(patch: bytes, repository: Path, tmp_path: Path) -> None:
    with Repository(str(repository)).worktree(head(repository)) as worktree:
        above = Path(worktree.path).parent
        with pytest.raises(ConfigurationError, match="the recorded changes of the code"):
            worktree.apply(patch)
        assert not (above / "outside").exists()
    assert not above.exists()
    assert not (tmp_path / "outside").exists()
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_patch_is_applied_and_the_checkout_stays_as_it_is(repository: Path) -> None:
    (repository / "sub/model.py").write_text("def calculate(dt):\n    return 3 * dt\n")
    (repository / "data.bin").write_bytes(bytes(range(256)))
    git(repository, "add", "data.bin")
    patch = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=repository, check=True, capture_output=True).stdout
    git(repository, "reset", "-q", "--hard")
    with Repository(str(repository)).worktree(head(repository)) as worktree:
        worktree.apply(patch)
        assert "3 * dt" in Path(worktree.path, "sub/model.py").read_text()
        assert Path(worktree.path, "data.bin").read_bytes() == bytes(range(256))
    assert "2 * dt" in (repository / "sub/model.py").read_text()
    assert git(repository, "status", "--porcelain") == ""


def test_git_runs_no_hook_and_no_filter(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        path = repository / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {ran}\n")
        path.chmod(0o755)
    git(repository, "-c", "core.hooksPath=/dev/null", "config", "filter.evil.smudge", f"touch {ran}; cat")
    git(repository, "config", "filter.evil.clean", f"touch {ran}; cat")
    git(repository, "config", "core.fsmonitor", f"touch {ran}; false")
    (repository / ".gitattributes").write_text("*.py filter=evil\n")
    git(repository, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "add", ".gitattributes")
    git(repository, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "commit", "-qm", "filters")
    ran.unlink(missing_ok=True)
    commit = subprocess.run(
        ["git", "-c", "core.fsmonitor=false", "rev-parse", "HEAD"],
        cwd=repository,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    found = find_repository(repository, "", commit)
    with found.worktree(commit) as worktree:
        worktree.apply(patch_of("new.py"))
        assert Path(worktree.path, "sub/fit.py").read_text() == FIT
        assert worktree.has_lfs_pointers()
    assert not ran.exists()


def test_untracked_files_are_copied_if_they_are_unchanged(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (repository / "sub/grid.txt").write_text("1 2 3")
    (repository / "link").symlink_to(tmp_path / "secret")
    (repository / "folder").symlink_to(tmp_path)
    names = {"sub/grid.txt": "1 2 3", "link": "outside", "folder/secret": "outside", "../secret": "outside",
             str(tmp_path / "secret"): "outside", ".git/config": "x", "gone": "1"}  # fmt: skip
    entries = [
        {"path": name, "size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        for name, text in names.items()
    ]
    with Repository(str(repository)).worktree(head(repository)) as worktree:
        copied, others = worktree.copy_untracked(json.dumps({"files": entries}).encode(), str(repository))
        assert (copied, others) == (1, ["link", "folder/secret", "gone"])
        assert Path(worktree.path, "sub/grid.txt").read_text() == "1 2 3"
        assert not os.path.lexists(Path(worktree.path, "link"))
        for damaged in (b"", b"[", b"[]", b'{"files": 7}', b'{"files": [7, {"path": 7}]}'):
            assert worktree.copy_untracked(damaged, str(repository)) == (0, [])


def test_a_commit_is_only_looked_for_in_local_repositories(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit = head(repository)
    assert find_repository(None, str(repository / "sub"), commit).top == str(repository)
    assert find_repository(repository / "sub", "", commit).top == str(repository)
    with pytest.raises(ConfigurationError, match="is not in a repository"):
        find_repository(None, "", commit)
    with pytest.raises(ConfigurationError, match="does not have it"):
        find_repository(repository, "", "ab" * 20)


# -- plans -------------------------------------------------------------------------------------------------------


def planned(run: Path, **options: Any) -> Plan:
    return plan(run, **options)


def shown(made: Plan) -> dict[str, str]:
    return dict(made.lines())


def test_a_plan_says_what_would_be_run(run: Path, repository: Path, tmp_path: Path) -> None:
    made = planned(run, params={"dt": "0.2"}, run_id="finer", base_dir=tmp_path / "new")
    facts = shown(made)
    assert facts["command"] == f"{sys.executable} fit.py --dt 0.2"
    assert facts["folder"] == f"sub, in a worktree of {repository}"
    assert facts["commit"] == f"{head(repository)} first"
    assert facts["new run"] == f"finer in {tmp_path / 'new'}"
    assert planned(run).base.url == str(tmp_path / "runs")
    assert planned(run).run_id.startswith("fit-rerun-")
    assert plan(str(tmp_path / "runs/fit")).run.url == str(run)
    assert not (tmp_path / "new").exists()


def test_the_old_checkout_can_be_elsewhere_or_gone(run: Path, repository: Path) -> None:
    def places(folder: str, script: str) -> tuple[str, str, str]:
        tell(run, environment__cwd=folder, environment__command=[sys.executable, script])
        made = planned(run, repository=repository)
        return made.top, made.folder, made.argv[1]

    assert places("/home/ada/solver/sub", "/home/ada/solver/sub/fit.py")[:2] == ("/home/ada/solver", "sub")
    assert places("/home/ada/solver/sub", "fit.py")[:2] == ("/home/ada/solver", "sub")
    assert places("/home/ada/solver", "sub/fit.py")[:2] == ("/home/ada/solver", "")
    outside = places("/data", "/home/ada/solver/sub/fit.py")
    assert outside == ("/home/ada/solver", "/data", "/home/ada/solver/sub/fit.py")
    assert "the folder /data is outside of the checkout" in planned(run, repository=repository).notes


def test_a_script_that_is_started_from_outside_is_that_of_the_worktree(
    run: Path, repository: Path, tmp_path: Path
) -> None:
    made_of = [sys.executable, "../solver/sub/fit.py", "--out", "x"]
    (tmp_path / "elsewhere").mkdir()
    tell(run, environment__cwd=str(tmp_path / "elsewhere"), environment__command=made_of)
    (repository / "sub/model.py").write_text("raise ImportError('of the checkout')")
    done = rerun(plan(run, repository=repository))
    assert (done.status, done.reason) == ("complete", "")
    tell(run, environment__command=[sys.executable, "/home/ada/other.py"])
    with pytest.raises(ConfigurationError, match="is in no checkout that has the commit"):
        plan(run, repository=repository)


def test_packages_installed_from_the_checkout_come_from_the_worktree(tmp_path: Path) -> None:
    top, site = tmp_path / "solver", tmp_path / "env/lib/python3.11/site-packages"
    (top / "src").mkdir(parents=True)
    (site / "solver-1.0.dist-info").mkdir(parents=True)
    (site / "other-1.0.dist-info").mkdir()
    facts = {"url": f"file://{top}", "dir_info": {"editable": True}}
    (site / "solver-1.0.dist-info/direct_url.json").write_text(json.dumps(facts))
    (site / "other-1.0.dist-info/direct_url.json").write_text('{"url": 7, "dir_info": []}')
    (site / "tools.pth").write_text(f"import os; print('not run')\n{top}/tools\n/elsewhere\n")
    found = editable_folders(str(tmp_path / "env/bin/python"), str(top))
    assert sorted(found) == [f"{top}/src", f"{top}/tools"]
    assert installed(str(tmp_path / "env/bin/python")) == {"solver": "1.0", "other": "1.0"}


def test_packages_that_differ_are_named(run: Path) -> None:
    (run / "code").mkdir()
    (run / "code/packages.txt").write_text(
        "moonlight==1.0\nnumpy==0.1\npytest==\nsun @ file:///x  # editable, sun==2.0\n"
    )
    (note,) = [note for note in planned(run).notes if "packages" in note]
    assert "moonlight 1.0 → missing, numpy 0.1 → " in note
    assert note.endswith(", sun 2.0 → missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment__git": None}, "it recorded no commit"),
        ({"environment__git": {"commit": "--output=/tmp/x"}}, "it recorded no commit"),
        ({"environment__command": None}, "it recorded no command line"),
        ({"environment__command": [1, 2]}, "it recorded no command line"),
        (
            {"environment__command": ["python", "fit.py", "--token", "***"]},
            r"redacted in its command line: --token \*\*\*",
        ),
        ({"environment__command": ["rm", "-rf", "x"]}, "'rm' is not a Python interpreter"),
        ({"environment__command": ["python"]}, "interactive session"),
        ({"environment__command": ["python", "-m", "ipykernel_launcher"]}, "interactive session or a notebook"),
        ({"environment__command": ["python", "x" * 300_000]}, "too long to be shown"),
        ({"environment__command": ["python", "-c", "from multiprocessing.spawn import spawn_main"]}, "worker process"),
        ({"environment__git": {"commit": "ab" * 20, "dirty": True}}, "the changes are not recorded"),
        ({"environment__git": {"commit": "ab" * 20}}, "cannot find commit abab"),
    ],
)
def test_what_cannot_be_repeated_is_refused_with_the_reason(changes: dict[str, Any], message: str, run: Path) -> None:
    tell(run, **changes)
    with pytest.raises(ConfigurationError, match=message):
        planned(run)


def test_a_patch_with_redacted_secrets_is_refused(run: Path) -> None:
    (run / "code").mkdir()
    (run / "code/diff.patch").write_text(
        "# Changes\n# Secrets are replaced by *** in:\n#   sub/model.py\n#   \x1b[2J\n# Left out:\n#   a.bin (large)\n"
        "diff --git a/x b/x\n"
    )
    with pytest.raises(ConfigurationError, match=r"redacted in the recorded changes of sub/model\.py, \\x1b\[2J"):
        planned(run)


def test_a_patch_that_is_not_the_recorded_one_is_noted(run: Path) -> None:
    (run / "code").mkdir()
    (run / "code/diff.patch").write_text("diff --git a/x b/x\n")
    environment = json.loads((run / "metadata.json").read_text())["environment"]
    digest = hashlib.sha256(b"diff --git a/x b/x\n").hexdigest()
    for recorded, notes in ((digest, 0), ("0" * 64, 1)):
        tell(run, environment={**environment, "git": {**environment["git"], "patch": {"sha256": recorded}}})
        assert sum("code/diff.patch has changed since the run" in note for note in planned(run).notes) == notes


def test_a_long_list_of_kept_files_does_not_hide_the_command(run: Path) -> None:
    tell(run, command={"argv": ["true"], "keep": [f"{number}.vtk" for number in range(5000)]})
    kept = [text for name, text in planned(run).lines() if name == "keep"]
    assert (len(kept), kept[0], kept[-1]) == (21, "0.vtk", "and 4980 more")


def test_a_parameter_that_the_command_does_not_have_is_refused(run: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no option --re"):
        planned(run, params={"re": "1"})
    tell(run, environment__command=[sys.executable, "fit.py", "--dt", "1", "--dt", "2"])
    with pytest.raises(ConfigurationError, match="has 2 options --dt"):
        planned(run, params={"dt": "1"})


def test_a_run_of_an_experiment_is_refused_unless_forced(run: Path, tmp_path: Path) -> None:
    runs = tmp_path / "e/runs"
    runs.mkdir(parents=True)
    run.rename(runs / "log_fit")
    assert planned(runs / "log_fit").folder == "sub"
    (tmp_path / "e/index.csv").write_text("run_id\n")
    with pytest.raises(ConfigurationError, match="may make all runs of the experiment"):
        planned(runs / "log_fit")
    assert planned(runs / "log_fit", force=True).base.url == str(runs)


def test_a_hostile_command_is_shown_escaped_and_needs_consent(run: Path, tmp_path: Path) -> None:
    evil = "x.py\x1b[2J\n$(touch pwned)\u202e"
    tell(run, environment__command=[sys.executable, evil, "--dt", "1"])
    done = notata("rerun", str(run), folder=tmp_path)
    assert done.returncode == 2
    assert "Not a terminal: pass --yes to confirm." in done.stderr
    assert r"'x.py\x1b[2J\n$(touch pwned)\u202e'" in done.stderr
    dry = notata("rerun", str(run), "--dry-run", folder=tmp_path)
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "\x1b" not in done.stderr + dry.stderr
    assert not list(tmp_path.glob("**/pwned"))


# -- scripts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record changes and packages, which the suite otherwise turns off."""
    monkeypatch.setenv("NOTATA_CODE", "1")


def result(url: str | Path) -> str:
    return LogReader(url).load_text("result")


@pytest.mark.usefixtures("in_code")
def test_a_run_of_a_dirty_checkout_gives_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    (repository / "sub/model.py").write_text("def calculate(dt):\n    return 3 * dt\n")
    script(repository, "--out", str(tmp_path / "runs"))
    (repository / "sub/model.py").write_text("def calculate(dt):\n    return 5 * dt\n")
    old = tmp_path / "runs/log_fit"
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    done = notata("rerun", str(old), "--yes", "--check", "--id", "again", folder=repository)
    assert done.returncode == 0, done.stderr
    new = tmp_path / "runs/log_again"
    assert result(new) == result(old) == "0.30000000000000004"
    digests = [json.loads((url / "manifest.json").read_text())["files"]["artifacts/result.txt"] for url in (old, new)]
    assert digests[0]["sha256"] == digests[1]["sha256"]
    assert "complete" in done.stdout
    assert "3 files equal\n" in done.stdout
    origin = LogReader(new).meta[ORIGIN]
    assert origin == {"run_id": "fit", "url": str(old), "commit": head(repository), "how": "rerun"}
    assert {path: path.read_bytes() for path in before} == before
    assert "5 * dt" in (repository / "sub/model.py").read_text()
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_repeated_run_can_be_repeated_again(run: Path, repository: Path, tmp_path: Path) -> None:
    url, origins = str(run), []
    given = ["--yes", "--json", "--repository", str(repository)]
    for run_id, dt in (("once", "0.2"), ("twice", "0.3"), ("thrice", "0.3")):
        done = notata("rerun", url, *given, "-p", f"dt={dt}", "--id", run_id, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        url = json.loads(done.stdout)["url"]
        origins.append(LogReader(url).meta[ORIGIN])
        assert result(url) == str(2 * float(dt))
    assert [(origin["run_id"], origin.get("script_run_id")) for origin in origins] == [
        ("fit", None),
        ("once", "fit"),
        ("twice", "fit"),
    ]


def test_a_parameter_gets_another_value_and_the_difference_is_told(
    run: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of the worktree, which stays
    (tmp_path / "mesh.txt").write_text("1 2 3")
    unchanged = {"url": str(tmp_path / "mesh.txt"), "size": 5, "sha256": hashlib.sha256(b"1 2 3").hexdigest()}
    inside = {"url": str(repository / "sub/model.py"), "size": (repository / "sub/model.py").stat().st_size}
    (run / "inputs.json").write_text(json.dumps({"inputs": [unchanged, inside]}))
    (repository / "sub/model.py").write_text("changed in the checkout only")
    done = notata("rerun", str(run), "--yes", "--check", "-p", "dt=0.2", "--keep-worktree", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    record = json.loads(done.stdout)
    assert record["status"] == "complete"
    assert "artifacts/result.txt" in record["comparison"]["changed"]
    assert result(record["url"]) == "0.4"
    assert Path(record["worktree"], "sub/fit.py").exists()


def test_a_script_that_fails_is_told(run: Path, tmp_path: Path) -> None:
    (run / "code").mkdir()
    old, new = b"    return 2 * dt", b"    raise ValueError('boom')"
    (run / "code/diff.patch").write_bytes(
        b"diff --git a/sub/model.py b/sub/model.py\n--- a/sub/model.py\n+++ b/sub/model.py\n@@ -1,2 +1,2 @@\n"
        b" def calculate(dt):\n-" + old + b"\n+" + new + b"\n"
    )
    done = notata("rerun", str(run), "--yes", "--id", "bad", folder=tmp_path)
    assert (done.returncode, "failed: boom" in done.stdout) == (1, True)


def test_an_id_that_is_in_use_is_refused_before_the_command_runs(run: Path, repository: Path, tmp_path: Path) -> None:
    made = planned(run, run_id="taken", base_dir=tmp_path / "runs")
    with Logbook("taken", tmp_path / "runs") as log:
        log.text("result", "another")
    with pytest.raises(RunExistsError, match=r"cannot create run 'taken': it already exists at .*log_taken"):
        rerun(made)
    for run_id in ("taken", "fit"):
        done = notata("rerun", str(run), "--yes", "--id", run_id, folder=tmp_path)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert f"cannot create run '{run_id}': it already exists" in done.stderr
    assert result(log.url) == "another"
    assert git(repository, "worktree", "list").count("\n") == 0


def test_changed_inputs_are_told_by_name_and_need_consent(run: Path, repository: Path, tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.txt"
    mesh.write_text("1 2 3")
    entry = {"url": str(mesh), "size": 5, "sha256": hashlib.sha256(b"1 2 3").hexdigest()}
    inside = {"url": str(repository / "sub/model.py"), "size": (repository / "sub/model.py").stat().st_size}
    gone = {"url": str(tmp_path / "gone.h5"), "size": 7}
    asked: list[list[str]] = []

    def agree(changed: list[Any]) -> bool:
        asked.append([*map(str, changed)])
        return False

    mesh.write_text("1 2 4")
    (run / "inputs.json").write_text(json.dumps({"inputs": [entry, inside, gone]}))
    with pytest.raises(ConfigurationError, match="inputs have changed"):
        rerun(plan(run, run_id="other"), agree=agree)
    ((first, second),) = asked
    assert first == f"{mesh}: was SHA-256 {entry['sha256']}, now SHA-256 {hashlib.sha256(b'1 2 4').hexdigest()}"
    assert second == f"{tmp_path / 'gone.h5'}: was 7 bytes, now missing"
    done = notata("rerun", str(run), "--yes", folder=tmp_path)
    assert done.returncode == 2
    assert f"changed  {mesh}: was SHA-256" in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["log_fit"]


def test_the_command_asks_before_it_runs_and_again_for_changed_inputs(run: Path, tmp_path: Path) -> None:
    (run / "inputs.json").write_text(json.dumps({"inputs": [{"url": str(tmp_path / "gone"), "size": 1}]}))
    child, master = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "notata", "rerun", str(run)])
    told, answers = bytearray(), [b"y\n", b"n\n"]
    try:
        while piece := os.read(master, 4096):
            told += piece
            if answers and told.count(b"[y/N]") == 3 - len(answers):
                os.write(master, answers.pop(0))
    except OSError:  # Linux reports a closed other end this way
        pass
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert (
        told.index(b"command  ")
        < told.index(b"Run this command? [y/N]")
        < told.index(b"gone: was 1 bytes, now missing")
    )
    assert b"Run it with these inputs? [y/N]" in told
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["log_fit"]


def test_no_address_of_a_run_is_looked_up_before_consent(run: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/mesh.h5"
        (run / "inputs.json").write_text(json.dumps({"inputs": [{"url": address, "size": 5}]}))
        done = notata("rerun", str(run), folder=tmp_path)
        assert f"input    {address}\n" in done.stderr
        assert "--yes" in done.stderr
        with pytest.raises(BlockingIOError):
            server.accept()


def test_secret_options_do_not_reach_the_script(run: Path, repository: Path, tmp_path: Path) -> None:
    dump = f"import os; open({str(tmp_path / 'dump')!r}, 'w').write(repr(dict(os.environ)))"
    (repository / "sub/fit.py").write_text(dump)
    git(repository, "commit", "-qam", "dump")
    tell(run, environment__git={"commit": head(repository), "dirty": False})
    made = replace(plan(run, run_id="new"), base_options={"secret": "s3cr3tvalue", "endpoint_url": "http://h"})
    with pytest.raises(RunMissingError, match="recorded no run 'new'"):
        rerun(made)
    told = (tmp_path / "dump").read_text()
    assert "http://h" in told
    assert "s3cr3tvalue" not in told


TASK = """\
def solve(log, dt, scheme):
    log.text("result", scheme)
    return {"error": 2 * dt}
"""


def test_a_point_of_a_sweep_is_repeated_alone(repository: Path, tmp_path: Path) -> None:
    (repository / "sub/task.py").write_text(TASK)
    git(repository, "add", "."), git(repository, "commit", "-qm", "task")
    with Experiment("e", tmp_path / "runs").add(dt=0.5, scheme="rk4") as log:
        log.text("result", "rk4")
        log.json("metrics", {"error": 1.0})
    command = [sys.executable, "/bin/notata", "sweep", "run", "task.py:solve", "space.toml"]
    facts = {"commit": head(repository), "dirty": False}
    tell(str(log.path), environment__git=facts, environment__command=command, environment__cwd=str(repository / "sub"))
    done = rerun(plan(log.path, run_id="again", base_dir=tmp_path / "new"))
    assert (done.status, done.reason) == ("complete", "")
    new = LogReader(tmp_path / "new/log_again")
    assert new.load_json("metrics") == {"error": 1.0}
    assert new.params == {"dt": 0.5, "scheme": "rk4"}
    assert new.meta[ORIGIN]["run_id"] == log.run_id
    assert done.comparison is not None
    assert done.comparison.is_equal


# -- programs ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_code")
@pytest.mark.parametrize("where", ["memory", "local"])
def test_a_program_is_repeated_with_its_parameters_and_files(where: str, repository: Path, tmp_path: Path) -> None:
    base = "memory://programs" if where == "memory" else str(tmp_path / "runs")
    (repository / "sub/model.py").write_text("changed\n")
    command = ["sh", "-c", "cat model.py | tee out.txt; echo re={re} >>out.txt; echo res 1e-3"]
    options: dict[str, Any] = {"params": {"re": 1000.0}, "series": ["fit:: res (?P<r>\\S+)"], "keep": ["*.txt"]}
    code = record(command, base, run_id="a", cwd=str(repository / "sub"), echo=False, **options)
    assert code == 0
    (repository / "sub/out.txt").unlink()
    (repository / "sub/model.py").write_text("changed again\n")
    done = rerun(plan(f"{base}/log_a", run_id="b"), echo=False)
    assert done.status == "complete"
    assert done.comparison is not None
    assert done.comparison.is_equal, done.comparison
    old, new = LogReader(f"{base}/log_a"), LogReader(f"{base}/log_b")
    assert new["output.txt"].read_text() == old["output.txt"].read_text()
    assert new["output.txt"].read_text().startswith("changed\n")
    assert new.params == {"re": 1000.0}
    assert new.meta[ORIGIN]["run_id"] == "a"
    finer = rerun(plan(f"{base}/log_a", run_id="c", params={"re": "1e4"}), echo=False)
    assert finer.comparison is not None
    assert not finer.comparison.is_equal
    assert LogReader(finer.url).params == {"re": 10000.0}
    assert "re=1e4\n" in "".join(
        LogReader(finer.url)[key].read_text() for key in LogReader(finer.url).files if key.endswith("out.txt")
    )
    assert not (repository / "sub/out.txt").exists()
    with pytest.raises(ConfigurationError, match=r"the recorded command has no \{dt\}"):
        plan(f"{base}/log_a", params={"dt": "1"})


def test_a_program_that_is_built_needs_a_command_before_it(repository: Path, tmp_path: Path) -> None:
    (repository / "build.sh").write_text("printf '#!/bin/sh\\necho built' >solver; chmod +x solver\n")
    (repository / ".gitignore").write_text("solver\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "build")
    subprocess.run(["sh", "build.sh"], cwd=repository, check=True)
    assert record(["./solver"], tmp_path / "runs", run_id="a", cwd=str(repository), echo=False) == 0
    made = plan(tmp_path / "runs/log_a", run_id="b")
    with pytest.raises(ConfigurationError, match="no such program"):
        rerun(made, echo=False)
    with pytest.raises(ConfigurationError, match="failed with exit code 3"):
        rerun(made, before="exit 3", echo=False)
    done = rerun(made, before="sh build.sh", echo=False)
    assert done.status == "complete"
    assert LogReader(done.url)["output.txt"].read_text() == "built\n"


def test_inputs_and_parents_that_git_ignores_are_found_in_the_checkout(repository: Path) -> None:
    (repository / "sub/fit.py").write_text(
        "from pathlib import Path\nfrom notata import Logbook\n"
        "with Logbook('fit', 'outputs', parent='outputs/log_mesh') as log:\n"
        "    log.text('result', log.input('outputs/log_mesh/artifacts/mesh.txt').read_text())\n"
    )
    git(repository, "commit", "-qam", "second")
    with Logbook("mesh", repository / "sub/outputs") as log:
        log.text("mesh", "1 2 3")
    script(repository)
    old = repository / "sub/outputs/log_fit"
    done = notata("rerun", str(old), "--yes", "--check", "--id", "again", folder=repository)
    assert done.returncode == 0, done.stderr
    new = LogReader(old.with_name("log_again"))
    assert new.meta["parent"] == str(old.with_name("log_mesh"))
    assert [(one.url, one.run_id) for one in new.inputs] == [
        (f"{old.with_name('log_mesh')}/artifacts/mesh.txt", "mesh")
    ]
