"""The command ``notata``; it knows how to ask and how to show, and leaves the work to the rooms below."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from notata import __version__
from notata.errors import NotataError
from notata.mirror import SyncReport

__all__ = ["main"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="notata")
def main() -> None:
    """Keep the record of scientific runs as plain files, on a disk or in a bucket."""


def _storage_option(*names: str, of: str = "") -> Callable[[_Command], _Command]:
    return click.option(
        *names,
        multiple=True,
        callback=_options,
        metavar="KEY=VALUE",
        help=f"For fsspec{of}, as often as needed. Secrets are better kept in the environment or in fsspec's "
        "configuration.",
    )


_STORAGE_OPTION: Final = _storage_option("-o", "--storage-option", "storage_options")

_PROGRESS: Final = click.option(
    "--progress/--no-progress", default=None, help="A bar; shown on a terminal if not said."
)

_GRAVITY: Final = (0, 2, 1)
"""Exit codes of `verify`, the gravest last: damage that is known, before what cannot be told."""


@main.command(short_help="Record an example run.")
@click.argument("url", required=False)
@click.option("--run-id", help="Name of the run; one is made when not given.")
@_STORAGE_OPTION
def demo(url: str | None, run_id: str | None, storage_options: dict[str, Any]) -> None:
    """Integrate the Lorenz system, record it at URL with every writer, and show what was stored.

    URL is any fsspec URL or path. Default: the environment variable NOTATA_BASE_DIR, else outputs.

    \b
    notata demo
    notata demo memory://runs
    notata demo s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000
    """  # noqa: D301  (click's sign for lines that are not to be filled)
    from notata import demo as lorenz

    try:
        log = lorenz.record(url, run_id, storage_options)
        click.echo(lorenz.show(log), nl=False)
    except NotataError as error:
        raise click.ClickException(str(error)) from error


@main.command(short_help="Check the files of runs against their manifests.")
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@_STORAGE_OPTION
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each run instead of a sentence.")
@_PROGRESS
@click.pass_context
def verify(
    context: click.Context, urls: tuple[str, ...], storage_options: dict[str, Any], as_json: bool, progress: bool | None
) -> None:
    """Read the files of runs again and compare them with the manifests that their ends left.

    URL is a run, an experiment, or any folder with runs below it. A line for each run.

    Exit code: 0 if all is as it was, 1 if a file is missing or changed, 2 if none is known to be, but of some run not
    everything can be told.

    \b
    notata verify outputs/log_pendulum
    notata verify s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000
    """  # noqa: D301  (click's sign for lines that are not to be filled)
    from notata.verdicts import verdicts

    worst = 0
    for verdict in verdicts(urls, storage_options, progress=_wanted(progress)):
        click.echo(verdict.as_json() if as_json else str(verdict))
        worst = max(worst, verdict.code, key=_GRAVITY.index)
    context.exit(worst)


def _wanted(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress


@main.command(short_help="Make a copy of runs equal to them; only what differs is sent.")
@click.argument("source")
@click.argument("destination", required=False)
@click.option("--dry-run", is_flag=True, help="Write nothing; list what would be done.")
@click.option(
    "--delete",
    is_flag=True,
    help="Delete at the destination what the source does not have, and replace other runs of the same id.",
)
@_storage_option("--source-option", of=", of the source")
@_storage_option("--destination-option", of=", of the destination")
@_PROGRESS
@click.option("--json", "as_json", is_flag=True, help="Tell what was done as one JSON object.")
def sync(
    source: str,
    destination: str | None,
    dry_run: bool,
    delete: bool,
    source_option: dict[str, Any],
    destination_option: dict[str, Any],
    progress: bool | None,
    as_json: bool,
) -> None:
    """Make DESTINATION equal to SOURCE, a run, an experiment or a folder of them; only what differs is sent.

    A run goes below DESTINATION, under its own name, unless DESTINATION is called log_… itself. Without DESTINATION it
    goes where it is mirrored to. Start it again after an interruption: it goes on. Exit code 1: something could not be
    copied, all else was.

    \b
    notata sync outputs/log_a s3://bucket/outputs
    notata sync gs://bucket/outputs/sweep outputs/sweep --dry-run
    """  # noqa: D301
    from notata.mirror.tree import synced

    try:
        report, errors = synced(
            source,
            destination,
            source_options=source_option,
            destination_options=destination_option,
            delete=delete,
            dry_run=dry_run,
            progress=_wanted(progress),
        )
    except NotataError as error:
        raise click.ClickException(str(error)) from error
    told = [_shown(str(error)) for error in errors]
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(report), "bytes": report.bytes, "errors": told}, indent=2))
    else:
        _list(report)
    for text in told:
        click.echo(f"Error: {text}", err=True)
    if errors:
        sys.exit(1)


def _list(report: SyncReport) -> None:
    """Each file that a dry run tells of, what was left out, and the sum."""
    listed = (("copy", report.copied), ("append", report.appended), ("delete", report.deleted))
    for verb, files in listed if report.dry_run else ():
        for key, size in sorted(files.items()):
            click.echo(f"{verb:6} {size:>12} {_shown(key)}")
    for name in report.left_out:
        click.echo(f"left out, as it is no file: {_shown(name)}", err=True)
    click.echo(_shown(str(report)))


def _shown(text: str) -> str:
    """A text that any terminal takes: names of files need be no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    main()
