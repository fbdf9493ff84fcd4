"""Publish runs as an RO-Crate: choose them, copy their files with their digests, and describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from notata._base.display import counted, listed, size
from notata._base.progress import Wanted as WantedProgress
from notata._base.progress import shown
from notata._base.secrets import shown_url
from notata.errors import ConfigurationError, NotataError, RunMissingError, StorageError
from notata.page.bundle import chart_library, html_of
from notata.page.contents import Contents, Wanted
from notata.publish.chosen import ChosenRun, Patterns, chosen
from notata.publish.citation import citation
from notata.publish.metadata import CITATION, METADATA, PREVIEW, CrateFacts, CrateMetadata
from notata.publish.pack import Packed, Sink, pack, packed
from notata.publish.people import License, authors_of
from notata.publish.sinks import output_of
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.choosing import runs as find_runs
from notata.search.target import URL, URLs, raise_error
from notata.store.in_flight import Tally

__all__ = ["OUTPUT", "Published", "publish"]

OUTPUT: Final = "crate.zip"

_PAGE: Final = 20_000_000  # bytes of the page
_NAMED: Final = 5
_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Published:
    """A crate that was written.

    Attributes:
        url: The file or folder, without credentials.
        runs: The number of its runs.
        files: The number of files of these runs in it.
        size: The size of these files in bytes.
        notes: Sentences about what the reader of the crate should know, such as files that have changed.
    """

    url: str
    runs: int
    files: int
    size: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.url}: {counted(self.runs, 'run')}, {counted(self.files, 'file')}, {size(self.size)}"


def publish(
    urls: URLs | Query | None = None,
    output: URL = OUTPUT,
    *,
    name: str | None = None,
    description: str | None = None,
    authors: str | Iterable[str] = (),
    license: str | None = None,
    repository: str | None = None,
    published: date | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    with_host: bool = False,
    allow_changed: bool = False,
    force: bool = False,
    replace: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    output_options: Mapping[str, Any] | None = None,
    progress: WantedProgress = False,
) -> Published:
    """Write the runs at or below some places as one RO-Crate, to be sent to a repository for data.

    The crate has the files of the runs, ``ro-crate-metadata.json`` (RO-Crate 1.1, Process Run Crate 0.5), which names
    each file with its size, type and SHA-256, the page of `report` as ``ro-crate-preview.html``, and ``CITATION.cff``.
    Nothing is sent to a repository. Files that the manifest of a run lists must be as it says.

    The write is atomic: nothing is visible before the crate is complete. In a bucket, a crate that is a folder gets its
    metadata file last. Equal runs and arguments give equal bytes, with the same versions of notata and zlib.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        output: A file whose name ends with ``.zip``, or a folder: a path or any fsspec URL.
        name: The title. By default the id of the run, or the names of the places.
        description: A description. By default the number and ids of the runs.
        authors: People who made the runs: ``"Ada Lovelace <0000-0002-1825-0097>"``, with or without an ORCID. By
            default, no person is named.
        license: An SPDX identifier, such as ``CC-BY-4.0``, or the URL of a license.
        repository: The URL of the code that ran, for runs that did not record it.
        published: The date of publication. By default the day on which the last run ended.
        include: Patterns of files or folders of the runs, such as ``"*.npy"`` or ``"plots"``; by default all.
        exclude: Patterns of files or folders to leave out.
        with_host: Publish the names of machines and users in metadata.json; by default they are removed there, in the
            page and in the description. Other files of the runs are published as they are.
        allow_changed: Publish files that differ from the manifest of their run, with a note.
        force: Publish runs that are running or died, too.
        replace: Replace an existing zip file.
        status: Only runs with this status or one of several, see `notata.search.runs`.
        where: Only runs that match this expression or function, see `notata.search.runs`.
        storage_options: Options for fsspec, for `urls`.
        output_options: Options for fsspec, for `output`.
        progress: Show a progress bar in the terminal; or any `fsspec.callbacks.Callback`, which counts bytes.

    Cost: that of `runs` with parameters and metrics, of a `report`, and one read for each file up to 8 MiB; the write
    of a zip file, or of each file in a folder. Memory is bounded, except for some hundred bytes a file.

    Raises:
        ConfigurationError: An argument is invalid, a run has not ended, or the output is in a run.
        ExistsError: The output exists.
        RunMissingError: There is no run, or none that matches.
        StorageError: A file has changed since the end of its run, or a place cannot be read or written.

    >>> import zipfile
    >>> from notata import Logbook
    >>> with Logbook("pendulum", "memory://publish", params={"length": 2.0}) as run:
    ...     path = run.text("notes", "swings")
    >>> print(publish("memory://publish/log_pendulum", "memory://crates/pendulum.zip", license="CC-BY-4.0"))
    memory://crates/pendulum.zip: 1 run, ... files, ... kB
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options)
    query.failed = raise_error  # a crate that lacks a place is not complete
    people, terms = authors_of(authors), None if license is None else License.parse(license)
    kept = Patterns(_texts(include), _texts(exclude))
    to = output_of(output, output_options, replace=replace)
    to.check()
    notes = _Notes()
    runs = _found(query)
    to.check_runs(run.url for run in runs)
    picked = chosen(runs, kept, with_host=with_host, force=force, note=notes)
    facts = CrateFacts(
        _title(query, picked) if name is None else name,
        _description(picked) if description is None else description,
        _last_day(runs) if published is None else published,
        people,
        terms,
        _web_address(repository),
    )
    if not people:
        notes("No author is named; name one with authors= (--author)")
    if terms is None:
        notes("No license is named, so others may not use the data; name one with license= (--license)")
    changed = notes.of_change if allow_changed else _refuse_change
    total = sum(one.run.size or 0 for one in picked)
    with shown(progress, facts.name) as callback, to.opened(facts.published) as sink:
        files = pack(sink, picked, changed, Tally(callback, total).add)
        if not files:
            notes(
                "The crate has no file of the runs: include= (--include) and exclude= (--exclude) leave all of them out"
            )
        _describe(sink, picked, facts, files, notes)
    return Published(to.url, len(picked), len(files), sum(file.size for file in files.values()), notes.texts)


