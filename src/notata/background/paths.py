"""Path objects in memory and in buckets that wait for pending writes. Those of a disk are in `notata.store`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

from notata.store import Store
from notata.store.paths import RunPath

__all__ = ["WaitingPath"]


class _QueueingStore(Protocol):
    """The store that queues writes."""

    def arrive(self, key: str) -> None: ...


class WaitingPath(RunPath):
    """A path in memory or in a bucket that waits for pending writes at or below it before it reads the storage."""

    __slots__ = ()

    @classmethod
    def before(cls, store: Store, path: RunPath) -> WaitingPath:
        return cls._bound(store, path._where, path._made)

    def _arrive(self) -> None:
        cast("_QueueingStore", self._store).arrive(self._key)

    @property
    def fs(self) -> Any:
        self._arrive()
        return super().fs

    @property
    def storage_options(self) -> Mapping[str, Any]:
        self._arrive()  # the caller may access the storage directly
        return super().storage_options

    @property
    def info(self) -> Any:
        self._arrive()
        return super().info


def _waiting_method(name: str) -> Callable[..., Any]:
    """Return a method of `RunPath` that first waits for pending writes."""
    method = getattr(RunPath, name)

    def look(self: WaitingPath, *arguments: Any, **options: Any) -> Any:
        self._arrive()
        return method(self, *arguments, **options)

    look.__name__, look.__doc__ = name, method.__doc__
    return look


_LOOKS: Final[Iterable[str]] = (
    *("copy", "copy_into", "exists", "is_dir", "is_file", "iterdir", "lstat", "move", "move_into", "rmdir", "samefile"),
    *("stat", "walk"),
)
for _name in _LOOKS:
    setattr(WaitingPath, _name, _waiting_method(_name))
WaitingPath.__name__ = WaitingPath.__qualname__ = RunPath.__name__  # users see only one kind of path
