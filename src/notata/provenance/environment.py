"""Record the environment of a run: interpreter, machine, process, job, packages, git.

Environment variables are never recorded, as they can contain secrets, except for the facts about the job of a fixed
list, see `notata.provenance.scheduler`.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from notata._base.prepared import prepared
from notata._base.secrets import arguments, refresh
from notata.provenance.code import Code, Extent, code_of
from notata.provenance.git import checkout_of
from notata.provenance.scheduler import job_facts

__all__ = ["RunEnvironment", "capture", "environment_of_program", "environment_of_run", "imported_packages"]

_COMMAND: Final = 2**14  # characters of the command line; metadata.json is stored at each heartbeat


@dataclass(frozen=True, slots=True)
class RunEnvironment:
    """The environment of a run.

    Attributes:
        fields: The field ``environment`` of metadata.json.
        files: The files of the run that describe its code, by key.
    """

    fields: dict[str, Any]
    files: Mapping[str, bytes]


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
        ``python`` (version, implementation, executable), ``platform``, ``host``, ``user``, ``pid``, ``argv``,
        ``command`` (with the interpreter and its options), ``cwd``, ``packages`` (the version of each imported
        top-level package), ``scheduler`` (facts about the job, from a fixed list of environment variables), and ``git``
        (commit, branch, dirty) if the script, or else the working folder, is in a checkout.

    >>> sorted(capture())[:2]
    ['argv', 'command']
    """
    return environment_of_run(redact).fields


def environment_of_run(redact: Callable[[str], str] = str, extent: Extent = "none") -> RunEnvironment:
    """Return the environment as `capture` does, and the code of the run, see `notata.provenance.code`.

    Args:
        redact: As for `capture`.
        extent: How much of the code to record.
    """
    refresh()
    checkout, code = None, Code()
    with suppress(Exception):  # for example, a removed working folder
        checkout = checkout_of(_script_folder()) or checkout_of(os.getcwd())
    with suppress(Exception):
        code = code_of(checkout, extent)
    argv: list[str] = []
    with suppress(Exception):
        argv = [redact(argument) for argument in arguments(getattr(sys, "argv", []))]
    found = _found(
        argv=lambda: argv,
        command=lambda: _command(argv, redact),
        cwd=os.getcwd,
        packages=imported_packages,
        scheduler=lambda: job_facts(os.environ),
        git=lambda: None if checkout is None else {**checkout.state, **code.git},
        installed=lambda: code.installed or None,
    )
    return RunEnvironment(prepared({**_lasting(os.getpid()), **found}), code.files)


def environment_of_program(
    argv: Iterable[str], cwd: str, path: str, redact: Callable[[str], str] = str, extent: Extent = "none"
) -> RunEnvironment:
    """Return the environment of another program on this machine: its command line, and the git state of its code.

    Args:
        argv: Its arguments, its name included.
        cwd: Its working folder, whose checkout counts first.
        path: Its file.
        redact: As for `capture`.
        extent: As for `environment_of_run`.
    """
    refresh()
    checkout, code = None, Code()
    with suppress(Exception):
        checkout = checkout_of(cwd) or checkout_of(os.path.dirname(path))
    with suppress(Exception):
        code = code_of(checkout, extent)
    lasting = _lasting(os.getpid())
    found = _found(
        argv=lambda: [redact(argument) for argument in arguments(argv)],
        cwd=lambda: redact(cwd),
        scheduler=lambda: job_facts(os.environ),
        git=lambda: None if checkout is None else {**checkout.state, **code.git},
        installed=lambda: code.installed or None,
    )
    of_machine: dict[str, Any] = {name: lasting[name] for name in ("platform", "host", "user") if name in lasting}
    return RunEnvironment(prepared({**of_machine, **found}), code.files)


def _command(argv: list[str], redact: Callable[[str], str]) -> list[str] | None:
    """Return the whole command line, with the interpreter; None if it is long, as that of ``python -c``.

    Args:
        argv: The end of it, which Python gives to the script, redacted.
        redact: Redacts the rest.
    """
    given = sys.orig_argv
    if sum(map(len, given)) > _COMMAND:
        return None
    before = len(given) - len(argv)
    if before > 0 and given[before:] == sys.argv:
        return [*(redact(argument) for argument in arguments(given[:before])), *argv]
    return [redact(argument) for argument in arguments(given)]


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
