"""Convert values of runs to JSON that any browser can read, within limits; and encode it for a page."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from notata._base.display import counted
from notata._base.secrets import redacted
from notata.formats.plain import utf8, without_surrogates
from notata.series.summary import nonfinite_word

__all__ = ["Bounded", "command_for", "encoded", "listed_values", "rounded", "shown_text", "text_of"]

_EXACT: Final = 2**53  # larger integers are not exact in a browser
_DIGITS: Final = 7
_POWERS: Final = 22  # up to 10**22, powers of ten are exact as float64


def text_of(text: str, most: int = 10_000) -> str:
    r"""Return an untrusted text that UTF-8 can hold, of at most `most` characters; a longer one ends with ``…``.

    >>> text_of("caf\udce9"), text_of("abcdef", 4)
    ('caf\\udce9', 'abc…')
    """
    return without_surrogates(text if len(text) <= most else f"{text[: most - 1]}…")


def shown_text(text: object, most: int = 1000) -> str:
    """Return a message for the page, without secrets."""
    return text_of(redacted(str(text)), most)


@dataclass(slots=True)
class Bounded:
    """Converts values to JSON values of bounded size.

    Integers that a browser cannot hold exactly, and numbers that JSON lacks, become text. What exceeds a limit is
    replaced by ``…`` or by a note.

    Args:
        text: Maximum number of characters of a text.
        items: Maximum number of values in one list or dictionary.
        total: Maximum number of values in all calls together.
        levels: Maximum depth of nesting.

    >>> Bounded(items=2).of({"seed": 2**60, "loss": [0.5, math.nan, 1]})
    {'seed': '1152921504606846976', 'loss': [0.5, 'NaN', '… and 1 more value']}
    """

    text: int = 10_000
    items: int = 1000
    total: int = 20_000
    levels: int = 16

    def of(self, value: Any, level: int = 0) -> Any:
        """Return one value as JSON."""
        self.total -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return text_of(str(value), self.text)
        if isinstance(value, int):
            return int(value) if -_EXACT <= value <= _EXACT else self._large(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else nonfinite_word(value)
        if isinstance(value, Mapping | list | tuple):
            return "…" if level >= self.levels or self.total <= 0 else self._container(value, level + 1)
        if isinstance(value, datetime):
            return value.isoformat(timespec="milliseconds")
        return text_of(str(value), self.text)

    def _large(self, value: int) -> str:
        try:
            return text_of(str(value), self.text)
        except ValueError:  # Python does not print integers of more than 4300 digits
            return f"an integer of {value.bit_length()} bits"

    def _container(self, value: Any, level: int) -> Any:
        most = max(0, min(self.items, self.total))
        rest = f"… and {counted(len(value) - most, 'more value')}" if len(value) > most else ""
        if isinstance(value, Mapping):
            pairs = zip(value.items(), range(most), strict=False)
            found = {text_of(str(name), 500): self.of(item, level) for (name, item), _ in pairs}
            return found | ({"…": rest} if rest else {})
        return [self.of(item, level) for item in value[:most]] + [rest] * bool(rest)


def command_for(name: str, *arguments: str) -> str:
    """Return a command line for the user.

    >>> command_for("cat", "out/log_a/my plot.png")
    "notata cat 'out/log_a/my plot.png'"
    """
    return shlex.join(["notata", name, *arguments])


def listed_values(values: Iterable[Any]) -> dict[str, Any]:
    """Return numbers and other JSON values as ``values``, with ``nonfinite`` for the numbers that JSON lacks.

    >>> listed_values([0.5, math.inf, None])
    {'values': [0.5, None, None], 'nonfinite': {'1': 'Infinity'}}
    """
    words: dict[str, str] = {}
    kept = list(values)
    for at, value in enumerate(kept):
        if isinstance(value, float) and not math.isfinite(value):
            words[str(at)] = nonfinite_word(value)
            kept[at] = None
    return {"values": kept, "nonfinite": words}


def rounded(values: npt.NDArray[np.float64], digits: int = _DIGITS) -> list[float]:
    """Return numbers with this many significant digits; NaN and infinities stay.

    >>> rounded(np.array([1 / 3, 123456789.0, 6.02214076e23, -0.0, 5e-324, math.nan]))
    [0.3333333, 123456800.0, 6.022141e+23, -0.0, 5e-324, nan]
    """
    with np.errstate(all="ignore"):
        power = np.where(values == 0, 0.0, np.floor(np.log10(np.abs(values))))
        places = digits - 1 - power
        up, down = 10.0 ** np.clip(places, 0, _POWERS), 10.0 ** np.clip(-places, 0, _POWERS)
        whole = np.rint(values * up / down)
        found: list[float] = (whole * down / up).tolist()
    for at in np.flatnonzero(np.isfinite(values) & (np.abs(places) > _POWERS)).tolist():
        found[at] = float(f"{values[at]:.{digits}g}")
    for at in np.flatnonzero(~np.isfinite(values)).tolist():
        found[at] = float(values[at])
    return found


def encoded(value: Any) -> bytes:
    r"""Return a JSON value as text for a data block of the page: it has no ``<``, so that no text ends the block.

    >>> encoded({"name": "</script>"})
    b'{"name":"\\u003c/script>"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return utf8(text).replace(b"<", b"\\u003c")
