"""``notata cat``: raw bytes, and descriptions of files that are not readable as text."""

from __future__ import annotations

import base64
import io
import json
import pickle
import subprocess
import sys
import tracemalloc
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import errors
from notata.search import contents, describe
from notata.store import open_store
from notata.store.backends.memory import MemoryBackend
from tests.cli.conftest import Shelf
from tests.command import notata, terminal
from tests.counting import counted
from tests.fleet import ODD
from tests.servers import Server

MIB = 2**20


def put(key: str, data: bytes) -> str:
    store = open_store("memory://cat")
    store.write(key, data)
    return f"{store.url}/{key}"


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


# -- bytes -------------------------------------------------------------------------------------------------


def test_bytes_are_those_that_cat_prints(shelf: Shelf, tmp_path: Path) -> None:
    patterns = ("log_*/artifacts/*.txt", "log_notes/artifacts/signal.raw", "*/log.txt")
    done = subprocess.run(
        [sys.executable, "-m", "notata", "cat", *(f"{shelf.url}/{one}" for one in patterns), *shelf.options],
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    files = [path for one in patterns for path in sorted(shelf.local.glob(one))]
    assert len(files) > 10
    assert done.stdout == subprocess.run(["cat", *files], capture_output=True, check=True).stdout
    assert done.stderr == b""


def test_json_makes_one_object_of_a_file_so_that_jq_works_over_runs(shelf: Shelf, tmp_path: Path) -> None:
    pattern = f"{shelf.url}/log_*/artifacts/metrics.json"
    done = notata("cat", "--json", pattern, *shelf.options, folder=tmp_path)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "name": f"{shelf.url}/log_{run}/artifacts/metrics.json",
            "run_id": run,
            "key": "artifacts/metrics.json",
            "size": (path := shelf.local / f"log_{run}/artifacts/metrics.json").stat().st_size,
            "kind": "json",
            "content": json.loads(path.read_bytes()),
        }
        for run in ("notes", "old", ODD)
    ]


def test_a_single_file_is_reported_as_one_of_a_pattern(fleet: Path, tmp_path: Path) -> None:
    for place in ("log_notes/params.yaml", "log_notes/workers/3/log.txt", "README.txt"):
        single, pattern = (
            json.loads(notata("cat", "--json", f"{fleet}/{name}", folder=tmp_path).stdout)
            for name in (place, f"*{place[1:]}" if "/" in place else "R*")
        )
        assert single == pattern
    assert json.loads(notata("cat", "--json", f"{fleet}/log_notes/params.yaml", folder=tmp_path).stdout)["content"] == {
        "omega": 2.0,
        "solver": {"name": "rk4", "order": 4},
    }


