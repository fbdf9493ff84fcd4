"""Programs in Fortran and C, compiled once, and places to record them at: a disk and S3."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import Place

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.programs)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the compiled programs."""
    folder = tmp_path_factory.mktemp("built")
    for compiler, source, name in (("gfortran", "solver.f90", "fortran"), ("cc", "solver.c", "c"),
                                   ("mpicc", "ranks.c", "ranks")):  # fmt: skip
        assert shutil.which(compiler), f"no {compiler}: apt-get install gfortran openmpi-bin libopenmpi-dev"
        subprocess.run([compiler, "-o", str(folder / name), str(HERE / source)], check=True, cwd=folder)
    return folder


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        yield Place("local", str(tmp_path / "runs"))
        return
    server = request.getfixturevalue("moto_server")
    place = Place("s3", f"{server.url}/{uuid.uuid4().hex}", server.options)
    yield place
    place.store().clear()


@pytest.fixture(autouse=True)
def _mpi_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Open MPI start more ranks than there are processors, also as root in a container."""
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", "/tmp"))
