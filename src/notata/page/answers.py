"""The answers to requests of the live page, as bytes of JSON. All calls block, and many threads can make them."""

from __future__ import annotations

import gzip
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from notata.errors import ConfigurationError, KeyNameError, MissingError, UnknownNameError
from notata.page.catalog import Catalog, Snapshot
from notata.page.curves import curve_page
from notata.page.digests import digests_of
from notata.page.live import Item, Live
from notata.page.model import TEXTS, run_page, runs_page, text_page
from notata.page.preview import file_page
from notata.page.rows import RowCache, RowFile, files_of
from notata.page.values import encoded, shown_text
from notata.search.overview import show
from notata.search.places import File, Run
from notata.series.columns import is_chosen
from notata.store.gaps import ignore

__all__ = ["RUNS", "Answers", "CurveRequest", "Table", "View"]

RUNS: Final = 500
"""Runs in one request for curves."""

_PREVIEW: Final = 4 * 2**20  # bytes of a file that are read for its preview
_TEXT: Final = 256 * 2**10  # bytes of a log or an output in one answer
_LINES: Final = 400  # lines of each below the facts of their run
_LEVEL: Final = 1  # of gzip: 10,000 runs take 10 ms, and a twelfth of the bytes, which matters in an SSH tunnel
_X: Final = ("step", "time", "relative")