class _Notes:
    """Collects notes, each once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def __call__(self, text: str) -> None:
        if len(self._texts) < _PROBLEMS:
            self._texts[text] = None

    def of_error(self, error: NotataError) -> None:
        """Add the message of an error."""
        self(str(error))

    def of_change(self, error: StorageError) -> None:
        """Add that files differ from the manifest of their run."""
        self(f"{error}. The crate has the files as they are now")

    @property
    def texts(self) -> tuple[str, ...]:
        """The notes."""
        return tuple(self._texts)


def _refuse_change(error: StorageError) -> None:
    """Refuse to publish files that differ from the manifest of their run."""
    hint = "Look with notata verify; allow_changed=True (--allow-changed) publishes the files as they are now"
    raise StorageError(f"{error}. {hint}", url=error.url, key=error.key)


def _found(query: Query) -> Runs:
    """Return the runs of the query, with files, parameters and metrics.

    Raises:
        RunMissingError: There is none.
    """
    runs = find_runs(query, values=True, fresh=True)
    if not runs:
        places = ", ".join(target.name for target in query.targets)
        hints = "".join(f"; {note}" for note in runs.notes)
        raise RunMissingError(f"no run of {runs.total} at {places} matches, so nothing was published{hints}")
    return runs


def _describe(
    sink: Sink,
    picked: Sequence[ChosenRun],
    facts: CrateFacts,
    files: Mapping[str, Packed],
    notes: _Notes,
) -> None:
    """Write the citation, the page and the metadata."""
    metadata = CrateMetadata(facts, picked)
    programs = {metadata.program_of(one) for one in picked}
    repositories, commits = ({getattr(one, name) for one in programs} for name in ("repository", "version"))
    own = {
        CITATION: packed(
            sink,
            CITATION,
            citation(
                facts.name,
                description=facts.description,
                released=facts.published,
                authors=facts.authors,
                license=facts.license,
                repository=repositories.pop() if len(repositories) == 1 else "",
                commit=commits.pop() if len(commits) == 1 else "",
            ),
        ),
        PREVIEW: packed(sink, PREVIEW, _page(picked, facts, notes.of_error)),
    }
    packed(sink, METADATA, metadata.encode(files, own))


def _page(picked: Sequence[ChosenRun], facts: CrateFacts, failed: Callable[[NotataError], object]) -> bytes:
    """Return the page of the runs, with the folders of the crate as their names."""
    moment = datetime.combine(facts.published, time(), UTC)
    wanted = Wanted(facts.name, ["."], made=moment, shows_urls=False)
    problems: list[str] = []

    def report(error: NotataError) -> None:
        problems.append(str(error))
        failed(error)

    chart = chart_library()
    frame = sum(map(len, html_of(facts.name, (), chart=chart)))
    contents = Contents(Runs([one.run for one in picked]), wanted, _PAGE - frame, report, problems)
    contents.collect()
    return b"".join(html_of(facts.name, contents.blocks, chart=chart))


def _title(query: Query, picked: Sequence[ChosenRun]) -> str:
    if len(picked) == 1:
        return picked[0].run.run_id
    names = [target.name.rstrip("/").rpartition("/")[2] for target in query.targets]
    return listed(dict.fromkeys(name for name in names if name.strip(".")), _NAMED) or "Runs"


def _description(picked: Sequence[ChosenRun]) -> str:
    ids = listed([one.run.run_id for one in picked], _NAMED)
    return f"{counted(len(picked), 'run')} recorded with notata: {ids}"


def _web_address(repository: str | None) -> str:
    """Return the address of a repository, without credentials; empty if there is none.

    Raises:
        ConfigurationError: It is not the URL of a web server.
    """
    if not repository:
        return ""
    try:
        shown = shown_url(repository)
    except ValueError:
        shown = ""
    if not shown.startswith(("https://", "http://")):
        raise ConfigurationError("invalid repository: write the URL of a web server, such as https://github.com/a/b")
    return shown


def _last_day(runs: Iterable[Any]) -> date:
    """Return the day on which the last run ended, or else began; a day of the zone of the run."""
    days = [moment.date() for run in runs if (moment := run.ended or run.started) is not None]
    return max(days, default=date(1980, 1, 1))


def _texts(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else [*given]
