"""Pitfalls of the underlying libraries, found by measurement; each test fails without notata's workaround.

Most pitfalls are tested in the contract suite; this module has those of a single backend.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from notata import ExistsError, Logbook, StorageError, UnprotectedWarning
from notata.store import Store, open_store
from notata.store.backends import local_folders, local_locks, s3
from tests.counting import Send, counted, intercepted
from tests.servers import Server

# -- local -------------------------------------------------------------------------------------------------


def test_create_is_exclusive_on_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    store = open_store(tmp_path)
    for attempt in range(10):
        start = threading.Barrier(8)

        def race(number: int, key: str = f"r{attempt}", start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                store.create(key, b"%d" % number)
            except ExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(race, range(8))) == 1
    assert len(list(tmp_path.iterdir())) == 10
    assert store.replace("r0", b"next", store.fetch("r0").version)
    assert store.replace("new", b"2", store.create("new", b"1"))
    with Logbook("a", tmp_path, overwrite=True) as log:
        log.text("t", "x")


def test_a_link_whose_reply_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def lossy(source: str, target: str, **options: Any) -> None:
        link(source, target, **options)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", lossy)
    open_store(tmp_path).create("a", b"mine")
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_a_lock_that_the_folder_refuses_is_taken_on_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    lock = fcntl.flock

    def nfs(handle: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "NFS locks no folders")
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", nfs)
    store = open_store(tmp_path)
    inside: list[int] = []

    def enter(number: int) -> None:
        with local_locks.locked(local_folders.open_folder(str(tmp_path)), 30):
            inside.append(number)
            assert inside == [number]
            inside.remove(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(enter, range(60)))
    store.replace("a", b"2", store.create("a", b"1"))
    assert (tmp_path / "a").read_bytes() == b"2"
    assert [entry.key for entry in store.list()] == ["a"]


def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading\nfrom notata.store import open_store\n"
        "from notata.store.backends.local_folders import open_folder\n"
        "from notata.store.backends.local_locks import locked\n"
        "store = open_store(sys.argv[1]); store.append('log', b'1', 0)\n"
        "reading, writing = os.pipe()\n"
        "with locked(open_folder(sys.argv[1]), 30):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.close(writing); os.read(reading, 1); os._exit(0)\n"
        "store.append('log', b'2', 1)\n"
        "print(os.waitpid(child, os.WNOHANG)[0], store.read('log'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0 b'12'", done.stderr


def test_a_write_never_leaves_the_disk_of_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec stages files in the system's temporary folder; a move from another disk is not atomic."""
    made: list[str] = []
    real = os.open

    def spy(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        handle = real(path, flags, *arguments, **options)
        if flags & os.O_CREAT:
            made.append(os.path.dirname(os.readlink(f"/proc/self/fd/{handle}")))
        return handle

    monkeypatch.setattr(os, "open", spy)
    open_store(tmp_path).write("sub/a", b"1")
    assert made == [str(tmp_path / "sub")]


# -- memory ------------------------------------------------------------------------------------------------


def test_readers_in_memory_have_positions_of_their_own() -> None:
    store = open_store("memory://positions")
    store.write("a", b"0123")
    with store.open("a", "rb") as one, store.open("a", "rb") as other:
        assert one.read(2) == b"01"
        assert other.read() == b"0123"
        store.write("a", b"new")
        assert one.read() == b"23"


# -- S3 ----------------------------------------------------------------------------------------------------


@contextmanager
def headers_without(name: str) -> Iterator[list[dict[str, str]]]:
    """Remove a header from requests, like a store that ignores it; yield all original headers."""
    seen: list[dict[str, str]] = []

    async def request(send: Send, verb: str, url: Any, **kwargs: Any) -> Any:
        seen.append(dict(kwargs["headers"]))
        kwargs["headers"] = {key: value for key, value in kwargs["headers"].items() if key.lower() != name.lower()}
        return await send(verb, url, **kwargs)

    with intercepted(request):
        yield seen


def test_a_store_that_ignores_the_condition_is_noticed_once(moto_server: Server, forget_s3_capabilities: None) -> None:
    with headers_without("If-None-Match"):
        with pytest.warns(UnprotectedWarning, match="ignores If-None-Match"):
            Logbook(None, moto_server.url, storage_options=moto_server.options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Logbook(None, moto_server.url, storage_options=moto_server.options)


def test_a_warning_that_is_made_an_error_claims_nothing(moto_server: Server, forget_s3_capabilities: None) -> None:
    base = f"{moto_server.url}/unprotected"
    with headers_without("If-None-Match"), warnings.catch_warnings():
        warnings.simplefilter("error", UnprotectedWarning)
        for run_id in ("a", "b"):
            with pytest.raises(UnprotectedWarning):
                Logbook(run_id, base, storage_options=moto_server.options)
    assert open_store(base, moto_server.options).list() == []


def test_no_put_waits_for_a_100_continue(moto_server: Server) -> None:
    store = open_store(moto_server.url, moto_server.options)
    with headers_without("nothing") as seen:
        store.write("expect", b"x" * 100_000)
    assert len(seen) == 1
    assert "expect" not in {name.lower() for name in seen[0]}
    assert seen[0]["User-Agent"].startswith("notata s3fs/")


def test_options_of_the_user_take_precedence(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = s3.connect(dict(moto_server.options))
    assert ours.config_kwargs["max_pool_connections"] == 64
    assert ours.config_kwargs["retries"]["total_max_attempts"] == 4
    theirs = s3.connect({**moto_server.options, "config_kwargs": {"max_pool_connections": 7, "read_timeout": 3}})
    assert theirs.config_kwargs["max_pool_connections"] == 7
    assert theirs.config_kwargs["read_timeout"] == 3
    named = s3.connect({**moto_server.options, "config_kwargs": {"user_agent_appid": "mine"}})
    assert "user_agent" not in named.config_kwargs
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    assert "retries" not in s3.connect({**moto_server.options, "default_block_size": 2**23}).config_kwargs


def test_times_of_s3_are_read_as_botocore_reads_them(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.utils import parse_timestamp

    for told in (
        "2026-03-01T09:30:00.123Z",
        "Sun, 01 Mar 2026 09:30:00 GMT",
        "20260301T093000Z",
        "1772357400",
        1772357400.5,
    ):
        assert s3.parse_time(told) == parse_timestamp(told)
    asked: list[str] = []

    def slow(told: Any) -> Any:
        asked.append(threading.current_thread().name)
        return parse_timestamp(told)

    monkeypatch.setattr("botocore.parsers.DEFAULT_TIMESTAMP_PARSER", slow)
    store = open_store(f"{moto_server.url}/times", {**moto_server.options, "default_block_size": 2**22})
    store.write("a", b"x")
    listed, looked_up = store.list()[0].modified, store.stat("a").modified
    assert (listed.tzinfo, looked_up) == (UTC, listed.replace(microsecond=0))
    assert "fsspecIO" not in asked
    store.clear()


def test_the_configuration_of_fsspec_is_honoured(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "s3", dict(moto_server.options))
    log = Logbook(None, f"{moto_server.url}/configured")
    assert log.text("t", "x").read_text() == "x"


def test_a_upath_has_its_own_storage_options(moto_server: Server) -> None:
    from upath import UPath

    base = UPath(f"{moto_server.url}/brought", **moto_server.options)
    assert Logbook("a", base, overwrite=True).text("t", "x").read_text() == "x"


def test_a_folder_in_a_bucket_costs_nothing(moto_server: Server) -> None:
    path = open_store(f"{moto_server.url}/no-such", moto_server.options).path("a/b")
    with counted() as sent:
        path.mkdir(parents=True, exist_ok=True)
    assert sent == []


# -- GCS ---------------------------------------------------------------------------------------------------


def test_no_probe_of_the_buckets_type_hangs(gcs_server: Server) -> None:
    """In a process that does not disable the probe. With the probe, the first request took a minute."""
    code = (
        "import sys, json, notata\n"
        "log = notata.Logbook(None, sys.argv[1], storage_options=json.loads(sys.argv[2]))\n"
        "log.bytes('b', b'x' * 9_000_000)\n"
        "print(log['artifacts/b'].stat().st_size)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GCSFS")}
    arguments = [sys.executable, "-c", code, f"{gcs_server.url}/probe", json.dumps(gcs_server.options)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=45, check=False)
    assert done.stdout.strip() == "9000000", done.stderr


def test_a_writer_that_is_open_at_exit_does_not_hold_the_process(moto_server: Server, gcs_server: Server) -> None:
    code = (
        "import json, sys\nfrom notata.store import open_store\n"
        "writer = open_store(sys.argv[1], json.loads(sys.argv[2])).open('big', 'wb')\n"
        "writer.write(bytes(20 << 20))\n"
    )
    for server in (moto_server, gcs_server):
        arguments = [sys.executable, "-c", code, f"{server.url}/exit", json.dumps(server.options)]
        subprocess.run(arguments, env=dict(os.environ), timeout=120, check=True, capture_output=True)
        assert not open_store(f"{server.url}/exit", server.options).exists("big")


def test_the_thread_of_the_storage_never_waits_for_itself(moto_server: Server) -> None:
    import asyncio

    import fsspec.asyn

    store = open_store(moto_server.url, moto_server.options)
    store.write("t", b"x")

    async def inside() -> None:
        store.read("t")

    with pytest.raises(StorageError, match="own thread"):
        asyncio.run_coroutine_threadsafe(inside(), fsspec.asyn.get_loop()).result(60)


# -- fork, pickle, interrupts ------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "gcs"])
def remote(request: pytest.FixtureRequest) -> Store:
    server: Server = request.getfixturevalue({"s3": "moto_server", "gcs": "gcs_server"}[request.param])
    return open_store(f"{server.url}/processes-{os.getpid()}", server.options)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_connect_anew(remote: Store, method: Any) -> None:
    """A forked child that used its parent's file system raised an error or hung for 16 s."""
    remote.write("parent", b"1")
    context = multiprocessing.get_context(method)
    keys = [f"{method}{number}" for number in range(3)]
    children = [context.Process(target=remote.write, args=(key, key.encode())) for key in keys]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert [remote.read(key) for key in keys] == [key.encode() for key in keys]


def test_a_forked_child_that_leaves_the_block_does_not_end_the_run(tmp_path: Path) -> None:
    code = (
        "import json, os, sys\nfrom notata import Logbook\n"
        "with Logbook('a', sys.argv[1]) as log:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        sys.exit(3)\n"
        "    os.waitpid(child, 0)\n"
        "    print(json.loads(log['metadata.json'].read_text())['status'])\n"
        "print(log.status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["initialized", "complete"]


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_an_interrupt_cancels_the_request(kind: str) -> None:
    """fsspec continues in its own thread after a KeyboardInterrupt and publishes the interrupted upload."""
    accepted = threading.Event()
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                accepted.set()
                connection.settimeout(60)
                while connection.recv(65536):
                    pass
            ended.set()

        def interrupt() -> None:
            accepted.wait(60)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        threads = [threading.Thread(target=serve, daemon=True), threading.Thread(target=interrupt, daemon=True)]
        for thread in threads:
            thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        options = {"s3": {"key": "k", "secret": "s"}, "gcs": {"token": "anon", "project": "p"}}[kind]
        store = open_store(f"{kind.replace('gcs', 'gs')}://bucket/x", {"endpoint_url": endpoint, **options})
        with pytest.raises(KeyboardInterrupt):
            store.write("a", b"x")
        assert ended.wait(60), "the request was not cancelled"


def test_a_pickle_for_a_file_has_no_secret(memory_logbook: Logbook) -> None:
    store = open_store("s3://bucket/x", {"key": "the-key", "secret": "the-secret"})
    assert b"the-secret" in pickle.dumps(store), "a pickle must keep it for other processes"
    path = memory_logbook.pickle("store", {"store": store, "path": store.path_for("a")})
    assert b"the-secret" not in path.read_bytes()
    assert b"the-key" not in path.read_bytes()
    assert str(pickle.loads(path.read_bytes())["path"]) == "s3://bucket/x/a"
