"""Columns of the table of the page, for tests that need no storage."""

from __future__ import annotations

from typing import Any

__all__ = ["column"]


def column(name: str, kind: str, values: list[Any]) -> dict[str, Any]:
    """Return a column as `notata.page.model.runs_page` has it; `kind` is ``fact``, ``param`` or ``metric``."""
    known = [value for value in values if value is not None]
    is_number = bool(known) and all(isinstance(value, int | float) for value in known)
    return {
        "name": name,
        "path": name if kind == "fact" else f"{kind}s.{name}",
        "kind": kind,
        "type": "number" if is_number else "text",
        "hidden": kind == "fact" and name not in ("id", "status"),
        "values": values,
        "nonfinite": {},
    }
