"""The contents of a report within a budget: the table of all runs first, then details, curves, and previews of files.

Each part gets a share of the bytes that are left, and the next ones get what it leaves. The first runs have more.
Sentences say what is left out, and which command shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from notata._base.display import counted, listed
from notata.errors import ConfigurationError, NotataError
from notata.page.bundle import BLOCK, size_of_block
from notata.page.curvebudget import CurveCollector
from notata.page.digests import digests_of
from notata.page.filebudget import FileCollector
from notata.page.model import TEXTS, ids_of, key_of, run_page, runs_page
from notata.page.names import lost_names, shortened_series
from notata.page.unknown import unknown_series
from notata.page.values import command_for, encoded, shown_text
from notata.search.choosing import Runs
from notata.search.overview import Overview, overviews_of
from notata.search.places import Run

__all__ = ["Contents", "Wanted"]

_AT_ONCE: Final = 64  # runs whose details are read together
_DETAILS: Final = 0.35  # share of the bytes after the table
_CURVES: Final = 0.7  # share of the bytes after the details
_NAMES: Final = 4  # the names of series and columns take at most one part in so many
_NOTES: Final = 16_000  # bytes for sentences
_TEXTS: Final = 2**16  # maximum bytes of the ends of a log and of an output together
_LEAST: Final = 3000  # bytes for a run, unless there is no room at all
_LINE: Final = 100  # usual bytes of a line
_PROBLEMS: Final = 100
_NEEDED: Final = ("id", "name", "run_id", "status")


@dataclass(frozen=True)
class Wanted:
    """The request of the user for a report.

    Attributes:
        title: The title.
        places: The names of the places.
        series: Names or patterns of series, columns, or both as ``series/column``; None for all.
        group: Parameters by which curves are grouped.
        made: The time that the page says it was made; by default now.
        shows_urls: Whether the page shows the URL of each run.
    """

    title: str
    places: Sequence[str]
    series: Collection[str] | None = None
    group: Sequence[str] = ()
    made: datetime | None = None
    shows_urls: bool = True


@dataclass
class Contents:
    """The data blocks of a report.

    Attributes:
        left_out: Sentences about what the report does not have.
        blocks: Keys and encoded data.

    Args:
        runs: The runs, with parameters and metrics, those that matter most first.
        wanted: What the user requests.
        budget: The number of bytes for all blocks.
        failed: Called with the error of each file that cannot be read.
        problems: Messages about what could not be read; `failed` may add some.
        allow_unknown: Accept that no run has any of the series that the user requests.
    """

    runs: Runs
    wanted: Wanted
    budget: int
    failed: Callable[[NotataError], None]
    problems: Sequence[str]
    allow_unknown: bool = False
    left_out: list[str] = field(default_factory=list)
    blocks: list[tuple[str, bytes]] = field(default_factory=list)

    def collect(self) -> None:
        """Read everything, and fill `blocks`.

        Raises:
            ConfigurationError: Not even the table fits.
            UnknownNameError: No run has any of the series that the user requests.
        """
        ids = ids_of(self.runs)
        first = [*ids.items()]
        table, known = self._table()
        left = self.budget - len(encoded(table)) - BLOCK - min(_NOTES, self.budget // 8)
        left -= self._add_details(first, int(left * _DETAILS))
        curves = CurveCollector(first, self.wanted.series, self.failed)
        files = FileCollector(first, self.failed)
        share = max(int(left * _CURVES), left - files.needed())
        added = curves.collect(share, ", ".join(self.wanted.places))
        left -= self._add(added)
        self._check_series(curves)
        self.left_out += curves.left_out
        before = len(encoded(table["series"]))
        table["series"] = curves.series_with_found(table["series"])
        left -= max(0, len(encoded(table["series"])) - before)
        self.left_out += lost_names(curves.series_with_found(known), table["series"])
        self._add(files.collect(left))
        self.left_out += files.left_out
        table["left_out"] = self._bounded([*table["left_out"], *self.left_out])
        table["problems"] = self._bounded(self.problems)
        self.left_out = table["left_out"]
        self.blocks.insert(0, ("runs", encoded(table)))

    def _check_series(self, curves: CurveCollector) -> None:
        """Report the series and columns that the user requests, and no run has."""
        wanted, place = self.wanted.series or (), ", ".join(self.wanted.places)
        errors = unknown_series(wanted, self.runs, place, curves.found) if self.runs else []
        if errors and len(errors) == len(wanted) and not self.allow_unknown:
            raise errors[0]
        for error in errors:
            self.failed(error)

    def _add(self, blocks: Iterable[tuple[str, bytes]]) -> int:
        """Add blocks; return their bytes."""
        total = 0
        for key, data in blocks:
            self.blocks.append((key, data))
            total += size_of_block(key, data)
        return total

    def _bounded(self, sentences: Sequence[str]) -> list[str]:
        """Return sentences that fit in the bytes for them."""
        kept: list[str] = []
        left = min(_NOTES, self.budget // 8) // 2 - 100
        for sentence in sentences:
            left -= len(encoded(shown_text(sentence))) + 1
            if left < 0 or len(kept) == _PROBLEMS:
                kept.append(f"… and {len(sentences) - len(kept)} more.")
                break
            kept.append(shown_text(sentence))
        return kept

    # -- the table -----------------------------------------------------------------------------------------

    def _table(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the table of all runs, without columns that do not fit, and all its series."""
        table = runs_page(
            self.runs,
            title=self.wanted.title,
            places=self.wanted.places,
            live=False,
            group=self.wanted.group,
            made=self.wanted.made,
        )
        known = table["series"]
        table["series"] = shortened_series(known, self.budget // _NAMES)
        sizes = [len(encoded(column)) + 1 for column in table["columns"]]
        left = self.budget * 3 // 4 - len(encoded(table | {"columns": []}))
        order = sorted(range(len(sizes)), key=lambda at: (*_importance(table["columns"][at]), at))
        kept: set[int] = set()
        for at in order:
            left -= sizes[at]
            if left < 0:
                break
            kept.add(at)
        if any(at not in kept and table["columns"][at]["name"] in _NEEDED for at in range(len(sizes))):
            raise ConfigurationError(
                f"the table of {counted(len(self.runs), 'run')} does not fit in a report of this size; raise max_size "
                "(--max-size), or choose fewer runs with where (--where)"
            )
        if names := [column["name"] for at, column in enumerate(table["columns"]) if at not in kept]:
            columns = counted(len(names), "column")
            self.left_out.append(f"No room in the table for {columns}: {listed(names, 5)}. `notata table` shows them.")
        table["columns"] = [column for at, column in enumerate(table["columns"]) if at in kept]
        return table, known

    # -- details of runs -----------------------------------------------------------------------------------

    def _add_details(self, first: Sequence[tuple[str, Run]], budget: int) -> int:
        """Add the data of each run as long as they fit; return their bytes."""
        left, missing, shortened = budget, 0, 0
        for start in range(0, len(first), _AT_ONCE):
            batch = first[start : start + _AT_ONCE]
            if left < _LEAST:
                missing += len(first) - start
                break
            share = max(_LEAST, left // (len(first) - start))
            texts = min(_TEXTS, share // 2)
            found = overviews_of([run for _, run in batch], max(10, min(500, texts // _LINE)))
            known = digests_of([run for _, run in batch])
            for (name, _), overview, digests in zip(batch, found, known, strict=True):
                key = key_of("run", name)
                data, is_short = _fitting(overview, name, digests, texts, share, self.wanted.shows_urls)
                if data is None or size_of_block(key, data) > left:
                    missing += 1
                    continue
                shortened += is_short
                self.blocks.append((key, data))
                left -= size_of_block(key, data)
        where = command_for("show", self.wanted.places[0] if self.wanted.places else "")
        if missing:
            self.left_out.append(f"Details of {counted(missing, 'run')}. To see them, run `{where} --all`.")
        if shortened:
            self.left_out.append(
                f"Packages, most files, and most of the log and output of {counted(shortened, 'run')}. To see them, "
                f"run `{where} --all`."
            )
        return budget - left


def _importance(column: dict[str, Any]) -> tuple[int, int]:
    """Return a key by which the columns that matter most come first."""
    return int(column["name"] not in _NEEDED), int(column["hidden"])


def _fitting(
    overview: Overview, name: str, digests: Mapping[str, str], texts: int, share: int, shows_url: bool
) -> tuple[bytes | None, bool]:
    """Return the data of a run that take at most about `share` bytes, and whether they are shortened."""
    for page, is_short in _versions(overview, name, digests, texts):
        if not shows_url:
            page["url"] = ""
        data = encoded(page)
        if len(data) <= share * 1.5:
            return data, is_short
    return None, True


def _versions(
    overview: Overview, name: str, digests: Mapping[str, str], texts: int
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the data of a run, each time with less of it."""
    page = run_page(overview, name, digests=digests, text_bytes=texts)
    yield page, False
    few = {name: value for name, value in page["environment"].items() if name != "packages"}
    page |= {"environment": few}
    yield page, True
    note = f"The report contains only a part of this run; `{command_for('show', overview.run.name)}` shows all of it."
    short = run_page(overview, name, text_bytes=min(texts, 1000))
    page |= {**{one: short[one] for one in TEXTS}, "files": page["files"][:20]}
    page |= {"problems": [*page["problems"][:3], note], "environment": {}}
    yield page, True
    page |= {"files": [], "series": {}, "caught": [], "fields": {}}
    page |= {one: {**page[one], "text": "", "start": page[one]["size"]} for one in TEXTS if page[one]}
    yield page, True
