"""The meaning of parameters does not depend on a process's changes to PyYAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from notata import DecodeError, LogReader
from notata.formats import YAML, decode
from tests.children import run

VALUES: dict[str, Any] = {
    "lr": 0.00012345678,
    "seed": 1,
    "t": True,
    "f": False,
    "none": None,
    "l": [1, 2],
    **{word: word for word in ("no", "yes", "off", "y")},
    "sci": "1e3",
    "day": "2026-01-01",
}

_SHORT = "lambda dumper, value: dumper.represent_scalar('tag:yaml.org,2002:float', f'{value:.4g}')"

CHANGES = {
    "float of SafeDumper": f"yaml.SafeDumper.add_representer(float, {_SHORT})",
    "float of CSafeDumper": f"yaml.CSafeDumper.add_representer(float, {_SHORT})",
    "float of SafeRepresenter": f"yaml.representer.SafeRepresenter.add_representer(float, {_SHORT})",
    "any subclass": "yaml.SafeDumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str('x'))",
    "yes and no": "yaml.representer.SafeRepresenter.add_representer(bool, lambda dumper, value: "
    "dumper.represent_scalar('tag:yaml.org,2002:bool', 'yes' if value else 'no'))",
    "no bools but true and false": """
from yaml.resolver import Resolver
for first in 'OoYyNn':
    Resolver.yaml_implicit_resolvers[first] = [
        one for one in Resolver.yaml_implicit_resolvers[first] if one[0] != 'tag:yaml.org,2002:bool'
    ]
""",
    "1e3 a float": """
import re
yaml.resolver.Resolver.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile('^[0-9]+[eE][0-9]+$'), list('0123456789'))
""",
    "paths": "yaml.add_path_resolver('!x', ['lr'], str, yaml.SafeLoader, yaml.SafeDumper)",
    "words for true": "yaml.constructor.SafeConstructor.bool_values['true'] = 'wahr'",
    "numbers as text": "yaml.constructor.SafeConstructor.add_constructor('tag:yaml.org,2002:float', "
    "lambda loader, node: node.value)",
    "numbers of libyaml as text": "yaml.CSafeLoader.add_constructor('tag:yaml.org,2002:int', "
    "lambda loader, node: node.value)",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_process_that_changed_pyyaml_stores_and_reads_the_same_values(change: str, tmp_path: Path) -> None:
    code = f"""
import yaml
from notata import Logbook
{change}
values = {VALUES!r}
with Logbook("a", {str(tmp_path)!r}, params=values) as log:
    assert dict(log.params) == log.reader.params == values, log.reader.params
"""
    run([sys.executable, "-c", code])
    assert LogReader(tmp_path / "log_a").params == VALUES
    assert yaml.safe_load((tmp_path / "log_a" / "params.yaml").read_bytes()) == VALUES


def test_tags_that_a_process_added_are_not_read() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml.SafeLoader, "yaml_constructors", dict(yaml.SafeLoader.yaml_constructors))
        yaml.SafeLoader.add_constructor("!run", lambda loader, node: 1 / 0)
        with pytest.raises(DecodeError, match="could not determine a constructor"):
            decode(YAML, b"a: !run x")


SCALARS = st.text("0123456789-+.:_eExXbo~nulyYTtZfsaiN =<", max_size=12)


@given(SCALARS)
@example("1:30")
@example("1:30.5")
@example("0b1_0")
@example("-0x_F")
@example("1_000.5e+3")
@example(".5e-3")
@example("-.inf")
@example("2026-1-1 12:30:00 +1")
@example("2026-01-01T12:30:00.5Z")
@example("=")
@example("")
def test_scalars_mean_what_they_mean_to_pyyaml(text: str) -> None:
    data = f"- {text}\n".encode()
    try:
        expected = yaml.safe_load(data)
    except Exception:
        with pytest.raises(DecodeError):
            decode(YAML, data)
    else:
        assert repr(decode(YAML, data)) == repr(expected)
