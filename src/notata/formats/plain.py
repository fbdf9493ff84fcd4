"""Convert any value to dictionaries, lists, text and numbers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from operator import itemgetter
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

from notata._base.display import indefinite
from notata._base.prepared import Prepared
from notata.errors import EncodeError

__all__ = ["equal", "flattened", "members", "plain", "utf8", "without_surrogates"]

_TEXT: Final = (
    ("uuid", "UUID"), ("decimal", "Decimal"), ("fractions", "Fraction"),
    ("numpy", "dtype"), ("torch", "dtype"), ("torch", "device"),
    ("pydantic", "AnyUrl"), ("pydantic", "SecretStr"), ("pydantic", "SecretBytes"),  # the last two as asterisks
)  # fmt: skip
_SECONDS: Final = {
    "W": 604800.0, "D": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0,
    "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12, "fs": 1e-15, "as": 1e-18,
}  # fmt: skip
_NAMELESS: Final = ("builtins", "__main__")  # modules that are left out of the name of a class
_LEVELS: Final = 8  # nested dictionaries that become names with dots; deeper ones are kept

_KEPT: Final = frozenset({type(None), str, float, bool, Prepared})
"""Types of values that are plain as they are; an integer may have too many digits."""

_T = TypeVar("_T")


def equal(one: Any, other: Any) -> bool:
    """Check whether two plain values are equal: 1 and 1.0 are, 1 and True are not.

    >>> equal(1, 1.0), equal(1, True), equal({"a": [0]}, {"a": [False]})
    (True, False, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(item, other[name]) for name, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


_SIMPLE: Final = frozenset({bool, int, float, str, list, type(None)})


def flattened(values: Mapping[str, Any], levels: int = _LEVELS) -> dict[str, Any]:
    """Flatten nested dictionaries: their values get names with dots.

    A dictionary is kept if such a name would be that of another value.

    >>> flattened({"dt": 0.1, "optimizer": {"name": "adam", "lr": 0.01}})
    {'dt': 0.1, 'optimizer.name': 'adam', 'optimizer.lr': 0.01}
    >>> flattened({"a": {"b": 1}, "a.b": 2})
    {'a': {'b': 1}, 'a.b': 2}
    """
    if _SIMPLE.issuperset(map(type, values.values())):  # nearly all: ten times as fast as the loop
        return dict(values)
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if not (levels and isinstance(value, Mapping)):
            flat[name] = value
            continue
        parts = {f"{name}.{part}": item for part, item in flattened(value, levels - 1).items()}
        free = parts and parts.keys().isdisjoint(values) and parts.keys().isdisjoint(flat)
        flat |= parts if free else {name: value}
    return flat


def utf8(text: str) -> bytes:
    r"""Encode text as UTF-8, with lone surrogates, which UTF-8 cannot hold, as escapes.

    >>> utf8("\udc80")
    b'\\udc80'
    """
    return text.encode("utf-8", "backslashreplace")


def without_surrogates(text: str) -> str:
    """Return the text with lone surrogates as escapes, for pandas, Parquet and libyaml, which cannot hold them.

    A forged array can have texts with characters beyond Unicode; their bytes become escapes.
    """
    if type(text) is str and text.isascii():  # nearly all
        return text
    return utf8(text).decode(errors="backslashreplace")


def plain(value: object, root: str = "", *, text_keys: bool = True) -> Any:
    """Return `value` as dictionaries in order, lists, strings, numbers, booleans and None.

    numpy scalars and arrays become numbers and nested lists, complex numbers ``{"real": …, "imag": …}``, dates and
    times ISO 8601, time differences seconds, paths, UUIDs, decimals and fractions strings, enumerations their values,
    sets sorted lists. Dataclasses, named tuples, namespaces (`argparse`), attrs classes and pydantic models become
    dictionaries, and so does a pandas Series with labels. Classes and dtypes become their names.

    Args:
        value: Anything.
        root: Name of the value itself in errors.
        text_keys: Convert keys to strings, as JSON needs. Otherwise numbers, booleans and None are kept as keys.

    Raises:
        EncodeError: A part has no plain form, or two keys become the same; `where` is the path to it.

    >>> from pathlib import PurePosixPath
    >>> plain({"at": {3, 1}, "path": PurePosixPath("a/b")})
    {'at': [1, 3], 'path': 'a/b'}
    """
    try:
        return _Plain(root, text_keys).of(value, "", ())
    except RecursionError:
        raise EncodeError(f"{root or 'the value'} is nested too deeply", where=root) from None


@dataclass(frozen=True, slots=True)
class _Plain:
    """One traversal of one value. `where` is the current path, `above` the ids of the enclosing containers."""

    root: str
    text_keys: bool

    def of(self, value: object, where: str, above: tuple[int, ...]) -> Any:
        kind = type(value)
        if kind in _KEPT:
            return value
        if kind is int:
            return self._integer(where, value)
        if kind is dict or kind is list:
            return self._container(value, where, above)
        if (for_file := getattr(kind, "_notata_for_file", None)) is not None:  # a storage, by its URL without options
            return self.of(for_file(value)[1][0], where, above)
        if isinstance(value, enum.Enum):
            return self.of(value.value, where, above)
        if isinstance(value, str | int | float):
            return self.of(_builtin(value), where, above)
        if _is_missing(value):
            return None
        leaf = _leaf(value)
        if leaf is not None:
            return leaf
        return self._container(value, where, above)

    def _integer(self, where: str, value: Any) -> int:
        limit = sys.get_int_max_str_digits()
        if limit and value.bit_length() > 3 * limit:
            try:
                str(value)
            except ValueError:
                raise self._refused(where, value, f"it has more than {limit} digits") from None
        return int(value)

    def _container(self, value: object, where: str, above: tuple[int, ...]) -> Any:
        if id(value) in above:
            raise self._refused(where, value, "it contains itself")
        above = (*above, id(value))
        if type(value) is list:
            return self._list(value, where, above)
        if _is_a(value, "pydantic", "RootModel"):  # wraps a value in a class
            return self.of(getattr(value, "root", None), where, above)
        parts = self._read(lambda: _parts(value), value, where)
        if parts is not None:
            return self._mapping(value, parts, where, above)
        for convert in (_numpy, _array_like):  # before sequences, as some arrays are sequences too
            try:
                known, converted = convert(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise self._refused(where, value, str(error)) from error
            if known:
                return self.of(converted, where, above)
        if isinstance(value, bytes | bytearray | memoryview):
            raise self._refused(where, value, "JSON and YAML hold text; decode it, or store it with bytes()")
        if isinstance(value, Sequence | deque | ValuesView):
            return self._list(self._read(lambda: list(value), value, where), where, above)
        if isinstance(value, Set):
            return _sorted([self.of(item, f"{where}{{{item!r}}}", above) for item in value])
        raise self._refused(
            where, value, "it cannot be stored as JSON or YAML; convert it to numbers, text, lists or a dict"
        )

    def _list(self, items: list[Any], where: str, above: tuple[int, ...]) -> list[Any]:
        return [
            item if type(item) in _KEPT else self.of(item, f"{where}[{index}]", above)
            for index, item in enumerate(items)
        ]

    def _read(self, parts: Callable[[], _T], value: object, where: str) -> _T:
        """Return the parts of a value, or refuse it if that fails: OmegaConf raises for a missing value."""
        try:
            return parts()
        except RecursionError:
            raise
        except Exception as error:
            raise self._refused(
                where, value, f"its parts cannot be read: {str(error).partition(chr(10))[0]}"
            ) from error

    def _mapping(
        self, value: object, items: list[tuple[object, object]], where: str, above: tuple[int, ...]
    ) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, item in _in_order(items):
            name = key if type(key) is str and self.text_keys else self._key(key, where)
            if name in result:
                raise self._refused(where, value, f"two of its keys become {name!r}")
            result[name] = item if type(item) in _KEPT else self.of(item, _member(where, str(name)), above)
        return result

    def _key(self, key: object, where: str) -> Any:
        if isinstance(key, enum.Enum):
            key = key.value
        name = self.of(key, _member(where, repr(key)), ())
        if name is None or isinstance(name, bool):
            return {None: "null", True: "true", False: "false"}[name] if self.text_keys else name
        if isinstance(name, str):  # in YAML a lone surrogate becomes its escape, which may already be a key
            return name if self.text_keys else utf8(name).decode()
        if isinstance(name, int | float):
            return str(name) if self.text_keys else name
        raise self._refused(_member(where, repr(key)), key, "a key of this type cannot be written as text")

    def _refused(self, where: str, value: object, why: str) -> EncodeError:
        if self.root and where:
            where = f"{self.root}{where}" if where.startswith(("[", "{")) else f"{self.root}.{where}"
        where = where or self.root
        return EncodeError(f"{where or 'the value'} is {indefinite(type(value).__qualname__)}: {why}", where=where)


def _builtin(value: str | float) -> str | int | float:
    """Return an instance of a subclass as its builtin type: ``np.float64`` and ``np.str_`` print differently."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__pos__(value) if isinstance(value, int) else float.__pos__(value)


def _is_missing(value: object) -> bool:
    """Check whether a value is pandas' NaT, which is an instance of datetime, or NA."""
    pandas = sys.modules.get("pandas")
    nothing = (getattr(pandas, "NaT", None), getattr(pandas, "NA", None))  # None while another thread imports pandas
    return value is not None and (value is nothing[0] or value is nothing[1])


def _is_a(value: object, module: str, name: str) -> bool:
    """Check whether a value is of a class whose module is slow to import: without the import, there is no instance.

    While another thread imports it, the module exists without the class, and there is no instance either.
    """
    return isinstance(value, getattr(sys.modules.get(module), name, ()))


def _leaf(value: object) -> Any:
    """Return the plain form of a value without parts that JSON does not support, or None."""
    if type(value) in (dict, list, tuple):  # the most common types
        return None
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if any(_is_a(value, *known) for known in _TEXT) or hasattr(value, "__vfspath__"):  # the last: UPath
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, complex):
        return {"imag": float(value.imag), "real": float(value.real)}
    if isinstance(value, type):
        return value.__qualname__ if value.__module__ in _NAMELESS else f"{value.__module__}.{value.__qualname__}"
    return None


def members(value: object) -> Iterable[tuple[object, object]] | None:
    """Return the named parts of a value, or None if it has no names for them.

    >>> from types import SimpleNamespace
    >>> dict(members(SimpleNamespace(a=1))), members([1])
    ({'a': 1}, None)
    """
    if isinstance(value, Mapping):
        return value.items()
    if type(value) in (list, tuple) or isinstance(value, type):
        return None
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return list(value._asdict().items())
    if isinstance(value, SimpleNamespace) or _is_a(value, "argparse", "Namespace"):
        return vars(value).items()
    if _is_a(value, "pydantic", "BaseModel"):
        return cast("Iterable[tuple[object, object]]", value)
    if _is_a(value, "pandas", "Series"):
        return _labelled(value)
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else getattr(value, "__attrs_attrs__", None)
    if fields is None:
        return None
    return [(field.name, getattr(value, field.name)) for field in fields if hasattr(value, field.name)]


def _parts(value: object) -> list[tuple[object, object]] | None:
    named = members(value)
    return None if named is None else list(named)


def _labelled(series: Any) -> Iterable[tuple[object, object]] | None:
    """Return a pandas Series by its labels; None if they only count its values, as in a list."""
    if list(series.index) == list(range(len(series))):
        return None
    return list(zip(series.index.tolist(), series.tolist(), strict=True))


def _in_order(items: list[tuple[object, object]]) -> Iterable[tuple[object, object]]:
    """Sort by key, numbers as numbers; keys of several types by their text."""
    try:
        return sorted(items, key=itemgetter(0))
    except TypeError:
        return sorted(items, key=lambda item: str(item[0]))


def _member(where: str, name: str) -> str:
    if name.isidentifier():
        return f"{where}.{name}" if where else name
    return f"{where}[{name!r}]"


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # several types: sort in a reproducible order
        return sorted(items, key=lambda item: (type(item).__name__, json.dumps(item, sort_keys=True)))


def _numpy(value: Any) -> tuple[bool, object]:
    """Convert numpy's own values if numpy is already imported; importing it here would slow down other users."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not (_is_a(value, "numpy", "ndarray") or _is_a(value, "numpy", "generic")):
        return False, None
    if value.dtype.kind in "mM":
        return True, _numpy_time(value, numpy) if value.ndim == 0 else list(value)
    if value.dtype.names:
        return True, {name: value[name] for name in value.dtype.names} if value.ndim == 0 else list(value)
    if value.dtype.char in "gG":  # a long double has no Python equivalent, and tolist() would not convert it
        return True, _doubles(value, numpy).tolist()
    return True, value.tolist()


def _doubles(value: Any, numpy: Any) -> Any:
    """Return long doubles as doubles, which have fewer digits, and a range up to 1.8e308.

    Raises:
        ValueError: A number would become infinite, or zero.
    """
    with numpy.errstate(over="ignore", under="ignore"):
        doubles = value.astype("D" if value.dtype.char == "G" else "d")
    for exact, double in ((value.real, doubles.real), (value.imag, doubles.imag)):
        if (numpy.isinf(double) & ~numpy.isinf(exact)).any() or ((double == 0) & (exact != 0)).any():
            raise ValueError(
                "a number in it is outside the range of 64 bits; scale it, or store it as text or an array"
            )
    return doubles


def _numpy_time(value: Any, numpy: Any) -> object:
    if numpy.isnat(value):
        return None
    if value.dtype.kind == "M":
        return str(value)
    unit, count = numpy.datetime_data(value.dtype)
    if unit not in _SECONDS:
        raise ValueError(f"a time difference in {unit} is not a fixed number of seconds")
    return int(value.astype("int64")) * count * _SECONDS[unit]


def _array_like(value: object) -> tuple[bool, object]:
    """Convert tensors and series of torch, jax, pandas and others with their own `tolist`."""
    convert = getattr(value, "tolist", None)
    return (True, convert()) if callable(convert) and hasattr(value, "dtype") else (False, None)
