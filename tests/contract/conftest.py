"""The backends that the suite runs on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata.run import journal, lease
from notata.store import Store
from notata.table import index
from tests.backends import Place

REAL = [pytest.param("seaweed", marks=pytest.mark.real)]
CEPH = pytest.param("ceph", marks=pytest.mark.real)
"""Slower to answer, so only for modules of what stores do differently."""
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
    if name == "obstore":  # the same store by another engine; its requests are not to be counted
        server = request.getfixturevalue("seaweed_server")
        return Place("seaweed", f"{server.url}/{folder}", {**server.options, "engine": "obstore"})
    servers = {"s3": "moto_server", "gcs": "gcs_server", "seaweed": "seaweed_server", "ceph": "ceph_server"}
    server = request.getfixturevalue(servers[name])
    return Place(name, f"{server.url}/{folder}", server.options)


def emptied(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The place of a fixture's parameter, and its end."""
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture(params=EVERYWHERE)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty folder on each backend; modules of what an engine does have one by each engine of S3 too."""
    yield from emptied(request)


@pytest.fixture(params=BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty folder in each kind of bucket."""
    yield from emptied(request)


@pytest.fixture
def nothing_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is made since time has passed: a test that counts them may take as long as a busy machine needs.

    The clock of logs stands still, so their lines wait for a flush or the end of the run.
    """
    defaults = journal.Journal.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "clock", lambda: 0.0)
    monkeypatch.setattr(lease, "HEARTBEAT", _A_DAY)
    monkeypatch.setattr(index, "EVERY", _A_DAY)


@pytest.fixture
def store(place: Place) -> Store:
    """A store on each backend."""
    return place.store()
