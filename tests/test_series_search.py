"""The same series of many runs: `search.series`, `search.curves`, `ExperimentReader.series`, `tail` of a series."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from notata import Experiment, ExperimentReader, Logbook, search
from notata._base import limits
from notata.errors import (
    ConfigurationError,
    DamagedFileWarning,
    KeyNameError,
    RunMissingError,
    StorageError,
    TooLargeError,
    UnknownNameError,
)
from notata.store import Blob
from notata.store.backends.memory import MemoryBackend
from tests.backends import Place
from tests.command import notata
from tests.series import parsers, read_with, rows

BEGAN = 1_764_323_213.0
KEY = "series/scalars.jsonl"


@pytest.fixture
def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


def plant(place: Place, run: str, values: Iterable[Mapping[str, object]], key: str = KEY, **fields: object) -> None:
    """Write the files of a run by plain fsspec; `run` is its folder."""
    place.put(f"{run}/metadata.json", json.dumps({"status": "complete", **fields}).encode())
    found = ({"step": number, "time": BEGAN + number, **row} for number, row in enumerate(values))
    place.put(f"{run}/{key}", "".join(f"{json.dumps(row)}\n" for row in found).encode())


def expected(place: Place, runs: Iterable[str], key: str = KEY) -> pd.DataFrame:
    """Return one long frame of the raw rows, as pandas reads them."""
    frames = []
    for run in runs:
        frame = pd.DataFrame(rows(place.bytes(f"{run}/{key}")))
        frame.insert(0, "run_id", run.rpartition("log_")[2])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Check that two frames have the same values; None and NaN are gaps."""
    assert sorted(one.columns) == sorted(other.columns)
    left, right = (frame.astype(object).where(frame.notna(), None) for frame in (one, other[one.columns]))
    pd.testing.assert_frame_equal(left, right)


# -- one long frame --------------------------------------------------------------------------------------------


@parsers
def test_one_long_frame_of_many_runs(place: Place, parser: str) -> None:
    runs = ["log_a", "log_b", "deep/sweep/log_c"]
    plant(place, runs[0], ({"loss": 1 / (1 + step), "n": step} for step in range(30)))
    plant(place, runs[1], ({"loss": 2.0, "acc": step / 3} for step in range(20)))
    plant(place, runs[2], [{"loss": 0.5, "phase": "end", "ok": True}])
    with read_with(parser):
        found = search.series(place.url)
    wanted = expected(place, ["deep/sweep/log_c", "log_a", "log_b"])
    same(found.to_pandas(), wanted)
    assert [*found.to_pandas()][:3] == ["run_id", "step", "time"]
    assert (len(found), found.rows, repr(found)) == (3, 51, "RunSeries('scalars', 51 rows of 3 runs)")
    assert {run: data["loss"].tolist() for run, data in found} == {
        run: part["loss"].tolist() for run, part in wanted.groupby("run_id")
    }
    table = found.to_arrow()
    assert table.column_names[:3] == ["run_id", "step", "time"]
    assert table["acc"].null_count == 31
    assert table["loss"].to_pylist() == wanted["loss"].tolist()


def test_filters_and_columns(place: Place) -> None:
    for run, omega, status in (("log_a", 1.0, "complete"), ("log_b", 2.0, "complete"), ("log_c", 3.0, "failed")):
        plant(place, run, [{"loss": omega, "val/loss": -omega, "acc": 0.0}] * 2, status=status)
        place.put(f"{run}/params.json", json.dumps({"omega": omega}).encode())

    def ids(found: search.RunSeries) -> list[str]:
        return [run for run, _ in found]

    assert ids(search.series(place.url, where="omega > 1")) == ["b", "c"]
    assert ids(search.series(place.url, where="omega > 1", status="complete")) == ["b"]
    assert ids(search.series(place.url, where=lambda run: run.params["omega"] == 1)) == ["a"]
    assert ids(search.series([f"{place.url}/log_c", f"{place.url}/log_a"])) == ["c", "a"]
    assert ids(search.series(search.Query(place.url, sort="omega", reverse=True, limit=2))) == ["c", "b"]
    assert ids(search.series(place.url, where="omega > 9")) == []
    for columns, names in (("*loss", ["loss", "val/loss"]), (["acc", "loss"], ["acc", "loss"])):
        frame = search.series(place.url, columns=columns).to_pandas()
        assert sorted([*frame][3:]) == names
        assert len(frame) == 6  # rows without these columns stay
    assert search.series(place.url, where="omega > 9").to_pandas().empty


