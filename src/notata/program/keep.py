"""Find the files that a program wrote, by patterns, and store them in its run.

A pattern is that of a shell, relative to the working folder, and ``**`` matches any folders. Before the program starts,
notata notes the size, time and inode of each file that matches; afterwards it keeps those that are new or differ. So
files of an earlier run are not taken for results of this one, whatever the clocks of the machine and the disk say.

A pattern with wildcards finds regular files in the working folder only: it skips links, hidden files, and the folders
of runs. A name without wildcards is taken as it stands: it may lead out of the working folder, and through links.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import ConfigurationError, KeyNameError

__all__ = ["MOST", "Found", "Keeper", "check_patterns"]

MOST: Final = 10_000
"""Files that are kept of one run."""

_LOOKED_AT: Final = 200_000  # matching names
_RUN: Final = keys.run_folder("x").removesuffix("x")

_Facts = tuple[int, int, int, int]


def check_patterns(patterns: Iterable[str]) -> None:
    """Check patterns before a program starts.

    Raises:
        ConfigurationError: A pattern is empty, or has wildcards and leads out of the working folder.
    """
    for pattern in patterns:
        if not pattern or "\0" in pattern:
            raise ConfigurationError("invalid --keep: it is empty. Write a file or a pattern, as in --keep 'out/*.vtk'")
        if glob.has_magic(pattern) and (os.path.isabs(pattern) or ".." in pattern.split("/")):
            raise ConfigurationError(
                f"invalid --keep {quoted(pattern)}: a pattern with wildcards stays in the working folder. Name the "
                "file, or start notata in that folder"
            )


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a program.

    Attributes:
        files: Path on the disk by key below ``artifacts/``, sorted.
        unchanged: Names of matching files that are as they were when the program started.
        refused: Names that cannot be a key, with the reason.
        is_cut: Whether there were more than `MOST`.
        missed: Patterns that match no file.
    """

    files: Mapping[str, str]
    unchanged: tuple[str, ...]
    refused: Mapping[str, str]
    is_cut: bool
    missed: tuple[str, ...]


class Keeper:
    """The files that match patterns, and how they were when the program started.

    Args:
        patterns: The patterns.
        folder: The working folder.
        most: As `MOST`.

    Raises:
        ConfigurationError: A pattern is invalid.
    """

    def __init__(self, patterns: Iterable[str], folder: str, *, most: int = MOST) -> None:
        self._patterns = tuple(patterns)
        check_patterns(self._patterns)
        self._folder = os.path.realpath(folder)
        self._of_runs: dict[str, bool] = {self._folder: False}
        self._most = most
        self._before = {path: facts for pattern in self._patterns for _, path, facts in self._matching(pattern)}

    def find(self) -> Found:
        """Return the files that are new or have changed since this object was made."""
        files: dict[str, str] = {}
        unchanged: set[str] = set()
        refused: dict[str, str] = {}
        missed = []
        is_cut = False
        for pattern in self._patterns:
            is_missed = True
            for name, path, facts in self._matching(pattern):
                is_missed = False
                if self._before.get(path) == facts:
                    unchanged.add(name)
                elif len(files) >= self._most:
                    is_cut = True
                    break
                else:
                    self._add(name, path, files, refused)
            if is_missed:
                missed.append(pattern)
        return Found(dict(sorted(files.items())), tuple(sorted(unchanged)), refused, is_cut, tuple(missed))

    @staticmethod
    def _add(name: str, path: str, files: dict[str, str], refused: dict[str, str]) -> None:
        try:
            key = keys.artifact(name)
        except KeyNameError as error:
            refused[name] = str(error)
            return
        if files.setdefault(key, path) != path:
            refused[name] = f"{path} would have the same name as {files[key]}"

    def _matching(self, pattern: str) -> Iterator[tuple[str, str, _Facts]]:
        """Yield name below ``artifacts/``, path and facts of each file that matches a pattern."""
        looked_at = 0
        for path in self._paths(pattern):
            looked_at += 1
            if looked_at > _LOOKED_AT:
                return
            try:
                found = os.stat(path)
            except OSError:  # removed meanwhile
                continue
            if stat.S_ISREG(found.st_mode):
                yield (
                    _name(path, self._folder),
                    path,
                    (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino),
                )

    def _paths(self, pattern: str) -> Iterator[str]:
        if not glob.has_magic(pattern):
            path = os.path.normpath(os.path.join(self._folder, pattern))
            yield from self._files_below(path) if os.path.isdir(path) else [path]
            return
        for name in glob.iglob(pattern, root_dir=self._folder, recursive=True):
            path = os.path.normpath(os.path.join(self._folder, name))
            if self._is_inside(path) and not os.path.islink(path):
                yield from self._files_below(path) if os.path.isdir(path) and "**" not in pattern else [path]

    def _files_below(self, folder: str) -> Iterator[str]:
        """Yield the files of a folder that matches, without links and without runs."""
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not self._is_of_run(os.path.join(place, name)))
            paths = (os.path.join(place, name) for name in sorted(files))
            yield from (path for path in paths if not os.path.islink(path))

    def _is_inside(self, path: str) -> bool:
        """Check whether a path lies in the working folder, without links on the way, and in no run."""
        parent = os.path.dirname(path)
        return os.path.realpath(parent) == parent and not self._is_of_run(parent) and not self._is_of_run(path)

    def _is_of_run(self, folder: str) -> bool:
        """Check whether a folder is that of a run, or lies in one."""
        known = self._of_runs.get(folder)
        if known is None:
            above, name = os.path.split(folder)
            is_run = name.startswith(_RUN) and os.path.isfile(os.path.join(folder, keys.METADATA))
            known = self._of_runs[folder] = is_run or (above != folder and self._is_of_run(above))
        return known


def _name(path: str, folder: str) -> str:
    """Return the name of a kept file: its path in the working folder, or else its path without ``..`` and root."""
    name = os.path.relpath(path, folder)
    if name.split(os.sep)[0] == os.pardir:
        name = os.path.splitdrive(path)[1] if name.count(os.pardir) > 1 else name.removeprefix(os.pardir)
    return name.replace(os.sep, "/").lstrip("/")
