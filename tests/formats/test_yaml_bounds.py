"""YAML bombs: small files that expand to huge values are refused before they are built."""

from __future__ import annotations

import pytest

from notata.errors import DecodeError
from notata.formats import YAML, Yaml, decode

ALIASES = "the aliases of this YAML stand for more than 100,000 values or 8,388,608 characters, or for themselves"

BOMBS: dict[str, tuple[bytes, str]] = {
    "laugh": (
        b"a0: &a0 [lol]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)),
        ALIASES,
    ),
    "pairs": (
        b"a0: &a0 !!pairs [x: lol]\n"
        + b"".join(b"a%d: &a%d !!pairs [%s]\n" % (n, n, b", ".join([b"x: *a%d" % (n - 1)] * 9)) for n in range(1, 10)),
        ALIASES,
    ),
    "omap": (
        b"a0: &a0 !!omap [x: lol]\n"
        + b"".join(
            b"a%d: &a%d !!omap [%s]\n" % (n, n, b", ".join(b"x%d: *a%d" % (m, n - 1) for m in range(9)))
            for n in range(1, 10)
        ),
        ALIASES,
    ),
    "merges": (
        b"a0: &a0 {k: 1, l: 2}\n"
        + b"".join(b"a%d: &a%d\n  <<: [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)),
        ALIASES,
    ),
    "long text": (b'x: &x "%s"\ny: [%s]\n' % (b"a" * 100_000, b", ".join([b"*x"] * 20_000)), ALIASES),
    "itself": (b"a: &a [*a]\n", ALIASES),
    "itself by a pair": (b"a: &a !!pairs [x: *a]\n", ALIASES),
    "merge keys": (b"<<: {}\n" * 200_000, "a mapping of this YAML has more than 1,000 merge keys"),
    "base 60": (b"x: 1" + b":1" * 200_000, "a number in this YAML has more than 4300 digits"),
    "base 60 with a point": (b"x: 1" + b":1" * 200_000 + b".5", "a number in this YAML has more than 4300 digits"),
    "hexadecimal": (b"x: 0x1" + b"0" * 1_000_000, "a number in this YAML has more than 4300 digits"),
    "hexadecimal that decimal digits cannot show": (b"x: 0x1" + b"0" * 4000, "Exceeds the limit (4300 digits)"),
    "colliding keys": (
        b"".join(b"%d: 0\n" % (number * (2**61 - 1)) for number in range(1, 100_000)),
        "a mapping of this YAML has too many keys with the same hash",
    ),
}


@pytest.mark.timeout(60)  # without the check, minutes and gigabytes
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name: str) -> None:
    data, message = BOMBS[name]
    with pytest.raises(DecodeError) as caught:
        decode(YAML, data)
    assert message in str(caught.value)


def test_aliases_and_merges_of_people_are_read() -> None:
    data = b"base: &base {dt: 0.1, steps: 100}\nfine:\n  <<: *base\n  dt: 0.01\nboth: [*base, *base]\n"
    base = {"dt": 0.1, "steps": 100}
    assert decode(YAML, data) == {"base": base, "fine": {"dt": 0.01, "steps": 100}, "both": [base, base]}


def test_numbers_of_every_base_are_read() -> None:
    data = b"a: 0x1F\nb: 190:20:30\nc: 0o17\nd: 1_000\ne: 190:20:30.15\nf: 0b11\ng: %s" % (b"9" * 4300)
    assert decode(YAML, data) == {
        "a": 31, "b": 685230, "c": "0o17", "d": 1000, "e": 685230.15, "f": 3, "g": 10**4300 - 1,
    }  # fmt: skip


def test_many_keys_that_are_numbers_are_read() -> None:
    numbers = {number: number for number in range(-5000, 5000)}
    assert decode(YAML, "".join(f"{key}: {value}\n" for key, value in numbers.items()).encode()) == numbers


def test_the_number_of_values_can_be_bounded() -> None:
    data = b"[%s]" % b",".join([b"1"] * 100)
    assert decode(Yaml(most_values=101), data) == [1] * 100
    with pytest.raises(DecodeError, match="this YAML has more than 100 values"):
        decode(Yaml(most_values=100), data)
