"""``notata curve``: pictures of a fixed width, JSON and CSV, of runs that ended and of runs that grow."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from notata import Logbook
from notata._base.axes import Axis, Kind
from notata.cli import main
from notata.search.watching import CurveWatcher
from tests.backends import Place
from tests.command import Done, notata, terminal

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
BEGAN = 1_764_323_213.0
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


def lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Return rows as they are stored, with a step and a time for each."""
    found = ({"step": number, "time": BEGAN + number, **row} for number, row in enumerate(rows))
    return "".join(f"{json.dumps(row)}\n" for row in found).encode()


def plant(
    place: Place,
    run_id: str,
    rows: Iterable[Mapping[str, object]],
    key: str = "series/scalars.jsonl",
    *,
    status: str = "complete",
    params: Mapping[str, object] | None = None,
    **fields: object,
) -> str:
    """Write the files of a run by plain fsspec, and return its URL."""
    place.put(f"log_{run_id}/metadata.json", json.dumps({"run_id": run_id, "status": status, **fields}).encode())
    place.put(f"log_{run_id}/{key}", lines(rows))
    if params is not None:
        place.put(f"log_{run_id}/params.json", json.dumps(params).encode())
    return f"{place.url}/log_{run_id}"


def curve(*arguments: str, tmp_path: Path, width: int = 60, height: int = 9) -> Done:
    return notata("curve", *arguments, f"--width={width}", f"--height={height}", folder=tmp_path)


def drawn(text: str) -> list[str]:
    """Return the area of a picture of marks, one text for each row."""
    rows = text.splitlines()
    corner = next(at for at, row in enumerate(rows) if re.match(r" *\+[-+]+$", row))
    gutter, width = rows[corner].index("+"), len(rows[corner])
    return [row.ljust(width)[gutter + 1 :] for row in rows[1:corner]]


def marked(text: str, mark: str) -> set[tuple[int, int]]:
    """Return the cells with a mark: column and row."""
    return {(at, row) for row, cells in enumerate(drawn(text)) for at, cell in enumerate(cells) if cell == mark}


# -- pictures --------------------------------------------------------------------------------------------------


def test_two_runs_in_a_pipe(place: Place, tmp_path: Path) -> None:
    for rate in (0.5, 0.9):
        plant(place, f"rate_{rate}", ({"loss": rate**step} for step in range(11)), params={"rate": rate, "seed": 1})
    done = curve(place.url, "-y", "loss", tmp_path=tmp_path, width=60, height=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "    loss\n"
        "  1+oooo\n"
        "   |  * oooooooooo\n"
        "   |   ***        ooooooooooooooooo\n"
        "0.5+      **                       oooooooooooooooo\n"
        "   |        **                                     ooooooooo\n"
        "   |          *********\n"
        "   |                   *************************************\n"
        "   ++---------------------------+--------------------------+\n"
        "    0                           5                   10  step\n"
        "* rate=0.5  last 0.0009766  min 0.0009766  max 1\n"
        "o rate=0.9  last 0.3487     min 0.3487     max 1\n"
    )


@given(
    st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), min_size=2, max_size=40),
    st.integers(20, 130),
    st.integers(6, 40),
)
def test_each_point_lies_where_its_values_say(values: list[float], width: int, height: int) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    plant(place, "a", ({"v": value} for value in values))
    plant(place, "b", ({"v": value} for value in values))  # a second curve, for marks; it covers the first one
    text = curve(place.url, "-y", "v", tmp_path=Path(), width=width, height=height).stdout
    place.store().clear()
    area = drawn(text)
    x, y = np.arange(len(values)), np.array(values)
    half = (y.max() - y.min()) / 2
    low, high = (y.min(), y.max()) if half else (y[0] - (abs(y[0] / 2) or 1), y[0] + (abs(y[0] / 2) or 1))
    across = x / x[-1] * (len(area[0]) - 1)
    down = (high - y) / (high - low) * (len(area) - 1)
    for at, row in zip(across, down, strict=True):
        near = [area[r][c] for r in {math.floor(row), math.ceil(row)} for c in {math.floor(at), math.ceil(at)}]
        assert "o" in near
    assert marked(text, "*") == set()
    assert len(text.splitlines()) == height + 2
    assert max(map(len, text.splitlines()[:-2])) <= width


def test_the_picture_of_many_rows_has_the_smallest_and_largest_value(place: Place, tmp_path: Path) -> None:
    values = np.zeros(30_000)
    values[12_345], values[20_000] = 5.0, -2.0
    for name in "ab":
        plant(place, name, ({"v": value} for value in values.tolist()))
    text = curve(place.url, "-y", "v", tmp_path=tmp_path, width=80, height=14).stdout
    area = drawn(text)
    assert area[0].strip() == "o"
    assert area[0].index("o") == round(12_345 / 29_999 * (len(area[0]) - 1))
    assert area[-1].strip() == "o"
    assert area[-1].index("o") == round(20_000 / 29_999 * (len(area[0]) - 1))


