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
    else:
        fenced = False
        for number, line in enumerate(text.splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            if not fenced:
                yield number, re.sub(r"`[^`]*`", "", line)


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_comes_back(path: Path) -> None:
    found = [
        f"{path.name}:{number + line_of(piece, match.start()) - 1}: {match[0]}"
        for number, piece in words(path)
        for match in PHRASES.finditer(piece)
    ]
    assert not found


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_begins_with_a_verb_or_a_noun(path: Path) -> None:
    tree = ast.parse(path.read_text())
    nodes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    texts = [(getattr(node, "name", path.stem), ast.get_docstring(node) or "") for node in nodes]
    assert not [f"{name}: {text.splitlines()[0]}" for name, text in texts if FIRST_WORDS.match(text)]
