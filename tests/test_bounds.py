"""Size limits of what notata reads by itself; writers respect them, so everything stored can be read again."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tracemalloc
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from notata import (
    DamagedFileWarning,
    DecodeError,
    EncodeError,
    Experiment,
    ExperimentReader,
    Logbook,
    LogReader,
    NotataError,
    RunLog,
    StorageError,
    TooLargeError,
    search,
)
from notata._base import limits
from notata.formats import NPZ, PARQUET, decode, encode
from notata.formats.pickle_facts import pickle_facts
from notata.manifest import Document, HashingBackend, ManifestWriter
from notata.manifest.document import Receipt
from notata.store import Store, open_store
from tests.tools import fuzz


def run_of(**params: Any) -> str:
    """Return the folder of a complete run in memory."""
    with Logbook("run", f"memory://{uuid.uuid4().hex}", params=params or None) as log:
        log.json("metrics", {"error": 0.5})
    return log.url


def put(url: str, data: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(url.removeprefix("memory:/"), data)


def got(url: str) -> bytes:
    data: bytes = fsspec.filesystem("memory").cat_file(url.removeprefix("memory:/"))
    return data


# -- files that are read whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["metadata.json", "params.yaml", "params.json", "manifest.json"])
def test_a_file_beyond_its_limit_is_refused_with_what_to_do(key: str) -> None:
    run = run_of(dt=0.1)
    limit = {"metadata.json": limits.METADATA, "manifest.json": limits.MANIFEST}.get(key, limits.PARAMS)
    reader = LogReader(run)
    put(f"{run}/{key}", bytes(limit + 1))
    if key == "params.json":
        fsspec.filesystem("memory").rm(f"{run}/params.yaml".removeprefix("memory:/"))
    with pytest.raises(TooLargeError) as caught:
        reader.verify() if key == "manifest.json" else reader.params if "params" in key else reader.meta
    error = caught.value
    assert isinstance(error, DecodeError)
    assert isinstance(error, StorageError)
    assert (error.url, error.key) == (run, key)
    size = {8 * 2**20: "8.4 MB", 256 * 2**20: "268.4 MB"}[limit]
    assert str(error) == (
        f"cannot read {run}/{key}: its size is {size}, and the limit for this file is {size}. It may be damaged or "
        f"forged; to read its bytes in pieces, use reader[{key!r}].open('rb')"
    )


def test_a_huge_file_on_a_disk_is_not_read_to_find_its_size(tmp_path: Path) -> None:
    with Logbook("run", tmp_path, params={"dt": 0.1}) as log:
        log.text("notes", "a")
    reader = LogReader(log.url)
    for key in ("metadata.json", "params.yaml", "manifest.json", "log.txt"):
        with open(tmp_path / "log_run" / key, "r+b") as file:
            file.truncate(3 * 2**30)  # sparse
    tracemalloc.start()
    try:
        for read in (lambda: reader.meta, lambda: reader.params, lambda: reader.log, lambda: str(reader)):
            with pytest.raises(TooLargeError):
                read()
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_what_a_user_asks_for_has_no_limit() -> None:
    run = run_of()
    data = b'"%s"' % (b"a" * (limits.METADATA + 10))
    for key in ("artifacts/metadata.json", "artifacts/params.json"):
        put(f"{run}/{key}", data)
    assert len(LogReader(run).load_json("metadata")) == len(data) - 2
    assert LogReader(run)["artifacts/params.json"].read_bytes() == data


def test_an_unreadable_run_is_reported_and_the_others_are_listed() -> None:
    base = f"memory://{uuid.uuid4().hex}"
    for name in ("a", "b"):
        Logbook(name, base, params={"dt": 0.1}).mark_complete()
    put(f"{base}/log_a/metadata.json", bytes(limits.METADATA + 1))
    problems: list[NotataError] = []
    found = search.runs(base, failed=problems.append)
    assert [(run.run_id, run.status) for run in found] == [("a", "unreadable"), ("b", "complete")]
    assert [type(problem) for problem in problems] == [TooLargeError]
    put(f"{base}/log_a/params.yaml", bytes(limits.PARAMS + 1))
    assert [row.get("dt") for row in search.table(base, failed=problems.append)] == [None, 0.1]


def test_a_run_whose_metadata_is_too_large_can_be_removed_and_replaced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Logbook(name, tmp_path).mark_complete()
        with open(tmp_path / f"log_{name}" / "metadata.json", "r+b") as file:
            file.truncate(3 * 2**30)
    with pytest.raises(TooLargeError):
        Logbook("a", tmp_path, resume=True)
    with Logbook("a", tmp_path, overwrite=True):
        pass
    assert LogReader(tmp_path / "log_a").state.status == "complete"
    (removal,) = search.remove(tmp_path / "log_b")
    assert removal.error is None
    assert not (tmp_path / "log_b").exists()


# -- writers -------------------------------------------------------------------------------------------------


def test_metadata_that_could_not_be_read_again_is_refused() -> None:
    with Logbook("run", f"memory://{uuid.uuid4().hex}") as log:
        with pytest.raises(EncodeError, match=r"metadata\.json: its size would be 8\.4 MB, and the limit is 8\.4 MB"):
            log.meta(comment="a" * limits.METADATA)
        log.meta(comment="short")
    assert LogReader(log.url).meta["comment"] == "short"
    assert LogReader(log.url).state.status == "complete"


def test_parameters_that_could_not_be_read_again_are_refused() -> None:
    log = Logbook("run", f"memory://{uuid.uuid4().hex}", params={"dt": 0.1})
    with pytest.raises(EncodeError, match=r"params\.yaml: its size would be .* Store large values as artifacts"):
        log.params(text="a" * limits.PARAMS)
    with pytest.raises(
        EncodeError, match=r"cannot store params, because they could not be read back: .* more than 500,000 values"
    ):
        log.params(values=list(range(limits.VALUES)))
    with pytest.raises(EncodeError, match=r"params\.json: its size would be"):
        log.params(ext="json", text="a" * limits.PARAMS)
    with pytest.raises(
        EncodeError, match=r"cannot store params, because they could not be read back: this JSON has more than"
    ):
        log.params(ext="json", values=list(range(limits.VALUES)))
    assert dict(log.params) == LogReader(log.url).params == {"dt": 0.1}
    with pytest.raises(EncodeError):
        Logbook("other", f"memory://{uuid.uuid4().hex}", params={"text": "a" * limits.PARAMS})


def test_large_parameters_are_left_out_of_metadata_and_are_in_the_table() -> None:
    experiment = Experiment("sweep", f"memory://{uuid.uuid4().hex}")
    with experiment.add(dt=0.1) as run:
        run.params(dt=0.1, text="a" * (limits.ROW_PARAMS + 1))
        url = run.url
    assert len(got(f"{url}/metadata.json")) < 2**16
    assert "params" not in json.loads(got(f"{url}/metadata.json"))["row"]
    (row,) = ExperimentReader(experiment.url).table()
    assert len(row["text"]) == limits.ROW_PARAMS + 1


def test_a_long_reason_of_a_failure_is_cut_off_and_whole_in_the_traceback() -> None:
    text = "a" * (limits.METADATA + 1)
    base = f"memory://{uuid.uuid4().hex}"
    with pytest.raises(ValueError, match="aaa"), Logbook("run", base):
        raise ValueError(text)
    reason = LogReader(f"{base}/log_run").meta["failure_reason"]
    assert reason.endswith("aaa… (8388609 characters)")
    assert len(reason) < 2**13
    assert text in LogReader(f"{base}/log_run").load_text("debug/traceback")


def test_values_of_which_there_are_too_many_are_not_read() -> None:
    run = run_of()
    many = b'{"x": [' + b"{}," * limits.VALUES + b"1]}"
    put(f"{run}/params.json", many)
    put(f"{run}/artifacts/metrics.json", many)
    with pytest.raises(DecodeError, match=r"params\.json: this JSON has more than 500,000 values"):
        assert LogReader(run).params
    assert search.show(run).problems == ()
    (row,) = search.table(run)
    assert row["metrics_error"] == (
        "params.json: this JSON has more than 500,000 values; artifacts/metrics.json has more than 500,000 values, "
        "which is too many for a table"
    )


# -- manifests -----------------------------------------------------------------------------------------------


def test_a_long_manifest_is_read_in_blocks_of_lines() -> None:
    files = {f"data/é{number}.npy": Receipt(number, bytes(32), '"9f"') for number in range(20_000)}
    document = Document("a", "5a1f", datetime.fromisoformat("2026-03-01T09:30:00+01:00"), files)
    data = document.encode("etag")
    assert len(data) > 2 * 2**20
    read = Document.parse(data)
    assert {key: receipt.size for key, receipt in read.files.items()} == {key: one.size for key, one in files.items()}
    assert (read.run_id, read.owner, read.created) == ("a", "5a1f", document.created)
    assert {key: vars_of(one) for key, one in read.files.items()} == {
        key: (told["size"], told.get("sha256"), told.get("etag")) for key, told in json.loads(data)["files"].items()
    }
    for damaged in (
        data[:-3],
        data.replace(b'"size": 7,', b'"size": "7",'),
        data.replace(b"\n", b" "),
        b"[" * len(data),
    ):
        with pytest.raises(ValueError, match=r".+"):
            Document.parse(damaged)


def test_of_too_many_files_no_manifest_is_stored(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    noting = HashingBackend(store.backend)
    for name in ("a", "b", "c"):
        Store(noting).write(name, b"")
    ManifestWriter(Store(noting), noting.records, "run", "5a1f", most_files=2).write()
    assert [entry.key for entry in store.list()] == ["a", "b", "c"]
    assert caplog.messages == [
        "notata: cannot store the manifest of run run: 3 files exceed the size limit of manifest.json, so the run "
        "cannot be verified"
    ]
    ManifestWriter(Store(noting), noting.records, "run", "5a1f", most_files=3).write()
    assert [entry.key for entry in store.list()] == ["a", "b", "c", "manifest.json"]


def vars_of(receipt: Receipt) -> tuple[int, str, str]:
    return receipt.size, receipt.sha256.hex(), receipt.version


# -- index.csv -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "cells"])
def test_an_index_that_is_too_large_is_not_used(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INDEX_CELLS", 40_000)
    experiment = Experiment("sweep", f"memory://{uuid.uuid4().hex}")
    with experiment.add(dt=0.1):
        pass
    header = b"run_id,%s,status,revision\n" % b",".join(b"p%d" % number for number in range(1000))
    values = b",".join([b"1"] * 1000)
    rows = b"".join(b"r%d,%s,complete,\n" % (number, values) for number in range(41))
    index = f"{experiment.url}/index.csv"
    put(index, bytes(limits.INDEX + 1) if kind == "bytes" else header + rows)
    told = "its size is 67.1 MB" if kind == "bytes" else "more than 40,000 values"
    with pytest.warns(DamagedFileWarning, match=told):
        assert [row["dt"] for row in ExperimentReader(experiment.url).table()] == [0.1]
    problems: list[NotataError] = []
    with experiment.add(dt=0.2):
        pass
    assert sorted(row["dt"] for row in search.table(experiment.url, failed=problems.append)) == [0.1, 0.2]
    assert [told in str(problem) for problem in problems] == [True]
    with pytest.warns(DamagedFileWarning, match=told), pytest.raises(TooLargeError, match=told):
        experiment.write_index()


# -- lines ---------------------------------------------------------------------------------------------------


def test_the_end_of_a_line_that_never_begins_is_shown(tmp_path: Path) -> None:
    with Logbook("run", tmp_path):
        pass
    log = tmp_path / "log_run" / "log.txt"
    log.write_bytes(b"a" * 40 * 2**20 + b"the end")
    (line,) = search.tail(tmp_path / "log_run")
    assert line.endswith("athe end")
    assert len(line) <= 2 * limits.LINE_SHOWN
    log.write_bytes(b"first\n" + b"b" * 2**20 + b"\n")
    assert list(map(len, search.tail(tmp_path / "log_run"))) == [5, 2**20]


def test_a_file_with_a_line_that_is_too_long_is_reported(tmp_path: Path) -> None:
    with Logbook("run", tmp_path) as log:
        log.text("notes", "needle")
        (tmp_path / "log_run/artifacts/long.txt").write_bytes(b"needle\n" + b"a" * (limits.LINE + 2**21))
        (tmp_path / "log_run/artifacts/zeros.txt").write_bytes(bytes(limits.LINE + 2**21) + b"needle")
    problems: list[NotataError] = []
    found = search.grep("needle", tmp_path / "log_run", failed=problems.append)
    assert [(one.key, one.number) for one in found] == [
        ("artifacts/long.txt", 1), ("artifacts/notes.txt", 1), ("artifacts/zeros.txt", 0),
    ]  # fmt: skip
    assert [str(problem) for problem in problems] == [
        f"cannot search {tmp_path}/log_run/artifacts/long.txt to its end: one of its lines is longer than 67.1 MB"
    ]


def test_a_level_of_many_digits_is_no_level() -> None:
    digits = "9" * 5000
    log = RunLog(f"[2026-03-01T09:30:00] Level {digits} a\n[2026-03-01T09:30:00] Level 45 b\n")
    assert [line.message for line in log.at("warning")] == ["b"]
    assert log.to_pandas().shape == (2, 4)


def test_lone_surrogates_reach_a_data_frame_as_escapes() -> None:
    experiment = Experiment("sweep", f"memory://{uuid.uuid4().hex}")
    with experiment.add(dt=0.1) as run:
        run.params(ext="json", **{"dt": 0.1, "a\ud800": "b\udfff"})
        run.json("metrics", {"\udc80": "\udc81"})
    for frame in (
        experiment.to_dataframe(),
        ExperimentReader(experiment.url).to_pandas(),
        search.table(experiment.url).to_pandas(),
    ):
        assert frame["a\\ud800"].tolist() == ["b\\udfff"]
        assert frame["\\udc80"].tolist() == ["\\udc81"]
    assert RunLog("[2026-03-01T09:30:00] INFO \ud800").to_pandas()["message"].tolist() == ["\\ud800"]


@pytest.mark.parametrize("line", ["1e999", "-1e999", "NaN", "[]", "null", "9" * 5000])
def test_a_failure_that_was_forged_is_reported_as_a_problem(line: str) -> None:
    base = f"memory://{uuid.uuid4().hex}"
    with pytest.raises(ValueError, match="h"), Logbook("run", base):
        raise ValueError("h")
    told = '{"type": "ValueError", "message": "h", "frames": [{"file": "a", "line": ' + line + ', "function": "f"}]}'
    put(f"{base}/log_run/artifacts/debug/failure.json", told.encode())
    assert search.show(f"{base}/log_run").problems == ("artifacts/debug/failure.json does not describe an exception",)


# -- descriptions --------------------------------------------------------------------------------------------


def _bomb(levels: int) -> bytes:
    """Return a pickle of nested dicts that repeat the same object: 400 bytes that expand to gigabytes of text."""
    parts = [b"\x80\x02", b"X", struct.pack("<I", 200), b"\x01" * 200, b"q\x000h\x00q\x01"]
    for level in range(1, levels):
        parts += [b"}(", b"h" + bytes([level]), (b"h" + bytes([level])) * 15, b"uq", bytes([level + 1])]
    return b"".join(parts) + b"."


def test_the_text_of_a_pickle_is_made_no_longer_than_it_is_shown() -> None:
    tracemalloc.start()
    try:
        facts = pickle_facts(io.BytesIO(_bomb(7)))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert facts.value.startswith("{{{{{")
    assert len(facts.value) <= 2001


def test_a_pickle_that_calls_what_it_called_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        facts = pickle_facts(io.BytesIO(b"\x80\x04cx\ny\n" + b")R\x94" * 20_000 + b"."))
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert facts.imports == ("x.y",)
    assert facts.value.startswith("x.y()()()")


def test_a_pickle_is_looked_at_as_long_as_it_takes_little_memory() -> None:
    imports = b"\x80\x02" + b"".join(b"cmod%d\nname\n" % number for number in range(20_000)) + b"cos\nsystem\n."
    facts = pickle_facts(io.BytesIO(imports))
    assert facts.warnings == ("only the first 10,002 operations were examined; the rest may import more",)
    texts = b"\x80\x02" + (b"X" + struct.pack("<I", 200) + b"a" * 200) * 200_000 + b"."
    (warning,) = pickle_facts(io.BytesIO(texts)).warnings
    assert "operations were examined" in warning
    endless = pickle_facts(io.BytesIO(b"S" + bytes(65 * 2**20)))
    assert endless.warnings == (
        "it is not a pickle, or it is damaged: one of its lines does not end, after 0 operations",
    )


def test_the_end_of_a_zip_file_claims_no_memory() -> None:
    data = encode(NPZ, {"x": np.arange(3)})
    end = data.rindex(b"PK\x05\x06")
    huge = 20 * 2**20
    forged = bytes(huge) + data[end : end + 12] + struct.pack("<II", huge, 0) + data[end + 20 :]
    for read in (NPZ.describe, NPZ.members, NPZ.read):
        with pytest.raises(DecodeError, match="its table of contents is longer than 16,777,216 bytes"):
            read(io.BytesIO(forged))
    assert NPZ.members(io.BytesIO(data)) == ["x"]


def test_an_npz_of_many_members_is_not_described_but_read() -> None:
    data = encode(NPZ, {f"x{number}": 0 for number in range(10_001)})
    with pytest.raises(DecodeError, match=r"has 10,001 members, but at most 10,000 are described"):
        NPZ.describe(io.BytesIO(data))
    assert len(decode(NPZ, data)) == 10_001


def test_the_footer_of_a_table_claims_no_memory() -> None:
    data = encode(PARQUET, {"t": [0.5]})
    forged = bytes(20 * 2**20) + struct.pack("<I", 17 * 2**20) + b"PAR1"
    with pytest.raises(DecodeError, match="this Parquet file has a footer of 17,825,792 bytes"):
        PARQUET.describe(io.BytesIO(forged))
    assert PARQUET.describe(io.BytesIO(data)).rows == 1


# -- anything ------------------------------------------------------------------------------------------------


def test_readers_of_valid_runs_work() -> None:
    """Check the premise of the examples below: their readers read the files that the examples change."""
    fuzz.store(fuzz.valid())
    failed = [problem for _, reader in fuzz.readers() if (problem := fuzz.problem_of(reader)) is not None]
    assert failed == []
    assert LogReader(fuzz.RUNS[0]).load_arrays("states")["x"].tolist() == [0, 1, 2, 3]
    assert search.show(fuzz.RUNS[1]).failure is not None


@pytest.mark.parametrize("seed", range(8))
def test_damaged_and_forged_files_raise_only_errors_of_notata(seed: int) -> None:
    """The command ``python -m tests.tools.fuzz 200000`` tries more examples, and also bounds memory and time."""
    tally = fuzz.Tally()
    for number in range(50):
        fuzz.attempt(seed, number, tally)
    assert [finding for finding in tally.findings if "too" not in finding.what] == []


def test_the_command_reports_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.run(60, seed=3) == 0
    assert capsys.readouterr().out.startswith("60 examples, seed 3: 0 findings of 0 kinds; slowest ")


def test_the_command_finds_what_must_not_be() -> None:
    def broken() -> None:
        raise KeyError("lost")

    assert fuzz.problem_of(broken) == ("KeyError: \"'lost'\"", "")
    assert fuzz.problem_of(lambda: pickle.loads(b"no")) is not None
    assert fuzz.problem_of(lambda: decode(NPZ, b"no")) is None


def test_an_example_can_be_repeated() -> None:
    def files() -> dict[str, bytes]:
        fuzz.attempt(1, 5, fuzz.Tally())
        store = fsspec.filesystem("memory").store
        return {path: store[path].getvalue() for path in store if path.startswith("/fuzz/sweep/")}

    random.seed(7)
    first = files()
    assert files() == first != fuzz.valid()
