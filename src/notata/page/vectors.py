"""Number of the parts that a browser would draw for an SVG, where each can refer to others, and these to others again.

Ten levels of ten references each are two kilobytes of text, but ten billion parts, which would freeze the page.

References:
    W3C, Scalable Vector Graphics (SVG) 2, section 5.5 (the use element) and chapter 14 (masks and clipping).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod
from typing import Final
from urllib.parse import unquote
from xml.parsers import expat

__all__ = ["refusal"]

_MOST: Final = 100_000  # parts to draw
_SHARE: Final = 10  # of an SVG with many parts of its own: parts to draw for each
_TO_OTHERS: Final = re.compile(r"#([^\s\"'();,]+)")
_OF_STYLES: Final = re.compile(r"url\(\s*[\"']?\s*#([^\s\"');,]+)", re.IGNORECASE)
_ESCAPE: Final = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|(.))")
_NESTED: Final = re.compile(r"data:(?:image/svg|text/)")  # a picture or styles that are not looked into
_NO_PARTS: Final = {"a", "animate", "animateMotion", "animateTransform", "set"}  # their href draws nothing
_GRADIENTS: Final = {"linearGradient", "radialGradient"}  # contain nothing that refers to other parts


def refusal(data: bytes) -> str:
    """Return why a page should not show an SVG; empty if it can.

    The caller has checked that there are no entities.

    >>> refusal(b"<svg><path id='a'/><use href='#a'/></svg>")
    ''
    >>> refusal(b"<svg><g id='a'><use href='#a'/></g></svg>")
    'Its parts refer to each other in a circle.'
    """
    drawing = _Drawing()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = drawing.begin
    parser.EndElementHandler = drawing.end
    parser.CharacterDataHandler = drawing.characters
    parser.ProcessingInstructionHandler = drawing.instruction
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        return f"It is damaged at line {error.lineno}: {expat.ErrorString(error.code)}."
    count = drawing.expanded(limit := _MOST + _SHARE * len(drawing.elements))
    if drawing.is_nested:
        return "It contains another SVG or a style sheet as data."
    if count is None:
        return "Its parts refer to each other in a circle."
    return f"Its parts refer to others so often that a browser would draw more than {limit:,}." if count > limit else ""


@dataclass
class _Element:
    name: str
    inner: list[_Element] = field(default_factory=list)
    refers: set[str] = field(default_factory=set)
    count: int | None = None  # with all that it contains and refers to
    is_open: bool = False  # its parts are being counted


class _Drawing:
    """The elements of an SVG, with the names that each refers to."""

    def __init__(self) -> None:
        self.elements: list[_Element] = []
        self.is_nested = False
        self._open: list[_Element] = []
        self._named: dict[str, _Element] = {}  # the first of each name counts
        self._styles: list[str] = []

    # -- read ----------------------------------------------------------------------------------------------

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        element = _Element(tag.rpartition(":")[2])
        for name, value in attributes.items():
            if name == "id":
                self._named.setdefault(value, element)
            elif element.name not in _NO_PARTS or name.rpartition(":")[2] != "href":
                self._look(value)
                element.refers.update(map(unquote, _TO_OTHERS.findall(_unescaped(value))))
        if self._open:
            self._open[-1].inner.append(element)
        self._open.append(element)
        self.elements.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def characters(self, text: str) -> None:
        if any(element.name == "style" for element in self._open[-2:]):
            self._styles.append(text)

    def instruction(self, _: str, text: str) -> None:
        self._look(text)

    def _look(self, text: str) -> None:
        if ":" in text and _NESTED.search("".join(_unescaped(text).split()).lower()):
            self.is_nested = True

    # -- count ---------------------------------------------------------------------------------------------

    def expanded(self, limit: int) -> int | None:
        """Return the number of elements with each reference replaced by its target; None if they form a circle.

        Counting ends above the limit.
        """
        styles = "".join(self._styles)
        self._look(styles)
        names = set(map(unquote, _OF_STYLES.findall(_unescaped(styles))))
        targets = [one for one in self._with(names) if one.name not in _GRADIENTS]
        order = self._in_order()
        if order is None:
            return None
        for element in order:
            parts = self._parts(element)
            element.count = min(1 + sum(part.count or 0 for part in parts), limit + 1)
        # Which elements a style sheet selects is unknown: each of its targets may be drawn again in every element.
        each = prod(1 + (target.count or 0) for target in targets[:64])
        return (self.elements[0].count or 0) * each

    def _in_order(self) -> list[_Element] | None:
        """Return all elements that are drawn, each after those that it consists of; None if they form a circle."""
        order: list[_Element] = []
        done: set[int] = set()
        for root in self.elements:
            waiting = [root]
            while waiting:
                element = waiting[-1]
                if id(element) in done:
                    waiting.pop()
                elif element.is_open:
                    waiting.pop()
                    element.is_open = False
                    done.add(id(element))
                    order.append(element)
                else:
                    element.is_open = True
                    parts = self._parts(element)
                    if any(part.is_open for part in parts):
                        return None
                    waiting += parts
        return order

    def _parts(self, element: _Element) -> list[_Element]:
        return element.inner + self._with(element.refers)

    def _with(self, names: set[str]) -> list[_Element]:
        return [self._named[name] for name in names if name in self._named]


def _unescaped(text: str) -> str:
    r"""Return CSS without its escapes.

    >>> _unescaped(r"u\72l(\23 a)")
    'url(#a)'
    """
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[2]
    code = int(found[1], 16)
    return chr(code) if code < 0x110000 else "\ufffd"
