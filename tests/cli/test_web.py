"""Runs at a web address: they are read like others, and an error of the server is not an empty folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from notata import Logbook
from notata.store import open_store
from tests.command import notata
from tests.servers import free_port

ENDING = " answered at this address; check the address and the network\n"


class Served(SimpleHTTPRequestHandler):
    """Serve a folder; a path that begins with ``401`` or another code is refused with it."""

    def send_head(self) -> object:  # type: ignore[override]
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        status = self.path.split("/")[1][:3]
        if status.isdecimal():
            self.send_error(int(status))
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    Logbook("a", tmp_path).mark_complete()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=tmp_path))
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def commands(url: str) -> list[tuple[str, ...]]:
    named = [(command, url) for command in ("ls", "du", "tree", "tail", "show", "table", "rm", "verify")]
    return [*named, ("cat", f"{url}/log.txt"), ("grep", "x", url), ("compare", url, url)]


def test_an_address_without_a_server_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    for command in commands(f"http://127.0.0.1:{free_port()}/runs"):
        done = notata(*command, folder=tmp_path)
        told = done.stderr or done.stdout  # the command prints a verdict
        assert (done.returncode, told.partition(": no server")[2]) == (3, ENDING), command


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, 3, "asks for a user name and a password, or refuses them (401)"),
        (403, 3, "the server refused the request (403)"),
        (500, 3, "the server answered 500"),
        (404, 1, "there is no"),
    ],
)
def test_what_a_server_refuses_is_reported(
    status: int, code: int, told: str, web: ThreadingHTTPServer, tmp_path: Path
) -> None:
    for command in (("ls",), ("cat",), ("compare", f"http://127.0.0.1:{web.server_port}/")):
        done = notata(*command, f"http://127.0.0.1:{web.server_port}/{status}/x?Signature=secret7", folder=tmp_path)
        assert (done.returncode, done.stdout) == (code, ""), command
        assert told in done.stderr.replace("nothing", "no")
        assert "secret7" not in done.stderr


def test_what_is_there_is_found_by_one_request_a_folder(web: ThreadingHTTPServer, tmp_path: Path) -> None:
    done = notata("du", "-s", f"http://127.0.0.1:{web.server_port}", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert web.asked == ["GET /", "GET /log_a", "GET /log_a/"]  # type: ignore[attr-defined]  # from a redirect


def test_a_server_that_knows_of_no_ranges_gives_what_was_asked_for(web: ThreadingHTTPServer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{web.server_port}/log_a"
    whole = (tmp_path / "log_a/log.txt").read_bytes()
    store = open_store(url)
    assert [store.read("log.txt", 3, 9), store.read("log.txt", 9)] == [whole[3:9], whole[9:]]
    assert store.read("log.txt", 3, len(whole) + 1) == whole[3:]
    done = notata("verify", url, folder=tmp_path)  # the log up to its size when the digest was taken
    assert (done.returncode, done.stdout) == (0, f"{url}: ok; 1 file unchanged, {_logged(tmp_path)} bytes read\n")


def test_cat_of_a_whole_server_names_what_is_there(web: ThreadingHTTPServer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{web.server_port}"
    done = notata("cat", url, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    there = f"Error: {url} is a folder of 1 run, not a file; it contains: log_a\n"
    assert done.stderr == there
    known = url.replace("://", "://ada:secret77@")
    assert notata("cat", known, folder=tmp_path).stderr == there
    done = notata("cat", f"{known}?Signature=secret77", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"Error: there is nothing at {url}\n")


def _logged(folder: Path) -> int:
    files = json.loads((folder / "log_a/manifest.json").read_bytes())["files"]
    assert files["log.txt"]["size"] < (folder / "log_a/log.txt").stat().st_size
    return int(files["log.txt"]["size"])
