"""Which files cannot be copied because the target's disk takes their names for those of others; it copies nothing."""

from __future__ import annotations

from collections.abc import Iterable

from notata._base.terminal import quoted
from notata.errors import StoredNameError
from notata.store import Store
from notata.store.spelling import collisions, folded

__all__ = ["clashing"]


def clashing(target: Store, names: Iterable[str], there: Iterable[str]) -> dict[str, StoredNameError]:
    """Return an error for each file that would replace another one at a target whose disk folds names.

    Args:
        target: Where the files go.
        names: Their keys, all that the source has.
        there: The keys that the target has, as by `notata.store.spelling.aligned`.
    """
    listed = list(names)
    found = collisions(listed)
    spelled = {folded(key): key for key in there}
    for key in listed:
        other = spelled.get(folded(key))
        if other is not None and other != key:
            found.setdefault(key, other)
    return {key: _error(target, key, other) for key, other in found.items()}


def _error(target: Store, key: str, other: str) -> StoredNameError:
    return StoredNameError(
        f"cannot copy {quoted(key)} to {target.url}: that disk takes its name for the one of {quoted(other)}; "
        "rename one of them, or copy to a disk that tells upper and lower case apart",
        url=target.url,
        key=key,
    )
