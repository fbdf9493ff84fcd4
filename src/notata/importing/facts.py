"""The facts that a source states about one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """A description of one run by its source: all but its values over time and its files.

    Attributes:
        params: The parameters.
        metrics: Single values at the end of the run.
        status: The status to store.
        reason: Why it failed.
        start: When it began, in Unix seconds; None if that is unknown.
        end: When it ended.
        fields: Other fields of metadata.json, such as `name`, `note` and `tags`.
        environment: The field `environment`, as far as it is known.
        package_version: The version of the package that wrote the run, if the files state it.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    status: Literal["complete", "failed"] = "complete"
    reason: str = ""
    start: float | None = None
    end: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    package_version: str = ""
