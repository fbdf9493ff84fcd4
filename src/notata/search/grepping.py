"""Search for lines that match a pattern in many runs, as `grep` does."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any, Final

from notata._base import display, keys, limits
from notata.errors import NotataError, StorageError, TooLargeError
from notata.search.choosing import Choice, Wheres, look_up_filtered
from notata.search.finding import File, Place, URLs, each, file_at, no_run, raise_error
from notata.search.patterns import Line, Patterns, with_context
from notata.search.prefetch import open_listed, prefetched
from notata.store import TIMEOUT, Blob
from notata.store.files import PART

__all__ = ["Match", "Searched", "grep", "searched"]

_TEXT: Final = frozenset({
    "", ".c", ".cfg", ".conf", ".cpp", ".csv", ".dat", ".diff", ".err", ".f", ".f90", ".geojson", ".h", ".hpp", ".htm",
    ".html", ".ini", ".ipynb", ".jl", ".json", ".jsonl", ".lock", ".log", ".m", ".md", ".ndjson", ".out", ".patch",
    ".py", ".r", ".rst", ".sbatch", ".sh", ".tex", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml",
})  # fmt: skip
"""Suffixes of text files; a file without a suffix may be text."""

_NULS: Final = re.compile("\0+")
PIECE: Final = 2**20  # bytes read at once from a large file


@dataclass(frozen=True, slots=True)
class Match:
    """A line that matches, or is near one.

    Attributes:
        name: The name of its file: the place as it was given, and the path below it.
        run_id: The id of its run; None for a file in no known run.
        key: The key of its file in the run.
        number: The line number, from 1; 0 for a binary file, whose lines are not reported.
        line: The text without its line end; bytes that are not UTF-8 are decoded with ``surrogateescape``.
        matches: False for a context line near a match.
    """

    name: str
    run_id: str | None
    key: str
    number: int
    line: str
    matches: bool = True
    _patterns: Patterns | None = field(default=None, repr=False, compare=False)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Start and end of each match in the line."""
        return self._patterns.spans(self.line) if self._patterns else []

    @property
    def binary(self) -> bool:
        """True if this reports a match in a binary file instead of a line."""
        return self.number == 0


