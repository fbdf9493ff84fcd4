"""The places of a command line: what they mean, on every storage, and what they are called."""

from __future__ import annotations

from notata.search.finding import files_at, look_up, runs_at
from notata.search.record import Run, records
from tests.cli.conftest import Shelf
from tests.fleet import ODD, RUNS


def test_every_run_is_found_under_the_name_that_was_asked_for(shelf: Shelf) -> None:
    found = list(runs_at(shelf.url, storage_options=shelf.place.options))
    assert [run.name for run in found] == [f"{shelf.url}/{folder}" for folder in sorted(RUNS)]
    for run in found:
        folder = shelf.local / run.folder
        on_disk = {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }
        assert {key: entry.size for key, entry in run.files.items()} == on_disk


def test_how_each_run_stands(shelf: Shelf) -> None:
    place = look_up(shelf.url, shelf.place.options)
    runs: dict[str, Run] = {run.found.folder: run for run in records(place, values=True) if run.found}
    assert {folder: run.status for folder, run in runs.items()} == RUNS
    old = runs["log_old"]
    assert (old.seconds, old.params, old.metrics) == (90.5, {"omega": 1.5, "dt": 0.01}, {"energy": 1.25})
    assert runs["log_running"].params["omega"] == 4.0
    assert "unstable" in runs["sweep/runs/log_sweep_dt_0.4_omega_2"].failure_reason
    assert runs["log_lost"].failure_reason == "it has no metadata.json"


def test_a_pattern_means_runs_or_files_of_them(shelf: Shelf) -> None:
    options = shelf.place.options
    assert [run.folder for run in runs_at(f"{shelf.url}/log_l*", storage_options=options)] == [
        "log_log_a",
        "log_lost",
    ]
    assert [run.run_id for run in runs_at(f"{shelf.url}/log_{ODD}", storage_options=options)] == [ODD]
    assert len(list(runs_at(f"{shelf.url}/**/log_sweep*", storage_options=options))) == 3
    files = list(files_at(f"{shelf.url}/*/artifacts/metrics.json", storage_options=options))
    assert [(file.run, file.key) for file in files] == [
        (folder, "artifacts/metrics.json") for folder in ("log_notes", "log_old", f"log_{ODD}")
    ]
    assert [file.name for file in files_at(f"{shelf.url}/README.txt", storage_options=options)] == [
        f"{shelf.url}/README.txt"
    ]
