"""Crates: zip files and folders, read by `zipfile`, `json`, `yaml` and `hashlib`, and compared with the raw files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from notata import Logbook, LogReader, search
from notata.errors import ConfigurationError, ExistsError, NotataError, RunMissingError, StorageError
from notata.publish.sinks import output_of
from notata.search import Published, publish
from notata.store import open_store
from notata.store.files import PART
from notata.testing import FaultyBackend
from tests.command import notata
from tests.page.test_bundle import Page

OWN = {"CITATION.cff", "ro-crate-metadata.json", "ro-crate-preview.html"}
ADA = "Ada Lovelace <0000-0002-1825-0097>"


def raw(url: str) -> bytes:
    data: bytes = MemoryFileSystem().cat_file(url.removeprefix("memory:/"))
    return data


class Crate:
    """A crate as another program sees it."""

    def __init__(self, data: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            self.files = {info.filename: archive.read(info) for info in archive.infolist()}
            assert len(self.files) == len(archive.infolist())
        self.graph = json.loads(self.files["ro-crate-metadata.json"])
        entities = self.graph["@graph"]
        self.entities: dict[str, Any] = {entity["@id"]: entity for entity in entities}
        assert len(self.entities) == len(entities)

    @classmethod
    def of(cls, urls: Any, **options: Any) -> Crate:
        written = publish(urls, "memory://out/crate.zip", replace=True, **options)
        assert written.url == "memory://out/crate.zip"
        return cls(raw("memory://out/crate.zip"))

    def many(self, entity: str, name: str) -> list[Any]:
        value = self.entities[entity].get(name, [])
        return value if isinstance(value, list) else [value]

    def ids(self, entity: str, name: str) -> list[str]:
        return [part["@id"] for part in self.many(entity, name)]

    def parts(self) -> set[str]:
        """Return all files that the root names, directly or in its folders."""
        named, waiting = set(), ["./"]
        while waiting:
            for part in self.ids(waiting.pop(), "hasPart"):
                waiting += [part] if part.endswith("/") else []
                named |= set() if part.endswith("/") else {part}
        return named

    def check(self) -> None:
        """Check that each file is named, with its size and digest, and that each reference leads to an entity."""
        assert {unquote(part) for part in self.parts()} == set(self.files) - OWN | {"CITATION.cff"}
        for part in [*self.parts(), "ro-crate-preview.html"]:
            data, entity = self.files[unquote(part)], self.entities[part]
            assert entity["sha256"] == hashlib.sha256(data).hexdigest()
            assert entity["contentSize"] == str(len(data))
            assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", entity["encodingFormat"])
        for reference in re.findall(
            r'\{\s*"@id":\s*"((?:[^"\\]|\\.)*)"\s*\}', self.files["ro-crate-metadata.json"].decode()
        ):
            assert json.loads(f'"{reference}"') in {*self.entities, "https://w3id.org/ro/crate/1.1"}


def pendulum(base: str = "memory://runs", name: str = "pendulum", **options: Any) -> Logbook:
    with Logbook(name, base, params={"omega": 2.0, "solver": {"name": "rk4", "steps": [1, 2]}}, **options) as log:
        log.array("t", [0.0, 0.5])
        log.text("notes ü 50% #1?", "swings")
        log.json("metrics", {"error": 0.01})
        log.scalars(loss=0.5)
    return log


# -- content -------------------------------------------------------------------------------------------------


def test_a_crate_has_every_file_of_the_run_with_its_digest() -> None:
    log = pendulum()
    crate = Crate.of("memory://runs/log_pendulum")
    crate.check()
    keys = set(log.reader.files)
    assert set(crate.files) == {f"log_pendulum/{key}" for key in keys} | OWN
    for key in keys - {"metadata.json"}:
        assert crate.files[f"log_pendulum/{key}"] == raw(f"{log.url}/{key}"), key
    odd = "log_pendulum/artifacts/notes%20%C3%BC%2050%25%20%231%3F.txt"
    assert crate.entities[odd]["encodingFormat"] == "text/plain"


def test_the_run_is_an_action_with_its_program_parameters_and_results() -> None:
    pendulum()
    crate = Crate.of("memory://runs", authors=ADA, license="CC-BY-4.0", repository="https://ada:s3cret99@host/code")
    root, action = crate.entities["./"], crate.entities["#log_pendulum"]
    profile = crate.entities[root["conformsTo"]["@id"]]
    assert (profile["@id"], profile["version"]) == ("https://w3id.org/ro/wfrun/process/0.5", "0.5")
    assert crate.entities["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert crate.ids("./", "mentions") == ["#log_pendulum"]
    assert action["@type"] == "CreateAction"
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert "error" not in action
    fields = LogReader("memory://runs/log_pendulum").meta
    assert (action["startTime"], action["endTime"]) == (fields["start_time"], fields["end_time"])
    assert action["agent"] == root["author"] == {"@id": "https://orcid.org/0000-0002-1825-0097"}
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    program = crate.entities[action["instrument"]["@id"]]
    assert (program["@type"], program["url"]) == ("SoftwareApplication", "https://host/code")
    needs = {
        crate.entities[one]["name"]: crate.entities[one] for one in crate.ids(program["@id"], "softwareRequirements")
    }
    assert needs["notata"]["softwareVersion"] == fields["environment"]["packages"]["notata"]
    assert needs["CPython"]["softwareVersion"] == fields["environment"]["python"]["version"]
    objects = crate.ids("#log_pendulum", "object")
    assert objects[0] == "log_pendulum/params.yaml"
    values = {crate.entities[one]["name"]: crate.entities[one]["value"] for one in objects[1:]}
    assert values == {"omega": 2.0, "solver.name": "rk4", "solver.steps": "[1, 2]"}
    results = {unquote(one) for one in crate.ids("#log_pendulum", "result")}
    assert "log_pendulum/data/t.npy" in results
    assert not results & {f"log_pendulum/{key}" for key in ("metadata.json", "manifest.json", "params.yaml")}
    assert b"s3cret99" not in b"".join(crate.files.values())


def test_several_runs_are_several_actions_and_a_failure_says_why() -> None:
    pendulum()
    with pytest.raises(ValueError, match="boom"), Logbook("bad", "memory://runs") as log:
        raise ValueError("boom \x1b[31m password=hunter2")
    pendulum("memory://other")
    crate = Crate.of(["memory://runs", "memory://other"])
    crate.check()
    assert crate.ids("./", "hasPart") == ["CITATION.cff", "log_bad/", "1/log_pendulum/", "2/log_pendulum/"]
    assert crate.ids("./", "mentions") == ["#log_bad", "#1%2Flog_pendulum", "#2%2Flog_pendulum"]
    failed = crate.entities["#log_bad"]
    assert failed["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert failed["error"] == r"boom \x1b[31m password=***"
    assert log.status == "failed"


def test_the_page_of_the_runs_is_the_preview_and_shows_no_address() -> None:
    pendulum("memory://secret-place/runs")
    crate = Crate.of("memory://secret-place/runs", name="A </script> crate")
    text = crate.files["ro-crate-preview.html"].decode()
    page = Page(text)
    table: Any = page.data["runs"]
    assert [column["values"] for column in table["columns"] if column["name"] == "id"] == [["log_pendulum"]]
    assert table["title"] == "A </script> crate"
    assert page.data["run/log_pendulum"]["params"]["omega"] == 2.0  # type: ignore[index]
    assert "secret-place" not in text
    metadata = crate.files["ro-crate-metadata.json"].decode()
    assert "secret-place" not in metadata


def test_inputs_are_named_with_digest_and_those_in_the_crate_by_reference() -> None:
    mesh = pendulum(name="mesh")
    entries = [
        {"url": f"{mesh.url}/data/t.npy", "size": 144, "sha256": "0" * 64, "run_id": "mesh"},
        {"url": "s3://ada:topsecret9@bucket/mesh.h5", "size": 7, "sha256": "1" * 64, "version": "v2"},
        {"url": "/data/grid.txt", "size": 3},
        "damaged",
        {"url": None, "size": "x"},
    ]
    with Logbook("solve", "memory://runs") as log:
        log["inputs.json"].write_text(json.dumps({"inputs": entries}))
    crate = Crate.of("memory://runs")
    crate.check()
    objects = [crate.entities[one] for one in crate.ids("#log_solve", "object")]
    assert objects[0]["@id"] == "log_mesh/data/t.npy"
    assert objects[1] == {
        "@id": "#log_solve/input/2",
        "@type": "CreativeWork",
        "name": "mesh.h5",
        "url": "s3://bucket/mesh.h5",
        "contentSize": "7",
        "sha256": "1" * 64,
        "version": "v2",
    }
    assert (objects[2]["alternateName"], objects[2]["contentSize"]) == ("/data/grid.txt", "3")
    assert "topsecret9" not in crate.files["ro-crate-metadata.json"].decode()


def test_only_the_files_that_are_asked_for_are_in_it() -> None:
    pendulum()
    crate = Crate.of("memory://runs", include=["*.npy", "artifacts", "*.json"], exclude=["artifacts/metrics.json"])
    crate.check()
    names = {name.removeprefix("log_pendulum/") for name in crate.files} - OWN
    assert names == {"data/t.npy", "artifacts/notes ü 50% #1?.txt", "manifest.json", "metadata.json"}
    page: Any = Page(crate.files["ro-crate-preview.html"].decode()).data["run/log_pendulum"]
    assert {file["key"] for file in page["files"]} == names


def test_a_pattern_that_leaves_out_all_files_is_noted() -> None:
    pendulum()
    written = publish("memory://runs", "memory://out/a.zip", include="*.npz")
    assert (written.files, "The crate has no file of the runs: include= (--include)" in " ".join(written.notes)) == (
        0,
        True,
    )


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)


@settings(max_examples=10)
@given(
    st.sets(names, min_size=1, max_size=4),
    st.dictionaries(names, st.text(max_size=5) | st.floats() | st.none(), max_size=3),
)
def test_any_name_and_any_parameter_can_be_published(found: set[str], params: dict[str, Any]) -> None:
    with Logbook("any", "memory://any", params=params, overwrite=True) as log:
        for name in found:
            try:
                log.bytes(name, name.encode())
            except NotataError:  # no key on every storage
                continue
    Crate.of("memory://any").check()


# -- determinism, size, atomicity ----------------------------------------------------------------------------


def test_equal_runs_give_equal_bytes_at_any_time() -> None:
    pendulum()
    pendulum(name="second")
    publish("memory://runs", "memory://out/a.zip")
    publish("memory://runs", "memory://out/b.zip")
    assert raw("memory://out/a.zip") == raw("memory://out/b.zip")
    with zipfile.ZipFile(io.BytesIO(raw("memory://out/a.zip"))) as archive:
        ended = date.fromisoformat(LogReader("memory://runs/log_second").meta["end_time"][:10])
        assert {info.date_time[:3] for info in archive.infolist()} == {(ended.year, ended.month, ended.day)}


def test_a_large_file_is_streamed() -> None:
    with Logbook("large", "memory://runs") as log:
        log.bytes("big", os.urandom(PART + 5))
    crate = Crate.of("memory://runs")
    crate.check()
    assert crate.files["log_large/artifacts/big"] == raw(f"{log.url}/artifacts/big")


def test_a_file_beyond_4_gib_gets_the_form_of_zip64(tmp_path: Path) -> None:
    piece = bytes(2**20)
    out = output_of(str(tmp_path / "large.zip"), None, replace=False)
    with out.opened(date(2026, 3, 1)) as sink:
        sink.add("large", 2**32, iter([piece] * 3))  # the form depends on the size that is announced
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        (info,) = archive.infolist()
        assert (info.extract_version, info.file_size) == (zipfile.ZIP64_VERSION, 3 * 2**20)
        assert archive.read("large") == piece * 3


def test_a_crate_that_fails_leaves_nothing(tmp_path: Path) -> None:
    log = pendulum()
    (store := LogReader(log.url)._store).write("data/t.npy", b"x" * store.stat("data/t.npy").size)  # noqa: SLF001
    for place in ("memory://out/crate.zip", "memory://out/crate", tmp_path / "crate.zip", tmp_path / "crate"):
        with pytest.raises(StorageError, match=r"data/t\.npy has changed since the end of the run: its SHA-256"):
            publish(log.url, place)
    assert not MemoryFileSystem().exists("/out/crate.zip")
    assert not MemoryFileSystem().find("/out")
    assert [*tmp_path.iterdir()] == []


def test_a_write_that_fails_leaves_nothing() -> None:
    log = pendulum()
    faulty = FaultyBackend(open_store("memory://out/crate"))
    faulty.fail(1, key="CITATION.cff")
    with pytest.raises(StorageError):
        publish(log.url, faulty)
    assert MemoryFileSystem().find("/out") == []


def test_a_folder_is_a_crate_too(tmp_path: Path) -> None:
    pendulum()
    publish("memory://runs", tmp_path / "crate")
    publish("memory://runs", "memory://out/crate")
    archive = Crate.of("memory://runs")
    on_disk = {
        path.relative_to(tmp_path / "crate").as_posix(): path.read_bytes()
        for path in (tmp_path / "crate").rglob("*")
        if path.is_file()
    }
    assert on_disk == archive.files
    assert {name: raw(f"memory://out/crate/{name}") for name in archive.files} == archive.files
    with pytest.raises(ExistsError, match="the folder already contains files"):
        publish("memory://runs", tmp_path / "crate")


# -- damage and states ---------------------------------------------------------------------------------------


def test_a_changed_file_is_published_with_a_note_if_asked_for() -> None:
    log = pendulum()
    log["artifacts/metrics.json"].write_text("{}")
    with pytest.raises(StorageError, match=r"metrics.json has changed .* 2 bytes instead of 20. .*--allow-changed"):
        publish(log.url, "memory://out/a.zip")
    written = publish(log.url, "memory://out/a.zip", allow_changed=True)
    (note,) = [note for note in written.notes if "artifacts/metrics.json has changed" in note]
    assert note.endswith("its size is 2 bytes instead of 20. The crate has the files as they are now")
    Crate(raw("memory://out/a.zip")).check()


def test_a_missing_file_is_reported_by_name() -> None:
    log = pendulum()
    log["data/t.npy"].unlink()
    with pytest.raises(StorageError, match=r"lacks files that its manifest lists: data/t.npy"):
        publish(log.url, "memory://out/a.zip")
    publish(log.url, "memory://out/a.zip", exclude=["data"])
    assert publish(log.url, "memory://out/b.zip", allow_changed=True).files == 7


def test_output_that_is_left_out_is_not_on_the_page_either() -> None:
    log = pendulum()
    log["output.txt"].write_text("printed by the program\n")
    publish(log.url, "memory://out/a.zip")
    publish(log.url, "memory://out/b.zip", exclude=["output.txt"])
    printed = []
    for name in "ab":
        with zipfile.ZipFile(io.BytesIO(raw(f"memory://out/{name}.zip"))) as crate:
            printed.append(b"printed by the program" in crate.read("ro-crate-preview.html"))
    assert printed == [True, False]


def test_a_log_may_have_grown_but_not_changed() -> None:
    log = pendulum()
    url = log.log_path
    url.write_bytes(url.read_bytes() + b"[2026-01-01T00:00:00] INFO later\n")
    Crate.of(log.url).check()
    url.write_bytes(url.read_bytes().replace(b"Logbook", b"logbook"))
    with pytest.raises(StorageError, match=r"log.txt has changed"):
        publish(log.url, "memory://out/b.zip")


def test_a_run_that_has_not_ended_needs_force() -> None:
    log = Logbook("open", "memory://runs")
    log.text("notes", "so far")
    with pytest.raises(ConfigurationError, match=r"log_open \(running\)"):
        publish("memory://runs", "memory://out/a.zip")
    written = publish("memory://runs", "memory://out/a.zip", force=True)
    assert "Not ended: memory://runs/log_open (running)" in written.notes
    crate = Crate(raw("memory://out/a.zip"))
    crate.check()
    assert not {"actionStatus", "error", "endTime"} & crate.entities["#log_open"].keys()
    log.mark_complete()


def test_a_run_without_a_manifest_is_published_with_a_note() -> None:
    log = pendulum(manifest=False)
    written = publish(log.url, "memory://out/a.zip")
    assert any("have no manifest" in note and "log_pendulum" in note for note in written.notes)
    Crate(raw("memory://out/a.zip")).check()


def test_what_cannot_be_read_or_found_is_an_error() -> None:
    with pytest.raises(RunMissingError):
        publish("memory://nothing", "memory://out/a.zip")
    log = pendulum()
    with pytest.raises(RunMissingError, match="no run of 1 at memory://runs matches"):
        publish("memory://runs", "memory://out/a.zip", where="omega > 5")
    log["manifest.json"].write_text("{}")
    with pytest.raises(StorageError, match=r"its manifest\.json is damaged"):
        publish("memory://runs", "memory://out/a.zip")
    log["metadata.json"].write_text("[]")
    with pytest.raises(ConfigurationError, match=r"metadata\.json cannot be read"):
        publish("memory://runs", "memory://out/a.zip", force=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"authors": "<0000-0002-1825-0097>"}, "invalid author"),
        ({"authors": "Ada <0000-0002-1825-0098>"}, "its last character does not match"),
        ({"authors": "Ada <ada@example.org>"}, "invalid ORCID"),
        ({"license": "all rights reserved"}, "invalid license"),
        ({"repository": "git@host:a/b"}, "invalid repository"),
        ({"output": "memory://runs/log_pendulum/crate.zip"}, "it is in or above the run"),
        ({"output": "s3://bucket"}, "name a file or folder"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(options: dict[str, Any], message: str) -> None:
    pendulum()
    with pytest.raises(ConfigurationError, match=message):
        publish("memory://runs", **{"output": "memory://out/a.zip", **options})
    assert not MemoryFileSystem().exists("/out/a.zip")
    assert not MemoryFileSystem().exists("/runs/log_pendulum/crate.zip")


def test_an_existing_file_is_replaced_only_if_asked_for() -> None:
    pendulum()
    MemoryFileSystem().pipe_file("/out/a.zip", b"mine")
    with pytest.raises(ExistsError, match="--replace"):
        publish("memory://runs", "memory://out/a.zip")
    assert raw("memory://out/a.zip") == b"mine"
    publish("memory://runs", "memory://out/a.zip", replace=True)
    Crate(raw("memory://out/a.zip")).check()


# -- privacy -------------------------------------------------------------------------------------------------


def with_names(log: Logbook) -> None:
    """Let the run be of a user and a machine whose names are known."""
    fields = json.loads(log["metadata.json"].read_text())
    fields["environment"] |= {
        "host": "node17.cluster",
        "user": "ada_l",
        "cwd": "/home/ada_l/work",
        "argv": ["/home/ada_l/fit.py", "--out", "x"],
        "command": ["python", "/home/ada_l/fit.py", "--out", "x"],
        "scheduler": {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "node17", "SLURM_JOB_USER": "ada_l"},
    }
    fields["lease"] |= {"host": "node17.cluster", "process": "node17.cluster/x"}
    fields["note"] = "ran on node17"
    log["metadata.json"].write_text(json.dumps(fields))


def test_names_of_machines_and_users_are_published_only_if_asked_for() -> None:
    log = pendulum()
    with_names(log)
    crate = Crate.of(log.url)
    crate.check()
    own = {**{name: crate.files[name] for name in OWN}, "metadata": crate.files["log_pendulum/metadata.json"]}
    for name, data in own.items():
        assert b"node17" not in data, name
        assert b"ada_l" not in data, name
    fields = json.loads(own["metadata"])
    assert fields["environment"]["cwd"] == "/home/***/work"
    assert fields["environment"]["scheduler"] == {"SLURM_JOB_ID": "12"}
    assert (fields["status"], fields["note"]) == ("complete", "ran on ***")
    assert crate.entities["#log_pendulum"]["description"] == "python '/home/***/fit.py' --out x"
    open_crate = Crate.of(log.url, with_host=True)
    open_crate.check()
    assert open_crate.files["log_pendulum/metadata.json"] == raw(f"{log.url}/metadata.json")


def test_the_runs_of_a_crate_can_be_verified(tmp_path: Path) -> None:
    log = pendulum()
    with_names(log)
    publish(log.url, tmp_path / "crate")
    report = LogReader(tmp_path / "crate/log_pendulum").verify()
    assert (report.ok, report.extra, report.missing) == (True, (), ())


def test_no_secret_is_in_what_notata_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "tok-5f9c1e2ab7")
    with Logbook("a", "memory://runs", params={"api_key": "k-93jd8s7h2k", "url": "https://u:p4ssw0rd@h/"}) as log:
        pass
    fields = json.loads(log["metadata.json"].read_text())
    fields["environment"]["command"] = ["fit.py", "--password", "hunter22", "tok-5f9c1e2ab7"]
    log["metadata.json"].write_text(json.dumps(fields))
    crate = Crate.of("memory://runs", name="for tok-5f9c1e2ab7")
    shown = crate.files["ro-crate-metadata.json"].decode()
    for secret in ("tok-5f9c1e2ab7", "k-93jd8s7h2k", "p4ssw0rd", "hunter22"):
        assert secret not in shown, secret


# -- citation ------------------------------------------------------------------------------------------------

KNOWN = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
    "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
    "repository-code", "title", "type", "url", "version",
}  # fmt: skip


def checked(data: bytes) -> dict[str, Any]:
    """Check a CITATION.cff by the rules of the schema of version 1.2.0."""
    fields: dict[str, Any] = yaml.safe_load(data)
    assert fields.keys() <= KNOWN
    assert {"authors", "cff-version", "message", "title"} <= fields.keys()
    assert fields["cff-version"] == "1.2.0"
    assert fields["type"] == "dataset"
    assert re.fullmatch(r"[0-9]{4}-(0[1-9]|1[012])-(0[1-9]|[12][0-9]|3[01])", fields["date-released"])
    assert all(isinstance(fields[name], str) and fields[name] for name in ("message", "title", "abstract"))
    assert fields["authors"]
    for author in fields["authors"]:
        assert author.keys() <= {"family-names", "given-names", "orcid"} or author.keys() == {"name"}
        assert re.fullmatch(
            r"https://orcid\.org/[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]",
            author.get("orcid", "https://orcid.org/0000-0000-0000-0000"),
        )
    for name in ("license-url", "repository-code"):
        assert re.match(r"https?://.+", fields.get(name, "https://x"))
    return fields


def test_the_citation_names_what_the_user_names() -> None:
    log = pendulum()
    fields = json.loads(log["metadata.json"].read_text())
    fields["environment"]["git"] = {
        "commit": "ab" * 20,
        "branch": "main",
        "dirty": False,
        "remote": "https://x:y9y9y9@h/c",
    }
    log["metadata.json"].write_text(json.dumps(fields))
    crate = Crate.of(
        log.url,
        name="Pendulum: 'a' \"study\"\nwith lines",
        description="# no comment",
        authors=["King Lovelace, Ada", ADA, "Plato"],
        license="MIT",
        published=date(2026, 3, 1),
    )
    cited = checked(crate.files["CITATION.cff"])
    assert cited["title"] == "Pendulum: 'a' \"study\"\nwith lines"
    assert cited["authors"] == [
        {"family-names": "King Lovelace", "given-names": "Ada"},
        {"family-names": "Lovelace", "given-names": "Ada", "orcid": "https://orcid.org/0000-0002-1825-0097"},
        {"family-names": "Plato"},
    ]
    assert (cited["license"], cited["date-released"], cited["commit"]) == ("MIT", "2026-03-01", "ab" * 20)
    assert cited["repository-code"] == "https://h/c"
    assert crate.entities["./"]["datePublished"] == "2026-03-01"


def test_without_authors_and_license_the_citation_is_valid_and_the_user_is_told() -> None:
    pendulum()
    written = publish("memory://runs", "memory://out/a.zip", license="CC-BY-3.0-IGO")
    cited = checked(Crate(raw("memory://out/a.zip")).files["CITATION.cff"])
    assert cited["authors"] == [{"name": "The authors of pendulum"}]
    assert cited["license-url"] == "https://spdx.org/licenses/CC-BY-3.0-IGO"
    assert any("--author" in note for note in written.notes)


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    pendulum(str(tmp_path / "outputs"))
    return tmp_path


def test_the_command_writes_a_crate_and_says_what_is_in_it(outputs: Path) -> None:
    done = notata("publish", "outputs", "--author", ADA, "--license", "CC0-1.0", "--date", "2026-03-01", folder=outputs)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r".*/crate\.zip: 1 run, 8 files, [\d.]+ kB\n", done.stdout)
    Crate((outputs / "crate.zip").read_bytes()).check()
    again = notata("publish", "outputs", folder=outputs)
    assert again.returncode == 2
    assert "the file exists" in again.stderr
    told = notata("publish", "outputs", "-o", "b.zip", "--json", folder=outputs)
    record = json.loads(told.stdout)
    assert (record["runs"], record["files"], len(record["notes"])) == (1, 8, 2)
    assert told.stderr.count("Note: ") == 2


def test_the_command_has_exit_codes_for_what_is_missing_changed_or_wrong(outputs: Path) -> None:
    assert notata("publish", "nothing", folder=outputs).returncode == 1
    assert notata("publish", "outputs", "--date", "1 March", folder=outputs).returncode == 2
    (outputs / "outputs/log_pendulum/data/t.npy").write_bytes(b"x")
    done = notata("publish", "outputs", folder=outputs)
    assert done.returncode == 3
    assert "outputs/log_pendulum/data/t.npy has changed since the end of the run" in done.stderr
    assert not (outputs / "crate.zip").exists()
    (outputs / "outputs/log_pendulum/link").symlink_to("data")
    done = notata("publish", "outputs", "--allow-changed", folder=outputs)
    assert done.returncode == 0
    assert "Not published, because they are links" in done.stderr


def test_the_names_are_public() -> None:
    assert search.publish is publish
    assert Published("a", 1, 2, 3).notes == ()
