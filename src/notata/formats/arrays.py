"""Arrays as npy and npz files without pickles; numpy is imported only when one is written or read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

from notata._base.display import indefinite
from notata._base.terminal import quoted
from notata.errors import DecodeError, EncodeError, NotataError
from notata.formats.archives import opened_archive
from notata.formats.base import Sink, reading
from notata.formats.npy_header import LONGEST_HEADER, check_size, read_header

if TYPE_CHECKING:
    import zipfile

    import numpy as np
    import numpy.typing as npt

    from notata.formats.array_facts import ArrayFacts, BundleFacts

__all__ = ["NPY", "NPZ", "Npy", "Npz", "as_array"]

_SCALARS: Final = frozenset({bool, int, float, complex, str, bytes})
_LONGEST: Final = 65531  # bytes of a name in a zip file, without the suffix
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # earliest time in a zip file, so that equal arrays make equal bytes


@dataclass(frozen=True, slots=True)
class Npy:
    """One array of any shape, and of any dtype that npy preserves. Streamed; Fortran order and byte order are kept.

    Attributes:
        root: Name of the value itself in errors.

    Raises:
        EncodeError: Python objects, ragged lists, masked elements, or a dtype that numpy would read back as another.

    References:
        NEP 1, the npy format.

    >>> import io
    >>> file = io.BytesIO()
    >>> NPY.write([[0.0, 0.5], [1.0, 1.5]], file)
    >>> NPY.read(io.BytesIO(file.getvalue())).shape
    (2, 2)
    """

    root: str = ""
    suffix: str = ".npy"

    def write(self, value: npt.ArrayLike, file: IO[bytes]) -> None:
        _write_array(as_array(value, self.root), file)

    def read(self, file: IO[bytes]) -> np.ndarray[Any, Any]:
        with reading("npy", file) as source:
            size = source.seek(0, io.SEEK_END)
            source.seek(0)
            return _read_array(source, size)

    def describe(self, file: IO[bytes], *, stats: bool = True, head: int = 6) -> ArrayFacts:
        """Describe a file, as `notata.formats.array_facts.npy_facts` does."""
        from notata.formats.array_facts import npy_facts

        return npy_facts(file, stats=stats, head=head)


@dataclass(frozen=True, slots=True)
class Npz:
    """Arrays by name in one file, each with the rules of `Npy`. Equal arrays make equal bytes.

    Attributes:
        compressed: Use zlib; without it, files are faster to write and larger.
        root: Name of the value itself in errors, as in ``trajectory.x``.

    References:
        numpy.savez.

    >>> import io
    >>> file = io.BytesIO()
    >>> NPZ.write({"t": [0.0, 0.5], "n": 2}, file)
    >>> file = io.BytesIO(file.getvalue())
    >>> NPZ.members(file)
    ['t', 'n']
    >>> NPZ.read_member(file, "t").tolist()
    [0.0, 0.5]
    """

    compressed: bool = True
    root: str = ""
    suffix: str = ".npz"

    def write(self, value: Mapping[str, npt.ArrayLike], file: IO[bytes]) -> None:
        if not isinstance(value, Mapping):
            raise EncodeError(f"npz takes a dict of arrays by name, not {type(value).__name__}; use npy for one array")
        for name in value:
            _check_name(name, value)
        import zipfile

        sink = Sink(file)
        method = zipfile.ZIP_DEFLATED if self.compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(cast("IO[bytes]", sink), "w", method) as archive:
            try:
                for name, item in value.items():
                    _add(archive, str(name), as_array(item, f"{self.root}.{name}" if self.root else str(name)), method)
            except BaseException:
                sink.stop()
                raise

    def read(self, file: IO[bytes]) -> dict[str, np.ndarray[Any, Any]]:
        with opened_archive("npz", file) as archive:
            return {_name(info): _member(archive, info) for info in archive.infolist()}

    def describe(self, file: IO[bytes], *, stats: bool = True, head: int = 6) -> BundleFacts:
        """Describe a file, as `notata.formats.array_facts.npz_facts` does."""
        from notata.formats.array_facts import npz_facts

        return npz_facts(file, stats=stats, head=head)

    def members(self, file: IO[bytes]) -> list[str]:
        """Return the names in order. Only the directory at the end of the file is read."""
        with opened_archive("npz", file) as archive:
            return [_name(info) for info in archive.infolist()]

    def read_member(self, file: IO[bytes], name: str) -> np.ndarray[Any, Any]:
        """Read one array, and none of the others.

        Raises:
            KeyError: There is no array of this name.
            DecodeError: The file is damaged, or no npz file.
        """
        with opened_archive("npz", file) as archive:
            found = [info for info in archive.infolist() if _name(info) == name]
            if found:
                return _member(archive, found[-1])
        raise KeyError(name)


NPY: Final = Npy()
NPZ: Final = Npz()


# -- values that can be stored -----------------------------------------------------------------------------


def as_array(value: Any, where: str) -> np.ndarray[Any, Any]:
    """Return the value as an array that npy preserves."""
    import numpy as np

    if type(value) is not np.ndarray and _has_masked(value):
        raise _refused(where, value, "npy would lose its mask; store value.filled(…) and value.mask as two arrays")
    try:
        array = value if type(value) is np.ndarray else np.asarray(_at_hand(value))
    except (NotataError, MemoryError, OSError):
        raise
    except Exception as error:
        raise _refused(where, value, f"numpy cannot convert it to an array: {error}") from error
    dtype = array.dtype
    if dtype.hasobject:
        raise _refused(where, value, _why_objects(value, dtype))
    if (
        dtype.isbuiltin == 1 and dtype.metadata is None
    ):  # the common case; the checks below take as long as a small file
        return array
    try:
        bare = np.lib.format.drop_metadata(dtype)  # numpy would drop the metadata too, with a warning
        same = bool(np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(bare)) == dtype)
    except (TypeError, ValueError):  # overlapping fields, or a dtype of another package that numpy does not know
        same = False
    if not same:
        why = f"npy does not preserve its dtype {dtype}; convert it first, as in .astype('float32')"
        raise _refused(where, value, why)
    return array if bare is dtype else array.view(bare)


def _at_hand(value: Any) -> Any:
    """Return a torch tensor without its gradient and in main memory, and any other value unchanged."""
    if isinstance(value, list | tuple | str | bytes | int | float):
        return value
    for step in ("detach", "resolve_conj", "resolve_neg", "cpu"):
        taken = getattr(value, step, None)
        if callable(taken) and hasattr(value, "__array__"):
            value = taken()
    return value


def _has_masked(value: Any) -> bool:
    """Check whether a value, or a list inside it, contains a masked element."""
    import numpy as np

    if isinstance(value, np.ma.MaskedArray):
        return value.mask is not np.ma.nomask and bool(np.any(np.ma.flatten_mask(value.mask)))
    if type(value) is list or type(value) is tuple:
        return not _SCALARS.issuperset(map(type, value)) and any(map(_has_masked, value))
    return False


def _why_objects(value: Any, dtype: Any) -> str:
    if dtype.names:
        return (
            f"its dtype {dtype} holds Python objects, which npy would pickle; give those fields a dtype of fixed size"
        )
    if dtype.char == "T":
        return "npy has no strings of varying length; convert it first, as in .astype(str)"
    if isinstance(value, Mapping):
        return "an array has no names; use npz to store arrays by name"
    return (
        "numpy would make an array of Python objects, which npy would pickle; "
        "convert it to numbers or strings, as in .astype(float) or .astype(str), or store it with pickle()"
    )


def _refused(where: str, value: object, why: str) -> EncodeError:
    return EncodeError(f"{where or 'the value'} is {indefinite(type(value).__qualname__)}: {why}", where=where)


# -- one array ---------------------------------------------------------------------------------------------


def _write_array(array: np.ndarray[Any, Any], file: IO[bytes]) -> None:
    import numpy as np

    np.lib.format.write_array(file, array, version=_version(array.dtype), allow_pickle=False)


def _version(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the first npy version that can hold such an array. numpy finds it too, but warns for all but the first."""
    if dtype.names is None:
        return (1, 0)
    names = repr(dtype.descr)
    if not names.isascii() and any(ord(char) > 255 for char in names):  # else latin-1
        return (3, 0)
    return (1, 0) if len(names) < 60_000 else (2, 0)


