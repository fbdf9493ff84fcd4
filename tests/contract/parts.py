"""Work of a pool process that receives a worker; in its own module, so that spawned processes import little else."""

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
