"""Join the front end and the data of a report to one HTML text that sends no request.

The front end is plain modules in ``static/``. A report strips their import and export lines, and joins them to one
script in the order of their imports. The content security policy allows this script and these styles only, by their
hashes, and neither requests nor other scripts.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from notata import __version__
from notata.errors import NotataError
from notata.page.values import text_of

__all__ = [
    "BLOCK",
    "CHART_FILES",
    "MARKER",
    "ChartLibrary",
    "chart_library",
    "data_block",
    "html_of",
    "policy",
    "size_of_block",
    "static_files",
]

MARKER: Final = b"<!doctype html>\n<!-- notata report"
"""The first bytes of each report."""

BLOCK: Final = 80
"""Bytes of a data block beside its key and its data, and a few more."""

CHART_FILES: Final = ("uPlot.iife.js", "uPlot.min.css")

_IMPORT: Final = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([A-Za-z0-9_-]+\.js)";\s*$', re.MULTILINE)
_OTHER_IMPORT: Final = re.compile(r"^\s*(?:import\b(?!\s*\.meta)|export\s+(?:default|\*))", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export\s+(?=(?:async\s+function|function|const|let|class)\b)", re.MULTILINE)
_EXPORT_LIST: Final = re.compile(r"^export\s*\{[^}]*\};\s*$", re.MULTILINE)
_LINK: Final = re.compile(r'[ \t]*<link rel="stylesheet" href="static/([A-Za-z0-9_.-]+)">\n?')
_SCRIPT: Final = re.compile(r'[ \t]*<script(?: type="module")? src="static/[A-Za-z0-9_.-]+"></script>\n?')
_DOCTYPE: Final = "<!doctype html>"
_POLICY, _TITLE, _DATA = (f"<!-- notata: {name} -->" for name in ("policy", "title", "data"))


@dataclass(frozen=True, slots=True)
class ChartLibrary:
    """The chart library of the extra ``view``, from its installed package.

    Attributes:
        script: The script, which defines ``window.uPlot``.
        styles: Its styles.
    """

    script: str
    styles: str


@cache
def static_files() -> Mapping[str, str]:
    """Return the files of the front end by name.

    Raises:
        NotataError: The installation is incomplete.
    """
    folder = importlib.resources.files("notata.page") / "static"
    names = (".html", ".css", ".js", ".svg")
    found = {one.name: one.read_text("utf-8") for one in folder.iterdir() if one.name.endswith(names)}
    if "page.html" not in found:
        raise NotataError("the files of the page are not installed; install notata again")
    return found


@cache
def chart_library() -> ChartLibrary | None:
    """Return the chart library; None if its package is not installed. The package itself is not imported."""
    spec = importlib.util.find_spec("uplot")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        script, styles = (Path(folder) / "static" / name for name in CHART_FILES)
        if script.is_file() and styles.is_file():
            return ChartLibrary(script.read_text("utf-8"), styles.read_text("utf-8"))
    return None


def joined_script(files: Mapping[str, str], first: str = "main.js") -> str:
    r"""Return the modules as one script, each after those that it imports.

    Args:
        files: The modules by name.
        first: The module that starts the page.

    Raises:
        NotataError: A module imports or exports in a way that cannot be joined, or imports a missing one.

    >>> joined_script({"main.js": 'import {h} from "./dom.js";\nh();\n', "dom.js": "export function h() {}\n"})
    'function h() {}\n\nh();\n'
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        if name not in files:
            raise NotataError(f"the page has no module {name}; install notata again")
        done[name] = ""  # a cycle of functions is allowed
        source = files[name]
        needed = [match[2] for match in _IMPORT.finditer(source)]
        if any(" as " in match[1] for match in _IMPORT.finditer(source)):
            raise NotataError(f"{name} renames an import, which a report cannot join")
        source = _EXPORT.sub("", _EXPORT_LIST.sub("", _IMPORT.sub("", source)))
        if match := _OTHER_IMPORT.search(source):
            raise NotataError(f"{name} has an import or export that a report cannot join: {match[0].strip()}")
        for other in needed:
            add(other)
        done[name] = done.pop(name) or source  # after those that it needs

    add(first)
    return "\n".join(source.lstrip("\n") for source in done.values())


def policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Return the content security policy of a report with these inline scripts and styles.

    >>> policy([], ["a {}"])[:60]
    "default-src 'none'; script-src 'none'; style-src 'sha256-mkS"
    """
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def data_block(key: str, data: bytes) -> bytes:
    """Return a data block of a report.

    Args:
        key: The key, from `notata.page.model.key_of`.
        data: The value, from `notata.page.values.encoded`.
    """
    if b"<" in data:
        raise ValueError("the data of a block must not contain '<'")
    return b'<script type="application/json" data-key="%s">%s</script>\n' % (_attribute(key), data)


def size_of_block(key: str, data: bytes) -> int:
    """Return how many bytes a data block takes, and a few more.

    >>> size_of_block("runs", b"{}") >= len(data_block("runs", b"{}"))
    True
    """
    return len(_attribute(key)) + len(data) + BLOCK


def _attribute(key: str) -> bytes:
    """Return a key as the value of an attribute; a browser would make a plain carriage return a line feed."""
    return html.escape(key).replace("\r", "&#13;").encode()


def html_of(
    title: str,
    blocks: Iterable[tuple[str, bytes]],
    *,
    files: Mapping[str, str] | None = None,
    chart: ChartLibrary | None = None,
) -> Iterator[bytes]:
    """Yield a report in pieces.

    Args:
        title: The title, any text.
        blocks: The data: keys, and values as encoded JSON.
        files: The front end; by default the installed one.
        chart: The chart library, from `chart_library`.

    Raises:
        NotataError: The installation is incomplete.
    """
    head, end, scripts = _parts(title, static_files() if files is None else files, chart)
    yield head.encode()
    for key, data in blocks:
        yield data_block(key, data)
    for attributes, script in scripts:
        yield f"<script{attributes}>{script}</script>\n".encode()
    yield end.encode()


def _parts(title: str, files: Mapping[str, str], chart: ChartLibrary | None) -> tuple[str, str, list[tuple[str, str]]]:
    """Return the page before and after the data, without requests, and its scripts with their attributes."""
    page = files["page.html"]
    if missing := [mark for mark in (_DOCTYPE, _POLICY, _TITLE, _DATA) if page.count(mark) != 1]:
        raise NotataError(f"page.html does not have {missing[0]} once; install notata again")
    known = {**files, CHART_FILES[1]: chart.styles if chart else ""}
    styles = [_inline(known[name], "style") for name in _LINK.findall(page) if known[name]]
    scripts = [*([("", chart.script)] if chart else []), (' type="module"', joined_script(files))]
    scripts = [(attributes, _inline(script, "script")) for attributes, script in scripts]
    allowed = policy([script for _, script in scripts], styles)
    head = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(allowed)}">\n'
    head += "".join(f"<style>{style}</style>\n" for style in styles)
    page = _SCRIPT.sub("", _LINK.sub("", page)).replace(_DOCTYPE, f"{MARKER.decode()} {__version__} -->", 1)
    before, _, after = page.replace(_POLICY, head, 1).partition(_DATA)
    return before.replace(_TITLE, html.escape(text_of(title, 300)), 1), after, scripts


def _inline(text: str, tag: str) -> str:
    """Return a script or style that can stand in HTML.

    Raises:
        NotataError: It would end its element, or begin a comment in it.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as a browser does before it compares the hash
    if re.search(rf"</{tag}|<!--", text, re.IGNORECASE):
        raise NotataError(f"a {tag} of the page has </{tag} or <!-- and cannot stand in a report")
    return text
