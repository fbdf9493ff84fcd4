"""What a caller may say of progress, and the callback that it becomes; it knows nothing of what is moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from notata.errors import ConfigurationError

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

__all__ = ["Wanted", "bar", "shown"]

Wanted: TypeAlias = "bool | Callback"
"""True for a bar, False for none, or any fsspec callback."""


def bar(label: str, size: int | None = None) -> Callback:
    """A bar, whose size may become known later.

    >>> with bar("mesh.vtk", 100) as callback:
    ...     callback.relative_update(60)
    ...     callback.value
    60
    """
    from notata._base.bars import Bar

    return Bar(label, size)


@contextmanager
def shown(wanted: Wanted, label: str) -> Iterator[Callback | None]:
    """The callback of one call that takes long, closed at its end if it is a bar of ours.

    Raises:
        ConfigurationError: It is neither a bool nor a callback.
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
        raise ConfigurationError(f"progress is True, False or an fsspec callback, not {type(wanted).__name__}")
    yield wanted
