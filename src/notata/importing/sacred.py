"""Read runs that a FileStorageObserver of Sacred wrote: a numbered folder with ``run.json`` for each run.

Values that Sacred stored by jsonpickle stay plain data: nothing is made of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import DecodeError, KeyNameError, NotataError
from notata.importing.facts import Facts
from notata.importing.links import Links
from notata.importing.naming import artifact_key, legal_name
from notata.importing.source import (
    Failed,
    FolderSource,
    FoundRun,
    checked_text,
    json_of,
    listed,
    mark_of,
    moment_of,
    no_run,
    read_small,
)
from notata.importing.writer import RunWriter
from notata.store import Entry

__all__ = ["SacredSource"]

_RUN: Final = "run.json"
_CONFIG: Final = "config.json"
_METRICS: Final = "metrics.json"
_INFO: Final = "info.json"
_OUTPUT: Final = "cout.txt"
_OWN: Final = frozenset({_RUN, _CONFIG, _METRICS, _INFO, _OUTPUT})
_SOURCES: Final = "_sources"


class SacredSource(FolderSource):
    """The runs in the folder of a FileStorageObserver; see `Source`."""

    def find(self, failed: Failed) -> Iterator[FoundRun]:
        """Yield the runs."""
        entries = listed(self.store, failed)
        folders = sorted({key.rpartition("/")[0] for key in entries if key == _RUN or key.endswith(f"/{_RUN}")})
        if not folders:
            raise no_run(self.store, "Sacred", _RUN)
        links = Links(self.store)
        files = _by_folder(entries, folders)
        for folder in folders:
            try:
                yield self._found(folder, files[folder], entries, links)
            except NotataError as error:
                failed(DecodeError(f"cannot import {quoted(folder)}: {error}", url=self.url, key=folder))

    def _found(self, folder: str, files: Mapping[str, Entry], entries: Mapping[str, Entry], links: Links) -> FoundRun:
        run = self._json(files, _RUN)
        name = checked_text(_mapping(run.get("experiment")).get("name"), 1000)
        run_id = folder.rpartition("/")[2] or self.url.rstrip("/").rpartition("/")[2]
        read = partial(self._read, run, name, files, _sources(run, folder, entries), links.below(folder))
        return FoundRun(
            run_id,
            legal_name(run_id),
            legal_name(name) if name else "",
            folder or run_id,
            mark_of(files.values()),
            read,
        )

    def _json(self, files: Mapping[str, Entry], name: str) -> dict[str, Any]:
        """Return the object in one of the files; empty if there is no such file."""
        if name not in files:
            return {}
        found = json_of(read_small(self.store, files[name]), name)
        if not isinstance(found, dict):
            raise DecodeError(f"{name} is not a JSON object, so it was not written by Sacred")
        return found

    def _read(
        self,
        run: Mapping[str, Any],
        experiment: str,
        files: Mapping[str, Entry],
        sources: Mapping[str, Entry],
        links: list[str],
        into: RunWriter,
    ) -> Facts:
        metrics = self._json(files, _METRICS)
        found = [_points(name, columns) for name, columns in metrics.items()]
        for time, step, name, value in heapq.merge(*found, key=itemgetter(0)):
            into.value(name, step, time, value)
        self._copy(files, sources, links, into)
        if trace := _lines(run.get("fail_trace")):
            into.file(keys.TRACEBACK, trace.encode("utf-8", "backslashreplace"))
        return _facts(run, experiment, self._json(files, _CONFIG))

    def _copy(
        self, files: Mapping[str, Entry], sources: Mapping[str, Entry], links: list[str], into: RunWriter
    ) -> None:
        copies = {f"artifacts/sources/{name}": entry for name, entry in sources.items()}
        if _OUTPUT in files:
            copies["output.txt"] = files[_OUTPUT]
        for path, entry in files.items():
            try:
                if path == _INFO or path not in _OWN:
                    copies[artifact_key(path)] = entry
            except KeyNameError:
                into.leave_out(f"the file {quoted(path)}, whose name cannot be a key")
        into.copy(copies, self.store)
        for name in links:
            into.leave_out(f"the link {quoted(name)}")


def _by_folder(entries: Mapping[str, Entry], folders: list[str]) -> dict[str, dict[str, Entry]]:
    """Return the files of each run by path; those of a folder inside another run belong to both."""
    found: dict[str, dict[str, Entry]] = {folder: {} for folder in folders}
    for key, entry in entries.items():
        folder = key
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in found:
                path = key[len(folder) + 1 :] if folder else key
                if not path.startswith(f"{_SOURCES}/"):
                    found[folder][path] = entry
                break
    return found


def _sources(run: Mapping[str, Any], folder: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the source files of a run by name: those that run.json names and that are in the folder of sources."""
    found = {}
    base = folder.rpartition("/")[0]
    given = _mapping(run.get("experiment")).get("sources")
    for pair in given if isinstance(given, list) else ():
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            continue
        name, path = pair
        try:
            key, legal = keys.join(base, keys.check(path)), keys.check(f"artifacts/sources/{name}")
        except KeyNameError:
            continue
        if path.startswith(f"{_SOURCES}/") and key in entries:
            found[legal.removeprefix("artifacts/sources/")] = entries[key]
    return found


