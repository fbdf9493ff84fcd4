"""Pages of notebooks for runs, experiments and series, compared with the recorded values, on every backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from notata import Experiment, ExperimentReader, LogReader, search
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.counting import counted
from tests.notebook import Page, cells, pictures, points, texts, title

EVIL = "<img src=x onerror=alert(1)>"
KINDS = ("reader", "experiment reader", "experiment", "runs", "table", "overview", "series", "series of runs", "curve")


def sweep(place: Place, runs: int = 3, **options: Any) -> Experiment:
    """Record some runs, of which the last one fails."""
    experiment = Experiment("sweep", place.url, storage_options=place.options, heartbeat=0, **options)
    for number in range(runs):
        with suppress(ValueError), experiment.add(rate=0.5 + number / 10, method="rk4") as log:
            for step in range(20):
                log.scalars(step=step, loss=(0.5 + number / 10) ** step, phase="warm" if step < 5 else "cold")
                if number == runs - 1 and step == 10:
                    raise ValueError("the step size is too large")
            log.json("metrics", {"error": 0.25})
    return experiment


def shown(kind: str, url: str, options: dict[str, Any]) -> Callable[[], str]:
    """Return a function that returns the HTML of an object; the object is made without it."""
    runs = ExperimentReader(url, storage_options=options)
    made: dict[str, Callable[[], Any]] = {
        "reader": lambda: runs[0],
        "experiment reader": lambda: runs,
        "experiment": lambda: Experiment(url.rpartition("/")[2], url.rpartition("/")[0], storage_options=options),
        "runs": lambda: search.runs(url, storage_options=options),
        "table": lambda: search.table(url, storage_options=options),
        "overview": lambda: search.show(runs[0].url, storage_options=options),
        "series": lambda: runs[0].series(),
        "series of runs": lambda: runs.series(),
        "curve": lambda: next(iter(search.curves(url, "loss", storage_options=options))),
    }
    html: Callable[[], str] = made[kind]()._repr_html_
    return html


# -- content -----------------------------------------------------------------------------------------------


def test_a_run_shows_its_state_values_and_curves(place: Place) -> None:
    experiment = sweep(place)
    html = experiment.reader[2]._repr_html_()
    found = Page(html)
    assert found.open == []
    facts = dict(row for row in cells(html) if len(row) == 2)
    assert facts["status"] == "● failed (the step size is too large)"
    assert facts["url"] == experiment.reader[2].url
    assert cells(html, "params") == [["method", "rk4"], ["rate", "0.7"]]
    assert cells(html, "series scalars: 11 rows, last step 10") == [
        ["column", "last", "min", "min_step", "max", "max_step"],
        ["loss", f"{0.7**10:.6g}", f"{0.7**10:.6g}", "10", "1.0", "0"],
        ["phase", "cold", "", "", "", ""],
    ]
    [loss] = pictures(html)
    assert title(loss) == "loss"
    [curve] = points(loss)
    assert len(curve) == 11
    files = next(rows for caption, rows in found.tables.items() if " files, " in caption)
    assert {"log.txt", "metadata.json", "series/scalars.jsonl"} <= {row[0] for row in files}


def test_an_experiment_shows_its_table_and_the_curves_of_all_runs(place: Place) -> None:
    experiment = sweep(place)
    for html in (experiment._repr_html_(), experiment.reader._repr_html_()):
        rows = next(rows for caption, rows in Page(html).tables.items() if caption.startswith("3 runs at "))
        assert rows[0] == ["run_id", "method", "rate", "status", "error", "loss", "phase", "failure_reason"]
        assert [row[3] for row in rows[1:]] == ["● complete", "● complete", "● failed"]
        loss, names = pictures(html)
        assert [len(part) for part in points(loss)] == [20, 20, 11]
        assert texts(names) == ["rate=0.5", "rate=0.6", "rate=0.7"]


def test_found_runs_are_shown_with_curves(place: Place) -> None:
    sweep(place)
    found = search.runs(place.url, storage_options=place.options, values=True)
    html = found._repr_html_()
    head, *rows = cells(html)
    assert head == ["name", "status", "started", "age", "took", "size", "failure_reason"]
    assert [row[1] for row in rows] == ["● complete", "● complete", "● failed"]
    assert [row[-1] for row in rows] == ["", "", "the step size is too large"]
    loss, names = pictures(html)
    assert len(points(loss)) == 3
    assert texts(names) == ["rate=0.5", "rate=0.6", "rate=0.7"]


def test_series_and_curves_show_themselves(place: Place) -> None:
    sweep(place)
    series = search.series(place.url, storage_options=place.options)
    head, *rows = cells(series._repr_html_())
    assert head == ["run", "rows", "loss", "phase"]
    assert [row[1] for row in rows] == ["20", "20", "11"]
    assert len(points(pictures(series._repr_html_())[0])) == 3
    [of_one] = pictures(series.data[0]._repr_html_())
    assert len(points(of_one)[0]) == 20
    curve = next(iter(search.curves(place.url, "loss", storage_options=place.options)))
    [picture] = pictures(curve._repr_html_())
    assert title(picture) == "loss of sweep_method_rk4_rate_0.5"


def test_the_first_ten_runs_and_six_columns_are_drawn() -> None:
    place = Place("memory", "memory://notebook-many")
    place.store().clear()
    for number in range(60):
        with place.logbook(f"r{number:02d}", params={"number": number}, environment=False) as log:
            log.scalars({f"c{at}": at + number for at in range(8)}, step=number)
    for html in (ExperimentReader(place.url)._repr_html_(), search.runs(place.url)._repr_html_()):
        drawn = pictures(html)
        assert [title(one) for one in drawn] == ["c0", "c1", "c2", "c3", "c4", "c5", "legend"]
        assert all(len(points(one)) == 10 for one in drawn[:-1])
        found = Page(html)
        assert "the curves are those of the first 10 of 60 runs; search.curves(…) reads all" in found.text
        assert "2 more columns of numbers" in found.text
        [rows] = [rows for rows in found.tables.values() if len(rows) > 20]
        assert rows[-1] == ["… and 10 more"]
        assert len(html) < 100_000


def test_a_large_series_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("memory", "memory://notebook-large")
    place.store().clear()
    with place.logbook("large", params={"dt": 0.1}) as log:
        log.scalars(step=1, loss=0.5)
    line = b'{"step": 1, "time": 1764323213.0, "loss": 0.5}\n'
    place.put("log_large/series/scalars.jsonl", line * (9 * 2**20 // len(line)))
    faulty = FaultyBackend(open_store(place.url))
    html = LogReader(open_store(faulty).below("log_large"))._repr_html_()
    assert pictures(html) == []
    assert "the series scalars is not drawn: its size is 9.4 MB, and a notebook reads at most 8.4 MB" in Page(html).text
    assert cells(html, "series scalars: 1 rows, last step 1")[1][:2] == ["loss", "0.5"]
    assert not [one for one in faulty.operations if one.verb == "get" and "scalars" in one.key]


def test_a_forged_series_of_many_values_is_not_drawn() -> None:
    place = Place("memory", "memory://notebook-forged")
    place.store().clear()
    place.logbook("forged").mark_complete()
    rows = [json.dumps({"step": at, "time": 0.0, f"c{at}": 1.0}) for at in range(5000)]
    place.put("log_forged/series/scalars.jsonl", "\n".join(rows).encode() + b"\n")
    html = LogReader(f"{place.url}/log_forged")._repr_html_()
    assert pictures(html) == []
    assert "the series scalars is not drawn: it has more than 2,000,000 values" in Page(html).text


# -- a run that is being written ---------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_clock")
def test_a_logbook_shows_rows_that_wait_and_flushes_nothing(bucket: Place) -> None:
    log = bucket.logbook(params={"omega": 2.0}, heartbeat=0)
    for step in range(3):
        log.scalars(step=step, loss=step / 2)
    log.flush()
    log.scalars(step=3, loss=9.0)
    before = bucket.bytes("log_run/series/scalars.jsonl")
    with counted() as sent:
        html = log._repr_html_()
    assert {request.partition(" ")[0] for request in sent} <= {"GET", "HEAD"}
    assert len(sent) == 2, sent
    assert bucket.bytes("log_run/series/scalars.jsonl") == before
    assert dict(cells(html))["status"] == "● running"
    assert cells(html, "params") == [["omega", "2.0"]]
    assert cells(html, "series scalars: 4 rows, last step 3")[1][:2] == ["loss", "9.0"]
    assert len(points(pictures(html)[0])[0]) == 3
    assert "1 row not stored yet" in Page(html).text
    log.mark_failed("by hand")
    assert dict(cells(log._repr_html_()))["status"] == "● failed: by hand"


def test_a_worker_and_a_resumed_run_show_themselves(place: Place) -> None:
    log = place.logbook(params={"omega": 2.0})
    worker = log.worker(3)
    worker.scalars(step=0, loss=1.0)
    worker.scalars(step=1, loss=2.0)
    worker.close()
    html = worker._repr_html_()
    assert "worker 3 of run run" in Page(html).text
    assert len(points(pictures(html)[0])[0]) == 2
    log.mark_complete()
    again = place.logbook(resume=True)
    assert cells(again._repr_html_(), "params") == [["omega", "2.0"]]
    again.mark_complete()


def test_a_new_logbook_costs_no_request_to_show(bucket: Place) -> None:
    log = bucket.logbook(params={"omega": 2.0}, heartbeat=0)
    with counted() as sent:
        html = log._repr_html_()
    assert (sent, pictures(html)) == ([], [])


# -- cost, faults and hostile content ----------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("reader", 4),  # a listing, metadata, parameters, and the series
        ("experiment reader", 5),  # a listing, index.csv, and three series
        ("experiment", 5),
        ("runs", 3),
        ("overview", 1),
        ("table", 0),
        ("series", 0),
        ("series of runs", 0),
        ("curve", 0),
    ],
)
def test_what_is_shown_costs_few_requests(kind: str, most: int, bucket: Place) -> None:
    sweep(bucket).write_index()
    show = shown(kind, f"{bucket.url}/sweep", bucket.options)
    with counted() as sent:
        show()
    assert len(sent) == most, sent


@pytest.mark.parametrize("kind", ["reader", "experiment reader", "runs", "overview"])
@pytest.mark.parametrize("error", [ConnectionError, PermissionError, FileNotFoundError])
def test_an_error_of_the_storage_is_shown_beside_the_rest(kind: str, error: type[Exception]) -> None:
    place = Place("memory", "memory://notebook-faults")
    place.store().clear()
    sweep(place)
    faulty = FaultyBackend(open_store(f"{place.url}/sweep"))
    store = open_store(faulty)
    runs = ExperimentReader(store)
    makers: dict[str, Callable[[], Any]] = {
        "reader": lambda: runs[0],
        "experiment reader": lambda: runs,
        "runs": lambda: search.runs(faulty),
        "overview": lambda: search.show(store.below(f"runs/log_{runs[0].run_id}")),
    }
    made = makers[kind]()
    complete = made._repr_html_()
    began = len(faulty.operations)
    made._repr_html_()
    for nth in range(1, len(faulty.operations) - began + 1):
        faulty.fail(nth, error=error)
        html = made._repr_html_()
        faulty.heal()
        found = Page(html)
        assert found.open == []
        assert error is FileNotFoundError or "memory://notebook-faults" in found.text
    assert len(Page(made._repr_html_()).tables) == len(Page(complete).tables)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_and_values_are_only_text(kind: str) -> None:
    place = Place("memory", "memory://notebook-hostile")
    place.store().clear()
    experiment = Experiment("sweep", place.url)
    with suppress(ValueError), experiment.add(**{EVIL: EVIL, "b": "\x1b[2J\u202e"}) as log:
        log.series("scalars").add({EVIL: 1.0, "loss": 0.5, "t": EVIL}, step=0)
        log.json("metrics", {EVIL: EVIL})
        raise ValueError(EVIL)
    html = shown(kind, f"{place.url}/sweep", {})()
    assert "<img" not in html
    assert "\x1b" not in html
    found = Page(html)
    assert found.tags <= {
        "div", "b", "span", "table", "caption", "tr", "th", "td", "svg", "title", "text", "path", "line",
    }  # fmt: skip
    assert not {name for name, _ in found.attributes if name.startswith("on") or name in ("href", "src", "id")}
    assert all(one.tag.endswith("}svg") for one in pictures(html))


def test_forged_metadata_and_rows_are_shown() -> None:
    place = Place("memory", "memory://notebook-forged-fields")
    place.store().clear()
    with place.logbook("a") as log:
        log.scalars(step=0, loss=1.0)
    fields = json.loads(place.bytes("log_a/metadata.json"))
    summary = {"scalars": {"rows": 10**400, "step": "x", "columns": {"loss": {"last": [], "min": {}, "max": True}}}}
    values: list[Any] = [[], "x", 10**400, summary]
    for forged in values:
        for name in ("series_summary", "start_time", "runtime_sec", "status", "lease", "row", "failure_reason"):
            place.put("log_a/metadata.json", json.dumps({**fields, name: forged}).encode())
            assert Page(LogReader(f"{place.url}/log_a")._repr_html_()).open == []
            assert Page(search.show(f"{place.url}/log_a")._repr_html_()).open == []
    reader = LogReader(f"{place.url}/log_a")
    place.put("log_a/metadata.json", b"{")
    found = Page(reader._repr_html_())
    assert "is not a JSON object" in found.text
    assert "series/scalars.jsonl" in found.text


def test_numbers_in_pictures_are_those_of_numpy() -> None:
    place = Place("memory", "memory://notebook-numbers")
    place.store().clear()
    values = np.random.default_rng(1).normal(size=50)
    with place.logbook("a") as log:
        for step, value in enumerate(values.tolist()):
            log.scalars(step=step, x=value)
    html = LogReader(f"{place.url}/log_a")._repr_html_()
    row = cells(html, "series scalars: 50 rows, last step 49")[1]
    assert row == [
        "x",
        f"{values[-1]:.6g}",
        f"{values.min():.6g}",
        f"{values.argmin()}",
        f"{values.max():.6g}",
        f"{values.argmax()}",
    ]
    [curve] = points(pictures(html)[0])
    heights = np.array([y for _, y in curve])
    assert np.abs(np.corrcoef(heights, values)[0, 1] + 1) < 1e-4  # downwards, up to rounding
