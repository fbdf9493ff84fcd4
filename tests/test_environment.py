"""The recorded environment of a run, compared with what git, the system and the packages report themselves."""

from __future__ import annotations

import json
import os
import pickle
import platform
import subprocess
import sys
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from notata import Logbook, formats
from notata.provenance import environment
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.nursery import Script

SECRET = "hunter2-do-not-tell"
TELL = """
import json
from notata.provenance import git
from notata.provenance.environment import capture
from notata import formats
git.SECONDS = 60.0
"""
SHOW = "print(formats.encode(formats.JSON, capture()).decode())\n"


def told(
    script: str = SHOW,
    *arguments: str,
    cwd: str | os.PathLike[str] = "/",
    file: Path | None = None,
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Any:
    """Return what a separate process records about a script in a file, or about its command line."""
    start = ["-c", TELL + script]
    if file is not None:
        file.write_text(TELL + script)
        start = [str(file)]
    command = [sys.executable, "-W", "error", *start, *arguments]
    variables = {**os.environ, **(env or {})}
    if path is not None:
        variables["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def git_state(folder: Path) -> Any:
    """Return the state of git that a process in this folder records; a forked one, in a tenth of the time of `told`."""
    script = Script("tests.given_code", [TELL + SHOW], folder=folder)
    output, errors = script.communicate()
    assert script.returncode == 0, errors
    return json.loads(output)["git"]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=main"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "a repo é"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "src" / "code.py").write_text("a = 1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    git(folder, "checkout", "-q", "-b", "feature/one")
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


# -- this process ------------------------------------------------------------------------------------------


def test_the_process_is_recorded_as_the_system_knows_it(elsewhere: Path) -> None:
    command = [sys.executable, "-c", TELL + SHOW, "one", "é", "--n=3"]
    with subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.PIPE, text=True) as process:
        found = json.loads(process.communicate(timeout=120)[0])
    assert found["pid"] == process.pid
    assert found["argv"] == ["-c", "one", "é", "--n=3"]
    assert found["cwd"] == os.path.realpath(elsewhere)
    assert found["host"] == platform.node()
    assert found["user"] == subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert found["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["python"]["executable"] == sys.executable
    assert found["python"]["implementation"] == "CPython"
    assert platform.system() in found["platform"]
    assert "git" not in found


def test_a_removed_working_folder_is_left_out(elsewhere: Path) -> None:
    found = told(f"import os; os.rmdir({str(elsewhere)!r})\n" + SHOW, cwd=elsewhere)
    assert "cwd" not in found
    assert "git" not in found
    assert found["pid"] > 0


@pytest.mark.parametrize("argv", ["[]", "['a', 5, None, b'x']"])
def test_arguments_of_any_kind_are_recorded(argv: str) -> None:
    assert len(told(f"import sys; sys.argv = {argv}\n" + SHOW)["argv"]) == len(eval(argv))


def test_a_process_without_arguments_is_recorded() -> None:
    assert told("import sys; del sys.argv\n" + SHOW)["argv"] == []


def test_an_argument_that_is_no_text_is_recorded() -> None:
    command = [sys.executable.encode(), b"-c", (TELL + SHOW).encode(), b"\xff\xfe"]
    done = subprocess.run(command, cwd="/", capture_output=True, timeout=120, check=True)
    assert json.loads(done.stdout)["argv"] == ["-c", "\udcff\udcfe"]


# -- packages ----------------------------------------------------------------------------------------------

LATE = """
import sys
from notata import Logbook

log = Logbook("run", sys.argv[1], heartbeat=0)
before = json.loads(log["metadata.json"].read_text())["environment"]
import latesolver
log.mark_failed("x") if sys.argv[2] == "failed" else log.mark_complete()
print(json.dumps([before, json.loads(log["metadata.json"].read_text())["environment"]]))
"""


@pytest.mark.parametrize("end", ["complete", "failed"])
def test_packages_that_a_run_imports_are_recorded_once_it_has_ended(end: str, elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / "latesolver.py").write_text("__version__ = '7.1'\n")
    before, after = told(LATE, str(tmp_path / "runs"), end, path=elsewhere)
    assert "latesolver" not in before["packages"]
    assert after["packages"]["latesolver"] == "7.1"
    assert after == {**before, "packages": {**after["packages"], **before["packages"]}}


def test_packages_cost_no_request_and_none_are_recorded_without_an_environment() -> None:
    store = FaultyBackend(open_store(f"memory://{uuid.uuid4().hex}"))
    for asked in (True, False):
        log = Logbook(f"run-{asked}", store, environment=asked, manifest=False)
        before = len(store.operations)
        log.mark_complete()
        verbs = [operation.verb for operation in store.operations[before:] if operation.key == "metadata.json"]
        assert verbs == ["put"]
        assert ("environment" in json.loads(log["metadata.json"].read_text())) is asked


def test_imported_packages_have_the_versions_that_are_installed() -> None:
    found = told("import numpy, yaml, click, fsspec, upath, dateutil\n" + SHOW)["packages"]
    for name, package in {
        "numpy": "numpy",
        "yaml": "PyYAML",
        "click": "click",
        "fsspec": "fsspec",
        "notata": "notata",
        "dateutil": "python-dateutil",
        "upath": "universal_pathlib",
    }.items():
        assert found[name] == metadata.version(package), name
    assert not found.keys() & {"json", "os", "sys", "__main__", "encodings"}
    assert all(isinstance(version, str) for version in found.values())
    assert list(found) == sorted(found)


def test_packages_that_are_not_imported_are_not_recorded() -> None:
    assert "pandas" not in told(SHOW)["packages"]


def test_the_version_of_a_local_module_is_recorded(elsewhere: Path) -> None:
    (elsewhere / "ownsolver.py").write_text("__version__ = '1.2'\n")
    (elsewhere / "plainsolver.py").write_text("")
    (elsewhere / "oddsolver.py").write_text("__version__ = (1, 2)\n")
    found = told("import ownsolver, plainsolver, oddsolver\n" + SHOW, path=elsewhere)["packages"]
    assert found["ownsolver"] == "1.2"
    assert "plainsolver" not in found


@pytest.mark.parametrize("error", ["RuntimeError('lazy')", "ImportError('optional')", "DeprecationWarning('old')"])
def test_a_module_whose_attributes_raise_is_skipped(error: str, elsewhere: Path) -> None:
    (elsewhere / "lazymodule.py").write_text(f"def __getattr__(name):\n    raise {error}\n")
    found = told("import lazymodule\n" + SHOW, path=elsewhere)
    assert "lazymodule" not in found["packages"]


def test_an_installation_without_a_version_is_not_called_none(elsewhere: Path) -> None:
    (elsewhere / "halfgone.py").write_text("__version__ = '2.0'\n")
    (elsewhere / "halfgone-1.0.dist-info").mkdir()
    (elsewhere / "halfgone-1.0.dist-info" / "METADATA").write_text("Name: halfgone\n")
    found = told("import halfgone\n" + SHOW, path=elsewhere)["packages"]
    assert found.get("halfgone") == "2.0"


# -- secrets -----------------------------------------------------------------------------------------------

UNKNOWN_USER = """
import pwd
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
"""


@pytest.mark.parametrize("before", ["", UNKNOWN_USER], ids=["known user", "unknown user"])
def test_no_environment_variable_is_recorded(before: str, elsewhere: Path) -> None:
    names = "AWS_SECRET_ACCESS_KEY TOKEN USER LOGNAME USERNAME LNAME HOME HOSTNAME VIRTUAL_ENV PWD SHELL LANGUAGE"
    secrets = {name: f"{name.lower()}-{uuid.uuid4().hex}" for name in names.split()}
    found = told(before + SHOW, cwd=elsewhere, env=secrets)
    assert [name for name, value in secrets.items() if value in json.dumps(found)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--password", SECRET],
        ["--passwd", SECRET],
        ["-password", SECRET],
        ["--token", SECRET],
        ["--db-password", SECRET],
        ["--PASSWORD", SECRET],
        ["--api-key", SECRET],
        ["--apikey", SECRET],
        ["--api_key", SECRET],
        ["--secret", SECRET],
        ["--client-secret", SECRET],
        ["--secret-key", SECRET],
        ["--private-key", SECRET],
        ["--aws-secret-access-key", SECRET],
        ["--access-token", SECRET],
        ["--auth", SECRET],
        ["--credentials", SECRET],
        ["--token", f"-{SECRET}"],
        ["--password", "one", "--token", SECRET],
        [f"--password={SECRET}"],
        [f"--token={SECRET}=="],
        [f"api_key={SECRET}"],
        [f"AWS_SECRET_ACCESS_KEY={SECRET}"],
        [f"secret_key={SECRET}"],
        [f"+db.password={SECRET}"],
        [f"--set=db.password={SECRET}"],
        [f"--env=API_TOKEN={SECRET}"],
        [f"s3://user:{SECRET}@bucket/key"],
        [f"s3://{SECRET}@bucket"],
        [f"--url=postgresql://user:{SECRET}@host:5432/db"],
        [f"s3://user:p@{SECRET}@bucket"],
        [f"https://host/path?token={SECRET}"],
        [f"https://host/path?a=1&token={SECRET}"],
    ],
    ids=" ".join,
)
def test_a_secret_argument_is_hidden(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments, "last"])
    shown = environment.capture()["argv"]
    assert SECRET not in json.dumps(shown)
    assert "***" in json.dumps(shown)
    assert (shown[0], shown[-1], len(shown)) == ("run.py", "last", len(arguments) + 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tokens", "512"],
        ["--tokenizer", "bpe"],
        ["--max-tokens=512"],
        ["--author", "Ada"],
        ["--pass-through", "x"],
        ["secret", "x"],
        ["--key=value"],
        ["s3://bucket/a@b"],
        ["a@b.example"],
        ["https://host/a?b=c"],
        ["--verbose", "-n", "3", "--", "x y", ""],
    ],
    ids=" ".join,
)
def test_other_arguments_are_recorded_as_they_are(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    assert environment.capture()["argv"] == ["run.py", *arguments]


def test_what_the_caller_knows_to_be_secret_is_hidden_in_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", f"--seed={SECRET}", SECRET])
    found = environment.capture(lambda text: text.replace(SECRET, "***"))
    assert found["argv"] == ["run.py", "--seed=***", "***"]
    assert json.loads(formats.encode(formats.JSON, found)) == found


# -- git ---------------------------------------------------------------------------------------------------


def test_the_git_state_is_recorded_as_git_reports_it(repo: Path) -> None:
    (repo / "untracked.txt").write_text("x")
    expected = {
        "commit": git(repo, "rev-parse", "HEAD"),
        "branch": git(repo, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": False,
    }
    assert told(cwd=repo)["git"] == expected
    assert told(cwd=repo / "src")["git"] == expected


@pytest.mark.parametrize("change", ["edit", "stage", "delete", "rename", "conflict"])
def test_a_changed_file_is_dirty(change: str, repo: Path) -> None:
    code = repo / "src" / "code.py"
    if change in ("edit", "stage"):
        code.write_text("a = 2\n")
    if change == "stage":
        git(repo, "add", "-A")
    if change == "delete":
        code.unlink()
    if change == "rename":
        git(repo, "mv", "src/code.py", "src/other.py")
    if change == "conflict":
        code.write_text("a = 2\n")
        git(repo, "commit", "-q", "-a", "-m", "second")
        git(repo, "checkout", "-q", "main")
        code.write_text("a = 3\n")
        git(repo, "commit", "-q", "-a", "-m", "third")
        with pytest.raises(subprocess.CalledProcessError):
            git(repo, "merge", "-q", "feature/one")
    found = told(cwd=repo)["git"]
    assert (found["commit"], found["dirty"]) == (git(repo, "rev-parse", "HEAD"), True)


def test_a_stash_and_a_branch_upstream_are_not_dirt(repo: Path) -> None:
    (repo / "src" / "code.py").write_text("a = 2\n")
    git(repo, "stash", "-q")
    git(repo, "config", "status.showStash", "true")
    git(repo, "branch", "-q", "-u", "main")
    assert told(cwd=repo)["git"]["dirty"] is False


def test_a_detached_head_has_no_branch(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    found = told(cwd=repo)["git"]
    assert found["commit"] == git(repo, "rev-parse", "HEAD")
    assert found["branch"] in (None, "(detached)")


def test_a_checkout_without_a_commit_has_none(elsewhere: Path) -> None:
    git(elsewhere, "init", "-q")
    found = told(cwd=elsewhere)["git"]
    assert found["commit"] in (None, "(initial)")
    assert (found["branch"], found["dirty"]) == ("main", False)


def test_the_script_s_checkout_counts_though_the_process_is_elsewhere(repo: Path, elsewhere: Path) -> None:
    found = told(cwd=elsewhere, file=repo / "src" / "run.py")
    assert found["git"]["commit"] == git(repo, "rev-parse", "HEAD")
    assert found["git"]["dirty"] is False


def test_the_script_s_checkout_goes_before_the_working_folder_s(repo: Path, elsewhere: Path) -> None:
    git(elsewhere, "init", "-q")
    found = told(cwd=elsewhere, file=repo / "src" / "run.py")
    assert found["git"]["branch"] == "feature/one"


def test_without_git_no_git_state_is_recorded(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "git" not in told(cwd=repo, env={"PATH": str(tmp_path / "empty")})


def fake_git(folder: Path, script: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("script", ["exit 3", "echo '# branch.oid'", "printf '\\377\\n# branch.'", "kill -9 $$"])
def test_a_failing_git_does_not_stop_a_run(script: str, repo: Path, tmp_path: Path) -> None:
    found = told(cwd=repo, env=fake_git(tmp_path / "bin", script))
    assert found["pid"] > 0


def test_a_git_that_hangs_does_not_stall(repo: Path, tmp_path: Path) -> None:
    script = "from notata.provenance import git\ngit.SECONDS = 0.2\n" + SHOW
    assert "git" not in told(script, cwd=repo, env=fake_git(tmp_path / "bin", "exec sleep 60"))


COMMIT = """
import subprocess
before = capture()["git"]
who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "second"], check=True)
assert before["commit"] != capture()["git"]["commit"]
subprocess.run(["git", "checkout", "-q", "-b", "feature/two"], check=True)
"""


@pytest.mark.parametrize("place", ["checkout", "checkout without a log", "worktree"])
def test_a_commit_and_a_checkout_between_two_runs_are_seen_at_once(place: str, repo: Path, tmp_path: Path) -> None:
    folder = repo
    if place == "worktree":
        folder = tmp_path / "worktree"
        git(repo, "worktree", "add", "-q", "-b", "other", str(folder))
    if place == "checkout without a log":
        git(repo, "config", "core.logAllRefUpdates", "false")
        (repo / ".git" / "logs" / "HEAD").unlink()
    found = told(COMMIT + SHOW, cwd=folder)["git"]
    assert found == {"commit": git(folder, "rev-parse", "HEAD"), "branch": "feature/two", "dirty": False}


def test_a_slow_git_is_asked_less_often(repo: Path, tmp_path: Path) -> None:
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    count = f'echo "$*" >> {tmp_path}/asked; exec {real} "$@"'
    script = "from notata.provenance import git\ngit.FRESH = 0.0\ncapture(); capture()\n"
    told(script + SHOW, cwd=repo, env=fake_git(tmp_path / "bin", count))
    assert len((tmp_path / "asked").read_text().splitlines()) == 2  # once for three runs


def test_the_answer_of_a_slow_git_holds_for_a_limited_time(repo: Path, tmp_path: Path) -> None:
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    once = f'[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; exit 3; }}; exec {real} "$@"'
    script = "from notata.provenance import git\ngit.LONGEST = 0.0\nassert 'git' not in capture()\n"
    found = told(script + SHOW, cwd=repo, env=fake_git(tmp_path / "bin", once))
    assert found["git"]["commit"] == git(repo, "rev-parse", "HEAD")


def test_git_is_asked_without_a_lock_and_without_a_monitor(repo: Path, tmp_path: Path) -> None:
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    count = f'echo "$GIT_OPTIONAL_LOCKS $*" >> {tmp_path}/asked; exec {real} "$@"'
    index = repo / ".git" / "index"
    code = repo / "src" / "code.py"
    os.utime(code, (1, 1))  # git would want to refresh its index
    before = index.read_bytes()
    found = told("capture(); capture()\n" + SHOW, cwd=repo, env=fake_git(tmp_path / "bin", count))
    assert found["git"]["dirty"] is False
    assert index.read_bytes() == before
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2
    assert all(line.startswith("0 ") for line in asked)


# -- a hostile checkout ------------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Create a program that leaves a file behind when it is executed."""
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{tmp_path}/sprung'\nexec cat\n")
    program.chmod(0o755)
    return program


def attributes(repo: Path, line: str) -> None:
    """Commit an attributes file, and make the checkout's file differ from the index in time only."""
    (repo / ".gitattributes").write_text(f"{line}\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "attributes")
    os.utime(repo / "src" / "code.py", (1, 1))


def configure(repo: Path, *settings: tuple[str, str], file: str = "") -> None:
    for name, value in settings:
        git(repo, "config", *(["-f", file] if file else []), name, value)


ODD_NAMES = ["plain", "a.b", "x=y", "a b", "Ünicode", "a=b.clean", "-c", "lfs"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("kind", ["clean", "process"])
def test_no_filter_of_a_checkout_runs(kind: str, name: str, repo: Path, trap: Path) -> None:
    attributes(repo, f'"*" filter={name}' if " " in name else f"* filter={name}")
    configure(repo, (f"filter.{name}.{kind}", str(trap)), (f"filter.{name}.required", "true"))
    configure(repo, ("filter.other.smudge", str(trap)))
    found = git_state(repo)
    assert found["commit"] == git(repo, "rev-parse", "HEAD")
    assert found["branch"] == "feature/one"
    assert not (trap.parent / "sprung").exists()


def test_a_filtered_file_that_changed_is_dirty_and_one_that_did_not_is_not(repo: Path, trap: Path) -> None:
    attributes(repo, "* filter=plain")
    configure(repo, ("filter.plain.clean", str(trap)))
    assert git_state(repo)["dirty"] is False
    (repo / "src" / "code.py").write_text("a = 2\n")
    assert git_state(repo)["dirty"] is True
    assert not (trap.parent / "sprung").exists()


@pytest.mark.parametrize(
    "settings",
    [
        [("core.fsmonitor", "{trap}")],
        [("core.fsmonitor", "true"), ("core.untrackedCache", "true")],
        [("core.hooksPath", "{folder}")],
        [("core.pager", "{trap}"), ("pager.status", "true"), ("pager.config", "{trap}")],
        [("diff.external", "{trap}")],
        [("diff.shown.textconv", "{trap}"), ("diff.shown.command", "{trap}"), ("diff.renames", "copies")],
        [("alias.status", "!{trap}"), ("alias.config", "!{trap}")],
        [("status.submoduleSummary", "true"), ("status.showStash", "true")],
        [("core.editor", "{trap}"), ("core.sshCommand", "{trap}"), ("core.askPass", "{trap}")],
        [("credential.helper", "!{trap}"), ("core.gitProxy", "{trap}"), ("core.alternateRefsCommand", "{trap}")],
        [("gpg.program", "{trap}"), ("log.showSignature", "true")],
        [("core.attributesFile", "{folder}/attributes"), ("filter.plain.clean", "{trap}")],
        [("include.path", "{folder}/included")],
        [("includeIf.onbranch:feature/**.path", "{folder}/included")],
    ],
    ids=lambda settings: settings[0][0],
)
def test_no_setting_of_a_checkout_runs_a_program(
    settings: list[tuple[str, str]], repo: Path, trap: Path, tmp_path: Path
) -> None:
    attributes(repo, "* filter=plain diff=shown")
    (tmp_path / "attributes").write_text("* filter=plain\n")
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "pre-auto-gc"):
        (tmp_path / hook).symlink_to(trap)
        (repo / ".git" / "hooks").mkdir(exist_ok=True)
        (repo / ".git" / "hooks" / hook).symlink_to(trap)
    configure(repo, ("filter.plain.clean", str(trap)), ("core.fsmonitor", str(trap)), file=str(tmp_path / "included"))
    configure(repo, *((name, value.format(trap=trap, folder=tmp_path)) for name, value in settings))
    (tmp_path / "sprung").unlink(missing_ok=True)  # `git config` runs its aliases too
    code = repo / "src" / "code.py"
    for content in ("a = 1\n", "a = 2\n"):
        code.write_text(content)
        found = git_state(repo)
        assert found["branch"] == "feature/one"
        assert found.get("dirty") in (content == "a = 2\n", None)
        assert not (tmp_path / "sprung").exists()


def test_nothing_is_run_in_a_submodule(repo: Path, trap: Path, tmp_path: Path) -> None:
    inner = repo / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "code.py").write_text("b = 1\n")
    attributes_ = inner / ".gitattributes"
    attributes_.write_text("* filter=plain\n")
    git(inner, "add", "-A")
    git(inner, "commit", "-q", "-m", "first")
    git(repo, "-c", "advice.addEmbeddedRepo=false", "add", "inner")
    git(repo, "commit", "-q", "-m", "a submodule")
    configure(inner, ("filter.plain.clean", str(trap)), ("core.fsmonitor", str(trap)))
    os.utime(inner / "code.py", (1, 1))
    assert git_state(repo)["dirty"] is False
    assert not (tmp_path / "sprung").exists()
    git(inner, "-c", "core.fsmonitor=false", "commit", "-q", "--allow-empty", "-m", "second")
    (tmp_path / "sprung").unlink(missing_ok=True)
    assert git_state(repo)["dirty"] is True
    assert not (tmp_path / "sprung").exists()


def test_a_partial_clone_fetches_nothing(repo: Path, trap: Path, tmp_path: Path) -> None:
    configure(
        repo,
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "evil"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", f"ext::{trap} x"),
        ("remote.evil.uploadpack", str(trap)),
        ("protocol.ext.allow", "always"),
        ("core.sshCommand", str(trap)),
    )
    tree = git(repo, "rev-parse", "HEAD^{tree}")
    (repo / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    told(cwd=repo)
    assert not (tmp_path / "sprung").exists()
    configure(repo, ("remote.evil.url", "ssh://host/x"))
    told(cwd=repo)
    assert not (tmp_path / "sprung").exists()


def test_no_git_of_the_checkout_runs(repo: Path, tmp_path: Path, trap: Path) -> None:
    (repo / "git").symlink_to(trap)
    for path in (".", "", "src/.."):
        assert "git" not in told(cwd=repo, env={"PATH": path})
        assert told(cwd=repo, env={"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"})["git"]["branch"] == "feature/one"
    assert not (tmp_path / "sprung").exists()


def test_a_bare_repository_among_the_files_is_ignored(repo: Path, tmp_path: Path, trap: Path) -> None:
    bare = repo / "data"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    configure(bare, ("core.fsmonitor", str(trap)), ("core.worktree", str(repo)), ("core.bare", "false"))
    told(cwd=bare)
    assert not (tmp_path / "sprung").exists()


def test_the_environment_is_encoded_once_and_reads_the_same() -> None:
    first, second = environment.capture(), environment.capture()
    assert first is second
    document = {"run_id": "a", "environment": first, "lease": {"owner": "ä\n", "beats": [1, {}]}}
    whole = formats.encode(formats.JSON, document)
    assert whole == formats.encode(formats.JSON, json.loads(json.dumps(document)))
    assert json.loads(whole) == document
    assert type(pickle.loads(pickle.dumps(first))) is dict
