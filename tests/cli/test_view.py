"""``notata view`` as its own process: its address, its end, and what it reports."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from notata import Logbook
from tests.command import notata
from tests.servers import free_port


class Started:
    """A server that answers requests.

    Attributes:
        printed: What it has printed so far.
        address: The address with the token.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.printed.append(line.rstrip("\n"))
            if line.startswith("Press Ctrl-C"):
                break
        found = re.search(r"http://\S+", "\n".join(self.printed))
        assert found is not None, self.printed
        self.address = found[0]
        self._cookie = ""
        self._connections: list[http.client.HTTPConnection] = []

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    def get(self, path: str) -> http.client.HTTPResponse:
        """Return the answer to a request with the cookie, which the first request gets."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self._connections.append(connection)
        if not self._cookie:
            token = parse_qs(urlsplit(self.address).query)["token"][0]
            connection.request("GET", f"/?token={token}")
            answer = connection.getresponse()
            answer.read()
            self._cookie = (answer.headers["set-cookie"] or "").partition(";")[0]
        connection.request("GET", path, headers={"Cookie": self._cookie})
        return connection.getresponse()

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code and what was printed since."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        out = self.process.stdout.read()  # communicate() would miss lines that are in the buffer already
        return self.process.wait(60), out

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()


@contextmanager
def viewing(*arguments: str, folder: Path, **environment: str) -> Iterator[Started]:
    """Start the command on a free port."""
    command = [sys.executable, "-u", "-m", "notata", "view", "--port", "0", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    started = None
    try:
        started = Started(process)
        yield started
    finally:
        if started is not None:
            started.close()
        process.kill()
        process.communicate()


@pytest.fixture
def log(tmp_path: Path) -> Logbook:
    log = Logbook("a", tmp_path, params={"lr": 0.1})
    log.scalars(step=0, loss=1.0)
    log.flush()
    return log


def test_the_page_is_served_and_a_new_row_is_reported(log: Logbook, tmp_path: Path) -> None:
    with viewing(str(tmp_path), "--no-browser", folder=tmp_path) as view:
        assert view.printed[0] == f"notata view: {tmp_path}"
        assert "<title>" in view.get("/").read().decode()
        assert json.loads(view.get("/api/runs").read())["count"] == 1
        assert len(json.loads(view.get("/api/curves/scalars/loss?runs=log_a").read())["curves"][0]["y"]) == 1
        events = view.get('/api/events?watch=%7B"series":%7B"scalars":%5B"log_a"%5D%7D%7D')
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.readline() == b"retry: 2000\n"
        log.scalars(step=1, loss=0.5)
        log.flush()
        assert b'"rows"' in next(line for line in iter(events.readline, b"") if line.startswith(b"data:"))
        assert len(json.loads(view.get("/api/curves/scalars/loss?runs=log_a").read())["curves"][0]["y"]) == 2
        assert view.end() == (0, "Stopped\n")  # with the open stream
        assert events.read().splitlines()[-2:] == [b'data: {"kind": "ended", "ids": []}', b""]


def test_without_a_terminal_the_port_is_free_again_after_the_end(log: Logbook, tmp_path: Path) -> None:
    port = free_port()
    for _ in range(2):
        with viewing(str(tmp_path), "--no-browser", "--port", str(port), folder=tmp_path) as view:
            assert view.port == port
            assert view.get("/").status == 200
            assert view.end()[0] == 0


def test_the_end_waits_for_the_thread_that_looks_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that ends while a thread imports a package in C can crash."""
    stopped, ended = threading.Event(), threading.Event()

    def look(_: object) -> None:
        stopped.wait()
        ended.set()

    monkeypatch.setattr("notata.page.server.PageServer.look", look)
    monkeypatch.setattr("notata.page.server.serve", lambda _server, _listening, started: started())
    monkeypatch.setattr("notata.cli.output.error_line", lambda text: stopped.set() if text == "Stopped" else None)
    assert notata("view", ".", "--no-browser", "--port", "0", folder=tmp_path).returncode == 0
    assert ended.is_set()


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = notata("view", str(tmp_path), "--port", str(port), "--no-browser", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: cannot listen on port {port}: another program is using it. Pass another --port, or omit "
        "--port to use a free one\n"
    )


