"""Objects whose names cannot be keys, written by another program: skipped, named, and removable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from notata import (
    BatchError,
    IncompleteListingWarning,
    Logbook,
    LogReader,
    StorageError,
    StoredNameError,
    search,
    sync,
)
from notata.errors import NotataError
from tests.backends import Place
from tests.command import notata

ODD = ["artifacts/../x", "a//b", "/lead", "./here", "back\\slash", "tab\there", "x" * 256]
OUTSIDE = ["../log_other/metadata.json", "a/../../log_other/metadata.json"]

Put = Callable[[str, bytes], None]


def put_exactly(bucket: Place, key: str, data: bytes = b"odd") -> None:
    """Put an object with exactly this name; fsspec's own methods would refuse or change it."""
    _, _, prefix = bucket.url.partition("://")[2].partition("/")
    name = f"{prefix}/{key}"
    if bucket.name == "gcs":
        address = f"{bucket.options['endpoint_url']}/upload/storage/v1/b/test-bucket/o"
        request = Request(f"{address}?uploadType=media&name={quote(name, safe='')}", data=data, method="POST")
        urlopen(request, timeout=10).close()
    else:
        bucket.raw().call_s3("put_object", Bucket="test-bucket", Key=name, Body=data)


def exact_names(bucket: Place) -> list[str]:
    """List the names below the place as the bucket has them."""
    _, _, prefix = bucket.url.partition("://")[2].partition("/")
    if bucket.name == "gcs":
        address = f"{bucket.options['endpoint_url']}/storage/v1/b/test-bucket/o?prefix={prefix}/"
        with urlopen(address, timeout=10) as reply:
            found = [item["name"] for item in json.load(reply).get("items", ())]
    else:
        reply = bucket.raw().call_s3("list_objects_v2", Bucket="test-bucket", Prefix=f"{prefix}/")
        found = [item["Key"] for item in reply.get("Contents", ())]
    return sorted(name[len(prefix) + 1 :] for name in found)


def options(bucket: Place) -> list[str]:
    return [f"-o{name}={value}" for name, value in bucket.options.items()]


def two_runs(bucket: Place, *odd: str) -> None:
    for run_id in ("a", "other"):
        with bucket.logbook(run_id) as log:
            log.text("notes", "converged")
    for name in odd:
        put_exactly(bucket, f"log_a/{name}")


@pytest.mark.parametrize("name", ODD)
def test_a_listing_names_what_it_skips_and_gives_the_rest(bucket: Place, name: str) -> None:
    if bucket.name == "seaweed":  # its objects are files: it resolves or refuses most of these
        name = "tab\there"
    two_runs(bucket, name)
    store = bucket.store()
    errors: list[StorageError] = []
    assert "log_a/artifacts/notes.txt" in [entry.key for entry in store.list(skipped=errors.append)]
    assert [error.key for error in errors] == [f"log_a/{name}"]
    assert isinstance(errors[0], StoredNameError)
    assert len(str(errors[0])) < 500
    with pytest.raises(StoredNameError, match="cannot be a key"):
        store.list()
    with pytest.warns(IncompleteListingWarning, match="cannot be a key"):
        assert "artifacts/notes.txt" in LogReader(f"{bucket.url}/log_a", storage_options=bucket.options).files


@pytest.mark.parametrize("folder", ["", "back\\slash", "tab\there", "x" * 256, ".."])
def test_folder_names_name_what_they_skip_and_give_the_rest(bucket: Place, folder: str) -> None:
    if bucket.name == "seaweed":  # its objects are files: it resolves or refuses most of these
        folder = "tab\there"
    two_runs(bucket, f"{folder}/inside")
    store = bucket.store()
    errors: list[StorageError] = []
    assert store.folder_names("log_a", skipped=errors.append) == ["artifacts"]
    assert [(type(error), error.key) for error in errors] == [(StoredNameError, f"log_a/{folder}")]
    with pytest.raises(StoredNameError, match="cannot be a key"):
        store.folder_names("log_a")


def test_ls_names_them_once_lists_all_runs_and_ends_with_3(bucket: Place, tmp_path: Path) -> None:
    two_runs(bucket, "tab\there", "tab\tthere")
    done = notata("ls", bucket.url, *options(bucket), folder=tmp_path)
    assert done.returncode == 3
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [
        [f"{bucket.url}/log_{run_id}", "complete"] for run_id in ("a", "other")
    ]
    assert "\t" not in done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["Error", "Error"]
    assert all(done.stderr.count(told) == 1 for told in (r"tab\there", r"tab\tthere"))


