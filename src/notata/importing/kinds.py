"""The formats that can be imported, each with the module that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast

from notata.importing.source import Source
from notata.store import Location

__all__ = ["KINDS", "open_source"]

KINDS: Final[Mapping[str, str]] = {
    "dvclive": "DvcliveSource",
    "mlruns": "MlrunsSource",
    "sacred": "SacredSource",
    "tensorboard": "TensorboardSource",
    "wandb": "WandbSource",
}
"""The class that reads each format, in the module of the same name."""


def open_source(
    kind: str, source: Location, options: Mapping[str, Any] | None, *, deleted: bool, runs_url: str
) -> Source:
    """Return the reader of a source. No request.

    Args:
        kind: One of `KINDS`.
        source: The folder or file.
        options: Storage options for fsspec.
        deleted: Whether deleted runs are included, where a tool keeps them.
        runs_url: The folder of the imported runs, to name parents.
    """
    reader = getattr(import_module(f"notata.importing.{kind}"), KINDS[kind])
    return cast("Source", reader.at(source, options, deleted=deleted, runs_url=runs_url))
