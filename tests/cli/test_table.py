"""``notata table``: stored values side by side, wherever the runs are; and the requests that this takes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from notata import ConfigurationError, Experiment, Logbook
from notata.cli import output
from notata.search import table
from notata.store import open_store
from tests.cli.conftest import Shelf
from tests.command import notata, process, terminal
from tests.counting import counted
from tests.fleet import RUNS
from tests.notebook import cells
from tests.servers import Server

_names = itertools.count()


def url() -> str:
    return f"memory://table-{next(_names)}"


def sweep(url: str, name: str = "sweep", options: dict[str, Any] | None = None, runs: int = 3) -> Experiment:
    """A finished experiment."""
    experiment = Experiment(name, url, storage_options=options)
    for number in range(runs):
        with experiment.add(dt=number / 8, scheme="upwind") as run:
            run.json("metrics", {"error": number**2, "dt": "metric"})
    experiment.write_index()
    return experiment


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


# -- what the plain tools say ------------------------------------------------------------------------------


def _stored(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the stored parameters and metrics."""
    params = run / "params.yaml"
    metrics = run / "artifacts/metrics.json"
    return (
        yaml.safe_load(params.read_text()) if params.exists() else {},
        json.loads(metrics.read_text()) if metrics.exists() else {},
    )


def test_a_table_has_what_was_stored(shelf: Shelf) -> None:
    done = process("table", shelf.url, "--json", *shelf.options, folder=shelf.local)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["name"] for line in lines] == [f"{shelf.url}/{folder}" for folder in sorted(RUNS)]
    for line, (folder, status) in zip(lines, RUNS.items(), strict=True):
        assert list(line) == ["name", "run_id", "url", "status", "failure_reason", "metrics_error", "params", "metrics"]
        assert line["status"] == status
        assert (line["params"], line["metrics"]) == _stored(shelf.local / folder)


def test_as_csv_it_is_what_the_standard_says(shelf: Shelf) -> None:
    told = notata("table", shelf.url, "--csv", *shelf.options, folder=shelf.local).stdout
    rows = {row["run_id"]: row for row in read(told)}
    assert len(rows) == len(RUNS)
    assert list(rows["notes"]) == [
        "run_id", "dt", "omega", "solver.name", "solver.order", "status", "energy", "error", "note", "steps",
        "failure_reason",
    ]  # fmt: skip
    assert (rows["notes"]["solver.name"], rows["notes"]["solver.order"]) == ("rk4", "4")
    assert (rows["old"]["dt"], rows["old"]["energy"], rows["old"]["note"]) == ("0.01", "1.25", "")
    piped = notata("table", shelf.url, *shelf.options, folder=shelf.local).stdout
    assert piped.partition("\n")[0].split("\t") == list(rows["notes"])


ODD = {"text": 'a "quoted", text\r\nin two lines', "null": None, "true": True, "nan": float("nan"), "list": [1, "x"],
       "=cmd": "=1+1", "ünï": "ä", "one": "1", "a,b": 1e-300, "tab\t": "\x1b[31m"}  # fmt: skip


