"""Make run ids of parameters: readable, valid, short, and unique for each set of parameters.

notata 0.3.0 joins names and values with underscores, as in ``sweep_dt_0.001_omega_2``. Such ids can be ambiguous:
floats are rounded to five digits, and ``a="b", c=1`` gives the same text as ``a_b_c=1``. notata keeps an id of that
form if it is unambiguous. Otherwise the id ends in ``--`` and a digest of the parameters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from notata._base import keys
from notata.errors import KeyNameError
from notata.formats import flattened, plain

__all__ = ["LONGEST", "run_id"]

LONGEST: Final = 200
"""Maximum bytes of an id. The name of a folder can have 255."""

_DIGEST: Final = 16  # hexadecimal digits: of a million ids, two agree with a probability of 3e-8
_VALUE: Final = 40  # characters of one value that an id with a digest shows
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?|-?inf|nan")
_CONSTANTS: Final = ("True", "False", "None")
_WORD: Final = re.compile(r"[A-Za-z0-9.+=,-]+")
_LEGIBLE: Final = re.compile(r"[^A-Za-z0-9.+=,_-]+")


def run_id(name: str, params: Mapping[str, Any]) -> str:
    """Return the id of a run of an experiment with these parameters.

    Args:
        name: The name of the experiment, with which the id begins.
        params: Parameters that have a plain form.

    Raises:
        EncodeError: A parameter has no plain form.

    >>> run_id("sweep", {"omega": 2.0, "dt": 1e-3, "method": "rk4"})
    'sweep_dt_0.001_method_rk4_omega_2'
    >>> run_id("sweep", {"dt": 0.1234567})
    'sweep_dt_0.12346--3f328ff4f67a970b'
    >>> run_id("sweep", {"optimizer": {"name": "adam", "lr": 0.1}})
    'sweep_optimizer.lr_0.1_optimizer.name_adam--ae6a164e15811cde'
    """
    values: dict[str, Any] = plain(params, "params")
    shown = [(key, _token(value)) for key, value in sorted(flattened(values).items())]
    whole = f"{name}_" + "_".join(f"{key}_{token}" for key, token in shown)
    faithful = all(_exact(value, _token(value)) for value in values.values())
    if faithful and _legal(whole) and len(whole.encode()) <= LONGEST and _reading(shown):
        return whole
    digest = hashlib.sha256(_told(params, values).encode()).hexdigest()[:_DIGEST]
    text = f"{name}_" + "_".join(f"{key}_{token[:_VALUE]}" for key, token in shown)
    return f"{_cut(_LEGIBLE.sub('_', text), LONGEST - _DIGEST - 2)}--{digest}"


def _told(params: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return a text that is unique for these parameters: JSON, and a list of keys that are not strings."""
    whole = json.dumps(_canonical(values), sort_keys=True)
    nested = {name: params[name] for name, value in values.items() if isinstance(value, dict | list)}
    odd = sorted(json.dumps(path) for path in _odd_keys(plain(nested, "params", text_keys=False)))
    return "\n".join([whole, *odd])


def _odd_keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each dictionary key that is not a string, as JSON converts it to one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        is_odd = isinstance(value, dict) and not isinstance(name, str)
        step = (*path, [_canonical(name)] if is_odd else name)
        if is_odd:
            yield step
        yield from _odd_keys(item, step)


def _token(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(_canonical(value))


def _exact(value: Any, token: str) -> bool:
    """Check whether no other value has this token."""
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return True
    if isinstance(value, float):
        return float(token) == value or value != value
    if not isinstance(value, str) or not _WORD.fullmatch(token) or "--" in token:
        return False
    return not _NUMBER.fullmatch(token) and token not in _CONSTANTS


def _reading(shown: Sequence[tuple[str, str]]) -> bool:
    """Check whether parsing the text of these names and values, with the shortest possible names, returns them.

    Every text has at most one such parse, so two sets of parameters never share a text.
    """
    pieces = "_".join(f"{key}_{token}" for key, token in shown).split("_") if shown else []

    @cache
    def read(at: int, last: str) -> tuple[tuple[str, str], ...] | None:
        if at == len(pieces):
            return ()
        for end in range(at + 1, len(pieces)):
            key = "_".join(pieces[at:end])
            if key.isidentifier() and key > last and _is_value(pieces[end]):
                rest = read(end + 1, key)
                if rest is not None:
                    return ((key, pieces[end]), *rest)
        return None

    return read(0, "") == tuple(shown)


def _is_value(piece: str) -> bool:
    return bool(_WORD.fullmatch(piece)) and "--" not in piece


def _legal(run_id: str) -> bool:
    try:
        keys.run_folder(run_id)
    except KeyNameError:
        return False
    return True


def _canonical(value: Any) -> Any:
    """Return a plain value in which equal numbers have equal text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