def test_what_json_holds_of_text_of_damaged_json_and_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{broken")
    (tmp_path / "b.json").write_text('{"x": NaN}')
    (tmp_path / "c").write_bytes(b"\xff\x00")

    def told(*arguments: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(notata("cat", "--json", *arguments, folder=tmp_path).stdout)
        return record

    assert (told("a.json")["kind"], told("a.json")["content"]) == ("text", "{broken")
    assert told("b.json")["content"] == {"x": None}
    assert told("--raw", "b.json")["content"] == '{"x": NaN}'
    assert (told("c")["kind"], told("c")["description"]) == ("bytes", {"head": "ff00"})
    assert base64.b64decode(told("--raw", "c")["base64"]) == b"\xff\x00"


def test_many_small_files_come_in_order_each_by_one_request(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/cat-many", moto_server.options)
    store.write_many({f"log_{number:03}/log.txt": b"%d\n" % number for number in range(100)})
    with counted() as sent:
        found = b"".join(
            b"".join(one.pieces())
            for one in contents(f"{store.url}/log_*/log.txt", storage_options=moto_server.options)
        )
    assert found == b"".join(b"%d\n" % number for number in range(100))
    assert len(sent) == 1 + 100, sent


def test_files_are_prefetched() -> None:
    for number in range(40):
        put(f"ahead/{number:02}", b"x" * 10)
    begun: list[str] = []
    whole = MemoryBackend.start_get

    def start(self: MemoryBackend, key: str, *range_: Any) -> Any:
        begun.append(key)
        return whole(self, key, *range_)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryBackend, "start_get", start)
        files = contents("memory://cat/ahead/*")
        assert next(files).file.key == "00"
        assert len(begun) == 32
        assert [one.file.key for one in files] == [f"{number:02}" for number in range(1, 40)]
    assert len(begun) == 40


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 * MIB)
    with (tmp_path / "large.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (8 * MIB,)})
        file.truncate(file.tell() + 64 * MIB)
    tracemalloc.start()
    try:
        [content] = contents(tmp_path / "large")
        assert sum(map(len, content.pieces())) == 64 * MIB
        stats = describe(tmp_path / "large.npy").facts.stats
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (stats.count, stats.max) == (8 * MIB, 0.0)
    assert peak < 16 * MIB


# -- descriptions ------------------------------------------------------------------------------------------


def test_an_array_is_its_shape_statistics_and_first_values(tmp_path: Path) -> None:
    url = put("a.npy", npy(np.array([[1.0, np.nan], [-np.inf, 4.0]])))
    done = notata("cat", url, "--head", "3", folder=tmp_path)
    assert done.stdout.splitlines() == [
        f"{url}: npy, 160 B",
        "  float64  (2, 2)",
        "  min 1  max 4  mean 2.5  std 1.5  1 NaN  1 inf",
        "  [1, nan, -inf, …]",
    ]
    record = json.loads(notata("cat", "--json", url, folder=tmp_path).stdout)
    assert record["description"]["stats"] == {
        "count": 2, "min": 1.0, "max": 4.0, "mean": 2.5, "std": 1.5, "nan": 1, "inf": 1,
    }  # fmt: skip
    assert record["description"]["head"] == [1.0, None, None, 4.0]


def test_without_statistics_only_the_beginning_is_read(asked: list[tuple[str, int, int]]) -> None:
    url = put("large.npy", npy(np.arange(2.0**20)))
    facts = describe(url, stats=False, head=2).facts
    assert (facts.shape, facts.head, facts.stats) == ((2**20,), (0.0, 1.0), None)
    assert asked == [("large.npy", 0, 2**14)]
    assert describe(url).facts.stats.max == 2**20 - 1


def test_a_bundle_is_described_from_its_end_and_the_start_of_each_member(asked: list[tuple[str, int, int]]) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.arange(2.0**20), b=np.ones((2, 3), dtype="f4"), c=np.arange(2.0**19))
    url = put("large.npz", file.getvalue())
    facts = describe(url, stats=False, head=1).facts
    assert {name: (one.shape, one.head) for name, one in facts.arrays.items()} == {
        "a": ((2**20,), (0.0,)),
        "b": ((2, 3), (1.0,)),
        "c": ((2**19,), (0.0,)),
    }
    assert len(asked) <= 5
    assert sum(size for _, _, size in asked) < 2**19


def test_an_array_of_objects_is_refused_and_its_pickle_described(tmp_path: Path) -> None:
    url = put("o.npy", npy(np.array([_CreatesFile(tmp_path / "touched")])))
    facts = describe(url).facts
    assert (facts.dtype, facts.shape, facts.head, facts.stats) == ("object", (1,), (), None)
    assert facts.pickle.dangerous == ("io.open",)
    assert not (tmp_path / "touched").exists()


class _CreatesFile:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return open, (self._path, "w")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    url = put("evil.pkl", pickle.dumps({"weights": [1.0], "hook": _CreatesFile(tmp_path / "touched")}))
    done = notata("cat", url, folder=tmp_path)
    assert done.returncode == 0
    assert "  DANGEROUS: io.open" in done.stdout.splitlines()
    assert "{'weights': [1.0], 'hook': io.open(" in done.stdout
    assert not (tmp_path / "touched").exists()
    assert notata("cat", "--raw", url, folder=tmp_path).stdout.startswith("\ufffd")


def test_a_pickle_of_large_buffers_is_read_in_part(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/cat-pickle", moto_server.options)
    store.write("large.pkl", pickle.dumps([bytes(24 * MIB), {"end": 1}], protocol=5))
    with counted() as sent:
        facts = describe(f"{store.url}/large.pkl", storage_options=moto_server.options).facts
    assert facts.value == "[<bytes of 25,165,824 bytes>, {'end': 1}]"
    assert len(sent) == 3, sent  # a stat, the first 8 MiB, and the rest after the buffer


def test_a_table_by_its_end_and_an_image_by_its_head(asked: list[tuple[str, int, int]], tmp_path: Path) -> None:
    import pyarrow as pa
    from matplotlib.figure import Figure
    from pyarrow import parquet

    values = np.random.default_rng(0).random(2**19)
    parquet.write_table(pa.table({"t": values, "n": pa.array([1] * 2**19)}), tmp_path / "t.parquet")
    table = put("t.parquet", (tmp_path / "t.parquet").read_bytes())
    assert str(describe(table)).splitlines()[1:] == [
        "  524,288 rows, 2 columns, in 1 row group",
        "  t: double",
        "  n: int64",
    ]
    assert sum(size for _, _, size in asked) <= 2**14 + 2**17
    Figure(figsize=(3, 2)).savefig(tmp_path / "p.png", dpi=50)
    image = notata("cat", str(tmp_path / "p.png"), folder=tmp_path).stdout.splitlines()
    assert image[1] == "  150 x 100 pixels, 8 bits, RGBA"


def test_a_format_of_a_user_describes_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Mesh:
        suffix = ".mesh"

        def write(self, value: Any, file: Any) -> None: ...

        def describe(self, file: Any, *, stats: bool, head: int) -> str:
            return f"{len(file.read())} cells"

    class Entry:
        name, value = "mesh", "mesh:Mesh"

        def load(self) -> Any:
            return Mesh

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Entry()])
    url = put("a.mesh", b"abc")
    assert notata("cat", url, folder=tmp_path).stdout.splitlines() == [f"{url}: mesh, 3 B", "  3 cells"]


