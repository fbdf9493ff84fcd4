"""Experiments with a large index: tables, lists, pages and reports read it, and neither list nor read their runs."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notata import Experiment, ExperimentReader, Logbook, search
from notata.errors import NotataError
from notata.page.answers import View
from notata.page.catalog import Catalog, Choice
from notata.page.output import StoredOutput
from notata.page.report import ReportWatcher, ReportWriter
from notata.page.server import PageServer
from notata.search.places import Run
from notata.search.target import Target
from notata.store import Store, open_store
from notata.table import Row, read_index, write_parts
from notata.testing import FaultyBackend
from tests.command import notata, terminal
from tests.counting import counted
from tests.page.visiting import RULES, Visit
from tests.servers import Server

LARGE = 10_001
"""The least number of rows of a large index."""


def row(number: int, **others: object) -> Row:
    """Return the row of a run that has ended, as its writer adds it to the index."""
    start = datetime.fromtimestamp(1_790_000_000 + number, UTC).isoformat()
    fields = {
        "params": {"lr": number / 10_000, "net": {"depth": number % 3}},
        "metrics": {"loss": abs(5000 - number), "loss.min": 0, "loss.max": 9},
        "started": start,
        "ended": start,
        "seconds": 2.5,
        "host": "n1",
        "time": 1_790_000_000.0 + number,
    }
    return Row(f"run-{number:05}", "failed" if number == 7 else "complete", **{**fields, **others})  # type: ignore[arg-type]


def add_rows(store: Store, numbers: range) -> None:
    write_parts(store, map(row, numbers))


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> FaultyBackend:
    """A storage that counts its operations, with the experiment ``exp`` of two runs and rows of 10,001 others."""
    store = FaultyBackend(open_store(f"memory://large-{request.node.name.replace('[', '-').rstrip(']')}"))
    experiment = Experiment("exp", store)
    for dt in (1, 2):
        with experiment.add(dt=dt) as log:
            log.scalars(step=0, loss=dt)
    inside = Store(store).below("exp")
    inside.path_for("index.csv").unlink()
    add_rows(inside, range(LARGE))
    del store.operations[:]
    return store


def asked(store: FaultyBackend) -> list[tuple[str, str]]:
    """Return the operations since the last call."""
    found = [(one.verb, one.key) for one in store.operations]
    del store.operations[:]
    return found


def index_files(store: FaultyBackend) -> list[str]:
    return [entry.key for entry in Store(store).below("exp").list("index")]


def the_index_alone(operations: list[tuple[str, str]]) -> bool:
    """Check that only listings, one read of the only part, and a look for index.csv were made.

    In memory and on a disk, reading an index takes two listings; in a bucket it takes one.
    """
    keys = [key for verb, key in operations if verb == "get"]
    others = [one for one in operations if one[0] != "get" and one != ("stat", "index.csv")]
    is_listing = all(verb == "list" and key in ("", "index") for verb, key in others)
    return len(keys) == 1 and keys[0].startswith("index/") and is_listing and len(others) <= 3


# -- tables and lists --------------------------------------------------------------------------------------


def test_a_table_takes_the_index_alone_and_says_how_old_it_is(watched: FaultyBackend) -> None:
    found = search.table(Store(watched).below("exp"))
    assert the_index_alone(asked(watched))
    assert len(found) == LARGE
    assert found[7] == {"run_id": "run-00007", "lr": 0.0007, "net.depth": 1, "status": "failed", "loss": 4993}
    (note,) = found.notes
    assert note.startswith(f"{watched.url}/exp: 10,001 runs from the index as of 20")
    assert "--fresh" in note


def test_a_filter_an_order_and_a_limit_use_the_index(watched: FaultyBackend) -> None:
    store = Store(watched).below("exp")
    found = search.table(store, where="lr > 0.9 and host == 'n1'", sort="loss", limit=3, columns=["run_id", "started"])
    assert [one["run_id"] for one in found] == ["run-09001", "run-09002", "run-09003"]
    assert found[0]["started"] == row(9001).started.replace("+00:00", ".000+00:00")
    assert search.runs(store, status="failed")[0].failure_reason == ""
    assert [run.run_id for run in search.runs(store, limit=2)] == ["run-00000", "run-00001"]
    assert [run.run_id for run in search.runs(store, sort="started", reverse=True, limit=1)] == ["run-10000"]
    assert not [verb for verb, key in asked(watched) if "metadata" in key]


def test_the_folder_of_the_runs_and_the_folder_above_use_the_index_too(watched: FaultyBackend, tmp_path: Path) -> None:
    local = open_store(str(tmp_path))
    for name in ("a", "exp", "exp-2", "z"):
        with Experiment(name, str(tmp_path)).add(dt=1):
            pass
    (tmp_path / "exp/index.csv").unlink()
    add_rows(local.below("exp"), range(LARGE))
    ids = [run.run_id for run in search.runs(str(tmp_path))]
    assert sorted(set(ids) - {row(number).run_id for number in range(LARGE)}) == ["a_dt_1", "exp-2_dt_1", "z_dt_1"]
    assert len(ids) == LARGE + 3
    inside = search.runs(f"{tmp_path}/exp/runs", limit=1)
    assert (inside[0].name, inside.total) == (f"{tmp_path}/exp/runs/log_run-00000", LARGE)
    assert "10,001 runs from the index" in inside.notes[0]
    matched = search.runs(f"{tmp_path}/exp*/runs/log_run-0000*")
    assert [run.run_id for run in matched] == [row(number).run_id for number in range(10)]
    of_files = search.runs(f"{tmp_path}/exp/**/log.txt")
    assert [run.is_indexed for run in of_files] == [False]
    for name in ("a", "exp-2", "z"):
        with Experiment(name, watched).add(dt=1):
            pass
    del watched.operations[:]
    found = search.runs(Store(watched))
    assert [run.run_id for run in found if not run.is_indexed] == ["a_dt_1", "exp-2_dt_1", "z_dt_1"]
    assert len(found) == LARGE + 3
    assert not [key for _, key in asked(watched) if key.startswith("exp/runs")]


@pytest.mark.parametrize(
    "asked_for",
    [
        {"fresh": True},
        {"where": "size > 0"},
        {"where": "metadata.status == 'complete'"},
        {"where": lambda run: run.size > 0},
        {"sort": "files"},
    ],
)
def test_what_no_index_has_looks_at_every_run(watched: FaultyBackend, asked_for: dict[str, object]) -> None:
    found = search.runs(Store(watched).below("exp"), **asked_for)  # type: ignore[arg-type]
    assert [run.run_id for run in found] == ["exp_dt_1", "exp_dt_2"]
    assert all(run.size and run.metadata for run in found)
    assert found.notes == []


def test_a_table_with_sizes_looks_at_every_run(watched: FaultyBackend) -> None:
    store = Store(watched).below("exp")
    assert [one["run_id"] for one in search.table(store, columns=["run_id", "size"])] == ["exp_dt_1", "exp_dt_2"]
    assert len(search.table(store, fresh=True)) == 2


def test_a_run_from_an_index_is_honest_about_its_files(watched: FaultyBackend) -> None:
    found = search.runs(Store(watched).below("exp"), limit=1)
    run = found[0]
    assert {name: value for name, value in run.record().items() if name != "age"} == {
        "name": f"{watched.url}/exp/runs/log_run-00000",
        "run_id": "run-00000",
        "url": f"{watched.url}/exp/runs/log_run-00000",
        "status": "complete",
        "certain": True,
        "why": "from the index of its experiment",
        "started": datetime.fromtimestamp(1_790_000_000, UTC),
        "ended": datetime.fromtimestamp(1_790_000_000, UTC),
        "seconds": 2.5,
        "size": None,
        "files": None,
        "host": "n1",
        "failure_reason": "",
        "unfinished": None,
        "unfinished_files": None,
    }
    assert (dict(run.entries), dict(run.metadata), run.is_orphan) == ({}, {}, False)
    assert found.summary() == "1 of 10001 runs: 1 complete"
    with pytest.raises(AttributeError, match="no attribute 'sise'"):
        run.sise  # type: ignore[attr-defined]  # noqa: B018


def test_a_run_from_an_index_can_be_copied_compared_and_pickled(watched: FaultyBackend) -> None:
    import copy
    import pickle
    from dataclasses import replace

    run = search.runs(f"{watched.url}/exp", limit=1)[0]
    assert copy.copy(run) == run == pickle.loads(pickle.dumps(run))
    assert isinstance(replace(run, status="failed"), Run)
    assert (replace(run, status="failed").host, hash(run.name)) == ("n1", hash(run.name))


def test_a_forged_row_cannot_name_another_folder(watched: FaultyBackend) -> None:
    store = Store(watched).below("exp")
    write_parts(store, [row(1, started="2030"), Row("../../secret", "complete"), Row("a/b", "complete")])
    assert {run.run_id for run in search.runs(store)} == {row(number).run_id for number in range(LARGE)}


IMPOSSIBLE = ["../../log_victim", "h/", "", "a\0b", "a\x1b[31m", "x" * 10**6, "\\"]
"""Ids that no run can have; a line of a part or of index.csv may name them all the same."""


def test_rows_with_impossible_ids_are_in_no_table_and_no_number(watched: FaultyBackend) -> None:
    lines = [{"run_id": id_, "status": "complete", "params": {}, "metrics": {}, "time": 2e9} for id_ in IMPOSSIBLE]
    store = Store(watched).below("exp")
    text = "".join(json.dumps(one) + "\n" for one in [*lines, {**lines[0], "run_id": "größe 1"}])
    store.write("index/0-aaaaaaaa-000001.jsonl", text.encode())
    expected = {row(number).run_id for number in range(LARGE)} | {"größe 1"}
    reader = ExperimentReader(store.url)
    assert {run.run_id for run in reader} == expected
    table = reader.table()
    assert {one["run_id"] for one in table} == expected
    assert len(table) == len(reader) == LARGE + 1
    (note,) = search.table(store).notes
    assert ": 10,002 runs from the index" in note


def test_rows_of_index_csv_with_impossible_ids_are_not_read(watched: FaultyBackend) -> None:
    store = Store(watched).below("exp")
    ids = ["../../log_victim", "h/", "", "a\x1b[31m", "x" * 1000, "possible"]
    cells = [["run_id", "status", "lr"], *([id_, "complete", "0.5"] for id_ in ids)]
    store.write("index.csv", "".join(",".join(one) + "\r\n" for one in cells).encode())
    index = read_index(store)
    assert index is not None
    assert set(index.rows) == {row(number).run_id for number in range(LARGE)} | {"possible"}


def test_a_small_experiment_with_parts_is_checked_against_its_runs(watched: FaultyBackend) -> None:
    with Experiment("small", watched).add(dt=1):
        pass
    add_rows(Store(watched).below("small"), range(500))
    found = search.table(Store(watched).below("small"))
    assert [one["run_id"] for one in found] == ["small_dt_1"]
    assert found.notes == []


def test_the_copy_of_an_experiment_in_a_run_is_a_file_of_the_run() -> None:
    store = open_store("memory://large-copy")
    Logbook("a", store).mark_complete()
    add_rows(store.below("log_a/artifacts/exp"), range(LARGE))
    for place in (store, store.below("log_a")):
        found = search.runs(place)
        assert [run.run_id for run in found] == ["a"]


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment ``exp`` on a disk with two runs, and rows of 10,001 others in its index."""
    made = tmp_path_factory.mktemp("large")
    experiment = Experiment("exp", str(made))
    for dt in (1, 2):
        with experiment.add(dt=dt) as log:
            log.scalars(step=0, loss=dt)
    (made / "exp/index.csv").unlink()
    add_rows(open_store(str(made / "exp")), range(LARGE))
    return made


