"""Errors at the start: clear within seconds, with URL, remedy and cause, and without secrets."""

from __future__ import annotations

import ast
import errno
import inspect
import json
import logging
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

import notata
from notata import Storage, errors
from notata.logbook import Logbook
from notata.store import Store, open_store
from notata.store.backends import s3
from notata.store.backends.remote import Connection
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.servers import Server

SECRETS = {"key": "AKIA-very-secret-key", "secret": "hunter2-hunter2", "token": "session-token-123"}


def told(caught: pytest.ExceptionInfo[errors.NotataError], *words: str) -> None:
    """Check that an error names what it should, chains its cause, and contains no secret."""
    error = caught.value
    shown = f"{error} {error!r} {error.url} {error.key}"
    for word in words:
        assert word in shown
    assert error.__cause__ is not None
    everything = "".join(traceback.format_exception(error)) + shown
    for secret in SECRETS.values():
        assert secret not in everything


def test_no_such_bucket(moto_server: Server, gcs_server: Server) -> None:
    for url, options in (("s3://no-such-bucket/x", moto_server.options), ("gs://no-such-bucket/x", gcs_server.options)):
        with pytest.raises(errors.ContainerMissingError) as caught:
            Logbook("a", url, storage_options=options)
        told(caught, url, "create it", "no-such-bucket")
        for mode in ("ab", "xb", "wb"):
            with pytest.raises(errors.MissingError), open_store(url, options).open("a", mode) as file:
                file.write(b"x" * 10)
        assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.real
def test_a_wrong_secret(seaweed_server: Server) -> None:
    options = {**seaweed_server.options, "secret": SECRETS["secret"]}
    with pytest.raises(errors.AccessError) as caught:
        Logbook("a", seaweed_server.url, storage_options=options)
    told(caught, seaweed_server.url, "the secret does not match the access key", "storage_options")
    assert isinstance(caught.value, PermissionError)


def test_no_credentials_at_all(moto_server: Server) -> None:
    with pytest.raises(errors.AccessError) as caught:
        Logbook("a", moto_server.url, storage_options={"endpoint_url": moto_server.endpoint})
    told(caught, "AWS_PROFILE")


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which no server listens, and that no other process can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def test_no_server_at_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        endpoint = f"http://127.0.0.1:{port}"
        with pytest.raises(errors.UnreachableError) as caught:
            Logbook("a", "s3://bucket/x", storage_options={"endpoint_url": endpoint, **SECRETS})
        told(caught, "s3://bucket/x", "endpoint_url")
        assert isinstance(caught.value, ConnectionError)
        with pytest.raises((errors.UnreachableError, errors.DeadlineError)) as other:
            Logbook("a", "gs://bucket/x", storage_options={"endpoint_url": endpoint, "token": "anon", "project": "p"})
        told(other, "gs://bucket/x")


