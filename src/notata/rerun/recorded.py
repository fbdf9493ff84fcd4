"""Read from a run folder how the run was made. It may be forged: everything is bounded and checked here.

There are three kinds of runs: a *program* that ``notata run`` recorded, a *script* that made its own `Logbook`, and a
*point* of ``notata sweep run``, whose command names the function that was called.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from notata._base import keys
from notata._base.display import listed
from notata._base.secrets import HIDDEN
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, MissingError
from notata.reader import LogReader
from notata.run.redirection import ORIGIN
from notata.run.state import read_state
from notata.store import Store

__all__ = ["Kind", "Recorded", "recorded"]

Kind = Literal["program", "script", "point"]

_PATCH_BYTES: Final = 64 * 2**20
_LIST_BYTES: Final = 8 * 2**20
_ARGUMENTS: Final = 10_000
_CHARACTERS: Final = 200_000  # of all arguments together
_NAMED: Final = 10
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PYTHON: Final = re.compile(r"(?:.*[/\\])?(?:python|pypy)[\d.]*(?:\.exe)?", re.IGNORECASE)
_PACKAGE: Final = re.compile(r"(?:^|[ ,])([A-Za-z0-9][\w.-]*)==([^\s,;#]+)")  # also behind an origin: name @ URL  # …
_SWEEP: Final = ("sweep", "run")
_POOLS: Final = ("multiprocessing", "loky")  # what their processes import
_NOTATA: Final = re.compile(r"(?:.*[/\\])?(?:notata(?:\.exe)?|notata[/\\]__main__\.py)")
_REDACTED: Final = re.compile(rb"^# Secrets are replaced by \*\*\* in:\n((?:#   [^\n]*\n)*)", re.MULTILINE)
_LEFT_OUT: Final = re.compile(rb"^# Left out:\n((?:#   [^\n]*\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of how a run was made.

    Attributes:
        run_id: Its id.
        url: Its location, without credentials.
        kind: ``program``, ``script`` or ``point``.
        argv: The command: of a program with placeholders, of a script with its interpreter.
        filled: The command of a program as it ran, if known.
        folder: The working folder.
        commit: The commit of the code.
        patch: The changes since the commit; empty if there were none.
        left_out: Changed files that are not in the patch, as its head names them.
        is_other_patch: Whether the patch is not the one whose digest is in ``metadata.json``.
        untracked: The content of ``code/untracked.json``; empty if there is none.
        packages: The packages that were installed with their versions; if that is unknown, the modules that were
            imported.
        has_packages: Whether `packages` are packages.
        python: The path of the interpreter; empty if unknown.
        params: The parameters.
        series: For each series the patterns that find its values in the output of a program.
        keep: The patterns of files of a program that were kept.
        task: The function of a point of a sweep.
        script_id: The id that a script gives to the run: another one than `run_id` if the run is itself a repetition.
    """

    run_id: str
    url: str
    kind: Kind
    argv: tuple[str, ...]
    filled: tuple[str, ...]
    folder: str
    commit: str
    patch: bytes = field(default=b"", repr=False)
    left_out: tuple[str, ...] = ()
    is_other_patch: bool = False
    untracked: bytes = field(default=b"", repr=False)
    packages: Mapping[str, str] = field(default_factory=dict, repr=False)
    has_packages: bool = False
    python: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    task: str = ""
    script_id: str = ""


def recorded(store: Store) -> Recorded:
    """Return how a run was made. Up to six reads.

    Raises:
        ConfigurationError: The run cannot be repeated; the message says why.
        RunMissingError: There is no run.
        StorageError: The run cannot be read.
    """
    reader = LogReader(store)
    fields, _ = read_state(store)
    run_id = str(fields.get("run_id") or reader.run_id)
    environment = _mapping(fields.get("environment"))
    command = _mapping(fields.get("command"))
    git = _mapping(environment.get("git"))
    name = f"run {run_id!r} at {store.url}"
    argv = _arguments(command.get("argv"), name) if command else _arguments(environment.get("command"), name)
    if not argv:
        raise _refused(name, "it recorded no command line. Runs of notata run and of Python scripts have one")
    commit = git.get("commit")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise _refused(name, "it recorded no commit. Its code was not in a git checkout, or git could not be run")
    kind, task = _kind(command, argv, name)
    patch, packages = _patch(store, git, name), _packages(_read(store, keys.PACKAGES, _LIST_BYTES))
    return Recorded(
        run_id,
        store.url,
        kind,
        argv,
        _arguments(environment.get("argv"), name) if command else (),
        _text(command.get("cwd")) or _text(environment.get("cwd")),
        commit,
        patch,
        _names(_LEFT_OUT, patch),
        _is_other(patch, git),
        _read(store, keys.UNTRACKED, _LIST_BYTES),
        packages or _modules(environment),
        bool(packages),
        _text(_mapping(environment.get("python")).get("executable")),
        reader.params,
        {str(one): [*map(str, found)] for one, found in _mapping(command.get("series")).items() if _is_list(found)},
        tuple(map(str, command["keep"])) if _is_list(command.get("keep")) else (),
        task,
        _script_id(_mapping(fields.get(ORIGIN))) or run_id,
    )


