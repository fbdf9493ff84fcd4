"""A temporary git worktree at a commit of a local repository, with the recorded changes.

Git runs no hook and no filter, and fetches nothing. A patch comes from a run folder, so it is data: git refuses paths
outside of the worktree and below links, and this module refuses links that lead out of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from notata._base.display import listed
from notata._base.terminal import one_line, quoted
from notata.errors import ConfigurationError

__all__ = ["Repository", "Worktree", "find_repository", "is_within"]

_SECONDS: Final = 600.0  # of one call of git: a large checkout on a slow disk
_ERROR: Final = 500  # characters of an error of git
_PIECE: Final = 2**20
_COPIED: Final = 10_000  # untracked files
_COPIED_BYTES: Final = 2**30
_NAMED: Final = 10
_TREE: Final = "tree"
_LINK_IN_PATCH: Final = re.compile(rb"^(?:new file mode|new mode) 120000$|^index [0-9a-f.]+ 120000$", re.MULTILINE)
_DRIVER: Final = re.compile(r"[\w.-]+", re.ASCII)

_SAFE: Final = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.protectHFS=true"),
    *("-c", "core.protectNTFS=true"),
    *("-c", "safe.bareRepository=explicit"),
    *("-c", "submodule.recurse=false"),
    *("-c", "apply.whitespace=nowarn"),
    *("-c", "advice.detachedHead=false"),
)
_ENVIRONMENT: Final = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_OFF: Final = frozenset({
    "GIT_CONFIG", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_EXTERNAL_DIFF", "GIT_TEMPLATE_DIR",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repository:
    """A local git repository.

    Attributes:
        top: The folder of its working tree.
    """

    top: str

    def has_commit(self, commit: str) -> bool:
        """Check whether the repository has a commit."""
        return _git(self.top, "cat-file", "-e", f"{commit}^{{commit}}") is not None

    def files(self, commit: str) -> frozenset[str]:
        """Return the paths of all files of a commit."""
        found = _git(self.top, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        return frozenset(os.fsdecode(name) for name in (found or b"").split(b"\0") if name)

    def subject(self, commit: str) -> str:
        """Return the first line of the message of a commit."""
        found = _git(self.top, "log", "-1", "--format=%s", "--no-show-signature", commit, "--")
        return one_line((found or b"").decode("utf-8", "replace").strip(), 200)

    @contextmanager
    def worktree(self, commit: str, *, keep: bool = False) -> Iterator[Worktree]:
        """Yield a new worktree at a commit, in a temporary folder, and remove it at the end.

        Args:
            commit: The commit.
            keep: Leave the worktree.

        Raises:
            ConfigurationError: Git cannot make it.
        """
        above = tempfile.mkdtemp(prefix="notata-rerun-")
        path = os.path.join(os.path.realpath(above), _TREE)
        try:
            made = _git(self.top, *self._without_filters(), "worktree", "add", "--detach", "--force", path, commit)
            if made is None:
                raise ConfigurationError(
                    f"cannot make a worktree of {self.top} at commit {commit}: git refused. Run git worktree prune "
                    "there, and check the disk"
                )
            yield Worktree(path, self)
        finally:
            if not keep or not os.path.isdir(path):
                _git(self.top, "worktree", "remove", "--force", "--force", path)
                shutil.rmtree(above, ignore_errors=True)
                _git(self.top, "worktree", "prune")

    def _without_filters(self) -> list[str]:
        """Return options that disable all filters that are configured, which are programs.

        Raises:
            ConfigurationError: A filter has a name that no option can have.
        """
        found = _git(self.top, "config", "-z", "--name-only", "--get-regexp", r"^filter\.", codes=(0, 1)) or b""
        names = [name for name in found.decode("utf-8", "replace").split("\0") if name.count(".") > 1]
        drivers = {name.partition(".")[2].rpartition(".")[0] for name in names}
        if strange := [driver for driver in drivers if not _DRIVER.fullmatch(driver)]:
            raise ConfigurationError(f"cannot switch off the filter {quoted(strange[0])} of {self.top}; rename it")
        off = ("clean=", "smudge=", "process=", "required=false")
        return [word for driver in sorted(drivers) for setting in off for word in ("-c", f"filter.{driver}.{setting}")]


@dataclass(frozen=True, slots=True)
class Worktree:
    """A worktree.

    Attributes:
        path: Its folder, without links.
        repository: Its repository.
    """

    path: str
    repository: Repository

    def apply(self, patch: bytes) -> None:
        """Apply a patch.

        Raises:
            ConfigurationError: It does not apply, or leads out of the worktree.
        """
        if all(line.startswith(b"#") for line in patch.split(b"\n") if line):  # all changes are left out
            return
        command = (*self.repository._without_filters(), "apply", "--whitespace=nowarn", "-p1", "-")
        error = _failure(self.path, *command, given=patch)
        if error is not None:
            raise ConfigurationError(f"cannot apply the recorded changes of the code to the commit: {error}")
        if _LINK_IN_PATCH.search(patch):
            self._check_links()

    def _check_links(self) -> None:
        """Check that no link leads out of the worktree."""
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if os.path.islink(path) and not is_within(os.path.realpath(path), self.path):
                    shown = one_line(os.path.relpath(path, self.path))
                    raise ConfigurationError(
                        f"the recorded changes of the code contain a link that leads out of the checkout: {shown}. "
                        "Inspect the patch before you apply it yourself"
                    )

    def has_lfs_pointers(self) -> bool:
        """Check whether files of the commit have a filter, which is off, such as those of Git LFS."""
        try:
            text = Path(self.path, ".gitattributes").read_text("utf-8", "replace")[:_PIECE]
        except OSError:
            return False
        return "filter=" in text

    def copy_untracked(self, data: bytes, source: str) -> tuple[int, list[str]]:
        """Copy untracked files that are in a checkout with the recorded size and digest.

        Args:
            data: The content of ``code/untracked.json``.
            source: The top of the checkout.

        Returns:
            The number of files that were copied, and the names of those that are missing or have changed.
        """
        copied, others, left = 0, [], _COPIED_BYTES
        for name, size, digest in _listed_files(data):
            target = os.path.join(self.path, name)
            if os.path.lexists(target):  # the patch has it
                continue
            content = None if size > left else _content(source, name, size)
            if content is None or hashlib.sha256(content).hexdigest() != digest:
                others.append(name)
                continue
            if not is_within(os.path.realpath(os.path.dirname(target)), self.path):
                others.append(name)
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "xb") as file:
                file.write(content)
            shutil.copymode(os.path.join(source, name), target)
            copied, left = copied + 1, left - size
        return copied, others


def find_repository(place: str | os.PathLike[str] | None, folder: str, commit: str) -> Repository:
    """Return the local repository that has a commit.

    Args:
        place: A folder in the repository, if the user names one.
        folder: The recorded working folder of the run. It is looked at only if the repository of the current folder
            does not have the commit.
        commit: The commit.

    Raises:
        ConfigurationError: There is no such repository.
    """
    if shutil.which("git") is None:
        raise ConfigurationError("cannot rerun without git: install it, or check PATH")
    named = (
        [os.path.expanduser(place)]
        if place is not None
        else [os.getcwd(), *([folder] if os.path.isabs(folder) else [])]
    )
    tops = [top for top in dict.fromkeys(map(_top, named)) if top]
    for top in tops:
        if Repository(top).has_commit(commit):
            return Repository(top)
    where = f"{listed(tops, _NAMED)} does not have it" if tops else f"{listed(named, _NAMED)} is not in a repository"
    raise ConfigurationError(
        f"cannot find commit {commit} of the code: {where}. Pass repository= (--repository) with a local repository "
        "that has it; fetch the commit there first if necessary"
    )


def _top(folder: str) -> str:
    """Return the top of the checkout that contains a folder; empty if there is none."""
    if not os.path.isdir(folder):
        return ""
    found = _git(folder, "rev-parse", "--show-toplevel")
    return "" if found is None else os.path.realpath(os.fsdecode(found.removesuffix(b"\n")))


def is_within(path: str, folder: str) -> bool:
    """Check whether a path is a folder itself, or below it."""
    return path == folder or path.startswith(folder + os.sep)


def _listed_files(data: bytes) -> Iterator[tuple[str, int, str]]:
    """Yield name, size and digest of the untracked files that can be copied."""
    try:
        found = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return
    files = found.get("files") if isinstance(found, dict) else None
    entries: list[tuple[Any, Any]] = []
    if isinstance(files, dict):
        entries = [*files.items()]
    elif isinstance(files, list):
        entries = [(entry.get("path"), entry) for entry in files if isinstance(entry, dict)]
    for name, entry in entries[:_COPIED]:
        if isinstance(entry, Mapping) and _is_safe(name):
            size, digest = entry.get("size"), entry.get("sha256")
            if isinstance(size, int) and isinstance(digest, str) and 0 <= size <= _COPIED_BYTES:
                yield name, size, digest


def _is_safe(name: object) -> bool:
    """Check whether a recorded name is a relative path that stays in its folder, and outside of ``.git``."""
    if not isinstance(name, str) or not name or "\0" in name or os.path.isabs(name) or "\\" in name:
        return False
    parts = name.split("/")
    return not any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)


def _content(source: str, name: str, size: int) -> bytes | None:
    """Return the content of a regular file of a checkout; None if it is none, or has another size."""
    path = os.path.join(source, name)
    if not is_within(os.path.realpath(os.path.dirname(path)), source):
        return None
    try:
        with open(path, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or os.fstat(file.fileno()).st_size != size:
                return None
            return file.read(size + 1)
    except OSError:
        return None


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _git(folder: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> bytes | None:
    """Return the output of git; None if it fails."""
    done = _run(folder, arguments, b"")
    return None if done is None or done.returncode not in codes else done.stdout


def _failure(folder: str, *arguments: str, given: bytes) -> str | None:
    """Return the error of git, as one line; None if it succeeds."""
    done = _run(folder, arguments, given)
    if done is None:
        return "git could not be started"
    if done.returncode == 0:
        return None
    return one_line(done.stderr.decode("utf-8", "replace").strip(), _ERROR) or f"git ended with {done.returncode}"


def _run(folder: str, arguments: tuple[str, ...], given: bytes) -> subprocess.CompletedProcess[bytes] | None:
    program = shutil.which("git")
    if program is None:
        return None
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        return subprocess.run(
            [program, *_SAFE, *arguments],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in _OFF} | _ENVIRONMENT,
            input=given,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    return None