def _points(name: str, columns: Any) -> Iterator[tuple[float, int, str, Any]]:
    """Yield time, step, name and value of each value of one metric."""
    parts = [_mapping(columns).get(part) for part in ("timestamps", "steps", "values")]
    lists = [part for part in parts if isinstance(part, list)]
    if len(lists) < len(parts) or len({*map(len, lists)}) > 1:
        raise DecodeError(f"{_METRICS}: {quoted(name)} has no lists of steps, timestamps and values of one length")
    for time, step, value in zip(*lists, strict=True):
        seconds = moment_of(time)
        if seconds is None or type(step) is not int:
            what = f"the step {step!r:.40} and the timestamp {time!r:.40}"
            raise DecodeError(f"{_METRICS}: {quoted(name)} has a value with {what}")
        yield seconds, step, name, _number(value)


def _number(value: Any) -> Any:
    """Return the number in what jsonpickle made of a numpy scalar; any other value as it is."""
    if isinstance(value, dict) and "value" in value and str(value.get("py/object", "")).startswith("numpy."):
        return value["value"]
    return value


def _facts(run: Mapping[str, Any], experiment: str, config: Mapping[str, Any]) -> Facts:
    status = checked_text(run.get("status"), 40)
    is_complete = status == "COMPLETED"
    return Facts(
        params=config,
        metrics=_result(run.get("result")),
        status="complete" if is_complete else "failed",
        reason="" if is_complete else _reason(run, status),
        start=moment_of(run.get("start_time")),
        end=moment_of(run.get("stop_time") or run.get("heartbeat")),
        fields=_fields(run, experiment),
        environment=_environment(run),
        package_version=_packages(run).get("sacred", ""),
    )


def _result(result: Any) -> dict[str, Any]:
    if result is None:
        return {}
    return result if isinstance(result, dict) else {"result": result}


def _reason(run: Mapping[str, Any], status: str) -> str:
    """Return the last line of the traceback, or the status."""
    lines = _lines(run.get("fail_trace")).strip().splitlines()
    if lines:
        return lines[-1]
    if status in ("", "RUNNING", "QUEUED"):
        return f"it had not ended when it was imported: {status or 'it has no status'} in Sacred"
    return f"{status} in Sacred"


def _lines(trace: Any) -> str:
    return "".join(part for part in trace if isinstance(part, str)) if isinstance(trace, list) else ""


def _fields(run: Mapping[str, Any], experiment: str) -> dict[str, Any]:
    note = _mapping(run.get("meta")).get("comment")
    fields = {
        "experiment": experiment,
        "note": checked_text(note),
        "resources": run.get("resources"),
        "sacred_command": checked_text(run.get("command"), 1000),
    }
    return {name: value for name, value in fields.items() if value}


def _environment(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return machine, Python version and git commit. Environment variables that Sacred recorded are left out."""
    host = _mapping(run.get("host"))
    found: dict[str, Any] = {}
    if name := checked_text(host.get("hostname"), 200):
        found["host"] = name
    if isinstance(system := host.get("os"), list) and system:
        found["platform"] = checked_text(system[-1], 200)
    if version := checked_text(host.get("python_version"), 40):
        found["python"] = {"version": version}
    repositories = _mapping(run.get("experiment")).get("repositories")
    first = _mapping(repositories[0]) if isinstance(repositories, list) and repositories else {}
    if commit := checked_text(first.get("commit"), 200):
        dirty = first.get("dirty")
        found["git"] = {"commit": commit, "dirty": dirty if isinstance(dirty, bool) else None}
    if packages := _packages(run):
        found["packages"] = packages
    return found


def _packages(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of packages by name."""
    given = _mapping(run.get("experiment")).get("dependencies")
    pairs = [one.partition("==") for one in given if isinstance(one, str)] if isinstance(given, list) else []
    return {name: version for name, _, version in pairs[:10_000] if name and version}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
