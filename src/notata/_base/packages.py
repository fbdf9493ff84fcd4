"""Import optional packages, with an error message that names the extra to install."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from notata.errors import PackageMissingError

__all__ = ["needed"]


@contextmanager
def needed(why: str, requirement: str, extra: str = "") -> Iterator[None]:
    """Turn an `ImportError` in the block into an error that states how to install the package.

    Args:
        why: The beginning of the message, which names the feature and the package.
        requirement: The requirement for pip.
        extra: The extra of notata that contains the package.

    Raises:
        PackageMissingError: The package is not installed.

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
