"""The table of many runs, a row for each, and index.csv, the same for people; it does not know how runs are made.

What a row says is stored with each run: its metadata.json has, from its end on, the field `ROW` with parameters and
metrics. So no row is lost with index.csv, none is torn, and none depends on another writer. index.csv is a copy of
these rows: greppable, and one read in place of one for each run. Its last column is a checksum of a row and of the
versions of metadata.json and of the metrics that it was made of; a listing tells whether those still are the versions.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from notata import formats, keys
from notata.errors import (
    ConflictError,
    DecodeError,
    EncodeError,
    ExistsError,
    MissingError,
    PackageMissingError,
    StorageError,
)
from notata.state import ROW, judge, parsed
from notata.store import Blob, Entry, Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Row",
    "Table",
    "add",
    "busy",
    "described",
    "gather",
    "merge",
    "metrics_file",
    "of_run",
    "rewrite",
    "runs_below",
    "to_pandas",
]

_ID: Final = "run_id"
_STATUS: Final = "status"
_REASON: Final = "failure_reason"
_ERROR: Final = "metrics_error"
_REVISION: Final = "revision"
_FILE: Final = "metrics_file"
_VERSION: Final = "metrics_version"
_FIXED: Final = (_ID, _STATUS, _REASON, _ERROR, _REVISION)
_DAMAGED: Final = (keys.PARAMS_YAML, keys.PARAMS_JSON)
_PARAMS: Final = "params."
_METRICS: Final = "metrics."
"""What stands before a name that another column has already."""

_ENDED: Final = ("complete", "failed")
_LARGEST: Final = 64 * 2**10  # bytes of metrics that metadata.json takes in; it is written again at each heartbeat
_LONGEST: Final = 2**15 - 1  # characters of a cell: spreadsheets hold no more, and Python's csv module four times that
_SECONDS: Final = 30.0  # that a row tries to get into index.csv of a disk
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)")
_WORDS: Final = {"True": True, "False": False, "null": None, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one run.

    Attributes:
        run_id: Its id.
        status: As `notata.RunState` has it; ``unreadable`` where metadata.json is damaged.
        params: Its parameters.
        metrics: What ``artifacts/metrics.json`` holds; empty without it.
        failure_reason: Why it failed, or died.
        metrics_error: Why its metrics cannot be shown, if they cannot.
        revision: A checksum of this and of the versions of metadata.json and the metrics that it was made of; empty
            where the run may still change without them.
        started: When it began, as metadata.json says.
    """

    run_id: str
    status: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    failure_reason: str = ""
    metrics_error: str = ""
    revision: str = ""
    started: str = ""


# -- what a run keeps of its row ---------------------------------------------------------------------------


def described(store: Store, params: Mapping[str, Any], metrics_key: str = keys.METRICS) -> dict[str, Any]:
    """The field `ROW` of a run at a store's root: its parameters, and its metrics as they are stored now. One request.

    What cannot be told for now (no metrics yet, no answer, too many) is left out: who reads the row looks again.

    Raises:
        EncodeError: Somebody stored parameters that have no form in JSON.
    """
    described: dict[str, Any] = {"params": formats.plain(dict(params), "params")}
    if metrics_key != keys.METRICS:
        described[_FILE] = metrics_key
    try:
        found = store.fetch(metrics_key)
    except StorageError:
        return described
    if found.size <= _LARGEST:
        metrics, error = _metrics(found.data, metrics_key)
        described |= {_ERROR: error} if error else {"metrics": metrics}
        described[_VERSION] = _crc(found.version)
    return described


def metrics_file(fields: Mapping[str, Any]) -> str:
    """The key of the file that a run's metrics were recorded from, as its metadata.json says."""
    return str(_row_field(fields).get(_FILE) or keys.METRICS)


def of_run(run_id: str, fields: Mapping[str, Any], version: str) -> Row:
    """The row of a run that has ended, from what its metadata.json says in this version."""
    described = _row_field(fields)
    row = Row(
        run_id,
        str(fields.get("status")),
        _names(described.get("params")),
        _names(described.get("metrics")),
        str(fields.get(_REASON) or ""),
        str(described.get(_ERROR) or ""),
        started=str(fields.get("start_time") or ""),
    )
    return _sealed(row, version, str(described.get(_VERSION) or ""))


