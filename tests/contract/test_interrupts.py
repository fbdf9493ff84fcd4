"""Signals at random moments lose nothing, and the check detects planted losses; see `tests.tools.interrupts`."""

from __future__ import annotations

import random
import signal

import pytest

from tests.backends import Place
from tests.tools.interrupts import Recording, Tally, interrupt

SIGNALS = 12


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_nothing_is_lost_by_a_signal(place: Place, background: bool) -> None:
    tally = Tally()
    interrupt(place, background, SIGNALS, f"suite/{place.name}/{background}", tally)
    assert tally.problems == []
    assert sum(tally.sent.values()) >= SIGNALS


@pytest.fixture
def recording(place: Place) -> Recording:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR1)
    made = Recording(place, False, random.Random(0))
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGUSR1, before[1])
    return made


@pytest.mark.parametrize("kind", ["line", "row", "meta", "params", "json", "same", "append", "pickle"])
def test_what_is_lost_is_noticed(recording: Recording, kind: str) -> None:
    recording.do("line")
    recording.do(kind)
    recording.log.mark_complete()
    recording.look()
    assert recording.problems == []
    recording.kept[kind].append(1000)
    if kind == "append":
        recording.begun[kind].append(1000)
    recording.look()
    assert recording.problems
