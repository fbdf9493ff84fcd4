"""Count, change, delay or fail requests at the client library: s3fs and gcsfs both use aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import pytest

Send = Callable[..., Awaitable[Any]]
"""Sends a request: ``await send(method, url, **options)`` returns the response."""


@contextmanager
def intercepted(handle: Callable[..., Awaitable[Any]]) -> Iterator[None]:
    """Pass each request of a block to ``handle(send, method, url, **options)``, which returns the response."""
    original = aiohttp.ClientSession._request  # noqa: SLF001 - aiohttp has no hook for the sessions of other libraries

    async def request(self: aiohttp.ClientSession, method: str, url: Any, **options: Any) -> Any:
        return await handle(partial(original, self), method, url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "_request", request)
        yield


class Sent(list[str]):
    """The requests of a block, each as ``METHOD path?query``, including retries.

    Attributes:
        bytes: The total size of their bodies.
    """

    bytes: int = 0


@contextmanager
def counted() -> Iterator[Sent]:
    """Count the requests of a block and the bytes in their bodies."""
    sent = Sent()

    async def request(send: Send, method: str, url: Any, **kwargs: Any) -> Any:
        parts = urlsplit(str(url))
        sent.append(f"{method} {parts.path}?{parts.query or urlencode(kwargs.get('params') or {})}")
        sent.bytes += _size(kwargs.get("data"))
        return await send(method, url, **kwargs)

    with intercepted(request):
        yield sent


def _size(body: Any) -> int:
    """Return the size of a body: bytes, a file object, or botocore's wrapper around one."""
    if body is None:
        return 0
    if isinstance(body, bytes | bytearray | memoryview | str):
        return len(body)
    raw = getattr(body, "_raw", body)
    here = raw.tell()
    end: int = raw.seek(0, 2)
    raw.seek(here)
    return end
