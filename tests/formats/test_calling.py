"""User-defined formats: notata wraps their errors but not those of the file, and a library may require a path."""

from __future__ import annotations

import io
import os
import sqlite3
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import IO, Any

import pytest

from notata import formats
from notata.errors import ConfigurationError, DecodeError, EncodeError, KeyNameError, StorageError
from notata.formats import PathFormat, decode, encode
from tests.formats.files import Failing, Stream, binary, through_a_store


class Words:
    suffix = ".words"

    def write(self, words: list[str], file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        text.writelines(f"{word}\n" for word in words)
        text.flush()

    def read(self, file: IO[bytes]) -> list[str]:
        return [line.rstrip("\n") for line in io.TextIOWrapper(file, "utf-8")]


class OneWay:
    suffix = ".out"

    def write(self, value: object, file: IO[bytes]) -> None:
        file.write(repr(value).encode())


class Raising:
    suffix = ".bad"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def write(self, value: object, file: IO[bytes]) -> None:
        raise self.error

    def read(self, file: IO[bytes]) -> object:
        raise self.error


class Hiding:
    """A format that replaces the file's exception by its own, as some libraries do."""

    suffix = ".hide"

    def __init__(self, swallow: bool = False) -> None:
        self.swallow = swallow

    def write(self, value: object, file: IO[bytes]) -> None:
        try:
            file.write(b"x")
        except Exception as error:
            if not self.swallow:
                raise RuntimeError("write error") from error

    def read(self, file: IO[bytes]) -> object:
        try:
            return file.read()
        except Exception as error:
            raise RuntimeError("read error") from error


class Seeking:
    suffix = ".seek"

    def write(self, value: object, file: IO[bytes]) -> None:
        file.seek(10)


def test_a_format_of_a_user_goes_both_ways_and_leaves_the_file_open() -> None:
    file = Stream()
    formats.write(Words(), ["a", "é"], binary(file))
    assert bytes(file.data) == "a\né\n".encode()
    assert not file.closed
    source = io.BytesIO(file.data)
    assert formats.read(Words(), source) == ["a", "é"]
    assert not source.closed
    assert decode(Words(), encode(Words(), ["x"])) == ["x"]
    assert isinstance(Words(), formats.Format)
    assert not isinstance(OneWay(), formats.Format)
    assert isinstance(OneWay(), formats.WriteFormat)


@pytest.mark.parametrize(
    "error", [ValueError("no"), RuntimeError("no"), OSError("no"), KeyError("no"), RecursionError()]
)
def test_an_error_of_a_format_becomes_ours(error: Exception) -> None:
    for call in (lambda: formats.write(Raising(error), [], io.BytesIO()), lambda: encode(Raising(error), [])):
        with pytest.raises(EncodeError) as caught:
            call()
        assert str(caught.value).startswith(f"Raising cannot write this list: {type(error).__name__}")
        assert caught.value.__cause__ is error
    with pytest.raises(DecodeError) as told:
        decode(Raising(error), b"")
    assert str(told.value).startswith(f"Raising cannot read this file: {type(error).__name__}")
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyNameError("name"), StorageError("down"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_of_notata_and_interrupts_pass(error: BaseException) -> None:
    for call in (lambda: formats.write(Raising(error), [], io.BytesIO()), lambda: decode(Raising(error), b"")):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error


@pytest.mark.parametrize("form", [OneWay(), Words(), Hiding(), Hiding(swallow=True), formats.PICKLE, formats.JSON])
@pytest.mark.parametrize("error", [StorageError("down"), OSError("disk"), ValueError("closed")])
def test_an_error_of_the_file_is_none_of_the_value(form: Any, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        formats.write(form, ["a"], Failing(error))
    assert caught.value is error


@pytest.mark.parametrize("form", [Words(), Hiding(), formats.PICKLE, formats.NPY])
@pytest.mark.parametrize("error", [StorageError("down"), OSError("disk"), ValueError("closed")])
def test_an_error_of_the_file_is_no_damage(form: Any, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        formats.read(form, Failing(error, b"content"))
    assert caught.value is error


def test_text_in_place_of_bytes_is_the_fault_of_the_format() -> None:
    class Texts(OneWay):
        def write(self, value: object, file: IO[bytes]) -> None:
            file.write(str(value))  # type: ignore[call-overload]

    with pytest.raises(EncodeError, match=r"Texts cannot write this int: TypeError: .*bytes-like"):
        formats.write(Texts(), 5, io.BytesIO())


def test_the_error_for_a_format_that_seeks_names_path_format() -> None:
    with pytest.raises(EncodeError, match=r"this file cannot seek. Use PathFormat, which gives a library a real file"):
        formats.write(Seeking(), 5, io.BytesIO())


def test_a_format_that_does_not_read_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"OneWay cannot read: it has no read\(file\)"):
        decode(OneWay(), b"")


# -- libraries that insist on a path -----------------------------------------------------------------------


def write_rows(rows: list[Any], path: str) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("create table t (x)")
        database.executemany("insert into t values (?)", [(row,) for row in rows])
    database.close()


def read_rows(path: str) -> list[Any]:
    database = sqlite3.connect(path)
    try:
        return [row[0] for row in database.execute("select x from t")]
    finally:
        database.close()


SQLITE = PathFormat(".sqlite", write_rows, read_rows)


def test_a_library_that_wants_a_path_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert through_a_store(SQLITE, [1, 2.5, "x"]) == [1, 2.5, "x"]
    with pytest.raises(EncodeError, match=r"^write_rows cannot write this list: ProgrammingError: .*type 'object'"):
        encode(SQLITE, [object()])
    with pytest.raises(DecodeError, match=r"^read_rows cannot read this file: DatabaseError: file is not a database"):
        decode(SQLITE, b"no database" * 100)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(SQLITE, formats.Format)
    assert PathFormat(".sqlite", write=write_rows, read=read_rows) == SQLITE
    assert SQLITE.suffix == ".sqlite"


def test_a_library_that_writes_elsewhere_is_an_error() -> None:
    def write(value: object, path: str) -> None:
        Path(path + ".npy").write_bytes(b"")

    with pytest.raises(EncodeError, match=r"did not write the file 'value.arr', but \['value.arr.npy'\]"):
        encode(PathFormat(".arr", write), 1)


def test_a_path_format_without_read_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .sqlite files"):
        decode(PathFormat(".sqlite", write_rows), b"")


@pytest.mark.parametrize(
    "arguments", [("vtk", print), ("", print), (".a/b", print), (3, print), (".a", 3), (".a", print, 3)]
)
def test_what_makes_no_path_format_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError):
        PathFormat(*arguments)


@pytest.mark.parametrize("error", [StorageError("down"), OSError("disk"), KeyboardInterrupt()])
def test_an_error_of_the_file_below_a_path_stays(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        formats.write(SQLITE, [1], Failing(error, after=5000))
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        formats.read(SQLITE, Failing(error, encode(SQLITE, [1]), after=5000))
    assert caught.value is error


def test_a_large_file_passes_in_pieces() -> None:
    def write(size: int, path: str) -> None:
        with open(path, "wb") as file:
            file.truncate(size)

    form = PathFormat(".raw", write, os.path.getsize)
    file = Stream()
    tracemalloc.start()
    try:
        form.write(2**25, binary(file))
        assert file.largest <= 2**20
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert form.read(io.BytesIO(file.data)) == 2**25
        assert tracemalloc.get_traced_memory()[1] - before < 2**25 + 2**23  # BytesIO's own copy, and little more
    finally:
        tracemalloc.stop()


def test_zipfile_writes_to_a_stream() -> None:
    class Zipped:
        suffix = ".zip"

        def write(self, files: dict[str, bytes], file: IO[bytes]) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                for name, data in files.items():
                    archive.writestr(name, data)

        def read(self, file: IO[bytes]) -> dict[str, bytes]:
            with zipfile.ZipFile(file) as archive:
                return {name: archive.read(name) for name in archive.namelist()}

    assert through_a_store(Zipped(), {"a": b"1", "b": b"2"}) == {"a": b"1", "b": b"2"}
    file = Stream()
    formats.write(Zipped(), {"a": b"1"}, binary(file))
    assert formats.read(Zipped(), io.BytesIO(file.data)) == {"a": b"1"}
