"""The methods of every contestant. Modules of peers import their packages on first use."""

from __future__ import annotations

import pickle
from typing import IO, Any, ClassVar

from tests.tools.benchmarks.environments import NOTATA
from tests.tools.benchmarks.sites import Site
from tests.tools.memory import peak

ARTIFACT = 2000  # bytes
LINES = 10
PARAMS = {"dt": 0.001, "depth": 4, "omega": 7.25, "scheme": "leapfrog"}
METRICS = {"loss": 0.125, "accuracy": 0.75, "drift": 1e-9}
"""What a whole run has: lines of a log, parameters besides its number, and metrics."""


class UnavailableError(Exception):
    """The peer has no such feature, or not here."""


def row(number: int) -> dict[str, float]:
    """Return the five values of a row."""
    return {"a": 0.1, "b": 1 / (number + 1), "c": number, "d": 0.37 * number, "e": 2.5e-7 * number}


def log_line(step: int) -> str:
    """Return a line of a log."""
    return f"step {step:7d} residual {1.0 / (step + 1):.6e}"


def payload(number: int) -> dict[str, Any]:
    """Return a value whose JSON has about `ARTIFACT` bytes with any indentation."""
    return {"step": number, "note": "x" * (ARTIFACT - 30)}


def dump(array: Any, form: str, file: IO[bytes]) -> None:
    """Write an array in the usual way: ``npy`` or ``pickle``."""
    import numpy as np

    if form == "npy":
        np.save(file, array)
    else:
        pickle.dump(array, file, protocol=5)


def load(form: str, file: IO[bytes]) -> Any:
    """Read the output of `dump`."""
    import numpy as np

    return np.load(file) if form == "npy" else pickle.load(file)


class Peer:
    """One contestant on one site. It raises `UnavailableError` for features that it lacks.

    Attributes:
        environment: The environment with its packages.
        array: The array to upload.
        found: The downloaded array.
        data: A value to store.
    """

    environment: ClassVar[str] = NOTATA

    def __init__(self, site: Site) -> None:
        self.site = site
        self.array: Any = None
        self.found: Any = None
        self.data = b""
        self._made = 0
        self._rows = 0

    def peak(self) -> float:
        """Return the peak memory of this process in MiB."""
        return peak()

    def begin(self) -> None:
        """Start a run."""

    def end(self) -> None:
        """End the run."""

    def artifact(self) -> None:
        """Store one small JSON artifact synchronously."""
        self._made += 1
        self.store(self._made)

    def store(self, number: int) -> None:
        """Store the artifact with this number."""
        raise UnavailableError("it has no artifacts")

    def artifacts(self, count: int) -> None:
        """Store many, one after another."""
        for _ in range(count):
            self.artifact()

    def many(self, count: int, few: int) -> int:
        """Store many in the peer's fastest way, and return how many; all are stored when this returns.

        A peer that stores one after another would take minutes, so it stores only `few`.
        """
        self.artifacts(few)
        return few

    def whole_runs(self, count: int) -> None:
        """Record runs from their begin to their end, one after another."""
        for _ in range(count):
            self._made += 1
            self.run_once(self._made)

    def run_once(self, number: int) -> None:
        """Record a run: `LINES` lines, `PARAMS` and this number as ``seed``, and `METRICS`."""
        raise UnavailableError("it records no runs")

    def hold(self, size: int) -> None:
        """Create an array of this size in bytes."""
        import numpy as np

        self.array = np.arange(size // 8, dtype=np.float64)

    def hold_value(self, mib: int) -> None:
        """Create a value of this size in MiB."""
        self.data = bytes(2**20) * mib

    def value(self) -> None:
        """Store the value."""
        raise UnavailableError("it stores no values")

    def up(self, form: str) -> str:
        """Upload the array and return its location."""
        raise UnavailableError("it stores no arrays")

    def down(self, form: str, where: str) -> None:
        """Download the array into memory."""
        raise UnavailableError("it reads no arrays")

    def check(self, size: int) -> bool:
        """Return True if the downloaded array equals the one of `hold`."""
        count, every = size // 8, max(1, size // 80)
        wanted = [float(number) for number in range(0, count, every)]
        return bool(self.found.shape == (count,)) and bool(self.found[::every].tolist() == wanted)

    def lines(self, count: int) -> dict[str, Any]:
        """Log this number of lines; return what was sent for them, and whether all are stored."""
        raise UnavailableError("it has no log")

    def rows(self, count: int) -> None:
        """Add this number of rows to a series, one after another."""
        for number in range(self._rows, self._rows + count):
            self.add(number)
        self._rows += count

    def add(self, number: int) -> None:
        """Add the row with this number, as its step."""
        raise UnavailableError("it has no series")

    def settle(self) -> None:
        """Store all rows, so that the next ones begin anew."""

    def read_rows(self, path: str) -> float:
        """Read the series in a local file; return the sum of the column ``c``."""
        raise UnavailableError("it reads no series")

    def table(self, where: str, few: int) -> int:
        """Read the table of an experiment, or only `few` runs where each must be read; return the number of rows."""
        raise UnavailableError("it has no table in a bucket")
