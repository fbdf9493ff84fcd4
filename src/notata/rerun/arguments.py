"""The command of a rerun: paths of the old checkout become paths of the worktree, parameters get new values."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from notata._base.terminal import one_line, safe
from notata.errors import ConfigurationError

__all__ = ["interpreter", "moved", "script_at", "shown_command", "texts_of", "with_values"]

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][\w.-]*)\}")
_MODULE: Final = frozenset({"-m", "-c"})


def moved(argv: Iterable[str], old: str, new: str) -> list[str]:
    """Return arguments in which a folder is replaced, as a whole argument or as a value: ``--mesh=/old/a.h5``.

    >>> moved(["/p/fit.py", "--mesh=/p/a.h5", "/part/x"], "/p", "/w")
    ['/w/fit.py', '--mesh=/w/a.h5', '/part/x']
    """
    if not old or old == os.sep:
        return [*argv]
    place = re.compile(rf"(^|=|:){re.escape(old)}(?=$|{re.escape(os.sep)})")
    return [place.sub(lambda found: found[1] + new, argument) for argument in argv]


def with_values(argv: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Return the command of a script with new values of its options: those of ``--name value`` or ``--name=value``.

    Args:
        argv: The command, with its interpreter.
        values: The new values by name.

    Raises:
        ConfigurationError: The command has no such option, or several, or the option takes no value.

    >>> with_values(["python", "fit.py", "--dt", "0.1", "--lr=1"], {"dt": "0.2", "lr": "2"})
    ['python', 'fit.py', '--dt', '0.2', '--lr=2']
    """
    changed = [*argv]
    start = script_at(argv) + 1
    for name, value in values.items():
        spellings = {f"--{name}", f"--{name.replace('_', '-')}"}
        found = [at for at in range(start, len(argv)) if argv[at].partition("=")[0] in spellings]
        if len(found) != 1:
            count, shown = "no option" if not found else f"{len(found)} options", one_line(name, 100)
            raise ConfigurationError(
                f"cannot set {shown} of the script: its command line has {count} --{shown}. A script takes its "
                "parameters in its own way: -p (params=) can only change the value of one of its options, --name value "
                "or --name=value"
            )
        at = found[0]
        if "=" in argv[at]:
            changed[at] = f"{argv[at].partition('=')[0]}={value}"
        elif at + 1 < len(argv) and not (argv[at + 1].startswith("--")):
            changed[at + 1] = value
        else:
            raise ConfigurationError(
                f"cannot set {one_line(name, 100)} of the script: its option --{one_line(name, 100)} has no value in "
                "the recorded command line"
            )
    return changed


def script_at(argv: Sequence[str]) -> int:
    """Return the position of the script, or of the module, in the command line of Python."""
    for at in range(1, len(argv)):
        if argv[at] in _MODULE:
            return at + 1
        if not argv[at].startswith("-"):
            return at
    return len(argv) - 1


def texts_of(argv: Sequence[str], filled: Sequence[str]) -> dict[str, str]:
    """Return the texts that replaced placeholders, as far as the recorded arguments show them.

    A value was perhaps given in another way than it is stored, such as ``1e-3`` for 0.001.

    >>> texts_of(["./solver", "--re={re}", "{name}.nml"], ["./solver", "--re=1e3", "a.nml"])
    {'re': '1e3', 'name': 'a'}
    """
    texts: dict[str, str] = {}
    if len(argv) != len(filled):
        return texts
    for argument, value in zip(argv, filled, strict=True):
        names = _PLACEHOLDER.findall(argument)
        if len(names) != 1 or "{{" in argument:  # otherwise it is ambiguous where one value ends
            continue
        before, after = argument.split("{" + names[0] + "}")
        if value.startswith(before) and value.endswith(after) and len(value) >= len(before) + len(after):
            texts.setdefault(names[0], value[len(before) : len(value) - len(after)])
    return texts


def interpreter(recorded: str, command: str) -> tuple[str, str]:
    """Return the Python interpreter for a script, and a note if it is another one than before.

    Args:
        recorded: Its recorded path.
        command: Its name in the command line.
    """
    for path in (recorded, command):
        if os.path.isabs(path) and os.access(path, os.X_OK) and os.path.isfile(path):
            return path, ""
    name = one_line(recorded or command, 200)
    return sys.executable, f"the interpreter {name} does not exist here; {sys.executable} runs the script"


def shown_command(argv: Sequence[str]) -> str:
    """Return a command line as a shell takes it, in one line without control characters."""
    return safe(shlex.join(argv))
