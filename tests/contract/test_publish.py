"""Crates from and to every backend: the same bytes by plain fsspec, few requests, nothing before the end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from notata.errors import StorageError
from notata.search import publish
from notata.store.files import PART
from tests.backends import Place
from tests.counting import counted

ODD = ["a#b", "50%", "%41", "what?", "plus+and&amp", "é", "日本", "[x]*", "a=b;c"]


def written(place: Place) -> None:
    with place.logbook("a", params={"omega": 2.0}) as log:
        log.array("t", [0.0, 0.5])
        log.bytes("large", os.urandom(PART + 7))
        for name in ODD:
            log.bytes(f"odd/{name}", name.encode())


def published(source: Place, url: str, target: Place | None = None, exclude: str = "none") -> None:
    options = None if target is None else target.options
    publish(f"{source.url}/log_a", url, exclude=exclude, storage_options=source.options, output_options=options)


def checked(files: dict[str, bytes], source: Place) -> None:
    """Check each file of a crate against the metadata, and against the run."""
    graph = {entity["@id"]: entity for entity in json.loads(files["ro-crate-metadata.json"])["@graph"]}
    named = {unquote(name): entity for name, entity in graph.items() if entity["@type"] == "File"}
    own = {"ro-crate-metadata.json", "ro-crate-preview.html"}
    assert named.keys() == files.keys() - own
    for name, entity in named.items():
        assert entity["sha256"] == hashlib.sha256(files[name]).hexdigest(), name
    of_run = {name: data for name, data in source.files().items() if not name.endswith("metadata.json")}
    assert {name: data for name, data in files.items() if name in of_run} == of_run


def test_a_run_of_each_storage_is_published_and_a_crate_written_to_each(place: Place, tmp_path: Path) -> None:
    written(place)
    near = Place("local", str(tmp_path))
    published(place, f"{near.url}/crate.zip")
    data = near.bytes("crate.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    checked(files, place)
    published(place, f"{place.url}/crates/crate.zip", place)
    assert place.bytes("crates/crate.zip") == data
    published(place, f"{place.url}/crates/crate", place, exclude="large")
    start = "crates/crate/"
    found = {name.removeprefix(start): place.bytes(name) for name in place.names() if name.startswith(start)}
    described = {"ro-crate-metadata.json", "ro-crate-preview.html"}
    assert found.keys() == {name for name in files if not name.endswith(("/log.txt", "/large"))}
    assert all(data == files[name] for name, data in found.items() if name not in described)


def test_a_crate_that_fails_is_not_there(place: Place) -> None:
    written(place)
    place.store().write("log_a/artifacts/large", bytes(PART + 7))
    place.put("log_a/params.yaml", b"omega: 3.0\n")
    before = place.names()
    for name, exclude, changed in (("crate.zip", "none", "large"), ("crate", "large", "params.yaml")):
        with pytest.raises(StorageError, match=f"{changed} has changed"):
            published(place, f"{place.url}/{name}", place, exclude)
    assert place.names() == before


@pytest.mark.usefixtures("stopped_clock")
def test_the_requests_of_a_crate(bucket: Place) -> None:
    with bucket.logbook("a", params={"omega": 2.0}) as log:
        log.text("notes", "converged")
    with counted() as sent:
        published(bucket, f"{bucket.url}/crate.zip", bucket)
    files = ["notes.txt", "log.txt", "manifest.json", "params.yaml"]
    reads = [request for request in sent if request.startswith("GET")]
    for name in files:
        assert sum(name in request for request in reads) <= (3 if name == "manifest.json" else 2), sent
    assert len(sent) <= 18, sent
