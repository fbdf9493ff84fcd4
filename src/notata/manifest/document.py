"""Encode and parse manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from notata._base import keys, limits
from notata._base.times import moment

__all__ = ["Document", "Receipt", "is_receipted", "mark"]

_OWN: Final = (keys.MANIFEST, keys.METADATA)
_AT_ONCE: Final = 2**20  # bytes of JSON parsed at once; they take up to 30 times as much memory
_END: Final = b"\n}}\n"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The size, hash and version of a file.

    Attributes:
        size: The size in bytes.
        sha256: The digest; empty if it is unknown.
        version: The version in the storage, see `Entry.version`; empty if there is none.
    """

    size: int
    sha256: bytes = b""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a manifest.

    Attributes:
        run_id: The id of the run.
        owner: The logbook that wrote it: the first characters of ``lease.owner`` in metadata.json.
        created: The time before the files were checked, with a time zone.
        files: The receipt of each file, by key.
    """

    run_id: str
    owner: str
    created: datetime
    files: Mapping[str, Receipt] = field(default_factory=dict)

    def encode(self, version_name: str = "") -> bytes:
        r"""Return the content of manifest.json in UTF-8, with one line for each file.

        Args:
            version_name: The field for versions, such as ``etag`` or ``generation``; they are left out if it is empty.

        >>> moment = datetime.fromisoformat("2026-03-01T09:30:00.250+01:00")
        >>> text = Document("a", "5a1f0c4b", moment, {"x.txt": Receipt(3, bytes(32), '"9f"')}).encode("etag")
        >>> print(text.decode().replace("0" * 64, "00…"), end="")
        {"run_id": "a", "owner": "5a1f0c4b", "created": "2026-03-01T09:30:00.250+01:00", "files": {
        "x.txt": {"size": 3, "sha256": "00…", "etag": "9f"}
        }}
        """
        head = {"run_id": self.run_id, "owner": self.owner, "created": self.created.isoformat(timespec="milliseconds")}
        lines = ",\n".join(_line(key, receipt, version_name) for key, receipt in sorted(self.files.items()))
        text = f'{json.dumps(head, ensure_ascii=False)[:-1]}, "files": {{\n{lines}{lines and chr(10)}}}}}\n'
        return text.encode("utf-8")

    @classmethod
    def parse(cls, data: bytes) -> Document:
        """Parse a manifest.json.

        Raises:
            ValueError: The data is not a valid manifest.
        """
        try:
            found, files = _parsed(data)
            if (created := moment(found["created"])) is None:
                raise ValueError(f"it is not a manifest: {found['created']!r:.100} is not a time")
            return cls(str(found["run_id"]), str(found["owner"]), created, files)
        except (LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError(f"it is not a manifest: {error!r}") from error

    @classmethod
    def parse_undamaged(cls, data: bytes) -> Document | None:
        """Parse a manifest.json; return None if it is damaged, as its files can be read or listed instead."""
        try:
            return cls.parse(data)
        except ValueError:
            return None


def _parsed(data: bytes) -> tuple[dict[str, Any], dict[str, Receipt]]:
    """Return the fields of a manifest, and the receipts of its files."""
    if len(data) <= _AT_ONCE:
        found = json.loads(data)
        return found, {key: _receipt(entry) for key, entry in found["files"].items()}
    start = data.find(b"\n", 0, _AT_ONCE) + 1
    if not start or not data.endswith(_END):
        raise ValueError(f"it is {len(data):,} bytes long, but does not have one line for each file")
    files: dict[str, Receipt] = {}
    last = len(data) - len(_END)
    while start < last:
        end = last if last - start <= _AT_ONCE else data.rfind(b"\n", start, start + _AT_ONCE)
        if end < start:
            raise ValueError(f"it has a line of more than {_AT_ONCE:,} bytes")
        lines = json.loads(b"{%s}" % data[start:end].rstrip(b",\n"))
        files |= {key: _receipt(entry) for key, entry in lines.items()}
        if len(files) > limits.MANIFEST_FILES:
            raise ValueError(f"it has more than {limits.MANIFEST_FILES:,} files")
        start = end + 1
    return json.loads(data[: data.find(b"\n")] + b"}}"), files


def _line(key: str, receipt: Receipt, version_name: str) -> str:
    digest = f', "sha256": "{receipt.sha256.hex()}"' if receipt.sha256 else ""
    version = f', "{version_name}": {json.dumps(mark(receipt.version))}' if version_name and receipt.version else ""
    return f'{_quoted(key)}: {{"size": {receipt.size}{digest}{version}}}'


def _quoted(key: str) -> str:
    """Return a key as a JSON string, escaped if UTF-8 cannot encode the name of a file of another program."""
    if key.isascii():
        return encode_basestring_ascii(key)
    return json.dumps(key, ensure_ascii=any("\ud800" <= character <= "\udfff" for character in key))


def _receipt(entry: Mapping[str, Any]) -> Receipt:
    digest = bytes.fromhex(entry.get("sha256", ""))
    if len(digest) not in (0, 32) or not isinstance(entry["size"], int):
        raise ValueError(f"{entry!r} is not the size and SHA-256 of a file")
    return Receipt(entry["size"], digest, str(entry.get("etag") or entry.get("generation") or ""))


def mark(version: str) -> str:
    """Return a version as in a manifest: an ETag without quotes."""
    return version.strip('"')


def is_receipted(key: str) -> bool:
    """Check whether a manifest includes this file: not itself, and not metadata.json, which is stored after it."""
    own = key.endswith(_OWN) and (key == keys.METADATA or keys.is_manifest(key))
    return not own and not keys.is_reserved(key)
