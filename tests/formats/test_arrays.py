"""npy and npz: values read back by numpy itself, and values that are refused."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zipfile
from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from notata import formats
from notata.errors import DecodeError, EncodeError, StorageError
from notata.formats import NPY, NPZ, Npz
from tests.formats.files import Failing, Stream, binary, through_a_store, written

Array = np.ndarray[Any, Any]

SIMPLE = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=cast("Any", (16, 32, 64, np.dtype("g").itemsize * 8))),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(),
    hnp.unicode_string_dtypes(endianness="?"),
    st.sampled_from([np.dtype("V3"), np.dtype("S0"), np.dtype("U0")]),
)
RECORDS = hnp.array_dtypes(SIMPLE.filter(lambda dtype: dtype.itemsize > 0), max_size=3, allow_subarrays=True)


@st.composite
def any_array(draw: st.DrawFn) -> Array:
    dtype = draw(SIMPLE | RECORDS)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    data = draw(st.binary(min_size=8, max_size=64))
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    if dtype.kind == "U" or dtype.names or dtype.kind == "b":
        array = np.zeros(shape, dtype)
        if dtype.kind == "U" and array.size:
            array[...] = draw(st.text(max_size=5))
        if dtype.kind == "b" and array.size:
            array[...] = draw(st.booleans())
    elif dtype.itemsize:
        array = np.frombuffer((data * (count // len(data) + 1))[:count], dtype).reshape(shape)
    else:
        array = np.empty(shape, dtype)
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "transposed"]))
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        return array[..., ::2] if array.ndim else array
    if layout == "reversed":
        return array[::-1] if array.ndim else array
    return array.T if layout == "transposed" else array


def same(one: Array, other: Array) -> None:
    assert type(other) is np.ndarray
    assert one.dtype == other.dtype
    assert one.dtype.str == other.dtype.str
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


def loaded(data: bytes) -> Any:
    return np.load(io.BytesIO(data), allow_pickle=False, max_header_size=10**8)


@given(any_array())
@example(np.zeros((), [("é", "f8"), ("λ", "i4")]))
def test_any_array_comes_back(array: Array) -> None:
    data = written(NPY, array)
    same(array, loaded(data))
    read = NPY.read(io.BytesIO(data))
    same(array, read)
    assert read.flags.f_contiguous == loaded(data).flags.f_contiguous


def test_a_table_of_many_columns_comes_back() -> None:
    wide = np.zeros(2, [(f"column{i:05}", "f8") for i in range(3000)])
    assert NPY.read(io.BytesIO(written(NPY, wide))).dtype == wide.dtype


@given(any_array())
def test_the_file_is_the_one_of_numpy(array: Array) -> None:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save(file, array, allow_pickle=False)
    assert written(NPY, array) == file.getvalue()


@given(st.dictionaries(st.text(min_size=1, max_size=6), any_array(), max_size=3), st.booleans())
def test_any_arrays_come_back_by_their_names(arrays: dict[str, Array], compressed: bool) -> None:
    form = Npz(compressed)
    try:
        data = written(form, arrays)
    except EncodeError:
        assert any("\0" in name or "\\" in name or f"{name}.npy" in arrays for name in arrays)
        return
    assert data == written(form, dict(arrays))
    read = form.read(io.BytesIO(data))
    assert list(read) == list(arrays) == form.members(io.BytesIO(data))
    with loaded(data) as archive:
        for name, array in arrays.items():
            same(array, archive[name])
            same(array, read[name])
            same(array, form.read_member(io.BytesIO(data), name))


@pytest.mark.parametrize("name", ["é", "a/b", "/abs", "..", "x.npy", "a b", "😀", "x" * 1000, ".npy", "\n"])
def test_a_name_comes_back(name: str) -> None:
    data = written(NPZ, {name: [1.0]})
    assert list(NPZ.read(io.BytesIO(data))) == [name]
    with loaded(data) as archive:
        assert archive[name].tolist() == [1.0]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["x", "x.npy"], "'x' cannot be the name of an array in an npz: numpy.load cannot distinguish it from 'x.npy'"),
        (["x\0y"], "zip files cut names at a NUL"),
        (["x\\y"], "on Windows a backslash would become a slash"),
        (["\ud800"], "it has a lone surrogate"),
        (["x" * 70_000], "it is too long"),
        ([""], "must be a non-empty str, not ''"),
        ([3], "must be a non-empty str, not 3"),
    ],
)
def test_a_name_that_would_not_is_refused(names: list[Any], why: str) -> None:
    with pytest.raises(EncodeError) as caught:
        written(NPZ, dict.fromkeys(names, 1.0))
    assert why in str(caught.value)


def test_equal_arrays_make_equal_bytes_whenever_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    first = written(NPZ, {"x": np.arange(5)})
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert written(NPZ, {"x": np.arange(5)}) == first
    assert zipfile.ZipFile(io.BytesIO(first)).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_of_numpy_reads(save: Any) -> None:
    file = io.BytesIO()
    save(file, np.arange(3), x=np.eye(2), grid=np.asfortranarray(np.eye(3)))
    read = NPZ.read(file)
    assert {name: array.tolist() for name, array in read.items()} == {
        "x": np.eye(2).tolist(), "grid": np.eye(3).tolist(), "arr_0": [0, 1, 2]
    }  # fmt: skip
    assert NPZ.members(file) == list(read)
    with pytest.raises(KeyError, match="nothing"):
        NPZ.read_member(file, "nothing")


def test_the_names_need_no_array_to_be_read() -> None:
    data = written(Npz(compressed=False), {"a": np.zeros(10**6), "b": np.ones(3)})

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            part = super().read(size)
            self.taken += len(part)
            return part

    file = Counting(data)
    assert NPZ.members(file) == ["a", "b"]
    assert NPZ.read_member(file, "b").tolist() == [1.0, 1.0, 1.0]
    assert file.taken < 10**6


# -- what becomes an array ---------------------------------------------------------------------------------


class Tensor:
    """Like a torch tensor: it refuses conversion to an array while it has a gradient or is on a device."""

    def __init__(self, grad: bool = True, device: str = "cuda") -> None:
        self.grad, self.device = grad, device

    def detach(self) -> Tensor:
        return Tensor(False, self.device)

    def cpu(self) -> Tensor:
        return Tensor(self.grad, "cpu")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.grad or self.device != "cpu":
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        return np.array([1.5, 2.5], "f4")


class Stubborn:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise RuntimeError("not now")


class Lazy:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise StorageError("gone")


@pytest.mark.parametrize(
    ("value", "array"),
    [
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        (2.5, np.array(2.5)),
        ("text", np.array("text")),
        (b"raw", np.array(b"raw")),
        (np.float32(2.5), np.array(2.5, "f4")),
        (Tensor(), np.array([1.5, 2.5], "f4")),
        ([], np.array([])),
        (np.ma.array([1.0, 2.0]), np.array([1.0, 2.0])),
        (np.ma.array([1.0, 2.0], mask=[False, False]), np.array([1.0, 2.0])),
        (np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])),
        (np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)), None),
        (np.zeros(2, [("a", "i1"), ("b", "f8"), ("c", "i1")])[["a", "c"]], None),
        (np.zeros(2, np.dtype("i4", metadata={"enum": 1})), np.zeros(2, "i4")),
        (np.zeros(2, np.dtype([("a", np.dtype("i4", metadata={"enum": 1}))])), np.zeros(2, [("a", "i4")])),
    ],
)
def test_what_numpy_makes_an_array_of_is_stored(value: object, array: Any) -> None:
    read = loaded(written(NPY, value))
    wanted = np.asarray(value) if array is None else array
    assert read.dtype == wanted.dtype
    assert read.tolist() == wanted.tolist()
    assert through_a_store(NPY, value).tolist() == wanted.tolist()
    assert through_a_store(NPZ, {"x": value})["x"].tolist() == wanted.tolist()


OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]})
REFUSED: list[tuple[Any, str]] = [
    (None, "numpy would make an array of Python objects, which npy would pickle"),
    ([1, None], "as in .astype(float) or .astype(str)"),
    (np.array([1, "a"], object), "is an ndarray: numpy would make an array of Python objects"),
    ({1, 2}, "is a set: numpy would make an array of Python objects"),
    ({"a": [1]}, "an array has no names; use npz to store arrays by name"),
    ([[1], [1, 2]], "numpy cannot convert it to an array: setting an array element with a sequence"),
    (np.zeros(2, [("a", "i4"), ("b", object)]), "holds Python objects, which npy would pickle; give those fields"),
    (np.ma.array([1.0, 2.0], mask=[False, True]), "npy would lose its mask; store value.filled(…) and value.mask"),
    (np.ma.masked, "npy would lose its mask"),
    ([1.0, np.ma.masked], "npy would lose its mask"),
    ([[np.ma.array([1, 2], mask=[False, True])]], "npy would lose its mask"),
    (np.ma.array([(1, 2.0)], mask=[(False, True)], dtype=[("a", "i4"), ("b", "f8")]), "npy would lose its mask"),
    (
        np.zeros(2, ml_dtypes.bfloat16),
        "npy does not preserve its dtype bfloat16; convert it first, as in .astype('flo",
    ),
    (np.zeros(2, ml_dtypes.float8_e5m2), "npy does not preserve its dtype float8_e5m2"),
    (np.zeros(2, [("a", ml_dtypes.bfloat16)]), "npy does not preserve its dtype"),
    (np.zeros(2, OVERLAPPING), "npy does not preserve its dtype"),
    (Stubborn(), "is a Stubborn: numpy cannot convert it to an array: not now"),
]
if hasattr(np.dtypes, "StringDType"):
    REFUSED.append((np.array(["a", "bcd"], np.dtypes.StringDType()), "npy has no strings of varying length"))


@pytest.mark.parametrize(("value", "why"), REFUSED)
def test_what_would_not_come_back_is_refused(value: Any, why: str) -> None:
    with pytest.raises(EncodeError) as caught:
        written(NPY, value)
    assert why in str(caught.value)
    assert caught.value.where == ""
    with pytest.raises(EncodeError) as caught:
        written(NPZ, {"good": 1, "bad": value})
    assert str(caught.value).startswith(("bad is a ", "bad is an "))
    assert why in str(caught.value)
    assert caught.value.where == "bad"


def test_the_error_of_a_lazy_value_stays_what_it_is() -> None:
    with pytest.raises(StorageError, match="gone"):
        written(NPY, Lazy())


@pytest.mark.parametrize("value", [[1.0], np.eye(2), None])
def test_npz_takes_a_mapping(value: object) -> None:
    with pytest.raises(EncodeError, match="npz takes a dict of arrays by name, not "):
        written(NPZ, value)


# -- memory, and files that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", [NPY, Npz(compressed=False)])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_a_large_array_is_streamed(form: Any, order: str) -> None:
    array = np.zeros((64, 2**20), "u1", order="F" if order == "F" else "C")
    value = array[:, ::1] if order != "strided" else np.zeros((64, 2**21), "u1")[:, ::2]

    class Counter(Stream):
        def write(self, data: Any, /) -> int:
            self.largest = max(self.largest, memoryview(data).nbytes)
            return memoryview(data).nbytes

    file = Counter()
    tracemalloc.start()
    try:
        form.write({"x": value} if form.suffix == ".npz" else value, binary(file))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.largest <= 2**24
    assert peak < 2**26 * 0.85


@pytest.mark.parametrize("form", [NPY, NPZ, Npz(compressed=False)])
@pytest.mark.parametrize("after", [0, 100, 200_000])
@pytest.mark.parametrize("error", [StorageError("down"), OSError("disk"), KeyboardInterrupt(), ValueError("closed")])
def test_an_error_of_the_file_stays_what_it_is(form: Any, after: int, error: BaseException) -> None:
    array = np.random.default_rng(0).random((300, 300))
    value = array if form is NPY else {"x": array, "y": array}
    with pytest.raises(type(error)) as caught:
        formats.write(form, value, Failing(error, after=after))
    assert caught.value is error
    data = written(form, value)
    with pytest.raises(type(error)) as caught:
        form.read(Failing(error, data, after))
    assert caught.value is error


def test_after_a_refused_array_an_npz_writes_nothing_more() -> None:
    file = Stream()
    with pytest.raises(EncodeError):
        NPZ.write({"a": np.zeros(3), "b": np.array([None])}, binary(file))
    assert b"PK\x05\x06" not in file.data


# -- damage ------------------------------------------------------------------------------------------------


@given(st.data())
def test_a_truncated_file_is_an_error(data: st.DataObject) -> None:
    form: Any = data.draw(st.sampled_from([NPY, NPZ, Npz(compressed=False)]))
    array = np.arange(40.0).reshape(5, 8)
    whole = written(form, array if form is NPY else {"x": array, "é": array})
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DecodeError) as caught:
        form.read(io.BytesIO(whole[:cut]))
    assert caught.value.__cause__ is not None or "truncated" in str(caught.value)


@given(st.data())
def test_a_changed_byte_is_an_error_of_ours_or_none(data: st.DataObject) -> None:
    form: Any = data.draw(st.sampled_from([NPY, NPZ, Npz(compressed=False)]))
    array = np.arange(40.0).reshape(5, 8)
    whole = bytearray(written(form, array if form is NPY else {"x": array}))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns about a damaged directory
            form.read(io.BytesIO(whole))
    except DecodeError:
        pass


@given(st.binary(max_size=200))
def test_data_that_is_no_array_is_an_error(data: bytes) -> None:
    for form in (NPY, NPZ):
        with pytest.raises(DecodeError):
            form.read(io.BytesIO(data))


def test_the_messages_of_damage() -> None:
    whole = written(NPY, np.arange(100.0))
    with pytest.raises(DecodeError, match=r"truncated: its header states 928 bytes, but it has 500"):
        NPY.read(io.BytesIO(whole[:500]))
    huge = whole.replace(b"(100,), }           ", b"(10000000000000,), }")
    with pytest.raises(DecodeError, match=r"truncated: its header states 80000000000128 bytes"):
        NPY.read(io.BytesIO(huge))
    with pytest.raises(DecodeError, match=r"^npz cannot read this file: BadZipFile: File is not a zip file$"):
        NPZ.read(io.BytesIO(whole))


def test_a_pickle_in_an_npy_is_not_run() -> None:
    file = io.BytesIO()
    np.save(file, np.array([None, "a"], object), allow_pickle=True)
    with pytest.raises(DecodeError) as caught:
        NPY.read(file)
    assert "holds a pickle, which runs code" in str(caught.value)
    assert "numpy.load(path, allow_pickle=True)" in str(caught.value)
    np.savez(file := io.BytesIO(), allow_pickle=True, o=np.array([None], object), n=np.arange(2))
    with pytest.raises(DecodeError, match=r"^o.npy: this npy file holds a pickle"):
        NPZ.read(file)
    assert NPZ.read_member(file, "n").tolist() == [0, 1]


def test_an_array_of_an_npz_that_is_damaged_is_named() -> None:
    data = bytearray(written(Npz(compressed=False), {"x": np.arange(10.0), "y": np.arange(10.0)}))
    at = data.index(np.float64(7.0).tobytes())
    data[at + 6] ^= 1
    with pytest.raises(DecodeError, match=r"Bad CRC-32 for file 'x.npy'"):
        NPZ.read(io.BytesIO(data))
    assert NPZ.read_member(io.BytesIO(data), "y").tolist() == list(range(10))


@pytest.mark.parametrize("length", [2**18 + 64, 2**23])
def test_a_header_that_would_take_all_memory_is_refused_by_its_length(length: int) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1," * (length // 2) + b"), }"
    file = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header
    with pytest.raises(DecodeError, match="its header has"):
        NPY.read(io.BytesIO(file))


def test_an_array_of_more_dimensions_than_numpy_has_is_damaged() -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1," * 1000 + b"), }"
    file = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(DecodeError, match="1000 dimensions"):
        NPY.read(io.BytesIO(file))
