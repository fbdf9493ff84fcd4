"""``notata sweep``: processes that share a space, exit codes, output, errors of the task and the space."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from notata import Experiment
from notata.cli import main
from tests.command import notata, terminal
from tests.nursery import Script

TASK = """
import os, signal
from pathlib import Path

def solve(log, x, scale):
    log.scalars(step=0, x=x)
    return {"y": scale * x}

def odd(log, x, scale):
    if x % 2:
        raise ValueError("x is odd")

def stop(log, x, scale):
    os.kill(os.getpid(), signal.SIGTERM)

def killed_once(log, x, scale):
    mark = Path("killed.txt")
    if x == 1 and not mark.exists():
        mark.write_text(log.run_id)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": scale * x}

class Model:
    def solve(log, x, scale):
        return {"y": 0.5}
"""
SPACE = """
experiment = "lines"
base_dir = "runs"
[fixed]
scale = 10
[grid]
x = { range = [6] }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    name = f"task_{tmp_path.name}"  # a module of this name stays imported
    (tmp_path / f"{name}.py").write_text(TASK)
    (tmp_path / "space.toml").write_text(SPACE)
    return tmp_path


def task(folder: Path, function: str = "solve") -> str:
    return f"task_{folder.name}.py:{function}"


def test_a_sweep_from_the_first_point_to_the_table(folder: Path) -> None:
    done = notata("sweep", "run", task(folder), "space.toml", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{folder}/runs/lines: 6 complete in ")
    with open(folder / "runs/lines/index.csv") as file:
        assert sorted((int(row["x"]), int(row["y"])) for row in csv.DictReader(file)) == [(x, 10 * x) for x in range(6)]
    again = notata("sweep", "run", task(folder), "space.toml", "--json", folder=folder)
    said = json.loads(again.stdout)
    assert (said.pop("seconds") >= 0, said) == (
        True,
        {
            "url": f"{folder}/runs/lines",
            "complete": 0,
            "skipped": 6,
            "failed": 0,
            "busy": 0,
            "remaining": 0,
            "failures": [],
        },
    )


def test_place_and_name_as_options(folder: Path) -> None:
    arguments = ["--base-dir", "memory://sweep-command", "--experiment", "other"]
    assert notata("sweep", "run", task(folder), "space.toml", *arguments, folder=folder).returncode == 0
    assert len(Experiment("other", "memory://sweep-command").reader.table()) == 6
    assert not (folder / "runs").exists()
    done = notata("sweep", "status", "space.toml", *arguments, folder=folder)
    assert done.stdout == "complete\t6\nfailed\t0\nrunning\t0\ndied\t0\n"


def test_failures_are_printed_and_set_the_exit_code(folder: Path) -> None:
    done = notata("sweep", "run", task(folder, "odd"), "space.toml", "--retries", "1", folder=folder)
    assert done.returncode == 1
    assert "3 complete, 3 failed in" in done.stdout
    assert sorted(set(done.stderr.splitlines())) == [f"failed: lines_scale_10_x_{x}: x is odd" for x in (1, 3, 5)]
    assert len(done.stderr.splitlines()) == 6
    done = notata("sweep", "run", task(folder, "odd"), "space.toml", "--retries", "0", "--json", folder=folder)
    assert sorted(one["params"]["x"] for one in json.loads(done.stdout)["failures"]) == [1, 3, 5]
    status = notata("sweep", "status", "space.toml", "--json", folder=folder)
    found = json.loads(status.stdout)
    assert (found["points"], found["complete"], found["failed"], found["not_begun"]) == (6, 3, 3, 0)
    url = notata("sweep", "status", "runs/lines", folder=folder)
    assert url.stdout == "complete\t3\nfailed\t3\nrunning\t0\ndied\t0\n"


def test_a_process_that_gets_sigterm_leaves_points_to_the_next_one(folder: Path) -> None:
    first = Script("notata", ["sweep", "run", task(folder, "stop"), "space.toml"], folder=folder)
    stdout, stderr = first.communicate()
    assert (first.returncode, stderr) == (75, "")
    assert "up to 6 remain" in stdout
    (path,) = (folder / "runs/lines/runs").iterdir()
    assert json.loads((path / "metadata.json").read_text())["failure_reason"] == "SIGTERM"
    assert notata("sweep", "run", task(folder), "space.toml", folder=folder).returncode == 0


def test_the_time_limit(folder: Path) -> None:
    done = notata("sweep", "run", task(folder), "space.toml", "--time-limit", "0", folder=folder)
    assert (done.returncode, done.stdout.split(": ")[1].split(" in ")[0]) == (75, "up to 6 remain")
    environment = {"SLURM_JOB_END_TIME": "1"}
    done = notata("sweep", "run", task(folder), "space.toml", folder=folder, **environment)
    assert done.returncode == 75
    done = notata("sweep", "run", task(folder), "space.toml", "--time-limit", "1h", folder=folder)
    assert (done.returncode, "such as 3:50:00" in done.stderr) == (2, True)


def test_a_job_array_is_recognised(folder: Path) -> None:
    environment = {"SLURM_ARRAY_JOB_ID": "99", "SLURM_CLUSTER_NAME": "c"}
    notata("sweep", "run", task(folder), "space.toml", folder=folder, **environment)
    notata("sweep", "run", task(folder), "space.toml", "--job", "mine", folder=folder, **environment)
    assert sorted(os.listdir(folder / "runs/lines/sweeps")) == ["mine.json", "slurm-c-99.json"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", ".notata-a", "a\n", "x" * 101, "\x1b[31m"])
def test_a_job_has_the_name_of_a_file(name: str, folder: Path) -> None:
    ended = notata("sweep", "run", task(folder), "space.toml", "--job", name, folder=folder)
    assert ended.returncode == 2
    assert "it becomes a file name, so use 1 to 100 letters, digits" in ended.stderr
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_name_that_no_experiment_can_have(command: str, folder: Path) -> None:
    given = [task(folder)] if command == "run" else []
    ended = notata("sweep", command, *given, "space.toml", "--experiment", "../x", folder=folder)
    assert ended.returncode == 2
    assert "'../x' is not a valid name for an experiment: it has the segment '..', which could leave" in ended.stderr


@pytest.mark.slow
def test_workers_share_the_points_and_replace_one_that_is_killed(folder: Path) -> None:
    done = Script(
        "notata", ["sweep", "run", task(folder, "killed_once"), "space.toml", "--workers", "2"], folder=folder
    )
    stdout, stderr = done.communicate()
    assert done.returncode == 0, stderr
    assert stderr == "Warning: a process has ended by signal 9; another one replaces it\n"
    assert "6 complete in" in stdout
    with open(folder / "runs/lines/index.csv") as file:
        assert sorted(int(row["y"]) for row in csv.DictReader(file)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.slow
def test_sigterm_is_passed_on_to_workers(folder: Path) -> None:
    (folder / "wait.py").write_text(
        "import time\ndef wait(log, x, scale):\n    print('begun', flush=True)\n    time.sleep(60)\n"
    )
    done = Script("notata", ["sweep", "run", "wait.py:wait", "space.toml", "--workers", "2"], folder=folder)
    assert [done.stdout.readline() for _ in range(2)] == ["begun\n", "begun\n"]
    done.send_signal(signal.SIGTERM)
    stdout, stderr = done.communicate()
    assert (done.returncode, stderr) == (75, "")
    assert "up to 6 remain" in stdout
    reasons = [json.loads(path.read_text())["failure_reason"] for path in folder.rglob("metadata.json")]
    assert reasons == ["SIGTERM", "SIGTERM"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("solve", "invalid task 'solve': write MODULE:TASK"),
        ("task.py:", "invalid task 'task.py:'"),
        ("none.py:solve", "there is no file none.py"),
        ("no_such_module:solve", "cannot import no_such_module: ModuleNotFoundError"),
        ("broken.py:solve", "cannot import broken.py: ZeroDivisionError: division by zero. --debug shows"),
        ("json.py:solve", "another module is called json; rename the file"),
        ("TASK:slove", "there is no function 'slove' in TASK; it has Model, killed_once, odd, solve, stop"),
    ],
)
def test_tasks_that_cannot_be_found(name: str, said: str, folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "json.py").write_text("def solve(log): ...\n")
    if name.startswith("TASK"):
        name, said = (text.replace("TASK", f"task_{folder.name}") for text in (name, said))
    done = notata("sweep", "run", name, "space.toml", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_modules_of_the_current_folder_and_methods(folder: Path) -> None:
    name = f"task_{folder.name}:Model.solve"
    assert notata("sweep", "run", name, "space.toml", folder=folder).returncode == 0
    assert {row["y"] for row in Experiment("lines", folder / "runs").reader.table()} == {0.5}


def test_a_space_with_a_mistake(folder: Path) -> None:
    (folder / "space.toml").write_text("[grid]\nx = 3\n")
    for arguments in (["run", task(folder)], ["status"]):
        done = notata("sweep", *arguments, "space.toml", folder=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert "space.toml, line 2: grid.x is 3; write a list of values" in done.stderr


def test_status_of_places_without_runs(folder: Path) -> None:
    done = notata("sweep", "status", "runs/none", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: " in done.stderr
    assert notata("sweep", "status", "space.toml", folder=folder).stdout.endswith("not begun\t6\n")
    done = notata("sweep", "status", "runs/lines", "--base-dir", "x", folder=folder)
    assert (done.returncode, "a URL names the experiment itself" in done.stderr) == (2, True)


def test_status_for_people(folder: Path) -> None:
    code, shown = terminal("sweep", "status", "space.toml", folder=folder, NO_COLOR="1")
    lines = shown.decode().splitlines()
    assert (code, lines[0]) == (0, f"{folder}/runs/lines: 6 points")
    assert [line.split() for line in lines[1:]] == [
        ["status", "points", "share"],
        *([state, "0", "0.0", "%"] for state in ("complete", "failed", "running", "died")),
        ["not", "begun", "6", "100.0", "%"],
    ]


def test_functions_of_a_file_are_completed_without_an_import(folder: Path) -> None:
    (folder / "broken.py").write_text("def solve(log): ...\ndef solve_all(log): ...\ndef other(log): ...\n1 / 0\n")

    def complete(word: str) -> list[str]:
        words = ["notata", "sweep", "run", word]
        asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": "3", "_NOTATA_COMPLETE": "zsh_complete"}
        return notata(folder=folder, **asked).stdout.splitlines()[1::3]

    assert complete("broken.py:so") == ["broken.py:solve", "broken.py:solve_all"]
    assert complete("none.py:so") == []
    assert {"run", "status"} == set(getattr(main.commands["sweep"], "commands", {}))
    assert sys.modules.get("broken") is None
