"""One run being written; it knows nothing of other runs, nor where and how its bytes are stored."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from notata import formats, keys
from notata.errors import ConfigurationError, EncodeError
from notata.lease import LEASE, Lease
from notata.store import TIMEOUT, Store, open_store

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer
    from upath import UPath

__all__ = ["Logbook"]

Status: TypeAlias = Literal["initialized", "complete", "failed"]
Callback: TypeAlias = Callable[["Logbook"], object]

_BASE_DIR: Final = "NOTATA_BASE_DIR"
_DEFAULT_BASE_DIR: Final = "outputs"
_OWN_FIELDS: Final = {"run_id", "status", LEASE}


class Logbook:
    """The record of one run: a folder ``log_<run_id>`` on any storage.

    The run is claimed when the object is made: of any number of processes that ask for one id, one gets it. As a
    context manager it ends ``complete``, or ``failed`` when an exception leaves the block, KeyboardInterrupt and
    SystemExit included. Safe to use from many threads.

    Attributes:
        run_id: As given, as a string; or the one that was made.
        url: Where the run lies, without credentials.
        path: The run's folder, a `pathlib.Path` on a local disk and a `upath.UPath` anywhere.
        datadir: ``data/`` below it.
        plotdir: ``plots/`` below it.
        artifactsdir: ``artifacts/`` below it.
        callback: What runs when the run has ended.

    Args:
        run_id: A string or an int; part of a folder name, so without ``/``. When not given, one is made of the
            time in UTC and a random part, such as ``2026-11-22T19-50-03.123Z-4f2a9c``: it sorts by time.
        base_dir: Where runs are kept: any fsspec URL (``s3://bucket/outputs``), local path or UPath. When not given,
            the environment variable NOTATA_BASE_DIR, else ``outputs``.
        params: Saved as ``params.yaml`` at once.
        overwrite: Remove a run that has this id, every file of it, and start over.
        preallocate: Make ``data/``, ``plots/`` and ``artifacts/`` at once. A bucket has no folders.
        callback: Called with this object once the final status is stored.
        storage_options: For fsspec, such as ``{"endpoint_url": …}``. They reach no file, no message and no repr.
        timeout: Seconds that one request may take, besides the time its size needs. A storage that has never
            answered gets at most 10.

    Raises:
        RunExistsError: The id is taken. It is a `FileExistsError`.
        KeyNameError: The id cannot be part of a folder name on every backend.
        ConfigurationError: `base_dir` cannot hold runs.
        EncodeError: A parameter has no YAML form; nothing was written.
        StorageError: The storage cannot be reached or written; which error says why, and what to do.

    Cost: one request to claim a run on a bucket (one more for the first run of a process in a bucket that is not
    Amazon's, to prove that claims hold there), and one for `params`.

    >>> with Logbook("oscillator", "memory://outputs", params={"omega": 2.0}) as log:
    ...     path = log.json("metrics", {"energy": 0.5})
    >>> log.status, path.name
    ('complete', 'metrics.json')
    """

    def __init__(
        self,
        run_id: str | int | None = None,
        base_dir: str | os.PathLike[str] | UPath | Store | None = None,
        params: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        preallocate: bool = False,
        callback: Callback | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if callback is not None and not callable(callback):
            raise ConfigurationError(f"callback is a function of the logbook, not {type(callback).__name__}")
        self.run_id = _made_run_id() if run_id is None else str(run_id)
        self.callback = callback
        folder = keys.run_folder(self.run_id)
        base = os.environ.get(_BASE_DIR) or _DEFAULT_BASE_DIR if base_dir is None else base_dir
        self._store = open_store(base, storage_options, timeout=timeout).below(folder)
        with self._telling(keys.PARAMS_YAML):
            written = formats.encode(formats.Yaml("params"), params) if params else b""
        self._lease = Lease(self._store, self.run_id)
        self._pid = os.getpid()
        self._runtime: float | None = None
        self._start = time.monotonic()
        self._claim(overwrite, preallocate, written)

    def _claim(self, overwrite: bool, preallocate: bool, params: bytes) -> None:
        fields = {"run_id": self.run_id, "status": "initialized", "start_time": _now()}
        if overwrite:
            self._lease.replace(fields)
        else:
            self._lease.claim(fields)
        try:
            if params:
                self._store.write(keys.PARAMS_YAML, params)
            if preallocate and self._store.folders:
                for folder in (self.datadir, self.plotdir, self.artifactsdir):
                    folder.mkdir(parents=True, exist_ok=True)
        except BaseException as error:
            with suppress(Exception):  # nobody will hold this run: let it say so
                self._lease.end("failed", end_time=_now(), failure_reason=_reason(error))
            raise

    def __repr__(self) -> str:
        return f"Logbook({self.run_id!r}, {self.url!r}, status={self.status!r})"

    # -- where ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the run lies, without credentials."""
        return self._store.url

    @property
    def path(self) -> UPath:
        """The run's folder."""
        return self._store.place()

    @property
    def datadir(self) -> UPath:
        """``data/`` below the run's folder."""
        return self._store.place(keys.DATA)

    @property
    def plotdir(self) -> UPath:
        """``plots/`` below the run's folder."""
        return self._store.place(keys.PLOTS)

    @property
    def artifactsdir(self) -> UPath:
        """``artifacts/`` below the run's folder."""
        return self._store.place(keys.ARTIFACTS)

    # -- the four writers ----------------------------------------------------------------------------------

    def text(self, name: str, content: str) -> UPath:
        r"""Store text as ``artifacts/<name>.txt``, in place of what was there.

        Atomic: a reader sees the whole text or the previous one. One request up to 8 MiB, then parts.

        Args:
            name: Key below ``artifacts/``; folders are welcome, the suffix is added unless it is there.
            content: Stored as UTF-8, its newlines as given. A lone surrogate, which UTF-8 cannot hold, becomes its
                escape (``\udc80``): a crash dump is not lost for one character.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: `content` is not a string.
            StorageError: The storage refused; the previous file is untouched.

        >>> log.text("debug/traceback", "Traceback …").read_text()
        'Traceback …'
        """
        return self._save(formats.TEXT, name, content)

    def json(self, name: str, data: Any) -> UPath:
        """Store structured data as ``artifacts/<name>.json``: 2 spaces, sorted keys, UTF-8.

        numpy scalars and arrays, dates and times, paths, enumerations, dataclasses, sets and the like become what
        `notata.formats.plain` says. NaN and Infinity are written as Python's json module does.

        Args:
            name: As for `text`.
            data: Anything that has a plain form.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: A part of it has no plain form; the message names it, as in ``metrics.layers[3].weight``.
            StorageError: The storage refused; the previous file is untouched.

        >>> print(log.json("metrics", {"max": 0.92, "at": {3, 1}}).read_text(), end="")
        {
          "at": [
            1,
            3
          ],
          "max": 0.92
        }
        """
        return self._save(dataclasses.replace(formats.JSON, root=_stem(name)), name, data)

    def pickle(self, name: str, obj: Any, protocol: int = formats.PICKLE.protocol) -> UPath:
        """Store a Python object as ``artifacts/<name>.pkl``.

        Streamed: the object needs no second copy of itself in memory. Read pickles only from those you trust.

        Args:
            name: As for `text`.
            obj: Anything that pickles. A path object of a run is stored without its storage options.
            protocol: As for `pickle.dump`; the highest of this Python when not given, as in 0.3.0.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: It does not pickle; the previous file is untouched.
            StorageError: The storage refused; the previous file is untouched.

        >>> log.pickle("model", {"weights": [1, 2]}).name
        'model.pkl'
        """
        return self._save(formats.Pickle(protocol), name, obj)

    def bytes(self, name: str, data: Buffer | npt.NDArray[Any]) -> UPath:
        r"""Store raw bytes as ``artifacts/<name>``, the name as given.

        Args:
            name: Key below ``artifacts/``, with the suffix that you want.
            data: bytes, bytearray, memoryview, array, a numpy array: the bytes as they lie in memory, C order for
                one that is strided.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: `data` is not bytes-like.
            StorageError: The storage refused; the previous file is untouched.

        >>> log.bytes("weights.raw", b"\x01\x02").read_bytes()
        b'\x01\x02'
        """
        return self._save(formats.BYTES, name, data)

    def _save(self, form: formats.Format, name: str, value: Any) -> UPath:
        key = keys.artifact(name, form.suffix)
        with self._telling(key), self._store.open(key, "wb") as file:
            form.write(value, file)
        return self._store.place(key)

    @contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        """Tell errors of a format, which knows neither, where the value was to go."""
        try:
            yield
        except EncodeError as error:
            error.url, error.key = self.url, key
            raise

    # -- any file ------------------------------------------------------------------------------------------

    def __getitem__(self, key: str | os.PathLike[str]) -> UPath:
        """The path object of any file of the run, which need not be there.

        On a local disk it is a `pathlib.Path` whose parents exist, so `np.save` and the builtin `open` take it.
        Everywhere its own `open`, ``read_*``, ``write_*`` and `touch` keep the contract: a failed write publishes
        nothing.

        Args:
            key: Relative to the run's folder.

        Raises:
            KeyNameError: It is not legal on every backend, or leaves the run's folder.

        >>> log["artifacts/settings/config.json"].write_text("{}")
        2
        """
        return self._store.path(keys.check(key))

    def open(
        self,
        key: str,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        r"""A file object of any file of the run, for whatever writes to one (`np.savez`, `torch.save`, pandas).

        Args:
            key: Relative to the run's folder.
            mode: ``w``: nothing is visible before it closes cleanly, and nothing at all after an exception inside
                its ``with`` block. ``x``: the same, where nothing is. ``a``: held in memory, added at the close, on
                GCS too. ``r``: seekable. With ``b`` for bytes; else text. Writers do not seek: a library that must
                (HDF5) takes `local`.
            encoding: Of text; UTF-8 when not given, whatever the locale.
            errors: As for the builtin `open`.
            newline: As for the builtin `open`, but text is written with its newlines as given.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.
            MissingError: Nothing to read.
            ExistsError: ``x`` met a file.

        >>> with log.open("artifacts/table.csv", "w") as file:
        ...     size = file.write("t,x\n0,1\n")
        >>> log["artifacts/table.csv"].read_text()
        't,x\n0,1\n'
        """
        return self._store.open(keys.check(key), mode, encoding=encoding, errors=errors, newline=newline)

    def local(self, key: str) -> AbstractContextManager[Path]:
        """A real, temporary `pathlib.Path` for libraries that insist on a file name (HDF5, netCDF, VTK, SQLite).

        Nothing is there yet. On a clean exit its file is stored under `key`, whole; after an exception nothing is.

        Args:
            key: Relative to the run's folder; the path has its last segment as name.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.
            MissingError: No file was written there.

        >>> with log.local("artifacts/mesh.vtk") as path:
        ...     size = path.write_text("# vtk DataFile Version 3.0")
        >>> log["artifacts/mesh.vtk"].exists()
        True
        """
        return self._store.local(keys.check(key))

    # -- state ---------------------------------------------------------------------------------------------

    def meta(self, **fields: Any) -> None:
        """Merge fields into metadata.json. One request.

        Args:
            **fields: As for `json`. `run_id`, `status` and `lease` are notata's own.

        Raises:
            ConfigurationError: A field is notata's own.
            EncodeError: A field has no plain form.
            RunDisplacedError: Another writer has the run by now; nothing was changed.

        >>> log.meta(machine="node17", temperature_K=300)
        """
        if own := _OWN_FIELDS & fields.keys():
            raise ConfigurationError(
                f"{', '.join(sorted(own))} in metadata.json is notata's own; choose another name, and end a run with "
                "mark_complete() or mark_failed()",
                url=self.url,
                key=keys.METADATA,
            )
        with self._telling(keys.METADATA):
            plain = formats.plain(fields, "metadata")
        self._lease.update(**plain)

    @property
    def status(self) -> str:
        """``initialized``, ``complete`` or ``failed``, as this run last stored it. No request."""
        return str(self._lease.fields.get("status", "unknown"))

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, until it ended."""
        return time.monotonic() - self._start if self._runtime is None else self._runtime

    def mark_complete(self) -> None:
        """End the run: ``status: complete``, `end_time`, `runtime_sec`; then the callback. One request.

        A second call does nothing.

        Raises:
            RunEndedError: It has failed already, and that stands.
            RunDisplacedError: Another writer has the run by now.
        """
        self._end("complete")

    def mark_failed(self, reason: str) -> None:
        """End the run: ``status: failed``, `failure_reason`, `end_time`, `runtime_sec`; then the callback. One request.

        A run that was complete can still fail; of one that has failed, the first reason stands.

        Args:
            reason: In a few words.

        Raises:
            RunDisplacedError: Another writer has the run by now.
        """
        self._end("failed", failure_reason=str(reason))

    def _end(self, status: Status, **fields: Any) -> None:
        runtime = round(time.monotonic() - self._start, 6)
        if not self._lease.end(status, end_time=_now(), runtime_sec=runtime, **fields):
            return
        self._runtime = runtime
        if self.callback is not None:
            self.callback(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._pid:  # a forked child leaves the block too, but the run is its parent's
            return
        if error is None:
            if self.status not in ("complete", "failed"):
                self._end("complete")
            return
        if self.status == "complete" and isinstance(error, SystemExit) and not error.code:
            return
        try:
            self.mark_failed(_reason(error))
        except Exception as failure:
            error.add_note(f"notata: while run {self.run_id!r} was marked failed: {type(failure).__name__}: {failure}")


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _stem(name: str | int) -> str:
    return str(name).rpartition("/")[2].removesuffix(formats.JSON.suffix)


def _now() -> str:
    """The time as ISO 8601 with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _made_run_id() -> str:
    """Legible, sortable, unique: ``2026-11-22T19-50-03.123Z-4f2a9c``."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"
