"""Test the capabilities of other storages: ``python -m tests.tools.odd_stores [--write] [NAME …]``.

Each server is started on 127.0.0.1, at a port that the system assigns, in a temporary folder (`servers` and `s3` in
this package list the requirements; a missing program is an error that names its package). Then `trying` tests each
promise of the store contract there, through a relay that can drop its connections and go silent. The result is printed
as a table in Markdown and compared with the one in ``docs/reference/storages.md``: the exit code is 1 if a cell
differs. ``--write`` puts the rows into that page.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.tools.odd_stores import servers
from tests.tools.odd_stores.trying import CAPABILITIES, tried

PAGE: Final = Path(__file__).parents[3] / "docs" / "reference" / "storages.md"
BEGIN, END = "<!-- odd-stores: begin -->\n", "<!-- odd-stores: end -->\n"

HEAD: Final = ["| storage | " + " | ".join(CAPABILITIES) + " |", "|---" * (len(CAPABILITIES) + 1) + "|"]


def main(arguments: Sequence[str]) -> int:
    names = [name for name in arguments if name != "--write"] or list(servers.SERVERS)
    if unknown := [name for name in names if name not in servers.SERVERS]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(servers.SERVERS)}")
    page = PAGE.read_text(encoding="utf-8")
    documented = rows_of(page)
    found = {}
    print(*HEAD, sep="\n", flush=True)
    for name in names:
        found[name] = row(name)
        print(found[name], flush=True)
    if "--write" in arguments:
        PAGE.write_text(with_rows(page, documented | found), encoding="utf-8")
        return 0
    wrong = [name for name in names if documented.get(name) != found[name]]
    for name in wrong:
        print(f"{name} differs from {PAGE.name}: {documented.get(name, 'it has no such row')}", file=sys.stderr)
    return 1 if wrong else 0


def row(name: str) -> str:
    """Format a row of the table."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="notata-odd-") as folder, servers.SERVERS[name](Path(folder)) as place:
        cells = tried(place)
    print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return "| " + " | ".join([f"`{name}`", *cells.values()]) + " |"


def rows_of(page: str) -> dict[str, str]:
    """Return the rows of the page's table, by name."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    return {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}


def with_rows(page: str, rows: dict[str, str]) -> str:
    """Return the page with a table of these rows."""
    ordered = [rows[name] for name in servers.SERVERS if name in rows]
    ordered += [line for name, line in rows.items() if name not in servers.SERVERS]
    before, begin, rest = page.partition(BEGIN)
    if not begin:
        raise SystemExit(f"{PAGE} has no line {BEGIN!r}")
    return "".join((before, begin, "\n", "\n".join([*HEAD, *ordered]), "\n\n", END, rest.partition(END)[2]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
