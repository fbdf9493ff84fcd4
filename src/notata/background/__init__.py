"""A store in front of another one that takes writes in the background, with the same verbs; it knows nothing of runs.

It is bounded, keeps the order of each key, and reads what it wrote. `notata.logbook` puts it in front if asked to.
"""

from notata.background.store import BackgroundStore

__all__ = ["BackgroundStore"]
