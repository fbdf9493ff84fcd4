"""Write one imported run: its series as they come, then parameters and metrics, at last the state of the run."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Any, Final

from notata import formats
from notata._base import keys, limits, processes, times
from notata._base.prepared import one_line
from notata._base.secrets import redacted
from notata._base.terminal import quoted
from notata.errors import DecodeError, EncodeError
from notata.importing.facts import Facts
from notata.importing.naming import IMPORTED, column_name
from notata.manifest import Document, FileRecords, HashingBackend
from notata.run.parameters import Parameters, encoded
from notata.run.state import COPIED, LEASE, ROW, SUMMARY
from notata.run.values import FILES, PARAMS, Values
from notata.series.rows import INT64, RowEncoder, Scalar, scalar
from notata.series.summary import SCALARS, kind_of, stored, summary_of
from notata.store import Entry, Store
from notata.store.files import PART

__all__ = ["FIELD", "OWN_FIELDS", "RunWriter"]

FIELD: Final = "imported"
"""Field of metadata.json: where an imported run comes from."""

OWN_FIELDS: Final = frozenset({
    "run_id", "status", "start_time", "end_time", "runtime_sec", "failure_reason", "failure_type", "environment",
    "name", "note", "tags", "experiment", "datasets", "parent", LEASE, ROW, SUMMARY, COPIED, FIELD,
})  # fmt: skip
"""Fields that an importer writes; others are the user's, and stay when a run is imported again."""

_LATEST: Final = 1e11  # Unix seconds; a later time is no time
_TEXT: Final = 64 * 2**10  # bytes of the source's fields in metadata.json; listings read all of it
_SHORT: Final = 1000  # characters of a text in a field that is too large
_LISTED: Final = 50  # entries of `left_out`
_AT_ONCE: Final = 2**16  # bytes of rows that are handed to the storage together


