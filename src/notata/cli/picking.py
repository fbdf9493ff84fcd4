"""Options that say which of the runs that were found are meant, and in which order; for all commands that list runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from notata.cli import output

if TYPE_CHECKING:
    from notata.search import Where

__all__ = ["filter_of", "filter_options", "picking_options", "tell_notes", "tell_oddities"]

_STATUSES: Final = ("running", "complete", "failed", "died", "replacing", "unreadable")
"""Those of `notata.search.choosing.STATUSES`, which is imported when a command runs."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _statuses(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
    """Those of all options, each of which may name several."""
    words = [word.strip() for one in given for word in one.split(",")]
    if strange := [word for word in words if word not in _STATUSES]:
        raise click.BadParameter(f"{strange[0]!r} is not one of {', '.join(map(repr, _STATUSES))}")
    return words or None


def _complete_statuses(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    others = [status for status in _STATUSES if status not in before.split(",")]
    return [f"{before}{comma}{status}" for status in others if status.startswith(last)]


def filter_options(function: _Function) -> _Function:
    """``--status`` and ``--where``, as the arguments that functions of `notata.search` have."""
    for option in reversed(
        (
            click.option(
                "--status",
                multiple=True,
                metavar=f"[{'|'.join(_STATUSES)}]",
                callback=_statuses,
                shell_complete=_complete_statuses,
                help="Only runs of this status, or of several with commas between; may be given again.",
            ),
            click.option(
                "--where",
                metavar="EXPRESSION",
                help="Only runs for which this holds, such as 'omega > 1 and age < days(2)'.",
            ),
        )
    ):
        function = option(function)
    return function


def picking_options(function: _Function) -> _Function:
    """As `filter_options`, with ``--sort``, ``-r`` and ``-n``, as the arguments that `notata.search.runs` has."""
    for option in reversed(
        (
            filter_options,
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


def filter_of(expression: str | None) -> Where | None:
    """What ``--where`` says; see `tell_oddities`."""
    if expression is None:
        return None
    from notata.search import Where

    return Where(expression)


def tell_oddities(holds: Where | None) -> None:
    """What is odd about ``--where``, once it has been asked of the runs."""
    tell_notes(holds.notes() if holds else ())


def tell_notes(notes: Iterable[str]) -> None:
    """What is odd about a filter or an order."""
    for note in notes:
        output.complain(f"Note: {note}")
