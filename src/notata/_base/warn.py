"""Warnings that name the line of the user's code."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the place of the nearest caller outside of notata, however deep the call is.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     warn("the disk is full")
    >>> str(caught[0].message), caught[0].category.__name__
    ('the disk is full', 'UserWarning')
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "notata":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
