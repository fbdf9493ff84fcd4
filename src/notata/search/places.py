"""Places with their runs and files, as a listing shows them.

Results keep the name by which the user asked for them, as with `grep` and `ls`, so that the user can pass it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from notata._base import keys
from notata.errors import ConfigurationError, RunMissingError
from notata.reader import LogReader
from notata.run.listings import inside
from notata.run.state import lease_of
from notata.search.target import below, matched_by, matches
from notata.store import Entry, Store

__all__ = ["File", "Place", "Run"]


@dataclass(frozen=True, slots=True)
class File:
    """A file at or below a place that a user named.

    Attributes:
        name: The place as it was given, and the path below it.
        store: The store of the place.
        entry: The entry of the file; its key is relative to `store`.
        run: The folder of its run in `store`; None if it is in no run, or its run is unknown.
    """

    name: str
    store: Store
    entry: Entry
    run: str | None = None

    @classmethod
    def of(cls, name: str, store: Store, key: str) -> File:
        """Return a file of the run in a store, which need not exist yet."""
        return cls(name, store, Entry(key, 0, datetime.now(UTC), ""), "")

    @property
    def key(self) -> str:
        """The key in its run, or in the place if the file is in no run."""
        return self.entry.key[len(self.run) + 1 :] if self.run else self.entry.key

    @property
    def run_store(self) -> Store | None:
        """The store of its run; None if it is in no run, or its run is unknown."""
        return self.store.below(self.run) if self.run else None if self.run is None else self.store

    @property
    def run_id(self) -> str | None:
        """The id of its run; None if it is in no run, or its run is unknown."""
        return None if self.run is None else keys.run_id(self.run or self.store.url)

    @property
    def run_name(self) -> str:
        """The name of its run for users; that of the file if it is in no run, or its run is unknown."""
        return self.name if self.run is None else self.name[: -len(self.key) - 1]


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its folder as a listing shows it, and a summary of its metadata.json once that was read.

    Attributes:
        name: The place as it was given, and the path below it.
        run_id: The id that was given when the run began.
        url: The URL of its folder, without credentials.
        status: The status of `notata.RunState`; ``unreadable`` if metadata.json is missing or cannot be read; empty if
            only a listing was made.
        certain: False if the run counts as running only because its state is unknown.
        why: The evidence for the status, in a few words.
        started: When it first began; None if unknown.
        ended: When it ended; None if it has not, or if unknown.
        seconds: Its duration, without pauses before a resumption; until now if it is running; until its last sign of
            life if it died. None if unknown.
        size: The size of all its files, in bytes.
        files: The number of its files.
        failure_reason: Why it failed, died or cannot be read; empty otherwise.
        params: Its parameters, if they were requested.
        metrics: The content of ``artifacts/metrics.json``, if it was requested.
        metadata: The content of its metadata.json; empty if it cannot be read.
        metrics_error: Why requested parameters or metrics are missing; empty otherwise.
        unfinished: Bytes of files that are still being written, or that a killed process left; not part of `size`.
        unfinished_files: The number of those files; not part of `files`.
        folder: The path of the run in the place; empty if it is the place itself.
        entries: Its files by key, each with size, time and version.
        unfinished_entries: Files that are still being written, or that a killed process left, by key.
    """

    name: str
    run_id: str
    url: str
    status: str = ""
    certain: bool = True
    why: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
    size: int = 0
    files: int = 0
    failure_reason: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    metrics_error: str = ""
    unfinished: int = 0
    unfinished_files: int = 0
    folder: str = field(default="", repr=False, compare=False)
    entries: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    unfinished_entries: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    _store: Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def listed(
        cls, name: str, store: Store, folder: str, entries: Mapping[str, Entry], unfinished: Mapping[str, Entry]
    ) -> Run:
        """Return a run of which only the listing is known."""
        return cls(
            name=name,
            run_id=keys.run_id(store.url),
            url=store.url,
            size=_size(entries),
            files=len(entries),
            unfinished=_size(unfinished),
            unfinished_files=len(unfinished),
            folder=folder,
            entries=entries,
            unfinished_entries=unfinished,
            _store=store,
        )

    @property
    def store(self) -> Store:
        """The store of its folder.

        Raises:
            ConfigurationError: The run does not come from a function of `notata.search`.
        """
        if self._store is None:
            raise ConfigurationError(f"{self.name}: the folder of this run is unknown; pass runs from notata.search")
        return self._store

    @property
    def reader(self) -> LogReader:
        """A reader of the run; creating it costs no request."""
        return LogReader._of(self.store)

    @property
    def is_orphan(self) -> bool:
        """True if the run has neither metadata nor a manifest: only its name and files show that it is a run."""
        return keys.METADATA not in self.entries and keys.MANIFEST not in self.entries

    @property
    def age(self) -> float | None:
        """Seconds since it began; None if unknown."""
        return None if self.started is None else (datetime.now(UTC) - self.started).total_seconds()

    @property
    def host(self) -> str:
        """The machine that it ran on; empty if unknown."""
        environment = self.metadata.get("environment")
        host = environment.get("host") if isinstance(environment, dict) else None
        return str(lease_of(self.metadata).get("host") or host or "")

    @property
    def shown_status(self) -> str:
        """The status for people: ``running?`` if it is unknown whether the run is running."""
        return self.status if self.certain else f"{self.status}?"

    def file(self, key: str) -> File:
        """Return one of its files, which need not exist yet."""
        name = f"{self.name}/{key}"
        return File(name, self.store, self.entries[key], "") if key in self.entries else File.of(name, self.store, key)

    def record(self) -> dict[str, Any]:
        """Return its fields by name, as `notata ls` prints them; without parameters and metrics."""
        names = "name run_id url status certain why started ended age seconds size files host failure_reason"
        fields = {name: getattr(self, name) for name in (*names.split(), "unfinished", "unfinished_files")}
        return fields | {"host": self.host or None}


