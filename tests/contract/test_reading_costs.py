"""The requests of writers and readers on a bucket, counted at the client library."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from upath import UPath

from notata import Logbook, LogReader, errors
from tests.backends import Place
from tests.counting import counted

MIB = 2**20

pytestmark = pytest.mark.usefixtures("stopped_clock")


@pytest.fixture
def log(bucket: Place) -> Logbook:
    """A run in a bucket, after this process has verified exclusive creation there."""
    return bucket.logbook(heartbeat=0)


def requests(call: Callable[[], Any]) -> list[str]:
    with counted() as sent:
        call()
    return [request.partition(" ")[0] for request in sent]


# -- write -------------------------------------------------------------------------------------------------


def test_a_value_is_one_request(log: Logbook) -> None:
    figure = Figure(figsize=(1, 1))
    for write in (
        lambda: log.array("a", np.zeros(10**6)),
        lambda: log.arrays("b", x=np.zeros(100), v=[1]),
        lambda: log.arrays("c", compressed=False, x=np.zeros(10**6)),
        lambda: log.plot("p", figure),
        lambda: log.save("s.yaml", {"a": 1}),
        lambda: log.save("t.parquet", {"a": [1]}),
        lambda: log.params(omega=2.0),
        lambda: log.params(steps=100),
    ):
        assert len(requests(write)) == 1
    assert len(requests(lambda: log.plot("q", figure, formats=("png", "svg", "pdf")))) == 3
    assert len(requests(lambda: log.params(ext="json", dt=0.1))) == 2
    assert len(requests(lambda: log.params(ext="json", dt=0.2))) == 1
    assert requests(lambda: (log.params["omega"], len(log.params), dict(log.params))) == []


def test_the_parameters_of_a_resumed_run_are_read_once(bucket: Place) -> None:
    bucket.logbook(params={"omega": 2.0}, heartbeat=0).mark_complete()
    log = bucket.logbook(resume=True, heartbeat=0)
    assert len(requests(lambda: log.params["omega"])) == 1
    assert requests(lambda: dict(log.params)) == []
    assert len(requests(lambda: log.params(steps=1))) == 1


def test_a_value_that_is_refused_is_no_request(log: Logbook) -> None:
    def refused(write: Callable[[], object]) -> None:
        with pytest.raises(errors.NotataError):
            write()

    for write in (
        lambda: log.params(omega=object()),
        lambda: log.array("a", np.array([object()])),
        lambda: log.array("../a", [1]),
        lambda: log.save("a.json", object()),
        lambda: log.save("a.unknown", 1),
        lambda: log.plot("a", "no figure"),  # type: ignore[arg-type]
    ):
        assert requests(lambda write=write: refused(write)) == []  # type: ignore[misc]


def test_a_file_of_a_disk_is_one_request_and_one_of_the_bucket_three(
    bucket: Place, log: Logbook, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"x" * MIB)
    bucket.put("results/b", b"x" * 1000)
    assert requests(lambda: log.file(tmp_path / "a")) == ["POST" if bucket.name == "gcs" else "PUT"]
    beside = UPath(f"{bucket.url}/results/b", **bucket.options)
    log.file(beside)  # it opens its own store, which connects
    assert len(requests(lambda: log.file(beside))) == 3


def test_a_folder_of_a_disk_is_one_request_a_file_and_one_of_the_bucket_two_and_a_list(
    bucket: Place, log: Logbook, tmp_path: Path
) -> None:
    for number in range(5):
        (tmp_path / f"a{number}").write_bytes(b"x")
        bucket.put(f"results/b{number}", b"x")
    assert len(requests(lambda: log.folder(tmp_path, "disk"))) == 5
    beside = UPath(f"{bucket.url}/results", **bucket.options)
    log.folder(beside)
    assert len(requests(lambda: log.folder(beside))) == 1 + 2 * 5


def test_a_folder_of_many_files_needs_little_memory(bucket: Place, log: Logbook, tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / f"a{number}").write_bytes(b"x" * MIB)
    log.folder(tmp_path, "disk")
    source = UPath(f"{bucket.url}/log_run/artifacts/disk", **bucket.options)
    tracemalloc.start()
    try:
        log.folder(source, "bucket")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bucket.name == "s3" or peak < 150 * MIB  # moto runs in this process, so its memory counts too
    assert len(bucket.store().list("log_run/artifacts/bucket")) == 24


# -- read --------------------------------------------------------------------------------------------------


def test_a_check_is_one_request(bucket: Place, log: Logbook) -> None:
    log.params(omega=2.0)
    log.json("metrics", {"loss": 0.5})
    log.text("notes", "x" * MIB)
    log.bytes("raw", b"x")
    log.pickle("model", 1)
    log.save("t.parquet", {"a": [1]})
    log.array("t", np.zeros(10**6))
    log.arrays("b", x=np.zeros(100), v=[1])
    log.mark_complete()
    run = LogReader(log.path)
    for look in (
        lambda: LogReader(log.path),
        lambda: run.meta,
        lambda: run.state,
        lambda: run.params,
        lambda: run.log,
        lambda: run.files,
        lambda: run.artifacts,
        lambda: run.plots,
        lambda: "artifacts/raw" in run,
        lambda: run.load_json("metrics"),
        lambda: run.load_text("notes"),
        lambda: run.load_bytes("raw"),
        lambda: run.load_pickle("model"),
        lambda: run.load_table("t"),
        lambda: run.load_array("t"),
        lambda: run.load_array("b:x"),
        lambda: run.load_arrays("b"),
        lambda: run.load("artifacts/metrics.json"),
        lambda: run["artifacts/raw"].read_bytes(),
    ):
        assert len(requests(look)) == 1
    for free in (lambda: run.run_id, lambda: run.url, lambda: run.path, lambda: run["data"], lambda: repr(run)):
        assert requests(free) == []
    assert len(requests(lambda: run.load("metrics.json"))) == 2
    assert len(requests(run._repr_html_)) == 3
    assert len(requests(lambda: log.reader.load_json("metrics"))) == 1


def test_params_as_json_or_none_are_two_requests(log: Logbook) -> None:
    run = log.reader
    assert len(requests(lambda: run.params)) == 2
    log.params(ext="json", omega=2.0)
    assert len(requests(lambda: run.params)) == 2


def test_arrays_are_one_list_and_the_end_of_each_bundle(bucket: Place, log: Logbook) -> None:
    log.array("t", [1])
    for number in range(3):
        log.arrays(f"b{number}", x=[1], v=[2])
    log.arrays("large", compressed=False, x=np.random.default_rng(0).random(10**6))
    run = log.reader
    with counted() as sent:
        assert len(run.arrays) == 8
    assert len(sent) == 5, sent
    log.bytes("x", b"")
    place = bucket.store().below("log_run")
    [large] = [entry for entry in place.list("data") if entry.key == "data/large.npz"]
    assert len(place.read_ends([large], 64 * 2**10)["data/large.npz"]) == 64 * 2**10


def test_what_is_not_there_costs_a_list_more(log: Logbook) -> None:
    log.json("metrics", {})
    run = log.reader

    def look() -> None:
        with pytest.raises(errors.UnknownNameError):
            run.load_json("other")

    assert len(requests(look)) == 2
