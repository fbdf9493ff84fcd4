"""The patch, the untracked files and the packages of a run, compared with what git, pip and hashlib say themselves."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import types
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notata import Logbook
from notata.provenance import git as asked
from notata.provenance.code import Code, Extent, code_of
from notata.provenance.packages import installed_packages
from notata.provenance.scheduler import VARIABLES, job_facts, job_variables
from tests.nursery import Script
from tests.test_environment import attributes, configure, git

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, pipes and modes")

PASSWORD = "hunter2-do-not-tell"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nc29tZXRoaW5nIHByaXZhdGU\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture(autouse=True)
def _ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git is asked for each run, as tests change files without a commit."""
    monkeypatch.setattr(asked, "LONGEST", 0.0)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "a repo é"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "src" / "code.py").write_text("a = 1\nb = 2\nc = 3\n")
    (folder / "conf.ini").write_text("[db]\nhost = x\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def code(folder: Path, extent: Extent = "all") -> Code:
    return code_of(asked.checkout_of(str(folder)), extent)


def patch_of(found: Code) -> bytes:
    return found.files.get("code/diff.patch", b"")


def untracked_of(found: Code) -> dict[str, Any]:
    document = json.loads(found.files["code/untracked.json"])
    return {file["path"]: file for file in document["files"]}


State = dict[str, tuple[str, bytes]]


def tree(folder: Path) -> State:
    """Return kind and content of each file of a checkout."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == ".git" or name.startswith(".git/") or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[name] = "link", os.fsencode(os.readlink(path))
        else:
            found[name] = "755" if path.stat().st_mode & stat.S_IXUSR else "644", path.read_bytes()
    return found


def applied(repo: Path, patch: bytes, worktree: Path) -> State:
    """Return the files of a worktree at the commit after git has applied the patch."""
    if not worktree.exists():
        git(repo, "worktree", "add", "-q", "--detach", str(worktree), "HEAD")
    git(worktree, "checkout", "-q", "-f", "--detach", git(repo, "rev-parse", "HEAD"))
    git(worktree, "clean", "-q", "-f", "-d", "-x")
    subprocess.run(["git", "apply", "--allow-empty", "-"], cwd=worktree, input=patch, check=True, capture_output=True)
    return tree(worktree)


# -- the patch -----------------------------------------------------------------------------------------------

NAMES = [
    "a.py",
    "b c.py",
    "ü/é.txt",
    'q"uote.md',
    "new\nline.c",
    "tab\t.h",
    "back\\slash.f90",
    "-c",
    "d/e/f.toml",
    "\x07.py",
    " lead.py",
    "trail .py ",
    "new.py\r",
    "dir.c",
    "dir.c/in.c",
]
LINES = st.sampled_from(["a", "b = 1", "", "+", "-x", "é", "@@ -1 +1 @@", "diff --git a/a b/a"])
CONTENTS = st.one_of(
    st.sampled_from([b"", b"a", b"a\n", b"a\r\nb\r\n", b"x\ny\nz\n", b"\0\1"]),
    st.binary(max_size=200),
    st.lists(LINES, max_size=30).map(lambda lines: "\n".join(lines).encode()),
)
FILES = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(st.sampled_from(["644", "755", "link"]), CONTENTS), max_size=6
).filter(lambda files: not {"dir.c", "dir.c/in.c"} <= files.keys())  # a file cannot be a folder, too


def write(folder: Path, files: Mapping[str, tuple[str, bytes]]) -> None:
    """Make these the only files of a checkout."""
    for name in tree(folder):
        (folder / name).unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and ".git" not in path.relative_to(folder).parts:
            path.rmdir()
    for name, (kind, content) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            os.symlink(content.replace(b"\0", b"") or b"x", os.fsencode(path))
        else:
            path.write_bytes(content)
            path.chmod(0o755 if kind == "755" else 0o644)


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("playground") / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "config", "core.autocrlf", "false")
    return folder


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(before=FILES, after=FILES, staged=st.booleans())
def test_the_patch_gives_the_same_files(
    before: dict[str, tuple[str, bytes]], after: dict[str, tuple[str, bytes]], staged: bool, playground: Path
) -> None:
    write(playground, before)
    git(playground, "add", "-A")
    git(playground, "commit", "-q", "--allow-empty", "-m", "before")
    write(playground, after)
    if staged:
        git(playground, "add", "-A")
    found = code(playground)
    assert "redacted" not in found.git.get("patch", {})
    expected = tree(playground)
    if not staged and "code/untracked.json" in found.files:  # files that are no source are only listed
        for name, file in untracked_of(found).items():
            if "in_patch" not in file:
                del expected[name]
    assert applied(playground, patch_of(found), playground.parent / "worktree") == expected


def test_converted_line_ends_are_those_that_git_gives(repo: Path, tmp_path: Path) -> None:
    (repo / ".gitattributes").write_bytes(b"* text=auto eol=crlf\r\n")
    (repo / "table.txt").write_bytes(b"a\r\nb\r\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "second")
    (repo / "table.txt").write_bytes(b"a\r\nc\r\n")
    (repo / "new.txt").write_bytes(b"n\r\n")
    git(repo, "add", "new.txt")
    files = applied(repo, patch_of(code(repo)), tmp_path / "worktree")
    assert files["table.txt"][1] == b"a\r\nc\r\n"
    assert files["new.txt"][1] == b"n\r\n"


def test_a_checkout_without_changes_has_no_patch(repo: Path) -> None:
    found = code(repo)
    assert (found.git, list(found.files)) == ({}, ["code/packages.txt"])
    assert code(repo, "changes").files == {}
    assert code(repo, "none") == Code()


def test_the_patch_says_what_it_is(repo: Path) -> None:
    (repo / "src" / "code.py").write_text("a = 1\nb = 20\nc = 3\n")
    found = code(repo, "changes")
    patch = patch_of(found)
    first = f"# Changes of the checkout against commit {git(repo, 'rev-parse', 'HEAD')}, for git apply.\n"
    expected = git(repo, "diff", "--full-index", "HEAD") + "\n"
    assert patch.decode() == first + expected
    assert found.git == {"patch": {"size": len(patch), "sha256": hashlib.sha256(patch).hexdigest()}}


def test_large_files_are_left_out_and_named(repo: Path) -> None:
    for name, size in (("big.bin", 70_000), ("big.py", 2**20 + 1), ("small.bin", 10)):
        (repo / name).write_bytes(bytes(size) if name.endswith("bin") else b"x\n" * size)
    (repo / "src" / "code.py").write_bytes(b"y\n" * 2**20)
    git(repo, "add", "-A")
    found = code(repo)
    omitted = {one["path"]: one for one in found.git["patch"]["omitted"]}
    assert set(omitted) == {"big.bin", "big.py", "src/code.py"}
    assert omitted["big.bin"] == {
        "path": "big.bin",
        "why": "binary, and too large",
        "size": 70_000,
        "sha256": hashlib.sha256(bytes(70_000)).hexdigest(),
    }
    head = patch_of(found).partition(b"diff --git")[0].decode()
    assert "#   big.bin (binary, and too large, 70000 bytes, SHA-256 " in head
    assert b"b/small.bin" in patch_of(found)
    assert len(patch_of(found)) <= 2**20 + len(head)


def test_many_changes_are_bounded(repo: Path, tmp_path: Path) -> None:
    for number in range(40):
        (repo / f"{number:02}.py").write_text(f"{number}\n" * 25_000)
    git(repo, "add", "-A")
    found = code(repo)
    facts = found.git["patch"]
    assert len(facts["omitted"]) + facts["omitted_more"] + patch_of(found).count(b"diff --git ") == 40
    assert facts["size"] < 2**20 + 10_000
    applied(repo, patch_of(found), tmp_path / "worktree")


def test_more_text_than_git_may_print_keeps_the_first_files(repo: Path, tmp_path: Path) -> None:
    for number in range(6):
        (repo / f"{number}.py").write_bytes(b"old\n" * 250_000)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "large")
    for number in range(6):
        (repo / f"{number}.py").write_text("new\n")
    found = code(repo)
    assert len(found.git["patch"]["omitted"]) == 6  # each has all lines that were removed
    assert {one["why"] for one in found.git["patch"]["omitted"]} == {"the patch would be too large"}


def test_a_file_that_became_a_pipe_or_has_an_odd_name_hides_no_other_change(repo: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff.py")
    (repo / odd).write_text("a = 1\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "second")
    (repo / odd).write_text("a = 2\n")
    (repo / "src" / "code.py").write_text("a = 3\n")
    (repo / "conf.ini").unlink()
    os.mkfifo(repo / "conf.ini")
    found = code(repo)
    assert found.git["patch"]["omitted"] == [{"path": "conf.ini", "why": "it cannot be read"}]
    files = applied(repo, patch_of(found), tmp_path / "worktree")
    assert (files[odd][1], files["src/code.py"][1]) == (b"a = 2\n", b"a = 3\n")


def test_a_submodule_is_named(repo: Path) -> None:
    inner = repo / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(inner, "commit", "-q", "--allow-empty", "-m", "one")
    git(repo, "-c", "advice.addEmbeddedRepo=false", "add", "inner")
    git(repo, "commit", "-q", "-m", "a submodule")
    git(inner, "commit", "-q", "--allow-empty", "-m", "two")
    assert code(repo).git["patch"]["omitted"] == [{"path": "inner", "why": "a submodule"}]


def test_a_conflict_is_in_the_patch_as_it_is_in_the_file(repo: Path, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "-b", "other")
    (repo / "src" / "code.py").write_text("a = 2\n")
    git(repo, "commit", "-q", "-a", "-m", "second")
    git(repo, "checkout", "-q", "main")
    (repo / "src" / "code.py").write_text("a = 3\n")
    git(repo, "commit", "-q", "-a", "-m", "third")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "other")
    found = code(repo)
    assert "<<<<<<<" in patch_of(found).decode()
    assert applied(repo, patch_of(found), tmp_path / "worktree") == tree(repo)


# -- untracked files -----------------------------------------------------------------------------------------


def test_untracked_files_are_listed_and_small_sources_are_in_the_patch(repo: Path, tmp_path: Path) -> None:
    (repo / "new.py").write_text("x = 1\n")
    (repo / "large.py").write_text("x" * (64 * 2**10 + 1))
    (repo / "data.csv").write_text("1,2\n")
    (repo / "ignored.log").write_text("x")
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "__pycache__").mkdir()
    (repo / "__pycache__" / "code.pyc").write_text("x")
    (repo / "link.py").symlink_to("new.py")
    os.mkfifo(repo / "pipe.py")
    (repo / "new\nline \x1b[31m.py").write_text("y = 1\n")
    found = code(repo)
    files = untracked_of(found)
    assert set(files) == {"new.py", "large.py", "data.csv", ".gitignore", "link.py", "new\nline \x1b[31m.py"}
    assert files["new.py"] == {
        "path": "new.py",
        "size": 6,
        "sha256": hashlib.sha256(b"x = 1\n").hexdigest(),
        "in_patch": True,
    }
    assert files["data.csv"] == {"path": "data.csv", "size": 4, "sha256": hashlib.sha256(b"1,2\n").hexdigest()}
    assert "in_patch" not in files["large.py"]
    assert files["link.py"] == {"path": "link.py", "link": True}
    assert found.git["untracked"]["files"] == 6
    expected = {"new.py", "new\nline \x1b[31m.py", "src/code.py", "conf.ini"}
    assert set(applied(repo, patch_of(found), tmp_path / "worktree")) == expected


def test_a_new_script_alone_is_a_change_of_a_single_run(repo: Path) -> None:
    (repo / "new.py").write_text("x = 1\n")
    assert b"+x = 1" in patch_of(code(repo))
    assert code(repo, "changes").files == {}  # git says that the checkout is clean
    assert list(code(repo, "checkout").files) == ["code/diff.patch", "code/untracked.json"]


def test_files_of_runs_are_not_listed(repo: Path) -> None:
    with Logbook("a", repo / "outputs", environment=False) as log:
        log.json("metrics", {"a": 1})
    (repo / "log_utils").mkdir()
    (repo / "log_utils" / "x.py").write_text("x = 1\n")
    assert set(untracked_of(code(repo))) == {"log_utils/x.py"}


def test_too_many_untracked_files_are_said_and_sources_come_first(repo: Path) -> None:
    (repo / "data").mkdir()
    for number in range(1010):
        (repo / "data" / f"{number}.dat").touch()
    (repo / "z").mkdir()
    (repo / "z" / "solver.f90").write_text("end\n")
    found = code(repo)
    files = untracked_of(found)
    assert len(files) == 1000
    assert files["z/solver.f90"]["in_patch"] is True
    assert json.loads(found.files["code/untracked.json"])["found"] == 1011


def test_a_file_that_grows_while_it_is_read_has_no_digest(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = repo / "growing.dat"
    path.write_bytes(b"1" * 100)
    real = os.lstat

    def changed(name: Any, **options: Any) -> os.stat_result:
        found = real(name, **options)
        if str(name).endswith("growing.dat"):
            path.write_bytes(path.read_bytes() + b"2")
        return found

    monkeypatch.setattr(os, "lstat", changed)
    assert untracked_of(code(repo)) == {"growing.dat": {"path": "growing.dat", "size": 100}}


def test_a_listing_that_takes_too_long_is_said(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "bin").mkdir()
    script = f'#!/bin/sh\ncase "$*" in *ls-files*) exec sleep 60;; esac\nexec {real} "$@"\n'
    (tmp_path / "bin" / "git").write_text(script)
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("notata.provenance.untracked.SECONDS", 0.2)
    (repo / "src" / "code.py").write_text("a = 2\n")
    found = code(repo)
    assert found.git["untracked"] == {"why": "git did not list them, or took too long"}
    assert b"+a = 2" in patch_of(found)


def test_new_files_that_do_not_fit_are_not_read(repo: Path) -> None:
    for number in range(30):
        (repo / f"{number:02}.py").write_bytes(b"x = 1\n" * 50_000)
    git(repo, "add", "-A")
    git(repo, "config", "core.bigFileThreshold", "1")
    facts = code(repo).git["patch"]
    assert len(facts["omitted"]) + facts["omitted_more"] == 28
    assert {one["why"] for one in facts["omitted"]} == {"the patch would be too large"}


# -- secrets -------------------------------------------------------------------------------------------------


def whole(found: Code) -> bytes:
    return json.dumps([found.git, found.installed]).encode() + b"".join(found.files.values())


def test_no_secret_is_in_a_patch(repo: Path) -> None:
    (repo / "conf.ini").write_text(f'[db]\nhost = x\npassword = "{PASSWORD}"\n')
    (repo / "src" / "code.py").write_text(f"a = 1\nkey = '{AWS}'\nc = 3\n")
    (repo / "keys.py").write_text(f'KEY = """{KEY}"""\nx = 1\n')
    (repo / "staged.py").write_text(f"TOKEN = '{PASSWORD}x9'\n")
    git(repo, "add", "staged.py")
    found = code(repo)
    for secret in (PASSWORD, AWS, "MIIEowIBAAKCAQEA7bq", "c29tZXRoaW5nIHByaXZhdGU"):
        assert secret.encode() not in whole(found)
    facts = found.git["patch"]
    assert facts["redacted"] is True
    assert set(facts["redacted_files"]) == {"conf.ini", "src/code.py", "keys.py", "staged.py"}
    assert b"+x = 1" in patch_of(found)


def test_the_other_files_of_a_redacted_patch_can_be_applied(repo: Path, tmp_path: Path) -> None:
    (repo / "conf.ini").write_text(f'[db]\nhost = x\npassword = "{PASSWORD}"\n')
    (repo / "keys.py").write_text(f'KEY = """{KEY}"""\n')
    (repo / "src" / "code.py").write_text("a = 10\nb = 2\nc = 3\n")
    files = applied(repo, patch_of(code(repo)), tmp_path / "worktree")
    assert files["src/code.py"] == ("644", b"a = 10\nb = 2\nc = 3\n")
    assert files["keys.py"][1].count(b"\n") == 5


def test_a_secret_in_the_commit_is_not_in_the_patch_either(repo: Path) -> None:
    (repo / "old.py").write_text(f'password = "{PASSWORD}"\nx = 1\n')
    (repo / "gone.py").write_text(f'password = "{PASSWORD}"\n')
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "secrets")
    (repo / "old.py").write_text("x = 2\n")
    (repo / "gone.py").unlink()
    found = code(repo)
    assert PASSWORD.encode() not in whole(found)
    assert b"deleted file mode 100644" in patch_of(found)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("place", ["changed", "staged", "untracked"])
def test_a_secret_in_a_binary_file_is_not_in_the_patch(place: str, encoding: str, repo: Path) -> None:
    path = repo / "conf.ini" if place == "changed" else repo / "new.ini"
    path.write_bytes(b"\0\0" + f"\npassword = '{PASSWORD}'\n".encode(encoding))
    if place == "staged":
        git(repo, "add", "-A")
    found = code(repo)
    if place == "untracked":
        assert "in_patch" not in untracked_of(found)["new.ini"]
    else:
        assert [one["why"] for one in found.git["patch"]["omitted"]] == ["it contains secrets"]
        assert "sha256" not in found.git["patch"]["omitted"][0]
    assert b"literal" not in patch_of(found)


def test_a_text_file_that_the_checkout_calls_binary_is_checked_for_secrets(repo: Path) -> None:
    (repo / ".gitattributes").write_text("*.ini -diff\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "attributes")
    (repo / "conf.ini").write_text(f'password = "{PASSWORD}"\n')
    assert [one["why"] for one in code(repo).git["patch"]["omitted"]] == ["it contains secrets"]


@pytest.mark.parametrize("name", [".env", ".env.local", "id_rsa", "server.pem", "conf/password.txt", ".netrc"])
def test_files_for_secrets_are_named_without_digest_and_content(name: str, repo: Path) -> None:
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text(f"{PASSWORD}\n")
    found = code(repo)
    assert untracked_of(found) == {name: {"path": name, "size": len(PASSWORD) + 1}}
    assert PASSWORD.encode() not in whole(found)


def test_a_known_secret_and_one_in_a_name_are_redacted(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct-horse-battery")
    (repo / "src" / "code.py").write_text("a = 1\nb = connect('correct-horse-battery')\n")
    (repo / "correct-horse-battery.py").write_text("x = 1\n")
    (repo / f"{AWS}.dat").write_text("x = 1\n")
    from notata._base.secrets import refresh

    refresh()
    found = code(repo)
    assert b"correct-horse-battery" not in whole(found)
    assert AWS.encode() not in whole(found)


# -- a hostile checkout --------------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{tmp_path}/sprung'\nexec cat\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    "settings_",
    [
        [("core.fsmonitor", "{trap}")],
        [("core.hooksPath", "{folder}")],
        [("core.pager", "{trap}"), ("pager.diff", "{trap}"), ("pager.ls-files", "true")],
        [("diff.external", "{trap}")],
        [("diff.shown.textconv", "{trap}"), ("diff.shown.command", "{trap}"), ("diff.renames", "copies")],
        [("alias.diff", "!{trap}"), ("alias.ls-files", "!{trap}"), ("alias.check-attr", "!{trap}")],
        [("diff.submodule", "log"), ("diff.orderFile", "{folder}/missing"), ("color.ui", "always")],
        [("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true"), ("diff.context", "0"), ("core.abbrev", "4")],
        [("filter.plain.clean", "{trap}"), ("filter.plain.process", "{trap}"), ("filter.plain.required", "true")],
    ],
    ids=lambda settings_: settings_[0][0],
)
def test_no_setting_of_a_checkout_runs_a_program_or_breaks_the_patch(
    settings_: list[tuple[str, str]], repo: Path, trap: Path, tmp_path: Path
) -> None:
    attributes(repo, "*.ini filter=plain\n*.py diff=shown")
    configure(repo, *((name, value.format(trap=trap, folder=tmp_path)) for name, value in settings_))
    (repo / "src" / "code.py").write_text("a = 1\nb = 20\nc = 3\n")
    (repo / "conf.ini").write_text("[db]\nhost = y\n")
    (repo / "new.py").write_text("x = 1\n")
    (tmp_path / "sprung").unlink(missing_ok=True)
    found = code(repo)
    assert not (tmp_path / "sprung").exists()
    for name, _ in settings_:
        git(repo, "config", "--unset-all", name)
    files = applied(repo, patch_of(found), tmp_path / "worktree")
    assert files["src/code.py"][1] == b"a = 1\nb = 20\nc = 3\n"
    assert files["new.py"][1] == b"x = 1\n"
    is_filtered = settings_[0][0].startswith("filter.")
    assert files["conf.ini"][1] == (b"[db]\nhost = x\n" if is_filtered else b"[db]\nhost = y\n")
    assert [one["path"] for one in found.git["patch"].get("omitted", [])] == (["conf.ini"] if is_filtered else [])


def test_a_checkout_whose_files_are_elsewhere_is_not_listed(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.md").write_text("private")
    git(repo, "config", "core.worktree", str(tmp_path / "home"))
    found = code(repo)
    assert found.git == {}
    assert "code/untracked.json" not in found.files


def test_nothing_outside_of_the_checkout_is_read_through_a_link(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("outside = 1\n")
    (repo / "src" / "code.py").unlink()
    (repo / "src" / "code.py").symlink_to(tmp_path / "outside.py")
    (repo / "new.py").symlink_to(tmp_path / "outside.py")
    assert b"outside = 1" not in whole(code(repo))


def test_a_git_that_prints_without_end_is_stopped(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\ncase "$*" in *ls-files*) exec yes;; esac\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (repo / "src" / "code.py").write_text("a = 2\n")
    assert b"+a = 2" in patch_of(code(repo))


# -- calls of git --------------------------------------------------------------------------------------------


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Count the calls of git in a file."""
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(asked, "FRESH", 3600.0)
    monkeypatch.setattr(asked, "LONGEST", 3600.0)
    return tmp_path / "asked"


def test_git_is_asked_once_for_many_runs(repo: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        found = len(calls.read_text().splitlines())
        calls.write_text("")
        return found

    monkeypatch.setattr("notata.provenance.environment._script_folder", lambda: str(repo))
    for number in range(3):
        Logbook(f"run-{number}", "memory://code", code=True).mark_complete()
    assert count() == 3  # settings, status, and untracked files
    (repo / "src" / "code.py").write_text("a = 2\n")
    git(repo, "add", "-A")
    count()
    for number in range(3):
        Logbook(f"dirty-{number}", "memory://code", code=True).mark_complete()
    assert count() == 4  # and the changes
    git(repo, "commit", "-q", "-m", "second")
    count()
    for number in range(3):
        Logbook(f"off-{number}", "memory://code").mark_complete()
    assert count() == 2


# -- packages ------------------------------------------------------------------------------------------------


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_all_installed_packages_are_listed_with_their_versions() -> None:
    lines = installed_packages().decode().splitlines()
    found = {re.split(r"==| @ ", line)[0]: line for line in lines}
    expected = {normalized(one.name): one.version for one in metadata.distributions() if one.name and one.version}
    assert len(expected) > 50
    assert found.keys() == expected.keys()
    assert lines == sorted(lines, key=lambda line: re.split(r"==| @ ", line)[0])
    by_index = {name: line for name, line in found.items() if " @ " not in line}
    assert by_index == {name: f"{name}=={expected[name]}" for name in by_index}


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, "own-solver==7.1"),
        ({"url": "file:///home/ada/solver", "dir_info": {"editable": True}},
         "own-solver @ file:///home/ada/solver  # editable, own-solver==7.1"),
        ({"url": "file:///home/ada/solver", "dir_info": {}}, "own-solver @ file:///home/ada/solver"),
        ({"url": f"https://ada:{PASSWORD}@host/x.git", "vcs_info": {"vcs": "git", "commit_id": "3f9a"}},
         "own-solver @ git+https://host/x.git@3f9a"),
        ({"url": f"https://host/x.whl?token={PASSWORD}#sha256=1", "archive_info": {}},
         "own-solver @ https://host/x.whl"),
        ({"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "a\nrm==1"}},
         "own-solver @ git+https://host/x.git"),
        ({"url": f"https://host/x.git\n{PASSWORD}=1"}, None),
        (["no object"], "own-solver==7.1"),
        ("{", "own-solver==7.1"),
    ],
)  # fmt: skip
def test_a_package_has_its_origin_without_credentials(
    origin: object, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own_solver-7.1.dist-info"
    folder.mkdir()
    if origin is not None:
        (folder / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    lines = installed_packages().decode().splitlines()
    assert len(lines) == 1
    assert PASSWORD not in lines[0] or expected is None
    assert lines[0] == expected or expected is None


def test_older_kinds_of_packages_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "a-1.0-py3.11.egg-info").mkdir()
    (tmp_path / "first" / "B.C.egg-info").mkdir()
    (tmp_path / "first" / "B.C.egg-info" / "PKG-INFO").write_text("Name: B.C\nVersion: 2.5\n")
    (tmp_path / "first" / "broken.dist-info").mkdir()
    (tmp_path / "second" / "a-0.9.dist-info").mkdir()  # hidden by the first one
    (tmp_path / "second" / "d-3.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in ("first", "missing", "second")])
    assert installed_packages() == b"a==1.0\nb-c==2.5\nbroken\nd==3\n"


def test_a_package_that_is_installed_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_packages() == b""
    (tmp_path / "a-1.dist-info").mkdir()
    os.utime(tmp_path, (1, 1))
    assert installed_packages() == b"a==1\n"


# -- the job -------------------------------------------------------------------------------------------------


def test_only_the_variables_of_the_list_are_recorded() -> None:
    environment = {name: f"{number}" for number, name in enumerate(VARIABLES)}
    others = {"SLURM_JOB_ACCOUNT": "x", "SLURM_JWT": PASSWORD, "PBS_O_PATH": "x", "HOME": "x", "MY_SLURM_JOB_ID": "x"}
    found = {**job_variables({**environment, **others}), **(job_facts({**environment, **others}) or {})}
    assert found == environment


def test_the_values_of_a_job_are_bounded_and_one_line() -> None:
    found = job_variables({"SLURM_JOB_NODELIST": "n" * 5000, "SLURM_JOB_PARTITION": "a\x1b[31m\nb", "JOB_ID": "5"})
    assert found["SLURM_JOB_NODELIST"] == "n" * 499 + "…"
    assert found["SLURM_JOB_PARTITION"] == "a\\x1b[31m b"
    assert "JOB_ID" not in found  # other programs use that name
    assert job_variables({"JOB_ID": "5", "SGE_TASK_ID": "2"}) == {"JOB_ID": "5", "SGE_TASK_ID": "2"}
    assert job_variables({"SLURM_JOB_ID": ""}) == {}


def test_the_facts_of_a_job_are_in_the_run(tmp_path: Path) -> None:
    script = (
        "import json, sys; from notata import Logbook\n"
        "log = Logbook('run', sys.argv[1], heartbeat=0); log.mark_complete()\n"
        "print(json.dumps([log.reader.meta['environment'].get('scheduler'), sys.orig_argv]))"
    )
    variables = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "OMP_NUM_THREADS": "2", "API_TOKEN": PASSWORD}
    started = Script("tests.given_code", [script, str(tmp_path)], environment={**os.environ, **variables})
    output, errors = started.communicate()
    assert started.returncode == 0, errors
    assert json.loads(output)[0] == {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "OMP_NUM_THREADS": "2"}
    assert PASSWORD.encode() not in (tmp_path / "log_run" / "metadata.json").read_bytes()


def test_the_mpi_library_is_named_if_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.SimpleNamespace(Get_library_version=lambda: "Open MPI v4.1.4, package: Debian\nmore\0")
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", library)
    assert (job_facts({}) or {})["mpi"] == "Open MPI v4.1.4, package: Debian"
