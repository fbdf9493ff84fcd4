"""``notata rerun``: repeat a run at its commit, with its changes and its command."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import FOUND, NOTHING, Command, collect_as_usual, complete_url, json_option, storage_option

if TYPE_CHECKING:
    from notata.rerun import Rerun
    from notata.rerun.inputs import ChangedInput

__all__ = ["rerun"]

_NAME = 8  # width of the names of a plan


def _values(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("write name=value, as in dt=0.1")
        values[name] = value
    return values


@click.command(
    cls=Command,
    short_help="Repeat a run: the same commit, changes and command; compare the results.",
    examples=(
        "notata rerun outputs/log_pendulum",
        "notata rerun outputs/log_pendulum -p dt=0.05 --id pendulum-fine",
        "notata rerun s3://bucket/outputs/log_a --repository ~/solver --base-dir outputs --check --yes",
    ),
    epilog="Exit codes: 0 the new run is complete, and with --check its files are equal; 1 it failed, with --check "
    "files differ, or there is no run; 2 usage error, or the run cannot be repeated; 3 storage error.",
)
@click.argument("url", metavar="URL", shell_complete=complete_url)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", callback=_values,
              help="New value of a parameter; for a script, of its option --NAME. May be repeated.")  # fmt: skip
@click.option("--id", "run_id", metavar="ID", help="Id of the new run. Default: the old id and a random suffix.")
@click.option("-d", "--base-dir", metavar="URL", help="Folder for the new run. Default: the folder of the old run.")
@click.option("--repository", metavar="PATH",
              help="Local repository that has the commit. Default: the one in the current folder, or else the "
              "recorded one.")  # fmt: skip
@click.option("--before", metavar="COMMAND", help="Shell command to run in the worktree first, such as make.")
@click.option(
    "--check", is_flag=True, help="Exit with code 1 if the files of the new run differ from those of the old one."
)
@click.option("--dry-run", is_flag=True, help="Run nothing; show what would be run.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@click.option(
    "--force", is_flag=True, help="Continue even if inputs have changed, or if a script also makes other runs."
)
@click.option("--keep-worktree", is_flag=True, help="Keep the worktree, and print its path.")
@storage_option()
@json_option
def rerun(
    url: str,
    params: dict[str, str],
    run_id: str | None,
    base_dir: str | None,
    repository: str | None,
    before: str | None,
    check: bool,
    dry_run: bool,
    yes: bool,
    force: bool,
    keep_worktree: bool,
    storage_options: dict[str, Any],
    as_json: bool,
) -> None:
    """Run the command of the run at URL again, and compare the files of both runs.

    The command runs in a temporary worktree of a local git repository, at the recorded commit and with the recorded
    changes. The new run records which run it repeats. notata neither fetches nor installs anything. The command is
    stored in the run folder: if others can write there, look at the command before you confirm.
    """
    from notata.rerun import plan
    from notata.rerun import rerun as run_again

    planned = plan(
        url,
        params=params,
        run_id=run_id,
        base_dir=base_dir,
        repository=repository,
        force=force,
        storage_options=storage_options or None,
    )
    for name, text in planned.lines():
        output.error_line(f"{name:{_NAME}} {text}")
    if dry_run:
        click.get_current_context().exit(FOUND)
    if not yes and not _agreed("Run this command"):
        output.error_line("Nothing was run")
        click.get_current_context().exit(NOTHING)

    def agree(changed: list[ChangedInput]) -> bool:
        for one in changed:
            output.error_line(f"changed  {one}")
        return force or (not yes and sys.stdin.isatty() and _agreed("Run it with these inputs"))

    collect_as_usual()
    done = run_again(
        planned,
        agree=agree,
        tell=lambda note: output.error_line(f"note     {note}"),
        before=before or "",
        keep_worktree=keep_worktree,
        check=check,
        echo=not as_json,
    )
    _tell(done, as_json)
    is_equal = done.comparison is not None and done.comparison.is_equal
    click.get_current_context().exit(FOUND if done.status == "complete" and (is_equal or not check) else NOTHING)


def _agreed(question: str) -> bool:
    """Ask on the terminal; no answer means no."""
    if not sys.stdin.isatty():
        raise click.UsageError("Not a terminal: pass --yes to confirm.")
    click.echo(f"{question}? [y/N] ", nl=False, err=True)
    try:
        answer = sys.stdin.readline()
    except (OSError, ValueError):
        answer = ""
    return answer.strip().lower() in ("y", "yes")


def _tell(done: Rerun, as_json: bool) -> None:
    if as_json:
        output.json_line(dataclasses.asdict(done))
        return
    reason = f": {done.reason}" if done.reason else ""
    output.line(f"{done.url}: {done.status}{reason}")
    if done.comparison is not None:
        output.line(str(done.comparison))
    if done.worktree:
        output.error_line(f"The worktree is at {done.worktree}; remove it with git worktree remove --force")
