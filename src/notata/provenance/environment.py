"""Record the environment of a run: interpreter, machine, process, packages, git.

Environment variables are never recorded, as they can contain secrets.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from notata._base.prepared import prepared
from notata._base.secrets import arguments, refresh
from notata.provenance.git import state_of

__all__ = ["capture", "imported_packages"]


def capture(redact: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the environment of this process as plain values; unavailable parts are omitted.

    The first call takes some milliseconds, and two calls of ``git``. Later ones take 0.1 ms: git is called again after
    ten seconds, and at once after a commit, a checkout or ``git add``. If git is slow, it is called after up to a
    minute.

    Git runs no program that the checkout configures: no filter, monitor, hook or submodule. It fetches nothing.

    Args:
        redact: A function applied to the arguments of the command line. Secrets that `notata._base.secrets` finds are
            always redacted.

    Returns:
        ``python`` (version, implementation, executable), ``platform``, ``host``, ``user``, ``pid``, ``argv``, ``cwd``,
        ``packages`` (the version of each imported top-level package), and ``git`` (commit, branch, dirty) if the
        script, or else the working folder, is in a checkout.

    >>> sorted(capture())[:2]
    ['argv', 'cwd']
    """
    refresh()
    found = _found(
        argv=lambda: [redact(argument) for argument in arguments(getattr(sys, "argv", []))],
        cwd=os.getcwd,
        packages=imported_packages,
        git=lambda: state_of(_script_folder()) or state_of(os.getcwd()),
    )
    return prepared({**_lasting(os.getpid()), **found})


@functools.lru_cache(1)
def _lasting(pid: int) -> dict[str, Any]:
    """Return the part that stays the same for the whole process."""
    return _found(python=_python, platform=platform.platform, host=platform.node, user=_user, pid=lambda: pid)


def _found(**parts: Callable[[], Any]) -> dict[str, Any]:
    """Return the available parts of the environment."""
    found: dict[str, Any] = {}
    for name, ask in parts.items():
        with suppress(Exception):  # for example, a removed folder or a package that raises; the run continues
            found[name] = ask()
    return {name: value for name, value in found.items() if value is not None}


def _python() -> dict[str, str]:
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
    }


def _user() -> str:
    """Return the system's name or number of the user; `getpass.getuser` would use environment variables."""
    if sys.platform == "win32":
        return os.getlogin()
    import pwd

    try:
        return str(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        return str(os.getuid())


def imported_packages() -> dict[str, str]:
    """Return the version of each imported top-level package, from its metadata or else its ``__version__``.

    >>> imported_packages()["yaml"].split(".")[0]
    '6'
    """
    modules = tuple(sys.modules)
    return dict(_versions(len(modules), modules[-1]))


@functools.lru_cache(1)
def _versions(_count: int, _newest: str) -> dict[str, str]:
    """Return the same for this number of modules and the newest one; an import changes one of the two."""
    names = sorted({name for name in tuple(sys.modules) if "." not in name} - sys.stdlib_module_names)
    versions = {name: _version(name) for name in names if not name.startswith("_")}
    return {name: version for name, version in versions.items() if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    from importlib import metadata  # ten times faster than `packages_distributions`, which reads every package

    version: object = None
    with suppress(Exception):
        version = metadata.version(name)
    with suppress(Exception):  # a package can raise or warn here
        version = version or sys.modules[name].__version__
    return version if isinstance(version, str) else None


def _script_folder() -> str | None:
    """Return the folder of the script; None for an installed script, such as pytest or a notebook kernel."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    installed = (os.path.join(sys.prefix, ""), os.path.join(sys.base_prefix, ""))
    if not script or os.path.abspath(script).startswith(installed):
        return None
    return str(os.path.dirname(os.path.abspath(script)))
