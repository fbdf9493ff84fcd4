"""The bytes of any buffer; it knows neither values nor files."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["flat"]


def flat(data: Buffer) -> memoryview:
    """The bytes of a buffer as they lie in memory, without a copy; of a strided one a copy in C order.

    Raises:
        TypeError: It has no buffer, or one of Python objects, whose bytes are addresses.

    >>> bytes(flat(memoryview(b"abcd")[::2]))
    b'ac'
    """
    view = memoryview(data)
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    if "O" in view.format:
        raise TypeError("an array of objects has no bytes of its own; use pickle")
    if not view.contiguous:
        return memoryview(view.tobytes())
    return pickle.PickleBuffer(view).raw()  # memoryview.cast refuses Fortran order and empty axes
