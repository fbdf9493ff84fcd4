"""Write the files of ``tests/importing/files`` with the real packages, in the environment of ``tests/importers``.

``python -m tests.importing.make_files`` replaces them, and writes beside each what the package's own client reports
(``expected.json``). The files are from the versions in ``files/versions.json``.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

FILES = Path(__file__).parent / "files"
PACKAGES = ("dvclive", "mlflow", "sacred", "tensorboard", "tensorboardX", "wandb")
PICTURE = np.zeros((3, 4, 4), dtype=np.uint8)


def reported_by_mlflow(uri: str) -> dict[str, Any]:
    """Return what MLflow's client says about each run, deleted ones too."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(uri)
    experiments = client.search_experiments(view_type=ViewType.ALL)
    names = {experiment.experiment_id: experiment.name for experiment in experiments}
    found = {}
    for run in client.search_runs(list(names), run_view_type=ViewType.ALL, max_results=2000):
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        points = {
            name: [(one.step, one.timestamp, repr(one.value)) for one in all_] for name, all_ in histories.items()
        }
        found[run.info.run_id] = {
            "experiment": names[run.info.experiment_id],
            "name": run.info.run_name,
            "status": run.info.status,
            "stage": run.info.lifecycle_stage,
            "start": run.info.start_time,
            "end": run.info.end_time,
            "user": run.info.user_id,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {name: repr(value) for name, value in run.data.metrics.items()},
            "points": points,
        }
    return found


def mlflow_runs(uri: str) -> None:
    """Record runs: one with everything, one that failed, one that was deleted, one that is running, a child."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("pendulum")
    with mlflow.start_run(run_name="first", tags={"kind": "test"}, description="Two lines\nof a note") as first:
        params = {"lr": 0.1, "steps": 3, "optimizer": "adam", "flag": True, "none": None, "group/name": "1e-3"}
        mlflow.log_params(params)
        for step in range(3):
            mlflow.log_metrics({"loss": 1 / (step + 1), "val/accuracy": step / 10}, step=step)
        mlflow.log_metric("loss", float("nan"), step=3)
        mlflow.log_metric("loss", float("inf"), step=4)
        mlflow.log_metric("back", 1.0, step=5)
        mlflow.log_metric("back", 2.0, step=1)  # the step goes backwards: the latest value is the first
        mlflow.log_metric("time", 0.25, step=0)  # a name that rows of notata have themselves
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_text("{}", "metrics.json")
        mlflow.log_input(mlflow.data.from_numpy(np.zeros((2, 2)), name="points"), context="training")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_param("parent", first.info.run_id)
    with suppress(ValueError), mlflow.start_run(run_name="broken"):
        raise ValueError("broken")
    with mlflow.start_run(run_name="deleted") as deleted:
        pass
    mlflow.delete_run(deleted.info.run_id)
    mlflow.set_experiment("/Users/ada/second")
    second = mlflow.get_experiment_by_name("/Users/ada/second")
    mlflow.MlflowClient(uri).create_run(second.experiment_id, run_name="running")


def make_mlruns(folder: Path) -> None:
    """Write a folder of the file store."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    uri = f"file://{Path.cwd()}/mlruns"
    mlflow_runs(uri)
    (folder / "expected.json").write_text(json.dumps(reported_by_mlflow(uri), indent=1))
    shutil.copytree("mlruns", folder / "mlruns")


def make_mlflow_db(folder: Path) -> None:
    """Write a database, with its artifacts beside it."""
    uri = f"sqlite:///{Path.cwd()}/mlflow.db"
    shutil.rmtree("mlruns", ignore_errors=True)
    mlflow_runs(uri)
    (folder / "expected.json").write_text(json.dumps(reported_by_mlflow(uri), indent=1))
    (folder / "mlflow.db.gz").write_bytes(gzip.compress(Path("mlflow.db").read_bytes(), mtime=0))
    shutil.copytree("mlruns", folder / "mlruns")


SACRED = '''"""Runs of Sacred: one that ends, one that fails, one of another experiment."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from sacred import Experiment
from sacred.observers import FileStorageObserver


def body(_run: Any, rate: float, steps: int) -> dict[str, float]:
    print("half-lives of", rate)
    for step in range(steps):
        _run.log_scalar("loss", rate**step, step)
        _run.log_scalar("accuracy", np.float64(step))
    _run.info["grid"] = np.arange(3)
    Path("notes.txt").write_text("kept")
    _run.add_artifact("notes.txt", "sub.txt")
    if steps > 3:
        raise ValueError("too many steps")
    return {"final": rate}


for name, count in (("decay", 3), ("decay", 4), ("other", 1)):
    experiment = Experiment(name, save_git_info=False)
    experiment.observers.append(FileStorageObserver("sacred"))
    experiment.add_config({"rate": 0.5, "seed": 1, "nested": {"a": [1, 2], "b": None}, "steps": count})
    experiment.main(body)
    with suppress(ValueError):
        experiment.run()
'''


