"""Other programs read the file of a series as it is, by the calls that ``docs/reference/folder.md`` shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import jq  # type: ignore[import-not-found]
import pandas as pd
import polars as pl
import pyarrow.json
import pytest

from notata import Logbook
from notata.store import open_store
from tests.far import FarBackend

COUNT = 21_000  # more than the rows by which DuckDB decides on types by default
LATE = 20_600  # the first row with fractions, and with the column `late`
AGAIN = 20_990  # the first row of the second attempt
SPECIAL = {3: math.nan, 4: math.inf, 5: -math.inf}
TEXTS = ["é ü", 'a "quoted" text\nof two lines', "2026-11-28"]


def loss(step: int) -> float:
    return SPECIAL.get(step, step if step < LATE else step + 0.5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series with NaN, infinities, a column that comes late, integers before fractions, texts, and two attempts."""
    folder = tmp_path_factory.mktemp("series")
    base = FarBackend(open_store(str(folder)))  # rows are collected, which is faster
    for steps in (range(COUNT), range(AGAIN, COUNT)):
        log = Logbook("run", base, resume=True, environment=False, heartbeat=0)
        for step in steps:
            late = {"late": step / 4, "is_late": True} if step >= LATE else {}
            log.scalars(step=step, loss=loss(step), phase=TEXTS[step % 3], **late)
        log.mark_failed("on purpose")
    return folder / "log_run" / "series" / "scalars.jsonl"


def check(losses: Iterable[Any], late: Iterable[Any], flags: Iterable[Any], texts: Iterable[Any]) -> None:
    """Check the columns of all rows; a missing value is None or NaN."""
    steps = [*range(COUNT), *range(AGAIN, COUNT)]
    assert [given(value) for value in losses] == [None if step in SPECIAL else loss(step) for step in steps]
    assert [given(value) for value in late] == [step / 4 if step >= LATE else None for step in steps]
    assert [given(value) for value in flags] == [True if step >= LATE else None for step in steps]
    assert list(texts) == [TEXTS[step % 3] for step in steps]


def given(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def test_pandas(path: Path) -> None:
    frame = pd.read_json(path, lines=True)
    check(frame["loss"], frame["late"], frame["is_late"], frame["phase"])
    assert frame["nonfinite"].dropna().to_dict() == {
        3: {"loss": "NaN"}, 4: {"loss": "Infinity"}, 5: {"loss": "-Infinity"},
    }  # fmt: skip
    assert frame["try"].dropna().tolist() == [1.0] * (COUNT - AGAIN)


@pytest.mark.parametrize("how", ["read", "scan"])
def test_polars(path: Path, how: str) -> None:
    if how == "read":
        frame = pl.read_ndjson(path, infer_schema_length=None)
    else:
        frame = pl.scan_ndjson(path, infer_schema_length=None).collect()
    check(frame["loss"], frame["late"], frame["is_late"], frame["phase"])
    special = frame["nonfinite"].struct.field("loss")
    assert special.drop_nulls().to_list() == ["NaN", "Infinity", "-Infinity"]
    assert frame["try"].drop_nulls().to_list() == [1] * (COUNT - AGAIN)


def test_duckdb(path: Path) -> None:
    rows = duckdb.read_json(str(path), sample_size=-1).select("loss", "late", "is_late", "phase", "try").fetchall()
    losses, late, flags, texts, attempts = zip(*rows, strict=True)
    check(losses, late, flags, texts)
    assert [attempt for attempt in attempts if attempt is not None] == [1] * (COUNT - AGAIN)
    query = f"select coalesce(loss, nonfinite.loss::double) from read_json('{path}', sample_size = -1) limit 6"
    first = [value for (value,) in duckdb.sql(query).fetchall()]
    assert math.isnan(first.pop(3))
    assert first == [0, 1, 2, math.inf, -math.inf]


def test_pyarrow(path: Path) -> None:
    table = pyarrow.json.read_json(path)
    check(*(table[name].to_pylist() for name in ("loss", "late", "is_late", "phase")))
    assert table["nonfinite"].combine_chunks().field("loss").drop_null().to_pylist() == ["NaN", "Infinity", "-Infinity"]


def test_jq(path: Path) -> None:
    text = path.read_text()
    found = jq.compile("[.loss, .late, .is_late, .phase]").input_text(text).all()
    check(*zip(*found, strict=True))
    special = jq.compile("select(.nonfinite) | [.step, .nonfinite.loss]").input_text(text).all()
    assert special == [[3, "NaN"], [4, "Infinity"], [5, "-Infinity"]]
