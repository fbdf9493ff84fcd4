"""Links on a local disk: no write, removal or copy follows one out of the folder that the user named."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notata import Experiment, Logbook, LogReader, Storage, sync
from notata.errors import (
    BatchError,
    ConfigurationError,
    ConflictError,
    ExistsError,
    IncompleteListingWarning,
    LinkError,
    NotataError,
)
from notata.search import remove, verdicts
from notata.store import open_store
from notata.store.backends import local_folders
from tests.command import notata

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there, and folders have no descriptors")


def content(folder: Path) -> dict[str, bytes | str | None]:
    """Return all entries below a folder: bytes of files, targets of links, None for folders. Follows no links."""
    found: dict[str, bytes | str | None] = {}
    for above, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(above, name)
            key = str(path.relative_to(folder))
            found[key] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that must stay unchanged. It looks like a run, so code that follows a link into it finds its files."""
    folder = tmp_path / "outside"
    with Logbook("night", folder, params={"dt": 0.1}, heartbeat=0, environment=False) as log:
        log.text("notes", "years of work")
        log.text("deep/notes", "more of it")
        log.array("x", [1.0])
        log.text("loose", "kept")
    (folder / "log_night/plots").mkdir()
    (folder / "log_night/plots/p.png").write_bytes(b"a picture")
    return folder


def place_link(link: Path, goal: Path) -> None:
    """Place a link where a file or folder may be."""
    if link.is_symlink() or link.is_file():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(goal)


COMPONENTS = [
    "",
    "artifacts",
    "artifacts/deep",
    "data",
    "plots",
    "workers",
    "log.txt",
    "metadata.json",
    "params.yaml",
    "manifest.json",
    "artifacts/notes.txt",
    "data/x.npy",
]
"""Paths that may be links: the run's folder, each folder in it, and files of each kind."""


def by_local(log: Logbook) -> None:
    with log.local("artifacts/notes.txt") as path:
        path.write_text("new")


def by_open(mode: str) -> Callable[[Logbook], None]:
    def write(log: Logbook) -> None:
        with log.open("artifacts/notes.txt", mode) as file:
            file.write("new")

    return write


def by_path(make: Callable[[Any], Any]) -> Callable[[Logbook], None]:
    return lambda log: make(log["artifacts/deep/notes.txt"]).write_text("new")


def by_change_in_place(log: Logbook) -> None:
    with log["artifacts/notes.txt"].open("r+") as file:
        file.write("new")


def by_plot(log: Logbook) -> None:
    from matplotlib.figure import Figure

    log.plot("p", Figure())


def by_folder(log: Logbook) -> None:
    place = log.path.parent / "given"
    place.mkdir()
    (place / "notes.txt").write_text("new")
    log.folder(str(place), "deep")


def by_file(log: Logbook) -> None:
    place = log.path.parent / "given.txt"
    place.write_text("new")
    log.file(str(place), "notes.txt")


def by_worker(log: Logbook) -> None:
    with log.worker(0) as worker:
        worker.text("notes", "new")


