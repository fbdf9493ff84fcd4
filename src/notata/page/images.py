"""Recognition of images by their first bytes, and the number of their pixels, without decoding them.

References:
    W3C, Portable Network Graphics (PNG) Specification, section 11.2.1: IHDR.
    ITU-T T.81 (JPEG), annex B: markers and frame headers.
    CompuServe, Graphics Interchange Format, version 89a, section 18.
    RFC 9649, WebP Image Format.
"""

from __future__ import annotations

import base64
from typing import Final

from notata.page.vectors import refusal

__all__ = ["image_of"]

_PIXELS: Final = 40_000_000  # a decoded pixel takes four bytes
_SIDE: Final = 20_000
_FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers of frame headers
_START: Final = 8192  # bytes in which <svg must stand
_PROLOG: Final = ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!DOCTYPE", b">"))  # what may stand before <svg


def image_of(data: bytes) -> tuple[str, str]:
    """Return the data URL of an image, and else why it is none that a page can show.

    >>> image_of(b"GIF89a" + bytes([2, 0, 3, 0]) + bytes(9))[0][:22]
    'data:image/gif;base64,'
    >>> image_of(b"<html>")
    ('', 'It is not a PNG, JPEG, GIF, WebP or SVG image, or it is damaged.')
    """
    kind, sides = _recognized(data)
    if not kind:
        return "", "It is not a PNG, JPEG, GIF, WebP or SVG image, or it is damaged."
    if sides is not None and (0 in sides or max(sides) > _SIDE or sides[0] * sides[1] > _PIXELS):
        return "", f"It has {sides[0]:,} x {sides[1]:,} pixels, which a browser may not be able to show."
    if kind == "svg+xml" and (reason := refusal(data)):
        return "", reason
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", ""


def _recognized(data: bytes) -> tuple[str, tuple[int, int] | None]:
    """Return the type of an image, empty if it is none, and its width and height."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) > 24:
        return "png", (int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) > 10:
        return "gif", (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    if data[:3] == b"\xff\xd8\xff":
        sides = _jpeg_sides(data)
        return ("jpeg", sides) if sides else ("", None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        sides = _webp_sides(data)
        return ("webp", sides) if sides else ("", None)
    return ("svg+xml", None) if _is_svg(data) else ("", None)


def _jpeg_sides(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        if marker == 0xFF:  # padding
            at += 1
        elif length < 2:
            return None
        else:
            at += 2 + length
    return None


def _webp_sides(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _is_svg(data: bytes) -> bool:
    """Check whether a file is an SVG in UTF-8 without entities, which could expand to any length."""
    if b"\0" in data or b"<!ENTITY" in data:
        return False
    rest = data[:_START].removeprefix(b"\xef\xbb\xbf").lstrip()
    while part := next((part for part in _PROLOG if rest.startswith(part[0])), None):
        rest = rest.partition(part[1])[2].lstrip()
    if not rest.startswith((b"<svg ", b"<svg\n", b"<svg\r", b"<svg\t", b"<svg>")):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
