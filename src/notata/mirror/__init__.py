"""One tree of runs made equal to another: what differs is copied, whatever storage the two are on.

`runs` copies one run so that its copy never says more than is there, `files` many files at once, and `evidence` tells
which of them need not move. It knows where runs are and how they stand, never what their files mean.
"""

from notata.mirror.runs import Outcome, RunCopy

__all__ = ["Outcome", "RunCopy"]