def _script_id(origin: Mapping[str, Any]) -> str:
    """Return the id that the script gave to the run that was repeated; empty if there is none."""
    return _text(origin.get("script_run_id")) or _text(origin.get("run_id")) if origin.get("how") == "rerun" else ""


def _refused(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"cannot rerun {name}: {why}")


def _arguments(value: object, name: str) -> tuple[str, ...]:
    """Return a command line of a run; empty if there is none.

    Raises:
        ConfigurationError: An argument is redacted, or the command line is too long.
    """
    if not isinstance(value, list) or not all(isinstance(argument, str) and "\0" not in argument for argument in value):
        return ()
    if len(value) > _ARGUMENTS or sum(map(len, value)) > _CHARACTERS:
        raise _refused(name, "its command line is too long to be shown")
    shown = [
        f"{value[at - 1]} {argument}" if at else argument for at, argument in enumerate(value) if HIDDEN in argument
    ]
    redacted = [one_line(argument, 100) for argument in shown]
    if redacted:
        raise _refused(
            name,
            f"secrets are redacted in its command line: {listed(redacted, _NAMED)}. Start the command yourself, with "
            "the secrets in environment variables",
        )
    return tuple(value)


def _kind(command: Mapping[str, Any], argv: tuple[str, ...], name: str) -> tuple[Kind, str]:
    """Return the kind of a run, and the function of a point."""
    if command:
        return "program", ""
    if not _PYTHON.fullmatch(argv[0]):
        raise _refused(name, f"{one_line(argv[0], 100)!r} is not a Python interpreter")
    if task := _task_of(argv):
        return "point", task
    if len(argv) < 2 or any("ipykernel" in argument for argument in argv[:4]):
        raise _refused(name, "it was recorded in an interactive session or a notebook, whose input is unknown")
    at = argv.index("-c") + 1 if "-c" in argv[:-1] else 0
    if at and any(word in argv[at] for word in _POOLS):
        raise _refused(
            name, "a worker process of a pool created it, and the command line of that process does not name its task"
        )
    return "script", ""


def _task_of(argv: Sequence[str]) -> str:
    """Return the function of a command line of ``notata sweep run``; empty if it is another one.

    >>> _task_of(["python", "/bin/notata", "sweep", "run", "--retries", "2", "fit.py:solve", "space.toml"])
    'fit.py:solve'
    >>> _task_of(["python", "-m", "notata", "sweep", "run", "fit:solve", "space.toml"])
    'fit:solve'
    """
    at = next((at for at in range(1, len(argv) - 1) if tuple(argv[at : at + 2]) == _SWEEP), 0)
    if not at or not (_NOTATA.fullmatch(argv[at - 1]) or argv[at - 1] == "notata"):
        return ""
    return next((argument for argument in argv[at + 2 :] if _is_task(argument)), "")


def _is_task(argument: str) -> bool:
    module, colon, function = argument.rpartition(":")
    return bool(colon and module) and function.replace(".", "_").isidentifier() and not argument.startswith("-")


def _patch(store: Store, git: Mapping[str, Any], name: str) -> bytes:
    """Return the patch of a run; empty if its checkout was clean.

    Raises:
        ConfigurationError: The checkout was changed, and there is no patch, or secrets in it are redacted.
    """
    patch = _read(store, keys.PATCH, _PATCH_BYTES)
    if not patch and git.get("dirty") is True:
        raise _refused(
            name,
            f"files of its checkout were changed, but the changes are not recorded: it has no {keys.PATCH}",
        )
    facts = _mapping(git.get("patch"))
    redacted = _names(_REDACTED, patch) or tuple(map(str, facts.get("redacted_files") or ()))
    if redacted or facts.get("redacted") is True:
        raise _refused(
            name,
            f"secrets are redacted in the recorded changes of {listed(redacted, _NAMED) or 'its files'}. Apply "
            f"{store.url}/{keys.PATCH} yourself, and fill in the secrets",
        )
    return patch


def _is_other(patch: bytes, git: Mapping[str, Any]) -> bool:
    """Check whether a patch is not the one that was recorded; False if there is none, or no digest of it."""
    digest = _mapping(git.get("patch")).get("sha256")
    return bool(patch) and isinstance(digest, str) and digest != hashlib.sha256(patch).hexdigest()


def _names(pattern: re.Pattern[bytes], patch: bytes) -> tuple[str, ...]:
    """Return the names in one list of the head of a patch."""
    found = pattern.search(patch, 0, patch.find(b"\ndiff --git ") + 1 or len(patch))
    lines = found[1].decode("utf-8", "replace").splitlines() if found else []
    return tuple(one_line(line.removeprefix("#   "), 300) for line in lines)


def _packages(data: bytes) -> dict[str, str]:
    """Return names and versions from the list of all installed packages."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        if match := _PACKAGE.search(line):
            found[match[1]] = match[2]
    return found


def _modules(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return names and versions of the modules that were imported."""
    listed = _mapping(environment.get("packages"))
    return {str(name): version for name, version in listed.items() if isinstance(version, str)}


def _read(store: Store, key: str, most: int) -> bytes:
    """Return a file of at most so many bytes; empty if there is none, or it is larger."""
    try:
        found = store.fetch(key, 0, most)
    except MissingError:
        return b""
    return found.data if found.size <= most else b""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _text(value: object) -> str:
    return value if isinstance(value, str) and "\0" not in value else ""
