"""The previews of files of a report: pictures and small files, fairly over the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final

from notata._base import display, keys
from notata._base.display import counted
from notata.errors import DecodeError, NotataError
from notata.page.bundle import BLOCK, size_of_block
from notata.page.model import key_of
from notata.page.preview import file_page, kind_of
from notata.page.values import command_for, encoded, shown_text, text_of
from notata.search.places import Run

__all__ = ["FileCollector"]

_AT_ONCE: Final = 16  # previews that are read together
_PREVIEWS: Final = 3000  # of all runs, as each takes a request
_TEXT: Final = 2**15  # bytes read of a text or table
_ARRAY: Final = 2**20  # bytes read of an array, of which little is shown
_IMAGE: Final = 2 * 2**20  # bytes of the largest picture
_LEAST: Final = 2**16  # bytes of a picture that any report may have
_KINDS: Final = ("image", "json", "table", "array", "text")
_WITHOUT: Final = frozenset({"key", "size", "kind", "left_out"})  # fields of a file without a preview
_SHOWN_ELSEWHERE: Final = frozenset({
    keys.METADATA, keys.LOG, keys.OUTPUT, keys.MANIFEST, keys.PARAMS_YAML, keys.PARAMS_JSON, keys.FAILURE,
    keys.TRACEBACK,
})  # fmt: skip


@dataclass
class FileCollector:
    """Collects the previews of a report.

    Attributes:
        left_out: Sentences about files that are left out.

    Args:
        runs: The runs with their ids in the page, those that matter most first.
        failed: Called with the error of each file that cannot be read.
    """

    runs: Sequence[tuple[str, Run]]
    failed: Callable[[NotataError], None]
    left_out: list[str] = field(default_factory=list)

    def collect(self, budget: int) -> Iterator[tuple[str, bytes]]:
        """Yield the blocks of files: the first file of each run, then the second of each, while they fit.

        Args:
            budget: Their bytes at most.
        """
        image = max(_LEAST, min(_IMAGE, budget // 10))
        left, added, shown = budget, 0, 0
        files = self._in_turn()
        total = sum(len(_candidates(run)) for _, run in self.runs)
        with ThreadPoolExecutor(_AT_ONCE, "notata-page") as pool:
            while left > 500 and added < _PREVIEWS and (batch := [*islice(files, _AT_ONCE)]):
                pages = pool.map(partial(self._preview, image=image, room=left - 1000), batch)
                for (name, run, key), found in zip(batch, pages, strict=True):
                    is_small = len(encoded(found)) <= left - 1000
                    page = found if is_small else _left_out(run, key, "It does not fit in the report.")
                    data = encoded(page)
                    block = key_of("file", name, key)
                    cost = size_of_block(block, data)
                    if cost > left:
                        continue
                    left, added = left - cost, added + 1
                    shown += not page.keys() <= _WITHOUT
                    yield block, data
        if total > shown:
            self.left_out.append(f"Previews of {counted(total - shown, 'file')}; `notata cat` shows them.")

    def needed(self) -> int:
        """Return about how many bytes the previews of all files take. No request."""
        total = 0
        for name, run in self.runs:
            for key in _candidates(run):
                size, kind = run.entries[key].size, kind_of(key)
                shown = 3000 if kind == "array" else min(size, _TEXT)
                total += len(key_of("file", name, key)) + BLOCK + 100
                total += size * 3 // 2 if kind == "image" and size <= _IMAGE else shown
        return total

    def _in_turn(self) -> Iterator[tuple[str, Run, str]]:
        """Yield the first file of each run, then the second of each, and so on."""
        each = [(name, run, _candidates(run)) for name, run in self.runs]
        for turn in range(max((len(files) for _, _, files in each), default=0)):
            for name, run, files in each:
                if turn < len(files):
                    yield name, run, files[turn]

    def _preview(self, one: tuple[str, Run, str], *, image: int, room: int) -> dict[str, Any]:
        """Return the preview of a file; a sentence if it cannot be read or is too large.

        Nothing is read if not even the key and the name of the file fit in `room` bytes.
        """
        name, run, key = one
        nothing = encoded({"key": text_of(key, 2000)})
        if size_of_block(key_of("file", name, key), nothing) > room:
            return _left_out(run, key, "It does not fit in the report.")
        kind = kind_of(key)
        most = {"image": image, "array": _ARRAY}.get(kind, _TEXT)
        if kind == "image" and run.entries[key].size > most:
            return _left_out(
                run, key, f"Its size is {display.size(run.entries[key].size)}, which is too much for this report."
            )
        try:
            return file_page(run.file(key), most=most)
        except NotataError as error:
            self.failed(error)
            return _left_out(run, key, f"It cannot be read: {error}.")
        except Exception as error:  # one file must not prevent the report
            what = f"{type(error).__name__}: {error}"
            self.failed(DecodeError(f"the preview of {key} of {run.name} failed: {what}", url=run.url, key=key))
            return _left_out(run, key, f"Its preview failed: {what}.")


def _left_out(run: Run, key: str, why: str) -> dict[str, Any]:
    """Return the data of a file without a preview."""
    command = command_for("cat", f"{run.name}/{key}")
    entry = run.entries[key]
    facts = {"key": text_of(key, 2000), "size": max(0, entry.size), "kind": kind_of(key)}
    return facts | {"left_out": shown_text(f"{why} See: {command}")}


def _candidates(run: Run) -> list[str]:
    """Return the files of a run that a preview can show, pictures first."""
    files = [
        key
        for key in run.entries
        if key not in _SHOWN_ELSEWHERE and keys.series_name(key) is None and not key.startswith(f"{keys.WORKERS}/")
    ]
    kinds = {key: kind_of(key) for key in files}
    return sorted((key for key in files if kinds[key] in _KINDS), key=lambda key: (_KINDS.index(kinds[key]), key))