def test_ls_shows_unknown_sizes_and_notes_the_age(folder: Path) -> None:
    done = notata("ls", "exp", "--json", "-n", "1", folder=folder)
    assert json.loads(done.stdout)["size"] is None
    assert "Note: exp: 10,001 runs from the index as of" in done.stderr
    lines = notata("ls", "exp", "-n", "2", "-l", folder=folder).stdout.splitlines()
    assert [line.split("\t")[4] for line in lines] == ["", ""]
    code, shown = terminal("ls", "exp", "-n", "2", folder=folder)
    assert code == 0
    assert "\N{EN DASH}" in shown.decode()
    assert "0 B" not in shown.decode()


def test_fresh_lists_every_run(folder: Path) -> None:
    done = notata("ls", "exp", "--fresh", folder=folder)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        "exp/runs/log_exp_dt_1", "exp/runs/log_exp_dt_2"
    ]  # fmt: skip
    assert done.stderr == ""


def test_table_prints_the_rows_of_the_index(folder: Path) -> None:
    done = notata("table", "exp", "--csv", "--sort", "loss", "-n", "3", folder=folder)
    rows = [*csv.DictReader(io.StringIO(done.stdout))]
    assert [one["run_id"] for one in rows] == ["run-05000", "run-04999", "run-05001"]
    assert "10,001 runs from the index" in done.stderr


