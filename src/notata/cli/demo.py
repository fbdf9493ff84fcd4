"""``notata demo``: record an example run."""

from __future__ import annotations

from typing import Any

import click

from notata.cli.frame import Command, storage_option

__all__ = ["demo"]


@click.command(
    cls=Command,
    short_help="Record an example run.",
    examples=(
        "notata demo",
        "notata demo memory://runs",
        "notata demo s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
    ),
)
@click.argument("url", required=False)
@click.option("--run-id", help="Name of the run. Default: a generated one.")
@storage_option()
def demo(url: str | None, run_id: str | None, storage_options: dict[str, Any]) -> None:
    """Integrate the Lorenz system, record it at URL with every kind of file, and show the stored files.

    URL is any fsspec URL or path. Default: the environment variable NOTATA_BASE_DIR, else outputs.
    """
    from notata.cli import demo_script as lorenz

    log = lorenz.record(url, run_id, storage_options)
    click.echo(lorenz.show(log), nl=False)
