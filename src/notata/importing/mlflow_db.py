"""Read runs of MLflow from its database, a SQLite file such as ``mlflow.db``, which newer versions write by default.

Only tables are read, through the standard library, and nothing is written. The artifacts of such runs are in the
folders ``mlruns`` and ``mlartifacts`` beside the file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from notata._base.terminal import quoted
from notata.errors import DecodeError, KeyNameError, MissingError
from notata.importing.facts import Facts
from notata.importing.links import Links
from notata.importing.mlflow import Described, facts_of
from notata.importing.naming import artifact_key, legal_name
from notata.importing.source import Failed, FoundRun, checked_text, mark_of, number_or_text
from notata.importing.writer import RunWriter
from notata.store import Entry, Location, Store, open_store

__all__ = ["DatabaseSource", "database_at"]

_NAME: Final = "mlflow.db"
_FOLDERS: Final = ("mlruns", "mlartifacts")
_LONGEST: Final = 64 * 2**20  # bytes of a value in the database
_TABLES: Final = ("experiments", "runs", "params", "tags", "metrics", "latest_metrics")
_FILE: Final = "file://"

_RUNS: Final = """
select runs.*, experiments.name as experiment_name from runs left join experiments using (experiment_id)
order by run_uuid
"""
_COUNTS: Final = "select run_uuid, count(*), sum(length(key) + length(value)), {time} from {table} group by run_uuid"
_DATASETS: Final = """
select name, digest, dataset_source_type as source_type, dataset_source as source
from inputs join datasets on source_id = dataset_uuid
where source_type = 'DATASET' and destination_type = 'RUN' and destination_id = ?
"""


def database_at(source: Location, options: Mapping[str, Any] | None) -> str | None:
    """Return the path of the database that a source is or has; None if it is another folder."""
    if not isinstance(source, str | os.PathLike) or options:
        return None
    path = os.fspath(source)
    if not isinstance(path, str):
        return None
    path = os.path.expanduser(path.removeprefix("sqlite:///").removeprefix(_FILE))
    if "://" in path:
        return None
    if os.path.isfile(path):
        return os.path.abspath(path)
    inside = os.path.join(path, _NAME)
    return os.path.abspath(inside) if os.path.isfile(inside) else None


class DatabaseSource:
    """The runs in a database of MLflow; see `Source`.

    Args:
        path: The file.
        deleted: Whether deleted runs are included.
        runs_url: The folder of the imported runs.
    """

    def __init__(self, path: str, *, deleted: bool, runs_url: str) -> None:
        self.url = path
        self._path = path
        self._deleted = deleted
        self._runs_url = runs_url
        self.store = open_store(os.path.dirname(path))

    @property
    def places(self) -> list[Store]:
        """The folders of artifacts beside the database."""
        return [self.store.below(folder) for folder in _FOLDERS]

    def find(self, failed: Failed) -> Iterator[FoundRun]:
        """Yield the runs."""
        artifacts = self._artifacts(failed)
        links = Links(self.store)
        with self._opened() as database:
            _check_tables(database, self._path)
            counts = _counts(database)
            found = 0
            for row in database.execute(_RUNS):
                meta = dict(row)
                found += 1
                if meta.get("lifecycle_stage") == "deleted" and not self._deleted:
                    continue
                yield self._found(meta, counts.get(str(meta["run_uuid"]), ""), artifacts, links)
        if not found:
            raise MissingError(f"there is no MLflow run in {quoted(self._path)}", url=self.url)

    def _found(
        self, meta: dict[str, Any], counts: str, artifacts: Mapping[str, dict[str, Entry]], links: Links
    ) -> FoundRun:
        run_id = checked_text(meta["run_uuid"], 500)
        experiment = checked_text(meta.get("experiment_name"), 1000) or "Default"
        files = artifacts.get(run_id, {})
        parts = [meta.get(name) for name in ("name", "status", "end_time", "lifecycle_stage")]
        mark = sha256(repr((parts, counts, mark_of(files.values()))).encode("utf-8", "replace")).hexdigest()[:32]
        read = partial(self._read, meta, files, links, experiment)
        folder = legal_name(experiment)
        return FoundRun(run_id, legal_name(run_id), folder, f"{os.path.basename(self._path)}/{run_id}", mark, read)

    def _artifacts(self, failed: Failed) -> dict[str, dict[str, Entry]]:
        """Return the artifacts beside the database by run and path."""
        found: dict[str, dict[str, Entry]] = {}
        for folder in _FOLDERS:
            if not self.store.has_folder(folder):
                continue
            for entry in self.store.list(folder, skipped=failed):
                parts = entry.key.split("/", 4)  # mlruns/<experiment>/<run>/artifacts/<path>
                if len(parts) == 5 and parts[3] == "artifacts":
                    found.setdefault(parts[2], {})[parts[4]] = entry
        return found

    # -- one run -------------------------------------------------------------------------------------------

    def _read(
        self, meta: dict[str, Any], artifacts: Mapping[str, Entry], links: Links, experiment: str, into: RunWriter
    ) -> Facts:
        run_id = meta["run_uuid"]
        with self._opened() as database:
            params = {name: number_or_text(text) for name, text in _texts(database, "params", run_id).items()}
            tags = _texts(database, "tags", run_id)
            _write_metrics(database, run_id, into)
            latest = _latest(database, run_id)
            datasets = _datasets(database, run_id)
        files = {}
        for path, entry in artifacts.items():
            try:
                files[artifact_key(path)] = entry
            except KeyNameError:
                into.leave_out(f"the artifact {quoted(path)}, whose name cannot be a key")
        into.copy(files, self.store)
        for folder in _FOLDERS:
            for name in links.below(f"{folder}/{meta.get('experiment_id')}/{run_id}"):
                into.leave_out(f"the link {quoted(name)}")
        uri = checked_text(meta.get("artifact_uri"), 500)
        if not files and "://" in uri and not uri.startswith((_FILE, "mlflow-artifacts:")):
            into.leave_out(f"artifacts at {quoted(uri)}, which are not beside the database")
        return facts_of(Described(meta, tags, params, latest, datasets, experiment, self._runs_url))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the database to read it; views and functions that a forged schema names are not trusted.

        Raises:
            DecodeError: It is no database, or damaged.
        """
        try:
            with closing(sqlite3.connect(f"file:{quote(self._path)}?mode=ro", uri=True)) as database:
                database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
                database.execute("pragma trusted_schema = off")
                database.execute("pragma query_only = on")
                database.text_factory = lambda data: data.decode("utf-8", "replace")
                database.row_factory = sqlite3.Row
                yield database
        except (sqlite3.Error, OverflowError) as error:
            message = f"cannot read {quoted(self._path)}: {error!s:.200}. Is it an MLflow database?"
            raise DecodeError(message, url=self.url) from error


