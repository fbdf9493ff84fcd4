"""Removing runs: which runs match, whether they may be removed, and the result; `notata.run.removal` removes one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted
from notata._base.threads import Pool
from notata.errors import ConfigurationError, ConflictError, NotataError, RunExistsError, RunMissingError
from notata.run.listings import inside, name_of
from notata.run.removal import RemovalResult, remove_run
from notata.run.state import claimable, judge, lease_of, parsed
from notata.search.choosing import Choice, Wheres
from notata.search.finding import Found, Place, URLs, each, look_up, tell_nobody
from notata.search.record import Run, records
from notata.store import TIMEOUT, Blob
from notata.store.in_flight import mapped

__all__ = ["Removal", "removable", "removals", "remove"]

_AT_ONCE: Final = 16  # runs, each with six requests, most of them one after the other


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of one run.

    Attributes:
        run: As it was.
        remains: What was removed, and what was not; None where nothing was.
        error: Why nothing was.
    """

    run: Run
    remains: RemovalResult | None = None
    error: NotataError | None = None

    @property
    def removed(self) -> bool:
        """Whether the run is gone."""
        return self.remains is not None and not self.remains.errors

    def record(self) -> dict[str, Any]:
        """Its fields by name."""
        gone = self.remains.gone if self.remains else {}
        return {
            "name": self.run.name,
            "run_id": self.run.run_id,
            "url": self.run.url,
            "status": self.run.status,
            "files": self.run.files,
            "size": self.run.size,
            "removed": self.removed,
            "removed_files": len(gone),
            "removed_size": sum(max(0, size) for size in gone.values()),
        }


