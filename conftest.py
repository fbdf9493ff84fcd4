"""Fixtures and settings for all tests."""

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
from notata.growing.growing_file import GrowingFile
from notata.mirror.live import Mirror
from notata.store.backends import s3
from tests import servers, unhurried
from tests.tools.odd_stores import s3 as odd_s3

# Hypothesis examples have no deadline: on a busy machine each may take a second.
settings.register_profile("notata", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("notata")

unhurried.wait_for_git()
os.environ.update(servers.CLOUD_ENVIRONMENT)
os.environ["NOTATA_CODE"] = "0"  # the requests that tests count must not depend on the checkout
for _name in ("NOTATA_BASE_DIR", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST"):
    os.environ.pop(_name, None)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a background job
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Let one worker import first: otherwise each compiles all modules, because none finds them compiled."""
    if not hasattr(session.config, "workerinput"):
        return (yield)
    with open(__file__) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(held, fcntl.LOCK_SH)
        return (yield)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which tests a run without arguments leaves out."""
    without = config.args_source is config.ArgsSource.TESTPATHS
    return "not collected: tests/frameworks and tests/cluster, see docs/how-to/developing.md" if without else None


def pytest_collection_finish() -> None:
    """Exclude the tests from garbage collection, which would otherwise spend a second on them each time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _clear_memory() -> Iterator[None]:
    """Delete the files in memory after each test: all tests share one file system, and listings visit each file."""
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def _end_open_runs(_clear_memory: None) -> Iterator[None]:
    """End runs that a test leaves open: otherwise their threads would send requests during the next test."""
    yield
    for call in exits.pending():
        owner = getattr(call, "__self__", None)
        if isinstance(owner, Logbook):
            owner._release()  # noqa: SLF001 - a run has no other way to stop without storing anything
            owner.handler.file.displace()
        elif isinstance(owner, Worker):
            owner.handler.file.displace()
        elif isinstance(owner, GrowingFile):
            owner.displace()
        elif isinstance(owner, Mirror):
            owner.give_up()
        exits.forget(call)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):  # an experiment that would write rows to an index.csv
            thread.cancel()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[servers.Server]:
    with servers.moto() as server:
        yield server


@pytest.fixture
def forget_s3_capabilities() -> Iterator[None]:
    """Forget what is known of S3 stores' conditional writes, before and after the test."""
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
    """With ``-m real``, skip importing files that contain no such tests."""
    if config.getoption("markexpr") != "real" or not collection_path.name.startswith("test_"):
        return None
    of_contract = collection_path.parent.name == "contract"  # whose fixtures mark them
    return None if of_contract or "mark.real" in collection_path.read_text() else True