def _size(entries: Mapping[str, Entry]) -> int:
    return sum(max(0, entry.size) for entry in entries.values())


@dataclass(frozen=True, slots=True)
class Place:
    """The result of looking up one target.

    Attributes:
        given: The URL as it was given, without credentials.
        name: The listed folder: the same URL, or the part before a pattern.
        store: The store of that folder.
        entries: The files at or below it, by key; with a pattern, only matching files.
        runs: The runs among them, with all their files, by folder. They include runs that lost their metadata.json, and
            files that a writer stored after its run was moved or deleted.
        pattern: The part of the URL after `name`, if that is a pattern.
        unfinished: Files at or below it that are still being written, or that a killed process left, by key.
    """

    given: str
    name: str
    store: Store
    entries: Mapping[str, Entry]
    runs: Mapping[str, Run]
    pattern: str = ""
    unfinished: Mapping[str, Entry] = field(default_factory=dict)

    def means(self, key: str) -> bool:
        """Check whether the URL names a file or folder itself, and not merely a folder above it."""
        if not self.pattern or not key:
            return not (self.pattern or key)
        return key == self.pattern or matches(tuple(self.pattern.split("/")), tuple(key.split("/")))

    def covers(self, folder: str) -> bool:
        """Check whether the URL names all of a folder, and not only files in it."""
        return not self.pattern or (folder != "" and matched_by(self.pattern)(folder) is not None)

    def named(self, key: str) -> str:
        """Return the name of a file or folder below the place, for users."""
        return below(self.name, key)

    @property
    def files(self) -> Iterator[File]:
        """All files, sorted by key."""
        for key, entry in sorted(self.entries.items()):
            yield File(self.named(key), self.store, entry, inside(key, self.runs))

    def parts(self, entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
        """Return the files and folders that match the pattern, as in a shell, each with its files by key.

        Without a pattern the place itself is the only part, as ``""``.

        Args:
            entries: The `entries` of the place, or its `unfinished` files.
        """
        if not self.pattern:
            return {"": dict(entries)}
        matched = matched_by(self.pattern)
        found: dict[str, dict[str, Entry]] = {}
        for key, entry in sorted(entries.items()):
            found.setdefault(matched(key) or key, {})[key] = entry
        return found

    def no_run(self) -> RunMissingError:
        """Return the error for a place without any run."""
        return RunMissingError(f"there is no run at {self.given}, or below it", url=self.store.url)
