"""The writes of a script, planned by a seed, and the expected files; independent of kills and networks.

The expected bytes are made without the code under test, and the stored ones read by plain fsspec.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import yaml

from notata import Logbook
from tests.backends import Place

__all__ = ["ROWS", "Fate", "Problem", "Step", "judged", "parsed", "read", "steps"]

RUN: Final = "run"
ROWS: Final = "series/scalars.jsonl"
LARGE: Final = 8 * 2**20  # larger values are uploaded in parts
_NAMES: Final = 4  # names per kind; few, so that most writes replace a file
_OWN_LINE: Final = re.compile(r"\[[-+0-9T:]{19,25}\] INFO step (\d+) (\d+)")


@dataclass(frozen=True)
class Step:
    """One call of a script.

    Attributes:
        thread: The calling thread.
        number: Its index in that thread.
        key: The file that is written.
        data: The file's new content, or the piece appended to it; empty if only a field of it is set.
        how: The writer.
        do: The call.
    """

    thread: int
    number: int
    key: str
    data: bytes
    how: str
    do: Callable[[Logbook], object]

    @property
    def field(self) -> str:
        """Return the field that is set to the step's number, in a file with several fields; empty for other files."""
        return f"step_{self.thread}" if self.how in ("meta", "params") else ""

    @property
    def told(self) -> bool:
        """Return True if the writer itself logs a line."""
        return self.how in ("text", "json", "pickle", "bytes", "array", "local")

    def take(self, log: Logbook) -> None:
        """Make the call, and add a row and log a line about it."""
        self.do(log)
        log.scalars(step=self.number, thread=self.thread, third=self.number / 3)
        log.info("step %d %d", self.thread, self.number)


@dataclass(frozen=True)
class Fate:
    """A step, and whether it must or may have taken effect."""

    step: Step
    kept: bool


@dataclass(frozen=True)
class Problem:
    """A broken promise.

    Attributes:
        kind: ``lost``, ``changed``, ``debris``, ``line`` or ``state``.
        what: A description for people.
    """

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


# -- plan ----------------------------------------------------------------------------------------------------


def steps(plan: str, thread: int, *, large: float = 0.04, growing: bool = True) -> Iterator[Step]:
    """Yield the endless plan of one thread, the same for the same seed.

    Args:
        plan: The seed.
        thread: Part of the seed and of the names: no two threads write the same file, except the run's own.
        large: The share of values above 8 MiB.
        growing: Whether some files are appended to.
    """
    rng = random.Random(f"{plan}/{thread}")
    hows = [how for how in (*_MAKERS, "append", "meta", "params") if growing or how != "append"]
    number = 0
    while True:
        how = rng.choice(hows)
        name = f"{thread}/{how}-{rng.randrange(_NAMES)}"
        size = rng.randrange(LARGE, 2 * LARGE) if rng.random() < large else int(10 ** rng.uniform(0, 5))
        if how in ("meta", "params"):
            key = "metadata.json" if how == "meta" else "params.yaml"
            fields = {f"step_{thread}": number}
            yield Step(thread, number, key, b"", how, _setting(how, fields))
        elif how == "append":
            piece = f"{thread} {number} {rng.randbytes(min(size, 2000)).hex()}\n".encode()
            yield Step(thread, number, f"artifacts/{name}.csv", piece, how, _adding(f"artifacts/{name}.csv", piece))
        else:
            key, data, do = _MAKERS[how](name, rng, size)
            yield Step(thread, number, key, data, how, do)
        number += 1


Made = tuple[str, bytes, Callable[[Logbook], object]]


def _setting(how: str, fields: dict[str, Any]) -> Callable[[Logbook], object]:
    return (lambda log: log.meta(**fields)) if how == "meta" else (lambda log: log.params(**fields))


def _adding(key: str, piece: bytes) -> Callable[[Logbook], object]:
    def do(log: Logbook) -> None:
        with log.open(key, "ab") as file:
            file.write(piece)

    return do


