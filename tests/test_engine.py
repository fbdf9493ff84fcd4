"""The obstore engine, with servers that the contract suite does not have."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from notata.store import open_store
from notata.store.backends import s3_obstore
from notata.store.files import PART

FILES = {"empty": b"", "one": b"1", "two": b"22", "large": bytes(range(256)) * (PART // 256 + 1)}


class _Answers(BaseHTTPRequestHandler):
    """Serve files; serve a range only if it is not the whole file."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str]]]

    def do_GET(self) -> None:
        name, asked = self.path.rpartition("/")[2], self.headers.get("Range", "")
        self.asked.append((name, asked))
        data = FILES[name]
        start, end = map(int, re.findall(r"\d+", asked)) if asked else (0, len(data))
        part = data[start : end + 1]
        if asked and not part:
            self.send_error(416)
            return
        self.send_response(200 if len(part) == len(data) else 206)
        if len(part) != len(data):
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("Last-Modified", self.date_time_string())
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    monkeypatch.setattr(s3_obstore, "WHOLE_ONLY", set())  # another server may have used the same port

    class Handler(_Answers):
        asked: ClassVar[list[tuple[str, str]]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", Handler.asked
        running.shutdown()
        thread.join()


def test_a_server_that_gives_the_whole_for_a_range_is_asked_once_a_file(
    server: tuple[str, list[tuple[str, str]]],
) -> None:
    endpoint, asked = server
    options = {"endpoint_url": endpoint, "key": "k", "secret": "s", "engine": "obstore"}
    store = open_store("s3://bucket", options)
    assert store.read("one") == b"1"  # by s3fs: its first reply contains the server's time
    assert store.read("one") == b"1"
    whole = f"bytes=0-{PART - 1}"
    assert asked == [("one", whole), ("one", whole), ("one", "")]
    asked.clear()
    assert store.read("two") == b"22"
    assert store.read("two") == b"22"
    assert asked == [("two", "")] * 2
    asked.clear()
    assert store.read("large") == FILES["large"]
    assert [wanted for _, wanted in asked] == ["", whole, f"bytes={PART}-{PART + 255}"]
    assert store.read("two", 1, 2) == b"2"


def test_an_empty_file_does_not_tell_that_a_server_gives_the_whole_for_a_range(
    server: tuple[str, list[tuple[str, str]]],
) -> None:
    endpoint, asked = server
    store = open_store("s3://bucket", {"endpoint_url": endpoint, "key": "k", "secret": "s", "engine": "obstore"})
    assert store.read("one") == b"1"  # by s3fs: its first reply contains the server's time
    assert store.read("empty") == b""
    asked.clear()
    assert store.read("large") == FILES["large"]
    assert asked == [("large", f"bytes=0-{PART - 1}"), ("large", f"bytes={PART}-{PART + 255}")]
