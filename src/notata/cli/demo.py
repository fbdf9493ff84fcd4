"""``notata demo``: record an example run and a small sweep."""

from __future__ import annotations

import os
from typing import Any

import click

from notata.cli.frame import Command, storage_option

__all__ = ["demo"]


@click.command(
    cls=Command,
    short_help="Record an example run and a small sweep.",
    examples=(
        "notata demo",
        "notata demo memory://runs",
        "notata demo s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
    ),
)
@click.argument("url", required=False)
@click.option("--run-id", help="Id of the run with every kind of file. Default: a generated id.")
@storage_option()
def demo(url: str | None, run_id: str | None, storage_options: dict[str, Any]) -> None:
    """Integrate the Lorenz system: record one run with every kind of file, and a sweep of seven short runs with curves.

    The command then lists the files of the run, and writes a report of all runs to URL/report.html. It keeps runs of
    the sweep that an earlier demo recorded there.

    URL is any fsspec URL or path. Default: the environment variable NOTATA_BASE_DIR, else outputs.
    """
    from notata.cli import demo_script as lorenz

    log = lorenz.record(url, run_id, storage_options)
    click.echo(lorenz.show(log))
    experiment = lorenz.sweep(url, storage_options)
    click.echo(lorenz.show_sweep(experiment))
    base = url or os.environ.get("NOTATA_BASE_DIR") or "outputs"
    output = f"{base.rstrip('/')}/report.html"
    lorenz.report(log, experiment, output, storage_options)
    click.echo(f"Report: {output}")
