"""Read runs that DVCLive wrote: a folder with ``metrics.json``, ``params.yaml`` and ``plots/`` for each run."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import DecodeError, KeyNameError
from notata.importing.facts import Facts
from notata.importing.links import Links
from notata.importing.naming import artifact_key, legal_name
from notata.importing.source import (
    Failed,
    FolderSource,
    FoundRun,
    json_of,
    listed,
    mark_of,
    milliseconds,
    no_run,
    number_or_text,
    read_small,
    yaml_of,
)
from notata.importing.writer import RunWriter
from notata.store import Entry

__all__ = ["DvcliveSource"]

_METRICS: Final = "metrics.json"
_PARAMS: Final = "params.yaml"
_PLOTS: Final = "plots/"
_TABLES: Final = "plots/metrics/"
_IMAGES: Final = "plots/images/"
_STEP: Final = "step"
_TIME: Final = "timestamp"


class DvcliveSource(FolderSource):
    """The runs in a folder of DVCLive, or in one that contains several; see `Source`."""

    def find(self, failed: Failed) -> Iterator[FoundRun]:
        """Yield the runs."""
        entries = listed(self.store, failed)
        folders = _run_folders(entries)
        if not folders:
            raise no_run(self.store, "DVCLive", "metrics.json with params.yaml or plots/metrics")
        links = Links(self.store)
        for folder, files in folders.items():
            run_id = folder or self.url.rstrip("/").rpartition("/")[2]
            read = partial(self._read, files, links.below(folder))
            yield FoundRun(run_id, legal_name(run_id), "", folder or run_id, mark_of(files.values()), read)

    def _read(self, files: Mapping[str, Entry], links: list[str], into: RunWriter) -> Facts:
        params = self._mapping(files, _PARAMS)
        metrics = self._mapping(files, _METRICS)
        tables = {path[len(_TABLES) :]: entry for path, entry in files.items() if _is_table(path)}
        modified = max((entry.modified.timestamp() for entry in tables.values()), default=0.0)
        found = [self._points(path, entry, modified) for path, entry in sorted(tables.items())]
        for time, step, name, value in heapq.merge(*found, key=itemgetter(0, 1)):
            into.value(name, step, time, value)
        self._copy(files, into)
        for name in links:
            into.leave_out(f"the link {quoted(name)}")
        last = max(entry.modified for entry in files.values()).timestamp()
        return Facts(params=params, metrics=metrics, end=last)

    def _mapping(self, files: Mapping[str, Entry], name: str) -> dict[str, Any]:
        if name not in files:
            return {}
        data = read_small(self.store, files[name])
        value = yaml_of(data, name) if name == _PARAMS else json_of(data, name)
        if value is not None and not isinstance(value, dict):
            raise DecodeError(f"{name} has no names and values, so it was not written by DVCLive")
        return value or {}

    def _points(self, path: str, entry: Entry, modified: float) -> Iterator[tuple[float, int, str, Any]]:
        """Yield time, step, name and value of each row of a table; without times, that of the last table."""
        lines = read_small(self.store, entry).decode("utf-8", "replace").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n") and len(lines) > 1:
            lines.pop()  # it was being written
        rows = csv.reader(lines, delimiter="\t")
        header = next(rows, [])
        if _STEP not in header:
            raise DecodeError(f"{quoted(path)} has no column {_STEP!r}, so it was not written by DVCLive")
        name = path.removesuffix(".tsv")
        others = [column for column in header if column not in (_STEP, _TIME)]
        for row in _checked(rows, path):
            cells = dict(zip(header, row, strict=False))
            step = number_or_text(cells.get(_STEP, ""))
            time = milliseconds(number_or_text(cells.get(_TIME, ""))) or modified
            if type(step) is not int:
                raise DecodeError(f"{quoted(path)} has a row with the step {cells.get(_STEP, '')[:40]!r}")
            for column in others:
                if column in cells:
                    full = name if len(others) == 1 else f"{name}.{column}"
                    yield time, step, full, _value(cells[column])

    def _copy(self, files: Mapping[str, Entry], into: RunWriter) -> None:
        copies = {}
        for path, entry in files.items():
            if path in (_METRICS, _PARAMS) or _is_table(path):
                continue
            try:
                copies[_key(path)] = entry
            except KeyNameError:
                into.leave_out(f"the file {quoted(path)}, whose name cannot be a key")
        into.copy(copies, self.store)


def _key(path: str) -> str:
    """Return the key of an image below ``plots/``, of any other file below ``artifacts/``."""
    if path.startswith(_IMAGES):
        return keys.check(f"{keys.PLOTS}/{path[len(_IMAGES) :]}")
    if path.startswith("artifacts/"):
        return artifact_key(path.removeprefix("artifacts/"))
    return artifact_key(path)


def _is_table(path: str) -> bool:
    return path.startswith(_TABLES) and path.endswith(".tsv")


def _run_folders(entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    """Return the folders of runs with their files by path."""
    marks: dict[str, set[str]] = {}
    for key in entries:
        for end in (_METRICS, _PARAMS):
            if key == end or key.endswith(f"/{end}"):
                marks.setdefault(key[: -len(end)], set()).add(end)
        at = key.find(_TABLES)
        if at == 0 or (at > 0 and key[at - 1] == "/"):
            marks.setdefault(key[:at], set()).add(_PLOTS)
    folders = sorted(start for start, found in marks.items() if _PLOTS in found or len(found) > 1)
    found: dict[str, dict[str, Entry]] = {
        start.rstrip("/"): {} for start in folders if not any(start != up and start.startswith(up) for up in folders)
    }
    for key, entry in entries.items():
        for folder in _above(key):
            if folder in found:
                found[folder][key[len(folder) + 1 :] if folder else key] = entry
                break
    return found


def _above(key: str) -> Iterator[str]:
    """Yield the folders that contain a key, the nearest first, and the root."""
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key
    yield ""


def _checked(rows: Iterable[list[str]], path: str) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise DecodeError(f"{quoted(path)} is not a table: {error}") from error


def _value(text: str) -> Any:
    """Return the number in a cell; the text, if it is none."""
    try:
        return float(text) if text else None
    except ValueError:
        return text
