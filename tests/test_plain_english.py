"""Phrases that must not come back in any text that people read. The rest depends on review."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted({*(ROOT / "tests").rglob("*.py"), ROOT / "conftest.py"} - {Path(__file__)})
MODULES = sorted((ROOT / "src/notata/page/static").glob("*.js"))
SCREENS = [*MODULES, *sorted((ROOT / "src/notata/page/static").glob("*.html"))]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PHRASES = re.compile(
    r"\b(?:"
    r"go(?:es|ing|ne)? on with|went on with"  # resume
    r"|(?:is|are|was|were|be|been) told"  # who reports it?
    r"|nothing tells|nobody tells"  # unknown
    r"|nobody|somebody"  # who?
    r"|heeds?|heeded"  # supports, respects
    r"|whoever|whatever one"
    r"|is meant|are meant"
    r"|a fault of notata"
    r")\b",
    re.IGNORECASE,
)
LABELS = re.compile(
    r'h\("(?:button|caption|dt|figcaption|h[1-6]|label|legend|option|p|summary|th)", \{[^{}]*\}, "([a-z][^"]*)"'
    r'|(?:"aria-label"|label|placeholder|title): "([a-z][^"]*)"'
)
FIRST_WORDS = re.compile(r"(?:What|Whether|Who|Whose|Which|How)\b")


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def words(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what people read of a file, piece by piece, with the line of each: strings and comments, or prose."""
    text = path.read_text()
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT) or token.type >= tokenize.N_TOKENS:
                yield token.start[0], token.string
    elif path.suffix in (".js", ".html"):
        yield from enumerate(text.splitlines(), 1)
    else:
        fenced = False
        for number, line in enumerate(text.splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            if not fenced:
                yield number, re.sub(r"`[^`]*`", "", line)


@pytest.mark.parametrize("paths", [SOURCES, SCREENS, TESTS, PAGES], ids=["sources", "screens", "tests", "pages"])
def test_no_phrase_comes_back(paths: list[Path]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number + line_of(piece, match.start()) - 1}: {match[0]}"
        for path in paths
        for number, piece in words(path)
        for match in PHRASES.finditer(piece)
    ]
    assert not found


@pytest.mark.parametrize("paths", [SOURCES, TESTS], ids=["sources", "tests"])
def test_a_docstring_begins_with_a_verb_or_a_noun(paths: list[Path]) -> None:
    texts = [
        (f"{path.relative_to(ROOT)}, {getattr(node, 'name', path.stem)}", ast.get_docstring(node) or "")
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [f"{place}: {text.splitlines()[0]}" for place, text in texts if FIRST_WORDS.match(text)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_label_of_the_page_begins_with_a_capital_letter(path: Path) -> None:
    assert [match[0] for match in LABELS.finditer(path.read_text())] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_of_the_page_begins_with_a_sentence_and_has_short_lines(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert re.match(r"// [A-Z].*[.:,\w`]$", lines[0])
    assert [line for line in lines if len(line) > 140 and not line.startswith("  /")] == []
