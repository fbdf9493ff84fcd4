"""Requests counted at the client library: s3fs and gcsfs both send theirs through aiohttp."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import pytest


@contextmanager
def counted() -> Iterator[list[str]]:
    """The requests of a block, each as ``METHOD path?query``, retries included."""
    sent: list[str] = []
    original = aiohttp.ClientSession._request

    async def request(self: aiohttp.ClientSession, method: str, url: Any, **kwargs: Any) -> Any:
        parts = urlsplit(str(url))
        sent.append(f"{method} {parts.path}?{parts.query or urlencode(kwargs.get('params') or {})}")
        return await original(self, method, url, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "_request", request)
        yield sent
