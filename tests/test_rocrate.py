"""Crates as the package `rocrate` reads them."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
from rocrate.rocrate import ROCrate

from notata import Logbook
from notata.search import publish

ODD = ["a#b", "50% ü", "what?", "plus+and&amp", "日本", "[x]*", "a=b;c", "co:lon"]


def test_rocrate_reads_a_crate_and_its_digests_are_those_of_the_zip_file(tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "runs", params={"omega": 2.0}) as log:
        log.array("t", [0.0, 0.5])
        for name in ODD:
            log.bytes(f"odd/{name}", name.encode())
    with pytest.raises(ValueError, match="boom"), Logbook("b", tmp_path / "runs"):
        raise ValueError("boom")
    publish(tmp_path / "runs", tmp_path / "crate.zip", authors="Ada Lovelace", license="CC-BY-4.0", name="Two runs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # about data entities that nothing lists
        crate = ROCrate(tmp_path / "crate.zip")
    assert (crate.name, crate.version, crate.license["name"]) == ("Two runs", "1.1", "CC-BY-4.0")
    assert crate.root_dataset["conformsTo"].id == "https://w3id.org/ro/wfrun/process/0.5"
    with zipfile.ZipFile(tmp_path / "crate.zip") as archive:
        in_zip = {name: archive.read(name) for name in archive.namelist()}
    own = {"ro-crate-metadata.json", "ro-crate-preview.html"}
    entities = [entity for entity in crate.data_entities if entity.type == "File"]
    assert {unquote(entity.id) for entity in entities} == in_zip.keys() - own
    for entity in entities:
        data = in_zip[unquote(entity.id)]
        assert Path(entity.source).read_bytes() == data
        assert (entity["sha256"], entity["contentSize"]) == (hashlib.sha256(data).hexdigest(), str(len(data)))
    actions = {action.id: action for action in crate.root_dataset["mentions"]}
    assert [action["actionStatus"].rpartition("/")[2] for action in actions.values()] == [
        "CompletedActionStatus",
        "FailedActionStatus",
    ]
    first = actions["#log_a"]
    assert first["instrument"].type == "SoftwareApplication"
    assert first["agent"]["name"] == "Ada Lovelace"
    assert {one["name"]: one.get("value") for one in first["object"]} == {"log_a/params.yaml": None, "omega": 2.0}
    crate.write(tmp_path / "again")  # reads each file that is named
    assert (tmp_path / "again/log_a/artifacts/odd/a#b").read_bytes() == b"a#b"
