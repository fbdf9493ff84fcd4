"""Run one point of a sweep again: ``python -m notata.rerun.point``, which `notata rerun` starts in the worktree."""

from __future__ import annotations

import os
import sys

from notata import Logbook
from notata.errors import NotataError
from notata.run.redirection import ORIGIN, RERUN, Redirection
from notata.sweep.point import store_metrics
from notata.sweep.tasks import load_task

__all__ = ["main"]


def main() -> int:
    """Call the task of the point in a new run; return the exit code."""
    point = Redirection.parse(os.environ.pop(RERUN, ""))
    if point is None or not point.task:
        print("This module is started by notata rerun", file=sys.stderr)  # noqa: T201
        return 2
    try:
        task = load_task(point.task)
        log = Logbook(point.new, point.base, point.params, preallocate=True, storage_options=point.options or None)
    except NotataError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    log.meta(**{ORIGIN: dict(point.origin)})
    with log:
        store_metrics(log, task, task(log, **point.params))
    return 0


if __name__ == "__main__":
    sys.exit(main())