def test_a_terminal_gets_dots_and_colours_no_wider_than_it_is(place: Place, tmp_path: Path) -> None:
    local = Place("local", str(tmp_path / "runs"))
    plant(local, "a" * 150, ({"loss": 1.0 / (1 + step)} for step in range(100)))
    plant(local, "b" * 150, ({"loss": -1.2345e-10 * step} for step in range(100)))
    code, got = terminal("curve", local.url, "-y", "loss", folder=tmp_path, columns=80)
    text = got.decode()
    assert code == 0
    assert "\x1b[36m" in text  # the first colour
    assert "\x1b[33m" in text
    assert re.search("[\u2801-\u28ff]", text)
    plain = ANSI.sub("", text).splitlines()
    assert max(map(len, plain)) <= 80
    assert [row[:4] for row in plain[-2:]] == ["━━ a", "━━ b"]
    code, got = terminal("curve", local.url, "-y", "loss", folder=tmp_path, columns=80, NO_COLOR="1")
    assert "\x1b" not in got.decode()
    assert [row[:4] for row in got.decode().splitlines()[-2:]] == ["* aa", "o bb"]


def test_each_dot_of_a_line_without_colours(place: Place, tmp_path: Path) -> None:
    """One curve in a pipe has braille dots: two columns and four rows in a character."""
    plant(place, "a", ({"v": float(step)} for step in range(8)))
    text = curve(place.url, tmp_path=tmp_path, width=20, height=6).stdout
    area = [row.partition("┤")[2] or row.partition("│")[2] for row in text.splitlines()[1:4]]
    dots = [
        (2 * at + column, 4 * row + line)
        for row, cells in enumerate(area)
        for at, cell in enumerate(cells)
        if cell != " "
        for column, bits in enumerate([(0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)])
        for line, bit in enumerate(bits)
        if (ord(cell) - 0x2800) & bit
    ]
    by_column = dict(sorted(dots))
    last = max(by_column)
    assert [*by_column] == [*range(last + 1)]
    assert all(abs(row - 11 * (1 - at / last)) <= 0.75 for at, row in by_column.items())


def test_columns_in_one_picture_or_each_in_its_own(place: Place, tmp_path: Path) -> None:
    plant(place, "a", ({"loss": 1.0 - step / 9, "val/acc": step / 9, "phase": "warm-up"} for step in range(10)))
    both = curve(place.url, "-y", "loss", "-y", "val/*", tmp_path=tmp_path).stdout.splitlines()
    assert both[0].strip() == "loss, val/acc"
    assert [row.split()[:2] for row in both[-2:]] == [["*", "loss"], ["o", "val/acc"]]
    each = curve(place.url, tmp_path=tmp_path).stdout.splitlines()
    assert [row.strip() for row in each if row.strip() in ("loss", "val/acc", "phase")] == ["loss", "val/acc"]
    assert [row.split()[:3] for row in each if "last" in row] == [["━━", "a", "last"]] * 2


def test_many_columns_and_many_runs_are_counted(place: Place, tmp_path: Path) -> None:
    for number in range(25):
        plant(place, f"r{number:02}", [{f"c{column}": number for column in range(9)}] * 2)
    every = curve(place.url, tmp_path=tmp_path).stdout.splitlines()
    assert every[-1] == "and 3 more columns; choose some with -y"
    one = curve(place.url, "-y", "c0", tmp_path=tmp_path).stdout.splitlines()
    assert one[-1] == "and 5 more curves"
    assert [row.split()[1] for row in one if "last" in row] == [f"r{number:02}" for number in range(20)]


def test_labels_are_the_parameters_that_differ_or_ids(place: Place, tmp_path: Path) -> None:
    def labels(url: str, *arguments: str) -> list[str]:
        found = curve(url, "-y", "v", *arguments, tmp_path=tmp_path).stdout.splitlines()
        return [row[2:].partition("  last")[0].strip() for row in found if "last" in row]

    rows = [{"v": 1}, {"v": 2}]
    for order in (2, 4):
        plant(place, f"o{order}", rows, params={"solver": {"order": order, "name": "rk"}, "dt": 0.1})
    assert labels(place.url) == ["solver.order=2", "solver.order=4"]
    plant(place, "twin", rows, params={"solver": {"order": 4, "name": "rk"}, "dt": 0.1})
    assert labels(place.url) == ["o2", "o4", "twin"]
    other = Place("memory", f"{place.url}/x")
    plant(other, "o2", rows)
    ends = ["/log_o2", "/log_o4", "/log_twin", "/x/log_o2"]
    assert all(label.endswith(end) for label, end in zip(labels(place.url), ends, strict=True))
    assert labels(f"{place.url}/log_twin") == ["twin"]