def test_many_skipped_names_are_counted(bucket: Place, tmp_path: Path) -> None:
    two_runs(bucket, *(f"tab\t{number}" for number in range(25)))
    done = notata("ls", bucket.url, *options(bucket), folder=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.splitlines()[-1].endswith("5 more files or folders in " + bucket.url + " were skipped")


def test_searches_report_them_to_failed_and_without_it_raise(bucket: Place) -> None:
    two_runs(bucket, "tab\there")
    errors: list[NotataError] = []
    found = search.runs(bucket.url, storage_options=bucket.options, failed=errors.append)
    assert [run.run_id for run in found] == ["a", "other"]
    assert [(type(error), error.key) for error in errors] == [(StoredNameError, "log_a/tab\there")]
    with pytest.raises(StoredNameError):
        search.runs(bucket.url, storage_options=bucket.options)


def test_verify_names_them_and_checks_the_rest(bucket: Place, tmp_path: Path) -> None:
    two_runs(bucket, "tab\there")
    done = notata("verify", bucket.url, *options(bucket), folder=tmp_path)
    assert done.returncode == 3
    ours, other = done.stdout.splitlines()
    assert "log_a: ok; 2 files unchanged" in ours
    assert "1 skipped: " in ours
    assert "cannot be a key: it contains the control character" in ours
    assert "log_other: ok; 2 files unchanged" in other
    assert "skipped" not in other


def test_a_run_ends_resumes_and_has_workers_beside_them(bucket: Place) -> None:
    log = bucket.logbook("a")
    with log.worker(1) as worker:
        worker.text("part", "x")
    put_exactly(bucket, "log_a/tab\there")
    log.mark_complete()
    assert log.status == "complete"
    with bucket.logbook("a", resume=True) as again:
        again.text("more", "y")
    reader = LogReader(f"{bucket.url}/log_a", storage_options=bucket.options)
    report = reader.verify()
    assert (report.ok, len(report.skipped)) == (True, 1)
    assert "Not in the manifest" in str(reader.log)


@pytest.mark.parametrize("name", ODD)
def test_overwrite_and_rm_remove_them_by_their_exact_names(bucket: Place, name: str, tmp_path: Path) -> None:
    if bucket.name == "seaweed":  # its objects are files: it resolves or refuses most of these
        name = "tab\there"
    two_runs(bucket, name)
    assert f"log_a/{name}" in exact_names(bucket)
    with bucket.logbook("a", overwrite=True) as log:
        log.text("new", "y")
    assert f"log_a/{name}" not in exact_names(bucket)
    assert "log_a/artifacts/notes.txt" not in exact_names(bucket)
    put_exactly(bucket, f"log_a/{name}")
    done = notata("rm", "--yes", f"{bucket.url}/log_a", *options(bucket), folder=tmp_path)
    assert [key for key in exact_names(bucket) if key.startswith("log_a")] == []
    assert [key for key in exact_names(bucket) if key.startswith("log_other")] == [
        f"log_other/{key}" for key in ("artifacts/notes.txt", "log.txt", "manifest.json", "metadata.json")
    ]
    assert "Removed 1 run" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_outside_the_run_is_reported_and_not_removed(bucket: Place, name: str, tmp_path: Path) -> None:
    """A server or client that resolves ``..`` would delete another run's file."""
    if bucket.name == "seaweed":  # it stores such an object as the file to which the name resolves
        name = "tab\there"
    two_runs(bucket, name)
    before = [key for key in exact_names(bucket) if key.startswith("log_other")]
    expected = [] if bucket.name == "seaweed" else [f"log_a/{name}"]
    if expected:
        with (
            pytest.warns(IncompleteListingWarning, match="a file of the earlier run 'a' was not removed"),
            bucket.logbook("a", overwrite=True) as log,
        ):
            log.text("new", "y")
        assert LogReader(f"{bucket.url}/log_a", storage_options=bucket.options).state.status == "complete"
        assert "a file of the earlier run" in bucket.log("a")[1]
    done = notata("rm", "--yes", f"{bucket.url}/log_a", *options(bucket), folder=tmp_path)
    left = [key for key in exact_names(bucket) if key.startswith("log_a/") and not key.endswith("log_a/metadata.json")]
    assert left == expected
    assert [key for key in exact_names(bucket) if key.startswith("log_other")] == before
    assert done.returncode == 3 or not expected
    assert done.stderr.count("cannot be a key") <= 1


def test_sync_copies_all_else_and_the_copy_does_not_say_complete(bucket: Place, tmp_path: Path) -> None:
    two_runs(bucket, "tab\there")
    with pytest.raises(BatchError) as caught:
        sync(bucket.url, tmp_path, source_options=bucket.options)
    assert [type(error) for error in caught.value.exceptions] == [StoredNameError]
    assert LogReader(tmp_path / "log_other").state.status == "complete"
    assert LogReader(tmp_path / "log_a").state.status == "replacing"
    assert (tmp_path / "log_a/artifacts/notes.txt").read_text() == "converged"


def test_a_run_that_is_new_begins_beside_them(bucket: Place) -> None:
    two_runs(bucket, "tab\there")
    with Logbook("b", bucket.url, storage_options=bucket.options) as log:
        log.text("notes", "x")
    assert log.status == "complete"
