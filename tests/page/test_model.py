"""The data of the page, compared with raw files and with numpy."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import Experiment, Logbook, search
from notata.page.curves import curve_page
from notata.page.model import ids_of, key_of, run_page, runs_page, text_page
from notata.page.values import Bounded, encoded, rounded
from notata.search.curving import curves_in, runs_having
from notata.search.overview import overviews_of


def sweep(base: Path) -> None:
    experiment = Experiment("sweep", base, environment=False, heartbeat=None, monitor=None)
    for seed in range(3):
        with experiment.add(seed=seed, optimizer={"lr": 0.1 * seed, "name": "adam"}, size=[1, 2]) as log:
            log.json("metrics", {"error": [math.nan, 0.5, math.inf][seed], "status": "good"})
            for step in range(5):
                log.scalars(step=step, loss=1 / (step + 1), phase="warm-up")
            log.series("residual").add({"r": seed}, step=1)


def columns_of(page: dict[str, Any]) -> dict[str, dict[str, Any]]:
    json.loads(encoded(page))  # JSON without NaN
    return {column["name"]: column for column in page["columns"]}


def test_the_table_has_the_names_and_values_of_the_command(tmp_path: Path) -> None:
    sweep(tmp_path)
    found = search.table(tmp_path, fresh=True)
    page = runs_page(found.runs, title="t", places=[str(tmp_path)], live=False, group=["seed"])
    columns = columns_of(page)
    assert page["count"] == page["total"] == 3
    first = ("run_id", "status")
    assert [name for name in found.columns if name not in first] == [
        name for name in columns if name in found.columns and name not in first
    ]
    for name in found.columns:
        if name != "error":
            assert columns[name]["values"] == [row.get(name) for row in found], name
    seeds = columns["seed"]["values"]
    assert columns["error"]["values"] == [0.5 if seed == 1 else None for seed in seeds]
    assert columns["error"]["nonfinite"] == {str(seeds.index(0)): "NaN", str(seeds.index(2)): "Infinity"}
    assert columns["metrics.status"]["path"] == "metrics.status"
    assert columns["optimizer.lr"] | {"values": 0} == {
        "name": "optimizer.lr", "path": "params.optimizer.lr", "kind": "param", "type": "number", "hidden": False,
        "values": 0, "nonfinite": {},
    }  # fmt: skip
    kinds = {
        name: columns[name]["type"]
        for name in ("started", "certain", "params.size", "size", "status", "seconds", "error")
    }
    assert kinds == {
        "started": "time", "certain": "boolean", "params.size": "other", "size": "number",
        "status": "text", "seconds": "number", "error": "number",
    }  # fmt: skip
    assert columns["loss.min"]["hidden"]
    assert not columns["loss"]["hidden"]
    assert [name for name in columns if columns[name]["kind"] == "fact" and not columns[name]["hidden"]] == [
        "run_id", "status", "started", "seconds",
    ]  # fmt: skip


def test_the_facts_of_runs_and_their_series(tmp_path: Path) -> None:
    sweep(tmp_path)
    (tmp_path / "sweep" / "runs" / "log_broken").mkdir()
    (tmp_path / "sweep" / "runs" / "log_broken" / "metadata.json").write_text("[]")
    runs = search.runs(tmp_path, values=True)
    page = runs_page(runs, title="t", places=["x"], live=True)
    columns = columns_of(page)
    needed = "id name run_id status certain why started ended seconds size files failure_reason host"
    assert set(needed.split()) <= {*columns}
    assert columns["id"]["values"] == [*ids_of(runs)]
    assert columns["id"]["values"][0] == "log_broken"
    assert columns["status"]["values"] == ["unreadable", "complete", "complete", "complete"]
    assert datetime.fromisoformat(columns["started"]["values"][1]) == runs[1].started
    assert columns["started"]["values"][0] is None
    assert page["series"] == {
        "residual": {"columns": ["r"], "runs": [1, 2, 3]},
        "scalars": {"columns": ["loss"], "runs": [1, 2, 3]},
    }


def test_pins_are_a_column_if_there_are_any(tmp_path: Path) -> None:
    sweep(tmp_path)
    assert "pinned" not in columns_of(runs_page(search.runs(tmp_path), title="t", places=["x"], live=True))
    search.pin(tmp_path, recursive=True, where="seed == 1")
    runs = search.runs(tmp_path, values=True)
    column = columns_of(runs_page(runs, title="t", places=["x"], live=True))["pinned"]
    assert column["values"] == [run.pinned for run in runs]
    assert column["type"] == "boolean"


def test_a_table_from_index_csv_has_the_series_too(tmp_path: Path) -> None:
    sweep(tmp_path)
    found = search.table(tmp_path)
    assert all(not run.metadata for run in found.runs)
    page = runs_page(found.runs, title="t", places=["x"], live=True, stale=True)
    assert page["series"] == {
        "residual": {"columns": ["r"], "runs": [0, 1, 2]},
        "scalars": {"columns": ["loss"], "runs": [0, 1, 2]},
    }
    assert page["stale"]


def test_ids_are_unique_and_short() -> None:
    def run(name: str) -> search.Run:
        return search.Run(name, "a", f"memory://{name}")

    assert [*ids_of([run("x/y/log_a")])] == ["log_a"]
    assert [*ids_of([run("x/s/log_a"), run("x/log_b")])] == ["s/log_a", "log_b"]
    assert [*ids_of([run("a/log_a"), run("b/log_a")])] == ["a/log_a", "b/log_a"]
    assert [*ids_of([run("log_a"), run("log_a")])] == ["log_a", "log_a~2"]
    assert [*ids_of([run("."), run("..")])] == ["a", "a~2"]
    assert [*ids_of([run("log_\udce9")])] == ["log_\\udce9"]
    assert ids_of([]) == {}
    assert key_of("run", "s/log_\udce9") == "run/s/log_\\udce9"


def curves_at(base: Path, series: str, column: str, **options: Any) -> dict[str, Any]:
    query = search.Query(base)
    runs = runs_having(query, series, workers=True)
    found = curves_in(runs, [column], series=series, workers=True, place="x", failed=query.failed)
    page = curve_page(found, series, column, ids=ids_of(runs), **options)
    json.loads(encoded(page))
    return page


def test_a_curve_keeps_extremes_and_times(tmp_path: Path) -> None:
    values = np.random.default_rng(5).normal(size=100_000)
    values[77_777], values[5] = 50, np.nan
    folder = tmp_path / "log_a"
    with Logbook("a", tmp_path, environment=False, heartbeat=None):
        pass
    rows = [
        {"step": step, "time": 1000.5 + step / 8, "v": None if step == 5 else value}
        | ({"nonfinite": {"v": "NaN"}} if step == 5 else {})
        for step, value in enumerate(values.tolist())
    ]
    (folder / "series").mkdir()
    (folder / "series" / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = curves_at(tmp_path, "scalars", "v")
    (curve,) = page["curves"]
    assert (curve["run"], curve["rank"], curve["rows"], curve["start"]) == ("log_a", "", 100_000, 1000.5)
    assert curve["thinned"]
    assert len(curve["step"]) == len(curve["y"]) == len(curve["time"]) <= 2000
    assert curve["step"] == sorted(set(curve["step"]))
    assert curve["y"][curve["step"].index(77_777)] == 50
    assert curve["nonfinite"] == {str(curve["step"].index(5)): "NaN"}
    for step, second, y in zip(curve["step"], curve["time"], curve["y"], strict=True):
        assert second == round(step / 8, 3)
        assert y is None or y == pytest.approx(values[step], rel=1e-6)
    few = curves_at(tmp_path, "scalars", "v", between=(1000, 1020))["curves"][0]
    assert few["step"] == [*range(999, 1022)]
    assert (few["rows"], few["thinned"]) == (100_000, False)  # all rows of the range
    assert curves_at(tmp_path, "scalars", "v", between=(1000, 9000))["curves"][0]["thinned"]
    beside = curves_at(tmp_path, "scalars", "v", between=(12.55, 12.57), x="relative")["curves"][0]
    assert beside["step"] == [100, 101]
    late = curves_at(tmp_path, "scalars", "v", between=(13_500.3, None), x="time")["curves"][0]
    assert late["step"] == [*range(99_998, 100_000)]
    smooth = curves_at(tmp_path, "scalars", "v", smooth=0.9, points=200)["curves"][0]
    assert smooth["smoothed"]
    assert len(smooth["y"]) <= 200
    assert max(abs(y) for y in smooth["y"] if y is not None) < 10


def test_numbers_have_seven_digits() -> None:
    values = np.random.default_rng(1).normal(size=20_000) * 10.0 ** np.random.default_rng(2).integers(-300, 300, 20_000)
    assert rounded(values) == [float(f"{value:.7g}") for value in values.tolist()]
    special = np.array([0.0, -0.0, 5e-324, 1.7976931348623157e308, 9999999.5, 0.1, 1e22, 1e23])
    assert rounded(special) == [float(f"{value:.7g}") for value in special.tolist()]


def test_a_run_with_its_failure_and_log(tmp_path: Path) -> None:
    log = Logbook("a", tmp_path, params={"seed": 2**63, "x": math.nan, "deep": {"y": [1]}}, heartbeat=None)
    log.scalars(step=3, loss=math.inf)
    with pytest.raises(ValueError, match="bad"), log:
        log.info("héllo")
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("bad </script>") from error
    (overview,) = overviews_of(search.runs(tmp_path, values=True), 50)
    page = run_page(overview, "log_a", digests={"log.txt": "ab"})
    assert json.loads(encoded(page)) == page
    assert page["params"] == {"seed": str(2**63), "x": "NaN", "deep": {"y": [1]}}
    assert page["facts"]["status"] == "failed"
    assert page["failure"]["type"] == "ValueError"
    assert page["failure"]["message"] == "bad </script>"
    assert page["failure"]["frames"][-1]["code"].strip() == 'raise ValueError("bad </script>") from error'
    assert [(one["relation"], one["type"]) for one in page["failure"]["chain"]] == [("caused by", "KeyError")]
    raw = (tmp_path / "log_a" / "log.txt").read_bytes()
    assert page["log"] == {"text": raw.decode(), "start": 0, "end": len(raw), "size": len(raw)}
    assert page["output"] is None
    short = run_page(overview, "log_a", text_bytes=100)["log"]
    assert raw[short["start"] :].decode() == short["text"]
    assert 0 < len(short["text"]) <= 200
    files = {one["key"]: one for one in page["files"]}
    on_disk = {path.relative_to(tmp_path / "log_a").as_posix() for path in (tmp_path / "log_a").rglob("*.*")}
    assert {*files} == {key for key in on_disk if (tmp_path / "log_a" / key).is_file()}
    assert files["log.txt"]["digest"] == "ab"
    assert files["log.txt"]["size"] == len(raw)
    assert page["series"]["scalars"]["rows"] == 1
    assert page["series"]["scalars"]["columns"]["loss"]["last"] is None
    assert page["series"]["scalars"]["columns"]["loss"]["nonfinite"]["last"] == "Infinity"


@pytest.mark.parametrize(("name", "key"), [("log", "log.txt"), ("output", "output.txt")])
def test_parts_of_a_text(name: str, key: str, tmp_path: Path) -> None:
    log = Logbook("a", tmp_path, heartbeat=None, environment=False)
    text = "".join(f"line {number} é\n" for number in range(100))
    (tmp_path / "log_a" / key).write_text(text + "begun")
    (run,) = search.runs(tmp_path)
    raw = (text + "begun").encode()
    last = text_page(run, name, None, 100)
    assert last["text"].startswith("line ")
    assert raw[last["start"] : last["end"]] == last["text"].encode()
    assert last["end"] == len(text.encode())
    assert last["size"] == len(raw)
    at, read = 0, ""
    while at < len(text.encode()):
        part = text_page(run, name, at, 64)
        assert part["start"] == at
        at, read = part["end"], read + part["text"]
    assert read == text
    assert text_page(run, name, len(raw) + 10, 64)["size"] == len(raw)
    log.mark_complete()
    (tmp_path / "log_a" / key).write_bytes(raw)
    (ended,) = search.runs(tmp_path)
    assert text_page(ended, name, at, 64) == {"text": "begun", "start": at, "end": len(raw), "size": len(raw)}
    assert text_page(ended, name, None, 100)["text"].endswith("é\nbegun")
    assert text_page(ended, name, 0, 64)["text"].endswith("\n")
    (tmp_path / "log_a" / key).unlink()
    assert text_page(run, name, None, 64) == {"text": "", "start": 0, "end": 0, "size": 0}


def output_of(base: Path, data: bytes, lines: int = 400, **options: Any) -> Any:
    """Return the output on the page of a run that printed some bytes."""
    with Logbook("a", base, overwrite=True, heartbeat=None, environment=False):
        (base / "log_a/output.txt").write_bytes(data)
    (overview,) = overviews_of(search.runs(base, values=True), lines)
    page = run_page(overview, "log_a", **options)
    assert json.loads(encoded(page)) == page
    return page["output"]


@pytest.mark.parametrize("data", [b"one\ntwo\n", b"one\r\n 10 %\r 20 %\r\nno end", b"\n\n", "é".encode()])
def test_the_output_of_a_program_is_on_its_page_as_it_is_stored(data: bytes, tmp_path: Path) -> None:
    size = len(data)
    assert output_of(tmp_path, data) == {"text": data.decode(), "start": 0, "end": size, "size": size}
    last = output_of(tmp_path, data, lines=1)
    assert (data[last["start"] :].decode(), size) == (last["text"], last["size"])


@pytest.mark.parametrize("data", [b"x" * 3_000_000, b"\xff\x1b[31m" * 500_000, b"\n" * 3_000_000, b"\r" * 3_000_000])
def test_of_strange_output_a_bounded_part_is_read_and_shown(data: bytes, tmp_path: Path) -> None:
    page = output_of(tmp_path, data)
    assert (page["end"], page["size"]) == (len(data), len(data))
    assert 0 < page["end"] - page["start"] <= 2**16
    assert len(page["text"]) <= 6 * 2**16
    (run,) = search.runs(tmp_path)
    part = text_page(run, "output", None, 2**16)
    assert 0 < part["end"] - part["start"] <= 2**16
    assert len(part["text"]) <= 6 * 2**16


def test_output_that_was_replaced_by_less_since_it_was_listed(tmp_path: Path) -> None:
    output_of(tmp_path, b"a long line\n" * 1000)
    runs = search.runs(tmp_path, values=True)
    (tmp_path / "log_a/output.txt").write_bytes(b"short\n")
    (overview,) = overviews_of(runs, 400)
    page = run_page(overview, "log_a")["output"]
    assert (page["text"], page["size"]) == ("short\n", 12_000)
    assert text_page(runs[0], "output", 12_000, 100)["size"] == 6
    assert text_page(runs[0], "output", None, 100)["text"] == "short\n"


def test_the_log_and_the_output_share_the_bytes(tmp_path: Path) -> None:
    lines, line = 400, "a line of fifty characters, which is long enough..\n"
    with Logbook("a", tmp_path, heartbeat=None, environment=False):
        pass

    def sizes(log: int, output: int) -> list[int]:
        for key, count in (("log.txt", log), ("output.txt", output)):
            (tmp_path / "log_a" / key).write_text(line * count)
        (overview,) = overviews_of(search.runs(tmp_path, values=True), lines)
        page = run_page(overview, "log_a", text_bytes=5100)
        return [page[name]["end"] - page[name]["start"] for name in ("log", "output")]

    assert sizes(200, 200) == [2550, 2550]
    assert sizes(10, 200) == [510, 4590]
    assert sizes(200, 0) == [5100, 0]
    assert sizes(3, 5) == [153, 255]


def test_values_are_bounded() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    nested = json.dumps(Bounded(levels=5).of(deep))
    assert nested == "[[[[[" + '"\\u2026"' + "]]]]]"
    many = Bounded(total=50).of({f"k{number}": [0] * 100 for number in range(1000)})
    assert len(json.dumps(many)) < 2000
    assert Bounded(items=2).of({"a": 1, "b": 2, "c": 3}) == {"a": 1, "b": 2, "…": "… and 1 more value"}
    assert Bounded().of(10**5000).startswith("an integer of 16610 bits")
    assert Bounded(text=5).of("abcdefgh") == "abcd…"
    assert encoded(["\udc80</script><!--\u2028"]) == b'["\\udc80\\u003c/script>\\u003c!--\xe2\x80\xa8"]'
