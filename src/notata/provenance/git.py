"""Ask git for the state of a checkout, without running a program that the checkout configures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["state_of"]

SECONDS: Final = 3.0  # time limit for git, for a working tree on a slow disk
FRESH: Final = 10.0  # seconds that an answer of git holds, unless the checkout changes
_SHARE: Final = 100.0  # an answer holds at least this many times as long as git took,
LONGEST: Final = 60.0  # but no longer than this: a slow disk may soon be quick, and files change
_FILES: Final = ("HEAD", "index", "logs/HEAD")  # git changes one of them with each commit, checkout and add
_WITHOUT_LOG: Final = ("COMMIT_EDITMSG", "ORIG_HEAD", "reftable/tables.list")  # or of these, if there is no logs/HEAD
_ANSWERS: Final = 8
_FILTERS: Final = 100  # maximum number of filters that a checkout can configure
_DRIVER: Final = re.compile(r"[\w.-]+", re.ASCII)

_SAFE_OPTIONS: Final = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),  # a monitor can be any program
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "safe.bareRepository=explicit"),  # a bare repository in a checkout has its own settings
)
_STATUS: Final = (
    "--porcelain=v2",
    "--branch",
    "--no-ahead-behind",
    "--no-renames",
    "--untracked-files=no",
    "--ignore-submodules=dirty",  # compare only commits; git inside a submodule would use the submodule's settings
)
_ENVIRONMENT: Final = {
    "GIT_OPTIONAL_LOCKS": "0",  # do not refresh the index, as another process may use the checkout
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone must not fetch anything
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of git, which holds until a time, as long as some files of the checkout have this mark."""

    state: dict[str, Any] | None
    git_folder: str
    mark: tuple[object, ...]
    until: float


_answers: Final[dict[str, _Answer]] = {}
"""The last answer of git for each folder."""


def state_of(folder: str | None) -> dict[str, Any] | None:
    """Return commit, branch and dirty of a checkout, or a recent answer, as many runs can start in a row.

    The first call takes some milliseconds, and two calls of ``git``. Git is called again after ten seconds, and at once
    after a commit, a checkout or ``git add``; if it is slow, after up to a minute.

    Args:
        folder: A folder in the checkout; None for none.

    Returns:
        The state; None if the folder is in no checkout, or git fails.
    """
    if folder is None:
        return None
    known = _answers.get(folder)
    if known is None or time.monotonic() > known.until or _git_mark(known.git_folder) != known.mark:
        inside = _git_folder(folder)
        mark, began = _git_mark(inside), time.monotonic()  # before git reads these files
        state, now = _git(folder), time.monotonic()
        holds = min(LONGEST, max(FRESH, _SHARE * (now - began)))
        known = _Answer(state, inside, mark, now + holds)
        if len(_answers) >= _ANSWERS:
            _answers.clear()
        _answers[folder] = known
    return known.state


def _git_folder(folder: str) -> str:
    """Return the folder in which git keeps the state of a checkout; empty if there is none."""
    while True:
        found = os.path.join(folder, ".git")
        with suppress(OSError, ValueError):
            if os.path.isdir(found):
                return found
            if os.path.isfile(found):  # of a worktree or a submodule
                with open(found, encoding="utf-8", errors="surrogateescape") as file:
                    return os.path.join(folder, file.read(4096).partition("gitdir:")[2].strip())
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above


def _git_mark(git_folder: str) -> tuple[object, ...]:
    """Return a value that changes with each commit, checkout and ``git add``."""
    if not git_folder:
        return ()
    marks = tuple(_mark(os.path.join(git_folder, name)) for name in _FILES)
    return marks if marks[-1] else marks + tuple(_mark(os.path.join(git_folder, name)) for name in _WITHOUT_LOG)


def _mark(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _git(folder: str) -> dict[str, Any] | None:
    """Return the commit, the branch and whether tracked files have changed, with two calls of git.

    `dirty` is omitted if finding out would run a program of the checkout.
    """
    until = time.monotonic() + SECONDS
    filters = run(folder, until, "config", "-z", "--name-only", "--get-regexp", r"^filter\.", codes=(0, 1))
    if filters is None:
        return None
    without_filters = _without_filters(filters)
    if without_filters is None:
        output = run(folder, until, "rev-parse", "--verify", "-q", "HEAD", codes=(0, 1))
        branch = run(folder, until, "symbolic-ref", "-q", "--short", "HEAD", codes=(0, 1))
        return (
            None if output is None else {"commit": output.strip() or None, "branch": _real_name((branch or "").strip())}
        )
    output = run(folder, until, *without_filters, "status", *_STATUS)
    if output is None:
        return None
    lines = output.splitlines()
    headers = {name: value for name, _, value in (line[2:].partition(" ") for line in lines if line.startswith("# "))}
    return {
        "commit": _real_name(headers.get("branch.oid")),
        "branch": _real_name(headers.get("branch.head")),
        "dirty": any(not line.startswith("#") for line in lines),
    }


def _without_filters(names: str) -> list[str] | None:
    """Return arguments that disable the filters with these setting names; None if that is not safe.

    `git status` runs the clean filter of a file to compare it, and a checkout can configure any program as a filter.
    Without the filter, a filtered file that was touched counts as changed.
    """
    drivers = {name.partition(".")[2].rpartition(".")[0] for name in names.split("\0") if name.count(".") > 1}
    if len(drivers) > _FILTERS or not all(_DRIVER.fullmatch(driver) for driver in drivers):
        return None  # `-c` would split such a name at the wrong place
    off = ("clean=", "smudge=", "process=", "required=false")
    return [word for driver in sorted(drivers) for setting in off for word in ("-c", f"filter.{driver}.{setting}")]


def run(folder: str, until: float, *arguments: str, codes: tuple[int, ...] = (0,)) -> str | None:
    """Return the output of git, run without programs that the checkout configures; None if git fails."""
    program = _find_program("git")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *_SAFE_OPTIONS, *arguments],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name != "GIT_CONFIG"} | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=max(0.01, until - time.monotonic()),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode in codes else None


def _find_program(name: str) -> str | None:
    """Return the path of a program in an absolute folder of PATH, as a checkout can contain a file of that name."""
    name = f"{name}.exe" if sys.platform == "win32" else name
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _real_name(value: str | None) -> str | None:
    """Return a name; None for placeholders of git in parentheses, such as ``(initial)`` and ``(detached)``."""
    return None if not value or value.startswith("(") else value
