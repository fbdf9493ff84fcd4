"""A backend around another backend: what it does not override goes to the inner one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Self

from notata._base import keys
from notata.store.backend import Backend
from notata.store.entries import Blob, Entry
from notata.store.gaps import Gap

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.appending import Tail
    from notata.store.files import Upload
    from notata.store.outlines import Outline
    from notata.store.store import Store

__all__ = ["Wrapper"]


class Wrapper(Backend):
    """A backend that forwards every verb and every fact of `Backend` to an inner one.

    The abstract verbs stand here. The methods for the others are made from `Backend` itself, so none can be forgotten.
    A subclass overrides what it changes. Variants (`below`, `durably`, …) are the same wrapper around the variant of
    the inner backend. Pickling returns the inner backend.

    Args:
        inner: The wrapped backend.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self._below = ""  # below the root of the backend that was wrapped first
        kinds = type(self).__mro__
        own = {name for kind in kinds[: kinds.index(Wrapper)] for name in vars(kind)}
        for name in _CONSTANT:
            if name not in own:
                setattr(self, name, getattr(inner, name))

    def __copy__(self) -> Self:  # `copy` would use `__reduce__`
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.inner,)

    def around(self, inner: Backend) -> Self:
        """Return this wrapper around another backend."""
        if inner is self.inner:
            return self
        other = copy.copy(self)
        other.inner = inner
        return other

    def below(self, folder: str) -> Self:
        other = self.around(self.inner.below(folder))
        other._below = keys.join(self._below, folder)
        return other

    def full(self, key: str) -> str:
        """Return a key relative to the root of the backend that was wrapped first."""
        return keys.join(self._below, key)

    def put(self, key: str, data: bytes, match: str | None) -> str:
        return self.inner.put(key, data, match)

    def begin_upload(self, key: str, match: str | None) -> Upload:
        return self.inner.begin_upload(key, match)

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        return self.inner.append(key, data, tail)

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        return self.inner.get(key, start, end, version, limit)

    def stat(self, key: str) -> Entry:
        return self.inner.stat(key)

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        return self.inner.list(folder, beginning)

    def list_outlined(self, folder: str, beginning: str, outline: Outline) -> Iterator[Entry | Gap]:
        if type(self).list is not Wrapper.list:  # it lists in its own way
            return self.list(folder, beginning)
        return self.inner.list_outlined(folder, beginning, outline)

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        return self.inner.delete(names)

    def path(self, key: str, store: Store) -> UPath:
        return self.inner.path(key, store)

    def filesystem(self) -> AbstractFileSystem:
        return self.inner.filesystem()

    def enter(self, folder: str) -> None:
        raise AssertionError("`below` enters the inner backend")


def _itself(backend: Backend) -> Backend:
    return backend


def _verb(name: str) -> Callable[..., Any]:
    def forward(self: Wrapper, *arguments: Any, **options: Any) -> Any:
        return getattr(self.inner, name)(*arguments, **options)

    forward.__name__, forward.__qualname__ = name, f"Wrapper.{name}"
    return forward


def _variant(name: str) -> Callable[..., Any]:
    def forward(self: Wrapper, *arguments: Any) -> Any:
        return self.around(getattr(self.inner, name)(*arguments))

    forward.__name__, forward.__qualname__ = name, f"Wrapper.{name}"
    return forward


def _fact(name: str) -> Any:
    return property(lambda self: getattr(self.inner, name))


_VARIANTS: Final = {"durably", "following_links", "serving_pages", "sparing", "strictly"}
_CONSTANT: Final = [name for name, fact in vars(Backend).items() if isinstance(fact, bool)]
"""Facts that are the same for all variants of a backend; they are copied, as they are read for each line of a log."""

for _name, _member in vars(Backend).items():
    if not _name.startswith("_") and _name not in vars(Wrapper) and _name not in _CONSTANT:
        _make = _variant if _name in _VARIANTS else _verb if callable(_member) else _fact
        setattr(Wrapper, _name, _make(_name))
Wrapper.url = _fact("url")  # an attribute of each backend
