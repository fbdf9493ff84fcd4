"""The output of programs: output.txt, and the values that patterns find in it.

`Output` (``output.py``) takes the bytes of a program and keeps them as a growing file.
"""

from __future__ import annotations

from notata.capture.output import Output
from notata.capture.patterns import SeriesPattern

__all__ = ["Output", "SeriesPattern"]
