"""What is in a file: its bytes, or a description where bytes tell nobody anything; it knows no other files."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, cast

from notata import formats
from notata._base import display, keys
from notata.errors import DecodeError, KeyNameError, NotataError
from notata.search.finding import File, file_at
from notata.search.sparing import HEAD, SparingReader
from notata.store import TIMEOUT, Blob, Store, open_store

if TYPE_CHECKING:
    from upath import UPath

    from notata.formats.describing import Describer

__all__ = ["BytesFacts", "Content", "Description", "describe", "is_text"]

_SMALL: Final = 2**20  # bytes of a file that is fetched beforehand
_PIECE: Final = 2**20
_CONTENT: Final = 2**26  # bytes of text that a record holds
_SHOWN: Final = 256  # bytes of a file that nothing is known of
_IN_RUN: Final = re.compile(r"(?:^|.*?/)log_([^/]+)/((?:artifacts|data|plots|workers)/.+|[^/]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BytesFacts:
    """The beginning of a file of which nothing else is known.

    Attributes:
        head: Its first bytes, as hexadecimal digits.
    """

    head: str

    def lines(self) -> list[str]:
        """For people, as `hexdump -C` has it."""
        data = bytes.fromhex(self.head)
        rows = [data[at : at + 16] for at in range(0, len(data), 16)]
        return [f"{at * 16:08x}  {row.hex(' '):47}  {_printable(row)}" for at, row in enumerate(rows)]


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


@dataclass(frozen=True, slots=True)
class Description:
    """What a file holds.

    Attributes:
        name: What it is called: the place as it was given, and the path below it.
        run_id: Of its run; None if it lies in none.
        key: What it is called in its run, or in its place.
        size: In bytes.
        kind: ``npy``, ``npz``, ``pickle``, ``parquet``, ``png``, the name of another format that describes its files,
            or ``bytes``.
        facts: A `notata.formats.array_facts.ArrayFacts` or another dataclass, by kind.
    """

    name: str
    run_id: str | None
    key: str
    size: int
    kind: str
    facts: Any

    def __str__(self) -> str:
        facts = self.facts
        try:
            lines = list(facts.lines() if callable(getattr(facts, "lines", None)) else str(facts).splitlines())
        except Exception as error:  # of a user's format
            told = f"{self.name}: what {self.kind} says of it cannot be printed: {type(error).__name__}: {error}"
            raise DecodeError(told, key=self.key) from error
        return "\n".join([f"{self.name}: {self.kind}, {display.size(self.size)}", *(f"  {line}" for line in lines)])

    def record(self) -> dict[str, Any]:
        """Its fields by name, as plain values."""
        facts = self.facts
        told = dataclasses.asdict(facts) if dataclasses.is_dataclass(facts) and not isinstance(facts, type) else facts
        return {
            "name": self.name,
            "run_id": self.run_id,
            "key": self.key,
            "size": self.size,
            "kind": self.kind,
            "description": _plain(told),
        }


def _plain(value: Any) -> Any:
    """As JSON has it, besides numbers that are none."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, complex):
        return {"real": value.real, "imag": value.imag}
    return value if isinstance(value, str | int | float) or value is None else str(value)


