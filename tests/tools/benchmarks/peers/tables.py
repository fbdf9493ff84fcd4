"""Tables of many runs on a local disk, each as its library keeps them.

The other libraries write one run. The others are rows of the same database, or files like those of the one run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tests.tools.benchmarks.environments import MLFLOW, SIGNAC
from tests.tools.benchmarks.peers.base import Peer

_METHODS: Final = ("euler", "midpoint", "rk4", "verlet")
_METRICS: Final = [f"metric_{number}" for number in range(10)]
_BEGAN: Final = 1_793_491_200_000  # milliseconds
_AT_ONCE: Final = 10_000


def _params(number: int) -> dict[str, Any]:
    """Return the five parameters of a run, as those of notata's rows."""
    return {
        "depth": number % 7 + 2,
        "dt": (number % 1000 + 1) / 1000,
        "method": _METHODS[number % 4],
        "omega": number % 97 / 8,
        "seed": number,
    }


def _metrics(number: int) -> dict[str, float]:
    return {name: ((number * 7919 + place * 104729) % 1_000_003) / 1_000_003 for place, name in enumerate(_METRICS)}


class Tables(Peer):
    """notata: experiments with and without an index.csv, runs without an experiment, and an index of very many runs."""

    def fill_runs(self, count: int) -> str:
        """Write the runs, and return their folder."""
        from tests.tools.benchmarks.runs import write_small_runs

        write_small_runs(Path(self.site.url), count)
        return self.site.url

    def open_runs(self, where: str, kind: str) -> None:
        """Prepare to read: an experiment with a current index.csv, without one (``bare``), or runs ``outside``."""
        import pandas as pd  # noqa: F401  imported before the time is taken, as in a notebook

        from notata import search  # noqa: F401

        self.where = Path(where, "outside" if kind == "outside" else "sweep")
        index, kept = self.where / "index.csv", self.where / ".kept.csv"
        if kind == "bare" and index.exists():
            index.rename(kept)
        if kind == "indexed" and kept.exists():
            kept.rename(index)

    def read_runs(self) -> int:
        """Return the number of rows of a DataFrame of all runs."""
        from notata import search

        return len(search.table(str(self.where)).to_pandas())

    def fill_index(self, count: int) -> dict[str, Any]:
        """Write the index of a sweep as its writers leave it, and return its size."""
        from notata.store import open_store
        from tests.tools.benchmarks.index.layout import fill

        store = open_store(self.site.url, self.site.options)
        fill(store, count)
        entries = store.list("index")
        return {"parts": len(entries), "size": sum(entry.size for entry in entries)}

    def open_index(self) -> None:
        """Import packages and connect."""
        import pandas as pd  # noqa: F401

        from notata import ExperimentReader, search  # noqa: F401
        from notata.store import open_store

        self.opened = open_store(self.site.url, self.site.options, timeout=120)
        self.opened.exists("warm")

    def read_index(self) -> int:
        """Read the index alone."""
        from notata.table import read_index

        found = read_index(self.opened)
        return len(found.rows) if found else 0

    def read_table(self, limit: int | None = None) -> int:
        """Read the rows of all runs, or of the first ones by a metric."""
        from notata import search

        return len(search.table(self.opened, sort="loss", limit=limit) if limit else search.table(self.opened))

    def read_frame(self) -> int:
        """Read a DataFrame of all runs."""
        from notata import ExperimentReader

        return len(ExperimentReader(self.opened).to_pandas())

    def sweep_traffic(self, count: int, writers: int) -> dict[str, Any]:
        """Count what a sweep of an hour sends for its index to a bucket in memory, by a simulated clock."""
        from dataclasses import asdict

        from tests.tools.benchmarks.index.sweeps import measure

        found = measure(count, writers)
        return asdict(found) | {"ratio": found.ratio}


