"""Refusals of a server and the advice in the error: certificates, quotas, credentials, unknown requests."""

from __future__ import annotations

import datetime as dt
import errno
import json
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from notata import errors
from notata.search import diagnose
from notata.search.finding import file_at
from notata.search.target import Target
from notata.store import Store, open_store
from notata.store.backends.client_errors import failure_of_client
from notata.store.backends.http_errors import failure_of_reply, plain_code
from notata.store.builtin_errors import failure_of_builtin
from notata.testing import FaultyBackend
from tests.counting import counted
from tests.servers import Server

KEYS = {"key": "AKIATESTTESTTEST", "secret": "not-a-secret-of-anybody"}


def certificate(folder: Path, name: str = "localhost", *, days: int = 1) -> Path:
    """Create a self-signed certificate and its key in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=10))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}{days}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def answering(
    status: int = 200, body: bytes = b"", chain: Path | None = None, *, kind: str | None = None
) -> Iterator[str]:
    """A server with the same answer for every request, with TLS if it has a certificate; yields its address."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if kind is not None:
                self.send_header("Content-Type", kind)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignore clients that refuse the certificate and disconnect."""

    with Server(("127.0.0.1", 0), Answering) as server:
        if chain is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'http' if chain is None else 'https'}://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def raised(scheme: str, endpoint: str) -> errors.StorageError:
    """Return the error of reading a file there."""
    with pytest.raises(errors.StorageError) as caught:
        if scheme == "http":
            file_at(Target(f"{endpoint}/mesh.msh")).store.read("mesh.msh")
        else:
            options = {"endpoint_url": endpoint}
            options |= KEYS if scheme == "s3" else {"token": "anon", "project": "p"}
            open_store(f"{scheme}://bucket/x", options, timeout=60.0).read("a")
    told = str(caught.value)
    assert KEYS["secret"] not in told
    assert "a bug in notata" not in told
    return caught.value


@pytest.mark.parametrize("scheme", ["s3", "gs", "http"])
def test_a_certificate_that_signs_itself(tmp_path: Path, scheme: str) -> None:
    with answering(chain=certificate(tmp_path)) as endpoint:
        error = raised(scheme, endpoint)
    assert isinstance(error, errors.UnreachableError)
    assert "self-signed" in str(error)
    assert "AWS_CA_BUNDLE" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert "no server answered" not in str(error)


def test_it_is_asked_once(tmp_path: Path) -> None:
    """botocore and gcsfs would repeat the request for seconds."""
    with answering(chain=certificate(tmp_path)) as endpoint, counted() as sent:
        raised("s3", endpoint)
        raised("gs", endpoint)
    assert len(sent) == 2, sent


def test_doctor_says_what_to_do_about_it(tmp_path: Path) -> None:
    with answering(chain=certificate(tmp_path)) as endpoint:
        checks = diagnose("s3://bucket/x", storage_options={"endpoint_url": endpoint, **KEYS}, read_only=True)
    [reach] = [check for check in checks if check.name == "reach"]
    assert reach.state == "no"
    assert "self-signed" in reach.told
    assert "AWS_CA_BUNDLE" in reach.advice


def test_a_certificate_that_has_expired_or_is_for_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expired, other = certificate(tmp_path, days=-1), certificate(tmp_path, "elsewhere.example")
    for chain, told in ((expired, "expired"), (other, "another host name")):
        monkeypatch.setenv("AWS_CA_BUNDLE", str(chain))
        with answering(chain=chain) as endpoint:
            assert told in str(raised("s3", endpoint))


def test_a_server_that_does_not_encrypt() -> None:
    with answering() as endpoint:
        assert "check that the server supports https" in str(raised("s3", endpoint.replace("http:", "https:")))


def body_of(scheme: str, status: int, code: str) -> bytes:
    if scheme == "s3":
        return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return json.dumps({"error": {"code": status, "message": f"The {code} for bucket storage: quota exceeded"}}).encode()


@pytest.mark.parametrize(
    ("scheme", "status", "code", "kind", "told"),
    [
        ("s3", 403, "QuotaExceeded", errors.FullError, "quota exceeded (QuotaExceeded); free some space"),
        ("s3", 400, "XMinioAdminBucketQuotaExceeded", errors.FullError, "quota exceeded"),
        ("s3", 507, "XMinioStorageFull", errors.FullError, "no space left on the storage"),
        ("s3", 507, "", errors.FullError, "quota exceeded (507)"),
        ("gs", 403, "quota", errors.FullError, "quota exceeded (quotaExceeded)"),
        ("http", 507, "", errors.FullError, "quota exceeded (507)"),
        ("s3", 501, "NotImplemented", errors.StorageError, "does not support this kind of request (NotImplemented)"),
        ("gs", 501, "", errors.StorageError, "does not support this kind of request (501)"),
        ("http", 501, "", errors.StorageError, "does not support this kind of request (501)"),
        ("s3", 403, "InvalidAccessKeyId", errors.AccessError, "does not know this access key (InvalidAccessKeyId)"),
        ("s3", 403, "SignatureDoesNotMatch", errors.AccessError, "the secret does not match the access key"),
        ("s3", 400, "ExpiredToken", errors.AccessError, "the session token has expired"),
        ("s3", 403, "RequestTimeTooSkewed", errors.AccessError, "the clock of this machine is wrong"),
        ("s3", 403, "AccessDenied", errors.AccessError, "do not allow this"),
        ("s3", 401, "", errors.AccessError, "refused these credentials (401)"),
        ("gs", 401, "", errors.AccessError, "the store refused these credentials"),
        ("http", 401, "", errors.AccessError, "asks for a user name and a password"),
        ("http", 407, "", errors.AccessError, "a proxy requires credentials"),
        ("s3", 404, "NoSuchBucket", errors.ContainerMissingError, "there is no bucket 'bucket'; create it"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    scheme: str, status: int, code: str, kind: type[errors.StorageError], told: str
) -> None:
    with answering(status, body_of(scheme, status, code)) as endpoint:
        error = raised(scheme, endpoint)
    assert type(error) is kind
    assert told in str(error)
    assert "; " in str(error)  # followed by advice
    assert "try again later" not in str(error)


def test_what_a_server_calls_its_refusal_is_shown_if_it_is_a_word() -> None:
    odd = "Quota\x1b[31m<b>" + "x" * 1000
    assert plain_code(odd) == ""
    known = failure_of_reply(507, odd)
    assert known is not None
    assert "(507)" in known[1]
    with answering(403, body_of("s3", 403, "AKIA?token=secret")) as endpoint:
        assert "token" not in str(raised("s3", endpoint))


@pytest.mark.parametrize("error", [OSError(errno.ENOSYS, "no"), OSError(errno.EOPNOTSUPP, "no"), NotImplementedError()])
def test_an_operation_that_a_file_system_does_not_support(error: Exception) -> None:
    kind, told = failure_of_builtin(error, str(error))
    assert kind is errors.StorageError
    assert "the storage does not support this operation" in told


def test_a_file_that_exists_stays_one_whatever_answer_said_so() -> None:
    class Answered(Exception):
        status_code = 409

    error = FileExistsError("a")
    error.__cause__ = Answered()
    assert failure_of_client(error) is None
    assert failure_of_builtin(error, "a") == (errors.ExistsError, "it already exists")


# -- a web page in place of a storage ----------------------------------------------------------------------

PORTAL = (
    b"<!DOCTYPE html><html><head><title>Welcome to HotelNet</title></head>"
    b"<body><a href='/login'>Log in</a><br>Enjoy your stay</body></html>"
)
WELL_FORMED = b"<html><body><p>Log in</p></body></html>"
LOGIN = "the answer was a web page instead of the storage's response, .*; log in to the network"


@contextmanager
def portal(page: bytes) -> Iterator[str]:
    """A server that answers every request with a web page, like a network before its user has logged in."""
    with answering(200, page, kind="text/html; charset=utf-8") as url:
        yield url


def bucket(scheme: str, url: str) -> Store:
    options = {
        "s3": {"endpoint_url": url, **KEYS},
        "gs": {"endpoint_url": url, "token": "anon", "project": "p"},
    }
    return open_store(f"{scheme}://bucket/runs", options[scheme], timeout=60)


CALLS: dict[str, Callable[[Store], object]] = {
    "list": lambda store: store.list(),
    "folder_names": lambda store: store.folder_names(),
    "read": lambda store: store.read("log.txt"),
    "stat": lambda store: store.stat("log.txt"),
    "exists": lambda store: store.exists("log.txt"),
    "write": lambda store: store.write("log.txt", b"x"),
    "path.exists": lambda store: store.path_for("log.txt").exists(),
    "path.is_dir": lambda store: store.path_for("data").is_dir(),
}


@pytest.mark.parametrize("page", [PORTAL, WELL_FORMED], ids=["page", "well-formed"])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("call", CALLS)
def test_a_login_page_is_an_error_and_no_answer(call: str, scheme: str, page: bytes) -> None:
    with portal(page) as url, pytest.raises(errors.UnreachableError, match=LOGIN):
        CALLS[call](bucket(scheme, url))


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_nothing_counts_as_deleted_by_a_login_page(scheme: str) -> None:
    with portal(WELL_FORMED) as url, pytest.raises(errors.NotataError) as caught:
        bucket(scheme, url).delete(["log.txt"])
    several = caught.value.exceptions if isinstance(caught.value, errors.BatchError) else [caught.value]
    assert [type(error) for error in several] == [errors.UnreachableError]


def test_a_login_page_is_no_empty_folder_of_a_web_server() -> None:
    with portal(PORTAL) as url, pytest.raises(errors.UnreachableError, match=LOGIN):
        open_store(f"{url}/runs").list()


@pytest.mark.parametrize(
    "page",
    [
        b"<html><head><title>Index of /runs/</title></head><body><a href='../'>../</a></body></html>",  # nginx
        b"<html><title>Directory listing for /runs/</title><body><ul></ul></body></html>",  # Python
        b'<html><body><A HREF="/">[To Parent Directory]</A></body></html>',  # IIS
    ],
)
def test_a_folder_of_a_web_server_may_be_empty(page: bytes) -> None:
    with portal(page) as url:
        assert open_store(f"{url}/runs").list() == []


def test_a_page_that_is_stored_in_a_bucket_is_a_file(moto_server: Server, gcs_server: Server) -> None:
    for server in (moto_server, gcs_server):
        store = open_store(f"{server.url}/{uuid.uuid4().hex}", server.options)
        log = store.path_for("plots/page.html")
        raw = store.filesystem()
        kind = {"ContentType": "text/html"} if server is moto_server else {"content_type": "text/html"}
        raw.pipe_file(str(log).partition("://")[2], PORTAL, **kind)
        assert (store.read("plots/page.html"), store.stat("plots/page.html").size) == (PORTAL, len(PORTAL))
        assert (log.exists(), log.is_file(), log.is_dir(), log.parent.is_dir()) == (True, True, False, True)
        assert not store.path_for("plots/other").exists()
        store.delete(["plots/page.html"])
        assert store.list() == []


def test_a_refusal_is_never_taken_for_a_missing_file() -> None:
    faults = FaultyBackend(open_store(f"memory://{uuid.uuid4().hex}"))
    store = Store(faults)
    store.write("data/x.npy", b"x")
    path = store.path_for("data/x.npy")
    for call in (path.exists, path.is_file, path.parent.is_dir, path.parent.exists):
        faults.fail(1, error=lambda: PermissionError("denied"))
        with pytest.raises(errors.AccessError):
            call()
    assert path.exists()
