"""The row of one run in the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypedDict

from notata import formats
from notata._base import keys
from notata.run.state import SUMMARY, attempt_of, is_pinned, lease_of, number
from notata.run.values import ERROR, FILE, METRICS, PARAMS, VERSION, crc, row_field
from notata.series import flat_values

__all__ = [
    "FIXED",
    "ID",
    "REASON",
    "REVISION",
    "STATUS",
    "Row",
    "flat",
    "metrics_file",
    "named_values",
    "of_ended",
    "of_run",
    "origin_of",
    "revision_of",
    "sealed",
]

ID: Final = "run_id"
STATUS: Final = "status"
REASON: Final = "failure_reason"
REVISION: Final = "revision"
FIXED: Final = (ID, STATUS, REASON, ERROR, REVISION)
_SORTED: Final = json.JSONEncoder(sort_keys=True)


class Row(NamedTuple):
    """The row of one run in the table.

    It is a tuple because a large index has 10⁶ of them: a frozen dataclass takes five times as long to make.

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
        ended: The time of the end, as in metadata.json.
        seconds: How long the run took, its earlier attempts included; None if that is unknown.
        host: The machine of the last attempt.
        attempt: How often the run was resumed.
        time: When the row was added to the index, in Unix seconds; 0 in a row that is not from the parts of an index.
        pinned: Whether the run is protected from removal.

    A row of index.csv has no start time, end, duration, machine or attempt. That of a pinned run has no revision there,
    as no column says that the run is pinned: a table reads the run.
    """

    run_id: str
    status: str
    params: Mapping[str, Any] = {}
    metrics: Mapping[str, Any] = {}
    failure_reason: str = ""
    metrics_error: str = ""
    revision: str = ""
    started: str = ""
    series: Mapping[str, Any] = {}
    ended: str = ""
    seconds: float | None = None
    host: str = ""
    attempt: int = 0
    time: float = 0.0
    pinned: bool = False


class _Origin(TypedDict):
    seconds: float | None
    host: str
    attempt: int


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
        named_values(described.get(PARAMS)),
        {**series, **named_values(described.get(METRICS))},
        str(fields.get(REASON) or ""),
        str(described.get(ERROR) or ""),
        started=str(fields.get("start_time") or ""),
        series=series,
        ended=str(fields.get("end_time") or ""),
        pinned=is_pinned(fields),
        **origin_of(fields),
    )
    return sealed(row, version, str(described.get(VERSION) or ""))


def origin_of(fields: Mapping[str, Any]) -> _Origin:
    """Return fields of a row that say how long a run took, where, and in which attempt."""
    host = lease_of(fields).get("host")
    return {
        "seconds": number(fields.get("runtime_sec")),
        "host": host if isinstance(host, str) else "",
        "attempt": attempt_of(fields),
    }


def of_ended(run_id: str, fields: Mapping[str, Any], version: str) -> Row:
    """Return the row as `of_run` does, for index.csv: without a revision if metadata.json omits the parameters.

    Such a row is completed from the run whenever the table is read.
    """
    row = of_run(run_id, fields, version)
    return row if PARAMS in row_field(fields) else row._replace(revision="")


def named_values(value: object) -> dict[str, Any]:
    """Return a dictionary with string keys; empty for any other value."""
    return {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}


def flat(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values with one name for each dictionary item, as `notata.formats.flattened` does.

    >>> flat({"dt": 0.1, "optimizer": {"lr": 0.01}})
    {'dt': 0.1, 'optimizer.lr': 0.01}
    """
    for value in values.values():
        if type(value) is dict:
            return formats.flattened(values)
    return values


def sealed(row: Row, version: str, metrics: str) -> Row:
    """Return the row with its revision."""
    return row._replace(revision=revision_of(row, version, metrics))


def revision_of(row: Row, version: str, metrics: str) -> str:
    """Return the checksum of a row, a version of metadata.json, and the checksum of a version of the metrics."""
    values = [row.run_id, row.status, row.params, row.metrics, row.failure_reason, row.metrics_error]
    return crc(_SORTED.encode([*values, version, metrics]))
