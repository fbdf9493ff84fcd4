"""The digests of files in the page, compared with `hashlib`."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from notata import Logbook, search
from notata.page.digests import digests_of
from tests.page.visiting import Visit, page_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        with Logbook(name, tmp_path, environment=False, heartbeat=None) as log:
            log.text("notes", f"of {name}")
            log.text("same", "equal")
    return tmp_path


def found(folder: Path) -> list[dict[str, str]]:
    return [*digests_of(search.runs(folder, values=True))]


def test_files_of_the_same_size_have_different_digests(folder: Path) -> None:
    a, b = found(folder)
    assert a["artifacts/notes.txt"] == hashlib.sha256(b"of a").hexdigest()
    assert b["artifacts/notes.txt"] == hashlib.sha256(b"of b").hexdigest()
    assert a["artifacts/same.txt"] == b["artifacts/same.txt"]
    visit = Visit(page_of(str(folder)))
    for name, digests in (("log_a", a), ("log_b", b)):
        files = {file["key"]: file["digest"] for file in visit.data("run", name)["files"]}
        assert {key: digest for key, digest in files.items() if digest} == digests


def test_a_file_that_has_changed_since_has_no_digest(folder: Path) -> None:
    notes, same, log = (folder / "log_a" / key for key in ("artifacts/notes.txt", "artifacts/same.txt", "log.txt"))
    notes.write_text("of another size")
    same.write_text("EQUAL")
    later = (folder / "log_a" / "manifest.json").stat().st_mtime + 1
    os.utime(same, (later, later))
    log.write_bytes(log.read_bytes() + b"one more line\n")
    assert found(folder)[0] == {}
    assert found(folder)[1]


@pytest.mark.parametrize("content", ["", "{", "[]", "x" * (4 * 2**20 + 1)])
def test_a_manifest_that_is_damaged_or_too_large_gives_no_digest(folder: Path, content: str) -> None:
    (folder / "log_a" / "manifest.json").write_text(content)
    assert [bool(digests) for digests in found(folder)] == [False, True]


def test_the_manifest_of_an_earlier_attempt_gives_no_digest(folder: Path) -> None:
    path = folder / "log_a" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lease": {"owner": "another"}}))
    assert "artifacts/notes.txt" not in found(folder)[0]
