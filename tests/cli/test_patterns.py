"""Patterns, lines and prefetching: each rule in isolation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from notata import ConfigurationError
from notata.search import File
from notata.search.patterns import Line, Patterns, with_context
from notata.search.prefetch import prefetched
from notata.store import Entry, open_store, prefetching


@pytest.mark.parametrize(
    ("patterns", "options", "text", "numbers"),
    [
        ("a|b", {"whole": True}, "a\nab\nb\n", [1, 3]),
        ("a", {"whole": True, "words": True}, "a b\na\n", [2]),
        ("-x", {"words": True}, "a -x b\na-x\n-xy\n", [1]),
        ("a\nb", {}, "b\nc\na", [1, 3]),
        ("a.b", {"fixed": True}, "a.b\naxb\n", [1]),
        (["", "q"], {"fixed": True}, "x\n\n", [1, 2]),
        ("", {}, "x\n\n", [1, 2]),
        ([], {}, "x\n", []),
        ([], {"fixed": True}, "x\n", []),
        ("\u017f", {"ignore_case": True}, "S\n", [1]),  # a long s; its upper case is S
        ("b", {"ignore_case": True}, "\u0130\u0130\u0130\nB\nx\n", [2]),  # two characters in lower case
        ("ERR", {"ignore_case": True}, "x\nerr\nError\n\n", [2, 3]),
        ("É", {"ignore_case": True}, "é\ne\n", [1]),
        ("(?i)x", {"words": True}, "a X\nxx\n", [1]),
        ("x", {}, "\n\nx", [3]),
    ],
)
def test_lines_that_match(patterns: Any, options: dict[str, bool], text: str, numbers: list[int]) -> None:
    wanted, lines = Patterns(patterns, **options), text.removesuffix("\n").split("\n")
    assert list(wanted.lines(text)) == [(number, lines[number - 1], True) for number in numbers]
    told = list(wanted.lines(text, 5, others=True))
    assert told == [(number + 4, line, number in numbers) for number, line in enumerate(lines, 1)]
    assert [number for number, *_ in Patterns(patterns, **options, invert=True).lines(text)] == [
        number for number in range(1, len(lines) + 1) if number not in numbers
    ]


def test_spans_are_the_longest_and_none_is_empty_or_within_another() -> None:
    assert Patterns(["a[b]", "a[b]c", "bc", "d"]).spans("abcd") == [(0, 3), (3, 4)]
    assert Patterns("x*").spans("axxbx") == [(1, 3), (4, 5)]


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 5000 + ")" * 5000, "*"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a valid regular expression"):
        Patterns(pattern)


@pytest.mark.parametrize(
    ("before", "after", "most", "numbers", "read"),
    [
        (0, 0, None, [3, 4, 9], 11),
        (0, 0, 2, [3, 4], 4),
        (0, 1, None, [3, 4, 5, 9, 10], 11),
        (2, 0, None, [1, 2, 3, 4, 7, 8, 9], 11),
        (1, 2, None, [2, 3, 4, 5, 6, 8, 9, 10, 11], 11),
        (5, 5, None, list(range(1, 12)), 11),
        (1, 2, 1, [2, 3, 4, 5], 5),
        (1, 0, 2, [2, 3, 4], 4),
    ],
)
def test_lines_around_those_that_match(
    before: int, after: int, most: int | None, numbers: list[int], read: int
) -> None:
    taken: list[int] = []

    def lines() -> Iterator[Line]:
        for number in range(1, 12):
            taken.append(number)
            yield number, "", number in (3, 4, 9)

    assert [number for number, *_ in with_context(lines(), before, after, most)] == numbers
    assert len(taken) == read


def test_the_bytes_in_flight_are_bounded(asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching, "BYTES_AT_ONCE", 30)
    monkeypatch.setattr(prefetching, "PART", 20)
    sizes = [10] * 40 + [25, 0, 10, 21]
    store = open_store("memory://ahead")
    store.write_many({f"{number:02}": b"x" * size for number, size in enumerate(sizes)})
    asked.clear()
    pulled = 0

    def wanted() -> Iterator[tuple[int, File, int, int]]:
        nonlocal pulled
        for number, size in enumerate(sizes):
            pulled += 1
            key = f"{number:02}"
            yield number, File(key, store, Entry(key, size, datetime.now(UTC), "")), 0, size

    for at, (number, future) in enumerate(prefetched(wanted())):
        assert number == at
        assert (future is None) == (sizes[number] > 20)
        assert future is None or len(future.result().data) == sizes[number]
        assert pulled == (at + 4 if at < 38 else 41 if at < 40 else 43 if at == 40 else 44), at
    assert sorted(key for key, *_ in asked) == [f"{number:02}" for number, size in enumerate(sizes) if 0 < size <= 20]
