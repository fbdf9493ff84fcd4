"""Lineage: what runs were made from, over several generations; hostile addresses are named and never opened."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import Experiment, Logbook, RunMissingError, Storage, search, sync
from notata.search import Lineage
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata
from tests.contract.conftest import make_place
from tests.counting import counted


@pytest.fixture(params=["memory", "local", "s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture
def base() -> str:
    return f"memory://lineage-{uuid.uuid4().hex}"


def run(base: str, name: str, *, parent: str = "", inputs: tuple[str, ...] = (), text: str = "x") -> None:
    """Record a run that has an artifact ``n.txt`` with this text."""
    with Logbook(name, base, parent=parent or None) as log:
        for one in inputs:
            log.input(one)
        log.text("n", text)


def links(found: Lineage) -> list[tuple[str, ...]]:
    return [
        (link.child.rpartition("/")[2], link.source.rpartition("/")[2], link.how, link.file, link.check)
        for link in found.links
    ]


def notes(found: Lineage) -> dict[str, str]:
    return {url.rpartition("/")[2]: node.note or node.status for url, node in found.nodes.items()}


def forge(base: str, name: str, **fields: Any) -> None:
    """Store a run as another program could: these fields, and these inputs."""
    inputs = fields.pop("inputs", None)
    store = open_store(f"{base}/log_{name}")
    document = {"run_id": name, "status": "complete", "start_time": "2026-11-29T10:00:00+00:00", **fields}
    store.write("metadata.json", json.dumps(document).encode())
    if inputs is not None:
        store.write("inputs.json", inputs if isinstance(inputs, bytes) else json.dumps({"inputs": inputs}).encode())


# -- on each storage -----------------------------------------------------------------------------------------


def test_sources_and_descendants_of_a_run(place: Place) -> None:
    with place.logbook("mesh") as log:
        log.text("mesh", "0 1 2")
        log.text("parts/a", "a")
        log.text("parts/b", "b")
    at = f"{place.url}/log_mesh"
    with place.logbook("fit", parent=at) as log:
        for name in ("artifacts/mesh.txt", "artifacts/parts"):
            log.input(f"{at}/{name}", storage_options=place.options)
        log.text("n", "fitted")
    with place.logbook("plot") as log:
        log.input(f"{place.url}/log_fit/artifacts/n.txt", storage_options=place.options)
    url = f"{place.url}/log_fit"
    with counted() as sent:
        found = search.lineage(url, down=False, storage_options=place.options)
    # the run itself; metadata.json and inputs.json of it and of its source, and the manifest of that
    assert len(sent) <= 6 * place.bucket
    assert links(found) == [
        ("log_fit", "log_mesh", "parent", "", ""),
        ("log_fit", "log_mesh", "input", "artifacts/mesh.txt", "same"),
        ("log_fit", "log_mesh", "input", "artifacts/parts", "same"),
    ]
    assert links(search.lineage(url, up=False, storage_options=place.options)) == [
        ("log_plot", "log_fit", "input", "artifacts/n.txt", "same")
    ]
    both = search.lineage(url, storage_options=place.options)
    assert notes(both) == {"log_fit": "complete", "log_mesh": "complete", "log_plot": "complete"}
    assert (both.url, both.problems, both.notes) == (url, [], [])
    with place.logbook("mesh", overwrite=True) as log:
        log.text("mesh", "0 1 2 3")
    changed = search.lineage(url, down=False, storage_options=place.options)
    assert [link.check for link in changed.problems] == ["changed", "gone"]


# -- what is found -------------------------------------------------------------------------------------------


def test_several_generations_and_limits(base: str) -> None:
    run(base, "0")
    for number in range(1, 6):
        run(base, f"{number}", parent=f"{base}/log_{number - 1}")
    assert len(search.lineage(f"{base}/log_5").nodes) == 6
    assert len(search.lineage(f"{base}/log_0").nodes) == 6
    found = search.lineage(f"{base}/log_5", down=False, depth=2)
    assert notes(found) == {"log_5": "complete", "log_4": "complete", "log_3": "complete", "log_2": "too far"}
    assert found.notes == ["only 2 generations are shown"]
    found = search.lineage(f"{base}/log_0", most=3)
    assert list(notes(found)) == ["log_0", "log_1", "log_2"]
    assert found.notes == ["only 3 runs are shown"]


def test_circles_end(base: str, tmp_path: Path) -> None:
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("self", "self")):
        forge(base, name, parent=f"{base}/log_{parent}")
    assert links(search.lineage(f"{base}/log_a")) == [
        ("log_a", "log_b", "parent", "", ""),
        ("log_b", "log_c", "parent", "", ""),
        ("log_c", "log_a", "parent", "", ""),
    ]
    assert links(search.lineage(f"{base}/log_self")) == []
    done = notata("lineage", f"{base}/log_a", "--up", folder=tmp_path)
    assert done.stdout.splitlines()[-1].endswith("log_a (complete)  parent (see above)")


def test_runs_of_experiments_and_reruns(base: str) -> None:
    run(base, "mesh")
    experiment = Experiment("sweep", base, parent=f"{base}/log_mesh")
    experiment.add(dt=1).mark_complete()
    forge(f"{base}/sweep/runs", "again", origin={"url": f"{base}/sweep/runs/log_sweep_dt_1", "how": "rerun"})
    found = search.lineage(f"{base}/sweep/runs/log_again")
    assert links(found) == [
        ("log_again", "log_sweep_dt_1", "rerun", "", ""),
        ("log_sweep_dt_1", "log_mesh", "parent", "", ""),
    ]
    assert [node.name for node in found.nodes.values()][-1] == f"{base}/log_mesh"
    assert len(search.lineage(f"{base}/log_mesh", up=False).links) == 2


def test_inputs_of_workers(base: str) -> None:
    run(base, "mesh")
    log = Logbook("fit", base)
    with log.worker(0) as worker:
        worker.input(f"{base}/log_mesh/artifacts/n.txt")
    log.mark_complete()
    wanted = [("log_fit", "log_mesh", "input", "artifacts/n.txt", "same")]
    assert links(search.lineage(f"{base}/log_fit", down=False)) == wanted
    assert links(search.lineage(f"{base}/log_mesh", up=False)) == wanted


def test_files_outside_of_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("1,2")
    run(str(tmp_path / "out"), "a", inputs=(str(tmp_path / "raw.csv"),))
    done = notata("lineage", "out/log_a", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "out/log_a (complete)",
        "made from",
        f"  └─ {tmp_path}/raw.csv  3 B",
        "used by",
        "  no run that was found",
    ]
    lines = notata("lineage", "a", "--up", folder=tmp_path / "out").stdout.splitlines()  # by its id
    assert lines[0] == "log_a (complete)"


def test_a_growing_file_is_not_compared(base: str) -> None:
    run(base, "a")
    run(base, "b", inputs=(f"{base}/log_a/log.txt",))
    assert links(search.lineage(f"{base}/log_b", down=False)) == [("log_b", "log_a", "input", "log.txt", "")]


# -- elsewhere -----------------------------------------------------------------------------------------------


def test_runs_elsewhere_are_followed_only_if_the_user_says_so(base: str) -> None:
    there = f"{base}-there"
    run(there, "old")
    run(there, "far", parent=f"{there}/log_old")
    run(base, "a", parent=f"{there}/log_far")
    assert notes(search.lineage(f"{base}/log_a")) == {"log_a": "complete", "log_far": "not followed"}
    for follow in (there, [there], Storage(there), f"{there}/log_*"):
        assert len(search.lineage(f"{base}/log_a", follow=follow).nodes) == 3
    assert notes(search.lineage(f"{base}/log_a", follow=f"{there}/log_far"))["log_old"] == "not followed"
    assert links(search.lineage(f"{there}/log_far", up=False)) == []
    found = search.lineage(f"{there}/log_far", up=False, within=[base])
    assert links(found) == [("log_a", "log_far", "parent", "", "")]


def test_runs_that_were_copied(base: str, tmp_path: Path) -> None:
    run(base, "mesh")
    run(base, "fit", parent=f"{base}/log_mesh", inputs=(f"{base}/log_mesh/artifacts/n.txt",))
    copy = tmp_path / "copy"
    sync(base, copy)
    assert notes(search.lineage(copy / "log_fit"))["log_mesh"] == "not followed"
    wanted = [("log_fit", "log_mesh", "parent", "", ""), ("log_fit", "log_mesh", "input", "artifacts/n.txt", "same")]
    for found in (
        search.lineage(copy / "log_fit", moved=base),
        search.lineage(copy / "log_mesh", moved=["memory://other", f"{base}/"]),
    ):
        assert links(found) == wanted
        assert {node.status for node in found.nodes.values()} == {"complete"}
        assert all(url.startswith(str(copy)) for url in found.nodes)
    done = notata("lineage", "copy/log_fit", "--moved", base, "--up", folder=tmp_path)
    assert "└─ copy/log_mesh (complete)  parent, artifacts/n.txt" in done.stdout


def test_hostile_addresses_are_data(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2hunter2"
    addresses = [
        f"{base}/../other/log_x",
        f"{base}/a/../../log_x",
        f"{base}//log_x",
        "s3://evil/log_x",
        "http://169.254.169.254/log_x",
        "file:///etc/log_x",
        "zip://log_x::/etc/passwd",
        f"s3://ada:{secret}@evil/log_x",
        "\x1b[2J/log_x",
        "/",
        "log_x",
        "x" * 9000,
    ]
    forge(base, "a", parent=addresses[0], inputs=[{"url": one, "run_id": "x"} for one in addresses])
    opened: list[str] = []

    def noted(url: Any, *given: Any, **options: Any) -> Store:
        opened.append(getattr(url, "url", url))
        return open_store(url, *given, **options)

    monkeypatch.setattr("notata.search.target.open_store", noted)
    found = search.lineage(f"{base}/log_a")
    assert opened
    assert all(url.startswith(base) and ".." not in url for url in opened)
    assert {node.note for node in found.nodes.values() if node.kind == "run"} - {""} == {"not followed"}
    shown = json.dumps(found.record()) + found.dot()
    assert secret not in shown
    assert "\x1b" not in shown
    assert "\\u001b" not in shown
    assert max(map(len, found.nodes)) <= 2000


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b'{"inputs": 5}',
    b'{"inputs": [5, null, {"url": 7}, {"size": 3}]}',
    b'{"inputs": [' * 3000,
    b" " * (2**21 + 1),
]


@pytest.mark.parametrize("inputs", DAMAGED, ids=len)
def test_damaged_inputs_are_none(inputs: bytes, base: str) -> None:
    forge(base, "a", parent=5, origin=[1], inputs=inputs)
    found = search.lineage(f"{base}/log_a")
    assert (links(found), len(found.nodes)) == ([], 1)
    assert bool(found.notes) == (len(inputs) > 2**21)


def test_missing_and_damaged_sources(base: str, tmp_path: Path) -> None:
    run(base, "a", parent=f"{base}/log_gone")
    run(base, "b", parent=f"{base}/log_broken")
    open_store(f"{base}/log_broken").write("metadata.json", b"{")
    assert notes(search.lineage(f"{base}/log_a"))["log_gone"] == "missing"
    assert notes(search.lineage(f"{base}/log_b"))["log_broken"] == "unreadable"
    done = notata("lineage", f"{base}/log_a", folder=tmp_path)
    assert done.returncode == 1
    assert f"└─ {base}/log_gone (missing)  parent" in done.stdout


def test_a_storage_that_refuses_is_reported(base: str) -> None:
    run(base, "a")
    run(base, "b", parent=f"{base}/log_a")
    storage = FaultyBackend(open_store(base))
    storage.fail(1, key="inputs.json")
    errors: list[Exception] = []
    found = search.lineage(f"{base}/log_a", within=storage, up=False, failed=errors.append)
    assert links(found) == [("log_b", "log_a", "parent", "", "")]
    assert errors == []  # b has no inputs, so nothing was read
    run(base, "c", inputs=(f"{base}/log_a/artifacts/n.txt",))
    storage.fail(1, key="inputs.json")
    search.lineage(f"{base}/log_a", within=storage, up=False, failed=errors.append)
    assert len(errors) == 1
    with pytest.raises(RunMissingError, match="there is no run at"):
        search.lineage(f"{base}/log_none")


# -- the output ----------------------------------------------------------------------------------------------


def test_text_for_graphviz_is_quoted(base: str) -> None:
    forge(base, "a", parent=f'{base}/log_"];evil[label="\\')
    text = search.lineage(f"{base}/log_a").dot()
    labels = [line.partition("label=")[2] for line in text.splitlines() if "label=" in line]
    assert all(label.startswith('"') for label in labels)
    assert '\\"];evil[label=\\"\\\\' in text
    assert text.count("{") == text.count("}") == 1


def test_the_command_prints_json_and_graphs(base: str, tmp_path: Path) -> None:
    run(base, "a")
    run(base, "b", inputs=(f"{base}/log_a/artifacts/n.txt",))
    record = json.loads(notata("lineage", f"{base}/log_b", "--json", folder=tmp_path).stdout)
    assert record["links"][0]["file"] == "artifacts/n.txt"
    assert [node["kind"] for node in record["nodes"]] == ["run", "run"]
    dot = notata("lineage", f"{base}/log_b", "--dot", folder=tmp_path).stdout
    assert dot.startswith("digraph lineage {\n")
    assert "n1 -> n0" in dot
    down = notata("lineage", f"{base}/log_a", "--down", folder=tmp_path).stdout
    assert down.splitlines()[1:] == ["used by", f"  └─ {base}/log_b (complete)  artifacts/n.txt"]
    Logbook("a", base, overwrite=True).text("n", "changed")
    changed = notata("lineage", f"{base}/log_b", "--up", folder=tmp_path)
    assert changed.returncode == 0  # a run that has not ended has no manifest to compare with
    with Logbook("a", base, overwrite=True) as log:
        log.text("n", "changed")
    changed = notata("lineage", f"{base}/log_b", "--up", folder=tmp_path)
    assert changed.returncode == 1
    assert "artifacts/n.txt (changed)" in changed.stdout
    refused = notata("lineage", f"{base}/log_b", "--dot", "--json", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert notata("lineage", f"{base}/nowhere", folder=tmp_path).returncode == 1