class MLflowTable(Peer):
    """MLflow: `mlflow.search_runs` of a SQLite file, without its server."""

    environment = MLFLOW

    def _open(self) -> Any:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
        import logging

        logging.disable(logging.WARNING)
        mlflow: Any = import_module("mlflow")
        mlflow.set_tracking_uri(f"sqlite:///{self.site.url}/mlflow.db")
        return mlflow

    def fill_runs(self, count: int) -> str:
        """Let MLflow create its database and one run, and insert the others as rows of the same tables by SQL."""
        mlflow = self._open()
        experiment = mlflow.create_experiment("sweep", artifact_location=f"file://{self.site.url}/artifacts")
        with mlflow.start_run(experiment_id=experiment, run_name="run-0"):
            mlflow.log_params(_params(0))
            mlflow.log_metrics(_metrics(0))
        import sqlite3

        with sqlite3.connect(f"{self.site.url}/mlflow.db") as database:
            for first in range(1, count, _AT_ONCE):
                _insert(database, experiment, range(first, min(first + _AT_ONCE, count)))
        return self.site.url

    def open_runs(self, where: str, kind: str) -> None:
        """Import the library."""
        self.mlflow = self._open()
        import_module("pandas")

    def read_runs(self) -> int:
        """Return the number of rows of a DataFrame of all runs."""
        return len(self.mlflow.search_runs(experiment_names=["sweep"], max_results=50_000))


def _insert(database: Any, experiment: str, numbers: range) -> None:
    ids = {number: f"{number:032x}" for number in numbers}
    insert = "INSERT INTO {} ({}) VALUES ({})"

    def add(table: str, columns: str, values: Any) -> None:
        marks = ", ".join("?" * len(columns.split(", ")))
        database.executemany(insert.format(table, columns, marks), values)

    columns = "run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, "
    columns += "source_version, lifecycle_stage, artifact_uri, experiment_id"
    fixed = ("UNKNOWN", "", "", "user", "FINISHED")
    add(
        "runs",
        columns,
        (
            (id_, f"run-{number}", *fixed, _BEGAN + number, _BEGAN + number + 60_000, "", "active", "", experiment)
            for number, id_ in ids.items()
        ),
    )
    add("params", "key, value, run_uuid", ((k, str(v), ids[n]) for n in numbers for k, v in _params(n).items()))
    metrics = [(k, v, _BEGAN + n, 0, False, ids[n]) for n in numbers for k, v in _metrics(n).items()]
    for table in ("metrics", "latest_metrics"):
        add(table, "key, value, timestamp, step, is_nan, run_uuid", metrics)
    tags = (("mlflow.runName", "run-{}"), ("mlflow.user", "user"), ("mlflow.source.type", "LOCAL"))
    add("tags", "key, value, run_uuid", ((k, v.format(n), ids[n]) for n in numbers for k, v in tags))


class SignacTable(Peer):
    """signac: `to_dataframe` of a project."""

    environment = SIGNAC

    def fill_runs(self, count: int) -> str:
        """Make a project with one job by signac, and the others as the same files with its own ids."""
        signac: Any = import_module("signac")
        calc_id: Callable[[Any], str] = import_module("signac.job").calc_id
        folder = f"{self.site.url}/signac"
        project = signac.init_project(folder)
        job = project.open_job(_params(0)).init()
        job.document.update(_metrics(0))
        names = sorted(path.name for path in Path(job.path).iterdir())
        point, document = "signac_statepoint.json", "signac_job_document.json"
        assert names == sorted((point, document)), names
        for number in range(1, count):
            inside = Path(project.workspace, calc_id(_params(number)))
            inside.mkdir()
            (inside / point).write_text(json.dumps(_params(number)))
            (inside / document).write_text(json.dumps(_metrics(number)))
        return folder

    def open_runs(self, where: str, kind: str) -> None:
        """Import the library, and open the project."""
        import_module("pandas")
        self.project: Any = import_module("signac").get_project(where)

    def read_runs(self) -> int:
        """Return the number of rows of a DataFrame of all jobs."""
        return len(self.project.to_dataframe())