def test_workers_are_curves_of_their_own(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 1}, {"v": 2}])
    for rank in (0, 10):
        place.put(f"log_a/workers/{rank}/series/scalars.jsonl", lines([{"v": rank}, {"v": rank + 1}]))
    without = curve(place.url, "-y", "v", tmp_path=tmp_path).stdout
    assert without.count("last") == 1
    done = curve(place.url, "-y", "v", "--workers", tmp_path=tmp_path).stdout
    assert [row[2:].partition("  last")[0].strip() for row in done.splitlines()[-3:]] == [
        "a",
        "a  worker 0",
        "a  worker 10",
    ]
    found = notata("curve", place.url, "--workers", "--csv", folder=tmp_path).stdout
    ranks = pd.read_csv(io.StringIO(found), dtype={"rank": str}, keep_default_na=False)
    assert ranks.groupby("rank")["value"].sum().to_dict() == {"": 3.0, "0": 1.0, "10": 21.0}


# -- axes ------------------------------------------------------------------------------------------------------


def axis(done: Done) -> list[str]:
    """Return the labels of the horizontal axis, and its name."""
    row = next(row for row, above in zip(done.stdout.splitlines()[1:], done.stdout.splitlines(), strict=False)
               if re.match(r" *[└+][─┬+-]+$", above))  # fmt: skip
    return re.split(r"  +", row.strip())


@pytest.mark.parametrize(
    ("distance", "labels"),
    [
        (0.01, ["0", "0.1 s", "0.2 s"]),
        (1, ["0", "10 s", "20 s"]),
        (60, ["0", "10 min", "20 min"]),
        (3600, ["0", "12 h", "24 h"]),
        (86_400, ["0", "10 d", "20 d"]),
    ],
)
def test_seconds_since_the_first_row_have_units(
    distance: float, labels: list[str], place: Place, tmp_path: Path
) -> None:
    plant(place, "a", ({"time": BEGAN + number * distance, "v": number} for number in range(30)))
    assert axis(curve(place.url, "-x", "relative", tmp_path=tmp_path))[:3] == labels


@pytest.mark.parametrize(
    ("distance", "form"),
    [
        (0.01, r"\d\d:\d\d:\d\d\.\d{3}"),
        (1, r"\d\d:\d\d:\d\d"),
        (60, r"\d\d:\d\d"),
        (7200, r"\d\d-\d\d \d\d:\d\d"),
        (86_400, r"\d{4}-\d\d-\d\d"),
    ],
)
def test_times_are_of_this_machine_s_zone(distance: float, form: str, place: Place, tmp_path: Path) -> None:
    began = pd.Timestamp("2026-03-03T09:12:00").timestamp()  # far from midnight in the zone of the test
    plant(place, "a", ({"time": began + number * distance, "v": number} for number in range(30)))
    done = notata("curve", place.url, "-x", "time", "--width=80", "--height=8", folder=tmp_path)
    *labels, last = axis(done)
    assert len(labels) >= 2
    assert all(re.fullmatch(form, label) for label in labels)
    assert last.startswith("time")


def test_the_date_stands_beside_times_of_one_day(place: Place, tmp_path: Path) -> None:
    from datetime import datetime

    noon = datetime(2026, 3, 3, 12).timestamp()
    plant(place, "a", ({"time": noon + number * 60, "v": number} for number in range(61)))
    *labels, last = axis(curve(place.url, "-x", "time", tmp_path=tmp_path))
    assert (labels[0], last) == ("12:00", "time 2026-03-03")


@pytest.mark.parametrize("x", ["step", "time", "relative", "v"])
def test_times_and_values_beyond_the_calendar_and_beyond_floats(x: str, place: Place, tmp_path: Path) -> None:
    odd = [-1e308, 1e308, 0.0, 5e-324, 1e300, -1.0]
    plant(place, "a", ({"time": value, "v": value} for value in odd))
    plant(place, "b", [{"time": 1e18, "v": 1}, {"time": 1e18 + 512, "v": 2}])
    for arguments in ((), ("--log",)):
        done = curve(place.url, "-y", "v", "-x", x, *arguments, tmp_path=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert max(map(len, done.stdout.splitlines()[:-3])) <= 60


def test_another_column_as_the_coordinate(place: Place, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"t": 0.5 * step, "r": 10.0**-step} for step in range(9)]
    plant(place, "a", [*rows, {"r": 7.0}, {"t": 9.0}], "series/residual.jsonl")
    done = curve(place.url, "--series", "residual", "-x", "t", "-y", "r", "--log", tmp_path=tmp_path)
    assert axis(done) == ["0", "2", "4", "t"]
    assert "min 1e-08  max 1" in done.stdout
    found = notata("curve", place.url, "--series=residual", "-x", "t", "-y", "r", "--csv", folder=tmp_path).stdout
    assert [*csv.reader(io.StringIO(found))] == [
        ["run_id", "column", "t", "value"],
        *(["a", "r", repr(row["t"]), repr(row["r"])] for row in rows),
    ]


