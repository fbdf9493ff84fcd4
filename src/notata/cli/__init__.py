"""The command line tool ``notata``: it parses options and prints results; `notata.search` does the work."""

from __future__ import annotations

import click

from notata import __version__
from notata.cli.cat import cat
from notata.cli.compare import compare
from notata.cli.completion import completion
from notata.cli.curve import curve
from notata.cli.demo import demo
from notata.cli.doctor import doctor
from notata.cli.du import du
from notata.cli.export import export
from notata.cli.frame import Group
from notata.cli.grep import grep
from notata.cli.import_runs import import_command
from notata.cli.lineage import lineage
from notata.cli.ls import ls
from notata.cli.pin import pin, unpin
from notata.cli.publish import publish
from notata.cli.put import put
from notata.cli.report import report
from notata.cli.rerun import rerun
from notata.cli.rm import rm
from notata.cli.run import run
from notata.cli.show import show
from notata.cli.sweep import sweep
from notata.cli.sync import sync
from notata.cli.table import table
from notata.cli.tail import tail
from notata.cli.tree import tree
from notata.cli.verify import verify
from notata.cli.view import view
from notata.cli.watch import watch

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="notata")
def main() -> None:
    """Inspect, compare, copy, check and remove recorded runs, on a disk or in a bucket.

    URL is a local path or any fsspec URL. It names a run, an experiment or a folder of runs, or is a quoted pattern. If
    you give no URL, notata uses the environment variable NOTATA_BASE_DIR, or else the folder outputs.
    """


for command in (
    cat, compare, completion, curve, demo, doctor, du, export, grep, import_command, lineage, ls, pin, publish,
    put, report, rerun, rm, run, show, sweep, sync, table, tail, tree, unpin, verify, view, watch,
):  # fmt: skip
    main.add_command(command)
