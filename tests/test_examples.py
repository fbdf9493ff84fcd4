"""Every code block of README and docs, and every example in a docstring, runs."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import fsspec
import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers import myst, rest

from notata import Logbook
from notata.cli import main
from tests import children
from tests.pages import Steps
from tests.servers import Server

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/**/*.md"))
MODULES = [path for path in sorted(ROOT.glob("src/**/*.py")) if ">>> " in path.read_text()]
ELSEWHERE = [  # tests/frameworks/test_examples.py runs these, as they need large packages
    ROOT / "docs/how-to/frameworks.md",
    ROOT / "src/notata/integrations/optuna.py",
]
RUN_PAGES = [page for page in PAGES if page not in ELSEWHERE]
RUN_MODULES = [module for module in MODULES if module not in ELSEWHERE]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", RUN_PAGES, ids=names(RUN_PAGES))
def test_the_code_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: Server, gcs_server: Server
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOTATA_CODE")  # readers have not set it
    monkeypatch.setenv("S3_ENDPOINT", moto_server.endpoint)
    # The pages use my-bucket and leave the rest to the machine's configuration; this fixture provides both.
    monkeypatch.setitem(fsspec.config.conf, "s3", dict(moto_server.options))
    monkeypatch.setitem(fsspec.config.conf, "gs", dict(gcs_server.options))
    for protocol in ("s3", "gs"):
        bucket = fsspec.filesystem(protocol, use_listings_cache=False)
        if not bucket.exists("my-bucket"):
            bucket.mkdir("my-bucket")
        for name in bucket.find("my-bucket"):
            bucket.rm_file(name)
    document = Sybil(parsers=[myst.PythonCodeBlockParser()], patterns=["*.md"]).parse(page)
    steps = Steps(str(page.relative_to(ROOT / "docs")), document.namespace, monkeypatch)
    for example in document.examples():
        block = getattr(example.parsed, "source", str(example.parsed))  # a block with prompts runs one prompt at a time
        steps.before(block)
        example.evaluate()
        steps.after(block)
    assert not steps.unused()


@pytest.mark.slow
def test_readme_runs_as_typed_from_its_first_block_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: Server, gcs_server: Server
) -> None:
    for protocol, server in (("s3", moto_server), ("gs", gcs_server)):
        bucket = fsspec.filesystem(protocol, use_listings_cache=False, **server.options)
        if bucket.exists("my-bucket"):
            bucket.rm("my-bucket", recursive=True)
        bucket.mkdir("my-bucket")
        for name, value in server.options.items():  # the settings that a user has in ~/.aws or from gcloud
            monkeypatch.setenv(f"FSSPEC_{protocol.upper()}_{name.upper()}", str(value))
        monkeypatch.setitem(fsspec.config.conf, protocol, dict(server.options))
    monkeypatch.setenv("S3_ENDPOINT", moto_server.endpoint)
    monkeypatch.setenv("PATH", f"{_jq(tmp_path / 'bin')}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    session: dict[str, Any] = {}
    typed = 0
    for language, block in re.findall(
        r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        if language == "python":
            exec(compile(block, "README.md", "exec"), session)
            typed += 1
        elif language == "bash" and block.startswith("notata "):
            for line in block.splitlines():
                children.run(["bash", "-o", "pipefail", "-c", line], timeout=100)
                typed += 1
    assert typed > 12


def _jq(folder: Path) -> Path:
    """Return a folder with a program jq, made with the jq package."""
    folder.mkdir()
    program = folder / "jq"
    program.write_text(
        f"#!{sys.executable}\nimport jq, sys\nprint(*jq.compile(sys.argv[1]).input_text(sys.stdin.read()).all())\n"
    )
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("module", RUN_MODULES, ids=names(RUN_MODULES))
def test_the_examples_of_a_module_run(module: Path) -> None:
    parser = rest.DocTestParser(optionflags=doctest.ELLIPSIS)
    sybil = Sybil(parsers=[parser], patterns=["*.py"], document_types={".py": PythonDocStringDocument})
    document = sybil.parse(module)
    document.namespace["log"] = Logbook(None, "memory://docstrings")
    examples = list(document.examples())
    assert examples
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=names([ROOT / "README.md", *PAGES]))
def test_a_page_reads_well_where_no_site_is_built(page: Path) -> None:
    """In a repository browser or an editor's preview, no directive, label or comment of a tool is visible."""
    shown = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    assert not re.findall(r"^(?:`{3,}\{.*|:{3,}.*|%.*|\([\w-]+\)=)$", shown, re.MULTILINE)
    assert len(shown.split()) > 20


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_the_command_lines_of_a_page_are_valid(page: Path) -> None:
    """README's blocks run. These pages name runs that no test creates, so the test only parses the commands."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^(?:if )?notata (.*)", "\n".join(blocks), re.MULTILINE):
        words = shlex.split(line.replace(";", " ; "), comments=True)
        end = next((at for at, word in enumerate(words) if word in ("|", ">", ";")), len(words))
        with main.make_context("notata", words[:end]) as context:
            left = [*context._protected_args, *context.args]  # noqa: SLF001 - click tells it in no other way
            name, command, rest = main.resolve_command(context, left)
            assert command is not None
            if isinstance(command, click.Group):
                name, command, rest = command.resolve_command(context, rest)
                assert command is not None
            command.make_context(name, rest, parent=context).close()


def test_pages_have_code_blocks() -> None:
    assert sum(page.read_text().count("```python") for page in PAGES) > 20