def test_the_report_of_chosen_runs_has_their_details(watched: FaultyBackend, tmp_path: Path) -> None:
    store = Store(watched).below("exp")
    write_parts(store, [Row("exp_dt_1", "complete", {"dt": 1}, {"loss": 1.0}, started="2026-11-29T10:00:00+00:00")])
    to = tmp_path / "r.html"
    written = search.report(store, str(to), where="dt == 1")
    assert (written.runs, written.total) == (1, LARGE + 1)
    assert "runs from the index" in written.notes[0]
    page = to.read_text()
    assert "curves/scalars/loss" in page
    assert "run/log_exp_dt_1" in page


# -- readers -----------------------------------------------------------------------------------------------


def test_a_reader_reads_the_index(watched: FaultyBackend) -> None:
    reader = ExperimentReader(Store(watched).below("exp"))
    assert asked(watched) == [("list", "")]
    assert len(reader) == LARGE
    assert the_index_alone(asked(watched))
    assert reader.params["run-00003"] == {"lr": 0.0003, "net": {"depth": 0}}
    assert reader.table()[0]["run_id"] == "run-00000"
    assert {key for verb, key in asked(watched) if verb == "get"} <= {*index_files(watched)}
    assert reader.to_pandas()["loss"].sum() == sum(abs(5000 - number) for number in range(LARGE))
    assert reader["exp_dt_1"].params == {"dt": 1}
    assert "run-00003" not in reader  # its folder does not exist
    assert "exp_dt_2" in reader
    assert "10,001 runs from the index" in str(reader)


