"""Record any program, whatever its language: what ``notata run`` does.

`record` (``recording.py``) creates the run (``run.py``) of a `Program` (``program.py``), starts it (``start.py``), and
runs it to its end
(``session.py``): it reads the output, shows it, and passes on input and signals (``terminal.py``, ``signals.py``).
Meanwhile ``usage.py`` measures the memory of the process tree. Then it keeps files (``keep.py``) and ends the run.
"""

from __future__ import annotations

from notata.program.exit import Exit
from notata.program.program import Program
from notata.program.recording import record, record_program
from notata.program.start import StartError

__all__ = ["Exit", "Program", "StartError", "record", "record_program"]
