"""The content types of objects in a bucket, read from their headers with the raw client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import Logbook, search, sync
from notata.store import Store
from notata.store.files import PART
from tests.backends import Place
from tests.contract.conftest import BUCKETS, CEPH, emptied

TEXT = "text/plain; charset=utf-8"
DOWNLOAD = "a download"
PAGE = "text/html; charset=utf-8"
TYPES = {
    "a.json": "application/json", "a.jsonl": TEXT, "a.txt": TEXT, "log_r/b.YAML": TEXT, "b.yml": TEXT,
    "a.csv": "text/csv; charset=utf-8", "a.png": "image/png", "a.jpg": "image/jpeg", "a.jpeg": "image/jpeg",
    "a.gif": "image/gif", "a.webp": "image/webp", "a.pdf": "application/pdf",
    "a.npy": DOWNLOAD, "json": DOWNLOAD, "x.txt/y": DOWNLOAD, "a.json.gz": DOWNLOAD,
}  # fmt: skip
ACTIVE = ["a.html", "a.HTM", "a.htm", "a.xhtml", "a.svg", "a.svgz", "a.xml", "a.js", "a.mjs"]


@pytest.fixture(params=[*BUCKETS, pytest.param("obstore", marks=pytest.mark.real), CEPH])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


def kind(place: Place, key: str) -> str:
    """Return the content type in the headers of an object, as the server reports them."""
    found = header(place, key)
    return DOWNLOAD if found in ("application/octet-stream", "binary/octet-stream") else found


def header(place: Place, key: str) -> str:
    path = f"{place.url.partition('://')[2]}/{key}"
    if not place.is_s3:
        return str(place.raw().info(path)["contentType"])
    bucket, _, name = path.partition("/")
    return str(place.raw().call_s3("head_object", Bucket=bucket, Key=name)["ContentType"])


def streamed(store: Store, key: str, mode: str = "wb") -> None:
    with store.open(key, mode) as file:
        file.write(bytes(PART))
        file.write(b"end")


def extended(store: Store, key: str) -> None:
    store.write(key, bytes(PART))
    store.append(key, b"x", PART)


WRITES: dict[str, Callable[[Store, str], Any]] = {
    "write": lambda store, key: store.write(key, b"x"),
    "create": lambda store, key: store.create(key, b"x"),
    "replace": lambda store, key: store.replace(key, b"y", store.create(key, b"x")),
    "append": lambda store, key: [store.append(key, b"x", 0), store.append(key, b"y", 1)],
    "stream": streamed,
    "exclusive stream": lambda store, key: streamed(store, key, "xb"),
    "extend": extended,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_each_kind_of_write_gives_an_object_its_type(place: Place, store: Store, write: Callable[..., Any]) -> None:
    for key, expected in {"a.jsonl": TEXT, "log_r/a.png": "image/png", "a.npy": DOWNLOAD, "a.html": DOWNLOAD}.items():
        write(store, key)
        assert kind(place, key) == expected, key


def test_an_objects_type_follows_from_its_suffix(place: Place, store: Store) -> None:
    for key, expected in TYPES.items():
        store.write(key, b"<html><script>alert(1)</script>")
        assert kind(place, key) == expected, key


def test_nothing_that_could_run_a_script_opens_in_the_origin_of_a_bucket(place: Place, tmp_path: Path) -> None:
    with Logbook("r", tmp_path) as log:
        for key in ACTIVE:
            log.bytes(key, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (tmp_path / "page.html").write_text("<script>alert(1)</script>")
    sync(tmp_path, place.url, destination_options=place.options)
    with place.logbook("there") as log:
        for key in ACTIVE:
            log.bytes(key, b"<script>alert(1)</script>")
    keys = ["page.html", *(f"log_{run}/artifacts/{key}" for run in ("r", "there") for key in ACTIVE)]
    assert {key: kind(place, key) for key in keys} == dict.fromkeys(keys, DOWNLOAD)
    assert kind(place, "log_r/log.txt") == kind(place, "log_there/log.txt") == TEXT


def test_a_report_in_a_bucket_is_a_page(place: Place, tmp_path: Path) -> None:
    Logbook("r", tmp_path, params={"seed": 1}).mark_complete()
    for _ in range(2):  # new, and over the one before
        search.report(tmp_path, f"{place.url}/reports/r.html", output_options=place.options)
        assert kind(place, "reports/r.html") == PAGE


@pytest.mark.parametrize("mode", ["wb", "xb"])
def test_a_streamed_page_is_a_page(place: Place, store: Store, mode: str) -> None:
    streamed(store.below("b").serving_pages(), "r.html", mode)
    assert kind(place, "b/r.html") == PAGE
    assert place.bytes("b/r.html") == bytes(PART) + b"end"
