"""Whether runs are whole: a verdict on each; it reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from notata.errors import NotataError
from notata.manifest import VerifyReport
from notata.reader import LogReader
from notata.search.choosing import Choice, Wheres, narrowed
from notata.search.finding import Found, URLs, each, given, no_run
from notata.store import TIMEOUT

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of a run.

    Attributes:
        name: What the run is called: the place as it was given, and the path below it.
        run_id: As it was given when the run began; None for a place where there is none.
        url: Where it lies, without credentials; None for such a place.
        report: What was found; None where nothing can be told.
        why: Why not.
    """

    name: str
    run_id: str | None
    url: str | None
    report: VerifyReport | None
    why: str = ""

    @property
    def code(self) -> int:
        """0 if all is as it was, 1 if something is missing or changed, 3 if that cannot be told."""
        if self.report is None:
            return 3
        if self.report.missing or self.report.changed:
            return 1
        return 3 if self.report.skipped or not self.report.ok else 0

    def __str__(self) -> str:
        return f"{self.name}: {self.why or self.report}"

    def record(self) -> dict[str, Any]:
        """Its fields by name."""
        told = {"name": self.name, "run_id": self.run_id, "url": self.url, "code": self.code}
        return told | ({"why": self.why} if self.report is None else asdict(self.report))


def verdicts(
    urls: URLs | None = None,
    *,
    progress: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[Verdict]:
    """A verdict on each run at or below these places; one on a place itself where there is none.

    Cost: one listing a place, and every file that a manifest tells of is read; before that what a filter takes, see
    `runs`.

    Args:
        urls: See `notata.search.URLs`; the base folder if not given.
        progress: Show a bar on standard error.
        status: Of runs of this status only, or of several; as for `runs`.
        where: Of runs for which this holds only; as for `runs`. Of a run whose metadata.json the storage refused, and
            which may be one of them, there is a verdict on its place.
        storage_options: For fsspec.
        timeout: As for `notata.Logbook`.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://verdicts").mark_complete()
    >>> [(verdict.run_id, verdict.code) for verdict in verdicts("memory://verdicts")]
    [('a', 0), ('b', 0)]
    """
    return _verdicts(urls, Choice(status, where), progress, storage_options, timeout)


def _verdicts(
    urls: URLs | None, choice: Choice, progress: bool, options: Mapping[str, Any] | None, timeout: float
) -> Iterator[Verdict]:
    for url in each(urls):
        errors: list[NotataError] = []
        found: list[Found] = []
        try:
            place = narrowed(url, choice, options, failed=errors.append, timeout=timeout)
            found = [*place.runs.values()]
            if not (found or choice.filters):
                raise no_run(place)
        except NotataError as error:
            errors.append(error)
        own = {run.store.url for run in found}  # what is skipped in a run is reported with it
        others = [error for error in errors if not _is_below(error, own)]
        yield from (Verdict(given(url), None, None, None, f"cannot tell: {error}") for error in others)
        for run in found:
            yield _verdict(run, progress)


def _is_below(error: NotataError, folders: Collection[str]) -> bool:
    """Check whether an error is about something in one of these folders."""
    if error.url is None or error.key is None:
        return False
    return any(f"{error.url.rstrip('/')}/{error.key}".startswith(f"{folder}/") for folder in folders)


def _verdict(run: Found, progress: bool) -> Verdict:
    called = (run.name, run.run_id, run.store.url)
    try:
        return Verdict(*called, LogReader(run.store).verify(progress=progress))
    except NotataError as error:
        told = str(error)  # which names the run once more where its manifest is missing
        return Verdict(*called, None, f"cannot tell: {told.partition(' cannot be verified: ')[2] or told}")
