"""The values in events of TensorBoard: scalars, texts, images, histograms and hyperparameters of one run."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

from notata import formats
from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import DecodeError, KeyNameError
from notata.importing.facts import Facts
from notata.importing.source import checked_text
from notata.importing.writer import RunWriter
from notata.store import Entry

__all__ = ["Values"]

_HISTOGRAMS: Final = 64 * 2**20  # bytes of histograms of one run that are in memory
_IMAGES: Final[Mapping[bytes, str]] = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif"}
_SESSION: Final = "_hparams_/session_start_info"
_UNSAFE: Final = re.compile(r"[^\w.=+@(),:~/ -]")


class Values:
    """Passes the values in the events of one run to its writer.

    Args:
        package: What is used of the package ``tensorboard``.
        into: The writer.
    """

    def __init__(self, package: SimpleNamespace, into: RunWriter) -> None:
        self._package = package
        self._into = into
        self._plugins: dict[str, str] = {}
        self._first: float | None = None
        self._last = 0.0
        self._params: dict[str, Any] = {}
        self._histograms: dict[str, list[tuple[int, float, Any]]] = {}
        self._size = 0

    def add(self, event: Any) -> None:
        """Add the values of one event."""
        time = event.wall_time
        if not 0 <= time < 1e11:
            raise DecodeError(f"an event has the invalid time {time}")
        self._first = time if self._first is None else min(self._first, time)
        self._last = max(self._last, time)
        what = event.WhichOneof("what")
        if what == "summary":
            for value in event.summary.value:
                self._value(value, event.step, time)
        elif what in ("graph_def", "meta_graph_def", "tagged_run_metadata"):
            self._into.leave_out(f"a {what.replace('_def', '').replace('_', ' ')} of TensorFlow")

    def _value(self, value: Any, step: int, time: float) -> None:
        tag = value.tag or value.node_name
        plugin = self._plugins.setdefault(tag, value.metadata.plugin_data.plugin_name)
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            self._into.value(tag, step, time, value.simple_value)
        elif tag == _SESSION:
            self._hparams(value)
        elif plugin == "hparams":
            return  # the description of an experiment, and the end of a session
        elif kind == "image":
            self._image(tag, step, [value.image.encoded_image_string])
        elif kind == "histo":
            self._histogram(tag, step, time, self._array(tag, self._package.migrated(value).tensor))
        elif kind == "tensor":
            self._tensor(plugin, tag, step, time, value.tensor)
        else:
            self._into.leave_out(f"values of {quoted(tag)} of the type {kind or 'none'}")

    def _tensor(self, plugin: str, tag: str, step: int, time: float, tensor: Any) -> None:
        if plugin == "scalars":
            plain = tensor.float_val[0] if len(tensor.float_val) == 1 else self._array(tag, tensor)
            self._into.value(tag, step, time, plain)
        elif plugin == "text":
            texts = [part.decode("utf-8", "replace") for part in self._array(tag, tensor).reshape(-1).tolist()]
            self._file(keys.ARTIFACTS, f"text/{tag}/{step}", ".txt", "\n".join(texts).encode())
        elif plugin == "images":
            self._image(tag, step, self._array(tag, tensor).reshape(-1).tolist()[2:])  # after width and height
        elif plugin == "histograms":
            self._histogram(tag, step, time, self._array(tag, tensor))
        else:
            self._into.leave_out(f"values of {quoted(tag)} of the plugin {quoted(plugin or 'none')}")

    def _array(self, tag: str, tensor: Any) -> Any:
        try:
            return self._package.array(tensor)
        except Exception as error:
            raise DecodeError(f"a value of {quoted(tag)} is damaged: {error!s:.200}") from error

    def _image(self, tag: str, step: int, images: list[bytes]) -> None:
        for number, data in enumerate(images):
            suffix = next((suffix for start, suffix in _IMAGES.items() if data.startswith(start)), None)
            if suffix is None:
                self._into.leave_out(f"images of {quoted(tag)} that are neither PNG, JPEG nor GIF")
                continue
            name = f"{tag}/{step}" if len(images) == 1 else f"{tag}/{step}-{number}"
            self._file(keys.PLOTS, name, suffix, data)

    def _file(self, folder: str, name: str, suffix: str, data: bytes) -> None:
        try:
            self._into.file(keys.check(f"{folder}/{_path(name)}{suffix}"), data)
        except KeyNameError:
            self._into.leave_out(f"{quoted(name)}, whose name cannot be a key")

    def _hparams(self, value: Any) -> None:
        """Keep the hyperparameters as parameters."""
        try:
            session = self._package.hparams.FromString(value.metadata.plugin_data.content).session_start_info
        except Exception as error:
            raise DecodeError(f"the hyperparameters are damaged: {error!s:.200}") from error
        for name, given in session.hparams.items():
            kind = given.WhichOneof("kind")
            plain = None if kind in (None, "null_value") else getattr(given, kind)
            if not isinstance(plain, float | bool | str | None):
                plain = checked_text(plain)
            self._params[name] = int(plain) if isinstance(plain, float) and plain.is_integer() else plain

    def _histogram(self, tag: str, step: int, time: float, buckets: Any) -> None:
        if self._size + buckets.nbytes > _HISTOGRAMS or buckets.ndim != 2 or buckets.shape[1] != 3:
            self._into.leave_out(f"histograms of {quoted(tag)} beyond {_HISTOGRAMS // 2**20} MiB")
            return
        self._size += buckets.nbytes + 100
        self._histograms.setdefault(tag, []).append((step, time, buckets))

    def facts(self, files: list[Entry]) -> Facts:
        """Store the histograms, and return what is known of the run."""
        for tag, found in self._histograms.items():
            self._file(keys.DATA, f"histograms/{tag}", ".npz", _bundle(found))
        modified = max(entry.modified for entry in files).timestamp()
        end = self._last if self._first is not None else modified
        return Facts(params=self._params, start=self._first or end, end=end)


def _path(tag: str) -> str:
    """Return a tag as a path that can be a key."""
    parts = (part.strip(" .") for part in _UNSAFE.sub("_", tag).split("/"))
    return "/".join(part for part in parts if part) or "value"


def _bundle(found: list[tuple[int, float, Any]]) -> bytes:
    """Return the histograms of one tag as an npz file: ``step``, ``time``, ``first`` (row of its buckets), ``buckets``.

    A row of ``buckets`` has left edge, right edge and count.
    """
    import numpy as np

    sizes = [len(buckets) for _, _, buckets in found]
    arrays = {
        "step": np.array([step for step, _, _ in found], dtype=np.int64),
        "time": np.array([time for _, time, _ in found]),
        "first": np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64),
        "buckets": np.concatenate([buckets for _, _, buckets in found]).astype(np.float64),
    }
    file = io.BytesIO()
    formats.NPZ.write(arrays, file)
    return file.getvalue()
