"""The command ``notata``: it knows how to ask and how to show, and leaves the work to `notata.search` and below."""

from __future__ import annotations

import click

from notata import __version__
from notata.cli.cat import cat
from notata.cli.compare import compare
from notata.cli.completion import completion
from notata.cli.demo import demo
from notata.cli.doctor import doctor
from notata.cli.du import du
from notata.cli.frame import Group
from notata.cli.grep import grep
from notata.cli.ls import ls
from notata.cli.rm import rm
from notata.cli.show import show
from notata.cli.sync import sync
from notata.cli.table import table
from notata.cli.tail import tail
from notata.cli.tree import tree
from notata.cli.verify import verify

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="notata")
def main() -> None:
    """Keep the record of scientific runs as plain files, on a disk or in a bucket, and look into them.

    URL is a run, an experiment, a folder of runs, or a pattern of them in quotes: a local path or any fsspec URL.
    Default: the environment variable NOTATA_BASE_DIR, else outputs.
    """


for command in (cat, compare, completion, demo, doctor, du, grep, ls, rm, show, sync, table, tail, tree, verify):
    main.add_command(command)