def make_sacred(folder: Path) -> None:
    """Write the folder of a FileStorageObserver, by a script that Sacred stores too."""
    Path("decay.py").write_text(SACRED)
    subprocess.run([sys.executable, "decay.py"], check=True)
    shutil.copytree("sacred", folder / "sacred")


def make_dvclive(folder: Path) -> None:
    """Write two folders of DVCLive, one with times."""
    from dvclive import Live

    for name, timed in (("plain", False), ("timed", True)):
        with Live(f"dvclive/{name}", save_dvc_exp=False, dvcyaml=None, report="md" if timed else None) as live:
            live.log_params({"lr": 0.1, "net": {"depth": 3, "act": "relu"}})
            for step in range(3):
                live.log_metric("train/loss", 1 / (step + 1), timestamp=timed)
                live.log_metric("accuracy", step, timestamp=timed)
                live.next_step()
            live.log_image("picture.png", PICTURE.transpose(1, 2, 0))
    shutil.rmtree("dvclive/timed/static", ignore_errors=True)
    shutil.copytree("dvclive", folder / "dvclive")


def make_tensorboard(folder: Path) -> None:
    """Write event files: of the first version with restarts and media, and of the second one."""
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.histogram.summary_v2 import histogram_pb
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboardX import SummaryWriter

    log = SummaryWriter("tensorboard/lr_0.1/train")
    for step in range(4):
        log.add_scalar("loss", 1 / (step + 1), step)
        log.add_scalar("time", step * 0.1, step)
    log.add_text("note", "hello **you**", 1)
    log.add_image("picture", PICTURE, 1)
    log.add_histogram("weights", np.arange(10), 1)
    log.close()
    time.sleep(1.1)  # the name of the next file has another second
    log = SummaryWriter("tensorboard/lr_0.1/train", purge_step=2)
    for step in range(2, 5):
        log.add_scalar("loss", 0.5 / (step + 1), step)
    log.add_scalar("bad", float("nan"), 5)
    params = {"lr": 0.1, "depth": 3, "optimizer": "adam", "flag": True}
    log.add_hparams(params, {"hparam/accuracy": 0.5}, name="hparams")
    log.close()
    writer = EventFileWriter("tensorboard/second")
    for step in range(3):
        summary = scalar_pb("loss", 2.0 * step)
        writer.add_event(event_pb2.Event(wall_time=1.7e9 + 0.25 + step, step=step, summary=summary))
    writer.add_event(event_pb2.Event(wall_time=1.7e9 + 9, step=3, summary=histogram_pb("weights", np.arange(10.0))))
    writer.close()
    shutil.copytree("tensorboard", folder / "tensorboard")


def make_wandb(folder: Path) -> None:
    """Write two offline runs, one of which ended with an error."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": str(Path.cwd()), "WANDB_SILENT": "true"}
    import wandb

    options: dict[str, Any] = {"project": "pendulum", "config": {"lr": 0.1, "net": {"depth": 3}}}
    run = wandb.init(id="abc12345", name="nice-name", notes="A note", tags=["a", "b"], group="g", **options)
    print("hello from the run")
    for step in range(3):
        run.log({"loss": 1 / (step + 1), "val": {"accuracy": step}})
    run.log({"loss": float("nan"), "picture": wandb.Image(PICTURE.transpose(1, 2, 0)), "text": "end"})
    run.log({"weights": wandb.Histogram([1, 2, 3])}, step=10)
    run.summary["best"] = 0.5
    run.finish()
    run = wandb.init(id="fa11ed00", **options)
    run.log({"loss": 2.0})
    run.finish(exit_code=3)
    ignored = shutil.ignore_patterns("logs", "tmp", "latest-run", "debug*")
    shutil.copytree("wandb", folder / "wandb", ignore=ignored)
    for path in folder.rglob("requirements.txt"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


MAKERS: dict[str, Callable[[Path], None]] = {
    "mlruns": make_mlruns,
    "mlflow_db": make_mlflow_db,
    "sacred": make_sacred,
    "dvclive": make_dvclive,
    "tensorboard": make_tensorboard,
    "wandb": make_wandb,
}


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    for name in names or MAKERS:
        folder = FILES / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="notata-files-") as work:
            os.chdir(work)
            MAKERS[name](folder)
            os.chdir(FILES)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    (FILES / "versions.json").write_text(json.dumps(versions, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
