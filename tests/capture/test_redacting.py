"""Secrets in output are those that a log line would not show, found in blocks and without slowing."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata._base import secrets
from notata.capture.redacting import Redactor

WORDS = [
    "step", "sigma", "key", "p", "password", "token", "k_eff", "weight", "spin", "path", "-u", "ada:hunter2",
    "--api-key",
    "https://ada:hunter2@host/x", "AKIAIOSFODNN7EXAMPLE", "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "ya29.a0AfH6SNdQ81kqp3",
    "hf_AbCdEfGhIjKlMnOpQrStUvWx12", "Authorization: Bearer abc123def456", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x7Qy",
    "?sig%3Dq8dJ2kXw91LmZ", "%3D", "1.5e-3", "12345678", "q8dJ2kXw91LmZ", "true", "'a b'", "\"",
    ";", "=", " = ", ": ", "&",
    "<Key>q8dJ2kXw91LmZ</Key>", "pass", "auth_header", "S3KEY", "key64", "b64", "tokens", "secret_3",
]  # fmt: skip
LINES = st.lists(
    st.lists(st.sampled_from(WORDS) | st.integers(0, 10**9).map(str), max_size=6).map(" ".join), max_size=6
)


def by_lines(text: str) -> str:
    return "\n".join(secrets.redacted(line) for line in text.split("\n"))


@given(st.lists(LINES, min_size=1, max_size=4))
def test_blocks_are_redacted_as_lines_are(blocks: list[list[str]]) -> None:
    redactor = Redactor(secrets.redacted)
    for lines in blocks:  # what the redactor remembers of a block must not change the next one
        text = "".join(f"{line}\n" for line in lines)
        assert redactor.lines(text.encode()).decode() == by_lines(text)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_text_are_kept(data: bytes) -> None:
    block = data + b" password=hunter2\n"
    expected = by_lines(block.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    assert Redactor(secrets.redacted).lines(block) == expected


def test_a_known_value_is_found_when_it_becomes_known(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor(secrets.redacted)
    assert redactor.lines(b"using 83-92.17 and zxcvq\n") == b"using 83-92.17 and zxcvq\n"
    monkeypatch.setenv("DB_PASSWORD", "zxcvq%83-92.17")
    monkeypatch.setenv("DB_PIN_PASSWORD", "839217-4471-01")
    secrets.refresh()
    assert redactor.lines(b"using zxcvq%83-92.17 and 839217-4471-01\n") == b"using *** and ***\n"
    monkeypatch.undo()
    secrets.refresh()


def test_a_private_key_is_redacted_up_to_its_end() -> None:
    body = base64.b64encode(os.urandom(600)).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    text = "\n".join(
        ["-----BEGIN RSA PRIVATE KEY-----", *lines, "-----END RSA PRIVATE KEY-----", "step 1", ""]
    ).encode()
    redactor = Redactor(secrets.redacted)
    half = text.index(b"\n", 200) + 1
    shown = redactor.lines(text[:half]) + redactor.lines(text[half:])
    assert shown.count(b"\n") == 3
    assert shown.endswith(b"-----END RSA PRIVATE KEY-----\nstep 1\n")
    assert not any(line.encode() in shown for line in lines)


def test_a_secret_that_two_pieces_of_a_line_share_is_found() -> None:
    secret = "password=q8dJ2kXw91LmZ3nB"
    line = "x=1, " * 2000 + secret + ", y=2" * 2000
    for cut in range(line.index(secret) - 3, line.index(secret) + len(secret) + 3):
        redactor = Redactor(secrets.redacted)
        shown = redactor.piece(line[:cut].encode()) + redactor.lines(line[cut:].encode() + b"\n")
        assert shown.decode() == line.replace(secret, "password=***") + "\n"


@pytest.mark.parametrize("before", ["x" * 9000, "x=1, " * 2000], ids=["one word", "words"])
@pytest.mark.parametrize(
    "secret",
    ["password=q8dJ2kXw91LmZ3nB", "Zq8!vT4mLw7#Rr2k", "correct horse 7 staple", "Authorization: Bearer q8dJ2kXw91"],
)
def test_a_secret_is_found_wherever_a_long_line_is_cut(
    before: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "Zq8!vT4mLw7#Rr2k")
    monkeypatch.setenv("PASSPHRASE", "correct horse 7 staple")
    secrets.refresh()
    line = f"{before}{secret}\n"
    for cut in range(len(before) + 1, len(line) - 1):
        redactor = Redactor(secrets.redacted)
        shown = redactor.piece(line[:cut].encode()) + redactor.lines(line[cut:].encode())
        assert shown.decode() == secrets.redacted(line)
    monkeypatch.undo()
    secrets.refresh()


def test_a_secret_longer_than_a_piece_is_removed() -> None:
    redactor = Redactor(secrets.redacted)
    value = b"q8dJ2kXw" * 2000
    shown = redactor.piece(b"password=" + value) + redactor.piece(value) + redactor.lines(value + b" end\n")
    assert shown == b"password=*** end\n"
