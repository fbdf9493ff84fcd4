"""The file objects of a store over a body in memory: which content is published, in which parts, and when none is."""

from __future__ import annotations

import array
import contextlib
import gc
import hashlib
import io
import os
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata._base.buffers import flat
from notata.errors import StorageError
from notata.store import Blob
from notata.store.files import PART, AtomicWriter, RangeReader, TextWriter

MIB = 2**20
NAME = "memory://runs/log_a/x.bin"


class FakeBody:
    """A fake of a store's upload of one file: its calls, and the visible content.

    Attributes:
        visible: The file's content; the previous content remains until a put or a commit.
        events: Every call; parts with their sizes.
        fails: The call that raises, and its exception.
    """

    def __init__(self, fails: str = "", error: BaseException | None = None) -> None:
        self.visible = b"old"
        self.events: list[str] = []
        self.fails = fails
        self.error = error or OSError("the disk is gone")
        self._parts: list[bytes] = []

    def _note(self, event: str) -> None:
        self.events.append(event)
        if event.split()[0] == self.fails:
            raise self.error

    def put(self, data: bytes) -> object:
        assert type(data) is bytes
        self._note(f"put {len(data)}")
        self.visible = data
        return "version"

    def begin(self) -> FakeBody:
        self._note("begin")
        return self

    def write(self, part: bytes) -> None:
        assert type(part) is bytes
        self._note(f"part {len(part)}")
        self._parts.append(part)

    def commit(self) -> str:
        self._note("commit")
        self.visible = b"".join(self._parts)
        return "version"

    def abort(self) -> None:
        self._note("abort")
        self._parts.clear()


