"""Sets of run ids, as digests: the points that are complete before a sweep begins, and those that it has met."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from notata._base import keys
from notata.run.listings import outline_of_runs
from notata.store import Store
from notata.store.gaps import ignore
from notata.table import current_rows, read_index, runs_below

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Ids", "complete_ids"]

_BYTES: Final = 16  # of a digest; of a million ids, two agree with a probability of 1e-27
_LOOSE: Final = 2**14  # digests in a set, before they are merged into the array


class Ids:
    """A set of run ids, of which it keeps digests of 16 bytes.

    >>> ids = Ids(["a", "b"])
    >>> "a" in ids, "c" in ids, ids.add("c"), ids.add("c"), len(ids)
    (True, False, True, False, 3)
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._loose: set[bytes] = set()
        self._sorted: npt.NDArray[np.bytes_] | None = None
        for run_id in ids:
            self.add(run_id)

    def add(self, run_id: str) -> bool:
        """Add an id; return False if it is there already."""
        digest = _digest(run_id)
        if self._has(digest):
            return False
        self._loose.add(digest)
        if len(self._loose) >= _LOOSE:
            self._merge()
        return True

    def _merge(self) -> None:
        import numpy as np

        loose = np.array(sorted(self._loose), dtype=f"S{_BYTES}")
        self._sorted = loose if self._sorted is None else np.sort(np.concatenate([self._sorted, loose]))
        self._loose = set()

    def _has(self, digest: bytes) -> bool:
        if digest in self._loose:
            return True
        if self._sorted is None:
            return False
        place = int(self._sorted.searchsorted(digest))
        return place < len(self._sorted) and bool(self._sorted[place] == digest)

    def __contains__(self, run_id: str) -> bool:
        return self._has(_digest(run_id))

    def __len__(self) -> int:
        return len(self._loose) + (0 if self._sorted is None else len(self._sorted))


def _digest(run_id: str) -> bytes:
    # numpy pads short bytes with zeros, so that a digest that ends in zeros would have two forms
    return hashlib.blake2b(run_id.encode("utf-8", "backslashreplace"), digest_size=_BYTES).digest().rstrip(b"\0")


def complete_ids(store: Store, *, existing: bool = False) -> Ids:
    """Return the ids of the runs of an experiment that are complete, as far as its index is current.

    The rows of a small index are checked by a listing. A large index is trusted, as tables do.

    Args:
        store: The store of the experiment.

        existing: Leave out runs of a large index whose folder does not exist any more.

    Cost: that of `read_index`, and for a small index one listing for each 1000 files; for a large one, with `existing`
    one listing for each 1000 runs. No request for each run.
    """
    index = read_index(store)
    if index is None:
        return Ids()
    rows = index.rows
    if not index.is_large:
        outline = outline_of_runs()
        listed = runs_below(store.scan(outline=outline), outline.found)
        files = {keys.run_id(folder): files for folder, files in listed.items()}
        rows = current_rows(rows.values(), files)
    elif existing:
        folders = map(keys.run_id, store.folder_names(keys.RUNS, beginning="log_", skipped=ignore))
        rows = {run_id: rows[run_id] for run_id in folders if run_id in rows}
    return Ids(run_id for run_id, row in rows.items() if row.status == "complete")
