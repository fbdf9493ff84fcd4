"""Read what a notebook shows, by html.parser and xml.etree."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

SVG = "{http://www.w3.org/2000/svg}"
_VOID = {"br", "hr", "img", "meta", "line", "path"}


class Page(HTMLParser):
    """The content of a page.

    Attributes:
        tables: The rows of cells of each table, by caption.
        tags: The names of all elements.
        attributes: The names and values of all attributes.
        texts: All texts, in order.
        open: Elements that are not closed; empty for a well-formed page.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self._caption = ""
        self._rows: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self._caption, self._rows = "", []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "caption" in self.open:
            self._caption += data
        elif "td" in self.open or "th" in self.open:
            self._rows[-1][-1] += data

    @property
    def text(self) -> str:
        """All texts, one a line."""
        return "\n".join(self.texts)


def cells(html: str, caption: str = "") -> list[list[str]]:
    """Return the rows of the table with this caption."""
    return Page(html).tables[caption]


def pictures(html: str) -> list[ET.Element]:
    """Return the pictures of a page, parsed as XML."""
    return [ET.fromstring(text) for text in re.findall(r"<svg .*?</svg>", html, re.DOTALL)]


def texts(picture: ET.Element) -> list[str]:
    """Return the texts of a picture."""
    return [one.text or "" for one in picture.iter(f"{SVG}text")]


def title(picture: ET.Element) -> str:
    """Return the title of a picture."""
    return picture.findtext(f"{SVG}title") or ""


def points(picture: ET.Element) -> list[list[tuple[float, float]]]:
    """Return the points of each unbroken part of the curves of a picture, without samples of the legend."""
    parts = []
    for path in picture.iter(f"{SVG}path"):
        for part in path.attrib["d"].split("M")[1:]:
            if not part.endswith("h18"):
                numbers = [float(one) for one in part.replace("L", " ").replace("h0", "").split()]
                parts.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return parts
