"""Reading a run on every backend: the reader of 0.3.0, the new features, and that reading changes nothing."""

from __future__ import annotations

import builtins
import io
import json
import pickle
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from matplotlib.figure import Figure
from upath import UPath

from notata import DamagedFileWarning, Logbook, LogReader, RunLog, errors
from notata.store import Entry, Store
from notata.store.gaps import Skipped
from tests.backends import Place
from tests.contract.conftest import QUICK, emptied


@pytest.fixture(params=QUICK)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The lower layers are tested on all stores; production stores run the tests of `bucket` only."""
    yield from emptied(request)


def reader(place: Place, run_id: str = "run") -> LogReader:
    return LogReader(f"{place.url}/log_{run_id}", storage_options=place.options)


def pretty(value: object) -> str:
    """Return the text that IPython shows."""
    from IPython.lib import pretty

    text: str = pretty.pretty(value)  # type: ignore[no-untyped-call]
    return text


def full(place: Place, run_id: str = "run") -> LogReader:
    """Return the reader of a run that has one of everything."""
    with place.logbook(run_id, params={"omega": 2.0, "scheme": "leapfrog"}) as log:
        log.array("energy", np.arange(3.0))
        log.array("states/t", [0.5])
        log.arrays("state", x=[[1, 2]], v=np.float32(3))
        log.json("metrics", {"error": 1e-6})
        log.text("debug/notes", "converged\r\n")
        log.pickle("model", {1, 2})
        log.bytes("weights.raw", b"\x00\x01")
        log.save("table.parquet", {"t": [0.0, 0.5]})
        log.save("settings.yaml", {"a": [1, None]})
        log.plot("run/energy", Figure(figsize=(1, 1)), dpi=10, formats=("png", "svg"))
        log.warning("step size\nis at its minimum")
    return reader(place, run_id)


# -- what 0.3.0 documents ----------------------------------------------------------------------------------


def test_a_reader_of_notata_0_3_0(place: Place) -> None:
    run = full(place)
    assert run.run_id == "run"
    assert run.params == {"omega": 2.0, "scheme": "leapfrog"}
    assert run.meta == json.loads(place.bytes("log_run/metadata.json"))
    assert run.meta["status"] == "complete"
    assert run.arrays == ["energy", "state:v", "state:x", "states/t"]
    assert run.artifacts == [
        "debug/notes.txt",
        "metrics.json",
        "model.pkl",
        "settings.yaml",
        "table.parquet",
        "weights.raw",
    ]
    assert run.plots == ["run/energy.png", "run/energy.svg"]
    assert run.load_array("energy").tolist() == [0.0, 1.0, 2.0]
    assert run.load_array("state:x").tolist() == [[1, 2]]
    assert run.load_json("metrics") == run.load_json("metrics.json") == {"error": 1e-6}
    assert str(run) == (
        "<LogReader 'run'>\n"
        "  params: omega=2.0, scheme=leapfrog\n"
        "  meta: status=complete\n"
        "  arrays:\n"
        "    - energy\n    - state:v\n    - state:x\n    - states/t\n"
        "  artifacts:\n"
        "    - debug/notes.txt\n    - metrics.json\n    - model.pkl\n    - settings.yaml\n    - table.parquet\n"
        "    - weights.raw\n"
        "  plots:\n"
        "    - run/energy.png\n    - run/energy.svg"
    )


def test_a_run_that_holds_nothing_yet(place: Place) -> None:
    place.logbook()
    run = reader(place)
    assert (run.params, run.arrays, run.artifacts, run.plots) == ({}, [], [], [])
    assert str(run) == "<LogReader 'run'>\n  params: (missing)\n  meta: status=initialized"
    fields = json.loads(place.bytes("log_run/metadata.json"))
    fields["lease"]["process"] += "0"  # a different start time: that process is gone
    place.put("log_run/metadata.json", json.dumps(fields).encode())
    assert str(run).endswith("\n  meta: status=died")


def test_a_run_that_notata_0_3_0_wrote(place: Place) -> None:
    bundle = io.BytesIO()
    np.savez(bundle, x=np.arange(2))
    single = io.BytesIO()
    np.save(single, np.arange(3))
    place.put("log_old/metadata.json", b'{"status": "complete"}')
    place.put("log_old/params.json", b'{"dt": 0.1}')
    place.put("log_old/data/bundle.npz", bundle.getvalue())
    place.put("log_old/data/t.npy", single.getvalue())
    place.put("log_old/artifacts/metrics.json", b'{"loss": NaN}')
    place.put("log_old/plots/a.png", b"")
    place.put(
        "log_old/log.txt", b"[2026-03-01T09:30:00] INFO Logbook initialized\n[2026-03-01T09:30:01] Level 15 a\nb\n"
    )
    run = reader(place, "old")
    assert (run.run_id, run.meta, run.params) == ("old", {"status": "complete"}, {"dt": 0.1})
    assert (run.arrays, run.artifacts, run.plots) == (["bundle:x", "t"], ["metrics.json"], ["a.png"])
    assert run.load_array("bundle:x").tolist() == [0, 1]
    assert np.isnan(run.load_json("metrics")["loss"])
    assert (run.state.status, run.state.certain) == ("complete", True)
    assert [(line.level, line.message) for line in run.log] == [("INFO", "Logbook initialized"), ("Level 15", "a\nb")]
    assert "status=complete" in str(run)
    assert "complete" in run._repr_html_()


def test_a_run_of_0_3_0_that_did_not_end(place: Place) -> None:
    place.put("log_old/metadata.json", b'{"status": "initialized"}')
    run = reader(place, "old")
    assert (run.state.status, run.state.certain) == ("running", False)
    assert list(run.log) == []


def test_any_run_id_reads_back_exactly(place: Place) -> None:
    for run_id in ("log_a", "a log_ b", "log_log_", "é+%20#?", "2026-11-22T19-50-03.123Z-4f2a9c"):
        with place.logbook(run_id) as log:
            log.json("x", [run_id])
        assert log.reader.run_id == run_id
        run = LogReader(log.path)
        assert (run.run_id, run.load_json("x")) == (run_id, [run_id])
        assert reader(place, run_id).load_json("x") == [run_id]


def test_the_folder_of_a_run_may_be_given_in_many_ways(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.logbook()
    url = f"{place.url}/log_run"
    for path in (url, f"{url}/", UPath(url, **place.options), place.store().below("log_run")):
        run = LogReader(path, storage_options=place.options)
        assert (run.run_id, run.meta["run_id"]) == ("run", "run")
        assert run.path.name == "log_run"
        assert run.url.endswith("/log_run")
    if place.name == "local":
        monkeypatch.chdir(url)
        assert LogReader(".").run_id == "run"
        assert LogReader(Path(url)).run_id == "run"


def test_no_run_is_an_error_of_three_kinds(place: Place) -> None:
    place.put("log_x/artifacts/a.txt", b"no metadata")
    for run_id in ("x", "none"):
        with pytest.raises(errors.RunMissingError, match=r"there is no run at .*metadata\.json") as caught:
            reader(place, run_id)
        assert isinstance(caught.value, FileNotFoundError)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, KeyError)
        assert str(caught.value.url).endswith(f"/log_{run_id}")
    assert place.names() == ["log_x/artifacts/a.txt"]


# -- what is new -------------------------------------------------------------------------------------------


class Lines:
    suffix = ".lines"

    def write(self, value: list[str], file: IO[bytes]) -> None:
        file.write("".join(f"{item}\n" for item in value).encode())

    def read(self, file: IO[bytes]) -> list[str]:
        return file.read().decode().splitlines()


def test_every_kind_comes_back(place: Place) -> None:
    run = full(place)
    assert run.load_text("debug/notes") == run.load_text("debug/notes.txt") == "converged\r\n"
    assert run.load_text("settings.yaml") == "a:\n- 1\n- null\n"
    assert run.load_bytes("weights.raw") == b"\x00\x01"
    assert run.load_pickle("model") == run.load_pickle("model.pkl") == {1, 2}
    assert run.load_table("table").t.tolist() == run.load_table("table.parquet").t.tolist() == [0.0, 0.5]
    assert run.load_table("table", "arrow").column_names == list(run.load_table("table", library="pandas")) == ["t"]
    arrays = run.load_arrays("state")
    assert {name: array.tolist() for name, array in arrays.items()} == {"x": [[1, 2]], "v": 3.0}
    assert (arrays["v"].dtype, arrays["v"].shape) == (np.dtype("float32"), ())
    assert run.load_array("states/t").tolist() == run.load_array("states/t.npy").tolist() == [0.5]


def test_any_file_comes_back_by_its_suffix(place: Place) -> None:
    run = full(place)
    assert run.load("metrics.json") == run.load("artifacts/metrics.json") == {"error": 1e-6}
    assert run.load("settings.yaml") == {"a": [1, None]}
    assert run.load("params.yaml") == run.params
    assert run.load("metadata.json") == run.meta
    assert run.load("debug/notes.txt") == "converged\r\n"
    assert run.load("log.txt") == run.log.text
    assert run.load("data/energy.npy").tolist() == [0.0, 1.0, 2.0]
    assert sorted(run.load("data/state.npz")) == ["v", "x"]
    assert run.load("table.parquet").column_names == ["t"]
    assert run.load("weights.raw") == b"\x00\x01"
    assert run.load("plots/run/energy.png").startswith(b"\x89PNG")


def test_any_file_comes_back_by_a_format(place: Place) -> None:
    log = place.logbook()
    log.save("species", ["H2", "O2"], Lines)
    log.save("grid", [1.0], "npy")
    log["data/own.lines"].write_text("N2\n")
    run = reader(place)
    assert run.load("species", Lines) == run.load("species.lines", format=Lines()) == ["H2", "O2"]
    assert run.load("artifacts/species", Lines) == ["H2", "O2"]
    assert run.load("data/own", Lines) == ["N2"]
    assert run.load("grid", format="npy").tolist() == [1.0]
    assert run.load("species.lines", format="text") == "H2\nO2\n"
    assert run.load("species.lines") == run.load("species.lines", "bytes") == b"H2\nO2\n"
    with pytest.raises(errors.ConfigurationError, match="there is no format 'xyz'"):
        run.load("species", "xyz")


def test_a_reader_as_a_collection_of_files(place: Place) -> None:
    run = full(place)
    place.put("log_run/artifacts/.notata-3f9a", b"unfinished")
    place.put("log_run2/artifacts/other", b"")
    assert run.files == list(run)
    assert [f"log_run/{key}" for key in run.files] == [
        name for name in place.names(logs=True) if name.startswith("log_run/") and ".notata-" not in name
    ]
    assert "artifacts/metrics.json" in run
    assert Path("artifacts/metrics.json") in run
    for other in (
        "metrics.json",
        "artifacts",
        "artifacts/none",
        "../log_run2/artifacts/other",
        "",
        "a//b",
        "/",
        3,
        None,
    ):
        assert other not in run
    assert run["artifacts/metrics.json"].read_bytes() == place.bytes("log_run/artifacts/metrics.json")
    assert run[Path("artifacts/debug/notes.txt")].name == "notes.txt"
    assert not run["artifacts/none"].exists()
    with pytest.raises(errors.KeyNameError):
        run["../log_run2/artifacts/other"]


def test_the_log_of_a_run(place: Place) -> None:
    run = full(place)
    assert isinstance(run.log, RunLog)
    assert run.log.text == place.bytes("log_run/log.txt").decode()
    assert [line.message for line in run.log.at("warning")] == ["step size\nis at its minimum"]
    assert (run.log[0].message, run.log[-1].message) == ("Logbook initialized", "Marked complete")
    place.put("log_run/log.txt", b"[2026-03-01T09:30:00] INFO torn \xc3")
    assert run.log[0].message == "torn \\xc3"


def test_how_a_run_stands(place: Place) -> None:
    log = place.logbook()
    run = reader(place)
    assert run.state.status == "running"
    log.mark_failed("diverged")
    assert (run.state.status, run.meta["failure_reason"]) == ("failed", "diverged")


def test_a_run_that_is_being_written_can_be_watched(place: Place) -> None:
    log = place.logbook(params={"omega": 2.0})
    seen = log.reader
    assert seen.params == {"omega": 2.0}
    log.info("step %d", 1)
    log.array("t", [1.0])
    assert log.reader.log[-1].message == "Saved array t in data/t.npy"
    assert place.log()[-2] == "INFO step 1"
    log.array("t", [1.0, 2.0])
    log.params(dt=0.1)
    assert seen.load_array("t").tolist() == [1.0, 2.0]
    assert seen.params == {"omega": 2.0, "dt": 0.1}
    assert (seen.run_id, seen.url, seen.arrays) == ("run", log.url, ["t"])


# -- what it shows -----------------------------------------------------------------------------------------


def test_what_a_notebook_shows_is_escaped(place: Place) -> None:
    evil = "<script>alert(1)</script>"
    with place.logbook("a&b<i>", params={evil: evil, "nested": {"<b>": ["<u>"]}}) as log:
        log.text("<img>", "")
        log.mark_failed("1 < 2 & <em>")
    html = reader(place, "a&b<i>")._repr_html_()
    assert "a&amp;b&lt;i&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "1 &lt; 2 &amp; &lt;em&gt;" in html
    assert set(re.findall(r"</?(\w+)", html)) == {"div", "b", "table", "caption", "tr", "th", "td", "span"}
    assert re.findall(r"<b>|<b [^>]*>", html) == ["<b>"]


def test_what_a_shell_shows(place: Place) -> None:
    run = full(place)
    assert repr(run) == f"LogReader({run.url!r})"
    assert "127.0.0.1" not in repr(run)
    assert pretty(run) == str(run)
    lists = pretty([run])
    assert "<LogReader 'run'>" in lists


def test_to_show_a_run_never_raises(place: Place) -> None:
    run = full(place)
    place.put("log_run/data/state.npz", b"damaged")
    assert repr(run) in pretty(run)
    assert "state.npz" in run._repr_html_()
    place.put("log_run/params.yaml", b"a: [")
    assert "/params.yaml: " in pretty(run)
    assert "/params.yaml: " in run._repr_html_()
    place.store().clear()
    assert "there is no such" in pretty(run)
    assert "there is no such" in run._repr_html_()
    assert repr(run) == f"LogReader({run.url!r})"


# -- what is not there -------------------------------------------------------------------------------------

MISSING: list[tuple[str, Callable[[LogReader], object], str]] = [
    ("enrgy", lambda run: run.load_array("enrgy"), "energy, "),
    ("state:y", lambda run: run.load_array("state:y"), "state:x, state:v, "),
    ("none:x", lambda run: run.load_array("none:x"), "state:x"),
    ("states", lambda run: run.load_array("states"), "states/t"),
    ("stat", lambda run: run.load_arrays("stat"), "there is state"),
    ("metric", lambda run: run.load_json("metric"), "metrics.json, "),
    ("notes", lambda run: run.load_text("notes"), "debug/notes.txt, "),
    ("debug", lambda run: run.load_text("debug"), "debug/notes.txt, "),
    ("metrics.json/x", lambda run: run.load_text("metrics.json/x"), "metrics.json, "),
    ("weights", lambda run: run.load_bytes("weights"), "weights.raw, "),
    ("debug", lambda run: run.load_bytes("debug"), "debug/notes.txt, "),
    ("models", lambda run: run.load_pickle("models"), "model.pkl, "),
    ("tables", lambda run: run.load_table("tables"), "table.parquet, "),
    ("artifacts/metric.json", lambda run: run.load("artifacts/metric.json"), "artifacts/metrics.json, "),
    ("data", lambda run: run.load("data"), "log.txt"),
    ("species", lambda run: run.load("species", Lines), "log.txt"),
]


def test_what_is_not_there_is_an_error_that_lists_what_is(place: Place) -> None:
    run = full(place)
    for name, load, listed in MISSING:
        with pytest.raises(errors.UnknownNameError) as caught:
            load(run)
        assert isinstance(caught.value, FileNotFoundError)
        assert isinstance(caught.value, KeyError)
        assert str(caught.value).startswith(f"there is no {name!r} in run 'run' at {run.url}; there is ")
        assert listed in str(caught.value)
        assert (caught.value.url, caught.value.key) == (run.url, name)


def test_a_default_is_for_what_is_not_there_only(place: Place) -> None:
    run = full(place)
    assert run.load_json("none", default=None) is None
    assert run.load_json("none", {}) == {}
    assert run.load_json("metrics", {}) == {"error": 1e-6}
    place.put("log_run/artifacts/metrics.json", b"{")
    with pytest.raises(errors.DecodeError):
        run.load_json("metrics", {})


def test_an_error_lists_twenty_names_and_how_many_more(place: Place) -> None:
    log = place.logbook()
    place.store().write_many({f"log_run/artifacts/n{number:02}.json": b"1" for number in range(25)})
    with pytest.raises(errors.UnknownNameError, match=r"n00\.json.* and 5 more$"):
        log.reader.load_json("other")
    with pytest.raises(errors.UnknownNameError, match=r"there is nothing$"):
        log.reader.load_array("other")


def test_an_illegal_name_is_refused(place: Place) -> None:
    run = full(place)
    for bad in ("../log_run/metadata.json", "/etc/passwd", "a//b", ""):
        for load in (run.load, run.load_text, run.load_bytes, run.load_json, run.load_array, run.load_arrays):
            with pytest.raises(errors.KeyNameError, match="cannot be a key"):
                load(bad)


# -- reading changes nothing -------------------------------------------------------------------------------


def folders(place: Place) -> list[str]:
    return sorted(str(path) for path in Path(place.url).rglob("*")) if place.name == "local" else []


def test_reading_changes_and_makes_nothing(place: Place) -> None:
    run = full(place)
    place.put("log_run/data/cut.npz", b"PK")
    before = place.files()
    paths = folders(place)
    run = reader(place)
    looks: list[Callable[[], object]] = [
        lambda: (run.run_id, run.url, run.path, run.meta, run.state, run.params, run.log, list(run), repr(run)),
        lambda: (run["none/deep/er"], run["none"].exists(), "none/x" in run, run._repr_html_()),
        lambda: (run.artifacts, run.plots, run.load_json("metrics"), run.load_array("state:x")),
        lambda: run.arrays,
        lambda: str(run),
        *(lambda load=load: load(run) for _, load, _ in MISSING),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedFileWarning)
        for look in looks:
            with suppress(errors.UnknownNameError):
                look()
    assert place.files() == before
    assert folders(place) == paths


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return builtins.open, (str(self.path), "w")


def test_no_pickle_is_loaded_but_by_load_pickle(place: Place, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    objects = io.BytesIO()
    np.save(objects, np.array([Evil(trap)]), allow_pickle=True)
    bundle = io.BytesIO()
    np.savez(bundle, x=np.array([Evil(trap)]), allow_pickle=True)
    log = place.logbook()
    log.pickle("model", Evil(trap))
    evil = place.bytes("log_run/artifacts/model.pkl")
    for key in ("artifacts/MODEL.PKL", "data/raw.npy", "data/raw.npz", "artifacts/table.parquet", "artifacts/x.json"):
        place.put(f"log_run/{key}", evil)
    place.put("log_run/data/objects.npy", objects.getvalue())
    place.put("log_run/data/objects.npz", bundle.getvalue())
    run = reader(place)
    for name in ("model.pkl", "artifacts/model.pkl", "MODEL.PKL"):
        with pytest.raises(errors.ConfigurationError, match="load_pickle"):
            run.load(name)
    for load in (
        lambda: run.load_array("objects"),
        lambda: run.load_array("objects:x"),
        lambda: run.load_arrays("objects"),
        lambda: run.load_array("raw"),
        lambda: run.load_arrays("raw"),
        lambda: run.load("data/objects.npy"),
        lambda: run.load_table("table"),
        lambda: run.load_json("x"),
        lambda: run.load("model.pkl", format="yaml"),
        lambda: run.load("model.pkl", format="json"),
    ):
        with pytest.raises(errors.DecodeError):
            load()
    assert run.load_bytes("model.pkl") == evil
    with pytest.warns(DamagedFileWarning, match=r"raw\.npz"):
        assert run.arrays == ["objects", "objects:x", "raw"]
    with pytest.warns(DamagedFileWarning):
        str(run)
    assert all((repr(run), run._repr_html_(), list(run)))
    assert "raw.npz" in pretty(run)
    assert not trap.exists()
    run.load_pickle("model").close()
    assert trap.exists()


# -- damage ------------------------------------------------------------------------------------------------

DAMAGED: list[tuple[str, Callable[[LogReader], object]]] = [
    ("data/energy.npy", lambda run: run.load_array("energy")),
    ("data/energy.npy", lambda run: run.load("data/energy.npy")),
    ("data/state.npz", lambda run: run.load_array("state:x")),
    ("data/state.npz", lambda run: run.load_arrays("state")),
    ("artifacts/metrics.json", lambda run: run.load_json("metrics")),
    ("artifacts/metrics.json", lambda run: run.load("metrics.json")),
    ("artifacts/settings.yaml", lambda run: run.load("settings.yaml")),
    ("artifacts/debug/notes.txt", lambda run: run.load_text("debug/notes")),
    ("artifacts/model.pkl", lambda run: run.load_pickle("model")),
    ("artifacts/table.parquet", lambda run: run.load_table("table")),
    ("params.yaml", lambda run: run.params),
]


def damaged(key: str, whole: bytes) -> list[bytes]:
    """Yield damaged variants of a file: truncated, replaced by another kind, and with a changed end."""
    if key.endswith((".txt", ".yaml")):
        return [b"\xff[{"]
    cut = [b"", whole[: len(whole) // 2], whole[:-3], b"\xff\xfe\x00"]
    return cut if key.endswith(".npy") else [*cut, whole[:-9] + b"?" * 9]  # npy has no checksum


def test_a_damaged_file_is_reported_with_its_place(place: Place) -> None:
    run = full(place)
    for key, load in DAMAGED:
        whole = place.bytes(f"log_run/{key}")
        for data in damaged(key, whole):
            place.put(f"log_run/{key}", data)
            with pytest.raises(errors.DecodeError) as caught:
                load(run)
            assert f"{run.url}/{key}" in str(caught.value).partition(": ")[0]
            assert (caught.value.url, caught.value.key) == (run.url, key)
            assert isinstance(caught.value, ValueError)
        place.put(f"log_run/{key}", whole)


def test_damaged_metadata_is_reported(place: Place) -> None:
    run = full(place)
    for data in (b"", b"{", b"[1]", b"\xff"):
        place.put("log_run/metadata.json", data)
        for look in (lambda: run.meta, lambda: run.state, lambda: reader(place)):
            with pytest.raises(errors.StorageError, match=r"metadata\.json: it is not a JSON object") as caught:
                look()
            assert caught.value.key == "metadata.json"


def test_a_listing_warns_of_a_damaged_bundle(place: Place) -> None:
    run = full(place)
    whole = place.bytes("log_run/data/state.npz")
    for data in (b"", whole[:-3], whole[: len(whole) // 2], b"x" * 100_000):
        place.put("log_run/data/state.npz", data)
        with pytest.warns(DamagedFileWarning, match=r"data/state\.npz is damaged") as caught:
            assert run.arrays == ["energy", "states/t"]
        assert [warning.filename for warning in caught] == [__file__]
        with pytest.raises(errors.UnknownNameError, match="there is energy, states/t"):
            run.load_array("none")


def test_a_bundle_with_a_long_table_of_contents_is_listed_whole(place: Place) -> None:
    log = place.logbook()
    names = [f"{'long' * 20}{number:04}" for number in range(700)]
    log.arrays("many", **dict.fromkeys(names, 0))  # type: ignore[call-overload]
    log.arrays("large", compressed=False, first=np.zeros(50_000), second=1)
    assert log.reader.arrays == ["large:first", "large:second", *(f"many:{name}" for name in names)]
    assert log.reader.load_array(f"many:{names[-1]}") == 0


def test_a_colon_may_be_part_of_any_name(place: Place) -> None:
    log = place.logbook()
    log.array("a:b", [1])
    odd: dict[str, Any] = {"h:i": [4], "j/k": [5]}
    log.arrays("c:d", True, **{"e:f": [2]})
    log.arrays("a", x=[3])
    log.arrays("g", **odd)
    log.array(":lead", [6])
    log.array("trail:", [7])
    run = reader(place)
    expected = {"a:b": [1], "c:d:e:f": [2], "a:x": [3], "g:h:i": [4], "g:j/k": [5], ":lead": [6], "trail:": [7]}
    assert run.arrays == sorted(expected)
    for name, values in expected.items():
        assert run.load_array(name).tolist() == values
    log.arrays("a", b=[8])
    assert run.load_array("a:b").tolist() == [8]


# -- a run that others write meanwhile ---------------------------------------------------------------------


def test_a_bundle_that_goes_or_changes_while_it_is_listed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place.logbook()
    run = reader(place)
    listing = Store.list

    def meanwhile(change: Callable[[], object]) -> None:
        def listed(self: Store, folder: str = "", *, skipped: Skipped | None = None) -> list[Entry]:
            found = listing(self, folder, skipped=skipped)
            if self.url != run.url:
                return found
            with monkeypatch.context() as patch:
                patch.setattr(Store, "list", listing)
                change()
            return found

        monkeypatch.setattr(Store, "list", listed)

    for change, left in (
        (lambda: log["data/b.npz"].unlink(), []),
        (lambda: log.arrays("b", y=[1]), ["b:y"]),
        (lambda: log.arrays("b", compressed=False, z=np.zeros(10**5)), ["b:z"]),
    ):
        log.arrays("a", x=[1])
        log.arrays("b", compressed=False, x=np.zeros(10**4))
        meanwhile(change)
        assert run.arrays == ["a:x", *left]


def test_many_files_of_which_some_are_not_there(place: Place) -> None:
    store = place.store()
    store.write_many({"a": b"1", "in/b": b"2"})
    found = store.fetch_many(["a", "in/b", "none", "in", "a/below"])
    assert {name: blob.data for name, blob in found.items()} == {"a": b"1", "in/b": b"2"}
    assert store.fetch_many([]) == {}
    entries = store.list()
    assert store.read_ends(entries, 10) == {"a": b"1", "in/b": b"2"}
    store.write("a", b"0123456789")
    store.write("empty", b"")
    entries = [entry for entry in store.list() if entry.key != "in/b"]
    assert store.read_ends(entries, 4) == {"a": b"6789", "empty": b""}
    store.delete(["a"])
    assert store.read_ends(entries, 4) == {"a": b"", "empty": b""}
    assert store.read_ends([], 4) == {}


# -- any value ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memory() -> Iterator[Place]:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    yield place
    place.store().clear()


def fresh(memory: Place) -> Logbook:
    return memory.logbook(overwrite=True, heartbeat=0, environment=False)


LETTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(LETTERS, max_size=20)
SEGMENTS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\\ufffe\uffff"), min_size=1, max_size=12
).filter(lambda text: text not in (".", "..") and not text.startswith(".notata-") and "?versionId=" not in text)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
DTYPES = (
    npst.scalar_dtypes()
    | npst.array_dtypes(npst.scalar_dtypes(), max_size=3)
    | npst.byte_string_dtypes(min_len=1)
    | npst.unicode_string_dtypes(min_len=1)
)
SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ANYTHING = settings(max_examples=50, suppress_health_check=list(HealthCheck))


def arrays() -> st.SearchStrategy[Any]:
    """Arrays of any dtype and shape, in C order, in Fortran order, or strided."""
    orders: list[Callable[[Any], Any]] = [np.ascontiguousarray, np.asfortranarray, lambda array: array[..., ::2]]
    whole = st.builds(lambda array, order: order(array), npst.arrays(DTYPES, SHAPES), st.sampled_from(orders[:2]))
    return npst.arrays(DTYPES, SHAPES) | whole | npst.arrays(DTYPES, st.just((3, 4))).map(orders[2])


def same(found: Any, array: Any) -> bool:
    return (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@ANYTHING
@given(name=NAMES, value=VALUES)
@example(name="a.json", value="a lone \U0001f600")
def test_any_json_comes_back(memory: Place, name: str, value: Any) -> None:
    log = fresh(memory)
    path = log.json(name, value)
    [artifact] = log.reader.artifacts
    assert artifact == (name if name.endswith(".json") else f"{name}.json")
    assert log.reader.load_json(name) == log.reader.load(f"artifacts/{artifact}") == value
    assert json.loads(path.read_bytes()) == json.loads(memory.bytes(f"log_run/artifacts/{artifact}")) == value


@ANYTHING
@given(name=NAMES, array=arrays())
def test_any_array_comes_back(memory: Place, name: str, array: Any) -> None:
    log = fresh(memory)
    log.array(name, array)
    [listed] = log.reader.arrays
    assert listed == name.removesuffix(".npy")
    found = log.reader.load_array(listed)
    assert same(found, array)
    assert found.flags.f_contiguous or not array.flags.f_contiguous
    assert same(np.load(io.BytesIO(memory.bytes(f"log_run/data/{listed}.npy"))), array)


MEMBERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\\0"), min_size=1, max_size=8)


@ANYTHING
@given(
    name=NAMES.filter(lambda name: ":" not in name),
    values=st.dictionaries(MEMBERS, arrays(), max_size=3),
    compressed=st.booleans(),
)
def test_any_bundle_comes_back(memory: Place, name: str, values: dict[str, Any], compressed: bool) -> None:
    assume(not any(f"{member}.npy" in values for member in values))
    assume(not values.keys() & {"name", "compressed"})
    assume(not any(member.endswith(".npy") for member in values))
    log = fresh(memory)
    log.arrays(name, compressed, **values)
    bundle = name.removesuffix(".npz")
    assert log.reader.arrays == sorted(f"{bundle}:{member}" for member in values)
    found = log.reader.load_arrays(name)
    plain = np.load(io.BytesIO(memory.bytes(f"log_run/data/{bundle}.npz")))
    assert found.keys() == values.keys() == set(plain.files)
    for member, array in values.items():
        assert same(found[member], array)
        assert same(plain[member], array)
        assert same(log.reader.load_array(f"{bundle}:{member}"), array)


@ANYTHING
@given(name=NAMES, text=st.text(), blob=st.binary(), value=st.binary() | st.tuples(SCALARS, st.frozensets(SCALARS)))
def test_any_text_bytes_and_object_come_back(memory: Place, name: str, text: str, blob: bytes, value: Any) -> None:
    log = fresh(memory)
    written = [log.text(f"t/{name}", text), log.bytes(f"b/{name}", blob), log.pickle(f"p/{name}", value)]
    seen = log.reader
    assert seen.load_text(f"t/{name}") == text.encode("utf-8", "backslashreplace").decode()
    assert seen.load_bytes(f"b/{name}") == blob
    assert seen.load_pickle(f"p/{name}") == value
    assert [path.read_bytes() for path in written] == [
        text.encode("utf-8", "backslashreplace"), blob, pickle.dumps(value, pickle.HIGHEST_PROTOCOL),
    ]  # fmt: skip
    assert sorted(memory.names()) == sorted(f"log_run/{key}" for key in seen.files if key != "log.txt")


@ANYTHING
@given(values=st.dictionaries(TEXT, VALUES, max_size=5), ext=st.sampled_from(["yaml", "json"]))
def test_any_parameters_come_back(memory: Place, values: dict[str, Any], ext: str) -> None:
    values = {name: value for name, value in values.items() if name != "ext"}
    log = fresh(memory)
    log.params(ext, **values)
    assert log.reader.params == dict(log.params) == values
    data = memory.bytes(f"log_run/params.{ext}")
    assert (yaml.safe_load(data) if ext == "yaml" else json.loads(data)) == values


# -- local ---------------------------------------------------------------------------------------------------


def test_a_file_has_a_real_path_while_it_is_read(place: Place) -> None:
    large = bytes(range(256)) * (10 * 2**20 // 256)
    with place.logbook() as log:
        log.bytes("small.bin", b"\x00\x01")
        log.bytes("deep/large.bin", large)
    reader = log.reader
    for key, data in (("artifacts/small.bin", b"\x00\x01"), ("artifacts/deep/large.bin", large)):
        with reader.local(key) as path:
            assert path.name == key.rpartition("/")[2]
            with open(path, "rb") as file:
                assert file.read() == data
        assert path.exists() is (place.name == "local")
    assert place.bytes("log_run/artifacts/small.bin") == b"\x00\x01"


def test_a_folder_has_a_real_path_with_all_its_files(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "fields.zarr"
    (source / "c" / "0").mkdir(parents=True)
    (source / ".zattrs").write_text("{}")
    (source / "c" / "0" / "1").write_bytes(b"chunk")
    with place.logbook() as log:
        log.folder(source)
        log.text("fields.zarr.notes", "a file beside it")
    with log.reader.local("artifacts/fields.zarr") as path:
        found = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert path.name == "fields.zarr"
    assert found == {".zattrs": b"{}", str(Path("c/0/1")): b"chunk"}


def test_a_path_of_what_is_not_there_is_refused(place: Place) -> None:
    with place.logbook() as log:
        log.text("notes", "x")
    for key in ("artifacts/nothing.nc", "artifacts/notes"):
        with pytest.raises(errors.UnknownNameError, match=r"there is no '.*' in run 'run'"), log.reader.local(key):
            raise AssertionError("not reached")
    with pytest.raises(errors.KeyNameError), log.reader.local("../other/log.txt"):
        raise AssertionError("not reached")


def test_an_exception_in_the_block_removes_the_copy(place: Place) -> None:
    with place.logbook() as log:
        log.text("notes", "x")
    with pytest.raises(RuntimeError, match="mine"), log.reader.local("artifacts/notes.txt") as path:
        raise RuntimeError("mine")
    assert path.exists() is (place.name == "local")
