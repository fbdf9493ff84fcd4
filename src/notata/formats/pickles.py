"""Pickles without storage options."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

from notata.errors import EncodeError
from notata.formats.base import Sink, reading

if TYPE_CHECKING:
    from notata.formats.pickle_facts import PickleFacts

__all__ = ["PICKLE", "Pickle"]


@dataclass(frozen=True, slots=True)
class Pickle:
    """A pickle. Large buffers are written without a copy; storage options are left out.

    Reading a pickle runs code from its author: read only files that you trust.

    Attributes:
        protocol: The version of the pickle format, 0 to 5; the default is the highest one of this Python.

    >>> import io
    >>> file = io.BytesIO()
    >>> PICKLE.write({1, 2}, file)
    >>> PICKLE.read(io.BytesIO(file.getvalue()))
    {1, 2}
    """

    protocol: int = pickle.HIGHEST_PROTOCOL
    suffix: str = ".pkl"

    def write(self, value: object, file: IO[bytes]) -> None:
        sink = Sink(file)
        try:
            _Pickler(cast("IO[bytes]", sink), self.protocol).dump(value)
        except Exception as error:  # a __reduce__ may raise anything
            sink.check(error)
            raise EncodeError(f"{type(value).__qualname__} cannot be pickled: {error}") from error

    def read(self, file: IO[bytes]) -> Any:
        """Read the value. This runs code from the file's author; it needs the modules of its classes."""
        with reading("Pickle", file) as source:
            return pickle.load(source)

    def describe(self, file: IO[bytes], *, stats: bool = True, head: int = 6) -> PickleFacts:
        """Describe a file and its imports without running it, as `notata.formats.pickle_facts` does."""
        from notata.formats.pickle_facts import pickle_facts

        return pickle_facts(file)


class _Pickler(pickle.Pickler):
    """A pickler for files: objects that carry credentials between processes leave them out here."""

    def reducer_override(self, value: Any) -> Any:
        for_file = getattr(type(value), "_notata_for_file", None)
        if for_file is not None:
            return for_file(value)
        if getattr(type(value), "storage_options", None) is not None and value.storage_options:
            raise pickle.PicklingError(
                f"{value} has storage options, which must not be stored in a file; keep its str()"
            )
        file_system = getattr(sys.modules.get("fsspec"), "AbstractFileSystem", ())  # missing during another's import
        if isinstance(value, file_system) and value.storage_options:
            raise pickle.PicklingError(
                f"{type(value).__name__} has storage options, which must not be stored in a file"
            )
        return NotImplemented


PICKLE: Final = Pickle()
