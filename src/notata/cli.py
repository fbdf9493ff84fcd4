"""The command ``notata``; it knows how to ask and how to show, and leaves the work to the rooms below."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from notata import __version__
from notata.errors import NotataError

__all__ = ["main"]


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


_STORAGE_OPTION: Final = click.option(
    "-o",
    "--storage-option",
    "storage_options",
    multiple=True,
    callback=_options,
    metavar="KEY=VALUE",
    help="For fsspec, as often as needed. Secrets are better kept in the environment or in fsspec's configuration.",
)

_GRAVITY: Final = (0, 2, 1)
"""Exit codes of `verify`, the gravest last: damage that is known, before what cannot be told."""


@main.command()
@click.argument("url", required=False)
@click.option("--run-id", help="Name of the run; one is made when not given.")
@_STORAGE_OPTION
def demo(url: str | None, run_id: str | None, storage_options: dict[str, Any]) -> None:
    r"""Integrate the Lorenz system, record it at URL with every writer, and show what was stored.

    URL is any fsspec URL or path. Default: the environment variable NOTATA_BASE_DIR, else outputs.

    \b
    notata demo
    notata demo memory://runs
    notata demo s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000
    """
    from notata import demo as lorenz

    try:
        log = lorenz.record(url, run_id, storage_options)
        click.echo(lorenz.show(log), nl=False)
    except NotataError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@_STORAGE_OPTION
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each run instead of a sentence.")
@click.option("--progress/--no-progress", default=None, help="A bar; shown on a terminal if not said.")
@click.pass_context
def verify(
    context: click.Context, urls: tuple[str, ...], storage_options: dict[str, Any], as_json: bool, progress: bool | None
) -> None:
    r"""Read the files of runs again and compare them with the manifests that their ends left.

    URL is a run, an experiment, or any folder with runs below it. A line for each run.

    Exit code: 0 if all is as it was, 1 if something is missing or changed, 2 if of some run nothing can be told.

    \b
    notata verify outputs/log_pendulum
    notata verify s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000
    """
    from notata import verifying

    shown = sys.stderr.isatty() if progress is None else progress
    worst = 0
    for verdict in verifying.verdicts(urls, storage_options, progress=shown):
        click.echo(verdict.as_json() if as_json else str(verdict))
        worst = max(worst, verdict.code, key=_GRAVITY.index)
    context.exit(worst)


if __name__ == "__main__":
    main()
