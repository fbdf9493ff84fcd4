"""(u) The output of a C program at full speed: how much recording slows it, memory, and bytes sent."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.environments import NOTATA
from tests.tools.benchmarks.proxy import Proxy, proxied
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result, median_of
from tests.tools.benchmarks.sites import LOCAL, REAL, Site

BARE = "into cat > file"
DISK = "notata run, disk"
BUCKET = "notata run, S3 (SeaweedFS on the same processors)"
PROGRAM, SPEED, WHOLE, MEMORY, SENT = "program", "its speed", "whole command", "peak memory", "sent"
SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }

int main(int count, char **given) {  /* BYTES FILE: prints, and writes the seconds that it took to the file */
    long printed = 0, size = atol(given[1]);
    double start = now(), residual = 1.0;
    for (int step = 0; printed < size; step++, residual = residual * 0.99999 + 1e-9)
        printed += printf("step %8d  t = %12.6e  residual = %12.6e  energy = %14.8f\n", step, step * 1e-3, residual,
                          residual * 3.14159);
    fflush(stdout);
    FILE *file = fopen(given[2], "w");
    fprintf(file, "%.6f %ld", now() - start, printed);
    return fclose(file);
}
"""


@dataclass(frozen=True)
class _Sample:
    """One run of the program: seconds and bytes of the program, seconds and peak memory (MB) of the whole command."""

    seconds: float
    printed: int
    whole: float
    memory: float


def measure(bench: Bench) -> list[Result]:
    """Run the program several times in each way, one after the other."""
    sizes = bench.sizes
    columns = [Column(PROGRAM, "s"), Column(SPEED, "MB/s", ratio=False), Column(WHOLE, "s", ratio=False)]
    columns += [Column(MEMORY, "MB", ratio=False), Column(SENT, f"{TIMES} the output", ratio=False)]
    title = f"A C program that prints {sizes.output / 1e6:.0f} MB of numbers; {median_of(sizes.outputs)}"
    result = Result("u", title, columns)
    compiler = shutil.which("cc")
    if compiler is None:
        result.refuse({DISK: "not measured, as there is no C compiler"})
        return [result]
    folder = bench.sites.folder()
    program = folder / "program"
    (folder / "program.c").write_text(SOURCE)
    subprocess.run([compiler, "-O2", "-o", program, folder / "program.c"], check=True)
    remote = bench.sites.at(REAL)
    with proxied(urlsplit(remote.options["endpoint_url"]).port or 0, 0) as proxy:
        options = remote.options | {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        counted = Site(remote.url, options, remote.scratch)
        for size, times in ((sizes.output // 10, 1), (sizes.output, sizes.outputs)):
            for turn in range(times):
                _round(bench, result, program, counted, proxy, size, f"{turn}-{size}")
                bench.say(f"(u) {size / 1e6:.0f} MB, {turn + 1} of {times}")
    _judge(result, sizes.output)
    result.notes.append(
        "Speed: that of the program, from its first to its last byte. The whole command also stores everything."
    )
    result.notes.append("The server and the counting proxy take more processor time from the program than notata does.")
    return [result]


def _round(bench: Bench, result: Result, program: Path, remote: Site, proxy: Proxy, size: int, name: str) -> None:
    """Take one sample of each way."""
    folder = bench.sites.folder()
    bare = _bare(program, size, folder)
    local = bench.sites.at(LOCAL)
    disk = _recorded(bench, program, size, folder, local, name)
    before = proxy.passed()
    bucket = _recorded(bench, program, size, folder, remote, name)
    sent = (proxy.passed() - before).sent / size
    for row, sample in ((BARE, bare), (DISK, disk), (BUCKET, bucket)):
        of_size = f"{row}, {size / 1e6:.0f} MB"
        result.add(of_size, PROGRAM, [sample.seconds])
        result.add(of_size, SPEED, [sample.printed / 1e6 / sample.seconds])
        result.add(of_size, WHOLE, [sample.whole])
        if row != BARE:
            result.add(of_size, MEMORY, [sample.memory])
    result.add(f"{BUCKET}, {size / 1e6:.0f} MB", SENT, [sent])
    stored = Path(local.url, f"log_{name}", "output.txt").stat().st_size
    if stored != disk.printed:
        result.refuse({DISK: f"failed: {stored} bytes are stored, and {disk.printed} were printed"})
    bench.sites.clear_folder(folder)
    bench.sites.clear_folder(Path(local.url))


def _bare(program: Path, size: int, folder: Path) -> _Sample:
    begun = time.perf_counter()
    subprocess.run(f"{program} {size} {folder}/seconds | cat > {folder}/output", shell=True, check=True)
    return _sample(folder, time.perf_counter() - begun, 0.0)


def _recorded(bench: Bench, program: Path, size: int, folder: Path, site: Site, name: str) -> _Sample:
    options = [part for key, value in site.options.items() for part in ("-o", f"{key}={value}")]
    command = [str(bench.pythons[NOTATA]), "-m", "notata", "run", "-q", "-d", site.url, "--id", name, *options]
    arguments = [*command, "--", str(program), str(size), f"{folder}/seconds"]
    begun = time.perf_counter()
    process = os.posix_spawn(arguments[0], arguments, _environment())
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(arguments[3:8])} ended with status {status}")
    return _sample(folder, time.perf_counter() - begun, usage.ru_maxrss / 1024 * 1.048576)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _sample(folder: Path, whole: float, memory: float) -> _Sample:
    seconds, printed = (folder / "seconds").read_text().split()
    return _Sample(float(seconds), int(printed), whole, memory)


def _judge(result: Result, size: int) -> None:
    large, small = f"{size / 1e6:.0f} MB", f"{size / 1e7:.0f} MB"
    bare = result.median(f"{BARE}, {large}", PROGRAM)
    for row in (DISK, BUCKET):
        ours = result.median(f"{row}, {large}", PROGRAM)
        ratio = ours / bare if ours and bare else None
        result.budgets.append(Budget(f"time of a program that prints {large}, {row}", 1.1, ratio, f"{TIMES} bare"))
        most, least = (result.median(f"{row}, {one}", MEMORY) for one in (large, small))
        grown = most - least if most and least else None
        result.budgets.append(Budget(f"memory for {large} beyond that for {small}, {row}", 150, grown, "MB"))
    sent = result.median(f"{BUCKET}, {large}", SENT)
    result.budgets.append(Budget(f"bytes sent for {large} of output", 3, sent, f"{TIMES} the output"))
