"""Filters of runs: the names that an expression may use, and their values for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from notata.formats import flattened
from notata.search.places import Run

if TYPE_CHECKING:
    from notata.search.expressions import Path

__all__ = [
    "FACTS",
    "MISSING",
    "Where",
    "close_to",
    "column",
    "fact",
    "finder",
    "indexed_alone",
    "listed_alone",
    "needs_values",
]

MISSING: Final[Any] = object()
"""Stands for a value that a run does not have."""

_PARTS: Final = ("params", "metrics", "metadata")

_FROM_LISTING: Final = frozenset({
    "name", "run_id", "url", "size", "files", "status", "failure_reason", "metrics_error", "params", "metrics",
    "pinned",
})  # fmt: skip
"""Facts that are known without the metadata.json of a run, if index.csv has its row."""

_NOT_IN_INDEX: Final = frozenset({"size", "files", "metadata", "exit_code", "cpu_seconds", "peak_memory"})
"""Names that only a listing and the metadata.json of a run provide, and no index."""


def _fact(name: str) -> Callable[[Run], Any]:
    def fact_of(run: Run) -> Any:
        value = getattr(run, name)
        return (
            value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else None if value == "" else value
        )

    return fact_of


_NAMES: Final = (
    "name", "run_id", "url", "status", "certain", "started", "ended", "age", "seconds", "size", "files",
    "failure_reason", "metrics_error", "host", "pinned", "exit_code", "cpu_seconds", "peak_memory",
)  # fmt: skip

FACTS: Final[Mapping[str, Callable[[Run], Any]]] = {name: _fact(name) for name in _NAMES}
"""Names for filters, orders and columns: times as ISO 8601 in this machine's zone, spans in seconds, sizes in bytes.
None means unknown. A parameter or metric of the same name is ``params.<name>`` or ``metrics.<name>``."""


def fact(run: Run, name: str) -> Any:
    """Return one of `FACTS`; None if it is unknown."""
    return FACTS[name](run)


_TEXTS: Final = {"name", "run_id", "url", "status", "started", "ended", "failure_reason", "metrics_error", "host"}


class Where:
    """A filter of runs.

    A name in it is one of `FACTS`, else a parameter, else a metric. ``params``, ``metrics`` and ``metadata`` give
    access to everything else: ``params.solver.order``, ``params['learning rate']``, ``metadata.environment.user``.

    A run that lacks a name, or whose value does not fit the operation (``None > 1``), does not match; with ``or`` it
    matches if the other side holds. The language has comparisons, also chained, ``and``, ``or``, ``not``, ``in``,
    arithmetic on numbers, ``true``, ``false`` and ``null``, and the functions of
    `notata.search.expressions.FUNCTIONS`. Strings need quotes, and 1 is not true. No text of a run or filter is ever
    executed as code.

    Args:
        expression: Such as ``omega > 1 and dt < 0.1``.

    Raises:
        ConfigurationError: The expression is invalid; the message shows where.

    >>> where = Where("omega > 1 and solver.order in [2, 4] and age < days(2)")
    >>> where.values
    True
    >>> where(Run("a", "a", "memory://a", "complete", params={"omega": 2.0, "solver": {"order": 4}}))
    False
    >>> Where("omega > 1 or age < days(2)")(Run("a", "a", "memory://a", "complete", params={"omega": 2.0}))
    True

    Attributes:
        values: Whether the filter uses parameters or metrics.
        metadata: Whether the filter uses facts that only metadata.json provides.
        listing: Whether the filter uses facts that no index has, such as the size.
    """

    def __init__(self, expression: str) -> None:
        from notata.search.expressions import Expression  # `ast` takes 10 ms

        self._expression = Expression(expression)
        names = [str(path[0]) for path in self._expression.paths]
        self.values = needs_values(names)
        self.metadata = not listed_alone(names)
        self.listing = not indexed_alone(names)
        self._unseen: set[Path] = set(self._expression.paths)
        self._shadowed: dict[str, str] = {}
        self._facts = [name for name in names if name in FACTS]
        self._known: set[str] = set()
        self._asked = False

    def __str__(self) -> str:
        return self._expression.text

    def __call__(self, run: Run) -> bool:
        """Check whether a run matches."""
        self._notice(run)
        return self._expression.holds(lambda path: _value(run, path))

    def _notice(self, run: Run) -> None:
        """Remember which names the run has, for `notes`."""
        self._asked = True
        self._unseen = {path for path in self._unseen if not _has(run, path)}
        for name in self._facts:
            for part in ("params", "metrics"):
                if name in getattr(run, part):
                    self._shadowed.setdefault(name, f"{part}.{name}")
        if self._unseen:
            self._known |= run.params.keys() | run.metrics.keys()

    def notes(self) -> list[str]:
        """Return notes about the filter after it was evaluated, such as names that none of the runs has."""
        if not self._asked:
            return []
        quoted = self._expression.quoted(self._unseen.__contains__, lambda path: path[0] in _TEXTS)
        bare = quoted[1] if quoted else ()
        notes = [_of_unseen(path, self._known) for path in sorted(self._unseen - {*bare}, key=str)]
        if quoted:
            unseen = f"no run has {', '.join(map(_shown, bare))}; " if bare else ""
            notes.append(f"{unseen}put text in quotes: {quoted[0]}")
        notes += [
            f"{name} is the value of the run; there is also {other}" for name, other in sorted(self._shadowed.items())
        ]
        return notes + [f"not computed for some runs: {self._expression.too_much}"] * bool(self._expression.too_much)


def needs_values(names: Iterable[str]) -> bool:
    """Check whether one of these names, without their parts, is a parameter or a metric.

    >>> needs_values(["status", "age"]), needs_values(["omega"])
    (False, True)
    """
    return any(name not in FACTS and name != "metadata" for name in names)


def listed_alone(names: Iterable[str]) -> bool:
    """Check whether a row of index.csv and a listing provide all of these names."""
    return all(name in _FROM_LISTING or (name not in FACTS and name != "metadata") for name in names)


def indexed_alone(names: Iterable[str]) -> bool:
    """Check whether a large index provides all of these names, without their parts.

    >>> indexed_alone(["omega", "started", "host"]), indexed_alone(["size"])
    (True, False)
    """
    return _NOT_IN_INDEX.isdisjoint(names)


def finder(name: str) -> Callable[[Run], Any]:
    """Return a function that finds the value that a run has under a name; `MISSING` if there is none.

    A name of a column or an order may contain dots, or refer to a part of a value.

    >>> run = Run("a", "a", "memory://a", "complete", params={"solver": {"order": 4}, "a.b": 1, "status": "x"})
    >>> [finder(name)(run) for name in ("status", "params.status", "solver.order", "a.b")]
    ['complete', 'x', 4, 1]
    >>> finder("other")(run) is MISSING
    True
    """
    if name in FACTS:
        return _of_facts(name)
    if name in _PARTS:
        return attrgetter(name)
    part, dot, rest = name.partition(".")
    if dot and part in _PARTS:
        return _of_part(part, rest)
    return _of_either(_of_part("params", name), _of_part("metrics", name))


def column(name: str, runs: Iterable[Run], gap: Any) -> list[Any]:
    """Return the values of a name for many runs, as `finder` finds them; `gap` where a run has none."""
    part, _, rest = name.partition(".")
    if name in FACTS or part not in ("params", "metrics") or not rest:
        find = finder(name)
        return [gap if (value := find(run)) is MISSING else value for run in runs]
    dictionaries = map(attrgetter(part), runs)
    if "." not in rest:
        return [values.get(rest, gap) for values in dictionaries]
    within = _inside(rest)
    return [gap if (value := within(values)) is MISSING else value for values in dictionaries]


def _of_facts(name: str) -> Callable[[Run], Any]:
    value_of = FACTS[name]

    def found(run: Run) -> Any:
        value = value_of(run)
        return MISSING if value is None else value

    return found


def _of_part(part: str, name: str) -> Callable[[Run], Any]:
    values = attrgetter(part)
    if "." not in name:
        return lambda run: values(run).get(name, MISSING)
    within = _inside(name)
    return lambda run: within(values(run))


def _inside(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that finds a name with dots in a dictionary, as `_within` does."""
    first, _, rest = name.partition(".")

    def found(values: Mapping[str, Any]) -> Any:
        if name in values:
            return values[name]
        inner = values.get(first)
        if type(inner) is dict and rest in inner:  # most names have one dot
            return inner[rest]
        value = _within(values, name)
        return value[0] if value else MISSING

    return found


