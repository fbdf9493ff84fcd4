"""Requests of `notata run` and `notata put` in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notata.program import record
from tests.backends import Place
from tests.command import notata
from tests.counting import counted

pytestmark = [pytest.mark.parametrize("place", ["s3", "gcs"], indirect=True), pytest.mark.usefixtures("stopped_clock")]


def test_a_short_program_costs_what_a_run_costs_and_one_request_for_its_output(place: Place) -> None:
    place.logbook("warm").mark_complete()  # the first run of a process tests conditional writes
    with counted() as sent:
        record(["echo", "v = 1"], place.url, run_id="a", storage_options=place.options, params={"n": 1},
               series=[r"v = (?P<v>\d)"], echo=False)  # fmt: skip
    assert len(sent) == 8, "\n".join(sent)  # claim, parameters, output, series, log, listing, manifest, end


def test_put_costs_few_requests(place: Place, tmp_path: Path) -> None:
    log = place.logbook(heartbeat=0)
    options = [word for name, value in place.options.items() for word in ("-o", f"{name}={json.dumps(value)}")]
    (tmp_path / "a.txt").write_text("x")
    seen: list[str] = []

    def requests(*arguments: str) -> int:
        with counted() as sent:
            done = notata("put", *options, *arguments, folder=tmp_path, NOTATA_RUN=log.url)
        assert done.returncode == 0, done.stderr
        seen.append(f"{arguments}")
        seen.extend(sent)
        return len(sent)

    requests("a.txt")  # the first worker of the run is noted in its metadata
    found = {
        "file": requests("a.txt"),
        "metric": requests("-m", "error=1"),
        "row": requests("-s", "r=1", "--step", "1"),
        "next row": requests("-s", "r=1"),
    }
    # The run; the value; for files and metrics four for the manifest, which an earlier process has stored.
    assert found == {"file": 6, "metric": 7, "row": 3, "next row": 3}, "\n".join(seen)
