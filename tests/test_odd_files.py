"""Files of other programs on a disk or in an archive, and where a user's path leads."""

from __future__ import annotations

import os
import threading
import uuid
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest
from upath import UPath

from notata import FolderError, Logbook, LogReader, MissingError, StorageError
from notata._base.threads import Bell
from notata.store import in_flight, open_beside, open_store
from notata.store.in_flight import InFlight


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path)
    os.mkfifo(str(log.path / "artifacts_pipe"))
    log["artifacts/x"]
    os.mkfifo(str(log.path / "artifacts/pipe"))
    reader = LogReader(tmp_path / "log_run")
    with pytest.raises(StorageError, match=r"artifacts/pipe: .*it is not a regular file"):
        reader.load_bytes("pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        log.open("artifacts_pipe").read()
    assert reader.files == ["log.txt", "metadata.json"]


def test_a_missing_folder_differs_from_an_empty_one(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    memory = open_store("memory://odd-files")
    memory.write("a.txt", b"a")
    for path in (tmp_path / "a.txt", "memory://odd-files/a.txt"):
        with pytest.raises(FolderError, match=r"a\.txt as a folder: it is a file; use file\(\)"):
            log.folder(path)
    for path in (tmp_path / "empty", tmp_path / "none", "memory://odd-files/none"):
        with pytest.raises(MissingError, match="has no files besides those of this run"):
            log.folder(path)


def test_links_are_not_listed(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path)
    log.text("here", "yes")
    (log.artifactsdir / "loop").symlink_to("loop")
    (log.artifactsdir / "nowhere").symlink_to("gone")
    (log.artifactsdir / "there.txt").symlink_to("here.txt")
    assert LogReader(tmp_path / "log_run").artifacts == ["here.txt"]


def test_an_archive_is_a_source_like_any_other(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/a.txt", "a")
        archive.writestr("b.txt", "b")
    log = Logbook("run", tmp_path)
    whole = f"zip://::file://{tmp_path}/z.zip"
    assert [entry.key for entry in open_store(whole).list()] == ["b.txt", "in/a.txt"]
    log.folder(UPath("zip://", fo=str(tmp_path / "z.zip")), "unpacked")
    assert (log.path / "artifacts/unpacked/in/a.txt").read_text() == "a"
    assert log.file(f"zip://in/a.txt::file://{tmp_path}/z.zip").read_text() == "a"
    assert log.file(f"zip://b.txt::file://{tmp_path}/z.zip", "renamed").read_text() == "b"


@pytest.mark.parametrize(
    ("given", "folder", "name"),
    [
        ("~/a.txt", "{home}", "a.txt"),
        ("/a.txt", "/", "a.txt"),
        ("file:///tmp/x/a.txt", "/tmp/x", "a.txt"),
        ("file:///a.txt", "/", "a.txt"),
        ("memory://a.txt", "memory://", "a.txt"),
        ("memory://x/a.txt", "memory://x", "a.txt"),
        ("s3://bucket/a.txt", "s3://bucket", "a.txt"),
        ("s3://bucket/x/a.txt", "s3://bucket/x", "a.txt"),
    ],
)
def test_a_file_is_found_in_its_folder(given: str, folder: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    store, found = open_beside(given)
    assert (store.url, found) == (folder.format(home="/somewhere"), name)


def test_urls_are_shown_as_they_can_be_written() -> None:
    assert open_store("memory://").below("log_a").url == "memory://log_a"
    assert open_store("s3://bucket/runs/").below("log_a").url == "s3://bucket/runs/log_a"
    assert LogReader(Logbook("root", "memory://").url).run_id == "root"


class Web(BaseHTTPRequestHandler):
    """A server without ranges that reports no size for some files and requires a signature."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(b"mesh" * 1000)

    def answer(self, body: bytes) -> None:
        allowed = "?Signature=top-secret-7" in self.path
        self.send_response(200 if allowed else 403)
        if "chunked" in self.path and body and allowed:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return
        if "chunked" not in self.path:
            self.send_header("Content-Length", str(4000 if allowed else 0))
        elif not body:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(body if allowed else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/runs"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["mesh.vtk", "chunked.vtk"])
@pytest.mark.parametrize("kind", [str, UPath])
def test_a_signed_address_is_read_whole_and_never_printed(
    name: str, kind: type[str | UPath], web: str, tmp_path: Path
) -> None:
    log = Logbook("run", tmp_path)
    path = log.file(kind(f"{web}/{name}?Signature=top-secret-7"))
    assert (path.name, path.read_bytes()) == (name, b"mesh" * 1000)
    wrong = "wrong-secret-" + "8"  # tracebacks show this line
    with pytest.raises(StorageError) as caught:
        log.file(f"{web}/{name}?Signature={wrong}")
    log.mark_failed("on purpose", caught.value)
    everything = b"".join(file.read_bytes() for file in (tmp_path / "log_run").rglob("*") if file.is_file())
    told = str(caught.value) + repr(caught.value.key) + repr(open_beside(f"{web}/{name}?Signature={wrong}"))
    for secret in ("top-secret-7", wrong):
        assert secret.encode() not in everything
        assert secret not in told


def test_an_interrupt_ends_copies_that_have_begun(tmp_path: Path) -> None:
    source = open_store(f"memory://{uuid.uuid4().hex}")
    for number in range(3):
        source.write(str(number), bytes(4 * 2**20))
    begun = threading.Barrier(3, timeout=60)  # two copies and this test
    seen: list[int] = []

    def stream(key: str) -> IO[bytes]:
        file = type(source).stream(source, key)
        read = file.read

        def slowly(size: int = -1) -> bytes:
            if int(key) not in seen:
                seen.append(int(key))
                begun.wait()
                stopped.wait(60)
            return read(size)

        file.read = slowly  # type: ignore[method-assign]
        return file

    stopped = threading.Event()
    source.stream = stream  # type: ignore[method-assign]
    log = Logbook("run", tmp_path)

    def interrupted(self: InFlight[str, object]) -> None:
        begun.wait()
        raise KeyboardInterrupt

    class Waited(Bell):
        def wait(self, timeout: float | None = None) -> bool:
            stopped.set()  # by now, the copy that has not begun is cancelled
            return super().wait(timeout)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(InFlight, "land", interrupted)
        patch.setattr(in_flight, "Bell", Waited)
        open_store(log.url).copy_from({f"artifacts/{entry.key}": entry for entry in source.list()}, source)
    assert len(seen) == 2
    assert LogReader(tmp_path / "log_run").artifacts == []
