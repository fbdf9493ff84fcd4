"""One tree of runs made equal to another: what differs is copied, whatever storage the two are on.

`tree` knows which runs and other files a folder has, `runs` copies one run so that its copy never says more than is
there, `files` many files at once, and `evidence` tells which of them need not move. `live` follows one run while it is
written, `schedule` says which of its files are due, and `places` where copies go. None knows what a file means.
"""

from notata.mirror.runs import Outcome, RunCopy
from notata.mirror.tree import SyncReport, sync

__all__ = ["Outcome", "RunCopy", "SyncReport", "sync"]