def test_every_value_comes_back_from_csv(tmp_path: Path) -> None:
    with Logbook("a", tmp_path, params=ODD) as log:
        log.json("metrics", {"m": 3})
    command = [sys.executable, "-m", "notata", "table", str(tmp_path), "--csv"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert raw.startswith(b"run_id,")
    assert raw.count(b"\r\n") == 3  # the header, the row, and the line break in the text
    [row] = read(raw.decode())
    assert {name: row[name] for name in ODD} == {
        "text": ODD["text"], "null": "null", "true": "true", "nan": "nan", "list": '[1, "x"]', "=cmd": "=1+1",
        "ünï": "ä", "one": "1", "a,b": "1e-300", "tab\t": "\x1b[31m",
    }  # fmt: skip
    [line] = notata("table", str(tmp_path), folder=tmp_path).stdout.splitlines()[1:]
    assert "\x1b" not in line
    assert "\r" not in line


# -- which columns, which runs -----------------------------------------------------------------------------


def test_several_experiments_and_the_same_ids_stay_apart(tmp_path: Path) -> None:
    where = url()
    sweep(f"{where}/one")
    sweep(f"{where}/two", runs=2)
    Logbook("alone", f"{where}/three", params={"dt": 7}).mark_complete()
    found = table([f"{where}/one", where])
    assert len(found) == 6
    assert found.columns[:2] == ["name", "run_id"]
    assert len({row["name"] for row in found}) == 6
    assert found.runs.total == 6
    apart = [row for row in found if row["run_id"] == found[0]["run_id"]]
    assert {row["name"].split("/")[3] for row in apart} == {"one", "two"}
    assert "name" not in table(f"{where}/one").columns


def test_columns_are_named_or_meant_by_patterns(tmp_path: Path) -> None:
    where = url()
    sweep(where)
    with Logbook("x", where, params={"size": 3, "solver": {"order": 4}, "a.b": 1, "error": "param"}) as log:
        log.text("t", "x" * 100)
    found = table(where)
    assert found.columns == [
        "run_id", "a.b", "dt", "error", "scheme", "params.size", "solver.order", "status", "metrics.dt",
        "metrics.error",
    ]  # fmt: skip
    swept = next(row for row in found if row.get("dt") == 0.25)
    assert "error" not in swept
    assert (swept["metrics.error"], swept["metrics.dt"]) == (4, "metric")
    chosen = table(where, columns=["solver.order", "metrics.*", "a.b", "params.size", "size", "nothing", "no*", "dt"])
    assert chosen.columns == [
        "solver.order", "metrics.dt", "metrics.error", "a.b", "params.size", "size", "nothing", "dt",
    ]  # fmt: skip
    assert [note.partition(";")[0] for note in chosen.notes] == ["no run has nothing", "no run has no*"]
    [row] = [row for row in chosen if "a.b" in row]
    assert (row["solver.order"], row["a.b"], row["params.size"]) == (4, 1, 3)
    assert row["size"] > 100
    assert table(where, columns="st*").columns == ["status"]
    done = notata("table", where, "--columns", "dt,metrics.error", "--columns", "run_id", "--json", folder=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if "0.125" in line["run_id"]] == [
        {"dt": 0.125, "metrics.error": 1, "run_id": "sweep_dt_0.125_scheme_upwind"}
    ]
    assert {"run_id": "x"} in lines


def test_nested_parameters_are_columns(tmp_path: Path) -> None:
    where = url()
    for name, optimizer in (("a", {"name": "adam", "lr": 0.1}), ("b", {"name": "sgd", "lr": 0.2, "momentum": None})):
        with Logbook(name, where, params={"optimizer": optimizer}) as log:
            log.json("metrics", {"loss": {"test": 1.0}, "none": {}})
    found = table(where)
    parts = ["optimizer.lr", "optimizer.momentum", "optimizer.name"]
    assert found.columns == ["run_id", *parts, "status", "loss.test", "none"]
    values = {"optimizer.lr": 0.2, "optimizer.momentum": None, "optimizer.name": "sgd"}
    assert found[1] == {"run_id": "b", **values, "status": "complete", "loss.test": 1.0, "none": {}}
    assert list(table(where, columns=["optimizer.*"]))[1] == values
    assert table(where, columns=["params.optimizer.*", "metrics.*"]).columns == [*parts, "loss.test", "none"]
    [whole] = table(where, columns=["optimizer"], where="optimizer.lr > 0.1")
    assert whole["optimizer"]["name"] == "sgd"
    [note] = table(where, columns=["optimizr.lr"]).notes
    assert note.startswith("no run has optimizr.lr; similar names: optimizer.lr")
    done = notata("table", where, "--columns", "optimizer.*", "--sort", "optimizer.lr", "-r", "--csv", folder=tmp_path)
    assert done.stdout.splitlines() == ["optimizer.lr,optimizer.momentum,optimizer.name", "0.2,null,sgd", "0.1,,adam"]
    assert done.stderr == ""


def test_filters_and_orders_are_those_of_ls(tmp_path: Path) -> None:
    where = url()
    sweep(where, runs=5)
    done = notata(
        "table", where, "--where", "error > 0", "--sort", "error", "-r", "-n", "2", "--columns", "error", "--csv",
        folder=tmp_path,
    )  # fmt: skip
    assert done.stdout.split() == ["error", "16", "9"]
    none = notata("table", where, "--where", "error > 99", "--csv", folder=tmp_path)
    assert (none.returncode, none.stdout) == (1, "")
    assert notata("table", where, "--csv", "--json", folder=tmp_path).returncode == 2
    assert notata("table", "nowhere", folder=tmp_path).returncode == 1
    with pytest.raises(ConfigurationError, match="unknown status"):
        table(where, status="fine")
    with pytest.raises(ConfigurationError, match="limit"):
        table(where, limit=-1)
    assert [row["seconds"] >= 0 for row in table(where, columns=["seconds"], sort="started")] == [True] * 5


def test_odd_names_of_columns_and_what_is_none(tmp_path: Path) -> None:
    where = url()
    params = {"params.x": 1, "n": None, "host": None, "a*": 2, "ab": 3, "text": "\udcff"}
    store = open_store(where)
    store.write("log_x/metadata.json", b'{"run_id": "x", "status": "complete"}')
    store.write("log_x/params.json", json.dumps(params).encode())
    [row] = found = table(where)
    assert found.columns == ["run_id", "a*", "ab", "params.host", "n", "params.params.x", "text", "status"]
    assert (row["params.params.x"], row["n"], row["params.host"]) == (1, None, None)
    assert table(where, columns=["a*"]).columns == ["a*"]
    assert table(where, columns=["te*"]).columns == table(where, columns=["params.te*"]).columns == ["text"]
    assert list(table(where, columns=["host", "n", "none"])) == [{"n": None}]
    none = table(where, columns=["nothing"], status="failed")
    assert (none.columns, none.notes) == (["nothing"], [])
    done = notata("table", where, "--columns", "text, ,n,", "--csv", folder=tmp_path)
    assert done.stdout == "text,n\n\\udcff,null\n"


def test_times_are_read_of_each_run_for_a_column_or_an_order_alone() -> None:
    where = url()
    sweep(where)
    assert all(row["seconds"] >= 0 for row in table(where, columns=["seconds"]))
    turned = table(where, sort="started", reverse=True)
    assert (turned.notes, [row["dt"] for row in turned]) == ([], [0.25, 0.125, 0.0])


def test_metrics_that_cannot_be_shown_are_reported(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        log.json("metrics", [1, 2])
    (tmp_path / "log_a/params.yaml").write_text("a: [")
    [row] = table(str(tmp_path))
    assert "artifacts/metrics.json contains a list" in row["metrics_error"]


def test_a_row_that_no_longer_holds_is_read_from_the_run() -> None:
    where = url()
    experiment = sweep(where)
    folder = next(run.name for run in experiment.reader.runs if "0.125" in run.name)
    store = open_store(f"{where}/sweep/runs/{folder}")
    store.write("artifacts/metrics.json", b'{"error": 1000}')
    store.write("metadata.json", store.read("metadata.json").replace(b'"error": 1', b'"error": 1000'))
    assert sorted(row["error"] for row in table(where)) == [0, 4, 1000]
    open_store(f"{where}/sweep").write("index.csv", b"run_id,status\ntorn")
    assert sorted(row["error"] for row in table(where)) == [0, 4, 1000]


def test_a_terminal_shows_the_columns_that_fit(tmp_path: Path) -> None:
    params = {f"parameter_{number:02}": number + 0.123456789 for number in range(20)}
    with Logbook("a", tmp_path, params=params) as log:
        log.json("metrics", {"note": "x" * 200})
    code, got = terminal("table", ".", folder=tmp_path, columns=80)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", got.decode().replace("\r\n", "\n")).splitlines()
    assert code == 0
    assert plain[0].split()[:2] == ["run_id", "parameter_00"]
    assert plain[0].split()[-1] == "status"
    assert plain[1].split()[:3] == ["a", "0.123457", "1.12346"]
    assert all(len(line) <= 80 for line in plain[:2])
    left_out = 23 - len(plain[0].split())
    assert plain[2].startswith(f"{left_out} more columns did not fit: ")
    assert plain[3] == "1 run: 1 complete; " + plain[3].rpartition("; ")[2]
    chosen = terminal("table", ".", "--columns", "note", folder=tmp_path, columns=80)[1].decode()
    assert "x" * 40 + "…" in chosen
    assert "x" * 41 not in chosen


def test_long_ids_and_what_all_runs_share_leave_room_for_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for order in (2, 4):
        with Logbook(f"order_{order}_" + "x" * 60, tmp_path, params={"solver": "y" * 30, "order": order}) as log:
            log.json("metrics", {"error": 0.5**order})
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    told = notata("table", ".", folder=tmp_path, COLUMNS="80").stdout.splitlines()
    assert told[0].split() == ["run_id", "order", "status", "error"]
    assert told[1].split() == [f"order_2_{'x' * 16}…{'x' * 15}", "2", "complete", "0.25"]
    assert told[3].startswith("1 more column did not fit: solver; ")
    whole = notata("table", ".", "--columns", "run_id", folder=tmp_path, COLUMNS="40").stdout
    assert f"order_4_{'x' * 60}\n" in whole


def test_a_notebook_and_pandas_take_it() -> None:
    where = url()
    sweep(where)
    found = table(where, columns=["dt", "error"], sort="dt")
    assert found.to_pandas()["error"].tolist() == [0, 1, 4]
    assert cells(found._repr_html_())[:2] == [["dt", "error"], ["0.0", "0"]]


# -- cost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_an_experiment_with_an_index_is_a_listing_and_a_read(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue("moto_server" if kind == "s3" else "gcs_server")
    where = f"{server.url}/table-{next(_names)}"
    for name in ("one", "two"):
        sweep(where, name, server.options)

    def requests(**choice: Any) -> int:
        with counted() as sent:
            assert len(table(where, storage_options=server.options, **choice)) == 6
        return len(sent)

    assert requests() == 1 + 2  # one index.csv per experiment
    assert requests(where="error >= 0 and size > 1", sort="dt", columns=["size", "metrics.*"]) == 1 + 2
    assert requests(sort="age") == 1 + 6  # only the runs contain the age, so index.csv is not read
    store = open_store(f"{where}/one", server.options)
    store.delete(["index.csv"])
    assert requests() == 1 + 1 + 3
    Logbook("plain", where, params={"dt": 1}, storage_options=server.options, heartbeat=0).mark_complete()
    with counted() as sent:
        assert len(table(where, storage_options=server.options)) == 7
    assert len(sent) == 1 + 1 + 3 + 1  # metadata.json of the run outside an experiment
    open_store(where, server.options).clear()