def test_a_logarithmic_axis_has_powers_of_ten_and_no_values_below_zero(place: Place, tmp_path: Path) -> None:
    for name in "ab":
        plant(place, name, ({"v": value} for value in (-5, 0, 1e-6, 1e-3, 1.0, 1e3)))
    done = curve(place.url, "-y", "v", "--log", tmp_path=tmp_path, width=40, height=12)
    *_, note = done.stdout.splitlines()
    assert note == "Note: values of 0 or less are not shown"
    labels = [float(row.partition("+")[0]) for row in done.stdout.splitlines()[1:-4] if re.match(r" *[\de.-]+\+", row)]
    assert labels == sorted(labels, reverse=True)
    assert all(math.log10(label).is_integer() for label in labels)
    cells = marked(done.stdout, "o")
    area = drawn(done.stdout)
    first = round(2 / 5 * (len(area[0]) - 1))  # the steps before have no logarithm
    assert min(cells) == (first, len(area) - 1)
    assert max(cells) == (len(area[0]) - 1, 0)
    assert curve(place.url, "-y", "v", tmp_path=tmp_path).stdout.count("Note") == 0


def test_a_logarithmic_axis_without_positive_values(place: Place, tmp_path: Path) -> None:
    for name in "ab":
        plant(place, name, ({"v": -value} for value in range(4)))
    done = curve(place.url, "-y", "v", "--log", tmp_path=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Note: values of 0 or less are not shown")
    assert {cell for row in drawn(done.stdout) for cell in row} == {" "}


# -- odd values ------------------------------------------------------------------------------------------------


def test_nan_and_infinities_are_gaps(place: Place, tmp_path: Path) -> None:
    odd = {3: "NaN", 6: "Infinity"}
    rows = [
        {"v": None, "nonfinite": {"v": odd[step]}} if step in odd else {"v": float(step)} for step in range(11)
    ]  # fmt: skip
    for name in "ab":
        plant(place, name, rows)
    done = curve(place.url, "-y", "v", tmp_path=tmp_path, width=53)
    area = drawn(done.stdout)
    across = [at for at in range(len(area[0])) if any(row[at] != " " for row in area)]
    place_of = [round(step / 10 * (len(area[0]) - 1)) for step in range(11)]
    for step in odd:
        assert place_of[step - 1] in across
        assert place_of[step + 1] in across
        assert not {*range(place_of[step - 1] + 1, place_of[step + 1])} & {*across}
    assert done.stdout.splitlines()[-1] == "o b  last 10  min 0  max inf"


def test_only_nan(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"v": None, "nonfinite": {"v": "NaN"}}] * 3)
    done = curve(place.url, "-y", "v", tmp_path=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "━━ a  last nan")


@pytest.mark.parametrize("values", [[0.25], [0.25, 0.25, 0.25], [0, 0], [-3, -3], [True, False]], ids=str)
def test_one_point_and_equal_values(values: list[float], place: Place, tmp_path: Path) -> None:
    for name in "ab":
        plant(place, name, ({"v": value} for value in values))
    done = curve(place.url, "-y", "v", tmp_path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row for _, row in marked(done.stdout, "o")}
    if len({*values}) == 1:
        assert rows == {(len(drawn(done.stdout)) - 1) // 2}
    assert f"last {float(values[-1]):.4g}" in done.stdout


@pytest.mark.parametrize(
    "name", ["\x1b]0;owned\x07", "a\nb\tc", "\u202eevil", "<b>[red]{x}%s", "x" * 3000, "日本" * 60]
)
def test_hostile_names_are_escaped_and_cut(name: str, place: Place, tmp_path: Path) -> None:
    local = Place("local", str(tmp_path / "runs"))
    plant(local, "a", ({name: number, "v": number} for number in range(3)), params={name[:200]: name})
    plant(local, "b", ({name: number, "v": number} for number in range(3)), params={name[:200]: "other"})
    for arguments in ((), ("-y", "*"), ("-y", "v", "-x", name[:200])):
        code, got = terminal("curve", local.url, *arguments, folder=tmp_path, columns=80)
        text = ANSI.sub("", got.decode()).replace("\r\n", "\n")
        assert not CONTROLS.search(text)
        assert code == (1 if len(name) > 200 and "-x" in arguments else 0)
        assert all(sum(1 + (ord(char) > 0x2FFF) for char in row) <= 80 for row in text.splitlines() if code == 0)
        assert len(text.splitlines()) < 60


def test_a_hostile_message_of_the_command_is_one_line(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"v\x1b[31m\n": "text\x1b"}])
    done = notata("curve", place.url, "-y", "v*", "-y", "v\x1b[31m\n", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert not CONTROLS.search(done.stderr)
    assert len(done.stderr.splitlines()) == 1


# -- what is not there -----------------------------------------------------------------------------------------


def test_a_run_without_the_column_is_left_out(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"loss": 1}, {"loss": 2}])
    plant(place, "b", [{"error": 1}, {"error": 2}])
    plant(place, "c", [{"r": 1}], "series/residual.jsonl")
    place.put("log_d/metadata.json", b"{broken")
    done = notata("curve", place.url, "-y", "loss", "--json", folder=tmp_path)
    assert [json.loads(row)["run_id"] for row in done.stdout.splitlines()] == ["a"]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_column_or_series_that_no_run_has(place: Place, tmp_path: Path) -> None:
    with Logbook("a", place.url) as log:
        log.scalars(loss=0.5, acc=0.1)
    column = notata("curve", place.url, "-y", "los", "-y", "loss", folder=tmp_path)
    assert column.returncode == 1
    assert column.stderr == (
        f"Error: the series 'scalars' of the runs at {place.url} has no column 'los'; it has 'acc', 'loss'\n"
    )
    assert "last 0.5" in column.stdout
    series = notata("curve", place.url, "--series", "residual", folder=tmp_path)
    assert (series.returncode, series.stdout) == (1, "")
    assert series.stderr == f"Error: no run at {place.url} has a series 'residual'; they have 'scalars'\n"
    with Logbook("only", f"{place.url}/other") as log:
        log.series("output").add(res=0.5)
    default = notata("curve", f"{place.url}/other", folder=tmp_path)
    assert default.stderr.endswith("they have 'output'. Name one of them (in the terminal, with --series)\n")
    nowhere = notata("curve", f"{place.url}/nowhere", folder=tmp_path)
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert re.fullmatch(r"Error: there is no run at .*\n", nowhere.stderr)


