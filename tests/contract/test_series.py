"""Series on every backend: rows in the documented form, each once and in order, and their cost in a bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from notata import ConfigurationError, Logbook, LogReader, search
from notata._base import processes
from notata.run import state
from notata.search.watching import CurveWatcher
from tests import receipts
from tests.backends import Place
from tests.contract.test_races import die
from tests.counting import Send, counted, intercepted
from tests.series import rows, summarized, values
from tests.tools.lines import measure_rows, wanted_rows

KEY = "series/scalars.jsonl"
MANY = 100_000
RUNNING = {"run_id": "run", "status": "initialized", "lease": {"process": "a", "owner": "b", "heartbeat": 30}}


def reader(place: Place) -> LogReader:
    return LogReader(f"{place.url}/log_run", storage_options=place.options)


def summaries(place: Place) -> Any:
    """Return the stored summaries of the series."""
    return json.loads(place.bytes("log_run/metadata.json"))["series_summary"]


# -- what is there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_rows_are_stored_and_read_back(place: Place, background: bool) -> None:
    steps, curve = range(0, 80, 8), [{"loss": 2.0**-n, "val/acc": n / 10, "phase": "warm-up"} for n in range(10)]
    with place.logbook(background=background) as log:
        for step, row in zip(steps, curve, strict=True):
            log.scalars(row, step=step)
            log.series("solver/residual").add(r=step / 8)
        if place.bucket:
            log.flush()
        assert len(rows(place.bytes(f"log_run/{KEY}"))) == 10
        log.scalars(loss=0.5)
    assert values(place) == [
        *({"step": step, **row} for step, row in zip(steps, curve, strict=True)),
        {"step": 73, "loss": 0.5},
    ]
    assert values(place, "series/solver/residual.jsonl") == [{"step": n, "r": float(n)} for n in range(10)]
    assert reader(place).series_names == ["scalars", "solver/residual"]
    data = reader(place).series()
    assert data.step.tolist() == [*steps, 73]
    assert data["loss"].tolist() == [*(row["loss"] for row in curve), 0.5]
    assert data["phase"].tolist() == ["warm-up"] * 10 + [None]
    assert reader(place).series("solver/residual")["r"].tolist() == [float(n) for n in range(10)]
    assert summaries(place) == {
        "scalars": summarized([*steps, 73], [*curve, {"loss": 0.5}]),
        "solver/residual": summarized(range(10), [{"r": float(n)} for n in range(10)]),
    }
    receipts.check(place)
    assert reader(place).verify().ok


def test_workers_write_files_of_their_own(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(step=5, loss=1.0)
        for rank in ("0", "node-7"):
            with log.worker(rank) as worker:
                worker.scalars(step=len(rank), loss=len(rank) / 2)
                worker.series("halo").add(size=len(rank))
    assert [name for name in place.names() if name.endswith(".jsonl")] == [
        f"log_run/{KEY}",
        *(f"log_run/workers/{rank}/series/{name}.jsonl" for rank in ("0", "node-7") for name in ("halo", "scalars")),
    ]
    assert values(place) == [{"step": 5, "loss": 1.0}]
    assert values(place, f"workers/node-7/{KEY}") == [{"step": 6, "loss": 3.0}]
    data = reader(place).series(workers=True)
    merged = zip(data["rank"].tolist(), data.step.tolist(), data["loss"].tolist(), strict=True)
    assert sorted(merged) == [("", 5, 1.0), ("0", 1, 0.5), ("node-7", 6, 3.0)]
    assert sorted(reader(place).series("halo", workers=True)["size"].tolist()) == [1, 6]
    assert reader(place).series("halo", rank="node-7")["size"].tolist() == [6]
    assert reader(place).series_names == ["scalars"]
    assert summaries(place) == {"scalars": summarized([5], [{"loss": 1.0}])}
    receipts.check(place)


def record(log: Logbook) -> None:
    """Add rows of the owner and of a worker, which are stored."""
    for step in range(10):
        log.scalars(step=step, loss=float(step))
    worker = log.worker(0)
    worker.scalars(step=3, loss=0.5)
    worker.flush()
    log.flush()


def test_a_dead_run_that_repeats_steps_has_one_curve(place: Place) -> None:
    die(place, "run", record)
    with place.logbook(resume=True) as log:
        log.scalars(step=6, loss=60.0)
        log.scalars(loss=70.0)
        log.worker(0).scalars(loss=0.25)
    first = [{"step": step, "loss": float(step)} for step in range(10)]
    again = [{"step": 6, "try": 1, "loss": 60.0}, {"step": 7, "try": 1, "loss": 70.0}]
    assert values(place) == first + again
    assert values(place, f"workers/0/{KEY}") == [{"step": 3, "loss": 0.5}, {"step": 4, "try": 1, "loss": 0.25}]
    data = reader(place).series()
    assert (data.step.tolist(), data["loss"].tolist()) == ([*range(8)], [*map(float, range(6)), 60.0, 70.0])
    assert data.attempt.tolist() == [0] * 6 + [1] * 2
    whole = reader(place).series(repeated=True)
    assert (whole.step.tolist(), whole.attempt.tolist()) == ([*range(10), 6, 7], [0] * 10 + [1] * 2)
    assert summaries(place) == {
        "scalars": summarized(range(8), [{"loss": loss} for loss in [*map(float, range(6)), 60.0, 70.0]])
    }


def test_follow_yields_rows_as_they_come_and_ends_with_the_run(place: Place) -> None:
    """Each row is added after the ones before were yielded, so nothing depends on the clock."""
    log = place.logbook()
    log.scalars(n=0)
    log.flush()
    found: list[int] = []
    for data in reader(place).follow(interval=0.001):
        found += data["n"].tolist()
        if found[-1] < 4:
            log.scalars(n=found[-1] + 1)
            log.scalars(n=found[-1] + 2)
            log.flush()
        elif log.status != "complete":
            log.scalars(n=found[-1] + 1)
            log.mark_complete()
    assert found == [*range(6)]


def fail(place: Place) -> None:
    """Store the status of a failed run, before its last rows."""
    fields = json.loads(place.bytes("log_run/metadata.json"))
    place.put("log_run/metadata.json", json.dumps(fields | {"status": "failed"}).encode())


def add_row(place: Place) -> None:
    last = json.loads(place.bytes(f"log_run/{KEY}").splitlines()[-1])
    row = json.dumps({**last, "step": last["step"] + 1, "n": last["n"] + 1})
    place.put(f"log_run/{KEY}", place.bytes(f"log_run/{KEY}") + row.encode() + b"\n")


@pytest.mark.parametrize("is_gone", [True, False], ids=["its process ends", "a while passes"])
def test_follow_waits_for_rows_that_a_failed_run_stores_after_its_status(
    bucket: Place, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    bucket.put("log_run/metadata.json", json.dumps(RUNNING).encode())
    bucket.put(f"log_run/{KEY}", b'{"step": 0, "time": 1764323213.0, "n": 0}\n')
    looks: list[bool] = []

    def alive(process: str) -> bool | None:
        """Answer whether the process of the run is alive, which a reader of a failed run asks before it ends."""
        if not failed:
            return True
        looks.append(True)
        if len(looks) == 2:
            add_row(bucket)
        if len(looks) == 3 and not is_gone:
            monkeypatch.setattr(state, "LATE", -1.0)
        return len(looks) < 4

    monkeypatch.setattr(processes, "alive", alive)
    monkeypatch.setattr(state, "LATE", 600.0)
    failed, found = False, []
    for data in reader(bucket).follow(interval=0.001):
        found += data["n"].tolist()
        if not failed:
            fail(bucket)
            failed = True
    assert found == [0, 1]
    assert len(looks) == (4 if is_gone else 3)


def test_curves_wait_for_rows_that_a_failed_run_stores_after_its_status(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("log_run/metadata.json", json.dumps(RUNNING).encode())
    bucket.put(f"log_run/{KEY}", b'{"step": 0, "time": 1764323213.0, "n": 0}\n')
    monkeypatch.setattr(processes, "alive", lambda process: True)
    monkeypatch.setattr(state, "LATE", 600.0)

    def end() -> None:
        monkeypatch.setattr(processes, "alive", lambda process: False)

    steps: list[Callable[[], object]] = []

    def wait(seconds: float) -> None:
        steps.pop(0)()

    for is_listed_as_failed in (False, True):  # in a second watch, the run has just ended when it is listed
        steps = [lambda: fail(bucket), lambda: None, lambda: add_row(bucket), lambda: None, end, lambda: None]
        if is_listed_as_failed:
            monkeypatch.setattr(processes, "alive", lambda process: True)
            steps = steps[1:]
        told: list[str] = []
        runs = search.runs(bucket.url, storage_options=bucket.options)
        watched = CurveWatcher(runs, ["n"], wait=wait, tell=told.append)
        found = [curve.y.tolist() for curves in watched for curve in curves]
        start = 2 if is_listed_as_failed else 1
        assert found == [[*range(start)], [*range(start + 1)]]
        assert told == [f"{bucket.url}/log_run: failed"]


@pytest.mark.usefixtures("stopped_clock")
def test_rows_whose_reply_is_lost_are_there_once_and_in_the_manifest(bucket: Place) -> None:
    lost: list[str] = []

    async def request(send: Send, method: str, url: Any, **options: Any) -> Any:
        response = await send(method, url, **options)
        if method != "GET" and not lost:
            lost.append(str(url))
            await response.read()
            response.close()
            raise aiohttp.ServerDisconnectedError
        return response

    with bucket.logbook(heartbeat=0) as log:
        log.flush()
        log.scalars(step=0, loss=0.5)
        log.scalars(loss=0.25)
        with intercepted(request):
            log.flush()  # of the rows only
    assert len(lost) == 1
    assert values(bucket) == [{"step": 0, "loss": 0.5}, {"step": 1, "loss": 0.25}]
    receipts.check(bucket, without=[KEY])


# -- what it costs in a bucket -----------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_clock")
def test_a_series_is_one_request_at_the_end_and_its_summary_none(bucket: Place) -> None:
    bucket.logbook("warm").mark_complete()
    log = bucket.logbook(heartbeat=0)
    with counted() as sent:
        for step in range(100):
            log.scalars(step=step, loss=step / 2)
    assert sent == []
    with counted() as sent:
        log.mark_complete()
    assert len(sent) == 4, sent  # the rows, the log, the manifest, and the status with the summary
    assert summaries(bucket) == {"scalars": summarized(range(100), [{"loss": step / 2} for step in range(100)])}


@pytest.mark.usefixtures("stopped_clock")
def test_rows_are_read_in_one_request_and_only_new_ones_on_demand(bucket: Place) -> None:
    log = bucket.logbook(heartbeat=0)
    for step in range(5):
        log.scalars(step=step, loss=step / 2)
    log.flush()
    there = reader(bucket)
    with counted() as sent:
        data = there.series()
    assert len(sent) == 1, sent
    assert (data.rows, data.end) == (5, len(bucket.bytes(f"log_run/{KEY}")))
    for step in range(5, 8):
        log.scalars(step=step, loss=step / 2)
    log.flush()
    with counted() as sent:
        more = there.series(start=data.end)
    assert len(sent) == 1, sent
    assert more.step.tolist() == [5, 6, 7]
    with counted() as sent:
        assert there.series(start=more.end).rows == 0
    assert len(sent) == 1, sent


def test_a_start_of_another_file_is_refused(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(step=5, loss=1.0)
        log.scalars(step=6, loss=2.0)
    end = reader(place).series().end
    with place.logbook(overwrite=True) as log:
        log.scalars(step=7, loss=3.0)
    for start in (end, end - 1, 10**9):
        with pytest.raises(ConfigurationError, match=f"from byte {start:,} on: .* read it again with start=0"):
            reader(place).series(start=start)


@pytest.mark.usefixtures("stopped_clock")
def test_many_rows_are_each_there_once_in_order_and_cheap(bucket: Place) -> None:
    cost = measure_rows(bucket, MANY)
    assert cost.lines == wanted_rows(MANY)
    assert cost.sent <= 3 * cost.size
    assert cost.requests <= 40
