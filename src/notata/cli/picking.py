"""Options that say which of the runs that were found are meant, and in which order; for all commands that list runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["picking_options"]

_STATUSES: Final = ("running", "complete", "failed", "died", "replacing", "unreadable")
"""Those of `notata.search.choosing.STATUSES`, which is imported when a command runs."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def picking_options(function: _Function) -> _Function:
    """``--status``, ``--where``, ``--sort``, ``-r`` and ``-n``, as the arguments that `notata.search.choosing` has."""
    for option in reversed(
        (
            click.option(
                "--status",
                multiple=True,
                type=click.Choice(_STATUSES),
                callback=lambda _context, _parameter, value: list(value) or None,
                help="Only runs of this status; may be given several times.",
            ),
            click.option(
                "--where",
                metavar="EXPRESSION",
                help="Only runs for which this holds, such as 'omega > 1 and age < days(2)'.",
            ),
            click.option(
                "--sort",
                metavar="KEY",
                help="Order by name, status, started, ended, age, seconds, size, files, a parameter or a metric.",
            ),
            click.option("-r", "--reverse", is_flag=True, help="Turn the order around."),
            click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most N runs."),
        )
    ):
        function = option(function)
    return function
