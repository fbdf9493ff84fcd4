"""Suggestions for shell completion of paths and URLs, and the changes that bash needs to complete URLs."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import suppress
from typing import Any, Final

import click

from notata._base.terminal import safe
from notata.errors import NotataError

__all__ = ["adapt_bash", "complete_urls"]

SECONDS: Final = 3.0  # a user who pressed a key waits at most this long for a bucket
_MOST: Final = 200  # suggestions
_SPECIAL: Final = re.compile(r"[^\w@%+=:,./-]")  # characters that bash would interpret: it inserts suggestions unquoted
_ESCAPED: Final = r"\\\g<0>"


def complete_urls(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return completions of a partial URL, from one folder listing. The shell itself completes local paths."""
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
    """Return the folders and files of one folder; none if it cannot be listed, or not in time."""
    from notata.store import open_store

    found: list[str] = []
    logging.disable()

    def look() -> None:
        with suppress(Exception):
            fs = store.filesystem()
            for entry in fs.ls(folder, detail=True):
                name = str(entry["name"]).rstrip("/").rpartition("/")[2]
                if name and not name.startswith(".") and safe(name) == name:  # a shell prints names unescaped
                    found.append(f"{folder}/{name}{'/' * (entry['type'] == 'directory')}")

    try:
        store = open_store(folder, options, timeout=SECONDS)  # imports libraries, which takes time
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(SECONDS)
    except NotataError:
        return []
    finally:
        logging.disable(logging.NOTSET)
    return sorted(found)


def adapt_bash() -> None:
    """Make bash complete URLs: by default it ends a word at a colon."""
    from click.shell_completion import BashComplete, CompletionItem, add_completion_class

    class Bash(BashComplete):
        def get_completion_args(self) -> tuple[list[str], str]:
            arguments, incomplete = super().get_completion_args()
            words = join_words([*arguments, incomplete])
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


def join_words(words: list[str]) -> list[str]:
    """Join the words that bash split at each colon and equals sign.

    >>> join_words(["ls", "-o", "key", "=", "a", "s3", ":", "//bucket/log_"])
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
