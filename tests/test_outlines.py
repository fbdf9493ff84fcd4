"""A table on a disk looks at two files of each run: it is the same as one that reads every run, after any change."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from notata import Experiment, ExperimentReader, Logbook, search
from notata.mirror.tree import sync
from notata.search.places import Run
from notata.store import open_store
from notata.store.outlines import Outline
from notata.testing import FaultyBackend

RUNS = st.integers(0, 3)


def add(folder: Path, number: int, error: float, *, fails: bool = False) -> None:
    """Make a run of the experiment ``sweep``, which replaces an earlier one."""
    shutil.rmtree(folder / f"sweep/runs/log_sweep_n_{number}", ignore_errors=True)
    with suppress(ArithmeticError), Experiment("sweep", folder).add(n=number) as log:
        log.json("metrics", {"error": error})
        if fails:
            raise ArithmeticError(number)


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return sorted(({**row} for row in rows), key=lambda row: str(row["run_id"]))


class Changes(RuleBasedStateMachine):
    """Runs are written, resumed, edited, copied and removed; the table is always that of a read of every run."""

    def __init__(self) -> None:
        super().__init__()
        self._held = TemporaryDirectory()
        self.base = Path(self._held.name)
        self.runs = self.base / "sweep/runs"

    def teardown(self) -> None:
        self._held.cleanup()

    @initialize()
    def first(self) -> None:
        add(self.base, 0, 0.0)
        add(self.base, 1, 1.0)

    def run(self, number: int) -> Path | None:
        folder = self.runs / f"log_sweep_n_{number}"
        return folder if (folder / "metadata.json").is_file() else None

    @rule(number=RUNS, error=st.floats(0, 1), fails=st.booleans())
    def write(self, number: int, error: float, fails: bool) -> None:
        add(self.base, number, error, fails=fails)

    @rule(number=RUNS, error=st.floats(0, 1), ends=st.booleans())
    def resume(self, number: int, error: float, ends: bool) -> None:
        folder = self.run(number)
        if folder is None or (folder / "artifacts").is_symlink():
            return
        log = Logbook(f"sweep_n_{number}", self.runs, resume="force")
        log.json("metrics", {"error": error, "resumed": True})
        if ends:
            log.mark_complete()
        else:
            log.mark_failed("on purpose")
        assert folder.is_dir()

    @rule(number=RUNS)
    def remove(self, number: int) -> None:
        if (folder := self.run(number)) is not None:
            shutil.rmtree(folder)

    @rule(number=RUNS, metrics=st.sampled_from([{"error": 123456.5, "by": "hand"}, {}, []]))
    def edit_metrics(self, number: int, metrics: object) -> None:
        if (folder := self.run(number)) is not None:
            (folder / "artifacts/metrics.json").write_text(json.dumps(metrics))

    @rule(number=RUNS)
    def edit_metadata(self, number: int) -> None:
        if (folder := self.run(number)) is not None:
            path = folder / "metadata.json"
            fields = json.loads(path.read_text())
            path.write_text(json.dumps(fields | {"status": "failed", "failure_reason": "as a user says"}))

    @rule(number=RUNS, name=st.sampled_from(["artifacts/metrics.json", "metadata.json"]))
    def remove_file(self, number: int, name: str) -> None:
        if (folder := self.run(number)) is not None:
            (folder / name).unlink(missing_ok=True)

    @rule(number=RUNS, other=RUNS)
    def sync_over(self, number: int, other: int) -> None:
        if (self.runs / f"log_sweep_n_{number}/artifacts").is_symlink():
            return
        with TemporaryDirectory() as away:
            add(Path(away), number, 0.75, fails=number == other)
            name = f"log_sweep_n_{number}"
            sync(Path(away, "sweep/runs", name), self.runs / name, delete=True)

    @rule(number=RUNS)
    def move_artifacts_behind_a_link(self, number: int) -> None:
        folder = self.run(number)
        if folder is not None and (folder / "artifacts").is_dir() and not (folder / "artifacts").is_symlink():
            target = self.base / f"elsewhere-{number}"
            shutil.rmtree(target, ignore_errors=True)
            (folder / "artifacts").rename(target)
            (folder / "artifacts").symlink_to(target)

    @rule(write=st.booleans())
    def read(self, write: bool) -> None:
        """Write index.csv, so that later tables trust its rows, or read it."""
        experiment = Experiment("sweep", self.base)
        if write:
            experiment.write_index()
        else:
            experiment.to_dataframe()

    @invariant()
    def the_table_is_current(self) -> None:
        if not any(path.is_file() for path in self.runs.glob("log_*/metadata.json")):
            return
        url = str(self.base / "sweep")
        warm, cold = search.table(url), search.table(url, fresh=True)
        assert in_order(warm) == in_order(cold)
        assert [*warm.columns] == [*cold.columns]
        runs = {run.run_id: run for run in search.runs(url, values=True)}
        for one in warm.runs:
            other = runs[one.run_id]
            assert (one.name, one.url, one.folder) == (other.name, other.url, other.folder)
            assert (one.size, one.files, one.unfinished_files) == (other.size, other.files, other.unfinished_files)
            assert one.entries == other.entries
        reader = ExperimentReader(url)
        assert in_order(reader.table()) == in_order(reader.table(fresh=True))


Changes.TestCase.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
TestChanges = Changes.TestCase


def filled(folder: Path, count: int) -> str:
    """Make an experiment with index.csv and so many runs, without notata's writers; return its path."""
    add(folder, 0, 0.5)
    first = folder / "sweep/runs/log_sweep_n_0"
    for number in range(1, count):
        shutil.copytree(first, folder / f"sweep/runs/log_sweep_n_{number}")
    Experiment("sweep", folder).write_index()
    return str(folder / "sweep")


