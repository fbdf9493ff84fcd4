r"""Conversion between rows and the lines of an index part: one JSON object for each run, nested values kept nested.

JSON has no NaN and no infinities. As in series, such a value is ``null``, and the field ``nonfinite`` names it, here by
its JSON pointer (RFC 6901): ``{"run_id": "a", …, "metrics": {"loss": null}, "nonfinite": {"/metrics/loss": "NaN"}}``.

The line ``{"run_id": "a", "removed": true, "time": 1764323.2}`` is a tombstone: it hides rows of the run that are not
younger. A part may begin with a header, which names other files whose rows it contains.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from notata.errors import EncodeError
from notata.formats import without_surrogates
from notata.run.state import PINNED
from notata.series.summary import NONFINITE, nonfinite_word
from notata.table.names import Names
from notata.table.row import Row

__all__ = ["Lines", "decoded", "encoded_header", "encoded_removal", "encoded_row"]

_AT_ONCE: Final = 1000  # lines that are parsed at once: three times as fast as one by one, and names are shared
_BIG: Final = "big_integers"
"""Field of rows with integers beyond 64 bits, which several programs cannot read exactly."""

_MARK: Final = f'"{_BIG}": '.encode()
_DIGITS: Final = re.compile(r"\d{19}")
_VERSION: Final = 1
_HEADER: Final = "notata_index"
_COVERS: Final = "covers"
_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(slots=True)
class Lines:
    """The content of a piece of a part.

    Attributes:
        rows: The rows, in the order of their lines; a run may have several.
        removed: The run ids of tombstones, with their times.
        covers: Keys and versions of other files whose rows the part contains.
        names: The names of parameters and metrics of the rows.
        complete: The number of bytes up to the end of the last complete line.
    """

    rows: list[Row] = field(default_factory=list)
    removed: list[tuple[str, float]] = field(default_factory=list)
    covers: list[tuple[str, str]] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    complete: int = 0


def encoded_row(row: Row) -> bytes:
    r"""Return the line of a row.

    A lone surrogate, which UTF-8 cannot hold, becomes its escape; the row then has no revision, so that readers that
    check rows read the run.

    Raises:
        EncodeError: A value has no form in JSON.

    >>> encoded_row(Row("a", "complete", {"dt": 0.1}, {"n": 3}, time=1764323.2))[:64]
    b'{"run_id": "a", "status": "complete", "params": {"dt": 0.1}, "me'
    """
    fields: dict[str, Any] = {"run_id": row.run_id, "status": row.status}
    fields |= {"params": dict(row.params), "metrics": dict(row.metrics)}
    if row.failure_reason:
        fields["failure_reason"] = row.failure_reason
    if row.metrics_error:
        fields["metrics_error"] = row.metrics_error
    fields |= {"started": row.started, "ended": row.ended, "seconds": row.seconds, "host": row.host}
    fields |= {"attempt": row.attempt, "revision": row.revision, "time": round(row.time, 6)}
    if row.pinned:
        fields[PINNED] = True
    try:
        return _line(fields)
    except UnicodeEncodeError:
        return _line({**_without_surrogates(fields), "revision": ""})


def encoded_removal(run_id: str, time: float) -> bytes:
    r"""Return the tombstone of a run.

    >>> encoded_removal("a", 1764323.2)
    b'{"run_id": "a", "removed": true, "time": 1764323.2}\n'
    """
    return _line({"run_id": without_surrogates(run_id), "removed": True, "time": round(time, 6)})


def encoded_header(covers: Mapping[str, str]) -> bytes:
    r"""Return the first line of a part that contains all rows of other files, given by key and version.

    >>> encoded_header({"index.csv": "3f"})
    b'{"notata_index": 1, "covers": {"index.csv": "3f"}}\n'
    """
    return _line({_HEADER: _VERSION, _COVERS: dict(covers)})


def _line(fields: dict[str, Any]) -> bytes:
    """Return a JSON object on one line.

    Raises:
        UnicodeEncodeError: It has a lone surrogate.
        EncodeError: It has no form in JSON.
    """
    try:
        try:
            text = json.dumps(fields, ensure_ascii=False, allow_nan=False, check_circular=False)
        except ValueError:  # NaN or an infinity
            words: dict[str, str] = {}
            finite = _finite(fields, "", words)
            text = json.dumps({**finite, NONFINITE: words}, ensure_ascii=False, allow_nan=False, check_circular=False)
        if _DIGITS.search(text) and _has_big_integer(fields):
            text = f'{text[:-1]}, "{_BIG}": true}}'
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"cannot add run {fields.get('run_id')!r} to the index: {error}") from error


def _has_big_integer(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_big_integer, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_big_integer, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _finite(value: Any, pointer: str, words: dict[str, str]) -> Any:
    """Return a value with None for each NaN and infinity, and add their names to `words`, by JSON pointer."""
    if isinstance(value, float):
        if value - value == 0.0:
            return value
        words[pointer] = nonfinite_word(value)
        return None
    if isinstance(value, dict):
        return {name: _finite(item, f"{pointer}/{_escaped(name)}", words) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, f"{pointer}/{place}", words) for place, item in enumerate(value)]
    return value


def _escaped(name: object) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


# -- decoding ----------------------------------------------------------------------------------------------


def decoded(data: bytes) -> Lines:
    r"""Return the content of a part, or of a piece of one that begins at the start of a line.

    Incomplete and invalid lines are left out.

    >>> line = encoded_row(Row("a", "complete", {"dt": float("nan")}))
    >>> decoded(b'{"run_id": "torn", "pa\n' + line).rows[0].params
    {'dt': nan}
    """
    found = Lines(complete=data.rfind(b"\n") + 1)
    texts: dict[str, str] = {}
    loads = _loads()
    add, share, new = found.rows.append, texts.setdefault, tuple.__new__
    lines = [line for line in data.split(b"\n") if line]
    for start in range(0, len(lines), _AT_ONCE):
        some = lines[start : start + _AT_ONCE]
        text = b",".join(some)
        before = len(found.rows)
        for fields in _objects(text, some, loads):
            try:
                values = _usual(fields)
                is_usual = len(fields) == _FIELDS and tuple(map(type, values)) == _TYPES
            except (KeyError, TypeError):  # a header, a tombstone, or no row
                is_usual = False
            if not is_usual:
                _add(found, fields, texts)
                continue
            id_, status, params, metrics, revision, started, ended, seconds, host, attempt, time = values
            status, host = share(status, status), share(host, host)  # texts that many rows share are stored once
            values = (
                id_, status, params, metrics, "", "", revision, started, _NO_SERIES, ended, seconds, host, attempt,
                time, False,
            )  # fmt: skip
            add(new(Row, values))
        rows = found.rows[before:]
        least = 3 * len(some)  # braces, if each line is a row; one more begins a dictionary, or is in a text
        found.names.add(rows, are_flat=len(rows) == len(some) and text.count(b"{") == least)
    return found


_usual: Final = itemgetter(
    "run_id", "status", "params", "metrics", "revision", "started", "ended", "seconds", "host", "attempt", "time"
)
_TYPES: Final = (str, str, dict, dict, str, str, str, float, str, int, float)
_FIELDS: Final = len(_TYPES)
"""Number of fields of a row without a reason and without NaN; such rows are read quickly."""


@functools.cache
def _loads() -> Callable[[bytes], Any]:
    """Return a function that parses JSON: that of orjson, which takes a third of the time, or of the standard library.

    orjson makes a float of an integer beyond 64 bits, so the standard library parses lines that have one.
    """
    try:
        from orjson import loads
    except ImportError:
        return json.loads
    return lambda data: json.loads(data) if _MARK in data else loads(data)


def _objects(text: bytes, lines: list[bytes], loads: Callable[[bytes], Any]) -> Iterable[Any]:
    """Return the objects of some lines. They are parsed together, and one by one only if some are invalid."""
    try:
        values = loads(b"[%b]" % text)
        if len(values) == len(lines):
            return values  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        pass
    return [value for value in map(_object, lines) if value is not None]


def _object(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _add(found: Lines, fields: Any, texts: dict[str, str]) -> None:
    """Add the content of one line; texts that many rows share are stored once."""
    if type(fields) is not dict:
        return
    if NONFINITE in fields:
        _restore(fields)
    run_id = fields.get("run_id")
    time = fields.get("time")
    if type(time) is not float:
        time = float(time) if type(time) is int and abs(time) < 2**62 else 0.0
    if type(run_id) is not str:
        if _HEADER in fields and isinstance(covers := fields.get(_COVERS), dict):
            found.covers += [(key, version) for key, version in covers.items() if isinstance(version, str)]
        return
    if fields.get("removed") is True:
        found.removed.append((run_id, time))
        return
    get = fields.get
    status, params, metrics = get("status"), get("params"), get("metrics")
    if type(status) is not str or type(params) is not dict or type(metrics) is not dict:
        return
    host, seconds, attempt = _text(get("host")), get("seconds"), get("attempt")
    row = Row(
        run_id,
        texts.setdefault(status, status),
        params,
        metrics,
        _text(get("failure_reason")),
        _text(get("metrics_error")),
        _text(get("revision")),
        _text(get("started")),
        _NO_SERIES,
        _text(get("ended")),
        float(seconds) if type(seconds) is float or (type(seconds) is int and abs(seconds) < 2**62) else None,
        texts.setdefault(host, host),
        attempt if type(attempt) is int else 0,
        time,
        get(PINNED) is True,
    )
    if row.pinned:
        found.names.facts.add(PINNED)
    found.rows.append(row)


_NO_SERIES: Final[Mapping[str, Any]] = {}


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _restore(fields: dict[str, Any]) -> None:
    """Put NaN and infinities back in the places that the field `NONFINITE` names."""
    words = fields.pop(NONFINITE)
    for pointer, word in words.items() if isinstance(words, dict) else ():
        *above, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]] or [""]
        holder: Any = fields
        try:
            for part in above:
                holder = holder[int(part) if isinstance(holder, list) else part]
            place = int(last) if isinstance(holder, list) else last
            if holder[place] is None:
                holder[place] = _NUMBERS[word]
        except (KeyError, IndexError, TypeError, ValueError):  # a forged or edited line
            continue
