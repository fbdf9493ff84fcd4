"""Protection of the live page: which requests the server answers, and the headers of each answer.

The page shows private data, and any web site that the user visits can send requests to 127.0.0.1. Therefore:

* a random token, which the address carries once, becomes a cookie that no script and no other site can use;
* the ``Host`` of a request must be one of this server's names, so that no other name that resolves to this machine
  works (DNS rebinding);
* requests that a browser makes for another site are refused, by ``Origin`` and ``Sec-Fetch-Site``;
* the server answers only ``GET`` and ``HEAD``, and never writes.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LONGEST_QUERY", "Guard", "Refusal", "Rules", "host_of"]

LONGEST_QUERY: Final = 60_000
"""Bytes of a query, for some hundred ids of runs."""

_LONGEST_PATH: Final = 8192
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
"""Headers of each answer, unless the answer has its own."""

_HOW: Final = "Open the address that notata view printed in the terminal; its token is valid until the command ends."


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to a request that is not allowed."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


def host_of(given: str) -> str:
    """Return the name or address in a ``Host`` header, without the port; empty if it is invalid.

    >>> host_of("localhost:6682"), host_of("[::1]:80"), host_of("[::1"), host_of("a:b")
    ('localhost', '[::1]', '', '')
    """
    name, colon, port = given.rpartition(":") if not given.endswith("]") else (given, "", "")
    if not colon:
        name = given
    if (colon and not (port.isascii() and port.isdecimal())) or (":" in name and name[:1] + name[-1:] != "[]"):
        return ""
    return name.lower().rstrip(".")


@dataclass(frozen=True)
class Rules:
    """Rules that decide which requests are allowed.

    Attributes:
        token: The secret of the address.
        port: The port of the server.
        hosts: Names of the server besides those of this machine itself; any port is allowed with a name, so that an
            SSH tunnel from another port works.
        accepts_own_address: Accept the address at which the connection arrived, for a server on all addresses.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    port: int = 0
    hosts: Collection[str] = ()
    accepts_own_address: bool = False

    @property
    def cookie(self) -> str:
        """The name of the cookie; servers on several ports of one machine share cookies."""
        return f"notata-view-{self.port}"

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused, apart from its token; None if it is not."""
        headers = _Headers(scope)
        if scope["method"] not in ("GET", "HEAD"):
            return Refusal(405, "notata view answers only GET requests; it never writes", {"allow": "GET, HEAD"})
        if len(scope.get("raw_path") or b"") > _LONGEST_PATH or len(scope["query_string"]) > LONGEST_QUERY:
            return Refusal(414, "this address is too long; name fewer runs")
        host = headers.only("host")
        name = host_of(host or "")
        own = (scope.get("server") or ("", 0))[0]
        allowed = {*_LOOPBACK, *(one.lower() for one in self.hosts)}
        if self.accepts_own_address and own:
            allowed |= {own, f"[{own}]"}
        if not name or name not in allowed:
            return Refusal(421, "notata view does not accept this host name; pass --host to choose another address")
        origin = headers.only("origin") if headers.has("origin") else f"http://{host}"
        if origin != f"http://{host}":
            return Refusal(403, "notata view answers only its own page, not other sites")
        site = headers.only("sec-fetch-site") if headers.has("sec-fetch-site") else "same-origin"
        if site not in ("same-origin", "none") and not _is_link(scope, headers):
            return Refusal(403, "notata view answers only its own page, not other sites")
        return None

    def has_token(self, scope: Scope) -> bool:
        """Check whether a request has the cookie with the token."""
        given = [one for text in _Headers(scope).all("cookie") for one in _cookies(text, self.cookie)]
        return any(self.is_token(one) for one in given[:10])

    def is_token(self, given: str) -> bool:
        """Compare a text with the token, in constant time."""
        return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())


class _Headers:
    """The headers of a request."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def all(self, name: str) -> list[str]:
        wanted = name.encode()
        return [value.decode("latin-1") for found, value in self._scope["headers"] if found.lower() == wanted]

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    def only(self, name: str) -> str | None:
        """Return the value of a header that may occur once; None if it is missing or repeated."""
        found = self.all(name)
        return found[0] if len(found) == 1 else None


def _is_link(scope: Scope, headers: _Headers) -> bool:
    """Check whether a browser opens the page itself because the user followed a link."""
    is_page = headers.only("sec-fetch-mode") == "navigate" and headers.only("sec-fetch-dest") == "document"
    return scope["path"] == "/" and is_page


def _cookies(text: str, name: str) -> list[str]:
    found = []
    for part in text.split(";"):
        try:
            cookie = SimpleCookie(part.strip())
        except CookieError:
            continue
        if name in cookie:
            found.append(cookie[name].value)
    return found


class Guard:
    """A wrapper of an application, which refuses requests, exchanges the token, and adds headers to each answer.

    Args:
        app: The application.
        rules: Which requests are allowed.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import JSONResponse, PlainTextResponse

        if (refused := self._rules.refusal(scope)) is not None:
            await JSONResponse({"error": refused.text}, refused.status, refused.headers)(scope, receive, send)
            return
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token") if scope["path"] == "/" else None
        if tokens and self._rules.is_token(tokens[0]):
            await self._exchange(scope, receive, send)
        elif self._rules.has_token(scope):
            await self._app(scope, receive, send)
        elif scope["path"] == "/":
            await PlainTextResponse(f"notata view\n\n{_HOW}\n", 403)(scope, receive, send)
        else:
            await JSONResponse({"error": f"the token is missing or wrong. {_HOW}"}, 403)(scope, receive, send)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn the token of the address into a cookie, and lead to the address without it.

        A browser does not send the cookie after a redirect that began on another site. It does after a refresh.
        """
        from starlette.responses import HTMLResponse, RedirectResponse, Response

        answer: Response = RedirectResponse("./", 303)
        if _Headers(scope).only("sec-fetch-site") in ("cross-site", "same-site"):
            to = html.escape(f"./{_fragment(scope)}")  # a refresh does not keep that of the address
            answer = HTMLResponse(
                f'<!doctype html><meta http-equiv="refresh" content="0; url={to}"><title>notata</title>'
            )
        answer.set_cookie(self._rules.cookie, self._rules.token, httponly=True, samesite="strict", path="/")
        await answer(scope, receive, send)


def _fragment(scope: Scope) -> str:
    """Return the state of the page that the query of an address asks for, as a fragment; empty if there is none."""
    given = parse_qs(scope["query_string"].decode("latin-1")).get("at", [""])[0]
    return f"#{given}" if given.startswith("/") else ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *((name, value) for name, value in message["headers"] if name.lower() != b"server"),
                *((name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in given),
            ]
        await send(message)

    return sending
