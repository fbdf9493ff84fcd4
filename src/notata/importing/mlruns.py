"""Read runs of MLflow: the folder ``mlruns`` of its file store, or its database, ``mlflow.db``.

In the file store a run is a folder with ``meta.yaml``, and a file for each parameter, tag and metric. A line of a
metric is ``time value step``, with the time in milliseconds; a dataset may follow. The layout is that of
``mlflow/store/tracking/file_store.py`` in MLflow 1 to 3.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, Final

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import DecodeError, KeyNameError, MissingError, NotataError
from notata.importing.facts import Facts
from notata.importing.links import Links
from notata.importing.mlflow import Described, facts_of
from notata.importing.naming import artifact_key, legal_name
from notata.importing.source import (
    SMALL,
    Failed,
    FolderSource,
    FoundRun,
    Source,
    checked_text,
    listed,
    mark_of,
    no_run,
    number_or_text,
    read_small,
    yaml_of,
)
from notata.importing.writer import RunWriter
from notata.store import Blob, Entry, Location, Store, open_store
from notata.store.in_flight import InFlight

__all__ = ["MlrunsSource", "points_of"]

_META: Final = "meta.yaml"
_OTHERS: Final = frozenset({"models", "traces", "datasets", "tags"})
"""Folders of an experiment that are no runs."""

_TEXT: Final = 2**20  # bytes of a parameter or a tag
_META_BYTES: Final = 2**20
_TOGETHER: Final = 200  # runs whose meta.yaml is read together
_PIECE: Final = 8 * 2**20
_PIECES: Final = 64 * 2**20  # bytes of metrics of one run that are in memory
_SMALLEST: Final = 2**16
"""Bytes of a piece of one metric, if a run has very many large ones."""


class MlrunsSource(FolderSource):
    """The runs in a folder ``mlruns``, or in one that contains it; see `Source`."""

    def __init__(self, store: Store, *, deleted: bool, runs_url: str) -> None:
        super().__init__(store)
        self._deleted = deleted
        self._runs_url = runs_url

    @classmethod
    def at(cls, source: Location, options: Mapping[str, Any] | None, *, deleted: bool, runs_url: str) -> Source:
        """Return the source of a folder, or of a database. No request."""
        from notata.importing.mlflow_db import DatabaseSource, database_at

        path = database_at(source, options)
        if path is not None:
            return DatabaseSource(path, deleted=deleted, runs_url=runs_url)
        return cls(open_store(source, options), deleted=deleted, runs_url=runs_url)

    def find(self, failed: Failed) -> Iterator[FoundRun]:
        """Yield the runs."""
        entries = listed(self.store, failed)
        folders = _run_folders(entries)
        if not folders:
            raise no_run(self.store, "MLflow", "folder of a run with a meta.yaml")
        names = self._experiments({folder.rpartition("/")[0] for folder in folders}, failed)
        datasets = _datasets(entries)
        links = Links(self.store)
        for start in range(0, len(folders), _TOGETHER):
            for folder, meta in self._metas(list(folders)[start : start + _TOGETHER], failed):
                if meta.get("lifecycle_stage") == "deleted" and not self._deleted:
                    continue
                yield self._found(_Folder(folder, meta, folders[folder], datasets, links), names)

    def _found(self, run: _Folder, names: Mapping[str, str]) -> FoundRun:
        run_id = checked_text(run.meta.get("run_id") or run.meta.get("run_uuid")) or run.folder.rpartition("/")[2]
        experiment = names.get(run.folder.rpartition("/")[0], "Default")
        return FoundRun(
            run_id, legal_name(run_id), legal_name(experiment), run.folder, mark_of(run.entries.values()),
            partial(self._read, run, experiment),
        )  # fmt: skip

    def _experiments(self, folders: Iterable[str], failed: Failed) -> dict[str, str]:
        """Return the name of each experiment, by folder."""
        found = {}
        for folder in sorted(folders):
            try:
                entry = self.store.stat(keys.join(folder, _META))
                meta = _mapping(yaml_of(read_small(self.store, entry, _META_BYTES), entry.key), entry.key)
            except MissingError:
                continue
            except NotataError as error:
                failed(error)
                continue
            found[folder] = checked_text(meta.get("name")) or folder.rpartition("/")[2] or "Default"
        return found

    def _metas(self, folders: Iterable[str], failed: Failed) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the content of meta.yaml of each run. 32 reads at once."""
        names = {keys.join(folder, _META): folder for folder in folders}
        flying = InFlight[str, Blob]()
        with flying.until_landed():
            for name in names:
                flying.begin(name, _META_BYTES // 100, self.store.start_fetch, name, 0, _META_BYTES)
        for error in flying.errors.values():
            failed(error)
        for name, blob in sorted(flying.results.items()):
            try:
                yield names[name], _mapping(yaml_of(blob.data, name), name)
            except DecodeError as error:
                failed(DecodeError(f"cannot import {quoted(names[name])}: {error}", url=self.url, key=name))

    # -- one run -------------------------------------------------------------------------------------------

    def _read(self, run: _Folder, experiment: str, into: RunWriter) -> Facts:
        params = {name: number_or_text(text) for name, text in self._texts(run, "params").items()}
        tags = self._texts(run, "tags")
        latest = self._write_metrics(run, into)
        self._copy_artifacts(run, into)
        datasets = list(self._inputs(run))
        described = Described(run.meta, tags, params, latest, datasets, experiment, self._runs_url)
        return facts_of(described)

    def _texts(self, run: _Folder, kind: str) -> dict[str, str]:
        """Return the content of each small file in a folder of the run."""
        files = run.below(kind)
        for entry in files.values():
            if entry.size > _TEXT:
                read_small(self.store, entry, _TEXT)
        found = self.store.read_many(entry.key for entry in files.values())
        return {name: found[entry.key].decode("utf-8", "replace") for name, entry in sorted(files.items())}

    def _write_metrics(self, run: _Folder, into: RunWriter) -> dict[str, float]:
        """Write all metrics in the order of their times; return the latest value of each, as MLflow reports it."""
        files = run.below("metrics")
        latest: dict[str, tuple[int, int, float]] = {}
        for time, step, value, name in heapq.merge(*self._histories(files), key=itemgetter(0)):
            into.value(name, step, time / 1000, value)
            point = (step, time, value)
            if name not in latest or point > latest[name]:
                latest[name] = point
        return {name: value for name, (_, _, value) in latest.items()}

    def _histories(self, files: Mapping[str, Entry]) -> list[Iterator[tuple[int, int, float, str]]]:
        size = sum(max(0, entry.size) for entry in files.values())
        if size <= _PIECES:
            found = self.store.read_many(entry.key for entry in files.values())
            return [points_of(name, io.BytesIO(found[entry.key])) for name, entry in files.items()]
        piece = max(_SMALLEST, min(_PIECE, _PIECES // len(files)))
        return [points_of(name, _lines(self.store, entry, piece)) for name, entry in files.items()]

    def _copy_artifacts(self, run: _Folder, into: RunWriter) -> None:
        files = {}
        for path, entry in run.below("artifacts").items():
            try:
                files[artifact_key(path)] = entry
            except KeyNameError:
                into.leave_out(f"the artifact {quoted(path)}, whose name cannot be a key")
        into.copy(files, self.store)
        for name in run.links.below(run.folder):
            into.leave_out(f"the link {quoted(name)}")
        if run.below("outputs"):
            into.leave_out("models, which MLflow 3 keeps beside the runs")
        uri = checked_text(run.meta.get("artifact_uri"))
        if not files and uri and not uri.rstrip("/").endswith(f"{run.folder.rpartition('/')[2]}/artifacts"):
            into.leave_out(f"artifacts at {quoted(uri)}, which is not in the folder of the run")

    def _inputs(self, run: _Folder) -> Iterator[dict[str, Any]]:
        """Yield the datasets of a run, as far as their files can be read."""
        for path, entry in run.below("inputs").items():
            if not path.endswith(f"/{_META}"):
                continue
            given = _mapping(yaml_of(read_small(self.store, entry, _META_BYTES), entry.key), entry.key)
            source = run.datasets.get((run.folder.rpartition("/")[0], str(given.get("source_id"))))
            if source is None:
                continue
            dataset = _mapping(yaml_of(read_small(self.store, source, SMALL), source.key), source.key)
            found = {
                name: checked_text(dataset.get(name), 2000) for name in ("name", "digest", "source_type", "source")
            }
            tags = given.get("tags")
            context = tags.get("mlflow.data.context") if isinstance(tags, dict) else None
            yield found | ({"context": checked_text(context, 200)} if context else {})


@dataclass(frozen=True, slots=True)
class _Folder:
    """The folder of one run.

    Attributes:
        folder: Its key.
        meta: The content of meta.yaml.
        entries: Its files by key.
        datasets: Datasets by the folder of their experiment and their id.
        links: The links of the source.
    """

    folder: str
    meta: Mapping[str, Any]
    entries: Mapping[str, Entry]
    datasets: Mapping[tuple[str, str], Entry]
    links: Links = field(repr=False)

    def below(self, name: str) -> dict[str, Entry]:
        """Return the files in one of its folders, by path."""
        start = keys.join(self.folder, f"{name}/")
        return {key[len(start) :]: entry for key, entry in self.entries.items() if key.startswith(start)}


def _run_folders(entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    """Return the folders of runs with their files: a folder with meta.yaml in one that has a meta.yaml too."""
    described = {key.rpartition("/")[0] for key in entries if key == _META or key.endswith(f"/{_META}")}
    found: dict[str, dict[str, Entry]] = {}
    for folder in sorted(described, key=lambda folder: folder.count("/")):
        parent, _, name = folder.rpartition("/")
        is_run = folder and parent in described and name not in _OTHERS
        if is_run and not any(above in found for above in _above(folder)):
            found[folder] = {}
    if not found and "" in described and any(key.startswith(("params/", "metrics/", "tags/")) for key in entries):
        return {"": dict(entries)}  # the source is the folder of one run
    for key, entry in entries.items():
        for above in _above(key):
            if above in found:
                found[above][key] = entry
    return dict(sorted(found.items()))


def _above(key: str) -> Iterator[str]:
    """Yield the folders that contain a key, the nearest first."""
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _datasets(entries: Mapping[str, Entry]) -> dict[tuple[str, str], Entry]:
    """Return the description of each dataset by the folder of its experiment and its id."""
    found = {}
    for key, entry in entries.items():
        folder, name = key.rpartition("/")[::2]
        above, dataset = folder.rpartition("/")[::2]
        if name == _META and (above == "datasets" or above.endswith("/datasets")):
            found[above.rpartition("/")[0], dataset] = entry
    return found


def _mapping(value: object, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DecodeError(f"cannot read {name}: it has no names and values, so it was not written by MLflow")


def points_of(name: str, lines: Iterable[bytes]) -> Iterator[tuple[int, int, float, str]]:
    """Yield time, step, value and name of each line of a metric."""
    for line in lines:
        parts = line.split()
        try:
            if len(parts) not in (2, 3, 5):
                raise ValueError(f"{len(parts)} parts")
            time, value, step = int(parts[0][:40]), float(parts[1]), int(parts[2][:40]) if len(parts) > 2 else 0
        except ValueError:
            if not line.endswith(b"\n") and len(parts) < 3:
                return  # the last line was being written
            raise DecodeError(
                f"the metric {quoted(name)} has a line that is not 'time value step': {line[:80]!r}"
            ) from None
        yield time, step, value, name


def _lines(store: Store, entry: Entry, piece: int) -> Iterator[bytes]:
    """Yield the lines of a file that is read in pieces."""
    rest = b""
    for start in range(0, entry.size, piece):
        data = rest + store.read(entry.key, start, min(entry.size, start + piece))
        end = data.rfind(b"\n") + 1
        yield from io.BytesIO(data[:end])
        rest = data[end:]
        if len(rest) > piece:
            raise DecodeError(f"{entry.key} has a line of more than {piece:,} bytes, so it is not a metric")
    if rest:
        yield rest
