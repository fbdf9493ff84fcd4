"""Turn the argument `progress` into a callback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from notata.errors import ConfigurationError

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

__all__ = ["Wanted", "bar", "shown"]

Wanted: TypeAlias = "bool | Callback"
"""True for a progress bar, False for none, or any fsspec callback."""


def bar(label: str, size: int | None = None) -> Callback:
    """Return a progress bar; its size can be set later.

    >>> with bar("mesh.vtk", 100) as callback:
    ...     callback.relative_update(60)
    ...     callback.value
    60
    """
    from notata._base.bars import Bar

    return Bar(label, size)


@contextmanager
def shown(wanted: Wanted, label: str) -> Iterator[Callback | None]:
    """Yield the callback of a long call; a bar is closed at the end of the block.

    Raises:
        ConfigurationError: `wanted` is neither a bool nor a callback.
    """
    if isinstance(wanted, bool):
        if not wanted:
            yield None
            return
        with bar(label) as callback:
            yield callback
        return
    from fsspec.callbacks import Callback

    if not isinstance(wanted, Callback):
        raise ConfigurationError(
            f"invalid progress of type {type(wanted).__name__}: pass True, False or an fsspec callback"
        )
    yield wanted
