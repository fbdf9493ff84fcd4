"""The recipes of *Looking at runs from the shell*: each command runs, and the disk and bucket variants agree."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from notata.store import open_store
from tests.command import Done, notata
from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs/how-to/exploring.md"
BUCKET = "s3://my-bucket/"

BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
COMPARED = ("grep", "jq -c", "find outputs -name metadata.json -exec", "jq -r", "tail")
"""First words of disk recipes whose bucket variant, the next block, prints the same."""

JQ = """
import argparse, json, sys
import jq

options = argparse.ArgumentParser()
options.add_argument("-r", action="store_true")
options.add_argument("-c", action="store_true")
options.add_argument("program")
options.add_argument("files", nargs="*")
given = options.parse_args()
texts = [open(name).read() for name in given.files] or [sys.stdin.read()]
for text in texts:
    for found in jq.compile(given.program).input_text(text).all():
        raw = given.r and isinstance(found, str)
        print(found if raw else json.dumps(found, separators=(",", ":") if given.c else None))
"""


DUCKDB = "import sys, duckdb; print(duckdb.sql(sys.argv[2]))"  # for `duckdb -c QUERY`


@dataclass(frozen=True)
class Shell:
    """A folder with the fleet in ``outputs``, and the same in the bucket ``my-bucket``."""

    folder: Path
    environment: dict[str, str]

    def run(self, script: str) -> Done:
        """Run a recipe. A notata command at its start runs in this process and is piped to the rest."""
        first, _, rest = script.strip().partition(" | ")
        if not first.startswith("notata ") or set(first) & set(">;$\n"):
            return self._bash(script)
        done = notata(*shlex.split(first)[1:], folder=self.folder)
        if not rest or done.returncode:
            return done
        return self._bash(rest, given=done.stdout)

    def _bash(self, script: str, given: str | None = None) -> Done:
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def shell(fleet: Path, tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(fleet, folder / "outputs", ignore=shutil.ignore_patterns(".notata-*", "log_broken"))
    bucket = fsspec.filesystem("s3", use_listings_cache=False, **moto_server.options)
    if not bucket.exists("my-bucket"):
        bucket.mkdir("my-bucket")
    store = open_store(f"{BUCKET}outputs", moto_server.options)
    files = [path for path in (folder / "outputs").rglob("*") if path.is_file()]
    store.write_many({path.relative_to(folder / "outputs").as_posix(): path.read_bytes() for path in files})
    tools = folder / "tools"
    tools.mkdir()
    commands = {"notata": "-m notata", "jq": f"{tools}/query.py", "duckdb": f"{tools}/database.py"}
    for name, command in ((name, f"{sys.executable} {options}") for name, options in commands.items()):
        (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / name).chmod(0o755)
    (tools / "query.py").write_text(JQ)
    (tools / "database.py").write_text(DUCKDB)
    (tools / "python3").symlink_to(sys.executable)
    configured = {f"FSSPEC_S3_{name.upper()}": str(value) for name, value in moto_server.options.items()}
    path = f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", dict(moto_server.options))
        yield Shell(folder, {**os.environ, **configured, "PATH": path, "LC_ALL": "C.UTF-8"})
    store.clear()


@pytest.mark.slow
def test_every_recipe_runs_and_twins_print_the_same(shell: Shell) -> None:
    done = [shell.run(block) for block in BLOCKS]
    for block, ended in zip(BLOCKS, done, strict=True):
        differs = block.startswith(("notata compare", "diff"))
        assert ended.returncode == (1 if differs else 0), (block, ended.stderr)
        assert ended.stdout or ">" in block, block
    twins = [pair for pair in itertools.pairwise(zip(BLOCKS, done, strict=True)) if pair[0][0].startswith(COMPARED)]
    assert len(twins) >= 6
    for (_, on_disk), (block, in_bucket) in twins:
        assert (on_disk.stderr, in_bucket.stderr) == ("", ""), block
        assert sorted(in_bucket.stdout.replace(BUCKET, "").splitlines()) == sorted(on_disk.stdout.splitlines()), block
