"""Copies of runs: one tree of runs is made equal to another by copying the differences, on any storage.

`tree` finds the runs and other files of a folder. `runs` copies one run so that its copy never claims more than it has;
`plans` decides what it may replace, and in which order. `files` copies many files at once, and `evidence` finds out
which files are equal already. `live` keeps the copy of one run current while it is written: `following` looks for
changes, `schedule` decides which files are due. `places` decides where copies go.
"""
