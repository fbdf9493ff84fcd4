"""The data that the page shows, as JSON values: the table of runs, curves, one run, and parts of its log and output.

Each function returns the value of one key of the page, which is a path below ``api/`` of the server, see `key_of` and
`curves_key`.
Numbers that JSON lacks are null, and ``nonfinite`` beside the array names them; in nested values they are words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from notata import __version__
from notata._base import keys
from notata._base.display import counted
from notata._base.secrets import shown_url
from notata.errors import MissingError
from notata.formats import flattened
from notata.page.preview import kind_of
from notata.page.values import Bounded, listed_values, shown_text, text_of
from notata.run.state import SUMMARY
from notata.search.choosing import Runs
from notata.search.overview import Failure, Overview, Tail
from notata.search.places import Run
from notata.search.tables import extreme_columns, usual_columns
from notata.series import SCALARS, loaded_one
from notata.series.summary import stored

__all__ = [
    "TEXTS",
    "curves_key",
    "ids_of",
    "key_of",
    "number_columns",
    "run_page",
    "runs_page",
    "series_of",
    "text_page",
    "title_of",
]

TEXTS: Final = {"log": keys.LOG, "output": keys.OUTPUT}
"""The texts of a run that grow, by their names in the page, which are also the kinds of events about them."""

_FIRST: Final = ("run_id", "status", "started", "seconds")
_HIDDEN: Final = ("id", "name", "certain", "why", "ended", "size", "files", "failure_reason", "host")
_KINDS: Final = {
    "certain": "boolean", "pinned": "boolean", "started": "time", "ended": "time", "seconds": "number",
    "size": "number", "files": "number",
}  # fmt: skip
_CELLS: Final = 4_000_000  # values of the table; columns beyond are left out
_COLUMNS: Final = 5000
_FEWEST: Final = 40  # columns of the longest table
_SERIES: Final = 1000  # columns of one series
_FILES: Final = 5000  # files of one run
_CHAIN: Final = 20  # exceptions that led to another one
_GROWING: Final = ("", "running", "replacing")  # statuses of runs whose last line may still be written


def key_of(*parts: str) -> str:
    """Return the key of some data of the page.

    >>> key_of("file", "sweep/log_a", "plots/energy.png")
    'file/sweep/log_a/plots/energy.png'
    """
    return "/".join(text_of(part, 2000) for part in parts)


def curves_key(series: str, column: str) -> str:
    """Return the key of the curves of a column; slashes in names are encoded, so that it has three parts.

    >>> curves_key("scalars", "loss"), curves_key("val/fine", "100%")
    ('curves/scalars/loss', 'curves/val%2Ffine/100%25')
    """
    parts = (text_of(part, 2000).replace("%", "%25").replace("/", "%2F") for part in (series, column))
    return "/".join(("curves", *parts))


def title_of(places: Sequence[str]) -> str:
    """Return the title of a page of these places.

    >>> title_of(["s3://bucket/sweep/"]), title_of(["outputs/a", "outputs/b"])
    ('sweep', 'a and 1 more')
    """
    first = places[0].rstrip("/").rpartition("/")[2] if places else ""
    if first in ("", ".", ".."):
        first = "runs"
    return first + (f" and {len(places) - 1} more" if len(places) > 1 else "")


def ids_of(runs: Iterable[Run]) -> dict[str, Run]:
    """Return the runs by their ids in the page: their names, without the folders that all names begin with.

    >>> [*ids_of([Run("out/a/log_1", "1", "memory://out/a/log_1"), Run("out/log_2", "2", "memory://out/log_2")])]
    ['a/log_1', 'log_2']
    """
    listed = list(runs)
    parts = [text_of(run.name, 2000).rstrip("/").split("/") for run in listed]
    same = min((len(one) - 1 for one in parts), default=0)
    for one in parts:
        same = next((at for at in range(same) if one[at] != parts[0][at]), same)
    found: dict[str, Run] = {}
    for run, one in zip(listed, parts, strict=True):
        name = "/".join(one[same:])
        first = name if name.strip("./") else text_of(run.run_id)
        free = first
        for number in range(2, len(listed) + 2):
            if free not in found:
                break
            free = f"{first}~{number}"
        found[free] = run
    return found


# -- the table ---------------------------------------------------------------------------------------------


def runs_page(
    runs: Runs,
    *,
    title: str,
    places: Iterable[str],
    live: bool,
    group: Iterable[str] = (),
    problems: Iterable[str] = (),
    stale: bool = False,
    made: datetime | None = None,
) -> dict[str, Any]:
    """Return the table of runs, and their series: the value of the key ``runs``.

    Args:
        runs: The runs, with parameters and metrics.
        title: The title of the page.
        places: The names of the places that were searched.
        live: True if a server answers requests for more.
        group: Parameters by which curves are grouped.
        problems: Messages about places and files that could not be read.
        stale: True if the rows come from index.csv and no listing has confirmed them yet.
        made: The time of the page; by default now.
    """
    table = _Table(runs)
    more = counted(table.left_out, "more column")
    return {
        "title": text_of(title, 300),
        "version": __version__,
        "made": (made or datetime.now(UTC)).isoformat(timespec="seconds"),
        "live": live,
        "places": [text_of(place, 1000) for place in places],
        "total": runs.total,
        "count": len(runs),
        "columns": table.columns(),
        "series": series_of(runs, with_indexed=live),
        "group": [text_of(name) for name in group],
        "problems": [shown_text(text) for text in problems],
        "left_out": [f"No room in the table for {more}; `notata table --columns` shows them."]
        if table.left_out
        else [],
        "stale": stale,
    }


class _Table:
    """The columns of the table of some runs.

    Attributes:
        left_out: The number of columns that exceed the limits.

    Args:
        runs: The runs.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._usual = dict(usual_columns(runs))
        self._extremes = extreme_columns(runs)
        values = [(name, path) for name, path in self._usual.items() if path.startswith(("params.", "metrics."))]
        most = max(_FEWEST, min(_COLUMNS, _CELLS // max(1, len(runs))))
        self._values = values[:most]
        self.left_out = len(values) - len(self._values)

    def columns(self) -> list[dict[str, Any]]:
        """Return the columns: the facts to show first, parameters, metrics, and the other facts."""
        first = ["name"] * ("name" in self._usual) + [*_FIRST]
        last = [name for name in ("failure_reason", "metrics_error", "pinned") if name in self._usual]
        hidden = [name for name in _HIDDEN if name not in (*first, *last)]
        facts = [self._fact(name, is_hidden=False) for name in first]
        facts += [*self._part("params"), *self._part("metrics")]
        facts += [self._fact(name, is_hidden=False) for name in last]
        return facts + [self._fact(name, is_hidden=True) for name in hidden]

    def _part(self, part: str) -> Iterator[dict[str, Any]]:
        """Yield the columns of parameters, or of metrics."""
        flat = [flattened(getattr(run, part)) for run in self._runs]
        for name, path in self._values:
            if path.startswith(f"{part}."):
                own = path.removeprefix(f"{part}.")
                column = _column(name, path, part[:-1], [one.get(own) for one in flat], path in self._extremes)
                nulls = [at for at, one in enumerate(flat) if own in one and one[own] is None]
                yield column | ({"nulls": nulls} if nulls else {})  # the other nulls are missing values

    def _fact(self, name: str, *, is_hidden: bool) -> dict[str, Any]:
        values = [*ids_of(self._runs)] if name == "id" else [_fact(run, name) for run in self._runs]
        return _column(name, name, "fact", values, is_hidden, _KINDS.get(name, "text"))


def _fact(run: Run, name: str) -> Any:
    value = getattr(run, name)
    return None if value == "" else value


def _column(
    name: str, path: str, kind: str, values: Iterable[Any], is_hidden: bool, type_: str | None = None
) -> dict[str, Any]:
    """Return one column; only its numbers may be no JSON numbers."""
    kept = [value if _is_plain(value) else Bounded(1000, 100, 200, 6).of(value) for value in values]
    label = {"name": text_of(name, 500), "path": text_of(path, 500), "kind": kind}
    return label | {"type": type_ or _type_of(kept), "hidden": is_hidden} | listed_values(kept)


def _is_plain(value: Any) -> bool:
    """Check quickly whether `Bounded` would not change a value, as nearly all in a table of 100,000 runs."""
    kind = type(value)
    if kind is str:
        return len(value) < 1000 and value.isascii()
    return value is None or kind is float or kind is bool


def _type_of(values: Iterable[Any]) -> str:
    """Return the type of the values of a column.

    >>> _type_of([1, 0.5, None]), _type_of([True]), _type_of(["a", 1]), _type_of([])
    ('number', 'boolean', 'other', 'other')
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and kinds <= {int, float}:
        return "number"
    return "boolean" if kinds == {bool} else "text" if kinds == {str} else "other"


def series_of(runs: Sequence[Run], *, with_indexed: bool = False) -> dict[str, Any]:
    """Return the series of runs by name: their columns of numbers, and the indexes of the runs that have them.

    The columns come from the summaries of the runs, or from their metrics, see `number_columns`.

    Args:
        runs: The runs.
        with_indexed: Include the series that runs from an index have, as far as their metrics show it.
    """
    columns: dict[str, dict[str, None]] = {}
    having: dict[str, list[int]] = {}
    of_shapes: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for at, run in enumerate(runs):
        if run.is_indexed:
            if not with_indexed:
                continue
            shape = tuple(run.metrics)
            if shape not in of_shapes:
                of_shapes[shape] = _series_in(shape)
            for name, found_here in of_shapes[shape].items():
                having.setdefault(name, []).append(at)
                columns.setdefault(name, {}).update(dict.fromkeys(found_here))
            continue
        there = {known[1] for key in run.entries if (known := keys.series_name(key)) is not None}
        for name in sorted(there):
            having.setdefault(name, []).append(at)
            found = columns.setdefault(name, {})
            found |= dict.fromkeys(islice(number_columns(run, name), max(0, _SERIES - len(found))))
    return {
        text_of(name, 500): {"columns": [text_of(column, 500) for column in columns[name]], "runs": indexes}
        for name, indexes in sorted(having.items())
    }


def _series_in(metrics: Sequence[str]) -> dict[str, list[str]]:
    """Return the series that names of metrics show, with their columns: a column of numbers has a minimum.

    >>> _series_in(["loss", "loss.min", "loss.max", "val.acc", "val.acc.min", "accuracy"])
    {'scalars': ['loss'], 'val': ['acc']}
    """
    there = {*metrics}
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if f"{metric}.min" in there and f"{metric}.min.min" not in there:
            series, dot, column = metric.partition(".")
            found.setdefault(series if dot else SCALARS, []).append(column if dot else metric)
    return found


def number_columns(run: Run, series: str) -> Iterator[str]:
    """Yield the columns of a series that have numbers.

    A run from index.csv has no summary of the series, nor has a run before its first heartbeat: there, metrics with a
    minimum are columns.
    """
    summary = loaded_one(run.metadata.get(SUMMARY), series)
    if summary is not None:
        yield from (name for name, fields in summary["columns"].items() if not isinstance(fields.get("last"), str))
    else:
        start = "" if series == SCALARS else f"{series}."
        others = [f"{known[1]}." for key in run.entries if (known := keys.series_name(key)) is not None]
        for name in run.metrics:
            own = name.startswith(start) if start else not name.startswith(tuple(others))
            if own and f"{name}.min" in run.metrics:
                yield name[len(start) :]


# -- one run -----------------------------------------------------------------------------------------------


def run_page(
    overview: Overview, id: str, *, digests: Mapping[str, str] | None = None, text_bytes: int = 2**16
) -> dict[str, Any]:
    """Return one run: the value of the key ``run/<id>``.

    Args:
        overview: The run, from `notata.search.overview.overviews_of`.
        id: Its id in the page.
        digests: The SHA-256 of its files by key, as far as they are known.
        text_bytes: Maximum bytes of the ends of its log and its output together.
    """
    run, environment = overview.run, overview.environment
    bounded = Bounded()
    failure = None if overview.failure is None else _failure(overview.failure)
    facts = {name: _fact(run, name) for name in ("status", "certain", "why", "started", "ended", "seconds", "size")}
    facts |= {"files": run.files, "host": run.host or None, "failure_reason": run.failure_reason or None}
    facts |= {name: environment[name] for name in ("pid", "user", "argv", "cwd") if name in environment}
    problems = [*overview.problems, *([run.metrics_error] if run.metrics_error else [])]
    if len(run.entries) > _FILES:
        problems.append(f"The list shows only the first {_FILES:,} of {len(run.entries):,} files.")
    return {
        "id": id,
        "name": text_of(run.name, 1000),
        "run_id": text_of(run.run_id, 1000),
        "url": shown_text(run.url),
        "facts": bounded.of(facts),
        "params": bounded.of(run.params),
        "metrics": bounded.of(run.metrics),
        "series": _summaries(overview, bounded),
        "fields": bounded.of({**overview.fields, **({"parent": overview.parent} if overview.parent else {})}),
        "environment": bounded.of(environment),
        "failure": failure,
        "caught": [_failure(one) for one in overview.caught],
        "caught_in_all": overview.caught_in_all,
        "resumes": bounded.of([_resume(one) for one in overview.resumes]),
        "workers": [text_of(rank, 100) for rank in overview.workers[:1000]],
        "mirror": shown_text(shown_url(overview.mirror)) if overview.mirror else "",
        "files": [_file(run, key, digests or {}) for key in islice(sorted(run.entries), _FILES)],
        **_texts(overview, text_bytes),
        "problems": [shown_text(text) for text in problems],
    }


def _summaries(overview: Overview, bounded: Bounded) -> dict[str, Any]:
    """Return rows, last step, and last, smallest and largest value of the columns of each series."""
    found: dict[str, Any] = {}
    for name, summary in islice(overview.series.items(), 200):
        parts = ("last", "min", "max", "nonfinite")
        columns = stored({"columns": dict(islice(summary["columns"].items(), _SERIES))})["columns"]
        kept = {column: {part: fields.get(part) for part in parts} for column, fields in columns.items()}
        found[text_of(name, 500)] = bounded.of({
            "rows": summary.get("rows"), "step": summary.get("step"), "columns": kept
        })  # fmt: skip
    return found


def _resume(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"time": one.get("time"), "reason": one.get("failure_reason") or one.get("after")}


def _failure(failure: Failure) -> dict[str, Any]:
    """Return an exception, with those that led to it."""
    chain = [
        {"relation": text_of(relation, 100)} | _exception(one) for relation, one in islice(failure.chain(), _CHAIN)
    ]
    return _exception(failure) | {"chain": chain[1:]}


def _exception(failure: Failure) -> dict[str, Any]:
    frames = [
        {
            "file": text_of(frame.file, 1000),
            "line": Bounded().of(frame.line),
            "function": text_of(frame.function, 500),
            "code": text_of(frame.code, 500),
        }
        for frame in failure.frames
    ]
    texts = {"type": text_of(failure.type, 500), "message": text_of(failure.message), "text": text_of(failure.text)}
    return {**texts, "key": text_of(failure.key, 1000), "frames": frames}


def _file(run: Run, key: str, digests: Mapping[str, str]) -> dict[str, Any]:
    entry = run.entries[key]
    return {
        "key": text_of(key, 2000),
        "size": max(0, entry.size),
        "modified": entry.modified.isoformat(timespec="seconds"),
        "kind": kind_of(key),
        "digest": digests.get(key, ""),
    }


def _texts(overview: Overview, most: int) -> dict[str, Any]:
    """Return the ends of the log and of the output. Each has half of the bytes, and what the other one leaves.

    The output is None if the run has none, and no program is known that may print some.
    """
    tails = {name: overview.tails.get(key, Tail(b"", overview.sizes.get(key, 0))) for name, key in TEXTS.items()}
    shares = {name: min(len(tail.data), most // 2) for name, tail in tails.items()}
    left = most - sum(shares.values())
    found = {name: _end_of(tail, shares[name] + left) for name, tail in tails.items()}
    may_print = bool(overview.command) or keys.OUTPUT in overview.sizes
    return found if may_print else {**found, "output": None}


def _end_of(tail: Tail, most: int) -> dict[str, Any]:
    """Return the last lines that take at most this many bytes; if even the last line takes more, its end."""
    end = tail.start + len(tail.data)
    data = tail.data[-(most + 1) :]
    if len(data) > most:
        data = data[data.index(b"\n") + 1 if b"\n" in data[:-1] else 1 :]
    return {"text": _text(data, most), "start": end - len(data), "end": end, "size": end}


def _text(data: bytes, most: int) -> str:
    return text_of(data.decode("utf-8", "surrogateescape"), max(1, most))


def text_page(run: Run, name: str, start: int | None, most: int) -> dict[str, Any]:
    """Return a part of the log or of the output in whole lines: the value of the key ``log/<id>`` or ``output/<id>``.

    A line that is still being written is left for the next request, unless it takes all of `most` bytes. Of a run that
    has ended or died, the last line may be without an end.

    Cost: one request, and another one if the file has grown much since it was listed, or has become shorter.

    Args:
        run: The run.
        name: A name of `TEXTS`.
        start: The byte at which the part begins; None for the last lines.
        most: Maximum number of bytes.

    Returns:
        The text, the bytes at which it begins and ends, and the size of the file. The size is less than `start` if
        another file has replaced it.
    """
    key = TEXTS[name]
    listed = run.entries[key].size if key in run.entries else 0
    begin = max(0, listed - most) if start is None else start
    try:
        blob = run.store.fetch(key, begin, begin + most)
        if start is None and not 0 <= blob.size - begin <= len(blob.data):
            begin = max(0, blob.size - most)
            blob = run.store.fetch(key, begin, begin + most)
    except MissingError:
        return {"text": "", "start": 0, "end": 0, "size": 0}
    data = blob.data
    if start is None and begin and b"\n" in data[:-1]:
        head = data.index(b"\n") + 1
        begin, data = begin + head, data[head:]
    whole = data.rfind(b"\n") + 1
    is_last = begin + len(data) >= blob.size and run.status not in _GROWING
    if not is_last and (whole or len(data) < most):
        data = data[:whole]
    return {"text": _text(data, most), "start": begin, "end": begin + len(data), "size": blob.size}
