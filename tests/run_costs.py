"""Print what whole runs on a disk cost, as JSON: ``python -m tests.run_costs FOLDER``.

In a new process, as the modules, open files and threads of other tests add calls.
"""

from __future__ import annotations

import cProfile
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from notata import Experiment, Logbook
from tests.unhurried import wait_for_git
from tests.watched import watched_system

LINES = 10


def whole_run(folder: Path, run_id: str, *, environment: bool = False, code: bool = False) -> None:
    params = {"omega": 2.0, "scheme": "leapfrog"}
    with Logbook(run_id, folder, params=params, environment=environment, code=code) as log:
        for step in range(LINES):
            log.info("step %d", step)
        log.json("metrics", {"energy": 0.5})


def short_runs(folder: Path) -> None:
    for number in range(20):
        whole_run(folder, f"run-{number}")


def point(experiment: Experiment, x: int) -> None:
    with experiment.add(x=x) as log:
        log.json("metrics", {"y": x * x})


def system_calls(call: Callable[[], object]) -> dict[str, int]:
    """Return how often each system call of the local store is made."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        watched_system(calls, monkeypatch)
        call()
    return Counter(calls)


def python_calls(call: Callable[[], object]) -> int:
    """Return the number of calls of Python functions and of functions in C."""
    profile = cProfile.Profile()
    profile.runcall(call)
    return sum(entry.callcount for entry in profile.getstats())


def threads_started(call: Callable[[], object]) -> list[str]:
    """Return the names of the threads that are started."""
    names: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        names.append(thread.name)
        start(thread)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(threading.Thread, "start", counted)
        call()
    return names


def changed_checkout(folder: Path) -> None:
    """Make a checkout with a changed file, and let this process believe that its script is there."""
    folder.mkdir()
    script = folder / "script.py"
    script.write_text("a = 1\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *command], cwd=folder, check=True)
    script.write_text("a = 2\n")
    sys.modules["__main__"].__file__ = str(script)


def main(folder: Path) -> dict[str, object]:
    experiment = Experiment("e", folder)
    threads = threads_started(lambda: short_runs(folder))
    for x in range(3):
        point(experiment, x)
    wait_for_git()
    changed_checkout(folder / "checkout")
    whole_run(folder, "warm", environment=True, code=True)
    return {
        "threads": threads,
        "system calls": {
            "run": system_calls(lambda: whole_run(folder, "run")),
            "run with code": system_calls(lambda: whole_run(folder, "run-with-code", environment=True, code=True)),
            "point": system_calls(lambda: point(experiment, 10)),
        },
        "python calls": {
            "run": python_calls(lambda: whole_run(folder, "a")),
            "run with environment": python_calls(lambda: whole_run(folder, "b", environment=True)),
            "run with code": python_calls(lambda: whole_run(folder, "c", environment=True, code=True)),
            "point": python_calls(lambda: point(experiment, 20)),
        },
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
