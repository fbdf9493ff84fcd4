"""What a store tells of a file, listed or read; it knows no store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Blob", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file, as a listing tells it.

    Attributes:
        key: Relative to the store's root.
        size: In bytes.
        modified: When it was last written, with a time zone.
        version: Changes with each write: an ETag on S3, a generation on GCS. For `Store.replace`.
    """

    key: str
    size: int
    modified: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes as read, or a range of them, with the whole file's size and version.

    Attributes:
        data: What was asked for.
        size: Of the whole file, in bytes.
        version: For `Store.replace`.
        age: Seconds since the file was written, by the storage's own clock; None where it does not tell.
    """

    data: bytes
    size: int
    version: str
    age: float | None = None
