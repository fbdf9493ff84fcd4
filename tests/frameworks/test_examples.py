"""The code blocks of the page on frameworks, section by section, and the examples in docstrings."""

from __future__ import annotations

import doctest
import os
import re
import sys
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers import myst, rest

from notata import integrations
from tests import children

PAGE = Path(__file__).parents[2] / "docs/how-to/frameworks.md"
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]}


@pytest.mark.parametrize("section", [title for title, text in SECTIONS.items() if "```python" in text])
def test_the_code_blocks_of_a_section_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block whose first line is a comment such as ``# train.py`` is a script that runs in a process of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "section.md").write_text(SECTIONS[section])
    document = Sybil(parsers=[myst.PythonCodeBlockParser()], patterns=["*.md"]).parse(tmp_path / "section.md")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    for example in document.examples():
        block = getattr(example.parsed, "source", str(example.parsed))
        script = re.match(r"# (\w+\.py)\n", block)
        if script is None:
            example.evaluate()
        else:
            Path(script[1]).write_text(block)
            children.run([sys.executable, script[1]], env=environment, timeout=250)


def test_the_examples_of_the_callback_of_optuna_run() -> None:
    sybil = Sybil(
        parsers=[rest.DocTestParser(optionflags=doctest.ELLIPSIS)],
        patterns=["*.py"],
        document_types={".py": PythonDocStringDocument},
    )
    examples = list(sybil.parse(Path(integrations.__path__[0]) / "optuna.py").examples())
    assert examples
    for example in examples:
        example.evaluate()
