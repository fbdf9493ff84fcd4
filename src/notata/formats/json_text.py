r"""The text of plain values as JSON: that of ``json.dumps(value, indent=2, ensure_ascii=False)``, faster and in pieces.

With an indent, `json` does not use its encoder in C, but one generator within another for each container.

>>> pieces = []
>>> write_json({"a": [1, None], "b": {}}, pieces.append)
>>> print("".join(pieces))
{
  "a": [
    1,
    null
  ],
  "b": {}
}
"""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, Final

from notata._base.prepared import Prepared

__all__ = ["write_json"]

_PIECE: Final = 2**20  # characters
_TOP: Final = "\n"
_MEMBER: Final = "\n  "  # the line break before a member of the whole value
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def write_json(value: Any, write: Callable[[str], object]) -> None:
    """Write the text of a plain value, in pieces of about a megabyte.

    Args:
        value: Dictionaries with text as keys, lists, text, numbers, booleans and None, as `plain` returns them.
        write: Called with each piece.
    """
    writer = _Writer(write)
    writer.add(value, _TOP)
    writer.flush()


class _Writer:
    """Collects the parts of a text. `margin` is the line break before the end of the current container."""

    __slots__ = ("_parts", "_size", "_write")

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._parts: list[str] = []
        self._size = 0

    def flush(self) -> None:
        self._write("".join(self._parts))
        self._parts, self._size = [], 0

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > _PIECE:
            self.flush()

    def add(self, value: Any, margin: str) -> None:
        """Add a value."""
        text = _scalar(value)
        if text is not None:
            self._put(text)
        elif isinstance(value, dict):
            if type(value) is Prepared and margin == _MEMBER:
                self._put(value.text)
            else:
                self._add_dict(value, margin)
        else:
            self._add_list(value, margin)

    def _add_dict(self, value: dict[str, Any], margin: str) -> None:
        if not value:
            self._put("{}")
            return
        inner = f"{margin}  "
        before = f"{{{inner}"
        for name, item in value.items():
            text = _scalar(item)
            self._put(f"{before}{encode_basestring(name)}: {text or ''}")
            if text is None:
                self.add(item, inner)
            before = f",{inner}"
        self._put(f"{margin}}}")

    def _add_list(self, value: list[Any], margin: str) -> None:
        if not value:
            self._put("[]")
            return
        inner = f"{margin}  "
        before = f"[{inner}"
        for item in value:
            text = _scalar(item)
            self._put(f"{before}{text or ''}")
            if text is None:
                self.add(item, inner)
            before = f",{inner}"
        self._put(f"{margin}]")


def _scalar(value: Any) -> str | None:
    """Return the text of a value without parts; None for a container."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is float:
        text = float.__repr__(value)
        return _NOT_FINITE.get(text, text)
    if kind is int:
        return int.__repr__(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    return None
