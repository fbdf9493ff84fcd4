"""Ask git for the state of a checkout, without running a program that the checkout configures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Change", "Checkout", "checkout_of", "hold", "output"]

SECONDS: Final = 3.0  # time limit for git, for a working tree on a slow disk
FRESH: Final = 10.0  # seconds that an answer of git holds, unless the checkout changes
_SHARE: Final = 100.0  # an answer holds at least this many times as long as git took,
LONGEST: Final = 60.0  # but no longer than this: a slow disk may soon be quick, and files change
_FILES: Final = ("HEAD", "index", "logs/HEAD")  # git changes one of them with each commit, checkout and add
_WITHOUT_LOG: Final = ("COMMIT_EDITMSG", "ORIG_HEAD", "reftable/tables.list")  # or of these, if there is no logs/HEAD
_ANSWERS: Final = 8
_FILTERS: Final = 100  # maximum number of filters that a checkout can configure
_DRIVER: Final = re.compile(r"[\w.-]+", re.ASCII)
_PIECE: Final = 2**16
_SETTINGS: Final = r"^(filter\.|core\.worktree$)"
_GIT_VARIABLES: Final = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE"})
_OFF: Final = frozenset({"GIT_CONFIG", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS"})

_SAFE_OPTIONS: Final = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),  # a monitor can be any program
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", f"diff.orderFile={os.devnull}"),  # git fails if it cannot read the file
    *("-c", "safe.bareRepository=explicit"),  # a bare repository in a checkout has its own settings
)
_STATUS: Final = (
    "--porcelain=v2",
    "-z",
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
class Change:
    """A tracked file that differs from the commit.

    Attributes:
        path: Relative to the top of the checkout.
        before: Its mode in the commit, octal; zeros if it is new.
        after: Its mode in the working tree; zeros if it is deleted.
        blob: The id of its content in the commit; zeros if it is new, empty if it has a conflict.
        submodule: Whether it is a submodule.
    """

    path: str
    before: str
    after: str
    blob: str
    submodule: bool = False


@dataclass(frozen=True, slots=True)
class Checkout:
    """The state of a checkout as git reported it.

    Attributes:
        state: ``commit``, ``branch`` and ``dirty``; the last one is omitted if it is unknown.
        top: The folder of the working tree; empty if it is not the one that contains ``.git``.
        changes: The tracked files that differ from the commit.
        safe: Options for git by which it runs no filter.
        filters: Whether there are filters.
        found: What other modules found out about this state, which holds as long as the state does.
    """

    state: dict[str, Any]
    top: str = ""
    changes: tuple[Change, ...] = ()
    safe: tuple[str, ...] = ()
    filters: bool = False
    found: dict[object, Any] = field(default_factory=dict, compare=False)


@dataclass(slots=True)
class _Answer:
    """An answer of git, which holds until a time, as long as some files of the checkout have this mark."""

    checkout: Checkout | None
    git_folder: str
    mark: tuple[object, ...]
    until: float


_answers: Final[dict[str, _Answer]] = {}
"""The last answer of git for each folder."""


def checkout_of(folder: str | None) -> Checkout | None:
    """Return the checkout of a folder, or a recent answer, as many runs can start in a row.

    The first call takes some milliseconds, and two calls of ``git``. Git is called again after ten seconds, and at once
    after a commit, a checkout or ``git add``; if it is slow, after up to a minute.

    Args:
        folder: A folder in the checkout; None for none.

    Returns:
        The checkout; None if the folder is in no checkout, or git fails.
    """
    if folder is None:
        return None
    known = _answers.get(folder)
    if known is None or time.monotonic() > known.until or _git_mark(known.git_folder) != known.mark:
        inside = _git_folder(folder)
        mark, began = _git_mark(inside), time.monotonic()  # before git reads these files
        checkout, now = _git(folder), time.monotonic()
        known = _Answer(checkout, inside, mark, now + _hold(now - began))
        if len(_answers) >= _ANSWERS:
            _answers.clear()
        _answers[folder] = known
    return known.checkout


def hold(checkout: Checkout, seconds: float) -> None:
    """Let an answer hold longer, as finding out more about it took this many seconds."""
    for known in _answers.values():
        if known.checkout is checkout:
            known.until = max(known.until, time.monotonic() + _hold(seconds))


def _hold(seconds: float) -> float:
    return min(LONGEST, max(FRESH, _SHARE * seconds))


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


def _git(folder: str) -> Checkout | None:
    """Return the commit, the branch and the changed files, with two calls of git.

    `dirty` is omitted if finding out would run a program of the checkout.
    """
    until = time.monotonic() + SECONDS
    names = _text(output(folder, until, "config", "-z", "--name-only", "--get-regexp", _SETTINGS, codes=(0, 1)))
    if names is None:
        return None
    safe = _without_filters(names)
    if safe is None:
        commit = _text(output(folder, until, "rev-parse", "--verify", "-q", "HEAD", codes=(0, 1)))
        branch = _text(output(folder, until, "symbolic-ref", "-q", "--short", "HEAD", codes=(0, 1)))
        if commit is None:
            return None
        return Checkout({"commit": commit.strip() or None, "branch": _real_name((branch or "").strip())})
    status = output(folder, until, *safe, "status", *_STATUS)
    if status is None:
        return None
    lines = [line.decode("utf-8", "surrogateescape") for line in status.split(b"\0") if line]
    headers = {name: value for name, _, value in (line[2:].partition(" ") for line in lines if line.startswith("# "))}
    changes = tuple(filter(None, (_change(line) for line in lines if not line.startswith("#"))))
    state = {
        "commit": _real_name(headers.get("branch.oid")),
        "branch": _printable(_real_name(headers.get("branch.head"))),
        "dirty": any(not line.startswith("#") for line in lines),
    }
    top = _top(folder, until, has_other="core.worktree" in names.split("\0"))
    return Checkout(state, top, changes, tuple(safe), bool(safe))


def _change(line: str) -> Change | None:
    """Parse a line of ``git status --porcelain=v2 -z``; None if it is damaged.

    >>> _change("1 .M N... 100644 100644 100755 aa bb src/a b.py")
    Change(path='src/a b.py', before='100644', after='100755', blob='aa', submodule=False)
    """
    kind, _, rest = line.partition(" ")
    fields = rest.split(" ", {"1": 7, "u": 9}.get(kind, 0))
    if kind == "1" and len(fields) == 8:
        return Change(fields[7], fields[2], fields[4], fields[5], fields[1].startswith("S"))
    if kind == "u" and len(fields) == 10:
        return Change(fields[9], fields[5], fields[5], "", fields[1].startswith("S"))
    return None


def _top(folder: str, until: float, *, has_other: bool) -> str:
    """Return the folder of the working tree; empty if it is not the one that contains ``.git``.

    A checkout can configure any other folder, such as the home folder of the user.
    """
    path = os.path.abspath(folder)
    while not os.path.lexists(os.path.join(path, ".git")):
        if path == (path := os.path.dirname(path)):
            return ""
    if has_other or not _GIT_VARIABLES.isdisjoint(os.environ):
        found = output(folder, until, "rev-parse", "--show-toplevel")
        if found is None or not os.path.samefile(os.fsdecode(found.removesuffix(b"\n")), path):
            return ""
    return path


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def _printable(name: str | None) -> str | None:
    """Return a name as text that UTF-8 can encode."""
    return None if name is None else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _without_filters(names: str) -> list[str] | None:
    """Return arguments that disable the filters with these setting names; None if that is not safe.

    `git status` runs the clean filter of a file to compare it, and a checkout can configure any program as a filter.
    Without the filter, a filtered file that was touched counts as changed.
    """
    filters = [name for name in names.split("\0") if name.startswith("filter.") and name.count(".") > 1]
    drivers = {name.partition(".")[2].rpartition(".")[0] for name in filters}
    if len(drivers) > _FILTERS or not all(_DRIVER.fullmatch(driver) for driver in drivers):
        return None  # `-c` would split such a name at the wrong place
    off = ("clean=", "smudge=", "process=", "required=false")
    return [word for driver in sorted(drivers) for setting in off for word in ("-c", f"filter.{driver}.{setting}")]


def output(
    folder: str, until: float, *arguments: str, codes: tuple[int, ...] = (0,), most: int | None = None
) -> bytes | None:
    """Return the output of git, run without programs that the checkout configures; None if git fails.

    Args:
        folder: The working folder.
        until: The time on the monotonic clock at which git is killed.
        *arguments: The command and its arguments.
        codes: Exit codes that are no failure.
        most: Maximum number of bytes: git is killed when it prints more, and the output has some more bytes than that.
    """
    program = _find_program("git")
    if program is None:
        return None
    try:
        with subprocess.Popen(
            [program, *_SAFE_OPTIONS, *arguments],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in _OFF} | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                found, is_whole = _read(process, until, most)
            except BaseException:
                process.kill()
                raise
    except (OSError, subprocess.SubprocessError, ValueError):  # ValueError: a null byte in an argument
        return None
    return found if process.returncode in codes or not is_whole else None


def _read(process: subprocess.Popen[bytes], until: float, most: int | None) -> tuple[bytes, bool]:
    """Return what a process prints, and whether that is all; kill it when it prints too much.

    Raises:
        subprocess.TimeoutExpired: It takes too long.
    """
    if most is None or sys.platform == "win32":  # Windows cannot wait for a pipe with a time limit
        return process.communicate(timeout=max(0.01, until - time.monotonic()))[0], True
    import select

    pipe, found, ready = process.stdout, bytearray(), select.poll()
    assert pipe is not None
    ready.register(pipe)
    while len(found) <= most:
        if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
            raise subprocess.TimeoutExpired(process.args, until)
        piece = os.read(pipe.fileno(), _PIECE)
        if not piece:
            process.wait(max(0.01, until - time.monotonic()))
            return bytes(found), True
        found += piece
    process.kill()
    return bytes(found), False


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
