"""Previews of files of runs, bounded in bytes read and in bytes returned. Nothing is unpickled or executed."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any, Final

from notata._base.display import counted, size
from notata.errors import DecodeError, PackageMissingError
from notata.formats.array_facts import ArrayFacts, BundleFacts
from notata.formats.plain import without_surrogates
from notata.page.images import image_of
from notata.page.pictures import picture_of
from notata.page.values import Bounded, shown_text, text_of
from notata.search.describing import Content, is_text
from notata.search.places import File

__all__ = ["file_page", "kind_of"]

_KINDS: Final = {
    "image": (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"),
    "json": (".json",),
    "table": (".csv", ".tsv", ".parquet"),
    "array": (".npy", ".npz"),
    "text": (
        ".txt", ".log", ".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".py", ".sh", ".jsonl", ".xml",
        ".html", ".tex", ".c", ".cpp", ".h", ".f90", ".jl", ".r", ".m",
    ),
}  # fmt: skip
_ROWS: Final = 200
_CELLS: Final = 200  # columns of a table
_CELL: Final = 200  # characters of a cell
_LINES: Final = 200  # of a description
_LINE: Final = 500
_MEMBERS: Final = 200  # arrays of a bundle


def kind_of(key: str) -> str:
    """Return the kind of a file by its name: image, text, json, table, array or other.

    >>> kind_of("plots/energy.PNG"), kind_of("data/x.npy"), kind_of("artifacts/model.pkl"), kind_of("log.txt")
    ('image', 'array', 'other', 'text')
    """
    name = key.lower()
    return next((kind for kind, suffixes in _KINDS.items() if name.endswith(suffixes)), "other")


def file_page(file: File, *, most: int) -> dict[str, Any]:
    """Return a preview of a file: the value of the key ``file/<id>/<key>``.

    A picture is a data URL if its header has a sane number of pixels; scripts in an SVG do not run in an image. A
    larger file than `most` has its beginning, or for a picture the reason why it is left out.

    Cost: one request; for an array, a pickle and a Parquet file some more.

    Args:
        file: The file.
        most: Maximum number of bytes to read. The preview takes about as many at most, a picture a third more.

    Raises:
        MissingError: The file does not exist.
        StorageError: The file cannot be read.
    """
    kind = kind_of(file.key)
    found = {"key": text_of(file.key, 2000), "size": max(0, file.entry.size), "kind": kind}
    try:
        if kind == "image":
            return found | _image(file, most)
        if kind == "array":
            return found | _array(file, most)
        if file.key.lower().endswith(".parquet"):
            return found | _described(Content(file, stats=False))
        return found | _of_bytes(file, kind, most)
    except (DecodeError, PackageMissingError) as error:
        return found | {"left_out": shown_text(error)}


def _beginning(file: File, most: int) -> tuple[bytes, bool]:
    """Return the first bytes of a file, and whether that is all of it."""
    data = Content(file, raw=True).read(most)
    return data[:most], len(data) <= most


def _image(file: File, most: int) -> dict[str, Any]:
    if file.entry.size > most:
        return {"left_out": f"Its size is {size(file.entry.size)}, more than the {size(most)} that fit here."}
    data, is_whole = _beginning(file, most)
    if not is_whole:
        return {"left_out": f"It is larger than {size(most)}."}
    url, problem = image_of(data)
    return {"image": url} if url else {"left_out": problem}


def _of_bytes(file: File, kind: str, most: int) -> dict[str, Any]:
    """Return a preview of text, JSON or a table; of other files their description, or their first bytes."""
    content = Content(file, stats=False)
    if kind == "other" and content.is_described:
        return _described(content)
    data, is_whole = _beginning(file, most)
    if not is_text(data[:4096]) or b"\0" in data:
        return _lines(content.unknown(data).facts)
    if kind == "json" and is_whole:
        try:
            return {"json": Bounded(total=max(100, most // 16)).of(json.loads(data))}
        except (ValueError, RecursionError):  # shown as text
            pass
    text = _decoded(data, is_whole)
    if kind == "table":
        return _table(text, is_whole, "\t" if file.key.lower().endswith(".tsv") else ",")
    return {"text": text, "truncated": not is_whole}


def _decoded(data: bytes, is_whole: bool) -> str:
    """Return bytes as text, without a character that is cut in its middle."""
    text = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode(data, final=is_whole)
    return text_of(text, len(text) + 1)


def _table(text: str, is_whole: bool, delimiter: str) -> dict[str, Any]:
    """Return the first rows of a table of text; `total` is the number of its rows, null if only its beginning is known.

    The last line of the beginning of a file may be incomplete, and is left out.
    """
    if not is_whole:
        text = text[: text.rfind("\n") + 1] or text
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [[text_of(cell, _CELL) for cell in row[:_CELLS]] for row in islice(lines, _ROWS + 1)]
        more = sum(1 for _ in lines)
    except csv.Error:
        return {"text": text, "truncated": not is_whole}
    total = max(0, len(rows) - 1 + more) if is_whole else None
    table = {"columns": rows[0] if rows else [], "rows": rows[1:], "total": total}
    return {"table": table, "truncated": not is_whole or more > 0}


def _array(file: File, most: int) -> dict[str, Any]:
    """Return facts about an array or a bundle of them; statistics and a picture only if all of it may be read."""
    is_small = 0 <= file.entry.size <= most
    facts = Content(file, stats=is_small, head=20).description().facts
    if isinstance(facts, BundleFacts):
        members = {text_of(name, 500): _array_facts(one) for name, one in islice(facts.arrays.items(), _MEMBERS)}
        others = len(facts.arrays) + len(facts.others) - len(members)
        note = {"left_out": f"It has {counted(others, 'more member')}."} if others else {}
        return {"members": members} | note
    array = _array_facts(facts)
    found: dict[str, Any] = {"array": array}
    if is_small and (picture := picture_of(facts, Content(file, raw=True).read(most))):
        array["image"] = picture
    if not is_small:
        found["left_out"] = (
            f"Its statistics: to compute them, notata would have to read {size(file.entry.size)}, "
            f"more than {size(most)}."
        )
    return found


def _array_facts(facts: ArrayFacts) -> dict[str, Any]:
    bounded = Bounded(text=200, items=100, total=2000)
    stats = asdict(facts.stats) if facts.stats is not None else {}
    names = {"min": "min", "max": "max", "mean": "mean", "std": "std", "nan": "nan", "inf": "inf", "count": "count"}
    found: dict[str, Any] = {"shape": facts.shape, "dtype": facts.dtype, "order": facts.order, "bytes": facts.bytes}
    found |= {name: _number(stats[own]) for name, own in names.items() if own in stats}
    found["head"] = [_number(value) for value in facts.head]
    if facts.fields:
        found["fields"] = {name: str(one) for name, one in facts.fields.items()}
    if facts.pickle is not None:
        found["facts"] = list(islice(facts.pickle.lines(), _LINES))
    return dict(bounded.of(found))


def _number(value: Any) -> Any:
    """Return a value of an array for JSON; complex numbers and bytes as text, and any text such that UTF-8 holds it."""
    if isinstance(value, list | tuple):  # of a structured array
        return [_number(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return without_surrogates(value)
    return str(value) if isinstance(value, complex) else value


def _described(content: Content) -> dict[str, Any]:
    return _lines(content.description().facts)


def _lines(facts: Any) -> dict[str, Any]:
    """Return a description as lines."""
    try:
        lines: Iterable[str] = facts.lines() if callable(getattr(facts, "lines", None)) else str(facts).splitlines()
        return {"facts": [text_of(str(line), _LINE) for line in islice(lines, _LINES)]}
    except Exception as error:  # from a user's format
        return {"left_out": shown_text(f"Its description failed: {type(error).__name__}: {error}")}
