"""Options, query and end that all commands that search have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from notata.cli import output
from notata.cli.frame import ErrorCollector, json_option, storage_option

if TYPE_CHECKING:
    from notata.search import Query

__all__ = ["Asked", "filter_options", "fresh_option", "picking_options", "print_notes", "searching", "where_option"]

_STATUSES: Final = ("running", "complete", "failed", "died", "replacing", "unreadable")
"""The values of `notata.search.choosing.STATUSES`, repeated here because that module is imported only on use."""

_OPTIONS: Final = ("urls", "status", "where", "sort", "reverse", "limit", "storage_options")
"""The arguments of `notata.search.Query` that options give."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Asked:
    """The request of the user to a command that searches.

    Attributes:
        options: The arguments of the query.
        as_json: Whether to print JSON.
        collector: Prints errors, and keeps the exit code.
    """

    def __init__(self, options: Mapping[str, Any], as_json: bool) -> None:
        self.options = dict(options)
        self.as_json = as_json
        self.collector = ErrorCollector()

    @property
    def filters(self) -> bool:
        """True if the user gave ``--status`` or ``--where``."""
        return bool(self.options.get("status") or self.options.get("where"))

    @cached_property
    def query(self) -> Query:
        """The query for functions of `notata.search`, whose errors the collector prints."""
        from notata.search import Query

        return Query(failed=self.collector, **self.options)

    def end(self, *, found: bool = True) -> None:
        """End the command, after notes about the filter: with the code of the errors, else by whether it found any."""
        print_notes(self.query.notes())
        self.collector.end(found=found)


def searching(options: Callable[[Callable[..., Any]], Any] | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Add the given options, ``-o`` and ``--json``; the command gets them and its URLs as one argument, an `Asked`."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*arguments: Any, as_json: bool, **given: Any) -> Any:
            names = _OPTIONS if options else ("urls", "storage_options")
            asked = Asked({name: given.pop(name) for name in names if name in given}, as_json)
            return function(*arguments, asked, **given)

        wrapped: Callable[..., Any] = storage_option()(json_option(command))
        return options(wrapped) if options else wrapped

    return decorated


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


def _together(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    """Return one decorator for several, which adds their options in this order."""
    return lambda function: functools.reduce(lambda one, option: option(one), reversed(options), function)


where_option: Callable[[_Function], _Function] = click.option(
    "--where",
    metavar="EXPRESSION",
    help="Select only runs that match this filter, such as 'omega > 1 and age < days(2)'.",
)
"""Add ``--where``."""

filter_options = _together(
    click.option(
        "--status",
        multiple=True,
        metavar=f"[{'|'.join(_STATUSES)}]",
        callback=_statuses,
        shell_complete=_complete_statuses,
        help="Select only runs with this status. Separate several with commas, or repeat the option.",
    ),
    where_option,
)
"""Add ``--status`` and ``--where``."""

picking_options = _together(
    filter_options,
    click.option(
        "--sort",
        metavar="KEY",
        help="Sort by name, status, started, ended, age, seconds, size, files, a parameter or a metric.",
    ),
    click.option("-r", "--reverse", is_flag=True, help="Reverse the order."),
    click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N runs."),
)
"""Add the options of `filter_options`, and ``--sort``, ``-r`` and ``-n``."""


fresh_option = click.option(
    "--fresh", is_flag=True, help="Look at every run, even in a large experiment that has an index."
)
"""Add ``--fresh``."""


def print_notes(notes: Iterable[str]) -> None:
    """Print notes about a filter or an order."""
    for note in notes:
        output.error_line(f"Note: {note}")
