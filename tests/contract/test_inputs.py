"""The inputs of a run, read back with plain fsspec and compared with digests that hashlib calculates."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Experiment, LogReader, MissingError, Worker, search
from notata.run.inputs import Input, parsed
from tests.backends import Place
from tests.counting import counted

MESH = b"\x00\x01mesh" * 1000
PASSWORD = "hunter2-do-not-tell"


def entries(place: Place, run_id: str = "run", folder: str = "") -> list[dict[str, Any]]:
    """Return the inputs that are stored, read with plain fsspec."""
    found = json.loads(place.bytes(f"log_{run_id}/{folder}inputs.json"))
    assert set(found) <= {"inputs", "more"}
    return list(found["inputs"])


def reader(place: Place, run_id: str = "run") -> LogReader:
    return LogReader(f"{place.url}/log_{run_id}", storage_options=place.options)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_input_is_recorded_and_opened(place: Place) -> None:
    place.put("shared/mesh ü.h5", MESH)
    with place.logbook() as log:
        path = log.input(f"{place.url}/shared/mesh ü.h5", storage_options=place.options)
        assert path.read_bytes() == MESH
        assert isinstance(path, Path) == (place.name == "local")
    (found,) = entries(place)
    assert found["url"] == f"{place.url}/shared/mesh ü.h5"
    assert found["size"] == len(MESH)
    assert found.get("sha256") == (None if place.bucket else sha256(MESH))
    assert ("version" in found) is place.bucket
    assert found["time"][:10] == log.reader.meta["start_time"][:10]
    assert "run_id" not in found
    assert [one.record() for one in reader(place).inputs] == [found]
    assert reader(place).verify().ok
    assert "inputs.json" in json.loads(place.bytes("log_run/manifest.json"))["files"]


def test_a_digest_is_calculated_if_asked_for_and_never_if_not(place: Place) -> None:
    place.put("shared/a", MESH)
    place.put("shared/b", MESH)
    with place.logbook() as log:
        log.input(f"{place.url}/shared/a", digest=True, storage_options=place.options)
        log.input(f"{place.url}/shared/b", digest=False, storage_options=place.options)
    first, second = entries(place)
    assert first["sha256"] == sha256(MESH)
    assert "sha256" not in second


def test_the_same_input_is_one_entry_and_a_changed_one_another(place: Place) -> None:
    place.put("shared/a", b"one")
    with place.logbook() as log:
        for _ in range(3):
            log.input(f"{place.url}/shared/a", storage_options=place.options)
        place.put("shared/a", b"two!")
        log.input(f"{place.url}/shared/a", storage_options=place.options)
    assert [found["size"] for found in entries(place)] == [3, 4]


def test_a_folder_is_one_entry_with_the_digest_that_sha256sum_gives(place: Place) -> None:
    files = {"x/2.dat": b"22", "1.dat": b"1", "x/y/3.dat": b""}
    place.fill({f"shared/{name}": data for name, data in files.items()})
    with place.logbook() as log:
        path = log.input(f"{place.url}/shared", digest=True, storage_options=place.options)
        assert (path / "x" / "2.dat").read_bytes() == b"22"
        log.input(f"{place.url}/shared/", digest=True, storage_options=place.options)
    (found,) = entries(place)
    assert (found["size"], found["files"]) == (3, 3)
    lines = "".join(f"{sha256(data)}  {name}\n" for name, data in sorted(files.items()))
    assert found["sha256"] == sha256(lines.encode())


@pytest.mark.parametrize("name", ["shared/missing.h5", "shared", "other/deep/er"])
def test_a_missing_input_is_an_error_at_once(name: str, place: Place) -> None:
    log = place.logbook()
    with pytest.raises(MissingError, match=r"cannot record the input .*it does not exist\. Check the path") as raised:
        log.input(f"{place.url}/{name}", storage_options=place.options)
    assert isinstance(raised.value, FileNotFoundError)
    assert place.names() == ["log_run/metadata.json"]


def test_a_wrong_argument_is_refused(place: Place) -> None:
    place.put("shared/a", b"one")
    log = place.logbook()
    for wrong in ("sha256", 2):
        with pytest.raises(ConfigurationError, match="invalid digest"):
            log.input(f"{place.url}/shared/a", digest=wrong, storage_options=place.options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="expected a URL, a path or a UPath"):
        log.input(5)  # type: ignore[arg-type]


# -- inputs in other runs ------------------------------------------------------------------------------------


def aged(place: Place, run_id: str) -> None:
    """Make the files of a run on a disk older than the resolution of times, after which its manifest is trusted."""
    if place.name == "local":
        folder = Path(place.url, f"log_{run_id}")
        manifest = json.loads((folder / "manifest.json").read_text().replace("\n", ""))
        for key in manifest["files"]:
            os.utime(folder / key, (1_700_000_000, 1_700_000_000))


def test_an_input_in_another_run_has_its_id_and_the_digest_of_its_manifest(place: Place) -> None:
    with place.logbook("first") as first:
        made = first.bytes("mesh.h5", MESH)
    aged(place, "first")
    with place.logbook("second") as log:
        log.input(made)
    (found,) = entries(place, "second")
    assert (found["run_id"], found["sha256"]) == ("first", sha256(MESH))
    assert found.get("digest_from") == (None if place.name == "memory" else "manifest")
    (one,) = reader(place, "second").inputs
    assert LogReader(one.run_url, storage_options=place.options).run_id == "first"


def test_a_folder_of_another_run_and_the_run_itself(place: Place) -> None:
    with place.logbook("first") as first:
        first.bytes("parts/a", b"1")
        first.bytes("parts/b", b"2")
    aged(place, "first")
    with place.logbook("second") as log:
        log.input(f"{first.url}/artifacts/parts", storage_options=place.options)
        log.input(first.url, storage_options=place.options)
        log.input(first.url, storage_options=place.options)
    folder, whole = entries(place, "second")
    assert folder["sha256"] == sha256(f"{sha256(b'1')}  a\n{sha256(b'2')}  b\n".encode())
    assert (folder["run_id"], whole["run_id"], whole["files"]) == ("first", "first", 3)  # with the log
    assert [one.run_url for one in reader(place, "second").inputs] == [first.url] * 2


def test_a_manifest_that_does_not_hold_any_more_gives_no_digest(place: Place) -> None:
    with place.logbook("first") as first:
        first.bytes("mesh.h5", MESH)
    aged(place, "first")
    changed = bytes(reversed(MESH))
    place.put("log_first/artifacts/mesh.h5", changed)
    with place.logbook("second") as log:
        log.input(f"{first.url}/artifacts/mesh.h5", storage_options=place.options)
    (found,) = entries(place, "second")
    assert found["run_id"] == "first"
    assert found.get("sha256") == (None if place.bucket else sha256(changed))
    warnings = [line for line in place.log("second") if line.startswith("WARNING")]
    assert len(warnings) == (0 if place.bucket else 1)
    assert all("changed after run 'first' had ended" in line for line in warnings)


def test_an_input_in_a_running_run_has_its_id(place: Place) -> None:
    first = place.logbook("first")
    made = first.bytes("mesh.h5", MESH)
    with place.logbook("second") as log:
        log.input(made)
        log.input(log.bytes("own", b"1"))
    found, own = entries(place, "second")
    assert (found["run_id"], found.get("sha256")) == ("first", None if place.bucket else sha256(MESH))
    assert "run_id" not in own


def test_a_folder_that_only_has_the_name_of_a_run_is_none(place: Place) -> None:
    place.put("log_files/run 1/mesh.h5", MESH)
    place.put("log_files/metadata.json", b'{"run_id": "files"}')
    with place.logbook() as log:
        log.input(f"{place.url}/log_files/run 1/mesh.h5", storage_options=place.options)
    assert "run_id" not in entries(place)[0]


@pytest.mark.parametrize("manifest", [b"", b"{}", b"\xff", b'{"files": 5}', b"[" * 100_000])
def test_a_damaged_manifest_is_not_used(manifest: bytes, place: Place) -> None:
    with place.logbook("first") as first:
        first.bytes("mesh.h5", MESH)
    aged(place, "first")
    place.put("log_first/manifest.json", manifest)
    with place.logbook("second") as log:
        log.input(f"{first.url}/artifacts/mesh.h5", storage_options=place.options)
    (found,) = entries(place, "second")
    assert found["run_id"] == "first"
    assert "digest_from" not in found


# -- writers -------------------------------------------------------------------------------------------------


def test_inputs_of_workers_have_a_file_of_their_own(place: Place) -> None:
    place.put("shared/a", b"1")
    place.put("shared/b", b"22")
    with place.logbook() as log:
        log.input(f"{place.url}/shared/a", storage_options=place.options)
        with Worker(log.url, 3, storage_options=place.options) as worker:
            worker.input(f"{place.url}/shared/b", storage_options=place.options)
        again = log.worker(3)  # as in another process
        again.input(f"{place.url}/shared/a", storage_options=place.options)
    assert [found["size"] for found in entries(place, folder="workers/3/")] == [2, 1]
    assert [(one.size, one.rank) for one in reader(place).inputs] == [(1, ""), (2, "3"), (1, "3")]


def test_a_resumed_run_keeps_its_inputs(place: Place) -> None:
    place.put("shared/a", b"1")
    place.put("shared/b", b"22")
    for name in ("a", "b"):
        with place.logbook(resume=True) as log:
            log.input(f"{place.url}/shared/{name}", storage_options=place.options)
    assert [found["size"] for found in entries(place)] == [1, 2]
    with place.logbook(overwrite=True) as log:
        log.input(f"{place.url}/shared/b", storage_options=place.options)
    assert [found["size"] for found in entries(place)] == [2]


def test_threads_and_copies_of_a_worker_lose_no_input(place: Place) -> None:
    names = [f"shared/{number}" for number in range(8)]
    place.fill({name: name.encode() for name in names})
    log = place.logbook()
    writers = [log, log, log.worker(0), log.worker(0)]  # the last two as in two processes

    def record(at: int) -> None:
        for name in names[at % 2 :: 2]:
            writers[at].input(f"{place.url}/{name}", storage_options=place.options)

    threads = [threading.Thread(target=record, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.mark_complete()
    for folder in ("", "workers/0/"):
        urls = {found["url"] for found in entries(place, folder=folder)}
        assert urls == {f"{place.url}/{name}" for name in names}


def test_too_many_inputs_are_said_and_still_opened(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notata._base.limits.INPUTS_NUMBER", 2)
    place.fill({f"shared/{number}": b"1" for number in range(3)})
    with place.logbook() as log:
        for number in range(3):
            path = log.input(f"{place.url}/shared/{number}", storage_options=place.options)
            assert path.read_bytes() == b"1"
    assert len(entries(place)) == 2
    assert json.loads(place.bytes("log_run/inputs.json"))["more"] is True
    assert any("a run records at most 2" in line for line in place.log())


def test_an_input_of_a_queued_run_is_recorded(place: Place) -> None:
    place.put("shared/a", b"1")
    with place.logbook(background=True) as log:
        made = log.bytes("b", b"22")
        log.input(f"{place.url}/shared/a", storage_options=place.options)
        log.input(made)
    assert [found["size"] for found in entries(place)] == [1, 2]


# -- costs, and what is shown --------------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_clock")
def test_inputs_cost_what_the_docs_say(bucket: Place) -> None:
    bucket.put("shared/a", MESH)
    bucket.put("shared/b", MESH)
    with bucket.logbook("first") as first:
        made = [first.bytes(f"{number}.h5", MESH) for number in range(2)]
    log = bucket.logbook()
    log.input(f"{bucket.url}/shared/b", storage_options=bucket.options)  # connects
    for path, expected in ((f"{bucket.url}/shared/a", 2), (made[0], 4), (made[1], 2), (made[1], 1)):
        with counted() as sent:
            log.input(path, storage_options=bucket.options)
        assert len(sent) == expected, sent
    with counted() as sent:
        log.input(f"{bucket.url}/shared", storage_options=bucket.options)
    assert len(sent) <= 4, sent  # not a file, a list, and the record


def test_show_names_inputs_and_the_parent(place: Place) -> None:
    with place.logbook("first") as first:
        made = first.bytes("mesh.h5", MESH)
    with place.logbook("second", parent=first) as log:
        log.input(made)
    found = search.show(log.url, storage_options=place.options)
    assert found.parent == first.url
    assert [(one.run_id, one.size) for one in found.inputs] == [("first", len(MESH))]
    record = found.record()
    assert record["inputs"] == entries(place, "second")
    assert record["parent"] == first.url
    assert "parent" not in record["fields"]


# -- the parent ----------------------------------------------------------------------------------------------


def test_a_parent_in_any_form_is_recorded_by_its_url(place: Place) -> None:
    with place.logbook("first") as first:
        pass
    forms = [first, first.reader, first.url, first.path]
    for number, parent in enumerate(forms):
        place.logbook(f"child-{number}", parent=parent).mark_complete()
        assert json.loads(place.bytes(f"log_child-{number}/metadata.json"))["parent"] == first.url
    place.logbook("child-0", resume=True).mark_complete()
    assert json.loads(place.bytes("log_child-0/metadata.json"))["parent"] == first.url
    with pytest.raises(ConfigurationError, match="invalid parent of type int: pass a Logbook"):
        place.logbook("other", parent=5)


def test_the_runs_of_an_experiment_have_its_parent(place: Place) -> None:
    experiment = Experiment("e", place.url, storage_options=place.options, parent=f"{place.url}/log_first")
    experiment.add(x=1).mark_complete()
    assert json.loads(place.bytes("e/runs/log_e_x_1/metadata.json"))["parent"] == f"{place.url}/log_first"


# -- without a backend ---------------------------------------------------------------------------------------


def test_credentials_of_an_input_reach_no_file(tmp_path: Path) -> None:
    from notata import Logbook

    with Logbook("run", tmp_path, parent=f"s3://ada:{PASSWORD}@bucket/log_a") as log:
        with pytest.raises(Exception, match="cannot") as raised:
            log.input(f"sftp://ada:{PASSWORD}@localhost:1/x/mesh.h5", storage_options={"timeout": 0.1})
        assert PASSWORD not in str(raised.value)
    for file in (tmp_path / "log_run").rglob("*"):
        assert file.is_dir() or PASSWORD.encode() not in file.read_bytes(), file
    assert log.reader.meta["parent"] == "s3://bucket/log_a"


def test_a_pipe_is_no_input(tmp_path: Path) -> None:
    from notata import Logbook, StorageError

    os.mkfifo(tmp_path / "pipe")
    with Logbook("run", tmp_path) as log, pytest.raises(StorageError, match="not a regular file"):
        log.input(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "sizes"),
    [
        (b"", []),
        (b"[" * 100_000, []),
        (b"null", []),
        (b'{"inputs": {}}', []),
        (b'{"inputs": [5, {"size": 1}, {"url": ""}, {"url": 7}, {"url": "a", "size": 1}]}', [1]),
        (
            b'{"inputs": [{"url": "a", "size": -1}, {"url": "b", "size": 1e999}, {"url": "c", "size": true}]}',
            [None] * 3,
        ),
    ],
)
def test_forged_inputs_are_left_out(content: bytes, sizes: list[int | None]) -> None:
    assert [one.size for one in parsed(content)] == sizes


def test_forged_fields_are_left_out() -> None:
    forged = {"url": "a", "sha256": "../x", "run_id": "../../b", "version": 5, "time": ["x"], "files": "1"}
    assert parsed(json.dumps({"inputs": [forged]}).encode()) == [Input("a")]
