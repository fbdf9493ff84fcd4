"""Facts of npy and npz files: reading in pieces gives the same as numpy does with the whole file."""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from notata.errors import DecodeError
from notata.formats import NPZ, array_facts
from notata.formats.array_facts import ArrayFacts, npy_facts, npz_facts

RANDOM = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_facts, "PIECE", 1000)


def facts(array: npt.NDArray[Any], **options: Any) -> ArrayFacts:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy warns about names that are not ASCII
        np.save(file, array)
    return npy_facts(io.BytesIO(file.getvalue()), **options)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "f16", "i1", "i8", "u8", ">u2", "?", "c8", "c16"])
def test_statistics_are_those_of_numpy(dtype: str) -> None:
    values = RANDOM.normal(size=(40, 50)) * 90 + 20
    kind = np.dtype(dtype).kind
    array = values > 0 if kind == "b" else (np.abs(values) if kind == "u" else values).astype(dtype)
    if kind == "c":
        array = array + 2j * array[::-1]
    found = facts(array)
    assert (found.shape, found.dtype, found.bytes) == ((40, 50), str(array.dtype), array.nbytes)
    stats, wide = found.stats, array.astype("c16" if kind == "c" else "f8")
    assert stats is not None
    assert stats.std is not None
    assert (stats.count, stats.nan, stats.inf) == (2000, 0, 0)
    assert np.isclose(stats.mean, wide.mean(), rtol=1e-12)
    assert np.isclose(stats.std, wide.std(), rtol=1e-10)
    if kind != "c":
        assert (stats.min, stats.max) == (array.min(), array.max())


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    array = np.array([1.0, np.nan, np.inf, -np.inf, 3.0, np.nan])
    stats = facts(array).stats
    assert stats is not None
    assert (stats.count, stats.nan, stats.inf) == (2, 2, 2)
    assert (stats.min, stats.max, stats.mean, stats.std) == (1.0, 3.0, 2.0, 1.0)
    none = facts(np.full(3, np.nan)).stats
    assert none is not None
    assert (none.count, none.min, none.mean, none.nan) == (0, None, None, 3)


def test_large_numbers_do_not_overflow_or_warn() -> None:
    stats = facts(np.array([1e308, -1e308, 1e308])).stats
    assert stats is not None
    assert stats.std is not None
    assert np.isclose(stats.std, 9.428090415820634e307)
    whole = facts(np.array([-(2**63), 2**63 - 1])).stats
    assert whole is not None
    assert (whole.min, whole.max) == (-(2**63), 2**63 - 1)
    far = facts(1e9 + RANDOM.normal(size=5000)).stats
    assert far is not None
    assert far.std is not None
    assert 0.9 < far.std < 1.1


def test_orders_scalars_and_nothing() -> None:
    array = np.arange(6).reshape(2, 3)
    assert facts(array, head=3).head == (0, 1, 2)
    turned = facts(np.asfortranarray(array), head=3)
    assert (turned.order, turned.head, turned.shape) == ("Fortran", (0, 3, 1), (2, 3))
    scalar = facts(np.array(2.5))
    assert (scalar.shape, scalar.head) == ((), (2.5,))
    empty = facts(np.empty((0, 3)))
    assert (empty.shape, empty.head, empty.bytes) == ((0, 3), (), 0)
    assert empty.lines() == ["float64  (0, 3)"]


def test_arrays_of_text_and_times() -> None:
    assert facts(np.array(["a", "béé"])).lines() == ["<U3  (2,)", "['a', 'béé']"]
    assert facts(np.array([b"x"])).head == (b"x",)
    times = facts(np.array(["2026-03-01", "NaT", "2026-03-03"], dtype="M8[D]"))
    assert times.stats is not None
    assert (times.stats.min, times.stats.max, times.stats.nan) == ("2026-03-01", "2026-03-03", 1)
    assert times.head == ("2026-03-01", "NaT", "2026-03-03")
    assert facts(np.array([1, 2], dtype="m8[ns]")).head == ("1 nanoseconds", "2 nanoseconds")


def test_records_have_statistics_of_each_field() -> None:
    dtype = [("i", "i4"), ("x", "f8", (2,)), ("s", "U3"), ("ü", "f4")]
    found = facts(np.array([(1, (1.0, np.nan), "a", 0), (3, (5.0, 6.0), "b", 1)], dtype=dtype))
    assert (found.fields["i"].mean, found.fields["x"].max, found.fields["x"].nan) == (2.0, 6.0, 1)
    assert set(found.fields) == {"i", "x", "ü"}
    assert found.head[1] == (3, [5.0, 6.0], "b", 1.0)


def test_bundles_with_members_of_every_kind() -> None:
    import zipfile

    file = io.BytesIO()
    np.savez_compressed(file, t=np.arange(1000.0), n=np.array(2))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("notes.txt", "foreign")
    found = npz_facts(io.BytesIO(file.getvalue()))
    assert {name: one.shape for name, one in found.arrays.items()} == {"t": (1000,), "n": ()}
    assert found.arrays["t"].stats is not None
    assert (found.arrays["t"].stats.mean, found.compressed, found.others) == (499.5, True, {"notes.txt": 7})
    data = bytearray(file.getvalue())
    data[60:80] = b"\xff" * 20
    with pytest.raises(DecodeError):
        npz_facts(io.BytesIO(bytes(data)))


def test_a_member_that_is_no_array_is_named() -> None:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("odd.npy", b"no array at all")
    for read in (npz_facts, NPZ.read):
        with pytest.raises(DecodeError, match=r"^odd\.npy: "):
            read(io.BytesIO(file.getvalue()))


def test_a_truncated_or_inconsistent_file_is_refused() -> None:
    file = io.BytesIO()
    np.save(file, np.arange(1000.0))
    for data in (file.getvalue()[:-1], file.getvalue()[:100], b"", b"no array"):
        with pytest.raises(DecodeError):
            npy_facts(io.BytesIO(data), stats=False)
    lying = io.BytesIO()
    np.lib.format.write_array_header_1_0(lying, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with pytest.raises(DecodeError, match="truncated"):
        npy_facts(io.BytesIO(lying.getvalue()))