def remove(
    urls: URLs,
    *,
    recursive: bool = False,
    force: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> list[Removal]:
    """Remove runs, whole; nothing else is ever touched. Nobody is asked.

    A run says ``replacing`` from the first step on, and its metadata.json goes last: who is interrupted calls this once
    more. `remove` does not touch index.csv of an experiment. No table shows the row of a removed run, and the row goes
    when index.csv is written again.

    Args:
        urls: Runs, or patterns that mean runs; see `notata.search.finding.URLs`.
        recursive: Remove all runs at or below each place as well, where it is no run itself.
        force: Remove a run too that is running: its writer learns of it, and what it writes until then stays behind.
        status: Of these runs remove those of this status only, or of several; as for `runs`.
        where: Of these runs remove those for which this holds; as for `runs`. A run of which that cannot be told stays.
        storage_options: For fsspec.
        failed: Is told of each place and run that cannot be removed; the others are.
        timeout: As for `notata.Logbook`.

    Returns:
        What became of each run.

    Raises:
        RunMissingError: There is no run at a place.
        ConfigurationError: A place is no run, but has some below it.
        RunExistsError: A run is running.
        ConflictError: Somebody else took a run meanwhile.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://removing").mark_complete()
    >>> [(done.run.run_id, done.removed) for done in remove("memory://removing/log_a")]
    [('a', True)]
    """
    runs = removable(
        urls,
        recursive=recursive,
        force=force,
        status=status,
        where=where,
        storage_options=storage_options,
        failed=failed,
        timeout=timeout,
    )
    return list(removals(runs, force=force, failed=failed))


def removable(
    urls: URLs,
    *,
    recursive: bool = False,
    force: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> list[Run]:
    """The runs that `remove` would remove, each as it stands. Arguments as there.

    Cost: one listing a place and one read a run; those that a filter takes, see `runs`.

    >>> from notata import Logbook
    >>> log = Logbook("a", "memory://removable")
    >>> [run.run_id for run in removable("memory://removable", recursive=True, failed=print)]
    memory://removable/log_a is running (process ... is alive); end it, or remove it by force
    []
    """
    choice = Choice(status, where)
    chosen: dict[str, Run] = {}
    for url in each(urls):
        try:
            skipped: list[NotataError] = []
            place = look_up(url, storage_options, timeout=timeout, failed=skipped.append, by_id=True)
            for error in skipped:
                if error.key is None or inside(error.key, place.runs) is None:  # in a run, its removal reports it
                    failed(error)
            _must_mean_runs(place, recursive=recursive)
        except NotataError as error:
            failed(error)
            continue
        told = records(place, values=choice.values, failed=failed if choice.filters else None)
        for run in choice.of(told, len(place.runs)):
            if run.found is not None and run.found.is_orphan and not place.means(run.found.folder):
                warnings.warn(f"{run.name} has no {keys.METADATA}, and is left; name it to remove it", stacklevel=2)
            elif force or run.status != "running":
                chosen.setdefault(run.url, run)
            else:
                failed(_alive(run.name, run.why, certain=run.certain))
    return list(chosen.values())


def removals(
    runs: Sequence[Run], *, force: bool = False, failed: Callable[[NotataError], None] = tell_nobody
) -> Iterator[Removal]:
    """Remove these runs, 16 at once; what became of each, in order.

    Args:
        runs: Of `removable`.
        force: Remove one too that is running by now.
        failed: Is told why a run, or a file of one, was not removed.
    """
    with Pool(_AT_ONCE, "notata-remove") as pool, closing(mapped(partial(_removal, force=force), runs, pool)) as ended:
        for done in ended:
            errors = [done.error] if done.error else list(done.remains.errors.values()) if done.remains else []
            for error in errors:
                if not isinstance(error, NotataError):
                    raise error
                failed(error)
            yield done


def _removal(run: Run, *, force: bool) -> Removal:
    try:
        store = _found(run).store
        blob = claimable(store)
        _must_be(run, blob, force=force)
        return Removal(run, remove_run(store, blob))
    except NotataError as error:
        return Removal(run, error=error)


def _found(run: Run) -> Found:
    if run.found is None:
        raise ConfigurationError(f"{run.name}: nothing tells where this run lies")
    return run.found


def _must_be(run: Run, blob: Blob | None, *, force: bool) -> None:
    """Look once more: while somebody was asked, the run may have begun again, or be another one."""
    fields = parsed(blob.data) or {} if blob else {}
    going = fields.get("status") == "replacing" and not lease_of(fields)  # somebody else removes it as well
    if _which(fields)[: 1 if going else 2] != _which(run.metadata)[: 1 if going else 2]:
        raise ConflictError(f"{run.name} is another run by now, and was left", url=run.url, key=keys.METADATA)
    if blob is not None and fields and not force:
        begun = fields.get("status") == "replacing"
        state = judge({**fields, "status": "initialized"}, blob) if begun else judge(fields, blob)
        if state.status == "running" and (state.certain or not begun):
            raise _alive(run.name, state.why, certain=state.certain)


def _which(fields: Mapping[str, Any]) -> tuple[object, object]:
    """Which run it is, and which attempt at it."""
    return fields.get("start_time"), lease_of(fields).get("owner")


def _alive(name: str, why: str, *, certain: bool) -> RunExistsError:
    return RunExistsError(f"{name} {'is' if certain else 'may be'} running ({why}); end it, or remove it by force")


def _must_mean_runs(place: Place, *, recursive: bool) -> None:
    """Whether runs are meant as a whole, and each by itself unless all below a folder are wanted."""
    if not place.runs:
        raise RunMissingError(f"there is no run at {place.given}; only runs are removed", url=place.store.url)
    if "" in place.runs and os.path.islink(place.store.url):
        raise ConfigurationError(f"{place.given} is a link to a run; name that, or remove the link itself")
    for folder, found in place.runs.items():
        if not place.covers(folder):
            raise ConfigurationError(f"{place.given} means files of {found.name}; only whole runs are removed")
        if folder == "" and not _is_ours(place, found):
            raise RunMissingError(f"{place.given} has a {keys.METADATA}, but is no run", url=place.store.url)
    below = [folder for folder in place.runs if not place.means(folder)]
    if below and not recursive:
        count = counted(len(below), "run")
        raise ConfigurationError(f"{place.given} is no run, and has {count} below it; -r removes them")


def _is_ours(place: Place, found: Found) -> bool:
    """A folder by another name than log_… may have a metadata.json that is no run's."""
    if name_of(place.store.url).startswith("log_"):
        return True
    blob = claimable(found.store)
    return blob is not None and {"run_id", "status"} <= (parsed(blob.data) or {}).keys()
