"""What one look at a storage found, and what to do about it; it knows errors, and asks nothing."""

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

__all__ = ["ALONE", "GAP", "WRONG_KEY", "Check", "State", "advice_on", "clock_check"]

State: TypeAlias = Literal["yes", "poor", "no", "skipped", "info"]

WRONG_KEY: Final = "The access key or the secret is wrong, or of another store; see below where they come from."
"""Advice after which no further look tells more."""

_SKEWED: Final = 5.0  # seconds; times are told in whole ones, and a write takes some itself

_NEEDED: Final = {
    "list": ("s3:ListBucket", "storage.objects.list"),
    "read": ("s3:GetObject", "storage.objects.get"),
    "write": ("s3:PutObject", "storage.objects.create"),
    "claim": ("s3:PutObject", "storage.objects.create"),
    "swap": ("s3:PutObject", "storage.objects.update"),
    "append": ("s3:PutObject and s3:GetObject", "storage.objects.create and storage.objects.delete"),
    "delete": ("s3:DeleteObject", "storage.objects.delete"),
}

ALONE: Final = (
    "Two writers of one run id are not told apart there: give each run an id of its own, or use a storage with "
    "conditional writes."
)
"""What to do about a storage whose claims do not hold."""

GAP: Final = (
    "Read a run there once it has ended. Where others read it while it is written, write to a local disk with mirror=."
)
"""What to do about a storage that does not replace a file in one step."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one look at a storage found.

    Attributes:
        name: What was looked at, such as ``write`` or ``clock``.
        state: ``yes``; ``no``: runs cannot be kept there; ``poor``: they can, with a drawback; ``skipped``: nothing was
            tried; ``info``: nothing that could be right or wrong.
        told: What was found, in a line.
        advice: What to do about it; empty where there is nothing to do.
        value: As a number, where it is one: seconds, or bytes.
    """

    name: str
    state: State
    told: str
    advice: str = ""
    value: float | None = None


def advice_on(name: str, error: NotataError) -> str:
    """What to do about an error, in a sentence or two."""
    text = str(error)
    if "Skew" in text:
        return "The clock of this machine is wrong: set it, by NTP for instance."
    if any(word in text for word in ("certificate", "encrypted connection", "kind of request", "quota", "proxy asks")):
        return _own(text)
    if isinstance(error, ContainerMissingError):
        return "Create the bucket, or correct its name in the URL."
    if isinstance(error, UnreachableError):
        return "Check the address and port (endpoint_url, region), proxies and the network. Does the server run?"
    if isinstance(error, DeadlineError):
        return "Somebody may listen there who does not answer: check the address, firewalls and proxies; or try later."
    if isinstance(error, AccessError):
        if any(code in text for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch")):
            return WRONG_KEY
        aws, google = _NEEDED.get(name, ("that", "that"))
        return f"See below where credentials come from, and whether they allow it ({aws}; {google}; on a disk: modes)."
    if isinstance(error, FullError):
        return "Make room there, or choose another place."
    if isinstance(error, FolderError):
        return "Name a folder, or one that is yet to be made."
    return "Correct the URL or the storage options." if isinstance(error, ConfigurationError) else "Try again later."


def _own(text: str) -> str:
    """The advice that an error carries, behind what it says."""
    advice = text.partition("; ")[2]
    return f"{advice[:1].upper()}{advice[1:]}."


def clock_check(ahead: float) -> Check:
    """What a difference of clocks means."""
    if abs(ahead) <= _SKEWED:
        return Check("clock", "yes", "it agrees with that of this machine", value=round(ahead, 1))
    told = f"it is {duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} that of this machine"
    return Check(
        "clock", "poor", told, "Set the clock that is wrong. S3 refuses who is 15 minutes off.", round(ahead, 1)
    )