def _text(name: str, rng: random.Random, size: int) -> Made:
    content = rng.randbytes(size // 2 + 1).hex()
    return f"artifacts/{name}.txt", content.encode(), lambda log: log.text(name, content)


def _json(name: str, rng: random.Random, size: int) -> Made:
    value = {"note": rng.randbytes(size // 2 + 1).hex(), "loss": rng.random()}
    return (
        f"artifacts/{name}.json",
        (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(),
        lambda log: log.json(name, value),
    )


def _pickle(name: str, rng: random.Random, size: int) -> Made:
    value = {"state": rng.randbytes(size), "loss": rng.random()}
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return f"artifacts/{name}.pkl", data, lambda log: log.pickle(name, value)


def _bytes(name: str, rng: random.Random, size: int) -> Made:
    data = rng.randbytes(size)
    return f"artifacts/{name}.raw", data, lambda log: log.bytes(f"{name}.raw", data)


def _array(name: str, rng: random.Random, size: int) -> Made:
    array = np.frombuffer(rng.randbytes(8 * (size // 8 + 1)), "<i8")
    file = io.BytesIO()
    np.save(file, array)
    return f"data/{name}.npy", file.getvalue(), lambda log: log.array(name, array)


def _open(name: str, rng: random.Random, size: int) -> Made:
    key, data = f"artifacts/{name}.dat", rng.randbytes(size)

    def do(log: Logbook) -> None:
        with log.open(key, "wb") as file:
            for at in range(0, len(data), 2**20):
                file.write(data[at : at + 2**20])

    return key, data, do


def _path(name: str, rng: random.Random, size: int) -> Made:
    key, data = f"artifacts/{name}.bin", rng.randbytes(size)
    return key, data, lambda log: log[key].write_bytes(data)


def _local(name: str, rng: random.Random, size: int) -> Made:
    key, data = f"artifacts/{name}.h5", rng.randbytes(size)

    def do(log: Logbook) -> None:
        with log.local(key) as path:
            path.write_bytes(data)

    return key, data, do


_MAKERS: Final[dict[str, Callable[[str, random.Random, int], Made]]] = {
    "text": _text,
    "json": _json,
    "pickle": _pickle,
    "bytes": _bytes,
    "array": _array,
    "open": _open,
    "path": _path,
    "local": _local,
}


# -- judge ---------------------------------------------------------------------------------------------------


def read(place: Place, run_id: str = RUN) -> dict[str, bytes]:
    """Read every file of a run, including hidden ones, with plain fsspec."""
    folder = f"log_{run_id}/"
    names = [name for name in place.names(logs=True) if name.startswith(folder)]
    return {name.removeprefix(folder): place.bytes(name) for name in names}


def judged(
    files: Mapping[str, bytes], fates: Iterable[Fate], lines: Mapping[int, int], *, torn: bool, others: set[str]
) -> Iterator[Problem]:
    """Yield the problems of a run's files.

    Args:
        files: The stored files.
        fates: One for each step that started, in the order of its thread.
        lines: By thread, the last step whose line must be in the log, and its row in the series.
        torn: Whether the last piece of a growing file may be incomplete, as after a kill on a local disk.
        others: Further keys that may exist.
    """
    fates = list(fates)
    of_key: dict[str, list[Fate]] = defaultdict(list)
    for fate in fates:
        of_key[fate.step.key].append(fate)
    for key, those in of_key.items():
        data = files.get(key)
        if data is None:
            if any(fate.kept for fate in those):
                yield Problem("lost", f"{key} is not there")
        elif those[0].step.field:
            yield from _fields(key, data, those)
        elif those[0].step.how == "append":
            yield from _pieces(key, data, those, torn=torn)
        else:
            yield from _whole(key, data, those)
    for key in files.keys() - of_key.keys() - others:
        if not any(part.startswith(".notata-") for part in key.split("/")):
            yield Problem("debris", f"{key} was never written, and is visible")
    yield from _lines(files.get("log.txt", b""), of_key, lines, torn=torn)
    skipped = {(fate.step.thread, fate.step.number) for fate in fates if not fate.kept}
    yield from _rows(files.get(ROWS, b""), skipped, lines, torn=torn)


def _whole(key: str, data: bytes, fates: list[Fate]) -> Iterator[Problem]:
    """Check that a file has the content of its last confirmed step, or of a later one."""
    last = max((at for at, fate in enumerate(fates) if fate.kept), default=0)
    digest = hashlib.sha256(data).digest()
    if not any(hashlib.sha256(fate.step.data).digest() == digest for fate in fates[last:]):
        wanted = [len(fate.step.data) for fate in fates[last:]]
        yield Problem("changed", f"{key} has {len(data)} bytes that no attempt wrote last; expected one of {wanted}")


def _pieces(key: str, data: bytes, fates: list[Fate], *, torn: bool) -> Iterator[Problem]:
    """Check that a growing file has each confirmed piece once, in order, and any of the others."""
    for fate in fates:
        if data.startswith(fate.step.data):
            data = data[len(fate.step.data) :]
        elif fate.kept:
            yield Problem("lost", f"{key} lacks what step {fate.step.number} added")
            return
    if data and not (torn and any(fate.step.data.startswith(data) for fate in fates if not fate.kept)):
        yield Problem("changed", f"{key} has {len(data)} bytes that no attempt added: {data[:40]!r}")


def _fields(key: str, data: bytes, fates: list[Fate]) -> Iterator[Problem]:
    """Check that a file of fields is readable, and each of its fields as in `_whole`."""
    try:
        found = json.loads(data) if key.endswith(".json") else yaml.safe_load(data)
        assert isinstance(found, dict)
    except Exception as error:
        yield Problem("state", f"{key} cannot be read: {error!r} in {data[:200]!r}")
        return
    by_field: dict[str, list[Fate]] = defaultdict(list)
    for fate in fates:
        by_field[fate.step.field].append(fate)
    for field, those in by_field.items():
        last = max((at for at, fate in enumerate(those) if fate.kept), default=None)
        allowed: set[int | None] = {fate.step.number for fate in those[last or 0 :]}
        if found.get(field) not in (allowed if last is not None else allowed | {None}):
            yield Problem("lost", f"{field} in {key} is {found.get(field)}, not one of {allowed}")


def _lines(data: bytes, of_key: Mapping[str, list[Fate]], lines: Mapping[int, int], *, torn: bool) -> Iterator[Problem]:
    """Check that the log has each required line once, in order, and the lines of the writers."""
    *whole, rest = data.decode().split("\n")
    if rest and not torn:
        yield Problem("line", f"the log ends in a part of a line: {rest!r}")
    found: dict[int, list[int]] = defaultdict(list)
    for line in whole:
        if own := _OWN_LINE.fullmatch(line):
            found[int(own[1])].append(int(own[2]))
    skipped = {(fate.step.thread, fate.step.number) for fates in of_key.values() for fate in fates if not fate.kept}
    yield from _in_order("lines", found, skipped, lines)
    told = [line.rpartition(" in ")[2] for line in whole if "] INFO Saved " in line]
    for key, fates in of_key.items():
        count = sum(
            fate.step.told and fate.step.number <= lines.get(fate.step.thread, -1) and fate.kept for fate in fates
        )
        if told.count(key) < count:
            yield Problem("line", f"{key} was saved {count} times or more, and the log says {told.count(key)}")


def _in_order(
    what: str, found: Mapping[int, list[int]], skipped: set[tuple[int, int]], lines: Mapping[int, int]
) -> Iterator[Problem]:
    """Check that the steps of each thread are there once, in order, up to its last required one."""
    for thread, last in lines.items():
        numbers = found[thread]
        wanted = [number for number in range(last + 1) if (thread, number) not in skipped or number in numbers]
        if numbers[: len(wanted)] != wanted or numbers != sorted(set(numbers)):
            missing = sorted(set(wanted) - set(numbers))
            yield Problem("line", f"{what} of thread {thread}: {missing} of {last} missing, there {numbers}")


def parsed(data: bytes) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the rows of a series, and its lines that are no rows, the incomplete last one included."""
    rows, others = [], []
    *lines, rest = data.split(b"\n")
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            others.append(line)
    return rows, [*others, rest] if rest else others


def _rows(data: bytes, skipped: set[tuple[int, int]], lines: Mapping[int, int], *, torn: bool) -> Iterator[Problem]:
    """Check that the series has each required row once, in order, with its values."""
    rows, others = parsed(data)
    if len(others) > torn:
        yield Problem("line", f"the series has lines that are no rows: {others}")
    found: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        if "resumed" in row:  # added after the kill
            continue
        found[row["thread"]].append(row["step"])
        if row.keys() != {"step", "time", "thread", "third"} or row["third"] != row["step"] / 3:
            yield Problem("line", f"the series has a row that was never added: {row}")
    yield from _in_order("rows", found, skipped, lines)
