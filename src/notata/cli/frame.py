"""The common parts of all commands: options, exit codes and the printing of errors.

A command is a function with ``@click.command(cls=Command)`` in a module of its own, registered in ``cli/__init__.py``.
It imports its dependencies when it is called, because ``notata --help`` imports every command module.
"""

from __future__ import annotations

import atexit
import errno
import gc
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from notata._base import display
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
    "ErrorCollector",
    "Group",
    "code_of",
    "collect_as_usual",
    "complete_url",
    "end_with",
    "json_option",
    "print_error",
    "progress_option",
    "size_option",
    "storage_option",
    "urls_argument",
    "wanted",
]

FOUND: Final = 0
NOTHING: Final = 1
"""No match, or the runs differ."""
USAGE: Final = 2
STORAGE: Final = 3
"""A storage refused or failed, or a file cannot be read."""

_INTERRUPTED: Final = 130  # the convention of shells: 128 and the number of SIGINT
_PIPE_CLOSED: Final = 141  # the same for SIGPIPE

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)

_UNCHECKED: Final = 50_000  # new objects before Python searches for cycles: a listing makes many, and few form cycles
_USUAL: Final = gc.get_threshold()

_COMPLETE: Final = "_NOTATA_COMPLETE"  # set by a shell that requests completions

_EXIT_CODES: Final = "Exit codes: 0 success; 1 nothing found; 2 usage error; 3 storage error."

_ERRORS_SHOWN: Final = 100  # errors that a command prints one by one

_DEBUG: Final = "notata.debug"

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command that prints errors in a line or two, sets the exit code, and prints warnings as lines.

    Args:
        *arguments: As for `click.Command`.
        examples: Command lines at the end of the help.
        count: The option that a bare number stands for, as in ``tail -3``.
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
                    sys.stdout.flush()  # report a failed write here, before Python does at exit
            except Exception as error:
                _end(ctx, error)
            except KeyboardInterrupt:
                _interrupted(ctx)


class Group(click.Group):
    """The command group, which makes the standard streams able to take any output."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        collect_rarely()
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
            output.error_line(f"Error: {' '.join(error.format_message().split())}")
            output.error_line(f"Try '{path} --help'")
            ctx.exit(USAGE)


def collect_rarely() -> None:
    """Let Python search for cycles rarely, and not at the exit, where that takes a third of a short command's time."""
    gc.set_threshold(_UNCHECKED)
    atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """Undo `collect_rarely`, for commands that run the user's own code."""
    gc.set_threshold(*_USUAL)
    atexit.unregister(gc.freeze)


