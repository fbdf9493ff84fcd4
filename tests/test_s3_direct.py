"""Plain S3 requests without botocore's serializer: the same requests, replies and errors as with it."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notata.store import open_store
from notata.store.backends.patience import Patience, current
from notata.store.backends.s3_direct import Direct, direct
from notata.store.backends.s3_forms import Form, answering, learn
from notata.store.backends.s3_replies import read_page
from tests.servers import CLOUD_ENVIRONMENT, Server

METHODS = ("get_object", "head_object", "put_object")
PLAIN = {"key": "me", "secret": "hidden-secret", "endpoint_url": "http://127.0.0.1:9"}
AMAZON = {"key": "me", "secret": "hidden-secret", "client_kwargs": {"region_name": "eu-central-1"}}
UNDERSTOOD: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "a port of https": {**PLAIN, "endpoint_url": "https://store.example:443/below"},
    "a path": {**PLAIN, "endpoint_url": "http://store.example:8080/below"},
    "Amazon, the name in the host": AMAZON,
    "Amazon, the name in the path": {**AMAZON, "config_kwargs": {"s3": {"addressing_style": "path"}}},
    "two addresses": {**AMAZON, "config_kwargs": {"s3": {"use_dualstack_endpoint": True}}},
    "a session token": {**PLAIN, "token": "of-a-session"},
    "the requester pays": {**AMAZON, "requester_pays": True},
    "encryption": {**AMAZON, "s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}},
    "own encryption": {
        **AMAZON,
        "s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0" * 32},
    },
    "a class of storage": {**PLAIN, "s3_additional_kwargs": {"StorageClass": "STANDARD_IA", "ACL": "private"}},
    "checksums": {**PLAIN, "config_kwargs": {"request_checksum_calculation": "when_supported"}},
    "no checksums, https": {**AMAZON, "config_kwargs": {"request_checksum_calculation": "when_required"}},
    "bodies without signature": {**PLAIN, "config_kwargs": {"s3": {"payload_signing_enabled": False}}},
    "anonymous": {"anon": True, "endpoint_url": "http://127.0.0.1:9"},
    "anonymous, https": {"anon": True, "client_kwargs": {"region_name": "eu-central-1"}},
    "old retries": {**PLAIN, "config_kwargs": {"retries": {"mode": "legacy"}}},
    "a name of the program": {**PLAIN, "config_kwargs": {"user_agent_appid": "mine"}},
}
NOT_UNDERSTOOD: dict[str, dict[str, Any]] = {
    "the old signature": {**PLAIN, "config_kwargs": {"signature_version": "s3"}},
    "another checksum": {**PLAIN, "s3_additional_kwargs": {"ChecksumAlgorithm": "SHA256"}},
    "a limited rate": {**PLAIN, "config_kwargs": {"retries": {"mode": "adaptive"}}},
    "tags": {**PLAIN, "s3_additional_kwargs": {"Tagging": "a=b"}},
    "own metadata": {**PLAIN, "s3_additional_kwargs": {"Metadata": {"project": "a"}}},
    "a content type for all": {**PLAIN, "s3_additional_kwargs": {"ContentType": "text/x"}},
}
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
BODIES = st.one_of(st.binary(max_size=100), st.sampled_from([bytes(2**20), bytes(2**20 + 1), bytes(5 * 2**19)]))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLOUD_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def file_system(options: dict[str, Any], bucket: str = "a-bucket") -> Any:
    return open_store(f"s3://{bucket}/runs", options).filesystem()


def run(fs: Any, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fsspec.asyn.sync(fs.loop, work, fs, *args, **kwargs)


async def form_of(fs: Any, method: str, bucket: str = "a-bucket") -> Form | None:
    return await learn(fs, await fs.set_session(), method, bucket)


class _Caught(Exception):
    pass


async def prepared(fs: Any, method: str, **arguments: Any) -> Any:
    """Return the request that botocore would send."""
    kept: list[Any] = []

    async def answer(request: Any) -> Any:
        kept.append(request)
        raise _Caught

    client = await fs.set_session()
    with pytest.raises(_Caught):
        call = getattr(client, method)
        keywords = fs._get_s3_method_kwargs(call, Bucket="a-bucket", **arguments)  # noqa: SLF001 - of s3fs
        await answering(client, method, answer, call, **keywords)
    return kept[0]


async def both(fs: Any, form: Form, method: str, **arguments: Any) -> tuple[Any, Any]:
    """Return what botocore and notata would send: URL, headers and body."""
    theirs = await prepared(fs, method, **arguments)
    told = headers(theirs)
    ours = await form.request(arguments, told.get("x-amz-date"))
    wanted = {name: value for name, value in told.items() if not name.startswith("amz-sdk-")}
    wanted.pop("content-length", None)
    return (theirs.url, theirs.method, wanted, await body(theirs)), (
        ours.url,
        ours.method,
        headers(ours),
        await body(ours),
    )


def headers(request: Any) -> dict[str, str]:
    return {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
    }


async def body(request: Any) -> bytes:
    found = request.body or b""
    if hasattr(found, "read"):
        found = found.read()
    return bytes(found if isinstance(found, bytes | bytearray) else await found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_request_is_the_same_as_by_botocore(options: dict[str, Any], method: str) -> None:
    fs = file_system(options)
    form = run(fs, form_of, method)
    assert form is not None
    more: dict[str, dict[str, Any]] = {
        "get_object": {"Range": "bytes=5-17"},
        "put_object": {"Body": b"", "ContentType": "application/json"},
    }
    theirs, ours = run(fs, both, form, method, Key="runs/log_a/metadata.json", **more.get(method, {}))
    assert ours == theirs


def test_only_amazon_gets_bodies_with_a_trailer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """rclone refuses them over https: they have no length."""
    other = {**PLAIN, "endpoint_url": "https://store.example"}
    chosen = {"request_checksum_calculation": "when_supported"}

    def has_trailer(options: dict[str, Any]) -> bool:
        fs = file_system({**options, "skip_instance_cache": True})
        return "x-amz-trailer" in headers(run(fs, prepared, "put_object", Key="a", Body=b"1"))

    assert has_trailer(AMAZON)
    assert not has_trailer(other)
    assert has_trailer({**other, "config_kwargs": chosen})
    config = tmp_path / "config"
    config.write_text("[default]\nrequest_checksum_calculation = when_supported\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert has_trailer(other)
    monkeypatch.delenv("AWS_CONFIG_FILE")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    assert has_trailer(other)


@pytest.mark.parametrize("options", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
def test_what_is_not_understood_is_left_to_botocore(options: dict[str, Any]) -> None:
    assert run(file_system(options), form_of, "put_object") is None


def test_metadata_of_the_user_is_stored(server: Script) -> None:
    more = {"s3_additional_kwargs": {"Metadata": {"project": "a"}}}
    store = open_store("s3://a-bucket/runs", {"key": "me", "secret": "s", "endpoint_url": server.endpoint, **more})
    server.begin(GOOD)
    store.write("a", b"1")
    assert [told.get("x-amz-meta-project") for _, _, told in server.asked] == ["a"]


def test_a_session_of_the_user_is_left_to_botocore() -> None:
    from aiobotocore.session import AioSession

    fs = file_system({**PLAIN, "session": AioSession()})
    assert run(fs, form_of, "get_object") is None


def test_a_library_that_replaces_the_network_is_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore import handlers

    fs = file_system(PLAIN)
    monkeypatch.setattr(handlers, "BUILTIN_HANDLERS", [*handlers.BUILTIN_HANDLERS, ("before-send.s3", print)])
    assert run(fs, form_of, "get_object") is None


@pytest.mark.parametrize("options", [PLAIN, AMAZON], ids=["http", "https"])
@settings(max_examples=30, deadline=None)
@given(key=KEYS, data=BODIES, kind=st.sampled_from(["text/plain", "application/x; a=b"]), match=st.booleans())
def test_any_key_and_body_gives_the_same_request(
    options: dict[str, Any], key: str, data: bytes, kind: str, match: bool
) -> None:
    fs = file_system(options)
    arguments: dict[str, Any] = {"Key": key, "Body": data, "ContentType": kind, "Metadata": {"notata-write": "0f"}}
    arguments |= {"IfMatch": '"5d"'} if match else {"IfNoneMatch": "*"}
    theirs, ours = run(fs, both, run(fs, form_of, "put_object"), "put_object", **arguments)
    assert ours == theirs
    theirs, ours = run(fs, both, run(fs, form_of, "get_object"), "get_object", Key=key, Range="bytes=0-5")
    assert ours == theirs


# -- replies -----------------------------------------------------------------------------------------------

Answer = tuple[int, dict[str, str], bytes] | None
"""Status, headers and body; None to close the connection without a response."""

FOUND = {"ETag": '"5d41402abc4b2a76b9719d911017c592"', "Last-Modified": "Sun, 01 Mar 2026 09:30:00 GMT"}
ERROR = "<Error><Code>{0}</Code><Message>about {0}</Message></Error>"


def refusal(status: int, code: str) -> Answer:
    return status, {"Content-Type": "application/xml"}, ERROR.format(code).encode()


GOOD: Answer = (200, FOUND, b"hello")
PART: Answer = (206, {**FOUND, "Content-Range": "bytes 0-4/123", "x-amz-meta-notata-write": "0f"}, b"hello")
PAGE = (200, {"Content-Type": "text/html"}, b"<html>Log in</html>")


class Script:
    """A server that gives one answer after the other, and repeats the last one.

    Attributes:
        endpoint: Its address.
        answers: What it will answer.
        asked: The requests, each as method, path with query, and headers.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def begin(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), []

    def requests(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path, _ in self.asked]

    def regions(self) -> list[str]:
        return [told["authorization"].split("/")[2] for _, _, told in self.asked]


