r"""Encode rows of a series, one JSON object for each line: ``{"step": 120, "time": 1764323.213, "loss": 0.31}``.

JSON has no NaN and no infinities, and parsers differ in what they accept instead. So the value of such a column is
``null``, and the field `NONFINITE` names it: ``{"step": 7, "time": …, "loss": null, "nonfinite": {"loss": "NaN"}}``.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from notata._base import display, limits
from notata._base.terminal import quoted
from notata.errors import EncodeError
from notata.formats import without_surrogates
from notata.series.summary import NONFINITE, Column, kind_of

__all__ = [
    "INT64",
    "NONFINITE",
    "RESERVED",
    "STEP",
    "TIME",
    "TRY",
    "RowEncoder",
    "Scalar",
    "as_float",
    "invalid_step",
    "scalar",
    "step_of",
]

Scalar: TypeAlias = float | int | bool | str | None

STEP: Final = "step"
TIME: Final = "time"
TRY: Final = "try"
RESERVED: Final = frozenset({STEP, TIME, TRY, NONFINITE, "rank", "run_id"})
"""Names that no value can have: fields of a row, and columns that readers add."""

INT64: Final = 2**63
"""One more than the largest integer of 64 bits; parsers of JSON do not read larger ones as integers."""

_WORDS: Final[dict[Scalar, str]] = {None: "null", True: "true", False: "false"}
_NAMES: Final = {math.inf: '"Infinity"', -math.inf: '"-Infinity"'}
_NAN: Final = '"NaN"'
_quote = json.encoder.encode_basestring  # keeps the text readable


class RowEncoder:
    r"""Encodes the rows of one series, and keeps the summary of each column.

    A column has one type, that of its first value other than None: numbers, texts or booleans. Parsers such as pyarrow
    need that.

    Args:
        attempt: The number of the attempt in `TRY`; 0 is omitted.

    Attributes:
        columns: The columns by name, in the order of their first values.

    >>> encoder = RowEncoder()
    >>> row, _ = encoder.encode(120, 1764323.2134, {"loss": 0.31, "phase": "warm-up"})
    >>> row
    b'{"step": 120, "time": 1764323.213, "loss": 0.31, "phase": "warm-up"}\n'
    """

    def __init__(self, attempt: int = 0) -> None:
        self._attempt = f', "{TRY}": {attempt}' if attempt else ""
        self.columns: dict[str, Column] = {}

    def encode(self, step: int, time: float, values: Mapping[str, object]) -> tuple[bytes, list[tuple[Column, Scalar]]]:
        """Return the line of a row, and its values, which the summaries do not contain yet.

        Raises:
            EncodeError: A name or value cannot be stored, or the row is too large.
        """
        found: list[tuple[Column, Scalar]] = []
        text = f'{{"{STEP}": {step}, "{TIME}": {time:.3f}{self._attempt}'
        nonfinite = ""
        columns, fresh = self.columns, 0
        for name, value in values.items():
            column = columns.get(name)
            if column is None:
                column, fresh = self._new(name, fresh), fresh + 1
            kind = type(value)
            if column.kind is float and (kind is float or (kind is int and -INT64 < value < INT64)):  # type: ignore[operator]
                plain: Scalar = value  # type: ignore[assignment]  # the usual case
            else:
                plain = _fitting(value, column)
            if type(plain) is float:
                if plain - plain == 0.0:
                    text += f"{column.prefix}{plain!r}"
                else:
                    text += f"{column.prefix}null"
                    nonfinite += f"{', ' if nonfinite else ''}{column.prefix[2:]}{_NAMES.get(plain, _NAN)}"
            elif type(plain) is str:
                text += column.prefix + _quote(plain)
            else:
                text += column.prefix + (str(plain) if type(plain) is int else _WORDS[plain])
            found.append((column, plain))
        if nonfinite:
            text += f', "{NONFINITE}": {{{nonfinite}}}'
        data = f"{text}}}\n".encode()
        if len(data) > limits.SERIES_ROW:
            raise EncodeError(
                f"cannot store a row of {display.size(len(data))}: the limit is {display.size(limits.SERIES_ROW)}. Use "
                "several series, or store arrays with array()"
            )
        return data, found

    def add(self, step: int, found: list[tuple[Column, Scalar]]) -> None:
        """Add the values of a row that was stored to the summaries."""
        for column, value in found:
            if column.count == 0:  # it may be new
                self.columns.setdefault(column.name, column).add(step, value)
            else:
                column.add(step, value)

    def resume(self, columns: Iterable[Column], kinds: Mapping[str, type | None]) -> None:
        """Continue with the columns of earlier rows, and their types; a column without values has no type yet."""
        self.columns = {}
        for column in columns:
            column.kind = kinds.get(column.name)
            column.prefix = f", {_quote(column.name)}: "
            self.columns[column.name] = column

    def _new(self, name: object, fresh: int) -> Column:
        """Return a new column, which `add` keeps, beside `fresh` others of the same row."""
        if not isinstance(name, str):
            raise EncodeError(f"invalid name {display.brief(name)} of a value: pass a string")
        if name in RESERVED:
            hint = ", such as t" if name == TIME else ""
            raise EncodeError(
                f"{quoted(name)} cannot be the name of a value: it is a field of each row. Choose another name{hint}",
                where=name,
            )
        if len(name) > limits.SERIES_NAME:
            raise EncodeError(
                f"the name {name[:40]!r}… has {len(name)} characters; the limit is {limits.SERIES_NAME}", where=name
            )
        if len(self.columns) + fresh >= limits.SERIES_COLUMNS:
            raise EncodeError(
                f"cannot add the column {quoted(name)}: a series has at most {limits.SERIES_COLUMNS:,} columns. Use "
                "several series",
                where=name,
            )
        name = without_surrogates(name)
        return self.columns.get(name) or Column(name, f", {_quote(name)}: ")


def _fitting(value: object, column: Column) -> Scalar:
    """Return a value as one of the column's type; the first value other than None decides the type."""
    plain = scalar(value, column.name)
    if plain is None:
        return None
    kind = kind_of(plain)
    if column.kind is not None and kind is not column.kind:
        if kind is bool and column.kind is float:
            return int(plain)
        names = {float: "a number", str: "a text", bool: "a boolean"}
        raise EncodeError(
            f"{quoted(column.name)} is {names[kind]} here, but it was {names[column.kind]} before: "
            f"{display.brief(value)}. A column has one type; use another name",
            where=column.name,
        )
    return plain


