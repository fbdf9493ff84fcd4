"""Read the rows of a run by another road than notata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

__all__ = ["params_of", "rows_of"]


def rows_of(run: Path, series: str = "scalars") -> list[dict[str, Any]]:
    """Return the rows without their times."""
    rows = [json.loads(line) for line in (run / "series" / f"{series}.jsonl").read_text().splitlines()]
    assert all(row.pop("time") > 0 for row in rows)
    return rows


def params_of(run: Path) -> dict[str, Any]:
    """Return the parameters; empty if there is no file."""
    file = run / "params.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text()) if file.exists() else {}
    return found
