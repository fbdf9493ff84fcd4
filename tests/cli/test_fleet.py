"""The paths and URLs of a command line: their meaning on every storage, and how they are displayed."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from notata import ConfigurationError, Logbook, MissingError
from notata.errors import NotataError
from notata.search import File, Run, contents, grep, runs, tail, usage
from notata.search.finding import file_at, look_up
from notata.search.record import records
from notata.search.target import Target
from notata.store import Entry, open_store
from notata.store.backends.memory import MemoryBackend
from notata.store.gaps import Gap
from tests.backends import Place
from tests.cli.conftest import Shelf
from tests.command import notata
from tests.fleet import ODD, RUNS
from tests.servers import Server


def runs_at(url: str, options: Mapping[str, Any] | None = None) -> list[Run]:
    return [*look_up(Target(url, options)).runs.values()]


def files_at(url: str, options: Mapping[str, Any] | None = None) -> list[File]:
    return [*look_up(Target(url, options)).files]


def test_every_run_is_found_under_the_name_that_was_asked_for(shelf: Shelf) -> None:
    found = runs_at(shelf.url, shelf.place.options)
    assert [run.name for run in found] == [f"{shelf.url}/{folder}" for folder in sorted(RUNS)]
    for run in found:
        folder = shelf.local / run.folder
        on_disk = {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }
        assert {key: entry.size for key, entry in run.entries.items()} == on_disk


def test_the_status_of_each_run(shelf: Shelf) -> None:
    place = look_up(Target(shelf.url, shelf.place.options))
    found: dict[str, Run] = {run.folder: run for run in records(place, values=True)}
    assert {folder: run.status for folder, run in found.items()} == RUNS
    old = found["log_old"]
    assert (old.seconds, old.params, old.metrics) == (90.5, {"omega": 1.5, "dt": 0.01}, {"energy": 1.25})
    assert found["log_running"].params["omega"] == 4.0
    assert "unstable" in found["sweep/runs/log_sweep_dt_0.4_omega_2"].failure_reason
    assert found["log_lost"].failure_reason == "it has no metadata.json"


def test_a_pattern_means_runs_or_files_of_them(shelf: Shelf) -> None:
    options = shelf.place.options
    assert [run.folder for run in runs_at(f"{shelf.url}/log_l*", options)] == [
        "log_log_a",
        "log_lost",
    ]
    assert [run.run_id for run in runs_at(f"{shelf.url}/log_{ODD}", options)] == [ODD]
    assert len(runs_at(f"{shelf.url}/**/log_sweep*", options)) == 3
    files = files_at(f"{shelf.url}/*/artifacts/metrics.json", options)
    assert [(file.run, file.key) for file in files] == [
        (folder, "artifacts/metrics.json") for folder in ("log_notes", "log_old", f"log_{ODD}")
    ]
    assert file_at(Target(f"{shelf.url}/README.txt", options)).name == f"{shelf.url}/README.txt"


def test_what_is_called_exactly_so_is_meant_alone(tmp_path: Path) -> None:
    for name in ("a[1]", "a1", "b"):
        Logbook(name, tmp_path).mark_complete()
    assert [run.run_id for run in runs_at(f"{tmp_path}/log_a[1]")] == ["a[1]"]
    assert [run.run_id for run in runs_at(f"{tmp_path}/log_[ab]1")] == ["a1"]
    assert {file.run for file in files_at(f"{tmp_path}/log_a[1]")} == {"log_a[1]"}
    assert notata("rm", "-y", "log_a[1]", folder=tmp_path).stdout.startswith("Removed 1 run,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log_a1", "log_b"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/log.txt", ["a/b/log.txt", "a/log.txt", "log.txt"]),
        ("a/**/log.txt", ["a/b/log.txt", "a/log.txt"]),
        ("*/log.txt", ["a/log.txt"]),
        ("*/log.txt/", ["a/log.txt"]),
        ("?/x.*", ["A/x.txt", "a/x.TXT"]),
        ("[A]/*", ["A/x.txt"]),
        ("a/*.txt", ["a/log.txt"]),
        ("a/b*", ["a/b/log.txt"]),
        ("a/[b]/*", ["a/b/log.txt"]),
        ("[1].txt", ["[1].txt"]),
        ("[d]", ["[d]/1"]),
    ],
)
def test_a_pattern_means_what_it_means_in_a_shell(pattern: str, expected: list[str]) -> None:
    keys = ("log.txt", "a/log.txt", "a/b/log.txt", "A/x.txt", "a/x.TXT", "[1].txt", "1.txt", "[d]/1", "d/1")
    open_store("memory://shell").write_many(dict.fromkeys(keys, b""))
    found = files_at(f"memory://shell/{pattern}")
    assert [file.name for file in found] == [f"memory://shell/{key}" for key in expected]


@pytest.mark.parametrize(
    ("url", "parted"),
    [
        ("runs/log_*/", ("runs", "log_*")),
        ("log_?", ("", "log_?")),
        ("/log_*", ("/", "log_*")),
        ("s3://bucket/a/b*/c", ("s3://bucket/a", "b*/c")),
        ("s3://buck*", ("s3://buck*", "")),
        ("https://host/a?b=[1]", ("https://host/a?b=[1]", "")),
        ("simplecache::s3://bucket/*", ("simplecache::s3://bucket/*", "")),
        (Path("log_*"), (Path("log_*"), "")),
    ],
)
def test_the_folder_before_a_pattern(url: str | Path, parted: tuple[str | Path, str]) -> None:
    target = Target(url)
    assert (target.root, target.pattern) == parted


def test_only_what_begins_so_is_listed_and_runs_in_runs_are_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("log_ab/metadata.json", "log_ab/artifacts/log_c/metadata.json", "x/metadata.json", "log_b/metadata.json")
    open_store("memory://met").write_many(dict.fromkeys(keys, b"{}"))
    begun: list[str] = []
    whole = MemoryBackend.list

    def listing(self: MemoryBackend, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        begun.append(beginning)
        return whole(self, folder, beginning)

    monkeypatch.setattr(MemoryBackend, "list", listing)
    met: list[str] = []
    look_up(Target("memory://met"), met=lambda store, folder, entry, _: met.append(folder))
    assert sorted(met) == ["log_ab", "log_b"]
    assert [entry.key for entry in look_up(Target("memory://met/log_a*/meta*")).entries.values()] == [
        "log_ab/metadata.json"
    ]
    assert begun == ["", "log_a"]
    assert {entry.key for entry in open_store("memory://met").list(beginning="log_a")} == set(keys[:2])


def test_a_pattern_of_many_folders_takes_little_time() -> None:
    open_store("memory://deep").write("/".join("a" * 60), b"")
    assert not files_at("memory://deep/" + "**/a/" * 20 + "b")
    assert len(files_at("memory://deep/" + "**/a/" * 20 + "**")) == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks hold no such names")
def test_folders_whose_names_no_key_has_hide_no_run(tmp_path: Path) -> None:
    Logbook("a", tmp_path).mark_complete()
    for name in (b"log_\xff", b"log_\x1b[31m", b"log_b\\c"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        (folder / "metadata.json").write_text('{"status": "complete"}')
    for command in ("ls", "table", "tail", "verify", "show"):
        done = notata(command, ".", folder=tmp_path)
        told = done.stdout if command == "verify" else done.stderr
        assert (done.returncode, told.count("cannot open the run ")) == (3, 3), command
        assert "a" in done.stdout
        assert "\x1b" not in done.stdout + done.stderr


def test_a_bucket_that_has_such_folders_is_listed_too(moto_server: Server) -> None:
    place = Place("s3", f"{moto_server.url}/{uuid.uuid4().hex}", moto_server.options)
    for folder in ("log_a", "x//log_b", "log_c\\d"):
        place.put(f"{folder}/metadata.json", b'{"status": "complete"}')
    errors: list[NotataError] = []
    found = runs(place.url, storage_options=place.options, failed=errors.append)
    assert [run.run_id for run in found] == ["a"]
    assert sorted(str(error.key) for error in errors) == ["log_c\\d/metadata.json", "x//log_b/metadata.json"]


def test_a_place_may_be_a_path_of_any_kind_and_nothing_else() -> None:
    for url in ("memory://", "memory://paths/deep"):
        log = Logbook("a", url)
        log.mark_complete()
        name = f"{url.removesuffix('//')}//log_a" if url.endswith("//") else f"{url}/log_a"
        for place in (url, UPath(url), [UPath(url)], open_store(url)):
            found = runs(place)
            assert [run.name for run in found] == [name]
            assert [run.name for run in runs(found[0].name)] == [name]
        assert tail(UPath(name) / "log.txt", 1) == tail(name, 1) != []
        open_store(name).clear()
    for wrong in (5, b"memory://"):
        with pytest.raises(ConfigurationError, match="expected a URL, a path or a UPath, not a"):
            runs(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_bucket_without_files_has_nothing_and_one_with_files_is_no_file(end: str, moto_server: Server) -> None:
    bucket = f"s3://empty-{uuid.uuid4().hex[:8]}"
    open_store(bucket, moto_server.options).filesystem().mkdir(bucket)
    for look in (usage, tail, contents, partial(grep, "x")):
        with pytest.raises(MissingError, match=f"there is nothing at {bucket}"):
            list(look(bucket + end, storage_options=moto_server.options))