class RunWriter:
    """Writes the files of one imported run.

    Importers call `value`, `file`, `copy` and `leave_out` while they read; `finish` stores the rest. Memory: one part
    of each series, and `PART` bytes of small files.

    Attributes:
        first: The earliest time of a value, in Unix seconds.
        last: The latest one.
        lease: The field `lease` of metadata.json.

    Args:
        store: The folder of the run.
        run_id: The id of the run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        hashing = HashingBackend(store.backend, every=True)
        self._store = Store(hashing)
        self._records: FileRecords = hashing.records
        self._run_id = run_id
        self._series: dict[str, _SeriesFile] = {}
        self.first: float | None = None
        self.last: float | None = None
        self._files: dict[str, bytes] = {}
        self._size = 0
        self._copies: list[tuple[Store, dict[str, Entry]]] = []
        self._left_out: Counter[str] = Counter()
        self.lease = {
            "owner": secrets.token_hex(16),
            "host": platform.node(),
            "pid": os.getpid(),
            "process": processes.identity(),
            "heartbeat": None,
            "beat": times.now(),
        }

    # -- called by importers -------------------------------------------------------------------------------

    def value(self, name: str, step: int, time: float, value: object, series: str = SCALARS) -> None:
        """Add one value of a series. Values of the same step and millisecond that follow each other share a row.

        Raises:
            DecodeError: The step or the time is none.
        """
        file = self._series.get(series)
        if file is None:
            file = self._series[series] = _SeriesFile(self._store, keys.series_file(series), self.leave_out)
        file.add(name, step, time, value)
        if self.first is None or self.last is None:
            self.first = self.last = time
        elif time > self.last:
            self.last = time
        elif time < self.first:
            self.first = time

    def file(self, key: str, data: bytes) -> None:
        """Store a small file."""
        self._files[keys.check(key)] = data
        self._size += len(data)
        if self._size > PART:
            self._write_files()

    def copy(self, files: Mapping[str, Entry], source: Store) -> None:
        """Copy files of the source to these keys, at the end."""
        self._copies.append((source, dict(files)))

    def leave_out(self, what: str) -> None:
        """Note something that cannot be imported."""
        if what in self._left_out or len(self._left_out) < _LISTED:
            self._left_out[what] += 1
        else:
            self._left_out["…"] += 1

    @property
    def copied(self) -> int:
        """The bytes of the files to copy."""
        return sum(max(0, entry.size) for _, files in self._copies for entry in files.values())

    def has_written(self, key: str) -> bool:
        """Check whether a file was stored."""
        return key == keys.MANIFEST or self._records.receipt(key) is not None

    def discard(self) -> None:
        """Give up files that are not complete."""
        for file in self._series.values():
            file.discard()

    @property
    def left_out(self) -> list[str]:
        """The things that were left out, each once, with their number."""
        return [what if count == 1 else f"{what} ({count:,} times)" for what, count in self._left_out.items()]

    def _write_files(self) -> None:
        files, self._files, self._size = self._files, {}, 0
        if files:
            self._store.write_many(files)

    # -- the end -------------------------------------------------------------------------------------------

    def finish(
        self, facts: Facts, imported: Mapping[str, Any], kept: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        """Store everything but metadata.json; return the fields of that, and its content.

        Args:
            facts: What the source says about the run.
            imported: The field `FIELD`.
            kept: Fields of the user, from an earlier import.

        Raises:
            EncodeError: The parameters cannot be stored, or too much would be in metadata.json.
            StorageError: A file cannot be read or stored. Several errors are a `BatchError`.
        """
        summaries = {name: file.close() for name, file in self._series.items() if file.rows_or_pending}
        params = self._store_params(facts.params)
        if facts.metrics:
            self.file(keys.METRICS, formats.encode(formats.JSON, facts.metrics))
        fields = self._shortened(_cleaned(facts.fields))
        self._write_files()
        for source, files in self._copies:
            if files:
                self._store.copy_from(files, source)
        self._store_manifest()
        values = Values(self._store, self._records, params, {}, self._records.receipt)
        document = {**kept, **fields, **self._times(facts), "run_id": self._run_id, "status": facts.status}
        if facts.environment:
            document["environment"] = _cleaned(facts.environment)
        if summaries:
            document[SUMMARY] = summaries
        document[ROW] = one_line(values.known(summaries) or {PARAMS: {}, FILES: {}})
        document[FIELD] = {**imported, **({"left_out": self.left_out} if self._left_out else {})}
        document[LEASE] = {**self.lease, "host": facts.environment.get("host", ""), "pid": None, "process": ""}
        data = formats.encode(formats.Json("metadata"), document)
        return document, limits.check_stored(data, keys.METADATA, self._store.url)

    def _store_params(self, values: Mapping[str, Any]) -> Parameters:
        params = Parameters(self._store, bool, _ignore, bool, new=True)  # type: ignore[arg-type]
        if values:
            params.begin(values, encoded(self._store, values))
        return params

    def _shortened(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return fields that fit into metadata.json; if they do not, the whole ones become a file."""
        text = json.dumps(fields, ensure_ascii=False)
        if len(text) <= _TEXT:
            return fields
        self.file(f"{IMPORTED}/fields.json", formats.encode(formats.JSON, fields))
        short: dict[str, Any] = _cut(fields)
        if len(json.dumps(short, ensure_ascii=False)) > _TEXT:
            short = {name: value for name, value in short.items() if isinstance(value, str)}
        return short

    def _times(self, facts: Facts) -> dict[str, Any]:
        """Return the fields that say when the run began and ended, and why it failed."""
        end = self.last if facts.end is None else facts.end
        start = facts.start if facts.start is not None else self.first if self.first is not None else end
        fields: dict[str, Any] = {"start_time": times.now() if start is None else _iso(start)}
        if end is not None:
            fields["end_time"] = _iso(end)
        if start is not None and end is not None and end >= start:
            fields["runtime_sec"] = round(end - start, 6)
        if facts.status == "failed":
            fields["failure_reason"] = redacted(facts.reason[:4096])
        return fields

    def _store_manifest(self) -> None:
        receipts = self._records.receipts()
        created = datetime.now().astimezone()
        document = Document(self._run_id, self.lease["owner"], created, receipts)  # type: ignore[arg-type]
        data = document.encode(self._store.backend.version_name)
        if len(data) <= limits.MANIFEST and len(receipts) <= limits.MANIFEST_FILES:
            self._store.write(keys.MANIFEST, data)
        else:
            self.leave_out("the manifest, because there are too many files")