def _of_either(first: Callable[[Run], Any], second: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """Return a function that finds the first value that is not None, or else the first one."""

    def found(run: Run) -> Any:
        value = first(run)
        if value is not MISSING and value is not None:
            return value
        other = second(run)
        return other if value is MISSING or not (other is MISSING or other is None) else value

    return found


def _within(values: Mapping[str, Any], name: str) -> tuple[Any] | None:
    if name in values:
        return (values[name],)
    at = name.find(".")
    while at >= 0:
        inner = values.get(name[:at])
        if isinstance(inner, Mapping) and (found := _within(inner, name[at + 1 :])):
            return found
        at = name.find(".", at + 1)
    return None


def _value(run: Run, path: Path) -> Any:
    value, rest = _beginning(run, path)
    for step in rest:
        value = value[step]
    return value


def _beginning(run: Run, path: Path) -> tuple[Any, Path]:
    """Return the value with the longest name at the beginning of a path, and the rest of the path."""
    part = getattr(run, str(path[0])) if path[0] in _PARTS else None
    for count in range(len(path), 1, -1):  # a name with dots, such as loss.min or metrics.loss.min
        name = ".".join(map(str, path[:count]))
        if name in run.params or name in run.metrics:
            return _root(run, name), path[count:]
        if part is not None and (own := ".".join(map(str, path[1:count]))) in part:
            return part[own], path[count:]
    return _root(run, str(path[0])), path[1:]


def _root(run: Run, name: str) -> Any:
    if name in FACTS:
        if (value := fact(run, name)) is None:
            raise LookupError(name)
        return value
    if name in _PARTS:
        return getattr(run, name)
    return run.params[name] if name in run.params else run.metrics[name]


def _has(run: Run, path: Path) -> bool:
    if path[0] in FACTS or (len(path) == 1 and path[0] in _PARTS):
        return True
    try:
        _value(run, path)
    except (LookupError, TypeError):
        return False
    return True


def close_to(name: str, runs: Iterable[Run]) -> str:
    """Return a hint with similar names, for a name that none of these runs has."""
    return _close(name.removeprefix("params.").removeprefix("metrics."), _names(runs))


def _names(runs: Iterable[Run]) -> set[str]:
    names: set[str] = set()
    for run in runs:
        for values in (run.params, run.metrics):
            names.update(values)
            names.update(flattened(values))
    return names


def _of_unseen(path: Path, known: Iterable[str]) -> str:
    wanted = str(path[-1] if path[0] in _PARTS else path[0])
    return f"no run has {_shown(path)}{_close(wanted, known)}"


def _close(wanted: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(wanted, sorted({*FACTS, *known}), 3, 0.6)
    return f"; similar names: {', '.join(close)}" * bool(close)


def _shown(path: Sequence[str | int]) -> str:
    """Return a path as written in a filter."""
    name = str(path[0])
    for step in path[1:]:
        name += f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]"
    return name