class DigestBody:
    """Keeps only the part sizes and the digest, not the content."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.digest = hashlib.sha256()

    def put(self, data: bytes) -> object:
        raise AssertionError("a large value goes in parts")

    def begin(self) -> DigestBody:
        return self

    def write(self, part: bytes) -> None:
        self.sizes.append(len(part))
        self.digest.update(part)

    def commit(self) -> str:
        return ""

    def abort(self) -> None:
        raise AssertionError("nothing failed")


def _writer(body: FakeBody | DigestBody) -> AtomicWriter:
    return AtomicWriter(body, NAME)


def _text(body: FakeBody, encoding: str = "utf-8", errors: str | None = None, newline: str | None = "") -> TextWriter:
    return TextWriter(_writer(body), encoding=encoding, errors=errors, newline=newline, from_start=True)


def _forget(held: list[Any]) -> None:
    held.clear()
    gc.collect()


BIG = bytes(PART + 1)
"""Content that needs an upload in parts; as text it has as many characters."""


# -- what is published -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=50)))
def test_small_writes_are_one_put_at_the_close(chunks: list[bytes]) -> None:
    body = FakeBody()
    writer = _writer(body)
    for count, chunk in enumerate(chunks):
        assert writer.tell() == len(b"".join(chunks[:count]))
        assert writer.write(chunk) == len(chunk)
    assert (body.visible, body.events) == (b"old", [])
    writer.close()
    assert body.visible == b"".join(chunks)
    assert body.events == [f"put {len(body.visible)}"]


def test_a_file_without_a_write_is_empty() -> None:
    body = FakeBody()
    with _writer(body):
        pass
    assert (body.visible, body.events) == (b"", ["put 0"])


def test_writes_of_no_length_add_nothing() -> None:
    body = FakeBody()
    with _writer(body) as writer:
        empties: list[Any] = [b"", bytearray(), memoryview(b""), np.zeros((0, 3))]
        assert [writer.write(empty) for empty in empties] == [0] * 4
        writer.write(b"x")
        writer.write(b"")
        assert writer.tell() == 1
    assert (body.visible, body.events) == (b"x", ["put 1"])


def test_flush_publishes_nothing() -> None:
    body = FakeBody()
    with _writer(body) as writer:
        writer.write(b"new")
        writer.flush()
        assert body.visible == b"old"
    assert body.visible == b"new"


def test_writelines_and_copies_work_as_on_any_file() -> None:
    body = FakeBody()
    with _writer(body) as writer:
        writer.writelines([b"a\n", memoryview(b"b\n")])
    assert body.visible == b"a\nb\n"


def test_a_second_close_does_nothing() -> None:
    body = FakeBody()
    writer = _writer(body)
    writer.close()
    writer.close()
    writer.abort()
    assert writer.closed
    assert body.events == ["put 0"]


def test_a_writer_says_what_it_can() -> None:
    writer = _writer(FakeBody())
    assert (writer.name, writer.writable(), writer.readable(), writer.seekable()) == (NAME, True, False, False)
    for call in (writer.read, lambda: writer.seek(0), writer.truncate, writer.fileno):
        with pytest.raises(io.UnsupportedOperation):
            call()
    writer.abort()


def test_a_closed_writer_takes_nothing_more() -> None:
    body = FakeBody()
    writer = _writer(body)
    writer.close()
    for call in (lambda: writer.write(b"x"), writer.tell, writer.flush, writer.__enter__):
        with pytest.raises(ValueError, match="closed file"):
            call()
    assert body.visible == b""


# -- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writes", "events"),
    [
        ([PART - 1], [f"put {PART - 1}"]),
        ([PART], [f"put {PART}"]),
        ([PART, 0], [f"put {PART}"]),
        ([PART // 2] * 2, [f"put {PART}"]),
        ([PART + 1], ["begin", f"part {PART}", "part 1", "commit"]),
        ([PART, 1], ["begin", f"part {PART}", "part 1", "commit"]),
        ([1, PART], ["begin", f"part {PART}", "part 1", "commit"]),
        ([2 * PART], ["begin", f"part {PART}", f"part {PART}", "commit"]),
        ([PART, PART], ["begin", f"part {PART}", f"part {PART}", "commit"]),
        ([3 * PART + 5], ["begin", *[f"part {PART}"] * 3, "part 5", "commit"]),
        ([5, 2 * PART, 7], ["begin", f"part {PART}", f"part {PART}", "part 12", "commit"]),
        ([6 * MIB] * 3, ["begin", f"part {PART}", f"part {PART}", f"part {2 * MIB}", "commit"]),
    ],
)
def test_what_is_larger_than_a_part_goes_in_parts(writes: list[int], events: list[str]) -> None:
    body = FakeBody()
    content = bytes(range(251)) * (sum(writes) // 251 + 1)
    with _writer(body) as writer:
        start = 0
        for size in writes:
            assert writer.write(memoryview(content)[start : start + size]) == size
            start += size
        assert writer.tell() == start
        assert body.visible == b"old"
    assert body.events == events
    assert body.visible == content[: sum(writes)]


@pytest.mark.parametrize("chunk", [64 * MIB, 3 * MIB + 1])
def test_a_large_value_is_never_held_whole(chunk: int) -> None:
    values: Any = np.arange(8 * MIB, dtype="<u8")
    data = memoryview(values).cast("B")
    body = DigestBody()
    tracemalloc.start()
    try:
        with _writer(body) as writer:
            for start in range(0, len(data), chunk):
                writer.write(data[start : start + chunk])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert body.sizes == [PART] * 8
    assert body.digest.digest() == hashlib.sha256(values).digest()
    assert peak < 2.5 * PART


# -- what can be written -----------------------------------------------------------------------------------

GRID: Any = np.arange(6, dtype="<i2").reshape(2, 3)
FORTRAN: Any = np.asfortranarray(GRID)
BUFFERS: list[tuple[Any, bytes]] = [
    (bytearray(b"abc"), b"abc"),
    (memoryview(b"abcdef")[1:3], b"bc"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (memoryview(b"abcdef")[::-1], b"fedcba"),
    (memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
    (memoryview(array.array("i", [1, 2])), array.array("i", [1, 2]).tobytes()),
    (array.array("d", [0.5, -1.0]), bytes.fromhex("000000000000e03f000000000000f0bf")),
    (pickle.PickleBuffer(b"abc"), b"abc"),
    (pickle.PickleBuffer(FORTRAN), bytes.fromhex("000003000100040002000500")),
    (GRID, bytes.fromhex("000001000200030004000500")),
    (FORTRAN, bytes.fromhex("000003000100040002000500")),
    (GRID[:, ::2], bytes.fromhex("0000020003000500")),
    (np.array(7, "u1"), b"\x07"),
    (np.zeros((3, 0), order="F"), b""),
    (np.array([(1, 2)], [("a", "<i2"), ("b", "u1")]), b"\x01\x00\x02"),
]


@pytest.mark.parametrize(("value", "data"), BUFFERS)
def test_any_buffer_can_be_written_and_counts_in_bytes(value: Any, data: bytes) -> None:
    body = FakeBody()
    with _writer(body) as writer:
        assert writer.write(value) == len(data)
        assert writer.tell() == len(data)
    assert body.visible == data
    assert flat(value).tobytes() == data


def test_a_contiguous_buffer_is_flattened_without_a_copy() -> None:
    arrays: list[Any] = [np.zeros((4, 5)), np.zeros((4, 5), order="F"), np.zeros(3, "u1")]
    for values in arrays:
        flat(values)[0] = 255
        assert values.tobytes().count(b"\xff") == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_of_any_order_is_cut_into_parts(order: Any) -> None:
    values: Any = np.asarray(np.arange(3 * MIB, dtype="<f8").reshape(3, MIB), order=order)
    body = FakeBody()
    with _writer(body) as writer:
        assert writer.write(values) == 24 * MIB
    assert body.events == ["begin", *[f"part {PART}"] * 3, "commit"]
    assert body.visible == values.tobytes(order="A")


def test_a_buffer_may_change_after_the_write() -> None:
    body = FakeBody()
    held = bytearray(b"first")
    with _writer(body) as writer:
        writer.write(held)
        held[:] = b"later"
    assert body.visible == b"first"


# -- what is not published ---------------------------------------------------------------------------------

ERRORS = [ValueError("mine"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("data", "events"), [(b"new", []), (BIG, ["begin", f"part {PART}", "abort"])])
def test_an_exception_in_the_block_publishes_nothing(data: bytes, events: list[str], error: BaseException) -> None:
    body = FakeBody()
    with pytest.raises(type(error)) as caught, _writer(body) as writer:
        writer.write(data)
        raise error
    assert caught.value is error
    assert writer.closed
    assert (body.visible, body.events) == (b"old", events)


@pytest.mark.parametrize(("data", "events"), [(b"new", []), (BIG, ["begin", f"part {PART}", "abort"])])
def test_an_aborted_write_publishes_nothing(data: bytes, events: list[str]) -> None:
    body = FakeBody()
    writer = _writer(body)
    writer.write(data)
    writer.abort()
    writer.abort()
    writer.close()
    assert (body.visible, body.events) == (b"old", events)


@pytest.mark.parametrize(("data", "events"), [(b"new", []), (BIG, ["begin", f"part {PART}", "abort"])])
def test_a_writer_that_is_forgotten_publishes_nothing_and_warns(data: bytes, events: list[str]) -> None:
    body = FakeBody()
    writer = _writer(body)
    writer.write(data)
    held = [writer]
    del writer
    with pytest.warns(ResourceWarning) as warned:
        _forget(held)
    assert [str(warning.message) for warning in warned] == [
        f"{NAME} was never closed, so nothing was stored; use a with block"
    ]
    assert (body.visible, body.events) == (b"old", events)


def test_a_forgotten_writer_in_a_cycle_publishes_nothing_and_warns() -> None:
    body = FakeBody()
    writer = _writer(body)
    writer.write(b"new")
    writer.owner = writer  # type: ignore[attr-defined]
    held = [writer]
    del writer
    with pytest.warns(ResourceWarning, match="never closed, so nothing was stored"):
        _forget(held)
    assert (body.visible, body.events) == (b"old", [])


class Case(NamedTuple):
    """A call of the body that fails, the bytes written before it, and all expected calls."""

    fails: str
    data: bytes
    events: list[str]


FAILURES = [
    Case("put", b"new", ["put 3"]),
    Case("begin", BIG, ["begin"]),
    Case("part", BIG, ["begin", f"part {PART}", "abort"]),
    Case("commit", BIG, ["begin", f"part {PART}", "part 1", "commit", "abort"]),
]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()], ids=["OSError", "interrupt"])
@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.fails)
def test_a_failure_of_the_storage_is_raised_and_nothing_stays(case: Case, error: BaseException) -> None:
    body = FakeBody(case.fails, error)
    with pytest.raises(type(error)) as caught, _writer(body) as writer:
        writer.write(case.data)
    assert caught.value is error
    assert writer.closed
    assert (body.visible, body.events) == (b"old", case.events)


@pytest.mark.parametrize("fails", ["begin", "part"])
def test_a_close_after_a_failed_write_publishes_nothing_and_says_so(fails: str) -> None:
    body = FakeBody(fails)
    writer = _writer(body)
    with pytest.raises(OSError, match="the disk is gone"):
        writer.write(BIG)
    body.fails = ""
    with pytest.raises(StorageError) as caught:
        writer.close()
    assert str(caught.value) == f"{NAME}: nothing was stored because an earlier write failed; write the file again"
    assert caught.value.__cause__ is body.error
    assert writer.closed
    assert body.visible == b"old"
    assert ("abort" in body.events) is (fails == "part")
    writer.close()


def test_a_failed_write_that_the_block_swallows_is_raised_at_its_end() -> None:
    body = FakeBody("part")
    with (
        pytest.raises(StorageError, match="nothing was stored because an earlier write failed"),
        _writer(body) as writer,
    ):
        with pytest.raises(OSError, match="the disk is gone"):
            writer.write(BIG)
        body.fails = ""
        writer.write(b"more")
    assert body.visible == b"old"
    assert "commit" not in body.events


@pytest.mark.parametrize("value", ["text", None, 5, object()])
def test_a_write_of_what_has_no_bytes_is_a_failed_write(value: Any) -> None:
    body = FakeBody()
    writer = _writer(body)
    writer.write(b"half")
    with pytest.raises(TypeError, match="bytes-like object"):
        writer.write(value)
    with pytest.raises(StorageError, match="nothing was stored because an earlier write failed"):
        writer.close()
    assert (body.visible, body.events) == (b"old", [])


def test_a_failed_close_publishes_nothing_later() -> None:
    body = FakeBody("put")
    writer = _writer(body)
    writer.write(b"new")
    with pytest.raises(OSError, match="the disk is gone"):
        writer.close()
    body.fails = ""
    writer.close()
    del writer
    gc.collect()
    assert (body.visible, body.events) == (b"old", ["put 3"])


class FailingTwice(FakeBody):
    """The commit or the user's block fails, and then the clean-up fails too."""

    def abort(self) -> None:
        super().abort()
        raise PermissionError("no aborting here")


