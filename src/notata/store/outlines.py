"""Outlines of folders: a listing looks at a few of their files, and not at the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from notata.store.entries import Entry

__all__ = ["Outline"]


@dataclass(frozen=True, slots=True)
class Outline:
    """The folders of which a listing needs only some files, so that it makes a few calls for each of them.

    Only a local disk has outlines; other storages list all files. A folder without the first of the files is
    listed whole, and so is one below another folder with the prefix.

    Attributes:
        parent: The name of the folder that these folders are in.
        prefix: The beginning of their names.
        files: Keys in such a folder.
        found: The folders that a listing has left out, each with those of the files that exist, by key in the folder.
    """

    parent: str
    prefix: str
    files: tuple[str, ...]
    found: dict[str, dict[str, Entry]] = field(default_factory=dict, compare=False)
