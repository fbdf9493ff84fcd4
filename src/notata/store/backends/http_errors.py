"""Translate HTTP and TLS refusals to our errors, by status, code and type; no backend is involved.

A code comes from the server and is shown only if it is a plain word. Nothing else of a response is shown.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Final

from notata.errors import AccessError, FullError, NotataError, StorageError, UnreachableError

__all__ = ["WebPageError", "failure_of_page", "failure_of_reply", "failure_of_tls", "plain_code"]

_QUOTA: Final = re.compile(r"(?i)quota|storage_?full|insufficient_?storage|storage_?limit|DiskFull")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_CHAIN: Final = 10  # number of chained errors to examine

_SELF_SIGNED: Final = frozenset({18, 19, 20, 21})  # https://docs.openssl.org/3.0/man1/openssl-verification-options/
_NOT_NOW: Final = frozenset({9, 10})
_OTHER_HOST: Final = frozenset({62, 64})

_CREDENTIALS: Final = {
    "InvalidAccessKeyId": "the store does not know this access key; check the key, and whether it is for this endpoint",
    "SignatureDoesNotMatch": "the secret does not match the access key; check the secret and where it comes from: "
    "storage_options, AWS_PROFILE or the environment",
    "ExpiredToken": "the session token has expired; log in again, or renew it",
    "TokenRefreshRequired": "the session token has expired; log in again, or renew it",
    "RequestTimeTooSkewed": "the clock of this machine is wrong, so the store refuses its signatures; set the clock",
    "AccessDenied": "these credentials are valid, but do not allow this; ask for permission on this bucket, or use "
    "other credentials",
}


class WebPageError(Exception):
    """A server sent a web page instead of a storage response, as the login page of a network does."""

    def __init__(self) -> None:
        super().__init__("the server answered with a web page")


def failure_of_page() -> tuple[type[NotataError], str]:
    """Return our error class for a web page instead of a response, and a hint for the user."""
    return UnreachableError, (
        "the answer was a web page instead of the storage's response, for example the login page of a network, or a "
        "page from a proxy or a wrong address; log in to the network, or correct the address, and try again"
    )


def plain_code(code: object) -> str:
    """Return the server's code for its refusal if it is a plain word, else an empty string.

    >>> plain_code("QuotaExceeded"), plain_code("see http://x/?token=1")
    ('QuotaExceeded', '')
    """
    text = str(code)
    return text if _CODE.fullmatch(text) else ""


def failure_of_reply(status: int, code: object = "") -> tuple[type[NotataError], str] | None:
    """Return our error class for a refusal and a hint for the user; None if that depends on the backend.

    >>> failure_of_reply(403, "QuotaExceeded")[0].__name__, failure_of_reply(404)
    ('FullError', None)
    """
    code = plain_code(code)
    named = code or str(status)
    if status == 507 or _QUOTA.search(code):
        return FullError, (
            f"no space left on the storage, or quota exceeded ({named}); free some space or raise the quota, and "
            "write again: the previous content is unchanged"
        )
    if status == 501 or code == "NotImplemented":
        return StorageError, (
            f"the server does not support this kind of request ({named}); update it, or choose another storage. "
            "`notata doctor` shows what is missing"
        )
    if code in _CREDENTIALS:
        reason, _, advice = _CREDENTIALS[code].partition("; ")
        return AccessError, f"{reason} ({code}); {advice}"
    if status == 407:
        return AccessError, "a proxy requires credentials (407); put them in HTTPS_PROXY, or set NO_PROXY"
    return None


def failure_of_tls(error: BaseException) -> tuple[type[NotataError], str] | None:
    """Return our error class for a TLS problem and a hint for the user; None if the error shows no such problem."""
    for cause in _causes(error):
        # aiohttp's errors are of these classes too, but without details; their causes have the details.
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_code"):
            return UnreachableError, _of_certificate(cause)
        if isinstance(cause, ssl.SSLError) and (reason := plain_code(getattr(cause, "reason", None) or "")):
            return UnreachableError, (
                f"no encrypted connection ({reason}); check that the server supports https, and that the port and the "
                "beginning of the address (http:// or https://) are right"
            )
    return None


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _SELF_SIGNED:
        return (
            "the server's certificate is self-signed, or from an unknown authority; set AWS_CA_BUNDLE (for S3) or "
            "SSL_CERT_FILE (for all others) to the certificate file of that authority"
        )
    if error.verify_code in _NOT_NOW:
        return (
            "the server's certificate has expired or is not valid yet; check the clock of this machine, or have "
            "the certificate renewed"
        )
    if error.verify_code in _OTHER_HOST:
        return "the server's certificate is for another host name; use that host name in the address"
    return f"the server's certificate was refused (code {error.verify_code}); ask the operator of the server"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it; botocore keeps the original error as an argument of its message."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(seen) < _CHAIN:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or found in seen:
            continue
        seen.append(found)
        yield found
        kept = getattr(found, "kwargs", None)
        inner = kept.get("error") if isinstance(kept, dict) else None
        waiting += [getattr(found, "certificate_error", None), inner, found.__cause__, found.__context__]
