"""The YAML that notata writes and reads: PyYAML with its own tables, so that changes to PyYAML's have no effect.

PyYAML keeps the meaning of plain scalars, and the form of values, in tables of its classes, and offers functions that
change them for the whole process. After such a change, a run's parameters could be stored or read as other values.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar, Final

import yaml

from notata.formats.plain import without_surrogates

__all__ = ["dumper", "loader"]

_TAG: Final = "tag:yaml.org,2002:"


def dumper() -> Any:
    """Return the class to write with, by libyaml if PyYAML has it."""
    return _dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def loader() -> Any:
    """Return the class to read with, by libyaml if PyYAML has it."""
    return _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def _dumper(base: Any) -> Any:
    class Dumper(base):  # type: ignore[misc]
        yaml_implicit_resolvers = _RESOLVERS
        yaml_path_resolvers: ClassVar[dict[Any, Any]] = {}
        yaml_multi_representers: ClassVar[dict[Any, Any]] = {}

        def ignore_aliases(self, data: object) -> bool:
            return True  # a value that occurs twice is written twice, so that each line is complete

        def represent_str(self, data: str) -> Any:
            text = without_surrogates(data)
            return self.represent_scalar(f"{_TAG}str", text, style=_style(text))

        yaml_representers: ClassVar[dict[Any, Any]] = {
            type(None): base.represent_none,
            bool: base.represent_bool,
            int: base.represent_int,
            float: base.represent_float,
            str: represent_str,
            list: base.represent_list,
            dict: base.represent_dict,
            None: base.represent_undefined,
        }

    return Dumper


@cache
def _loader(base: Any) -> Any:
    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers = _RESOLVERS
        yaml_path_resolvers: ClassVar[dict[Any, Any]] = {}
        yaml_multi_constructors: ClassVar[dict[Any, Any]] = {}
        yaml_constructors: ClassVar[dict[Any, Any]] = {
            **{f"{_TAG}{kind}": getattr(base, f"construct_yaml_{kind}") for kind in _KINDS},
            None: base.construct_undefined,
        }
        bool_values: ClassVar = _BOOLS

    return Loader


_KINDS: Final = (
    "null", "bool", "int", "float", "binary", "timestamp", "omap", "pairs", "set", "str", "seq", "map",
)  # fmt: skip

_BOOLS: Final = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False}


def _cases(words: str) -> str:
    """Return a pattern of words in lower case, with a capital, or in capitals, as in YAML 1.1."""
    return "|".join(form for word in words.split() for form in (word, word.capitalize(), word.upper()))


_SIGN: Final = "[-+]?"
_EXPONENT: Final = "([eE][-+][0-9]+)?"
_SIXTIES: Final = "(:[0-5]?[0-9])+"  # 1:30 is 90
_TIME: Final = r"([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?"

# The meaning of a plain scalar in YAML 1.1 (https://yaml.org/type/), as PyYAML implements it: possible first
# characters, and a pattern of the whole scalar.
_SCALARS: Final = (
    ("bool", "yYnNtTfFoO", _cases(" ".join(_BOOLS))),
    (
        "float",
        "-+0123456789.",
        rf"{_SIGN}[0-9][0-9_]*\.[0-9_]*{_EXPONENT}|\.[0-9][0-9_]*{_EXPONENT}|{_SIGN}[0-9][0-9_]*{_SIXTIES}\.[0-9_]*"
        rf"|{_SIGN}\.({_cases('inf')})|\.(nan|NaN|NAN)",
    ),
    (
        "int",
        "-+0123456789",
        f"{_SIGN}(0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*{_SIXTIES})",
    ),
    ("merge", "<", "<<"),
    ("null", ["~", "n", "N", ""], f"~|{_cases('null')}|"),
    ("timestamp", "0123456789", rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}{_TIME}"),
    ("value", "=", "="),
    ("yaml", "!&*", "[!&*]"),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, beginnings, pattern in _SCALARS:
        for beginning in beginnings:
            table.setdefault(beginning, []).append((f"{_TAG}{kind}", re.compile(rf"(?:{pattern})\Z")))
    return table


_RESOLVERS: Final = _resolvers()

_NUMBER_OF_1_2: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")
_BREAKS: Final = re.compile("[\t\n\r\x85\u2028\u2029\ufeff]")


def _style(text: str) -> str | None:
    """Return the quotes for a string that PyYAML would not quote, or would split into several lines."""
    if _BREAKS.search(text):
        return '"'
    return "'" if _NUMBER_OF_1_2.fullmatch(text) else None  # 1e5: a plain string in PyYAML, but a number elsewhere
