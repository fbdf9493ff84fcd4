"""Results of storage checks, and advice on errors; this module sends no requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from notata._base.display import duration
from notata.errors import (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    DeadlineError,
    FolderError,
    FullError,
    NotataError,
    UnreachableError,
)

__all__ = ["READ_AFTER_END", "USE_UNIQUE_IDS", "WRONG_KEY", "Check", "State", "advice_on", "clock_check"]

State: TypeAlias = Literal["yes", "poor", "no", "skipped", "info"]

WRONG_KEY: Final = "The access key or the secret is wrong, or belongs to another store. See below where they come from."
"""Advice after which further checks are useless."""

_SKEWED: Final = 5.0  # seconds; stored times have a resolution of a second, and a write takes time itself

_PERMISSIONS: Final = {
    "list": ("s3:ListBucket", "storage.objects.list"),
    "distance": ("s3:ListBucket", "storage.objects.list"),
    "read": ("s3:GetObject", "storage.objects.get"),
    "write": ("s3:PutObject", "storage.objects.create"),
    "clock": ("s3:PutObject", "storage.objects.create"),
    "claim": ("s3:PutObject", "storage.objects.create"),
    "swap": ("s3:PutObject", "storage.objects.update"),
    "append": ("s3:PutObject and s3:GetObject", "storage.objects.create and storage.objects.delete"),
    "delete": ("s3:DeleteObject", "storage.objects.delete"),
}

USE_UNIQUE_IDS: Final = (
    "The storage cannot keep two writers of one run id apart: give each run its own id, or use a storage with "
    "conditional writes."
)
"""Advice for a storage on which two writers can claim the same run."""

READ_AFTER_END: Final = (
    "Read a run there only after it has ended. To read it while it is being written, write to a local disk with "
    "mirror=."
)
"""Advice for a storage that does not replace a file atomically."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check of a storage.

    Attributes:
        name: The name of the check, such as ``write`` or ``clock``.
        state: ``yes``: it works; ``no``: runs cannot be kept there; ``poor``: it works with a drawback; ``skipped``: it
            was not tried; ``info``: a fact that is neither right nor wrong.
        told: The result, in one line.
        advice: What to do about it; empty if there is nothing to do.
        value: The result as a number, if there is one: seconds, or bytes.
    """

    name: str
    state: State
    told: str
    advice: str = ""
    value: float | None = None


def advice_on(name: str, error: NotataError) -> str:
    """Return advice on an error, in a sentence or two."""
    text = str(error)
    if "Skew" in text:
        return "The clock of this machine is wrong: set it, for instance with NTP."
    if any(word in text for word in ("certificate", "encrypted connection", "kind of request", "quota", "proxy asks")):
        return _advice_in(text)
    if isinstance(error, ContainerMissingError):
        return "Create the bucket, or correct its name in the URL."
    if isinstance(error, UnreachableError):
        return "Check the address and port (endpoint_url, region), proxies and the network. Is the server running?"
    if isinstance(error, DeadlineError):
        return "The server does not answer: check the address, firewalls and proxies, or try again later."
    if isinstance(error, AccessError):
        if any(code in text for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch")):
            return WRONG_KEY
        needed = "; ".join((*_PERMISSIONS.get(name, ()), "on a disk: modes"))
        return f"See below where credentials come from, and whether they allow it ({needed})."
    if isinstance(error, FullError):
        return "Free some space there, or choose another place."
    if isinstance(error, FolderError):
        return "Pass a folder, which need not exist yet."
    return "Correct the URL or the storage options." if isinstance(error, ConfigurationError) else "Try again later."


def _advice_in(text: str) -> str:
    """Return the advice at the end of an error message."""
    advice = text.partition("; ")[2]
    return f"{advice[:1].upper()}{advice[1:]}."


def clock_check(ahead: float) -> Check:
    """Return the check result for a difference between clocks."""
    if abs(ahead) <= _SKEWED:
        return Check("clock", "yes", "it agrees with the clock of this machine", value=round(ahead, 1))
    message = f"it is {duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the clock of this machine"
    return Check(
        "clock",
        "poor",
        message,
        "Correct the clock that is wrong. S3 refuses clocks that are off by 15 minutes.",
        round(ahead, 1),
    )
