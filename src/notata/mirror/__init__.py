"""Copies of runs: one tree of runs is made equal to another by copying the differences, on any storage.

`tree` finds the runs and other files of a folder. `runs` copies one run so that its copy never claims more than it has.
`files` copies many files at once, and `evidence` finds out which files are equal already. `live` follows one run while
it is written, `schedule` decides which of its files are due, and `places` where copies go.
"""

from notata.mirror.places import MirrorStorage
from notata.mirror.runs import Outcome, RunCopy
from notata.mirror.tree import SyncReport, sync

__all__ = ["MirrorStorage", "Outcome", "RunCopy", "SyncReport", "sync"]
