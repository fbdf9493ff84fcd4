"""What all commands have in common: options, exit codes, and how an error is told; it knows no command.

A command is a function with ``@click.command(cls=Command)`` in a module of its own, named in ``cli/__init__.py``. It
imports what it needs when it is called: ``notata --help`` imports every module of commands.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from notata._base.secrets import Values, leaves, redacted, within
from notata._base.terminal import safe_lines
from notata.cli import output
from notata.errors import (
    BatchError,
    ConfigurationError,
    ContainerMissingError,
    KeyNameError,
    MissingError,
    NotataError,
    PackageMissingError,
    StoredNameError,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "FOUND",
    "NOTHING",
    "STORAGE",
    "USAGE",
    "Command",
    "Group",
    "Trouble",
    "code_of",
    "complete_url",
    "json_option",
    "progress_option",
    "size_option",
    "storage_option",
    "tell",
    "urls_argument",
    "wanted",
]

FOUND: Final = 0
NOTHING: Final = 1
"""Nothing was found, or something differs."""
USAGE: Final = 2
STORAGE: Final = 3
"""A storage refused or failed, or what is there cannot be read."""

_INTERRUPTED: Final = 130  # as shells say it: 128 and the number of SIGINT
_PIPE_CLOSED: Final = 141  # and of SIGPIPE

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)

_UNCHECKED: Final = 50_000  # objects made before Python looks for cycles: a listing makes many, and few are in one

_COMPLETE: Final = "_NOTATA_COMPLETE"  # set by a shell that wants to know how a line may go on

_EXIT_CODES: Final = "Exit code: 0; 1 nothing found, or something differs; 2 usage; 3 storage."

_TOLD: Final = 100  # errors that a command prints one by one

_DEBUG: Final = "notata.debug"

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Command(click.Command):
    """One command: its errors become a line or two and an exit code, and its warnings lines.

    Args:
        *arguments: As for `click.Command`.
        examples: Command lines that the help ends with.
        count: The option that a number means which is written as one, as in ``tail -3``.
        **options: As for `click.Command`.
    """

    def __init__(self, *arguments: Any, examples: tuple[str, ...] = (), count: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, callback=_note_debug, help="Show tracebacks of errors."
            )
        )
        self.examples = examples
        self.count = count

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        given = [part for arg in args[:end] for part in self._parts_of(arg)]
        return super().parse_args(ctx, given + args[end:])

    def _parts_of(self, arg: str) -> list[str]:
        return [self.count, arg[1:]] if self.count and re.fullmatch("-[0-9]+", arg) else [arg]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.examples))
        formatter.write_paragraph()
        formatter.write_text(self.epilog or _EXIT_CODES)

    def invoke(self, ctx: click.Context) -> Any:
        if not _coloured():
            ctx.color = False
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()  # what cannot be written is told here, not by Python at its end
            except Exception as error:
                _end(ctx, error)
            except KeyboardInterrupt:
                _interrupted(ctx)


class Group(click.Group):
    """The command as a whole: whatever it prints, the output takes it."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        gc.set_threshold(_UNCHECKED)
        _make_printable()
        if _COMPLETE in os.environ:
            from notata.cli.completing import adapt_bash

            adapt_bash()
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else ctx.command_path
            output.complain(f"Error: {' '.join(error.format_message().split())}")
            output.complain(f"Try '{path} --help'")
            ctx.exit(USAGE)


