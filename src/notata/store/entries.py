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
        digest: What the listing tells of the content, empty where it tells nothing: ``md5:<hex>``; ``crc32c:<hex>``;
            ``md5-parts:<hex>-<parts>``, an MD5 of the MD5s of its parts. An encrypted S3 object may show another value
            in this form, so what differs proves nothing; what is equal proves that the content is.
    """

    key: str
    size: int
    modified: datetime
    version: str
    digest: str = ""


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
