"""A client of the live page, in this process: it calls the application as a server does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from notata.page.answers import View
from notata.page.guard import Rules
from notata.page.server import PageServer
from notata.search.target import targets
from notata.store import Store
from notata.testing import FaultyBackend

__all__ = ["PORT", "RULES", "Answer", "Clock", "Visit", "page_of"]

PORT = 6682
RULES = Rules(token="a-secret-token", port=PORT)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def page_of(place: str | FaultyBackend, **options: Any) -> PageServer:
    """Return the live page of a place."""
    found = targets(place if isinstance(place, str) else Store(place))
    return PageServer(found, View(options.pop("title", "a page"), (found[0].name,)), rules=RULES, **options)


@dataclass
class Answer:
    """The answer to a request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def error(self) -> str:
        """The message of an error."""
        return str(json.loads(self.content)["error"])


class Visit:
    """A browser.

    Args:
        server: The page.
        has_cookie: Whether the browser has exchanged the token for the cookie.
    """

    def __init__(self, server: PageServer, *, has_cookie: bool = True) -> None:
        self._app = server.app()
        self._cookie = {"cookie": f"{RULES.cookie}={RULES.token}"} if has_cookie else {}

    def get(self, address: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        """Return the answer to a request."""
        return asyncio.run(self._asked(address, headers or {}, method))

    def data(self, *parts: str, **query: str) -> Any:
        """Return the data of a key."""
        path = "/".join(quote(part, safe="") for part in parts)
        given = "&".join(f"{name.rstrip('_')}={quote(value, safe='')}" for name, value in query.items())
        answer = self.get(f"/api/{path}?{given}")
        assert answer.status == 200, answer.text
        return json.loads(answer.content)

    async def _asked(self, address: str, headers: Mapping[str, str], method: str) -> Answer:
        path, _, query = address.partition("?")
        sent = {"host": f"127.0.0.1:{PORT}", **self._cookie, **headers}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
        }  # fmt: skip
        answer = Answer()
        is_sent = False

        async def receive() -> dict[str, Any]:
            nonlocal is_sent
            if is_sent:
                await asyncio.Event().wait()
            is_sent = True
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            elif method != "HEAD":  # as uvicorn does
                answer.content += message.get("body", b"")

        await self._app(scope, receive, send)
        return answer
