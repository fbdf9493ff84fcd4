"""Size limits of the files that notata itself reads whole, by their keys; it reads nothing.

What a run folder holds was perhaps written by a stranger, or by a server that never stops. So each file that notata
reads whole has a limit. Writers keep the same limits, so what one of them stores can be read again. Files that a user
asks for (`LogReader.load`, `Logbook.open`, a path object) have none.
"""

from __future__ import annotations

from typing import Final

from notata._base import display, keys
from notata.errors import EncodeError, TooLargeError

__all__ = [
    "INDEX",
    "INDEX_CELLS",
    "LINE",
    "LINE_SHOWN",
    "LOG",
    "MANIFEST",
    "MANIFEST_FILES",
    "METADATA",
    "METRICS",
    "PARAMS",
    "ROW_PARAMS",
    "VALUES",
    "check_size",
    "check_stored",
    "has_too_many_values",
    "limit_of",
]

METADATA: Final = 8 * 2**20
"""Bytes of metadata.json: those of one request. It is stored again at each heartbeat."""

PARAMS: Final = 8 * 2**20
"""Bytes of params.yaml and params.json. Values as JSON take up to 30 times their bytes in memory."""

VALUES: Final = 500_000
"""Values of parameters and of metrics, keys included; PyYAML takes about 5 µs and 400 bytes for each."""

METRICS: Final = 4 * 2**20
"""Bytes of artifacts/metrics.json that tables, filters and comparisons read."""

ROW_PARAMS: Final = 2**20
"""Bytes of parameters that metadata.json repeats for tables; more are read from their file."""

MANIFEST: Final = 256 * 2**20
"""Bytes of manifest.json: those of about 1.5 million files."""

MANIFEST_FILES: Final = 1_500_000
"""Files in a manifest."""

INDEX: Final = 64 * 2**20
"""Bytes of index.csv: those of some 200,000 runs with twenty columns."""

INDEX_CELLS: Final = 4_000_000
"""Parameters and metrics in all rows of index.csv."""

LOG: Final = 256 * 2**20
"""Bytes of log.txt that `LogReader.log` reads; `tail` and `grep` read any log in pieces."""

LINE: Final = 64 * 2**20
"""Bytes of one line that `grep` matches."""

LINE_SHOWN: Final = 16 * 2**20
"""Bytes of a log's last lines that `tail` shows, and of one line that `follow` holds back until it ends."""


_LIMITS: Final = {
    keys.METADATA: METADATA,
    keys.PARAMS_YAML: PARAMS,
    keys.PARAMS_JSON: PARAMS,
    keys.INDEX: INDEX,
    keys.LOG: LOG,
    keys.METRICS.rpartition("/")[2]: METRICS,
}


def limit_of(key: str) -> int | None:
    """Return how many bytes of this file notata reads whole; None of one that only a user asks for.

    >>> limit_of("runs/log_a/metadata.json"), limit_of("artifacts/model.bin")
    (8388608, None)
    """
    return MANIFEST if keys.is_manifest(key) else _LIMITS.get(key.rpartition("/")[2])


def check_size(url: str, key: str, size: int, limit: int) -> None:
    """Refuse to read a file whole that is larger than its limit.

    Raises:
        TooLargeError: It is.
    """
    if size > limit:
        raise TooLargeError(
            f"cannot read {url}/{key}: it has {display.size(size)}, and notata reads at most {display.size(limit)} of "
            "such a file. Check who wrote it and whether it is damaged; its bytes can be read in pieces by "
            f"reader[{key!r}].open('rb')",
            url=url,
            key=key,
        )


def check_stored(data: bytes, key: str, url: str | None = None) -> bytes:
    """Return the bytes of a file if they are few enough to be read again.

    Raises:
        EncodeError: They are not.
    """
    limit = limit_of(key)
    if limit is not None and len(data) > limit:
        raise EncodeError(
            f"{key} would have {display.size(len(data))}, and notata reads at most {display.size(limit)} of it again; "
            "store large values as artifacts, by json(), array() or save()",
            url=url,
            key=key,
        )
    return data


def has_too_many_values(value: object) -> bool:
    """Check whether a value that was read from JSON has more values than `VALUES`, keys included.

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
