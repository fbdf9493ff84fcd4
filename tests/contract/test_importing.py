"""Imports from and to every backend: the same files everywhere, and as many requests as the documentation says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notata.importing import ImportReport, import_runs
from notata.store.files import PART
from tests.backends import Place
from tests.counting import counted
from tests.importing.sources import files_of, on_disk


def imported(place: Place, source: object, kind: str = "sacred", **options: bool) -> ImportReport:
    options_there = {"destination_options": place.options, **options}
    return import_runs(kind, source, f"{place.url}/to", **options_there)  # type: ignore[arg-type]


def test_the_files_are_the_same_everywhere(place: Place, tmp_path: Path) -> None:
    source = on_disk("sacred", tmp_path / "from")
    report = imported(place, source)
    assert len(report.new) == 3
    import_runs("sacred", source, tmp_path / "to")
    wanted = {str(path.relative_to(tmp_path)) for path in (tmp_path / "to").rglob("*") if path.is_file()}
    found = place.files()
    assert found.keys() == wanted
    same = [name for name in wanted if not name.endswith(("/metadata.json", "/manifest.json", "/index.csv"))]
    assert len(same) > 10
    assert {name: found[name] for name in same} == {name: (tmp_path / name).read_bytes() for name in same}
    again = imported(place, source)
    assert (len(again.equal), again.new) == (3, ())


def test_a_source_can_be_anywhere(place: Place) -> None:
    place.fill({f"from/{path}": data for path, data in files_of("mlruns").items()})
    report = import_runs(
        "mlruns", f"{place.url}/from", "memory://to", source_options=place.options, deleted=True, update=True
    )
    assert len(report.new) == 5
    assert len(import_runs("mlruns", f"{place.url}/from", "memory://to", source_options=place.options).equal) == 4


@pytest.mark.usefixtures("stopped_clock")
def test_a_run_takes_five_requests_and_one_for_each_series_and_file(bucket: Place, tmp_path: Path) -> None:
    source = on_disk("sacred", tmp_path / "from")
    imported(bucket, source)  # the first import also tests what the bucket supports
    for number in range(4, 8):
        folder = source / f"sacred/{number}"
        folder.mkdir()
        for name in ("run.json", "config.json", "metrics.json"):
            (folder / name).write_bytes((source / f"sacred/1/{name}").read_bytes())
    with counted() as sent:
        assert len(imported(bucket, source).new) == 4
    each = 7  # claim, parameters, metrics, the series, the source file, the manifest, the end
    there = 2 + 3  # a listing of the runs of each experiment, and a read of each run that was there
    assert 4 * each + there + 2 <= len(sent) <= 4 * each + there + 4, sent  # the index is written once or twice


def test_a_conflict_is_an_error_of_one_run(place: Place, tmp_path: Path) -> None:
    source = on_disk("sacred", tmp_path / "from")
    place.fill({"to/decay/runs/log_1/metadata.json": json.dumps({"run_id": "1", "status": "complete"}).encode()})
    errors: list[Exception] = []
    report = import_runs("sacred", source, f"{place.url}/to", destination_options=place.options, failed=errors.append)
    assert (len(report.new), len(errors)) == (2, 1)
    assert isinstance(errors[0], FileExistsError)


def test_large_files_and_series_are_streamed(bucket: Place, tmp_path: Path) -> None:
    source = on_disk("sacred", tmp_path / "from")
    size = 2 * PART + 7
    (source / "sacred/1/large.bin").write_bytes(bytes(size))
    values = {
        "steps": [*range(20_000)],
        "timestamps": ["2026-03-01T09:30:00.123"] * 20_000,
        "values": [0.5] * 20_000,
    }
    (source / "sacred/1/metrics.json").write_text(json.dumps({"loss": values}))
    imported(bucket, source)
    fs = bucket.raw()
    assert fs.info(f"{bucket.url}/to/decay/runs/log_1/artifacts/large.bin")["size"] == size
    lines = fs.cat_file(f"{bucket.url}/to/decay/runs/log_1/series/scalars.jsonl").splitlines()
    assert len(lines) == 20_000
    assert json.loads(lines[-1]) == {"step": 19_999, "time": 1772357400.123, "loss": 0.5}
