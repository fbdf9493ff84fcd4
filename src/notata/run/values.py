"""Store the parameters and metrics of a run in its metadata.json, and decide when a reader trusts them.

Each run stores the field `ROW` in the request that stores its end. So tables and filters read one file a run. The field
also says from which files its values were read: their size, their SHA-256 and MD5, and a checksum of their version.

A file can change afterwards: a user edits params.yaml, another attempt or a copy replaces metrics.json, another
program deletes it. Readers list the files of a run before they read its metadata.json, so they know what is there now.
The rule of trust stands only here (`holds`, `has_grown`):

* A value is shown as stored if the listed file has the size that the field states, and either

  * the storage reports the MD5 of the content, and it is the same: in S3, for content that came in one request and is
    not encrypted with a KMS key, and in GCS. That is also true in a copy; or
  * the file has the version that the field states: its ETag or generation; on a disk its inode, time and size. That is
    true where the run was written, and in copies that keep ETags.

* A series only grows. Its summary is shown as stored if the file has at least the size that the field states; rows that
  are added after the end are not in the summary. No size is known of rows that a failed run stores after its status.
* A file that is not listed any more has no values.
* In all other cases the file is read.
* If nothing was listed, or only a part of the run, values of files that are not listed are shown as stored.

Runs of experiments by earlier versions of notata have no field `FILES`. Their parameters are shown as stored, and their
metrics if the version is the same (`VERSION`).

The rule finds changes, not forgery: a program that can write metadata.json can write any values.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import md5, sha256
from typing import Any, Final

from notata import formats
from notata._base import keys, limits
from notata._base.display import indefinite
from notata.errors import DecodeError, EncodeError, KeyNameError, NotataError, StorageError
from notata.manifest import FileRecords, Receipt
from notata.run import parameters
from notata.run.parameters import Parameters
from notata.run.state import ROW
from notata.store import Entry, Store

__all__ = [
    "ERROR",
    "FILE",
    "FILES",
    "METRICS",
    "PARAMS",
    "VERSION",
    "Values",
    "crc",
    "has_grown",
    "holds",
    "metrics_of",
    "row_field",
    "series_keys",
]

PARAMS: Final = "params"
METRICS: Final = "metrics"
ERROR: Final = "metrics_error"
FILE: Final = "metrics_file"
VERSION: Final = "metrics_version"
FILES: Final = "files"

_FACTS: Final = ("md5", "sha256", "size", "version")
_LONGER: Final = 4  # how much longer the JSON text of parameters can be than their file, at most
_DEEP: Final = 100  # brackets that metrics may have without a check of how deeply they are nested


def holds(receipt: object, entry: Entry | None) -> bool:
    """Check whether a listed file is the one that values in metadata.json were read from; see the rule of this module.

    >>> from datetime import UTC, datetime
    >>> receipt = {"size": 7, "md5": "900150983cd24fb0d6963f7d28e17f72", "version": crc("v1")}
    >>> same = Entry("params.yaml", 7, datetime.now(UTC), "v1")
    >>> copied = Entry("params.yaml", 7, datetime.now(UTC), "v2", "md5:900150983cd24fb0d6963f7d28e17f72")
    >>> edited = Entry("params.yaml", 7, datetime.now(UTC), "v2")
    >>> [holds(receipt, entry) for entry in (same, copied, edited, None)]
    [True, True, False, False]
    """
    if entry is None or not isinstance(receipt, dict) or receipt.get("size") != entry.size:
        return False
    if entry.digest.startswith("md5:") and receipt.get("md5") == entry.digest[4:]:
        return True
    return bool(entry.version) and receipt.get("version") == crc(entry.version)


class Values:
    """The parameters and metrics of one run, as far as its writer knows them at the end.

    Args:
        store: The store of the run.
        records: The content of files as this writer stored them.
        params: The parameters.
        before: The field `ROW` of the attempt before.
        receipt: Returns size and digest of a series, if they are known.
    """

    def __init__(
        self,
        store: Store,
        records: FileRecords,
        params: Parameters,
        before: Mapping[str, Any],
        receipt: Callable[[str], Receipt | None],
    ) -> None:
        self._store = store
        self._receipt = receipt
        self._records = records
        self._params = params
        self._before = before

    def known(self, summary: object = None) -> dict[str, Any]:
        """Return the field `ROW`, empty if the run has no parameters, metrics and series. No request in a bucket.

        Values that are unknown or too large are omitted: readers read them from the files.

        Args:
            summary: The field `SUMMARY`, which has the series of the run.
        """
        try:
            params = self._described_params(limits.ROW_VALUES)
        except NotataError:  # a resumed run with damaged parameters
            params = {}
        row = _merged(params, self._known_metrics(), self._described_series(summary))
        return row if row.keys() - {FILES, PARAMS} or row[FILES] or series_keys(summary) else {}

    def current(self, summary: object = None, metrics_key: str = keys.METRICS) -> dict[str, Any]:
        """Return the field `ROW` with the metrics as they are stored now, for a run of an experiment. One request.

        Up to two more for the parameters of a run that was resumed.

        Args:
            summary: The field `SUMMARY`, which has the series of the run.
            metrics_key: The key of the file of the metrics.

        Raises:
            NotataError: The parameters cannot be read, or cannot be represented in JSON.
        """
        params = self._described_params(limits.ROW_PARAMS, look=True)
        row = _merged(params, self._stored_metrics(metrics_key), self._described_series(summary))
        return row if metrics_key == keys.METRICS else {**row, FILE: metrics_key}

    def _described_params(self, most: int, *, look: bool = False) -> dict[str, Any]:
        file = self._params.file(look=look)
        if file is None:
            return next(filter(None, (_kept_values(self._before, key) for key in parameters.FILES)), {})
        key, data = file
        written = {name: self._records.content(name) for name in parameters.FILES}
        if any(
            self._records.is_by_others(name) or (found is not None and (name != key or found[0] != data))
            for name, found in written.items()
        ):
            return {}  # the run wrote it as any other file
        values = self._params.plain(key, data) if key else {}
        if len(data) > most // _LONGER and len(json.dumps(values, ensure_ascii=False)) > most:
            return {}
        if not key:
            return {PARAMS: values, FILES: {}}
        found = written[key]
        receipt = _receipt(data, found[1] if found else "")
        if found is None and (before := _receipt_in(self._before, key)).get("sha256") == receipt["sha256"]:
            receipt = before
        return {PARAMS: values, FILES: {key: receipt}}

    def _known_metrics(self) -> dict[str, Any]:
        if (found := self._records.content(keys.METRICS)) is not None:
            return _described_metrics(keys.METRICS, *found)
        if self._records.is_by_others(keys.METRICS):
            return self._stored_metrics(keys.METRICS) if self._store.is_local else {}
        return _kept_values(self._before, keys.METRICS)

    def _described_series(self, summary: object) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in series_keys(summary).values():
            receipt = self._receipt(key)
            if receipt is not None and receipt.sha256:
                found[key] = {"sha256": receipt.sha256.hex(), "size": receipt.size}
            elif self._store.is_local:  # no manifest has it, and lines on a disk are not hashed as they are written
                with suppress(StorageError):
                    found[key] = {"size": self._store.stat(key).size}
            elif before := _receipt_in(self._before, key):
                found[key] = before
        return {FILES: found}

    def _stored_metrics(self, key: str) -> dict[str, Any]:
        try:
            found = self._store.fetch(key, 0, limits.ROW_METRICS)
        except StorageError:
            return {}
        return _described_metrics(key, found.data, found.version) if found.size <= limits.ROW_METRICS else {}


def _described_metrics(key: str, data: bytes, version: str) -> dict[str, Any]:
    """Return the part of the field `ROW` for a file of metrics; empty if it is too large."""
    if len(data) > limits.ROW_METRICS:
        return {}
    values, error = metrics_of(data, key)
    found: dict[str, Any] = {ERROR: error} if error else {METRICS: values}
    return {**found, VERSION: crc(version), FILES: {key: _receipt(data, version)}}


def _receipt(data: bytes, version: str) -> dict[str, Any]:
    """Return the facts about a file in the field `FILES`; the version is empty if it is unknown."""
    digests = {"md5": md5(data, usedforsecurity=False).hexdigest(), "sha256": sha256(data).hexdigest()}
    return {**digests, "size": len(data), **({"version": crc(version)} if version else {})}


def _receipt_in(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the facts about a file in the field `ROW` of the attempt before, which may be forged."""
    files = row.get(FILES)
    receipt = files.get(key) if isinstance(files, dict) else None
    given = receipt if isinstance(receipt, dict) else {}
    return {name: given[name] for name in _FACTS if type(given.get(name)) in (str, int)}


