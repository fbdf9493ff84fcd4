"""``python -m notata`` is the command ``notata``."""

from notata.cli import main

main(prog_name="notata")