class _SeriesFile:
    """The file of one series, written as the values come."""

    def __init__(self, store: Store, key: str, leave_out: Any) -> None:
        self._store = store
        self._key = key
        self._leave_out = leave_out
        self._encoder = RowEncoder()
        self._file: IO[bytes] | None = None
        self._lines = bytearray()
        self._names: dict[str, str] = {}
        self._kinds: dict[str, type] = {}
        self._row: dict[str, Scalar] = {}
        self._at = (0, 0)
        self._time = 0.0
        self.rows = 0

    @property
    def rows_or_pending(self) -> bool:
        """True if there is a row."""
        return self.rows > 0 or bool(self._row)

    def add(self, name: str, step: int, time: float, value: object) -> None:
        """Add a value to the current row, or begin the next one."""
        if not -_LATEST < time < _LATEST or not -INT64 < step < INT64:
            raise DecodeError(f"{quoted(name)} has a value with an invalid step or time: step {step}, time {time}")
        column = self._names.get(name)
        if column is None and (column := self._new(name)) is None:
            return
        plain = value if type(value) is float else self._plain(name, value)
        if plain is _NOTHING or not self._fits(column, plain):
            return
        at = (step, round(time * 1000))
        if at != self._at or column in self._row:
            self._write_row()
            self._at, self._time = at, at[1] / 1000  # as rounded: formatting would round halves another way
        self._row[column] = plain  # type: ignore[assignment]

    def _new(self, name: str) -> str | None:
        """Return the column of a new name; None if there cannot be one."""
        column = formats.without_surrogates(column_name(name))
        if len(column) > limits.SERIES_NAME:
            self._leave_out(f"values of {quoted(name)}, because the name is too long")
        elif len(self._names) >= limits.SERIES_COLUMNS:
            self._leave_out(f"values of names beyond the first {limits.SERIES_COLUMNS:,}")
        else:
            self._names[name] = column
            return column
        return None

    def _plain(self, name: str, value: object) -> object:
        try:
            return scalar(value, name)
        except EncodeError:
            self._leave_out(f"values of {quoted(name)} that are neither numbers, booleans nor short texts")
            return _NOTHING

    def _fits(self, column: str, plain: object) -> bool:
        """Check whether a value has the type of its column."""
        if plain is None:
            return True
        kind = kind_of(plain)  # type: ignore[arg-type]
        if self._kinds.setdefault(column, kind) is kind or (kind is bool and self._kinds[column] is float):
            return True
        self._leave_out(f"values of {quoted(column)} that have a different type from the first one")
        return False

    def _write_row(self) -> None:
        if self._row:
            row, self._row = self._row, {}
            self._encode(row)

    def _encode(self, row: dict[str, Scalar]) -> None:
        step = self._at[0]
        try:
            line, found = self._encoder.encode(step, self._time, row)
        except EncodeError:  # too many values for one row
            if len(row) < 2:
                raise
            items = list(row.items())
            self._encode(dict(items[: len(items) // 2]))
            self._encode(dict(items[len(items) // 2 :]))
            return
        self._encoder.add(step, found)
        self._lines += line
        self.rows += 1
        if len(self._lines) >= _AT_ONCE:
            self._send()

    def _send(self) -> None:
        if self._file is None:
            self._file = self._store.open(self._key, "wb")
        self._file.write(self._lines)
        self._lines = bytearray()

    def close(self) -> dict[str, Any]:
        """Store the file; return the summary for metadata.json."""
        self._write_row()
        if self._file is None:
            self._store.write(self._key, self._lines)
        else:
            self._send()
            self._file.close()
        columns = list(self._encoder.columns.values())[: limits.SERIES_SUMMARY]
        return stored(summary_of(self.rows, self._at[0], columns))

    def discard(self) -> None:
        """Give up the file."""
        if self._file is not None:
            with suppress(Exception):
                self._file.abort()  # type: ignore[attr-defined]


_NOTHING: Final = object()


def _ignore(*_: object) -> None:
    """Take the place of a log."""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(min(max(seconds, -2e9), _LATEST), UTC).astimezone().isoformat(timespec="milliseconds")


def _cleaned(value: Any) -> Any:
    """Return a plain value with secrets redacted in its texts."""
    if isinstance(value, str):
        return formats.without_surrogates(redacted(value))
    if isinstance(value, Mapping):
        return {formats.without_surrogates(str(name)): _cleaned(item) for name, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


def _cut(value: Any) -> Any:
    """Return a value with shortened texts."""
    if isinstance(value, str):
        return value if len(value) <= _SHORT else f"{value[:_SHORT]}…"
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value
