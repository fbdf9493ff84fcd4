"""Pages of a web server that list a folder, read up to a limit; only stores of web addresses import this."""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

from aiohttp import ClientResponse

from notata._base.display import size
from notata._base.secrets import shown_url
from notata.errors import TooLargeError

__all__ = ["PAGE", "with_limit"]

PAGE: Final = 32 * 2**20
"""Bytes of one page that lists a folder, unpacked: those of some 200,000 names."""

_PART: Final = 2**20
_SPACES: Final = re.compile(r"\s+")
_NO_TAG: Final = re.compile(r"<(?![^<>]{0,4096}>)")


class _LimitedPage(ClientResponse):
    """A reply whose text, which fsspec asks for only of a page that lists a folder, is read up to a limit."""

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        page = bytearray()
        while part := await self.content.read(_PART):
            page += part
            if len(page) > PAGE:
                raise TooLargeError(
                    f"cannot list {shown_url(str(self.url))}: the server sent more than {size(PAGE)} for one folder; "
                    "check the address, and name a run's folder below it"
                )
        return quickly_searched(page.decode(encoding or _known(self.charset), errors))


def quickly_searched(text: str) -> str:
    """Return a page in which fsspec's pattern of a link takes a time that grows with the length only.

    Many spaces in a tag take a time that grows with the cube of their number, and all threads wait meanwhile. So does
    what begins like a tag and does not end, with the square.

    >>> quickly_searched('<a   href="log_a/">log_a</a> 1 < 2')
    '<a href="log_a/">log_a</a> 1   2'
    """
    return _NO_TAG.sub(" ", _SPACES.sub(" ", text))


def _known(charset: str | None) -> str:
    try:
        return codecs.lookup(charset or "utf-8").name
    except LookupError:
        return "utf-8"


def with_limit(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an fsspec file system of web addresses, and what limits the pages that list folders."""
    return {**options, "client_kwargs": {"response_class": _LimitedPage, **(options.get("client_kwargs") or {})}}
