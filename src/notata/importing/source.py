"""Common parts of the importers: a run found in a source, what it says about itself, and bounded reads."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from notata._base import display
from notata._base.terminal import quoted
from notata.errors import DecodeError, MissingError, TooLargeError
from notata.formats.yaml_loader import load
from notata.store import Entry, Location, Store, open_store

if TYPE_CHECKING:
    from notata.importing.facts import Facts
    from notata.importing.writer import RunWriter

__all__ = [
    "SMALL",
    "Failed",
    "FolderSource",
    "FoundRun",
    "Source",
    "checked_text",
    "json_of",
    "listed",
    "mark_of",
    "milliseconds",
    "moment_of",
    "number_or_text",
    "read_small",
    "yaml_of",
]

SMALL: Final = 64 * 2**20
"""Bytes of a file that an importer reads whole. Larger files are copied or read in pieces, or are an error."""

_VALUES: Final = 2_000_000  # values of a YAML file of another tool

Failed: TypeAlias = "Callable[[Exception], object]"


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run of a source that can be imported.

    Attributes:
        source_id: Its id in the source.
        run_id: The same as a run id of notata.
        experiment: The folder of its experiment below the destination; empty for the destination itself.
        path: Where it is in the source.
        mark: A checksum of the names, sizes and versions of its files, which shows whether it has changed.
        read: Passes its values and files to a writer, and returns the rest.
    """

    source_id: str
    run_id: str
    experiment: str
    path: str
    mark: str
    read: Callable[[RunWriter], Facts]


class Source(Protocol):
    """A reader of what one tool left on a disk or in a bucket.

    Attributes:
        url: Where it is, without credentials.
    """

    url: str

    @property
    def places(self) -> Sequence[Store]:
        """The folders that are read; no run may be written into them."""
        ...

    def find(self, failed: Failed) -> Iterable[FoundRun]:
        """Yield the runs; `failed` is called with the error of each one that cannot be read."""
        ...


class FolderSource(ABC):
    """A source that is one folder: the part of a `Source` that the formats share.

    Args:
        store: The folder.
    """

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self.store = store

    @classmethod
    def at(cls, source: Location, options: Mapping[str, Any] | None, *, deleted: bool, runs_url: str) -> Source:
        """Return the source of a folder. No request."""
        return cls(open_store(source, options))

    @property
    def places(self) -> list[Store]:
        """The folder."""
        return [self.store]

    @abstractmethod
    def find(self, failed: Failed) -> Iterable[FoundRun]:
        """Yield the runs."""


# -- bounded reads -----------------------------------------------------------------------------------------


def listed(store: Store, skipped: Failed) -> dict[str, Entry]:
    """Return all files of a source by key. One request for 1000 files.

    Raises:
        MissingError: There is no file.
    """
    found = {entry.key: entry for entry in store.list(skipped=skipped)}
    if not found:
        raise MissingError(f"there is no file at {store.url}; check the path", url=store.url)
    return found


def mark_of(entries: Iterable[Entry]) -> str:
    """Return a checksum of names, sizes, and digests or times of files."""
    state = sha256()
    for entry in sorted(entries, key=lambda entry: entry.key):
        state.update(f"{entry.key}\0{entry.size}\0{entry.digest or entry.modified.isoformat()}\n".encode())
    return state.hexdigest()[:32]


def read_small(store: Store, entry: Entry, limit: int = SMALL) -> bytes:
    """Return the content of a file.

    Raises:
        TooLargeError: It has more bytes than `limit`.
    """
    if entry.size <= limit:
        found = store.fetch(entry.key, 0, limit + 1)
        if found.size <= limit:
            return found.data
        entry = Entry(entry.key, found.size, entry.modified, entry.version)
    raise TooLargeError(
        f"cannot import {store.url}/{entry.key}: its size is {display.size(entry.size)}, and the limit for this file "
        f"is {display.size(limit)}",
        url=store.url,
        key=entry.key,
    )


def json_of(data: bytes, name: str) -> Any:
    """Return the value of a JSON file; NaN and Infinity are allowed.

    Raises:
        DecodeError: It is no JSON, or nested too deeply.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"cannot read {name}: it is not JSON ({error!s:.200})") from error


def yaml_of(data: bytes, name: str) -> Any:
    """Return the value of a YAML file; aliases, merges and the number of values are limited.

    Raises:
        DecodeError: It is no YAML, or stands for too many values.
    """
    try:
        return load(data, _VALUES)
    except DecodeError:
        raise
    except Exception as error:  # of PyYAML, and RecursionError
        raise DecodeError(f"cannot read {name}: it is not YAML ({error!s:.200})") from error


# -- values ------------------------------------------------------------------------------------------------


def checked_text(value: object, most: int = 10_000) -> str:
    """Return a value as text of at most `most` characters; empty for None."""
    text = "" if value is None else value if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def milliseconds(value: object) -> float | None:
    """Return Unix milliseconds as seconds; None if they are no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value / 1000 if 0 < value < 1e14 else None


def moment_of(text: object) -> float | None:
    """Return an ISO 8601 time as Unix seconds; one without a zone is UTC. None if it is no time."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        if found is None:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def number_or_text(text: str) -> Any:
    """Return the number, boolean or None that Python writes as exactly this text, else the text.

    So a parameter that a tool stores as text is a number again, and the text can be made from it.

    >>> [number_or_text(text) for text in ("0.1", "3", "1e-3", "True", "None", "01", "nan")]
    [0.1, 3, '1e-3', True, None, '01', nan]
    """
    if len(text) > 400:
        return text
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text


_WORDS: Final[Mapping[str, Any]] = {"True": True, "False": False, "None": None}


def no_run(store: Store, tool: str, looked_for: str) -> MissingError:
    """Return the error for a source without a run."""
    return MissingError(
        f"there is no {tool} run at {quoted(store.url)}: no {looked_for} was found. Name the folder that {tool} writes",
        url=store.url,
    )
