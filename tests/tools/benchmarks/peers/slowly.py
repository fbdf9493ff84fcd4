"""A slow log with a simulated clock: hours pass in seconds, but each append is real."""

from __future__ import annotations

import logging
from collections.abc import Callable

from notata.growing import Appender, AppendThread
from notata.run.journal import Journal


def _no_thread(work: Callable[[], object], name: str) -> None:
    raise RuntimeError("can't start new thread")


def logged(end: Appender, count: int, pause: float) -> float:
    """Log `count` lines, one every `pause` seconds; return the elapsed seconds of the simulated clock."""
    now = 0.0
    journal = Journal(end, at_once=False, clock=lambda: now, thread=AppendThread(_no_thread))
    logger = logging.Logger("slowly")
    logger.addHandler(journal)
    for number in range(count):
        logger.info("step %7d residual %.6e", number, 1.0 / (number + 1))
        now += pause
        while (left := journal.file.seconds_left()) is not None and left <= 0:
            journal.file.try_append()
    journal.flush()
    return now
