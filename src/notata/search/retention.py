"""Retention: which of many runs are kept, as the best, the last or young ones, and which may be removed. No requests.

A run that should be kept is never removed because something about it is unknown: one without the value, without a
known end or with metadata that cannot be read is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from notata._base.display import duration
from notata._base.terminal import one_line
from notata._base.times import span
from notata.errors import ConfigurationError, NotataError
from notata.run.state import COPIED, lease_of
from notata.search.places import Run
from notata.search.sources import Sources, parents_of, plain_url
from notata.search.where import close_to, finder, needs_values

__all__ = ["PER", "Best", "Decision", "Retention", "end_of", "orphaned"]

PER: Final = ("all", "experiment")
"""What `Retention.per` may be."""

_DIRECTIONS: Final = {"min": False, "max": True}
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_INTERRUPTED: Final = "interrupted removal"
_SHOWN: Final = 200  # characters of the name of a run in a reason


@dataclass(frozen=True, slots=True)
class Best:
    """The number of runs that are kept as the best ones by a value.

    Attributes:
        count: The number of runs.
        name: The value: a parameter, a metric, or a column of a series, as in an order: ``error``, ``loss.min``.
        largest: Whether the largest value is the best; by default the smallest is.

    >>> Best.parsed("5:accuracy:max")
    Best(count=5, name='accuracy', largest=True)
    >>> str(Best.parsed("3:loss.min"))
    'best 3 by loss.min'
    """

    count: int
    name: str
    largest: bool = False

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Parse ``N:NAME``, ``N:NAME:min`` or ``N:NAME:max``.

        Raises:
            ConfigurationError: It is none of these.
        """
        count, _, rest = text.partition(":")
        name, colon, direction = rest.rpartition(":")
        if not colon or direction not in _DIRECTIONS:
            name, direction = rest, "min"
        if not (count.isascii() and count.isdigit() and int(count) > 0 and name):
            raise ConfigurationError(
                f"{text!r} does not define which runs are best. Write a number and a value, such as 5:error, or "
                "5:accuracy:max if the largest is the best"
            )
        return cls(int(count), name, _DIRECTIONS[direction])

    def __str__(self) -> str:
        return f"best {self.count} by {self.name}"

    def number(self, run: Run) -> float | None:
        """Return the value of a run, the smaller the better; None if it has none, or one that is no number."""
        value = finder(self.name)(run)
        if not isinstance(value, int | float) or value != value:
            return None
        return -value if self.largest else value


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision whether a run is removed, and the reason.

    Attributes:
        run: The run.
        removes: Whether it is removed.
        reason: Why, in a word or two that many runs share, such as ``pinned`` or ``too young``.
        why: Why, with details about this run.
        error: The error for a run that is kept although it was to be removed.
    """

    run: Run
    removes: bool
    reason: str = ""
    why: str = ""
    error: NotataError | None = None

    def record(self) -> dict[str, Any]:
        """Return its fields by name."""
        names = ("name", "run_id", "url", "status", "files", "size")
        fields: dict[str, Any] = {name: getattr(self.run, name) for name in names}
        return fields | {"removes": self.removes, "reason": self.reason, "why": self.why}


@dataclass(frozen=True, slots=True)
class Retention:
    """A rule that says which runs are kept. A run that matches none of its parts may be removed.

    Attributes:
        keep_best: The best runs by one value or several, such as ``"5:error"`` or ``["5:error", "3:accuracy:max"]``.
            By default the smallest value is the best. Of runs with equal values, the one that ended last is the better.
        keep_last: The number of runs that ended last and are kept.
        older: Keep runs that ended less long ago, such as ``"90d"``; seconds or a `timedelta`. For a run that died,
            its last sign of life counts.
        per: ``"all"``: the best and the last of all runs are kept; ``"experiment"``: those of each folder of runs.
        without_value: Also remove runs that lack a number of `keep_best`. By default, they are kept; NaN is no number.
        keep_inputs: Also keep runs whose files a kept run has read (`Logbook.input`), which costs one read for each
            kept run that has inputs. Parents of kept runs are kept in any case.

    Raises:
        ConfigurationError: A part is invalid.

    >>> runs = [Run(f"log_{n}", str(n), f"memory://r/log_{n}", "complete", metrics={"error": n}) for n in (3, 1, 2)]
    >>> [(one.run.run_id, one.removes, one.why) for one in Retention(keep_best="1:error").decisions(runs)]
    [('3', True, 'not among the best 1 by error'), ('1', False, 'number 1 of the best 1 by error: 1'), ('2', True, ...)]
    """

    keep_best: str | Iterable[str] = ()
    keep_last: int = 0
    older: str | float | timedelta | None = None
    per: str = "all"
    without_value: bool = False
    keep_inputs: bool = False
    _best: tuple[Best, ...] = field(default=(), init=False, repr=False, compare=False)
    _oldest: float | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = [self.keep_best] if isinstance(self.keep_best, str) else list(self.keep_best)
        object.__setattr__(self, "keep_best", tuple(given))
        object.__setattr__(self, "_best", tuple(Best.parsed(one) for one in given))
        object.__setattr__(self, "_oldest", None if self.older is None else span(self.older))
        if self.per not in PER:
            raise ConfigurationError(f"unknown per {self.per!r}; choose from {', '.join(PER)}")
        if isinstance(self.keep_last, bool) or not isinstance(self.keep_last, int) or self.keep_last < 0:
            raise ConfigurationError(f"keep_last must be 0 or more, not {self.keep_last!r}")

    def __bool__(self) -> bool:
        """Return True if the rule keeps anything; otherwise it says nothing."""
        return bool(self._best or self.keep_last or self._oldest is not None)

    @property
    def values(self) -> bool:
        """True if parameters and metrics of the runs are needed."""
        return needs_values(best.name.partition(".")[0] for best in self._best)

    def decisions(
        self,
        runs: Sequence[Run],
        others: Sequence[Run] = (),
        *,
        force: bool = False,
        pinned: bool = False,
        sources: Sources = parents_of,
        now: datetime | None = None,
    ) -> list[Decision]:
        """Decide for each run whether it is removed.

        Pinned and running runs are kept, and so is the parent of a run that is kept. A pinned run counts as one of the
        best or last; a running one does not.

        Args:
            runs: The runs, with their metadata, and with parameters and metrics if `values`.
            others: Runs of the same places that stay in any case; their parents are kept.
            force: Treat running runs like others.
            pinned: Treat pinned runs like others.
            sources: Finds the runs that kept runs were made from, which are kept, too; by default their parents.
            now: The time for ages; by default that of the clock.

        Raises:
            ConfigurationError: With `without_value`, no run has a number of that name: all would be removed.
        """
        candidates = [run for run in runs if _competes(run, force=force)]
        kept = self._kept(candidates)
        moment = now or datetime.now(UTC)
        found = [
            _untouchable(run, force=force, pinned=pinned) or kept.get(run.url) or self._rest(run, moment)
            for run in runs
        ]
        return _with_sources(found, others, sources)

    def notes(self, runs: Sequence[Run]) -> list[str]:
        """Return notes, such as a value that no run has."""
        return [
            f"no run has {best.name} as a number{close_to(best.name, runs)}"
            for best in self._best
            if runs and all(best.number(run) is None for run in runs)
        ]

    def _kept(self, candidates: Sequence[Run]) -> dict[str, Decision]:
        """Return the decisions about the best and the last runs, by URL."""
        groups: dict[str, list[Run]] = {}
        for run in candidates:
            groups.setdefault(run.url.rpartition("/")[0] if self.per == "experiment" else "", []).append(run)
        kept: dict[str, Decision] = {}
        for best in self._best:
            if self.without_value and candidates and all(best.number(run) is None for run in candidates):
                raise ConfigurationError(
                    f"cannot keep the {best}: no run has it as a number{close_to(best.name, candidates)}. All runs "
                    "would be removed; correct the name"
                )
            for group in groups.values():
                for rank, run in enumerate(_ranked(group, best)[: best.count], 1):
                    why = f"number {rank} of the {best}: {_shown(finder(best.name)(run))}"
                    kept.setdefault(run.url, Decision(run, False, f"best by {best.name}", why))
        for group in groups.values() if self.keep_last else ():
            latest = sorted(group, key=_newest, reverse=True)
            for rank, run in enumerate(latest[: self.keep_last], 1):
                why = f"number {rank} of the last {self.keep_last}"
                kept.setdefault(run.url, Decision(run, False, "last", why))
        return kept

    def _rest(self, run: Run, now: datetime) -> Decision:
        """Decide about a run that is neither one of the best nor of the last."""
        why = [f"not among the {best}" for best in self._best]
        why += [f"not among the last {self.keep_last}"] if self.keep_last else []
        lacking = [best.name for best in self._best if best.number(run) is None]
        if lacking and (run.metrics_error or not self.without_value):
            why_lacking = run.metrics_error or f"{lacking[0]} is missing, or is not a number"
            return Decision(run, False, f"without {lacking[0]}", why_lacking)
        end = end_of(run)
        if end is None and (self._oldest is not None or self.keep_last):
            return Decision(run, False, "end unknown", "it is not known when it ended")
        if end is not None and self._oldest is not None:
            age = (now - end).total_seconds()
            ended = f"it ended {duration(max(0.0, age))} ago"
            if age <= self._oldest:
                return Decision(run, False, "too young", ended)
            why.append(ended)
        return Decision(run, True, "not kept", ", ".join(why))


def _shown(value: float) -> str:
    """Return a number as text; an integer can be too large for a float."""
    try:
        return f"{value:.6g}"
    except OverflowError:
        return f"about {'-' if value < 0 else ''}1e{len(str(abs(value))) - 1}"


def end_of(run: Run) -> datetime | None:
    """Return when a run ended, or gave its last sign of life; None if that is unknown."""
    if run.ended is not None or run.started is None or run.seconds is None:
        return run.ended
    try:
        return run.started + timedelta(seconds=run.seconds)
    except OverflowError:
        return None


def _competes(run: Run, *, force: bool) -> bool:
    return run.status not in ("replacing", "unreadable") and (force or run.status != "running")


def _newest(run: Run) -> tuple[datetime, str]:
    return end_of(run) or _NEVER, run.url


def _ranked(runs: Iterable[Run], best: Best) -> list[Run]:
    """Return the runs that have the number, the best first; of equal ones, the one that ended last."""
    numbers = {run.url: (run, number) for run in runs if (number := best.number(run)) is not None}
    newest_first = sorted(numbers.values(), key=lambda one: _newest(one[0]), reverse=True)
    return [run for run, _ in sorted(newest_first, key=lambda one: one[1])]


def _untouchable(run: Run, *, force: bool, pinned: bool) -> Decision | None:
    """Return the decision about a run that no rule concerns; None for any other."""
    if run.status == "replacing":
        if not lease_of(run.metadata) and COPIED not in run.metadata:
            return Decision(run, True, _INTERRUPTED, "an earlier removal was interrupted")
        return Decision(run, False, "being replaced", "it is being replaced or copied")
    if run.status == "unreadable":
        return Decision(run, False, "unreadable", run.why)
    if run.pinned and not pinned:
        return Decision(run, False, "pinned", "it is pinned")
    if run.status == "running" and not force:
        return Decision(run, False, run.shown_status, run.why)
    return None


def _with_sources(found: Sequence[Decision], others: Sequence[Run], sources: Sources) -> list[Decision]:
    """Keep the runs that kept runs were made from, those that these were made from, and so on."""
    decided = {one.run.url: one for one in found}
    kept = [*others, *(one.run for one in found if not one.removes)]
    while lost := orphaned(decided.values(), sources(kept)):
        for run, child, how in lost:
            why = f"it is the {how} of {one_line(child.name, _SHOWN)}, which is kept"
            decided[run.url] = Decision(run, False, f"{how} of a kept run", why)
        kept = [run for run, _, _ in lost]
    return [*decided.values()]


def orphaned(found: Iterable[Decision], pairs: Iterable[tuple[Run, str, str]]) -> list[tuple[Run, Run, str]]:
    """Return each run to be removed that a kept run was made from, with that run, and ``parent`` or ``input``.

    Args:
        found: The decisions.
        pairs: Each kept run with the URL of a run that it was made from, see `Sources`.
    """
    removed = {plain_url(one.run.url): one.run for one in found if one.removes and one.reason != _INTERRUPTED}
    return [(removed.pop(url), child, how) for child, given, how in pairs if (url := plain_url(given)) in removed]
