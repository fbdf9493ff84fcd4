"""``notata sync`` and ``notata verify`` through the real entry point, compared with the bytes on disk."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Shelf
from tests.command import process


def test_a_run_is_downloaded_byte_for_byte(shelf: Shelf, tmp_path: Path) -> None:
    options = [option.replace("--storage-option", "--source-option") for option in shelf.options]
    done = process("sync", f"{shelf.url}/log_notes", "here", *options, "--json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    there, here = shelf.local / "log_notes", tmp_path / "here/log_notes"
    expected = {path.relative_to(there): path.read_bytes() for path in there.rglob("*") if path.is_file()}
    assert {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()} == expected
    assert json.loads(done.stdout)["bytes"] == sum(map(len, expected.values()))


def test_receipts_are_checked_against_bytes(shelf: Shelf, tmp_path: Path) -> None:
    done = process(
        "verify", f"{shelf.url}/log_notes", f"{shelf.url}/log_lost", "--json", *shelf.options, folder=tmp_path
    )
    whole, lost = map(json.loads, done.stdout.splitlines())
    manifest = json.loads((shelf.local / "log_notes/manifest.json").read_text())
    assert (done.returncode, whole["ok"], whole["checked"]) == (3, True, len(manifest["files"]))
    assert (lost["run_id"], lost["code"]) == ("lost", 3)
