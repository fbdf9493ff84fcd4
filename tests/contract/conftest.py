"""The backends of the contract suite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata.growing import growing_file
from notata.run import journal, lease
from notata.store import Store
from notata.table import index
from tests.backends import Place

REAL = [pytest.param("seaweed", marks=pytest.mark.real)]
CEPH = pytest.param("ceph", marks=pytest.mark.real)
"""Slower, so only for modules that test differences between stores."""
_A_DAY = 86400.0
QUICK = ["memory", "local", "s3", "gcs"]
EVERYWHERE = [*QUICK, *REAL]
EACH_ENGINE = [*EVERYWHERE, pytest.param("obstore", marks=pytest.mark.real)]
BUCKETS = ["s3", "gcs", *REAL]


def make_place(name: str, request: pytest.FixtureRequest) -> Place:
    folder = uuid.uuid4().hex
    if name == "memory":
        return Place(name, f"memory://{folder}")
    if name == "local":
        tmp_path: Path = request.getfixturevalue("tmp_path")
        return Place(name, str(tmp_path / folder))
    if name == "obstore":  # the same store with another engine, whose requests are not counted
        server = request.getfixturevalue("seaweed_server")
        return Place("seaweed", f"{server.url}/{folder}", {**server.options, "engine": "obstore"})
    servers = {"s3": "moto_server", "gcs": "gcs_server", "seaweed": "seaweed_server", "ceph": "ceph_server"}
    server = request.getfixturevalue(servers[name])
    return Place(name, f"{server.url}/{folder}", server.options)


def emptied(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Yield the place named by a fixture's parameter, and clear it afterwards."""
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture(params=EVERYWHERE)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty folder on each backend; modules that test an engine add that engine for each S3 server."""
    yield from emptied(request)


@pytest.fixture(params=BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty folder in each kind of bucket."""
    yield from emptied(request)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is triggered by elapsed time, so tests that count requests do not depend on the speed of the machine.

    The clock of logs and series stands still: lines wait for a flush or the end of the run.
    """
    for writer in (journal.Journal, growing_file.GrowingFile):
        defaults = writer.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "clock", lambda: 0.0)
    monkeypatch.setattr(lease, "HEARTBEAT", _A_DAY)
    monkeypatch.setattr(index, "EVERY", _A_DAY)


@pytest.fixture
def store(place: Place) -> Store:
    """A store on each backend."""
    return place.store()
