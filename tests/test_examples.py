"""Every code block of README and docs, and every example in a docstring, runs."""

from __future__ import annotations

import doctest
from pathlib import Path

import fsspec
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
    monkeypatch.setenv("S3_ENDPOINT", moto_server.endpoint)
    # The pages say my-bucket and leave the rest to the machine's configuration: here is one.
    monkeypatch.setitem(fsspec.config.conf, "s3", dict(moto_server.options))
    monkeypatch.setitem(fsspec.config.conf, "gs", dict(gcs_server.options))
    for protocol in ("s3", "gs"):
        bucket = fsspec.filesystem(protocol, use_listings_cache=False)
        if not bucket.exists("my-bucket"):
            bucket.mkdir("my-bucket")
        if bucket.find("my-bucket"):
            bucket.rm("my-bucket/outputs", recursive=True)
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
