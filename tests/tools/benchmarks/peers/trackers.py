"""Libraries that record runs or their values on a local disk."""

from __future__ import annotations

import os
import uuid
from importlib import import_module
from typing import Any

from tests.tools.benchmarks.environments import DVCLIVE, SACRED, SIGNAC, TENSORBOARD, TRACKIO
from tests.tools.benchmarks.peers.base import LINES, METRICS, PARAMS, Peer, log_line, row


class Sacred(Peer):
    """sacred with a `FileStorageObserver`; it records the standard output, here as Python code prints it."""

    environment = SACRED

    def begin(self) -> None:
        sacred: Any = import_module("sacred")
        observers: Any = import_module("sacred.observers")
        sacred.SETTINGS.CAPTURE_MODE = "sys"
        self.experiment = sacred.Experiment("benchmark", save_git_info=False)
        self.experiment.logger = _quiet_logger()
        self.experiment.observers.append(observers.FileStorageObserver(f"{self.site.url}/sacred"))
        self.experiment.add_config(seed=0, **PARAMS)

        def main(_run: Any) -> None:
            for step in range(LINES):
                print(log_line(step))
            for name, value in METRICS.items():
                _run.log_scalar(name, value)

        self.experiment.main(main)

    def run_once(self, number: int) -> None:
        self.experiment.run(config_updates={"seed": number})


def _quiet_logger() -> Any:
    import logging

    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.ERROR)
    return logger


class Signac(Peer):
    """signac: a job of its state point, its document, and a file of lines. It has no log of its own."""

    environment = SIGNAC

    def begin(self) -> None:
        self.project: Any = import_module("signac").init_project(f"{self.site.url}/signac")

    def run_once(self, number: int) -> None:
        job = self.project.open_job(PARAMS | {"seed": number}).init()
        with open(job.fn("log.txt"), "a") as file:
            file.writelines(f"{log_line(step)}\n" for step in range(LINES))
        job.document.update(METRICS)


class TensorBoard(Peer):
    """The writer of tensorboardX: a queue, a thread, and a file that is flushed every two minutes."""

    environment = TENSORBOARD

    def begin(self) -> None:
        self.writer: Any = import_module("tensorboardX").SummaryWriter(f"{self.site.url}/tensorboard")

    def add(self, number: int) -> None:
        for name, value in row(number).items():
            self.writer.add_scalar(name, value, number)

    def settle(self) -> None:
        self.writer.flush()

    def end(self) -> None:
        self.writer.close()


class DVCLive(Peer):
    """DVCLive without Git and DVC: each step appends to a file for each value, and rewrites a summary."""

    environment = DVCLIVE

    def begin(self) -> None:
        os.chdir(self.site.url)  # it would initialize DVC in the repository of the current folder
        os.environ |= {"DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true"}
        self.live = self._live("dvclive")

    def _live(self, name: str) -> Any:
        live: Any = import_module("dvclive").Live
        return live(f"{self.site.url}/{name}", save_dvc_exp=False, dvcyaml=False, report=None)

    def run_once(self, number: int) -> None:
        live = self._live(f"run-{number}")
        live.log_params(PARAMS | {"seed": number})
        with open(f"{self.site.url}/run-{number}/log.txt", "a") as file:
            file.writelines(f"{log_line(step)}\n" for step in range(LINES))
        for name, value in METRICS.items():
            live.log_metric(name, value)
        live.end()

    def add(self, number: int) -> None:
        for name, value in row(number).items():
            self.live.log_metric(name, value)
        self.live.next_step()

    def end(self) -> None:
        self.live.end()


class Trackio(Peer):
    """trackio without a server: a queue in memory, from which a thread writes to a SQLite file."""

    environment = TRACKIO

    def begin(self) -> None:
        os.environ |= {"TRACKIO_DIR": f"{self.site.url}/trackio", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        self.trackio: Any = import_module("trackio")
        self._init({})

    def _init(self, config: dict[str, Any]) -> None:
        options = {"auto_log_gpu": False, "auto_log_cpu": False, "embed": False}
        self.trackio.init(project="benchmark", name=uuid.uuid4().hex, config=config, **options)

    def run_once(self, number: int) -> None:
        self._init(PARAMS | {"seed": number})
        self.trackio.log({"lines": "\n".join(map(log_line, range(LINES))), **METRICS})
        self.trackio.finish()

    def add(self, number: int) -> None:
        self.trackio.log(row(number), step=number)

    def end(self) -> None:
        self.trackio.finish()
