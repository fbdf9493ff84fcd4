"""The series of runs in notebooks: read up to a limit, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from notata._base import keys
from notata._base.display import counted, size
from notata._base.notebook import note, problem
from notata.errors import MissingError, TooLargeError
from notata.series.labels import Named, labels
from notata.series.many import SeriesFile, series_files
from notata.series.pictures import RUNS, preferred, series_pictures
from notata.series.reading import PIECE, SeriesData, rows_of_bytes
from notata.store import Blob, Entry, Store
from notata.store.in_flight import InFlight

__all__ = ["Source", "read", "run_pictures"]

_ERRORS: Final = 3  # errors that are shown


@dataclass(frozen=True, slots=True)
class Source:
    """A run whose series can be drawn.

    Attributes:
        named: Its names and parameters.
        store: Its store.
        entries: Its files by key.
    """

    named: Named
    store: Store
    entries: Mapping[str, Entry]


def run_pictures(runs: Sequence[Source]) -> str:
    """Return pictures of the columns of one series of some runs, as HTML: of `scalars`, else of the first series.

    Cost: one read for each of at most 10 runs, 8 MiB in all; larger files are not read, and a note says so. An error of
    the storage becomes a message beside the pictures.
    """
    there = [found for run in runs for key in run.entries if (found := keys.series_name(key)) is not None]
    name = preferred({name for rank, name in there if rank is None})
    having = [run for run in runs if keys.series_file(name) in run.entries]
    if not having:
        return ""
    chosen = having[:RUNS]
    texts = labels([run.named for run in chosen]) if len(runs) > 1 else [""]
    files = [
        file
        for run, text in zip(chosen, texts, strict=True)
        for file in series_files(text, run.store, run.entries, name)
    ]
    rest = len(having) - len(chosen)
    first = f"the curves are those of the first {RUNS} of {len(having)} runs; search.curves(…) reads all"
    parts, messages = read(name, files)
    return series_pictures(name, parts) + messages + note(first * (rest > 0))


def read(name: str, files: Sequence[SeriesFile]) -> tuple[list[tuple[str, SeriesData]], str]:
    """Return the rows of files that together have at most 8 MiB, each with the name of its run, and messages as HTML.

    Cost: one read for each file, 32 at once.
    """
    wanted, left_out = _within_limit(files)
    flying = InFlight[int, Blob]()
    with flying.until_landed():
        for number in wanted:
            file = files[number]
            length = PIECE if file.size < 0 else file.size
            flying.begin(number, length, file.store.start_fetch, file.key, 0, length)
    parts: list[tuple[str, SeriesData]] = []
    errors = [error for error in flying.errors.values() if not isinstance(error, MissingError)]
    for number, blob in sorted(flying.results.items()):
        try:
            parts.append((files[number].run, rows_of_bytes(blob.data, name)))
        except TooLargeError as error:
            whose = f" of {files[number].run}" * bool(files[number].run)
            errors.append(TooLargeError(f"the series {name}{whose} is not drawn: {error}"))
    return parts, _too_large(name, files, left_out) + "".join(map(problem, errors[:_ERRORS]))


def _too_large(name: str, files: Sequence[SeriesFile], left_out: Sequence[int]) -> str:
    """Return a note about files that are not read."""
    if not left_out:
        return ""
    total = size(sum(max(0, files[number].size) for number in left_out))
    whose = "" if len(files) == 1 else f" of {counted(len(left_out), 'run')}"
    return note(
        f"the series {name}{whose} is not drawn: its size is {total}, and a notebook reads at most {size(PIECE)}. "
        "search.curves(…) and reader.series(…) read all rows"
    )


def _within_limit(files: Sequence[SeriesFile]) -> tuple[list[int], list[int]]:
    """Return the numbers of the files that together have at most 8 MiB, and those of the others, without empty ones."""
    read: list[int] = []
    left_out: list[int] = []
    room = PIECE
    for number, file in enumerate(files):
        needed = PIECE if file.size < 0 else file.size
        if needed > room:
            left_out.append(number)
        elif needed:
            read.append(number)
            room -= needed
    return read, left_out