def test_workers_and_repeated_rows(place: Place) -> None:
    plant(place, "log_a", [{"v": 1}, {"v": 2}, {"step": 1, "try": 1, "v": 3}])
    plant(place, "log_a", [{"v": 7}], "workers/node/3/series/scalars.jsonl")
    plant(place, "log_a", [{"v": 8}], "workers/10/series/scalars.jsonl")
    plant(place, "log_a", [{"v": 9}], "workers/10/series/other.jsonl")
    own = search.series(place.url)
    assert own.to_pandas()["v"].tolist() == [1, 3]
    assert "rank" not in own.to_pandas()
    assert search.series(place.url, repeated=True).to_pandas()["v"].tolist() == [1, 2, 3]
    every = search.series(place.url, workers=True).to_pandas()
    assert [*every][:2] == ["run_id", "rank"]
    assert sorted(zip(every["rank"], every["v"], strict=True)) == [("", 1), ("", 3), ("10", 8)]


def test_runs_with_the_same_id_have_names(place: Place) -> None:
    plant(place, "log_a", [{"v": 1, "name": "x"}])
    plant(place, "other/log_a", [{"v": 2}])
    frame = search.series(place.url).to_pandas()
    assert frame["run"].tolist() == [f"{place.url}/log_a", f"{place.url}/other/log_a"]
    assert frame["run_id"].tolist() == ["a", "a"]
    assert [*search.series(place.url, columns="v").to_pandas()][:3] == ["name", "run_id", "step"]


def test_an_experiment_reads_the_same(place: Place) -> None:
    experiment = Experiment("sweep", place.url)
    for dt in (0.1, 0.2):
        with experiment.add(dt=dt) as log:
            for step in range(5):
                log.scalars(step=step, error=dt**step)
            log.series("residual").add(r=dt)
    reader = ExperimentReader(experiment.url)
    frame = reader.series("scalars").to_pandas()
    same(frame, expected(place, [f"sweep/runs/log_sweep_dt_{dt}" for dt in (0.1, 0.2)]))
    same(search.series(experiment.url).to_pandas(), frame)
    assert reader.series("residual", columns="r").to_pandas()["r"].tolist() == [0.1, 0.2]
    with pytest.raises(UnknownNameError, match=r"no run at \S+ has a series 'resid'; they have 'residual', 'scalars'"):
        reader.series("resid")


# -- what is not there, or broken ------------------------------------------------------------------------------


def test_a_missing_series_names_those_that_exist(place: Place) -> None:
    plant(place, "log_a", [{"v": 1}])
    plant(place, "log_b", [{"r": 1}], "series/flow/residual.jsonl")
    plant(place, "log_b", [{"r": 1}], "workers/0/series/ranks.jsonl")
    with pytest.raises(UnknownNameError) as caught:
        search.series(place.url, "nope")
    assert str(caught.value) == (
        f"no run at {place.url} has a series 'nope'; they have 'flow/residual', 'ranks', 'scalars'"
    )
    assert isinstance(caught.value, KeyError)
    with pytest.raises(KeyNameError, match=re.escape("../x")):
        search.series(place.url, "../x")
    with pytest.raises(RunMissingError):
        search.series(f"{place.url}/nowhere")