@dataclass(frozen=True, slots=True)
class _Search:
    """The search in each file, and its output."""

    patterns: Patterns
    invert: bool
    before: int
    after: int
    most: int | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file to search, whether the user named it directly, and whether to report matches if it is binary."""

    file: File
    alone: bool
    reports_binary: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """A file that is searched once, by one of its methods.

    Attributes:
        file: The file.
        alone: Whether the given place is this file.
    """

    file: File
    alone: bool
    _how: _Search = field(repr=False)
    _reports_binary: bool = field(repr=False)
    _coming: Future[Blob] | None = field(repr=False)

    @property
    def run_id(self) -> str | None:
        """The id of its run."""
        return None if self.file.run is None else keys.run_id(self.file.run or self.file.store.url)

    def matches(self) -> Generator[Match, None, None]:
        """Yield matching lines and their context; for a binary file only that it matches.

        Raises:
            StorageError: The file cannot be read, or not to its end.
        """
        how, place = self._how, (self.file.name, self.run_id, self.file.key)
        patterns = None if how.invert else how.patterns
        with closing(self._lines(others=bool(how.before or how.after))) as lines:
            for number, text, matches in with_context(lines, how.before, how.after, how.most):
                if not number:
                    yield Match(*place, 0, "")
                    return
                yield Match(*place, number, text, matches, patterns if matches else None)

    def count(self) -> int:
        """Return the number of matching lines.

        Raises:
            StorageError: As for `matches`.
        """
        with closing(self._lines()) as lines:
            return sum(1 for _ in islice(lines, self._how.most))

    def any(self) -> bool:
        """Check whether a line matches; nothing after the first match is read.

        Raises:
            StorageError: As for `matches`.
        """
        with closing(self._lines()) as lines:
            return any(True for _ in lines)

    def _lines(self, *, others: bool = False) -> Generator[Line, None, None]:
        """Yield matching lines, and if `others` is true all other lines.

        After a NUL, which marks a binary file, lines have no number, and end at NULs too, as for `grep`. If the user
        did not name the file and its suffix is not that of text, such lines are not reported.
        """
        how, number, binary = self._how, 1, False
        with closing(self._parts()) as parts:
            for part in parts:
                text = part.decode("utf-8", "surrogateescape")
                binary = binary or "\0" in text
                if not binary:
                    yield from how.patterns.lines(text, number, invert=how.invert, others=others)
                    number += text.count("\n")
                elif not self._reports_binary:
                    return
                else:
                    found = how.patterns.lines(_NULS.sub("\n", text), invert=how.invert)
                    yield from ((0, line, True) for _, line, _ in found)

    def _parts(self) -> Generator[bytes, None, None]:
        """Yield the bytes of the file, in parts that end at a line end."""
        blob = self._coming.result() if self._coming is not None else None
        if blob is not None and blob.size <= len(blob.data):
            yield from (blob.data,) if blob.data else ()
            return
        with open_listed(self.file) as reader:
            yield from _whole_lines(iter(lambda: self._read(reader), b""), self._too_long)

    def _too_long(self) -> TooLargeError:
        message = f"cannot search {self.file.name} to its end: a line of it is longer than {display.size(limits.LINE)}"
        return TooLargeError(message, url=self.file.store.url, key=self.file.entry.key)

    def _read(self, reader: IO[bytes]) -> bytes:
        try:
            return reader.read(PIECE)
        except NotataError:
            raise
        except OSError as error:  # from a disk
            raise StorageError(f"cannot read {self.file.name}: {error.strerror}", url=self.file.store.url) from error


def _whole_lines(parts: Iterable[bytes], too_long: Callable[[], TooLargeError]) -> Iterator[bytes]:
    """Yield the same bytes in parts that end at a line end, or without one at a NUL.

    Raises:
        TooLargeError: A line is longer than `limits.LINE`.
    """
    begun: list[bytes] = []
    held = 0
    for part in parts:
        end = (part.rfind(b"\n") + 1) or (part.rfind(b"\0") + 1)
        if end:
            yield b"".join((*begun, part[:end]))
            begun, held = [], 0
        if end < len(part):
            begun.append(part[end:])
            held += len(part) - end
        if held > limits.LINE:
            raise too_long()
    if begun:
        yield b"".join(begun)


def grep(
    pattern: str | Iterable[str],
    urls: URLs | None = None,
    *,
    ignore_case: bool = False,
    fixed: bool = False,
    words: bool = False,
    whole: bool = False,
    invert: bool = False,
    before: int = 0,
    after: int = 0,
    most: int | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    logs: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = raise_error,
    timeout: float = TIMEOUT,
) -> Iterator[Match]:
    r"""Yield the lines of runs that match a pattern: lines of their logs, and of files with a suffix of text files.

    Matches come in the order of the places, and of the keys in each, while later files are being fetched.

    Cost: one listing of each place, a request per 1000 files. With `status` or `where`, one read of metadata.json for
    each run. Each searched file takes one request, 32 at a time; files beyond 8 MiB are read in parts, and not after
    `most` matches. At most about 64 MiB are held in memory, except for a longer line.

    Args:
        pattern: A Python regular expression (`re`), or several: a line matches if one of them matches. Each line of a
            pattern with several lines is a pattern of its own.
        urls: See `URLs`; a file is allowed too. By default the base folder.
        ignore_case: Ignore upper and lower case, in any alphabet.
        fixed: Match the pattern as plain text.
        words: Match whole words only.
        whole: Match whole lines only.
        invert: Yield the lines that do not match.
        before: Number of context lines before a match.
        after: Number of context lines after a match.
        most: Stop reading a file after this number of matches.
        include: Patterns with ``*``, ``?``, ``[…]`` that names of searched files must match, or their paths in the run
            if the pattern contains a slash. Files of any suffix are searched then.
        exclude: Patterns of files to skip.
        logs: Search only log.txt and the logs of workers.
        status: Search only runs with this status or one of several; as for `runs`.
        where: Search only runs that match this filter; as for `runs`.
        storage_options: Options for fsspec.
        failed: Called with the error of each place and file that cannot be read; the others are searched.
        timeout: As for `notata.Logbook`.

    Raises:
        ConfigurationError: The pattern is not a valid regular expression.

    Raises:
        ConfigurationError: The pattern is no regular expression.

    >>> from notata import Logbook
    >>> for name, dt in (("a", 0.1), ("b", 0.5)):
    ...     with Logbook(name, "memory://grepping") as log:
    ...         log.warning("step of %g is unstable", dt)
    >>> for match in grep(r"step of \S+ is unstable", "memory://grepping"):
    ...     print(match.run_id, match.key, match.number, match.line[22:])
    a log.txt 2 WARNING step of 0.1 is unstable
    b log.txt 2 WARNING step of 0.5 is unstable
    """
    patterns = Patterns(pattern, ignore_case=ignore_case, fixed=fixed, words=words, whole=whole)
    files = searched(
        patterns,
        urls,
        invert=invert,
        before=before,
        after=after,
        most=most,
        include=include,
        exclude=exclude,
        logs=logs,
        status=status,
        where=where,
        storage_options=storage_options,
        failed=failed,
        timeout=timeout,
    )
    return _matches(files, failed)


def _matches(files: Iterator[Searched], failed: Callable[[NotataError], None]) -> Iterator[Match]:
    for file in files:
        try:
            yield from file.matches()
        except NotataError as error:
            failed(error)


def searched(
    patterns: Patterns,
    urls: URLs | None = None,
    *,
    invert: bool = False,
    before: int = 0,
    after: int = 0,
    most: int | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    logs: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = raise_error,
    timeout: float = TIMEOUT,
) -> Generator[Searched, None, None]:
    """Yield the files that `grep` searches, to count matches or find matching files. The arguments are the same.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://searched") as log:
    ...     log.warning("unstable")
    >>> [(found.file.key, found.count()) for found in searched(Patterns("unstable"), "memory://searched")]
    [('log.txt', 1)]
    """
    how = _Search(patterns, invert, before, after, most)
    chosen = _Files(_globs(include), _globs(exclude), logs)
    files = _files(urls, chosen, Choice(status, where), storage_options, failed, timeout)
    return _ahead(files, how)


def _ahead(files: Iterator[_Wanted], how: _Search) -> Generator[Searched, None, None]:
    wanted = ((it, it.file, 0, it.file.entry.size if it.file.entry.size >= 0 else PART) for it in files)
    with closing(prefetched(wanted)) as coming:
        for it, future in coming:
            yield Searched(it.file, it.alone, how, it.reports_binary, future)


def _globs(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


@dataclass(frozen=True, slots=True)
class _Files:
    """A selection of files to search."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    logs: bool

    def wanted(self, file: File, named: bool, alone: bool = False) -> Iterator[_Wanted]:
        """Yield the file if it is to be searched."""
        if self._takes(file.key, named):
            yield _Wanted(file, alone, named or bool(self.include or _suffix(file.key)))

    def _takes(self, key: str, named: bool) -> bool:
        """Check whether to search a file, by its path in its run; a file named directly need not be text."""
        if any(_is(key, glob) for glob in self.exclude) or (self.logs and not keys.is_log(key)):
            return False
        if self.include:
            return any(_is(key, glob) for glob in self.include)
        return named or _holds_text(key)


