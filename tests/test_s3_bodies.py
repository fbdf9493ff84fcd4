"""Replies of an S3 server that are longer than the requested range."""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from notata import StorageError
from notata.store import open_store

MOST = 200  # MiB: enough to notice, and small enough that the test ends without the limit


class Endless(BaseHTTPRequestHandler):
    """A server that ignores ranges."""

    def do_GET(self) -> None:
        self.send_response(206)
        for name, value in {"ETag": '"a"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            for _ in range(MOST):
                self.wfile.write(bytes(2**20))

    def log_message(self, *_: object) -> None:
        pass


def test_a_body_beyond_its_range_is_refused() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        options = {"endpoint_url": f"http://127.0.0.1:{server.server_port}", "key": "test", "secret": "test-secret"}
        store = open_store("s3://bucket/runs", options)
        with pytest.raises(StorageError, match="sent more bytes than requested"):
            store.read("log_a/log.txt", 0, 1000)
    finally:
        server.shutdown()
        server.server_close()
