"""Run the command ``notata`` as ``python -m notata``."""

from notata.cli import main

main(prog_name="notata")
