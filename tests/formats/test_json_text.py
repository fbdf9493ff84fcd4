"""The text of JSON, compared with that of the module `json`."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from notata._base.prepared import prepared
from notata.formats.json_text import write_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def text(value: Any) -> str:
    pieces: list[str] = []
    write_json(value, pieces.append)
    return "".join(pieces)


@given(TREES)
@example([math.nan, math.inf, -math.inf, -0.0, 5e-324, 10**400, True, None])
@example({"": {}, "a": [], "\u2028": "\x00\x7f\x85\ud800", "b": [[[]], {"c": {}}]})
def test_it_is_that_of_the_module_json(value: Any) -> None:
    assert text(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_a_prepared_member_is_indented_as_others() -> None:
    environment = prepared({"python": {"version": "3.13"}, "argv": ["fit.py"]})
    for value in (
        {"environment": environment, "a": 1},
        {"deep": {"environment": environment}},
        [environment],
        environment,
    ):
        assert text(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_a_long_text_is_written_in_pieces() -> None:
    pieces: list[str] = []
    value = {"a": list(range(400_000)), "b": {str(number): "x" * 10 for number in range(40_000)}}
    write_json(value, pieces.append)
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 2**21
    assert "".join(pieces) == json.dumps(value, indent=2)