def test_rows_without_points_are_reported(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"loss": 1}, {"epoch": 1}, {"phase": "end"}])
    done = notata("curve", place.url, "-y", "loss", "-x", "epoch", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "No points: no row has a number in loss and in epoch\n"
    plant(place, "a", [{"phase": "end"}])
    done = notata("curve", place.url, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "No points: no row has a number in any column\n")
    text = notata("curve", place.url, "-y", "phase", folder=tmp_path)
    assert (text.returncode, text.stdout) == (2, "")
    assert text.stderr == (
        f"Error: the column 'phase' of the series 'scalars' of {place.url}/log_a contains text, not numbers\n"
    )
    plant(place, "b", [{"phase": 4}])
    text = notata("curve", place.url, "-y", "phase", "--csv", folder=tmp_path)
    assert (text.returncode, text.stdout.splitlines()[1:]) == (2, ["b,phase,0,4.0"])


def test_the_limit_counts_runs_that_have_the_series(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"r": 1}], "series/residual.jsonl")
    for name in "bc":
        plant(place, name, [{"v": 1}])
    done = notata("curve", place.url, "-n", "1", "--csv", folder=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[1:], done.stderr) == (0, ["b,v,0,1.0"], "")
    done = notata("curve", place.url, "--where", "run_id == 'a'", "--csv", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Note: no run that matches has a series 'scalars'\n"


def test_a_column_named_as_a_pattern_hides_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(place, "a", [{"*": 1, "v": 2}])
    following(monkeypatch)
    for arguments in ([], ["-f"]):
        done = notata("curve", place.url, "--csv", *arguments, folder=tmp_path)
        assert [*csv.reader(io.StringIO(done.stdout))][1:] == [["a", "*", "0", "1.0"], ["a", "v", "0", "2.0"]]


@pytest.mark.filterwarnings("default::notata.errors.DamagedFileWarning")
def test_lines_that_are_no_rows_are_reported_and_the_others_drawn(place: Place, tmp_path: Path) -> None:
    url = plant(place, "a", [{"v": 1}, {"v": 2}])
    place.put("log_a/series/scalars.jsonl", place.bytes("log_a/series/scalars.jsonl") + b"broken\n")
    done = notata("curve", url, "--csv", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["run_id,column,step,value", "a,v,0,1.0", "a,v,1,2.0"]
    assert done.stderr == f"Warning: {url}/series/scalars.jsonl has 1 line that is not a row; it was skipped\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--csv", "--json"], "--csv and --json cannot be combined"),
        (["--csv", "--log"], "--log, --width and --height apply to plots, not to --json and --csv"),
        (["--json", "--width", "80"], "--log, --width and --height apply to plots, not to --json and --csv"),
        (["--smooth", "1"], "'--smooth': 1.0 is not in the range 0<=x<1."),
        (["--width", "5"], "'--width': 5 is not in the range x>=20."),
        (["--where", "omega >"], "omega >"),
    ],
    ids=str,
)
def test_usage(arguments: list[str], told: str, place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 1}])
    done = notata("curve", place.url, *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


# -- for programs ----------------------------------------------------------------------------------------------


def test_json_and_csv_have_every_point_of_several_runs(place: Place, tmp_path: Path) -> None:
    rows = {
        name: [{"loss": seed / (1 + step), "acc": step} for step in range(50)] for name, seed in (("a", 1), ("b", 2))
    }
    for name, values in rows.items():
        plant(place, name, values, params={"omega": {"a": 1.0, "b": 2.0}[name]})
    done = notata("curve", place.url, "-y", "loss", "-y", "acc", "--json", folder=tmp_path)
    found = [json.loads(row) for row in done.stdout.splitlines()]
    assert [(one["run_id"], one["column"]) for one in found] == [
        ("a", "loss"),
        ("a", "acc"),
        ("b", "loss"),
        ("b", "acc"),
    ]
    for one in found:
        assert one["points"] == [[step, row[one["column"]]] for step, row in enumerate(rows[one["run_id"]])]
        assert (one["series"], one["x"], one["rank"], one["status"]) == ("scalars", "step", None, "complete")
        assert one["url"] == one["name"] == f"{place.url}/log_{one['run_id']}"
    text = notata("curve", place.url, "-y", "loss", "-y", "acc", "--csv", folder=tmp_path).stdout
    frame = pd.read_csv(io.StringIO(text))
    wide = frame.pivot_table(index=["run_id", "step"], columns="column", values="value")
    for name, values in rows.items():
        assert wide.loc[name, ["loss", "acc"]].to_numpy().tolist() == [[row["loss"], row["acc"]] for row in values]
    assert frame["step"].dtype == np.int64
    one = notata("curve", place.url, "-y", "loss", "--where", "omega > 1", "--csv", folder=tmp_path).stdout
    assert {row["run_id"] for row in csv.DictReader(io.StringIO(one))} == {"b"}
    first = notata("curve", place.url, "-y", "loss", "--sort", "omega", "-r", "-n", "1", "--csv", folder=tmp_path)
    assert {row["run_id"] for row in csv.DictReader(io.StringIO(first.stdout))} == {"b"}


def test_steps_are_exact(place: Place, tmp_path: Path) -> None:
    steps = [2**53 + 1, 1764323213123456789, 1764323213123456790, 2**63 - 1]
    plant(place, "a", [{"step": step, "v": 1.5} for step in steps])
    rows = notata("curve", place.url, "--csv", folder=tmp_path).stdout.splitlines()
    assert rows[1:] == [f"a,v,{step},1.5" for step in steps]
    (line,) = notata("curve", place.url, "--json", folder=tmp_path).stdout.splitlines()
    assert json.loads(line)["points"] == [[step, 1.5] for step in steps]
    picture = curve(place.url, tmp_path=tmp_path)
    assert (picture.returncode, picture.stderr) == (0, "")


def test_csv_of_runs_with_the_same_id_has_their_names(place: Place, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 1}])
    plant(Place("memory", f"{place.url}/x"), "a", [{"v": 2}])
    text = notata("curve", place.url, "--csv", folder=tmp_path).stdout
    assert [(row["name"], row["value"]) for row in csv.DictReader(io.StringIO(text))] == [
        (f"{place.url}/log_a", "1.0"),
        (f"{place.url}/x/log_a", "2.0"),
    ]


