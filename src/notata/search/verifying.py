"""Verification of runs against their manifests, with a verdict on each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from notata.errors import NotataError
from notata.manifest import VerifyReport
from notata.reader import LogReader
from notata.search.choosing import Query, Status, Wheres
from notata.search.places import Run
from notata.search.target import Target, URLs

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of verifying a run.

    Attributes:
        name: The place as it was given, and the path below it.
        run_id: The id that was given when the run began; None for a place without a run.
        url: The URL of its folder, without credentials; None for a place without a run.
        report: The report; None if the run cannot be verified.
        why: The reason, if the run cannot be verified.
    """

    name: str
    run_id: str | None
    url: str | None
    report: VerifyReport | None
    why: str = ""

    @property
    def code(self) -> int:
        """0 if all files match, 1 if a file is missing or changed, 3 if the check is incomplete."""
        if self.report is None:
            return 3
        if self.report.missing or self.report.changed:
            return 1
        return 3 if self.report.skipped or not self.report.ok else 0

    def __str__(self) -> str:
        return f"{self.name}: {self.why or self.report}"

    def record(self) -> dict[str, Any]:
        """Return its fields by name."""
        fields = {"name": self.name, "run_id": self.run_id, "url": self.url, "code": self.code}
        return fields | ({"why": self.why} if self.report is None else asdict(self.report))


def verdicts(
    urls: URLs | Query | None = None,
    *,
    progress: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[Verdict]:
    """Yield a verdict on each run at or below these places, or on a place itself if it has no run.

    No error is raised for a place or a run: its verdict has the reason why it cannot be verified.

    Cost: one listing a place, and the read of every file in the manifests; with a filter also its reads.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        progress: Show a progress bar on standard error.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more for one that
            has not ended, or whose parameters or metrics have changed since. If the storage refuses the metadata.json
            of a run that may match, there is a verdict on its place.
        storage_options: Options for fsspec.

    Raises:
        ConfigurationError: The filter is invalid, or the status is unknown.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://verdicts").mark_complete()
    >>> [(verdict.run_id, verdict.code) for verdict in verdicts("memory://verdicts")]
    [('a', 0), ('b', 0)]
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options)
    return query.each(lambda target: _verdicts(target, query, progress))


def _verdicts(target: Target, query: Query, progress: bool) -> Iterator[Verdict]:
    errors: list[NotataError] = []
    runs: list[Run] = []
    try:
        place = query.look_up(target, errors.append)
        runs = [*place.runs.values()]
        if not (runs or query.filters):
            raise place.no_run()
    except NotataError as error:
        errors.append(error)
    own = {run.url for run in runs}  # the verification of a run reports names skipped in it
    others = [error for error in errors if not _is_below(error, own)]
    yield from (Verdict(target.name, None, None, None, f"cannot tell: {error}") for error in others)
    for run in runs:
        yield _verdict(run, progress)


def _is_below(error: NotataError, folders: Collection[str]) -> bool:
    """Check whether an error is about something in one of these folders."""
    if error.url is None or error.key is None:
        return False
    return any(f"{error.url.rstrip('/')}/{error.key}".startswith(f"{folder}/") for folder in folders)


def _verdict(run: Run, progress: bool) -> Verdict:
    called = (run.name, run.run_id, run.url)
    try:
        return Verdict(*called, LogReader(run.store).verify(progress=progress))
    except NotataError as error:
        message = str(error)  # which names the run once more if its manifest is missing
        return Verdict(*called, None, f"cannot tell: {message.partition(' cannot be verified: ')[2] or message}")
