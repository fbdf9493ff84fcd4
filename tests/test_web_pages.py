"""Web pages that list a folder: they may have any size and any text."""

from __future__ import annotations

import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from notata import TooLargeError
from notata.store import open_store
from notata.store.backends.web_pages import PAGE

LISTED = b'<a href="log_a/">log_a</a><a href="notes.txt">notes</a>'
PAGES = {
    "/plain": LISTED,
    "/spaces": b"<a" + b" " * 20_000 + LISTED,
    "/tags": b"<a " * 300_000 + LISTED,
    "/charset": LISTED,
}


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(size // 2**20)) + packer.flush()


class Pages(BaseHTTPRequestHandler):
    """A server on which each folder is a different odd page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        packed = self.path == "/bomb"
        body = bomb(8 * PAGE) if packed else PAGES.get(self.path, b"")
        self.send_response(200)
        self.send_header("Content-Type", f"text/html; charset={'no-such' if self.path == '/charset' else 'utf-8'}")
        self.send_header("Content-Length", str(len(body)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("folder", ["plain", "spaces", "tags", "charset"])
def test_whatever_a_page_holds_its_links_are_found(folder: str, web: str) -> None:
    """Long runs of spaces and unclosed tags took hours, which exceeds the time limit of the test run."""
    assert [entry.key for entry in open_store(f"{web}/{folder}").list()] == ["notes.txt"]


def test_a_page_that_is_packed_small_takes_little_memory(web: str) -> None:
    store = open_store(f"{web}/bomb")
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match=r"/bomb: the server sent more than .* for one folder"):
            store.list()
        assert tracemalloc.get_traced_memory()[1] < 3 * PAGE
    finally:
        tracemalloc.stop()
