"""The page's modules, read as texts: what they export and import, and one script of those that a test needs."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

__all__ = ["IMPORT", "MODULES", "exports", "imports", "script", "top_level"]

MODULES: Final = {
    file.name: file.read_text(encoding="utf-8")
    for file in sorted((files("notata.page") / "static").iterdir(), key=lambda file: file.name)
    if file.name.endswith(".js")
}

IMPORT: Final = re.compile(r'^import \{ ?([\w, ]+?) ?\} from "\./(\w+\.js)";$', re.MULTILINE)
_DECLARATION = re.compile(r"^(?:export )?(?:async )?(?:const|let|class|function\*?) +([\w$]+)", re.MULTILINE)
_UNPACKED = re.compile(r"^(?:export )?(?:const|let) +[\[{]([^=]+)[\]}] =", re.MULTILINE)


def imports(module: str) -> dict[str, list[str]]:
    """Return the names that a module imports, by module."""
    return {name: [part.strip() for part in names.split(",")] for names, name in IMPORT.findall(MODULES[module])}


def exports(module: str) -> list[str]:
    """Return the names that a module exports."""
    return _DECLARATION.findall("\n".join(re.findall(r"^export .*", MODULES[module], re.MULTILINE)))


def top_level(module: str) -> list[str]:
    """Return the names that a module declares outside of functions and classes."""
    text = MODULES[module]
    several = [part.split(":")[-1].strip() for names in _UNPACKED.findall(text) for part in names.split(",")]
    return [*_DECLARATION.findall(text), *several]


def script(*modules: str) -> str:
    """Return an expression whose value has what some modules export; those that they need are in it, in order."""
    needed: list[str] = []

    def need(module: str) -> None:
        for other in imports(module):
            need(other)
        if module not in needed:
            needed.append(module)

    for module in modules:
        need(module)
    texts = [re.sub(r"^export ", "", IMPORT.sub("", MODULES[module]), flags=re.MULTILINE) for module in needed]
    names = [name for module in modules for name in exports(module)]
    return f'(() => {{ "use strict";\n{"".join(texts)}\nreturn {{{", ".join(names)}}}; }})()'