@dataclass(frozen=True, slots=True)
class View:
    """The title, places and options of the page.

    Attributes:
        title: Its title.
        places: The places that it shows, as the user named them.
        group: Parameters by which curves are grouped.
        series: The only series that are shown, as names or patterns; by default all.
    """

    title: str
    places: tuple[str, ...]
    group: tuple[str, ...] = ()
    series: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The encoded table of runs.

    Attributes:
        number: The number of its snapshot.
        plain: The JSON.
        compressed: The same, compressed by gzip.
    """

    number: int
    plain: bytes
    compressed: bytes


@dataclass(frozen=True, slots=True)
class CurveRequest:
    """A request for curves: the parameters of its query.

    Attributes:
        runs: The ids of the runs; None for all that have the series.
        x: ``step``, ``time`` or ``relative``.
        between: Smallest and largest coordinate; None for no limit.
        smooth: The weight of the moving average.
    """

    runs: Sequence[str] | None = None
    x: str = "step"
    between: tuple[float | None, float | None] | None = None
    smooth: float = 0.0

    @classmethod
    def of(cls, runs: Sequence[str] | None, given: Mapping[str, str]) -> CurveRequest:
        """Return the request of a query.

        Raises:
            ConfigurationError: A value is invalid.
        """
        x = given.get("x") or "step"
        if x not in _X:
            raise ConfigurationError(f"invalid x: choose from {', '.join(_X)}")
        low, high = (_number(given, name) for name in ("from", "to"))
        smooth = _number(given, "smooth") or 0.0
        if not 0 <= smooth < 1:
            raise ConfigurationError("invalid smooth: pass a number from 0 to less than 1")
        return cls(runs, x, None if low is None and high is None else (low, high), smooth)


def _number(given: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(given[name]) if given.get(name) else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise ConfigurationError(f"invalid {name}: pass a number")
    return value


class Answers:
    """The answers of the server.

    Args:
        view: The title and the options of the page.
        catalog: The runs.
        rows: The rows that were read.
        live: Notes how far the page has read.
    """

    def __init__(self, view: View, catalog: Catalog, rows: RowCache, live: Live) -> None:
        self._view = view
        self._catalog = catalog
        self._rows = rows
        self._live = live
        self._lock = threading.Lock()
        self._table = Table(0, b"", b"")
        self.served = 0

    @property
    def number(self) -> int:
        """The number of the snapshot that `runs` would return; no request."""
        return self._catalog.snapshot.number

    def runs(self) -> Table:
        """Return the table of runs; `served` is the number of the last one that was returned.

        Cost: for the first one a read of index.csv, or a listing if there is none; later none.
        """
        snapshot = self._catalog.open()
        self._live.note_opened(snapshot)
        with self._lock:
            if self._table.number != snapshot.number:
                plain = encoded(self._page(snapshot))
                self._table = Table(snapshot.number, plain, gzip.compress(plain, _LEVEL, mtime=0))
            self.served = snapshot.number
            return self._table

    def _page(self, snapshot: Snapshot) -> dict[str, Any]:
        page = runs_page(
            snapshot.runs,
            title=self._view.title,
            places=self._view.places,
            live=True,
            group=self._view.group,
            problems=snapshot.problems,
            stale=snapshot.is_stale,
        )
        if self._view.series:
            page["series"] = {name: one for name, one in page["series"].items() if is_chosen(name, self._view.series)}
        return page

    def curves(self, path: Sequence[str], request: CurveRequest) -> bytes:
        """Return the curves of one column.

        Cost: one request a file and 8 MiB, only for rows that were not read before.

        Args:
            path: The series and the column.
            request: The parameters of the query.

        Raises:
            MissingError: There is no such run, series or column.
            ConfigurationError: There are too many runs.
        """
        if len(path) != 2:
            raise UnknownNameError("no run has this series")
        series, column = path
        if request.runs is None:
            ids = dict(self._catalog.open().ids)
        else:
            ids = {run_id: self._catalog.find(run_id) for run_id in request.runs}
        files = [file for run in ids.values() for file in _files(run, series)]
        if len({file.run.url for file in files}) > RUNS:
            raise ConfigurationError(f"this request names more than {RUNS} runs with this series; name fewer")
        problems: list[str] = []
        page = curve_page(
            self._rows.curves(files, column, lambda error: problems.append(str(error))),
            series,
            column,
            ids=ids,
            smooth=request.smooth,
            between=request.between,
            x=request.x,
        )
        return encoded(page | {"problems": [shown_text(text) for text in problems]})

    def run(self, run_id: str) -> bytes:
        """Return one run. Cost: one listing of its folder, the reads of `notata.search.show`, and one of its manifest.

        Raises:
            MissingError: There is no such run.
        """
        run = self._catalog.find(run_id)
        overview = show(run.store, lines=_LINES)
        overview = replace(overview, run=replace(overview.run, name=run.name))
        page = run_page(overview, run_id, digests=next(digests_of([overview.run])))
        for name in TEXTS:
            self._live.note_text(Item(run_id, text=name), page[name]["size"] if page[name] else 0)
        return encoded(page)

    def text(self, run_id: str, name: str, start: str) -> bytes:
        """Return a part of the log or of the output of a run. One request, or two.

        Args:
            run_id: The id of the run.
            name: A name of `notata.page.model.TEXTS`.
            start: The number of the byte at which the part begins; empty for the last part.

        Raises:
            MissingError: There is no such run.
            ConfigurationError: `start` is no number of a byte.
        """
        if start and not (start.isascii() and start.isdecimal() and len(start) < 16):
            raise ConfigurationError("invalid start: pass the number of a byte")
        page = text_page(self._catalog.find(run_id), name, int(start) if start else None, _TEXT)
        self._live.note_text(Item(run_id, text=name), page["size"])
        return encoded(page)

    def file(self, run_id: str, key: str) -> bytes:
        """Return a preview of a file. Cost: one request, and one listing of the run if its files are not known.

        Raises:
            MissingError: The listing of the run has no such file.
        """
        return encoded(file_page(self.listed(run_id, key), most=_PREVIEW))

    def listed(self, run_id: str, key: str) -> File:
        """Return a file that a listing of its run has.

        Raises:
            MissingError: No listing has it, not even a new one.
        """
        run = self._catalog.find(run_id)
        if key not in run.entries:
            run = replace(run, entries={entry.key: entry for entry in run.store.scan(skipped=ignore)})
        if key not in run.entries:
            raise MissingError("this run has no such file; it may have been removed")
        return run.file(key)


def _files(run: Run, series: str) -> list[RowFile]:
    try:
        return files_of(run, series)
    except KeyNameError:
        raise UnknownNameError("no run has this series") from None
