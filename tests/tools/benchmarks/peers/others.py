"""Other ways to keep runs: notata 0.3.0, a plain port of it to UPath, MLflow."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.tools.benchmarks.environments import MLFLOW, OLD
from tests.tools.benchmarks.peers.base import (
    LINES,
    METRICS,
    PARAMS,
    Peer,
    UnavailableError,
    dump,
    load,
    log_line,
    payload,
    row,
)
from tests.tools.benchmarks.sites import Site


class Old(Peer):
    """notata 0.3.0 from PyPI, on a local disk."""

    environment = OLD

    def begin(self) -> None:
        self.log: Any = import_module("notata").Logbook(uuid.uuid4().hex, self.site.url, {"omega": 2.0})

    def store(self, number: int) -> None:
        self.log.json(f"a{number}", payload(number))

    def end(self) -> None:
        self.log.mark_complete()


class Port(Peer):
    """The same calls as 0.3.0, with UPath instead of Path.

    For each artifact it creates the folder, writes the file and appends a line to log.txt. gcsfs cannot append, so
    there the log contains only its last line.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        from upath import UPath

        self.base = UPath(site.url, **site.options)

    def begin(self) -> None:
        self._path = self.base / f"log_{uuid.uuid4().hex}"
        if self._path.exists():
            raise FileExistsError(self._path)
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / "params.yaml").open("w") as file:
            file.write("omega: 2.0\n")
        self._info("Saved params (yaml) in params.yaml")
        self._meta(status="initialized", start_time=_now(), run_id=self._path.name)
        self._info("Logbook initialized")

    def end(self) -> None:
        self._meta(status="complete", end_time=_now())
        self._info("Marked complete")

    def store(self, number: int) -> None:
        path = self._path / "artifacts" / f"a{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            json.dump(payload(number), file, indent=2)
        self._info(f"Saved JSON a{number} in artifacts/a{number}.json")

    def lines(self, count: int) -> dict[str, Any]:
        from tests.counting import counted

        self.begin()
        with counted() as sent:
            for number in range(count):
                self._info(f"step {number:7d} residual {1.0 / (number + 1):.6e}")
        stored = (self._path / "log.txt").read_bytes()
        whole = stored.count(b"\n") == count + 2
        return {"size": len(stored), "sent": sent.bytes, "requests": len(sent), "whole": whole}

    def table(self, where: str, few: int) -> int:
        import yaml
        from upath import UPath

        rows = []
        for run in list((UPath(where, **self.site.options) / "runs").iterdir())[:few]:
            row = {"run_id": run.name, **_read(run / "metadata.json", json.load)}
            row |= _read(run / "params.yaml", yaml.safe_load) | _read(run / "artifacts" / "metrics.json", json.load)
            rows.append(row)
        return len(rows)

    def _info(self, message: str) -> None:
        with (self._path / "log.txt").open("a") as file:
            file.write(f"[{_now()}] INFO {message}\n")

    def _meta(self, **fields: Any) -> None:
        target = self._path / "metadata.json"
        known = _read(target, json.load)
        with target.open("w") as file:  # without a rename: a UPath in a bucket has no replace()
            json.dump(known | fields, file, indent=2, sort_keys=True)


class MLflow(Peer):
    """MLflow without its server: runs in a SQLite file on the local disk, artifacts in the usual place."""

    environment = MLFLOW

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
        if site.protocol == "s3":
            os.environ |= {
                "MLFLOW_S3_ENDPOINT_URL": site.options["endpoint_url"],
                "AWS_ACCESS_KEY_ID": site.options["key"],
                "AWS_SECRET_ACCESS_KEY": site.options["secret"],
            }
        elif site.protocol == "gs":
            os.environ |= {"STORAGE_EMULATOR_HOST": site.options["endpoint_url"]}
            raise UnavailableError("it asks for Google credentials, which an emulator does not have")
        self.mlflow: Any = import_module("mlflow")
        self.mlflow.set_tracking_uri(f"sqlite:///{site.scratch}/mlflow-{os.getpid()}.db")
        self.experiment = self.mlflow.create_experiment("benchmark", artifact_location=f"{site.url}/mlflow")

    def begin(self) -> None:
        self.mlflow.end_run()
        self.run = self.mlflow.start_run(experiment_id=self.experiment)
        self.mlflow.log_params({"omega": 2.0})

    def end(self) -> None:
        self.mlflow.end_run()

    def store(self, number: int) -> None:
        self.mlflow.log_dict(payload(number), f"a{number}.json")

    def add(self, number: int) -> None:
        self.mlflow.log_metrics(row(number), step=number)

    def many(self, count: int, few: int) -> int:
        """Call ``log_artifacts`` for a folder; it uploads file by file."""
        with tempfile.TemporaryDirectory(dir=self.site.scratch) as folder:
            for number in range(few):
                Path(folder, f"a{number}.json").write_text(json.dumps(payload(number)))
            self.mlflow.log_artifacts(folder)
        return few

    def run_once(self, number: int) -> None:
        with self.mlflow.start_run(experiment_id=self.experiment):
            self.mlflow.log_params(PARAMS | {"seed": number})
            self.mlflow.log_text("".join(f"{log_line(step)}\n" for step in range(LINES)), "log.txt")
            self.mlflow.log_metrics(METRICS)

    def up(self, form: str) -> str:
        with tempfile.TemporaryDirectory(dir=self.site.scratch) as folder:
            path = Path(folder, f"large.{form}")
            with path.open("wb") as file:
                dump(self.array, form, file)
            self.mlflow.log_artifact(str(path))
        return f"{self.run.info.artifact_uri}/large.{form}"

    def down(self, form: str, where: str) -> None:
        with tempfile.TemporaryDirectory(dir=self.site.scratch) as folder:
            path = self.mlflow.artifacts.download_artifacts(artifact_uri=where, dst_path=folder)
            with open(path, "rb") as file:
                self.found = load(form, file)


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")


def _read(path: Any, load: Any) -> dict[str, Any]:
    if not path.exists():
        return {}
    with path.open() as file:
        found: dict[str, Any] = load(file) or {}
    return found