def _coloured() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def _make_printable() -> None:
    """Replace streams that the shell has closed, and escape characters that an output cannot encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed; otherwise a socket could get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end(ctx: click.Context, error: Exception) -> NoReturn:
    """Print the error that ended a command, and exit with its code."""
    if isinstance(error, click.ClickException | click.exceptions.Exit):
        raise error
    if isinstance(error, BrokenPipeError):
        _drop_output()
        ctx.exit(_PIPE_CLOSED)
    if ctx.meta.get(_DEBUG):
        _show_traceback(ctx, error)
    if isinstance(error, NotataError):
        if not ctx.meta.get(_DEBUG):
            print_error(error)
        ctx.exit(code_of(error))
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        _drop_output()
        output.error_line(f"Error: cannot write the output: {error.strerror}")
    elif isinstance(error, MemoryError):
        output.error_line("Error: not enough memory for this request. Name fewer runs or files")
    elif isinstance(error, RecursionError):
        output.error_line("Error: a file of these runs is nested too deeply. Name fewer runs to find the file.")
    elif isinstance(error, FileNotFoundError) and not _has_current_folder():
        output.error_line("Error: the current folder does not exist any more. Change to another one with cd.")
    else:
        where = "above" if ctx.meta.get(_DEBUG) else "that --debug shows"
        output.error_line(
            f"Error: {type(error).__name__}: this is a bug in notata. Report it with the traceback {where}"
        )
    ctx.exit(STORAGE)


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _interrupted(ctx: click.Context) -> NoReturn:
    output.error_line("Interrupted")
    ctx.exit(_INTERRUPTED)


def _drop_output() -> None:
    """Redirect a closed output to the null device: Python flushes it once more at exit."""
    with suppress(OSError, ValueError):  # an output that is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_traceback(ctx: click.Context, error: Exception) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    given = Values([secret for value in ctx.params.values() for secret in _secrets(value)])
    click.echo(safe_lines(redacted(given.hide(text))), err=True, nl=False)


def _secrets(given: object) -> Iterator[str]:
    """Yield possible secrets of an argument: every storage option except addresses, and parts of a URL."""
    if isinstance(given, Mapping):
        yield from (leaf for leaf in leaves(given) if "://" not in leaf)
    yield from within(given, users=True)


class ErrorCollector:
    """Collects errors that do not end a command: prints each at once, and ends with the most severe exit code.

    Pass it as `failed` to functions of `notata.search`.
    """

    def __init__(self) -> None:
        self.code = FOUND
        self._printed: set[str] = set()
        self._not_printed = 0
        self._debug = bool(click.get_current_context().meta.get(_DEBUG))

    def __call__(self, error: Exception) -> None:
        """Print an error, and continue."""
        if self._debug:
            raise error
        is_new = self._print_once(error)
        code = code_of(error)
        if is_new and code == NOTHING and click.get_current_context().params.get("urls", ()) is None:
            output.error_line(
                "No URL was given, so notata looked in NOTATA_BASE_DIR or outputs. To look in the "
                "current folder, pass ."
            )
        self.code = max(self.code, code)

    def _print_once(self, error: Exception) -> bool:
        """Print an error, unless it was printed before or too many were; return whether it is a new one."""
        message = str(error)
        if message in self._printed:
            return False
        if len(self._printed) < _ERRORS_SHOWN:
            self._printed.add(message)
            print_error(error)
        else:
            self._not_printed += 1
        return True

    def end(self, *, found: bool = True) -> None:
        """End the command: with the code of the errors, else by whether there was a result."""
        _print_more(self._not_printed, 0)
        click.get_current_context().exit(max(self.code, FOUND if found else NOTHING))


def end_with(errors: Iterable[Exception]) -> None:
    """Print errors, and end the command with the most severe exit code."""
    collector = ErrorCollector()
    for error in errors:
        collector(error)
    collector.end()


def code_of(error: Exception) -> int:
    """Return the exit code of an error."""
    if isinstance(error, BatchError):
        return max(code_of(inner) for inner in error.exceptions)
    if isinstance(error, StoredNameError):
        return STORAGE
    if isinstance(error, ConfigurationError | KeyNameError | PackageMissingError):
        return USAGE
    if isinstance(error, MissingError) and not isinstance(error, ContainerMissingError):
        return NOTHING
    return STORAGE


def print_error(error: Exception) -> None:
    """Print an error as one line on standard error; of a batch at most three errors."""
    errors = error.exceptions if isinstance(error, BatchError) else [error]
    for inner in errors[:3]:
        output.error_line(f"Error: {' '.join(str(inner).split())}")
    _print_more(len(errors), 3)


def _print_more(count: int, most: int) -> None:
    if rest := display.more(count, most):
        output.error_line(f"Error: {rest}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    output.error_line(f"Warning: {' '.join(str(message).split())}")


def _note_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_DEBUG] = value


# -- options -----------------------------------------------------------------------------------------------


def _pairs(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``key=value`` pairs as storage options; a value may be JSON."""
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
    """Add ``-o``, ``--storage-option``, or these names: a dictionary; by default as the argument `storage_options`."""
    return click.option(
        *(names or ("-o", "--storage-option", "storage_options")),
        multiple=True,
        callback=_pairs,
        metavar="KEY=VALUE",
        help=f"Option to pass to fsspec{of}; may be repeated. Do not put secrets here: set them in the environment or "
        "in fsspec's configuration.",
    )


def urls_argument(function: _Function) -> _Function:
    """Add any number of URLs as the argument `urls`; None, for the base folder, if none is given."""
    return click.argument(
        "urls",
        metavar="[URL]...",
        nargs=-1,
        callback=lambda _context, _parameter, value: list(value) or None,
        shell_complete=complete_url,
    )(function)


def complete_url(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete local paths and names in a bucket, as `shell_complete` of an argument or option."""
    from notata.cli.completing import complete_urls

    return complete_urls(context, parameter, incomplete)


def json_option(function: _Function) -> _Function:
    """Add ``--json``, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs.")(
        function
    )


def progress_option(function: _Function) -> _Function:
    """Add ``--progress``, as the argument `progress`; see `wanted`."""
    return click.option("--progress/--no-progress", default=None, help="Show a progress bar. Default: on a terminal.")(
        function
    )


def size_option(function: _Function) -> _Function:
    """Add ``--bytes`` and ``--human``, as the argument `human`: None if neither is given; see `output.sizes`."""
    return click.option(
        "--human/--bytes",
        " /-b",
        "human",
        default=None,
        help="Show sizes in readable units (3.5 MB), or in bytes. Default: readable units on a terminal, bytes "
        "elsewhere.",
    )(function)


def wanted(progress: bool | None) -> bool:
    """Decide whether to show a progress bar."""
    return sys.stderr.isatty() if progress is None else progress
