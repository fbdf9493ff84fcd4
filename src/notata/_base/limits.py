"""Define size limits of the files that notata reads whole.

The files of a run folder can come from an untrusted person or from a server that never stops sending. Each file that
notata reads whole therefore has a limit. Writers keep the same limits, so that every stored file can be read again.
Files that a user requests (`LogReader.load`, `Logbook.open`, a path object) have no limit.
"""

from __future__ import annotations

from typing import Final

from notata._base import display, keys
from notata.errors import EncodeError, TooLargeError

__all__ = [
    "INDEX",
    "INDEX_CELLS",
    "INDEX_PART",
    "INDEX_PARTS",
    "INPUTS",
    "INPUTS_NUMBER",
    "LINE",
    "LINE_SHOWN",
    "LOG",
    "MANIFEST",
    "MANIFEST_FILES",
    "METADATA",
    "METRICS",
    "OUTPUT",
    "PARAMS",
    "ROW_METRICS",
    "ROW_PARAMS",
    "ROW_VALUES",
    "SERIES",
    "SERIES_COLUMNS",
    "SERIES_NAME",
    "SERIES_ROW",
    "SERIES_SUMMARY",
    "SERIES_TEXT",
    "SERIES_VALUES",
    "VALUES",
    "check_size",
    "check_stored",
    "has_too_many_values",
    "limit_of",
]

METADATA: Final = 8 * 2**20
"""Bytes of metadata.json, the size of one request. The file is stored again at each heartbeat."""

PARAMS: Final = 8 * 2**20
"""Bytes of params.yaml and params.json. Values as JSON take up to 30 times their bytes in memory."""

VALUES: Final = 500_000
"""Values of parameters and of metrics, keys included; PyYAML takes about 5 µs and 400 bytes for each."""

METRICS: Final = 4 * 2**20
"""Bytes of artifacts/metrics.json for tables, filters and comparisons."""

ROW_PARAMS: Final = 2**20
"""Bytes of parameters that metadata.json of a run of an experiment repeats; larger ones are read from their file."""

ROW_VALUES: Final = 64 * 2**10
"""Bytes of parameters that metadata.json of any other run repeats, as listings of runs read all of it."""

ROW_METRICS: Final = 64 * 2**10
"""Bytes of metrics that metadata.json repeats; larger ones are read from their file."""

MANIFEST: Final = 256 * 2**20
"""Bytes of manifest.json, for about 1.5 million files."""

MANIFEST_FILES: Final = 1_500_000
"""Files in a manifest."""

INDEX: Final = 64 * 2**20
"""Bytes of index.csv, for some 200,000 runs with twenty columns."""

INDEX_CELLS: Final = 4_000_000
"""Parameters and metrics in all rows of index.csv."""

INDEX_PART: Final = 256 * 2**20
"""Bytes of a part of an index; notata writes parts of at most about 64 MiB."""

INDEX_PARTS: Final = 8 * 2**30
"""Bytes of all parts of an index, for some ten million runs; a row takes about three times its bytes in memory."""

INPUTS: Final = 2 * 2**20
"""Bytes of inputs.json, which is stored again with each input."""

INPUTS_NUMBER: Final = 2000
"""Inputs of a run, or of one of its workers."""

LOG: Final = 256 * 2**20
"""Bytes of log.txt for `LogReader.log`; `tail` and `grep` read logs of any size in pieces."""

OUTPUT: Final = 256 * 2**20
"""Bytes of output.txt for `LogReader.output`; `tail` and `grep` read output of any size in pieces."""

SERIES: Final = 4 * 2**30
"""Bytes of a series that are read at once, for about 40 million rows of five values."""

SERIES_ROW: Final = 2**20
"""Bytes of one row of a series."""

SERIES_COLUMNS: Final = 10_000
"""Columns of a series."""

SERIES_NAME: Final = 500
"""Characters in the name of a column."""

SERIES_TEXT: Final = 1000
"""Characters of a text in a series."""

SERIES_SUMMARY: Final = 500
"""Columns of all series of a run that have a summary in metadata.json, which is stored again at each heartbeat."""

SERIES_VALUES: Final = 500_000_000
"""Values of a series that are read at once: rows times columns."""

LINE: Final = 64 * 2**20
"""Bytes of one line that `grep` matches."""

LINE_SHOWN: Final = 16 * 2**20
"""Bytes of the last lines that `tail` shows, and of an unfinished line that `follow` buffers."""


_LIMITS: Final = {
    keys.METADATA: METADATA,
    keys.PARAMS_YAML: PARAMS,
    keys.PARAMS_JSON: PARAMS,
    keys.INDEX: INDEX,
    keys.LOG: LOG,
    keys.METRICS.rpartition("/")[2]: METRICS,
}


def limit_of(key: str) -> int | None:
    """Return the size limit of a file that notata reads whole; None for all other files.

    >>> limit_of("runs/log_a/metadata.json"), limit_of("artifacts/model.bin")
    (8388608, None)
    """
    return MANIFEST if keys.is_manifest(key) else _LIMITS.get(key.rpartition("/")[2])


def check_size(url: str, key: str, size: int, limit: int) -> None:
    """Raise an error if a file is larger than its limit.

    Raises:
        TooLargeError: The file is larger.
    """
    if size > limit:
        raise TooLargeError(
            f"cannot read {url}/{key}: its size is {display.size(size)}, and the limit for this file is "
            f"{display.size(limit)}. It may be damaged or forged; to read its bytes in pieces, use "
            f"reader[{key!r}].open('rb')",
            url=url,
            key=key,
        )


def check_stored(data: bytes, key: str, url: str | None = None) -> bytes:
    """Return the content of a file if it is within the size limit for reading it again.

    Raises:
        EncodeError: The content exceeds the limit.
    """
    limit = limit_of(key)
    if limit is not None and len(data) > limit:
        raise EncodeError(
            f"cannot store {key}: its size would be {display.size(len(data))}, and the limit is "
            f"{display.size(limit)}. Store large values as artifacts with json(), array() or save()",
            url=url,
            key=key,
        )
    return data


def has_too_many_values(value: object) -> bool:
    """Check whether a JSON value has more values than `VALUES`, including keys.

    >>> has_too_many_values({"a": [1, 2]})
    False
    """
    containers, count = [value], 0
    while containers and count <= VALUES:
        one = containers.pop()
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        count += 2 * len(inside) if isinstance(one, dict) else len(inside)
        containers += [part for part in inside if isinstance(part, dict | list)]
    return count > VALUES
