"""Read files of a web server: ranges, servers without ranges, and errors."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any, Final, cast

from fsspec.asyn import sync

from notata.errors import AccessError, MissingError, NotataError, StorageError, UnreachableError
from notata.store.backends.http_errors import WebPageError, failure_of_page, failure_of_reply

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["check_is_list", "failure_of_web", "fetched_once", "has_ranges", "read_range"]

_AT_ONCE: Final = 2**20
_LIST: Final = re.compile(
    rb"(?i)index of|directory listing|listing of|parent directory|href=[\"']?(?:\.{1,2}/?|\?C=)[\"' ;&>]"
)
"""Matches pages that list a folder, even an empty one: those of Apache, nginx, lighttpd, IIS, Python and rclone."""


def read_range(fs: AbstractFileSystem, url: str, start: int, end: int | None) -> bytes:
    """Return the bytes ``[start, end)`` of a file. A server without ranges also sends the bytes before them."""
    return cast("bytes", sync(fs.loop, _read_range, fs, url, start, end))


async def _read_range(fs: AbstractFileSystem, url: str, start: int, end: int | None) -> bytes:
    if end is not None and end <= start:
        return b""
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), **_asking(fs, start, end)) as reply:
        if reply.status == 416:  # the range starts beyond the end
            return b""
        fs._raise_not_found_for_status(reply, url)
        skipped = 0 if reply.status == 206 else start
        parts, left = [], None if end is None else end - start
        while left is None or left > 0:
            part = await reply.content.read(_AT_ONCE if left is None else min(_AT_ONCE, left + skipped))
            if not part:
                break
            dropped = min(skipped, len(part))
            skipped -= dropped
            part = part[dropped:] if left is None else part[dropped : dropped + left]
            parts.append(part)
            left = None if left is None else left - len(part)
        return b"".join(parts)


def has_ranges(fs: AbstractFileSystem, url: str) -> bool:
    """Check whether the server supports ranges for a file. One request, for one byte."""
    return cast("bool", sync(fs.loop, _has_ranges, fs, url))


async def _has_ranges(fs: AbstractFileSystem, url: str) -> bool:
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), **_asking(fs, 0, 1)) as reply:
        fs._raise_not_found_for_status(reply, url)
        return bool(reply.status == 206)


def _asking(fs: AbstractFileSystem, start: int, end: int | None) -> dict[str, Any]:
    """Return the options of a request for a range."""
    options: dict[str, Any] = fs.kwargs.copy()
    if start or end is not None:
        last = "" if end is None else end - 1
        options["headers"] = {**(options.get("headers") or {}), "Range": f"bytes={start}-{last}"}
    return options


def fetched_once(reader: IO[bytes]) -> io.BufferedReader:
    """Return a seekable copy, in a temporary file, of a file object that can only be read forward."""
    kept = tempfile.TemporaryFile("w+b")  # the reader closes it
    try:
        shutil.copyfileobj(reader, kept, _AT_ONCE)
        kept.seek(0)
    except BaseException:
        kept.close()
        raise
    return cast("io.BufferedReader", kept)


def check_is_list(fs: AbstractFileSystem, url: str) -> None:
    """Refuse a page without any file that is no listing either. One request.

    Raises:
        WebPageError: It is another page, such as the login page of a network.
    """
    page = cast("bytes", sync(fs.loop, _read_page, fs, url))
    if page and not _LIST.search(page):
        raise WebPageError()


async def _read_page(fs: AbstractFileSystem, url: str) -> bytes:
    """Return the beginning of a page; empty if the response is no page."""
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), **fs.kwargs) as reply:
        fs._raise_not_found_for_status(reply, url)
        page = reply.content_type == "text/html" and not url.partition("?")[0].endswith((".html", ".htm"))
        return cast("bytes", await reply.content.read(_AT_ONCE)) if page else b""


def failure_of_web(error: Exception) -> tuple[type[NotataError], str] | None:
    """Return our error class for a web address that cannot be read; fsspec reports most errors as a missing file."""
    from aiohttp import ClientConnectionError, ClientResponseError

    if isinstance(error, WebPageError):
        return failure_of_page()
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = error.status if isinstance(error, ClientResponseError) else 0
    if known := failure_of_reply(status):
        return known
    if status in (404, 410):
        return MissingError, "there is no such file"
    if status == 401:
        return AccessError, "the server asks for a user name and a password, or refuses them (401); check both"
    if status == 403:
        return AccessError, f"the server refused the request ({status}); check the address, and if a signature expired"
    if status:
        return StorageError, f"the server answered {status}"
    if isinstance(error, ClientConnectionError) and not isinstance(error, TimeoutError):
        return UnreachableError, "no server answered at this address; check the address and the network"
    return None