def _check_tables(database: sqlite3.Connection, path: str) -> None:
    kinds = dict(tuple(row) for row in database.execute("select name, type from sqlite_master"))
    if missing := [name for name in _TABLES if kinds.get(name) != "table"]:
        raise DecodeError(
            f"cannot read {quoted(path)}: it has no table {missing[0]!r}, so it is not an MLflow database"
        )


def _counts(database: sqlite3.Connection) -> dict[str, str]:
    """Return text that changes when parameters, tags or metrics are added to a run."""
    found: dict[str, str] = {}
    for name in ("params", "tags", "metrics"):
        query = _COUNTS.format(table=name, time="max(timestamp)" if name == "metrics" else "0")
        for run_id, *numbers in database.execute(query):
            found[str(run_id)] = f"{found.get(str(run_id), '')} {name}{numbers}"
    return found


def _texts(database: sqlite3.Connection, name: str, run_id: str) -> dict[str, str]:
    """Return the parameters or tags of a run."""
    rows = database.execute(f"select key, value from {name} where run_uuid = ? order by key", (run_id,))  # noqa: S608
    return {checked_text(key): checked_text(value, _LONGEST) for key, value in rows}


def _write_metrics(database: sqlite3.Connection, run_id: str, into: RunWriter) -> None:
    query = "select key, value, timestamp, step, is_nan from metrics where run_uuid = ? order by timestamp, step, key"
    for key, value, time, step, is_nan in database.execute(query, (run_id,)):
        if type(time) is not int or type(step) is not int:
            raise DecodeError(f"the metric {quoted(str(key))} has the time {time!r:.40} and step {step!r:.40}")
        into.value(str(key), step, time / 1000, float("nan") if is_nan else value)


def _latest(database: sqlite3.Connection, run_id: str) -> dict[str, float]:
    query = "select key, value, is_nan from latest_metrics where run_uuid = ? order by key"
    rows = database.execute(query, (run_id,))
    return {
        str(key): float("nan") if is_nan else value
        for key, value, is_nan in rows
        if isinstance(value, int | float)
    }  # fmt: skip


def _datasets(database: sqlite3.Connection, run_id: str) -> list[dict[str, Any]]:
    try:
        rows = database.execute(_DATASETS, (run_id,)).fetchmany(100)
    except sqlite3.Error:  # of a version without datasets
        return []
    return [{name: checked_text(row[name], 2000) for name in row.keys()} for row in rows]  # noqa: SIM118