def test_nan_in_json_and_csv(place: Place, tmp_path: Path) -> None:
    plant(
        place,
        "a",
        [{"v": 1.0}, {"v": None, "nonfinite": {"v": "NaN"}}, {}, {"v": None, "nonfinite": {"v": "-Infinity"}}],
    )
    done = notata("curve", place.url, "--json", folder=tmp_path)
    assert json.loads(done.stdout)["points"] == [[0, 1.0], [1, None], [3, None]]
    text = notata("curve", place.url, "--csv", folder=tmp_path).stdout
    assert text.splitlines()[1:] == ["a,v,0,1.0", "a,v,1,nan", "a,v,3,-inf"]


def test_smoothing_is_an_average_without_the_bias_of_its_start(place: Place, tmp_path: Path) -> None:
    values = np.random.default_rng(7).normal(size=200)
    plant(place, "a", ({"v": value} for value in values.tolist()))
    done = notata("curve", place.url, "--smooth", "0.9", "--json", folder=tmp_path)
    found = np.array(json.loads(done.stdout)["points"])[:, 1]
    assert np.allclose(found, pd.Series(values).ewm(alpha=0.1, adjust=True).mean(), rtol=1e-9)
    plain = notata("curve", place.url, "--smooth", "0", "--json", folder=tmp_path)
    assert json.loads(plain.stdout)["points"] == [[step, value] for step, value in enumerate(values.tolist())]


# -- runs that grow --------------------------------------------------------------------------------------------


class Stop(Exception):
    """A wait without a further step."""


