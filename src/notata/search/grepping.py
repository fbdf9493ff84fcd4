"""Lines of many runs that match a pattern, as `grep` finds them; it knows which files are looked into, and how."""

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
from notata.search.ahead import opened, read_ahead
from notata.search.choosing import Choice, Wheres, narrowed
from notata.search.finding import File, Place, URLs, each, file_at, no_run, tell_nobody
from notata.search.patterns import Line, Patterns, with_context
from notata.store import TIMEOUT, Blob
from notata.store.files import PART

__all__ = ["Match", "Searched", "grep", "searched"]

_TEXT: Final = frozenset({
    "", ".c", ".cfg", ".conf", ".cpp", ".csv", ".dat", ".diff", ".err", ".f", ".f90", ".geojson", ".h", ".hpp", ".htm",
    ".html", ".ini", ".ipynb", ".jl", ".json", ".jsonl", ".lock", ".log", ".m", ".md", ".ndjson", ".out", ".patch",
    ".py", ".r", ".rst", ".sbatch", ".sh", ".tex", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml",
})  # fmt: skip
"""Suffixes of files that hold text; one without may."""

_NULS: Final = re.compile("\0+")
_PIECE: Final = 2**20  # bytes of a large file that are looked at in one go


@dataclass(frozen=True, slots=True)
class Match:
    """A line that was found.

    Attributes:
        name: What its file is called: the place as it was given, and the path below it.
        run_id: Of its run; None for a file that was given by its own name.
        key: Of its file in the run.
        number: Of the line, from 1; 0 for a file that is not text, of which no line is told.
        line: Its text without its end; bytes that are no UTF-8 are in it as ``surrogateescape`` has them.
        matches: False for a line that is only told as it is near one that matches.
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
        """What of the line matches: where each match begins and ends."""
        return self._patterns.spans(self.line) if self._patterns else []

    @property
    def binary(self) -> bool:
        """Whether it tells no line, but that a file matches which is not text."""
        return self.number == 0


@dataclass(frozen=True, slots=True)
class _How:
    """What is looked for in each file, and what is told of it."""

    patterns: Patterns
    invert: bool
    before: int
    after: int
    most: int | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file that is to be searched: whether it was given itself, and whether it is told that it is no text."""

    file: File
    alone: bool
    told: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """A file that is looked into, by one of its methods, once.

    Attributes:
        file: Which one.
        alone: Whether the place that was given is this file.
    """

    file: File
    alone: bool
    _how: _How = field(repr=False)
    _told: bool = field(repr=False)
    _coming: Future[Blob] | None = field(repr=False)

    @property
    def run_id(self) -> str | None:
        """Of its run."""
        return None if self.file.run is None else keys.run_id(self.file.run or self.file.store.url)

    def matches(self) -> Generator[Match, None, None]:
        """The lines that are looked for, and those near them; of a file that is not text only that it has such.

        Raises:
            StorageError: It cannot be read, or not to its end.
        """
        how, told = self._how, (self.file.name, self.run_id, self.file.key)
        patterns = None if how.invert else how.patterns
        with closing(self._lines(others=bool(how.before or how.after))) as lines:
            for number, text, matches in with_context(lines, how.before, how.after, how.most):
                if not number:
                    yield Match(*told, 0, "")
                    return
                yield Match(*told, number, text, matches, patterns if matches else None)

    def count(self) -> int:
        """How many lines are looked for.

        Raises:
            StorageError: As for `matches`.
        """
        with closing(self._lines()) as lines:
            return sum(1 for _ in islice(lines, self._how.most))

    def any(self) -> bool:
        """Whether there is one; what comes after the first is not read.

        Raises:
            StorageError: As for `matches`.
        """
        with closing(self._lines()) as lines:
            return any(True for _ in lines)

    def _lines(self, *, others: bool = False) -> Generator[Line, None, None]:
        """The lines that are looked for, with the others if they are asked for.

        From where a NUL has told that a file is no text, its lines have no number; they end at NULs too, as for
        `grep`. Of a file that nobody asked for, and whose name promises no text, there are none then.
        """
        how, number, binary = self._how, 1, False
        with closing(self._parts()) as parts:
            for part in parts:
                text = part.decode("utf-8", "surrogateescape")
                binary = binary or "\0" in text
                if not binary:
                    yield from how.patterns.lines(text, number, invert=how.invert, others=others)
                    number += text.count("\n")
                elif not self._told:
                    return
                else:
                    found = how.patterns.lines(_NULS.sub("\n", text), invert=how.invert)
                    yield from ((0, line, True) for _, line, _ in found)

    def _parts(self) -> Generator[bytes, None, None]:
        """The bytes of the file, in parts that end where a line ends."""
        blob = self._coming.result() if self._coming is not None else None
        if blob is not None and blob.size <= len(blob.data):
            yield from (blob.data,) if blob.data else ()
            return
        with opened(self.file) as reader:
            yield from _whole_lines(iter(lambda: self._read(reader), b""), self._too_long)

    def _too_long(self) -> TooLargeError:
        told = f"cannot search {self.file.name} to its end: a line of it is longer than {display.size(limits.LINE)}"
        return TooLargeError(told, url=self.file.store.url, key=self.file.entry.key)

    def _read(self, reader: IO[bytes]) -> bytes:
        try:
            return reader.read(_PIECE)
        except NotataError:
            raise
        except OSError as error:  # of a disk
            raise StorageError(f"cannot read {self.file.name}: {error.strerror}", url=self.file.store.url) from error


