"""Read event files of TensorBoard: a folder with such files is a run.

The frames of a file are read here, from any storage and in bounded memory; their content, an ``Event``, is parsed by
the package ``tensorboard``, without TensorFlow. The frames are TFRecords: the length (8 bytes), its checksum (4), the
content, its checksum (4).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import IO, Any, Final

from notata._base.packages import needed
from notata._base.terminal import quoted
from notata.errors import DecodeError
from notata.importing.event_values import Values
from notata.importing.facts import Facts
from notata.importing.links import Links
from notata.importing.naming import legal_name
from notata.importing.source import Failed, FolderSource, FoundRun, listed, mark_of, no_run
from notata.importing.writer import RunWriter
from notata.store import Entry, Location, Store, open_store

__all__ = ["TensorboardSource", "frames"]

_PART: Final = "tfevents"
_LARGEST: Final = 256 * 2**20  # bytes of one event
_KEPT: Final = 8 * 2**20  # bytes of a file that is read once although it is needed twice
_LENGTH: Final = struct.Struct("<Q")
_CHECK: Final = struct.Struct("<I")
_MASK: Final = 0xA282EAD8
_SMALL: Final = 1000  # bytes of an event that can say that a program began


class TensorboardSource(FolderSource):
    """The runs in a log folder of TensorBoard; see `Source`."""

    def __init__(self, store: Store, package: SimpleNamespace) -> None:
        super().__init__(store)
        self._package = package

    @classmethod
    def at(
        cls, source: Location, options: Mapping[str, Any] | None, *, deleted: bool, runs_url: str
    ) -> TensorboardSource:
        """Return the source of a folder. No request.

        Raises:
            PackageMissingError: The package ``tensorboard`` is not installed.
        """
        return cls(open_store(source, options), _package())

    def find(self, failed: Failed) -> Iterator[FoundRun]:
        """Yield the runs."""
        entries = listed(self.store, failed)
        folders: dict[str, list[Entry]] = {}
        for key, entry in entries.items():
            folder, _, name = key.rpartition("/")
            if _PART in name and not name.endswith(".profile-empty"):
                folders.setdefault(folder, []).append(entry)
        if not folders:
            raise no_run(self.store, "TensorBoard", f"file whose name contains {_PART!r}")
        links = Links(self.store)
        for folder, files in sorted(folders.items()):
            run_id = folder or self.url.rstrip("/").rpartition("/")[2]
            read = partial(self._read, sorted(files, key=lambda entry: entry.key), links.below(folder))
            yield FoundRun(run_id, legal_name(run_id), "", folder or run_id, mark_of(files), read)

    def _read(self, files: list[Entry], links: list[str], into: RunWriter) -> Facts:
        opened = [_opener(self.store, entry) for entry in files]
        starts = self._starts(opened)
        values = Values(self._package, into)
        number = 0
        for start, open_file in opened:
            for data in frames(open_file, start, self._package.checksum, into.leave_out):
                event = self._parsed(data, start)
                if not any(number < at and event.step >= step for at, step in starts):
                    values.add(event)
                number += 1
        for name in links:
            if _PART in name:
                into.leave_out(f"the link {quoted(name)}")
        return values.facts(files)

    def _starts(self, opened: list[tuple[str, Callable[[], IO[bytes]]]]) -> list[tuple[int, int]]:
        """Return number and step of each event that says that the program began, maybe again.

        TensorBoard drops earlier events of the same and later steps then: the program repeats these steps.
        """
        found = []
        number = 0
        for name, open_file in opened:
            for data in frames(open_file, name, self._package.checksum, lambda _: None):
                if len(data) <= _SMALL:
                    event = self._parsed(data, name)
                    if event.HasField("session_log") and event.session_log.status == self._package.start:
                        found.append((number, event.step))
                number += 1
        return found

    def _parsed(self, data: bytes, name: str) -> Any:
        try:
            return self._package.event.FromString(data)
        except Exception as error:
            raise DecodeError(f"{quoted(name)} has an event that is damaged: {error!s:.200}") from error


def _package() -> SimpleNamespace:
    """Return what is used of the package ``tensorboard``."""
    with needed("importing event files needs tensorboard", "tensorboard>=2.12", "tensorboard"):
        from tensorboard import data_compat
        from tensorboard.compat.proto import event_pb2
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c
        from tensorboard.plugins.hparams import plugin_data_pb2
        from tensorboard.util import tensor_util
    try:
        from google_crc32c import value as checksum  # in C: a hundred times as fast
    except ImportError:
        checksum = crc32c
    return SimpleNamespace(
        event=event_pb2.Event,
        start=event_pb2.SessionLog.START,
        hparams=plugin_data_pb2.HParamsPluginData,
        array=tensor_util.make_ndarray,
        migrated=data_compat.migrate_value,
        checksum=checksum,
    )


def _opener(store: Store, entry: Entry) -> tuple[str, Callable[[], IO[bytes]]]:
    """Return the name of a file, and a function that opens it; a small file in a bucket is read only once."""
    if store.is_local or entry.size > _KEPT:
        return entry.key, partial(store.open, entry.key, "rb")
    import io

    data = store.read(entry.key, 0, _KEPT)
    return entry.key, partial(io.BytesIO, data)


def frames(
    open_file: Callable[[], IO[bytes]],
    name: str,
    checksum: Callable[[bytes], int],
    torn: Callable[[str], object],
) -> Iterator[bytes]:
    """Yield the content of each frame of an event file.

    Args:
        open_file: Opens the file.
        name: Its name, for messages.
        checksum: Returns the CRC-32C of bytes.
        torn: Called if the file ends in the middle of a frame, as while it is being written, or after a crash.

    Raises:
        DecodeError: A checksum is wrong, or a frame is too large.
    """
    with open_file() as file:
        while head := file.read(12):
            if len(head) == 12:
                _check(head[:8], head[8:], checksum, name)
                (size,) = _LENGTH.unpack(head[:8])
                if size > _LARGEST:
                    raise DecodeError(f"{quoted(name)} has an event of {size:,} bytes; the limit is {_LARGEST:,}")
                data = file.read(size + 4)
                if len(data) == size + 4:
                    _check(data[:-4], data[-4:], checksum, name)
                    yield data[:-4]
                    continue
            torn(f"the last event of {quoted(name)}, which is incomplete")
            return


def _check(data: bytes, stored: bytes, checksum: Callable[[bytes], int], name: str) -> None:
    crc = checksum(data)
    if ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF != _CHECK.unpack(stored)[0]:
        raise DecodeError(f"{quoted(name)} is damaged: a checksum is wrong. Remove the file, or copy it again")
