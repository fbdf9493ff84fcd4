"""Options that select and order runs, for all commands that list runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from notata.cli import output

if TYPE_CHECKING:
    from notata.search import Where

__all__ = ["filter_of", "filter_options", "picking_options", "print_filter_notes", "print_notes"]

_STATUSES: Final = ("running", "complete", "failed", "died", "replacing", "unreadable")
"""The values of `notata.search.choosing.STATUSES`, repeated here because that module is imported only on use."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _statuses(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
    """Return the statuses of all options, each of which may name several."""
    words = [word.strip() for one in given for word in one.split(",")]
    if strange := [word for word in words if word not in _STATUSES]:
        raise click.BadParameter(f"{strange[0]!r} is not one of {', '.join(map(repr, _STATUSES))}")
    return words or None


def _complete_statuses(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    others = [status for status in _STATUSES if status not in before.split(",")]
    return [f"{before}{comma}{status}" for status in others if status.startswith(last)]


def filter_options(function: _Function) -> _Function:
    """Add ``--status`` and ``--where``, as the arguments that functions of `notata.search` have."""
    for option in reversed(
        (
            click.option(
                "--status",
                multiple=True,
                metavar=f"[{'|'.join(_STATUSES)}]",
                callback=_statuses,
                shell_complete=_complete_statuses,
                help="Only runs with this status; several are separated by commas or repeated options.",
            ),
            click.option(
                "--where",
                metavar="EXPRESSION",
                help="Only runs that match this filter, such as 'omega > 1 and age < days(2)'.",
            ),
        )
    ):
        function = option(function)
    return function


def picking_options(function: _Function) -> _Function:
    """Add the options of `filter_options`, and ``--sort``, ``-r`` and ``-n`` for `notata.search.runs`."""
    for option in reversed(
        (
            filter_options,
            click.option(
                "--sort",
                metavar="KEY",
                help="Order by name, status, started, ended, age, seconds, size, files, a parameter or a metric.",
            ),
            click.option("-r", "--reverse", is_flag=True, help="Reverse the order."),
            click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N runs."),
        )
    ):
        function = option(function)
    return function


def filter_of(expression: str | None) -> Where | None:
    """Return the filter of ``--where``; see `print_filter_notes`."""
    if expression is None:
        return None
    from notata.search import Where

    return Where(expression)


def print_filter_notes(holds: Where | None) -> None:
    """Print notes about ``--where``, after the filter was evaluated for the runs."""
    print_notes(holds.notes() if holds else ())


def print_notes(notes: Iterable[str]) -> None:
    """Print notes about a filter or an order."""
    for note in notes:
        output.error_line(f"Note: {note}")