def test_a_failing_clean_up_is_a_note_on_the_error_before_it() -> None:
    body = FailingTwice("commit")
    with pytest.raises(OSError, match="the disk is gone") as caught, _writer(body) as writer:
        writer.write(BIG)
    assert caught.value.__notes__ == [f"notata: could not clean up after {NAME}: no aborting here"]
    assert writer.closed
    assert body.visible == b"old"

    mine = ValueError("mine")
    with pytest.raises(ValueError, match="mine"), _writer(FailingTwice()) as writer:
        writer.write(BIG)
        raise mine
    assert mine.__notes__ == [f"notata: could not clean up after {NAME}: no aborting here"]


def test_what_was_closed_in_the_block_stays_published_when_the_block_fails_later() -> None:
    body = FakeBody()
    with pytest.raises(ValueError, match="later"), _writer(body) as writer:
        writer.write(b"new")
        writer.close()
        raise ValueError("later")
    assert body.visible == b"new"


# -- text --------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=20)), st.sampled_from(["utf-8", "utf-16", "utf-32-be"]))
def test_text_is_encoded_with_its_newlines_as_given(chunks: list[str], encoding: str) -> None:
    body = FakeBody()
    with _text(body, encoding) as writer:
        for chunk in chunks:
            assert writer.write(chunk) == len(chunk)
        assert body.visible == b"old"
    assert body.visible.decode(encoding) == "".join(chunks)


