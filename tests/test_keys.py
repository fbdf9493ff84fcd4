"""Valid keys: every rule by example and by property, and the names in a run folder."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import Experiment
from notata._base import keys
from notata.errors import KeyNameError, NotataError

CHARACTERS = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\\ufffe\uffff")


def _may_stand(segment: str) -> bool:
    return segment not in (".", "..") and not segment.startswith(".notata-") and len(segment.encode()) <= 255


SEGMENTS = st.text(CHARACTERS, min_size=1, max_size=80).filter(_may_stand)
LEGAL = (
    st.lists(SEGMENTS, min_size=1, max_size=6)
    .map("/".join)
    .filter(lambda key: len(key.encode()) <= 1024 and "?versionId=" not in key)
)
ILLEGAL_CHARACTERS = st.one_of(
    st.just("\\"), st.characters(categories=["Cc"]), st.characters(categories=["Cs"]), st.sampled_from("\ufffe\uffff")
)

EXAMPLES = [
    "a",
    "metadata.json",
    "artifacts/debug/dump.txt",
    "artifacts/config.json.json",
    "...",
    "..a/b..",
    ".hidden/.x",
    ".notata",
    "a.notata-b",
    " leading and trailing ",
    "a:b*c?d[e]{f}|g<h>\"i'j",
    "?versionid=3",
    "50%/#1",
    "Größe/温度/😀",
    "e\u0301 and \u00e9",
    "\u2028\u202e\u00a0\ufeff",
    "x" * 255,
    "é" * 127 + "x",
    "/".join(["x" * 255] * 4),
    "~",
    "C:",
]

REFUSED = [
    ("", "'' cannot be a key: it is empty"),
    ("/", "'/' cannot be a key: it is absolute, but keys are relative to the run's folder"),
    ("/etc/passwd", "it is absolute"),
    ("//a", "it is absolute"),
    ("a/", "'a/' cannot be a key: it ends with a slash; pass the name of a file, or a folder without the slash"),
    ("a//", "it ends with a slash"),
    ("a//b", "'a//b' cannot be a key: it has an empty segment ('//')"),
    (".", "'.' cannot be a key: it has the segment '.', which could leave the run's folder"),
    ("..", "it has the segment '..', which could leave the run's folder"),
    ("../../esc", "it has the segment '..'"),
    ("a/../b", "it has the segment '..'"),
    ("a/..", "it has the segment '..'"),
    ("./a", "it has the segment '.'"),
    ("a/./b", "it has the segment '.'"),
    ("a\\b", r"'a\\b' cannot be a key: it contains a backslash; separate folders with '/'"),
    ("..\\a", "it contains a backslash"),
    ("a\0b", r"'a\x00b' cannot be a key: it contains the control character '\x00'"),
    ("a\nb", r"it contains the control character '\n'"),
    ("a\x7f", r"it contains the control character '\x7f'"),
    ("é\x85", r"it contains the control character '\x85'"),
    ("a\udc80", r"it contains the lone surrogate '\udc80', which UTF-8 cannot encode"),
    ("a\ufffe", r"it contains '\ufffe', which is invalid in the XML listing of a bucket"),
    ("a\uffff", r"it contains '\uffff', which is invalid in the XML listing of a bucket"),
    ("a?versionId=3", "S3 interprets '?versionId=' as a version of another file"),
    ("a?versionId=/b", "'?versionId='"),
    (".notata-3f9a", "names that begin with '.notata-' are reserved for unfinished writes"),
    ("a/.notata-/b", "names that begin with '.notata-' are reserved for unfinished writes"),
    ("x" * 256, "a segment has 256 bytes; file systems allow at most 255"),
    ("a/" + "é" * 128, "a segment has 256 bytes; file systems allow at most 255"),
    ("/".join(["x" * 255] * 4) + "/y", "with its prefix it is 1025 bytes long; buckets allow 1024"),
]


def _refusal(key: Any, prefix: str = "") -> KeyNameError:
    with pytest.raises(KeyNameError) as caught:
        keys.check(key, prefix=prefix)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NotataError)
    return caught.value


@pytest.mark.parametrize("key", EXAMPLES)
def test_a_legal_key_is_returned_unchanged(key: str) -> None:
    assert keys.check(key) == key


@pytest.mark.parametrize(("key", "why"), REFUSED)
def test_an_illegal_key_is_refused_and_the_message_says_why(key: str, why: str) -> None:
    error = _refusal(key)
    assert why in str(error)
    assert error.key == key
    assert error.url is None


@given(LEGAL)
def test_any_legal_key_is_returned_unchanged(key: str) -> None:
    assert keys.check(key) == key


@given(LEGAL, ILLEGAL_CHARACTERS, st.data())
def test_one_illegal_character_anywhere_is_refused_and_named(key: str, character: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key)))
    error = _refusal(key[:at] + character + key[at:])
    assert "backslash" in str(error) if character == "\\" else repr(character) in str(error)


@given(LEGAL, st.sampled_from(["", ".", "..", ".notata-", ".notata-x"]), st.data())
def test_one_illegal_segment_anywhere_is_refused(key: str, segment: str, data: st.DataObject) -> None:
    segments = key.split("/")
    segments.insert(data.draw(st.integers(0, len(segments))), segment)
    error = _refusal("/".join(segments))
    reasons = ("it is absolute", "it ends with a slash", "empty segment") if not segment else (repr(segment[:8]),)
    assert any(reason in str(error) for reason in reasons)


@given(st.text(CHARACTERS, min_size=1, max_size=300).filter(lambda text: "?versionId=" not in text))
def test_a_segment_is_measured_in_bytes_of_utf_8(segment: str) -> None:
    key = f"a/{'x' * 256}{segment}"
    assert f"a segment has {256 + len(segment.encode())} bytes" in str(_refusal(key))


@given(st.text(CHARACTERS, max_size=40), st.integers(-2, 2))
def test_a_key_and_its_prefix_hold_1024_bytes_together(prefix: str, over: int) -> None:
    key = ("x" * 200 + "/") * 4 + "y" * (1024 - 804 - len(prefix.encode()) + over)
    size = len(f"{prefix}{key}".encode())
    assert size == 1024 + over
    if over > 0:
        assert f"with its prefix it is {size} bytes long; buckets allow 1024" in str(_refusal(key, prefix))
    else:
        assert keys.check(key, prefix=prefix) == key


@given(st.text(st.sampled_from("./\\ab\0?") | st.characters(), max_size=12))
def test_any_string_is_returned_unchanged_or_refused_with_a_reason(text: str) -> None:
    parts = text.split("/")
    whole = all(part not in ("", ".", "..") and not part.startswith(".notata-") for part in parts)
    try:
        text.encode()
    except UnicodeEncodeError:
        whole = False
    controls = [c for c in text if c < " " or "\x7f" <= c < "\xa0" or c in "\\\ufffe\uffff"]
    if whole and not controls and "?versionId=" not in text:
        assert keys.check(text) == text
    else:
        assert " cannot be a key: " in str(_refusal(text))


def test_a_path_is_a_key_too() -> None:
    assert keys.check(PurePosixPath("a/b.txt")) == "a/b.txt"


@pytest.mark.parametrize("key", [b"a", 5, None, 1.5, ["a"]])
def test_what_is_no_string_is_refused(key: object) -> None:
    assert str(_refusal(key)) == f"invalid key {key!r} of type {type(key).__name__}: pass a string"


def test_the_message_on_a_long_key_stays_short() -> None:
    error = _refusal("x" * 5000)
    assert str(error) == f"'{'x' * 80}'… (5000 characters) cannot be a key: a segment has 5000 bytes; " + (
        "file systems allow at most 255"
    )


# -- artifacts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix", "key"),
    [
        ("notes", ".txt", "artifacts/notes.txt"),
        ("notes.txt", ".txt", "artifacts/notes.txt"),
        ("notes.TXT", ".txt", "artifacts/notes.TXT.txt"),
        ("notes.json", ".txt", "artifacts/notes.json.txt"),
        ("config.json.json", ".json", "artifacts/config.json.json"),
        ("notestxt", ".txt", "artifacts/notestxt.txt"),
        ("weights_2025-07-25T12-00-00", ".pkl", "artifacts/weights_2025-07-25T12-00-00.pkl"),
        ("v1.2", ".pkl", "artifacts/v1.2.pkl"),
        ("debug/deep/dump", ".txt", "artifacts/debug/deep/dump.txt"),
        ("artifacts/x", ".txt", "artifacts/artifacts/x.txt"),
        ("weights.raw", "", "artifacts/weights.raw"),
        ("raw", "", "artifacts/raw"),
        (7, ".json", "artifacts/7.json"),
        (0, "", "artifacts/0"),
        ("x" * 251, ".txt", "artifacts/" + "x" * 251 + ".txt"),
    ],
)
def test_an_artifact_lies_below_artifacts_and_has_its_suffix_once(name: str | int, suffix: str, key: str) -> None:
    assert keys.artifact(name, suffix) == key


@given(LEGAL.filter(lambda key: len(key.encode()) < 1000), st.sampled_from(["", ".txt", ".json", ".pkl"]))
def test_the_suffix_of_an_artifact_is_stable(name: str, suffix: str) -> None:
    try:
        key = keys.artifact(name, suffix)
    except KeyNameError:
        assert len(f"{name}{suffix}".rpartition("/")[2].encode()) > 255
        return
    assert key in (f"artifacts/{name}", f"artifacts/{name}{suffix}")
    assert key.endswith(suffix)
    assert keys.artifact(key.removeprefix("artifacts/"), suffix) == key


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "'' cannot be a key: it is empty"),
        ("/etc/passwd", "'/etc/passwd' cannot be a key: it is absolute"),
        ("../../esc", "'../../esc' cannot be a key: it has the segment '..'"),
        ("..", "it has the segment '..'"),
        ("debug/", "it ends with a slash"),
        (".notata-x", "reserved for unfinished writes"),
        ("x" * 252, "a segment has 256 bytes"),
    ],
)
def test_a_bad_artifact_name_is_refused_as_it_was_given(name: str, why: str) -> None:
    with pytest.raises(KeyNameError) as caught:
        keys.artifact(name, ".txt")
    assert why in str(caught.value)


# -- the run's folder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", ["a", "log_a", "oscillator_dt1e-3", "..", ".", "x" * 251, "Lauf 3 ü", "0"])
def test_a_run_has_one_folder(run_id: str) -> None:
    assert keys.run_folder(run_id) == f"log_{run_id}"


@pytest.mark.parametrize(
    ("run_id", "message"),
    [
        ("", "invalid run id: it is empty; omit run_id to generate one"),
        ("a/b", "'a/b' cannot be a run id: it contains a '/'; put folders into base_dir"),
        ("../b", "'../b' cannot be a run id: it contains a '/'"),
        ("a\\b", r"'log_a\\b' cannot be a run's folder: it contains a backslash"),
        ("a\nb", r"'log_a\nb' cannot be a run's folder: it contains the control character '\n'"),
        ("x" * 252, "cannot be a run's folder: a segment has 256 bytes"),
        ("to be a key\0", r"'log_to be a key\x00' cannot be a run's folder: it contains the control character '\x00'"),
    ],
)
def test_a_run_id_that_is_no_folder_name_is_refused(run_id: str, message: str) -> None:
    with pytest.raises(KeyNameError) as caught:
        keys.run_folder(run_id)
    assert message in str(caught.value)


# -- reserved names, joining -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [".notata-3f9a", "a/.notata-3f9a", "a/.notata-x/b", ".notata-/x", ".notata-"])
def test_our_own_unfinished_writes_are_reserved(key: str) -> None:
    assert keys.is_reserved(key)
    assert "reserved for unfinished writes" in str(_refusal(key))


@given(LEGAL)
def test_no_legal_key_is_reserved(key: str) -> None:
    assert not keys.is_reserved(key)


@pytest.mark.parametrize("key", ["notata-a", "a.notata-b", "a/b.notata-c", ".notata", "a/.notatax-"])
def test_names_like_ours_are_not_reserved(key: str) -> None:
    assert not keys.is_reserved(key)


@pytest.mark.parametrize(
    ("folder", "name", "joined"),
    [("a", "b", "a/b"), ("", "b", "b"), ("a", "", "a"), ("", "", ""), ("a/b", "c/d", "a/b/c/d")],
)
def test_join_takes_empty_parts(folder: str, name: str, joined: str) -> None:
    assert keys.join(folder, name) == joined


@given(LEGAL, LEGAL)
def test_joined_keys_are_the_path_of_both(folder: str, name: str) -> None:
    assert keys.join(folder, name).split("/") == [*folder.split("/"), *name.split("/")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "../x",
            "'../x' is not a valid name for an experiment: it has the segment '..', which could leave the base folder",
        ),
        ("/x", "'/x' is not a valid name for an experiment: it is absolute, but keys are relative to the base folder"),
        ("", "'' is not a valid name for an experiment: it is empty"),
        (3, "invalid name of an experiment 3 of type int: pass a string"),
    ],
)
def test_a_name_that_no_experiment_can_have(name: object, message: str) -> None:
    with pytest.raises(KeyNameError) as caught:
        Experiment(name, "memory://names")  # type: ignore[arg-type]
    assert str(caught.value) == message
