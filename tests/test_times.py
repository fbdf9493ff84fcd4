"""Times in a run folder may be any text; no reader crashes."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import LogReader, NotataError, RunLog, search
from notata._base.times import moment, now
from tests.backends import Place

ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXTS = st.one_of(
    st.datetimes(timezones=st.none() | ZONES).map(datetime.isoformat), st.text(), st.none(), st.integers(), st.floats()
)


@given(TEXTS, TEXTS)
def test_two_moments_have_a_difference_in_any_zone(one: object, other: object) -> None:
    first, second = moment(one), moment(other)
    if first is not None and second is not None:
        assert second + (first - second) == first
        assert first.astimezone(timezone(timedelta(hours=23))).timestamp() == first.timestamp()


def test_a_time_is_read_as_it_is_written() -> None:
    written = now()
    assert moment(written) == datetime.fromisoformat(written) == moment(written[:23])


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "9999-12-31", "then", 7]
)
@pytest.mark.parametrize("field", ["created", "start_time", "end_time", "beat"])
def test_an_impossible_time_in_a_run_breaks_no_reader(tmp_path: Path, field: str, time: object) -> None:
    place = Place("local", str(tmp_path))
    log = place.logbook()
    log.json("values", [1, 2])
    log.mark_complete()
    name = f"log_run/{'manifest' if field == 'created' else 'metadata'}.json"
    document = json.loads(place.bytes(name))
    (document["lease"] if field == "beat" else document)[field] = time
    if field == "beat":
        document["status"] = "initialized"
    place.put(name, json.dumps(document).encode())
    place.logbook("other").mark_complete()
    search.compare(f"{place.url}/log_run", f"{place.url}/log_other")
    reader = LogReader(f"{place.url}/log_run")
    with suppress(NotataError):  # a manifest with such a time is damaged; a run that is still written has no manifest
        reader.verify()
    assert {run.run_id for run in search.runs(place.url)} == {"run", "other"}
    assert reader.load_json("values") == [1, 2]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_impossible_time_begins_no_line_of_a_log(time: str) -> None:
    line = f"[{time}] INFO late"
    assert [(each.time, each.utc, each.message) for each in RunLog(line)] == [(None, None, line)]
