"""The packages of this environment write files that can be imported, and the log of W&B has what its package reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from notata import LogReader
from notata.importing import import_runs
from notata.importing.wire import Message, records
from tests.importing import make_files
from tests.importing.sources import FILES, metadata


@pytest.mark.parametrize("name", ["mlruns", "mlflow_db", "sacred", "dvclive", "tensorboard", "wandb"])
def test_files_of_this_environment_can_be_imported(name: str, tmp_path: Path) -> None:
    script = f"""
import os, pathlib
from tests.importing import make_files
os.chdir({str(tmp_path)!r})
pathlib.Path("made").mkdir()
make_files.MAKERS[{name!r}](pathlib.Path("made"))
"""
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(make_files.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=tmp_path, capture_output=True)
    kind = "mlruns" if name == "mlflow_db" else name
    source = tmp_path / "mlflow.db" if name == "mlflow_db" else tmp_path / name
    report = import_runs(kind, source, tmp_path / "to", deleted=True)
    counts = {"mlruns": 5, "mlflow_db": 5, "sacred": 3, "dvclive": 2, "tensorboard": 3, "wandb": 2}
    assert len(report.new) == counts[name]
    assert all(LogReader(url).verify().ok for url in report.new)
    if kind == "mlruns":
        wanted = json.loads((tmp_path / "made/expected.json").read_text())
        stored = {metadata(url)["run_id"]: metadata(url) for url in report.new}
        assert stored.keys() == wanted.keys()
        for run_id, run in wanted.items():
            metrics = stored[run_id]["row"].get("metrics", {})
            assert {key: repr(value) for key, value in metrics.items()} == run["metrics"]


def test_the_log_of_wandb_has_what_the_package_reads() -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = FILES.rglob("run-abc12345.wandb")
    seen = set()
    with path.open("rb") as file:
        for data in records(file, "log", lambda what: pytest.fail(what)):
            wanted, found = Record.FromString(data), Message(data)
            kind = wanted.WhichOneof("record_type")
            seen.add(kind)
            assert Record.DESCRIPTOR.fields_by_name[kind].number in found
            if kind == "history":
                items = [(list(item.nested_key), item.value_json) for item in wanted.history.item]
                assert [(item.texts(2), item.text(16)) for item in found.message(2).messages(1)] == items
                assert found.message(2).message(2).integer(1) == wanted.history.step.num
            elif kind == "run":
                run = found.message(17)
                assert (run.text(1), run.text(3), run.text(8), run.texts(10)) == (
                    wanted.run.run_id,
                    wanted.run.project,
                    wanted.run.display_name,
                    list(wanted.run.tags),
                )
                assert run.message(17).integer(1) == wanted.run.start_time.seconds
            elif kind == "exit":
                assert found.message(18).integer(1) == wanted.exit.exit_code
            elif kind == "environment":
                environment = found.message(26)
                assert (environment.text(12), environment.text(6)) == (
                    wanted.environment.host,
                    wanted.environment.program,
                )
    assert {"run", "history", "summary", "exit", "header", "environment", "stats"} <= seen


def test_negative_and_large_numbers_are_read_as_the_package_does() -> None:
    from wandb.proto.wandb_internal_pb2 import HistoryRecord, Record

    for number in (0, 1, -1, 2**31, -(2**63), 2**63 - 1):
        record = Record(history=HistoryRecord(step={"num": number}))
        assert Message(record.SerializeToString()).message(2).message(2).integer(1) == number
