"""Every code block of README and docs, and every example in a docstring, runs."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers import myst, rest

from notata import Logbook
from tests.servers import Server

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
MODULES = [path for path in sorted(ROOT.glob("src/**/*.py")) if ">>> " in path.read_text()]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_the_code_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: Server, gcs_server: Server
) -> None:
    monkeypatch.chdir(tmp_path)
    document = Sybil(parsers=[myst.PythonCodeBlockParser()], patterns=["*.md"]).parse(page)
    document.namespace.update(
        s3_url=moto_server.url,
        s3_options=moto_server.options,
        gcs_url=gcs_server.url,
        gcs_options=gcs_server.options,
    )
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("module", MODULES, ids=names(MODULES))
def test_the_examples_of_a_module_run(module: Path) -> None:
    parser = rest.DocTestParser(optionflags=doctest.ELLIPSIS)
    sybil = Sybil(parsers=[parser], patterns=["*.py"], document_types={".py": PythonDocStringDocument})
    document = sybil.parse(module)
    document.namespace["log"] = Logbook(None, "memory://docstrings")
    examples = list(document.examples())
    assert examples
    for example in examples:
        example.evaluate()


def test_pages_have_code_blocks() -> None:
    assert sum(page.read_text().count("```python") for page in PAGES) > 20
