"""An interrupt or a signal handler may come before any instruction: the run goes on, and nothing is lost or doubled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from notata import Logbook
from tests.at_instruction import At
from tests.backends import Place

HELD = ("journal.py", "processes.py", "appending.py", "lines.py", "lease.py", "memory.py", "local.py", "local_locks.py")
"""Files whose code holds a lock, or a state that two calls share."""

Op = Callable[[Logbook, int], object]


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place("memory", "memory://interrupts") if request.param == "memory" else Place("local", str(tmp_path))


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def test_a_line_that_is_interrupted_anywhere(place: Place) -> None:
    log = place.logbook()
    for number in itertools.count():
        at = At(number, interrupt, HELD)
        with suppress(KeyboardInterrupt):
            at.call(lambda: log.info("line %d", number))  # noqa: B023  called at once
        log.info("after %d", number)
        if not at.came:
            break
    log.mark_complete()
    assert number > 40
    messages = [line.partition(" ")[2] for line in place.log()]
    after = [message for message in messages if message.startswith("after")]
    assert after == [f"after {count}" for count in range(number + 1)]
    lines = [message for message in messages if message.startswith("line")]
    assert len(lines) == len(set(lines))
    assert log.reader.verify().ok


def append(log: Logbook, number: int) -> None:
    with log.open("artifacts/grows.txt", "a") as file:
        file.write(f"{number}\n")


OPS: dict[str, Op] = {
    "info": lambda log, number: log.info("line %d", number),
    "meta": lambda log, number: log.meta(**{f"step{number}": number}),
    "json": lambda log, number: log.json("value", {"number": number}),
    "params": lambda log, number: log.params("yaml", **{f"p{number % 5}": number}),
    "append": append,
    "open x": lambda log, number: log.open(f"artifacts/new/{number}", "x").close(),
    "flush": lambda log, number: log.flush(),
}


@pytest.mark.parametrize("inner", OPS)
@pytest.mark.parametrize("outer", OPS)
def test_a_handler_writes_within_any_write(place: Place, outer: str, inner: str) -> None:
    """Each call is made within the other one, at every place of it where a signal may come."""
    log = place.logbook()
    made: dict[str, list[int]] = {name: [] for name in OPS}

    def make(name: str, number: int) -> None:
        OPS[name](log, number)
        made[name].append(number)

    for position in itertools.count():
        inside = At(position, partial(make, inner, 2 * position + 1), HELD)
        inside.call(partial(make, outer, 2 * position))
        if not inside.came:
            break
    log.flush()
    messages = [line.partition(" ")[2] for line in place.log()]
    assert sorted(m for m in messages if m.startswith("line")) == sorted(f"line {number}" for number in made["info"])
    fields: dict[str, Any] = json.loads(place.bytes("log_run/metadata.json"))
    assert {name for name in fields if name.startswith("step")} == {f"step{number}" for number in made["meta"]}
    if made["append"]:
        assert sorted(map(int, place.bytes("log_run/artifacts/grows.txt").split())) == sorted(made["append"])
    log.mark_complete()
    assert log.reader.verify().ok
