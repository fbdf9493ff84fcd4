"""Measure the structure of the package: rooms, floors, arrows, circles, and lines per package.

``python -m tests.tools.house [FOLDER]`` prints the table of docs/explanation/architecture.md for the package in this
checkout, or for that in another one (``FOLDER`` contains ``src``). It needs import-linter, which brings grimp.

A room is a module or a package directly below ``notata``. An arrow is a room that imports another one, wherever the
import stands, but not for type checkers only. The floors are the longest way down. A circle is a group of modules each
of which imports the others, directly or not.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import grimp

__all__ = ["main"]

NAME = "notata"


def main(folder: str = ".") -> None:
    """Print the figures."""
    source = Path(folder, "src").resolve()
    sys.path.insert(0, str(source))
    graph = grimp.build_graph(NAME, exclude_type_checking_imports=True, cache_dir=None)
    modules = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    rooms: dict[str, set[str]] = defaultdict(set)
    for name, imported in modules.items():
        rooms[room_of(name)] |= {room_of(other) for other in imported}
    inside = {room: others - {room, NAME} for room, others in rooms.items() if room != NAME}
    print("| | |\n|---|---|")
    print(f"| rooms | {len(inside)} |")
    print(f"| floors | {floors(inside)} |")
    print(f"| arrows | {sum(map(len, inside.values()))} |")
    print(f"| circles of modules | {sum(len(circle) > 1 for circle in circles(modules))} |")
    print("\n| package | modules | lines | of these code |\n|---|---|---|---|")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted(source.joinpath(NAME).rglob("*.py")):
        parts = path.relative_to(source / NAME).parts
        package = parts[0] if len(parts) > 1 else "(top level)"
        text = path.read_text()
        counts[package].update(modules=1, lines=len(text.splitlines()), code=code_lines(text))
    for package, count in sorted(counts.items()):
        print(f"| `{package}` | {count['modules']} | {count['lines']} | {count['code']} |")
    whole = sum(counts.values(), Counter())
    print(f"| all | {whole['modules']} | {whole['lines']} | {whole['code']} |")


def room_of(module: str) -> str:
    """Return the part of a module's name directly below the package."""
    return ".".join(module.split(".")[:2])


def floors(rooms: Mapping[str, set[str]]) -> int:
    """Return the length of the longest chain of rooms that import each other downwards, without circles."""
    known: dict[str, int] = {}

    def depth(room: str, above: frozenset[str]) -> int:
        if room not in known:
            below = [depth(other, above | {room}) for other in sorted(rooms[room] - above) if other != room]
            known[room] = 1 + max(below, default=0)
        return known[room]

    return max(depth(room, frozenset()) for room in sorted(rooms))


def circles(graph: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """Yield the strongly connected components: for each module, those that it reaches and that reach it."""
    reach = {start: reached(graph, start) for start in graph}
    seen: set[str] = set()
    for name, others in reach.items():
        if name not in seen:
            circle = {name} | {other for other in others if name in reach[other]}
            seen |= circle
            yield circle


def reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return the modules that one imports, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for other in graph[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def code_lines(text: str) -> int:
    """Return the number of lines that are neither blank, comment nor docstring."""
    described: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            described.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for at, line in lines if at not in described)


if __name__ == "__main__":
    main(*sys.argv[1:])
