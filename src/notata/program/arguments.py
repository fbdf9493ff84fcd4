"""Parse parameters of a command line, and fill them into the arguments of a program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import yaml

from notata._base.terminal import quoted
from notata.errors import ConfigurationError
from notata.formats.yaml_dialect import loader

__all__ = ["RUN_ID", "check_placeholders", "fill", "parse_values", "text_of"]

RUN_ID: Final = "run_id"
"""The placeholder of the run id."""

_PLACEHOLDER: Final = re.compile(r"\{(\{?)([A-Za-z_][\w.-]*)\}(\}?)")
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # a text for YAML 1.1, which wants 1.0e-3
_LONGEST: Final = 100_000  # characters of a value


def parse_values(pairs: Iterable[str], option: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of ``name=value`` pairs as YAML reads them, and their texts as given.

    Args:
        pairs: The pairs.
        option: The name of the option, for error messages.

    Raises:
        ConfigurationError: A pair has no name or is given twice, or its value is no YAML.

    >>> parse_values(["re=1000", "dt=1e-3", "mesh=[64, 32]", "name=ab"], "-p")[0]
    {'re': 1000, 'dt': 0.001, 'mesh': [64, 32], 'name': 'ab'}
    """
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigurationError(f"invalid {option} {quoted(pair)}: write name=value, as in {option} re=1000")
        if name in values:
            raise ConfigurationError(f"{option} {quoted(name)} was passed twice: pass each name once")
        values[name], texts[name] = _value(name, text, option), text
    return values, texts


def _value(name: str, text: str, option: str) -> Any:
    if _NUMBER.fullmatch(text):
        return float(text)
    if len(text) > _LONGEST:
        raise ConfigurationError(
            f"the value of {option} {quoted(name)} has {len(text)} characters, and the limit is {_LONGEST}: put it in "
            "a file"
        )
    try:
        value = yaml.load(text, loader())  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"invalid {option} {quoted(name)}: {text!r} is not YAML. Put text with special characters in quotes: "
            f"{option} '{name}=\"…\"'"
        ) from error
    return value


def text_of(value: object) -> str:
    """Return a value as the text that replaces its placeholder.

    >>> text_of(0.001), text_of(True), text_of(None), text_of([1, 2])
    ('0.001', 'true', 'null', '[1, 2]')
    """
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_placeholders(argv: Sequence[str], names: Iterable[str]) -> None:
    """Check that each placeholder has a value.

    Raises:
        ConfigurationError: A placeholder is unknown.
    """
    known = {*names, RUN_ID}
    for argument in argv:
        for found in _PLACEHOLDER.finditer(argument):
            if not _is_escaped(found) and found[2] not in known:
                raise ConfigurationError(
                    f"unknown placeholder {{{found[2]}}} in the argument {quoted(argument)}: add the parameter with "
                    f"-p {found[2]}=…, or write {{{{{found[2]}}}}} to pass the text itself. Known names: "
                    f"{', '.join(sorted(known))}"
                )


def fill(argv: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """Return arguments with placeholders replaced: ``{re}`` by its text, and ``{{re}}`` by ``{re}``.

    Other braces stay as they are, so that JSON and shell code need no escapes.

    >>> fill(["--re={re}", "{{re}}", '{"a": {"b": 1}}', "{}"], {"re": "1000"})
    ['--re=1000', '{re}', '{"a": {"b": 1}}', '{}']
    """

    def text(found: re.Match[str]) -> str:
        if _is_escaped(found):
            return f"{{{found[2]}}}"
        return f"{found[1]}{texts[found[2]]}{found[3]}"

    return [_PLACEHOLDER.sub(text, argument) for argument in argv]


def _is_escaped(found: re.Match[str]) -> bool:
    return bool(found[1] and found[3])