def _coloured() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def _make_printable() -> None:
    """Replace streams that the shell has closed, and escape what the encoding of an output cannot hold."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed; a socket might get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end(ctx: click.Context, error: Exception) -> NoReturn:
    """Tell what ended a command, and end with its exit code."""
    if isinstance(error, click.ClickException | click.exceptions.Exit):
        raise error
    if isinstance(error, BrokenPipeError):
        _drop_output()
        ctx.exit(_PIPE_CLOSED)
    if ctx.meta.get(_DEBUG):
        _show_traceback(ctx, error)
    if isinstance(error, NotataError):
        if not ctx.meta.get(_DEBUG):
            tell(error)
        ctx.exit(code_of(error))
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        _drop_output()
        output.complain(f"Error: the output cannot be written: {error.strerror}")
    elif isinstance(error, MemoryError):
        output.complain("Error: not enough memory for what was asked for. Name fewer runs or files.")
    elif isinstance(error, RecursionError):
        output.complain("Error: a file of these runs is nested too deeply. Name fewer runs to see which one it is.")
    else:
        where = "above" if ctx.meta.get(_DEBUG) else "that --debug shows"
        output.complain(f"Error: {type(error).__name__}: this is a bug in notata. Report it with the traceback {where}")
    ctx.exit(STORAGE)


def _interrupted(ctx: click.Context) -> NoReturn:
    output.complain("Interrupted")
    ctx.exit(_INTERRUPTED)


def _drop_output() -> None:
    """Let go of an output that takes no more: Python flushes it once more at its end."""
    with suppress(OSError, ValueError):  # one that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_traceback(ctx: click.Context, error: Exception) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    given = Values([secret for value in ctx.params.values() for secret in _secrets(value)])
    click.echo(safe_lines(redacted(given.hide(text))), err=True, nl=False)


def _secrets(given: object) -> Iterator[str]:
    """Yield what of an argument may be secret: anything in a storage option but an address, and parts of a URL."""
    if isinstance(given, Mapping):
        yield from (leaf for leaf in leaves(given) if "://" not in leaf)
    yield from within(given, users=True)


class Trouble:
    """Errors that do not end a command: each is told at once, and at the end the gravest makes the exit code.

    It is what functions of `notata.search` take as `failed`.
    """

    def __init__(self) -> None:
        self.code = FOUND
        self._told: set[str] = set()
        self._more = 0
        self._debug = bool(click.get_current_context().meta.get(_DEBUG))

    def __call__(self, error: Exception) -> None:
        """Tell it, and go on."""
        if self._debug:
            raise error
        self._tell_once(error)
        code = code_of(error)
        if code == NOTHING and click.get_current_context().params.get("urls", ()) is None:
            output.complain("No URL was given, so NOTATA_BASE_DIR or outputs was meant; for this folder write .")
        self.code = max(self.code, code)

    def _tell_once(self, error: Exception) -> None:
        """Print an error, unless it was printed already or there were too many."""
        told = str(error)
        if told in self._told:
            return
        if len(self._told) < _TOLD:
            self._told.add(told)
            tell(error)
        else:
            self._more += 1

    def end(self, *, found: bool = True) -> None:
        """End the command: with what went wrong, else with whether something was found."""
        if self._more:
            output.complain(f"Error: and {self._more} more")
        click.get_current_context().exit(max(self.code, FOUND if found else NOTHING))


def code_of(error: Exception) -> int:
    """The exit code of an error."""
    if isinstance(error, BatchError):
        return max(code_of(inner) for inner in error.exceptions)
    if isinstance(error, StoredNameError):
        return STORAGE
    if isinstance(error, ConfigurationError | KeyNameError | PackageMissingError):
        return USAGE
    if isinstance(error, MissingError) and not isinstance(error, ContainerMissingError):
        return NOTHING
    return STORAGE


def tell(error: Exception) -> None:
    """One line on standard error; of many errors three."""
    errors = error.exceptions if isinstance(error, BatchError) else [error]
    for inner in errors[:3]:
        output.complain(f"Error: {' '.join(str(inner).split())}")
    if len(errors) > 3:
        output.complain(f"Error: and {len(errors) - 3} more")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    output.complain(f"Warning: {' '.join(str(message).split())}")


def _note_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_DEBUG] = value


# -- options -----------------------------------------------------------------------------------------------


def _pairs(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` pairs as storage options; a value may be JSON."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("write key=value, as in endpoint_url=http://127.0.0.1:9000")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def storage_option(*names: str, of: str = "") -> Callable[[_Function], _Function]:
    """``-o``, ``--storage-option``, or these names: a dictionary; for the argument `storage_options` if not said."""
    return click.option(
        *(names or ("-o", "--storage-option", "storage_options")),
        multiple=True,
        callback=_pairs,
        metavar="KEY=VALUE",
        help=f"For fsspec{of}, as often as needed. Secrets are better kept in the environment or in fsspec's "
        "configuration.",
    )


def urls_argument(function: _Function) -> _Function:
    """Any number of places, as the argument `urls`; None where none is given, which is the base folder."""
    return click.argument(
        "urls",
        metavar="[URL]...",
        nargs=-1,
        callback=lambda _context, _parameter, value: list(value) or None,
        shell_complete=complete_url,
    )(function)


def complete_url(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Local paths, and what lies in a bucket, for `shell_complete` of an argument or option."""
    from notata.cli.completing import places

    return places(context, parameter, incomplete)


def json_option(function: _Function) -> _Function:
    """``--json``, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")(function)


def progress_option(function: _Function) -> _Function:
    """``--progress``, as the argument `progress`; see `wanted`."""
    return click.option("--progress/--no-progress", default=None, help="A bar; shown on a terminal if not said.")(
        function
    )


def size_option(function: _Function) -> _Function:
    """``--bytes`` and ``--human``, as the argument `human`: None if neither is given; see `output.sizes`."""
    return click.option(
        "--human/--bytes",
        " /-b",
        "human",
        default=None,
        help="Sizes for people, as 3.5 MB, or in bytes. If not said: for people on a terminal.",
    )(function)


def wanted(progress: bool | None) -> bool:
    """Whether a bar is to be shown."""
    return sys.stderr.isatty() if progress is None else progress
