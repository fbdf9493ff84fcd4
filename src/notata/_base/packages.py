"""What to say when an optional package is not installed; it knows neither what the package is for nor values."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from notata.errors import PackageMissingError

__all__ = ["needed"]


@contextmanager
def needed(why: str, requirement: str, extra: str = "") -> Iterator[None]:
    """Import an optional package inside; if that fails, the error says how to get it.

    Args:
        why: What needs which package, as the message begins.
        requirement: What pip is to install.
        extra: The extra of notata that holds it.

    Raises:
        PackageMissingError: It is not installed.

    >>> with needed("a tide needs moonlight", "moonlight>=2", "tides"):
    ...     import moonlight
    Traceback (most recent call last):
    notata.errors.PackageMissingError: a tide needs moonlight: pip install 'moonlight>=2' (the extra 'tides')
    """
    try:
        yield
    except ImportError as error:
        ours = f" (the extra {extra!r})" if extra else ""
        raise PackageMissingError(f"{why}: pip install {shlex.quote(requirement)}{ours}") from error
