"""A run on every backend: claim, writers, indexing, end; read with plain fsspec and the standard library."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import re
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from upath import UPath

import notata
from notata import ConfigurationError, Logbook, Storage, errors
from notata.store import open_store
from tests.backends import Place


def metadata(place: Place, run_id: str = "run") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    return fields


# -- the four writers --------------------------------------------------------------------------------------


def test_the_four_writers(place: Place) -> None:
    log = place.logbook()
    paths = [
        log.text("notes", "converged\r\nin 1.3 s\n"),
        log.json("metrics", {"b": np.float32(0.5), "a": [1, 2]}),
        log.pickle("model", {"w": [1, 2]}),
        log.bytes("weights.raw", b"\x01\x02\x03"),
    ]
    assert [path.name for path in paths] == ["notes.txt", "metrics.json", "model.pkl", "weights.raw"]
    assert all(isinstance(path, UPath) for path in paths)
    assert place.names() == [
        "log_run/artifacts/metrics.json",
        "log_run/artifacts/model.pkl",
        "log_run/artifacts/notes.txt",
        "log_run/artifacts/weights.raw",
        "log_run/metadata.json",
    ]
    assert place.bytes("log_run/artifacts/notes.txt") == b"converged\r\nin 1.3 s\n"
    assert place.bytes("log_run/artifacts/metrics.json") == b'{\n  "a": [\n    1,\n    2\n  ],\n  "b": 0.5\n}\n'
    assert pickle.loads(place.bytes("log_run/artifacts/model.pkl")) == {"w": [1, 2]}
    assert place.bytes("log_run/artifacts/weights.raw") == b"\x01\x02\x03"


def test_names_with_folders_and_suffixes(place: Place) -> None:
    log = place.logbook()
    log.text("debug/traceback", "t")
    log.text("notes.txt", "n")
    log.json("settings/config.json", {})
    log.pickle("a.pkl", None)
    log.text("v1.2", "dots stay")
    log.text("data.json", "another suffix stays")
    assert [name.removeprefix("log_run/artifacts/") for name in place.names()[:-1]] == [
        "a.pkl",
        "data.json.txt",
        "debug/traceback.txt",
        "notes.txt",
        "settings/config.json",
        "v1.2.txt",
    ]


def test_each_writer_overwrites(place: Place) -> None:
    log = place.logbook()
    for content in ("a longer first one", "second"):
        log.text("t", content)
        log.json("j", content)
        log.pickle("p", content)
        log.bytes("b", content.encode())
    assert place.bytes("log_run/artifacts/t.txt") == b"second"
    assert json.loads(place.bytes("log_run/artifacts/j.json")) == "second"
    assert pickle.loads(place.bytes("log_run/artifacts/p.pkl")) == "second"
    assert place.bytes("log_run/artifacts/b") == b"second"


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_a_failing_writer_leaves_the_previous_file(place: Place) -> None:
    log = place.logbook()
    log.pickle("p", "old")
    log.json("j", "old")
    log.text("t", "old")
    log.bytes("b", b"old")
    before = place.files(logs=False)
    with pytest.raises(errors.EncodeError, match="not me"):
        log.pickle("p", [b"x" * 20_000_000, Unpicklable()])
    with pytest.raises(errors.EncodeError, match="cannot be pickled"):
        log.pickle("p", lambda: 0)
    with pytest.raises(errors.EncodeError, match=re.escape("j.layers[3].weight")) as caught:
        log.json("j", {"layers": [0, 1, 2, {"weight": object()}]})
    assert (caught.value.key, caught.value.url) == ("artifacts/j.json", log.url)
    with pytest.raises(TypeError):
        log.text("t", b"bytes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        log.bytes("b", "text")  # type: ignore[arg-type]
    assert place.files(logs=False) == before


def test_bytes_like(place: Place) -> None:
    log = place.logbook()
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    for value in (bytearray(b"ab"), memoryview(b"abcd")[::2], array, np.asfortranarray(array), np.zeros((0, 2))):
        log.bytes("b", value)
        expected = value.tobytes("A") if isinstance(value, np.ndarray) else bytes(value)
        assert place.bytes("log_run/artifacts/b") == expected


def test_any_value_comes_back(place: Place) -> None:
    """Values are encoded in the same way for all storage, so buckets, where each example is 20 requests, get fewer."""

    @settings(max_examples=8 if place.bucket else 25)
    @given(text=st.text(), blob=st.binary(), value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20,
    ))  # fmt: skip
    def check(text: str, blob: bytes, value: Any) -> None:
        log = place.logbook(overwrite=True)
        shown = text.encode("utf-8", "backslashreplace").decode()
        assert place.bytes(key(place, log.text("t", text))).decode() == shown
        assert json.loads(place.bytes(key(place, log.json("j", value)))) == value
        assert pickle.loads(place.bytes(key(place, log.pickle("p", value)))) == value
        assert place.bytes(key(place, log.bytes("b", blob))) == blob

    check()


def key(place: Place, path: UPath) -> str:
    return path.path.partition(place.url.rpartition("/")[2] + "/")[2]


# -- any file ----------------------------------------------------------------------------------------------


def test_indexing(place: Place) -> None:
    log = place.logbook()
    log["artifacts/settings/config.json"].write_text("{}")
    log["artifacts/debug/crash_dump.txt"].write_text("Traceback")
    assert place.bytes("log_run/artifacts/settings/config.json") == b"{}"
    assert log["artifacts/debug/crash_dump.txt"].read_text() == "Traceback"
    assert log[Path("artifacts/x.txt")].name == "x.txt"
    with log.open("data/a.bin", "wb") as file:
        file.write(b"1")
    with log.open("data/a.bin", "rb") as file:
        assert file.read() == b"1"
    with log.local("data/b.bin") as path:
        path.write_bytes(b"2")
    assert place.bytes("log_run/data/b.bin") == b"2"


@pytest.mark.parametrize("bad", ["../esc", "/etc/passwd", "a/../../esc", "", "a//b", "a\\b", "a\nb", "x" * 300, "a/."])
def test_a_name_that_leaves_the_run_is_refused_before_anything_is_written(place: Place, bad: str) -> None:
    log = place.logbook()
    for call in (
        lambda: log.text(bad, ""),
        lambda: log.json(bad, {}),
        lambda: log.pickle(bad, None),
        lambda: log.bytes(bad, b""),
        lambda: log[bad],
        lambda: log.open(bad, "w"),
        lambda: log.local(bad),
    ):
        with pytest.raises(ValueError, match=r"cannot be a key") as caught:
            call()
        assert isinstance(caught.value, errors.KeyNameError)
    assert place.names() == ["log_run/metadata.json"]


def test_folders_as_path_objects(place: Place) -> None:
    log = place.logbook(preallocate=True)
    assert log.path.name == "log_run"
    assert [folder.name for folder in (log.datadir, log.plotdir, log.artifactsdir)] == ["data", "plots", "artifacts"]
    (log.datadir / "x.txt").write_text("1")
    assert place.names() == ["log_run/data/x.txt", "log_run/metadata.json"]
    if not place.bucket:
        assert log.plotdir.is_dir()


# -- beginning ---------------------------------------------------------------------------------------------


def test_metadata_at_the_start(place: Place) -> None:
    log = place.logbook("a", params={"omega": 2.0, "dt": np.float64(1e-3), "where": Path("x/y")})
    fields = metadata(place, "a")
    assert fields["run_id"] == "a"
    assert fields["status"] == log.status == "initialized"
    assert datetime.fromisoformat(fields["start_time"]).utcoffset() is not None
    assert "end_time" not in fields
    assert place.bytes("log_a/params.yaml") == b"dt: 0.001\nomega: 2.0\nwhere: x/y\n"
    assert yaml.safe_load(place.bytes("log_a/params.yaml")) == {"dt": 0.001, "omega": 2.0, "where": "x/y"}


def test_run_ids(place: Place) -> None:
    assert place.logbook(7).run_id == "7"
    assert place.names() == ["log_7/metadata.json"]
    made = [place.logbook(None).run_id for _ in range(3)]
    assert len(set(made)) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z-[0-9a-f]{6}", run_id) for run_id in made)
    assert metadata(place, made[0])["run_id"] == made[0]


@pytest.mark.parametrize("bad", ["", "a/b", "a\nb", "x" * 252, "\ud800", "a\\b"])
def test_an_illegal_run_id_is_refused(place: Place, bad: str) -> None:
    with pytest.raises(errors.KeyNameError, match=r"run id|run's folder"):
        place.logbook(bad)
    assert place.names() == []


def test_an_existing_run_is_refused(place: Place) -> None:
    place.logbook("a").mark_complete()
    before = place.bytes("log_a/metadata.json")
    with pytest.raises(FileExistsError) as caught:
        place.logbook("a", params={"x": 1})
    assert isinstance(caught.value, errors.RunExistsError)
    assert "overwrite=True" in str(caught.value)
    assert "status complete" in str(caught.value)
    assert place.names() == ["log_a/manifest.json", "log_a/metadata.json"]
    assert place.bytes("log_a/metadata.json") == before


def test_a_folder_of_another_program_counts_as_a_run_on_a_disk(place: Place) -> None:
    place.put("log_a/something", b"")
    if place.bucket:
        place.logbook("a")
        return
    with pytest.raises(errors.RunExistsError):
        place.logbook("a")
    assert place.names() == ["log_a/something"]


def test_overwrite_starts_over(place: Place) -> None:
    with place.logbook("a", params={"old": 1}) as old:
        old.text("deep/er/notes", "old")
        old["plots/x[1].png"].write_bytes(b"old")
    place.put("log_a/artifacts/.notata-0", b"debris")
    place.put("log_ab/keep", b"a neighbour")
    new = place.logbook("a", overwrite=True)
    assert place.names() == ["log_a/metadata.json", "log_ab/keep"]
    fields = metadata(place, "a")
    assert fields["status"] == "initialized"
    assert "end_time" not in fields
    new.mark_complete()
    with pytest.raises(errors.RunDisplacedError, match="another writer"):
        old.meta(x=1)
    assert metadata(place, "a")["status"] == "complete"


def test_overwrite_of_nothing_is_a_new_run(place: Place) -> None:
    with place.logbook("a", overwrite=True, params={"x": 1}):
        pass
    assert place.names() == ["log_a/manifest.json", "log_a/metadata.json", "log_a/params.yaml"]


def test_a_displaced_owner_cannot_complete_the_run(place: Place) -> None:
    old = place.logbook("a")
    place.logbook("a", overwrite=True)
    with pytest.raises(errors.RunDisplacedError):
        old.mark_complete()
    assert metadata(place, "a")["status"] == "initialized"


def test_parameters_that_do_not_encode_leave_no_run(place: Place) -> None:
    with pytest.raises(errors.EncodeError, match=r"params\.f"):
        place.logbook("a", params={"f": object()})
    assert place.names() == []


# -- end ---------------------------------------------------------------------------------------------------


def test_a_block_that_ends_is_complete(place: Place) -> None:
    with place.logbook() as log:
        assert log.elapsed >= 0
    fields = metadata(place)
    assert fields["status"] == log.status == "complete"
    assert datetime.fromisoformat(fields["end_time"]) >= datetime.fromisoformat(fields["start_time"])
    assert fields["runtime_sec"] == log.elapsed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("h = -1"), "h = -1"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "sys.exit(3)"),
        (SystemExit("no mesh"), "sys.exit('no mesh')"),
        (SystemExit(""), "sys.exit('')"),
    ],
)
def test_a_block_that_raises_is_failed(place: Place, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), place.logbook() as log:
        log.text("kept", "yes")
        raise error
    fields = metadata(place)
    assert (fields["status"], fields["failure_reason"]) == ("failed", reason)
    assert place.bytes("log_run/artifacts/kept.txt") == b"yes"


def test_ends_by_hand(place: Place) -> None:
    log = place.logbook("a")
    log.mark_complete()
    log.mark_complete()
    first = place.bytes("log_a/metadata.json")
    assert json.loads(first)["status"] == "complete"
    log.mark_failed("looked again")
    log.mark_failed("and again")
    assert metadata(place, "a")["failure_reason"] == "looked again"
    with pytest.raises(errors.RunEndedError):
        log.mark_complete()
    assert metadata(place, "a")["status"] == log.status == "failed"


def test_of_two_threads_that_end_a_run_a_failure_stands(place: Place) -> None:
    calls: list[str] = []
    log = place.logbook("a", callback=lambda ended: calls.append(ended.status))
    start = threading.Barrier(2)

    def end(how: Any) -> None:
        start.wait()
        with suppress(errors.RunEndedError):
            how()

    threads = [
        threading.Thread(target=end, args=(how,)) for how in (log.mark_complete, lambda: log.mark_failed("boom"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metadata(place, "a")["status"] == log.status == "failed"
    assert calls.count("failed") == 1


def test_a_stored_failure_of_the_same_owner_stands(place: Place) -> None:
    log = place.logbook("a")
    place.put("log_a/metadata.json", json.dumps({**metadata(place, "a"), "status": "failed"}).encode())
    with pytest.raises(errors.RunEndedError):
        log.mark_complete()
    assert metadata(place, "a")["status"] == log.status == "failed"


def test_a_failure_inside_the_block_is_kept(place: Place) -> None:
    with place.logbook() as log:
        log.mark_failed("diverged")
    assert metadata(place)["failure_reason"] == "diverged"


@pytest.mark.parametrize("code", [0, None, False])
def test_a_block_that_exits_well_is_complete(place: Place, code: int | None) -> None:
    with pytest.raises(SystemExit), place.logbook():
        raise SystemExit(code)
    assert metadata(place)["status"] == "complete"


def test_a_block_that_fails_and_then_exits_well_is_failed(place: Place) -> None:
    with pytest.raises(SystemExit), place.logbook() as log:
        log.mark_failed("diverged")
        raise SystemExit
    assert (metadata(place)["status"], metadata(place)["failure_reason"]) == ("failed", "diverged")


def test_a_block_that_completes_and_then_exits_well_is_complete(place: Place) -> None:
    with pytest.raises(SystemExit), place.logbook() as log:
        log.mark_complete()
        raise SystemExit(0)
    assert metadata(place)["status"] == "complete"


def test_a_block_that_completes_and_then_fails_is_failed(place: Place) -> None:
    with pytest.raises(ValueError, match="late"), place.logbook() as log:
        log.mark_complete()
        raise ValueError("late")
    assert metadata(place)["status"] == "failed"


@dataclasses.dataclass
class Machine:
    name: str
    cores: int


def test_meta(place: Place) -> None:
    log = place.logbook()
    log.meta(machine=Machine("node17", 64), temperature_K=np.float64(300))
    log.meta(note="é")
    fields = metadata(place)
    assert fields["machine"] == {"cores": 64, "name": "node17"}
    assert (fields["temperature_K"], fields["note"]) == (300.0, "é")
    assert fields["status"] == "initialized"
    with pytest.raises(errors.EncodeError, match=r"metadata\.bad"):
        log.meta(bad=object())
    for own in ("lease", "run_id", "status"):
        with pytest.raises(errors.ConfigurationError, match=own):
            log.meta(**{own: "complete"})
    assert metadata(place) == fields


def test_an_edit_by_hand_is_kept(place: Place) -> None:
    log = place.logbook()
    fields = metadata(place) | {"remark": "by hand"}
    place.put("log_run/metadata.json", json.dumps(fields).encode())
    log.mark_complete()
    assert metadata(place)["remark"] == "by hand"
    assert metadata(place)["status"] == "complete"


def test_the_callback_runs_once_the_status_is_stored(place: Place) -> None:
    seen: list[str] = []

    def callback(log: Logbook) -> None:
        seen.append(metadata(place)["status"])
        seen.append(log.status)

    with place.logbook(callback=callback):
        pass
    assert seen == ["complete", "complete"]


def test_an_error_of_the_callback_never_hides_that_of_the_block(place: Place) -> None:
    def callback(log: Logbook) -> None:
        raise RuntimeError("the callback")

    with pytest.raises(ValueError, match="mine") as caught, place.logbook("a", callback=callback):
        raise ValueError("mine")
    assert "the callback" in "".join(caught.value.__notes__)
    assert metadata(place, "a")["status"] == "failed"
    with pytest.raises(RuntimeError, match="the callback"), place.logbook("b", callback=callback):
        pass
    assert metadata(place, "b")["status"] == "complete"
    with pytest.raises(errors.ConfigurationError, match="callback"):
        place.logbook("c", callback="no function")
    assert "log_c/metadata.json" not in place.names()


def test_a_repr_says_where_and_how(place: Place) -> None:
    log = place.logbook()
    assert repr(log) == f"Logbook('run', '{log.url}', status='initialized')"
    assert "127.0.0.1" not in repr(log)


@pytest.mark.parametrize(
    "arguments",
    [{"resume": "unfinised"}, {"params": [1]}, {"params": "a=1"}, {"background": "yes"}, {"storage_options": "key"}],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Logbook("run", "memory://senseless", **arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"timeout": "x"}, {"timeout": 0}, {"timeout": True}, {"options": "key"}, {"durable": "yes"}, {"progress": 2}],
)
def test_a_storage_refuses_values_that_make_no_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Storage("memory://senseless", **arguments)


def test_a_storage_shows_no_options() -> None:
    storage = Storage("s3://bucket/outputs", {"secret": "abc123abc123"}, timeout=5)
    assert repr(storage) == "Storage('s3://bucket/outputs', timeout=5, durable=False, progress=False)"


def test_options_of_a_call_come_on_top_of_those_of_a_storage() -> None:
    storage = Storage("s3://bucket/outputs", {"key": "k", "secret": "s"})
    path = open_store(storage, {"secret": "other"}).path_for()
    assert path.storage_options == {"key": "k", "secret": "other"}


def test_params_in_one_object_are_refused() -> None:
    for values in ({"a": 1}, argparse.Namespace(a=1)):
        with pytest.raises(ConfigurationError, match="pass them as keywords"):
            Logbook(None, "memory://senseless").params(values)  # type: ignore[arg-type]


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    lr: float = 0.1


@pytest.mark.parametrize(
    "params",
    [
        argparse.Namespace(steps=100, optimizer=Optimizer()),
        OmegaConf.create({"steps": 100, "optimizer": {"name": "adam", "lr": "${..rate}"}, "rate": 0.1}),
        pd.Series({"steps": 100, "optimizer": Optimizer()}),
    ],
    ids=["argparse", "omegaconf", "pandas"],
)
def test_parameters_may_be_an_object_with_named_values(place: Place, params: object) -> None:
    log = place.logbook(params=params)
    stored = yaml.safe_load(place.bytes("log_run/params.yaml"))
    assert (stored.pop("rate", 0.1), stored) == (0.1, {"steps": 100, "optimizer": {"name": "adam", "lr": 0.1}})
    assert log.params["optimizer"]["lr"] == 0.1


def test_true_is_another_parameter_than_1(place: Place) -> None:
    place.logbook(params={"p": 1, "x": 2.0}).mark_failed("on purpose")
    place.logbook(params={"p": 1, "x": 2}, resume=True).mark_failed("on purpose")
    assert not any("differ from the previous ones" in line for line in place.log())
    place.logbook(params={"p": True, "x": 2}, resume=True).mark_complete()
    assert sum("differ from the previous ones" in line for line in place.log()) == 1
    assert yaml.safe_load(place.bytes("log_run/params.yaml"))["p"] is True


def test_parameters_that_lack_a_value_leave_no_run(place: Place) -> None:
    with pytest.raises(notata.EncodeError, match="params"):
        place.logbook(params=OmegaConf.create({"lr": "???"}))
    with pytest.raises(ConfigurationError, match="invalid params of type type: pass names and values"):
        place.logbook(params=Optimizer)
    assert "log_run/metadata.json" not in place.names()


def test_a_run_that_overwrites_none_does_not_say_so(place: Place) -> None:
    place.logbook(overwrite=True).mark_complete()
    assert place.log()[0] == "INFO Logbook initialized"
    place.logbook(overwrite=True).mark_complete()
    assert place.log()[0].startswith("INFO Logbook initialized in place of an earlier run")


def test_a_path_in_a_bucket_says_what_to_give_instead_of_its_name(bucket: Place) -> None:
    path: Any = bucket.logbook()["artifacts/x.npy"]
    for use in (lambda: open(path, "wb"), lambda: np.save(path, [1]), lambda: os.path.join(path, "x")):
        with pytest.raises(TypeError, match=r"is not on a local disk, .*log\.open\(key, 'wb'\).*log\.local\(key\)"):
            use()
