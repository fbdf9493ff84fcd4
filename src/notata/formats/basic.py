"""The formats of text, JSON, YAML and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from notata._base.buffers import flat
from notata.errors import DecodeError, EncodeError
from notata.formats.json_text import write_json
from notata.formats.plain import plain, utf8
from notata.formats.yaml_loader import load

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BYTES", "JSON", "TEXT", "YAML", "Json", "Yaml"]

_SLICE: Final = 2**20  # characters encoded at once
_TOO_DEEP: Final = "exceeded maximum nesting depth"  # the problem that libyaml names; it has no error type for it


@dataclass(frozen=True, slots=True)
class _Text:
    r"""UTF-8 text, with newlines unchanged. A lone surrogate becomes its escape (``\udc80``), so nothing is lost."""

    suffix: str = ".txt"

    def write(self, value: str, file: IO[bytes]) -> None:
        if not isinstance(value, str):
            raise EncodeError(f"text takes a str, not {type(value).__name__}; use bytes() for bytes")
        for start in range(0, len(value), _SLICE):
            file.write(utf8(value[start : start + _SLICE]))

    def read(self, file: IO[bytes]) -> str:
        data = file.read()
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"this is not UTF-8 text: {error.reason} at byte {error.start} of {len(data)}") from error


@dataclass(frozen=True, slots=True)
class Json:
    """JSON as in RFC 8259, plus NaN and Infinity: 2 spaces, sorted keys, UTF-8 unescaped, a newline at the end.

    Attributes:
        root: Name of the value itself in errors, as in ``metrics.layers[3].weight``.

    >>> import io
    >>> JSON.read(io.BytesIO(b'{"loss": NaN}'))
    {'loss': nan}
    """

    root: str = ""
    suffix: str = ".json"

    def write(self, value: object, file: IO[bytes]) -> None:
        write_json(plain(value, self.root), lambda text: file.write(utf8(text)))
        file.write(b"\n")

    def read(self, file: IO[bytes]) -> Any:
        data = file.read()
        try:
            return json.loads(data)
        except RecursionError as error:
            raise DecodeError("this JSON is nested too deeply to be read") from error
        except ValueError as error:  # also UnicodeDecodeError, and a number with more digits than Python reads
            raise DecodeError(f"this is not valid JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Bytes, unchanged, from any object with a contiguous or strided buffer."""

    suffix: str = ""

    def write(self, value: Buffer, file: IO[bytes]) -> None:
        try:
            view = flat(value)
        except (TypeError, ValueError, BufferError) as error:
            raise EncodeError(
                f"bytes takes a bytes-like object, not {type(value).__name__}: {error}; use text() for text"
            ) from error
        file.write(view)

    def read(self, file: IO[bytes]) -> bytes:
        return file.read()


@dataclass(frozen=True, slots=True)
class Yaml:
    r"""YAML for all tools: sorted keys, block style, one line for each string, no Python tags, no aliases.

    ``yaml.safe_load`` reads the same value back. A string that YAML 1.1 or 1.2 would read as a number or a date is
    quoted.

    Reading refuses a file whose aliases stand for far more than is written out, and forged numbers and merge keys.

    Attributes:
        root: Name of the value itself in errors.
        most_values: Refuse to read a file with more values, including keys.

    >>> import io
    >>> YAML.read(io.BytesIO(b"omega: 2.0\nsteps: 100"))
    {'omega': 2.0, 'steps': 100}
    """

    root: str = ""
    suffix: str = ".yaml"
    most_values: int | None = None

    def write(self, value: Mapping[str, Any], file: IO[bytes]) -> None:
        import yaml

        from notata.formats.yaml_dialect import dumper

        data = plain(value, self.root, text_keys=False)
        text: str = yaml.dump(
            data, Dumper=dumper(), sort_keys=False, allow_unicode=True, default_flow_style=False, width=2**31 - 1
        )
        file.write(utf8(text))

    def read(self, file: IO[bytes]) -> Any:
        """Read the value; an empty file is None, as in YAML."""
        import yaml

        data = file.read()
        try:
            return load(data, self.most_values)
        except DecodeError:
            raise
        except RecursionError as error:
            raise DecodeError("this YAML is nested too deeply to be read") from error
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
            if getattr(error, "problem", None) == _TOO_DEEP:
                raise DecodeError("this YAML is nested too deeply to be read") from error
            # PyYAML's constructors raise errors of other types too, for example ValueError for the date 2026-99-99
            raise DecodeError(f"this is not valid YAML: {error}") from error


TEXT: Final = _Text()
JSON: Final = Json()
BYTES: Final = _Bytes()
YAML: Final = Yaml()
