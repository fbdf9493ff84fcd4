"""A log whose lines come slowly, by a clock that is moved by hand: hours pass in seconds, and each append is real."""

from __future__ import annotations

import logging

from notata.run.journal import Appender, Journal


class ByHand(Journal):
    """A journal without a thread: who moves the clock has it look."""

    def _wake(self) -> None:
        pass

    def work(self) -> None:
        """Append whatever is due by now."""
        while (self._pending or self._chunk) and self._next_append() <= self._clock():
            self._try()


def logged(end: Appender, count: int, pause: float) -> float:
    """Log `count` lines, one every `pause` seconds; the seconds that passed by that clock."""
    now = 0.0
    journal = ByHand(end, at_once=False, clock=lambda: now)
    logger = logging.Logger("slowly")
    logger.addHandler(journal)
    for number in range(count):
        logger.info("step %7d residual %.6e", number, 1.0 / (number + 1))
        now += pause
        journal.work()
    journal.flush()
    return now
