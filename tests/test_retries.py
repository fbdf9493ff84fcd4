"""Retries are bounded."""

from __future__ import annotations

import itertools

from notata._base.retries import attempts, pauses


def test_there_are_as_many_attempts_as_asked_for_with_pauses_between_them() -> None:
    slept: list[float] = []
    assert list(attempts(5, first=1, longest=4, sleep=slept.append)) == [False, False, False, False, True]
    assert len(slept) == 4
    for pause, bound in zip(slept, (1, 2, 4, 4), strict=True):
        assert bound / 2 <= pause <= bound


def test_a_loop_that_succeeds_does_not_pause() -> None:
    slept: list[float] = []
    for _ in attempts(5, sleep=slept.append):
        break
    assert slept == []


def test_pauses_differ_so_that_writers_who_met_do_not_meet_again() -> None:
    assert len({next(pauses()) for _ in range(20)}) == 20


def test_pauses_are_bounded() -> None:
    assert max(itertools.islice(pauses(0.1, 2), 1000)) <= 2
