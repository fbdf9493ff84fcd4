"""Compare the files of a new run with those of the run that it repeats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted, listed
from notata.errors import MissingError
from notata.run.monitor import SYSTEM
from notata.search.comparing import compare
from notata.search.target import Target
from notata.store import Store

__all__ = ["Comparison", "compared"]

_NAMED: Final = 10
_SERIES_BYTES: Final = 256 * 2**20
_TIMES: Final = frozenset({"time", "try"})
_NEVER: Final = frozenset({keys.INPUTS, keys.series_file(SYSTEM)})
"""Files that say how a run was made, as those in ``code/`` do, or that have times in them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The files of both runs. Logs, output, manifests and the files in ``code/`` do not count.

    Attributes:
        equal: Keys of files with the same bytes; of series with the same rows, except for their times.
        changed: Keys of files with other bytes.
        only_old: Keys of files that only the old run has.
        only_new: Keys of files that only the new run has.
        unknown: Keys of files that could not be compared.
    """

    equal: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """True if all files are known to be equal."""
        return not (self.changed or self.only_old or self.only_new or self.unknown)

    def __str__(self) -> str:
        parts = [f"{counted(len(self.equal), 'file')} equal"]
        words = {"changed": "differ", "only_old": "only in the old run", "only_new": "only in the new run"}
        for name, word in {**words, "unknown": "not compared"}.items():
            if found := getattr(self, name):
                parts.append(f"{len(found)} {word}: {listed(found, _NAMED)}")
        return "; ".join(parts)


def compared(old: Store, new: Store, *, content: bool) -> Comparison:
    """Compare the files of two runs. Cost: that of `notata.search.compare`, and the reads of series.

    Args:
        old: The store of the old run.
        new: The store of the new run.
        content: Download files in a bucket if nothing else shows whether they differ.
    """
    found: dict[str, list[str]] = {}
    listing = compare(Target(old), Target(new), only=["files"], content=content)
    for item in listing.items:
        change = item.change
        if keys.series_name(item.name) is not None and change in ("changed", "unknown"):
            change = _series(old, new, item.name)
        elif not item.counts and change not in ("only_a", "only_b"):
            continue
        if _is_about_run(item.name):
            continue
        found.setdefault(change, []).append(item.name)
    names = ("equal", "changed", "only_a", "only_b", "unknown")
    return Comparison(*(tuple(sorted(found.get(name, ()))) for name in names))


def _is_about_run(key: str) -> bool:
    """Check whether a file is about the run itself, and no result."""
    about = keys.is_log(key) or keys.is_output(key) or keys.is_manifest(key) or key == keys.METADATA
    return about or key in _NEVER or key.startswith(f"{keys.CODE}/")


def _series(old: Store, new: Store, key: str) -> Any:
    """Compare two series without the times of their rows."""
    try:
        if max(store.stat(key).size for store in (old, new)) > _SERIES_BYTES:
            return "unknown"
        pairs = zip_longest(_rows(old, key), _rows(new, key))
        return "equal" if all(one == other for one, other in pairs) else "changed"
    except MissingError:
        return "unknown"


def _rows(store: Store, key: str) -> Iterator[Any]:
    with store.open(key, "rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                yield line
                continue
            yield (
                {name: value for name, value in row.items() if name not in _TIMES} if isinstance(row, Mapping) else row
            )
