"""Parameters and metrics in the metadata.json of any run: what is stored, when it is trusted, and what a read costs."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from notata import Experiment, LogReader, MirrorStorage, Storage, search, sync
from notata._base import limits
from notata.search.target import Target
from tests.backends import Place
from tests.contract.conftest import make_place
from tests.counting import counted

PARAMS = {"dt": 0.1, "solver": {"order": 4, "name": "rk4"}}
METRICS = {"error": 0.5, "steps": 100}


def metadata(place: Place, run_id: str = "run") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    return fields


def ended(place: Place, run_id: str = "run", **options: Any) -> None:
    with place.logbook(run_id, params=PARAMS, **options) as log:
        log.json("metrics", METRICS)


def shown(place: Place, run_id: str = "run") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and metrics of a run as a table reads them."""
    found = search.runs(place.url, values=True, storage_options=place.options)
    (run,) = [run for run in found if run.run_id == run_id]
    return dict(run.params), dict(run.metrics)


def requests(place: Place, read: Callable[..., Any], **options: Any) -> int:
    with counted() as sent:
        read(place.url, storage_options=place.options, **options)
    return len(sent)


def edit(place: Place, change: Callable[[dict[str, Any]], object], run_id: str = "run") -> None:
    fields = metadata(place, run_id)
    change(fields)
    place.put(f"log_{run_id}/metadata.json", json.dumps(fields).encode())


# -- what is stored ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"background": True}, {"manifest": False}, {"environment": False}])
def test_the_end_stores_parameters_metrics_and_the_digests_of_their_files(place: Place, options: Any) -> None:
    ended(place, **options)
    row = metadata(place)["row"]
    assert (row["params"], row["metrics"]) == (PARAMS, METRICS)
    assert row["files"].keys() == {"params.yaml", "artifacts/metrics.json"}
    for key, facts in row["files"].items():
        data = place.bytes(f"log_run/{key}")
        assert facts["size"] == len(data)
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()
        assert facts["md5"] == hashlib.md5(data, usedforsecurity=False).hexdigest()
        assert len(facts["version"]) == 8
    assert row["metrics_version"] == row["files"]["artifacts/metrics.json"]["version"]
    if "manifest" not in options:
        manifest = json.loads(place.bytes("log_run/manifest.json"))["files"]
        assert {key: facts["sha256"] for key, facts in row["files"].items()} == {
            key: manifest[key]["sha256"] for key in row["files"]
        }


def test_a_failed_run_stores_them_too_and_again_if_a_complete_run_is_marked_failed(place: Place) -> None:
    with pytest.raises(ValueError, match="h = -1"), place.logbook("failed", params=PARAMS) as log:
        log.json("metrics", METRICS)
        raise ValueError("h = -1")
    assert metadata(place, "failed")["row"]["metrics"] == METRICS
    with place.logbook(params=PARAMS) as log:
        log.json("metrics", {"error": 2})
    log.json("metrics", METRICS)
    log.mark_failed("wrong")
    assert metadata(place)["row"]["metrics"] == METRICS
    assert shown(place) == (PARAMS, METRICS)


def test_a_run_without_parameters_and_metrics_stores_nothing(place: Place) -> None:
    place.logbook().mark_complete()
    assert "row" not in metadata(place)
    with place.logbook("odd") as log:
        log["params.yaml"].write_text("dt: 0.1\n")
    assert shown(place, "odd") == ({"dt": 0.1}, {})


def test_what_is_written_by_any_writer_is_stored(place: Place) -> None:
    with place.logbook(params={"dt": 1}) as log:
        log.params(ext="json", dt=2, n=3)
        log["artifacts/metrics.json"].write_text('{"error": 1}')
        with log.open("artifacts/metrics.json", "w") as file:
            file.write('{"error": 2}')
    row = metadata(place)["row"]
    assert (row["params"], row["metrics"]) == ({"dt": 2, "n": 3}, {"error": 2})
    assert row["files"].keys() == {"params.json", "artifacts/metrics.json"}
    assert shown(place) == ({"dt": 2, "n": 3}, {"error": 2})


def test_a_file_of_parameters_that_the_run_wrote_itself_is_read(place: Place) -> None:
    with place.logbook(params={"dt": 1}) as log:
        log["params.yaml"].write_text("dt: 2\n")
        log.json("metrics", METRICS)
    assert "params" not in metadata(place)["row"]
    assert shown(place) == ({"dt": 2}, METRICS)


