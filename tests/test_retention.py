"""Retention: which runs are kept as the best, the last, young, pinned or running ones, against a simple model."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import ConfigurationError, Experiment, Logbook, Storage, search
from notata._base.times import span
from notata.search import Decision, Retention, Run
from notata.search.retention import Best
from notata.store import open_store
from notata.table import LARGE, Row, write_parts
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata
from tests.contract.conftest import make_place
from tests.counting import counted

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
STATUSES = ("complete", "failed", "died", "running", "unreadable")


def run(name: str, error: Any = None, *, days: float = 1.0, status: str = "complete", **fields: Any) -> Run:
    """Return a run that ended some days before `NOW`."""
    end = NOW - timedelta(days=days)
    times: dict[str, Any] = {"started": end - timedelta(seconds=10), "seconds": 10.0}
    times |= {"ended": end} if status in ("complete", "failed") else {}
    metrics = {} if error is None else {"error": error}
    url = fields.pop("url", f"memory://r/log_{name}")
    return Run(name, name, url, status, metrics=metrics, **(times | fields))


def decided(runs: Sequence[Run], others: Sequence[Run] = (), **rule: Any) -> dict[str, Decision]:
    given = {name: rule.pop(name) for name in ("force", "pinned") if name in rule}
    found = Retention(**rule).decisions(runs, others, now=NOW, **given)
    assert [one.run for one in found] == list(runs)
    return {one.run.name: one for one in found}


def removed(runs: Sequence[Run], others: Sequence[Run] = (), **rule: Any) -> list[str]:
    return [name for name, one in decided(runs, others, **rule).items() if one.removes]


@pytest.fixture(params=["memory", "local", "s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture
def base() -> str:
    return f"memory://retention-{uuid.uuid4().hex}"


# -- the rule ------------------------------------------------------------------------------------------------


def test_the_best_are_kept_and_the_rest_is_removed() -> None:
    runs = [run("a", 0.3), run("b", 0.1), run("c", 0.2)]
    assert removed(runs, keep_best="1:error") == ["a", "c"]
    assert removed(runs, keep_best="1:error:max") == ["b", "c"]
    assert removed(runs, keep_best=["1:error", "1:error:max"]) == ["c"]
    assert removed(runs, keep_best="1:error:min", keep_last=1) == ["a"]  # equal ends: the larger URL is the last
    assert decided(runs, keep_best="2:error")["c"].why == "number 2 of the best 2 by error: 0.2"
    assert decided(runs, keep_best="2:error")["a"].why == "not among the best 2 by error"


def test_of_equal_values_the_one_that_ended_last_is_the_better() -> None:
    runs = [run("old", 0.1, days=3), run("new", 0.1, days=1), run("mid", 0.1, days=2)]
    assert removed(runs, keep_best="1:error") == ["old", "mid"]
    assert removed(runs, keep_best="2:error:max") == ["old"]


@pytest.mark.parametrize("value", [None, math.nan, "0.1", [0.1], {"min": 0.1}])
def test_a_run_without_a_number_is_kept_unless_asked(value: Any) -> None:
    runs = [run("a", 0.3), run("b", 0.1), run("odd", value)]
    assert removed(runs, keep_best="1:error") == ["a"]
    assert decided(runs, keep_best="1:error")["odd"].reason == "without error"
    assert removed(runs, keep_best="1:error", without_value=True) == ["a", "odd"]


def test_integers_that_no_float_can_hold() -> None:
    runs = [run("a", 10**400), run("b", -(10**400)), run("c", 0.5)]
    assert decided(runs, keep_best="1:error")["b"].why == "number 1 of the best 1 by error: about -1e400"
    assert removed(runs, keep_best="1:error:max") == ["b", "c"]


def test_infinities_are_the_worst_and_the_best() -> None:
    runs = [run("a", math.inf), run("b", -math.inf), run("c", 0)]
    assert removed(runs, keep_best="2:error") == ["a"]
    assert removed(runs, keep_best="2:error:max") == ["b"]


def test_values_that_could_not_be_read_are_no_reason_to_remove() -> None:
    runs = [run("a", 0.3), run("b", metrics_error="the storage refused")]
    found = decided(runs, keep_best="5:error", without_value=True)
    assert (found["b"].removes, found["b"].why) == (False, "the storage refused")


def test_a_value_that_no_run_has_removes_nothing() -> None:
    runs = [run("a", 0.3), run("b", 0.1)]
    rule = Retention(keep_best="1:eror")
    assert removed(runs, keep_best="1:eror") == []
    assert rule.notes(runs) == ["no run has eror as a number; similar names: error"]
    with pytest.raises(ConfigurationError, match="no run has it as a number; similar names: error"):
        removed(runs, keep_best="1:eror", without_value=True)


def test_young_runs_are_kept() -> None:
    runs = [run("old", 1.0, days=91), run("young", 2.0, days=89), run("died", days=100, status="died")]
    assert removed(runs, older="90d") == ["old", "died"]
    assert removed(runs, older=timedelta(days=95)) == ["died"]
    assert removed(runs, older="90d", keep_best="1:error") == []  # the other old run has no number
    assert decided(runs, older="90d")["young"].why == "it ended 89 d 0 h ago"
    assert decided([run("x", started=None, ended=None)], older="1d")["x"].reason == "end unknown"
    assert decided([run("x", started=datetime.max.replace(tzinfo=UTC), ended=None)], older=0)["x"].reason == (
        "end unknown"
    )


def test_pinned_running_and_unreadable_runs_are_kept() -> None:
    runs = [
        run("pinned", 0.0, pinned=True),
        run("running", -1.0, status="running"),
        run("unsure", -1.0, status="running", certain=False),
        run("broken", status="unreadable"),
        run("copied", status="replacing", metadata={"copied": "new"}),
        run("begun", status="replacing"),
        run("a", 0.3),
        run("b", 0.4),
    ]
    found = decided(runs, keep_best="1:error")
    assert [name for name, one in found.items() if one.removes] == ["begun", "a", "b"]  # the pinned run is the best
    reasons = ["pinned", "running", "running?", "unreadable", "being replaced", "interrupted removal"]
    assert [one.reason for one in found.values()][:6] == reasons
    assert removed(runs, keep_best="1:error", pinned=True) == ["begun", "a", "b"]
    assert removed(runs, keep_best="1:error", force=True) == ["running", "begun", "a", "b"]
    assert "pinned" in removed(runs, keep_best="1:error:max", pinned=True)


def test_the_best_of_each_experiment() -> None:
    runs = [run(f"{folder}{n}", n, url=f"memory://r/{folder}/runs/log_{n}") for folder in "xy" for n in (1, 2)]
    assert removed(runs, keep_best="1:error", per="experiment") == ["x2", "y2"]
    assert removed(runs, keep_best="2:error") == ["x2", "y2"]
    assert removed(runs, keep_best="1:error") == ["x1", "x2", "y2"]  # equal values: the larger URL
    assert removed(runs, keep_last=1, per="experiment") == ["x1", "y1"]


def test_the_parents_of_runs_that_stay_are_kept() -> None:
    def child(name: str, error: float, parent: str) -> Run:
        return run(name, error, metadata={"parent": f"memory://r/log_{parent}/"})

    runs = [run("first", 9), child("second", 8, "first"), child("best", 0, "second"), child("lone", 7, "gone")]
    assert removed(runs, keep_best="1:error") == ["lone"]
    assert decided(runs, keep_best="1:error")["first"].why == "it is the parent of second, which is kept"
    assert removed(runs[:2], [child("stays", 1, "second")], older="1h") == []
    circle = [child("a", 1, "b"), child("b", 2, "a")]
    assert removed(circle, older="1h") == ["a", "b"]
    assert removed([child("a", 1, "a")], older="1h") == ["a"]


@given(
    values=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-3, 3), st.floats()),
            st.integers(0, 5),
            st.sampled_from(STATUSES),
            st.booleans(),
        ),
        max_size=8,
    ),
    count=st.integers(1, 4),
    largest=st.booleans(),
    last=st.integers(0, 2),
    oldest=st.one_of(st.none(), st.integers(0, 5)),
    without=st.booleans(),
    force=st.booleans(),
)
def test_any_runs_against_a_model(
    values: list[tuple[Any, int, str, bool]],
    count: int,
    largest: bool,
    last: int,
    oldest: int | None,
    without: bool,
    force: bool,
) -> None:
    runs = [
        run(f"{n}", value, days=days, status=status, pinned=pin) for n, (value, days, status, pin) in enumerate(values)
    ]
    may_go = {n for n, (_, _, status, pin) in enumerate(values) if not pin and (force or status != "running")}
    may_go -= {n for n, one in enumerate(values) if one[2] == "unreadable"}
    competing = [n for n, one in enumerate(values) if one[2] != "unreadable" and (force or one[2] != "running")]
    having = [n for n in competing if values[n][0] is not None and not math.isnan(values[n][0])]
    best = sorted(having, key=lambda n: ((-1 if largest else 1) * values[n][0], values[n][1], -n))[:count]
    latest = sorted(competing, key=lambda n: (values[n][1], -n))[:last]
    gone = may_go - {*best, *latest}
    gone -= {n for n in gone if not without and n not in having}
    gone -= {n for n in gone if oldest is not None and values[n][1] <= oldest}
    rule: dict[str, Any] = {
        "keep_best": f"{count}:error:{'max' if largest else 'min'}",
        "keep_last": last,
        "older": None if oldest is None else f"{oldest}d",
        "without_value": without,
        "force": force,
    }
    if without and competing and not having:
        with pytest.raises(ConfigurationError):
            removed(runs, **rule)
    else:
        assert {int(name) for name in removed(runs, **rule)} == gone


@pytest.mark.parametrize("text", ["", "error", "5", "5:", "0:error", "-1:error", "x:error", ":error", "\u0665:error"])
def test_what_does_not_say_which_runs_are_the_best_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="Write a number and a value, such as 5:error"):
        Retention(keep_best=text)


def test_a_rule_that_keeps_nothing_removes_nothing(base: str) -> None:
    Logbook("a", base).mark_complete()
    for empty in (Retention(), Retention(keep_best=[]), Retention(without_value=True, per="experiment")):
        with pytest.raises(ConfigurationError, match="the retention keeps no run"):
            search.remove(base, recursive=True, retention=empty)
    with pytest.raises(ConfigurationError, match="unknown per 'run'"):
        Retention(per="run")
    with pytest.raises(ConfigurationError, match="keep_last must be 0 or more"):
        Retention(keep_last=-1)
    assert len(search.runs(base)) == 1


def test_names_may_have_colons_and_dots() -> None:
    assert Best.parsed("2:loss.min:max") == Best(2, "loss.min", True)
    assert Best.parsed("2:a:b") == Best(2, "a:b")
    assert Best.parsed("2:a:") == Best(2, "a:")


@pytest.mark.parametrize(
    ("given", "seconds"), [("90d", 7_776_000), ("1.5h", 5400), ("2w", 1_209_600), (" 5m ", 300), ("7s", 7)]
)
def test_a_span_of_time(given: str, seconds: float) -> None:
    assert span(given) == seconds


@pytest.mark.parametrize(
    "given", ["", "7", "d", "-1d", "1y", "1e3d", "5x", "nan", -1, math.inf, math.nan, True, "9" * 400 + "w"]
)
def test_what_is_no_span_of_time_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="Write a number and a unit: 30m, 12h, 90d or 2w"):
        span(given)


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for name, error in (("a", 0.3), ("b", 0.1), ("c", 0.2), ("none", None)):
        with Logbook(name, tmp_path / "out") as log:
            if error is not None:
                log.scalars(error=error)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name.removeprefix("log_") for path in (folder / "out").iterdir())


def test_the_command_keeps_the_best_and_says_why(sweep: Path) -> None:
    rule = ("rm", "-r", "out", "--keep-best", "2:error")
    dry = notata(*rule, "--dry-run", folder=sweep)
    assert (dry.returncode, dry.stderr) == (0, "")
    rows = [line.split("\t") for line in dry.stdout.splitlines()[:-2]]
    assert [(row[0], *row[4:]) for row in rows] == [
        ("remove", "out/log_a", "not among the best 2 by error"),
        ("keep", "out/log_b", "number 1 of the best 2 by error: 0.1"),
        ("keep", "out/log_c", "number 2 of the best 2 by error: 0.2"),
        ("keep", "out/log_none", "error is missing, or is not a number"),
    ]
    assert dry.stdout.splitlines()[-1] == "Kept 3 runs: 2 best by error, 1 without error"
    assert names(sweep) == ["a", "b", "c", "none"]
    done = notata(*rule, "--yes", folder=sweep)
    assert (done.returncode, done.stderr) == (0, "Kept 3 runs: 2 best by error, 1 without error\n")
    assert done.stdout.startswith("Removed 1 run, ")
    assert names(sweep) == ["b", "c", "none"]
    again = notata(*rule, "--yes", folder=sweep)  # from cron: nothing to remove is no error
    assert (again.returncode, again.stdout) == (0, "")
    assert notata(*rule, "--yes", "--status", "failed", folder=sweep).returncode == 1


def test_the_command_prints_json(sweep: Path) -> None:
    dry = notata("rm", "-r", "out", "--keep-last", "1", "--older", "0s", "--dry-run", "--json", folder=sweep)
    records = [json.loads(line) for line in dry.stdout.splitlines()]
    assert [(one["run_id"], one["removes"], one["reason"]) for one in records][-1] == ("none", False, "last")
    assert [one["removes"] for one in records] == [True, True, True, False]


def test_wrong_rules_of_the_command_are_refused(sweep: Path) -> None:
    for options, message in (
        (["--keep-best", "error"], "'error' does not define which runs are best."),
        (["--older", "5x"], "'5x' is not a time span."),
        (["--older", "90"], "'90' is not a time span. Write a number and a unit"),  # days, or seconds?
        (["--per", "experiment"], "--per, --without-value and --keep-inputs need --keep-best, --keep-last or --older"),
        (["--keep-best", "1:eror", "--without-value"], "cannot keep the best 1 by eror: no run has it as a number"),
    ):
        done = notata("rm", "-r", "out", "--yes", *options, folder=sweep)
        assert (done.returncode, done.stdout) == (2, ""), options
        assert message in done.stderr
    assert names(sweep) == ["a", "b", "c", "none"]


@pytest.mark.filterwarnings("always")
def test_a_plain_removal_warns_of_children(sweep: Path) -> None:
    with Logbook("child", sweep / "out") as log:
        log.meta(parent=str(sweep / "out/log_a"))
    done = notata("rm", "-r", "out", "--where", "run_id == 'a'", "--yes", folder=sweep)
    assert done.stderr == "Warning: out/log_a is the parent of out/log_child, which is kept\n"
    assert names(sweep) == ["b", "c", "child", "none"]


def test_runs_of_experiments_from_python() -> None:
    for name in ("x", "y"):
        experiment = Experiment(name, "memory://retention-experiments")
        for dt in (1, 2, 3):
            with experiment.add(dt=dt) as log:
                log.json("metrics", {"error": dt})
    rule = Retention(keep_best="1:error", per="experiment")
    done = search.remove("memory://retention-experiments", recursive=True, retention=rule)
    assert [one.run.run_id for one in done] == ["x_dt_2", "x_dt_3", "y_dt_2", "y_dt_3"]
    assert [row.run_id for row in search.runs("memory://retention-experiments")] == ["x_dt_1", "y_dt_1"]
    assert search.removable("memory://retention-experiments", recursive=True, retention=Retention(older="1d")) == []


def test_the_inputs_of_runs_that_stay_can_be_kept(place: Place) -> None:
    def record(name: str, error: float, *inputs: str) -> None:
        with place.logbook(name) as log:
            for one in inputs:
                log.input(f"{place.url}/log_{one}/artifacts/metrics.json", storage_options=place.options)
            log.json("metrics", {"error": error})

    record("raw", 9.0)
    record("mesh", 8.0, "raw")
    record("best", 0.1, "mesh")
    record("other", 0.2)
    at = Storage(place.url, place.options)
    for keep_inputs, kept in ((False, {"best"}), (True, {"best", "mesh", "raw"})):
        rule = Retention(keep_best="1:error", keep_inputs=keep_inputs)
        with counted() as sent:
            found = search.decisions(at, recursive=True, retention=rule)
        assert {one.run.run_id for one in found if not one.removes} == kept
        assert len(sent) <= (8 if keep_inputs else 5) * place.bucket  # a listing, four runs, and three inputs.json
    assert found[1].why == f"it is the input of {place.url}/log_best, which is kept"
    done = search.remove(at, recursive=True, retention=rule)
    assert [one.run.run_id for one in done] == ["other"]
    assert {name.split("/")[0] for name in place.names()} == {"log_best", "log_mesh", "log_raw"}


def test_metrics_that_the_storage_refuses_protect_the_run() -> None:
    storage = FaultyBackend(open_store("memory://retention-refused"))
    for name, error in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        log = Logbook(name, storage)  # it has not ended, so its values are read from their file
        log.json("metrics", {"error": error})
    storage.fail(1, key="log_b/artifacts/metrics.json")
    errors: list[Exception] = []
    rule = Retention(keep_best="1:error", without_value=True)
    found = search.decisions(storage, recursive=True, retention=rule, force=True, failed=errors.append)
    assert [(one.run.run_id, one.removes) for one in found] == [("a", False), ("b", False), ("c", True)]
    assert len(errors) == 1
    assert found[1].why == str(errors[0])


# -- tables --------------------------------------------------------------------------------------------------


def test_tables_show_pins_if_there_are_any() -> None:
    experiment = Experiment("pins", "memory://retention-tables")
    for dt in (1, 2):
        experiment.add(dt=dt).mark_complete()
    assert search.table("memory://retention-tables").columns == ["run_id", "dt", "status"]
    search.pin("memory://retention-tables/pins/runs/log_pins_dt_2")
    for _ in range(2):  # after the second one, index.csv has been written since
        found = search.table("memory://retention-tables")
        assert [row["pinned"] for row in found] == [False, True]
        assert [run.run_id for run in search.runs("memory://retention-tables", where="pinned")] == ["pins_dt_2"]
        assert [run.run_id for run in search.table("memory://retention-tables", where="not pinned").runs] == [
            "pins_dt_1"
        ]
        experiment.write_index()
    assert "pinned" not in experiment.index_file.read_text()


def test_a_large_index_gets_the_pin() -> None:
    experiment = Experiment("many", "memory://retention-large")
    experiment.add(dt=1).mark_complete()
    store = open_store("memory://retention-large/many")
    others = [
        Row(f"other-{number:05}", "complete", {"dt": 2}, started="2026-11-01T10:00:00Z") for number in range(LARGE)
    ]
    write_parts(store, others)
    assert "pinned" not in search.table("memory://retention-large").columns
    assert [one.changed for one in search.pin("memory://retention-large/many/runs/log_many_dt_1")] == [True]
    found = search.table("memory://retention-large")
    assert found.runs[0].is_indexed
    assert [run.run_id for run in found.runs if run.pinned] == ["many_dt_1"]
    assert found.columns[-1] == "pinned"
    assert search.table("memory://retention-large", where="pinned")[0]["dt"] == 1
