"""Find out where a command ran in its checkout, so that it can run at the same place of a worktree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from notata._base.terminal import one_line
from notata.errors import ConfigurationError
from notata.rerun.arguments import script_at
from notata.rerun.checkout import Repository, is_within
from notata.rerun.recorded import Recorded

__all__ = ["Places", "places_of"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a command ran.

    Attributes:
        top: The top of its checkout; empty if unknown.
        folder: Its working folder, relative to the top; an absolute path if it is outside of the checkout.
        argv: The command; if its folder is outside, with the absolute path of the script or program.
        notes: Sentences about the places.
    """

    top: str
    folder: str
    argv: tuple[str, ...]
    notes: tuple[str, ...] = ()


def places_of(run: Recorded, repository: Repository) -> Places:
    """Return where the command of a run ran.

    The old checkout is that of the repository if the paths lie there. Otherwise it was another clone: then a path whose
    end is a file or folder of the commit shows where its top was.

    Raises:
        ConfigurationError: The script of the run is not in the commit.
    """
    folder = os.path.normpath(run.folder)
    if not run.folder or not os.path.isabs(folder):
        return Places("", "", run.argv, ("the working folder is unknown; the command runs at the top of the checkout",))
    at = _program_at(run)
    program = os.path.normpath(os.path.join(folder, run.argv[at])) if at is not None else ""
    top = _top(run, repository, folder, program)
    notes = () if top in ("", repository.top) else (f"the old checkout was at {one_line(top, 1000)}",)
    for path in (folder, os.path.realpath(folder)):
        if top and is_within(path, top):
            return Places(top, os.path.relpath(path, top).removeprefix("."), run.argv, notes)
    if run.kind == "script" and program and not (top and is_within(program, top)):
        raise ConfigurationError(
            f"cannot rerun run {run.run_id!r} at {run.url}: its script {one_line(program, 300)} is in no checkout that "
            "has the commit. Name the repository of the script with repository= (--repository)"
        )
    argv = [*run.argv]
    if at is not None and top and is_within(program, top):
        argv[at] = program
    return Places(top, folder, tuple(argv), (*notes, f"the folder {one_line(folder, 1000)} is outside of the checkout"))


def _program_at(run: Recorded) -> int | None:
    """Return the position of the script, or of a program that is named by a path; None if there is none."""
    if run.kind == "program":
        return 0 if os.sep in run.argv[0] else None
    if run.kind == "point":
        return None
    at = script_at(run.argv)
    return None if run.argv[at - 1] in ("-m", "-c") else at


def _top(run: Recorded, repository: Repository, folder: str, program: str) -> str:
    """Return the top of the old checkout; empty if it is unknown."""
    known = [path for path in (folder, program) if path]
    for path in (*known, *map(os.path.realpath, known)):
        if is_within(path, repository.top):
            return repository.top
    files = repository.files(run.commit)
    folders = {name[: name.rfind("/")] for name in files if "/" in name}
    for path, names in ((program, files), (folder, folders | {above for name in folders for above in _above(name)})):
        if path and (found := _beginning(path, names)):
            return found
    return folder if run.kind != "script" or not program or program.startswith(f"{folder}{os.sep}") else ""


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _beginning(path: str, names: frozenset[str] | set[str]) -> str:
    """Return the beginning of a path whose end, as long as possible, is one of the names; empty if there is none.

    >>> _beginning("/home/ada/solver/sub/fit.py", {"sub/fit.py", "fit.py"})
    '/home/ada/solver'
    """
    parts = path.split(os.sep)
    for count in range(1, len(parts)):
        if "/".join(parts[count:]) in names:
            return os.sep.join(parts[:count]) or os.sep
    return ""
