"""The surroundings of a run: interpreter, machine, process, packages, git. It knows nothing of storage.

Environment variables are never looked at for what is told: they hold secrets.
"""

from __future__ import annotations

import functools
import getpass
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

__all__ = ["capture"]

_GIT_SECONDS: Final = 3.0  # of a working tree on a slow disk
_HIDDEN: Final = "***"
_SECRET: Final = re.compile(r"(?i)(pass(word|wd|phrase)?|secret|token|credentials?|api[-_]?key|access[-_]?key|auth)$")


def capture(redact: Callable[[str], str] = str) -> dict[str, Any]:
    """What can be told about where this process runs, as plain values; what cannot be found is left out.

    Takes some milliseconds, and one call of ``git`` in a process.

    Args:
        redact: Applied to the arguments of the command line. Values that follow a name such as ``--password`` and
            user names in URLs are hidden in any case.

    Returns:
        ``python`` (version, implementation, executable), ``platform``, ``host``, ``user``, ``pid``, ``argv``, ``cwd``,
        ``packages`` (the version of each top-level package that is imported by now), and ``git`` (commit, branch,
        dirty) where the script, or else the working folder, lies in a checkout.

    >>> sorted(capture())[:3]
    ['argv', 'cwd', 'git']
    """
    found = {
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "platform": platform.platform(),
        "host": platform.node(),
        "user": _user(),
        "pid": os.getpid(),
        "argv": [redact(argument) for argument in _without_secrets(getattr(sys, "argv", []))],
        "cwd": _cwd(),
        "packages": _packages(),
        "git": _git(_place()),
    }
    return {name: value for name, value in found.items() if value is not None}


def _user() -> str | None:
    """The name that the system knows, where it knows one; a container need not."""
    with suppress(ImportError, KeyError):
        import pwd

        return str(pwd.getpwuid(os.getuid()).pw_name)
    with suppress(Exception):
        return str(getpass.getuser())
    return None


def _cwd() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()
    return None


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    shown: list[str] = []
    follows = False  # a secret, after the name of one
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        named = _SECRET.search(name) is not None
        if follows and not argument.startswith("-"):
            shown.append(_HIDDEN)
        elif named and equals:
            shown.append(f"{name}={_HIDDEN}")
        else:
            shown.append(re.sub(r"//[^/@\s]+@", f"//{_HIDDEN}@", argument))
        follows = named and not equals and argument.startswith("-")
    return shown


def _packages() -> dict[str, str]:
    """Versions of what is imported, by import name: as installed, else as the package says of itself."""
    standard = sys.stdlib_module_names
    names = sorted({name.partition(".")[0] for name in tuple(sys.modules)} - standard)
    versions = {name: _version(name) for name in names if not name.startswith("_")}
    return {name: version for name, version in versions.items() if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    from importlib import metadata  # a tenth of the time of `packages_distributions`, which reads every package

    with suppress(Exception):
        return str(metadata.version(name))
    own = getattr(sys.modules.get(name), "__version__", None)
    return str(own) if isinstance(own, str) else None


def _place() -> str | None:
    """The folder of the script, or the working folder where there is none of the user's own."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    installed = (os.path.join(sys.prefix, ""), os.path.join(sys.base_prefix, ""))
    if script and not os.path.abspath(script).startswith(installed):
        return str(os.path.dirname(os.path.abspath(script)))
    return _cwd()


@functools.cache
def _git(folder: str | None) -> Mapping[str, Any] | None:
    """Commit, branch and whether tracked files were changed, by one call of git."""
    if folder is None:
        return None
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
    told = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    return {
        "commit": told.get("branch.oid"),
        "branch": told.get("branch.head"),
        "dirty": any(not line.startswith("#") for line in lines),
    }
