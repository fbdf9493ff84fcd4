"""The verbs that every contestant has. A module of a peer imports its packages when they are used."""

from __future__ import annotations

import pickle
from typing import IO, Any, ClassVar

from tests.tools.benchmarks.environments import NOTATA
from tests.tools.benchmarks.sites import Site

ARTIFACT = 2000  # bytes


class UnavailableError(Exception):
    """This peer has no such thing, or not yet, or not here."""


def payload(number: int) -> dict[str, Any]:
    """A value whose JSON has about `ARTIFACT` bytes, however it is indented."""
    return {"step": number, "note": "x" * (ARTIFACT - 30)}


def dump(array: Any, form: str, file: IO[bytes]) -> None:
    """Write an array as anybody would: ``npy`` or ``pickle``."""
    import numpy as np

    if form == "npy":
        np.save(file, array)
    else:
        pickle.dump(array, file, protocol=5)


def load(form: str, file: IO[bytes]) -> Any:
    """Read what `dump` has written."""
    import numpy as np

    return np.load(file) if form == "npy" else pickle.load(file)


class Peer:
    """One contestant on one site. What it does not do, it refuses.

    Attributes:
        environment: Where its packages are.
        array: What goes up.
        found: What came down.
    """

    environment: ClassVar[str] = NOTATA

    def __init__(self, site: Site) -> None:
        self.site = site
        self.array: Any = None
        self.found: Any = None
        self._made = 0

    def begin(self) -> None:
        """Begin a run."""

    def end(self) -> None:
        """End it."""

    def artifact(self) -> None:
        """Store one small JSON artifact; it is stored when this returns."""
        self._made += 1
        self.store(self._made)

    def store(self, number: int) -> None:
        """Store the artifact of this number."""
        raise UnavailableError("it has no artifacts")

    def artifacts(self, count: int) -> None:
        """Store many, one after the other."""
        for _ in range(count):
            self.artifact()

    def many(self, count: int, few: int) -> int:
        """Store many in the best way that it has; all are stored when this returns.

        What goes one after the other would take minutes: then only `few` do. How many were stored.
        """
        self.artifacts(few)
        return few

    def hold(self, size: int) -> None:
        """Have an array of so many bytes."""
        import numpy as np

        self.array = np.arange(size // 8, dtype=np.float64)

    def up(self, form: str) -> str:
        """Store the array; where it is then."""
        raise UnavailableError("it stores no arrays")

    def down(self, form: str, where: str) -> None:
        """Read the array into memory."""
        raise UnavailableError("it reads no arrays")

    def check(self, size: int) -> bool:
        """Whether what came down is what `hold` made."""
        count, every = size // 8, max(1, size // 80)
        wanted = [float(number) for number in range(0, count, every)]
        return bool(self.found.shape == (count,)) and bool(self.found[::every].tolist() == wanted)

    def lines(self, count: int) -> dict[str, Any]:
        """Log so many lines: what was sent for them, and whether all are there."""
        raise UnavailableError("it has no log")

    def table(self, where: str, few: int) -> int:
        """Read the table of an experiment, or of `few` runs where one after the other is read; how many rows it has."""
        raise UnavailableError("it has no table in a bucket")