@contextmanager
def silence() -> Iterator[str]:
    """A server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket/x"])
def test_a_server_that_accepts_and_stays_silent(url: str) -> None:
    with silence() as endpoint:
        options: dict[str, Any] = {"endpoint_url": endpoint}
        options |= SECRETS if url.startswith("s3") else {"token": "anon", "project": "p"}
        with pytest.raises(errors.DeadlineError) as caught:
            Logbook("a", Storage(url, options, timeout=1.0))
    told(caught, url, "in time")
    assert isinstance(caught.value, TimeoutError)


@contextmanager
def refusing(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server with the same answer for every request; yields its endpoint and the received requests."""
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(403, "AccessDenied", errors.AccessError), (404, "NoSuchBucket", errors.MissingError)],
)
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_what_cannot_succeed_is_not_tried_again(
    scheme: str, status: int, code: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    if scheme == "s3":
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    else:
        body = json.dumps({"error": {"code": status, "message": "no"}}).encode()
    with refusing(status, body) as (endpoint, asked):
        options: dict[str, Any] = {"endpoint_url": endpoint}
        options |= SECRETS if scheme == "s3" else {"token": "anon", "project": "p"}
        store = open_store(f"{scheme}://bucket/x", options)
        for call in (lambda: store.write("a", b"x"), lambda: store.read("a")):
            asked.clear()
            with pytest.raises(error):
                call()
            assert len(asked) == 1, asked
        asked.clear()
        with pytest.raises(errors.BatchError):
            store.write_many({f"f{number}": b"x" for number in range(10)})
        assert len(asked) == 10


def test_a_server_that_never_answered_gets_ten_seconds_of_a_longer_timeout() -> None:
    connection = Connection(dict, {}, timeout=30.0)
    assert connection.limit(0) == 10.0
    assert connection.limit(500_000) == 20.0
    connection.note_silence()
    assert connection.limit(0) == 2.0
    connection.note_answer()
    assert connection.limit(0) == 30.0


def test_a_storage_that_exceeded_a_time_limit_gets_a_shorter_one(moto_server: Server) -> None:
    connection = Connection(s3.connect, moto_server.options, timeout=30.0)

    async def answered() -> None:
        return

    async def silent() -> None:
        raise TimeoutError

    connection.run(connection.ask, answered)
    assert connection.limit(0) == 30.0
    with pytest.raises(TimeoutError):
        connection.run(connection.ask, silent)
    assert connection.limit(0) == 5.0
    connection.run(connection.ask, answered)
    assert connection.limit(0) == 30.0


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    with Logbook("a", tmp_path) as log, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.info("line %d", number), range(200)))
        log.meta(x=1)
    assert json.loads((tmp_path / "log_a/metadata.json").read_text())["status"] == "complete"
    lines = (tmp_path / "log_a/log.txt").read_text().splitlines()
    assert sorted(line.partition("INFO ")[2] for line in lines[1:-1]) == sorted(f"line {n}" for n in range(200))
    store = open_store(tmp_path)
    store.write("b", b"")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.append("b", b"%d " % number), range(200)))
    assert sorted(map(int, (tmp_path / "b").read_text().split())) == list(range(200))
    (tmp_path / ".notata-lock").touch()
    os.utime(tmp_path / ".notata-lock", (0, 0))  # a process died while it held the lock
    store.append("b", b"x")
    assert not (tmp_path / ".notata-lock").exists()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Logbook("a", tmp_path)
    log.text("t", "old")
    real = os.open

    def full(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        handle = real(path, flags, *rest, **options)
        if flags & os.O_CREAT:
            os.dup2(real("/dev/full", os.O_WRONLY), handle)
        return handle

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(errors.FullError) as caught:
            log.text("t", "new and longer")
    told(caught, "no space left", "t.txt")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "log_a/artifacts/t.txt").read_text() == "old"
    assert sorted(path.name for path in (tmp_path / "log_a").rglob("*")) == [
        "artifacts",
        "log.txt",
        "metadata.json",
        "t.txt",
    ]


def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(errors.AccessError) as caught:
        Logbook("a", "/sys/kernel/notata")
    told(caught, "/sys/kernel/notata/log_a", "base_dir")


def test_a_file_as_base_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.FolderError) as caught:
        Logbook("a", tmp_path / "file")
    told(caught, "file/log_a")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("nosuchproto://x", "nosuchproto"),
        ("simplecache::s3://bucket/x", "simplecache"),
        ("filecache::memory://x", "filecache"),
        ("s3://", "bucket"),
        ("gs://", "bucket"),
        ("s3://bucket/../x", "cannot hold runs"),
        ("", "empty"),
        (Path("s3://bucket/x"), "removed a slash"),
        ("s3:/bucket/x", "removed a slash"),
        ("s3://[x", "URL"),
        (b"bytes", "bytes"),
    ],
)
def test_a_base_folder_that_cannot_work(base: Any, words: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=words):
        Logbook("a", base)


def test_storage_options_that_do_not_fit() -> None:
    with pytest.raises(errors.ConfigurationError, match="storage options"):
        Logbook("a", "s3://bucket/x", storage_options={"no_such_option": SECRETS["secret"]})


KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\n"


