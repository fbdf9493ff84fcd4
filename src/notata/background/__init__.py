"""Store files in the background: a wrapper around a store that queues writes.

The queue is bounded, and keeps the order of the writes to each key. A read waits for pending writes to its key.
`notata.logbook` uses the wrapper if ``background=True``.
"""

from notata.background.backend import BackgroundBackend

__all__ = ["BackgroundBackend"]
