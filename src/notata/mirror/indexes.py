"""The indexes of the experiments in a copied tree: each contains the runs that are at the destination, and no others.

The parts of the source's index are not copied. They may name runs that the copy does not have: runs that could not be
copied, or that ended after the copy was made.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

from notata._base import keys
from notata.mirror.files import CopyResult
from notata.run.listings import runs_in
from notata.store import Entry, Store
from notata.table import experiment_of_index_file, record_copies

__all__ = ["indexed_runs", "update_index"]


def indexed_runs(
    indexed: Iterable[str], runs: Iterable[str], there: Mapping[str, Entry], gone: Container[str]
) -> dict[str, set[str]]:
    """Return the ids of all runs of each experiment whose copy has an index after the sync, by folder.

    Args:
        indexed: The folders of experiments that have an index at the source.
        runs: The folders of the runs to copy.
        there: The files at the destination, by key.
        gone: The keys of those files that are to be deleted.
    """
    theirs, others = runs_in(there)
    stay = {folder for key in others if key not in gone and (folder := experiment_of_index_file(key)) is not None}
    found: dict[str, set[str]] = {folder: set() for folder in (*indexed, *stay)}
    for folder in (*runs, *theirs):
        experiment = _experiment_of(folder)
        if experiment is not None and experiment in found:
            found[experiment].add(keys.run_id(folder))
    return found


def _experiment_of(run: str) -> str | None:
    """Return the folder of the experiment of a run; None if the run is in none."""
    above, _, name = run.rpartition("/")[0].rpartition("/")
    return above if name == keys.RUNS else None


def update_index(
    target: Store, experiment: str, run_ids: Collection[str], runs: Iterable[str], results: Mapping[str, CopyResult]
) -> dict[str, CopyResult]:
    """Let the index of a copied experiment contain the runs that are there now.

    Args:
        target: The store of the experiment at the destination.
        experiment: Its folder in the tree.
        run_ids: The ids of its runs at both sides.
        runs: The folders of the runs that were copied or removed, or should have been.
        results: What was done with each file of the tree, by key.

    Returns:
        The new parts of the index, by key in the tree.

    Raises:
        BatchError: Runs could not be read; it holds the error of each.
        StorageError: The storage failed.
    """
    changed, removed = set[str](), set[str]()
    for folder in runs:
        if _experiment_of(folder) != experiment:
            continue
        done = results.get(keys.join(folder, keys.METADATA))
        if done is None or done.verb != "equal":
            is_gone = done is not None and done.verb == "deleted"
            (removed if is_gone else changed).add(keys.run_id(folder))
    there = [run_id for run_id in run_ids if run_id not in removed]
    written = record_copies(target, there, changed=changed, removed=removed)
    return {keys.join(experiment, key): CopyResult("copied", size) for key, size in written.items()}
