"""What a pool does with a worker that it is sent: here, as processes that are spawned import no more than this."""

from __future__ import annotations

import os

from notata import Worker

__all__ = ["closing_part", "part"]


def part(worker: Worker, number: int) -> tuple[str, int]:
    worker.json(f"parts/{number}", {"part": number})
    worker.info("part %d", number)
    return worker.rank, os.getpid()


def closing_part(worker: Worker, number: int) -> None:
    with worker:
        part(worker, number)
