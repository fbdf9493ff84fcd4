"""Alerts: one look at many runs, and one notification for each run that has newly failed, died, ended or stalled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from notata._base import keys
from notata._base.display import duration
from notata._base.secrets import redacted
from notata._base.terminal import one_line
from notata._base.times import span
from notata.errors import ConfigurationError, NotataError, RunMissingError
from notata.search.alert import Alert
from notata.search.alert_state import AlertState, default_folder
from notata.search.choosing import Query, Wheres, runs
from notata.search.notifying import DeliveryError, Notify, deliverer
from notata.search.places import Run
from notata.search.retention import end_of
from notata.search.target import Failed, Target, URLs, below, raise_error

__all__ = ["ON", "Look", "Undelivered", "Watcher"]

ON: Final = ("died", "failed", "complete", "stalled")
"""States that a `Watcher` reports."""

_MOST: Final = 100  # alerts of one look; the next one continues
_FAILURES: Final = 3  # failed notifications in a row, after which the next look continues
_LONG: Final = {"name": 300, "run_id": 300, "url": 2000, "why": 500, "host": 100}
"""Maximum characters of the text of a run in an alert, as the folder may be forged."""

_TEXT: Final = 1000  # characters of the reason of a failed delivery
_UNKNOWN: Final = "unknown"
"""The text by which a run is remembered that could not be read at the first look."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An alert that was not delivered. The next look tries again.

    Attributes:
        alert: The alert.
        why: The reason, in one line without secrets.
    """

    alert: Alert
    why: str


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look at the runs.

    Attributes:
        alerts: The new states, each of which was delivered.
        undelivered: Those that were not delivered.
        waiting: The number of new states that the next look reports, as there are too many for one.
        old: The number of states that were there when a place was looked at for the first time. They are not reported.
        more_errors: The number of errors beside the first one of each place.
        is_busy: Another process is looking, so this one did nothing.
        notes: Notes about the filter, and about indexes.
    """

    alerts: list[Alert] = field(default_factory=list)
    undelivered: list[Undelivered] = field(default_factory=list)
    waiting: int = 0
    old: int = 0
    more_errors: int = 0
    is_busy: bool = False
    notes: list[str] = field(default_factory=list)


