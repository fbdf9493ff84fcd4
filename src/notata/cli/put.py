"""``notata put``: store files, metrics and values from a shell script in the run that it belongs to."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from notata._base import keys
from notata.cli.frame import Command, complete_url, storage_option
from notata.errors import ConfigurationError, EncodeError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from notata.store import Blob
    from notata.worker import Worker

__all__ = ["put"]

_INPUT: Final = "-"
_RANK: Final = "put"


def _complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@click.command(
    cls=Command,
    short_help="Store files, metrics and values from a shell script in its run.",
    examples=(
        "notata put mesh.vtk figures/*.png",
        "notata put -m error=0.01 -m cells=4096",
        "notata put --step 10 -s residual=1e-6 --note 'grid refined'",
        "uname -a | notata put - --as machine.txt",
    ),
    epilog="Exit codes: 0 success; 1 no such file or run; 2 usage error; 3 storage error.",
)
@click.argument("files", metavar="[FILE]...", nargs=-1, shell_complete=_complete_file)
@click.option("--as", "name", metavar="NAME", help="Store one FILE under this name in artifacts/.")
@click.option("-m", "--metric", "metrics", multiple=True, metavar="NAME=VALUE",
              help="Metric to merge into artifacts/metrics.json; VALUE is YAML. May be repeated.")  # fmt: skip
@click.option("-s", "--scalar", "scalars", multiple=True, metavar="NAME=VALUE",
              help="Value in the row to add to a series. May be repeated.")  # fmt: skip
@click.option("--step", type=int, metavar="N", help="Step of the row. Default: the last step plus one.")
@click.option("--series", metavar="NAME", default="scalars", show_default=True, help="Series to add the row to.")
@click.option("--note", metavar="TEXT", help="Line to add to the log.")
@click.option("--run", "url", metavar="URL", shell_complete=complete_url,
              help="URL of the run. Default: NOTATA_RUN, which notata run sets.")  # fmt: skip
@storage_option()
def put(
    files: tuple[str, ...],
    name: str | None,
    metrics: tuple[str, ...],
    scalars: tuple[str, ...],
    step: int | None,
    series: str,
    note: str | None,
    url: str | None,
    storage_options: dict[str, Any],
) -> None:
    """Store each FILE under its name in artifacts/ of the run that this process belongs to; - is standard input.

    The options store metrics, rows of a series, and notes. In a program that notata run started, the command finds the
    run by itself. Any number of processes may call it at the same time.
    """
    from notata.program.arguments import parse_values
    from notata.series.single import append_row

    values, row = parse_values(metrics, "-m")[0], parse_values(scalars, "-s")[0]
    _check(files, name, step, has_row=bool(row), has_any=bool(files or values or row or note))
    with _worker(url, storage_options, logs=note is not None) as worker:
        for file in files:
            _store(worker, file, name)
        if values:
            _merge(worker, values)
        if row:
            key = keys.series_file(series, worker.rank)
            try:
                append_row(worker._plain, key, row, step, attempt=worker._config.attempt)
            except EncodeError as error:  # the row is that of the command line
                raise ConfigurationError(str(error)) from error
        if note is not None:
            worker.note(note)


def _check(files: tuple[str, ...], name: str | None, step: int | None, *, has_row: bool, has_any: bool) -> None:
    if not has_any:
        raise click.UsageError("nothing to store: name a FILE, or pass --metric, --scalar or --note")
    if name is not None and len(files) != 1:
        raise click.UsageError("--as names one FILE, so pass exactly one")
    if _INPUT in files and name is None:
        raise click.UsageError("standard input needs a name: pass --as NAME")
    if step is not None and not has_row:
        raise click.UsageError("--step belongs to a row: pass --scalar NAME=VALUE too")


def _worker(url: str | None, storage_options: dict[str, Any], *, logs: bool) -> Worker:
    """Return a worker of the run. Its rank is that of MPI, else the same for all processes."""
    from notata.run.inherited import RUN, mpi_rank, open_options
    from notata.worker import Worker

    found = url or os.environ.get(RUN)
    if not found:
        raise ConfigurationError(
            f"cannot store anything: this process belongs to no run, as {RUN} is not set. Start the script with notata "
            "run, or pass --run URL"
        )
    options = storage_options if url else {**open_options(os.environ), **storage_options}
    level = "INFO" if logs else "WARNING"  # lines of the log cost requests
    rank = mpi_rank(os.environ) or _RANK
    return Worker(found, rank, storage_options=options or None, log_level=level)


def _store(worker: Worker, file: str, name: str | None) -> None:
    if file == _INPUT:
        with worker.open(keys.artifact(name or ""), "wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
    elif os.path.isdir(file):
        worker.folder(file, name)
    else:
        worker.file(file, name)


def _merge(worker: Worker, values: dict[str, Any]) -> None:
    """Merge metrics into the file that the run and its other workers write, too."""
    from notata import formats
    from notata.run.values import metrics_of

    def merged(found: Blob | None) -> bytes:
        before, problem = metrics_of(found.data, keys.METRICS) if found is not None else ({}, "")
        if problem:
            raise ConfigurationError(f"cannot merge metrics: {problem}. Remove the file, or store it again")
        return formats.encode(formats.JSON, {**before, **values})

    worker._store.modify(keys.METRICS, merged)