def _read_array(file: IO[bytes], size: int) -> np.ndarray[Any, Any]:
    """Read the array of a file of `size` bytes. The header is checked first, so a damaged one cannot claim memory."""
    import numpy as np

    header = read_header(file)
    if header.dtype.hasobject:
        raise DecodeError(
            "this npy file holds a pickle, which runs code when it is read; "
            "if you trust its author, use numpy.load(path, allow_pickle=True)"
        )
    check_size(header, size)
    file.seek(0)
    array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False, max_header_size=LONGEST_HEADER)
    return array


# -- many arrays -------------------------------------------------------------------------------------------


def _check_name(name: object, names: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not name:
        raise EncodeError(f"the name of an array in an npz file must be a non-empty str, not {name!r}")
    why = ""
    try:
        if len(name.encode()) > _LONGEST:
            why = "it is too long"
    except UnicodeEncodeError:
        why = "it has a lone surrogate, which UTF-8 cannot hold"
    if "\0" in name:
        why = "zip files cut names at a NUL"
    elif "\\" in name:
        why = "on Windows a backslash would become a slash"
    elif f"{name}.npy" in names:
        why = f"numpy.load cannot distinguish it from {name + '.npy'!r}, which is there too"
    if why:
        raise EncodeError(f"{quoted(name)} cannot be the name of an array in an npz: {why}; rename it", where=name)


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray[Any, Any], method: int) -> None:
    from zipfile import ZipInfo

    info = ZipInfo(f"{name}.npy", _EPOCH)
    info.compress_type = method
    info.external_attr = 0o600 << 16
    with archive.open(info, "w", force_zip64=True) as member:
        _write_array(array, member)


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    with archive.open(info) as member:
        try:
            array = _read_array(member, info.file_size)
            if member.read(1):  # zipfile checks the checksum only at the end
                raise DecodeError("the data are longer than the header states")
        except DecodeError as error:
            raise DecodeError(f"{info.filename}: {error}") from error
    return array