@pytest.mark.parametrize(
    ("newline", "data"),
    [
        ("", b"a\nb\r\nc\rd"),
        ("\n", b"a\nb\r\nc\rd"),
        ("\r\n", b"a\r\nb\r\r\nc\rd"),
        (None, "a\nb\r\nc\rd".replace("\n", os.linesep).encode()),
    ],
)
def test_newlines_are_translated_when_asked_for(newline: str | None, data: bytes) -> None:
    body = FakeBody()
    with _text(body, newline=newline) as writer:
        writer.write("a\nb\r\nc\rd")
    assert body.visible == data


def test_what_the_encoding_cannot_hold_goes_by_the_errors_asked_for() -> None:
    body = FakeBody()
    with _text(body, "latin-1", "backslashreplace") as writer:
        writer.write("é€")
    assert body.visible == b"\xe9\\u20ac"


@pytest.mark.parametrize(("from_start", "mark"), [(True, "x".encode("utf-16")[:2]), (False, b"")])
def test_a_byte_order_mark_is_written_at_the_start_only(from_start: bool, mark: bytes) -> None:
    body = FakeBody()
    writer = _writer(body)
    with TextWriter(writer, encoding="utf-16", errors=None, newline="", from_start=from_start) as text:
        text.write("a")
        text.write("b")
        assert not text.seekable()
    assert body.visible == mark + "ab".encode("utf-16")[2:]
    assert not writer.shows_start


