"""Detection of files that cannot be copied because the disk of the target maps two names to one file."""

from __future__ import annotations

from collections.abc import Iterable

from notata._base.terminal import quoted
from notata.errors import StoredNameError
from notata.store import Store
from notata.store.backends.spelling import collisions, folded

__all__ = ["clashing"]


def clashing(target: Store, names: Iterable[str], there: Iterable[str]) -> dict[str, StoredNameError]:
    """Return an error for each file that would overwrite another one on a target whose disk folds names.

    Args:
        target: The target of the copy.
        names: All keys of the source.
        there: The keys of the target, as returned by `notata.store.backends.spelling.aligned`.
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
        f"cannot copy {quoted(key)} to {target.url}: that disk treats its name and {quoted(other)} as the same; "
        "rename one of them, or copy to a disk that distinguishes upper- and lower-case names",
        url=target.url,
        key=key,
    )
