"""Read listing pages of a web server up to a size limit; only stores of web addresses import this module."""

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
"""Bytes of one page that lists a folder, unpacked: about 200,000 names."""

_PART: Final = 2**20
_SPACES: Final = re.compile(r"\s+")
_NO_TAG: Final = re.compile(r"<(?![^<>]{0,4096}>)")


class _LimitedPage(ClientResponse):
    """A response with a size limit for its text, which fsspec requests only for pages that list a folder."""

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        page = bytearray()
        while part := await self.content.read(_PART):
            page += part
            if len(page) > PAGE:
                raise TooLargeError(
                    f"cannot list {shown_url(str(self.url))}: the server sent more than {size(PAGE)} for one folder; "
                    "check the address, or pass the URL of a run's folder below it"
                )
        return quickly_searched(page.decode(encoding or _known(self.charset), errors))


def quickly_searched(text: str) -> str:
    """Return the page changed such that fsspec's pattern for links takes time linear in its length.

    With many spaces in a tag, the time would grow with the cube of their number, and block all threads. With an
    unterminated tag, it would grow with the square.

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
    """Return the options of an fsspec file system for web addresses, with a limit for pages that list folders."""
    return {**options, "client_kwargs": {"response_class": _LimitedPage, **(options.get("client_kwargs") or {})}}
