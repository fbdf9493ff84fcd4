"""Choose the format that can describe a file, by the file's name.

A format can describe its files if it has a method ``describe(file, *, stats, head)``; this includes users' formats. The
method returns a dataclass with a method `lines`, or anything else that can be printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

from notata.errors import DecodeError
from notata.formats.arrays import NPY, NPZ
from notata.formats.base import kind_of, reading
from notata.formats.basic import JSON, TEXT, YAML
from notata.formats.named import known
from notata.formats.pickles import PICKLE

__all__ = ["Describer", "Describers", "ImageFacts"]

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_COLOURS: Final = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}


class Describer(Protocol):
    """Describes the content of a file."""

    def describe(self, file: IO[bytes], *, stats: bool, head: int) -> Any:
        """Describe a seekable binary file: with its first `head` values and, if requested, statistics."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts about an image.

    Attributes:
        width: In pixels.
        height: In pixels.
        depth: Bits of one channel of a pixel.
        colour: The kind of channels, such as ``RGB``.
    """

    width: int
    height: int
    depth: int
    colour: str

    def lines(self) -> list[str]:
        """Return the facts as lines of text."""
        return [f"{self.width} x {self.height} pixels, {self.depth} bits, {self.colour}"]


class _Png:
    """The header of a PNG file.

    References:
        W3C, Portable Network Graphics (PNG) Specification, section 11.2.1: IHDR.
    """

    suffix = ".png"

    def describe(self, file: IO[bytes], *, stats: bool = True, head: int = 6) -> ImageFacts:
        with reading("png", file) as source:
            data = source.read(26)
        if len(data) < 26 or data[:8] != _PNG or data[12:16] != b"IHDR":
            raise DecodeError("this is not a PNG file, or its header is damaged")
        size = (int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
        return ImageFacts(*size, data[24], _COLOURS.get(data[25], f"colour type {data[25]}"))


class Describers:
    """Find the describer of a file. Installed packages are searched for formats at most once.

    >>> describers = Describers()
    >>> describers.of("data/x.npy")[0], describers.of("plots/energy.PNG")[0], describers.of("log.txt")
    ('npy', 'png', None)
    """

    def __init__(self) -> None:
        self._forms: dict[str, Any] = {}

    def of(self, name: str) -> tuple[str, Describer] | None:
        """Return the name and the describer for files of this name; None for text and unknown files."""
        name = name.rpartition("/")[2].lower()
        form = _OURS.get(name[name.find(".") :]) if "." in name else None
        if form is None:
            self._forms = self._forms or {one.suffix.lower(): one for one in known().values()} | _OURS
            fitting = [suffix for suffix in self._forms if suffix and name.endswith(suffix)]
            form = self._forms[max(fitting, key=len)] if fitting else None
        if form is None or not callable(getattr(form, "describe", None)):
            return None
        return kind_of(form).lower(), form


_OURS: Final[dict[str, Any]] = {
    ".json": JSON, ".npy": NPY, ".npz": NPZ, ".pickle": PICKLE, ".pkl": PICKLE, ".png": _Png(), ".txt": TEXT,
    ".yaml": YAML, ".yml": YAML,
}  # fmt: skip
"""Formats that need no search in installed packages; they take precedence over others with the same suffix."""
