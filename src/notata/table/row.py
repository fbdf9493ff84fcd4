"""What the table says of one run, and what of it the run keeps in its own metadata.json; it reads one run at most."""

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
from notata.run.state import ROW
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
_LARGEST: Final = 64 * 2**10  # bytes of metrics that metadata.json takes in; it is written again at each heartbeat


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


def described(store: Store, params: Mapping[str, Any], metrics_key: str = keys.METRICS) -> dict[str, Any]:
    """The field `ROW` of a run at a store's root: its parameters, and its metrics as they are stored now. One request.

    What cannot be told for now (no metrics yet, no answer, too many) is left out: who reads the row looks again.

    Raises:
        EncodeError: Somebody stored parameters that have no form in JSON.
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
    """The key of the file that a run's metrics were recorded from, as its metadata.json says."""
    return str(row_field(fields).get(FILE) or keys.METRICS)


def of_run(run_id: str, fields: Mapping[str, Any], version: str) -> Row:
    """The row of a run that has ended, from what its metadata.json says in this version."""
    described = row_field(fields)
    row = Row(
        run_id,
        str(fields.get("status")),
        named_values(described.get("params")),
        named_values(described.get("metrics")),
        str(fields.get(REASON) or ""),
        str(described.get(ERROR) or ""),
        started=str(fields.get("start_time") or ""),
    )
    return sealed(row, version, str(described.get(VERSION) or ""))


def of_ended(run_id: str, fields: Mapping[str, Any], version: str) -> Row:
    """As `of_run`, for index.csv: without a revision where metadata.json leaves the parameters out.

    Such a row is completed from the run each time that the table is read.
    """
    row = of_run(run_id, fields, version)
    return row if "params" in row_field(fields) else replace(row, revision="")


def row_field(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The field `ROW` of a metadata.json; empty where there is none, or none of ours."""
    row = fields.get(ROW)
    return row if isinstance(row, dict) else {}


def named_values(value: object) -> dict[str, Any]:
    """A dictionary by strings; empty for anything else."""
    return {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}


def metrics_of(data: bytes, key: str) -> tuple[dict[str, Any], str]:
    """Metrics, or why there are none."""
    try:
        value = formats.decode(formats.JSON, data)
    except DecodeError as error:
        return {}, f"{key}: {error}"
    if limits.has_too_many_values(value):
        return {}, f"{key} has more than {limits.VALUES:,} values, which is too much for a table"
    if not isinstance(value, dict):
        return {}, f"{key} holds {indefinite(type(value).__name__)}, where names and values are needed"
    try:
        formats.encode(formats.JSON, [[[[value]]]])  # as deep as metadata.json holds it
    except EncodeError as error:
        return {}, f"{key}: {error}"
    return value, ""


def crc(data: str | bytes) -> str:
    """A checksum of eight digits."""
    return f"{zlib.crc32(data.encode() if isinstance(data, str) else data):08x}"


def sealed(row: Row, version: str, metrics: str) -> Row:
    """The row with its revision."""
    return replace(row, revision=revision_of(row, version, metrics))


def revision_of(row: Row, version: str, metrics: str) -> str:
    """Of what a row says, a version of metadata.json, and the checksum of one of the metrics."""
    told = [row.run_id, row.status, row.params, row.metrics, row.failure_reason, row.metrics_error]
    return crc(json.dumps([*told, version, metrics], sort_keys=True))
