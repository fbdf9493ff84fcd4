"""The news about one run that `notata watch` delivers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from notata._base.terminal import one_line

__all__ = ["Alert"]

_TEXT: Final = 1000  # characters


@dataclass(frozen=True, slots=True)
class Alert:
    """The news about one run. Each text is one line without control characters, and not longer than 2000 of them.

    Attributes:
        name: The place as it was given, and the path below it.
        run_id: The id of the run.
        url: The URL of its folder, without credentials.
        status: One of `notata.search.alerts.ON`.
        why: Why it failed or died, or since when nothing was written; empty for a complete run.
        host: The machine that it ran on; empty if unknown.
        started: When it began, ISO 8601; None if unknown.
        ended: When it ended, or gave its last sign of life; None if unknown.
        attempt: How often the run was resumed.
    """

    name: str
    run_id: str
    url: str
    status: str
    why: str
    host: str
    started: str | None
    ended: str | None
    attempt: int

    @property
    def text(self) -> str:
        """The news in one line."""
        verb = {"complete": "is complete", "stalled": "has stalled"}.get(self.status, self.status)
        why = f": {self.why}" if self.why else ""
        return one_line(f"{self.name} {verb}{why}{f' (on {self.host})' if self.host else ''}", _TEXT)

    def record(self) -> dict[str, Any]:
        """Return its fields by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