def test_what_other_code_wrote_on_a_disk_is_stored(tmp_path: Any) -> None:
    place = Place("local", str(tmp_path))
    with place.logbook() as log:
        log.json("metrics", {"error": 1})
        with open(log["artifacts/metrics.json"], "w") as file:
            file.write('{"error": 2}')
    assert metadata(place)["row"]["metrics"] == {"error": 2}
    with place.logbook("staged") as log, log.local("artifacts/metrics.json") as path:
        path.write_text('{"error": 3}')
    assert metadata(place, "staged")["row"]["metrics"] == {"error": 3}


def test_values_that_are_too_large_are_left_out_and_read(place: Place) -> None:
    params = {"text": "a" * limits.ROW_VALUES}
    metrics = {f"m{number:05}": number / 7 for number in range(5000)}
    with place.logbook(params=params) as log:
        log.json("metrics", metrics)
    assert "row" not in metadata(place)
    assert shown(place) == (params, metrics)


def test_a_run_with_large_metadata_ends_without_them(place: Place) -> None:
    with place.logbook(params=PARAMS, environment=False) as log:
        log.json("metrics", METRICS)
        log.meta(text="a" * (limits.METADATA - len(place.bytes("log_run/metadata.json")) - 300))
    fields = metadata(place)
    assert (fields["status"], "row" in fields) == ("complete", False)
    assert shown(place) == (PARAMS, METRICS)


ODD: list[dict[str, Any]] = [
    {"nan": math.nan, "inf": -math.inf, "zero": -0.0, "large": 1e300, "int": 2**70},
    {"nested": {3: "a", 2.5: {"b": None}, True: [1, {"c": "x"}]}},
    {"text": "yes", "date": "2026-03-01", "number": "1e5", "lines": "a\nb\x85c\u2028", "empty": ""},
    {"\udc80": "\udcff", "ü": "é"},
    {"both": {1: "a", "1": "b"}},
    {"": 1, "a.b": 2, "null": None},
]


@pytest.mark.parametrize("values", ODD)
@pytest.mark.parametrize("ext", ["yaml", "json"])
def test_a_table_has_the_same_values_from_metadata_as_from_the_files(values: dict[str, Any], ext: str) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    if ext == "json" and "both" in values:
        pytest.skip("JSON refuses two keys of one text")
    with place.logbook() as log:
        log.params(ext, **values)
        log.json("metrics", {name: value for name, value in values.items() if name != "both"})
    from_metadata = shown(place)
    edit(place, lambda fields: fields.pop("row"))
    assert json.dumps(from_metadata, sort_keys=True) == json.dumps(shown(place), sort_keys=True)


# -- series ----------------------------------------------------------------------------------------------------


def recorded(place: Place, run_id: str = "run", rows: int = 3, **options: Any) -> None:
    with place.logbook(run_id, **options) as log:
        for row in range(rows):
            log.scalars(loss=1 / (row + 1))
        log.series("residual").add(r=0.1)


def test_the_digests_of_series_are_stored(place: Place) -> None:
    recorded(place)
    files = metadata(place)["row"]["files"]
    assert files.keys() == {"series/scalars.jsonl", "series/residual.jsonl"}
    for key, facts in files.items():
        data = place.bytes(f"log_run/{key}")
        assert facts == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert shown(place)[1]["loss"] == 1 / 3


def test_a_series_that_was_removed_or_replaced_is_not_shown_as_it_was(place: Place) -> None:
    recorded(place)
    whole = place.bytes("log_run/series/scalars.jsonl")
    place.put("log_run/series/scalars.jsonl", whole[: whole.index(b"\n") + 1])
    assert shown(place)[1]["loss"] == 1
    assert shown(place)[1]["residual.r"] == 0.1
    place.put("log_run/series/scalars.jsonl", whole + b'{"step": 9, "time": 1.0, "loss": 7}\n')
    assert shown(place)[1]["loss"] == 1 / 3  # as documented, later rows are not in the summary
    place.store().delete(["log_run/series/scalars.jsonl"])
    assert shown(place)[1].keys() == {"residual.r", "residual.r.min", "residual.r.max"}
    edit(place, lambda fields: fields.update(series_summary={"../x": {}, "scalars": 3, "residual": []}))
    assert shown(place)[1] == {}


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("failed", [True, False])
def test_the_series_of_any_run_can_be_cut_or_removed(place: Place, manifest: bool, failed: bool) -> None:
    log = place.logbook(manifest=manifest)
    for step in range(3):
        log.scalars({"loss": 3 - step}, step=step)
    if failed:
        log.mark_failed("h")
    else:
        log.mark_complete()
    assert shown(place)[1]["loss"] == 1
    lines = place.bytes("log_run/series/scalars.jsonl").splitlines(keepends=True)
    if place.store().is_local or not failed:  # in a bucket, a failed run stores its status before its last rows
        place.put("log_run/series/scalars.jsonl", b"".join(lines[:2]))
        assert shown(place)[1]["loss"] == 2
    place.store().delete(["log_run/series/scalars.jsonl"])
    assert shown(place)[1] == {}


