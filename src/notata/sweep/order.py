"""A pseudo-random order of numbers without a list of them, different for each seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, overload

__all__ = ["Permutation"]

_ROUNDS: Final = 4
_WORD: Final = 2**64 - 1


class Permutation(Sequence[int]):
    """The numbers from 0 to `size` - 1 in a pseudo-random order. It takes the same memory for any size.

    Args:
        size: How many numbers there are.
        seed: Any text. Equal seeds give equal orders, also in another process.

    >>> sorted(Permutation(10, "a")) == list(range(10)), list(Permutation(10, "a")) == list(Permutation(10, "b"))
    (True, False)

    References:
        M. Luby, C. Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988: a Feistel
        network; J. Black, P. Rogaway, "Ciphers with arbitrary finite domains", 2002: a number outside of the range is
        permuted again.
    """

    def __init__(self, size: int, seed: str) -> None:
        self._size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        digest = hashlib.blake2b(seed.encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = [int.from_bytes(digest[8 * place : 8 * place + 8]) for place in range(_ROUNDS)]

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(self._size))]
        number = at + self._size if at < 0 else at
        if not 0 <= number < self._size:
            raise IndexError(at)
        number = self._permuted(number)
        while number >= self._size:  # less than three times on average, as there are at most four times as many
            number = self._permuted(number)
        return number

    def _permuted(self, number: int) -> int:
        half = self._half
        mask = (1 << half) - 1
        left, right = number >> half, number & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        return left << half | right


def _mixed(value: int) -> int:
    """Mix the bits of a number of 64 bits; the finalizer of MurmurHash3."""
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _WORD
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _WORD
    return value ^ value >> 33
