"""Describe npy and npz files: shape, dtype, first values, statistics.

Files are read in pieces: no array is ever whole in memory, and none is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from notata._base.display import counted
from notata.errors import DecodeError
from notata.formats.archives import opened_archive
from notata.formats.base import reading
from notata.formats.npy_header import Header, check_size, read_header
from notata.formats.pickle_facts import PickleFacts, pickle_facts

if TYPE_CHECKING:
    import zipfile

    import numpy as np
    import numpy.typing as npt

__all__ = ["ArrayFacts", "BundleFacts", "Statistics", "npy_facts", "npz_facts"]

PIECE: Final = 2**20  # bytes to examine at once
_LARGEST: Final = 2**22  # bytes of the largest element to examine
_WIDTH: Final = 100  # characters of a value to show
_MEMBERS: Final = 10_000  # largest number of members of an npz file to describe
_HEADERS: Final = 2**22  # bytes of headers in an npz file; each is parsed as Python
_HUGE: Final = 1e150  # double precision cannot hold the square of larger numbers


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of the finite values of an array.

    Attributes:
        count: Number of finite values.
        min: The smallest; None for complex numbers, and if there is none.
        max: The largest; None for complex numbers, and if there is none.
        mean: For bools, the fraction that is true.
        std: The standard deviation of the population, as in `numpy.std`.
        nan: Number of NaN or NaT values.
        inf: Number of infinite values.
    """

    count: int = 0
    min: Any = None
    max: Any = None
    mean: Any = None
    std: float | None = None
    nan: int = 0
    inf: int = 0

    def __str__(self) -> str:
        named = {"min": self.min, "max": self.max, "mean": self.mean, "std": self.std}
        lines = [f"{name} {_short(value)}" for name, value in named.items() if value is not None]
        lines += [f"{count:,} {name}" for name, count in (("NaN", self.nan), ("inf", self.inf)) if count]
        return "  ".join(lines)


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """Facts about one array.

    Attributes:
        shape: Of the array.
        dtype: In numpy's notation.
        order: ``C``, or ``Fortran`` if the first index varies fastest.
        bytes: Of its uncompressed data; None for Python objects.
        head: Its first values in the order of the file.
        stats: Of its values; None if not requested, or not defined, for example for strings.
        fields: The same for each numeric field of a structured dtype.
        pickle: For an array of Python objects, facts about its pickle.
    """

    shape: tuple[int, ...]
    dtype: str
    order: str
    bytes: int | None = None
    head: tuple[Any, ...] = ()
    stats: Statistics | None = None
    fields: dict[str, Statistics] = field(default_factory=dict)
    pickle: PickleFacts | None = None

    def lines(self) -> list[str]:
        """Return the facts as lines of text."""
        lines = [f"{self.dtype}  {self.shape}" + "  Fortran order" * (self.order == "Fortran")]
        if self.stats is not None and str(self.stats):
            lines.append(str(self.stats))
        lines += [f"{name}: {stats}" for name, stats in self.fields.items() if str(stats)]
        if self.head:
            more = ["…"] if len(self.head) < math.prod(self.shape) else []
            lines.append(f"[{', '.join([_short(value) for value in self.head] + more)}]")
        return lines + (self.pickle.lines() if self.pickle is not None else [])


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """Facts about an npz file.

    Attributes:
        arrays: Each array by name, in order.
        others: The sizes of members that are no arrays.
        compressed: Whether any member is compressed.
    """

    arrays: dict[str, ArrayFacts]
    others: dict[str, int]
    compressed: bool

    def lines(self) -> list[str]:
        """Return the facts as lines of text."""
        count = counted(len(self.arrays), "array")
        lines = [f"{count}, compressed" if self.compressed else count]
        for name, facts in self.arrays.items():
            first, *more = facts.lines()
            lines += [f"{name}: {first}", *(f"  {line}" for line in more)]
        return lines + [f"{name}: not an array, {size:,} bytes" for name, size in self.others.items()]


