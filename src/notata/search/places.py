"""Places with their runs and files, as a listing shows them.

Results keep the name by which the user asked for them, as with `grep` and `ls`, so that the user can pass it again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys
from notata._base.times import moment
from notata.errors import ConfigurationError, RunMissingError
from notata.reader import LogReader
from notata.run.listings import inside
from notata.run.state import EXIT, attempt_of, lease_of, number
from notata.search.target import MAGIC, below, matched_by, matches
from notata.store import Entry, Store
from notata.store.gaps import ignore
from notata.table import Index, Names, Row

__all__ = ["File", "Origin", "Place", "Run"]


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


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The experiment whose index has the rows of some runs, one for each run id.

    Attributes:
        name: The name of its folder ``runs`` for users.
        store: The store of the place that the user named.
        folder: The key of its folder ``runs`` in that store.
        why: The evidence for the status of its runs.
        names: The names that the rows have, or more.
    """

    name: str
    store: Store
    folder: str
    why: str
    names: Names


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its folder as a listing shows it, and a summary of its metadata.json once that was read.

    A run of an experiment with more than 10,000 runs comes from the index of the experiment (see `notata.search.runs`):
    nothing was listed then, so `size`, `files`, `unfinished` and `unfinished_files` are None, and `entries` and
    `metadata` are empty.

    A table of runs on a disk looks at two files of each run only. It lists the folder of a run when `size`, `files`,
    `entries` or what is unfinished is first used.

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
        size: The size of all its files, in bytes; None if they were not listed.
        files: The number of its files; None if they were not listed.
        failure_reason: Why it failed, died or cannot be read; empty otherwise.
        params: Its parameters, if they were requested.
        metrics: The content of ``artifacts/metrics.json``, if it was requested.
        metadata: The content of its metadata.json; empty if it was not, or cannot be read.
        metrics_error: Why requested parameters or metrics are missing; empty otherwise.
        pinned: Whether the run is protected from removal.
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
    size: int | None = 0
    files: int | None = 0
    failure_reason: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    metrics_error: str = ""
    pinned: bool = False
    unfinished: int | None = 0
    unfinished_files: int | None = 0
    folder: str = field(default="", repr=False, compare=False)
    entries: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    unfinished_entries: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    _experiment: Store | None = field(default=None, repr=False, compare=False)
    _store: Store | None = field(default=None, repr=False, compare=False)
    _row: Row | None = field(default=None, repr=False, compare=False)
    _origin: Origin | None = field(default=None, repr=False, compare=False)
    _outline: Mapping[str, Entry] | None = field(default=None, repr=False, compare=False)
    _within: tuple[str, Store] | None = field(default=None, repr=False, compare=False)

    if not TYPE_CHECKING:  # else every attribute would be known to type checkers

        def __getattr__(self, name: str) -> Any:
            """Compute a field when it is first used: a table of many runs needs few of them."""
            if name not in _DEFAULTS or name == "_row":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            if self._row is not None:
                values = {name: _OF_ROW[name](self._row, self._origin)}
            elif name in _OF_FILES:
                values = _of_files(self.store)
            else:
                values = {name: _of_outline(name, self.folder, self._within)}
            for one, value in values.items():
                object.__setattr__(self, one, value)
            return values[name]

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

    @classmethod
    def outlined(cls, name: str, store: Store, folder: str, outline: Mapping[str, Entry]) -> Run:
        """Return a run of which some files are known; the others are listed when they are first used.

        Args:
            name: The name of the place for users.
            store: The store of the place.
            folder: The folder of the run in it.
            outline: The files that are known, by key.
        """
        return _made(cls, keys.run_id(folder), folder, outline, (name, store))

    @classmethod
    def of_rows(cls, rows: Iterable[Row], origin: Origin) -> list[Run]:
        """Return the runs of rows of an index, of which no file is known. 10⁶ of them take half a second."""
        new = cls.__new__
        set_row, set_origin, set_id, set_status, set_params, set_metrics = (
            cls.__dict__[name].__set__ for name in ("_row", "_origin", "run_id", "status", "params", "metrics")
        )  # the descriptors of the slots, as the class is frozen: other fields are computed when they are first used
        runs = []
        for row in rows:
            run = new(cls)
            set_row(run, row)
            set_origin(run, origin)
            set_id(run, row.run_id)
            set_status(run, row.status)
            set_params(run, row.params)
            set_metrics(run, row.metrics)
            runs.append(run)
        return runs

    def with_row(self, row: Row, why: str) -> Run:
        """Return the run with the status and the values of its row, without a look at its files.

        Args:
            row: The row.
            why: The evidence for the status.
        """
        values: dict[str, Any] = {
            "status": row.status,
            "why": why,
            "failure_reason": row.failure_reason,
            "params": row.params,
            "metrics": row.metrics,
            "metrics_error": row.metrics_error,
            "pinned": row.pinned,
        }
        if self._outline is None or self._within is None:
            return replace(self, **values)
        run = _made(type(self), self.run_id, self.folder, self._outline, self._within)
        for name, value in values.items():
            object.__setattr__(run, name, value)
        return run

    @property
    def known_entries(self) -> Mapping[str, Entry]:
        """Those of its files that are known without another listing; metadata.json and the metrics are among them."""
        return self.entries if self._outline is None else self._outline

    @property
    def store(self) -> Store:
        """The store of its folder.

        Raises:
            ConfigurationError: The run does not come from a function of `notata.search`.
        """
        if self._store is None:
            raise ConfigurationError(
                f"{self.name}: the folder of this run is unknown; pass runs that notata.search returned"
            )
        return self._store

    @property
    def reader(self) -> LogReader:
        """A reader of the run; creating it costs no request."""
        return LogReader._of(self.store)

    @property
    def is_indexed(self) -> bool:
        """True if the run comes from an index, and none of its files is known."""
        return self._row is not None and self.size is None

    @staticmethod
    def origin_of(runs: Iterable[Run]) -> Origin | None:
        """Return the experiment whose index all of these runs come from; None if there is no such one."""
        origins = set(map(attrgetter("_origin"), runs))
        return origins.pop() if len(origins) == 1 else None

    @property
    def is_outlined(self) -> bool:
        """True if only some of its files are known until the others are listed."""
        return self._outline is not None

    def has_row_of(self, other: Run) -> bool:
        """Check whether two runs from an index have the same row."""
        return self._row is not None and self._row is other._row

    @property
    def is_orphan(self) -> bool:
        """True if the run has neither metadata nor a manifest: only its name and files show that it is a run."""
        return not self.is_indexed and keys.METADATA not in self.entries and keys.MANIFEST not in self.entries

    @property
    def age(self) -> float | None:
        """Seconds since it began; None if unknown."""
        return None if self.started is None else (datetime.now(UTC) - self.started).total_seconds()

    @property
    def attempt(self) -> int:
        """The number of times that the run was resumed."""
        return self._row.attempt if self._row is not None and not self.metadata else attempt_of(self.metadata)

    @property
    def host(self) -> str:
        """The machine that it ran on; empty if unknown."""
        if self._row is not None and not self.metadata:
            return self._row.host
        environment = self.metadata.get("environment")
        host = environment.get("host") if isinstance(environment, dict) else None
        return str(lease_of(self.metadata).get("host") or host or "")

    @property
    def exit_code(self) -> int | None:
        """The exit code of the program that `notata run` recorded, or 128 and the number of a signal; None if unknown.

        >>> Run("a", "a", "memory://a", "failed", metadata={"exit": {"signal": "SIGKILL"}}).exit_code
        137
        """
        fields = _dictionary(self.metadata.get(EXIT))
        code = number(fields.get("code"))
        if code is not None:
            return int(code)
        number_of_signal = getattr(signal, str(fields.get("signal") or "-"), None)
        return 128 + number_of_signal if isinstance(number_of_signal, signal.Signals) else None

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time of the program that `notata run` recorded; None if unknown."""
        return number(_dictionary(self.metadata.get(EXIT)).get("cpu_seconds"))

    @property
    def peak_memory(self) -> int | None:
        """The largest memory of the processes of that program, in bytes; None if unknown."""
        peak = number(_dictionary(self.metadata.get(EXIT)).get("peak_memory_bytes"))
        return None if peak is None else int(peak)

    @property
    def shown_status(self) -> str:
        """The status for people: ``running?`` if it is unknown whether the run is running."""
        return self.status if self.certain else f"{self.status}?"

    def listed_again(self, now: Run) -> Run:
        """Return the run with the name, files and sizes of a later listing, and everything else as it was read."""
        return replace(
            self,
            name=now.name,
            size=now.size,
            files=now.files,
            unfinished=now.unfinished,
            unfinished_files=now.unfinished_files,
            folder=now.folder,
            entries=now.entries,
            unfinished_entries=now.unfinished_entries,
            _store=now._store,
        )

    def file(self, key: str) -> File:
        """Return one of its files, which need not exist yet."""
        name = f"{self.name}/{key}"
        return File(name, self.store, self.entries[key], "") if key in self.entries else File.of(name, self.store, key)

    def record(self) -> dict[str, Any]:
        """Return its fields by name, as `notata ls` prints them, without parameters and metrics.

        The field ``pinned`` is only there if it is true.
        """
        names = "name run_id url status certain why started ended age seconds size files host failure_reason"
        fields = {name: getattr(self, name) for name in (*names.split(), "unfinished", "unfinished_files")}
        return fields | {"host": self.host or None} | ({"pinned": True} if self.pinned else {})


def _dictionary(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _size(entries: Mapping[str, Entry]) -> int:
    return sum(max(0, entry.size) for entry in entries.values())


def _made(cls: type[Run], run_id: str, folder: str, outline: Mapping[str, Entry], within: tuple[str, Store]) -> Run:
    """Return a run of which only the outline is known."""
    run = cls.__new__(cls)
    for name, value in (
        ("run_id", run_id),
        ("folder", folder),
        ("_outline", outline),
        ("_within", within),
        ("_row", None),
        ("_origin", None),
    ):
        object.__setattr__(run, name, value)
    return run


def _of_outline(name: str, folder: str, within: tuple[str, Store]) -> Any:
    """Return a field of a run of which only the outline is known."""
    place, store = within
    if name == "name":
        return below(place, folder)
    if name == "url":
        return store.backend.shown(folder)
    return store.below(folder) if name == "_store" else _DEFAULTS[name]


def _of_files(store: Store) -> dict[str, Any]:
    """Return the fields of a run that need a listing of its folder."""
    left: dict[str, Entry] = {}

    def leave(entry: Entry) -> None:
        left[entry.key] = entry

    found = sorted(store.scan(skipped=ignore, unfinished=leave), key=lambda entry: entry.key)
    entries = {entry.key: entry for entry in found}
    return {
        "size": _size(entries),
        "files": len(entries),
        "entries": entries,
        "unfinished": _size(left),
        "unfinished_files": len(left),
        "unfinished_entries": left,
    }


_OF_FILES: Final = frozenset({"size", "files", "entries", "unfinished", "unfinished_files", "unfinished_entries"})
"""Fields that need a listing of the folder of a run."""

_DEFAULTS: Final[Mapping[str, Any]] = {one.name: {} if one.default is MISSING else one.default for one in fields(Run)}
"""The values of other fields of a run of which only the outline is known."""


def _nothing(_row: Row, _origin: Origin) -> None:
    return None


def _no_entries(_row: Row, _origin: Origin) -> Mapping[str, Any]:
    return {}


def _folder(row: Row, origin: Origin) -> str:
    return keys.join(origin.folder, f"log_{row.run_id}")


_OF_ROW: Final[Mapping[str, Callable[[Row, Origin], Any]]] = {
    "name": lambda row, origin: f"{origin.name}/log_{row.run_id}",
    "url": lambda row, origin: origin.store.backend.shown(_folder(row, origin)),
    "certain": lambda row, _: row.status not in ("running", "replacing"),
    "why": lambda _, origin: origin.why,
    "started": lambda row, _: moment(row.started),
    "ended": lambda row, _: moment(row.ended),
    "seconds": lambda row, _: row.seconds,
    "size": _nothing,
    "files": _nothing,
    "failure_reason": lambda row, _: row.failure_reason,
    "metadata": _no_entries,
    "metrics_error": lambda row, _: row.metrics_error,
    "pinned": lambda row, _: row.pinned,
    "unfinished": _nothing,
    "unfinished_files": _nothing,
    "folder": _folder,
    "entries": _no_entries,
    "unfinished_entries": _no_entries,
    "_experiment": _nothing,
    "_outline": _nothing,
    "_within": _nothing,
    "_store": lambda row, origin: origin.store.below(_folder(row, origin)),
}
"""The other fields of a run, as its row in an index has them."""


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
        indexes: The large indexes at or below it, by the folder of their experiment: its runs are not among `runs`, and
            its files not among `entries`. Empty unless the look-up trusts indexes.
        others: Other indexes that the look-up has read, by the folder of their experiment.
    """

    given: str
    name: str
    store: Store
    entries: Mapping[str, Entry]
    runs: Mapping[str, Run]
    pattern: str = ""
    unfinished: Mapping[str, Entry] = field(default_factory=dict)
    indexes: Mapping[str, Index] = field(default_factory=dict)
    others: Mapping[str, Index | None] = field(default_factory=dict)

    def means(self, key: str) -> bool:
        """Check whether the URL names a file or folder itself, and not merely a folder above it."""
        if not self.pattern or not key:
            return not (self.pattern or key)
        return key == self.pattern or matches(tuple(self.pattern.split("/")), tuple(key.split("/")))

    def covers(self, folder: str) -> bool:
        """Check whether the URL names all of a folder, and not only files in it."""
        return not self.pattern or (folder != "" and matched_by(self.pattern)(folder) is not None)

    def is_whole(self, folder: str) -> bool:
        """Check whether all files of a run were listed, as a pattern of files in one run lists only a part of it."""
        beginning = MAGIC.split(self.pattern, maxsplit=1)[0]
        return not beginning.startswith(f"{folder}/") if folder else not beginning

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
        return RunMissingError(f"there is no run at or below {self.given}", url=self.store.url)
