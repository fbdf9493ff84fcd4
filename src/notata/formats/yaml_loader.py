"""Read YAML that may be hostile: aliases, merge keys and numbers are limited before a value is built.

A few lines of YAML can stand for gigabytes ("billion laughs"), and some of PyYAML's constructors take quadratic time.
This module computes the size of the values from the graph of nodes, which is as large as the file.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from typing import Any, Final

from notata.errors import DecodeError

__all__ = ["check_values", "load"]

_ALIASED_VALUES: Final = 100_000
"""Limit of the values that aliases may add to those that are written out."""

_ALIASED_TEXT: Final = 2**23
"""Limit of the characters that aliases may add."""

_MERGES: Final = 1000
"""Limit of the merge keys of one mapping; PyYAML removes each from a list, which takes quadratic time."""

_SAME_HASH: Final = 100
"""Limit of different numbers with the same hash in one mapping; only a forged file has more."""

_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"


def load(data: bytes, most_values: int | None = None) -> Any:
    r"""Return the value of a YAML document, as ``yaml.safe_load`` does; None for an empty one.

    Time and memory are proportional to the size of `data`: about 5 µs and 400 bytes for each value.

    Args:
        data: The file.
        most_values: Refuse a file with more values, including keys. The file is then parsed twice.

    Raises:
        DecodeError: The file has more values, or its aliases stand for more than the limits above.
        Exception: Any error of PyYAML.

    >>> load(b"a: &x [1, 2]\nb: *x\n")
    {'a': [1, 2], 'b': [1, 2]}
    """
    base = _base()
    if most_values is not None:
        check_values(data, most_values)
    loader = _loader(base)(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if b"*" in data:
            _check_aliases(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def check_values(data: bytes, most: int) -> None:
    """Refuse a document with more values than `most`, including keys, before any of them is built.

    Raises:
        DecodeError: The document has more.
        yaml.YAMLError: The document is no YAML.
    """
    if len(data) <= most:  # each value takes at least one byte
        return
    import yaml

    values = 0
    for event in yaml.parse(data, Loader=_base()):
        values += isinstance(event, yaml.NodeEvent)
        if values > most:
            raise DecodeError(f"this YAML has more than {most:,} values")


def _base() -> Any:
    from notata.formats.yaml_dialect import loader

    return loader()


# -- aliases -----------------------------------------------------------------------------------------------


def _check_aliases(root: Any) -> None:
    """Refuse a document whose aliases stand for much more than is written out."""
    counter = _Counter()
    values, text = counter.size(root)
    values, text = values - counter.values, text - counter.text
    if values > _ALIASED_VALUES or text > _ALIASED_TEXT:
        raise DecodeError(
            f"the aliases of this YAML stand for more than {_ALIASED_VALUES:,} values or {_ALIASED_TEXT:,} characters, "
            "or for themselves; write the values out"
        )


class _Counter:
    """Computes the sizes of nodes, with aliases expanded.

    Attributes:
        values: Number of values that are written out, each once.
        text: Number of characters that are written out.
    """

    def __init__(self) -> None:
        self.values = 0
        self.text = 0
        self._sizes: dict[int, tuple[int, int]] = {}

    def size(self, node: Any) -> tuple[int, int]:
        """Return the number of values and of characters of a node, with aliases expanded."""
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        self._sizes[id(node)] = (_ALIASED_VALUES + 1, 0)  # for a node that contains itself
        length = len(node.value) if isinstance(node.value, str) else 0
        self.values, self.text = self.values + 1, self.text + length
        sizes = [self.size(part) for part in _parts(node)]
        total = 1 + sum(values for values, _ in sizes), length + sum(text for _, text in sizes)
        self._sizes[id(node)] = total
        return total


def _parts(node: Any) -> list[Any]:
    """Return the parts of a collection: items, or keys and values."""
    if isinstance(node.value, str):
        return []
    return [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]


# -- constructors ------------------------------------------------------------------------------------------


@functools.cache
def _loader(base: Any) -> Any:
    """Return PyYAML's safe loader without the constructors that take quadratic time."""

    class Loader(base):  # type: ignore[misc]
        def construct_yaml_int(self, node: Any) -> Any:
            _check_length(node)
            value = super().construct_yaml_int(node)
            if value.bit_length() > 3 * _digits():
                str(value)  # raises, as for a decimal number: such a value could not be printed
            return value

        def construct_yaml_float(self, node: Any) -> Any:
            _check_length(node)
            return super().construct_yaml_float(node)

        def flatten_mapping(self, node: Any) -> None:
            if sum(key.tag == _MERGE for key, _ in node.value) > _MERGES:
                raise DecodeError(f"a mapping of this YAML has more than {_MERGES:,} merge keys (<<)")
            super().flatten_mapping(node)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if len(getattr(node, "value", ())) > _SAME_HASH:
                _check_hashes(self, node)
            return super().construct_mapping(node, deep=deep)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader


def _digits() -> int:
    return sys.get_int_max_str_digits() or 10**6


def _check_length(node: Any) -> None:
    """Refuse a number that is too long: one in base 60, which YAML 1.1 supports, takes quadratic time."""
    if len(node.value) > _digits():
        raise DecodeError(f"a number in this YAML has more than {_digits()} digits")


def _check_hashes(loader: Any, node: Any) -> None:
    """Refuse a mapping of numbers as keys that were made to collide, which takes quadratic time."""
    seen: set[str] = set()
    hashes: Counter[int] = Counter()
    for key, _ in node.value:
        if isinstance(key.value, str) and key.tag != _TEXT and key.tag != _MERGE and key.value not in seen:
            seen.add(key.value)
            hashes[hash(loader.construct_object(key))] += 1
    if hashes and max(hashes.values()) > _SAME_HASH:
        raise DecodeError("a mapping of this YAML has too many keys with the same hash; it seems to be forged")
