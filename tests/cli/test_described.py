"""Descriptions of unusual files: rare arrays, pickles and images, and files that change or fail during the read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata.cli import output
from notata.errors import ConflictError, DecodeError
from notata.formats.array_facts import ArrayFacts, npy_facts, npz_facts
from notata.formats.describing import Describers
from notata.formats.pickle_facts import PickleFacts, pickle_facts
from notata.search.block_reader import BlockReader
from notata.search.describing import BytesFacts
from notata.store import open_store
from tests.command import notata


def array(values: Any) -> ArrayFacts:
    file = io.BytesIO()
    np.save(file, values)
    return npy_facts(io.BytesIO(file.getvalue()))


def test_arrays_of_huge_elements_of_no_bytes_and_of_more_than_double_precision() -> None:
    huge = array(np.zeros(2, dtype=f"S{2**22 + 1}"))
    assert (huge.shape, huge.head, huge.stats, huge.bytes) == ((2,), (), None, 2**23 + 2)
    nothing = array(np.empty(3, dtype="V0"))
    assert (nothing.shape, nothing.head, nothing.bytes) == ((3,), (), 0)
    precise = array(np.array([1, 1 + np.longdouble(2) ** -60], dtype="f16")).stats
    assert precise is not None
    assert precise.std == 2.0**-61
    two = array(np.array([1 + 2j, 3 - 1j])).stats
    assert two is not None
    assert (two.min, two.max, two.mean) == (None, None, 2 + 0.5j)
    assert array(np.array(["x" * 200])).lines()[-1] == f"['{'x' * 99}…]"


def test_an_array_that_ends_while_it_is_read() -> None:
    class Shrinking(io.BytesIO):
        """A file that reports more bytes than it holds."""

        def seek(self, offset: int, whence: int = 0, /) -> int:
            return super().seek(offset, whence) + 800 * (whence == 2)

    file = io.BytesIO()
    np.save(file, np.arange(1000.0))
    with pytest.raises(DecodeError, match="truncated"):
        npy_facts(Shrinking(file.getvalue()[:-800]))


def test_a_bundle_names_the_member_that_is_damaged() -> None:
    file = io.BytesIO()
    np.savez(file, t=np.arange(3.0))
    assert not npz_facts(io.BytesIO(file.getvalue())).compressed
    short = io.BytesIO()
    np.save(short, np.arange(3.0))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("bad.npy", short.getvalue()[:-1])
    with pytest.raises(DecodeError, match=r"^bad\.npy: "):
        npz_facts(io.BytesIO(file.getvalue()))


def pickled(data: bytes) -> PickleFacts:
    return pickle_facts(io.BytesIO(data))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"(K\x01K\x022t.", "(1, 2, 2)"),  # DUP
        (b"]r\x00\x00\x01\x00j\x00\x00\x01\x00\x86.", "([], [])"),  # LONG_BINPUT, LONG_BINGET
        (b"\x80\x05\x97.", "buffer elsewhere"),
        (b"(K\x01K\x02Qt.", "(1, persistent object)"),
        (b"(K\x01Pname\nt.", "(1, persistent object)"),
        (b"K\x01(0.", "1"),  # POP of a mark
        (b"S'\\xe9'\n.", "<str of 7>"),  # bytes, as written by Python 2
        (b"C\x14" + b"x" * 20 + b".", "<bytes of 20 bytes>"),
        (b"\x83\x01\x00.", "copyreg.extension 1"),
    ],
)
def test_rare_pickle_opcodes(data: bytes, value: str) -> None:
    found = pickled(data)
    assert (found.value, found.warnings) == (value, ())


def test_pickles_that_are_wide_damaged_dangerous_or_cannot_be_read() -> None:
    import pickle

    class Gone(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise io.UnsupportedOperation("gone")

    wide = pickled(pickle.dumps([[f"{at}{'x' * 190}" for at in range(8)] for _ in range(8)])).value
    assert (len(wide), wide[-1]) == (2001, "…")
    assert "a length is negative" in pickled(b"T\xff\xff\xff\xff.").warnings[0]
    assert pickled(b"curllib.request\nurlopen\n.").dangerous == ("urllib.request.urlopen",)
    assert pickled(b"clogging.config\ndictConfig\n.").dangerous == ("logging.config.dictConfig",)
    assert pickled(b"clogging\nLogger\n.").dangerous == ()
    with pytest.raises(io.UnsupportedOperation):
        pickle_facts(Gone())


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (3).to_bytes(4) + (2).to_bytes(4) + b"\x08\x06\0\0\0"


def test_images_by_a_whole_head_alone() -> None:
    found = Describers().of("a.png")
    assert found is not None
    assert found[1].describe(io.BytesIO(PNG), stats=True, head=6).lines() == ["3 x 2 pixels, 8 bits, RGBA"]
    for data in (PNG[:25], PNG.replace(b"IHDR", b"IDAT"), b"x" + PNG[1:], b""):
        with pytest.raises(DecodeError):
            found[1].describe(io.BytesIO(data), stats=True, head=6)


def test_the_longest_suffix_says_what_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Form:
        def __init__(self, suffix: str) -> None:
            self.suffix = suffix

        def describe(self, file: io.BytesIO, *, stats: bool, head: int) -> str:
            return self.suffix

    forms = [Form(suffix) for suffix in (".vtk", ".mesh.vtk", ".h.vtk")]
    monkeypatch.setattr("notata.formats.describing.known", lambda: {form.suffix: form for form in forms})
    found = Describers().of("data/a.b.mesh.vtk")
    assert found is not None
    assert found[1].describe(io.BytesIO(), stats=True, head=6) == ".mesh.vtk"


def test_a_description_that_cannot_be_printed_is_a_fault_of_its_file_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Facts:
        def lines(self) -> list[str]:
            raise IndexError("no first atom")

    class Atoms:
        suffix = ".xyz"

        def describe(self, file: io.BytesIO, *, stats: bool, head: int) -> Facts:
            return Facts()

    monkeypatch.setattr("notata.formats.describing.known", lambda: {"atoms": Atoms()})
    for name in ("a.xyz", "b.txt"):
        (tmp_path / name).write_text(name)
    done = notata("cat", "a.xyz", "b.txt", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "b.txt")
    assert done.stderr == "Error: a.xyz: cannot print its description as atoms: IndexError: no first atom\n"


def test_bytes_are_shown_as_hexdump_has_them() -> None:
    assert BytesFacts(b"\x1fA~\x7f\x80\xe9 ".hex()).lines() == [f"00000000  {'1f 41 7e 7f 80 e9 20':47}  .A~... "]


def test_text_that_is_too_long_for_a_record_is_reported_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notata.search.describing.TEXT_BYTES", 10)
    open_store("memory://described").write_many({"a.txt": b"0123456789", "b.txt": b"0123456789a"})
    done = notata("cat", "--json", "memory://described/*.txt", folder=Path.cwd())
    assert ['"kind": "text"' in line for line in done.stdout.splitlines()] == [True, False]
    assert '"kind": "bytes"' in done.stdout


def test_a_character_that_is_cut_off_is_shown_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xc3")
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    done = notata("cat", "a.txt", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "caf\\udcc3")


def test_of_many_files_in_a_folder_some_are_named(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("x")
    done = notata("cat", ".", folder=tmp_path)
    assert (done.returncode, "0.txt, 1.txt, " in done.stderr) == (1, True)
    assert "7.txt and 2 more" in done.stderr


def test_a_block_reader_fetches_each_block_once_and_of_one_version(asked: list[tuple[str, int, int]]) -> None:
    store = open_store("memory://sparing")
    data = bytes(range(256)) * 1024
    store.write("x", data)
    asked.clear()
    reader = BlockReader(store, "x", None)
    reader.seek(-10, io.SEEK_END)
    assert reader.read(20) == data[-10:]
    reader.seek(-1000, io.SEEK_CUR)
    assert reader.read(1000) == data[-1000:]
    reader.seek(100)
    assert reader.read(3) == data[100:103]
    assert asked == [("x", 0, 2**14), ("x", len(data) - 2**16, 2**16)]
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)
    store.write("x", data[::-1])
    reader.seek(2**15)
    with pytest.raises((ConflictError, OSError)):
        reader.read(1)
