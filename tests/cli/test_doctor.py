"""``notata doctor`` and `notata.search.diagnose`: every refusal of a storage, the advice for it, and no secrets."""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notata.errors import (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    DeadlineError,
    FolderError,
    FullError,
    NotataError,
    StorageError,
    UnreachableError,
)
from notata.search import Check, diagnose, diagnosing, runs, surroundings
from notata.search.checks import WRONG_KEY, advice_on, clock_check
from notata.store import Blob, Entry, Store, open_store
from notata.store.backends import s3
from notata.store.wrapper import Wrapper
from notata.testing import FaultyBackend
from tests import small_disk
from tests.backends import Place
from tests.cli.conftest import Shelf
from tests.command import fresh_process, notata
from tests.contract.conftest import make_place
from tests.counting import counted
from tests.servers import Server, free_port
from tests.small_disk import Disk
from tests.test_facts import headers_without
from tests.tools.network import hurried

WRITTEN = ["write", "read", "claim", "swap", "append", "distance", "clock", "delete"]
OF_DISKS = {"links", "fsync", "names", "space", "file system"}
SECRET = "hunter2+never/shown"


@pytest.fixture(params=["memory", "local", "s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no storage for a distant one because this machine is busy."""
    monkeypatch.setattr(diagnosing, "FAR", 60.0)


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def of(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


# -- all is well ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("near")
def test_on_good_storage_every_check_passes_and_no_file_remains(place: Place) -> None:
    place.put("log_a/metadata.json", b"{}")
    place.put("README", b"kept")
    found = states(diagnose(place.url, storage_options=place.options, timeout=60))
    assert {name: found[name] for name in ["reach", "list", *WRITTEN]} == dict.fromkeys(
        ["reach", "list", *WRITTEN], "yes"
    )
    assert (found.keys() >= OF_DISKS) == (place.name == "local")
    assert ("credentials" in found) == place.bucket
    assert place.names() == ["README", "log_a/metadata.json"]


@pytest.mark.usefixtures("near")
def test_read_only_checks_write_nothing(shelf: Shelf, tmp_path: Path) -> None:
    before = sorted(shelf.place.names(logs=True))
    given = ("--read-only", "--json", "--timeout", "60", *shelf.options)
    done = notata("doctor", shelf.url, *given, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert {lines[name]["state"] for name in ("reach", "list", "read", "distance", "clock")} == {"yes"}
    assert not {"write", "claim", "delete"} & lines.keys()
    assert sorted(shelf.place.names(logs=True)) == before
    assert lines["url"]["told"] == shelf.url
    if shelf.place.name == "local":
        stat = os.statvfs(shelf.url)
        assert lines["space"]["value"] == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.05)
        kind = [line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()]
        assert lines["file system"]["told"] in kind


def test_few_requests_by_reading_and_no_more_than_it_takes_by_writing(request: pytest.FixtureRequest) -> None:
    place = make_place("s3", request)
    for number in range(5):
        place.put(f"{number}", b"x")
    with counted() as sent:
        diagnose(place.url, storage_options=place.options, read_only=True)
    assert len(sent) == 1 + 1 + 5 + 1, sent
    assert {line.partition(" ")[0] for line in sent} == {"GET", "HEAD"}
    with counted() as sent:
        diagnose(place.url, storage_options=place.options)
    assert len(sent) < 40
    place.store().clear()


def test_folders_that_are_made_for_it_are_removed(tmp_path: Path) -> None:
    done = notata("doctor", "new/deep/place", folder=tmp_path)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert "list\tyes\tthere is nothing yet" in done.stdout
    assert notata("doctor", "new/place", "--read-only", folder=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_base_folder_is_looked_at_when_none_is_named(tmp_path: Path) -> None:
    done = notata("doctor", "--json", folder=tmp_path, NOTATA_BASE_DIR=str(tmp_path / "base"))
    assert json.loads(done.stdout.splitlines()[0])["told"] == str(tmp_path / "base")


# -- what is not well ----------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    small_disk.run(_read_only, tmp_path)


def _read_only(disk: Disk) -> None:
    (disk.folder / "out").mkdir()
    (disk.folder / "out/file").write_text("kept")
    disk.make_read_only()
    found = diagnose(disk.folder / "out")
    assert states(found) | {"list": "yes", "write": "no", "claim": "no", "space": "poor"} == states(found)
    assert "read-only" in of(found, "write").told
    assert "credentials" in of(found, "write").advice
    assert states(diagnose(disk.folder / "out", read_only=True))["read"] == "yes"


def test_a_full_disk(tmp_path: Path) -> None:
    small_disk.run(_full, tmp_path)


def _full(disk: Disk) -> None:
    disk.fill()
    found = of(diagnose(disk.folder / "out"), "write")
    assert (found.state, found.advice) == ("no", "Free some space there, or choose another place.")


def test_a_file_as_base_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    done = notata("doctor", "file", folder=tmp_path)
    assert done.returncode == 3
    assert "list\tno\t" in done.stdout
    assert "Pass a folder" in done.stdout
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("name", ["s3", "gcs"])
def test_no_server_listens(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = make_place(name, request)
    options = {**place.options, "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    with hurried():
        found = diagnose(place.url, storage_options=options, timeout=2)
    assert of(found, "reach").state == "no"
    assert of(found, "reach").advice
    assert {states(found)[each] for each in ["list", *WRITTEN]} == {"skipped"}


def test_a_server_that_never_answers(moto_server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = [f"-o{name}={value}" for name, value in {**moto_server.options, "endpoint_url": endpoint}.items()]
        done = notata("doctor", moto_server.url, "--timeout", "0.2", "--json", *options, folder=tmp_path)
    assert done.returncode == 3
    lines = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert "no answer in time" in lines["reach"]["told"]
    assert "firewalls" in lines["reach"]["advice"]
    assert lines["write"]["state"] == "skipped"


@pytest.mark.parametrize("name", ["s3", "gcs"])
def test_a_bucket_that_is_missing(name: str, request: pytest.FixtureRequest) -> None:
    place = make_place(name, request)
    url = f"{place.url.partition('://')[0]}://no-such-bucket/outputs"
    found = diagnose(url, storage_options=place.options)
    no = [check for check in found if check.state == "no"]
    assert no
    assert no[0].advice == "Create the bucket, or correct its name in the URL."
    with pytest.raises(ContainerMissingError, match=r"there is no bucket 'no-such-bucket'; create it, or correct"):
        runs(url, storage_options=place.options)


def test_an_endpoint_that_is_no_address(tmp_path: Path) -> None:
    done = notata("ls", "s3://bucket/x", "-okey=a", "-osecret=b", "-oendpoint_url=127.0.0.1:1", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("is not a valid address; it must begin with http:// or https://\n")


def test_each_line_says_once_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines = [line.split("\t") for line in notata("doctor", "file", folder=tmp_path).stdout.splitlines()]
    told = next(text for _, state, text in lines if state == "no")
    assert told == f"{tmp_path}/file is a file. Pass a folder, which need not exist yet"


def test_a_store_that_ignores_conditions(moto_server: Server, forget_s3_capabilities: None) -> None:
    url = f"{moto_server.url}/ignores"
    s3.known.forget()
    with headers_without("If-None-Match"):
        found = diagnose(url, storage_options=moto_server.options)
    assert (states(found)["claim"], states(found)["swap"]) == ("poor", "yes")
    assert "give each run its own id" in of(found, "claim").advice
    s3.known.forget()
    with headers_without("If-Match"):
        found = diagnose(url, storage_options=moto_server.options)
    assert (states(found)["claim"], states(found)["swap"]) == ("yes", "poor")
    assert open_store(url, moto_server.options).list_all() == []


def test_another_protocol_is_poor_and_says_why(tmp_path: Path) -> None:
    found = diagnose(f"dir::file://{tmp_path}/chained")
    assert states(found)["claim"] in ("poor", "no")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("verb", ["write", "read", "claim", "swap", "append", "delete"])
def test_each_check_is_independent(verb: str) -> None:
    """One permission is missing; the doctor reports that all others work."""

    class Lacking(FaultyBackend):
        def put(self, key: str, data: bytes, match: str | None) -> str:
            lacking = {None: "write", "": "claim"}.get(match, "swap")
            if verb == lacking and not (verb == "write" and data.startswith(b"first")):
                raise PermissionError(13, "no")
            return super().put(key, data, match)

        def get(self, key: str, start: int, end: int | None, *rest: Any) -> Blob:
            if verb == "read" and (start, end) == (0, None) and key == "probe":
                raise PermissionError(13, "no")
            return super().get(key, start, end, *rest)

        def append(self, key: str, data: bytes, tail):  # type: ignore[no-untyped-def]
            if verb == "append":
                raise PermissionError(13, "no")
            return super().append(key, data, tail)

        def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
            if verb == "delete":
                return dict.fromkeys(names, PermissionError(13, "no"))
            return super().delete(names)

    inner = open_store(f"memory://doctor-{verb}")
    found = diagnose(Store(Lacking(inner)))
    assert of(found, verb).state == "no"
    assert of(found, verb).advice
    if verb in ("claim", "append"):
        assert [check.name for check in found if check.state == "no"] == [verb]
    if verb == "delete":
        assert of(found, "left").state == "poor"
        assert inner.list() == []  # hidden file
        assert inner.list_all() != []
        inner.clear()
    assert inner.list_all() == []


class Lying(Wrapper):
    """A storage that does something else than it reports."""

    lie = ""
    holds = True

    @property
    def supports_cas(self) -> bool:
        return self.holds

    def put(self, key: str, data: bytes, match: str | None) -> str:
        lie = {"": "claim", None: ""}.get(match, "swap")
        return super().put(key, data, None if lie == self.lie else match)

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        return self._told(key, super().get(key, start, end, version, limit))

    def _told(self, key: str, blob: Blob) -> Blob:
        blob = replace(blob, age=None) if self.lie == "clock" else blob
        return replace(blob, data=b"x" + blob.data) if self.lie == "read" and key == "probe" else blob

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        return {} if self.lie == "delete" else super().delete(names)

    def stat(self, key: str) -> Entry:
        entry = super().stat(key)
        return replace(entry, modified=datetime.fromtimestamp(0, UTC)) if self.lie == "clock" else entry


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(
    ("lie", "state", "told"),
    [
        ("read", "no", "the content read differs from the content written"),
        ("claim", "poor", "two creates of the same name both succeeded"),
        ("swap", "poor", "a swap of an old version succeeded"),
        ("delete", "no", "a deleted file is still there"),
        ("clock", "skipped", "the storage does not report its time"),
    ],
)
def test_a_storage_that_does_not_do_what_it_says(lie: str, state: str, told: str) -> None:
    inner = open_store(f"memory://doctor-lies-{lie}")
    backend = Lying(inner.backend)
    backend.lie = lie
    store = Store(backend)
    found = diagnose(store)
    assert (of(found, lie).state, of(found, lie).told) == (state, told)
    assert {check.state for check in found if check.name in WRITTEN and check.name != lie} == {"yes"}
    inner.write("x", b"data")
    if lie == "clock":
        assert of(diagnose(store, read_only=True), lie).told == told
    backend.holds = False
    backend.lie = ""
    looked = of(diagnose(store), "swap")
    assert (looked.state, looked.told.startswith("notata reads ")) == ("poor", True)


def test_an_interrupt_leaves_nothing_and_an_error_of_a_library_is_reported_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(values: list[float]) -> float:
        raise RuntimeError(SECRET)

    faults = FaultyBackend(open_store("memory://doctor-ended"))
    store = Store(faults)
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "median", broken)  # the distance is the median of several requests
        found = of(diagnose(store), "distance")
    assert (found.state, found.told, bool(found.advice)) == ("no", "it failed with RuntimeError", True)
    faults.fail(15, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        diagnose(store)
    assert store.list_all() == []


def test_a_long_round_trip_is_poor_and_has_advice(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("s3", request)
    monkeypatch.setattr(diagnosing, "FAR", 60.0)
    near = of(diagnose(place.url, storage_options=place.options, timeout=60), "distance")
    assert (near.state, "a log call does not wait" in near.told) == ("yes", True)
    monkeypatch.setattr(diagnosing, "FAR", 0.0)
    far = of(diagnose(place.url, storage_options=place.options), "distance")
    assert (far.state, "background=True" in far.advice) == ("poor", True)


def test_a_clock_that_is_wrong(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    offset, word = (-3630.0, "ahead of") if place.name in ("memory", "s3") else (3630.0, "behind")
    other = SimpleNamespace(time=lambda: time.time() + offset, perf_counter=time.perf_counter)
    monkeypatch.setattr(diagnosing, "time", other)
    found = of(diagnose(place.url, storage_options=place.options), "clock")
    assert found.state == "poor"
    assert f"1 h 0 min {word}" in found.told
    assert found.value == pytest.approx(-offset, abs=25)  # on a busy machine, a request may take as long


def test_a_disk_without_links_and_without_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    found = diagnose(tmp_path)
    assert (states(found)["links"], states(found)["fsync"], states(found)["claim"]) == ("poor", "poor", "yes")
    assert "durable=True" in of(found, "fsync").advice


def test_the_type_of_a_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text("a / ext4 rw 0 0\nb /net nfs4 rw 0 0\nc /net/my\\040disk tmpfs rw 0 0\n")
    kinds = {
        folder: surroundings.kind_of(folder, str(table))
        for folder in ("/", "/network", "/net", "/net/x", "/net/my disk/y")
    }
    assert list(kinds.values()) == ["ext4", "ext4", "nfs4", "nfs4", "tmpfs"]
    assert surroundings.kind_of("/", str(tmp_path / "none")) is None
    table.write_text("b /net nfs4 rw 0 0\nc /net tmpfs rw 0 0\na / ext4 rw 0 0\n")  # in any order; the last one counts
    assert [surroundings.kind_of(folder, str(table)) for folder in ("/net/x", "/nets")] == ["tmpfs", "ext4"]


def test_a_disk_that_is_small_and_one_behind_a_network_are_poor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, state in ((10**9 - 1, "poor"), (10**9, "yes")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        found = surroundings.space(str(tmp_path))
        assert (found.state, found.value, bool(found.advice)) == (state, free, state == "poor")
    for kind, state in (("nfs4", "poor"), ("fuse.sshfs", "poor"), ("ext4", "yes"), (None, "skipped")):
        monkeypatch.setattr(surroundings, "kind_of", lambda _, kind=kind: kind)
        assert surroundings.file_system(str(tmp_path)).state == state


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (AccessError("RequestTimeTooSkewed"), "set it, for instance with NTP"),
        (ContainerMissingError("no"), "Create the bucket"),
        (UnreachableError("no"), "Is the server running?"),
        (DeadlineError("no"), "The server does not answer"),
        (AccessError("403 InvalidAccessKeyId"), WRONG_KEY),
        (AccessError("SignatureDoesNotMatch"), WRONG_KEY),
        (AccessError("403"), "(s3:PutObject; storage.objects.create; on a disk: modes)"),
        (FullError("no"), "Free some space there"),
        (FolderError("no"), "Pass a folder"),
        (ConfigurationError("no"), "Correct the URL"),
        (StorageError("no"), "Try again later."),
    ],
)
def test_each_error_has_its_advice(error: NotataError, advice: str) -> None:
    assert advice in advice_on("write", error)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("distance", "s3:ListBucket; storage.objects.list; on a disk: modes"),
        ("clock", "s3:PutObject; storage.objects.create; on a disk: modes"),
        ("fsync", "on a disk: modes"),
    ],
)
def test_the_advice_on_a_refusal_names_the_permissions(name: str, needed: str) -> None:
    assert advice_on(name, AccessError("no")).endswith(f", and whether they allow it ({needed}).")


@pytest.mark.parametrize(
    ("ahead", "state", "told"),
    [
        (5.0, "yes", "it agrees"),
        (-5.0, "yes", "it agrees"),
        (5.1, "poor", "it is 5.1 s ahead of the clock"),
        (-70.0, "poor", "it is 1 min 10 s behind the clock"),
    ],
)
def test_clocks_agree_within_some_seconds(ahead: float, state: str, told: str) -> None:
    found = clock_check(ahead)
    assert (found.state, found.value, bool(found.advice)) == (state, ahead, state == "poor")
    assert found.told.startswith(told)


@pytest.mark.real
def test_a_wrong_secret_is_refused_and_not_shown(seaweed_server: Server, tmp_path: Path) -> None:
    options = {**seaweed_server.options, "secret": SECRET}
    arguments = [f"-o{name}={value}" for name, value in options.items()]
    done = notata("doctor", f"{seaweed_server.url}/x", "--json", *arguments, folder=tmp_path)
    assert done.returncode == 3
    assert SECRET not in done.stdout + done.stderr
    lines = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert (lines["reach"]["state"], lines["list"]["state"], lines["write"]["state"]) == ("yes", "no", "skipped")
    assert "secret is wrong" in lines["list"]["advice"]
    assert states(diagnose(f"{seaweed_server.url}/x", storage_options=seaweed_server.options))["claim"] == "yes"


# -- what is shown -------------------------------------------------------------------------------------------


def test_only_the_source_of_credentials_is_shown(moto_server: Server, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_secret_access_key = {SECRET}\n")
    (tmp_path / "fsspec").mkdir()
    (tmp_path / "fsspec/s3.json").write_text(json.dumps({"s3": {"anon": False}}))
    environment = {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ACCESS_KEY_ID": "AKIA" + "X" * 16,
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "FSSPEC_S3_SECRET": SECRET,
        "FSSPEC_CONFIG_DIR": str(tmp_path / "fsspec"),
        "NOTATA_LOG_LEVEL": "DEBUG",
        "NOTATA_BASE_DIR": f"sftp://ada:{SECRET}@host/runs",
    }
    options = [
        f"-o{name}={value}" for name, value in {**moto_server.options, "secret": SECRET, "token": SECRET}.items()
    ]
    done = fresh_process("doctor", f"{moto_server.url}/x", *options, folder=tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "AKIAXXXX" not in done.stdout
    lines = dict(line.split("\tinfo\t") for line in done.stdout.splitlines() if "\tinfo\t" in line)
    assert "storage options: endpoint_url, key, secret, token" in lines["credentials"]
    assert "environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in lines["credentials"]
    assert f"files: {credentials}" in lines["credentials"]
    assert str(tmp_path / "fsspec/s3.json") in lines["credentials"]
    assert "FSSPEC_S3_SECRET" in lines["variables"]
    assert "NOTATA_LOG_LEVEL=DEBUG" in lines["variables"]
    assert "NOTATA_BASE_DIR=" in lines["variables"]
    assert lines["versions"].startswith(f"python {platform.python_version()}, notata ")


def test_a_url_of_no_storage_is_usage(tmp_path: Path) -> None:
    for url in ("s3://", "nothing://x"):
        done = notata("doctor", url, folder=tmp_path)
        assert (done.returncode, done.stderr) == (2, "")
        assert done.stdout.startswith("url\tno\t")