def npy_facts(file: IO[bytes], *, stats: bool = True, head: int = 6) -> ArrayFacts:
    """Describe an npy file.

    Args:
        file: A seekable binary file object at its start. Without `stats`, only its beginning is read.
        stats: Read the whole file, in pieces of 1 MiB, for the statistics.
        head: Number of values to show.

    Raises:
        DecodeError: The file is no npy file, damaged, or truncated.

    >>> import io, numpy as np
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(4.0))
    >>> facts = npy_facts(io.BytesIO(file.getvalue()), head=2)
    >>> facts.shape, facts.dtype, facts.head, facts.stats.mean
    ((4,), 'float64', (0.0, 1.0), 1.5)
    """
    with reading("npy", file) as source:
        size = source.seek(0, 2)
        source.seek(0)
        return _facts(source, read_header(source), size, stats, head)


def npz_facts(file: IO[bytes], *, stats: bool = True, head: int = 6) -> BundleFacts:
    """Describe an npz file; members are unpacked as a stream.

    Args:
        file: A seekable binary file object. Without `stats`, only its end and the beginning of each member are read.
        stats: Read all members, in pieces of 1 MiB, for the statistics.
        head: Number of values to show of each array.

    Raises:
        DecodeError: The file is no npz file, or a member is damaged.
    """
    from zipfile import ZIP_STORED

    arrays: dict[str, ArrayFacts] = {}
    others: dict[str, int] = {}
    with opened_archive("npz", file) as archive:
        members = archive.infolist()
        if len(members) > _MEMBERS:
            raise DecodeError(f"this npz file has {len(members):,} members, but at most {_MEMBERS:,} are described")
        left = _HEADERS
        for info in members:
            if info.filename.endswith(".npy"):
                arrays[info.filename.removesuffix(".npy")], used = _member(archive, info, stats, head)
                left -= used
                if left < 0:
                    raise DecodeError(f"the headers of this npz file have more than {_HEADERS:,} bytes in total")
            else:
                others[info.filename] = info.file_size
    return BundleFacts(arrays, others, any(info.compress_type != ZIP_STORED for info in members))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, stats: bool, head: int) -> tuple[ArrayFacts, int]:
    """Return the facts about an array, and the number of bytes of its header."""
    try:
        with archive.open(info) as member:
            header = read_header(member)
            return _facts(member, header, info.file_size, stats, head), header.start
    except DecodeError as error:
        raise DecodeError(f"{info.filename}: {error}") from error


def _facts(file: IO[bytes], header: Header, size: int, stats: bool, head: int) -> ArrayFacts:
    what = (header.shape, str(header.dtype), "Fortran" if header.fortran else "C")
    if header.dtype.hasobject:
        return ArrayFacts(*what, pickle=pickle_facts(file))
    check_size(header, size)
    if header.dtype.itemsize > _LARGEST or not header.dtype.itemsize:
        return ArrayFacts(*what, header.end - header.start)
    watchers = _watchers(header.dtype) if stats else {}
    first: list[Any] = []
    for piece in _pieces(file, header, head if not watchers else None):
        if len(first) < head:
            first += _values(piece[: head - len(first)])
        for name, watcher in watchers.items():
            watcher.see(piece[name] if name else piece)
    found = {name: watcher.statistics() for name, watcher in watchers.items()}
    whole = found.pop("", None)
    return ArrayFacts(*what, header.end - header.start, tuple(first), whole, found)