def test_printing_to_a_text_writer() -> None:
    body = FakeBody()
    with _text(body) as writer:
        print("t", 0.5, file=writer, flush=True)
        writer.writelines(["x\n", "y\n"])
        assert body.visible == b"old"
    assert (writer.name, writer.encoding, body.visible) == (NAME, "utf-8", b"t 0.5\nx\ny\n")


def test_large_text_goes_in_parts() -> None:
    body = FakeBody()
    with _text(body) as writer:
        for _ in range(3):
            writer.write("é" * (PART // 4))
            writer.write("x" * (PART // 2))
    assert body.events == ["begin", *[f"part {PART}"] * 2, f"part {PART}", "commit"]
    assert body.visible == ("é" * (PART // 4) + "x" * (PART // 2)).encode() * 3


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("size", "aborts"), [(3, 0), (PART + 1, 1)])
def test_an_exception_in_the_block_publishes_no_text(size: int, aborts: int, error: BaseException) -> None:
    body = FakeBody()
    with pytest.raises(type(error)) as caught, _text(body) as writer:
        writer.write("x" * size)
        raise error
    assert caught.value is error
    assert writer.closed
    assert (body.visible, body.events.count("abort")) == (b"old", aborts)


@pytest.mark.parametrize(("size", "aborts"), [(3, 0), (PART + 1, 1)])
def test_a_text_writer_that_is_forgotten_publishes_nothing_and_warns_once(size: int, aborts: int) -> None:
    body = FakeBody()
    writer = _text(body)
    writer.write("x" * size)
    held = [writer]
    del writer
    with pytest.warns(ResourceWarning) as warned:
        _forget(held)
    assert [str(warning.message) for warning in warned] == [
        f"{NAME} was never closed, so nothing was stored; use a with block"
    ]
    assert (body.visible, body.events.count("abort")) == (b"old", aborts)


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.fails)
def test_a_failure_of_the_storage_publishes_no_text(case: Case) -> None:
    body = FakeBody(case.fails)
    with pytest.raises(OSError, match=r"the disk is gone|an earlier write failed") as caught, _text(body) as writer:
        writer.write(case.data.decode())
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert body.error in chain
    assert writer.closed
    assert (body.visible, body.events) == (b"old", case.events)


def test_a_character_that_does_not_encode_is_a_failed_write() -> None:
    body = FakeBody()
    writer = _text(body)
    writer.write("half")
    with pytest.raises(UnicodeEncodeError):
        writer.write("\ud800")
    with pytest.raises(StorageError, match="nothing was stored because an earlier write failed"):
        writer.close()
    assert (body.visible, body.events) == (b"old", [])


def test_a_character_that_does_not_encode_publishes_nothing_of_the_block() -> None:
    body = FakeBody()
    with pytest.raises(UnicodeEncodeError), _text(body) as writer:
        writer.write("half")
        writer.write("\ud800")
    assert (body.visible, body.events) == (b"old", [])


# -- reading by ranges -------------------------------------------------------------------------------------


class Ranges:
    """Fetches ranges of `data` and records them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> Future[Blob]:
        assert 0 <= start < end <= len(self.data)
        self.asked.append((start, end))
        part: Future[Blob] = Future()
        part.set_result(Blob(self.data[start:end], len(self.data), "1"))
        return part

    def reader(self, held: int) -> RangeReader:
        return RangeReader(self.data[:held], len(self.data), self, NAME)


Step = tuple[str, int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(["set", "cur", "end"]), st.integers(-120, 250))
    | st.tuples(st.sampled_from(["read", "read1", "readline"]), st.integers(-1, 250))
    | st.tuples(st.sampled_from(["readinto", "tell"]), st.integers(0, 250)),
    max_size=20,
)


def _did(file: io.BytesIO | io.BufferedReader[Any] | RangeReader, step: Step) -> object:
    """Apply one step to a file and return everything observable."""
    what, number = step
    if what in ("set", "cur", "end"):
        whence = {"set": io.SEEK_SET, "cur": io.SEEK_CUR, "end": io.SEEK_END}[what]
        return file.seek(number, whence)
    if what == "tell":
        return file.tell()
    if what == "readinto":
        target = bytearray(number)
        return file.readinto(target), bytes(target)
    if what == "readline":
        return file.readline(number)
    return file.read(number)


def _stays_inside(oracle: io.BytesIO, step: Step) -> bool:
    what, number = step
    base = {"set": 0, "cur": oracle.tell(), "end": len(oracle.getvalue())}.get(what)
    return base is None or base + number >= 0


@given(st.binary(max_size=200), st.integers(0, 220), STEPS)
def test_a_range_reader_reads_as_bytes_in_memory(data: bytes, held: int, steps: list[Step]) -> None:
    ranges, oracle = Ranges(data), io.BytesIO(data)
    reader = ranges.reader(held)
    for step in steps:
        if _stays_inside(oracle, step):
            assert _did(reader, step) == _did(oracle, step)
    assert reader.tell() == oracle.tell()


@given(st.binary(max_size=200), st.integers(0, 220), st.integers(1, 60), STEPS)
def test_a_buffered_range_reader_reads_as_bytes_in_memory(
    data: bytes, held: int, buffer: int, steps: list[Step]
) -> None:
    ranges, oracle = Ranges(data), io.BytesIO(data)
    with io.BufferedReader(ranges.reader(held), buffer) as reader:
        for step in steps:
            if _stays_inside(oracle, step):
                if step[0] == "read1":
                    given_ = reader.read1(step[1])
                    assert oracle.read(len(given_)) == given_
                else:
                    assert _did(reader, step) == _did(oracle, step)
        assert reader.tell() == oracle.tell()
        assert reader.read() == oracle.read()


@given(st.text(max_size=60), st.integers(0, 80), st.integers(1, 20))
def test_text_over_a_range_reader(text: str, held: int, buffer: int) -> None:
    data = text.encode()
    with io.TextIOWrapper(io.BufferedReader(Ranges(data).reader(held), buffer), "utf-8", newline="") as reader:
        assert list(reader) == list(io.StringIO(text, newline=""))


def test_bytes_received_at_open_cost_no_further_request() -> None:
    ranges = Ranges(b"0123456789")
    with io.BufferedReader(ranges.reader(10), 4) as reader:
        assert (reader.read(3), reader.seek(-2, io.SEEK_END), reader.read(), reader.seek(0)) == (b"012", 8, b"89", 0)
        assert reader.read() == b"0123456789"
    assert ranges.asked == []


def test_each_range_beyond_is_one_request() -> None:
    ranges = Ranges(b"0123456789")
    reader = ranges.reader(4)
    assert reader.read(4) == b"0123"
    assert ranges.asked == []
    assert reader.read(3) == b"456"
    assert reader.seek(8) == 8
    assert reader.read(100) == b"89"
    assert reader.read(100) == b""
    assert ranges.asked == [(4, 7), (8, 10)]


@pytest.mark.parametrize("size", [0, 1])
def test_an_empty_or_tiny_file(size: int) -> None:
    ranges = Ranges(b"x" * size)
    with io.BufferedReader(ranges.reader(PART), PART) as reader:
        assert (reader.read(), reader.read(1), reader.seek(5), reader.read()) == (b"x" * size, b"", 5, b"")
    assert ranges.asked == []


def test_arrays_are_filled_in_place() -> None:
    values: Any = np.zeros((2, 3), "<u2")
    assert Ranges(GRID.tobytes()).reader(4).readinto(values) == 12
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_pickle_and_an_array_load_from_a_range_reader() -> None:
    values = np.arange(1000.0)
    data = pickle.dumps({"values": values})
    with io.BufferedReader(Ranges(data).reader(100), 64) as reader:
        assert pickle.load(reader)["values"].tolist() == values.tolist()


def test_a_failed_fetch_is_raised_and_the_position_stands() -> None:
    def begin(start: int, end: int) -> Future[Blob]:
        part: Future[Blob] = Future()
        part.set_exception(StorageError("gone meanwhile"))
        return part

    reader = RangeReader(b"ab", 10, begin, NAME)
    with pytest.raises(StorageError, match="gone meanwhile"):
        reader.read(5)
    assert reader.tell() == 0
    assert reader.read(2) == b"ab"


def test_a_range_reader_says_what_it_can() -> None:
    reader = Ranges(b"ab").reader(2)
    assert (reader.name, reader.readable(), reader.seekable(), reader.writable()) == (NAME, True, True, False)


@pytest.mark.parametrize(
    ("offset", "whence", "message"),
    [
        (-1, io.SEEK_SET, "negative seek position -1"),
        (-3, io.SEEK_CUR, "negative seek position -3"),
        (-4, io.SEEK_END, "negative seek position -2"),
        (0, 7, "whence"),
    ],
)
def test_a_seek_to_nowhere_is_refused(offset: int, whence: int, message: str) -> None:
    reader = Ranges(b"ab").reader(2)
    with pytest.raises(ValueError, match=message):
        reader.seek(offset, whence)
    assert reader.tell() == 0


def test_a_seek_to_a_fraction_is_refused() -> None:
    reader = Ranges(b"ab").reader(2)
    with pytest.raises(TypeError):
        reader.seek(1.5)  # type: ignore[arg-type]


CALLS: list[Callable[[RangeReader], object]] = [
    lambda reader: reader.read(1),
    lambda reader: reader.readall(),
    lambda reader: reader.seek(0),
    lambda reader: reader.tell(),
    lambda reader: reader.readinto(bytearray(1)),
]


@pytest.mark.parametrize("call", CALLS, ids=["read", "readall", "seek", "tell", "readinto"])
def test_a_closed_reader_reads_nothing_more(call: Callable[[RangeReader], object]) -> None:
    reader = Ranges(b"ab").reader(2)
    reader.close()
    with pytest.raises(ValueError, match="closed file"):
        call(reader)


@pytest.mark.parametrize("held", [0, 2])
def test_reading_all_beyond_the_end_gives_nothing_and_stays_there(held: int) -> None:
    ranges = Ranges(b"ab")
    reader = ranges.reader(held)
    reader.seek(5)
    assert (reader.read(), reader.readall(), reader.tell()) == (b"", b"", 5)
    assert ranges.asked == []


def test_reading_all_fetches_what_is_not_held_in_one_request() -> None:
    ranges = Ranges(b"0123456789")
    reader = ranges.reader(4)
    reader.seek(2)
    assert reader.readall() == b"23456789"
    assert ranges.asked == [(4, 10)]
    assert (reader.tell(), reader.readall()) == (10, b"")


class Coming:
    """Parts that arrive when a caller waits for them; records the maximum number in flight."""

    def __init__(self, size: int) -> None:
        self.data = np.arange(size, dtype="u4").astype("u1").tobytes()
        self.lost: int | None = None  # start of the part whose reply is lost, once
        self.asked: list[tuple[int, int]] = []
        self.flying: set[Future[Blob]] = set()
        self.most = 0

    def __call__(self, start: int, end: int) -> Future[Blob]:
        self.asked.append((start, end))
        part = _Arriving(self, self.data[start:end], fails=start == self.lost)
        self.flying.add(part)
        self.most = max(self.most, len(self.flying))
        return part

    def reader(self, held: int) -> RangeReader:
        return RangeReader(self.data[:held], len(self.data), self, NAME)


class _Arriving(Future[Blob]):
    def __init__(self, coming: Coming, data: bytes, *, fails: bool) -> None:
        super().__init__()
        self._coming = coming
        self._data = data
        self._fails = fails

    def result(self, timeout: float | None = None) -> Blob:
        self._coming.flying.remove(self)
        if self._fails:
            self._coming.lost = None
            raise StorageError("a reply was lost")
        return Blob(self._data, len(self._coming.data), "1")

    def cancel(self) -> bool:
        self._coming.flying.discard(self)
        return super().cancel()


def test_what_is_read_at_once_comes_in_four_parts_at_a_time() -> None:
    coming = Coming(10 * PART)
    target = bytearray(9 * PART + 1)
    with io.BufferedReader(coming.reader(PART), PART) as reader:
        assert reader.readinto(target) == 9 * PART + 1
        assert target == coming.data[: len(target)]
        assert coming.most == 4
        assert max(end - start for start, end in coming.asked) == PART
    coming = Coming(10 * PART)
    assert coming.reader(PART).readall() == coming.data
    assert (coming.most, len(coming.asked)) == (4, 9)


def test_sequential_reads_prefetch_more_parts_each_time() -> None:
    coming = Coming(12 * PART)
    with io.BufferedReader(coming.reader(PART), PART) as reader:
        flying = []
        for start in range(0, 12 * PART, PART // 2):
            assert reader.read(PART // 2) == coming.data[start : start + PART // 2]
            flying.append(len(coming.flying))
    assert flying[::2] == [0, 0, 0, 1, 2, 3, 3, 3, 3, 2, 1, 0]
    assert coming.asked == [(at * PART, (at + 1) * PART) for at in range(1, 12)]


def test_prefetched_parts_are_cancelled_when_they_are_not_needed() -> None:
    coming = Coming(12 * PART)
    reader = io.BufferedReader(coming.reader(PART), PART)
    for _ in range(6):
        reader.read(PART)
    assert coming.flying
    reader.seek(-10, io.SEEK_END)
    assert reader.read(5) == coming.data[-10:-5]
    assert not coming.flying
    assert coming.asked[-1] == (12 * PART - 10, 12 * PART)
    reader.seek(PART)
    for _ in range(4):
        reader.read(PART)
    assert coming.flying
    reader.close()
    assert not coming.flying


def test_a_read_that_failed_is_made_again_from_where_it_began() -> None:
    coming = Coming(8 * PART)
    coming.lost = 3 * PART
    reader = io.BufferedReader(coming.reader(PART), PART)
    found = b""
    while len(found) < 8 * PART:
        with contextlib.suppress(StorageError):
            found += reader.read(PART)
    assert coming.lost is None
    assert found == coming.data


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of POSIX")
def test_a_forked_child_reads_on_by_requests_of_its_own() -> None:
    coming = Coming(12 * PART)
    reader = coming.reader(PART)
    for _ in range(5):
        reader.read(PART)
    assert coming.flying
    child = os.fork()
    if not child:
        coming.flying.clear()
        there = reader.read(PART) == coming.data[5 * PART : 6 * PART] and coming.asked[-1][0] == 5 * PART
        os._exit(0 if there else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