def test_secrets_are_redacted_in_every_form_and_words_are_not() -> None:
    options = {"token": {"private_key": KEY, "project_id": "proj"}, "secret": "ab/cd+ef=gh", "project": "physics"}
    store = open_store("gs://bucket/x", options)
    told = (
        KEY,
        repr(options),
        json.dumps(options),
        repr(json.dumps(options)),
        "?s=ab%2Fcd%2Bef%3Dgh",
        "MIIEvQIBADANBgkq",
    )
    for text in told:
        shown = store.redacted(text)
        assert not any(part in shown for part in ("MIIE", "cd+ef", "cd%2B")), shown
    assert store.redacted("physics is in /home/me/physics, project_id") == "physics is in /home/me/physics, project_id"
    store = open_store("gs://bucket/x", {"token": "cloud", "endpoint_url": "http://host:1", "secret": "test"})
    assert store.redacted("point cloud, tests/latest") == "point cloud, tests/latest"
    assert store.redacted("test at http://host:1/x") == "*** at ***/x"


def stored_in(server: Server, log: Logbook) -> dict[str, bytes]:
    """Return the stored files of a run, read with plain fsspec."""
    place = Place("s3", log.url, server.options)
    return place.files()


def test_a_library_of_the_storage_logs_no_secret(moto_server: Server) -> None:
    options = {**moto_server.options, **SECRETS}
    with Logbook(None, f"{moto_server.url}/s", storage_options=options, log_level="DEBUG") as log:
        for name in ("botocore", "aiobotocore", "s3fs", "fsspec"):
            logging.getLogger(name).setLevel(logging.DEBUG)
            log.attach(name)
        log.json("metrics", {"a": 1})
    for name in ("botocore", "aiobotocore", "s3fs", "fsspec"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    stored = stored_in(moto_server, log)["log.txt"]
    assert b"Authorization" in stored
    for secret in SECRETS.values():
        assert secret.encode() not in stored


def test_credentials_in_a_url_are_not_shown() -> None:
    from notata.store.backends.remote import without_credentials

    assert without_credentials("sftp://ada:hunter2@host/x") == "sftp://host/x"
    assert without_credentials("dir::ftp://a:b@h/x") == "dir::ftp://h/x"
    assert without_credentials("https://h/x?sig=hunter2") == "https://h/x"
    assert without_credentials("s3://bucket/a?b#c") == "s3://bucket/a?b#c"


def test_a_refused_url_is_shown_without_its_password() -> None:
    for base in ("simplecache::sftp://ada:hunter2@host/x", Path("https://ada:hunter2@host/x")):
        with pytest.raises(errors.ConfigurationError) as caught:
            open_store(base)
        assert "hunter2" not in str(caught.value)


def test_no_secret_is_stored(moto_server: Server) -> None:
    options = {**moto_server.options, **SECRETS}
    with (
        pytest.raises(ValueError, match="on purpose") as caught,
        Logbook(None, f"{moto_server.url}/secrets", params={"x": 1}, storage_options=options) as log,
    ):
        log.json("path", {"path": log["artifacts/x"]})
        log.pickle("path", log["artifacts/x"])
        log.meta(where=log.path)
        raise ValueError("on purpose")
    told_everywhere = repr(log) + str(log.path) + repr(log.path) + "".join(traceback.format_exception(caught.value))
    stored = stored_in(moto_server, log)
    assert len(stored) == 8
    for secret in SECRETS.values():
        assert secret not in told_everywhere
        assert all(secret.encode() not in data for data in stored.values())


def test_no_secret_of_a_failure_is_stored(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**moto_server.options, **SECRETS}
    secret = SECRETS["secret"]
    monkeypatch.setattr("sys.argv", ["run.py", "-o", f"secret={secret}", f"--mirror=s3://{SECRETS['key']}@b"])
    with (
        pytest.raises(RuntimeError),
        Logbook(None, f"{moto_server.url}/s", storage_options=options, failure_variables=True) as log,
    ):
        with log.catch():
            raise ValueError(f"refused {options}")
        try:
            raise OSError(f"refused {secret}")
        except OSError as error:
            log.exception("the client said no")
            error.add_note(secret)
            raise RuntimeError(f"gave up on {secret}") from error
    stored = stored_in(moto_server, log)
    assert len(stored) == 6
    assert b"refused" in stored["log.txt"]
    assert b"variables" in stored["artifacts/debug/failure.json"]
    for known in SECRETS.values():
        assert [key for key, data in stored.items() if known.encode() in data] == []


# -- the tree ----------------------------------------------------------------------------------------------


ALL = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, notata.NotataError)]


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = [line.split("──")[1].split()[0] for line in str(errors.__doc__).splitlines() if "──" in line]
    assert sorted(drawn) == sorted(error.__name__ for error in ALL if error is not notata.NotataError)
    assert sorted(errors.__all__) == sorted(
        [*drawn, "DamagedFileWarning", "IncompleteListingWarning", "NotataError", "UnprotectedWarning"]
    )


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not errors.BatchError])
def test_an_error_can_be_pickled(kind: type[errors.NotataError]) -> None:
    error = kind("what was wrong", url="s3://bucket/x", key="a")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.url, copy.key) == (kind, "what was wrong", "s3://bucket/x", "a")
    assert (
        any(issubclass(kind, builtin) for builtin in (OSError, ValueError, RuntimeError)) or kind is errors.NotataError
    )