@contextmanager
def system_calls() -> Iterator[Counter[str]]:
    """Count the calls of a block that look at files, folders and names."""
    made: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "scandir", "stat", "listdir"):
            call = getattr(os, name)

            def counted(*given: Any, call: Any = call, name: str = name, **options: Any) -> Any:
                made[name] += 1
                return call(*given, **options)

            patch.setattr(os, name, counted)
        yield made


@pytest.mark.parametrize("road", ["table", "where", "reader", "experiment"])
def test_a_current_table_takes_three_calls_a_run_and_opens_none(road: str, tmp_path: Path) -> None:
    url = filled(tmp_path, 40)

    def read() -> int:
        if road == "experiment":
            return len(Experiment("sweep", tmp_path).to_dataframe())
        if road == "reader":
            return len(reader.table())
        return len(search.table(url, where="error < 1 and status == 'complete'" if road == "where" else None))

    reader = ExperimentReader(url)
    assert read() == 40
    with system_calls() as made:
        assert read() == 40
    assert made["stat"] <= 3 * 40 + 20
    assert made["open"] + made["scandir"] + made["listdir"] <= 30


def test_a_run_that_has_changed_is_listed_and_read_alone(tmp_path: Path) -> None:
    url = filled(tmp_path, 40)
    with Logbook("sweep_n_7", tmp_path / "sweep/runs", resume="force") as log:
        log.json("metrics", {"error": 0.25})
    with system_calls() as made:
        found = search.table(url, where="error == 0.25")
    assert [row["run_id"] for row in found] == ["sweep_n_7"]
    assert made["open"] + made["scandir"] + made["listdir"] <= 50


def test_columns_and_filters_of_sizes_list_all_files_at_once(tmp_path: Path) -> None:
    url = filled(tmp_path, 3)
    size = sum(path.stat().st_size for path in (tmp_path / "sweep/runs/log_sweep_n_2").rglob("*") if path.is_file())
    assert search.table(url, columns=["size", "files"])[2] == {"size": size, "files": 5}
    assert len(search.table(url, where=f"size == {size} and files == 5")) == 3
    run = search.table(url).runs[2]
    (tmp_path / "sweep/runs/log_sweep_n_2/artifacts/more.txt").write_bytes(b"12345")
    assert (run.size, run.files, run.unfinished) == (size + 5, 6, 0)  # listed when it is first used


def test_an_outline_leaves_out_folders_with_the_first_file_alone(tmp_path: Path) -> None:
    names = ["a.txt", "runs/log_a/one", "runs/log_a/in/two", "runs/log_a/three", "runs/log_b/three", "runs/a.txt"]
    names += ["runs/log_b/runs/log_c/one", "sub/runs/log_d/one", ".notata-x/runs/log_e/one", "index/part"]
    names += ["m/runs/log_f/in/two", "m/runs/log_g/one", "log_h/one", "more/log_i/one", "runs/more/log_j/one"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "runs/log_link").symlink_to(tmp_path / "runs/log_a")
    (tmp_path / "runs/log_linked").mkdir()
    (tmp_path / "runs/log_linked/one").symlink_to(tmp_path / "a.txt")
    (tmp_path / "m/runs/log_g/in").symlink_to(tmp_path / "runs/log_a/in")
    store = open_store(tmp_path)
    outline = Outline("runs", "log_", ("one", "in/two"))
    rest = [entry.key for entry in store.scan(outline=outline)]
    whole = {entry.key: entry for entry in store.list()}
    shown = {f"{folder}/{key}": entry for folder, files in outline.found.items() for key, entry in files.items()}
    assert {folder: [*files] for folder, files in outline.found.items()} == {
        "runs/log_a": ["one", "in/two"],
        "sub/runs/log_d": ["one"],
        "m/runs/log_g": ["one"],
    }
    assert rest.index("index/part") < rest.index("runs/log_b/three")  # a search that meets a large index ends there
    assert {*whole} - {*rest} - {*shown} == {"runs/log_a/three"}
    assert not {*rest} & {*shown}
    assert {key: (entry.size, entry.version) for key, entry in shown.items()} == {
        key: (whole[key].size, whole[key].version) for key in shown
    }


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may open every folder")
def test_a_folder_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "runs/log_a/in"
    folder.mkdir(parents=True)
    (tmp_path / "runs/log_a/one").touch()
    folder.chmod(0)
    skipped: list[Exception] = []
    outline = Outline("runs", "log_", ("one", "in/two"))
    try:
        found = [entry.key for entry in open_store(tmp_path).scan(skipped=skipped.append, outline=outline)]
    finally:
        folder.chmod(0o700)
    assert (found, outline.found, len(skipped)) == (["runs/log_a/one"], {}, 1)


def test_storages_and_wrappers_that_list_in_their_own_way_have_no_outlines(tmp_path: Path) -> None:
    (tmp_path / "runs/log_a").mkdir(parents=True)
    (tmp_path / "runs/log_a/one").touch()
    memory = open_store("memory://outlines")
    memory.write("runs/log_a/one", b"")
    for store in (memory, type(memory)(FaultyBackend(open_store(tmp_path)))):
        outline = Outline("runs", "log_", ("one",))
        assert [entry.key for entry in store.scan(outline=outline)] == ["runs/log_a/one"]
        assert outline.found == {}


def test_a_summary_of_many_runs_lists_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "log_1").mkdir()
    (tmp_path / "log_1/one").write_bytes(b"12345")
    runs = search.Runs(Run.outlined("exp", open_store(tmp_path), f"log_{number}", {}) for number in range(1001))
    with system_calls() as made:
        assert runs.summary().startswith("1001 runs")
    assert not made
    assert search.Runs(runs[:2]).summary().endswith("; 5 B")