@pytest.fixture(scope="module")
def server() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if answer is None:
                self.close_connection = True
                return
            status, told, data = answer
            if self.command == "PUT" and told.get("ETag"):
                data = b""
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **told}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else data)

        do_PUT = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        script.endpoint = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield script
        running.shutdown()
        thread.join()


@pytest.fixture
def fs(server: Script, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a file system of the server, which does not pause before it repeats a request."""
    from aiobotocore.endpoint import AioEndpoint

    async def go_on(self: object, seconds: float) -> None: ...

    monkeypatch.setattr(AioEndpoint, "_sleep", go_on)
    return file_system({"key": "me", "secret": "hidden-secret", "endpoint_url": server.endpoint})


ARGUMENTS: dict[str, dict[str, Any]] = {
    "get_object": {"Key": "a b", "Range": "bytes=0-9"},
    "head_object": {"Key": "a b"},
    "put_object": {"Key": "a b", "Body": b"data", "ContentType": "text/plain"},
}
REPLIES: dict[str, list[Answer]] = {
    "good": [GOOD],
    "a part": [PART],
    "missing": [refusal(404, "NoSuchKey")],
    "no bucket": [refusal(404, "NoSuchBucket")],
    "no permission": [refusal(403, "AccessDenied")],
    "a condition that does not hold": [refusal(412, "PreconditionFailed")],
    "beyond the end": [refusal(416, "InvalidRange")],
    "another region": [refusal(301, "PermanentRedirect"), (200, {"x-amz-bucket-region": "eu-west-1"}, b""), GOOD],
    "an expired token": [refusal(400, "ExpiredToken")],
    "busy, then good": [refusal(503, "SlowDown"), GOOD],
    "a connection that breaks, then good": [None, GOOD],
    "an error with the status of success, then good": [(200, {}, ERROR.format("InternalError").encode()), GOOD],
    "a web page": [PAGE],
    "no ETag": [(200, {"Last-Modified": FOUND["Last-Modified"]}, b"hello")],
    "an odd time": [(200, {**FOUND, "Last-Modified": "2026-03-01T09:30:00Z"}, b"hello")],
    "no time": [(200, {"ETag": FOUND["ETag"]}, b"hello")],
    "something else": [(299, FOUND, b"hello")],
}


async def outcome(fs: Any, call: Callable[..., Any], method: str, bucket: str) -> object:
    """Return the fields of a reply that notata uses, or the error."""
    try:
        reply = await call(method, Bucket=bucket, **ARGUMENTS[method])
    except Exception as error:
        return type(error), str(error).replace(bucket, "BUCKET"), type(error.__cause__).__name__
    fields = {
        "get_object": ("ETag", "LastModified", "ContentRange", "Read"),
        "head_object": ("ETag", "LastModified", "ContentLength", "Metadata"),
        "put_object": ("ETag",),
    }
    if "Body" in reply:
        async with reply["Body"] as stream:
            reply["Read"] = await stream.read()
    return {name: str(reply[name]) for name in fields[method] if name in reply}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("answers", REPLIES.values(), ids=REPLIES)
def test_a_reply_is_the_same_as_by_botocore_and_is_asked_for_as_often(
    server: Script, fs: Any, answers: list[Answer], method: str
) -> None:
    results = []
    for call, bucket in ((direct(fs).call, "one-bucket"), (fs._call_s3, "other-bucket")):  # noqa: SLF001 - of s3fs
        server.begin(*answers)
        result = run(fs, outcome, call, method, bucket)
        results.append((result, [(verb, path.replace(bucket, "BUCKET")) for verb, path in server.requests()]))
    assert results[0] == results[1]


def test_the_requests_after_a_redirect_go_to_the_other_region(server: Script, fs: Any) -> None:
    server.begin(refusal(301, "PermanentRedirect"), (200, {"x-amz-bucket-region": "eu-west-1"}, b""), GOOD)
    for _ in range(3):
        run(fs, outcome, direct(fs).call, "get_object", "moved-bucket")
    assert [verb for verb, _ in server.requests()] == ["GET", "HEAD", "GET", "GET", "GET"]
    assert server.regions() == ["us-east-1", "us-east-1", *["eu-west-1"] * 3]


@pytest.mark.parametrize("method", ["get_object", "list_objects_v2"])
def test_the_time_limit_of_a_first_request_begins_when_it_is_sent(server: Script, fs: Any, method: str) -> None:
    """To make the client and to learn how botocore signs takes seconds on a busy machine."""
    server.begin(GOOD if method == "get_object" else (200, {}, b"<ListBucketResult/>"))
    done: list[str] = []

    class Watched(Patience):
        def begin(self) -> None:
            done.append(f"limit begins, {len(server.requests())} requests")

    class Watching(Direct):
        async def _client(self, bucket: str) -> Any:
            found = await super()._client(bucket)
            done.append("client")
            return found

        async def _form(self, client: Any, method: str, bucket: str) -> Form | None:
            found = await super()._form(client, method, bucket)
            done.append("form")
            return found

    async def ask(fs: Any) -> None:
        current.set(Watched(lambda: 1.0, time.monotonic))
        await Watching(fs).call(method, Bucket="a-bucket", **({"Key": "a"} if method == "get_object" else {}))

    run(fs, ask)
    learned = ["form"] if method == "get_object" else []
    assert done == ["client", *learned, "limit begins, 0 requests"]


async def expire(fs: Any) -> None:
    client = await fs.get_s3("a-bucket")
    vars(client._request_signer._credentials)["_expiry_time"] = datetime.now(UTC)  # noqa: SLF001 - of botocore


@pytest.mark.parametrize("minutes", [5, 120])
def test_renewed_credentials_are_used(
    minutes: int, server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session token that expires soon is renewed by botocore before each request; a longer one, once it expires."""
    number, program = tmp_path / "number", tmp_path / "credentials.py"
    number.write_text("0")
    program.write_text(f"""
import datetime, json, pathlib
number = pathlib.Path({str(number)!r})
count = int(number.read_text()) + 1
number.write_text(str(count))
soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes={minutes})
print(json.dumps(dict(Version=1, AccessKeyId=f"key-{{count}}", SecretAccessKey=f"secret-{{count}}",
                      SessionToken=f"token-{{count}}", Expiration=soon.isoformat())))
""")
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    server.begin(GOOD)
    store = open_store("s3://a-bucket/runs", {"endpoint_url": server.endpoint, "skip_instance_cache": True})
    for _ in range(3):
        assert store.read("a") == b"hello"
        run(store.filesystem(), expire)
    keys = [told["authorization"].partition("Credential=")[2].partition("/")[0] for _, _, told in server.asked]
    tokens = [told["x-amz-security-token"] for _, _, told in server.asked]
    assert len(set(keys)) == 3
    assert [key.partition("-")[2] for key in keys] == [token.partition("-")[2] for token in tokens]


def test_a_form_does_not_show_credentials(fs: Any) -> None:
    form = run(fs, form_of, "get_object")
    assert form is not None
    request = run(fs, lambda _: form.request({"Key": "a"}))
    assert "hidden-secret" not in f"{form!r} {form.signer!r} {request!r} {direct(fs)!r} {request.headers}"


def test_a_store_that_made_requests_can_be_pickled(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/pickled", moto_server.options)
    store.write("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"
    store.clear()


def test_replies_are_read_with_aiobotocore_2(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, the body has another name, ``async with`` gives aiohttp's response, and headers are read from that."""
    from aiobotocore import endpoint, response

    class Body(response.AioStreamingBody):  # type: ignore[misc]
        def __init__(self, raw: Any, length: Any) -> None:
            super().__init__(raw, length)
            self.reply = raw

        async def __aenter__(self) -> Any:
            return await self.reply.__aenter__()

    async def convert(reply: Any, operation: Any) -> Any:
        assert dict(reply.raw.raw_headers)
        return await original(reply, operation)

    original = endpoint.convert_to_response_dict
    monkeypatch.setattr(endpoint, "convert_to_response_dict", convert)
    monkeypatch.delattr(response, "AioStreamingBody")
    monkeypatch.setattr(response, "StreamingBody", Body, raising=False)
    store = open_store("s3://a-bucket/runs", {"key": "me", "secret": "s", "endpoint_url": server.endpoint})
    server.begin(GOOD)
    assert store.read("a") == b"hello"
    server.begin((200, {"Content-Type": "application/xml"}, listing(["runs/a"])))
    assert [entry.key for entry in store.list("")] == ["a"]


# -- costs -------------------------------------------------------------------------------------------------


def test_botocore_prepares_one_request_for_each_operation(moto_server: Server) -> None:
    store = open_store(f"{moto_server.url}/costs", moto_server.options | {"client_kwargs": {}})
    serialized: list[str] = []

    def note(model: Any, **_: Any) -> None:
        serialized.append(model.name)

    events = store.filesystem().s3.meta.events
    events.register("before-endpoint-resolution.s3", note)
    events.register("before-parameter-build.s3", note)
    for number in range(20):
        store.write(f"{number} é+%", b"%d" % number)
    for number in range(20):
        assert store.read(f"{number} é+%") == b"%d" % number
        assert store.exists(f"{number} é+%")
    assert sorted(serialized) == sorted(2 * ["GetObject", "HeadObject", "PutObject"])
    store.clear()


def test_a_connection_does_not_look_at_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    original = os.listdir

    def listdir(path: Any = ".") -> list[str]:
        looked.append(path)
        return original(path)

    monkeypatch.setattr(os, "listdir", listdir)
    fs = file_system({**PLAIN, "skip_instance_cache": True})
    assert len(looked) < 20, looked
    assert {"s3", "sts"} <= set(fs.session.get_available_services())


# -- listings ----------------------------------------------------------------------------------------------

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def listing(keys: list[str], *, space: str = NAMESPACE, encoded: bool = True, more: str = "") -> bytes:
    def shown(key: str) -> str:
        return quote(key, safe="/") if encoded else escape(key)

    files = "".join(
        f"<Contents><Key>{shown(key)}</Key><LastModified>2026-03-01T09:30:0{number % 10}.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number, key in enumerate(keys)
    )
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    opened = f'<ListBucketResult xmlns="{space}">' if space else "<ListBucketResult>"
    return f"<?xml version='1.0' encoding='UTF-8'?>{opened}{kind}{files}{more}</ListBucketResult>".encode()


async def pages(fs: Any, call: Callable[..., Any]) -> object:
    """Return the fields of a page that notata uses, or the error."""
    try:
        page = await call("list_objects_v2", Bucket="a-bucket", Prefix="a/b", Delimiter="/")
    except Exception as error:
        return type(error), str(error)
    files = [
        {name: each.get(name) for name in ("Key", "Size", "LastModified", "ETag")} for each in page.get("Contents", ())
    ]
    folders = [each["Prefix"] for each in page.get("CommonPrefixes", ())]
    return files, folders, page.get("IsTruncated", False), page.get("NextContinuationToken")


PAGES: dict[str, bytes] = {
    "empty": listing([]),
    "some": listing(["a", "a b+%/é中\N{GRINNING FACE}", "x&<y>"]),
    "not encoded": listing(["a", "a%20b+c", "x&<y>"], encoded=False),
    "no namespace": listing(["a"], space=""),
    "another namespace": listing(["a"], space="http://doc.s3.amazonaws.com/2006-03-01"),
    "more to come": listing(
        ["a"], more="<IsTruncated>true</IsTruncated><NextContinuationToken>a+/=%20</NextContinuationToken>"
    ),
    "folders": listing(
        [], more="<CommonPrefixes><Prefix>a%2Bb/</Prefix></CommonPrefixes><IsTruncated>false</IsTruncated>"
    ),
    "an owner": listing(["a"]).replace(b"<Size>", b"<Owner><ID>1</ID></Owner><Size>"),
    "an unknown element": listing(["a"], more="<Odd><Key>1</Key></Odd>"),
    "an odd time": listing(["a"]).replace(b"2026-03-01T09:30:00.000Z", b"Sun, 01 Mar 2026 09:30:00 GMT"),
    "an error": ERROR.format("InternalError").encode(),
    "no XML": b"<ListBucketResult><Contents>",
    "nothing": b"",
    "a size that is none": listing(["a"]).replace(b"<Size>0", b"<Size>many"),
    "elements of another namespace": listing(["a"], more='<Contents xmlns="other"><Key>b</Key></Contents>'),
}


@pytest.mark.parametrize("body", PAGES.values(), ids=PAGES)
def test_a_page_of_a_listing_is_the_same_as_by_botocore(server: Script, fs: Any, body: bytes) -> None:
    results = []
    for call in (direct(fs).call, fs._call_s3):  # noqa: SLF001 - of s3fs
        server.begin((200, {"Content-Type": "application/xml"}, body))
        results.append((run(fs, pages, call), server.requests()))
    assert results[0] == results[1]


@settings(max_examples=50, deadline=None)
@given(keys=st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_the_names_of_a_listing_are_decoded(keys: list[str]) -> None:
    page = read_page(listing(keys))
    assert page is not None
    assert [found["Key"] for found in page["Contents"]] == keys
    assert [found["Size"] for found in page["Contents"]] == list(range(len(keys)))


@pytest.mark.parametrize("lost", [b"Key", b"Size", b"LastModified", b"ETag"])
def test_a_page_with_an_incomplete_file_is_left_to_botocore(lost: bytes) -> None:
    assert (
        read_page(listing(["a"]).replace(b"<" + lost + b">", b"<Other>").replace(b"</" + lost + b">", b"</Other>"))
        is None
    )
