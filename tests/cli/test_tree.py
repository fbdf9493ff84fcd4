"""``notata tree``: folders and files, drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

from notata import Logbook
from notata.search import trees
from notata.store import open_store
from tests.cli.conftest import Shelf
from tests.cli.test_du import on_disk, summed
from tests.command import notata, process, terminal
from tests.counting import counted
from tests.fleet import RUNS
from tests.servers import Server

_LINE = re.compile(r"((?:│   |    )*)(?:├── |└── )(.*)  (\d+)")


def drawn(lines: list[str]) -> dict[str, int]:
    """Return the paths and sizes in a drawing; folders end in a slash."""
    found: dict[str, int] = {}
    path: list[str] = []
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match, line
        path = [*path[: len(match[1]) // 4], match[2].rstrip("/")]
        found["/".join(path) + "/" * match[2].endswith("/")] = int(match[3])
    return found


def test_it_shows_what_the_disk_has(shelf: Shelf, tmp_path: Path) -> None:
    done = process("tree", shelf.url, *shelf.options, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines, empty, last = done.stdout.splitlines()
    sizes = on_disk(shelf.local)
    sums = summed(sizes)
    assert first == f"{shelf.url}/  {sums['']}"
    folders = {f"{folder}/": size for folder, size in sums.items() if folder}
    assert drawn(lines) == sizes | folders
    assert (empty, last) == ("", f"{len(sums)} folders, {len(sizes)} files, {sums['']} bytes")


def test_the_lines_are_those_of_tree(tmp_path: Path) -> None:
    for path in ("a/b/c.txt", "a/d.txt", "e/f.txt", "g.txt"):
        (tmp_path / "runs" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / path).write_bytes(b"xy")
    (tmp_path / "runs/empty").mkdir()
    assert notata("tree", "runs", folder=tmp_path).stdout.splitlines() == [
        "runs/  8",
        "├── a/  4",
        "│   ├── b/  2",
        "│   │   └── c.txt  2",
        "│   └── d.txt  2",
        "├── e/  2",
        "│   └── f.txt  2",
        "└── g.txt  2",
        "",
        "4 folders, 4 files, 8 bytes",
    ]
    assert notata("tree", "runs", "-L", "1", "-d", "--human", folder=tmp_path).stdout.splitlines()[:-2] == [
        "runs/  8 B",
        "├── a/  4 B",
        "└── e/  2 B",
    ]
    assert notata("tree", "runs/[ag]*", folder=tmp_path).stdout.splitlines()[-4:] == [
        "└── d.txt  2",
        "runs/g.txt  2",
        "",
        "2 folders, 3 files, 6 bytes",
    ]


def test_nothing_there_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert notata("tree", "empty", folder=tmp_path).stdout.splitlines()[0] == "empty/  0"
    done = notata("tree", "nothing", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: there is nothing at nothing\n")


def test_json_lists_folders_before_their_files(fleet: Path, tmp_path: Path) -> None:
    done = notata("tree", "--json", "--status", str(fleet), folder=tmp_path)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(records[0]) == {"name", "kind", "size", "files", "depth", "unfinished", "unfinished_files", "status"}
    runs = {one["name"].removeprefix(f"{fleet}/"): one["status"] for one in records if one["kind"] == "run"}
    assert runs == RUNS
    sizes = {one["name"].removeprefix(f"{fleet}/"): one["size"] for one in records if one["kind"] == "file"}
    assert sizes == on_disk(fleet)
    names = [one["name"] for one in records]
    assert all(name.rpartition("/")[0] in names[:at] for at, name in enumerate(names) if at)


def test_statuses_cost_a_read_a_run_and_else_nothing_is_read(moto_server: Server) -> None:
    url = f"{moto_server.url}/tree-status"
    for name in ("a", "b", "c"):
        Logbook(name, url, storage_options=moto_server.options).mark_complete()
    with counted() as sent:
        next(trees(url, storage_options=moto_server.options))
    assert len(sent) == 1, sent
    with counted() as sent:
        tree = next(trees(url, status=True, storage_options=moto_server.options))
    assert len(sent) == 1 + 3, sent
    assert {one.status for one in tree.sorted()} == {"complete"}


def test_odd_names_reach_no_terminal_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/a\x1b]0;owned\x07\n.txt").write_bytes(b"x")
    code, got = terminal("tree", "runs", folder=tmp_path, NO_COLOR="1")
    assert (code, b"\x1b" in got, b"\x07" in got) == (0, False, False)
    assert "└── a\\x1b]0;owned\\x07\\n.txt  1 B" in got.decode()
    assert b"\x1b[" in terminal("tree", "runs", folder=tmp_path)[1]


def test_folders_may_be_as_deep_as_keys_are_long(tmp_path: Path) -> None:
    open_store("memory://tree/deep").write("a/" * 500 + "b", b"xyz")
    lines = notata("tree", "memory://tree/deep", folder=tmp_path).stdout.splitlines()
    assert (len(lines), lines[501]) == (504, "    " * 500 + "└── b  3")
