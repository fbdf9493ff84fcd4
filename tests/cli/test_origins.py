"""``show`` and ``compare`` of where a run comes from: its code, its job, its inputs, and its parent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from notata import Logbook
from notata.search import compare
from tests.command import notata

CLEAN = {"commit": "3f" * 20, "branch": "main", "dirty": False}
CHANGED = {**CLEAN, "dirty": True, "patch": {"size": 1200, "sha256": "9a" * 32}}


def write(folder: Path, run_id: str, **environment: Any) -> Path:
    """Write a run whose environment has these fields."""
    Logbook(run_id, folder, code=False).mark_complete()
    path = folder / f"log_{run_id}" / "metadata.json"
    fields = json.loads(path.read_text())
    fields["environment"] |= environment
    path.write_text(json.dumps(fields))
    return folder / f"log_{run_id}"


def shown(folder: Path, run_id: str) -> dict[str, str]:
    """Return the facts that show prints about a run, by name."""
    done = notata("show", f"log_{run_id}", folder=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n\n")[0].splitlines()[1:]
    return {name: value for name, _, value in (line.strip().partition("  ") for line in lines)}


@pytest.mark.parametrize(
    ("git", "expected"),
    [
        (CLEAN, "3f3f3f3f3f3f, main"),
        ({**CLEAN, "dirty": True}, "3f3f3f3f3f3f, main, with changes"),
        (CHANGED, "3f3f3f3f3f3f, main, with changes (patch of 1.2 kB)"),
        ({**CLEAN, "patch": {"size": 5, "redacted": True, "omitted": [{"path": "x"}]}},
         "3f3f3f3f3f3f, main, with changes (patch of 5 B, secrets redacted, incomplete)"),
        ({**CLEAN, "patch": {"size": "\x1b[31m", "omitted": 5}}, "3f3f3f3f3f3f, main"),
        ({**CLEAN, "patch": ["forged"]}, "3f3f3f3f3f3f, main"),
    ],
)  # fmt: skip
def test_show_says_how_the_code_was_changed(git: dict[str, Any], expected: str, tmp_path: Path) -> None:
    write(tmp_path, "a", git=git)
    assert shown(tmp_path, "a")["git"].strip() == expected


def test_show_names_job_parent_and_inputs(tmp_path: Path) -> None:
    write(tmp_path, "a", scheduler={"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4\x1b[31m"})
    facts = shown(tmp_path, "a")
    assert facts["job"].strip() == "SLURM_JOB_ID=4711, SLURM_NTASKS=4\\x1b[31m"
    with Logbook("b", tmp_path, parent=tmp_path / "log_a") as log:
        for number in range(25):
            log.input(log.text(f"{number:02}", "x" * number), digest=False)
        log.input(tmp_path / "log_a" / "log.txt")
    assert shown(tmp_path, "b")["parent"].strip() == str(tmp_path / "log_a")
    done = notata("show", "log_b", folder=tmp_path)
    inputs = next(part for part in done.stdout.split("\n\n") if part.startswith("inputs"))
    assert len(inputs.splitlines()) == 22
    assert inputs.splitlines()[-1].split() == ["…", "and", "6", "more"]
    record = json.loads(notata("show", "--json", "log_b", folder=tmp_path).stdout)
    assert len(record["inputs"]) == 26
    assert (record["inputs"][-1]["run_id"], record["parent"]) == ("a", str(tmp_path / "log_a"))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (CLEAN, CLEAN, "equal"),
        (CHANGED, CHANGED, "equal"),
        (CLEAN, {**CLEAN, "commit": "4a" * 20}, "changed"),
        (CLEAN, CHANGED, "changed"),
        (CHANGED, {**CHANGED, "patch": {"size": 1200, "sha256": "9b" * 32}}, "changed"),
        (CLEAN, {**CLEAN, "dirty": True}, "unknown"),  # of an earlier version, or without a patch
        ({**CLEAN, "dirty": True}, {**CLEAN, "dirty": True}, "unknown"),
        (CLEAN, None, "unknown"),
        (CLEAN, {"commit": 5}, "unknown"),
    ],
)
def test_compare_says_whether_the_code_differs(a: Any, b: Any, expected: str, tmp_path: Path) -> None:
    paths = [write(tmp_path, name, git=git) for name, git in (("a", a), ("b", b))]
    found = compare(*paths)
    assert found.code == expected
    assert compare(*reversed(paths)).code == expected


def test_facts_of_the_job_and_repeated_arguments_do_not_count(tmp_path: Path) -> None:
    for name, job in (("a", "1"), ("b", "2")):
        write(
            tmp_path,
            name,
            scheduler={"SLURM_JOB_ID": job, "SLURM_NTASKS": "4"},
            argv=["fit.py", name],
            command=["python", "fit.py", name],
        )
    items = {item.name: item for item in compare(tmp_path / "log_a", tmp_path / "log_b", only=["environment"]).items}
    assert not items["scheduler.SLURM_JOB_ID"].counts
    assert items["scheduler.SLURM_NTASKS"].change == "equal"
    assert (items["argv"].change, items["command"].change) == ("changed", "equal")


def test_other_inputs_are_a_difference_and_other_times_are_not(tmp_path: Path) -> None:
    for name in ("mesh 1.h5", "mesh 2.h5"):
        (tmp_path / name).write_text(name)
    for run_id, inputs in (("a", ["mesh 1.h5"]), ("b", ["mesh 1.h5"]), ("c", ["mesh 2.h5"])):
        with Logbook(run_id, tmp_path, code=False) as log:
            for name in inputs:
                log.input(tmp_path / name)
    same, other = (compare(tmp_path / "log_a", tmp_path / f"log_{name}", only=["run", "files"]) for name in "bc")
    assert not same.differs
    named = {item.name: item.change for item in other.differences if item.counts}
    assert named == {
        f'inputs."{tmp_path}/mesh 1.h5"': "only_a",
        f'inputs."{tmp_path}/mesh 2.h5"': "only_b",
    }
