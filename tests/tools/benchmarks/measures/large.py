"""(c) A large array up and down, each in a separate process, whose memory is measured."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result, median_of
from tests.tools.benchmarks.sites import QUICK

MIB = 2**20
BARE = (peers.S3FS, peers.S3FS_FILES)
ARRAYS = tuple((peer, "npy") for peer in (peers.OURS, peers.ENGINE, *BARE, peers.OBSTORE_FILES, peers.MLFLOW))
PICKLES = ((peers.OURS, "pickle"), (peers.S3FS, "pickle"))
DISTANT = tuple((peer, "npy") for peer in (peers.OURS, peers.ENGINE, peers.S3FS))
CONTESTANTS = {0: ARRAYS + PICKLES, 20: DISTANT}
"""By round trip: the contestants and their format of the array."""


def measure(bench: Bench) -> list[Result]:
    """Measure megabytes per second, and MiB of memory in addition to the array itself."""
    sizes = bench.sizes
    columns = [
        Column(f"{distance} ms: {figure}", unit, ratio=unit == "MB/s")
        for distance in sizes.large_distances
        for figure, unit in (("up", "MB/s"), ("up, memory", "MiB"), ("down", "MB/s"), ("down, memory", "MiB"))
    ]
    what = f"Writing an array of {sizes.large / 1e6:.0f} MB to S3 and reading it, by round-trip time"
    title = f"{what}; {median_of(sizes.larges)}"
    result = Result("c", title, columns)
    for turn in range(sizes.larges):
        for distance in sizes.large_distances:
            for peer, form in CONTESTANTS[distance]:
                if bench.known([peer]):
                    _there_and_back(bench, result, peer, form, distance)
                    bench.say(f"(c) {_row(peer, form)}, {distance} ms, {turn + 1} of {sizes.larges}")
                    bench.sites.clear()
    result.notes.append("Memory: the peak memory of the process, minus its memory before, minus the array.")
    result.notes.append(
        "put_file: the file to send is already on the local disk. The time to write it there is not included; the time "
        "to read it back from the disk is."
    )
    for distance in sizes.large_distances:
        for peer, form in CONTESTANTS[distance]:
            if peer == peers.OURS:
                _judge(result, form, distance)
    return [result]


def _there_and_back(bench: Bench, result: Result, peer: str, form: str, distance: int) -> None:
    row, size = _row(peer, form), bench.sizes.large
    site = bench.sites.at(QUICK, distance)
    with bench.contest([peer], site) as contest:
        contest.each("begin")
        contest.each("artifact")  # imports and connections are done
        contest.each("hold", size)
        up = contest.one(peer, "up", form)
        if contest.refused:
            result.refuse({row: contest.refused[peer]})
            return
        result.add(row, f"{distance} ms: up", [size / 1e6 / up.seconds])
        result.add(row, f"{distance} ms: up, memory", [up.grown])
    with bench.contest([peer], site) as contest:
        contest.each("begin")
        contest.each("artifact")
        down = contest.one(peer, "down", form, up.value)
        if not down.refused and not contest.one(peer, "check", size).value:
            contest.refused[peer] = "failed: what came down is not what went up"
        if contest.refused:
            result.refuse({row: contest.refused[peer]})
        else:
            result.add(row, f"{distance} ms: down", [size / 1e6 / down.seconds])
            result.add(row, f"{distance} ms: down, memory", [max(0.0, down.grown - size / MIB)])


def _judge(result: Result, form: str, distance: int) -> None:
    row = _row(peers.OURS, form)
    ours = result.median(row, f"{distance} ms: up")
    floor = result.best(BARE if form == "npy" else (_row(peers.S3FS, form),), f"{distance} ms: up")
    share = ours / floor if ours and floor else None
    what = f"{form} to S3, {distance} ms round trip"
    speed = f"{what}: upload speed, relative to the best of s3fs alone"
    result.budgets.append(Budget(speed, 0.9, share, TIMES, least=True))
    memory = result.median(row, f"{distance} ms: up, memory")
    result.budgets.append(Budget(f"{what}: additional memory", 128, memory, "MiB"))


def _row(peer: str, form: str) -> str:
    return peer if form == "npy" else f"{peer}: {form}"
