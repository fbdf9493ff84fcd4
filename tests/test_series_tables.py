"""Summaries of series in tables, filters, orders, `show` and `compare`: `loss`, `loss.min`, `residual.r`."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from notata import EncodeError, Experiment, ExperimentReader, Logbook, LogReader, TooLargeError, search
from notata._base import limits
from tests.backends import Place
from tests.command import notata, terminal
from tests.series import rows

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
CURVES = {"slow": [3.0, 2.0, 1.0, 1.5], "fast": [4.0, 0.5, 0.1, 0.25], "bad": [2.0, 5.0, 9.0, 9.0]}
SERIES = "series/scalars.jsonl"


@pytest.fixture
def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def runs(place: Place) -> Iterator[Place]:
    """Three runs, of which one is still being written and has stored no heartbeat."""
    for name, values in CURVES.items():
        log = place.logbook(name, params={"kind": name})
        for step, value in enumerate(values):
            log.scalars({"loss": value, "val/loss": -value}, step=step)
        log.series("residual").add(r=values[-1] / 100, step=7)
        if name != "bad":
            log.mark_complete()
    yield place
    log.mark_complete()


def summaries(place: Place, run_id: str) -> dict[str, Any]:
    """Return last, smallest and largest value of each column from the raw rows."""
    frame = pd.DataFrame(rows(place.bytes(f"log_{run_id}/{SERIES}"))).drop(columns=["step", "time"])
    found = {name: column.iloc[-1] for name, column in frame.items()}
    found |= {f"{name}.min": column.min() for name, column in frame.items()}
    found |= {f"{name}.max": column.max() for name, column in frame.items()}
    (residual,) = rows(place.bytes(f"log_{run_id}/series/residual.jsonl"))
    return {str(name): value for name, value in found.items()} | dict.fromkeys(
        ("residual.r", "residual.r.min", "residual.r.max"), residual["r"]
    )


def ids(found: search.Runs | search.RunTable) -> list[str]:
    return [run.run_id for run in (found.runs if isinstance(found, search.RunTable) else found)]


# -- tables ----------------------------------------------------------------------------------------------------


def test_every_run_has_the_values_of_its_series(runs: Place) -> None:
    assert rows(runs.bytes(f"log_bad/{SERIES}"))  # its values come from the file
    assert "series_summary" not in json.loads(runs.bytes("log_bad/metadata.json"))
    for row in search.table(runs.url, columns=["run_id", "metrics.*"]):
        assert {name: value for name, value in row.items() if name != "run_id"} == summaries(runs, row["run_id"])


def test_a_table_has_the_last_values_unless_others_are_asked_for(runs: Place, tmp_path: Path) -> None:
    usual = ["run_id", "kind", "status", "loss", "residual.r", "val/loss"]
    assert search.table(runs.url).columns == usual
    done = notata("table", runs.url, "--csv", folder=tmp_path)
    assert next(csv.reader(io.StringIO(done.stdout))) == usual
    chosen = notata("table", runs.url, "--columns", "run_id,loss,loss.min,residual.r.max", "--csv", folder=tmp_path)
    assert [*csv.DictReader(io.StringIO(chosen.stdout))] == [
        {
            "run_id": name,
            "loss": repr(CURVES[name][-1]),
            "loss.min": repr(min(CURVES[name])),
            "residual.r.max": repr(CURVES[name][-1] / 100),
        }
        for name in sorted(CURVES)
    ]
    every = search.table(runs.url, columns=["*"]).columns
    assert {"loss.min", "val/loss.max", "residual.r.min"} <= {*every}
    assert search.table(runs.url, columns=["loss.*"]).columns == ["loss.max", "loss.min"]
    names = {name for row in map(json.loads, notata("table", runs.url, "--json", folder=tmp_path).stdout.splitlines())
             for name in row["metrics"]}  # fmt: skip
    assert {"loss", "loss.min", "residual.r.max"} <= names


def test_ls_keeps_its_columns(runs: Place, tmp_path: Path) -> None:
    done = notata("ls", runs.url, folder=tmp_path)
    assert {len(line.split("\t")) for line in done.stdout.splitlines()} == {5}


def test_a_column_that_a_user_named_so_is_in_the_table(place: Place) -> None:
    with place.logbook("a") as log:
        log.scalars({"loss": 1.0, "loss.min": 5.0})
    table = search.table(place.url)
    assert (table.columns, table[0]["loss.min"]) == (["run_id", "status", "loss", "loss.min"], 5.0)
    assert json.loads(place.bytes("log_a/metadata.json"))["series_summary"]["scalars"]["columns"]["loss"]["min"] == 1.0


def test_a_metric_with_such_a_name_and_no_series_is_a_column(place: Place) -> None:
    with place.logbook("a") as log:
        log.json("metrics", {"error.min": 0.5, "other": {"min": 1, "max": 2}})
    assert search.table(place.url).columns == ["run_id", "status", "error.min", "other.max", "other.min"]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("loss < 0.3", ["fast"]),
        ("loss.min < 2", ["fast", "slow"]),
        ("metrics.loss.min < 2", ["fast", "slow"]),
        ("loss.max >= 9 and status == 'running'", ["bad"]),
        ("metrics.loss < 2", ["fast", "slow"]),
        ("metrics['val/loss'] < -1 or metrics['val/loss.min'] < -3.5", ["bad", "fast", "slow"]),
        ("residual.r < 0.01", ["fast"]),
        ("residual.r.max > 0.05", ["bad"]),
        ("loss - loss.min > 0.4", ["bad", "slow"]),
        ("nope.min < 1", []),
        ("loss.nope < 1", []),
    ],
    ids=str,
)
def test_filters(where: str, wanted: list[str], runs: Place, tmp_path: Path) -> None:
    assert ids(search.runs(runs.url, where=where)) == wanted
    assert ids(search.table(runs.url, where=where)) == wanted
    done = notata("ls", runs.url, "--where", where, folder=tmp_path)
    assert [line.partition("\t")[0].rpartition("log_")[2] for line in done.stdout.splitlines()] == wanted
    assert done.returncode == (0 if wanted else 1)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("loss", ["fast", "slow", "bad"]),
        ("loss.min", ["fast", "slow", "bad"]),
        ("loss.max", ["slow", "fast", "bad"]),
        ("val/loss", ["bad", "slow", "fast"]),
        ("residual.r", ["fast", "slow", "bad"]),
        ("metrics.loss.max", ["slow", "fast", "bad"]),
    ],
)
def test_orders(key: str, wanted: list[str], runs: Place, tmp_path: Path) -> None:
    assert ids(search.runs(runs.url, sort=key)) == wanted
    assert ids(search.table(runs.url, sort=key, reverse=True)) == wanted[::-1]
    for command in ("ls", "table"):
        done = notata(command, runs.url, "--sort", key, "-n", "2", "--json", folder=tmp_path)
        assert [json.loads(line)["run_id"] for line in done.stdout.splitlines()] == wanted[:2]


def test_the_summary_of_the_last_heartbeat_counts_while_a_run_is_written(place: Place) -> None:
    """The file has more rows than the heartbeat, and is not read."""
    summary = {
        "scalars": {"rows": 2, "step": 1, "columns": {"loss": {"last": 0.5, "count": 2, "min": 0.25, "max": 0.5}}}
    }
    fields = {"run_id": "a", "status": "initialized", "series_summary": summary}
    place.put("log_a/metadata.json", json.dumps(fields).encode())
    place.put(f"log_a/{SERIES}", b'{"step": 2, "time": 1.0, "loss": 7.0}\n')
    (row,) = search.table(place.url, columns=["metrics.*"])
    assert row == {"loss": 0.5, "loss.min": 0.25, "loss.max": 0.5}
    assert ids(search.runs(place.url, where="loss == 0.5")) == ["a"]


def test_only_small_files_of_a_running_run_are_read(place: Place) -> None:
    fields = {"run_id": "a", "status": "initialized"}
    place.put("log_a/metadata.json", json.dumps(fields).encode())
    row = json.dumps({"step": 0, "time": 1.0, "v": 1.0}).encode() + b"\n"
    place.put("log_a/series/large.jsonl", row * (2**20 // len(row) + 1))
    place.put("log_a/series/small.jsonl", row)
    place.put("log_a/workers/0/series/small.jsonl", row)
    (found,) = search.table(place.url, columns=["metrics.*"])
    assert found == {"small.v": 1.0, "small.v.min": 1.0, "small.v.max": 1.0}
    place.put("log_a/series/small.jsonl", b'broken\n{"step": 0, "time": 1.0, "v": 2.0}\n{"step": 1, "ti')
    (found,) = search.table(place.url, columns=["small.v"])
    assert found == {"small.v": 2.0}


def test_a_forged_file_of_billions_of_values_is_skipped(place: Place) -> None:
    """Many names, followed by many rows: each name would be a column of all rows."""
    names = ", ".join(f'"{number:x}": 1' for number in range(20_000))
    forged = f'{{"step": 0, "time": 1, {names}}}\n'.encode() + b'{"step": 1, "time": 1}\n' * 10_000
    assert len(forged) < 2**20
    row = json.dumps({"step": 0, "time": 1.0, "v": 1.0}).encode() + b"\n"
    for name in "ab":
        place.put(f"log_{name}/metadata.json", json.dumps({"run_id": name, "status": "initialized"}).encode())
        place.put(f"log_{name}/series/good.jsonl", row)
        place.put(f"log_{name}/artifacts/metrics.json", b'{"m": 1}')
    place.put("log_a/series/forged.jsonl", forged)
    first, second = search.table(place.url, columns=["metrics.*", "metrics_error"])
    values = {"good.v": 1.0, "good.v.min": 1.0, "good.v.max": 1.0, "m": 1}
    assert {name: first[name] for name in values} == {name: second[name] for name in values} == values
    error = "series/forged.jsonl: it has more than 2,000,000 values, which is too much for a table"
    assert (first["metrics_error"], second.get("metrics_error", "")) == (error, "")


def test_names_that_readers_add_are_no_columns(place: Place) -> None:
    for name in "ab":
        with place.logbook(name) as log, log.worker(1) as worker:
            log.scalars(loss=1.0, name="mine", run="other")
            worker.scalars(loss=2.0)
    forged = b'{"step": 0, "time": 1.0, "run_id": "a", "rank": "", "loss": -99.0}\n'
    place.put("log_b/workers/1/series/scalars.jsonl", forged)
    frame = ExperimentReader(place.url).series("scalars", workers=True).to_pandas()
    assert frame[["run_id", "rank", "loss"]].values.tolist() == [
        ["a", "", 1.0],
        ["a", "1", 2.0],
        ["b", "", 1.0],
        ["b", "1", -99.0],
    ]


def test_a_column_of_other_types_in_each_run(place: Place) -> None:
    for name, value in {"a": "x", "b": "y", "c": 1, "d": True}.items():
        with place.logbook(name) as log:
            log.scalars(phase=value, loss=1.0)
    found = ExperimentReader(place.url).series("scalars")
    wanted = "the column 'phase' has texts and numbers and booleans, .* texts in 'log_a', numbers in 'log_c', booleans"
    with pytest.raises(EncodeError, match=wanted):
        found.to_arrow()
    assert found.to_pandas()["phase"].tolist() == ["x", "y", 1, True]
    assert ExperimentReader(place.url).series("scalars", columns="loss").to_arrow()["loss"].to_pylist() == [1.0] * 4


def test_all_files_together_have_a_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERIES_VALUES", 30)
    for name in "abc":
        with place.logbook(name) as log:
            for value in range(6):
                log.scalars({f"{name}1": value, f"{name}2": value})
    errors: list[Exception] = []
    found = search.series(place.url, failed=errors.append)
    assert ([run for run, _ in found], len(errors)) == (["a", "b"], 1)
    assert "log_c/series/scalars.jsonl they have more than 30 values" in str(errors[0])
    with pytest.raises(TooLargeError, match="12 rows of 4 columns are more than 30 values"):
        found.to_pandas()


def test_all_files_of_workers_together_have_a_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.logbook() as log:
        for rank in range(2):
            with log.worker(rank) as worker:
                for value in range(6):
                    worker.scalars({f"a{rank}": value, "b": value})
    read = LogReader(f"{place.url}/log_run").series
    assert read(workers=True).rows == 12
    for limit, problem in (
        (23, r"workers/1/series/scalars\.jsonl they have more than 23"),
        (24, "12 rows of 4 columns"),
    ):
        monkeypatch.setattr(limits, "SERIES_VALUES", limit)
        with pytest.raises(TooLargeError, match=problem):
            read(workers=True)
        assert read(rank=1).rows == 6


def test_metrics_and_parameters_of_the_same_name_win(place: Place) -> None:
    with place.logbook("a", params={"rate": 7}) as log:
        log.scalars(loss=1.0, rate=0.5, n=1)
        log.json("metrics", {"loss": 3.0})
    assert search.table(place.url).columns == ["run_id", "rate", "status", "loss", "n", "metrics.rate"]
    (row,) = search.table(place.url)
    assert (row["loss"], row["rate"], row["metrics.rate"]) == (3.0, 7, 0.5)
    (extreme,) = search.table(place.url, columns=["loss.min", "metrics.rate.max"])
    assert extreme == {"loss.min": 1.0, "metrics.rate.max": 0.5}
    assert ids(search.runs(place.url, where="rate == 7 and metrics.rate == 0.5 and loss == 3 and loss.max == 1")) == [
        "a"
    ]


def test_nan_and_other_types(place: Place) -> None:
    with place.logbook("a") as log:
        log.scalars(loss=1.0, phase="warm-up", ok=False, gone=math.inf)
        log.scalars(loss=math.nan, phase="end", ok=True)
    (row,) = search.table(place.url, columns=["metrics.*"])
    assert math.isnan(row.pop("loss"))
    assert row == {
        "loss.min": 1.0, "loss.max": 1.0, "phase": "end", "ok": True,
        "gone": math.inf, "gone.min": math.inf, "gone.max": math.inf,
    }  # fmt: skip
    assert ids(search.runs(place.url, where="phase == 'end' and ok == true and loss.min == 1")) == ["a"]
    assert ids(search.runs(place.url, where="loss < 1 or loss >= 1")) == []


def test_index_csv_and_frames_have_the_values(place: Place) -> None:
    experiment = Experiment("fit", place.url)
    for rate in (0.1, 0.5):
        with experiment.add(rate=rate) as log:
            for step in range(3):
                log.scalars(step=step, loss=rate**step)
    reader = ExperimentReader(experiment.url)
    for fresh in (False, True):
        frame = reader.to_pandas(fresh=fresh).set_index("rate")
        assert frame["loss"].to_dict() == {0.1: 0.1**2, 0.5: 0.5**2}
        assert frame["loss.max"].to_dict() == {0.1: 1.0, 0.5: 1.0}
        assert ids(search.table(experiment.url, sort="loss.min", fresh=fresh)) == ["fit_rate_0.1", "fit_rate_0.5"]
    (first, _) = csv.DictReader(io.StringIO(place.bytes("fit/index.csv").decode()))
    assert (float(first["loss"]), float(first["loss.min"])) == (0.1**2, 0.1**2)
    assert search.table(experiment.url).columns == ["run_id", "rate", "status", "loss"]


# -- show and compare ------------------------------------------------------------------------------------------


def test_show_has_a_line_for_each_column(runs: Place, tmp_path: Path) -> None:
    text = notata("show", f"{runs.url}/log_fast", folder=tmp_path).stdout
    lines = text.splitlines()
    at = lines.index("series scalars, 4 rows up to step 3")
    assert [re.split(r"  +", line.strip()) for line in lines[at + 1 : at + 3]] == [
        ["loss", "0.25", "min 0.1 at 2, max 4.0 at 0"],
        ["val/loss", "-0.25", "min -4.0 at 0, max -0.1 at 2"],
    ]
    assert "series residual, 1 row up to step 7" in lines
    assert "metrics" not in lines  # they would be the same values again
    record = json.loads(notata("show", f"{runs.url}/log_fast", "--json", folder=tmp_path).stdout)
    assert record["metrics"] == summaries(runs, "fast")
    assert record["series"]["scalars"]["columns"]["loss"] == {
        "last": 0.25, "count": 4, "min": 0.1, "max": 4.0, "min_step": 2, "max_step": 0,
    }  # fmt: skip
    assert "series_summary" not in record["fields"]


def test_show_of_a_running_run_has_the_values_of_its_file(runs: Place, tmp_path: Path) -> None:
    text = notata("show", f"{runs.url}/log_bad", folder=tmp_path).stdout
    wanted = summaries(runs, "bad")
    found = dict(re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("  ") and "." in line
                 and re.fullmatch(r"  \S+ +-?[\d.]+", line))  # fmt: skip
    assert {name: float(found[name]) for name in ("loss.min", "loss.max", "residual.r")} == {
        name: wanted[name] for name in ("loss.min", "loss.max", "residual.r")
    }


def test_show_has_a_metric_that_replaces_the_value_of_a_series(place: Place, tmp_path: Path) -> None:
    with place.logbook("a") as log:
        log.scalars(loss=1.0, odd=math.nan)
        log.json("metrics", {"loss": 3.0})
    lines = notata("show", f"{place.url}/log_a", folder=tmp_path).stdout.splitlines()
    at = lines.index("metrics")
    assert (lines[at + 1], lines[at + 2]) == ("  loss  3.0", "")


def test_compare_shows_values_of_series(runs: Place, tmp_path: Path) -> None:
    urls = (f"{runs.url}/log_slow", f"{runs.url}/log_fast")
    done = notata("compare", *urls, "--only", "metrics", "--json", folder=tmp_path)
    found = {one["name"].strip('"'): (one["a"], one["b"]) for one in map(json.loads, done.stdout.splitlines())}
    slow, fast = (summaries(runs, name) for name in ("slow", "fast"))
    assert found == {name: (slow[name], fast[name]) for name in slow if slow[name] != fast[name]}
    assert found["loss.min"] == (1.0, 0.1)
    same = notata("compare", urls[0], urls[0], "--only", "metrics", folder=tmp_path)
    assert same.returncode == 0


# -- forged summaries ------------------------------------------------------------------------------------------

HOSTILE = "\x1b]0;owned\x07\x1b[2J\n\r\u202e<script>alert(1)</script>[red]"


def forged(**columns: object) -> dict[str, object]:
    return {"scalars": {"rows": 1, "step": 0, "columns": columns}}


MANY = {f"c{number}": {"last": number} for number in range(5000)}
HUGE = {"y" * 100_000: {"last": "z" * 100_000}}
DOTTED = {"loss": {"last": 1}, "loss.min": {"last": 2}, "loss.min.min": {"last": 3, "min": 4}, "..": {"last": 5}}
FACTS = {"status": {"last": "hacked", "min": 1}, "run_id": {"last": "x"}, "size": {"last": -1}, "params": {"last": 1}}
MARKUP = {HOSTILE: {"last": HOSTILE, "min": HOSTILE, "min_step": HOSTILE}}
FORGED: dict[str, object] = {
    "a list": [1, 2],
    "a text": "x" * 1000,
    "a number": 1e308,
    "series of no type": {"scalars": [1], "other": None, "third": 7},
    "columns of no type": {"scalars": {"rows": "many", "step": {"a": 1}, "columns": [["loss", 1]]}},
    "fields of no type": forged(loss=[1], acc=7, phase=None),
    "values of any type": forged(loss={"last": {"deep": [1, {"x": 2}]}, "min": "low", "max": [1] * 100}),
    "dotted names": forged(**DOTTED),
    "names of facts": forged(**FACTS),
    "markup": {HOSTILE: {"rows": 1, "step": HOSTILE, "columns": MARKUP}},
    "huge texts": {"x" * 100_000: {"rows": 1, "step": "9" * 100_000, "columns": HUGE}},
    "many columns": forged(**MANY),
    "huge numbers": forged(loss={"last": 10**4000, "min": -(10**4000), "count": 10**4000}),
    "nested": forged(loss={"last": json.loads("[" * 300 + "]" * 300)}),
    "nonfinite of any type": forged(loss={"last": None, "nonfinite": {"last": ["NaN"], "min": "NaN", "x": "Infinity"}}),
}


def plant(folder: Path, name: str, summary: object, status: str) -> None:
    fields: Mapping[str, object] = {"run_id": name, "status": status, "series_summary": summary}
    run = folder / f"log_{name}"
    run.mkdir(parents=True)
    (run / "metadata.json").write_text(json.dumps(fields))


@pytest.mark.parametrize("status", ["complete", "initialized"])
@pytest.mark.parametrize("name", FORGED)
def test_forged_summaries_are_data(name: str, status: str, tmp_path: Path) -> None:
    """Each command ends as usual and shows no control sequence."""
    base = tmp_path / "runs"
    plant(base, "a", FORGED[name], status)
    plant(base, "b", forged(loss={"last": 0.5, "min": 0.25, "max": 1.0, "count": 2}), "complete")
    calls = [
        ["ls", str(base), "--where", "loss < 1", "--sort", "loss.min"],
        ["table", str(base), "--sort", "loss"],
        ["show", str(base / "log_a")],
        ["compare", str(base / "log_a"), str(base / "log_b")],
        ["curve", str(base), "-y", "loss"],
    ]
    for arguments in calls:
        done = notata(*arguments, folder=tmp_path)
        assert done.returncode in (0, 1), (arguments, done.stderr)
        assert "bug in notata" not in done.stderr
        assert not CONTROLS.search(done.stdout.replace("\t", "")), arguments
        assert not CONTROLS.search(done.stderr), arguments
    for command in ("ls", "table", "show"):
        done = notata(command, str(base / "log_a"), "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert all(json.loads(line)["run_id"] == "a" for line in done.stdout.splitlines())
    assert [run.run_id for run in search.runs(str(base), where="loss < 0.75 and loss.min == 0.25")] == ["b"]
    assert {run.run_id: run.status for run in search.runs(str(base))}["b"] == "complete"
    assert search.table(str(base))._repr_html_().count("<script>") == 0


@pytest.mark.parametrize("name", ["markup", "huge texts", "many columns", "huge numbers", "nested"])
def test_a_terminal_gets_a_bounded_overview_of_a_forged_summary(name: str, tmp_path: Path) -> None:
    plant(tmp_path, "a", FORGED[name], "complete")
    for command in ("show", "table"):
        code, got = terminal(command, str(tmp_path / "log_a"), folder=tmp_path, columns=80)
        text = ANSI.sub("", got.decode()).replace("\r\n", "\n")
        assert code == 0
        assert not CONTROLS.search(text)
        if command == "show":
            assert len(text) < 50_000
    if name == "many columns":
        assert "and 4950 more" in ANSI.sub("", terminal("show", str(tmp_path / "log_a"), folder=tmp_path)[1].decode())


def test_a_fact_is_never_that_of_a_forged_column(tmp_path: Path) -> None:
    plant(tmp_path, "a", FORGED["names of facts"], "failed")
    (run,) = search.runs(str(tmp_path), where="status == 'failed' and run_id == 'a' and size > 0")
    assert run.status == "failed"
    assert search.table(str(tmp_path)).columns[:2] == ["run_id", "status"]
    assert search.table(str(tmp_path))[0]["metrics.status"] == "hacked"


def test_the_run_itself_stays_as_it_was_recorded(place: Place) -> None:
    """Names with dots in a run that is no forgery."""
    with Logbook("a", place.url) as log:
        log.scalars({"loss": 1.0, "loss.min": 5.0, "a.b": 2.0})
    (row,) = search.table(place.url, columns=["loss", "a.b", "a.b.max"])
    assert row == {"loss": 1.0, "a.b": 2.0, "a.b.max": 2.0}
    assert ids(search.runs(place.url, where="a.b == 2 and a.b.min == 2")) == ["a"]
