"""A dictionary that is encoded as JSON once, although many documents contain it."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

__all__ = ["Prepared", "one_line", "prepared"]

_IN_ONE_LINE: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True)


class Prepared(dict[str, Any]):
    """A dictionary of plain values that must not change; each document that has it as a member shares its text.

    The environment of a process is most of the metadata of a short run, and the same for all its runs: encoding it
    each time took a quarter of the run.

    Attributes:
        text: The JSON text as the member of a document, with sorted keys.
    """

    __slots__ = ("text",)

    def __init__(self, values: dict[str, Any], text: str) -> None:
        super().__init__(values)
        self.text = text

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def one_line(values: dict[str, Any]) -> Prepared:
    """Return the values with a text of one line, which the encoder in C writes.

    Args:
        values: Plain values, as for `prepared`.

    >>> one_line({"b": 1, "a": [2]}).text
    '{"a": [2], "b": 1}'
    """
    return Prepared(values, _IN_ONE_LINE.encode(values))


def prepared(values: dict[str, Any]) -> Prepared:
    """Return the values in the order of their keys; the same object for equal values, if they were the last ones.

    Args:
        values: Plain values: text, numbers, booleans, None, lists, and dictionaries with text as keys.

    >>> prepared({"b": 1, "a": [2]}) is prepared({"a": [2], "b": 1})
    True
    >>> print(prepared({"b": 1, "a": [2]}).text)
    {
        "a": [
          2
        ],
        "b": 1
      }
    """
    return _of_text(json.dumps(values, sort_keys=True))


@functools.lru_cache(4)
def _of_text(text: str) -> Prepared:
    values = json.loads(text)
    indented = json.dumps(values, indent=2, ensure_ascii=False).replace("\n", "\n  ")  # except for the first line
    return Prepared(values, indented)