class Watcher:
    """Reports each run that has newly failed or died, once for each attempt.

    It remembers in a local file what it has reported. States that are there at the first look are not reported. Two
    processes with the same file never report the same: the second one does nothing while the first one looks.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        on: The states to report: ``died``, ``failed``, ``complete`` and ``stalled``.
        notify: A web address that gets a POST with JSON, a command line, or a function that is called with each
            `Alert`. By default nothing is called; `Look.alerts` has the news.
        state: The file that remembers what was reported. By default one in the user's state folder, whose name depends
            on the places and all other arguments.
        report_all: At the first look, report also the states that are there already.
        older: Report a state only if it is that old, such as ``"10m"``, so that a run that is resumed soon is not
            reported.
        stalled: For the state ``stalled``: a running run has written no file for so long. Heartbeats do not count.
        fresh: Look at every run, also of an experiment with a large index.
        where: Only runs that match this expression, or for which this function of a `Run` is true.
        storage_options: Options for fsspec.
        failed: Called with the first error of each place; the other places are looked at. By default it is raised.
        now: Returns the time.

    Raises:
        ConfigurationError: An argument is invalid.

    >>> from notata import Logbook
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     watcher = Watcher("memory://alerts", state=f"{folder}/watch.json")
    ...     Logbook("a", "memory://alerts").mark_failed("diverged")
    ...     first = watcher.look()
    ...     Logbook("b", "memory://alerts").mark_failed("diverged")
    ...     first.alerts, first.old, [alert.text for alert in watcher.look().alerts], watcher.look().alerts
    ([], 1, ['memory://alerts/log_b failed: diverged (on ...)'], [])
    """

    def __init__(
        self,
        urls: URLs | Query | None = None,
        *,
        on: str | Iterable[str] = ("died", "failed"),
        notify: str | Notify | None = None,
        state: str | os.PathLike[str] | None = None,
        report_all: bool = False,
        older: str | float | timedelta | None = None,
        stalled: str | float | timedelta = "2h",
        fresh: bool = False,
        where: Wheres | None = None,
        storage_options: Mapping[str, Any] | None = None,
        failed: Failed = raise_error,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._query = Query.of(urls, where=where, storage_options=storage_options, failed=failed)
        self._on = tuple(dict.fromkeys([on] if isinstance(on, str) else on))
        if not self._on or (strange := [name for name in self._on if name not in ON]):
            given = repr(strange[0]) if self._on else "nothing"
            raise ConfigurationError(f"cannot report {given}; choose from {', '.join(ON)}")
        self._notify = deliverer(notify) if isinstance(notify, str) else notify
        self._report_all = report_all
        self._older = None if older is None else span(older)
        self._stalled = span(stalled)
        self._fresh = fresh
        self._now = now
        options = [self._on, self._query.filter_text, older, stalled, notify if isinstance(notify, str) else None]
        self._state = AlertState(Path(state) if state is not None else self._default_state(options))

    @property
    def state_file(self) -> Path:
        """The file that remembers what was reported."""
        return self._state.path

    def _default_state(self, options: list[Any]) -> Path:
        places = [[_address(target), target.storage_options] for target in self._query.targets]
        text = redacted(json.dumps([places, *options], default=str, sort_keys=True))
        return default_folder() / f"watch-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def look(self) -> Look:
        """Look at all runs once, and report new states.

        An alert is remembered after it was delivered, so one that fails is delivered by a later look. It is delivered
        twice only if the process is killed between the two. One look reports at most 100 states, and stops after three
        failures in a row; the next look reports the rest.

        Cost: that of `notata.search.runs`.

        Raises:
            ConfigurationError: The state file cannot be used.
            DecodeError: The state file is damaged.
        """
        with self._state.locked() as is_mine:
            if not is_mine:
                return Look(is_busy=True)
            self._state.load()
            return _Looking(self._state, self._now()).result(self)

    def _found(self, target: Target, errors: list[NotataError]) -> tuple[list[Run], list[str]]:
        found = runs(self._query.at(target, errors.append), fresh=self._fresh)
        return list(found), found.notes

    def _status(self, run: Run, now: datetime) -> str:
        """Return the state of a run that is to be reported; empty if there is none."""
        if run.status in self._on:
            return run.status
        if "stalled" in self._on and run.status == "running":
            last = _last_change(run)
            return "stalled" if last is not None and (now - last).total_seconds() > self._stalled else ""
        return ""

    def _is_young(self, run: Run, status: str, now: datetime) -> bool:
        end = end_of(run) if self._older is not None and status != "stalled" else None
        return end is not None and self._older is not None and (now - end).total_seconds() < self._older


class _Looking:
    """One look: it finds new states, and delivers their alerts."""

    def __init__(self, state: AlertState, now: datetime) -> None:
        self._state = state
        self._now = now
        self._news: dict[str, tuple[Alert, str]] = {}  # with the text to remember, by the URL of the run
        self._old = 0
        self._more_errors = 0
        self._notes: list[str] = []
        self._current: dict[str, None] = {}  # the URLs of all runs that are in a watched state, or unreadable

    def result(self, watcher: Watcher) -> Look:
        """Look at each place, and deliver the alerts."""
        for target in watcher._query.targets:
            self._look_at(target, watcher)
        alerts, undelivered = self._delivered(watcher._notify)
        self._state.store(self._current)
        waiting = len(self._news) - len(alerts) - len(undelivered)
        return Look(alerts, undelivered, waiting, self._old, self._more_errors, notes=self._notes)

    def _look_at(self, target: Target, watcher: Watcher) -> None:
        errors: list[NotataError] = []
        found, notes = watcher._found(target, errors)
        self._notes += [note for note in notes if note not in self._notes]
        if errors:  # a storage that is down refuses each run
            watcher._query.failed(errors[0])
            self._more_errors += len(errors) - 1
        place = _address(target)
        is_known = place in self._state.places or watcher._report_all
        if not (is_known or found) and any(not isinstance(error, RunMissingError) for error in errors):
            return  # the place was not listed, so what is old is unknown: the next look is the first one
        self._state.places.add(place)
        before = self._state.runs
        for run, status, known in self._states(found, watcher):
            if before.get(run.url) == known:
                continue
            if not is_known or before.get(run.url) == _UNKNOWN:
                self._old += known != _UNKNOWN
                before[run.url] = known
            elif known != _UNKNOWN and not watcher._is_young(run, status, self._now):
                self._news[run.url] = _alert(run, status, self._now), known

    def _states(self, found: Iterable[Run], watcher: Watcher) -> Iterator[tuple[Run, str, str]]:
        """Yield each run in a watched state with this state, and with the text by which it is remembered.

        A run that cannot be read has an unknown state: at the first look this is remembered, as it may be an old one.
        """
        for run in found:
            status = watcher._status(run, self._now)
            if run.url in self._current or not (status or run.status == "unreadable"):
                continue
            self._current[run.url] = None
            yield run, status, _known(run, status) if status else _UNKNOWN

    def _delivered(self, notify: Notify | None) -> tuple[list[Alert], list[Undelivered]]:
        alerts: list[Alert] = []
        undelivered: list[Undelivered] = []
        in_a_row = 0
        failed_before = [url for url in self._state.failed if url in self._news]
        fresh_first = [*(url for url in self._news if url not in failed_before), *failed_before]
        for url in fresh_first[:_MOST]:
            alert, known = self._news[url]
            if url in failed_before:
                failed_before.remove(url)
            if why := _deliver(notify, alert):
                undelivered.append(Undelivered(alert, why))
                failed_before.append(url)
                in_a_row += 1
                if in_a_row == _FAILURES:
                    break
                continue
            in_a_row = 0
            alerts.append(alert)
            self._state.runs[url] = known
            if notify is not None:
                self._state.store(self._current)
        self._state.failed = failed_before
        return alerts, undelivered


def _deliver(notify: Notify | None, alert: Alert) -> str:
    """Deliver an alert; return why that failed, or an empty text."""
    if notify is None:
        return ""
    try:
        notify(alert)
    except DeliveryError as error:
        return one_line(error, _TEXT)
    except Exception as error:
        return one_line(redacted(f"{type(error).__name__}: {error}"), _TEXT)
    return ""


def _alert(run: Run, status: str, now: datetime) -> Alert:
    why = {"failed": run.failure_reason, "died": run.why}.get(status, "")
    if status == "stalled" and (last := _last_change(run)) is not None:
        why = f"it has written nothing for {duration((now - last).total_seconds())}"
    end = end_of(run) if status != "stalled" else None
    texts = {"name": run.name, "run_id": run.run_id, "url": run.url, "why": why, "host": run.host}
    return Alert(
        **{name: one_line(redacted(text), _LONG[name]) for name, text in texts.items()},
        status=status,
        started=_iso(run.started),
        ended=_iso(end),
        attempt=run.attempt,
    )


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


def _known(run: Run, status: str) -> str:
    """Return the text by which a state is remembered: another run, and each attempt, has another one."""
    last = _last_change(run) if status == "stalled" else None
    began = "" if run.started is None else run.started.astimezone(UTC).isoformat()
    return " ".join(filter(None, (status, str(run.attempt), began, _iso(last))))


def _last_change(run: Run) -> datetime | None:
    """Return when a run last wrote a file, apart from its heartbeats; None if that is unknown."""
    files = [entry.modified for key, entry in run.entries.items() if key != keys.METADATA]
    return max(files, default=run.started)


def _address(target: Target) -> str:
    """Return the address of a place, also if it was given as a relative path; without credentials."""
    try:
        return below(target.store.url, target.pattern)
    except NotataError:
        return target.name