def test_an_address_of_another_machine_is_an_error(tmp_path: Path) -> None:
    done = notata("view", str(tmp_path), "--host", "192.0.2.1", "--port", "0", "--no-browser", folder=tmp_path)
    assert done.returncode == 2
    assert "cannot listen on 192.0.2.1" in done.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "uplot"])
def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = notata("view", str(tmp_path), folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: notata view needs starlette, uvicorn and uplot-python: pip install 'notata[view]' (the extra 'view')\n"
    )


def test_an_invalid_filter_is_an_error(tmp_path: Path) -> None:
    done = notata("view", str(tmp_path), "--where", "lr >", "--port", "0", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")


def test_the_browser_gets_the_address_with_the_state(log: Logbook, tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    look = 'file="${1#file://}"; (echo "$1"; cat "$file"; ls -l "$file")'
    browser.write_text(f"#!/bin/sh\n{look} > {opened}.part; mv {opened}.part {opened}\n")
    browser.chmod(0o700)
    options = ("--sort", "loss", "-r", "--group", "seed")
    with viewing(str(tmp_path), *options, folder=tmp_path, BROWSER=f"{browser} %s") as view:
        while not opened.exists():
            assert view.process.poll() is None
            os.sched_yield()
        assert view.end()[0] == 0
    file, content, listed = opened.read_text().splitlines()
    token = parse_qs(urlsplit(view.address).query)["token"][0]
    assert (token in file, f"/?token={token}&amp;at=%2Fruns%3Fsort%3D-loss%26group%3Dseed" in content) == (False, True)
    assert listed.startswith("-rw-------")  # other users see the arguments of the browser, and cannot read the file
    assert not Path(urlsplit(file).path).exists()
    assert view.address.endswith("#/runs?sort=-loss&group=seed")


def test_a_missing_browser_is_reported_and_the_page_is_served(log: Logbook, tmp_path: Path) -> None:
    with viewing(str(tmp_path), folder=tmp_path, BROWSER="no-such-browser", PATH="") as view:
        assert view.process.stdout is not None
        line = view.process.stdout.readline()
        assert line == "No browser was found on this machine: open the address above in a browser\n"
        assert view.get("/").status == 200
        assert view.end()[0] == 0


def test_a_page_for_other_machines_is_a_warning(log: Logbook, tmp_path: Path) -> None:
    with viewing(str(tmp_path), "--no-browser", "--host", "0.0.0.0", folder=tmp_path) as view:
        assert view.printed[0].startswith("Warning: other machines can reach this page at 0.0.0.0")
        assert view.address.startswith("http://127.0.0.1:")
        assert view.get("/").status == 200


def test_a_place_without_runs_is_shown_and_one_that_fails_is_reported(tmp_path: Path) -> None:
    with viewing(str(tmp_path / "nothing"), "--no-browser", folder=tmp_path) as view:
        page = json.loads(view.get("/api/runs").read())
        assert (page["count"], "there is no run" in page["problems"][0]) == (0, True)
        said = [*view.printed, *view.end()[1].splitlines()]  # before or after the address: another thread looks
        warning = f"Warning: there is no run at or below {tmp_path / 'nothing'}. The page will show runs as soon as"
        assert len([line for line in said if line.startswith(warning)]) == 1, said
    options = ("-o", "endpoint_url=http://127.0.0.1:9", "-o", "key=a", "-o", "secret=b")
    with viewing("s3://bucket/x", "--no-browser", *options, folder=tmp_path) as view:
        page = json.loads(view.get("/api/runs").read())
        assert (page["count"], page["stale"], "no server answered" in page["problems"][0]) == (0, True, True)
        assert "no server answered" in view.end()[1].splitlines()[0]
