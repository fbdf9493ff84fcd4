"""Indexes with parts after removals and copies: they contain the runs that are there, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from notata import BatchError, Experiment, ExperimentReader, SyncReport, search, sync
from notata._base.keys import run_id
from notata.store import Store, open_store
from notata.table import read_index, write_parts
from notata.table.runs import read_runs
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata


def experiment(place: Place, name: str = "sweep", count: int = 4) -> Store:
    """Make an experiment whose index has a part, as if it were large. Return its store."""
    made = Experiment(name, place.url, storage_options=place.options, heartbeat=None, environment=False)
    for number in range(count):
        made.add(number=number).mark_complete()
    made.write_index()
    store = place.store().below(name)
    write_parts(store, read_runs(store, map(run_id, store.folder_names("runs"))), time=1e9, level=0)
    return store


def lines(store: Store) -> list[dict[str, object]]:
    """Return all lines of the parts, oldest part first."""
    entries = sorted(store.list("index"), key=lambda entry: entry.modified)
    return [json.loads(line) for entry in entries for line in store.read(entry.key).splitlines()]


def shown(store: Store) -> list[str]:
    """Return the numbers of the runs that an index shows which is trusted."""
    index = read_index(store, large=1)
    assert index is not None
    return sorted(row.run_id.rpartition("_")[2] for row in index.rows.values())


def options(place: Place) -> list[str]:
    return [f"-o{name}={value}" for name, value in place.options.items()]


# -- removal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        lambda url: f"{url}/sweep/runs/log_sweep_number_2",
        lambda url: f"{url}/sweep/runs/sweep_number_2",
        lambda url: f"{url}/sweep/runs/log_*_2",
        lambda url: f"{url}/sweep/*/log_*_2",
        lambda url: f"{url}/sw*/runs/log_*_2",
    ],
)
def test_rm_hides_a_run_in_the_index_of_its_experiment(place: Place, named: Callable[[str], str]) -> None:
    store = experiment(place)
    [done] = search.remove(named(place.url), storage_options=place.options)
    assert done.removed
    assert shown(store) == ["0", "1", "3"]
    [line] = [line for line in lines(store) if line.get("removed")]
    assert line["run_id"] == "sweep_number_2"


@pytest.mark.parametrize("below", ["", "/sweep", "/sweep/runs"])
def test_one_part_names_all_runs_that_a_removal_removed(place: Place, below: str) -> None:
    store = experiment(place)
    before = len(store.list("index"))
    found = search.remove(place.url + below, recursive=True, where="params.number > 1", storage_options=place.options)
    assert len(found) == 2
    assert shown(store) == ["0", "1"]
    assert len(store.list("index")) == before + 1


def test_a_small_experiment_gets_no_parts_by_a_removal(place: Place) -> None:
    made = Experiment("sweep", place.url, storage_options=place.options)
    made.add(number=0).mark_complete()
    search.remove(f"{place.url}/sweep", recursive=True, storage_options=place.options)
    assert place.store().list("sweep/index") == []


def test_a_run_that_stays_is_not_hidden(tmp_path: Path) -> None:
    store = experiment(Place("local", str(tmp_path)))
    made = Experiment("sweep", tmp_path)
    running = made.add(number=7)
    errors: list[Exception] = []
    search.remove(str(tmp_path / "sweep"), recursive=True, where="params.number in (3, 7)", failed=errors.append)
    assert len(errors) == 1
    assert [line["run_id"] for line in lines(store) if line.get("removed")] == ["sweep_number_3"]
    running.mark_complete()


def test_runs_removed_before_an_interruption_are_hidden(tmp_path: Path) -> None:
    store = experiment(Place("local", str(tmp_path)))
    removing = search.removals(search.removable(str(tmp_path / "sweep"), recursive=True))
    next(removing)
    del removing  # as an interrupt does
    remaining = {path.name.rpartition("_")[2] for path in (tmp_path / "sweep/runs").iterdir()}
    assert "0" not in remaining
    assert shown(store) == sorted(remaining)


# -- copies ------------------------------------------------------------------------------------------------


def copy(place: Place, target: Path, *, delete: bool = False, dry_run: bool = False) -> SyncReport:
    return sync(f"{place.url}/sweep", target, source_options=place.options, delete=delete, dry_run=dry_run)


def test_a_copy_has_an_index_of_the_runs_that_were_copied(place: Place, tmp_path: Path) -> None:
    experiment(place)
    target = open_store(tmp_path / "copy")
    report = copy(place, tmp_path / "copy")
    assert shown(target) == ["0", "1", "2", "3"]
    [part] = target.list("index")
    assert report.copied[part.key] == part.size
    assert lines(target)[0] == {"notata_index": 1, "covers": {"index.csv": target.stat("index.csv").version}}
    again = copy(place, tmp_path / "copy")
    assert (dict(again.copied), again.deleted) == ({}, {})
    assert [entry.key for entry in target.list("index")] == [part.key]


def test_a_copy_with_missing_runs_shows_none_of_them(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path / "here"))
    store = FaultyBackend(experiment(place))
    store.close_folder("runs/log_sweep_number_1")
    with pytest.raises(BatchError):
        sync(store, tmp_path / "copy")
    target = open_store(tmp_path / "copy")
    assert shown(target) == ["0", "2", "3"]
    store.heal()
    sync(store, tmp_path / "copy")
    assert shown(target) == ["0", "1", "2", "3"]


def test_later_runs_and_removals_reach_the_index_of_a_copy(place: Place, tmp_path: Path) -> None:
    store = experiment(place)
    target = open_store(tmp_path / "copy")
    copy(place, tmp_path / "copy")
    Experiment("sweep", place.url, storage_options=place.options).add(number=8).mark_complete()
    search.remove(f"{place.url}/sweep/runs/log_sweep_number_0", storage_options=place.options)
    copy(place, tmp_path / "copy")
    assert shown(target) == ["0", "1", "2", "3", "8"]  # the copy of the removed run is still there
    report = copy(place, tmp_path / "copy", delete=True)
    assert not any(key.startswith("index/") for key in report.deleted)
    assert shown(target) == ["1", "2", "3", "8"]
    assert shown(store) == ["1", "2", "3", "8"]


def test_runs_copied_to_an_experiment_with_an_index_are_in_it(tmp_path: Path) -> None:
    target = experiment(Place("local", str(tmp_path / "copies")), "sweep", 2)
    here = Experiment("sweep", tmp_path / "here")
    for number in (1, 5):
        here.add(number=number).mark_complete()
    with pytest.raises(BatchError, match="a different run with this id"):
        sync(tmp_path / "here", tmp_path / "copies")
    assert shown(target) == ["0", "1", "5"]
    sync(tmp_path / "here", tmp_path / "copies", delete=True)
    assert target.list("index") == []  # as at the source, where all runs are in index.csv
    assert target.folder_names("runs") == ["log_sweep_number_1", "log_sweep_number_5"]


def test_a_run_replaced_by_an_older_one_has_the_row_of_that(tmp_path: Path) -> None:
    experiment(Place("local", str(tmp_path / "here")), "sweep", 1)
    target = experiment(Place("local", str(tmp_path / "copies")), "sweep", 1)
    metadata = json.loads((tmp_path / "here/sweep/runs/log_sweep_number_0/metadata.json").read_text())
    for _ in range(2):
        sync(tmp_path / "here", tmp_path / "copies", delete=True)
        index = read_index(target)
        assert index is not None
        assert index.rows["sweep_number_0"].started == metadata["start_time"]


def test_a_dry_run_writes_no_index(place: Place, tmp_path: Path) -> None:
    experiment(place)
    copy(place, tmp_path / "copy", dry_run=True)
    assert not (tmp_path / "copy").exists()


def test_a_copy_whose_index_was_not_written_gets_it_later(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path / "here"))
    experiment(place)
    copy(place, tmp_path / "copy")
    for part in (tmp_path / "copy/index").iterdir():
        part.unlink()
    copy(place, tmp_path / "copy")
    assert shown(open_store(tmp_path / "copy")) == ["0", "1", "2", "3"]


def test_a_folder_of_experiments_has_an_index_each(tmp_path: Path) -> None:
    for name in ("first", "deep/second"):
        experiment(Place("local", str(tmp_path / "here")), name, 2)
    Experiment("small", tmp_path / "here").add(number=1).mark_complete()
    sync(tmp_path / "here", tmp_path / "copies")
    for name in ("first", "deep/second"):
        assert shown(open_store(tmp_path / "copies" / name)) == ["0", "1"]
    assert not (tmp_path / "copies/small/index").exists()


# -- commands that list everything -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "tree", "du", "ls", "doctor", "table"])
def test_commands_take_the_parts_for_no_run(place: Place, command: str, tmp_path: Path) -> None:
    if place.name == "memory":
        pytest.skip("another process has another memory")
    experiment(place, count=2)
    done = notata(command, f"{place.url}/sweep", *options(place), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "log_0-" not in done.stdout


def test_a_reader_of_an_experiment_with_parts_reads_none_before_it_is_asked(place: Place) -> None:
    store = FaultyBackend(experiment(place, count=2))
    reader = ExperimentReader(store)
    assert [operation.verb for operation in store.operations] == ["list"]
    assert [row["number"] for row in reader.table()] == [0, 1]
