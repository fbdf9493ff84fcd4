"""notata 0.3.0 and this version on the same folders, each in a separate process; and what grep and jq find there."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jq  # type: ignore[import-not-found]
import numpy as np
import pytest

from notata import Experiment, ExperimentReader, Logbook, LogReader

Old = Callable[[str], Any]
"""Runs a script with notata 0.3.0 as `notata` and returns the script's `result`."""

HEAD = """
import json, os, sys
import numpy as np
import notata
from notata import Experiment, ExperimentReader, Logbook, LogReader
from importlib.metadata import version
assert version("notata") == "0.3.0", version("notata")
assert os.path.dirname(os.path.dirname(notata.__file__)) == sys.argv[1], notata.__file__
result = None
"""

TAIL = """
print(json.dumps(result))
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with notata 0.3.0, installed from PyPI."""
    folder = tmp_path_factory.mktemp("notata-0.3.0")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", str(folder), "notata==0.3.0"], check=True)
    return folder


@pytest.fixture
def old(installed: Path, tmp_path: Path) -> Old:
    """notata 0.3.0, in the folder of the test."""

    def run(script: str) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(installed), "MPLBACKEND": "agg"}
        done = subprocess.run(
            [sys.executable, "-c", HEAD + script + TAIL, str(installed)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def shell(command: str, folder: Path) -> list[str]:
    """Run a shell command and return its output lines."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def jq_of(program: str, file: Path) -> list[Any]:
    """Return the output of jq for a file."""
    found: list[Any] = jq.compile(program).input_text(file.read_text()).all()
    return found


def index(folder: Path) -> list[dict[str, str]]:
    with open(folder / "index.csv", newline="") as file:
        return list(csv.DictReader(file, strict=True))


# -- what 0.3.0 wrote, read by this one --------------------------------------------------------------------

EVERY_WRITER = """
import matplotlib.pyplot as plt
with Logbook("every", params={"omega": 2.0, "dt": 1e-3, "steps": 10_000, "tags": ["a", "b"]}) as log:
    log.params(scheme="leapfrog")
    log.array("energy", np.linspace(0, 1, 5))
    log.array("states/T_step1", np.eye(3, order="F"))
    log.arrays("trajectory", x=np.arange(3), v=np.ones((2, 2), dtype="f4"))
    log.arrays("plain", compressed=False, z=np.array([1 + 2j]))
    log.json("final_state", {"x": 1.5, "E": float("nan")})
    log.json("nested/config", {"a": [1, 2]})
    log.text("stdout", "Simulation complete.\\nGröße\\n")
    log.pickle("model", {"weights": [1, 2]})
    log.bytes("weights.bin", b"\\x00\\x01")
    fig, ax = plt.subplots(); ax.plot([0, 1])
    log.plot("energy", fig=fig, formats=("png", "pdf"))
    log["artifacts/custom.dat"].write_text("custom")
    log.meta(machine="node17")
    log.info("step=1"); log.warning("stiff"); log.error("bad"); log.debug("hidden")
"""


def test_a_run_of_0_3_0_is_read_completely(old: Old, tmp_path: Path) -> None:
    old(EVERY_WRITER)
    run = LogReader(tmp_path / "outputs/log_every")
    assert run.run_id == "every"
    assert run.params == {"omega": 2.0, "dt": 1e-3, "steps": 10_000, "tags": ["a", "b"], "scheme": "leapfrog"}
    assert run.state.status == run.meta["status"] == "complete"
    assert (run.meta["machine"], run.meta["run_id"]) == ("node17", "every")
    assert {"start_time", "end_time", "runtime_sec"} <= run.meta.keys()
    assert run.arrays == ["energy", "plain:z", "states/T_step1", "trajectory:v", "trajectory:x"]
    assert run.load_array("energy").tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert run.load_array("states/T_step1").flags.f_contiguous
    assert run.load_array("trajectory:v").dtype == np.dtype("f4")
    assert run.load_array("plain:z").tolist() == [1 + 2j]
    assert sorted(run.load_arrays("trajectory")) == ["v", "x"]
    assert run.artifacts == [
        "custom.dat",
        "final_state.json",
        "model.pkl",
        "nested/config.json",
        "stdout.txt",
        "weights.bin",
    ]
    assert run.load_json("final_state")["x"] == 1.5
    assert np.isnan(run.load_json("final_state.json")["E"])
    assert run.load_json("nested/config") == {"a": [1, 2]}
    assert run.load_text("stdout") == "Simulation complete.\nGröße\n"
    assert run.load_pickle("model") == {"weights": [1, 2]}
    assert run.load_bytes("weights.bin") == b"\0\1"
    assert run.plots == ["energy.pdf", "energy.png"]
    assert [(line.level, line.message) for line in run.log if line.message in ("step=1", "stiff", "bad")] == [
        ("INFO", "step=1"),
        ("WARNING", "stiff"),
        ("ERROR", "bad"),
    ]
    assert run.log[-1].message == "Marked complete"
    assert "<LogReader 'every'>" in str(run)


@pytest.mark.parametrize("ext", ["yaml", "json"])
def test_parameters_of_0_3_0_in_either_form(old: Old, tmp_path: Path, ext: str) -> None:
    old(f"""
log = Logbook("a")
log.params(ext={ext!r}, omega=2.0, nested={{"a": None, "b": [True, "1e5"]}})
log.mark_complete()
""")
    run = LogReader(tmp_path / "outputs/log_a")
    assert run.params == {"omega": 2.0, "nested": {"a": None, "b": [True, "1e5"]}}
    assert ExperimentReader(tmp_path / "outputs").params == {"a": run.params}


def test_failures_of_0_3_0(old: Old, tmp_path: Path) -> None:
    old("""
try:
    with Logbook("block"):
        raise ValueError("h = -1")
except ValueError:
    pass
Logbook("marked").mark_failed("residual grows")
Logbook("open")
""")
    runs = ExperimentReader(tmp_path / "outputs")
    assert {run.run_id: run.state.status for run in runs} == {"block": "failed", "marked": "failed", "open": "running"}
    assert runs["block"].meta["failure_reason"] == "h = -1"
    assert not runs["open"].state.certain  # 0.3.0 wrote no lease, so it is uncertain
    reasons = {row["run_id"]: row.get("failure_reason") for row in runs.table()}
    assert reasons == {"block": "h = -1", "marked": "residual grows", "open": None}


SWEEP = """
exp = Experiment("falling_ball")
for dt, wind in [(0.01, None), (0.02, 3), (0.5, None), (0.1234567, None)]:
    log = exp.add(dt=dt, **({} if wind is None else {"wind": wind}))
    try:
        with log:
            if dt == 0.5:
                raise RuntimeError("Object hit the ground")
            log.json("metrics", {"final_height": 95.0 - dt, **({"drift": 1} if wind else {})})
    except RuntimeError:
        pass
result = open("outputs/falling_ball/index.csv").read().splitlines()
"""


def test_a_sweep_of_0_3_0_with_shifted_rows(old: Old, tmp_path: Path) -> None:
    written = old(SWEEP)
    assert written[:3] == [  # as in 0.3.0: the second row has more columns than the header
        "run_id,dt,status,final_height",
        "falling_ball_dt_0.01,0.01,complete,94.99",
        "falling_ball_dt_0.02_wind_3,0.02,3,complete,1,94.98",
    ]
    runs = ExperimentReader(tmp_path / "outputs/falling_ball")
    rows = {row.pop("run_id"): row for row in runs.table()}
    assert rows == {
        "falling_ball_dt_0.01": {"dt": 0.01, "status": "complete", "final_height": 94.99},
        "falling_ball_dt_0.02_wind_3": {
            "dt": 0.02, "wind": 3, "status": "complete", "final_height": 94.98, "drift": 1,
        },
        "falling_ball_dt_0.5": {"dt": 0.5, "status": "failed", "failure_reason": "Object hit the ground"},
        "falling_ball_dt_0.12346": {"dt": 0.1234567, "status": "complete", "final_height": 95.0 - 0.1234567},
    }  # fmt: skip
    assert len(runs) == 4
    assert [run.run_id for run in runs] == sorted(rows)
    assert runs["falling_ball_dt_0.02_wind_3"].params == {"dt": 0.02, "wind": 3}
    assert [row["run_id"] for row in runs.index()] == [line.split(",")[0] for line in written[1:]]
    assert "index.csv with 4 entries" in str(runs)
    assert (tmp_path / "outputs/falling_ball/index.csv").read_text().splitlines() == written  # unchanged


def test_an_experiment_of_0_3_0_can_be_continued(old: Old, tmp_path: Path) -> None:
    old(SWEEP)
    sweep = Experiment("falling_ball", tmp_path / "outputs")
    assert sweep.add(dt=0.01, skip_existing=True) is None
    assert sweep.add(dt=0.02, wind=3, skip_existing="complete") is None
    again = sweep.add(dt=0.5, skip_existing="complete")
    assert again is not None  # the failed run is resumed
    with again:
        again.json("metrics", {"final_height": 94.5})
    rounded = sweep.add(dt=0.1234567, skip_existing=True)
    assert rounded is not None  # 0.3.0 shortened its id to five digits, so other runs could have the same id
    rounded.mark_complete()
    folder = tmp_path / "outputs/falling_ball"
    rows = {row["run_id"]: (row["wind"], row["status"], row["final_height"]) for row in index(folder)}
    assert len(index(folder)) == len(rows)
    assert rows == {
        "falling_ball_dt_0.01": ("", "complete", "94.99"),
        "falling_ball_dt_0.02_wind_3": ("3", "complete", "94.98"),
        "falling_ball_dt_0.5": ("", "complete", "94.5"),
        "falling_ball_dt_0.12346": ("", "complete", str(95.0 - 0.1234567)),
        rounded.run_id: ("", "complete", ""),
    }
    frame = sweep.to_dataframe()
    assert len(frame) == 5
    assert sweep.select(drift=1)["run_id"].tolist() == ["falling_ball_dt_0.02_wind_3"]


# -- what this one wrote, read by 0.3.0 --------------------------------------------------------------------


def test_0_3_0_reads_a_run(old: Old, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    with Logbook("every", tmp_path / "outputs", params={"omega": 2.0, "tags": ["a", "1e5"], "none": None}) as log:
        log.array("energy", np.linspace(0, 1, 5))
        log.array("states/T", np.eye(3))
        log.arrays("trajectory", x=np.arange(3), v=np.ones(2))
        log.json("final_state", {"x": 1.5, "name": "Größe"})
        log.json("nested/config", {"a": [1, 2]})
        log.text("stdout", "done")
        figure, axes = plt.subplots()
        axes.plot([0, 1])
        log.plot("energy", figure)
        plt.close(figure)
    read = old("""
run = LogReader("outputs/log_every")
result = {
    "run_id": run.run_id, "params": run.params, "status": run.meta["status"], "runtime": run.meta["runtime_sec"],
    "start": run.meta["start_time"], "arrays": run.arrays, "artifacts": run.artifacts, "plots": run.plots,
    "energy": run.load_array("energy").tolist(), "T": run.load_array("states/T").tolist(),
    "x": run.load_array("trajectory:x").tolist(), "final": run.load_json("final_state"),
    "config": run.load_json("nested/config.json"), "none": run.load_json("none"), "text": str(run),
}
""")
    assert (read["run_id"], read["status"]) == ("every", "complete")
    assert read["params"] == {"omega": 2.0, "tags": ["a", "1e5"], "none": None}
    assert (read["runtime"], read["start"]) == (log.elapsed, log.reader.meta["start_time"])
    assert read["arrays"] == ["T", "energy", "trajectory:v", "trajectory:x"]  # 0.3.0 ignores folders
    assert read["artifacts"] == ["final_state.json", "nested/config.json", "stdout.txt"]
    assert read["plots"] == ["energy.png"]
    assert read["energy"] == [0, 0.25, 0.5, 0.75, 1]
    assert read["T"] == np.eye(3).tolist()
    assert read["x"] == [0, 1, 2]
    assert read["final"] == {"x": 1.5, "name": "Größe"}
    assert (read["config"], read["none"]) == ({"a": [1, 2]}, {})
    assert "meta: status=complete" in read["text"]


def test_0_3_0_reads_parameters_in_json_and_failures(old: Old, tmp_path: Path) -> None:
    log = Logbook("a", tmp_path / "outputs")
    log.params(ext="json", omega=2.0)
    log.mark_failed("residual grows")
    read = old(
        'run = LogReader("outputs/log_a"); result = [run.params, run.meta["status"], run.meta["failure_reason"]]'
    )
    assert read == [{"omega": 2.0}, "failed", "residual grows"]


def test_0_3_0_reads_an_experiment(old: Old, tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    read = old("""
exp = ExperimentReader("outputs/sweep")
result = {
    "len": len(exp), "ids": [run.run_id for run in exp], "params": exp.params, "first": exp[0].run_id,
    "statuses": {run_id: meta["status"] for run_id, meta in exp.meta.items()},
    "metrics": exp["sweep_dt_0.1_wind_2"].load_json("metrics"), "index": list(exp.index()), "text": str(exp),
    "frame": Experiment("sweep").select(status="failed").to_dict("records"),
    "columns": list(Experiment("sweep").to_dataframe().columns),
}
""")
    ids = ["sweep_dt_0.1_wind_2", "sweep_dt_0.2", "sweep_dt_0.5"]
    assert (read["len"], read["ids"], read["first"]) == (3, ids, ids[0])
    assert read["params"] == {ids[0]: {"dt": 0.1, "wind": 2}, ids[1]: {"dt": 0.2}, ids[2]: {"dt": 0.5}}
    assert read["statuses"] == {ids[0]: "complete", ids[1]: "complete", ids[2]: "failed"}
    assert read["metrics"] == {"error": 0.01, "note": "a, b"}
    assert [(row["run_id"], row["wind"], row["error"]) for row in read["index"]] == [
        (ids[0], "2", "0.01"),
        (ids[1], "", "0.04"),
        (ids[2], "", ""),
    ]
    assert "Runs directory: runs with 3 runs" in read["text"]
    assert [row["failure_reason"] for row in read["frame"]] == ["hit the ground, h=-1"]
    assert read["columns"] == [*sweep.to_dataframe().columns, "revision"]


def test_0_3_0_continues_an_experiment_and_this_version_after_it(old: Old, tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    assert old("""
exp = Experiment("sweep")
result = [exp.add(skip_existing=True, dt=0.2) is None]
with exp.add(dt=0.3) as log:
    log.json("metrics", {"error": 0.09})
""") == [True]
    sweep.write_index()
    assert [(row["dt"], row["status"], row["error"]) for row in index(tmp_path / "outputs/sweep")] == [
        ("0.1", "complete", "0.01"),
        ("0.2", "complete", "0.04"),
        ("0.5", "failed", ""),
        ("0.3", "complete", "0.09"),
    ]


def _sweep(folder: Path) -> Experiment:
    sweep = Experiment("sweep", folder / "outputs")
    for params, metrics in (
        ({"dt": 0.1, "wind": 2}, {"error": 0.01, "note": "a, b"}),
        ({"dt": 0.2}, {"error": 0.04}),
    ):
        with sweep.add(**params) as log:
            log.json("metrics", metrics)
    with pytest.raises(RuntimeError), sweep.add(dt=0.5):
        raise RuntimeError("hit the ground, h=-1")
    return sweep


# -- grep and jq -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write some runs and a sweep."""
    folder = tmp_path_factory.mktemp("recipes")
    outputs = folder / "outputs"
    for number, omega in enumerate((1.0, 2.0, 3.0)):
        with Logbook(f"run{number}", outputs, params={"omega": omega, "dt": 1e-3}) as log:
            log.json("final_state", {"E": omega**2 / 2, "x": float("nan")})
    log = Logbook("json", outputs)
    log.params(ext="json", dt=0.001, omega=2.5)
    log.mark_failed("energy drifts")
    _sweep(folder)
    return folder


def test_grep_finds_complete_runs(written: Path) -> None:
    found = shell("""grep -l '"status": "complete"' outputs/log_*/metadata.json""", written)
    assert found == [f"outputs/log_run{number}/metadata.json" for number in range(3)]


def test_grep_finds_runs_by_a_parameter(written: Path) -> None:
    assert shell("grep -l 'omega: 2.0' outputs/log_*/params.yaml", written) == ["outputs/log_run1/params.yaml"]


def test_grep_finds_failures(written: Path) -> None:
    found = shell('grep -r "Marked failed" outputs --include=log.txt', written)
    assert sorted(line.partition(":")[0] for line in found) == [
        "outputs/log_json/log.txt",
        "outputs/sweep/runs/log_sweep_dt_0.5/log.txt",
    ]
    assert all(line.endswith(("Marked failed: energy drifts", "hit the ground, h=-1")) for line in found)


def test_grep_finds_rows(written: Path) -> None:
    (line,) = shell("grep failed, outputs/sweep/index.csv", written)
    assert line.startswith('sweep_dt_0.5,0.5,,failed,"hit the ground, h=-1",,,')
    assert shell("grep -c complete outputs/sweep/index.csv", written) == ["2"]
    assert shell("cut -d, -f1,2 outputs/sweep/index.csv", written)[1] == "sweep_dt_0.1_wind_2,0.1"


def test_jq_reads_parameters(written: Path) -> None:
    assert jq_of(".dt", written / "outputs/log_json/params.json") == [0.001]


def test_jq_selects_by_an_artifact(written: Path) -> None:
    """The file contains NaN, which the JSON standard does not allow."""
    files = sorted(written.glob("outputs/log_run*/artifacts/final_state.json"))
    assert [[found["E"] for found in jq_of("select(.E > 2.0)", file)] for file in files] == [[], [], [4.5]]
    assert [[found["E"] for found in jq_of("select(.E >= 2.0)", file)] for file in files] == [[], [2.0], [4.5]]


def test_jq_reads_metadata_with_the_row_of_a_sweep(written: Path) -> None:
    files = sorted(written.glob("outputs/sweep/runs/*/metadata.json"))
    told = [jq_of("[.run_id, .status, .row.metrics.error]", file)[0] for file in files]
    assert told == [
        ["sweep_dt_0.1_wind_2", "complete", 0.01],
        ["sweep_dt_0.2", "complete", 0.04],
        ["sweep_dt_0.5", "failed", None],
    ]


def test_jq_and_sha256sum_check_a_run_as_the_docs_say(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/verifying.md").read_text()
    [program] = re.findall(r"jq -r '(.*)' manifest\.json \| sha256sum -c", page)
    with Logbook("a", tmp_path, params={"dt": 0.001}) as log:
        log.text("notes with spaces", "x")
        log.array("t", np.arange(3))
    lines = "\n".join(jq_of(program, tmp_path / "log_a/manifest.json")) + "\n"
    check = ["sha256sum", "-c"]
    done = subprocess.run(check, input=lines, cwd=tmp_path / "log_a", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "artifacts/notes with spaces.txt: OK\ndata/t.npy: OK\nparams.yaml: OK\n"
    (tmp_path / "log_a/data/t.npy").write_bytes(b"damaged")
    assert subprocess.run(check, input=lines, cwd=tmp_path / "log_a", capture_output=True, text=True).returncode == 1