def test_a_failed_and_a_resumed_run_with_series(place: Place) -> None:
    with pytest.raises(ValueError, match="h"), place.logbook() as log:
        log.scalars(loss=1)
        raise ValueError("h")
    assert shown(place)[1]["loss"] == 1
    place.logbook(resume=True).mark_complete()
    assert shown(place)[1]["loss"] == 1
    with place.logbook(resume=True) as log:
        log.scalars(loss=0.5)
    data = place.bytes("log_run/series/scalars.jsonl")
    assert metadata(place)["row"]["files"]["series/scalars.jsonl"]["size"] == len(data)
    assert shown(place)[1]["loss"] == 0.5


# -- cost ------------------------------------------------------------------------------------------------------


def test_a_filter_and_a_table_cost_one_listing_and_one_read_a_run(bucket: Place) -> None:
    runs = 6
    for number in range(runs):
        with bucket.logbook(number, params={"n": number}, heartbeat=0) as log:
            log.json("metrics", {"error": number / 2})
            log.scalars(loss=number)
    assert requests(bucket, search.runs) == 1 + runs
    assert requests(bucket, search.runs, where="n > 2 and error < 2 and loss >= 3", sort="n") == 1 + runs
    assert requests(bucket, search.table) == 1 + runs
    assert requests(bucket, search.table, columns=["n", "age"], fresh=True) == 1 + runs
    found = search.table(bucket.url, where="n > 2", storage_options=bucket.options)
    assert [(row["n"], row["error"], row["loss"]) for row in found] == [(3, 1.5, 3), (4, 2.0, 4), (5, 2.5, 5)]


def test_a_table_reads_no_run_that_an_index_has(bucket: Place) -> None:
    experiment = Experiment("sweep", bucket.url, storage_options=bucket.options, heartbeat=0)
    for number in range(3):
        experiment.add(number=number).mark_complete()
    experiment.write_index()
    ended(bucket, heartbeat=0)
    with counted() as sent:
        found = search.table(bucket.url, storage_options=bucket.options)
    assert [row["run_id"] for row in found] == ["run", *(f"sweep_number_{number}" for number in range(3))]
    assert len(sent) == 1 + 1 + 1, sent  # a listing, metadata.json, index.csv


