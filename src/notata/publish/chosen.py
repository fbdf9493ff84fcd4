"""The runs of a crate: which are published, in which folder of the crate, and with which of their files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from notata._base import keys
from notata._base.display import listed
from notata.errors import ConfigurationError, MissingError, StorageError
from notata.formats.plain import utf8
from notata.manifest import Document
from notata.manifest.document import Receipt, is_receipted
from notata.manifest.trust import is_of_run
from notata.publish.private import without_names
from notata.run.state import ENDED, lease_of
from notata.search.places import Run
from notata.search.target import matched_by
from notata.store import Entry

__all__ = ["ChosenRun", "Patterns", "chosen"]

_NAMED: Final = 5


class Patterns:
    """Patterns of files: a name, a folder, or a pattern of those; without a slash, in any folder.

    >>> kept = Patterns(["*.npy", "artifacts"], ["artifacts/debug"])
    >>> [kept(key) for key in ("data/t.npy", "artifacts/a.txt", "artifacts/debug/b.txt", "log.txt")]
    [True, True, False, False]
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [*map(_matching, include)]
        self._exclude = [*map(_matching, exclude)]

    def __call__(self, key: str) -> bool:
        if self._include and not any(matches(key) for matches in self._include):
            return False
        return not any(matches(key) for matches in self._exclude)


def _matching(pattern: str) -> Callable[[str], str | None]:
    pattern = pattern.strip("/")
    return matched_by(pattern if "/" in pattern else f"**/{pattern}")


@dataclass(frozen=True, slots=True)
class ChosenRun:
    """A run that is published.

    Attributes:
        folder: Its folder in the crate.
        run: The run as it is published: without names of machines and users, unless these are published.
        origin: The run as it was found.
        entries: The files to publish, by key.
        receipts: The receipts of its manifest, if that is trusted.
        missing: Keys of files of its manifest that do not exist.
        metadata: The content of metadata.json if it differs from that of the run.
    """

    folder: str
    run: Run
    origin: Run
    entries: Mapping[str, Entry]
    receipts: Mapping[str, Receipt]
    missing: tuple[str, ...] = ()
    metadata: bytes | None = None


def chosen(
    runs: Sequence[Run], kept: Patterns, *, with_host: bool, force: bool, note: Callable[[str], object]
) -> list[ChosenRun]:
    """Return the runs of a crate, with their files.

    Args:
        runs: The runs, with metadata and files.
        kept: Decides which files are published.
        with_host: Publish the names of machines and users.
        force: Publish runs that have not ended, too.
        note: Called with sentences about runs that cannot be verified.

    Cost: one read for each manifest.

    Raises:
        ConfigurationError: A run has not ended, or cannot be read.
    """
    _check_states(runs, force=force, note=note)
    found = [_chosen(run, folder, kept, with_host=with_host) for run, folder in zip(runs, _folders(runs), strict=True)]
    unverified = [one.origin.name for one in found if not one.receipts and one.run.status in ENDED]
    if unverified:
        note(
            "These runs have no manifest, so the digests are those of the files as they are now: "
            f"{listed(unverified, _NAMED)}"
        )
    links = [f"{run.name}/{name}" for run in runs for name in run.store.irregular() if not keys.is_reserved(name)]
    if links:
        note(f"Not published, because they are links or not regular files: {listed(links, _NAMED)}")
    return found


def _check_states(runs: Sequence[Run], *, force: bool, note: Callable[[str], object]) -> None:
    unreadable = [run.name for run in runs if run.status in ("unreadable", "replacing", "")]
    if unreadable:
        raise ConfigurationError(
            f"cannot publish {listed(unreadable, _NAMED)}: a run whose metadata.json cannot be read, or that is being "
            "replaced, cannot be described; choose other runs"
        )
    others = [f"{run.name} ({run.shown_status})" for run in runs if run.status not in ENDED]
    if others and not force:
        raise ConfigurationError(
            f"cannot publish {listed(others, _NAMED)}: it has not ended, so its files may change or be incomplete. "
            "Wait until it has ended, select complete runs with status='complete' (--status complete), or pass "
            "force=True (--force)"
        )
    if others:
        note(f"Not ended: {listed(others, _NAMED)}")


def _folders(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the folder of each run in the crate; runs with the same id get a number above their folder.

    >>> [*_folders([Run("a/log_x", "x", "memory://a/log_x"), Run("b/log_x", "x", "memory://b/log_x")])]
    ['1/log_x', '2/log_x']
    """
    names = [keys.run_folder(run.run_id) for run in runs]
    count = Counter(names)
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if count[name] == 1 else f"{seen[name]}/{name}"


def _chosen(run: Run, folder: str, kept: Patterns, *, with_host: bool) -> ChosenRun:
    receipts = _receipts(run)
    entries = {key: entry for key, entry in sorted(run.entries.items()) if kept(key)}
    missing = tuple(sorted(key for key in receipts.keys() - run.entries.keys() if kept(key)))
    shown = run if with_host else without_names(run)
    content = None
    if not with_host and keys.METADATA in entries:
        content = utf8(json.dumps(shown.metadata, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    shown = replace(shown, name=folder, entries=entries, unfinished=0, unfinished_files=0)
    shown = replace(shown, size=sum(max(0, entry.size) for entry in entries.values()), files=len(entries))
    return ChosenRun(folder, shown, run, entries, receipts, missing, content)


def _receipts(run: Run) -> Mapping[str, Receipt]:
    """Return the receipts of the manifest that the run stored at its end; none if there is no such manifest."""
    if keys.MANIFEST not in run.entries:
        return {}
    try:
        document = Document.parse(run.store.read(keys.MANIFEST))
    except MissingError:
        return {}
    except ValueError as error:
        raise StorageError(
            f"cannot publish {run.name}: its {keys.MANIFEST} is damaged: {error}", url=run.url, key=keys.MANIFEST
        ) from error
    owner = str(lease_of(run.metadata).get("owner", ""))
    if not is_of_run(document, has_ended=run.status in ENDED, owner=owner):
        return {}
    return {key: receipt for key, receipt in document.files.items() if is_receipted(key)}