WRITERS: dict[str, Callable[[Logbook], object]] = {
    "text": lambda log: log.text("notes", "new"),
    "deep text": lambda log: log.text("deep/notes", "new"),
    "json": lambda log: log.json("notes", {"new": 1}),
    "large bytes": lambda log: log.bytes("notes.txt", bytes(9 * 2**20)),
    "array": lambda log: log.array("x", [2.0]),
    "arrays": lambda log: log.arrays("x", a=[2.0]),
    "plot": by_plot,
    "file": by_file,
    "folder": by_folder,
    "local": by_local,
    "open w": by_open("w"),
    "open x": by_open("x"),
    "open a": by_open("a"),
    "path": by_path(lambda path: path),
    "a path beside": by_path(lambda path: path.with_name("other.txt")),
    "a path by its parent": by_path(lambda path: path.parent.parent / "notes.txt"),
    "a path by its parents": by_path(lambda path: path.parents[1] / "notes.txt"),
    "a path by join": by_path(lambda path: path.parent.joinpath("more", "notes.txt")),
    "a pickled path": by_path(lambda path: pickle.loads(pickle.dumps(path))),
    "a path that is changed in place": by_change_in_place,
    "touch": lambda log: log["artifacts/notes.txt"].touch(),
    "info": lambda log: log.info("a line"),
    "params": lambda log: log.params(omega=2.0),
    "meta": lambda log: log.meta(machine="n17"),
    "worker": by_worker,
    "complete": lambda log: log.mark_complete(),
    "failed": lambda log: log.mark_failed("why"),
}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_writes_through_a_link(writer: str, component: str, tmp_path: Path, outside: Path) -> None:
    log = Logbook("night", tmp_path / "base", params={"dt": 0.1}, heartbeat=0, environment=False)
    log.text("notes", "mine")
    log.text("deep/notes", "mine")
    log.info("a line")
    before = content(outside)
    place_link(tmp_path / "base/log_night" / component, outside / "log_night" / component)
    with suppress(NotataError):
        WRITERS[writer](log)
    with suppress(NotataError):
        log.flush()
    with suppress(NotataError):
        log.mark_complete()
    assert content(outside) == before


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a system without folder descriptors, such as Windows: notata checks each folder before use."""
    monkeypatch.setattr(local_folders, "BY_DESCRIPTOR", False)
    monkeypatch.setattr(local_folders, "NO_LINK", 0)


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize("component", ["", "artifacts", "log.txt", "metadata.json"])
@pytest.mark.parametrize("writer", ["text", "json", "local", "open a", "info", "meta", "complete"])
def test_where_folders_have_no_descriptors_a_link_is_seen_too(
    writer: str, component: str, tmp_path: Path, outside: Path
) -> None:
    test_no_writer_writes_through_a_link(writer, component, tmp_path, outside)


@pytest.mark.usefixtures("by_name")
def test_where_folders_have_no_descriptors_runs_are_written_and_removed(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with Logbook("night", Storage(tmp_path, durable=True), overwrite=overwrite, environment=False) as log:
            log.text("deep/notes", "mine")
            log["artifacts/a.txt"].write_text("a")
            with log.local("artifacts/b.txt") as path:
                path.write_text("b")
    assert LogReader(tmp_path / "log_night").verify().ok
    assert remove(str(tmp_path), recursive=True)[0].removed
    assert list(tmp_path.iterdir()) == []


def begun(**options: Any) -> Callable[[Path | Storage], Logbook]:
    return lambda base: Logbook("night", base, heartbeat=0, environment=False, **options)


BEGINNINGS = {
    "new": begun(),
    "resume": begun(resume=True),
    "resume by force": begun(resume="force"),
    "overwrite": begun(overwrite=True),
    "durable": lambda base: begun(overwrite=True)(Storage(base, durable=True)),
    "background": begun(overwrite=True, background=True),
    "preallocate": begun(overwrite=True, preallocate=True),
}


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_run_whose_folder_is_a_link_is_refused_and_nothing_changes(begin: str, tmp_path: Path, outside: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/log_night").symlink_to(outside / "log_night")
    before = content(tmp_path)
    with pytest.raises(
        LinkError, match=r"'log_night' below .*base is a link, and notata does not follow links"
    ) as caught:
        BEGINNINGS[begin](tmp_path / "base")
    assert caught.value.errno == errno.ELOOP
    assert content(tmp_path) == before


def written(log: Any) -> None:
    log.text("notes", "new")
    log.mark_complete()


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_no_run_begins_through_a_link(begin: str, component: str, tmp_path: Path, outside: Path) -> None:
    with Logbook("night", tmp_path / "base", params={"dt": 0.1}, heartbeat=0, environment=False) as log:
        log.text("deep/notes", "mine")
        log.array("x", [1.0])
    place_link(tmp_path / "base/log_night" / component, outside / "log_night" / component)
    before = content(outside)
    with suppress(NotataError):
        written(BEGINNINGS[begin](tmp_path / "base"))
    assert content(outside) == before


def test_a_base_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "base").symlink_to("disk")
    for overwrite in (False, True):
        with Logbook("night", tmp_path / "base", overwrite=overwrite) as log:
            log.text("notes", "mine")
    assert (tmp_path / "disk/log_night/artifacts/notes.txt").read_text() == "mine"
    assert LogReader(tmp_path / "base/log_night").verify().ok
    assert remove(str(tmp_path / "base"), recursive=True)[0].removed
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("component", ["sweep", "sweep/runs", "sweep/index.csv"])
def test_no_experiment_writes_through_a_link(component: str, tmp_path: Path, outside: Path) -> None:
    (outside / "index.csv").write_text("run_id\n")
    before = content(outside)
    goal = outside / "index.csv" if component.endswith("csv") else outside
    place_link(tmp_path / "base" / component, goal)
    with suppress(NotataError):
        experiment = Experiment("sweep", tmp_path / "base")
        with experiment.add(x=1) as log:
            log.text("notes", "new")
    assert content(outside) == before


def test_an_experiment_whose_folder_is_a_link_says_so(tmp_path: Path, outside: Path) -> None:
    place_link(tmp_path / "base/sweep/runs", outside)
    with pytest.raises(LinkError, match=r"'sweep/runs' below .* is a link"):
        Experiment("sweep", tmp_path / "base").add(x=1)


def test_overwrite_gives_a_run_without_links(tmp_path: Path, outside: Path) -> None:
    Logbook("night", tmp_path / "base").mark_complete()
    for component in ("artifacts", "log.txt", "params.yaml", "plots/p.png"):
        place_link(tmp_path / "base/log_night" / component, outside / "log_night" / component)
    before = content(outside)
    with Logbook("night", tmp_path / "base", params={"dt": 0.2}, overwrite=True) as log:
        log.text("notes", "new")
    assert content(outside) == before
    assert not [path for path in (tmp_path / "base").rglob("*") if path.is_symlink()]
    assert LogReader(tmp_path / "base/log_night").verify().ok


# -- removals and copies -----------------------------------------------------------------------------------


def synced(tmp_path: Path, *arguments: str, **options: Any) -> None:
    sync(*(str(tmp_path / name) for name in arguments), **options)


REMOVALS: dict[str, Callable[[Path], object]] = {
    "rm": lambda tmp: remove(str(tmp / "base/log_night"), force=True),
    "rm -r": lambda tmp: remove(str(tmp / "base"), recursive=True, force=True, failed=print),
    "overwrite": lambda tmp: begun(overwrite=True)(tmp / "base").mark_complete(),
    "sync": lambda tmp: synced(tmp, "other", "base"),
    "sync --delete": lambda tmp: synced(tmp, "other", "base", delete=True),
    "sync --delete of another run": lambda tmp: synced(tmp, "third", "base", delete=True),
    "sync --delete of one run": lambda tmp: synced(tmp, "other/log_night", "base", delete=True),
    "sync --delete into the run": lambda tmp: synced(tmp, "other/log_night", "base/log_night", delete=True),
    "clear": lambda tmp: open_store(tmp / "base").below("log_night").clear(),
    "delete": lambda tmp: open_store(tmp / "base").delete([f"log_night/{name}" for name in COMPONENTS if name]),
    "delete what lies in links": lambda tmp: open_store(tmp / "base").delete(
        [f"log_night/{name}" for name in ("artifacts/loose.txt", "artifacts/deep/notes.txt", "log.txt")]
    ),
}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("removal", REMOVALS)
def test_no_removal_removes_through_a_link(removal: str, component: str, tmp_path: Path, outside: Path) -> None:
    for folder, run in (("base", "night"), ("other", "night"), ("third", "day")):
        with Logbook(run, tmp_path / folder, params={"dt": 0.2}, heartbeat=0, environment=False) as log:
            log.text("notes", folder)
            log.text("deep/notes", folder)
            log.array("x", [1.0])
    place_link(tmp_path / "base/log_night" / component, outside / "log_night" / component)
    before = content(outside)
    with suppress(NotataError):
        REMOVALS[removal](tmp_path)
    assert content(outside) == before


def test_a_link_that_is_named_is_never_emptied(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "log_night").symlink_to(outside / "log_night")
    before = content(tmp_path)
    with pytest.raises(ConfigurationError, match="is a link to a run"):
        remove(str(tmp_path / "log_night"), failed=_raised)
    with Logbook("night", tmp_path / "other") as log:
        log.text("notes", "another")
    before = content(tmp_path)
    with pytest.raises(LinkError, match=r"'log_night' below .* is a link"):
        sync(tmp_path / "other/log_night", tmp_path / "log_night", delete=True)
    assert content(tmp_path) == before


def _raised(error: Exception) -> None:
    raise error


def test_rm_says_which_links_it_removed(tmp_path: Path, outside: Path) -> None:
    with Logbook("night", tmp_path / "base") as log:
        log.text("notes", "x")
    place_link(tmp_path / "base/log_night/artifacts/latest", Path("notes.txt"))
    place_link(tmp_path / "base/log_night/artifacts/away", outside)
    before = content(outside)
    done = notata("rm", "-y", "log_night", folder=tmp_path / "base")
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == [
        f"removed the link, but not its target: log_night/artifacts/{name}" for name in ("away", "latest")
    ]
    assert list((tmp_path / "base").iterdir()) == []
    assert content(outside) == before


def test_a_copy_has_no_content_of_links_unless_asked_for(tmp_path: Path, outside: Path) -> None:
    with Logbook("day", tmp_path / "base") as log:
        log.text("notes", "mine")
    place_link(tmp_path / "base/log_day/artifacts/stolen.txt", outside / "log_night/artifacts/notes.txt")
    place_link(tmp_path / "base/log_day/artifacts/folder", outside)
    report = sync(tmp_path / "base", tmp_path / "copy")
    assert report.left_out == ("log_day/artifacts/folder", "log_day/artifacts/stolen.txt")
    assert not (tmp_path / "copy/log_day/artifacts/stolen.txt").exists()
    report = sync(tmp_path / "base", tmp_path / "copy", follow_links=True)
    assert report.left_out == ("log_day/artifacts/folder",)
    assert (tmp_path / "copy/log_day/artifacts/stolen.txt").read_text() == "years of work"
    (tmp_path / "copy/log_day/artifacts/stolen.txt").unlink()
    assert notata("sync", "base", "copy", folder=tmp_path).returncode == 0
    assert not (tmp_path / "copy/log_day/artifacts/stolen.txt").exists()
    assert notata("sync", "--follow-links", "base", "copy", folder=tmp_path).returncode == 0
    assert (tmp_path / "copy/log_day/artifacts/stolen.txt").read_text() == "years of work"


# -- readers -----------------------------------------------------------------------------------------------


def test_links_are_no_folder_names_and_are_not_followed(tmp_path: Path, outside: Path) -> None:
    store = open_store(tmp_path / "base")
    store.write("runs/log_a/x", b"1")
    place_link(tmp_path / "base/runs/log_b", outside / "log_night")
    place_link(tmp_path / "base/others", outside)
    assert store.folder_names("runs") == ["log_a"]
    with pytest.raises(LinkError, match="is a link"):
        store.folder_names("others")


def test_readers_follow_no_link_within_a_run_and_say_so(tmp_path: Path, outside: Path) -> None:
    with Logbook("day", tmp_path / "base") as log:
        log.text("notes", "mine")
    place_link(tmp_path / "base/log_day/artifacts/stolen.txt", outside / "log_night/artifacts/notes.txt")
    place_link(tmp_path / "base/log_day/data", outside / "log_night/data")
    reader = LogReader(tmp_path / "base/log_day")
    with pytest.raises(
        LinkError, match=r"'artifacts/stolen.txt' below .*log_day is a link, and notata does not follow"
    ):
        reader.load_text("stolen")
    with pytest.raises(LinkError, match="is a link"):
        reader["artifacts/stolen.txt"].read_text()
    with pytest.raises(LinkError, match=r"'data' below .*log_day is a link"):
        reader.load_array("x")
    assert "artifacts/stolen.txt" not in reader.files


def test_the_folder_of_a_run_that_is_named_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "latest").symlink_to(outside / "log_night")
    reader = LogReader(tmp_path / "latest")
    assert reader.load_text("notes") == "years of work"
    assert reader.verify().ok
    assert notata("show", str(tmp_path / "latest"), folder=tmp_path).returncode == 0


def test_verify_reports_links_and_pipes(tmp_path: Path, outside: Path) -> None:
    with Logbook("day", tmp_path / "base") as log:
        log.text("notes", "mine")
        log.text("swapped", "mine")
    run = tmp_path / "base/log_day"
    place_link(run / "artifacts/stolen.txt", outside / "log_night/artifacts/notes.txt")
    os.mkfifo(run / "pipe")
    report = LogReader(run).verify()
    assert (report.ok, report.irregular) == (True, ("artifacts/stolen.txt", "pipe"))
    assert "2 not regular files (links, pipes or the like), not checked: artifacts/stolen.txt, pipe" in str(report)
    place_link(run / "artifacts/swapped.txt", run / "artifacts/notes.txt")
    report = LogReader(run).verify()
    assert (report.ok, report.missing) == (False, ("artifacts/swapped.txt",))
    assert [verdict.code for verdict in verdicts(str(run))] == [1]


def test_links_of_a_folder_that_is_given_are_followed(tmp_path: Path, outside: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "mesh.vtk").symlink_to(outside / "log_night/artifacts/notes.txt")
    log = Logbook("day", tmp_path / "base")
    log.folder(given)
    log.file(given / "mesh.vtk", "mesh.vtk")
    for name in ("given/mesh.vtk", "mesh.vtk"):
        stored = tmp_path / "base/log_day/artifacts" / name
        assert not stored.is_symlink()
        assert stored.read_text() == "years of work"


def test_a_link_that_a_program_left_in_place_of_its_file_is_stored_as_its_content(tmp_path: Path) -> None:
    (tmp_path / "result").write_text("result")
    log = Logbook("day", tmp_path / "base")
    with log.local("artifacts/out") as path:
        path.symlink_to(tmp_path / "result")
    stored = tmp_path / "base/log_day/artifacts/out"
    assert not stored.is_symlink()
    assert stored.read_text() == "result"
    assert [path.name for path in stored.parent.iterdir()] == ["out"]


# -- swaps while it goes on --------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", ["log_night", "log_night/artifacts", "log_night/artifacts/deep"])
@pytest.mark.parametrize("removal", ["rm", "rm -r", "overwrite", "sync --delete", "clear"])
def test_a_folder_that_is_swapped_for_a_link_at_any_moment_leads_nowhere(
    removal: str, swapped: str, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("base", "other"):
        with Logbook("night", tmp_path / "kept" / folder, heartbeat=0, environment=False) as log:
            for name in ("notes", "loose", "deep/notes"):
                log.text(name, folder)
    before = content(outside)
    for moment in itertools.chain(range(1, 40, 3), range(40, 400, 30)):
        for folder in ("base", "other", "away"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", tmp_path, dirs_exist_ok=True)
        with monkeypatch.context() as patched:
            swap = Swap(tmp_path / "base" / swapped, tmp_path / "away", outside / swapped, moment, patched)
            with suppress(NotataError, IncompleteListingWarning):
                REMOVALS[removal](tmp_path)
        assert content(outside) == before, moment
        if not swap.done:
            return


class Swap:
    """Replace a folder by a link just before the n-th system call that opens, lists or removes."""

    def __init__(self, folder: Path, away: Path, goal: Path, moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._away, self._goal = folder, away, goal
        self._left = moment
        self._lock = threading.Lock()
        self.done = False
        for name in ("open", "scandir", "unlink", "rmdir", "replace", "link", "stat"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self._left -= 1
                if self._left == 0 and not self.done:
                    self.done = True
                    with suppress(FileNotFoundError):
                        os.rename(self._folder, self._away)
                        os.symlink(self._goal, self._folder)
            return call(*arguments, **options)

        return watched


# -- anything at all ---------------------------------------------------------------------------------------

NAMES = st.sampled_from(["artifacts", "deep", "data", "log.txt", "metadata.json", "notes.txt", "x.npy"])
ENTRIES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["file", "folder", "link", "link to a folder", "link to the base", "loop", "pipe"]),
    max_size=6,
)


def beginning(name: str) -> Callable[[Path], object]:
    return lambda tmp: written(BEGINNINGS[name](tmp / "base"))


ACTIONS: dict[str, Callable[[Path], object]] = {
    **REMOVALS,
    **{f"begin: {name}": beginning(name) for name in BEGINNINGS},
    "copy": lambda tmp: synced(tmp, "base", "copy"),
    "verify": lambda tmp: LogReader(tmp / "base/log_night").verify(),
}


def laid(run: Path, entries: dict[str, str], outside: Path) -> None:
    for key, kind in entries.items():
        path = run / key
        if not os.path.realpath(path.parent).startswith(os.path.realpath(run)):
            continue  # another entry replaced its folder by a link
        with suppress(OSError):  # another entry is a file where this one needs a folder
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.write_text("x")
            elif kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                goals = {
                    "link": outside / "log_night" / key,
                    "link to a folder": outside / "log_night/artifacts",
                    "link to the base": run.parent,
                    "loop": path,
                }
                path.symlink_to(goals[kind])


@given(entries=ENTRIES, action=st.sampled_from(sorted(ACTIONS)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_run_holds_nothing_outside_changes(
    entries: dict[str, str], action: str, tmp_path: Path, outside: Path
) -> None:
    before = content(outside)
    for folder in ("base", "other", "third", "copy"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    for folder, run in (("base", "night"), ("other", "night"), ("third", "day")):
        Logbook(run, tmp_path / folder, heartbeat=0, environment=False).mark_complete()
    laid(tmp_path / "base/log_night", entries, outside)
    with suppress(NotataError):
        ACTIONS[action](tmp_path)
    assert content(outside) == before
    for path, data in content(tmp_path / "copy").items() if (tmp_path / "copy").exists() else ():
        assert data not in (b"years of work", b"more of it", b"kept"), path


# -- paths -------------------------------------------------------------------------------------------------


def derived(path: Any) -> Iterator[Any]:
    yield path
    yield path.parent / "a.txt"
    yield path.with_name("a.txt")
    yield path.with_suffix(".txt")
    yield path.parents[0] / "a.txt"
    yield path.parent.joinpath("deep", "..", "a.txt")
    yield next(iter(path.parents)) / "a.txt"
    yield path.absolute()
    yield pickle.loads(pickle.dumps(path))
    yield path.parent.parent.parent / "log_night/artifacts/a.txt"


def test_a_path_knows_the_folder_that_was_named_and_so_do_those_made_of_it(tmp_path: Path, outside: Path) -> None:
    log = Logbook("night", tmp_path / "base")
    path = log["artifacts/a.txt"]
    path.write_text("mine")
    found = [*path.parent.iterdir(), *path.parent.glob("*.txt"), path.rename(path.with_name("b.txt"))]
    paths = [*derived(path), *found]
    before = content(outside)
    place_link(tmp_path / "base/log_night/artifacts", outside / "log_night/artifacts")
    for one in paths:
        with pytest.raises(LinkError, match=r"'log_night/artifacts' below .*base is a link"):
            one.write_text("new")
    assert content(outside) == before


def test_a_path_outside_the_named_folder_works_as_before(tmp_path: Path) -> None:
    log = Logbook("night", tmp_path / "base")
    path = log.path.parent.parent / "beside.txt"
    path.write_text("beside")
    assert (tmp_path / "beside.txt").read_text() == "beside"


# -- versions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EPERM, errno.EIO], ids=["s3fs-fuse", "rclone mount"])
def test_where_a_rename_changes_the_time_of_a_file_runs_are_replaced_and_removed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a bucket mounted as a folder: a rename is a server-side copy, and there are no hard links."""
    replace, ticks = os.replace, itertools.count(1)

    def slow(source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        os.utime(target, (next(ticks), 0), dir_fd=dst_dir_fd)

    def none(*_: Any, **__: Any) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "replace", slow)
    monkeypatch.setattr(os, "link", none)
    for _ in range(2):
        with Logbook("night", tmp_path, overwrite=True) as log:
            log.meta(machine="n17")
    assert json.loads((tmp_path / "log_night/metadata.json").read_text())["status"] == "complete"
    with Logbook("night", tmp_path, resume=True) as log:
        log.text("notes", "x")
    assert remove(str(tmp_path / "log_night"))[0].removed
    assert list(tmp_path.iterdir()) == []


def test_a_version_of_another_writer_is_never_taken_for_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may store its own file between the rename and the stat."""
    store = open_store(tmp_path)
    version = store.create("a", b"first")
    replace = os.replace

    def overtaken(source: str, target: str, **options: Any) -> None:
        replace(source, target, **options)
        monkeypatch.undo()
        (tmp_path / "theirs").write_bytes(b"other")
        os.rename(tmp_path / "theirs", tmp_path / "a")

    monkeypatch.setattr(os, "replace", overtaken)
    version = store.replace("a", b"mine!", version)
    with pytest.raises(ConflictError):
        store.replace("a", b"next!", version)
    assert (tmp_path / "a").read_bytes() == b"other"


def test_a_link_counts_as_taken(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    store = open_store(tmp_path)
    with pytest.raises(ExistsError):
        store.create("a", b"x")
    with pytest.raises(LinkError, match=r"'a' below .* is a link"):
        store.append("a", b"x")
    with pytest.raises(BatchError, match="1 of 1 deletions"):
        store.below("a").delete(["b"])
    assert not (tmp_path / "nowhere").exists()
