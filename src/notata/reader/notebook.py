"""Runs and experiments as HTML for notebooks.

A page shows what can be read, and the errors for the rest: to display an object never raises an error of the storage.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from notata._base import keys
from notata._base.display import counted, duration, size
from notata._base.notebook import Cell, grid, names, note, page, problem, state
from notata._base.times import moment
from notata.errors import AccessError, ContainerMissingError, DeadlineError, MissingError, NotataError, UnreachableError
from notata.formats import flattened
from notata.run.parameters import parameters
from notata.run.state import SUMMARY, RunState, number, read_state
from notata.series.labels import Named
from notata.store import Store
from notata.store.gaps import ignore
from notata.table import Index, Table, freshness, gather, listed_or_index, runs_below

__all__ = ["experiment_page", "files_table", "live_page", "run_page", "shown_time", "state_facts"]

_HOPELESS: Final = (AccessError, ContainerMissingError, DeadlineError, UnreachableError)
"""Errors after which other requests to the same storage are not tried."""

_SHOWN: Final = 50  # rows of a large index

T = TypeVar("T")


class _Attempts:
    """Reads parts of a page, and keeps the errors of those that cannot be read."""

    def __init__(self) -> None:
        self._errors: list[NotataError] = []

    def __call__(self, read: Callable[[], T]) -> T | None:
        """Return what a function reads; None after an error."""
        if any(isinstance(error, _HOPELESS) for error in self._errors):
            return None
        try:
            return read()
        except NotataError as error:
            self._errors.append(error)
            return None

    def problems(self) -> str:
        """Return messages about the errors, each once."""
        return "".join(problem(text) for text in dict.fromkeys(map(str, self._errors)))


def run_page(store: Store, run_id: str) -> str:
    """Return a page of a run: state, parameters, values over time, and files.

    Cost: a listing, two or three reads, and one read of a series if it has at most 8 MiB.
    """
    from notata.series.figures import Source, run_pictures  # imports numpy
    from notata.series.pictures import summaries

    attempt = _Attempts()
    fields, found = attempt(lambda: read_state(store)) or ({}, None)
    entries = {entry.key: entry for entry in attempt(lambda: store.list(skipped=ignore)) or []}
    params = attempt(lambda: parameters(store)) or {}
    source = Source(Named(run_id, run_id, params), store, entries)
    curves = attempt(lambda: run_pictures([source])) or ""
    return page(
        f"run {run_id}",
        attempt.problems(),
        names("", {**_facts(fields, found), "url": store.url}),
        names("params", flattened(params)),
        summaries(fields.get(SUMMARY)),
        curves,
        files_table({key: entry.size for key, entry in entries.items()}),
    )


def _facts(fields: Mapping[str, Any], found: RunState | None) -> dict[str, Any]:
    seconds = number(fields.get("runtime_sec"))
    times = {
        "started": _time(fields.get("start_time")),
        "ended": _time(fields.get("end_time")),
        "took": duration(seconds),
    }
    status = {} if found is None else state_facts(found.status, found.why, is_certain=found.certain)
    return {**status, **{name: value for name, value in times.items() if value}}


def _time(text: object) -> str:
    """Return a time from metadata.json for people; empty if it is none."""
    found = moment(text)
    return "" if found is None else shown_time(found)


def shown_time(time: datetime) -> str:
    """Return a time for people, to the second."""
    return time.isoformat(" ", "seconds")


def state_facts(status: str, why: str, *, is_certain: bool) -> dict[str, Any]:
    """Return the status of a run with its evidence, for a table of names and values."""
    detail = why.removeprefix("status in its metadata").removeprefix(": ")
    return {"status": state(status, f"{status}{'' if is_certain else '?'}{f' ({detail})' * bool(detail)}")}


def files_table(sizes: Mapping[str, int]) -> str:
    """Return a table of files with their sizes; nothing if there are none."""
    if not sizes:
        return ""
    total = size(sum(max(0, one) for one in sizes.values()))
    records = [{"file": key, "size": Cell(size(one) if one >= 0 else "", is_number=True)} for key, one in sizes.items()]
    return grid(f"{counted(len(records), 'file')}, {total}", ["file", "size"], records)


def live_page(
    title: str,
    store: Store,
    facts: Mapping[str, Any],
    written: Mapping[str, Mapping[str, Any]],
    *,
    params: Callable[[], Mapping[str, Any] | None] = dict,
    rank: str | None = None,
) -> str:
    """Return a page of a run that this process writes. Nothing is flushed, and no writer waits or is waited for.

    Args:
        title: The title.
        store: The store of the run, without a queue.
        facts: Names and values; a status comes with its reason.
        written: The summary of each series, with rows that are not stored yet.
        params: Returns the parameters as far as they are in memory; None to read them.
        rank: The rank of the worker; None for the owner of the run.

    Cost: a look-up and a read of one series if it has at most 8 MiB, and of unknown parameters one or two reads.
    """
    from notata.series.pictures import summary  # imports numpy

    attempt = _Attempts()
    values = attempt(lambda: _known_or_read(params, store)) or {}
    curves = (attempt(lambda: _stored_curves(store, written, rank)) if written else "") or ""
    shown = {**facts, "url": store.url}
    if "status" in facts:
        status, reason = facts["status"]
        shown["status"] = state(status, f"{status}: {reason}" if reason else status)
    tables = (summary(name, written[name]) for name in written)
    return page(title, attempt.problems(), names("", shown), names("params", flattened(values)), *tables, curves)


def _known_or_read(params: Callable[[], Mapping[str, Any] | None], store: Store) -> Mapping[str, Any]:
    known = params()
    return parameters(store) if known is None else known


def _stored_curves(store: Store, written: Mapping[str, Mapping[str, Any]], rank: str | None) -> str:
    """Return curves of the rows of one series that are stored by now."""
    from notata.series.figures import read
    from notata.series.many import SeriesFile
    from notata.series.pictures import preferred, series_pictures

    name = preferred(written)
    key = keys.series_file(name, rank)
    parts, messages = read(name, [SeriesFile("", "", store, key, _length(store, key))])
    missing = written[name]["rows"] - sum(data.rows for _, data in parts)
    waiting = note(f"{counted(missing, 'row')} not stored yet") if missing > 0 and not messages else ""
    return series_pictures(name, parts) + messages + waiting


def _length(store: Store, key: str) -> int:
    try:
        return store.stat(key).size
    except MissingError:  # no row is stored yet
        return 0


def experiment_page(store: Store, name: str) -> str:
    """Return a page of the runs of an experiment: their table, and curves of the first ones.

    Cost: that of the table, and one read for each of at most 10 runs, of 8 MiB in all.
    """
    from notata.series.figures import Source, run_pictures

    attempt = _Attempts()
    title = f"experiment {name}"
    listed, index = attempt(lambda: listed_or_index(store, ignore)) or ([], None)
    if index is not None:
        return _page_of_index(title, index)
    runs = runs_below(listed)
    table = attempt(lambda: gather(store, listed)) if listed else None
    if table is None:
        ids = [{"run_id": keys.run_id(folder)} for folder in runs]
        return page(title, attempt.problems(), names("", {"url": store.url}), grid("", ["run_id"], ids) * bool(ids))
    sources = [
        Source(Named(row.run_id, row.run_id, row.params), store.below(folder), runs[folder])
        for row in table.rows
        if (folder := table.runs[row.run_id]) in runs
    ]
    curves = attempt(lambda: run_pictures(sources)) or ""
    records = [{**record, "status": state(str(record.get("status", "")))} for record in table.records()]
    caption = f"{counted(len(records), 'run')} at {store.url}"
    return page(title, attempt.problems(), grid(caption, _usual(table.columns()), records), curves)


def _page_of_index(title: str, index: Index) -> str:
    """Return a page of an experiment whose runs are not listed: the table of the first ones, and how old it is."""
    first = heapq.nsmallest(_SHOWN, index.rows.values(), key=lambda row: (row.started, row.run_id))
    table = Table(first)
    records = [{**record, "status": state(str(record.get("status", "")))} for record in table.records()]
    count = len(index.rows)
    rows = grid(counted(count, "run"), _usual(table.columns()), records, total=count)
    return page(title, rows, note(freshness(index, "Index")))


def _usual(columns: Sequence[str]) -> list[str]:
    """Return the columns without extremes such as ``loss.min`` beside ``loss``, and with the failure reason last."""
    there = {*columns}
    extremes = {
        f"{name}{end}"
        for name in columns
        for end in (".min", ".max")
        if f"{name}.min" in there and f"{name}.max" in there and f"{name}.min.min" not in there
    }
    return sorted((name for name in columns if name not in extremes), key=lambda name: name == "failure_reason")
