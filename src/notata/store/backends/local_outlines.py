"""Outlines of folders on a local disk: two or three calls for each of them, however many files it has."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from notata._base import keys
from notata.store.backends.local_folders import Folder, LinkMetError
from notata.store.backends.local_staged import entry_of
from notata.store.outlines import Outline

__all__ = ["Group", "grouped", "look_up"]


@dataclass(frozen=True, slots=True)
class Group:
    """Folders beside each other that an outline describes.

    Attributes:
        key: The key of the folder that they are in.
        names: Their names, in order.
        outline: The outline.
    """

    key: str
    names: list[str]
    outline: Outline


def grouped(key: str, names: list[str], outline: Outline | None) -> list[str | Group]:
    """Return the keys of the folders in a folder, in order; those that an outline describes are one `Group`.

    Args:
        key: The key of the folder.
        names: The names of the folders in it, in order. So names with the same beginning are neighbours.
        outline: The outline, if there is one.
    """
    is_within = outline is not None and key.rpartition("/")[2] == outline.parent
    if outline is None or not is_within or f"/{outline.prefix}" in f"/{key}" or keys.is_reserved(key):
        return [keys.join(key, name) for name in names]
    found: list[str | Group] = []
    group = Group(key, [], outline)
    for name in names:
        if name.startswith(outline.prefix):
            group.names.append(name)
            if len(group.names) > 1:
                continue
        found.append(group if name.startswith(outline.prefix) else keys.join(key, name))
    return found


def look_up(folder: Folder, group: Group, *, follow: bool) -> list[str]:
    """Add the folders of a group to those that its outline has found; return the keys of the others.

    Args:
        folder: The open folder of the group.
        group: The group.
        follow: Follow links to files.
    """
    others = []
    found, files = group.outline.found, group.outline.files
    for name in group.names:
        inside = keys.join(group.key, name)
        try:
            there = {key: entry_of(key, state) for key in files if (state := _state(folder, name, key, follow))}
        except OSError:  # the listing of the whole folder says why
            there = {}
        if files[0] in there:
            found[inside] = there
        else:
            others.append(inside)
    return others


def _state(folder: Folder, name: str, key: str, follow: bool) -> os.stat_result | None:
    """Return the status of a regular file in a folder of a folder; None if there is none, or it is in a link."""
    try:
        state = folder.stat(f"{name}/{key}", follow=follow)
        above = key.rpartition("/")[0]
        while above:
            folder.stat(f"{name}/{above}")
            above = above.rpartition("/")[0]
    except (FileNotFoundError, NotADirectoryError, LinkMetError):
        return None
    return state if stat.S_ISREG(state.st_mode) else None