def _row_field(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    row = fields.get(ROW)
    return row if isinstance(row, dict) else {}


def _names(value: object) -> dict[str, Any]:
    return {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}


def _metrics(data: bytes, key: str) -> tuple[dict[str, Any], str]:
    """Metrics, or why there are none."""
    try:
        value = formats.decode(formats.JSON, data)
    except DecodeError as error:
        return {}, f"{key}: {error}"
    if not isinstance(value, dict):
        return {}, f"{key} holds a {type(value).__name__}, where names and values are needed"
    return value, ""


def _crc(version: str) -> str:
    return f"{zlib.crc32(version.encode()):08x}"


def _sealed(row: Row, version: str, metrics: str) -> Row:
    return replace(row, revision=_revision(row, version, metrics))


def _revision(row: Row, version: str, metrics: str) -> str:
    """Of what a row says, a version of metadata.json, and the checksum of one of the metrics."""
    told = [row.run_id, row.status, row.params, row.metrics, row.failure_reason, row.metrics_error]
    return _crc(json.dumps([*told, version, metrics], sort_keys=True))


# -- the rows of all runs ----------------------------------------------------------------------------------


def runs_below(entries: Iterable[Entry]) -> dict[str, dict[str, Entry]]:
    """The files of each run of a listing, by the run's folder: ``log_<run_id>``, or that in ``runs/``. In order.

    >>> from notata.store import open_store
    >>> store = open_store("memory://runs-below")
    >>> store.write("runs/log_a/metadata.json", b"{}")
    >>> {folder: list(files) for folder, files in runs_below(store.list()).items()}
    {'runs/log_a': ['metadata.json']}
    """
    runs: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        depth = 2 if entry.key.startswith(f"{keys.RUNS}/log_") else 1
        parts = entry.key.split("/", depth)
        if len(parts) > depth and parts[depth - 1].startswith("log_"):
            runs.setdefault("/".join(parts[:depth]), {})[parts[depth]] = entry
    return {folder: runs[folder] for folder in sorted(runs) if keys.METADATA in runs[folder]}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and the index.csv that was found with them.

    Attributes:
        rows: In the order of index.csv; then those that it does not have, by their start.
        found: index.csv as it is; None where there is none.
        runs: The folders of those rows' runs that are there still, by run id.
    """

    rows: Sequence[Row]
    found: Blob | None = None
    runs: Mapping[str, str] = field(default_factory=dict)

    def columns(self) -> list[str]:
        """Their names, as in index.csv, but without the revision."""
        return [name for name in _Columns.of(self.rows).header if name != _REVISION]

    def records(self) -> list[dict[str, Any]]:
        """Each row by column; what a run does not have is left out."""
        columns = _Columns.of(self.rows)
        return [{name: value for name, value in columns.record(row) if name != _REVISION} for row in self.rows]


def to_pandas(table: Table) -> pd.DataFrame:
    """The table as a pandas DataFrame; what a run does not have is NaN.

    Raises:
        PackageMissingError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise PackageMissingError("a DataFrame needs pandas: pip install pandas (the extra 'pandas')") from error
    return pd.DataFrame.from_records(table.records(), columns=table.columns() if table.rows else None)


def gather(store: Store) -> Table:
    """The rows of all runs below a store's root.

    Cost: one list per 1000 files, one read for index.csv, and one read for each run that ended and is not in it (or has
    changed since); up to three for a run that has not ended, or is one of notata 0.3.0's. 32 reads at once.
    """
    listed = store.list()
    runs = {keys.run_id(folder): (folder, files) for folder, files in runs_below(listed).items()}
    found = _index(store) if any(entry.key == keys.INDEX for entry in listed) else None
    indexed = {row.run_id: row for row in _parsed(found.data)} if found else {}
    read = _read(store, {id_: run for id_, run in runs.items() if not _is_of(indexed.get(id_), run[1])})
    rows = {id_: read.get(id_, row) for id_, row in indexed.items()}
    later = sorted((row for id_, row in read.items() if id_ not in rows), key=lambda row: (row.started, row.run_id))
    return Table([*rows.values(), *later], found, {id_: folder for id_, (folder, _) in runs.items()})


def _is_of(row: Row | None, files: Mapping[str, Entry]) -> bool:
    """Whether a row of index.csv is what the run says now, as a listing of its files tells.

    Of metrics that were recorded from another file it cannot tell: such a row is read from the run each time.
    """
    return row is not None and row.revision == _revision(row, files[keys.METADATA].version, _metrics_version(files))


def _metrics_version(files: Mapping[str, Entry]) -> str:
    return _crc(files[keys.METRICS].version) if keys.METRICS in files else ""


def _index(store: Store) -> Blob | None:
    try:
        return store.fetch(keys.INDEX)
    except MissingError:
        return None


def _read(store: Store, runs: Mapping[str, tuple[str, Mapping[str, Entry]]]) -> dict[str, Row]:
    """Rows from the runs themselves."""
    names = {f"{folder}/{keys.METADATA}": run_id for run_id, (folder, _) in runs.items()}
    blobs = {names[key]: blob for key, blob in store.fetch_many(names).items()}
    rows = {run_id: _of_metadata(run_id, blob) for run_id, blob in blobs.items()}
    described = {run_id: _row_field(parsed(blob.data) or {}) for run_id, blob in blobs.items()}
    wanted = {
        f"{runs[run_id][0]}/{name}": (run_id, name)
        for run_id, row in rows.items()
        for name in _lacking(row, described[run_id], runs[run_id][1])
    }
    files = store.fetch_many(wanted)
    metrics = {run_id: str(row.get(_VERSION) or "") for run_id, row in described.items()}
    for key, (run_id, name) in wanted.items():
        if key in files:
            rows[run_id] = _completed(rows[run_id], name, files[key].data)
            if name == keys.METRICS:
                metrics[run_id] = _crc(files[key].version)
            if rows[run_id].revision:
                rows[run_id] = _sealed(rows[run_id], blobs[run_id].version, metrics[run_id])
    return rows


def _of_metadata(run_id: str, blob: Blob) -> Row:
    fields = parsed(blob.data)
    if fields is None:
        return Row(run_id, "unreadable", failure_reason=f"{keys.METADATA} holds no JSON object")
    state = judge(fields, blob)
    if state.status in _ENDED:
        return of_run(run_id, fields, blob.version)
    reason = state.why if state.status == "died" else ""
    return Row(run_id, state.status, failure_reason=reason, started=str(fields.get("start_time") or ""))


def _lacking(row: Row, described: Mapping[str, Any], files: Mapping[str, Entry]) -> Iterator[str]:
    """The files that a row has to be completed from."""
    ended = row.status in _ENDED
    if not (ended and "params" in described):
        yield from [key for key in (keys.PARAMS_YAML, keys.PARAMS_JSON) if key in files][:1]
    elsewhere = _FILE in described and ("metrics" in described or _ERROR in described)
    known = ended and (elsewhere or described.get(_VERSION) == _metrics_version(files))
    if keys.METRICS in files and not known:
        yield keys.METRICS


def _completed(row: Row, name: str, data: bytes) -> Row:
    if name == keys.METRICS:
        metrics, error = _metrics(data, keys.METRICS)
        damaged = row.metrics_error if row.metrics_error.startswith(_DAMAGED) else ""
        return replace(row, metrics=metrics, metrics_error="; ".join(filter(None, (damaged, error))))
    try:
        values = formats.decode(formats.JSON if name == keys.PARAMS_JSON else formats.YAML, data)
        if values is not None and not isinstance(values, dict):
            raise DecodeError(f"it holds a {type(values).__name__}, where names and values are needed")
        return replace(row, params=_names(formats.plain(values or {})))
    except (DecodeError, EncodeError) as error:
        return replace(row, metrics_error=f"{name}: {error}")


# -- index.csv ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table, from left to right; which are parameters and which metrics, their place tells."""

    params: Mapping[str, str]
    optional: Sequence[str]
    metrics: Mapping[str, str]

    @classmethod
    def of(cls, rows: Iterable[Row], before: _Columns | None = None) -> _Columns:
        """Those that these rows need, and those of before: parameters by name, then status, then metrics by name."""
        rows = list(rows)
        before = before or cls({}, [], {})
        params = sorted({name for row in rows for name in row.params} | before.params.keys())
        metrics = sorted({name for row in rows for name in row.metrics} | before.metrics.keys())
        told = {name for name in (_REASON, _ERROR) if any(getattr(row, name) for row in rows)} | {*before.optional}
        optional = [name for name in (_REASON, _ERROR) if name in told]
        columns = {name: _PARAMS + name if _taken(name) else name for name in params}
        return cls(
            columns,
            optional,
            {name: _METRICS + name if _taken(name) or name in columns.values() else name for name in metrics},
        )

    @classmethod
    def read(cls, header: Sequence[str]) -> _Columns | None:
        """Those of a header, if it is one of ours."""
        if header[:1] != [_ID] or _STATUS not in header or len(set(header)) < len(header):
            return None
        middle = header.index(_STATUS)
        return cls(
            {name.removeprefix(_PARAMS): name for name in header[1:middle]},
            [name for name in header[middle:] if name in (_REASON, _ERROR)],
            {name.removeprefix(_METRICS): name for name in header[middle + 1 :] if name not in _FIXED},
        )

    @property
    def header(self) -> list[str]:
        return [_ID, *self.params.values(), _STATUS, *self.optional, *self.metrics.values(), _REVISION]

    def record(self, row: Row) -> list[tuple[str, Any]]:
        """The row's values by column."""
        fixed = [(name, getattr(row, name)) for name in _FIXED if getattr(row, name)]
        params = [(self.params[name], value) for name, value in row.params.items()]
        return fixed + params + [(self.metrics[name], value) for name, value in row.metrics.items()]

    def hold(self, row: Row) -> bool:
        """Whether the row has its place here as it is: no name is new."""
        return (
            row.params.keys() <= self.params.keys()
            and row.metrics.keys() <= self.metrics.keys()
            and all(name in self.optional for name in (_REASON, _ERROR) if getattr(row, name))
        )


def _taken(name: str) -> bool:
    return name in _FIXED or name.startswith((_PARAMS, _METRICS))


def _cell(value: Any) -> str:
    """A value as text that `_value` reads back: numbers and words as Python has them, what is none of these as JSON."""
    if isinstance(value, str):
        plain = value and value.isprintable() and value[0] not in '"[{' and _NUMBER.fullmatch(value) is None
        return value if plain and value not in _WORDS else json.dumps(value)
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _value(cell: str) -> Any:
    if cell in _WORDS:
        return _WORDS[cell]
    if cell[0] in '"[{':
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    if _NUMBER.fullmatch(cell):
        try:
            return int(cell)
        except ValueError:
            return float(cell)
    return cell


def _lines(data: bytes) -> list[list[str]]:
    """The lines that are whole; a line that is torn, or none of a table, costs no other one."""
    texts = [line.removesuffix("\r") for line in data.decode("utf-8", "replace").split("\n")]
    texts = [text for text in texts if text]
    with suppress(csv.Error):
        lines = list(csv.reader(texts, strict=True))
        if len(lines) == len(texts):
            return lines
    lines = []
    for text in texts:
        with suppress(csv.Error):  # what it says is with the runs
            lines += csv.reader([text], strict=True)
    return lines


def _header(data: bytes) -> list[str]:
    """The names of the columns."""
    return [_untext(name) for name in (_lines(data[: data.find(b"\n") + 1]) or [[]])[0]]


def _written(lines: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode("utf-8", "backslashreplace")


def _parsed(data: bytes) -> list[Row]:
    """The rows of an index.csv, each run's last; none where it is no table, and no row that is not whole."""
    header = _header(data)
    columns = _Columns.read(header)
    if columns is None:
        return []
    rows: dict[str, Row] = {}
    for line in _lines(data[data.find(b"\n") + 1 :]):
        if len(line) == len(header) and line != header:
            row = _of_cells(columns, dict(zip(header, line, strict=True)))
            rows[row.run_id] = row
    return list(rows.values())


def _of_cells(columns: _Columns, cells: Mapping[str, str]) -> Row:
    return Row(
        _untext(cells[_ID]),
        cells[_STATUS],
        {name: _value(cells[column]) for name, column in columns.params.items() if cells[column]},
        {name: _value(cells[column]) for name, column in columns.metrics.items() if cells[column]},
        _untext(cells.get(_REASON, "")),
        _untext(cells.get(_ERROR, "")),
        cells.get(_REVISION, ""),
    )


def _line(columns: _Columns, row: Row) -> list[str]:
    """The row's cells. What is too long for one is left out, and with it the revision: the run is read for it."""
    values = {name: _text(value) if name in _FIXED else _cell(value) for name, value in columns.record(row)}
    kept = {name: text for name, text in values.items() if len(text) <= _LONGEST}
    if len(kept) < len(values):
        kept.pop(_REVISION, None)
    return [kept.get(name, "") for name in columns.header]


def _text(value: str) -> str:
    """A text that is one line, so that `grep` shows all of a row."""
    return value if value.isprintable() and not value.startswith('"') else json.dumps(value)


def _untext(cell: str) -> str:
    return str(_value(cell)) if cell.startswith('"') else cell


def _encoded(rows: Sequence[Row]) -> bytes:
    columns = _Columns.of(rows)
    return _written([[_text(name) for name in columns.header], *(_line(columns, row) for row in rows)])


def add(store: Store, row: Row) -> None:
    """Put a row into index.csv where a write costs no round trip: appended, where the columns are there already.

    Raises:
        ConflictError: For half a minute others were faster.
    """
    give_up = time.monotonic() + _SECONDS
    while not _added(store, row):
        if time.monotonic() > give_up:
            raise busy(store)
        time.sleep(random.uniform(0, 0.01))


def busy(store: Store) -> ConflictError:
    """What to raise where others always come before."""
    return ConflictError(
        f"{store.url}/{keys.INDEX}: others write it all the time; no row is lost, as each run keeps its own",
        url=store.url,
        key=keys.INDEX,
    )


def _added(store: Store, row: Row) -> bool:
    found = _index(store)
    if found is not None and (line := _appendable(found.data, row)):
        try:
            store.append(keys.INDEX, line, found.size)
        except ConflictError:
            return False
        return True
    if found is not None and not _ours(found.data):  # of notata 0.3.0, or damaged
        return rewrite(store, gather(store), [row])
    return _replaced(store, found, [row])


def _appendable(data: bytes, row: Row) -> bytes:
    """The line to append; empty where the table has to be written anew."""
    header = _header(data)
    columns = _Columns.read(header)
    if columns is None or columns.header != header or not columns.hold(row) or not data.endswith(b"\n"):
        return b""
    line = _written([_line(columns, row)])
    return b"" if b"\n" + _written([[_text(row.run_id), ""]])[:-1] in data else line


def _ours(data: bytes) -> bool:
    return _header(data)[-1:] == [_REVISION]


def merge(store: Store, rows: Sequence[Row]) -> bool:
    """Put rows into index.csv by one compare and swap; whether nobody came before. Two requests."""
    found = _index(store)
    if found is not None and not _ours(found.data):
        return rewrite(store, gather(store), rows)
    return _replaced(store, found, rows)


def rewrite(store: Store, table: Table, rows: Sequence[Row] = ()) -> bool:
    """Write index.csv anew from the rows of runs that ended or died, and `rows`; whether nobody came before."""
    told = [row for row in table.rows if row.status not in ("running", "replacing")]
    return _replaced(store, table.found, [*told, *rows], keep=False)


def _merged(data: bytes, rows: Sequence[Row]) -> bytes:
    """An index.csv with these rows, each in the place of an earlier one of its run.

    Cells are taken over as they are: the less time this takes, the less others come before.
    """
    header = _header(data)
    before = _Columns.read(header)
    if before is None:
        return _encoded(rows)
    columns = _Columns.of(rows, before)
    names = {name: name for name in _FIXED}
    names |= {columns.params[name]: column for name, column in before.params.items()}
    names |= {columns.metrics[name]: column for name, column in before.metrics.items()}
    at = {column: place for place, column in enumerate(header)}
    places = [at.get(names[name], len(header)) if name in names else len(header) for name in columns.header]
    lines: dict[str, list[str]] = {}
    for cells in _lines(data[data.find(b"\n") + 1 :]):
        if len(cells) == len(header) and cells != header:
            cells.append("")
            lines[_untext(cells[0])] = [cells[place] for place in places]
    lines |= {row.run_id: _line(columns, row) for row in rows}
    return _written([[_text(name) for name in columns.header], *lines.values()])


def _replaced(store: Store, found: Blob | None, rows: Sequence[Row], *, keep: bool = True) -> bool:
    rows = list({row.run_id: row for row in rows}.values())
    data = _merged(found.data, rows) if found and keep else _encoded(rows)
    if found is not None and found.data == data:
        return True
    try:
        if found is None:
            store.create(keys.INDEX, data)
        else:
            store.replace(keys.INDEX, data, found.version)
    except (ConflictError, ExistsError):
        return False
    return True
