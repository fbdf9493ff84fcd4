"""Whether runs are whole: a verdict on each; it reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from notata.errors import NotataError
from notata.manifest import VerifyReport
from notata.reader import LogReader
from notata.search.finding import Found, URLs, each, given, runs_at

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of a run.

    Attributes:
        url: Where it lies.
        report: What was found; None where nothing can be told.
        why: Why not.
    """

    url: str
    report: VerifyReport | None
    why: str = ""

    @property
    def code(self) -> int:
        """0 if all is as it was, 1 if something is missing or changed, 3 if that cannot be told."""
        if self.report is None:
            return 3
        if self.report.missing or self.report.changed:
            return 1
        return 0 if self.report.ok else 3

    def __str__(self) -> str:
        return f"{self.url}: {self.why or self.report}"

    def record(self) -> dict[str, Any]:
        """Its fields by name."""
        told = {"url": self.url, "code": self.code}
        return told | ({"why": self.why} if self.report is None else asdict(self.report))


def verdicts(
    urls: URLs | None = None, options: Mapping[str, Any] | None = None, *, progress: bool = False
) -> Iterator[Verdict]:
    """A verdict on each run at or below these places; one on a place itself where there is none.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://verdicts").mark_complete()
    >>> [(verdict.url, verdict.code) for verdict in verdicts("memory://verdicts")]
    [('memory://verdicts/log_a', 0), ('memory://verdicts/log_b', 0)]
    """
    for url in each(urls):
        try:
            found = list(runs_at(url, options))
        except NotataError as error:
            yield Verdict(given(url), None, f"cannot tell: {error}")
            continue
        for run in found:
            yield _verdict(run, progress)


def _verdict(run: Found, progress: bool) -> Verdict:
    try:
        return Verdict(run.name, LogReader(run.store).verify(progress=progress))
    except NotataError as error:
        return Verdict(run.name, None, f"cannot tell: {error}")
