"""Programs in Fortran, C, MPI, shell and Python: complete, failing, killed, interrupted; on a disk and on S3."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from notata import LogReader
from notata.program import record
from notata.program.usage import TreeUsage
from tests.backends import Place

PYTHON: Final = r"""
import os, signal, sys
residual = 1.0
for step in range(1, 4):
    residual /= 10
    print("step %d res = %.4e" % (step, residual))
open("field.dat", "w").write("%.4e" % residual)
sys.stdout.flush()
way, pid = sys.argv[1:]
if way == "fails":
    sys.exit(3)
if way == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if way == "interrupted":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(int(pid), signal.SIGINT)
    signal.pause()
"""

SHELL: Final = r"""
generate() { for step in 1 2 3; do echo "step $step res = 1.0000e-0$step"; done; echo 1.0000e-03 > field.dat; }
case $1 in
    complete) generate | cat ;;
    fails) generate | cat; exit 3 ;;
    killed) generate | cat; kill -KILL $$ ;;
    interrupted) generate | cat; kill -INT $2; read never < /dev/zero ;;
esac
"""

WAYS: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "complete": (0, {"code": 0}),
    "fails": (3, {"code": 3}),
    "killed": (137, {"signal": "SIGKILL"}),
    "interrupted": (130, {"signal": "SIGINT"}),
}
BY_MPIRUN: Final = {"killed": (137, {"code": 137}), "interrupted": (None, {})}
"""mpirun itself survives these: its exit code says how a rank ended; after SIGINT it depends on the version."""


def command(program: str, built: Path) -> list[str]:
    if program == "mpi":
        return ["mpirun", "-n", "4", str(built / "ranks")]
    if program == "shell":
        return ["sh", "-c", SHELL, "sh"]
    return [sys.executable, "-ISc", PYTHON] if program == "python" else [str(built / program)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", ["fortran", "c", "mpi", "shell", "python"])
def test_a_program_is_recorded_however_it_ends(
    program: str, way: str, place: Place, built: Path, tmp_path: Path
) -> None:
    code, end = WAYS[way] if program != "mpi" else BY_MPIRUN.get(way, WAYS[way])
    folder = tmp_path / "work"
    folder.mkdir()
    done = record(
        [*command(program, built), "{way}", "{pid}"],
        place.url,
        run_id="run",
        storage_options=place.options,
        params={"way": way, "pid": os.getpid()},
        series=[r"step (?P<step>\d+) res = *(?P<res>\S+)"],
        keep=["field.dat"],
        cwd=str(folder),
        echo=False,
    )
    fields = json.loads(place.bytes("log_run/metadata.json"))
    assert fields["status"] == ("complete" if way == "complete" else "failed")
    assert code is None or (done, {name: fields["exit"].get(name) for name in end}) == (code, end)
    assert done != 0 or way == "complete"
    rows = [json.loads(line) for line in place.bytes("log_run/series/output.jsonl").splitlines()]
    assert [(row["step"], round(row["res"], 9)) for row in rows] == [(1, 0.1), (2, 0.01), (3, 0.001)]
    assert place.bytes("log_run/artifacts/field.dat").decode().split() in (["1.0000e-03"], ["0.1000D-02"])
    printed = place.bytes("log_run/output.txt").decode()
    assert printed.count(" res = ") == 3
    assert program != "mpi" or "sum 6 of 4 ranks" in printed
    assert fields["exit"]["cpu_seconds"] >= 0


@pytest.mark.parametrize(("program", "lines"), [("c", {False: 0, True: 3}), ("fortran", {False: 3, True: 3})])
def test_a_terminal_makes_a_program_print_each_line_at_once(
    program: str, lines: dict[bool, int], built: Path, tmp_path: Path
) -> None:
    """The C library collects the output of a pipe, which is lost when the program is killed; gfortran flushes it."""
    for terminal, expected in lines.items():
        base = str(tmp_path / str(terminal))
        argv = [str(built / program), "unflushed", "0"]
        assert record(argv, base, run_id="run", terminal=terminal, cwd=str(tmp_path), echo=False) == 137
        output = tmp_path / str(terminal) / "log_run" / "output.txt"
        assert (output.read_text() if output.exists() else "").count("\n") == expected


def test_each_rank_of_an_mpi_program_writes_as_a_worker_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, time; from notata import Logbook; Logbook.current().scalars(step=0, rank_of=int(os.environ['R']))\n"
        f"while not os.path.exists({str(tmp_path / 'counted')!r}): time.sleep(0.01)"
    )
    sample = TreeUsage.sample

    def count(usage: TreeUsage) -> None:
        sample(usage)
        if usage.processes > 4:  # mpirun and all ranks at once
            (tmp_path / "counted").touch()

    monkeypatch.setattr(TreeUsage, "sample", count)
    rank = "R=$OMPI_COMM_WORLD_RANK exec " + sys.executable + ' -c "$0"'
    code = record(["mpirun", "-n", "4", "sh", "-c", rank, script], str(tmp_path), run_id="run", echo=False)
    reader = LogReader(tmp_path / "log_run")
    assert code == 0, reader["output.txt"].read_text()
    rows = {
        folder.name: json.loads((folder / "series/scalars.jsonl").read_text())["rank_of"]
        for folder in (tmp_path / "log_run/workers").iterdir()
    }
    assert rows == {"0": 0, "1": 1, "2": 2, "3": 3}
    assert reader.meta["exit"]["processes"] > 4