def following(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> list[float]:
    """Let each wait of ``curve -f`` run the next step instead of sleeping; return the pauses."""
    left, waited = [*steps], []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if not left:
            raise Stop
        left.pop(0)()

    monkeypatch.setattr("notata.search.watching.CurveWatcher", partial(CurveWatcher, wait=wait))
    return waited


def add(place: Place, run_id: str, rows: Iterable[Mapping[str, object]], key: str = "series/scalars.jsonl") -> None:
    """Append rows by plain fsspec, with steps that continue, in the file of a run."""
    path = f"log_{run_id}/{key}"
    before = place.bytes(path) if place.raw().exists(f"{place.url}/{path}") else b""
    start = before.count(b"\n")
    new = ({"step": start + number, "time": BEGAN, **row} for number, row in enumerate(rows))
    place.put(path, before + "".join(f"{json.dumps(row)}\n" for row in new).encode())


def both(one: Callable[[], object], other: Callable[[], object]) -> Callable[[], object]:
    return lambda: (one(), other())


def end(place: Place, run_id: str, status: str = "complete", **fields: str) -> Callable[[], object]:
    data = json.dumps({"run_id": run_id, "status": status, **fields}).encode()
    return lambda: place.put(f"log_{run_id}/metadata.json", data)


def test_rows_that_are_added_are_printed_until_the_runs_have_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in "ab":
        plant(place, name, [{"v": 0}, {"v": 1}], status="initialized")
    waited = following(
        monkeypatch,
        lambda: add(place, "a", [{"v": 2}]),
        lambda: None,
        both(lambda: add(place, "b", [{"v": 2}, {"v": 3}]), end(place, "a")),
        lambda: None,
        end(place, "b", "failed", failure_reason="diverged"),
    )
    done = notata("curve", "-f", place.url, "-y", "v", "--csv", "--interval", "4", folder=tmp_path)
    assert [*csv.reader(io.StringIO(done.stdout))] == [
        ["run_id", "column", "step", "value"],
        ["a", "v", "0", "0.0"], ["a", "v", "1", "1.0"], ["b", "v", "0", "0.0"], ["b", "v", "1", "1.0"],
        ["a", "v", "2", "2.0"],
        ["b", "v", "2", "2.0"], ["b", "v", "3", "3.0"],
    ]  # fmt: skip
    assert done.returncode == 1  # one has failed
    assert done.stderr.splitlines()[-2:] == [f"{place.url}/log_a: complete", f"{place.url}/log_b: failed: diverged"]
    assert waited[:3] == [4.0, 4.0, 6.0]
    assert max(waited) <= 40


def test_all_runs_complete(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 0}], status="initialized")
    following(monkeypatch, both(lambda: add(place, "a", [{"v": 1}]), end(place, "a")), lambda: None)
    done = notata("curve", "-f", place.url, "--json", folder=tmp_path)
    assert [json.loads(row)["points"] for row in done.stdout.splitlines()] == [[[0, 0.0]], [[1, 1.0]]]
    assert (done.returncode, done.stderr) == (0, f"{place.url}/log_a: complete\n")


def test_a_pipe_gets_one_picture_at_the_end(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 0}], status="initialized")
    following(monkeypatch, lambda: add(place, "a", [{"v": 7}]), end(place, "a"))
    done = curve("-f", place.url, "-y", "v", tmp_path=tmp_path)
    assert done.stdout.count("last") == 1
    assert "last 7" in done.stdout


