"""``notata compare`` and `notata.search.compare`: they find the differences and read as little as possible."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Logbook, NotataError, RunMissingError, Storage, sync
from notata.cli import output
from notata.search import Comparison, compare
from notata.search.comparing import Difference
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.cli.conftest import Shelf
from tests.command import notata, process, terminal
from tests.contract.conftest import make_place
from tests.counting import counted
from tests.fleet import ODD

COUNTS_NOT = {"metadata.json", "manifest.json", "log.txt"}


@pytest.fixture(params=["memory", "local", "s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


def pair(place: Place, a: dict[str, Any], b: dict[str, Any], **options: Any) -> Comparison:
    """Return the comparison of two runs with these parameters."""
    for name, params in (("a", a), ("b", b)):
        place.logbook(name, params=params, overwrite=True, heartbeat=0).mark_complete()
    return between(place, **options)


def between(place: Place, **options: Any) -> Comparison:
    return compare(f"{place.url}/log_a", f"{place.url}/log_b", storage_options=place.options, **options)


def told(found: Comparison, part: str, *, counts: bool = True) -> dict[str, tuple[str, Any, Any]]:
    return {
        item.name: (item.change, item.a, item.b)
        for item in found.differences
        if item.part == part and item.counts is counts
    }


# -- as plain tools say --------------------------------------------------------------------------------------


def test_files_differ_as_diff_says(shelf: Shelf, tmp_path: Path) -> None:
    a, b = "log_notes", f"log_{ODD}"
    done = process("compare", f"{shelf.url}/{a}", f"{shelf.url}/{b}", "--json", *shelf.options, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    files = {line["name"]: line["change"] for line in lines if line["part"] == "files"}
    assert files == _diff(shelf.local / a, shelf.local / b)
    assert {line["name"] for line in lines if line["part"] == "files" and not line["counts"]} == {
        *COUNTS_NOT, "params.yaml", "artifacts/metrics.json", "workers/3/log.txt",
    }  # fmt: skip
    params = {line["name"]: (line["a"], line["b"], line["relative"]) for line in lines if line["part"] == "params"}
    assert params == {
        "dt": (None, 0.05, None),
        "omega": (2.0, 0.5, -0.75),
        "solver.name": ("rk4", None, None),
        "solver.order": (4, None, None),
    }
    metrics = {line["name"]: line["change"] for line in lines if line["part"] == "metrics"}
    assert metrics == {"energy": "changed", "note": "only_a", "steps": "only_a"}


def _diff(a: Path, b: Path) -> dict[str, str]:
    done = subprocess.run(["diff", "-rq", a, b], capture_output=True, text=True, check=False)
    names = [{path.relative_to(side).as_posix() for path in side.rglob("*") if path.is_file()} for side in (a, b)]
    differ = {
        line.split(" and ")[0].removeprefix(f"Files {a}/") for line in done.stdout.splitlines() if " and " in line
    }
    return (
        dict.fromkeys(names[0] - names[1], "only_a")
        | dict.fromkeys(names[1] - names[0], "only_b")
        | dict.fromkeys(differ, "changed")
    )


def test_a_copy_is_equal_wherever_it_lies_and_nothing_is_downloaded(place: Place, tmp_path: Path) -> None:
    with Logbook("a", tmp_path, params={"dt": 0.1}) as log:
        log.array("x", [1.0, 2.0])
        log.text("n", "whole")
    sync(tmp_path / "log_a", place.url, destination_options=place.options)
    with counted() as sent:
        found = compare(tmp_path / "log_a", Storage(f"{place.url}/log_a", place.options))
    assert found.equal, found.differences
    assert {item.name for item in found.differences} == {"url"}
    assert not any("x.npy" in request or "n.txt" in request for request in sent)
    done = notata(
        "compare", "log_a", f"{place.url}/log_a", *[f"--b-option={k}={v}" for k, v in place.options.items()],
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[:3] for line in done.stdout.splitlines()] == [["run", "changed", "url"]]


# -- values --------------------------------------------------------------------------------------------------


def test_values_by_dotted_path() -> None:
    place = Place("memory", "memory://compare-values")
    a = {
        "solver": {"name": "rk4", "order": 4, "deep": {"x": 1}},
        "a.b": 1,
        "n": None,
        "l": [1, {"k": 2.0}],
        "t": True,
        "": 1,
    }
    b = {
        "solver": {"name": "euler", "order": 4, "deep": {}},
        "a": {"b": 1},
        "n": 0,
        "l": [1, {"k": 2.5}],
        "t": 1,
        "": 2,
    }
    found = pair(place, a, b)
    assert told(found, "params") == {
        '""': ("changed", 1, 2),
        '"a.b"': ("only_a", 1, None),
        "a.b": ("only_b", None, 1),
        "l": ("changed", [1, {"k": 2.0}], [1, {"k": 2.5}]),
        "n": ("changed", None, 0),
        "solver.deep": ("only_b", None, {}),
        "solver.deep.x": ("only_a", 1, None),
        "solver.name": ("changed", "rk4", "euler"),
        "t": ("changed", True, 1),
    }
    assert [item.change for item in found.items if item.name == "solver.order"] == ["equal"]


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "equal", "relative"),
    [
        (1.0, 1.0 + 1e-9, 0.0, False, 1e-9),
        (1.0, 1.0 + 1e-9, 1e-6, True, 1e-9),
        (1, 1.0, 0.0, True, 0.0),
        (-2.0, -1.0, 0.4, False, 0.5),
        (-2.0, -1.0, 0.5, True, 0.5),
        (0, 1e-30, 1e-3, False, None),
        (0.0, -0.0, 0.0, True, None),
        (0, False, 0.0, False, None),
        (math.nan, math.nan, 0.0, True, None),
        (math.nan, 1.0, 0.1, False, None),
        (math.inf, math.inf, 0.0, True, None),
        ({"": 1, "x": {}}, {"": 1.0, "x": {}}, 0.0, True, 0.0),
        (math.inf, 1.0, 0.1, False, None),
        (10**400, 1.0, 0.1, False, None),
        ("1", 1, 0.1, False, None),
        (True, 1, 0.1, False, None),
        ([1.0, [2.0]], [1.0, [2.001]], 1e-2, True, None),
        ([1.0], [1.0, 2.0], 1e-2, False, None),
        ([1.0, 2.0], [1.0], 1e-2, False, None),
        ([{"k": 1}], [{"k": 1, "j": 2}], 0.0, False, None),
        ([{"k": 1, "j": 2}], [{"k": 1}], 0.0, False, None),
    ],
)
def test_numbers_and_their_tolerance(a: Any, b: Any, tolerance: float, equal: bool, relative: float | None) -> None:
    place = Place("memory", "memory://compare-numbers")
    item = next(item for item in pair(place, {"x": a}, {"x": b}, tolerance=tolerance).items if item.part == "params")
    assert (item.change == "equal") is equal
    assert item.relative == (relative if relative is None else pytest.approx(relative))


def test_surroundings_and_what_any_two_runs_differ_in() -> None:
    place = Place("memory", "memory://compare-around")
    pair(place, {}, {})
    store = place.store()
    for name, version, code in (("a", "2.1", "abc"), ("b", "2.2", "abd")):
        fields = json.loads(store.read(f"log_{name}/metadata.json"))
        fields["environment"]["packages"] = {"numpy": version, "a.b": "1"}
        fields["environment"]["git"] = {"commit": code, "dirty": False}
        fields["environment"]["pid"] = 5 if name == "a" else 7
        fields |= {"mirror": f"s3://{name}", "resumes": [name], "copied": name, "row": {"params": {"x": name}}}
        store.write(f"log_{name}/metadata.json", json.dumps(fields).encode())
    found = between(place)
    assert told(found, "environment") == {
        "git.commit": ("changed", "abc", "abd"),
        "packages.numpy": ("changed", "2.1", "2.2"),
    }
    assert told(found, "environment", counts=False).keys() == {"pid"}
    assert told(found, "run") == {}
    always = {"run_id", "url", "start_time", "end_time", "runtime_sec", "resumes", "mirror", "size"}
    assert told(found, "run", counts=False).keys() <= always
    assert told(found, "run", counts=False).keys() >= {"run_id", "url", "start_time", "resumes", "mirror"}
    assert {"lease", "copied", "row"}.isdisjoint(item.name.partition(".")[0] for item in found.items)


def test_status_and_failure_count() -> None:
    place = Place("memory", "memory://compare-status")
    place.logbook("a").mark_failed("diverged")
    place.logbook("b").mark_complete()
    found = told(between(place, only=["run"]), "run")
    assert found["status"] == ("changed", "failed", "complete")
    assert found["failure_reason"] == ("only_a", "diverged", None)


# -- files ---------------------------------------------------------------------------------------------------


def test_the_first_evidence_of_a_difference_is_reported() -> None:
    place = Place("memory", "memory://compare-why")
    for name, text in (("a", "other"), ("b", "OTHER")):
        with place.logbook(name, params={"dt": name}, heartbeat=0) as log:
            for key, value in (("same", "same"), ("empty", ""), ("text", text), ("long", "x" * ord(name))):
                log.text(key, value)
            log.json("metrics", {"e": name})
    found = between(place, only=["files"])
    assert {item.name: (item.change, item.why) for item in found.items if item.counts} == {
        "artifacts/empty.txt": ("equal", "size"),
        "artifacts/long.txt": ("changed", "size"),
        "artifacts/metrics.json": ("changed", "content"),
        "artifacts/same.txt": ("equal", "content"),
        "artifacts/text.txt": ("changed", "content"),
        "params.yaml": ("changed", "content"),
    }
    assert {item.name for item in found.items if not item.counts} == COUNTS_NOT
    shown = between(place, only=["params", "metrics", "files"])
    assert told(shown, "files").keys() == {"artifacts/long.txt", "artifacts/text.txt"}
    same = compare(f"{place.url}/log_a", f"{place.url}/log_a", only=["files"])
    assert {(item.change, item.why) for item in same.items} == {("equal", "version"), ("equal", "size")}


def test_files_without_evidence_are_unknown_until_they_are_read(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = make_place("s3", request)
    for name in "ab":
        with place.logbook(name) as log:
            log.text("same", "same")
            log.text("other", f"other {name}")
    for name in "ab":
        place.store().delete([f"log_{name}/manifest.json"])
    with counted() as sent:
        found = between(place, only=["files"])
    assert told(found, "files") == {"artifacts/other.txt": ("unknown", 7, 7)}
    assert (found.differs, found.unknown, found.equal) == (False, True, False)
    assert not any("other.txt" in request for request in sent)
    options = [f"--storage-option={name}={value}" for name, value in place.options.items()]
    command = ["compare", f"{place.url}/log_a", f"{place.url}/log_b", "--only", "files", *options]
    assert notata(*command, folder=tmp_path).returncode == 3
    read = notata(*command, "--content", "--json", folder=tmp_path)
    assert read.returncode == 1
    lines = {line["name"]: line for line in map(json.loads, read.stdout.splitlines())}
    assert (lines["artifacts/other.txt"]["change"], lines["artifacts/other.txt"]["why"]) == ("changed", "content")
    place.store().clear()


def test_digests_of_gcs_are_evidence(request: pytest.FixtureRequest) -> None:
    place = make_place("gcs", request)
    for name in "ab":
        place.put(f"log_{name}/metadata.json", b'{"status": "complete"}')
        place.put(f"log_{name}/x", f"other {name}".encode())
    with counted() as sent:
        found = between(place, only=["files"])
    assert [(item.name, item.change, item.why) for item in found.items] == [
        ("metadata.json", "equal", "digest"),
        ("x", "changed", "digest"),
    ]
    assert len(sent) == 4, sent  # two listings, two metadata.json
    place.store().clear()


@pytest.mark.parametrize("name", ["s3", "gcs"])
def test_a_file_on_a_disk_is_read_beside_a_receipt_or_digest(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = make_place(name, request)
    with place.logbook("a") as log:
        log.text("same", "same")
        log.text("other", "other")
    sync(f"{place.url}/log_a", tmp_path, source_options=place.options)
    (tmp_path / "log_a/artifacts/other.txt").write_text("OTHER")
    (tmp_path / "log_a/manifest.json").unlink()
    found = compare(tmp_path / "log_a", Storage(f"{place.url}/log_a", place.options), only=["files"])
    counted_items = {item.name: (item.change, item.why) for item in found.items if item.counts}
    assert counted_items["artifacts/other.txt"] == ("changed", "sha256")
    assert counted_items["artifacts/same.txt"][0] == "equal"
    place.store().clear()


def test_an_outdated_receipt_is_no_evidence(tmp_path: Path) -> None:
    for name in "ab":
        with Logbook(name, tmp_path) as log:
            log.text("n", "then")
    (tmp_path / "log_a/artifacts/n.txt").write_text("now!")
    found = compare(tmp_path / "log_a", tmp_path / "log_b", only=["files"])
    assert told(found, "files") == {"artifacts/n.txt": ("changed", 4, 4)}
    (tmp_path / "log_a/manifest.json").write_text("{no manifest")
    assert told(compare(tmp_path / "log_a", tmp_path / "log_b"), "files").keys() == {"artifacts/n.txt"}


def test_little_is_read(request: pytest.FixtureRequest) -> None:
    place = make_place("s3", request)
    for name in "ab":
        with place.logbook(name, params={"dt": 1}) as log:
            log.json("metrics", {"e": 1})
            for number in range(20):
                log.text(f"t{number}", name * 20)
    with counted() as sent:
        found = between(place)
    assert len(told(found, "files")) == 20
    assert len(sent) == 6, sent  # for each run: a listing, metadata, manifest
    with counted() as sent:
        between(place, only=["environment"])
    assert len(sent) == 4
    place.store().clear()


# -- what cannot be compared ---------------------------------------------------------------------------------


def test_each_of_two_damaged_parts_is_reported(tmp_path: Path) -> None:
    for name in "ab":
        with Logbook(name, tmp_path, params={"dt": name}) as log:
            log.json("metrics", {"e": name})
    (tmp_path / "log_b/params.yaml").write_text("{: no yaml")
    (tmp_path / "log_b/artifacts/metrics.json").write_text("{no json")
    done = notata("compare", "log_a", "log_b", "--only", "params,metrics", "--json", folder=tmp_path)
    assert [json.loads(line)["change"] for line in done.stdout.splitlines()] == ["unknown", "unknown"]
    assert [line.split(": ")[:3] for line in done.stderr.splitlines()] == [
        ["Error", "log_b", "params.yaml"],
        ["Error", "log_b", "artifacts/metrics.json"],
    ]
    assert "metrics" not in done.stderr.splitlines()[0]


def test_a_damaged_part_is_reported_and_the_others_compared(tmp_path: Path) -> None:
    for name in "ab":
        with Logbook(name, tmp_path, params={"dt": name}) as log:
            log.json("metrics", {"e": name})
    (tmp_path / "log_b/params.yaml").write_text("{: no yaml")
    done = notata("compare", "log_a", "log_b", "--only", "params,metrics", "--json", folder=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("Error: log_b: params.yaml: ")
    assert len(done.stderr.splitlines()) == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["part"], line["name"], line["change"]) for line in lines] == [
        ("params", "", "unknown"),
        ("metrics", "e", "changed"),
    ]
    (tmp_path / "log_b/metadata.json").write_text("[]")
    errors: list[NotataError] = []
    found = compare(tmp_path / "log_a", tmp_path / "log_b", failed=errors.append)
    assert ["not a JSON object" in str(error) for error in errors] == [True] * 4
    assert told(found, "files").keys() == set()


def test_what_makes_no_sense(tmp_path: Path) -> None:
    for name in "ab":
        Logbook(name, tmp_path / "out").mark_complete()
    for arguments, code, text in [
        (["out/log_a", "out"], 2, "there are 2 runs at out; name one of them"),
        (["out/log_a", "out/log_c"], 1, "there is no run at or below out/log_c"),
        (["out/log_a"], 2, "Missing argument 'B'"),
        (["out/log_a", "out/log_b", "--only", "colour"], 2, "unknown part 'colour'"),
        (["out/log_a", "out/log_b", "--tolerance", "-1"], 2, "not in the range"),
        (["out/log_a", "s3://"], 2, "does not name a bucket"),
    ]:
        done = notata("compare", *arguments, folder=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert text in done.stderr
    with pytest.raises(ConfigurationError):
        compare(tmp_path / "out/log_a", tmp_path / "out/log_b", only=["colour"])
    with pytest.raises(RunMissingError):
        compare(tmp_path / "out/log_a", tmp_path / "nowhere")


def test_a_file_that_cannot_be_read_is_unknown_and_reported() -> None:
    place = Place("memory", "memory://compare-fails")
    for name in "ab":
        with place.logbook(name) as log:
            log.text("n", f"text {name}")
        place.store().delete([f"log_{name}/manifest.json"])
    store = FaultyBackend(open_store(f"{place.url}/log_a"))
    store.fail(1, key="artifacts/n.txt")
    errors: list[NotataError] = []
    found = compare(Store(store), f"{place.url}/log_b", only=["files"], failed=errors.append)
    assert told(found, "files") == {"artifacts/n.txt": ("unknown", 6, 6)}
    assert "artifacts/n.txt" in str(errors[0])


# -- what is shown -------------------------------------------------------------------------------------------


def test_on_a_terminal_side_by_side_and_without_control_sequences_of_runs(tmp_path: Path) -> None:
    for name, value in (("a", "\x1b[31mred\x07"), ("b", "plain\nline")):
        with Logbook(name, tmp_path, params={"title\x1b]0;x": value, "dt": 0.1 if name == "a" else 0.15}) as log:
            log.text("n", name)
    code, shown = terminal("compare", "log_a", "log_b", folder=tmp_path, columns=200)
    assert code == 1
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
    assert shown != plain
    assert b"\x1b" not in plain
    assert b"\x07" not in plain
    assert rb"\x1b[31mred\x07" in plain
    lines = [line.split() for line in plain.decode().splitlines()]
    assert ["params", "dt", "0.1", "0.15", "+50.00%"] in lines
    assert ["files", "artifacts/n.txt", "1", "B", "1", "B", "changed"] in lines
    assert plain.decode().splitlines()[-1] == "3 differences"


def test_a_terminal_gets_the_ends_of_long_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        Logbook(name * 60, tmp_path, params={"mesh": f"{'x' * 60}{name}"}).mark_complete()
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    runs = [f"log_{name * 60}" for name in "ab"]
    told = notata("compare", *runs, "--only", "params", folder=tmp_path).stdout.splitlines()
    assert told[:2] == [f"A  {runs[0]}", f"B  {runs[1]}"]
    assert told[2].split() == ["part", "name", "A", "B"]
    assert told[3].split() == ["params", "mesh", f"{'x' * 16}…{'x' * 9}a", f"{'x' * 16}…{'x' * 9}b", "changed"]
    assert len(told[3]) <= 80


def test_large_changes_are_reported_as_factors_and_what_does_not_count_in_brackets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in (("a", 1.0), ("b", 21.0)):
        Logbook(name, tmp_path, params={"n": few, "é": ["ü" + name], **({"b": 1} if few > 1 else {})}).mark_complete()
    piped = notata("compare", "log_a", "log_b", "--only", "run,params", folder=tmp_path).stdout.splitlines()
    assert "run\tchanged\trun_id\ta\tb\t\t" in piped
    assert piped[-3:] == [
        "params\tonly_b\tb\t\t1\t\tcounts",
        "params\tchanged\tn\t1.0\t21.0\t20\tcounts",
        'params\tchanged\té\t["üa"]\t["üb"]\t\tcounts',
    ]
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    told = notata("compare", "log_a", "log_b", "--only", "run,params", folder=tmp_path).stdout.splitlines()
    cells = [re.split(r"  +", line) for line in told]
    assert ["params", "n", "1.0", "21.0", "+20"] in cells
    assert ["params", "b", "1", "only in B"] in cells
    (size,) = [line for line in cells if line[:2] == ["run", "size"]]
    assert re.fullmatch(r"\(\+.*%\)", size[-1])
    assert not any(line[:2] in (["run", "run_id"], ["run", "url"]) for line in cells)
    assert told[-1] == "3 differences"


def test_all_shows_what_is_equal(tmp_path: Path) -> None:
    for name in "ab":
        Logbook(name, tmp_path, params={"dt": 0.1}).mark_complete()
    few = notata("compare", "log_a", "log_b", "--only", "params", folder=tmp_path)
    assert (few.returncode, few.stdout) == (0, "")
    every = notata("compare", "log_a", "log_b", "--only", "params", "--all", folder=tmp_path)
    assert (every.returncode, every.stdout) == (0, "params\tequal\tdt\t0.1\t0.1\t0\tcounts\n")


def test_the_fields_of_json_are_those_of_the_reference(tmp_path: Path) -> None:
    assert list(Difference.__dataclass_fields__) == ["part", "name", "change", "a", "b", "relative", "counts", "why"]
    page = (Path(__file__).parents[2] / "docs/reference/commands/compare.md").read_text()
    assert all(f"`{name}`" in page for name in Difference.__dataclass_fields__)


def test_a_file_by_a_name_that_no_run_has_cannot_be_read_and_the_others_are_compared(tmp_path: Path) -> None:
    for name in "ab":
        Logbook(name, tmp_path, manifest=False).mark_complete()
        (tmp_path / f"log_{name}" / "odd\\name.txt").write_text(name)
        (tmp_path / f"log_{name}" / "plain.txt").write_text(name)
    done = notata("compare", "log_a", "log_b", "--only", "files", "--json", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert done.stderr.startswith("Error: cannot read log_a/odd\\name.txt: ")
    changes = {item["name"]: item["change"] for item in map(json.loads, done.stdout.splitlines()) if item["counts"]}
    assert changes == {"odd\\name.txt": "unknown", "plain.txt": "changed"}
