"""Reports, read by `html.parser` and `json`, and compared with raw files and numpy."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from notata import Experiment, Logbook, search
from notata.cli import main
from notata.errors import ConfigurationError, ExistsError, RunMissingError, UnknownNameError
from notata.page import filebudget
from notata.page.bundle import MARKER
from notata.page.model import curves_key
from notata.page.output import OpenOutput, StoredOutput, bytes_of
from notata.page.preview import file_page
from notata.page.report import ReportWatcher, ReportWriter
from notata.search import Query
from notata.search.target import raise_error
from notata.series import columns as series_columns
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests import children
from tests.page.test_bundle import Page, digest
from tests.page.test_preview import png

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u2028'\"`\x1b[2J"
ROOT = Path(__file__).parents[2]


def page_of(path: Path) -> Page:
    data = path.read_bytes()
    assert data.startswith(MARKER)
    page = Page(data.decode())
    assert page.links == ["data:,"]
    assert page.policy["script-src"] == [digest(code) for code in page.code]
    assert page.policy["style-src"] == [digest(style) for style in page.styles]
    assert page.policy["connect-src"] == page.policy["default-src"] == ["'none'"]
    return page


def table_of(page: Page) -> dict[str, Any]:
    table: Any = page.data["runs"]
    return {column["name"]: column["values"] for column in table["columns"]}


def sweep(base: Path, seeds: int = 3, steps: int = 5) -> Path:
    experiment = Experiment("sweep", base, environment=False, heartbeat=None, monitor=None)
    for seed in range(seeds):
        with experiment.add(seed=seed, lr=0.1) as log:
            log.json("metrics", {"error": seed / 4})
            log.bytes("figure.png", png(3, 2))
            log.array("field", np.eye(4) * seed)
            for step in range(steps):
                log.scalars(step=step, loss=seed + 1 / (step + 1), acc=step)
            log.series("residual").add({"r": seed}, step=1)
    return base / "sweep"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_a_report_has_the_runs_their_curves_and_their_files(tmp_path: Path) -> None:
    place = sweep(tmp_path)
    written = search.report(place, tmp_path / "r.html", group="seed", sort="error", reverse=True)
    page = page_of(tmp_path / "r.html")
    assert written.size == (tmp_path / "r.html").stat().st_size
    assert (written.runs, written.total, written.left_out, written.problems) == (3, 3, (), ())
    assert written.url == str(tmp_path / "r.html")
    columns, data = table_of(page), page.data
    assert columns["error"] == [0.5, 0.25, 0.0]
    assert columns["seed"] == [2, 1, 0]
    ids = columns["id"]
    runs: Any = data["runs"]
    assert (runs["title"], runs["group"], runs["live"], runs["left_out"]) == ("sweep", ["seed"], False, [])
    assert runs["series"] == {
        "residual": {"columns": ["r"], "runs": [0, 1, 2]},
        "scalars": {"columns": ["acc", "loss"], "runs": [0, 1, 2]},
    }
    curves: Any = data["curves/scalars/loss"]
    assert {one["run"]: one["y"] for one in curves["curves"]} == {
        run: pytest.approx([seed + 1 / (step + 1) for step in range(5)], rel=1e-6)
        for run, seed in zip(ids, (2, 1, 0), strict=True)
    }
    assert data["curves/residual/r"]["curves"][0]["y"] == [2]  # type: ignore[index]
    for run in ids:
        details: Any = data[f"run/{run}"]
        folder = place / "runs" / run
        assert details["log"]["text"] == (folder / "log.txt").read_text()
        assert {one["key"] for one in details["files"]} == {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
        image: Any = data[f"file/{run}/artifacts/figure.png"]
        assert image["image"].startswith("data:image/png;base64,")
        array: Any = data[f"file/{run}/data/field.npy"]
        assert array["array"]["shape"] == [4, 4]
        assert data[f"file/{run}/artifacts/metrics.json"]["json"]["error"] in (0, 0.25, 0.5)  # type: ignore[index]


def test_a_report_has_the_digests_of_the_manifests(tmp_path: Path) -> None:
    place = sweep(tmp_path)
    search.report(place, tmp_path / "r.html")
    page = page_of(tmp_path / "r.html")
    digests = set()
    for name in table_of(page)["id"]:
        run: Any = page.data[f"run/{name}"]
        for file in run["files"]:
            if file["key"] == "data/field.npy":
                content = (place / "runs" / name / file["key"]).read_bytes()
                assert file["digest"] == hashlib.sha256(content).hexdigest()
                digests.add(file["digest"])
    assert len(digests) == 3  # files of the same size


def test_chosen_series_and_runs(tmp_path: Path) -> None:
    place = sweep(tmp_path)
    search.report(place, tmp_path / "r.html", series=["l*"], where="seed > 0", title="</title>&")
    page = page_of(tmp_path / "r.html")
    assert [key for key in page.data if key.startswith("curves/")] == ["curves/scalars/loss"]
    runs: Any = page.data["runs"]
    assert runs["series"] == {"scalars": {"columns": ["loss"], "runs": [0, 1]}}
    assert (runs["count"], runs["total"]) == (2, 3)
    assert "</title>&" in page.texts
    search.report(place, tmp_path / "r.html", series="residual/r")
    assert [key for key in page_of(tmp_path / "r.html").data if key.startswith("curves/")] == ["curves/residual/r"]


def plant(base: Path, name: str, rows: Path | None = None, **fields: Any) -> Path:
    """Store a run as plain files."""
    folder = base / f"log_{name}"
    (folder / "series").mkdir(parents=True)
    said = {"run_id": name, "status": "complete", "start_time": "2026-01-01T00:00:00+00:00"}
    (folder / "metadata.json").write_text(json.dumps(said | fields))
    (folder / "log.txt").write_text("[2026-01-01T00:00:00] INFO begun\n" * 20)
    if rows is not None:
        os.link(rows, folder / "series" / "scalars.jsonl")
    return folder


def started(base: Path) -> Path:
    """Store three runs whose names are not in the order of their starts."""
    for day, name in ((2, "a"), (3, "b"), (1, "c")):
        plant(base, name, start_time=f"2026-01-0{day}T00:00:00+00:00")
    (base / "log_d").mkdir()
    (base / "log_d" / "metadata.json").write_text('{"run_id": "d", "status": "complete"}')
    return base


def test_a_report_has_the_end_of_the_output(tmp_path: Path) -> None:
    text = "".join(f" step {step:6d}  residual = {1 / (step + 1):.6e}\n" for step in range(100_000))
    plant(tmp_path / "runs", "large").joinpath("output.txt").write_text(text)
    plant(tmp_path / "runs", "small").joinpath("output.txt").write_bytes(b"done\n")
    plant(tmp_path / "runs", "silent")
    search.report(tmp_path / "runs", tmp_path / "r.html")
    data: Any = page_of(tmp_path / "r.html").data
    large = data["run/log_large"]["output"]
    assert text.endswith(large["text"])
    assert large["text"].startswith(" step ")
    assert (large["end"], large["size"]) == (len(text), len(text))
    assert 10_000 < large["size"] - large["start"] == len(large["text"]) <= 2**16
    assert data["run/log_small"]["output"] == {"text": "done\n", "start": 0, "end": 5, "size": 5}
    assert data["run/log_silent"]["output"] is None
    assert [key for key in data if key.startswith("file/") and key.endswith("output.txt")] == []


def test_output_takes_no_more_than_its_share_of_a_report(tmp_path: Path) -> None:
    for number in range(100):
        folder = plant(tmp_path / "runs", f"{number:03}")
        folder.joinpath("output.txt").write_bytes(b"\x1b[31m\xff" * 100_000)
        folder.joinpath("log.txt").write_text("[2026-01-01T00:00:00] INFO a line\n" * 2000)
    written = search.report(tmp_path / "runs", tmp_path / "r.html", max_size=600_000)
    assert (tmp_path / "r.html").stat().st_size <= 600_000
    data: Any = page_of(tmp_path / "r.html").data
    details = [one for key, one in data.items() if key.startswith("run/")]
    assert len(details) >= 10
    assert all(0 < one["output"]["size"] - one["output"]["start"] <= 1500 for one in details)
    assert f"Details of {100 - len(details)} runs" in written.left_out[0]


def test_the_newest_runs_are_the_first_ones(tmp_path: Path) -> None:
    place = started(tmp_path / "runs")
    output = tmp_path / "r.html"

    def ids(**options: Any) -> list[str]:
        search.report(place, output, **options)
        return [name.removeprefix("log_") for name in table_of(page_of(output))["id"]]

    assert ids() == ["b", "a", "c", "d"]
    assert ids(reverse=True) == ["c", "a", "b", "d"]
    assert ids(limit=2) == ["b", "a"]
    assert ids(sort="run_id") == ["a", "b", "c", "d"]
    assert invoke(place, "-o", output, "-n", "1").exit_code == 0
    assert table_of(page_of(output))["run_id"] == ["b"]


def test_with_no_run_the_report_before_stays_and_the_error_is_printed_once(tmp_path: Path) -> None:
    place, output = started(tmp_path / "runs"), tmp_path / "r.html"
    assert invoke(place, "-o", output).exit_code == 0
    before = output.read_bytes()
    result = invoke(place, "-o", output, "--where", "nosuch > 2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (f"Error: no run of 4 at {place} matches, so no report was written; no run has nosuch\n")
    with pytest.raises(RunMissingError):
        search.report(place, output, where="run_id == 'x'")
    for more in ((), ("--watch", "60")):
        result = invoke(tmp_path / "nosuch", "-o", output, *more)
        assert result.exit_code == 1
        assert result.stderr.count("Error: ") == 1
    assert output.read_bytes() == before


def test_a_key_that_no_run_has_is_noted(tmp_path: Path) -> None:
    place = sweep(tmp_path)
    result = invoke(place, "-o", tmp_path / "r.html", "--sort", "eror")
    assert result.exit_code == 0
    assert result.stderr == "Note: no run has eror; similar names: error\n"


def test_a_series_or_group_that_no_run_has_is_reported(tmp_path: Path) -> None:
    place, output = sweep(tmp_path), tmp_path / "r.html"
    result = invoke(place, "-o", output, "--group", "sede")
    assert result.exit_code == 0
    assert result.stderr == "Note: no run has a parameter 'sede'; similar names: 'seed'\n"
    before = output.read_bytes()
    result = invoke(place, "-o", output, "--series", "lss", "--series", "x*")
    assert (result.exit_code, result.stdout) == (1, "")
    message = f"Error: no run at {place} has a series, or a column of numbers, called 'lss'; similar names: 'loss'\n"
    assert result.stderr == message
    assert output.read_bytes() == before
    with pytest.raises(UnknownNameError):
        search.report(place, output, series="nosuch")
    result = invoke(place, "-o", output, "--series", "lss", "--series", "residual/r")
    assert (result.exit_code, result.stderr) == (1, message)
    assert [key for key in page_of(output).data if key.startswith("curves/")] == ["curves/residual/r"]
    for known in ("scalars", "scalars/l*", "params.seed"):
        option = "--group" if known.startswith("params") else "--series"
        assert invoke(place, "-o", output, option, known).stderr == ""


def rows_of(path: Path, rows: int, columns: int = 5) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(7).normal(size=(rows, columns)).cumsum(0)
    with path.open("w") as file:
        for step, row in enumerate(values.tolist()):
            file.write(
                json.dumps({"step": step, "time": 1e9 + step} | {f"c{at}": v for at, v in enumerate(row)}) + "\n"
            )
    return values


@pytest.mark.parametrize(  # the last summary is wrong
    ("size", "count"), [("100 kB", 5000), ("400 kB", 5000), ("3 MB", 5000), ("400 kB", 1)]
)
def test_a_report_keeps_its_size_and_says_what_is_left_out(size: str, count: int, tmp_path: Path) -> None:
    values = rows_of(tmp_path / "rows", 5000, 3)
    summary = {"rows": 5000, "step": 4999, "columns": {f"c{at}": {"last": 1.0, "count": count} for at in range(3)}}
    for number in range(40):
        folder = plant(
            tmp_path / "runs", f"{number:02}", tmp_path / "rows", start_time=f"2026-01-{number % 28 + 1:02}T00:00:00Z",
            series_summary={"scalars": summary}, row={"params": {"number": number, "text": "x" * 500}},
        )  # fmt: skip
        (folder / "plots").mkdir()
        (folder / "plots" / "a.png").write_bytes(png(30, 20) + os.urandom(20_000))
    frame = search.report(plant(tmp_path, "one"), tmp_path / "frame.html").size
    written = search.report(tmp_path / "runs", tmp_path / "r.html", max_size=frame + bytes_of(size))
    assert (tmp_path / "r.html").stat().st_size == written.size <= frame + bytes_of(size)
    page = page_of(tmp_path / "r.html")
    assert len(table_of(page)["id"]) == 40
    curves = [one for key, data in page.data.items() if key.startswith("curves/") for one in data["curves"]]  # type: ignore
    assert curves
    for one in curves:
        assert one["rows"] == 5000
        assert len(one["y"]) <= 2000
    first = page.data["curves/scalars/c0"]["curves"][0]  # type: ignore[index]
    assert (min(first["y"]), max(first["y"])) == pytest.approx((values[:, 0].min(), values[:, 0].max()), rel=1e-6)
    assert first["y"] == [float(f"{values[step, 0]:.7g}") for step in first["step"]]
    assert list(written.left_out) == page.data["runs"]["left_out"]  # type: ignore[index]
    said = " ".join(written.left_out)
    images = sum("image" in data for key, data in page.data.items() if key.startswith("file/"))  # type: ignore[operator]
    assert ("Previews of" in said) == (images < 40)
    some = re.search(r"Rows: the report has some ([\d,]+) points of \d+ curves with more rows", said)
    assert some is not None
    # A bin whose smallest and largest value are one row has one point instead of two.
    assert min(len(one["y"]) for one in curves) == pytest.approx(int(some[1].replace(",", "")), rel=0.2)
    assert ("`notata curve` draws the others" in said) == (len(curves) < 120)
    newest = f"run/log_{27:02}"  # of 28 January
    assert newest in page.data


def test_the_work_for_columns_without_rows_is_linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 200
    each = {f"s{at}": {"columns": {f"c{one}": {"last": 1.0} for one in range(count)}} for at in range(2)}
    folder = plant(tmp_path, "a", series_summary=each)
    for name in each:
        (folder / "series" / f"{name}.jsonl").write_text('{"step":0,"time":1,"loss":1}\n')
    calls: list[str] = []

    def counting(text: str) -> str:
        calls.append(text)
        return repr(text)

    monkeypatch.setattr(series_columns, "quoted", counting)
    written = search.report(folder, tmp_path / "r.html", max_size="5 MB")
    assert f"has no column 'c{count - 1}'; it has 'c0', 'c1'" in " ".join(written.problems)
    assert 2 * count < len(calls) < 10 * count


def test_a_table_that_does_not_fit(tmp_path: Path) -> None:
    for number in range(60):
        plant(tmp_path / "runs", f"{number:02}", row={"params": {f"p{at}": "x" * 900 for at in range(12)}})
    frame = search.report(plant(tmp_path, "one"), tmp_path / "frame.html").size
    written = search.report(tmp_path / "runs", tmp_path / "r.html", max_size=frame + 300_000)
    assert written.size <= frame + 300_000
    assert re.match(r"No room in the table for \d+ columns: p\d", written.left_out[0])
    for number in range(60):
        plant(tmp_path / "long", f"{number:02}" + "x" * 200)
    with pytest.raises(ConfigurationError, match="the table of 60 runs does not fit"):
        search.report(tmp_path / "long", tmp_path / "r.html", max_size=frame + 18_000)
    with pytest.raises(ConfigurationError, match=r"a report takes .* without data; raise max_size"):
        search.report(tmp_path / "runs", tmp_path / "r.html", max_size="1 kB")
    for wrong in ("20 apples", "9" * 400):
        with pytest.raises(ConfigurationError, match=f"invalid size '{wrong[:50]}'"):
            search.report(tmp_path / "runs", tmp_path / "r.html", max_size=wrong)


def test_one_run_with_many_long_names_does_not_prevent_the_report(tmp_path: Path) -> None:
    frame = search.report(plant(tmp_path, "one"), tmp_path / "frame.html").size
    rows_of(tmp_path / "rows", 5, 1)
    for number in range(3):
        plant(tmp_path / "runs", str(number), tmp_path / "rows")
    each = {"columns": {f"{at:03}" + "x" * 482: {"last": 1.0, "count": 1} for at in range(1000)}}
    plant(tmp_path / "runs", "long", tmp_path / "rows", series_summary={"scalars": each})
    size = frame + 200_000
    written = search.report(tmp_path / "runs", tmp_path / "r.html", max_size=size)
    assert (tmp_path / "r.html").stat().st_size == written.size <= size
    assert len(table_of(page_of(tmp_path / "r.html"))["id"]) == 4
    assert re.search(r"No room in the list of series for \d+ columns\. `notata curve`", " ".join(written.left_out))


@pytest.mark.parametrize("text", ["x", "'", "<"])
def test_names_of_columns_that_only_the_rows_have_count(text: str, tmp_path: Path) -> None:
    frame = search.report(plant(tmp_path, "one"), tmp_path / "frame.html").size
    folder = plant(tmp_path, "rows")
    row = {"step": 0, "time": 1.0} | {f"{at:03}" + text * 482: at for at in range(900)}
    (folder / "series" / "scalars.jsonl").write_text(json.dumps(row) + "\n")
    size = frame + 150_000
    written = search.report(folder, tmp_path / "r.html", max_size=size)
    assert written.size == (tmp_path / "r.html").stat().st_size <= size
    assert re.search(r"the report has \d+ of 900\. `notata curve`", " ".join(written.left_out))


def test_a_carriage_return_in_the_name_of_a_column_stays_one(tmp_path: Path) -> None:
    folder = plant(tmp_path, "a")
    (folder / "series" / "scalars.jsonl").write_text('{"step":0,"time":1,"a\\rb":1}\n')
    search.report(folder, tmp_path / "r.html")
    assert b"\r" not in (tmp_path / "r.html").read_bytes()
    assert "curves/scalars/a\rb" in page_of(tmp_path / "r.html").data


def test_a_file_whose_name_does_not_fit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant(tmp_path, "a")
    for at in range(3):
        path = folder.joinpath(*[f"{at}" + "x" * 180] * 6, "notes.txt")
        path.parent.mkdir(parents=True)
        path.write_text("some text")
    (folder / "short.txt").write_text("some text")
    read: list[str] = []

    def reading(file: search.File, *, most: int) -> dict[str, Any]:
        read.append(file.key)
        return file_page(file, most=most)

    monkeypatch.setattr(filebudget, "file_page", reading)
    (run,) = search.runs(folder)
    found = dict(filebudget.FileCollector([("log_a", run)], raise_error).collect(2000))
    assert read == ["short.txt"]
    assert [*found] == ["file/log_a/short.txt"]


def test_nothing_of_a_hostile_run_is_outside_of_its_data(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "runs", "a", status="failed", failure_reason=HOSTILE, failure_type=HOSTILE, mirror=HOSTILE,
        environment={"host": HOSTILE, "argv": [HOSTILE]}, resumes=[{"time": HOSTILE, "after": HOSTILE}],
        series_summary={HOSTILE: {"rows": HOSTILE, "columns": {HOSTILE: {"last": HOSTILE}, "x": {"last": 1}}}},
        row={"params": {HOSTILE: HOSTILE, "deep": {HOSTILE: [HOSTILE]}}, "metrics": {HOSTILE: HOSTILE}},
        **dict[str, Any]({HOSTILE: HOSTILE}),
    )  # fmt: skip
    name = "<img src=x onerror=alert(1)>'&"
    with (folder / "series" / f"{name}.jsonl").open("w") as file:
        file.writelines(json.dumps({"step": step, "time": 1, HOSTILE: step, "y": step}) + "\n" for step in range(3))
    texts = {
        "log.txt": HOSTILE,
        "output.txt": HOSTILE,
        "artifacts/x.json": json.dumps({HOSTILE: HOSTILE}),
        f"artifacts/{name}.txt": HOSTILE,
        "plots/a.svg": f"<svg xmlns='x'>{HOSTILE}</svg>",
    }
    for key, text in texts.items():
        (folder / key).parent.mkdir(exist_ok=True)
        (folder / key).write_text(text)
    (folder / "artifacts" / "debug").mkdir()
    described = {
        "type": HOSTILE,
        "message": HOSTILE,
        "frames": [{"file": HOSTILE, "line": 1, "function": HOSTILE, "code": HOSTILE}],
    }
    (folder / "artifacts" / "debug" / "failure.json").write_text(json.dumps(described))
    (folder / "plots" / "bomb.png").write_bytes(png(100_000, 100_000))
    (folder / "plots" / "deep.json").write_text("[" * 100_000)
    (folder / "plots" / "raw.txt").write_bytes(b"\xff\xfe" + b"\x80" * 50)
    search.report(tmp_path / "runs", tmp_path / "r.html", title=HOSTILE)
    whole = (tmp_path / "r.html").read_bytes().decode()
    page = page_of(tmp_path / "r.html")
    plain = page_of_nothing(tmp_path)
    assert page.code == plain.code
    assert page.styles == plain.styles
    assert [tag for tag, _ in page.tags if tag not in ("script", "meta")] == [
        tag for tag, _ in plain.tags if tag not in ("script", "meta")
    ]
    outside = re.sub(r'<script type="application/json" data-key="[^"<>]*">[^<]*</script>', "", whole)
    assert outside.count("alert(1)") == 2  # those of the title
    assert "\x1b" not in outside.replace("&lt;/script&gt;", "").partition("</title>")[2]
    failure: Any = page.data["run/log_a"]["failure"]  # type: ignore[index]
    assert failure["message"] == HOSTILE
    assert page.data["file/log_a/plots/bomb.png"]["left_out"].startswith("It has 100,000 x 100,000")  # type: ignore[index]
    assert curves_key(name, HOSTILE) in page.data
    assert f"file/log_a/artifacts/{name}.txt" in page.data


def test_names_with_slashes_have_keys_of_their_own(tmp_path: Path) -> None:
    with Logbook("a", tmp_path, heartbeat=None, environment=False) as log:
        log.series("x").add({"y/z": 1.0, "100%": 3.0}, step=0)
        log.series("x/y").add({"z": 2.0}, step=0)
    search.report(tmp_path, tmp_path / "r.html")
    data: Any = page_of(tmp_path / "r.html").data
    found = {key: one["curves"][0]["y"] for key, one in data.items() if key.startswith("curves/")}
    assert found == {"curves/x/y%2Fz": [1.0], "curves/x/100%25": [3.0], "curves/x%2Fy/z": [2.0]}


def page_of_nothing(tmp_path: Path) -> Page:
    search.report(plant(tmp_path, "nothing"), tmp_path / "nothing.html")
    return page_of(tmp_path / "nothing.html")


def test_lone_surrogates_and_nan_are_valid_json(tmp_path: Path) -> None:
    folder = plant(tmp_path / "runs", "a", row={"params": {"a": "\udc80", "n": float("nan"), "big": 2**70}})
    (folder / "log.txt").write_bytes(b"\xff\n")
    search.report(tmp_path / "runs", tmp_path / "r.html")
    columns = table_of(page_of(tmp_path / "r.html"))
    assert (columns["a"], columns["n"], columns["big"]) == (["\\udc80"], [None], [str(2**70)])


def test_a_preview_that_fails_does_not_end_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a").joinpath("notes.txt").write_text("some text")

    def fail(file: search.File, *, most: int) -> dict[str, Any]:
        raise ZeroDivisionError(f"{file.key} at {most}")

    monkeypatch.setattr(filebudget, "file_page", fail)
    written = search.report(tmp_path / "log_a", tmp_path / "r.html")
    assert "log_a failed: ZeroDivisionError: notes.txt at " in " ".join(written.problems)
    left_out: Any = page_of(tmp_path / "r.html").data["file/log_a/notes.txt"]
    assert left_out["left_out"].startswith("Its preview failed: ZeroDivisionError")


def test_credentials_are_not_in_a_report(tmp_path: Path) -> None:
    plant(tmp_path, "a", mirror="s3://ada:s3cr3tpassword@bucket/x")
    file = io.BytesIO()
    search.report(tmp_path / "log_a", file)
    assert b"s3://bucket/x" in file.getvalue() or b"***" in file.getvalue()
    assert b"s3cr3tpassword" not in file.getvalue()


# -- the output --------------------------------------------------------------------------------------------


def test_only_a_report_is_replaced(tmp_path: Path) -> None:
    place = sweep(tmp_path, 1)
    run = next((place / "runs").iterdir())
    before = (run / "metadata.json").read_bytes()
    for output in (run / "metadata.json", run / "report.html", run / "plots" / "report.html"):
        result = invoke(place, "-o", output)
        assert result.exit_code == 2, result.output
        assert "it is in the run" in result.stderr
    (tmp_path / "notes.html").write_text("<!doctype html>mine")
    result = invoke(place, "-o", tmp_path / "notes.html")
    assert result.exit_code == 2
    assert "the file exists and is not a report of notata" in result.stderr
    with pytest.raises(ExistsError, match=r"force=True \(--force\)"):
        search.report(place, tmp_path / "notes.html")
    with pytest.raises(FileExistsError):
        search.report(place, place / "index.csv")
    assert (run / "metadata.json").read_bytes() == before
    assert not (run / "report.html").exists()
    assert (tmp_path / "notes.html").read_text() == "<!doctype html>mine"
    for no_file in (place, f"{place}/", "s3://bucket", "s3://bucket/"):
        with pytest.raises(ConfigurationError, match=r"cannot write a report to .*(folder|name a file)"):
            search.report(place, no_file)
    result = invoke(place, "-o", tmp_path / "notes.html", "--force")
    assert result.exit_code == 0
    assert result.output.startswith(f"{tmp_path}/notes.html: 1 run, ")
    page_of(tmp_path / "notes.html")
    search.report(place, tmp_path / "notes.html")


def test_no_report_is_written_into_a_run_through_a_link_or_below_a_run_of_any_name(tmp_path: Path) -> None:
    run = Logbook("a", tmp_path / "runs", heartbeat=None, environment=False)
    run.text("plots/note", "some text")
    run.mark_complete()
    shutil.copytree(tmp_path / "runs" / "log_a", tmp_path / "best")
    (tmp_path / "alias").symlink_to(tmp_path / "runs" / "log_a")
    (tmp_path / "metadata.json").write_text('{"of": "another program"}')
    for folder in ("alias/plots", "alias", "best/plots", "best/artifacts/new"):
        with pytest.raises(ConfigurationError, match="it is in the run"):
            search.report(tmp_path / "runs", tmp_path / folder / "r.html")
    assert [*tmp_path.rglob("r.html")] == []
    search.report(tmp_path / "runs", tmp_path / "pages" / "r.html")


def test_a_report_goes_to_any_storage_and_to_an_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sweep(tmp_path, 1)
    written = search.report(place, "memory://out/deep/r.html")
    assert written.url == "memory://out/deep/r.html"
    stored = open_store("memory://out/deep").read_all("r.html")
    assert len(stored) == written.size
    file = io.BytesIO()
    assert search.report(place, file).url == "-"
    assert file.getvalue().startswith(MARKER)
    result = invoke(place, "-o", "-")
    assert result.exit_code == 0
    assert result.stdout_bytes.startswith(MARKER)
    monkeypatch.chdir(tmp_path)
    assert invoke("sweep").exit_code == 0
    page_of(tmp_path / "report.html")
    assert invoke("sweep", "-o", "-", "--watch", "1").exit_code == 2
    said = json.loads(invoke("sweep", "--json").stdout)
    assert said["size"] == (tmp_path / "report.html").stat().st_size
    assert said["left_out"] == []
    assert invoke("nothing").exit_code == 1
    assert invoke("sweep", "--where", "seed == 99").exit_code == 1


def test_a_write_that_is_interrupted_keeps_the_report_before(tmp_path: Path) -> None:
    place, output = sweep(tmp_path, 1), StoredOutput("memory://interrupted-report/r.html")
    ReportWriter(Query(place), output).write()
    before = open_store("memory://interrupted-report").read_all("r.html")

    def parts() -> Iterator[bytes]:
        yield MARKER
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output.write(parts())
    assert open_store("memory://interrupted-report").read_all("r.html") == before
    assert [entry.key for entry in open_store("memory://interrupted-report").list()] == ["r.html"]


# -- watching ----------------------------------------------------------------------------------------------


class Clock:
    """Counts waits; `then` is called at each of them."""

    def __init__(self) -> None:
        self.waits = 0
        self.steps: list[Any] = []

    def __call__(self, seconds: float) -> None:
        assert seconds == 60
        self.waits += 1
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def watcher(urls: Any, output: Path, clock: Clock, said: list[str]) -> ReportWatcher:
    return ReportWatcher(ReportWriter(Query(urls), StoredOutput(output)), 60, tell=said.append, wait=clock)


def test_watching_writes_only_when_something_has_changed(tmp_path: Path) -> None:
    place, clock, said = sweep(tmp_path, 1), Clock(), list[str]()
    log = Logbook("later", place / "runs", heartbeat=None, environment=False)
    output = place / "report.html"  # among the files that are listed
    clock.steps = [
        lambda: None,
        lambda: log.scalars(step=1, loss=1),
        log.flush,
        lambda: None,
        lambda: log.mark_complete(),
        lambda: None,
    ]
    found = []
    with pytest.raises(KeyboardInterrupt):
        for written in watcher(place, output, clock, said):
            found.append((clock.waits, written.runs))
            assert page_of(output).data
    assert [waits for waits, _ in found] == [0, 3, 5] or [waits for waits, _ in found] == [0, 2, 5]
    assert said == []
    assert table_of(page_of(output))["status"] == ["complete", "complete"]


def test_watching_ends_if_the_report_has_become_another_file(tmp_path: Path) -> None:
    place, clock, said = sweep(tmp_path, 1), Clock(), list[str]()
    output = tmp_path / "r.html"

    def replace_it() -> None:
        output.write_text("my notes")
        Logbook("later", place / "runs", heartbeat=None, environment=False).mark_complete()

    clock.steps = [replace_it, lambda: None]
    with pytest.raises(ExistsError, match="is not a report of notata"):
        for _ in watcher(place, output, clock, said):
            page_of(output)
    assert (output.read_text(), said) == ("my notes", [])


def test_watching_writes_a_report_without_runs_if_none_matches_any_more(tmp_path: Path) -> None:
    place, clock, output = started(tmp_path / "runs"), Clock(), tmp_path / "r.html"

    def end() -> None:
        (place / "log_a" / "metadata.json").write_text('{"run_id": "a", "status": "failed"}')

    clock.steps = [end]
    query = Query(place, where="run_id == 'a'", status="complete")
    counts = []
    with pytest.raises(KeyboardInterrupt):
        for written in ReportWatcher(ReportWriter(query, StoredOutput(output)), 60, wait=clock):
            counts.append(written.runs)
    assert counts == [1, 0]


def test_watching_sees_that_a_run_has_died(tmp_path: Path) -> None:
    beat = {"owner": "x", "host": "elsewhere", "pid": 1, "process": "1", "heartbeat": 1000.0}
    folder = plant(tmp_path / "runs", "a", status="initialized", lease=beat)
    clock, said = Clock(), list[str]()
    before = os.stat(folder / "metadata.json")

    def age() -> None:
        os.utime(folder / "metadata.json", (before.st_mtime, before.st_mtime))
        (folder / "metadata.json").write_text((folder / "metadata.json").read_text().replace("1000.0", "0.0001"))
        os.utime(folder / "metadata.json", (before.st_mtime - 9000, before.st_mtime - 9000))

    clock.steps = [lambda: None, age]
    statuses = []
    with pytest.raises(KeyboardInterrupt):
        for _ in watcher(tmp_path / "runs", tmp_path / "r.html", clock, said):
            statuses += table_of(page_of(tmp_path / "r.html"))["status"]
    assert statuses == ["running", "died"]


def test_watching_survives_an_outage_with_one_message(tmp_path: Path) -> None:
    with Logbook("a", "memory://watched-outage", heartbeat=None, environment=False):
        pass
    faulty = FaultyBackend(open_store("memory://watched-outage"))
    clock, said = Clock(), list[str]()

    def outage() -> None:
        faulty.fail(1, key="")

    clock.steps = [outage, outage, outage, faulty.heal, lambda: None]
    found = []
    with pytest.raises(KeyboardInterrupt):
        for _ in watcher(Store(faulty), tmp_path / "r.html", clock, said):
            found.append(clock.waits)
    assert found == [0]
    assert len(said) == 2
    assert said[0].endswith("waiting for the storage")
    assert said[1] == "the storage is available again"


def test_ctrl_c_ends_a_watch_with_code_130(tmp_path: Path) -> None:
    place = sweep(tmp_path, 1)
    command = [sys.executable, "-m", "notata", "report", str(place), "-o", f"{tmp_path}/r.html", "--watch", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith(f"{tmp_path}/r.html: 1 run, ")
        os.kill(watching.pid, signal.SIGINT)
        assert watching.communicate() == ("", "Interrupted\n")
    assert watching.returncode == 130


# -- memory ------------------------------------------------------------------------------------------------


def peak_of(base: Path) -> float:
    """Return the peak memory in MiB of a process that writes a report."""
    code = (
        "import sys; from notata import search; from tests.tools.memory import peak; "
        "search.report(sys.argv[1], sys.argv[1] + '.html'); print(peak())"
    )
    done = children.run([sys.executable, "-c", code, str(base)], cwd=ROOT, timeout=280)
    return float(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="hard links and VmHWM")
def test_memory_does_not_grow_with_the_runs(tmp_path: Path) -> None:
    """Some 32 series are read at once; of each, only its points are kept."""
    rows_of(tmp_path / "rows", 10_000)
    summary = {"columns": {f"c{at}": {"last": 1.0, "count": 10_000} for at in range(5)}}
    few, many = 40, 240
    for runs in (few, many):
        for number in range(runs):
            plant(tmp_path / f"{runs}", f"{number:03}", tmp_path / "rows", series_summary={"scalars": summary})
    peaks = [peak_of(tmp_path / f"{runs}") for runs in (few, many)]
    assert (tmp_path / f"{many}.html").stat().st_size <= 20_000_000
    of_files = (many - few) * (tmp_path / "rows").stat().st_size / 2**20
    assert peaks[1] - peaks[0] < of_files / 4, peaks  # the columns alone take a third


# -- requests ----------------------------------------------------------------------------------------------


def test_the_requests_of_a_report() -> None:
    faulty = FaultyBackend(open_store("memory://report-requests"))
    for name in ("a", "b"):
        with Logbook(name, "memory://report-requests", environment=False, heartbeat=None, manifest=False) as log:
            log.scalars(step=1, loss=1)
            log.text("notes", "x")
    with Logbook("c", "memory://report-requests", environment=False, heartbeat=None):
        pass
    open_store("memory://report-requests").write("log_c/output.txt", b"printed\n")
    ReportWriter(Query(Store(faulty)), OpenOutput(io.BytesIO())).write()
    of_a_run = ["artifacts/notes.txt", "log.txt", "metadata.json", "series/scalars.jsonl"]
    of_c = ["log.txt", "manifest.json", "metadata.json", "output.txt"]
    assert sorted((one.verb, one.key) for one in faulty.operations) == sorted(
        [("list", ""), *(("get", key) for key in [*of_a_run * 2, *of_c])]
    )
