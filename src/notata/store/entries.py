"""Results of a store: an entry of a listing, and the bytes of a read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Blob", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file, as in a listing.

    Attributes:
        key: Relative to the store's root.
        size: In bytes.
        modified: Time of the last write, with a time zone.
        version: Changes with each write: an ETag on S3, a generation on GCS. For `Store.replace`.
        digest: Digest of the content that the listing reports, or empty: ``md5:<hex>``; ``crc32c:<hex>``;
            ``md5-parts:<hex>-<parts>``, an MD5 of the MD5s of its parts. An encrypted S3 object may report another
            value in this form. So equal digests prove equal content, but different digests prove nothing.
    """

    key: str
    size: int
    modified: datetime
    version: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of a file or of a range of it, with the whole file's size and version.

    Attributes:
        data: The requested bytes.
        size: Of the whole file, in bytes.
        version: For `Store.replace`.
        age: Seconds since the file was written, by the storage's own clock; None if the storage does not report it.
    """

    data: bytes
    size: int
    version: str
    age: float | None = None
