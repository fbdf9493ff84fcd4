"""Content of files: the bytes, or a description if the bytes are not readable for people."""

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
from notata.search.block_reader import HEAD, BlockReader
from notata.search.finding import file_at
from notata.search.places import File
from notata.search.target import URL, targets
from notata.store import Blob

if TYPE_CHECKING:
    from notata.formats.describing import Describer

__all__ = ["BytesFacts", "Content", "Description", "describe", "is_text"]

_SMALL: Final = 2**20  # size up to which a file is prefetched
_PIECE: Final = 2**20
TEXT_BYTES: Final = 2**26  # bytes of text in a record
_SHOWN: Final = 256  # bytes shown of a file of unknown kind
_IN_RUN: Final = re.compile(r"(?:^|.*?/)log_([^/]+)/((?:artifacts|data|plots|workers)/.+|[^/]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BytesFacts:
    """The beginning of a file of unknown kind.

    Attributes:
        head: The first bytes, as hexadecimal digits.
    """

    head: str

    def lines(self) -> list[str]:
        """Return the bytes for people, in the format of `hexdump -C`."""
        data = bytes.fromhex(self.head)
        rows = [data[at : at + 16] for at in range(0, len(data), 16)]
        return [f"{at * 16:08x}  {row.hex(' '):47}  {_printable(row)}" for at, row in enumerate(rows)]


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


@dataclass(frozen=True, slots=True)
class Description:
    """A description of the content of a file.

    Attributes:
        name: The place as it was given, and the path below it.
        run_id: The id of its run; None if it is in no run.
        key: The key in its run, or in its place.
        size: The size in bytes.
        kind: ``npy``, ``npz``, ``pickle``, ``parquet``, ``png``, the name of another format that describes its files,
            or ``bytes``.
        facts: A `notata.formats.array_facts.ArrayFacts` or another dataclass, depending on `kind`.
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
        except Exception as error:  # from a user's format
            message = f"{self.name}: cannot print its description as {self.kind}: {type(error).__name__}: {error}"
            raise DecodeError(message, key=self.key) from error
        return "\n".join([f"{self.name}: {self.kind}, {display.size(self.size)}", *(f"  {line}" for line in lines)])

    def record(self) -> dict[str, Any]:
        """Return its fields by name, as plain values."""
        fields = {name: getattr(self, name) for name in ("name", "run_id", "key", "size", "kind")}
        return fields | {"description": _plain(self.facts)}


def _plain(value: Any) -> Any:
    """Return a value as JSON types; non-finite numbers stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
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
    url: URL,
    key: str | None = None,
    *,
    stats: bool = True,
    head: int = 6,
    storage_options: Mapping[str, Any] | None = None,
) -> Description:
    """Describe the content of a file: shape, dtype, values and statistics of an array, the calls of a pickle.

    Nothing is unpickled, and no array is in memory as a whole.

    Cost: one request for the lookup, and one for each 8 MiB; without `stats` one request for an array, which reads its
    first 16 KiB.

    Args:
        url: The file as an fsspec URL, a path or a `Target`; or its run, or another folder, with `key`.
        key: The key of the file in that folder, such as ``data/energy.npy``.
        stats: Read whole arrays, in pieces, to compute statistics of their values.
        head: Number of first values to include.
        storage_options: Options for fsspec.

    Raises:
        MissingError: There is no such file.
        DecodeError: The file is damaged, or its name has the suffix of another format.
        StorageError: The file cannot be read.

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
    [target] = targets([url], storage_options)
    if key is None:
        file = file_at(target)
    else:
        store = target.folder
        file = File(f"{store.url.rstrip('/')}/{key}", store, store.locate(key))
    return Content(file, stats=stats, head=head).description()


@dataclass(slots=True)
class Content:
    """A file that is read once.

    Attributes:
        file: The file.
        raw: Whether to return its bytes, even if its kind has a description.
        stats: Whether to read whole arrays, in pieces, to compute statistics of their values.
        head: Number of first values of an array to include in its description.
        describers: Maps the kinds of files to the formats that describe them.
    """

    file: File
    raw: bool = False
    stats: bool = True
    head: int = 6
    describers: formats.Describers = field(default_factory=formats.Describers, repr=False)
    _coming: Future[Blob] | None = field(default=None, repr=False)

    @property
    def run_id(self) -> str | None:
        """The id of its run; for a single file, without a listing of its folder, by its path."""
        found = self._in_run()
        return found[1] if self.file.run is None and found else self.file.run_id

    @property
    def key(self) -> str:
        """The key in its run, or in its place if it is in no run."""
        found = None if self.file.run is not None else self._in_run()
        return found[2] if found else self.file.key

    @property
    def is_described(self) -> bool:
        """True if its kind has a description, and `raw` is false."""
        return self._describer() is not None

    def _describer(self) -> tuple[str, Describer] | None:
        return None if self.raw else self.describers.of(self.file.key)

    def _in_run(self) -> re.Match[str] | None:
        return _IN_RUN.fullmatch(f"{self.file.store.url}/{self.file.entry.key}")

    def prefetch_size(self) -> int:
        """Return how many of its first bytes to prefetch; 0 for a file that is read as a stream."""
        size, wanted = self.file.entry.size, 0
        if 0 <= size <= _SMALL:
            wanted = size
        if self.is_described and self.file.key.lower().endswith((".png",) if self.stats else (".npy", ".png")):
            wanted = min(max(0, size), HEAD)
        try:
            keys.check(self.file.entry.key)
        except KeyNameError:  # a name given by another program: read without prefetch
            return 0
        return wanted

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield its bytes in pieces."""
        with self._opened() as file, self._guarded():
            while piece := file.read(_PIECE):
                yield piece

    def read(self, most: int = TEXT_BYTES) -> bytes:
        """Return its first bytes, and one more than `most` if there are more."""
        with self._opened() as file, self._guarded():
            return file.read(most + 1)

    def description(self) -> Description:
        """Return a description of its content.

        Raises:
            DecodeError: The file is damaged, or its name has the suffix of another format.
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
        """Return the description of a file of unknown kind that begins with these bytes."""
        return self._told("bytes", BytesFacts(data[:_SHOWN].hex()))

    def record(self) -> dict[str, Any]:
        """Return its fields with its description, or with its content, parsed if it is JSON or YAML."""
        if self.is_described:
            return self.description().record()
        data = self.read()
        fields: dict[str, Any] = {"name": self.file.name, "run_id": self.run_id, "key": self.key, "size": len(data)}
        if len(data) > TEXT_BYTES:
            return self.unknown(data).record()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if self.raw:
                return fields | {"kind": "bytes", "base64": base64.b64encode(data).decode()}
            return self.unknown(data).record()
        form = None if self.raw else _PARSED.get(os.path.splitext(self.file.key)[1].lower())
        if form is not None:
            with contextlib.suppress(NotataError):  # invalid content is returned as text
                return fields | {"kind": form.suffix[1:], "content": formats.plain(formats.decode(form, data))}
        return fields | {"kind": "text", "content": text}

    def _told(self, kind: str, facts: Any) -> Description:
        return Description(self.file.name, self.run_id, self.key, self.file.entry.size, kind, facts)

    def _guarded(self) -> contextlib.AbstractContextManager[None]:
        return self.file.store.guard("read", self.file.entry.key)

    def _opened(self, sparing: bool = False) -> IO[bytes]:
        """Return a seekable file; a sparing one fetches at most 64 KiB around each read."""
        store, key = self.file.store, self.file.entry.key
        first = None if self._coming is None else self._coming.result()
        if first is not None and not first.data:  # nothing was prefetched; files in /proc have size 0, but a content
            first = None
        if first is not None and len(first.data) == first.size:
            return io.BytesIO(first.data)
        with self._guarded():
            if sparing and store.sized and self.file.entry.size >= 0:
                return cast("IO[bytes]", BlockReader(store, key, first))
            return store.open_listed(key)


_PARSED: Final[dict[str, formats.Format]] = {
    ".json": formats.JSON,
    ".yaml": formats.YAML,
    ".yml": formats.YAML,
}


def is_text(data: bytes) -> bool:
    r"""Check whether the beginning of a file looks like text.

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
