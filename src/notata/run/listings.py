"""Find the runs in a listing, and the files of each run. No requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from notata._base import keys
from notata.store import Entry
from notata.store.outlines import Outline

__all__ = ["inside", "name_of", "orphans_in", "outline_of_runs", "runs_in", "split"]

_SIGN: Final = r"(?:log\.txt|params\.(?:yaml|json))\Z|artifacts/"
_OF_A_RUN: Final = re.compile(rf"(?P<folder>)(?:{_SIGN})")
_OF_A_RUN_BELOW: Final = re.compile(rf"(?P<folder>(?:[^/]+/)*?log_[^/]+)/(?:{_SIGN})")


def outline_of_runs() -> Outline:
    """Return the outline of the runs of experiments that shows whether their rows in an index are current."""
    return Outline(keys.RUNS, "log_", (keys.METADATA, keys.METRICS))


def runs_in(
    entries: Mapping[str, Entry], *, root: str = "", lost: bool = False
) -> tuple[dict[str, dict[str, Entry]], dict[str, Entry]]:
    """Return the outermost runs in a listing, each with its files by key in the run, and the other files.

    Args:
        entries: The files, by key.
        root: The name of the listed folder. If it begins with ``log_``, it can be a run itself, with the key ``""``.
        lost: Include runs without metadata.json that have a manifest.

    >>> from notata.store import open_store
    >>> store = open_store("memory://listings")
    >>> store.write_many({"a/log_x/metadata.json": b"", "a/log_x/artifacts/log_y/metadata.json": b"", "b.txt": b""})
    >>> runs, others = runs_in({entry.key: entry for entry in store.list()})
    >>> list(runs), list(others)
    (['a/log_x'], ['b.txt'])
    """
    signs = (keys.METADATA, keys.MANIFEST) if lost else (keys.METADATA,)
    folders: set[str] = set()
    for sign in signs:
        for key in sorted((key for key in entries if key.rpartition("/")[2] == sign), key=len):
            folder = key[: -len(sign) - 1]
            if (name_of(folder) if folder else root).startswith("log_") and inside(key, folders) is None:
                folders.add(folder)
    parts = split(entries, folders)
    found = {keys.join(folder, key) for folder, files in parts.items() for key in files}
    return {folder: parts[folder] for folder in sorted(folders)}, {k: e for k, e in entries.items() if k not in found}


def orphans_in(
    entries: Mapping[str, Entry], runs: Mapping[str, object], *, root: str = ""
) -> dict[str, dict[str, Entry]]:
    """Return folders ``log_…`` outside of `runs` that contain files of a run but no metadata.json, with their files.

    They remain if a run is moved or deleted while a writer still saves files.

    >>> from notata.store import open_store
    >>> store = open_store("memory://orphans")
    >>> store.write_many({"log_x/log.txt": b"", "log_y/notes.txt": b"", "log_z/artifacts/a.txt": b""})
    >>> list(orphans_in({entry.key: entry for entry in store.list()}, {}))
    ['log_x', 'log_z']
    """
    sign = _OF_A_RUN if root.startswith("log_") else _OF_A_RUN_BELOW
    found = (sign.match(key) for key in entries if inside(key, runs) is None)
    return split(entries, dict.fromkeys(match["folder"] for match in found if match))


def split(entries: Mapping[str, Entry], folders: Iterable[str]) -> dict[str, dict[str, Entry]]:
    """Return the files below each of these folders, by key in the folder. The folders must not be nested."""
    parts: dict[str, dict[str, Entry]] = {folder: {} for folder in folders}
    for key, entry in entries.items():
        if (folder := inside(key, parts)) is not None:
            inner = key[len(folder) + 1 :] if folder else key
            parts[folder][inner] = Entry(inner, entry.size, entry.modified, entry.version, entry.digest)
    return parts


def inside(key: str, folders: Iterable[str]) -> str | None:
    """Return the folder that contains a key; None if none does.

    >>> inside("a/log_x/log.txt", {"a/log_x", "log_y"})
    'a/log_x'
    """
    folders = folders if isinstance(folders, set | dict) else set(folders)
    if "" in folders:
        return ""
    at = key.find("/")
    while at > 0:
        if key[:at] in folders:
            return key[:at]
        at = key.find("/", at + 1)
    return None


def name_of(url: str) -> str:
    """Return the last part of a path or URL.

    >>> name_of("s3://bucket/outputs/log_a/")
    'log_a'
    """
    return url.rstrip("/").rpartition("/")[2]