def test_a_notebook_shows_the_first_rows_and_the_age(watched: FaultyBackend) -> None:
    reader = ExperimentReader(Store(watched).below("exp"))
    del watched.operations[:]
    html = reader._repr_html_()
    assert the_index_alone(asked(watched))
    assert "10,001 runs" in html
    assert "run-00049" in html
    assert "run-00050" not in html
    assert "from the index as of" in html
    assert "from the index as of" in search.table(Store(watched).below("exp"))._repr_html_()


# -- the live page -----------------------------------------------------------------------------------------


def test_the_live_page_reads_only_what_is_new_in_the_index(watched: FaultyBackend) -> None:
    store = Store(watched).below("exp")
    catalog = Catalog([Target(store)])
    first = catalog.open()
    assert asked(watched)[0] == ("get", "index.csv")  # there is none
    assert (len(first.runs), first.is_stale) == (LARGE, False)
    assert any("10,001 runs from the index" in text for text in first.problems)
    assert catalog.refresh() is first or catalog.refresh().number == first.number
    assert not [verb for verb, _ in asked(watched) if verb == "get"]
    write_parts(store, [row(20_000), row(3, metrics={"loss": -1}, time=2e9)], level=0)
    now = catalog.refresh()
    assert len([verb for verb, _ in asked(watched) if verb == "get"]) == 1
    assert now.changed == ("log_run-00003", "log_run-20000")
    assert len(now.runs) == LARGE + 1
    assert now.ids["log_run-00004"] is first.ids["log_run-00004"]


