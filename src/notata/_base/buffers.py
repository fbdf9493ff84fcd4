"""Access the bytes of any buffer."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["flat"]


def flat(data: Buffer) -> memoryview:
    """Return the bytes of a buffer as in memory, without a copy; for a strided buffer, a copy in C order.

    Raises:
        TypeError: The object has no buffer, or a buffer of Python objects, whose bytes are addresses.

    >>> bytes(flat(memoryview(b"abcd")[::2]))
    b'ac'
    """
    view = memoryview(data)
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    if "O" in view.format:
        raise TypeError("cannot store an array of objects as bytes: it contains only addresses; use pickle")
    if not view.contiguous:
        return memoryview(view.tobytes())
    return pickle.PickleBuffer(view).raw()  # memoryview.cast refuses Fortran order and empty axes