def _pieces(file: IO[bytes], header: Header, most: int | None) -> Iterator[npt.NDArray[Any]]:
    """Yield the elements in the order of the file, in pieces; only the first `most` if given."""
    import numpy as np

    left = math.prod(header.shape) if most is None else min(most, math.prod(header.shape))
    at_once = max(1, PIECE // header.dtype.itemsize)
    while left:
        count = min(left, at_once)
        data = bytearray(count * header.dtype.itemsize)
        view, got = memoryview(data), 0
        while got < len(data):
            piece = file.read(len(data) - got)
            if not piece:
                raise DecodeError("this npy file is truncated")
            view[got : got + len(piece)] = piece
            got += len(piece)
        yield np.frombuffer(data, header.dtype, count)
        left -= count


# -- statistics --------------------------------------------------------------------------------------------


def _watchers(dtype: np.dtype[Any]) -> dict[str, _Watcher]:
    """Return a watcher for the values of the array, under the key ``""``, or one for each of its fields."""
    if dtype.names is None:
        return {"": _Watcher(dtype)} if dtype.kind in "biufcmM" else {}
    kinds = {name: dtype[name].base for name in dtype.names}
    return {name: _Watcher(kind) for name, kind in kinds.items() if kind.kind in "biufcmM"}


class _Watcher:
    """Statistics of values that come in pieces, merged by mean and sum of squared distances.

    T. F. Chan, G. H. Golub, R. J. LeVeque, Updating formulae and a pairwise algorithm for computing sample variances,
    Stanford STAN-CS-79-773 (1979).
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._kind = dtype.kind
        self._count = self._nan = self._inf = 0
        self._least: Any = None
        self._most: Any = None
        self._mean: Any = 0
        self._squares: Any = 0

    def see(self, values: npt.NDArray[Any]) -> None:
        """Add more values."""
        import numpy as np

        values = values.reshape(-1)
        if self._kind in "fc":
            finite = np.isfinite(values)
            if not finite.all():
                self._nan += (nan := int(np.isnan(values).sum()))
                self._inf += values.size - int(finite.sum()) - nan
                values = values[finite]
        elif self._kind in "mM":
            self._nan += int((none := np.isnat(values)).sum())
            values = values[~none]
        if not values.size:
            return
        if self._kind != "c":
            least, most = values.min(), values.max()
            self._least = least if self._least is None else min(self._least, least)
            self._most = most if self._most is None else max(self._most, most)
        if self._kind not in "mM":
            with np.errstate(all="ignore"):
                self._merge(values)
        self._count += values.size

    def _merge(self, values: npt.NDArray[Any]) -> None:
        import numpy as np

        wide: Any = np.complex128 if self._kind == "c" else np.float64
        is_wide = values.dtype.itemsize > np.dtype(wide).itemsize
        if self._kind in "fc" and (is_wide or np.abs(values).max() > _HUGE):
            wide = np.clongdouble if self._kind == "c" else np.longdouble
        values = values.astype(wide)
        mean = values.mean()
        distances = values - mean
        squares = (distances * distances.conj()).real.sum()
        count, apart = self._count + values.size, mean - self._mean
        self._mean = self._mean + apart * (values.size / count)
        self._squares += squares + (apart * apart.conjugate()).real * (self._count * values.size / count)

    def statistics(self) -> Statistics:
        """Return the statistics of all values so far."""
        if not self._count:
            return Statistics(nan=self._nan, inf=self._inf)
        least, most = (value if value is None else _plain(value) for value in (self._least, self._most))
        if self._kind in "mM":
            return Statistics(self._count, least, most, nan=self._nan)
        mean = complex(self._mean) if self._kind == "c" else float(self._mean)
        std = float((self._squares / self._count) ** 0.5)
        return Statistics(self._count, least, most, mean, std, self._nan, self._inf)


def _values(piece: npt.NDArray[Any]) -> list[Any]:
    """Return the values as Python objects; times as text, as Python's have only microseconds."""
    return [str(value) for value in piece] if piece.dtype.kind in "mM" else [_python(value) for value in piece.tolist()]


def _python(value: Any) -> Any:
    """Convert what `tolist` leaves as numpy objects: arrays in records, and numbers beyond double precision."""
    if isinstance(value, tuple):
        return tuple(map(_python, value))
    if type(value).__module__ != "numpy":
        return value
    return _python(value.tolist()) if value.shape else complex(value) if value.dtype.kind == "c" else float(value)


def _plain(value: Any) -> Any:
    """Return a numpy scalar as a Python object, times as text."""
    if value.dtype.kind in "mM":
        return str(value)
    return float(value) if value.dtype.kind == "f" else value.item()


def _short(value: Any) -> str:
    if isinstance(value, float | complex):
        return f"{value:.6g}"
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
