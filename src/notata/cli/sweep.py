"""``notata sweep``: run a function for many points, in many processes, and count what is done."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from notata.cli import output
from notata.cli.frame import (
    Command,
    collect_as_usual,
    complete_url,
    json_option,
    progress_option,
    storage_option,
)
from notata.errors import ConfigurationError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from notata.sweep.jobs import JobOptions
    from notata.sweep.point import Outcome
    from notata.sweep.points import Points
    from notata.sweep.result import SweepResult
    from notata.sweep.status import SweepStatus

__all__ = ["sweep"]

FAILED: Final = 1
REMAINING: Final = 75
"""Exit code if points remain, so that the same command has more to do: EX_TEMPFAIL of sysexits.h."""

_JOB: Final = re.compile(r"(?!\.{1,2}$|\.notata-)[A-Za-z0-9._-]{1,100}")  # one part of a file name

_SHOWN: Final = 100  # failed points that are printed one by one


@click.group(short_help="Run a function for many parameter sets, also in a job array; count the runs.")
def sweep() -> None:
    """Run a function once for each point of a parameter space, in any number of processes, and count the runs."""


def _complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _complete_task(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file, and after its colon the functions in it; nothing is imported."""
    import ast
    from contextlib import suppress

    from click.shell_completion import CompletionItem

    path, colon, begun = incomplete.rpartition(":")
    if not colon:
        return [CompletionItem(incomplete, type="file")]
    with suppress(OSError, ValueError, SyntaxError), open(path, "rb") as file:
        found = ast.parse(file.read()).body
        names = [node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith(begun)]
        return [CompletionItem(f"{path}:{name}") for name in names]
    return []


def _place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--base-dir`` and ``--experiment``."""
    function = click.option("--experiment", metavar="NAME", help="Name of the experiment. Default: the name in SPACE.")(
        function
    )
    return click.option(
        "--base-dir",
        metavar="URL",
        shell_complete=complete_url,
        help="Folder that contains the experiment. Default: the folder in SPACE, or else NOTATA_BASE_DIR, or else "
        "outputs.",
    )(function)


def _seconds(_context: click.Context, _parameter: click.Parameter, given: str | None) -> float | None:
    from notata.sweep.scheduler import parsed_seconds

    try:
        return None if given is None else parsed_seconds(given)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def _job_name(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    if given is None or _JOB.fullmatch(given):
        return given
    raise click.BadParameter(
        "it becomes a file name, so use 1 to 100 letters, digits, '.', '_' and '-', such as decay-3"
    )


# -- run ---------------------------------------------------------------------------------------------------


@sweep.command(
    cls=Command,
    short_help="Run the free points until none is left.",
    examples=(
        "notata sweep run task.py:solve space.toml",
        "notata sweep run task.py:solve space.toml --workers 8 --time-limit 3:50:00",
        "srun notata sweep run package.task:solve space.toml --base-dir s3://bucket/outputs",
    ),
    epilog="Exit codes: 0 all points are complete, or other processes run the rest; 1 points failed; 2 usage error; "
    "3 storage error; 75 points remain, so start the command again.",
)
@click.argument("task", metavar="MODULE:TASK", shell_complete=_complete_task)
@click.argument("space", metavar="SPACE.toml", shell_complete=_complete_file)
@_place_options
@click.option(
    "--time-limit",
    metavar="TIME",
    callback=_seconds,
    help="Start no point after this time, in seconds or as 3:50:00. Default: the end of the Slurm job, if it is known.",
)
@click.option("--retries", type=click.IntRange(min=0), default=1, show_default=True, metavar="N",
              help="How many times a job retries a failed point.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Number of processes to start.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for points that other processes are running, until they have ended.")
@click.option("--fresh", is_flag=True, help="Look at every run, even if it is complete according to the index.")
@click.option(
    "--job",
    metavar="NAME",
    callback=_job_name,
    help="Name under which the processes of one job count retries together. Default: the name of the job array.",
)
@storage_option()
@json_option
@progress_option
@click.pass_context
def run(
    context: click.Context,
    task: str,
    space: str,
    base_dir: str | None,
    experiment: str | None,
    time_limit: float | None,
    retries: int,
    workers: int,
    wait: bool,
    fresh: bool,
    job: str | None,
    storage_options: dict[str, Any],
    as_json: bool,
    progress: bool | None,
) -> None:
    """Call TASK once for each point of SPACE.toml, and record each call as a run of an experiment.

    Any number of processes can run this command at once, on any machines: each process takes free points in its own
    order. Complete points are skipped, so the same command continues an interrupted sweep.

    MODULE is a file, or a module that can be imported from the current folder. TASK is a function in it that takes the
    logbook of the run and the parameters, and returns metrics or None.

    On SIGTERM, the running point ends as failed, and is resumed later. On SIGUSR1 or Ctrl-C, the command finishes the
    running point and starts no other.
    """
    from notata.experiment import Experiment
    from notata.sweep.files import read_space
    from notata.sweep.jobs import JobOptions
    from notata.sweep.scheduler import job_of, seconds_left

    collect_as_usual()
    described = read_space(space)
    options = JobOptions(
        retries=retries,
        time_limit=seconds_left(os.environ) if time_limit is None else time_limit,
        wait=wait,
        job=job or job_of(os.environ),
        fresh=fresh,
        progress=progress,
    )
    place = Experiment(
        experiment or described.experiment, base_dir or described.base_dir, storage_options=storage_options
    )
    result = _result(place, task, described.points, options, workers)
    if as_json:
        output.json_line(_record(result))
    else:
        output.line(_summary(result))
    context.exit(REMAINING if result.cancelled else FAILED if result.failed else 0)


def _result(experiment: Any, task: str, points: Points, options: JobOptions, workers: int) -> SweepResult:
    from notata.sweep.crew import Crew
    from notata.sweep.jobs import Job
    from notata.sweep.tasks import load_task

    report = _Report()
    function = load_task(task)
    if workers == 1:
        return Job(experiment, function, points, options, report=report).run()
    return Crew(experiment, task, points, options, workers, report=report, warn=report.warn).run()


class _Report:
    """Prints points that failed on standard error, a bounded number of them."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, outcome: Outcome) -> None:
        if outcome.kind == "complete":
            return
        self._count += 1
        if self._count <= _SHOWN:
            output.error_line(f"{outcome.kind}: {outcome.run_id}: {' '.join(outcome.reason.split())[:500]}")
        if self._count == _SHOWN:
            output.error_line("Further failures are not printed: see notata ls --status failed")

    def warn(self, text: str) -> None:
        """Print a warning."""
        output.error_line(f"Warning: {text}")