def _is(key: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(key if "/" in glob else key.rpartition("/")[2], glob)


def _suffix(key: str) -> str:
    return os.path.splitext(key.rpartition("/")[2])[1].lower()


def _holds_text(key: str) -> bool:
    """Check whether a key is that of a text file, other than metadata and manifests."""
    return _suffix(key) in _TEXT and key != keys.METADATA and not keys.is_manifest(key)


def _files(
    urls: URLs | None,
    chosen: _Files,
    choice: Choice,
    options: Mapping[str, Any] | None,
    failed: Callable[[NotataError], None],
    timeout: float,
) -> Iterator[_Wanted]:
    """Yield the files to search."""
    for url in each(urls):
        try:
            place = look_up_filtered(url, choice, options, failed=failed, timeout=timeout)
            if place.entries:
                yield from _inside(place, chosen)
            elif not choice.filters:
                yield from chosen.wanted(file_at(url, options, timeout=timeout), True, alone=True)
        except NotataError as error:
            failed(error)


def _inside(place: Place, chosen: _Files) -> Iterator[_Wanted]:
    found = False
    for file in place.files:
        named = place.means(file.entry.key)
        if named or file.run is not None:
            found = True
            yield from chosen.wanted(file, named, alone=file.name == place.given)
    if not found:
        raise no_run(place)
