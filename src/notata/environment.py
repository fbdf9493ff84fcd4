"""The surroundings of a run: interpreter, machine, process, packages, git. It knows nothing of storage.

Environment variables are never looked at for what is told: they hold secrets.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from notata.secrets import arguments, refresh

__all__ = ["capture"]

_GIT_SECONDS: Final = 3.0  # of a working tree on a slow disk
_GIT_FRESH: Final = 10.0  # that its answer is taken for true


def capture(redact: Callable[[str], str] = str) -> dict[str, Any]:
    """What can be told about where this process runs, as plain values; what cannot be found is left out.

    Takes some milliseconds, and a call of ``git`` for each folder that is asked about, once in ten seconds.

    Args:
        redact: Applied to the arguments of the command line. What `notata.secrets` knows for a secret is hidden in any
            case.

    Returns:
        ``python`` (version, implementation, executable), ``platform``, ``host``, ``user``, ``pid``, ``argv``, ``cwd``,
        ``packages`` (the version of each top-level package that is imported by now), and ``git`` (commit, branch,
        dirty) where the script, or else the working folder, lies in a checkout.

    >>> sorted(capture())[:2]
    ['argv', 'cwd']
    """
    parts: dict[str, Callable[[], Any]] = {
        "python": _python,
        "platform": platform.platform,
        "host": platform.node,
        "user": _user,
        "pid": os.getpid,
        "argv": lambda: [redact(argument) for argument in arguments(getattr(sys, "argv", []))],
        "cwd": os.getcwd,
        "packages": _packages,
        "git": lambda: _git_of(_script_folder()) or _git_of(os.getcwd()),
    }
    refresh()
    found: dict[str, Any] = {}
    for name, ask in parts.items():
        with suppress(Exception):  # a folder that was removed, a package that raises: no run is lost for that
            found[name] = ask()
    return {name: value for name, value in found.items() if value is not None}


def _python() -> dict[str, str]:
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
    }


def _user() -> str:
    """The name that the system knows, or its number; `getpass.getuser` would ask environment variables first."""
    if sys.platform == "win32":
        return os.getlogin()
    import pwd

    try:
        return str(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        return str(os.getuid())


def _packages() -> dict[str, str]:
    """Versions of what is imported, by import name: as installed, else as the package says of itself."""
    standard = sys.stdlib_module_names
    names = sorted({name.partition(".")[0] for name in tuple(sys.modules)} - standard)
    versions = {name: _version(name) for name in names if not name.startswith("_")}
    return {name: version for name, version in versions.items() if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    from importlib import metadata  # a tenth of the time of `packages_distributions`, which reads every package

    version: object = None
    with suppress(Exception):
        version = metadata.version(name)
    with suppress(Exception):  # a package may raise, or warn of the question
        version = version or sys.modules[name].__version__
    return version if isinstance(version, str) else None


def _script_folder() -> str | None:
    """The folder of the script, unless that is an installed one: pytest, a notebook's kernel."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    installed = (os.path.join(sys.prefix, ""), os.path.join(sys.base_prefix, ""))
    if not script or os.path.abspath(script).startswith(installed):
        return None
    return str(os.path.dirname(os.path.abspath(script)))


def _git_of(folder: str | None) -> dict[str, Any] | None:
    """What git says of a folder, at most `_GIT_FRESH` seconds ago: many runs may begin one after the other."""
    return None if folder is None else _git(folder, int(time.monotonic() // _GIT_FRESH))


@functools.lru_cache(8)
def _git(folder: str, _: int) -> dict[str, Any] | None:
    """Commit, branch and whether tracked files were changed, by one call of git."""
    # No monitor is started, no lock taken and no index refreshed: somebody else may work in that checkout.
    command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    told = {name: value for name, _, value in (line[2:].partition(" ") for line in lines if line.startswith("# "))}
    return {
        "commit": _given(told.get("branch.oid")),
        "branch": _given(told.get("branch.head")),
        "dirty": any(not line.startswith("#") for line in lines),
    }


def _given(value: str | None) -> str | None:
    """A name; git puts what is none, ``(initial)`` and ``(detached)``, into parentheses."""
    return None if not value or value.startswith("(") else value
