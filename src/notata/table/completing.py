"""Complete the row of a run from its files: which values of its metadata.json are current, and what is read instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from notata import formats
from notata._base import keys, limits
from notata.errors import DecodeError, EncodeError, TooLargeError
from notata.run import parameters
from notata.run.state import ENDED
from notata.run.values import (
    ERROR,
    FILE,
    FILES,
    METRICS,
    PARAMS,
    VERSION,
    crc,
    has_grown,
    holds,
    metrics_of,
    series_keys,
)
from notata.series import flat_values
from notata.store import Blob, Entry
from notata.table.row import Row, named_values, sealed

__all__ = ["RowBuilder", "metrics_version"]

_SERIES: Final = 8  # series of a run that are read for a table, if it has no summary of them
_SERIES_BYTES: Final = 2**20  # of each


def metrics_version(files: Mapping[str, Entry]) -> str:
    """Return the checksum of the listed version of the metrics; empty if there are none."""
    return crc(files[keys.METRICS].version) if keys.METRICS in files else ""


@dataclass(slots=True)
class RowBuilder:
    """The row of one run, from its metadata.json and a listing of its files.

    Attributes:
        row: The row; at first as metadata.json has it.
        described: The field of metadata.json with parameters and metrics.
        summary: The field of metadata.json with the summaries of series.
        files: The listed files by key.
        is_whole: Whether all files were listed, so that there are no others.
        version: The version of metadata.json.
    """

    row: Row
    described: Mapping[str, Any]
    summary: object
    files: Mapping[str, Entry]
    is_whole: bool
    version: str

    def needed(self) -> Iterator[str]:
        """Remove values that are not current, and yield the keys of the files to read in their place."""
        before = self.row
        series = [*self._needed_series()]
        yield from self._needed_params()
        yield from self._needed_metrics()
        yield from series
        if self.row is not before or self._metrics_version != self._stored_version:
            self._seal(self._metrics_version)

    def add(self, name: str, blob: Blob) -> None:
        """Add the values of a file that was read."""
        if (series := keys.series_name(name)) is not None:
            self.row = _with_series(self.row, name, series[1], blob.data)
        elif name in parameters.FILES:
            self.row = _with_params(self.row, name, blob.data)
        else:
            self.row = _with_metrics(self.row, name, blob.data)
            self._seal(crc(blob.version))
            return
        self._seal(self._metrics_version)

    @property
    def _has_ended(self) -> bool:
        return self.row.status in ENDED

    @property
    def _receipts(self) -> Mapping[str, Any] | None:
        """The facts about files in metadata.json; None if an earlier version of notata wrote it."""
        if FILES not in self.described:
            return None
        files = self.described[FILES]
        return files if isinstance(files, dict) else {}

    @property
    def _stored_version(self) -> str:
        return str(self.described.get(VERSION) or "")

    @property
    def _metrics_version(self) -> str:
        """The checksum of the version of the metrics, as listed if the listing shows it."""
        is_listed = self.is_whole and self._metrics_key() == keys.METRICS
        return metrics_version(self.files) if is_listed else self._stored_version

    def _metrics_key(self) -> str:
        """Return the key of the file of the metrics."""
        key = self.described.get(FILE)
        special = not isinstance(key, str) or key in parameters.FILES or keys.series_name(key) is not None
        return keys.METRICS if special else str(key)

    def _needed_series(self) -> Iterator[str]:
        changed = self._changed_series()
        if changed and isinstance(self.summary, dict):
            kept = flat_values({name: value for name, value in self.summary.items() if name not in changed})
            self.row = self.row._replace(series=kept, metrics={**kept, **named_values(self.described.get(METRICS))})
        elif self._has_ended or self.row.series:
            return
        wanted = changed.values() if changed else self.files  # all of them if no heartbeat has stored a summary yet
        yield from [key for key in wanted if key in self.files and _is_small_series(key, self.files[key])][:_SERIES]

    def _changed_series(self) -> Mapping[str, str]:
        """Return the keys of series, by name, whose rows are not all there any more."""
        receipts = self._receipts
        if not self._has_ended or receipts is None:
            return {}
        return {
            name: key
            for name, key in series_keys(self.summary).items()
            if (
                self.is_whole
                if key not in self.files
                else not has_grown(receipts.get(key, {"size": 0}), self.files[key])
            )
        }

    def _needed_params(self) -> Iterator[str]:
        found = [key for key in parameters.FILES if key in self.files][:1]
        if not self._are_params_current(found):
            if self.row.params:
                self.row = self.row._replace(params={})
            yield from found

    def _are_params_current(self, found: list[str]) -> bool:
        if not (self._has_ended and PARAMS in self.described):
            return False
        if self._receipts is None or not (found or self.is_whole):
            return True
        return bool(found) and holds(self._receipts.get(found[0]), self.files[found[0]])

    def _needed_metrics(self) -> Iterator[str]:
        key = self._metrics_key()
        entry = self.files.get(key)
        if self._are_metrics_current(key, entry):
            return
        if self.row.metrics != self.row.series or self.row.metrics_error:
            self.row = self.row._replace(metrics=self.row.series, metrics_error="")
        if entry is not None and entry.size > limits.METRICS:
            error = f"{key} has {entry.size} bytes, which is too much for a table"
            self.row = self.row._replace(metrics_error=error)
        elif entry is not None:
            yield key

    def _are_metrics_current(self, key: str, entry: Entry | None) -> bool:
        if not (self._has_ended and (METRICS in self.described or ERROR in self.described)):
            return False
        if entry is None:
            return self._receipts is None or not self.is_whole
        if self._receipts is None:
            return key != keys.METRICS or self.described.get(VERSION) == crc(entry.version)
        return holds(self._receipts.get(key), entry)

    def _seal(self, metrics: str) -> None:
        if self.row.revision:
            self.row = sealed(self.row, self.version, metrics)


def _is_small_series(key: str, entry: Entry) -> bool:
    """Check whether a file is a series of the owner of the run that is read for a table."""
    rank, name = keys.series_name(key) or (None, "")
    return rank is None and bool(name) and 0 < entry.size <= _SERIES_BYTES


def _with_series(row: Row, name: str, series: str, data: bytes) -> Row:
    from notata.series.reading import summary_of_file  # imports numpy

    try:
        found = flat_values({series: summary_of_file(data)})
    except TooLargeError as too_large:
        return row._replace(metrics_error="; ".join(filter(None, (row.metrics_error, f"{name}: {too_large}"))))
    return row._replace(metrics={**found, **row.metrics}, series={**row.series, **found})


def _with_metrics(row: Row, name: str, data: bytes) -> Row:
    metrics, error = metrics_of(data, name)
    damaged = row.metrics_error if row.metrics_error.startswith(parameters.FILES) else ""
    metrics = {**row.series, **metrics}
    return row._replace(metrics=metrics, metrics_error="; ".join(filter(None, (damaged, error))))


def _with_params(row: Row, name: str, data: bytes) -> Row:
    try:
        values = parameters.decoded(data, "json" if name == keys.PARAMS_JSON else "yaml")
        return row._replace(params=named_values(formats.plain(values)))
    except (DecodeError, EncodeError) as error:
        return row._replace(metrics_error="; ".join(filter(None, (f"{name}: {error}", row.metrics_error))))
