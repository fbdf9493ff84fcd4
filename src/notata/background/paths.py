"""Path objects in memory and in buckets that wait for what is on its way to them; those of a disk are in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

from notata.store import Store
from notata.store.paths import RunPath

__all__ = ["WaitingPath"]


class _Arriving(Protocol):
    """The store in front."""

    def arrive(self, key: str) -> None: ...


class WaitingPath(RunPath):
    """A path in memory or in a bucket whose looks at the storage wait for what is pending at or below it."""

    __slots__ = ()

    @classmethod
    def before(cls, store: Store, path: RunPath) -> WaitingPath:
        return cls._bound(store, path._where, path._made)

    def _arrive(self) -> None:
        cast("_Arriving", self._store).arrive(self._key)

    @property
    def fs(self) -> Any:
        self._arrive()
        return super().fs

    @property
    def storage_options(self) -> Mapping[str, Any]:
        self._arrive()  # who asks for them goes to the storage by another road
        return super().storage_options

    @property
    def info(self) -> Any:
        self._arrive()
        return super().info


def _looking(name: str) -> Callable[..., Any]:
    """The method of a `RunPath`, after a wait."""
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
    setattr(WaitingPath, _name, _looking(_name))
WaitingPath.__name__ = WaitingPath.__qualname__ = RunPath.__name__  # for who sees one, it is no other kind of path