def test_columns_that_no_run_has_are_named_with_those_that_exist(place: Place) -> None:
    experiment = Experiment("sweep", place.url)
    for number in range(2):
        with experiment.add(number=number) as log:
            log.scalars({"loss": 1.0, f"only/{number}": 2.0})
    reader = ExperimentReader(experiment.url)
    wanted = (
        f"the series 'scalars' of the runs at {experiment.url} has no column 'los'; it has 'loss', 'only/0', 'only/1'"
    )
    for read in (reader.series, partial(search.series, experiment.url)):
        with pytest.raises(UnknownNameError) as caught:
            read("scalars", columns=["loss", "los"])
        assert str(caught.value) == wanted
        assert caught.value.key == "los"
        with pytest.raises(UnknownNameError, match=r"has no column 'x\*'"):
            read("scalars", columns="x*")
        assert read("scalars", columns=["only/1", "l*s"]).rows == 2  # one run is enough
    told: list[Exception] = []
    found = search.series(experiment.url, columns=["loss", "los"], failed=told.append)
    assert found.to_pandas()["loss"].tolist() == [1.0, 1.0]
    assert [*map(str, told)] == [wanted]


def test_a_series_without_rows_has_no_unknown_columns(place: Place) -> None:
    plant(place, "log_a", [])
    assert search.series(place.url, columns="loss").rows == 0
    assert ExperimentReader(place.url).series(columns="loss").rows == 0


