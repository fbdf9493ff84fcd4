"""What every test may use."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, settings

from notata import Logbook, Worker
from notata._base import exits
from notata.mirror.live import Mirror
from notata.run.growing import GrowingFile
from notata.store.backends import s3
from tests import servers
from tests.tools.odd_stores import s3 as odd_s3

# No example has a deadline: on a busy machine any may take a second.
settings.register_profile("notata", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("notata")

os.environ.update(servers.CLOUD_ENVIRONMENT)
for _name in ("NOTATA_BASE_DIR", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST"):
    os.environ.pop(_name, None)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a shell's background job: tests interrupt processes
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Of workers that begin at once one imports alone: else each compiles all of it, as none finds it compiled."""
    if not hasattr(session.config, "workerinput"):
        return (yield)
    with open(__file__) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(held, fcntl.LOCK_SH)
        return (yield)


def pytest_collection_finish() -> None:
    """All tests live to the end: else each full collection of garbage, by a test too, looks at them for a second."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_stays_in_memory() -> Iterator[None]:
    """Listing looks at each file that any test left, as `fsspec` has one memory a process."""
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def _nothing_goes_on(_nothing_stays_in_memory: None) -> Iterator[None]:
    """A run that a test leaves open ends with the test: its threads send nothing into the next one's count."""
    yield
    for call in exits.pending():
        owner = getattr(call, "__self__", None)
        if isinstance(owner, Logbook):
            owner._lease.release()  # noqa: SLF001 - a run has no other way to stop without storing anything
            owner.handler.file.displace()
        elif isinstance(owner, Worker):
            owner.handler.file.displace()
        elif isinstance(owner, GrowingFile):
            owner.displace()
        elif isinstance(owner, Mirror):
            owner.give_up()
        exits.forget(call)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):  # one that would write rows into an index.csv
            thread.cancel()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[servers.Server]:
    with servers.moto() as server:
        yield server


@pytest.fixture
def known_anew() -> Iterator[None]:
    """What S3 stores heed is not known at the start, and forgotten at the end."""
    s3.known.forget()
    yield
    s3.known.forget()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[servers.Server]:
    with servers.fake_gcs() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with odd_s3.ceph_rgw(tmp_path_factory.mktemp("ceph")) as server:
        yield server


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m real`` no worker needs to import a file of tests that has none of them."""
    if config.getoption("markexpr") != "real" or not collection_path.name.startswith("test_"):
        return None
    of_contract = collection_path.parent.name == "contract"  # whose fixtures mark them
    return None if of_contract or "mark.real" in collection_path.read_text() else True
