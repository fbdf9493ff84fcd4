"""Record the inputs of a run in ``inputs.json``, and read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from notata import formats
from notata._base import keys, limits
from notata._base.processes import Lock
from notata._base.retries import attempts
from notata.errors import ConflictError, ExistsError, MissingError
from notata.run.state import number
from notata.store import ABSENT, Store

__all__ = ["Input", "InputRecords", "encoded", "parsed", "stored"]

_TRIES: Final = 20  # attempts to change a file that other processes of the run change, too
_TEXT: Final = 4096  # characters of a URL
_SHORT: Final = 255  # characters of an id, a version or a time


@dataclass(frozen=True, slots=True)
class Input:
    """A file or folder that a run has read.

    Attributes:
        url: Its location, without credentials.
        size: In bytes, of a folder the sum of its files; None if it is unknown.
        sha256: The digest, hexadecimal; empty if nothing was read. For a folder, see `notata.run.inspection`.
        version: The version in a bucket, such as an ETag; empty elsewhere.
        run_id: The id of the run of notata that it lies in; empty if it lies in none.
        time: When it was recorded, ISO 8601.
        files: The number of files of a folder; None for a file.
        digest_from: ``manifest`` if the digest comes from the manifest of that run; empty if notata read the content.
        rank: The rank of the worker that recorded it; empty for the owner of the run.
    """

    url: str
    size: int | None = None
    sha256: str = ""
    version: str = ""
    run_id: str = ""
    time: str = ""
    files: int | None = None
    digest_from: str = ""
    rank: str = ""

    @property
    def run_url(self) -> str:
        """The location of the run that it lies in; empty if it lies in none.

        >>> Input("s3://b/outs/log_a/data/t.npy", run_id="a").run_url
        's3://b/outs/log_a'
        """
        before, folder, _ = f"{self.url}/".rpartition(f"/log_{self.run_id}/")
        return f"{before}{folder.rstrip('/')}" if self.run_id and folder else ""

    def record(self) -> dict[str, Any]:
        """Return its fields in inputs.json; those that are unknown are left out.

        >>> Input("/data/mesh.h5", 5, time="2026-03-01T09:30:00.250+01:00").record()
        {'url': '/data/mesh.h5', 'size': 5, 'time': '2026-03-01T09:30:00.250+01:00'}
        """
        names = ("url", "size", "files", "sha256", "digest_from", "version", "run_id", "time")
        return {name: value for name in names if (value := getattr(self, name)) not in ("", None)}

    def same(self, other: Input) -> bool:
        """Check whether two records are of the same input with the same content."""
        return replace(self, time="", rank="", digest_from="") == replace(other, time="", rank="", digest_from="")


def encoded(inputs: list[Input], *, more: bool = False) -> bytes:
    """Return the content of inputs.json.

    Args:
        inputs: The inputs, in the order in which they were recorded.
        more: Whether the run has more inputs than the file can hold.
    """
    fields = {"inputs": [one.record() for one in inputs], **({"more": True} if more else {})}
    return formats.encode(formats.Json("inputs"), fields)


def parsed(data: bytes, rank: str = "") -> list[Input]:
    """Return the inputs in an inputs.json; entries that are damaged are left out, as the file may be forged.

    Args:
        data: The content of the file.
        rank: The rank of the worker that it belongs to.

    >>> parsed(b'{"inputs": [{"url": "/data/mesh.h5", "size": 5}, {"url": 7}]}')[0].size
    5
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return []
    found = fields.get("inputs") if isinstance(fields, dict) else None
    entries = found[: limits.INPUTS_NUMBER] if isinstance(found, list) else []
    return [_parsed(entry, rank) for entry in entries if isinstance(entry, dict) and _text(entry.get("url"), _TEXT)]


def stored(store: Store, key: str = keys.INPUTS, rank: str = "") -> list[Input]:
    """Return the inputs in a file of a run; empty if there is no such file. One request.

    Raises:
        TooLargeError: The file exceeds its limit.
        StorageError: The file cannot be read.
    """
    try:
        found = store.fetch(key, 0, limits.INPUTS)
    except MissingError:
        return []
    limits.check_size(store.url, key, found.size, limits.INPUTS)
    return parsed(found.data, rank)


def _parsed(entry: Mapping[str, Any], rank: str) -> Input:
    digest = _text(entry.get("sha256"), _SHORT)
    return Input(
        _text(entry.get("url"), _TEXT),
        _count(entry.get("size")),
        digest if len(digest) == 64 and not set(digest) - set("0123456789abcdef") else "",
        _text(entry.get("version"), _SHORT),
        run_id if keys.is_run_id(run_id := _text(entry.get("run_id"), _SHORT)) else "",
        _text(entry.get("time"), _SHORT),
        _count(entry.get("files")),
        _text(entry.get("digest_from"), _SHORT),
        rank,
    )


def _text(value: object, most: int) -> str:
    return value if isinstance(value, str) and len(value) <= most else ""


def _count(value: object) -> int | None:
    found = number(value)
    return int(found) if found is not None and found >= 0 else None


class InputRecords:
    """The inputs of one writer of a run, each stored at once.

    Safe to use from many threads, and in processes that share a file: a change of another process is kept.

    Args:
        store: The store of the run.
        key: The file.
        new: Whether the file cannot exist yet.
    """

    def __init__(self, store: Store, key: str = keys.INPUTS, *, new: bool = False) -> None:
        self._store = store
        self._key = key
        self._lock = Lock()
        self._state: tuple[list[Input], str] | None = ([], ABSENT) if new else None

    def add(self, one: Input) -> bool:
        """Store an input, unless the same is there. One request; the first one of a resumed run or a worker takes two.

        Returns:
            False if the run has too many inputs to record this one.

        Raises:
            ConflictError: Other processes changed the file at every attempt.
            StorageError: The file cannot be stored.
        """
        with self._lock.held():
            for last in attempts(_TRIES):
                known, version = self._state or self._found()
                if any(one.same(other) for other in known):
                    self._state = known, version
                    return True
                data = encoded([*known, one])
                full = len(known) >= limits.INPUTS_NUMBER or len(data) > limits.INPUTS
                data = encoded(known, more=True) if full else data
                is_unsafe = version == ABSENT and not self._store.supports_exclusive_create  # then put would warn
                try:
                    version = self._store.put(self._key, data, None if is_unsafe else version)
                except (ConflictError, ExistsError):
                    self._state = None
                    if last:
                        raise
                    continue
                self._state = known if full else [*known, one], version
                return not full
        raise AssertionError("unreachable")

    def _found(self) -> tuple[list[Input], str]:
        """Return the inputs that are stored, and the version of the file."""
        try:
            found = self._store.fetch(self._key, 0, limits.INPUTS)
        except MissingError:
            return [], ABSENT
        return parsed(found.data), found.version