def test_broken_runs_are_reported_and_the_others_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in "abc":
        plant(place, f"log_{run}", [{"v": ord(run)}])
    place.put("log_b/metadata.json", b"{broken")
    whole = MemoryBackend.get

    def get(
        self: MemoryBackend, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        if self._file(key).endswith(f"log_c/{KEY}"):
            raise OSError("on purpose")
        return whole(self, key, start, end, version, limit)

    monkeypatch.setattr(MemoryBackend, "get", get)
    told: list[Exception] = []
    found = search.series(place.url, failed=told.append)
    assert {run: data["v"].tolist() for run, data in found} == {"a": [97], "b": [98]}
    (error,) = told
    assert isinstance(error, StorageError)
    assert f"log_c/{KEY}" in str(error)
    with pytest.raises(StorageError, match="log_c"):
        search.series(place.url)
    told.clear()
    assert [(curve.run.run_id, curve.y.tolist()) for curve in search.curves(place.url, "v", failed=told.append)] == [
        ("a", [97.0]),
        ("b", [98.0]),
    ]
    assert len(told) == 1


def test_lines_that_are_no_rows(place: Place) -> None:
    plant(place, "log_a", [{"v": 1}])
    place.put(f"log_a/{KEY}", place.bytes(f"log_a/{KEY}") + b'[1]\n{"step": "x"}\n')
    with pytest.warns(DamagedFileWarning, match="log_a/series/scalars.jsonl has 2 lines that are not rows"):
        found = search.series(place.url)
    assert found.rows == 1


def test_too_many_values_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in "ab":
        plant(place, f"log_{run}", [{"v": 1}] * 6)
    monkeypatch.setattr(limits, "SERIES_VALUES", 10)
    with pytest.raises(TooLargeError, match="cannot read the series 'scalars' of these runs at once"):
        search.series(place.url)
    assert search.series(f"{place.url}/log_a").rows == 6


# -- curves ----------------------------------------------------------------------------------------------------


def test_curves_have_the_rows_with_a_value(place: Place) -> None:
    plant(
        place, "log_a", [{"v": 1, "t": 0.5}, {"w": True}, {"v": None, "nonfinite": {"v": "NaN"}, "t": 0.75}, {"v": 3}]
    )
    by_step = {curve.column: curve for curve in search.curves(place.url)}
    assert {name: curve.x.tolist() for name, curve in by_step.items()} == {"v": [0, 2, 3], "w": [1], "t": [0, 2]}
    assert np.array_equal(by_step["v"].y, [1, np.nan, 3], equal_nan=True)
    assert (len(by_step["v"]), by_step["w"].y.tolist(), by_step["v"].rank) == (3, [1.0], "")
    (along,) = search.curves(place.url, "v", "t")
    assert (along.x.tolist(), along.y.tolist()[0]) == ([0.5, 0.75], 1.0)
    (times,) = search.curves(place.url, "v", "time")
    assert times.x.tolist() == [BEGAN, BEGAN + 2, BEGAN + 3]
    (since,) = search.curves(place.url, "v", "relative")
    assert since.x.tolist() == [0, 2, 3]
    assert [(curve.column, len(curve)) for curve in search.curves(place.url, ["w", "*"], "t")] == [
        ("w", 0),
        ("v", 2),
    ]  # no row has w and t
    assert all(curve.x.dtype == np.int64 and curve.y.dtype == np.float64 for curve in by_step.values())
    assert along.x.dtype == times.x.dtype == since.x.dtype == np.float64


def test_curves_have_exact_steps(place: Place) -> None:
    steps = [1764323213123456789, 1764323213123456790, 2**63 - 1]
    plant(place, "log_a", [{"step": step, "v": 1.5} for step in steps])
    (curve,) = search.curves(place.url, "v")
    assert curve.x.tolist() == curve.thinned(50).x.tolist() == curve.smoothed(0.5).x.tolist() == steps
    assert curve.thinned(0).x.tolist() == steps[::2]


@pytest.mark.parametrize("name", ["*", "?", "[v]", "**", "a*"])
def test_a_column_named_as_a_pattern_hides_no_other(name: str, place: Place) -> None:
    plant(place, "log_a", [{name: 1, "v": 2, "ab": 3}])
    assert {curve.column: curve.y.tolist() for curve in search.curves(place.url)} == {name: [1], "v": [2], "ab": [3]}
    assert [curve.column for curve in search.curves(place.url, name)] == [name]
    (curve,) = search.curves(place.url, "v", name)
    assert (curve.x.tolist(), curve.y.tolist()) == ([1], [2])


def test_a_run_whose_column_has_texts_is_reported_and_the_others_drawn(place: Place) -> None:
    for run, value in (("log_a", 1), ("log_b", "high"), ("log_c", 3)):
        plant(place, run, [{"v": value, "w": 5}])
    told: list[Exception] = []
    found = [(one.run.run_id, one.column) for one in search.curves(place.url, ["v", "w"], failed=told.append)]
    assert found == [("a", "v"), ("a", "w"), ("b", "w"), ("c", "v"), ("c", "w")]
    (error,) = told
    assert str(error) == f"the column 'v' of the series 'scalars' of {place.url}/log_b contains text, not numbers"
    told.clear()
    assert [one.run.run_id for one in search.curves(place.url, "w", "v", failed=told.append)] == ["a", "c"]
    assert [type(error) for error in told] == [ConfigurationError]
    with pytest.raises(ConfigurationError, match="log_b contains text"):
        [*search.curves(place.url, "v")]


def test_the_limit_counts_runs_that_have_the_series(place: Place) -> None:
    plant(place, "log_a", [{"r": 1}], "series/residual.jsonl")
    for run in "bcd":
        plant(place, f"log_{run}", [{"v": 1}])

    def ids(name: str, limit: int, where: str | None = None) -> list[str]:
        query = search.Query(place.url, limit=limit, where=where)
        found = [run for run, _ in search.series(query, name)]
        assert found == [curve.run.run_id for curve in search.curves(query, series=name)]
        return found

    assert ids("scalars", 1) == ["b"]
    assert ids("scalars", 2) == ["b", "c"]
    assert ids("residual", 1) == ["a"]
    assert ids("scalars", 2, where="run_id != 'b'") == ["c", "d"]
    assert ids("scalars", 1, where="run_id == 'a'") == []  # as for any filter that no run matches
    with pytest.raises(UnknownNameError, match="has a series 'nope'; they have 'residual', 'scalars'"):
        ids("nope", 1)


def test_curves_are_smoothed_thinned_and_refused(place: Place) -> None:
    values = np.random.default_rng(3).normal(size=4000)
    plant(place, "log_a", ({"v": value, "phase": "x"} for value in values.tolist()))
    (smooth,) = search.curves(place.url, "v", smooth=0.5)
    assert np.allclose(smooth.y, pd.Series(values).ewm(alpha=0.5).mean())
    (curve,) = search.curves(place.url, "v")
    few = curve.thinned(50)
    assert len(few) <= 300
    for at in range(50):
        inside = (curve.x >= at * 80) & (curve.x < at * 80 + 79)
        kept = (few.x >= at * 80 - 1) & (few.x < at * 80 + 81)
        assert few.y[kept].min() <= curve.y[inside].min()
        assert few.y[kept].max() >= curve.y[inside].max()
    assert curve.thinned(1000) is not curve
    assert len(curve.thinned(1000)) == 4000
    with pytest.raises(ConfigurationError, match="invalid smoothing 1: pass a number from 0 to less than 1"):
        search.curves(place.url, "v", smooth=1)
    with pytest.raises(
        ConfigurationError, match=r"the column 'phase' of .* 'scalars' of \S+/log_a contains text, not num"
    ):
        [*search.curves(place.url, "phase")]
    with pytest.raises(UnknownNameError, match=r"of the runs at .* has no column 'nope'"):
        [*search.curves(place.url, "nope")]


def test_thinned_keeps_the_gaps_and_any_order(place: Place) -> None:
    x = np.arange(1000.0)
    y = np.ones(1000)
    y[400:410] = np.nan
    for along in (x, x[::-1].copy(), np.full(1000, np.nan), np.zeros(1000)):
        few_x, few_y = search.curving.thinned(along, y, 10)
        assert np.isnan(few_y).sum() >= 2
        assert len(few_x) == len(few_y) <= 60
        at = [*few_x] if along is x else None
        assert at is None or at == sorted(at)


# -- tail ------------------------------------------------------------------------------------------------------


def test_tail_prints_the_last_rows_as_tail_does(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path / "runs"))
    for run in ("log_a", "log_b"):
        plant(place, run, ({"v": step} for step in range(30)))
    plant(place, "log_a", [{"v": 0}], "workers/3/series/scalars.jsonl")
    path = f"{place.url}/log_a/{KEY}"
    wanted = subprocess.run(["tail", "-n", "4", path], capture_output=True, check=True, text=True).stdout
    done = notata("tail", "-n", "4", "--series", "scalars", f"{place.url}/log_a", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    several = notata("tail", "-n1", "--series", "scalars", place.url, "--workers", folder=tmp_path).stdout
    heads = [line for line in several.splitlines() if line.startswith("==>")]
    assert heads == [
        f"==> {place.url}/log_a/{KEY} <==",
        f"==> {place.url}/log_a/workers/3/{KEY} <==",
        f"==> {place.url}/log_b/{KEY} <==",
    ]
    found = notata("tail", "-n2", "--series=scalars", "--json", f"{place.url}/log_b", folder=tmp_path).stdout
    assert [json.loads(line)["row"]["v"] for line in found.splitlines()] == [28, 29]
    assert search.tail(f"{place.url}/log_b", 1, series="scalars") == [wanted.splitlines()[-1]]
    missing = notata("tail", "--series", "nope", place.url, folder=tmp_path)
    told = f"Error: no run at {place.url} has rows in a series 'nope'\n"
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", told)


def test_tail_follows_a_series_to_the_end_of_the_run(place: Place) -> None:
    """A row is added when the one before was printed, so nothing depends on the clock."""
    log = Logbook("a", place.url)
    log.scalars(step=0, v=0)
    seen = []
    for line in search.follow(f"{place.url}/log_a", series="scalars", interval=0.001):
        seen.append(json.loads(line)["v"])
        if seen[-1] < 3:
            log.scalars(v=seen[-1] + 1)
        else:
            log.mark_complete()
    assert seen == [0, 1, 2, 3]
    done = notata("tail", "-f", "-n1", "--series", "scalars", "--json", f"{place.url}/log_a", folder=Path())
    assert (done.returncode, json.loads(done.stdout)["row"]["v"]) == (0, 3)
    assert done.stderr == f"{place.url}/log_a: complete\n"


def test_a_row_that_is_no_json_is_a_text(place: Place) -> None:
    plant(place, "log_a", [])
    place.put(f"log_a/{KEY}", b"\x1b[2Jbroken\n" + b"[" * 5000 + b"\n")
    done = notata("tail", "--series", "scalars", "--json", place.url, folder=Path())
    found: list[Any] = [json.loads(line)["row"] for line in done.stdout.splitlines()]
    assert found == ["\x1b[2Jbroken", "[" * 5000]