def test_the_live_page_can_look_at_every_run(watched: FaultyBackend) -> None:
    catalog = Catalog([Target(Store(watched).below("exp"))], Choice(fresh=True))
    assert [run.run_id for run in catalog.refresh().runs] == ["exp_dt_1", "exp_dt_2"]


def test_an_outage_keeps_the_runs_of_the_live_page(watched: FaultyBackend) -> None:
    catalog = Catalog([Target(Store(watched).below("exp"))])
    first = catalog.open()
    watched.fail(1)
    now = catalog.refresh()
    assert isinstance(now.outage, NotataError)
    assert len(now.runs) == len(first.runs)
    assert catalog.refresh().outage is None


def test_the_live_page_draws_curves_of_chosen_runs_and_shows_their_files(watched: FaultyBackend) -> None:
    store = Store(watched).below("exp")
    write_parts(store, [row(0, time=2e9), Row("exp_dt_1", "complete", {"dt": 1}, {"loss": 1, "loss.min": 1})])
    server = PageServer([Target(store)], View("a page", ("exp",)), rules=RULES)
    visit = Visit(server)
    page = visit.data("runs")
    assert (page["count"], page["stale"]) == (LARGE + 1, False)
    assert page["series"]["scalars"]["columns"] == ["loss"]
    assert len(page["series"]["scalars"]["runs"]) == LARGE + 1
    columns = {one["name"]: one["values"] for one in page["columns"]}
    assert {*columns["size"], *columns["files"]} == {None}
    curves = visit.data("curves", "scalars", "loss", runs="log_exp_dt_1,log_run-00001")
    assert [one["run"] for one in curves["curves"]] == ["log_exp_dt_1"]
    assert visit.data("run", "log_exp_dt_1")["files"]
    assert visit.get("/api/run/log_run-00001").status == 404  # its folder was removed


def test_a_watched_report_looks_at_the_index_and_not_at_the_runs(watched: FaultyBackend, tmp_path: Path) -> None:
    store = Store(watched).below("exp")
    query = search.Query(store, where="lr > 0.9999")
    waits: list[int] = []

    def wait(_: float) -> None:
        waits.append(len([one for one in watched.operations if one.key.startswith("runs/")]))
        del watched.operations[:]
        if len(waits) == 2:
            write_parts(store, [row(9999 + 2000)])

    reports = iter(ReportWatcher(ReportWriter(query, StoredOutput(tmp_path / "r.html")), 60, wait=wait))
    assert [next(reports).runs, next(reports).runs] == [1, 2]
    assert waits[1:] == [0]


# -- requests to a bucket ----------------------------------------------------------------------------------


def test_a_bucket_gets_two_listings_and_one_read_a_part(moto_server: Server) -> None:
    url = f"{moto_server.url}/{uuid.uuid4().hex}"
    store = open_store(url, moto_server.options)
    Experiment("exp", store).add(dt=1).mark_complete()
    store.below("exp").path_for("index.csv").unlink(missing_ok=True)  # written within half a minute
    for numbers in (range(5000), range(5000, LARGE)):
        add_rows(store.below("exp"), numbers)
    with counted() as sent:
        found = search.table(store.below("exp"), where="lr > 0.5", sort="loss", limit=5)
    assert found.runs.total == LARGE
    kinds = Counter("LIST" if "list-type" in one else one.partition(" ")[0] for one in sent)
    assert kinds == {"LIST": 2, "GET": 2, "HEAD": 1}  # the last one looks for index.csv
    inside = search.runs(f"{url}/exp/runs", limit=1, storage_options=moto_server.options)
    assert (inside[0].name, inside.total) == (f"{url}/exp/runs/log_run-00000", LARGE)
