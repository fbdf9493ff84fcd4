"""Runs the code in its first argument, as ``python -c`` does, so that `tests.nursery` can fork it.

Objects that the code leaves are not finalized: the nursery excludes its own from garbage collection.
"""

from __future__ import annotations

import sys

globals().pop("__file__")  # ``python -c`` has none
exec(compile(sys.argv.pop(1), "<string>", "exec"))
