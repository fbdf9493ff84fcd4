"""The output of programs: output.txt, and the values that patterns find in it.

`Output` (``output.py``) takes the bytes of a program and keeps them as a growing file. `Capturing`
(``descriptors.py``) gives it those of this process.
"""

from __future__ import annotations

from notata.capture.options import Capture
from notata.capture.output import Output
from notata.capture.patterns import SeriesPattern

__all__ = ["Capture", "Output", "SeriesPattern"]
