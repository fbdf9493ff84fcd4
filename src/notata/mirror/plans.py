"""The plan of the copy of a run: what it may replace, what it stores first, and in which order. No requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from notata._base import keys
from notata._base.times import moment
from notata.formats import Json, encode
from notata.mirror.files import Pair
from notata.run.state import COPIED, ENDED, PINNED, RESUMES, is_pinned, lease_of, parsed
from notata.store import Blob, Entry

__all__ = [
    "Metadata",
    "being_copied",
    "first_metadata",
    "is_another_run",
    "is_being_replaced",
    "only_there",
    "phases",
    "why_ahead",
    "with_pin",
]


@dataclass(frozen=True, slots=True)
class Metadata:
    """A metadata.json.

    Attributes:
        data: Its content.
        version: Its version in the storage.
        fields: The fields; None if it is not a JSON object.
    """

    data: bytes
    version: str
    fields: Mapping[str, Any] | None

    @classmethod
    def of(cls, found: Blob) -> Metadata:
        """Return the metadata.json that was read."""
        return cls(found.data, found.version, parsed(found.data))

    def get(self, name: str) -> Any:
        """Return a field; None if it is missing."""
        return (self.fields or {}).get(name)

    @property
    def has_ended(self) -> bool:
        """True if it says that the run has ended."""
        return self.get("status") in ENDED

    @property
    def is_pinned(self) -> bool:
        """True if it protects the run from removal."""
        return is_pinned(self.fields or {})

    @property
    def attempt(self) -> tuple[object, object]:
        """The identity of the run and of its attempt."""
        return (self.get("start_time"), lease_of(self.fields or {}).get("owner"))


def is_another_run(here: Metadata, there: Metadata) -> bool:
    """Check whether the target has another run than the source, or what may be one."""
    return here.fields is None or there.fields is None or here.get("start_time") != there.get("start_time")


def with_pin(here: Metadata, there: Metadata | None) -> Metadata:
    """Return the source's metadata.json with the pin of the target, if the source says nothing about pins.

    So a copy that the user has pinned stays pinned. `notata unpin` stores false, which is copied like any other value.
    """
    if there is None or not there.is_pinned or is_another_run(here, there) or PINNED in (here.fields or {}):
        return here
    fields = {**(here.fields or {}), PINNED: there.get(PINNED)}
    return Metadata(encode(Json("metadata"), fields), here.version, fields)


def is_being_replaced(there: Metadata) -> bool:
    """Check whether the removal of another run at the target was interrupted."""
    return (there.get("status"), there.get(COPIED)) == ("replacing", "over")


def why_ahead(here: Metadata, there: Metadata) -> str:
    """Return why the copy of a run is ahead of it; empty if it is not."""
    times, copied = _times(here), _times(there)
    if copied > times:
        return f"the run was resumed there ({copied} times, and {times} here)"
    if copied < times or there.get("status") == "replacing":
        return ""
    if there.has_ended and not here.has_ended:
        return f"the run is {there.get('status')} there, and {here.get('status')} here"
    ours, theirs = lease_of(here.fields or {}), lease_of(there.fields or {})
    if ours.get("owner") == theirs.get("owner"):
        begun, later = moment(ours.get("beat")), moment(theirs.get("beat"))
        if begun is not None and later is not None and later > begun:
            return f"it has a later sign of life ({theirs['beat']}, and {ours['beat']} here)"
    return ""


def _times(metadata: Metadata) -> int:
    resumes = metadata.get(RESUMES)
    return len(resumes) if isinstance(resumes, list) else 0


def first_metadata(here: Metadata, there: Metadata | None, *, replaces: bool, copies: bool) -> bytes | None:
    """Return the metadata.json that the target gets before all other files; None if it keeps its own until the end.

    It claims an empty target. It never says that the run has ended, as files are about to change. While another run is
    replaced, it says so, and an interrupted copy is continued by the next one.

    Args:
        here: That of the source.
        there: That of the target.
        replaces: Whether the target has another run, which is replaced.
        copies: Whether there are files to copy.
    """
    if replaces:
        return being_copied(here, "over")
    if here.fields is None:
        return None
    wrong_end = there is not None and copies and there.data != here.data and there.has_ended
    if there is not None and not wrong_end:
        return None
    return being_copied(here, "new") if here.has_ended else here.data


def being_copied(metadata: Metadata, how: str) -> bytes:
    """Return a metadata.json that says that the run is being copied."""
    return json.dumps({**(metadata.fields or {}), "status": "replacing", COPIED: how}, indent=2).encode()


def phases(pairs: Mapping[str, Pair]) -> Iterator[dict[str, Pair]]:
    """Yield the files in the order of copying: logs after the files that they mention, and manifests last."""
    ranks = {key: _rank(key) for key in pairs}
    for rank in sorted(set(ranks.values())):
        yield {key: pair for key, pair in pairs.items() if ranks[key] == rank}


def _rank(key: str) -> int:
    if keys.is_manifest(key):
        return 3
    if keys.is_growing(key):
        return 2
    return 1 if key in (keys.PARAMS_JSON, keys.PARAMS_YAML) else 0


def only_there(there: Mapping[str, Entry], here: Mapping[str, Entry]) -> dict[str, int]:
    """Return the files of the target that the source does not have, with their sizes."""
    return {key: entry.size for key, entry in there.items() if key not in here and key != keys.METADATA}
