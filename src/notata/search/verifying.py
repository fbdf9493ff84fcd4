"""Verification of runs against their manifests, with a verdict on each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from notata.errors import NotataError
from notata.manifest import VerifyReport
from notata.reader import LogReader
from notata.search.choosing import Choice, Wheres, look_up_filtered
from notata.search.finding import Found, URLs, each, given, no_run
from notata.store import TIMEOUT

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
    urls: URLs | None = None,
    *,
    progress: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[Verdict]:
    """Yield a verdict on each run at or below these places, or on a place itself if it has no run.

    Cost: one listing a place, and the read of every file in the manifests; with a filter also its reads, see `runs`.

    Args:
        urls: See `notata.search.URLs`; by default the base folder.
        progress: Show a progress bar on standard error.
        status: Only runs with this status or one of several; as for `runs`.
        where: Only runs that match this filter; as for `runs`. If the storage refuses the metadata.json of a run that
            may match, there is a verdict on its place.
        storage_options: Options for fsspec.
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
            place = look_up_filtered(url, choice, options, failed=errors.append, timeout=timeout)
            found = [*place.runs.values()]
            if not (found or choice.filters):
                raise no_run(place)
        except NotataError as error:
            errors.append(error)
        own = {run.store.url for run in found}  # the verification of a run reports names skipped in it
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
        message = str(error)  # which names the run once more if its manifest is missing
        return Verdict(*called, None, f"cannot tell: {message.partition(' cannot be verified: ')[2] or message}")
