"""Replacements for what the documentation needs from the reader's machine: an MPI, a scheduler, a screen, a runner.

A function here runs before or after the one code block of a page that contains a text. It receives the names that the
page has defined, and pytest's `monkeypatch`, which is undone at the end of the page. So the pages show nothing of this,
and readers can copy each of their blocks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from notata import Logbook, LogReader

__all__ = ["Steps"]

Names: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[[Names, pytest.MonkeyPatch], object]

_BEFORE: Final[dict[tuple[str, str], Step]] = {}
_AFTER: Final[dict[tuple[str, str], Step]] = {}


class Steps:
    """The steps around the code blocks of one page; each must find its block."""

    def __init__(self, page: str, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        self._page, self._names, self._monkeypatch = page, names, monkeypatch
        self._left = [key for steps in (_BEFORE, _AFTER) for key in steps if key[0] == page]

    def before(self, block: str) -> None:
        """Run the steps before a block; save a block that begins with the comment ``# name.py`` as that file."""
        first, _, rest = block.partition("\n")
        if rest and first.startswith("# ") and first.endswith(".py"):
            Path(first[2:]).write_text(block, encoding="utf-8")
        self._run(_BEFORE, block)

    def after(self, block: str) -> None:
        self._run(_AFTER, block)

    def unused(self) -> list[str]:
        """Return the texts of steps whose block is not on the page (any more)."""
        return [text for _, text in self._left]

    def _run(self, steps: dict[tuple[str, str], Step], block: str) -> None:
        for key, step in steps.items():
            if key[0] == self._page and key[1] in block:
                self._left.remove(key)
                step(self._names, self._monkeypatch)


def before(page: str, text: str) -> Callable[[Step], Step]:
    """Run the function before the block of `page` that contains `text`."""
    return lambda step: _BEFORE.setdefault((page, text), step)


def after(page: str, text: str) -> Callable[[Step], Step]:
    """Run the function after the block of `page` that contains `text`."""
    return lambda step: _AFTER.setdefault((page, text), step)


def _script(name: str) -> str:
    return subprocess.run([sys.executable, name], capture_output=True, text=True, check=True).stdout


@before("how-to/importing.md", "import_runs(")
def _has_a_folder_of_mlflow(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.importing.sources import on_disk

    on_disk("mlruns", Path())


@before("how-to/plotting.md", "from matplotlib import pyplot")
def _no_screen(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("agg")


@after("how-to/testing.md", "def test_summarise(")
def _runs_the_first_test(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    names["test_summarise"](Logbook("first", "memory://testing-page"))


@after("how-to/testing.md", "def test_writes_one_file(")
def _runs_the_second_test(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    names["test_writes_one_file"](Logbook("second", "memory://testing-page"))


@after("how-to/failures.md", "notes = error.__notes__")
def _ends_the_run(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    Logbook("twice", names["store"], overwrite=True).mark_complete()


@before("how-to/formats.md", "oxygen = ")
def _installs_a_package_with_a_format(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    chemistry = types.ModuleType("chemistry_of_a_page")
    setattr(chemistry, "Xyz", names["Extxyz"])  # noqa: B010
    package = Path("site/chemistry_of_a_page-1.0.dist-info")
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: chemistry_of_a_page\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[notata.formats]\nxyz = chemistry_of_a_page:Xyz\n")
    monkeypatch.setitem(sys.modules, "chemistry_of_a_page", chemistry)
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parent.absolute())])


@before("how-to/formats.md", "found = search.describe(")
def _installs_another_version_of_it(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    setattr(sys.modules["chemistry_of_a_page"], "Xyz", names["DescribedXyz"])  # noqa: B010


@before("how-to/resuming.md", "# simulate.py")
def _a_job_of_slurm(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")


@before("how-to/workers.md", "# rank.py")
def _owner_of_rank_0(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    names["owner_of_the_test"] = Logbook("first", "outputs")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("RUN_URL", names["owner_of_the_test"].url)


@after("how-to/workers.md", "# rank.py")
def _ends_the_owner(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    names.pop("owner_of_the_test").mark_complete()
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("RUN_URL")


@before("how-to/workers.md", "from mpi4py import MPI")
def _an_mpi_of_one_rank(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    world = types.SimpleNamespace(rank=0, size=1, bcast=lambda value, root=0: value, Barrier=lambda: None)
    mpi = types.ModuleType("mpi4py")
    setattr(mpi, "MPI", types.SimpleNamespace(COMM_WORLD=world))  # noqa: B010
    monkeypatch.setitem(sys.modules, "mpi4py", mpi)


@after("how-to/workers.md", "from mpi4py import MPI")
def _all_ranks_are_done(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LogReader("outputs/log_channel").state.status == "complete"


@before("how-to/workers.md", "import torch.distributed as dist")
def _a_torch_of_one_rank(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    torch, distributed = types.ModuleType("torch"), types.ModuleType("torch.distributed")
    for name, value in {
        "init_process_group": lambda *_: None,
        "get_rank": lambda: 0,
        "broadcast_object_list": lambda values: None,
        "barrier": lambda: None,
    }.items():
        setattr(distributed, name, value)
    setattr(torch, "distributed", distributed)  # noqa: B010
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)


@after("how-to/workers.md", "import torch.distributed as dist")
def _all_shards_are_done(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.distributed")
    monkeypatch.delitem(sys.modules, "torch")
    assert LogReader("outputs/log_training").state.status == "complete"


@after("how-to/workers.md", "# pool.py")
def _runs_the_pool(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    _script("pool.py")


@after("tutorials/sweeps.md", "# sweep.py")
def _runs_the_sweep_twice(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _script("sweep.py") == "6 complete, 0 skipped\n"
    assert _script("sweep.py") == "0 complete, 6 skipped\n"


@before("tutorials/cluster.md", "# mpi_sweep.py")
def _has_an_mpi_pool(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    _has_module(monkeypatch, "mpi4py.futures", "MPIPoolExecutor")


@before("tutorials/cluster.md", "# ray_sweep.py")
def _has_ray(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    _has_module(monkeypatch, "ray")


@before("tutorials/cluster.md", "# slurm_sweep.py")
def _has_submitit(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    _has_module(monkeypatch, "submitit")


def _has_module(monkeypatch: pytest.MonkeyPatch, name: str, *attributes: str) -> None:
    """Let scripts import a module without effect; `tests/engines` runs these scripts with the real ones."""
    package = name.partition(".")[0]
    for each in {package, name}:
        monkeypatch.setitem(sys.modules, each, types.ModuleType(each))
    for attribute in attributes:
        setattr(sys.modules[name], attribute, object)


@before("tutorials/cluster.md", "# dask_sweep.py")
def _imports_from_the_current_folder(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(".")
    _has_module(monkeypatch, "distributed", "Client")
    setattr(sys.modules["distributed"], "LocalCluster", object)  # noqa: B010


@before("tutorials/cluster.md", "# array_task.py")
def _a_task_of_an_array(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")


@after("tutorials/cluster.md", "# array_task.py")
def _runs_the_whole_array(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    tasks = [
        subprocess.Popen([sys.executable, "array_task.py"], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)})
        for number in range(4)
    ]
    assert [task.wait() for task in tasks] == [0] * 4