def test_a_comparison_reads_no_parameters_and_metrics(bucket: Place) -> None:
    for name in "ab":
        ended(bucket, name, heartbeat=0)
    with counted() as sent:
        search.compare(
            *(Target(f"{bucket.url}/log_{name}", bucket.options) for name in "ab"), only=["params", "metrics"]
        )
    assert len(sent) == 4, sent  # for each run: a listing, metadata.json


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_copies_in_a_bucket_cost_the_same(kind: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    source, bucket = Place("local", str(tmp_path)), make_place(kind, request)
    for name in "abc":
        ended(source, name)
    sync(source.url, Storage(bucket.url, bucket.options))
    assert requests(bucket, search.table) == 1 + 3
    assert shown(bucket, "a") == (PARAMS, METRICS)
    bucket.put("log_a/params.yaml", b"dt: 0.2\n")
    assert requests(bucket, search.table) == 1 + 3 + 1
    assert shown(bucket, "a") == ({"dt": 0.2}, METRICS)
    bucket.store().clear()


def test_a_mirror_costs_the_same(bucket: Place, tmp_path: Any) -> None:
    source = Place("local", str(tmp_path))
    with source.logbook(params=PARAMS, mirror=MirrorStorage(bucket.url, bucket.options)) as log:
        log.json("metrics", METRICS)
    assert log.mirror is not None
    log.mirror.flush()
    assert metadata(bucket)["row"] == metadata(source)["row"]
    assert requests(bucket, search.table) == 1 + 1
    assert shown(bucket) == (PARAMS, METRICS)


# -- changes after the end -----------------------------------------------------------------------------------


def test_edited_files_are_read(place: Place) -> None:
    ended(place)
    data = place.bytes("log_run/params.yaml")
    place.put("log_run/params.yaml", data.replace(b"0.1", b"0.2"))  # as many bytes
    assert shown(place) == ({**PARAMS, "dt": 0.2}, METRICS)
    place.put("log_run/artifacts/metrics.json", b'{"error": 7}')
    assert shown(place) == ({**PARAMS, "dt": 0.2}, {"error": 7})
    (row,) = search.table(place.url, storage_options=place.options)
    assert (row["dt"], row["error"]) == (0.2, 7)
    assert not search.runs(place.url, where="dt == 0.1 or error == 0.5", storage_options=place.options)
    assert search.show(f"{place.url}/log_run", storage_options=place.options).run.params["dt"] == 0.2
    place.put("log_run/params.yaml", data)
    assert shown(place)[0] == PARAMS


def test_removed_files_have_no_values(place: Place) -> None:
    ended(place)
    place.store().delete(["log_run/params.yaml"])
    assert shown(place) == ({}, METRICS)
    place.store().delete(["log_run/artifacts/metrics.json"])
    assert shown(place) == ({}, {})


def test_parameters_in_another_file_are_read(place: Place) -> None:
    ended(place)
    place.store().delete(["log_run/params.yaml"])
    place.put("log_run/params.json", b'{"dt": 3}')
    assert shown(place)[0] == {"dt": 3}
    with place.logbook("json") as log:
        log.params(ext="json", dt=1)
    place.put("log_json/params.yaml", b"dt: 2")  # of two files, readers use this one
    assert shown(place, "json")[0] == {"dt": 2}


def test_what_the_run_writes_after_its_end_is_read(place: Place) -> None:
    with place.logbook(params=PARAMS) as log:
        log.json("metrics", METRICS)
    log.params(dt=0.3)
    log.json("metrics", {"error": 8})
    log.flush()
    assert shown(place) == ({**PARAMS, "dt": 0.3}, {"error": 8})
    log.meta(note="later")
    assert shown(place) == ({**PARAMS, "dt": 0.3}, {"error": 8})


def test_a_resumed_run(place: Place) -> None:
    ended(place)
    log = place.logbook(resume=True)
    assert "row" not in metadata(place)
    assert shown(place) == (PARAMS, METRICS)
    log.json("metrics", {"error": 9})
    assert shown(place) == (PARAMS, {"error": 9})
    log.mark_complete()
    row = metadata(place)["row"]
    assert (row["params"], row["metrics"]) == (PARAMS, {"error": 9})
    place.logbook(params={"dt": 5}, resume=True).mark_complete()
    row = metadata(place)["row"]
    assert (row["params"], row["metrics"]) == ({"dt": 5}, {"error": 9})
    assert shown(place) == ({"dt": 5}, {"error": 9})


def test_a_resumed_run_that_changes_nothing_costs_a_reader_nothing_more(bucket: Place) -> None:
    ended(bucket, heartbeat=0)
    bucket.logbook(resume=True, heartbeat=0).mark_complete()
    bucket.logbook(params=PARAMS, resume=True, heartbeat=0).mark_complete()
    assert requests(bucket, search.table) == 1 + 1
    assert shown(bucket) == (PARAMS, METRICS)


def test_a_run_that_died_and_was_resumed(place: Place) -> None:
    ended(place)
    edit(place, lambda fields: fields.update(status="initialized", lease={}, row=None))
    place.logbook(resume="force").mark_complete()
    assert shown(place) == (PARAMS, METRICS)


def test_another_run_in_the_same_folder(place: Place) -> None:
    ended(place)
    with place.logbook(params={"n": 1}, overwrite=True):
        pass
    assert shown(place) == ({"n": 1}, {})


def test_workers_write_the_metrics(place: Place) -> None:
    with place.logbook(params=PARAMS) as log:
        log.json("metrics", METRICS)
        with log.worker(0) as worker:
            worker.json("metrics", {"error": 3})
    assert shown(place) == (PARAMS, {"error": 3})


def test_a_copy_that_is_updated(place: Place, tmp_path: Any) -> None:
    source = Place("local", str(tmp_path / "source"))
    ended(source)
    sync(source.url, Storage(place.url, place.options))
    assert shown(place) == (PARAMS, METRICS)
    with source.logbook(params={"dt": 6}, resume=True) as log:
        log.json("metrics", {"error": 6})
    sync(source.url, Storage(place.url, place.options))
    assert shown(place) == ({"dt": 6}, {"error": 6})
    source.put("log_run/params.yaml", b"dt: 7\n")
    sync(source.url, Storage(place.url, place.options))
    assert metadata(place)["row"]["params"] == {"dt": 6}
    assert shown(place) == ({"dt": 7}, {"error": 6})


def test_a_pattern_that_lists_a_part_of_a_run(place: Place) -> None:
    ended(place)
    for pattern in ("log_run/m*", "log_*/artifacts/metrics.json"):
        found = search.contents(
            f"{place.url}/{pattern}", where="dt == 0.1 and error == 0.5", storage_options=place.options
        )
        assert len(list(found)) >= 1, pattern
    assert not list(search.contents(f"{place.url}/log_run/m*", where="dt > 1", storage_options=place.options))


# -- other versions, and forged fields -------------------------------------------------------------------------


def test_a_run_of_an_earlier_version_is_read_from_its_files(place: Place) -> None:
    ended(place)
    edit(place, lambda fields: fields.pop("row"))
    assert shown(place) == (PARAMS, METRICS)


def test_a_row_of_an_earlier_version_is_trusted_as_before(place: Place) -> None:
    ended(place)
    edit(place, lambda fields: fields["row"].pop("files"))
    place.put("log_run/params.yaml", b"dt: 2\n")
    assert shown(place) == (PARAMS, METRICS)
    place.put("log_run/artifacts/metrics.json", b'{"error": 7}')
    assert shown(place) == (PARAMS, {"error": 7})


BOTH = ("params.yaml", "artifacts/metrics.json")
DEEP: Any = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize(
    "files",
    [
        None, 3, "params.yaml", [], [["params.yaml"]], {}, {"params.yaml": None, "artifacts/metrics.json": []},
        {"params.yaml": {"size": "9"}, "artifacts/metrics.json": {"size": True, "md5": 3, "version": None}},
        {key: {"size": -1, "md5": "", "sha256": "", "version": ""} for key in BOTH},
        {key: {"size": 10**40, "md5": [], "version": {}} for key in BOTH},
        {"params.yaml": DEEP, "../../metadata.json": {}, "a" * 10_000: DEEP},
    ],
)  # fmt: skip
def test_forged_facts_about_files_are_not_trusted(files: Any) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    ended(place)
    edit(place, lambda fields: fields["row"].update(files=files, params={"forged": 1}, metrics={"forged": 1}))
    assert shown(place) == (PARAMS, METRICS)


@pytest.mark.parametrize("value", [None, 3, "x", [1], [["a", 1]], DEEP])
def test_forged_values_are_no_error(value: Any) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    ended(place)
    edit(place, lambda fields: fields["row"].update(params=value, metrics=value, metrics_error=value))
    search.table(place.url)
    params, metrics = shown(place)
    assert (params, metrics) == ({}, {})


@pytest.mark.parametrize("value", [None, 3, "x", [1], {"a": DEEP}])
def test_a_run_with_forged_values_can_be_resumed(value: Any) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    ended(place)
    forged = {"params": value, "metrics": value, "metrics_error": value, "metrics_version": value}
    edit(place, lambda fields: fields["row"].update(forged))
    place.logbook(resume=True).mark_complete()
    assert metadata(place)["status"] == "complete"
    edit(place, lambda fields: fields["row"].update(files=value) if "row" in fields else None)
    place.logbook(resume=True).mark_complete()
    assert shown(place) == (PARAMS, METRICS) or isinstance(value, dict)


@pytest.mark.parametrize("key", ["../../metadata.json", "/etc/passwd", "log.txt", "params.yaml", 3, [], "", "a\0b"])
def test_a_forged_key_of_the_metrics_reads_nothing_else(key: Any) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    ended(place)
    edit(place, lambda fields: fields["row"].update(metrics_file=key, files={}))
    search.table(place.url)
    assert shown(place)[0] == PARAMS


def test_large_forged_values_are_bounded() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    ended(place)
    place.put(
        "log_run/metadata.json", b'{"status": "complete", "row": {"params": {"a": "' + b"x" * limits.METADATA + b'"}}}'
    )
    (run,) = search.runs(place.url, values=True, failed=lambda error: None)
    assert (run.status, run.params) == ("unreadable", {})


def test_a_reader_of_one_run_reads_its_files(place: Place) -> None:
    ended(place)
    edit(place, lambda fields: fields["row"].update(params={"forged": 1}))
    assert LogReader(f"{place.url}/log_run", storage_options=place.options).params == PARAMS
