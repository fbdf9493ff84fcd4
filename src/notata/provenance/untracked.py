"""List the untracked files of a checkout, and add small source files to its patch."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from notata._base.secrets import redacted
from notata.provenance.files import Budget, digest_of, is_secret_file, read_regular
from notata.provenance.git import Checkout, output
from notata.provenance.patch import HASHED, Patch, new_file, shown_path

__all__ = ["MOST", "SOURCE", "Untracked", "untracked_files"]

MOST: Final = 1000
"""Files that are listed."""

SOURCE: Final = 64 * 2**10
"""Bytes of a source file that is added to the patch."""

SECONDS: Final = 2.0  # time limit of git
HASHING: Final = 1.0  # seconds in which files are read for their digest
_NAMES: Final = 8 * 2**20  # bytes of names that git may print
_SKIPPED: Final = ("__pycache__/", ".ipynb_checkpoints/", ".venv/", "venv/", "node_modules/")
_SUFFIXES: Final = frozenset({
    ".bash", ".c", ".cc", ".cfg", ".cmake", ".cpp", ".cu", ".cuh", ".cxx", ".f", ".f03", ".f08", ".f90", ".f95", ".for",
    ".geo", ".h", ".hh", ".hpp", ".i", ".in", ".inc", ".ini", ".inp", ".ipynb", ".jl", ".js", ".json", ".lua", ".m",
    ".md", ".mk", ".nml", ".pl", ".pxd", ".py", ".pyi", ".pyx", ".r", ".rs", ".rst", ".sbatch", ".sh", ".slurm", ".smk",
    ".sql", ".toml", ".ts", ".yaml", ".yml",
})  # fmt: skip
_NAMED: Final = frozenset({"CMakeLists.txt", "Dockerfile", "Makefile", "Snakefile", "makefile", "requirements.txt"})


@dataclass(frozen=True, slots=True)
class Untracked:
    """The untracked files of a checkout, those that git ignores excepted.

    Attributes:
        files: For each file ``path``, ``size`` and ``sha256``, as far as they are known; ``link`` for a link,
            ``folder`` for another checkout, and ``in_patch`` if the patch creates the file.
        found: The number of files; at least that many if `is_whole` is False.
        is_whole: Whether git listed all of them.
    """

    files: tuple[Mapping[str, Any], ...]
    found: int
    is_whole: bool

    def document(self) -> dict[str, Any]:
        """Return the content of ``code/untracked.json``."""
        document: dict[str, Any] = {"files": list(self.files), "found": self.found, "skipped": list(_SKIPPED)}
        if not self.is_whole:
            document["more"] = True
        return document


def untracked_files(checkout: Checkout, patch: Patch) -> Untracked | None:
    """Return the untracked files, and add new source files of at most 64 KiB to the patch. One call of git.

    Files of runs of notata are skipped, and so are folders that only contain results of tools. Of more than 1000 files,
    source files are listed first, and those at the top before those in folders.

    Args:
        checkout: The checkout.
        patch: The patch of its tracked files.

    Returns:
        The files; None if git fails.
    """
    skipped = [word for pattern in _SKIPPED for word in ("-x", pattern)]
    command = ("ls-files", "-z", "--others", "--exclude-standard", *skipped)
    listed = output(checkout.top, time.monotonic() + SECONDS, *checkout.safe, *command, most=_NAMES)
    if listed is None:
        return None
    names = listed.split(b"\0")
    ended = len(listed) <= _NAMES  # otherwise the last name may be incomplete
    paths = _outside_runs(checkout.top, (os.fsdecode(name) for name in names[: None if ended else -1] if name))
    paths.sort(key=lambda path: (not _is_source(path), path.count("/"), path))
    budget = Budget(HASHED, time.monotonic() + HASHING)
    files = tuple(_described(checkout.top, path, patch, budget) for path in paths[:MOST])
    return Untracked(tuple(sorted(files, key=lambda file: str(file["path"]))), len(paths), ended)


def _outside_runs(top: str, paths: Iterable[str]) -> list[str]:
    """Return the paths that do not belong to a run of notata."""
    known: dict[str, bool] = {}
    return [path for path in paths if "log_" not in path or not _is_of_run(top, path, known)]


def _is_of_run(top: str, path: str, known: dict[str, bool]) -> bool:
    parts = path.split("/")
    for number, name in enumerate(parts[:-1], 1):
        if name.startswith("log_"):
            folder = "/".join(parts[:number])
            if folder not in known:
                known[folder] = os.path.lexists(os.path.join(top, folder, "metadata.json"))
            if known[folder]:
                return True
    return False


def _is_source(path: str) -> bool:
    name = PurePosixPath(path).name
    return (PurePosixPath(name.lower()).suffix in _SUFFIXES or name in _NAMED) and not is_secret_file(path)


def _described(top: str, path: str, patch: Patch, budget: Budget) -> dict[str, Any]:
    """Describe a file, and add it to the patch if it is a small source file."""
    shown, full = shown_path(path), os.path.join(top, path)
    if path.endswith("/"):
        return {"path": shown, "folder": True}
    try:
        found = os.lstat(full)
    except (OSError, ValueError):
        return {"path": shown}
    if not stat.S_ISREG(found.st_mode):
        return {"path": shown, "link": True} if stat.S_ISLNK(found.st_mode) else {"path": shown}
    facts: dict[str, Any] = {"path": shown, "size": found.st_size}
    if is_secret_file(path) or shown != redacted(shown):
        return facts  # the digest of a short secret can be guessed
    if _is_source(path) and found.st_size <= SOURCE and _added(full, path, found.st_mode, patch):
        facts["in_patch"] = True
    if digest := digest_of(full, found.st_size, budget):
        facts["sha256"] = digest
    return facts


def _added(full: str, path: str, mode: int, patch: Patch) -> bool:
    data = read_regular(full, SOURCE)
    if data is None or b"\0" in data:
        return False
    digits = len(patch.commit)
    part = new_file(path, "100755" if mode & stat.S_IXUSR else "100644", data, digits=digits)
    return part is not None and patch.add(path, part)