def _summary(result: SweepResult) -> str:
    """Return the numbers of points as text. The points that remain were not looked at, so there may be fewer."""
    from notata._base.display import duration

    counts = result.counts
    remaining = counts.pop("cancelled")
    parts = [f"{number} {name}" for name, number in counts.items() if number]
    parts += [f"up to {remaining} remain"] if remaining else []
    return f"{result.url}: {', '.join(parts) or 'no points'} in {duration(result.seconds)}"


def _record(result: SweepResult) -> dict[str, Any]:
    counts = {"remaining" if name == "cancelled" else name: number for name, number in result.counts.items()}
    counts.pop("lost")
    failures = [
        {"run_id": one.run_id, "url": one.url, "kind": one.kind, "reason": one.reason, "params": one.params}
        for one in result.failures
    ]
    return {"url": result.url, **counts, "seconds": result.seconds, "failures": failures}


# -- status ------------------------------------------------------------------------------------------------


@sweep.command(
    cls=Command,
    short_help="Count complete, failed, running and dead points, and points that have not begun.",
    examples=(
        "notata sweep status space.toml",
        "notata sweep status s3://bucket/outputs/decay",
        "notata sweep status space.toml --json | jq .not_begun",
    ),
)
@click.argument("space", metavar="SPACE.toml|URL", shell_complete=complete_url)
@_place_options
@click.option("--fresh", is_flag=True, help="Look at every run; do not use the index.")
@storage_option()
@json_option
def status(
    space: str,
    base_dir: str | None,
    experiment: str | None,
    fresh: bool,
    storage_options: dict[str, Any],
    as_json: bool,
) -> None:
    """Count the points of SPACE.toml, or the runs of the experiment at URL, by the state of their runs.

    For a large experiment, the command counts the runs in the index, and a note shows how old the index is. With
    --fresh, it looks at every run.
    """
    from notata.sweep.status import sweep_status

    if space.endswith(".toml"):
        from notata._base import keys
        from notata.store import open_base
        from notata.sweep.files import read_space

        described = read_space(space)
        name = keys.experiment(experiment or described.experiment)
        store = open_base(base_dir or described.base_dir, storage_options).below(name)
        found = sweep_status(store, name, described.points, fresh=fresh)
    else:
        if base_dir or experiment:
            raise click.UsageError("--base-dir and --experiment apply to SPACE.toml; a URL names the experiment itself")
        from notata.reader import ExperimentReader

        store = ExperimentReader(space, storage_options=storage_options)._store
        found = sweep_status(store, store.url.rpartition("/")[2], fresh=fresh)
    _print_status(found, as_json=as_json)


def _print_status(found: SweepStatus, *, as_json: bool) -> None:
    if found.note:
        output.error_line(f"Note: {found.note}")
    if as_json:
        output.json_line(found)
        return
    states = ("complete", "failed", "running", "died", "unreadable", "not_begun", "outside")
    counts = {state: getattr(found, state) for state in states}
    shown = {
        state.replace("_", " "): number
        for state, number in counts.items()
        if number or state not in ("unreadable", "not_begun", "outside")
    }
    if not output.is_terminal():
        output.rows((), shown.items())
        return
    whole = found.points if found.points is not None else sum(number or 0 for number in counts.values())
    unit = "runs" if found.points is None else "points"
    output.line(f"{found.url}: {whole:,} {unit}", bold=True)
    shares = [(state, f"{number:,}", _share(number, whole)) for state, number in shown.items()]
    output.rows(("status", unit, "share"), shares, right=(unit, "share"))


def _share(number: int, whole: int) -> str:
    return f"{100 * number / whole:.1f} %" if whole else ""
