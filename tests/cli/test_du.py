"""``notata du``: sums of sizes that match the disk."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata import ConfigurationError, Logbook
from notata.search import usage
from notata.store import Entry, open_store
from notata.store.backends.memory import MemoryBackend
from notata.store.gaps import Gap
from tests.cli.conftest import Shelf
from tests.command import Done, notata, process, terminal
from tests.counting import counted
from tests.fleet import RUNS
from tests.servers import Server


def on_disk(folder: Path) -> dict[str, int]:
    """Return the size of each file by its path, as `find` reports it."""
    told = subprocess.run(
        ["find", str(folder), "-type", "f", "-not", "-name", ".notata-*", "-printf", "%s\t%P\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {path: int(size) for size, path in (line.split("\t") for line in told.splitlines())}


def summed(sizes: dict[str, int]) -> dict[str, int]:
    """Return the total size of each folder by its path."""
    sums: Counter[str] = Counter()
    for path, size in sizes.items():
        parts = path.split("/")
        for depth in range(len(parts)):
            sums["/".join(parts[:depth])] += size
    return dict(sums)


def told(done: Done, url: str) -> dict[str, int]:
    assert done.stderr == ""
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name.removeprefix(url).lstrip("/"): int(size) for size, name in lines}


def test_files_and_folders_are_those_of_the_disk(shelf: Shelf, tmp_path: Path) -> None:
    done = process("du", "-a", shelf.url, *shelf.options, folder=tmp_path)
    sizes = on_disk(shelf.local)
    assert (told(done, shelf.url), done.returncode) == (sizes | summed(sizes), 0)
    names = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert names[-1] == shelf.url
    at = {name: number for number, name in enumerate(names)}
    assert all(at[name] < at[name.rpartition("/")[0]] for name in names[:-1])


def test_depth_sums_and_kinds(fleet: Path, tmp_path: Path) -> None:
    sizes = on_disk(fleet)
    sums = summed(sizes)

    def du(*arguments: str) -> dict[str, int]:
        return told(notata("du", *arguments, folder=tmp_path), str(fleet))

    assert du("-s", str(fleet)) == {"": sums[""]}
    assert du("-d", "1", str(fleet)) == {name: size for name, size in sums.items() if name.count("/") == 0}
    assert du(str(fleet), "--by", "run") == {run: sums[run] for run in RUNS} | {
        " (in no run)": sum(size for path, size in sizes.items() if not path.startswith(tuple(RUNS)))
    }
    suffixes: Counter[str] = Counter()
    for path, size in sizes.items():
        suffixes[Path(path).suffix] += size
    by_suffix = notata("du", "--by", "suffix", str(fleet), folder=tmp_path).stdout.splitlines()
    assert by_suffix == [
        f"{size}\t{suffix}" for suffix, size in sorted(suffixes.items(), key=lambda one: (-one[1], one[0]))
    ]
    assert notata("du", "-s", "-c", f"{fleet}/sweep", f"{fleet}/README.txt", folder=tmp_path).stdout.splitlines() == [
        f"{sums['sweep']}\t{fleet}/sweep",
        f"{sizes['README.txt']}\t{fleet}/README.txt",
        f"{sums['sweep'] + sizes['README.txt']}\ttotal",
    ]
    largest = notata("du", "--by", "run", "--sort", "size", str(fleet), folder=tmp_path).stdout.splitlines()
    assert largest == sorted(largest, key=lambda line: -int(line.split("\t")[0]))
    assert len(largest) == len(RUNS) + 1


def test_orders_sums_and_what_is_in_no_run(tmp_path: Path) -> None:
    for path, size in (("0.txt", 6), ("b/x.NPY", 3), ("a/y.npy", 3)):
        (tmp_path / "runs" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / path).write_bytes(b"x" * size)
    (tmp_path / "empty").mkdir()
    for arguments, lines, code in (
        (["--by", "suffix", "runs"], ["6\t.npy", "6\t.txt"], 0),
        (["--by", "run", "runs/a/y.npy"], ["3\truns/a/y.npy (in no run)"], 0),
        (["--by", "run", "empty"], [], 1),
        (["--by", "run", "-c", "empty"], ["0\ttotal"], 1),
        (["-s", "--sort", "name", "runs", "empty"], ["0\tempty", "12\truns"], 0),
        (["--sort", "name", "runs"], ["12\truns", "3\truns/a", "3\truns/b"], 0),
        (["--sort", "size", "-a", "runs/0.txt", "runs/b"], ["6\truns/0.txt", "3\truns/b", "3\truns/b/x.NPY"], 0),
        (["-c", "runs"], ["3\truns/a", "3\truns/b", "12\truns", "12\ttotal"], 0),
        (["-s", "-d", "1", "runs"], [], 2),
    ):
        done = notata("du", *arguments, folder=tmp_path)
        assert (done.stdout.splitlines(), done.returncode) == (lines, code), arguments
    with pytest.raises(ConfigurationError):
        next(usage(tmp_path, by="colour"))  # type: ignore[arg-type]


def test_a_pattern_matches_as_in_a_shell(fleet: Path, tmp_path: Path) -> None:
    sums = summed(on_disk(fleet))
    done = notata("du", "-s", f"{fleet}/log_*/artifacts", folder=tmp_path)
    assert told(done, str(fleet)) == {
        str(path.relative_to(fleet)): sums[str(path.relative_to(fleet))] for path in fleet.glob("log_*/artifacts")
    }


def test_json_has_the_same_in_bytes(fleet: Path, tmp_path: Path) -> None:
    done = notata("du", "-s", "-c", "--json", f"{fleet}/log_notes", folder=tmp_path)
    size = summed(on_disk(fleet))["log_notes"]
    files = sum(path.is_file() for path in (fleet / "log_notes").rglob("*"))
    rest = {"size": size, "files": files, "depth": 0, "unfinished": 0, "unfinished_files": 0}
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"name": f"{fleet}/log_notes", "kind": "run", **rest},
        {"name": "total", "kind": "total", **rest},
    ]


def test_what_is_empty_counts_nothing_and_what_is_not_there_is_an_error(fleet: Path, tmp_path: Path) -> None:
    assert notata("du", f"{fleet}/empty", folder=tmp_path).stdout == f"0\t{fleet}/empty\n"
    done = notata("du", f"{fleet}/nothing", f"{fleet}/README.txt", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"Error: there is nothing at {fleet}/nothing\n")
    assert done.stdout.endswith("README.txt\n")
    assert notata("du", f"{fleet}/nothing", "--by", "run", folder=tmp_path).returncode == 1
    assert notata("du", "-s", "--by", "run", str(fleet), folder=tmp_path).returncode == 2
    assert notata("du", "-s", "-a", str(fleet), folder=tmp_path).returncode == 2


def test_sizes_are_for_people_on_a_terminal_and_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/a\x1b[31m.bin").write_bytes(b"x" * 3_500_000)
    assert notata("du", "-s", "--human", "runs", folder=tmp_path).stdout == "3.5 MB\truns\n"
    code, got = terminal("du", "-a", "runs", folder=tmp_path, NO_COLOR="1")
    assert code == 0
    assert [line.split() for line in got.decode().splitlines()[1:]] == [
        ["3.5", "MB", "1", "runs/a\\x1b[31m.bin"],
        ["3.5", "MB", "1", "runs"],
    ]
    assert b"3500000" in terminal("du", "-b", "runs", folder=tmp_path)[1]


def test_it_is_one_listing_of_ten_thousand_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://du/many")
    for number in range(10_000):
        store.filesystem().pipe_file(f"/du/many/log_{number}/metadata.json", b"{}")
    listed = []
    whole = MemoryBackend.list

    def listing(self: MemoryBackend, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        listed.append(self.url)
        return whole(self, folder, beginning)

    monkeypatch.setattr(MemoryBackend, "list", listing)
    monkeypatch.setattr(MemoryBackend, "get", lambda *_: pytest.fail("nothing is read"))
    sums = list(usage("memory://du/many"))
    assert (len(sums), sums[-1].size, sums[-1].files) == (10_001, 20_000, 10_000)
    assert listed == [store.url]
    store.clear()


def test_folders_may_be_as_deep_as_keys_are_long() -> None:
    key = "a/" * 500 + "b"
    open_store("memory://du/deep").write(key, b"xyz")
    sums = list(usage("memory://du/deep"))
    assert (len(sums), {one.size for one in sums}, sums[0].depth) == (501, {3}, 500)


def test_a_bucket_may_have_a_file_and_a_folder_of_one_name(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/du-both", moto_server.options)
    store.write_many({"a": b"x", "a/b": b"yz"})
    with counted() as sent:
        found = [(one.name.removeprefix(store.url), one.kind, one.size) for one in usage(store, files=True)]
    assert found == [("/a", "file", 1), ("/a/b", "file", 2), ("/a", "folder", 2), ("", "folder", 3)]
    assert len(sent) == 1, sent


def test_a_file_is_looked_up_once_however_it_is_summed_up(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/du-file", moto_server.options)
    store.write("a.txt", b"xyz")
    for by in ("folder", "run", "suffix"):
        with counted() as sent:
            found = list(usage(f"{store.url}/a.txt", by=by, storage_options=moto_server.options))
        assert sum(one.size for one in found) == 3
        assert len(sent) == 2, sent  # a listing below the path, and a stat of the file


def test_the_base_folder_is_the_default(tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "base"):
        pass
    done = notata("du", "-s", folder=tmp_path, NOTATA_BASE_DIR=str(tmp_path / "base"))
    assert told(done, str(tmp_path / "base")) == {"": sum(on_disk(tmp_path / "base").values())}
