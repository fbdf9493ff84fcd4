"""Read run folders of Weights & Biases, such as ``offline-run-20260301_093000-4f2a9c1b``, without the package.

The log ``run-<id>.wandb`` has the configuration, the history and the summary; ``files/`` the output, media and others.
Several folders of one id are the parts of a run that was resumed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import KeyNameError
from notata.importing.facts import Facts
from notata.importing.links import Links
from notata.importing.naming import artifact_key, legal_name
from notata.importing.source import Failed, FolderSource, FoundRun, checked_text, listed, mark_of, no_run
from notata.importing.wire import Message, records
from notata.importing.writer import RunWriter
from notata.run.monitor import SYSTEM
from notata.store import Blob, Entry
from notata.store.in_flight import InFlight

__all__ = ["WandbSource"]

_LOG: Final = re.compile(r"(?:.*/)?run-([^/]+)\.wandb")
_START: Final = 2**16  # bytes of a log that are read to find its project
_TOGETHER: Final = 200
_FILES: Final = "files/"
_OWN: Final[Mapping[str, str]] = {
    "output.log": "output.txt",
    "requirements.txt": "code/packages.txt",
    "diff.patch": "code/diff.patch",
}
"""The keys of files that notata has, too."""

_KNOWN: Final = frozenset({"config.yaml", "wandb-summary.json"})
"""Files whose values are in the log."""

_HISTORY, _SUMMARY, _CONFIG, _STATS, _RUN, _EXIT, _HEADER, _ENVIRONMENT = 2, 3, 5, 7, 17, 18, 21, 26
_LEVELS: Final = 20  # of nested values


class WandbSource(FolderSource):
    """The runs in a folder ``wandb``, or in one that contains it; see `Source`."""

    def find(self, failed: Failed) -> Iterator[FoundRun]:
        """Yield the runs."""
        entries = listed(self.store, failed)
        runs: dict[str, list[Entry]] = {}
        for key, entry in sorted(entries.items()):
            if found := _LOG.fullmatch(key):
                runs.setdefault(found[1], []).append(entry)
        if not runs:
            raise no_run(self.store, "Weights & Biases", "file run-<id>.wandb")
        files = _by_folder(entries, {entry.key.rpartition("/")[0] for logs in runs.values() for entry in logs})
        links = Links(self.store)
        ids = list(runs)
        for start in range(0, len(ids), _TOGETHER):
            some = ids[start : start + _TOGETHER]
            projects = self._projects({run_id: runs[run_id][0] for run_id in some}, failed)
            for run_id, project in projects.items():
                parts = [_Part(log, files[log.key.rpartition("/")[0]], links) for log in runs[run_id]]
                mark = mark_of(entry for part in parts for entry in part.files.values())
                path = parts[0].log.key.rpartition("/")[0] or run_id
                folder = legal_name(project) if project else ""
                yield FoundRun(run_id, legal_name(run_id), folder, path, mark, partial(self._read, parts))

    def _projects(self, logs: Mapping[str, Entry], failed: Failed) -> dict[str, str]:
        """Return the project of each run. 32 reads at once."""
        import io

        flying = InFlight[str, Blob]()
        with flying.until_landed():
            for run_id, entry in logs.items():
                flying.begin(run_id, _START, self.store.start_fetch, entry.key, 0, _START)
        for error in flying.errors.values():
            failed(error)
        found = {}
        for run_id, blob in sorted(flying.results.items()):
            found[run_id] = ""
            try:
                for data in records(io.BytesIO(blob.data), logs[run_id].key, lambda _: None):
                    record = Message(data)
                    if _RUN in record:
                        found[run_id] = checked_text(record.message(_RUN).text(3), 1000)
                        break
            except ValueError:
                continue  # the import of the run reports it
        return found

    def _read(self, parts: list[_Part], into: RunWriter) -> Facts:
        run = _Run(into)
        for part in parts:
            run.begin_part()
            file: IO[bytes] = self.store.open(part.log.key, "rb")
            with file:
                for data in records(file, part.log.key, into.leave_out):
                    run.add(Message(data))
            into.copy(_copies(part, into), self.store)
            for name in part.links.below(keys.join(part.folder, _FILES.rstrip("/"))):
                into.leave_out(f"the link {quoted(name)}")
        return run.facts()


@dataclass(frozen=True, slots=True)
class _Part:
    """One folder of a run.

    Attributes:
        log: Its log.
        files: All its files, by path.
        links: The links of the source.
    """

    log: Entry
    files: Mapping[str, Entry]
    links: Links = field(repr=False)

    @property
    def folder(self) -> str:
        """The key of the folder."""
        return self.log.key.rpartition("/")[0]


def _by_folder(entries: Mapping[str, Entry], folders: Iterable[str]) -> dict[str, dict[str, Entry]]:
    """Return the files of each folder by path."""
    found: dict[str, dict[str, Entry]] = {folder: {} for folder in folders}
    for key, entry in entries.items():
        folder = key
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in found:
                found[folder][key[len(folder) + 1 :]] = entry
                break
        else:
            if "" in found:
                found[""][key] = entry
    return found


def _copies(part: _Part, into: RunWriter) -> dict[str, Entry]:
    """Return the files to copy by key: those that the user or the package stored, without logs of the package."""
    copies = {}
    for path, entry in part.files.items():
        name = path.removeprefix(_FILES)
        if name == path or name in _KNOWN:
            continue
        try:
            image = name.removeprefix("media/images/")
            key = _OWN.get(name) or (keys.check(f"{keys.PLOTS}/{image}") if image != name else artifact_key(name))
            copies[key] = entry
        except KeyNameError:
            into.leave_out(f"the file {quoted(name)}, whose name cannot be a key")
    return copies


class _Run:
    """The values of one run, as its records give them."""

    def __init__(self, into: RunWriter) -> None:
        self._into = into
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._fields: dict[str, Any] = {}
        self._environment: dict[str, Any] = {}
        self._start: float | None = None
        self._end: float | None = None
        self._exit: int | None = None
        self._version = ""
        self._samples = 0
        self._part_start = 0.0

    def begin_part(self) -> None:
        """Begin to read the next folder of the run."""
        self._exit = None

    def add(self, record: Message) -> None:
        """Take what one record says."""
        if _HISTORY in record:
            self._history(record.message(_HISTORY))
        elif _SUMMARY in record:
            _update(self._summary, record.message(_SUMMARY))
        elif _CONFIG in record:
            _update(self._config, record.message(_CONFIG))
        elif _STATS in record:
            self._stats(record.message(_STATS))
        elif _RUN in record:
            self._describe(record.message(_RUN))
        elif _EXIT in record:
            self._ends(record.message(_EXIT))
        elif _ENVIRONMENT in record:
            self._surroundings(record.message(_ENVIRONMENT))
        elif _HEADER in record:
            self._version = record.message(_HEADER).message(1).text(1).partition("+")[0]

    def _history(self, history: Message) -> None:
        """Write one row of the history."""
        row: dict[str, Any] = {}
        for item in history.messages(1):
            _put(row, _path_of(item), _item_value(item))
        step = history.message(2).integer(1) if 2 in history else row.get("_step")
        time = row.get("_timestamp")
        if not isinstance(time, int | float) or not math.isfinite(time):
            runtime = row.get("_runtime")
            time = self._part_start + (runtime if isinstance(runtime, int | float) and math.isfinite(runtime) else 0.0)
        for name, value in _flat(row):
            if name.startswith("_"):
                continue
            if isinstance(value, dict) and "path" in value:  # media, whose file is copied
                continue
            if isinstance(value, dict) and value:
                self._into.leave_out(
                    f"values of {quoted(name)} of the type {quoted(checked_text(value.get('_type'), 50))}"
                )
            else:
                self._into.value(name, step if type(step) is int else 0, float(time), value)
        self._end = max(self._end or 0.0, float(time))

    def _stats(self, stats: Message) -> None:
        """Write one sample of the system."""
        time = _time(stats.message(2))
        for item in stats.messages(3):
            value = _json(item.text(16))
            if isinstance(value, int | float):
                self._into.value(item.text(1), self._samples, time, value, SYSTEM)
        self._samples += 1

    def _describe(self, run: Message) -> None:
        _update(self._config, run.message(4))
        _update(self._summary, run.message(5))
        start = _time(run.message(17))
        self._part_start = start
        self._start = start if self._start is None and start else self._start
        given = {
            "name": checked_text(run.text(8), 1000),
            "note": checked_text(run.text(9)),
            "tags": [checked_text(tag, 1000) for tag in run.texts(10)],
            "experiment": checked_text(run.text(3), 1000),
            "group": checked_text(run.text(6), 1000),
            "job_type": checked_text(run.text(7), 1000),
            "sweep": checked_text(run.text(12), 1000),
        }
        self._fields |= {name: value for name, value in given.items() if value}
        if host := checked_text(run.text(13), 200):
            self._environment["host"] = host
        self._git(run.message(21))

    def _git(self, git: Message) -> None:
        if commit := checked_text(git.text(2), 200):
            self._environment["git"] = {"commit": commit}

    def _surroundings(self, found: Message) -> None:
        """Take machine, user, Python version, command line and commit from a record of the environment."""
        given = {
            "platform": checked_text(found.text(1), 200),
            "host": checked_text(found.text(12), 200),
            "user": checked_text(found.text(13), 200),
            "cwd": checked_text(found.text(10), 2000),
        }
        self._environment |= {name: value for name, value in given.items() if value}
        if program := checked_text(found.text(6), 2000):
            self._environment["argv"] = [program, *(checked_text(part, 2000) for part in found.texts(5)[:1000])]
        if version := checked_text(found.text(2), 100):
            self._environment["python"] = {"version": version.removeprefix("CPython ")}
        self._git(found.message(9))

    def _ends(self, exit_: Message) -> None:
        self._exit = exit_.integer(1)
        runtime = exit_.integer(2)
        if runtime > 0 and self._part_start:
            self._end = max(self._end or 0.0, self._part_start + runtime)

    def facts(self) -> Facts:
        """Return what the records said."""
        is_complete = self._exit == 0
        reason = f"exit code {self._exit}" if self._exit else "it had not ended when it was imported"
        return Facts(
            params={name: value for name, value in self._config.items() if name != "_wandb"},
            metrics={name: value for name, value in _flat(self._summary) if not _is_hidden(name, value)},
            status="complete" if is_complete else "failed",
            reason="" if is_complete else reason,
            start=self._start,
            end=self._end,
            fields=self._fields,
            environment=self._environment,
            package_version=self._version,
        )


# -- values ------------------------------------------------------------------------------------------------


def _path_of(item: Message) -> list[str]:
    """Return the name of an item, with a part for each level."""
    return item.texts(2) or [item.text(1)]


def _item_value(item: Message) -> Any:
    """Return the value of an item: JSON, or in newer logs a field of its type."""
    if 16 in item:
        return _json(item.text(16))
    if 4 in item:
        return bool(item.integer(4))
    if 5 in item:
        return item.integer(5)
    if 6 in item:
        return item.double(6)
    if 7 in item:
        return item.text(7)
    return _json(item.text(8)) if 8 in item else None


def _json(text: str) -> Any:
    """Return the value of a JSON text; the text, if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value in nested dictionaries."""
    for name in path[:-1][:_LEVELS]:
        inner = values.get(name)
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    values[path[-1]] = value


def _update(values: dict[str, Any], record: Message) -> None:
    """Apply the updates and removals of a record of the configuration or the summary."""
    for item in record.messages(1):
        _put(values, _path_of(item), _item_value(item))
    for item in record.messages(2):
        inner: Any = values
        *path, last = _path_of(item)
        for name in path:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)


def _flat(row: Mapping[str, Any], start: str = "", levels: int = _LEVELS) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries with full names; media and histograms as one value, their type."""
    for name, value in row.items():
        if isinstance(value, dict) and "_type" not in value and levels and value:
            yield from _flat(value, f"{start}{name}.", levels - 1)
        else:
            yield f"{start}{name}", value


def _is_hidden(name: str, value: Any) -> bool:
    return name.startswith("_") or (isinstance(value, dict) and "_type" in value)


def _time(stamp: Message) -> float:
    return stamp.integer(1) + stamp.integer(2) / 1e9