def describe(
    url: str | os.PathLike[str] | UPath | Store,
    key: str | None = None,
    *,
    stats: bool = True,
    head: int = 6,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> Description:
    """What a file holds: of an array shape, dtype, first values and statistics; of a pickle what it would run.

    Nothing is unpickled, and no array is ever whole in memory.

    Cost: one request to look it up, and one for each 8 MiB; without `stats` one for an array, of its first 16 KiB.

    Args:
        url: The file; or its run, or another folder, with `key`.
        key: Of the file in that folder, as ``data/energy.npy``.
        stats: Read arrays whole, in pieces, for the statistics of their values.
        head: How many first values to tell.
        storage_options: For fsspec.
        timeout: As for `notata.Logbook`.

    Raises:
        MissingError: There is no such file.
        DecodeError: It is damaged, or not what its name says.

    >>> from notata import Logbook
    >>> run = Logbook("a", "memory://describing")
    >>> path = run.array("energy", [0.0, 0.5, 1.0])
    >>> found = describe(run.url, "data/energy.npy")
    >>> found.facts.shape, found.facts.stats.mean
    ((3,), 0.5)
    >>> print(found)
    memory://describing/log_a/data/energy.npy: npy, 152 B
      float64  (3,)
      min 0  max 1  mean 0.5  std 0.408248
      [0, 0.5, 1]
    """
    if key is None:
        file = file_at(url, storage_options, timeout=timeout)
    else:
        store = open_store(url, storage_options, timeout=timeout)
        entry = store.locate(key)
        file = File(f"{store.url.rstrip('/')}/{key}", store, entry)
    return Content(file, stats=stats, head=head).description()


@dataclass(slots=True)
class Content:
    """A file that was asked for, and is read once.

    Attributes:
        file: Which one.
        raw: Whether its bytes are wanted, whatever it is.
        stats: As for `describe`.
        head: As for `describe`.
        describers: Who knows which kinds of files are described.
    """

    file: File
    raw: bool = False
    stats: bool = True
    head: int = 6
    describers: formats.Describers = field(default_factory=formats.Describers, repr=False)
    _coming: Future[Blob] | None = field(default=None, repr=False)

    @property
    def run_id(self) -> str | None:
        """Of its run; of a single file, whose folder nobody looked into, as its path says."""
        if self.file.run is not None:
            return keys.run_id(f"{self.file.store.url}/{self.file.run}" if self.file.run else self.file.store.url)
        found = self._in_run()
        return found[1] if found else None

    @property
    def key(self) -> str:
        """What it is called in its run, or in its place if it is in none."""
        found = None if self.file.run is not None else self._in_run()
        return found[2] if found else self.file.key

    @property
    def is_described(self) -> bool:
        """Whether it is of a kind that is described, and that is wanted."""
        return self._describer() is not None

    def _describer(self) -> tuple[str, Describer] | None:
        return None if self.raw else self.describers.of(self.file.key)

    def _in_run(self) -> re.Match[str] | None:
        return _IN_RUN.fullmatch(f"{self.file.store.url}/{self.file.entry.key}")

    def ahead(self) -> int:
        """How many of its first bytes are worth to be fetched before its turn comes; 0 for what is read as a stream."""
        size, wanted = self.file.entry.size, 0
        if 0 <= size <= _SMALL:
            wanted = size
        if self.is_described and self.file.key.lower().endswith((".png",) if self.stats else (".npy", ".png")):
            wanted = min(max(0, size), HEAD)
        try:
            keys.check(self.file.entry.key)
        except KeyNameError:  # another program's name: it is read when its turn comes
            return 0
        return wanted

    def pieces(self) -> Generator[bytes, None, None]:
        """Its bytes, some at a time."""
        with self._opened() as file, self._guarded():
            while piece := file.read(_PIECE):
                yield piece

    def read(self, most: int = _CONTENT) -> bytes:
        """Its first bytes, and one more than `most` if there are more."""
        with self._opened() as file, self._guarded():
            return file.read(most + 1)

    def description(self) -> Description:
        """What it holds.

        Raises:
            DecodeError: It is damaged, or not what its name says.
        """
        found = self._describer()
        if found is None:
            with self._opened(sparing=True) as file, self._guarded():
                return self.unknown(file.read(_SHOWN))
        kind, describer = found
        sparing = kind in ("parquet", "png") or (not self.stats and kind in ("npy", "npz"))
        try:
            with self._opened(sparing) as file, self._guarded():
                return self._told(kind, describer.describe(file, stats=self.stats, head=self.head))
        except DecodeError as error:
            raise DecodeError(f"{self.file.name}: {error}", url=self.file.store.url, key=self.file.key) from error

    def unknown(self, data: bytes) -> Description:
        """What can be told of it that begins with these bytes, if nothing else is known."""
        return self._told("bytes", BytesFacts(data[:_SHOWN].hex()))

    def record(self) -> dict[str, Any]:
        """It with its content, parsed where it is JSON or YAML, or with its description."""
        if self.is_described:
            return self.description().record()
        data = self.read()
        told: dict[str, Any] = {"name": self.file.name, "run_id": self.run_id, "key": self.key, "size": len(data)}
        if len(data) > _CONTENT:
            return self.unknown(data).record()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if self.raw:
                return told | {"kind": "bytes", "base64": base64.b64encode(data).decode()}
            return self.unknown(data).record()
        form = None if self.raw else _PARSED.get(os.path.splitext(self.file.key)[1].lower())
        if form is not None:
            with contextlib.suppress(NotataError):  # what cannot be read as such is text
                return told | {"kind": form.suffix[1:], "content": formats.plain(formats.decode(form, data))}
        return told | {"kind": "text", "content": text}

    def _told(self, kind: str, facts: Any) -> Description:
        return Description(self.file.name, self.run_id, self.key, self.file.entry.size, kind, facts)

    def _guarded(self) -> contextlib.AbstractContextManager[None]:
        return self.file.store._guard("read", self.file.entry.key)

    def _opened(self, sparing: bool = False) -> IO[bytes]:
        """A seekable file; a sparing one fetches no more than 64 KiB around what is asked for."""
        store, key = self.file.store, self.file.entry.key
        first = None if self._coming is None else self._coming.result()
        if first is not None and not first.data:  # nothing was fetched; files of /proc have no size, and a content
            first = None
        if first is not None and len(first.data) == first.size:
            return io.BytesIO(first.data)
        with self._guarded():
            if sparing and store.sized and self.file.entry.size >= 0:
                return cast("IO[bytes]", SparingReader(store, key, first))
            return store._open_read(key)


_PARSED: Final[dict[str, formats.Format]] = {
    ".json": formats.JSON,
    ".yaml": formats.YAML,
    ".yml": formats.YAML,
}


def is_text(data: bytes) -> bool:
    r"""Whether the beginning of a file looks like text.

    >>> is_text(b"caf\xc3"), is_text(b"\x93NUMPY"), is_text(b"PK\x00")
    (True, False, False)
    """
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True
