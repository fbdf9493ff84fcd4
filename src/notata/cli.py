"""The command ``notata``; it knows how to ask and how to show, and leaves the work to the rooms below."""

from __future__ import annotations

import json
from typing import Any

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


@main.command()
@click.argument("url", required=False)
@click.option("--run-id", help="Name of the run; one is made when not given.")
@click.option(
    "-o",
    "--storage-option",
    "storage_options",
    multiple=True,
    callback=_options,
    metavar="KEY=VALUE",
    help="For fsspec, as often as needed. Secrets are better kept in the environment or in fsspec's configuration.",
)
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


if __name__ == "__main__":
    main()