def test_a_terminal_replaces_the_picture(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a process of its own the terminal is tested above; here each wait is a step."""
    monkeypatch.setattr("notata.cli.output.is_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    plant(place, "a", [{"v": 0}, {"v": 1}], status="initialized")
    following(monkeypatch, lambda: add(place, "a", [{"v": 7}]), end(place, "a"))
    done = CliRunner().invoke(main, ["curve", "-f", place.url, "-y", "v", "--width=40", "--height=8"], color=True)
    first, *later = re.split(r"\x1b\[(\d+)F\x1b\[J", done.stdout)
    assert [*map(len, (first.splitlines(), later[1].splitlines()))] == [9, 9]
    assert later[0] == "9"  # the cursor moves up by the rows of the first picture


@pytest.mark.parametrize("columns", [10, 20, 33, 50])
def test_a_narrow_terminal_has_no_rows_that_it_breaks(
    columns: int, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The cursor moves up by the rows that the terminal shows, and the legend takes one row for each curve."""
    monkeypatch.setattr("notata.cli.output.is_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "100")
    names = ("a_rather_long_run_name", "\u6a21" * 30)
    for name in names:
        plant(place, name, [{"v": -1.2345e-10}, {"v": 0}], status="initialized")
    ends = both(end(place, names[0]), end(place, names[1]))
    following(monkeypatch, lambda: add(place, names[0], [{"v": 7}]), ends)
    done = CliRunner().invoke(main, ["curve", "-f", place.url, "-y", "v", "--height=8", "--log"], color=True)
    first, up, second = re.split(r"\x1b\[(\d+)F\x1b\[J", done.stdout)
    widths = [cell_len(ANSI.sub("", row)) for row in first.splitlines()]
    assert int(up) == sum(math.ceil(width / columns) for width in widths)
    legend = [ANSI.sub("", row) for row in second.splitlines() if "━━" in row]
    assert [row[3] for row in legend] == ["a", "\u6a21"]
    assert max(map(cell_len, legend)) <= columns
    assert ("last" in legend[0]) is (columns >= 33)


def test_a_column_with_texts_is_reported_once(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(place, "a", [{"v": "x"}], status="initialized")
    plant(place, "b", [{"v": 1}], status="initialized")
    following(monkeypatch, lambda: add(place, "b", [{"v": 2}]), both(end(place, "a"), end(place, "b")))
    done = notata("curve", "-f", place.url, "-y", "v", "--csv", folder=tmp_path)
    assert done.stdout.splitlines()[1:] == ["b,v,0,1.0", "b,v,1,2.0"]
    assert done.stderr.count("contains text, not numbers") == 1


def test_a_resumed_run_is_printed_from_its_start_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(place, "a", [{"v": 0}, {"v": 1}, {"v": 2}], status="initialized")
    again = json.dumps({"step": 1, "time": BEGAN, "try": 1, "v": 10}) + "\n"

    def resumed() -> None:
        place.put("log_a/series/scalars.jsonl", place.bytes("log_a/series/scalars.jsonl") + again.encode())

    following(monkeypatch, resumed, end(place, "a"))
    done = notata("curve", "-f", place.url, "--json", folder=tmp_path)
    points = [json.loads(row)["points"] for row in done.stdout.splitlines()]
    assert points == [[[0, 0.0], [1, 1.0], [2, 2.0]], [[0, 0.0], [1, 10.0]]]


def test_a_series_and_a_worker_that_come_later_and_a_file_that_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(place, "a", [{"r": 0}, {"r": 1}], "series/residual.jsonl", status="initialized")
    following(
        monkeypatch,
        lambda: add(place, "a", [{"v": 5}]),
        lambda: add(place, "a", [{"v": 6}], "workers/3/series/scalars.jsonl"),
        lambda: None,
        lambda: place.put("log_a/series/scalars.jsonl", b'{"step": 0, "time": 1.0, "v": 1}\n'),
        end(place, "a"),
    )
    done = notata("curve", "-f", place.url, "--workers", "--json", folder=tmp_path)
    assert [(one["rank"], one["points"]) for one in map(json.loads, done.stdout.splitlines())] == [
        (None, [[0, 5.0]]),
        ("3", [[0, 6.0]]),
        (None, [[0, 1.0]]),
    ]
    assert f"{place.url}/log_a/series/scalars.jsonl was replaced by another file, which begins here" in done.stderr


def test_half_a_row_is_left_for_later(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 0}], status="initialized")
    whole = place.bytes("log_a/series/scalars.jsonl") + b'{"step": 1, "time": 1.0, "v": 12}\n'
    following(
        monkeypatch,
        lambda: place.put("log_a/series/scalars.jsonl", whole[:-4]),
        lambda: place.put("log_a/series/scalars.jsonl", whole),
        end(place, "a"),
    )
    done = notata("curve", "-f", place.url, "--csv", folder=tmp_path)
    assert done.stdout.splitlines()[1:] == ["a,v,0,0.0", "a,v,1,12.0"]


def test_runs_that_ended_are_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(place, "a", [{"v": 1}])
    plant(place, "b", [{"v": 1}], status="failed", failure_reason="why\x1b[2J")
    waited = following(monkeypatch)
    done = notata("curve", "-f", place.url, "--csv", folder=tmp_path)
    assert (waited, done.returncode, done.stdout.count("\n")) == ([], 1, 3)
    assert not CONTROLS.search(done.stderr)
    assert notata("curve", "-f", place.url, "--status", "complete", "--csv", folder=tmp_path).returncode == 0
    assert notata("curve", "-f", place.url, "--status", "died", "--csv", folder=tmp_path).returncode == 1


# -- the axis itself -------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["number", "log", "seconds", "time"]),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5),
    st.integers(2, 12),
)
def test_any_values_give_ticks_inside_the_axis(kind: Kind, values: list[float], most: int) -> None:
    with np.errstate(over="raise", invalid="raise"):
        axis = Axis.of(kind, [np.array(values, np.float64)])
        ticks = axis.ticks(most)
    assert axis.low < axis.high
    assert all(-1e-6 <= at <= 1 + 1e-6 for at, _ in ticks)
    assert len(ticks) <= 3 * most + 3
    assert all(0 < len(label) < 24 for _, label in ticks)
