"""The row of one run in the table, and the field of metadata.json that stores it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notata import formats
from notata._base import keys, limits
from notata._base.display import indefinite
from notata.errors import DecodeError, EncodeError, StorageError
from notata.run.state import ROW, SUMMARY
from notata.series import flat_values
from notata.store import Store

__all__ = [
    "ERROR",
    "FILE",
    "FIXED",
    "ID",
    "REASON",
    "REVISION",
    "STATUS",
    "VERSION",
    "Row",
    "crc",
    "described",
    "metrics_file",
    "metrics_of",
    "named_values",
    "of_ended",
    "of_run",
    "revision_of",
    "row_field",
    "sealed",
]

ID: Final = "run_id"
STATUS: Final = "status"
REASON: Final = "failure_reason"
ERROR: Final = "metrics_error"
REVISION: Final = "revision"
FILE: Final = "metrics_file"
VERSION: Final = "metrics_version"
FIXED: Final = (ID, STATUS, REASON, ERROR, REVISION)
_LARGEST: Final = 64 * 2**10  # maximum bytes of metrics in metadata.json, which is rewritten at each heartbeat


@dataclass(frozen=True, slots=True)
class Row:
    """The row of one run in the table.

    Attributes:
        run_id: The id of the run.
        status: The status, as in `notata.RunState`; ``unreadable`` if metadata.json is damaged.
        params: The parameters.
        metrics: The content of ``artifacts/metrics.json``, and the summaries of series for other names.
        failure_reason: Why it failed, or died.
        metrics_error: Why its metrics cannot be shown, if so.
        revision: A checksum of the row and of the versions of metadata.json and metrics that it was made from; empty if
            the run may change without changing these versions.
        started: The start time, as in metadata.json.
        series: The part of `metrics` that comes from series; empty in a row of index.csv.
    """

    run_id: str
    status: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    failure_reason: str = ""
    metrics_error: str = ""
    revision: str = ""
    started: str = ""
    series: Mapping[str, Any] = field(default_factory=dict)


def described(store: Store, params: Mapping[str, Any], metrics_key: str = keys.METRICS) -> dict[str, Any]:
    """Return the field `ROW` of a run at a store's root: parameters and the metrics as stored now. One request.

    Values that are unavailable now (no metrics yet, no answer, too many) are omitted: readers of the row look again.

    Raises:
        EncodeError: The parameters cannot be represented in JSON.
    """
    values = formats.plain(dict(params), "params")
    described: dict[str, Any] = {}
    if len(json.dumps(values, ensure_ascii=False)) <= limits.ROW_PARAMS:
        described["params"] = values
    if metrics_key != keys.METRICS:
        described[FILE] = metrics_key
    try:
        found = store.fetch(metrics_key, 0, _LARGEST)
    except StorageError:
        return described
    if found.size <= _LARGEST:
        metrics, error = metrics_of(found.data, metrics_key)
        described |= {ERROR: error} if error else {"metrics": metrics}
        described[VERSION] = crc(found.version)
    return described


def metrics_file(fields: Mapping[str, Any]) -> str:
    """Return the key of the file that a run's metrics were recorded from, as stored in its metadata.json."""
    return str(row_field(fields).get(FILE) or keys.METRICS)


def of_run(run_id: str, fields: Mapping[str, Any], version: str) -> Row:
    """Return the row of a run that has ended, from this version of its metadata.json."""
    described = row_field(fields)
    series = flat_values(fields.get(SUMMARY))
    row = Row(
        run_id,
        str(fields.get("status")),
        named_values(described.get("params")),
        {**series, **named_values(described.get("metrics"))},
        str(fields.get(REASON) or ""),
        str(described.get(ERROR) or ""),
        started=str(fields.get("start_time") or ""),
        series=series,
    )
    return sealed(row, version, str(described.get(VERSION) or ""))


def of_ended(run_id: str, fields: Mapping[str, Any], version: str) -> Row:
    """Return the row as `of_run` does, for index.csv: without a revision if metadata.json omits the parameters.

    Such a row is completed from the run whenever the table is read.
    """
    row = of_run(run_id, fields, version)
    return row if "params" in row_field(fields) else replace(row, revision="")


def row_field(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the field `ROW` of a metadata.json; empty if it is missing or invalid."""
    row = fields.get(ROW)
    return row if isinstance(row, dict) else {}


def named_values(value: object) -> dict[str, Any]:
    """Return a dictionary with string keys; empty for any other value."""
    return {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}


def metrics_of(data: bytes, key: str) -> tuple[dict[str, Any], str]:
    """Return metrics, and the reason if there are none."""
    try:
        value = formats.decode(formats.JSON, data)
    except DecodeError as error:
        return {}, f"{key}: {error}"
    if limits.has_too_many_values(value):
        return {}, f"{key} has more than {limits.VALUES:,} values, which is too much for a table"
    if not isinstance(value, dict):
        return {}, f"{key} holds {indefinite(type(value).__name__)}, where names and values are needed"
    try:
        formats.encode(formats.JSON, [[[[value]]]])  # the nesting of metrics in metadata.json
    except EncodeError as error:
        return {}, f"{key}: {error}"
    return value, ""


def crc(data: str | bytes) -> str:
    """Return a checksum of eight digits."""
    return f"{zlib.crc32(data.encode() if isinstance(data, str) else data):08x}"


def sealed(row: Row, version: str, metrics: str) -> Row:
    """Return the row with its revision."""
    return replace(row, revision=revision_of(row, version, metrics))


def revision_of(row: Row, version: str, metrics: str) -> str:
    """Return the checksum of a row, a version of metadata.json, and the checksum of a version of the metrics."""
    values = [row.run_id, row.status, row.params, row.metrics, row.failure_reason, row.metrics_error]
    return crc(json.dumps([*values, version, metrics], sort_keys=True))
