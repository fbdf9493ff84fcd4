"""Read the replies of plain S3 requests: the few fields that notata needs, in the form that botocore gives them.

botocore looks up each element and header in its description of the service, which takes ten times longer. Each reader
returns None for a reply that is not a plain success or unusual in any way; botocore then reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

__all__ = ["READERS", "Reply", "parse_time", "read_page"]

Reply = dict[str, Any]
"""A reply in the form of botocore."""

_METADATA: Final = "x-amz-meta-"


def parse_time(text: Any) -> datetime:
    """Parse a time of a reply: ISO 8601 in a listing, RFC 9110 in a header."""
    try:
        return datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except (TypeError, ValueError):
        from botocore.utils import parse_timestamp

        parsed: datetime = parse_timestamp(text)
        return parsed


_time_of = lru_cache(64)(parse_time)  # the objects of a run were written within a few seconds


# -- objects -----------------------------------------------------------------------------------------------


async def _read_object(response: Any) -> Reply | None:
    """Read the reply to GetObject, whose body is still to come."""
    from aiobotocore import response as bodies

    found = _facts(response) if response.status_code in (200, 206) else None
    if found is None:
        return None
    headers = response.raw.headers
    if place := headers.get("Content-Range"):
        found["ContentRange"] = place
    kind = getattr(bodies, "AioStreamingBody", None) or bodies.StreamingBody  # as aiobotocore 2 calls it
    return found | {"Body": kind(response.raw, headers.get("Content-Length"))}


async def _read_head(response: Any) -> Reply | None:
    """Read the reply to HeadObject."""
    found = _facts(response) if response.status_code == 200 else None
    if found is None or not found["ContentLength"].isdecimal():
        return None
    own = {
        name.lower().removeprefix(_METADATA): value
        for name, value in response.raw.headers.items()
        if name.lower().startswith(_METADATA)
    }
    return found | {"Metadata": own}


async def _read_put(response: Any) -> Reply | None:
    """Read the reply to PutObject. A body, although the status is 200, may be an error."""
    mark = response.raw.headers.get("ETag")
    if response.status_code != 200 or not mark or await response.content:
        return None
    return {"ETag": mark}


def _facts(response: Any) -> Reply | None:
    headers: Mapping[str, str] = response.raw.headers
    mark, written = headers.get("ETag"), headers.get("Last-Modified")
    if not mark or not written:
        return None
    try:
        modified = _time_of(written)
    except ValueError:
        return None
    return {
        "ETag": mark,
        "LastModified": modified,
        "ContentLength": headers.get("Content-Length", ""),
        "ResponseMetadata": {"HTTPStatusCode": response.status_code, "HTTPHeaders": headers},
    }


READERS: Final[dict[str, Callable[[Any], Awaitable[Reply | None]]]] = {
    "get_object": _read_object,
    "head_object": _read_head,
    "put_object": _read_put,
}
"""By the name of botocore's method: read the response that aiobotocore's session returned."""


# -- listings ----------------------------------------------------------------------------------------------


def read_page(body: bytes) -> Reply | None:
    """Read a page of ListObjectsV2.

    >>> page = read_page(b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>")
    >>> page["IsTruncated"], page["Contents"]
    (True, [])
    >>> read_page(b"<Error/>") is None
    True
    """
    try:
        return _page(ET.fromstring(body))  # noqa: S314  # botocore uses the same parser
    except (ET.ParseError, KeyError, ValueError):
        return None


def _page(root: ET.Element) -> Reply:
    space, brace, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise ValueError("this is no listing")
    space += brace
    encoded = root.findtext(f"{space}EncodingType") == "url"
    files, folders = [], []
    for element in root:
        kind = element.tag.removeprefix(space)
        if kind == "Contents":
            files.append(_file(element, len(space), encoded))
        elif kind == "CommonPrefixes":
            folders.append({"Prefix": _text(element.find(f"{space}Prefix"), encoded)})
        elif "}" in kind:
            raise ValueError("an element has another namespace")
    page = {"Contents": files, "CommonPrefixes": folders, "IsTruncated": root.findtext(f"{space}IsTruncated") == "true"}
    token = root.find(f"{space}NextContinuationToken")
    return page if token is None else page | {"NextContinuationToken": _text(token)}


def _file(element: ET.Element, skipped: int, encoded: bool) -> Reply:
    found = {each.tag[skipped:]: each for each in element}
    return {
        "Key": _text(found["Key"], encoded),
        "Size": int(_text(found["Size"])),
        "LastModified": parse_time(_text(found["LastModified"])),
        "ETag": _text(found["ETag"]),
    }


def _text(element: ET.Element | None, encoded: bool = False) -> str:
    if element is None or not element.text:
        raise ValueError("an element has no text")
    return unquote_plus(element.text) if encoded and ("%" in element.text or "+" in element.text) else element.text
