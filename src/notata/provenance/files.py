"""Read files of a checkout that another program may change, and keep secrets out of them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from notata._base.secrets import is_secret_name, redacted

__all__ = ["Budget", "digest_of", "has_secrets", "is_secret_file", "read_regular"]

_PIECE: Final = 2**20
_ENCODINGS: Final = ("utf-8", "utf-16-le", "utf-16-be")
_SECRET_SUFFIXES: Final = frozenset({
    ".env", ".jks", ".key", ".keystore", ".kdbx", ".p12", ".pem", ".pfx", ".ppk",
})  # fmt: skip
_SECRET_NAMES: Final = frozenset({
    ".git-credentials", ".htpasswd", ".netrc", ".npmrc", ".pgpass", ".pypirc", "_netrc", "id_dsa", "id_ecdsa",
    "id_ed25519", "id_rsa",
})  # fmt: skip


@dataclass(slots=True)
class Budget:
    """The bytes that may still be read, until a time on the monotonic clock."""

    bytes: int
    until: float

    def allows(self, size: int) -> bool:
        """Check whether a file of this size may be read."""
        return size <= self.bytes and time.monotonic() < self.until


def is_secret_file(path: str) -> bool:
    """Check whether the name of a file says that its content is secret.

    >>> is_secret_file("conf/.env"), is_secret_file("conf/.env.local"), is_secret_file("solver.py")
    (True, True, False)
    """
    name = PurePosixPath(path).name
    low = name.lower()
    return (
        low in _SECRET_NAMES
        or low.startswith(".env")
        or PurePosixPath(low).suffix in _SECRET_SUFFIXES
        or is_secret_name(name.partition(".")[0])
    )


def read_regular(path: str, most: int) -> bytes | None:
    """Return the content of a regular file; None if it is none, has more bytes than `most`, or cannot be read.

    Links, pipes and devices are not opened, so that nothing outside of a checkout is read and nothing blocks.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb", opener=_opened) as file:
            data = file.read(most + 1)
    except (OSError, ValueError):
        return None
    return data if len(data) <= most else None


def digest_of(path: str, size: int, budget: Budget) -> str:
    """Return the SHA-256 of a regular file; empty if the budget does not allow it, or the file cannot be read.

    The digest is that of the bytes that were read, if the file changes meanwhile: it is empty if their number is not
    `size`.
    """
    if not budget.allows(size):
        return ""
    found, left = hashlib.sha256(), size + 1
    try:
        with open(path, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            while left and (piece := file.read(min(_PIECE, left))):
                found.update(piece)
                left -= len(piece)
                budget.bytes -= len(piece)
                if time.monotonic() > budget.until:
                    return ""
    except (OSError, ValueError):
        return ""
    return found.hexdigest() if left == 1 else ""


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def has_secrets(data: bytes) -> bool:
    """Check whether bytes have text that would be redacted, in UTF-8 or UTF-16.

    >>> has_secrets(b'password = "hunter2"'), has_secrets(bytes(100))
    (True, False)
    """
    texts = (data.decode(encoding, "replace") for encoding in _ENCODINGS)
    return any(redacted(text) != text for text in texts)