def scalar(value: object, name: str = "") -> Scalar:
    """Return a value as a number, boolean, text or None.

    numpy scalars, and arrays and tensors with one element on any device, become numbers; decimals and fractions become
    floats, enumerations their values. Integers beyond 64 bits become floats, as parsers of JSON do not read them.

    Raises:
        EncodeError: The value is of another type, or a text is too long.

    >>> import numpy as np
    >>> scalar(np.float32(0.5)), scalar(np.array([3])), scalar(2**70)
    (0.5, 3, 1.1805916207174113e+21)
    """
    kind = type(value)
    if kind is float or kind is bool or value is None:
        return value  # type: ignore[return-value]
    if kind is int:
        return value if -INT64 < value < INT64 else as_float(value)  # type: ignore[operator,return-value]
    if isinstance(value, enum.Enum):
        return scalar(value.value, name)
    if isinstance(value, str):
        if len(value) > limits.SERIES_TEXT:
            raise EncodeError(
                f"{quoted(name)} has {len(value):,} characters; the limit in a series is {limits.SERIES_TEXT:,}. Store "
                "long texts with text()",
                where=name,
            )
        return without_surrogates(str(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return scalar(int(value), name)
    return _converted(value, name)


def _converted(value: object, name: str) -> Scalar:
    shape = getattr(value, "shape", None)
    what = f"an array of shape {tuple(shape)}" if shape else display.indefinite(type(value).__name__)
    if shape is None or math.prod(shape) == 1:
        try:
            found = _item(value)
        except Exception as error:  # a JAX value that is being traced, a tensor without data, or anything foreign
            raise EncodeError(
                f"{quoted(name)} cannot be converted to a number: {type(error).__name__}: {error!s:.200}", where=name
            ) from error
        if isinstance(found, complex):
            what = "a complex number"
        elif type(found) is not type(value):
            return scalar(found, name)
    if type(value).__module__ in ("decimal", "fractions"):
        return as_float(value)
    raise EncodeError(
        f"{quoted(name)} is {what}, and a series stores numbers, booleans, short texts and None. Pass its mean or "
        "another number, or store it with array() or json()",
        where=name,
    )


def _item(value: Any) -> object:
    """Return the element of an array or tensor as a Python object, None if it is masked; another value as it is."""
    if type(value).__module__.startswith("numpy.ma") and value.mask.all():
        return None
    item = getattr(value, "item", None)
    found = item() if callable(item) else value
    if type(found) is type(value) and hasattr(value, "shape") and hasattr(value, "__float__"):
        return float(value)  # a TensorFlow tensor, or a numpy.longdouble
    return found


def as_float(value: Any) -> float:
    """Return a number as a float, infinite if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:  # the signaling NaN of decimals
        return math.nan


def step_of(value: object) -> int:
    """Return a step as an int.

    Raises:
        EncodeError: It is not an integer.
    """
    plain = scalar(value, STEP)
    if isinstance(plain, float) and plain.is_integer() and not isinstance(value, float | int):  # a tensor of floats
        plain = int(plain)
    if type(plain) is not int:
        raise invalid_step(value)
    return plain


def invalid_step(value: object) -> EncodeError:
    """Return the error for a step that is no integer of 64 bits."""
    return EncodeError(
        f"invalid step {display.brief(value)}: pass an integer of 64 bits. A time or another coordinate is a value, "
        "such as t=0.5",
        where=STEP,
    )
