"""Text, JSON, YAML, bytes and pickle in both directions; each also checked by another reader."""

from __future__ import annotations

import io
import json
import pickle
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from notata import formats
from notata.errors import DecodeError, StorageError
from notata.formats import BYTES, JSON, PICKLE, TEXT, YAML, decode, encode
from tests.formats.files import Failing, through_a_store, written

SPECIAL = " \t\n\r\x85\u2028\u2029\ufeff:-#?!&*|>'\"%@`{}[],=<~0123456789._+eExob\x00\x7f\x80\x9f\xa0\ufffe\uffff😀"
WORDS = (
    "= << 1_000 12:30 0o7 0x1f 1e5 1e-7 1.e5 .5 017 +1 ~ yes no on off y n null true 2026-01-01 2026-01-01T00:00:00Z "
    "- -- --- ... ? : | > & * ! % @ ` .inf .nan 1e1000 0b1 190:20:30.15"
)
ANY = (
    st.text(max_size=20) | st.text(SPECIAL, max_size=12) | st.sampled_from([*WORDS.split(), "", "a b " * 60, "é" * 200])
)
LEAVES = st.none() | st.booleans() | st.integers() | st.integers(-(10**60), 10**60) | st.floats() | ANY


def trees(keys: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    inner = st.recursive(LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(keys, x, max_size=3), max_leaves=8)
    return st.dictionaries(keys, inner, max_size=4)


def exact(value: object) -> object:
    """Return a form that compares equal only for the same value of the same type; NaN equals itself."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return (type(value), repr(value))


@given(st.text())
@example("a\r\nb\rc\n\x85\u2028")
@example("\ufeffbom")
def test_any_text_comes_back(text: str) -> None:
    assert decode(TEXT, written(TEXT, text)) == text
    assert written(TEXT, text).decode() == text


@given(st.binary())
def test_any_bytes_come_back(data: bytes) -> None:
    assert decode(BYTES, written(BYTES, data)) == data
    if data:
        assert decode(BYTES, memoryview(data)[::-1]) == data[::-1]


@given(trees(ANY) | LEAVES)
@example([0.0, -0.0, 10**400, float("nan"), float("-inf")])
def test_any_json_comes_back(value: Any) -> None:
    data = written(JSON, value)
    assert exact(decode(JSON, data)) == exact(value) == exact(json.loads(data))


@given(st.lists(LEAVES | st.tuples(ANY, LEAVES)) | st.binary())
def test_any_pickle_comes_back(value: Any) -> None:
    data = written(PICKLE, value)
    assert repr(decode(PICKLE, data)) == repr(value) == repr(pickle.loads(data))


@pytest.mark.parametrize("c", [True, False], ids=["libyaml", "python"])
@given(value=trees(ANY))
@example(value={word: word for word in WORDS.split()})
@example(value={"k" * 2000: "v" * 2000, "w " * 600: ["w\n" * 300]})
@example(value={str(n): x for n, x in enumerate([1e-7, 1e16, 1e22, 5e-324, 1e300, -0.0, 2.0, 0.1, 10**30])})
def test_any_parameters_come_back(c: bool, value: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not c:  # as if PyYAML had been built without libyaml
            patch.delattr(yaml, "CSafeDumper")
            patch.delattr(yaml, "CSafeLoader")
        data = written(YAML, value)
        assert exact(decode(YAML, data)) == exact(value)
    for read in (data, data.decode()):
        assert exact(yaml.safe_load(read)) == exact(value)
    assert exact(yaml.load(data, yaml.CSafeLoader)) == exact(value)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), ANY, min_size=1))
def test_each_parameter_of_text_is_one_line(value: dict[str, str]) -> None:
    lines = written(YAML, value).decode().splitlines()
    assert len(lines) == len(value)
    for line, key in zip(lines, sorted(value), strict=True):
        assert line.startswith(f"{key}: ")
        assert yaml.safe_load(line) == {key: value[key]}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (2.0, "omega: 2.0"),
        (1e-7, "omega: 1.0e-07"),
        (100, "omega: 100"),
        (True, "omega: true"),
        (None, "omega: null"),
        ("upwind", "omega: upwind"),
        ("a b " * 60 + "c", "omega: " + "a b " * 60 + "c"),
        ("a\nb\n", 'omega: "a\\nb\\n"'),
        ("a\u2028b", 'omega: "a\\Lb"'),
        ("2026-01-01", "omega: '2026-01-01'"),
        ("1e5", "omega: '1e5'"),
        ("0o7", "omega: '0o7'"),
        ("12:30", "omega: '12:30'"),
        ("", "omega: ''"),
        ("π", "omega: π"),
        ([1, 2], "omega:\n- 1\n- 2"),
    ],
)
def test_yaml_is_plain_to_read(value: object, line: str) -> None:
    assert written(YAML, {"omega": value}).decode() == line + "\n"


@pytest.mark.parametrize("value", ["text", b"raw", {"a": [1, None, 2.5]}])
def test_values_come_back_from_a_store(value: Any) -> None:
    form: Any = TEXT if isinstance(value, str) else BYTES if isinstance(value, bytes) else JSON
    assert through_a_store(form, value) == value
    assert through_a_store(PICKLE, value) == value
    if isinstance(value, dict):
        assert through_a_store(YAML, value) == value


def test_a_large_pickle_comes_back_from_a_store() -> None:
    value = {"x": np.arange(2_000_000.0), "y": list(range(1000))}
    read = through_a_store(PICKLE, value)
    assert read["x"].tobytes() == value["x"].tobytes()  # type: ignore[attr-defined]
    assert read["y"] == value["y"]


def test_an_empty_yaml_is_nothing() -> None:
    assert decode(YAML, b"") is None
    assert decode(YAML, b"# only a comment\n") is None


BAD: list[tuple[formats.Format, bytes, str]] = [
    (TEXT, b"abc\xff", "this is not UTF-8 text: invalid start byte at byte 3 of 4"),
    (TEXT, "é".encode()[:1], "this is not UTF-8 text: unexpected end of data at byte 0 of 1"),
    (JSON, b"", "this is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
    (JSON, b'{"a": 1', "this is not valid JSON: Expecting ',' delimiter"),
    (JSON, b'"\xff"', "this is not valid JSON: 'utf-8' codec can't decode byte 0xff in position 1"),
    (JSON, b"[" * 100_000, "this JSON is nested too deeply to be read"),
    (JSON, b"1" * 5000, "this is not valid JSON: Exceeds the limit (4300 digits)"),
    (YAML, b"a: [1", "this is not valid YAML: while parsing a flow"),
    (YAML, b"a: b: c", "this is not valid YAML: mapping values are not allowed"),
    (YAML, b"a: !!python/object:os.system x", "could not determine a constructor"),
    (YAML, b"a: 2026-99-99", "this is not valid YAML: month must be in 1..12"),
    (YAML, b"a: *b", "found undefined alias"),
    (YAML, b"a: 1\n---\nb: 2", "expected a single document"),
    (YAML, b"a: \xff", "this is not valid YAML: "),
    (YAML, b"[" * 100_000 + b"]" * 100_000, "this YAML is nested too deeply to be read"),
    (YAML, b"- " * 100_000, "this YAML is nested too deeply to be read"),
    (PICKLE, b"", "Pickle cannot read this file: EOFError: Ran out of input"),
    (PICKLE, pickle.dumps([1] * 100)[:50], "Pickle cannot read this file: "),
    (PICKLE, b"no pickle", "Pickle cannot read this file: UnpicklingError"),
    (PICKLE, b"cnowhere\nNothing\n.", "Pickle cannot read this file: ModuleNotFoundError: No module named 'nowhere'"),
    (PICKLE, b"\x80\x05\x8e" + b"\xff" * 7 + b"\x7f.", "Pickle cannot read this file: "),
]


@pytest.mark.parametrize(("form", "data", "message"), BAD, ids=range(len(BAD)))
def test_data_that_a_format_cannot_read_is_an_error(form: formats.Format, data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        form.read(io.BytesIO(data))
    assert message in str(caught.value)
    assert caught.value.__cause__ is not None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for form in (TEXT, JSON, YAML):
        with suppress(DecodeError):
            decode(form, data)


def test_a_moderate_depth_of_yaml_is_read() -> None:
    assert decode(YAML, b"[" * 300 + b"]" * 300) is not None
    long_line = {"x": "a" * 5000, "y": [[["b"]]]}
    assert decode(YAML, encode(YAML, long_line)) == long_line


@pytest.mark.parametrize("form", [TEXT, JSON, YAML, BYTES, PICKLE])
@pytest.mark.parametrize("error", [StorageError("down"), OSError("disk"), ValueError("closed"), KeyboardInterrupt()])
def test_an_error_of_the_file_stays_what_it_is(form: formats.Format, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        form.read(Failing(error, b"x" * 100))
    assert caught.value is error