def _kept_values(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return what the field `ROW` of the attempt before has of one file; empty if that is nothing.

    Readers check the file before they trust the values, so they need no check here.
    """
    receipt = _receipt_in(row, key)
    kinds = {METRICS: dict, ERROR: str, VERSION: str} if key == keys.METRICS else {PARAMS: dict}
    found = {name: row[name] for name, kind in kinds.items() if type(row.get(name)) is kind}
    return {**found, FILES: {key: receipt}} if found and receipt else {}


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return parts of the field `ROW` as one."""
    row: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for part in parts:
        row |= part
        files |= part.get(FILES, {})
    return {**row, FILES: files}


def series_keys(summary: object) -> dict[str, str]:
    """Return the keys of the series in a field `SUMMARY` by name; names that no series can have are left out.

    >>> series_keys({"scalars": {}, "../x": {}})
    {'scalars': 'series/scalars.jsonl'}
    """
    found: dict[str, str] = {}
    for name in summary if isinstance(summary, dict) else ():
        with suppress(KeyNameError):
            found[name] = keys.series_file(name)
    return found


def has_grown(receipt: object, entry: Entry | None) -> bool:
    """Check whether a listed series can begin with the one whose size metadata.json states."""
    size = receipt.get("size") if isinstance(receipt, dict) else None
    return isinstance(size, int) and entry is not None and entry.size >= size


def row_field(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the field `ROW` of a metadata.json; empty if it is missing or invalid."""
    row = fields.get(ROW)
    return row if isinstance(row, dict) else {}


def metrics_of(data: bytes, key: str) -> tuple[dict[str, Any], str]:
    """Return metrics, and the reason if there are none."""
    try:
        value = formats.JSON.read(io.BytesIO(data))
    except DecodeError as error:
        return {}, f"{key}: {error}"
    if len(data) > limits.VALUES and limits.has_too_many_values(value):
        return {}, f"{key} has more than {limits.VALUES:,} values, which is too many for a table"
    if not isinstance(value, dict):
        return {}, f"{key} contains {indefinite(type(value).__name__)} instead of names and values"
    if data.count(b"{") + data.count(b"[") > _DEEP:
        try:
            formats.encode(formats.JSON, [[[[value]]]])  # the nesting of metrics in metadata.json
        except EncodeError as error:
            return {}, f"{key}: {error}"
    return value, ""


def crc(data: str | bytes) -> str:
    """Return a checksum of eight digits."""
    return f"{zlib.crc32(data.encode() if isinstance(data, str) else data):08x}"
