"""What there is to complete a command line with, and what bash needs beside for URLs."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import suppress
from typing import Any, Final

import click

from notata._base.terminal import safe
from notata.errors import NotataError

__all__ = ["adapt_bash", "places"]

_SECONDS: Final = 3.0  # that somebody who pressed a key waits for a bucket
_MOST: Final = 200  # suggestions
_SPECIAL: Final = re.compile(r"[^\w@%+=:,./-]")  # what bash would take for more than text: it puts in what it is given
_ESCAPED: Final = r"\\\g<0>"


def places(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """What a URL that somebody began may go on with: one folder is listed. The shell itself knows local paths."""
    from click.shell_completion import CompletionItem

    if "://" not in incomplete:
        return [CompletionItem(incomplete, type="file")]
    options: dict[str, Any] = {}
    for name, given in context.params.items():
        if "option" in name and isinstance(given, dict):
            options |= given
    folder = incomplete.rpartition("/")[0]
    return [CompletionItem(name) for name in _below(folder, options) if name.startswith(incomplete)][:_MOST]


def _below(folder: str, options: dict[str, Any]) -> list[str]:
    """Folders and files of one folder; none if it cannot be listed, or not in time."""
    from notata.store import open_store

    found: list[str] = []
    logging.disable()

    def look() -> None:
        with suppress(Exception):
            fs = store.filesystem()
            for entry in fs.ls(folder, detail=True):
                name = str(entry["name"]).rstrip("/").rpartition("/")[2]
                if name and not name.startswith(".") and safe(name) == name:  # a shell prints it as it is
                    found.append(f"{folder}/{name}{'/' * (entry['type'] == 'directory')}")

    try:
        store = open_store(folder, options, timeout=_SECONDS)  # and its libraries, which take their time
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(_SECONDS)
    except NotataError:
        return []
    finally:
        logging.disable(logging.NOTSET)
    return sorted(found)


def adapt_bash() -> None:
    """Have bash complete URLs: it takes their colon for the end of a word."""
    from click.shell_completion import BashComplete, CompletionItem, add_completion_class

    class Bash(BashComplete):
        def get_completion_args(self) -> tuple[list[str], str]:
            arguments, incomplete = super().get_completion_args()
            words = _joined([*arguments, incomplete])
            self._cut = len(words[-1]) - len(incomplete)
            return words[:-1], words[-1]

        def format_completion(self, item: CompletionItem) -> str:
            if item.type != "plain":
                return f"{item.type},{item.value}"
            return f"plain,{_SPECIAL.sub(_ESCAPED, item.value[self._cut :])}"

    Bash.source_template = BashComplete.source_template.replace("read type", "read -r type").replace(
        "COMPREPLY+=($value)", 'COMPREPLY+=("$value")\n            [[ $value == */ ]] && compopt -o nospace'
    )
    add_completion_class(Bash, "bash")


def _joined(words: list[str]) -> list[str]:
    """Words without the breaks that bash makes at each colon and equals sign.

    >>> _joined(["ls", "-o", "key", "=", "a", "s3", ":", "//bucket/log_"])
    ['ls', '-o', 'key=a', 's3://bucket/log_']
    """
    joined: list[str] = []
    glue = False
    for word in words:
        sign = word in (":", "=", "://", "::")
        if joined and (sign or glue):
            joined[-1] += word
        else:
            joined.append(word)
        glue = sign
    return joined
