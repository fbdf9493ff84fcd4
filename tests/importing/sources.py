"""The committed files of each tool at a place of a test, and what an import made of them, read by plain means."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import fsspec

FILES = Path(__file__).parent / "files"


def files_of(tool: str) -> dict[str, bytes]:
    """Return the files that a tool wrote, by path."""
    root = FILES / tool
    found = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    found.pop("expected.json", None)
    if packed := found.pop("mlflow.db.gz", None):
        found["mlflow.db"] = gzip.decompress(packed)
    return found


def expected(tool: str) -> dict[str, Any]:
    """Return what the tool's own client reported."""
    values: dict[str, Any] = json.loads((FILES / tool / "expected.json").read_text())
    return values


def put(tool: str, url: str) -> str:
    """Write the files of a tool to a folder in memory; return its URL."""
    fs = fsspec.filesystem("memory")
    for path, data in files_of(tool).items():
        fs.pipe_file(f"{url}/{path}", data)
    return url


def on_disk(tool: str, folder: Path) -> Path:
    """Write the files of a tool to a folder on the disk; return it."""
    for path, data in files_of(tool).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def metadata(run_url: str) -> dict[str, Any]:
    """Return the metadata.json of a run, read by plain fsspec."""
    with fsspec.open(f"{run_url}/metadata.json") as file:
        values: dict[str, Any] = json.load(file)
    return values


def rows(run_url: str, series: str = "scalars") -> list[dict[str, Any]]:
    """Return the rows of a series, with the words for NaN and infinities in place of null."""
    with fsspec.open(f"{run_url}/series/{series}.jsonl", "rt") as file:
        found = [json.loads(line) for line in file]
    words = [row.pop("nonfinite", {}) for row in found]
    return [row | word for row, word in zip(found, words, strict=True)]


def points(run_url: str, series: str = "scalars") -> dict[str, list[tuple[int, float, Any]]]:
    """Return step, time and value of each value, by name."""
    found: dict[str, list[tuple[int, float, Any]]] = {}
    for row in rows(run_url, series):
        step, time = row.pop("step"), row.pop("time")
        for name, value in row.items():
            found.setdefault(name, []).append((step, time, value))
    return found


def read_json(url: str) -> Any:
    """Return the content of a JSON file, read by plain fsspec."""
    with fsspec.open(url) as file:
        return json.load(file)


def names(url: str) -> list[str]:
    """List the files of a run, or of any folder, by plain fsspec."""
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(path[len(root) :].lstrip("/") for path in fs.find(root))