def test_installed_formats_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def entries(group: str) -> list[Any]:
        looked.append(group)
        return []

    monkeypatch.setattr(metadata, "entry_points", entries)
    for number in range(20):
        put(f"unknown/step_0.{number:02}.csv", b"1,2\n")
    assert [one.is_described for one in contents("memory://cat/unknown/*")] == [False] * 20
    assert looked == ["notata.formats"]


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.parquet", "a.png"])
def test_a_damaged_file_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    url = put(f"damaged/{name}", b"\x93NUMPY\x01\x00v\x00 no")
    done = notata("cat", url, put("damaged/after.txt", b"after"), folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "after")
    assert done.stderr.startswith(f"Error: {url}: ")
    assert done.stderr.count("\n") == 1
    with pytest.raises(errors.DecodeError):
        describe(url)


# -- places ------------------------------------------------------------------------------------------------


def test_a_run_or_folder_given_to_cat_is_an_error_that_names_its_files(shelf: Shelf, tmp_path: Path) -> None:
    for name, told in (
        (
            "log_old",
            "is a run, not a file; it contains: "
            "artifacts/metrics.json, data/x.npy, log.txt, metadata.json, params.yaml",
        ),
        ("log_old/data", "is a folder, not a file; it contains: x.npy"),
        ("sweep/runs/*0.1*", "is a run, not a file; it contains: artifacts/metrics.json, log.txt, manifest.json"),
        ("log_*", "matches 8 folders, such as "),
        ("nothing", "there is nothing at "),
        ("log_old/*.nothing", "there is nothing at "),
    ):
        done = notata("cat", f"{shelf.url}/{name}", *shelf.options, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
    done = notata("cat", shelf.url, *shelf.options, folder=tmp_path)
    assert "is a folder of 11 runs, not a file; it contains: log_broken, log_died" in done.stderr


def test_a_single_file_is_two_requests(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/cat-one", moto_server.options)
    store.write("log_a/log.txt", b"begun\n")
    with counted() as sent:
        [content] = contents(f"{store.url}/log_a/log.txt", storage_options=moto_server.options)
        assert content.read() == b"begun\n"
    assert len(sent) == 2, sent


def test_names_that_no_run_may_have(tmp_path: Path) -> None:
    (tmp_path / "a\\b\n.txt").write_bytes(b"odd")
    assert notata("cat", str(tmp_path / "a\\b\n.txt"), folder=tmp_path).stdout == "odd"
    done = notata("cat", "--json", "*", folder=tmp_path)
    assert json.loads(done.stdout)["key"] == "a\\b\n.txt"


def test_a_file_whose_name_is_a_pattern(fleet: Path, tmp_path: Path) -> None:
    done = notata("cat", f"{fleet}/log_{ODD}/artifacts/metrics.json", folder=tmp_path)
    assert json.loads(done.stdout) == {"energy": 2.5}


# -- on a terminal -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(fleet: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what a terminal receives for malicious files, for binary data, and for text cut inside a character."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "long.txt").write_bytes("é".encode() * MIB + b"\x1b[2J")
    np.save(folder / "text.npy", np.array(["\x1b[31mred", "\x9b2J"]))
    (folder / "evil.pkl").write_bytes(pickle.dumps({"\x1b]0;owned\x07": 1}))
    names = ["evil.txt", "signal.raw"]
    code, got = terminal(
        "cat", *(f"{fleet}/log_notes/artifacts/{name}" for name in names), "long.txt", "text.npy", "evil.pkl",
        folder=folder, NO_COLOR="1",
    )  # fmt: skip
    assert code == 0
    text = got.decode()
    assert not [char for char in text if (ord(char) < 32 and char not in "\r\n\t") or 127 <= ord(char) < 160]
    return text


def test_no_control_sequence_reaches_a_terminal(shown: str) -> None:
    assert "\\x1b]0;owned\\x07\\x1b[31mred\\x1b[0m \\x9b2J café" in shown
    assert "é" * MIB + "\\x1b[2J" in shown.replace("\r\n", "\n")
    assert "['\\x1b[31mred', '\\x9b2J']" in shown


def test_bytes_are_shown_as_hexadecimal_digits_on_a_terminal(shown: str) -> None:
    assert "signal.raw: bytes, 256 B" in shown
    assert "00000040  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO" in shown
    assert "Binary file: only its beginning is shown on a terminal. Redirect the output to get all of it." in shown


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_is_not_there_is_no_file_that_is_not_there(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue("moto_server" if scheme == "s3" else "gcs_server")
    options = [f"--storage-option={name}={value}" for name, value in server.options.items()]
    for below in ("", "/", "/x", "/x/*.txt"):
        done = notata("cat", f"{scheme}://no-such-bucket{below}", *options, folder=tmp_path)
        assert (done.returncode, done.stdout) == (3, "")
        assert "there is no bucket 'no-such-bucket'" in done.stderr
    assert notata("cat", f"{server.url}/nothing-here", *options, folder=tmp_path).returncode == 1
    bucket = uuid.uuid4().hex
    store = open_store(f"{scheme}://{bucket}", server.options)
    store.filesystem().mkdir(bucket)
    store.write("there.txt", b"")
    assert ", not a file; it contains: there.txt" in notata("cat", store.url, *options, folder=tmp_path).stderr


def test_a_file_that_shows_no_size_is_read(tmp_path: Path) -> None:
    assert Path("/proc/self/limits").stat().st_size == 0
    done = notata("cat", "/proc/self/limits", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, Path("/proc/self/limits").read_text())
