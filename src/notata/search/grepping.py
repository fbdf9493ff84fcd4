"""Search for lines that match a pattern in many runs, as `grep` does."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, Any, Final

from notata._base import display, keys, limits
from notata.errors import NotataError, StorageError, TooLargeError
from notata.search.choosing import Query, Status, Wheres
from notata.search.patterns import Line, Patterns, with_context
from notata.search.places import File
from notata.search.prefetch import open_listed, prefetched
from notata.search.target import Failed, Target, URLs, raise_error
from notata.store import Blob
from notata.store.files import PART

__all__ = ["Files", "Match", "Searched", "grep", "searched"]

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
class Searched:
    """A file that is searched once, by one of its methods.

    Attributes:
        file: The file.
        patterns: The patterns of lines.
        before: Number of context lines before a match.
        after: Number of context lines after a match.
        most: Maximum number of matches; None for all.
        alone: Whether the given place is this file.
    """

    file: File
    patterns: Patterns
    before: int = 0
    after: int = 0
    most: int | None = None
    alone: bool = False
    _reports_binary: bool = field(default=True, repr=False)
    _coming: Future[Blob] | None = field(default=None, repr=False)

    def matches(self) -> Generator[Match, None, None]:
        """Yield matching lines and their context; for a binary file only that it matches.

        Raises:
            StorageError: The file cannot be read, or not to its end.
        """
        place = (self.file.name, self.file.run_id, self.file.key)
        with closing(self._lines(others=bool(self.before or self.after))) as lines:
            for number, text, matches in with_context(lines, self.before, self.after, self.most):
                if not number:
                    yield Match(*place, 0, "")
                    return
                yield Match(*place, number, text, matches, self.patterns if matches else None)

    def count(self) -> int:
        """Return the number of matching lines.

        Raises:
            StorageError: The file cannot be read, or not to its end.
        """
        with closing(self._lines()) as lines:
            return sum(1 for _ in islice(lines, self.most))

    def any(self) -> bool:
        """Check whether a line matches; nothing after the first match is read.

        Raises:
            StorageError: The file cannot be read, or not to its end.
        """
        with closing(self._lines()) as lines:
            return any(True for _ in lines)

    def _lines(self, *, others: bool = False) -> Generator[Line, None, None]:
        """Yield matching lines, and if `others` is true all other lines.

        After a NUL, which marks a binary file, lines have no number, and end at NULs too, as for `grep`. If the user
        did not name the file and its suffix is not that of text, such lines are not reported.
        """
        number, binary = 1, False
        with closing(self._parts()) as parts:
            for part in parts:
                text = part.decode("utf-8", "surrogateescape")
                binary = binary or "\0" in text
                if not binary:
                    yield from self.patterns.lines(text, number, others=others)
                    number += text.count("\n")
                elif not self._reports_binary:
                    return
                else:
                    found = self.patterns.lines(_NULS.sub("\n", text))
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
        message = (
            f"cannot search {self.file.name} to its end: one of its lines is longer than {display.size(limits.LINE)}"
        )
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


@dataclass(frozen=True, slots=True)
class Files:
    """A choice of files of runs.

    Patterns with ``*``, ``?`` and ``[…]`` match the name of a file, or its path in the run if the pattern contains a
    slash.

    Attributes:
        include: Patterns of the files to search, of any suffix; by default, files with a suffix of text files.
        exclude: Patterns of files to skip.
        logs: Search only logs, those of workers too, and the output of programs.

    >>> Files("*.json").include, Files(exclude=["*.csv", "artifacts/debug/*"]).exclude
    (('*.json',), ('*.csv', 'artifacts/debug/*'))
    """

    include: str | Iterable[str] = ()
    exclude: str | Iterable[str] = ()
    logs: bool = False

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))

    def takes(self, key: str, *, named: bool) -> bool:
        """Check whether to search a file, by its path in its run; a file that the user named need not be text."""
        if any(_is(key, glob) for glob in self.exclude) or (
            self.logs and not (keys.is_log(key) or keys.is_output(key))
        ):
            return False
        if self.include:
            return any(_is(key, glob) for glob in self.include)
        return named or _holds_text(key)

    def reports_binary(self, key: str, *, named: bool) -> bool:
        """Check whether to report a match in a file that turns out to be binary."""
        return named or bool(self.include or _suffix(key))


def grep(
    pattern: str | Iterable[str] | Patterns,
    urls: URLs | Query | None = None,
    *,
    ignore_case: bool = False,
    before: int = 0,
    after: int = 0,
    most: int | None = None,
    files: str | Iterable[str] | Files = (),
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Iterator[Match]:
    r"""Yield the lines of runs that match a pattern: lines of their logs, and of files with a suffix of text files.

    Matches come in the order of the places, and of the keys in each, while later files are being fetched.

    Cost: one listing of each place, a request per 1000 files. With `status` or `where`, one read of metadata.json for
    each run. Each searched file takes one request, 32 at a time; files beyond 8 MiB are read in parts, and not after
    `most` matches. At most about 64 MiB are held in memory, except for a longer line.

    Args:
        pattern: A Python regular expression (`re`), or several: a line matches if one of them matches. Each line of a
            pattern with several lines is a pattern of its own. `Patterns` match plain text, whole words or lines, or
            the lines that do not match.
        urls: One place or several, see `URLs`, or a `Query`; a file is allowed too. By default the base folder.
        ignore_case: Ignore upper and lower case, in any alphabet.
        before: Number of context lines before a match.
        after: Number of context lines after a match.
        most: Stop reading a file after this number of matches.
        files: Patterns of the files to search, such as ``"*.json"``, or `Files`; by default files with a suffix of text
            files.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more
            for one that has not ended, or whose parameters or metrics have changed since.
        storage_options: Options for fsspec.
        failed: Called with the error of each place and file that cannot be read; the others are searched. By default,
            the first such error is raised.

    Raises:
        ConfigurationError: The pattern is not a valid regular expression, the filter is invalid, or the status is
            unknown.
        MissingError: There is neither a run nor a file.
        StorageError: A place or a file cannot be read.

    >>> from notata import Logbook
    >>> for name, dt in (("a", 0.1), ("b", 0.5)):
    ...     with Logbook(name, "memory://grepping") as log:
    ...         log.warning("step of %g is unstable", dt)
    >>> for match in grep(r"step of \S+ is unstable", "memory://grepping"):
    ...     print(match.run_id, match.key, match.number, match.line[22:])
    a log.txt 2 WARNING step of 0.1 is unstable
    b log.txt 2 WARNING step of 0.5 is unstable
    """
    patterns = pattern if isinstance(pattern, Patterns) else Patterns(pattern, ignore_case=ignore_case)
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    which = files if isinstance(files, Files) else Files(files)
    return _matches(searched(query, patterns, which, before=before, after=after, most=most), query.failed)


def _matches(files: Iterator[Searched], failed: Failed) -> Iterator[Match]:
    for file in files:
        try:
            yield from file.matches()
        except NotataError as error:
            failed(error)


def searched(query: Query, patterns: Patterns, files: Files, **lines: Any) -> Generator[Searched, None, None]:
    """Yield the files that `grep` searches, to count matches or find matching files.

    Args:
        query: The runs, or files.
        patterns: The patterns of lines.
        files: The files to search.
        **lines: `before`, `after` and `most` of `Searched`.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://searched") as log:
    ...     log.warning("unstable")
    >>> found = searched(Query("memory://searched"), Patterns("unstable"), Files())
    >>> [(one.file.key, one.count()) for one in found]
    [('log.txt', 1)]
    """
    each_one = (
        Searched(file, patterns, **lines, alone=alone, _reports_binary=files.reports_binary(file.key, named=named))
        for file, named, alone in query.each(lambda target: _files_at(target, query))
        if files.takes(file.key, named=named)
    )
    wanted = ((one, one.file, 0, one.file.entry.size if one.file.entry.size >= 0 else PART) for one in each_one)
    with closing(prefetched(wanted)) as coming:
        for one, future in coming:
            yield replace(one, _coming=future)


def _files_at(target: Target, query: Query) -> list[tuple[File, bool, bool]]:
    """Return the files of runs, and files that the user named: each with whether it is named, and whether alone."""
    found = query.look_up_or_file(target)
    if isinstance(found, File):
        return [(found, True, True)]
    named = [(file, found.means(file.entry.key), file.name == found.given) for file in found.files]
    inside = [one for one in named if one[1] or one[0].run is not None]
    if found.entries and not inside:
        raise found.no_run()
    return inside


def _is(key: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(key if "/" in glob else key.rpartition("/")[2], glob)


def _suffix(key: str) -> str:
    return os.path.splitext(key.rpartition("/")[2])[1].lower()


def _holds_text(key: str) -> bool:
    """Check whether a key is that of a text file, other than metadata and manifests."""
    return _suffix(key) in _TEXT and key != keys.METADATA and not keys.is_manifest(key)
