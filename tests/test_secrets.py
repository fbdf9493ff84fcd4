"""No secret leaves the process: by value, by form, and through any file, log line, repr or error."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import fsspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from notata import Logbook, MirrorStorage
from notata._base import secrets
from notata.cli import main
from notata.errors import NotataError, StorageError
from notata.store import open_store
from notata.store.backends.memory import MemoryBackend
from tests.servers import Server

X = "zQ9SECRETxyz1"

COMMANDS = [
    *(["--password", X], ["--password=" + X], ["-p", X], ["-p" + X], ["--pass", X], ["--token", X], ["--token=" + X]),
    *(["--api-key", X], ["--apikey=" + X], ["--key", X], ["--key=" + X], ["key=" + X], ["--secret-access-key", X]),
    *(["--aws_secret_access_key=" + X], ["AWS_SECRET_ACCESS_KEY=" + X], ["--access-key", X], ["--account-key", X]),
    *(["--account_key=" + X], ["AccountKey=" + X], ["Endpoint=https;AccountKey=" + X + ";Suffix=x"]),
    *(["SharedAccessKey=" + X], ["--sas-token", X], ["--client-secret=" + X], ["--passphrase", X], ["--db-pass=" + X]),
    *(["--pwd", X], ["--bearer", X], ["--jwt=" + X], ["--cookie=" + X], ["-H", "Authorization: Bearer " + X]),
    *(["--header=Authorization: Bearer " + X], ["--header", "X-Api-Key: " + X], ["-u", "user:" + X]),
    *(["--user=me:" + X], ["--auth", X], [f"postgres://u:{X}@h/db"], [f"postgres://u:{X}/x@h/db"]),
    *([f"https://h/f?sig={X}&se=1"], ["https://h/f?X-Amz-Signature=" + X], ["https://h/f?X-Amz-Security-Token=" + X]),
    *(["https://h/f?X-Goog-Signature=" + X], ["https://h/f?access_token=" + X], ["https://h/f?token=" + X]),
    *(['{"secret": "' + X + '"}'], ["{'secret': '" + X + "'}"], ["--opt", "secret=" + X]),
    *(["--storage-option", "token=" + X], ["--wandb-key=" + X], ["--openai-key", X], ["--encryption-key=" + X]),
    *(["--license-key", X], ["--ssh-key", X], ["--signing-key=" + X], ["--credential", X], ["--creds", X], ["--pw", X]),
    *(["--pin", X], ["password:" + X], ["--db.password", X], ["hydra.db.password=" + X]),
    *(["+trainer.logger.api_key=" + X], ["--otp", X], ["--webhook", "https://hooks.slack.com/services/T0/B0/" + X]),
    *(["ghp_" + X], ["--hf-token", X], ["--hf_token=" + X], ["--HF_TOKEN=" + X], ["hfToken=" + X]),
    *(["--mlflow-tracking-token", X], ["--passwd-file", X], ["--password", "--" + X], ["--secret", "many words " + X]),
    *(["--secret=many words " + X], ['--password="a b ' + X + '"'], ["--conn", f"Server=x;Pwd={X};"]),
    *(["--conn", f"Server=x;Password=a b{X};"], ["--key-id", X], ["--private-token", X], ["--x-token=" + X]),
    *(["--refresh_token=" + X], ["--password2", X], ["PGPASSWORD=" + X], ["sig%3D" + X], ["--password", "hunter2"]),
]

INNOCENT_COMMANDS = [
    *(["--tokens", "512"], ["--tokenizer", "bpe"], ["--max-tokens=512"], ["--author", "Ada"], ["--pass-through", "x"]),
    *(["secret", "x"], ["--key=value"], ["s3://bucket/a@b"], ["a@b.example"], ["https://host/a?b=c"], ["n_tokens=5"]),
    *(["--key-size", "5"], ["monkey=3"], ["--key", "layer1_weights"], ["--pad-token", "<pad>"], ["-p", "8080"]),
    *(["--user", "1000:1000"], ["-p8080:80"], ["-pthread"], ["--ssh-key", "~/.ssh/id_ed25519"], ["--keys", "a,b"]),
    *(["--key=flow/velocity"], ["--signal", "TERM"], ["--passes", "3"], ["--forward-pass", "2"], ["--sigma=0.3"]),
    *(["--token-limit", "2000"], ["--keyword", "x"], ["--compass", "n"], ["--key", "2026-11-22"], ["--lr", "1e-3"]),
    *(["http://host:8080/a@b"], ["--tokenizer=gpt2-medium"], ["--pattern", "*.nc"], ["--verbose", "--", "x y", ""]),
    *(["--random-state", "42"], ["--checkpoint", "runs/2026-11-22/step_1000.pt"], ["--eos_token=</s>"]),
]

TEXTS = [
    *(f"password={X}", f"'password': '{X}'", f'{{"token": "{X}"}}', f"Authorization: Bearer {X}", f"api_key: {X}"),
    *(f"https://u:{X}@h/x failed", f"GET https://h/x?X-Amz-Signature={X}&n=3", f"Set token={X}, then go"),
    *(f"<Error><StringToSign>{X}</StringToSign></Error>", f"<SignatureProvided>{X}</SignatureProvided>"),
    *(f"<AWSAccessKeyId>{X}</AWSAccessKeyId>", f"Command '['curl', '-u', 'ada:{X}']' failed", f"run --api-key {X}"),
    *(f"['fit.py', '--token', '{X}']", f"DefaultEndpointsProtocol=https;AccountKey={X};", f"Cookie: session={X}"),
    *(f"-----BEGIN RSA PRIVATE KEY-----\n{X}\n-----END RSA PRIVATE KEY-----", f"glpat-{X}", f"xoxb-{X}", f"hf_{X}"),
    *(f"eyJhbGciOiJIUzI1NiJ9.{X}.{X}", f"Client(secret='{X}', n=3)", f"b'password={X}'", f"Pwd=a b {X};Server=x;"),
    *(f"https://h/?url=https%3A%2F%2Fo%3Fsig%3D{X}", f'"auth\\": \\"{X}\\"', f"proxy-authorization: Basic {X}"),
    *(f"https://hooks.slack.com/services/T0/B0/{X}", f"https://api.telegram.org/bot123:{X}/send", f"AKIA{X.upper()}AB"),
]  # fmt: skip

INNOCENT_TEXTS = [
    *("the token was read", "token: the", "n_tokens=5", "loss: 0.5, keys: 3", "password: required", "token=None"),
    *("secret: not found; see below", "pass=2 of 3", "auth=basic", "password=self.password", "token=get_token()"),
    *("hf_tokenizer loaded", "sk-learn 1.3", "key=velocity", "the key: pressure", "monkey=3", "Asia/Tokyo"),
    *("bearer certificates are", "2 keys = 3", "key 'x': 5", "url=https://h/p?page=2", "Author: Ada", "eos_token=2"),
    *("step=3 residual=1e-5 tokens=100", "KeyError: 'velocity'", "sigma: 0.5", "git@github.com:org/x.git"),
    *("no credentials: see below", "{'key': 'velocity', 'n': 3}", "Traceback: key=lambda x: x[1]", "passes: 3"),
    *("sorted(x, key=len)", "Saved json metrics in artifacts/metrics.json", "s3://bucket/outputs/log_a", "sig=0.25"),
    *("[2026-11-28T12:00:00] INFO epoch 3: token accuracy=0.93", "2026-11-22T19-50-03.123Z-4f2a9c"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_secret_of_a_command_line_is_hidden(arguments: list[str]) -> None:
    shown = secrets.arguments(["s.py", *arguments, "last"])
    assert X not in json.dumps(shown)
    assert "hunter2" not in json.dumps(shown)
    assert (shown[0], shown[-1], len(shown)) == ("s.py", "last", len(arguments) + 2)


@pytest.mark.parametrize("arguments", INNOCENT_COMMANDS, ids=" ".join)
def test_other_arguments_stay(arguments: list[str]) -> None:
    assert secrets.arguments(["s.py", *arguments]) == ["s.py", *arguments]


@pytest.mark.parametrize("text", TEXTS)
def test_only_the_secret_of_a_text_is_hidden(text: str) -> None:
    shown = secrets.redacted(f"before {text} after")
    assert X not in shown
    assert X.upper() not in shown
    assert shown.startswith("before ")


@pytest.mark.parametrize("text", INNOCENT_TEXTS)
def test_other_texts_stay(text: str) -> None:
    assert secrets.redacted(text) == text


@given(st.text(max_size=300))
def test_any_text_is_looked_at_twice_with_one_result(text: str) -> None:
    once = secrets.redacted(text)
    assert secrets.redacted(once) == once


@pytest.mark.parametrize(
    "piece",
    ["a=", "key ", "://", "token:", "-", "'", "eyJ", "-eyJ", "pw=", "key=", "password=x ", "x" * 10, "a.b-", "<a>"],
)
def test_the_time_for_a_long_text_grows_with_its_length(piece: str) -> None:
    """With a quadratic pattern this takes minutes and exceeds the time limit of the test run."""
    secrets.redacted(piece * (1_000_000 // len(piece)) + "password=")


# -- by value ------------------------------------------------------------------------------------------------

ODD = "it's \"a/b+c=&<d>\\é%20"
MULTI = "first-line-of-it\nsecond line of it"


def written(secret: str) -> Iterator[str]:
    yield from (secret, repr(secret), json.dumps(secret), quote(secret, safe=""), repr({"x": secret}), f"<{secret}>")
    yield json.dumps({"text": json.dumps(secret)})


def is_told(secret: str, text: str) -> bool:
    forms = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
    return any(form in text for form in forms)


@pytest.mark.parametrize("secret", [ODD, MULTI, "hunter2", "päss wörd", "/8xKq2R/Zb3Lm9+dW4="])
@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "MY_TOKEN", "DB_PASSWORD", "PGPASSWORD", "OPENAI_API_KEY"])
def test_a_secret_variable_is_hidden_however_it_is_written(name: str, secret: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(name, secret)
    secrets.refresh()
    for text in written(secret):
        assert not is_told(secret, secrets.redacted(f"see {text} there")), text
    monkeypatch.delenv(name)
    secrets.refresh()
    assert secrets.redacted(f"see {ODD!s} there") == f"see {ODD!s} there"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("DATABASE_URL", "postgres://postgres:pw99-of-db@host/db", "pw99-of-db"),
        ("HTTPS_PROXY", "http://ada:pw99-of-proxy@host:3128", "pw99-of-proxy"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;AccountKey=Zm9v99YmFy==;Suffix=x", "Zm9v99YmFy=="),
    ],
)
def test_the_secret_part_of_a_variable_is_hidden(name: str, value: str, secret: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(name, value)
    secrets.refresh()
    assert secrets.redacted(f"postgres said: {secret}!") == "postgres said: ***!"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PWD", "/home/ada/run"), ("TOKENIZERS_PARALLELISM", "false"), ("MY_TOKEN", "true"), ("API_KEY", "12"),
     ("AUTH", "none"), ("SECRET_FILE", "/run/secrets/x"), ("NUM_TOKENS", "123456"), ("GPG_KEY", "velocity")],
)  # fmt: skip
def test_a_variable_that_is_no_secret_leaves_texts_alone(name: str, value: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(name, value)
    secrets.refresh()
    assert secrets.redacted(f"see {value} there") == f"see {value} there"


def test_options_of_any_connection_are_hidden_as_long_as_it_lives() -> None:
    options = {"key": "AKIA-not", "secret": ODD, "client_kwargs": {"aws_session_token": "tok3n-of-session-9"}}
    store = open_store("s3://bucket/x", options)
    for text in (ODD, "tok3n-of-session-9"):
        assert secrets.redacted(f"a {text} b") == "a *** b"
    copy = pickle.loads(pickle.dumps(store))
    del store
    secrets.refresh()
    assert secrets.redacted(f"a {ODD} b") == "a *** b", "an unpickled worker must know them too"
    del copy
    secrets.refresh()
    assert secrets.redacted("a tok3n-of-session-9 b") == "a tok3n-of-session-9 b"


def test_the_names_in_the_query_of_an_address_are_no_secrets() -> None:
    store = open_store("https://host/x?X-Amz-Signature=zQ9SECRETxyz1&Expires=36000000")
    secrets.refresh()
    assert secrets.redacted("see zQ9SECRETxyz1 there") == "see *** there"
    assert (
        secrets.redacted("an X-Amz-Signature and SignatureDoesNotMatch")
        == "an X-Amz-Signature and SignatureDoesNotMatch"
    )
    assert store.is_local is False


def test_a_short_secret_of_one_storage_is_hidden_in_texts_about_it_alone() -> None:
    store = open_store("s3://bucket/x", {"key": "k", "secret": "five5"})
    secrets.refresh()
    assert secrets.redacted("step five5") == "step five5"
    assert store.redacted("step five5") == "step ***"


def test_words_that_contain_a_short_secret_stay() -> None:
    known = secrets.Values(["work"])
    assert known.hide("work, network, works") == "***, network, works"
    assert secrets.Values(["longer-than-twelve"]).hide("xlonger-than-twelvex") == "x***x"
    assert secrets.Values([]).hide("x") == "x"
    assert secrets.Values(["bucket"]).hide("s3://bucket/a bucket", "s3://bucket") == "s3://bucket/a bucket"


def test_credentials_that_a_library_resolved_are_hidden(
    moto_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "resolved-from-a-file-8821"
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id=a\naws_secret_access_key={secret}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    # With an option that no other test has: fsspec keeps the client, and with it these credentials.
    options = {"endpoint_url": moto_server.endpoint, "config_kwargs": {"user_agent_extra": "resolved"}}
    store = open_store(f"{moto_server.url}/resolved", options)
    store.write("x", b"x")
    with Logbook("a", tmp_path) as log:
        log.info("signed with %s", secret)
    assert "signed with ***" in (tmp_path / "log_a" / "log.txt").read_text()
    store.delete(["x"])


# -- roads ---------------------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[str], str]] = {
    "assignment": "connect(password={})".format,
    "quoted": '{{"api_key": "{}"}}'.format,
    "bearer": "Authorization: Bearer {}".format,
    "url": "https://ada:{}@host/x".format,
    "signed": "GET /x?X-Amz-Signature={}&a=1".format,
    "token": "ghp_{}".format,
    "xml": "<Error><SignatureProvided>{}</SignatureProvided></Error>".format,
    "option": "run --client-secret={}".format,
    "connection": "Server=x;AccountKey={};".format,
}

# Random like real secrets: a mix of letters, digits and capitals that no word or number has.
random_secrets = st.from_regex(r"[a-z][0-9][A-Z][a-z][0-9][A-Z][A-Za-z0-9]{8,30}", fullmatch=True)
any_secrets = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4, max_size=30).map("Zq9{}§7x".format)


class Refusing(MemoryBackend):
    """A storage that repeats a text in every refusal to write below ``artifacts/refused``."""

    said = ""

    def put(self, key: str, data: bytes, match: str | None) -> str:
        if key.startswith("artifacts/refused"):
            try:
                raise ValueError(self.said)
            except ValueError as cause:
                raise OSError(5, self.said) from cause
        return super().put(key, data, match)


@contextmanager
def filled(url: str, text: str) -> Iterator[list[str]]:
    """Record a run that receives a text in every possible way; return it and everything shown outside its files."""
    shown: list[str] = []
    store = Refusing(url.partition("://")[2])
    store.said = text
    try:
        with Logbook("a", store, failure_variables=True) as log:
            log.info("logged %s", text)
            log.warning("an object %r", {"x": text})
            try:
                log.json("refused", 1)
            except NotataError as error:
                shown += [str(error), repr(error), "".join(traceback.format_exception(error))]
            with log.catch():
                raise ValueError(text)
            with suppress(ValueError), log.worker(0) as worker:
                worker.info(text)
                raise ValueError(text)
            shown.append(repr(log))
            inner = text
            try:
                raise KeyError(inner)
            except KeyError as error:
                failure = RuntimeError(f"while: {text}")
                failure.add_note(text)
                raise failure from error
    except RuntimeError:
        pass
    with Logbook("b", store) as log:
        log.mark_failed(text)
    yield shown


def all_files(url: str) -> dict[str, str]:
    files = fsspec.filesystem("memory")
    return {name: files.cat(name).decode() for name in files.find(url.partition("://")[2])}


@settings(max_examples=15, deadline=None)
@given(secret=any_secrets, road=st.sampled_from(["options", "environment"]))
def test_a_known_secret_reaches_no_file_log_line_repr_or_error(secret: str, road: str) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    holder = open_store("s3://bucket/x", {"key": "k", "secret": secret}) if road == "options" else None
    environment = {"SOME_API_TOKEN": secret} if road == "environment" else {}
    with mock.patch.dict(os.environ, environment), mock.patch.object(sys, "argv", ["s.py", "--x", secret]):
        secrets.refresh()
        for text in written(secret):
            with filled(f"{url}/{uuid.uuid4().hex}", text) as shown:
                pass
            assert [one for one in shown if is_told(secret, one)] == []
    told = [name for name, content in all_files(url).items() if is_told(secret, content)]
    assert told == []
    assert len(all_files(url)) > 10
    del holder


@settings(max_examples=15, deadline=None)
@given(secret=random_secrets, form=st.sampled_from(sorted(FORMS)))
def test_a_secret_by_its_form_reaches_no_file_log_line_repr_or_error(secret: str, form: str) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    text = FORMS[form](secret)
    with mock.patch.object(sys, "argv", ["s.py", text]), filled(url, text) as shown:
        assert [one for one in shown if secret in one] == []
    assert [name for name, content in all_files(url).items() if secret in content] == []
    assert len(all_files(url)) >= 10


def test_a_variable_with_a_secret_name_is_not_reported() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    with suppress(RuntimeError), Logbook("a", url, failure_variables=True):
        password = "plain words"
        n_tokens = 512
        raise RuntimeError(len(password) + n_tokens)
    told = json.loads(all_files(url)[f"/{url.partition('://')[2]}/log_a/artifacts/debug/failure.json"])
    variables = told["frames"][-1]["variables"]
    assert (variables["password"], variables["n_tokens"]) == ("***", "512")


def test_mirror_options_reach_no_file_of_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, endpoint = "mirror-secret-4711", "http://127.0.0.1:1/only-mirror"
    options = {"key": "k", "secret": secret, "endpoint_url": endpoint}
    with mock.patch.object(sys, "argv", ["s.py", secret]):
        with suppress(ValueError), Logbook(
            "a", tmp_path, mirror=MirrorStorage("s3://bucket/x", options, exit_timeout=0)
        ) as log:  # fmt: skip
            log.info("copying with %s to %s", secret, endpoint)
            raise ValueError(f"refused {secret} at {endpoint}")
        assert log.mirror is not None
        with suppress(StorageError):
            log.mirror.flush(timeout=0)
    whole = "".join(path.read_text() for path in (tmp_path / "log_a").rglob("*") if path.is_file())
    assert secret not in whole
    assert endpoint not in whole
    assert secret not in repr(log) + repr(log.mirror) + repr(log.mirror.error)


def test_the_command_line_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "tok3n-in-variable")
    for arguments in (
        ["show", f"s3://ada:{X}@bucket/x", "-osecret=secr3t-option", "-oendpoint_url=http://127.0.0.1:1"],
        ["ls", str(tmp_path / f"password={X}")],
        ["cat", str(tmp_path / "tok3n-in-variable")],
    ):
        for debug in ([], ["--debug"]):
            done = CliRunner().invoke(main, [*arguments, *debug])
            assert done.exit_code != 0
            assert not re.search(f"{X}|secr3t-option|tok3n-in-variable", done.output), done.output
