"""``notata run``: record any program as a run, whatever its language."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import Command, collect_as_usual, complete_url, storage_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from notata.program import Exit

__all__ = ["run"]


def _complete_program(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@click.command(
    cls=Command,
    context_settings={"allow_interspersed_args": False},  # options after COMMAND are its own
    short_help="Run any program and record it: its output, its files and how it ended.",
    examples=(
        "notata run -- ./solver input.nml",
        "notata run -p re=1000 --series 'res = (?P<r>\\S+)' --keep 'out/*.vtk' -- ./solver --re {re}",
        "notata run -d s3://bucket/outputs --id cavity --resume -- mpirun -n 4 ./solver",
    ),
    epilog="Exit codes: the exit code of COMMAND; 128 plus the number of the signal that ended it; 127 no such "
    "program; 126 it cannot be executed; 2 usage error; 3 storage error.",
)
@click.option("-d", "--base-dir", metavar="URL", shell_complete=complete_url,
              help="Folder for the run. Default: NOTATA_BASE_DIR, or else outputs.")  # fmt: skip
@click.option("--id", "run_id", metavar="ID", help="Id of the run. Default: an id made from the current time.")
@click.option("--resume", is_flag=True, help="Resume the run given by --id if it has ended or died.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE",
              help="Parameter of the run; VALUE is YAML. May be repeated. {NAME} in COMMAND is replaced by VALUE, "
              "and {{NAME}} by {NAME}.")  # fmt: skip
@click.option("--series", multiple=True, metavar="[NAME:: ]REGEX",
              help="Record values in the output: each named group of REGEX becomes a column of a series. May be "
              "repeated.")  # fmt: skip
@click.option("--keep", multiple=True, metavar="PATTERN",
              help="When COMMAND has ended, store matching files that are new or changed. "
                   "May be repeated.")  # fmt: skip
@click.option(
    "--meta", multiple=True, metavar="NAME=VALUE", help="Field to add to metadata.json; VALUE is YAML. May be repeated."
)
@click.option("--parent", metavar="URL", shell_complete=complete_url, help="Run that this one continues or varies.")
@click.option(
    "--monitor", type=float, metavar="SECONDS", help="Record the use of processor, memory and GPUs at this interval."
)
@click.option("--terminal/--no-terminal", default=None,
              help="Connect the output of COMMAND to a terminal. Default: only if notata itself prints to "
                   "a terminal.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not show the output of COMMAND.")
@storage_option()
@click.argument("command", metavar="-- COMMAND [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED,
                shell_complete=_complete_program)  # fmt: skip
@click.pass_context
def run(
    context: click.Context,
    base_dir: str | None,
    run_id: str | None,
    resume: bool,
    params: tuple[str, ...],
    series: tuple[str, ...],
    keep: tuple[str, ...],
    meta: tuple[str, ...],
    parent: str | None,
    monitor: float | None,
    terminal: bool | None,
    quiet: bool,
    storage_options: dict[str, Any],
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and record its arguments, output, files, exit code or signal, time and memory.

    COMMAND receives signals and key presses as it would without notata. The environment variable NOTATA_RUN contains
    the URL of its run: see notata put and Logbook.current().
    """
    from notata.program import Program, StartError, record_program
    from notata.program.arguments import parse_values

    if resume and run_id is None:
        raise click.UsageError("--resume needs --id, the id of the run to resume")
    collect_as_usual()
    values, texts = parse_values(params, "-p")
    program = Program(command, values, texts, series, keep, terminal=terminal, echo=not quiet)
    try:
        done = record_program(
            program,
            base_dir,
            run_id=run_id,
            resume=resume,
            meta=parse_values(meta, "--meta")[0],
            parent=parent,
            monitor=monitor,
            storage_options=storage_options,
        )
    except StartError as error:
        output.error_line(f"Error: {error}")
        context.exit(error.exit_code)
    _end_as(done, context)


def _end_as(done: Exit, context: click.Context) -> None:
    """End this process as the program ended. After Ctrl-C that is by SIGINT, so that a loop of a shell ends, too."""
    if done.signal == signal.SIGINT and hasattr(os, "killpg"):
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if done.by_key:
            os.killpg(os.getpgrp(), signal.SIGINT)
        else:
            os.kill(os.getpid(), signal.SIGINT)
    context.exit(done.shell_code)
