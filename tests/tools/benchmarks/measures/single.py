"""(a) One small artifact, at several distances, and the requests of a run."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import GCS, QUICK, REAL

S3 = (peers.OURS, peers.ENGINE, peers.PORT, peers.S3FS, peers.OBSTORE, peers.MLFLOW)
GOOGLE = (peers.OURS, peers.PORT, peers.GCSFS)
COUNTED = (
    ("S3", REAL, (peers.OURS, peers.PORT, peers.S3FS)),
    ("GCS", GCS, (peers.OURS, peers.PORT, peers.GCSFS)),
)
PARTS = ("begin", "artifact", "end")


def measure(bench: Bench) -> list[Result]:
    """Measure times, then requests."""
    return [times(bench), requests(bench)]


def times(bench: Bench) -> Result:
    """Measure milliseconds until an artifact is stored."""
    places: list[tuple[str, str, int, tuple[str, ...]]] = [
        (f"S3, {distance} ms", QUICK, distance, S3) for distance in bench.sizes.distances
    ]
    places.append(("GCS, 20 ms", GCS, 20, GOOGLE))
    result = Result(
        "a",
        f"Storing one artifact of 2 kB, by round-trip time; median of {bench.sizes.samples}",
        [Column(name, "ms") for name, *_ in places],
    )
    for name, kind, milliseconds, wanted in places:
        with bench.contest(wanted, bench.sites.at(kind, milliseconds)) as contest:
            contest.each("begin")
            contest.each("artifact", times=2)
            for peer, answers in contest.each("artifact", times=bench.sizes.samples).items():
                result.add(peer, name, (answer.seconds * 1e3 for answer in answers))
            contest.each("end")
            result.refuse(contest.refused)
    median = result.median(peers.OURS, "S3, 20 ms")
    result.budgets.append(Budget("one artifact on S3, 20 ms round trip", 30, median, "ms"))
    return result


def requests(bench: Bench) -> Result:
    """Count requests at the client library, which does not see those of obstore and MLflow."""
    columns = [Column(f"{name}: {part}", "requests", ratio=False) for name, *_ in COUNTED for part in PARTS]
    result = Result("a", "Requests to begin a run with parameters, to store one artifact, and to end the run", columns)
    for name, kind, wanted in COUNTED:
        with bench.contest(wanted, bench.sites.at(kind)) as contest:
            contest.each("begin")  # the first run of a process verifies claims on this storage
            contest.each("end")
            for part in PARTS:
                for peer, answers in contest.each(part, count=True).items():
                    result.add(peer, f"{name}: {part}", (float(answer.requests or 0) for answer in answers))
            result.refuse(contest.refused)
        for part, what, limit in zip(
            PARTS, ("to begin a run", "for an artifact", "to end a run"), (3, 1, 3), strict=True
        ):  # one of the three at the end is for the manifest
            median = result.median(peers.OURS, f"{name}: {part}")
            result.budgets.append(Budget(f"requests {what} on {name}", limit, median))
    return result
