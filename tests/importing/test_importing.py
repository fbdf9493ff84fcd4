"""Common behaviour of all importers: runs are skipped, finished, updated or refused; and the command."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from notata import Logbook, LogReader
from notata._base import keys, processes
from notata.errors import BatchError, ConfigurationError, DecodeError, MissingError, PackageMissingError, StorageError
from notata.importing import import_runs
from notata.importing.naming import artifact_key, legal_name
from notata.importing.source import number_or_text
from notata.importing.wire import Message, records
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.command import notata
from tests.importing.sources import files_of, metadata, names, on_disk, points, put, rows

STATUSES = {"replacing", "complete", "failed"}
KINDS = ("mlruns", "sacred", "dvclive", "wandb")


def state(place: str) -> dict[str, bytes]:
    """Return all files of a place."""
    fs = fsspec.filesystem("memory")
    return {name: fs.cat_file(f"{place}/{name}") for name in names(place)}


# -- the same call again -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_import_does_nothing(kind: str) -> None:
    source = put(kind, "memory://from")
    first = import_runs(kind, source, "memory://to")
    before = state("memory://to")
    second = import_runs(kind, source, "memory://to")
    assert second.equal == first.new
    assert (second.new, second.changed) == ((), ())
    assert state("memory://to") == before


@pytest.mark.parametrize("kind", KINDS)
def test_each_imported_run_can_be_verified(kind: str) -> None:
    report = import_runs(kind, put(kind, "memory://from"), "memory://to")
    assert report.new
    for url in report.new:
        verified = LogReader(url).verify()
        assert verified.ok
        assert verified.checked == len([name for name in names(url) if name not in ("manifest.json", "metadata.json")])


def test_a_changed_run_is_reported_and_updated_on_request() -> None:
    source = put("sacred", "memory://from")
    urls = import_runs("sacred", source, "memory://to").new
    fs = fsspec.filesystem("memory")
    fields = metadata(urls[0])
    fs.pipe_file(f"{urls[0]}/metadata.json", json.dumps(fields | {"pinned": True}).encode())
    fs.pipe_file(f"{urls[0]}/artifacts/mine.txt", b"mine")
    fs.pipe_file("memory://from/sacred/1/config.json", b'{"rate": 0.75}')
    fs.rm_file("memory://from/sacred/1/sub.txt")
    report = import_runs("sacred", source, "memory://to")
    assert (report.changed, len(report.equal)) == ([urls[0]], 2)
    assert LogReader(urls[0]).params["rate"] == 0.5
    report = import_runs("sacred", source, "memory://to", update=True)
    assert report.updated == [urls[0]]
    assert dict(LogReader(urls[0]).params) == {"rate": 0.75}
    assert metadata(urls[0])["pinned"] is True
    assert "artifacts/sub.txt" not in names(urls[0])  # the source has no longer it
    assert "artifacts/mine.txt" in names(urls[0])
    assert rows(urls[0]) == rows(urls[0])
    assert import_runs("sacred", source, "memory://to").changed == ()


def test_another_run_and_a_resumed_run_are_not_overwritten() -> None:
    source = put("sacred", "memory://from")
    with Logbook("2", "memory://to/decay/runs", params={"mine": 1}):
        pass
    with pytest.raises(BatchError, match="the destination has a different run with this id") as caught:
        import_runs("sacred", source, "memory://to")
    assert isinstance(caught.value.exceptions[0], FileExistsError)
    assert dict(LogReader("memory://to/decay/runs/log_2").params) == {"mine": 1}
    assert LogReader("memory://to/decay/runs/log_1").params["rate"] == 0.5  # the others are imported
    with Logbook("1", "memory://to/decay/runs", resume=True) as log:
        log.scalars(loss=1.0)
    fsspec.filesystem("memory").pipe_file("memory://from/sacred/1/config.json", b"{}")
    with pytest.raises(BatchError, match="it was resumed at the destination"):
        import_runs("sacred", source, "memory://to", update=True)


def test_a_run_that_another_process_is_importing_is_left_to_it() -> None:
    source = put("sacred", "memory://from")
    url = import_runs("sacred", source, "memory://to").new[0]
    fields = metadata(url)
    fields |= {"status": "replacing", "copied": "new", "lease": {"pid": 1, "process": processes.identity()}}
    fsspec.filesystem("memory").pipe_file(f"{url}/metadata.json", json.dumps(fields).encode())
    with pytest.raises(BatchError, match="process 1 is importing it"):
        import_runs("sacred", source, "memory://to")
    fields["lease"]["process"] = "elsewhere"
    fsspec.filesystem("memory").pipe_file(f"{url}/metadata.json", json.dumps(fields).encode())
    assert import_runs("sacred", source, "memory://to").finished == [url]


@pytest.mark.parametrize("at", range(1, 30, 2))
def test_an_interrupted_import_is_finished(at: int) -> None:
    source = put("sacred", "memory://from")
    whole = import_runs("sacred", source, "memory://whole")
    faulty = FaultyBackend(open_store("memory://to"))
    faulty.fail(at, after=at % 4 == 1)
    with suppress(BatchError, StorageError):  # the listing, one run, or only the index
        import_runs("sacred", source, faulty)
    stored = [name for name in names("memory://to") if name.endswith("/metadata.json")]
    assert {metadata(f"memory://to/{name[: -len('/metadata.json')]}")["status"] for name in stored} <= STATUSES
    report = import_runs("sacred", source, "memory://to")
    assert len(report.new) + len(report.finished) + len(report.equal) == 3
    for one in whole.new:
        url = one.replace("memory://whole", "memory://to")
        assert points(url) == points(one)
        assert names(url) == names(one)
        assert LogReader(url).verify().ok


def test_a_dry_run_writes_nothing() -> None:
    report = import_runs("sacred", put("sacred", "memory://from"), "memory://to", dry_run=True)
    assert len(report.new) == 3
    assert str(report).startswith("3 runs would be imported: from memory://from to memory://to")
    assert names("memory://to") == []


def test_two_places_in_each_other_are_refused() -> None:
    source = put("sacred", "memory://from")
    with pytest.raises(ConfigurationError, match="overlap"):
        import_runs("sacred", source, f"{source}/sacred/to")


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_without_runs_is_an_error(kind: str) -> None:
    with pytest.raises(MissingError, match="there is no file at memory://from"):
        import_runs(kind, "memory://from", "memory://to")
    fsspec.filesystem("memory").pipe_file("memory://from/notes.txt", b"x")
    with pytest.raises(MissingError, match=r"there is no .* run at "):
        import_runs(kind, "memory://from", "memory://to")
    assert names("memory://to") == []


# -- damaged and hostile sources ---------------------------------------------------------------------------


def wreck(path: str, data: bytes) -> Callable[[str], None]:
    def change(root: str) -> None:
        fs = fsspec.filesystem("memory")
        (found,) = [name for name in names(root) if name.endswith(path)][:1]
        fs.pipe_file(f"{root}/{found}", data)

    return change


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdefghij"
)


@pytest.mark.parametrize(
    ("kind", "path", "data", "message"),
    [
        ("mlruns", "/metrics/loss", b"1 2 3 4\n", "not 'time value step'"),
        ("mlruns", "/metrics/loss", b"x" * 10_000 + b"\n1 1 1\n", "not 'time value step'"),
        ("mlruns", "/metrics/loss", b"1e9 1 1\n", "not 'time value step'"),
        ("mlruns", "/metrics/loss", b"%d 1 1\n" % 10**30, "with an invalid step or time"),
        ("mlruns", "/metrics/loss", b"1 1 %d\n" % 2**63, "with an invalid step or time"),
        ("mlruns", "/params/lr", b"x" * (2**20 + 1), "the limit for this file is"),
        ("sacred", "1/metrics.json", b'{"loss": {"steps": [1], "timestamps": [1], "values": [1]}}', "timestamp 1"),
        ("sacred", "1/metrics.json", b'{"loss": {"steps": [1, 2], "values": [1], "timestamps": ["x"]}}', "one length"),
        ("sacred", "1/metrics.json", b'{"loss": {"steps": [], "values": [1], "timestamps": [1]}}', "one length"),
        ("sacred", "1/metrics.json", b"[" * 100_000, "is not JSON"),
        ("sacred", "1/run.json", b"[]", "is not a JSON object"),
        ("sacred", "1/config.json", b'{"a":' * 700 + b"1" + b"}" * 700, "nested"),
        ("dvclive", "plain/params.yaml", BOMB, "aliases"),
        ("dvclive", "plain/params.yaml", b"!!python/object/apply:os.system [ls]", "not YAML"),
        ("dvclive", "plain/params.yaml", b"[1]", "no names and values"),
        ("dvclive", "plain/plots/metrics/accuracy.tsv", b"a\tb\n1\t2\n", "no column 'step'"),
        ("dvclive", "plain/plots/metrics/accuracy.tsv", b"step\ta\n1.5\t2\n", "the step '1.5'"),
        ("wandb", "run-abc12345.wandb", b"SQLite", "is not a log of Weights & Biases"),
    ],
)
def test_a_damaged_run_is_an_error_and_the_others_are_imported(kind: str, path: str, data: bytes, message: str) -> None:
    source = put(kind, "memory://from")
    count = len(import_runs(kind, source, "memory://all").new)
    wreck(path, data)(source)
    errors: list[Exception] = []
    report = import_runs(kind, source, "memory://to", failed=errors.append)
    assert len(report.new) == count - 1
    assert (report.failed, len(errors)) == (1, 1)
    assert message in str(errors[0])
    assert "cannot import" in str(errors[0]) or "cannot read" in str(errors[0])


@pytest.mark.parametrize("kind", ["mlruns", "sacred", "dvclive"])
@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_ends_an_import(kind: str, seed: int) -> None:
    source = put(kind, "memory://from")
    chance = random.Random(seed)
    fs = fsspec.filesystem("memory")
    for name in names(source):
        data = bytearray(fs.cat_file(f"{source}/{name}"))
        if chance.random() < 0.5 and data:
            data[chance.randrange(len(data))] = chance.randrange(256)
            fs.pipe_file(f"{source}/{name}", bytes(data[: chance.randrange(len(data)) + 1]))
    errors: list[Exception] = []
    report = import_runs(kind, source, "memory://to", failed=errors.append)
    assert report.failed == len(errors)
    for url in report.new:
        assert LogReader(url).verify().ok


def test_a_torn_last_line_is_left_out() -> None:
    source = put("mlruns", "memory://from")
    fs = fsspec.filesystem("memory")
    (loss,) = [name for name in names(source) if name.endswith("/metrics/loss")]
    data = fs.cat_file(f"{source}/{loss}")
    fs.pipe_file(f"{source}/{loss}", data[:-10])
    report = import_runs("mlruns", source, "memory://to")
    (url,) = [url for url in report.new if "loss" in points_of(url)]
    assert len(points_of(url)["loss"]) == data.count(b"\n") - 1


def points_of(url: str) -> dict[str, Any]:
    return points(url) if "series/scalars.jsonl" in names(url) else {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB, "aliases"),
        (b"!!python/object/apply:os.system [ls]", "not YAML"),
        (b"- 1", "no names and values"),
        (b"status: 3\nrun_id: ../../../x\n", ""),
        (b"status: [3]\nrun_id: 5\nstart_time: .nan\nend_time: 1e400\n", ""),
        (b"status: {}\nstart_time: 2026-01-01\nrun_name: [1]\nartifact_uri: s3://elsewhere/x\n", ""),
    ],
)
def test_a_forged_description_of_a_run_stays_in_its_place(data: bytes, message: str) -> None:
    source = put("mlruns", "memory://from")
    fs = fsspec.filesystem("memory")
    (loss,) = [name for name in names(source) if name.endswith("/metrics/loss")]
    fs.pipe_file(f"{source}/{loss.removesuffix('metrics/loss')}meta.yaml", data)
    errors: list[Exception] = []
    report = import_runs("mlruns", source, "memory://to", failed=errors.append)
    assert [message in str(error) for error in errors] == [True] * bool(message)
    assert len(report.new) == 4 - bool(message)
    folders = {name.rpartition("/runs/log_")[0] for name in names("memory://to") if name.endswith("/metadata.json")}
    assert folders == {"pendulum", legal_name("/Users/ada/second")}
    for url in report.new:
        fields = metadata(url)
        assert fields["start_time"] <= fields.get("end_time", fields["start_time"])


def test_links_are_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    source = on_disk("sacred", tmp_path / "from")
    os.symlink(tmp_path / "secret", source / "sacred/1/stolen.txt")
    os.symlink(tmp_path / "secret", source / "sacred/2/cout.txt.link")
    os.symlink(tmp_path, source / "sacred/4")
    report = import_runs("sacred", source, "memory://to")
    assert len(report.new) == 3
    assert report.left_out["memory://to/decay/runs/log_1"] == ["the link 'sacred/1/stolen.txt'"]
    assert all(b"hunter2" not in data for data in state("memory://to").values())


def test_a_source_names_no_file_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("hunter2")
    source = on_disk("sacred", tmp_path / "from")
    path = source / "sacred/1/run.json"
    run = json.loads(path.read_text())
    outside = [["a.py", "../../secret.py"], ["b.py", str(tmp_path / "secret.py")]]
    outside += [["../c.py", run["experiment"]["sources"][0][1]]]
    run["experiment"]["sources"] = [*outside, ["d.py", "_sources/../../../secret.py"], 3, ["x"], [1, 2]]
    path.write_text(json.dumps(run))
    import_runs("sacred", source, "memory://to")
    assert not any("sources/" in name for name in names("memory://to/decay/runs/log_1"))


def test_values_that_no_series_has_are_left_out_and_named() -> None:
    source = put("sacred", "memory://from")
    times = ["2026-03-01T09:30:00"] * 3
    values = {"steps": [0, 1, 2], "timestamps": times, "values": [1.0, "text", [1]]}
    long = {"steps": [0], "timestamps": times[:1], "values": [1.0]}
    wreck("1/metrics.json", json.dumps({"mixed": values, "x" * 501: long}).encode())(source)
    report = import_runs("sacred", source, "memory://to")
    url = "memory://to/decay/runs/log_1"
    assert points(url) == {"mixed": [(0, 1772357400.0, 1.0)]}
    text, number, name = report.left_out[url]
    assert text == "values of 'mixed' that have a different type from the first one"
    assert number.startswith("values of 'mixed' that are neither numbers")
    assert name.endswith("because the name is too long")
    assert metadata(url)["imported"]["left_out"] == list(report.left_out[url])


def test_models_beside_the_runs_are_named_as_left_out() -> None:
    source = put("mlruns", "memory://from")
    (loss,) = [name for name in names(source) if name.endswith("/metrics/loss")]
    model = f"{source}/{loss.removesuffix('metrics/loss')}outputs/m-1/meta.yaml"
    fsspec.filesystem("memory").pipe_file(model, b"source_type: RUN_OUTPUT\n")
    (left_out,) = import_runs("mlruns", source, "memory://to").left_out.values()
    assert left_out == ["models, which MLflow 3 keeps beside the runs"]


def test_large_tags_go_to_a_file_and_secrets_are_redacted() -> None:
    source = put("mlruns", "memory://from")
    fs = fsspec.filesystem("memory")
    (kind,) = [name for name in names(source) if name.endswith("/tags/kind")]
    fs.pipe_file(f"{source}/{kind}", b"x" * 100_000)
    fs.pipe_file(f"{source}/{kind[: -len('kind')]}mlflow.source.git.repoURL", b"https://ada:hunter2@host/x.git")
    report = import_runs("mlruns", source, "memory://to")
    (url,) = [url for url in report.new if "artifacts/imported/fields.json" in names(url)]
    with fsspec.open(f"{url}/artifacts/imported/fields.json") as file:
        assert json.load(file)["tags"]["kind"] == "x" * 100_000
    fields = metadata(url)
    assert len(fields["tags"]["kind"]) == 1001
    assert "hunter2" not in json.dumps(fields)


def test_two_runs_of_one_id_are_an_error() -> None:
    source = put("sacred", "memory://from")
    fs = fsspec.filesystem("memory")
    for path, data in files_of("sacred").items():
        fs.pipe_file(f"{source}/copy/{path}", data)
    errors: list[Exception] = []
    report = import_runs("sacred", source, "memory://to", failed=errors.append)
    assert (len(report.new), len(errors)) == (3, 3)
    assert "has the same run id '1'" in str(errors[0])


# -- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b",
        "a--b",
        "/a",
        "a/",
        "..",
        "../a",
        "log_a",
        "runs",
        "",
        " ",
        "ä/ö",
        "a\\b",
        "a\nb",
        ".notata-x",
        "x" * 300,
    ],
)
def test_names_become_legal_and_stay_different(name: str) -> None:
    names = ["a", "a/b", "a--b", "/a", "a/", "..", "../a", "log_a", "runs", "index.csv", " ", "", "ä/ö", "a\\b", "a\nb"]
    legal = legal_name(name)
    assert keys.is_run_id(legal)
    assert keys.experiment(legal) == legal
    assert legal == legal_name(name)
    assert all(legal != legal_name(other) for other in names if other != name)


def test_artifacts_never_take_a_file_of_notata() -> None:
    assert artifact_key("debug/traceback.txt") == "artifacts/imported/debug/traceback.txt"
    assert artifact_key("imported/metrics.json") == "artifacts/imported/imported/metrics.json"
    with pytest.raises(ValueError, match="segment"):
        artifact_key("../metadata.json")


@pytest.mark.parametrize("value", [0.1, 1e-5, 3, -2, True, None, 1e300, float("inf"), 2**70])
def test_parameters_are_numbers_again(value: object) -> None:
    assert number_or_text(str(value)) == value
    assert type(number_or_text(str(value))) is type(value)


@pytest.mark.parametrize("text", ["", "01", "1e-3", "1_0", " 1", "true", "x", "1" * 500])
def test_other_texts_stay_texts(text: str) -> None:
    assert number_or_text(text) == text


def test_a_log_of_wandb_that_is_cut_anywhere_gives_its_beginning() -> None:
    import io

    (data,) = [data for path, data in files_of("wandb").items() if path.endswith("abc12345.wandb")]
    whole = list(records(io.BytesIO(data), "log", lambda what: pytest.fail(what)))
    assert len(whole) > 15
    for end in range(7, len(data), 37):
        torn: list[str] = []
        found = list(records(io.BytesIO(data[:end]), "log", torn.append))
        assert found == whole[: len(found)]
        assert len(torn) <= 1
    for at in range(7, len(data), 97):
        bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with suppress(DecodeError):
            messages = [Message(record) for record in records(io.BytesIO(bad), "log", lambda _: None)]
            assert len(messages) < len(whole)  # a frame that became the end of a block


def test_without_tensorboard_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(PackageMissingError, match="the extra 'tensorboard'"):
        import_runs("tensorboard", "memory://from", "memory://to")


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_imports_and_says_so(tmp_path: Path) -> None:
    source = put("sacred", "memory://from")
    dry = notata("import", "sacred", source, "memory://to", "--dry-run", folder=tmp_path)
    assert dry.returncode == 0
    assert "import memory://to/decay/runs/log_1" in dry.stdout
    result = notata("import", "sacred", source, "memory://to", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, "3 runs imported: from memory://from to memory://to\n")
    again = notata("import", "sacred", source, "memory://to", "--json", folder=tmp_path)
    assert json.loads(again.stdout)["equal"] == [
        "memory://to/decay/runs/log_1",
        "memory://to/decay/runs/log_2",
        "memory://to/other/runs/log_3",
    ]


def test_the_command_reports_what_failed_changed_and_was_left_out(tmp_path: Path) -> None:
    source = put("sacred", "memory://from")
    notata("import", "sacred", source, "memory://to", folder=tmp_path)
    wreck("1/run.json", b"[]")(source)
    wreck("2/config.json", b"{}")(source)
    result = notata("import", "sacred", source, "memory://to", folder=tmp_path)
    assert result.returncode == 3
    assert "run.json is not a JSON object" in result.stderr
    assert "changed in the source, not updated: memory://to/decay/runs/log_2" in result.stderr
    assert notata("import", "sacred", "memory://nothing", "memory://to", folder=tmp_path).returncode == 1
    assert notata("import", "excel", source, "memory://to", folder=tmp_path).returncode == 2