def test_a_batch_of_errors_survives_too() -> None:
    batch = errors.BatchError("2 of 3", [errors.MissingError("a"), errors.FullError("b")])
    copy = pickle.loads(pickle.dumps(batch))
    assert [str(error) for error in copy.exceptions] == ["a", "b"]
    assert isinstance(batch.split(errors.FullError)[0], errors.BatchError)


def test_no_error_is_raised_bare() -> None:
    """Every error that notata raises has a message."""
    for path in Path(str(errors.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
                assert not node.exc.id.endswith("Error") or node.exc.id == "error", f"{path}:{node.lineno}"


def test_a_upath_of_a_disk_is_a_disk(tmp_path: Path) -> None:
    for base in (UPath(tmp_path), UPath(f"file://{tmp_path}"), f"file://{tmp_path}", str(tmp_path), tmp_path):
        assert open_store(base).url == str(tmp_path)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (
            "s3://bucket",
            {"endpont_url": SECRETS["secret"]},
            "s3:// has no storage option 'endpont_url'; did you mean 'endpoint_url'?",
        ),
        (
            "gs://bucket",
            {"endpont_url": SECRETS["secret"]},
            "gs:// has no storage option 'endpont_url'; did you mean 'endpoint_url'?",
        ),
        (
            "s3://bucket",
            {"Secret": SECRETS["secret"], "keys": SECRETS["secret"]},
            "s3:// has no storage option 'Secret'; did you mean 'secret'?",
        ),
        (
            "outputs",
            {"automkdir": SECRETS["secret"]},
            "file:// has no storage option 'automkdir'; did you mean 'auto_mkdir'?",
        ),
    ],
)
def test_a_misspelt_storage_option_is_named_before_anything_is_asked(
    url: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        Logbook("run", url, storage_options=options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "options", [{"secret_access": SECRETS["secret"]}, {"client_kwargs": {"endpont_url": SECRETS["secret"]}}]
)
def test_a_storage_option_that_the_library_does_not_take_is_named(options: dict[str, Any]) -> None:
    name = next(iter(options.get("client_kwargs", options)))
    with pytest.raises(
        errors.ConfigurationError,
        match=f"these storage options do not match this protocol: it has no {name}; check their names$",
    ) as caught:
        Logbook("run", "s3://bucket", storage_options=options)
    assert SECRETS["secret"] not in str(caught.value)


def test_a_warning_that_the_user_made_an_error_stays_a_warning() -> None:
    faults = FaultyBackend(open_store("memory://warned"))
    store = Store(faults)
    store.write("a", b"1")
    for operation in (lambda: store.read("a"), lambda: store.start_fetch("a").result(), lambda: store.read_many(["a"])):
        faults.fail(1, error=lambda: DeprecationWarning("of a library, with -W error"))
        with pytest.raises((DeprecationWarning, errors.BatchError)) as caught:
            operation()
        raised = getattr(caught.value, "exceptions", [caught.value])
        assert [type(error) for error in raised] == [DeprecationWarning]