def _whole_lines(parts: Iterable[bytes], too_long: Callable[[], TooLargeError]) -> Iterator[bytes]:
    """The same bytes, in parts that end where a line ends, or of what is no text, at a NUL.

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
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> Iterator[Match]:
    r"""The lines of runs that match a pattern: those of their logs, and of files that hold text by their names.

    They come in the order of the places, and of the keys in each, while later files are still on their way. A bucket is
    asked for one listing of each place, a request per 1000 files, with `status` or `where` for the metadata.json of
    each run, and for each file that is searched once, 32 at a time; of a file beyond 8 MiB for a part at a time, and
    for none after `most` matches. At most some 64 MiB are held, a line that is longer apart.

    Args:
        pattern: One of Python's regular expressions (`re`), or several: a line matches that any of them matches. One of
            several lines is as many patterns.
        urls: See `URLs`; a file may be given too. Without it the base folder.
        ignore_case: Take upper and lower case for the same, of any alphabet.
        fixed: Take the pattern as it is, for text.
        words: Match whole words only.
        whole: Match whole lines only.
        invert: Tell the lines that do not match.
        before: Lines that are told before one that matches.
        after: Lines that are told after it.
        most: Matches of a file after which it is read no further.
        include: Patterns with ``*``, ``?``, ``[…]`` of the names of files to search instead, or with a slash of their
            paths in the run; then of any file.
        exclude: The same of files not to search.
        logs: Search log.txt and the logs of workers only.
        status: Search runs of this status only, or of several; as for `runs`.
        where: Search only runs for which this holds; as for `runs`.
        storage_options: For fsspec.
        failed: Is told of each place and file that cannot be read; the others are searched.
        timeout: As for `notata.Logbook`.

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
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> Generator[Searched, None, None]:
    """The files that `grep` searches, for who wants to count, or only to know which match. Arguments as there.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://searched") as log:
    ...     log.warning("unstable")
    >>> [(found.file.key, found.count()) for found in searched(Patterns("unstable"), "memory://searched")]
    [('log.txt', 1)]
    """
    how = _How(patterns, invert, before, after, most)
    chosen = _Files(_globs(include), _globs(exclude), logs)
    files = _files(urls, chosen, Choice(status, where), storage_options, failed, timeout)
    return _ahead(files, how)


def _ahead(files: Iterator[_Wanted], how: _How) -> Generator[Searched, None, None]:
    wanted = ((it, it.file, 0, it.file.entry.size if it.file.entry.size >= 0 else PART) for it in files)
    with closing(read_ahead(wanted)) as coming:
        for it, future in coming:
            yield Searched(it.file, it.alone, how, it.told, future)


def _globs(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


@dataclass(frozen=True, slots=True)
class _Files:
    """Which files are searched."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    logs: bool

    def wanted(self, file: File, named: bool, alone: bool = False) -> Iterator[_Wanted]:
        """The file, if it is searched."""
        if self._takes(file.key, named):
            yield _Wanted(file, alone, named or bool(self.include or _suffix(file.key)))

    def _takes(self, key: str, named: bool) -> bool:
        """Whether a file is searched, by its path in its run; one that was given by its own name need not hold text."""
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
    """Whether it is text, and more than what tells of the run."""
    return _suffix(key) in _TEXT and key != keys.METADATA and not keys.is_manifest(key)


def _files(
    urls: URLs | None,
    chosen: _Files,
    choice: Choice,
    options: Mapping[str, Any] | None,
    failed: Callable[[NotataError], None],
    timeout: float,
) -> Iterator[_Wanted]:
    """The files that are searched."""
    for url in each(urls):
        try:
            place = narrowed(url, choice, options, failed=failed, timeout=timeout)
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
