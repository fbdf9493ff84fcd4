"""Read-only access to one run, finished or not."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from notata import formats
from notata._base import display, keys, limits
from notata._base.progress import Wanted, shown
from notata._base.terminal import one_line
from notata._base.threads import Event
from notata._base.warn import warn
from notata.errors import (
    ConfigurationError,
    ContainerMissingError,
    DamagedFileWarning,
    DecodeError,
    FolderError,
    KeyNameError,
    MissingError,
    NotataError,
    RunMissingError,
    TooLargeError,
    UnknownNameError,
)
from notata.manifest import Document, VerifyReport, verify
from notata.manifest.trust import is_of_run
from notata.reader.base import Reader
from notata.run.inputs import Input, stored
from notata.run.parameters import parameters
from notata.run.runlog import RunLog
from notata.run.state import ENDED, RunState, lease_of, may_write, read_state
from notata.series.summary import SCALARS
from notata.store import Location, open_store
from notata.store.in_flight import Tally

if TYPE_CHECKING:
    import numpy.typing as npt

    from notata.series.reading import SeriesData
    from notata.store.stored_path import StoredPath

__all__ = ["LogReader", "existing_names"]

_SHOWN: Final = 20  # names that an error message lists
_TAIL: Final = 64 * 2**10  # bytes at the end of a bundle that usually contain its table of contents
_BEGAN: Final = "start_time"  # field of metadata.json that only another run changes
_RAISE: Final = object()


class LogReader(Reader):
    """A reader of one run. It never writes.

    It returns what is stored at that moment, so that a running run can be watched. Each access takes one request, and
    so does the constructor.

    ``reader["artifacts/x.json"]`` is the path object of a file, ``key in reader`` checks whether it exists, and
    iteration yields the keys of all files.

    Attributes:
        run_id: The id that was given when the run began.
        url: Where the run lies, without credentials.
        path: The run's folder.

    Args:
        path: The folder of a run, ``log_<run_id>``: any fsspec URL, local path or UPath.
        storage_options: Options for fsspec. They appear in no file, message or repr.

    Raises:
        RunMissingError: There is no run. It is a `FileNotFoundError`, and a `ValueError`.
        StorageError: The run cannot be read.

    >>> from notata import Logbook
    >>> with Logbook("seen", "memory://reading", params={"omega": 2.0}) as run:
    ...     path = run.json("metrics", {"energy": 0.5})
    ...     LogReader("memory://reading/log_seen").state.status
    'running'
    >>> reader = LogReader("memory://reading/log_seen")
    >>> reader.state.status, reader.params, reader.load_json("metrics")
    ('complete', {'omega': 2.0}, {'energy': 0.5})
    """

    def __init__(
        self,
        path: Location,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = open_store(path, storage_options)
        try:
            read_state(self._store)
        except ContainerMissingError:
            raise
        except MissingError as error:
            raise RunMissingError(
                f"there is no run at {self.url}: it has no {keys.METADATA}. The folder of a run is called "
                "log_<run_id>; to read a folder of runs, use ExperimentReader",
                url=self.url,
                key=keys.METADATA,
            ) from error

    # -- state and metadata --------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The id of the run, from the name of its folder."""
        return keys.run_id(self.url)

    @property
    def meta(self) -> dict[str, Any]:
        """The content of metadata.json. One request.

        >>> run = Logbook("meta", "memory://reading")
        >>> LogReader("memory://reading/log_meta").meta["status"]
        'initialized'
        """
        return read_state(self._store)[0]

    @property
    def state(self) -> RunState:
        """The state of the run: ``running``, ``complete``, ``failed``, ``replacing`` or ``died``. One request.

        A run that has not ended counts as died if its process is gone (as seen on the same machine), or if it missed
        four heartbeats (as seen from anywhere, by the clock of the storage).

        >>> run = Logbook("state", "memory://reading")
        >>> state = LogReader("memory://reading/log_state").state
        >>> state.status, state.certain
        ('running', True)
        """
        return read_state(self._store)[1]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters from params.yaml or params.json; empty if the run has none. One request, or two.

        Raises:
            DecodeError: The file is damaged.

        >>> run = Logbook("params", "memory://reading", params={"omega": 2.0})
        >>> LogReader("memory://reading/log_params").params["omega"]
        2.0
        """
        return parameters(self._store)

    @property
    def log(self) -> RunLog:
        """The messages of log.txt, each with time, level and text; empty if nothing is stored yet. One request.

        Raises:
            TooLargeError: The log exceeds 256 MiB. `notata.search.tail` and `notata.search.grep` read any log.

        >>> run = Logbook("talking", "memory://reading")
        >>> run.warning("step size is at its minimum")
        >>> line = LogReader("memory://reading/log_talking").log[-1]
        >>> line.level, line.message
        ('WARNING', 'step size is at its minimum')
        """
        try:
            data = self._store.read(keys.LOG)
        except MissingError:
            data = b""
        return RunLog(data.decode("utf-8", "backslashreplace"))

    def output(self) -> str:
        r"""Return what the program printed, of ``notata run`` or ``Logbook(capture=True)``; empty if nothing is stored.

        Bytes that are not UTF-8 are decoded with ``backslashreplace``. One request per 8 MiB.

        Raises:
            TooLargeError: The output exceeds 256 MiB. `notata.search.tail` and `notata.search.grep` read any output.

        >>> import os
        >>> with Logbook("printing", "memory://reading", capture=True):
        ...     size = os.write(1, b"step 1\n")
        >>> LogReader("memory://reading/log_printing").output()
        'step 1\n'
        """
        try:
            found = self._store.fetch(keys.OUTPUT, 0, limits.OUTPUT + 1)
        except MissingError:
            return ""
        limits.check_size(self._store.url, keys.OUTPUT, found.size, limits.OUTPUT)
        return found.data.decode("utf-8", "backslashreplace")

    @property
    def inputs(self) -> list[Input]:
        """The files and folders that the run has recorded with `Recorder.input`, in the order of their first use.

        Those of workers follow, with their rank. Cost: one request, one for each 1000 files of workers, and one for
        each worker with inputs.

        Raises:
            TooLargeError: The file exceeds 2 MiB, so notata did not write it.
            StorageError: The files cannot be read.

        >>> from notata import Logbook
        >>> mesh = log.text("mesh", "4 cells")
        >>> run = Logbook("informed", "memory://reading")
        >>> path = run.input(mesh)
        >>> [(one.run_id == log.run_id, one.size) for one in LogReader("memory://reading/log_informed").inputs]
        [(True, 7)]
        """
        found = stored(self._store)
        for entry in self._store.list(keys.WORKERS, skipped=self._warn_skipped):
            _, rank, name = (*entry.key.split("/", 2), "", "")[:3]
            if name == keys.INPUTS:
                found += stored(self._store, entry.key, rank)
        return found

    # -- content -------------------------------------------------------------------------------------------

    # -- values over time ----------------------------------------------------------------------------------

    def series(
        self,
        name: str = SCALARS,
        *,
        rank: int | str | None = None,
        workers: bool = False,
        start: int = 0,
        repeated: bool = False,
    ) -> SeriesData:
        """Return the rows of a series that are stored by now, as numpy arrays.

        Args:
            name: The name of the series.
            rank: The rank of a worker, for its series; by default that of the run's owner.
            workers: Also read the series of this name of all workers. The column `rank` names the worker of each row;
                it is empty for the owner.
            start: The first byte to read: `SeriesData.end` of an earlier read, for the rows that were added since.
            repeated: Include rows of earlier attempts that a resumed run repeated. By default, the rows of earlier
                attempts are left out from the first step of a later attempt on.

        Raises:
            ConfigurationError: `start` is invalid, or no row ends there, for example because the run was overwritten
                since the earlier read. Or `workers` is combined with `rank` or `start`.
            UnknownNameError: There is no such series; the message names those that exist.
            StorageError: The file cannot be read.
            TooLargeError: It has more than 500 million values, together with those of all workers if `workers`.

        Warns:
            DamagedFileWarning: Lines of the file are no rows; they are skipped.

        Cost: one request for each 8 MiB; with `workers`, also one for each 1000 files of workers.

        >>> log.scalars(step=1, loss=0.5)
        >>> data = log.reader.series()
        >>> data.step, data["loss"]
        (array([1]), array([0.5]))
        """
        from notata.series.reading import read_series  # imports numpy

        if workers:
            if rank is not None or start != 0:
                raise ConfigurationError(
                    "workers=True reads all rows of all workers and cannot be combined with rank= or start=. To read "
                    "one worker, pass rank= without workers=True"
                )
            return self._series_of_all(name, repeated)
        own = None if rank is None else keys.worker(rank)
        try:
            return read_series(self._store, keys.series_file(name, own), name, start=start, repeated=repeated)
        except MissingError as error:
            raise self._unknown_series(name, own) from error

    @property
    def series_names(self) -> list[str]:
        """The names of the series, sorted. One request for each 1000 files.

        >>> log.series("residual").add(r=1e-3)
        >>> "residual" in log.reader.series_names
        True
        """
        return self._series_names(None)

    def _series_names(self, rank: str | None) -> list[str]:
        folder = keys.SERIES if rank is None else keys.worker_file(rank, keys.SERIES)
        names = [keys.series_name(entry.key) for entry in self._store.list(folder, skipped=self._warn_skipped)]
        return sorted(found[1] for found in names if found is not None)

    def _series_of_all(self, name: str, repeated: bool) -> SeriesData:
        """Return the rows of the owner and of all workers, with the column `rank`."""
        from notata.series.reading import check_joined, joined, read_series

        found = {keys.series_file(name): ""} | {key: rank for key, rank, of in self._worker_series() if of == name}
        parts: list[SeriesData] = []
        values = 0
        for key, rank in found.items():
            part = read_series(self._store, key, name, repeated=repeated, missing_ok=True, before=values)
            parts.append(part.with_column("rank", rank))
            values += part.rows * max(1, len(part))
        if not any(part.rows for part in parts):
            raise self._unknown(name, lambda: sorted({*self._series_names(None), *self._names_of_workers()}))
        check_joined(name, parts)
        return joined(parts)

    def _worker_series(self) -> Iterator[tuple[str, str, str]]:
        """Yield key, rank and name of each series of a worker."""
        for entry in self._store.list(keys.WORKERS, skipped=self._warn_skipped):
            rank, name = keys.series_name(entry.key) or (None, "")
            if rank is not None:
                yield entry.key, rank, name

    def _names_of_workers(self) -> set[str]:
        return {name for _, _, name in self._worker_series()}

    def _unknown_series(self, name: str, rank: str | None) -> UnknownNameError:
        """Return the error for a series that the owner, or the worker with this rank, does not have."""
        try:
            ranks = sorted({repr(other) for _, other, of in self._worker_series() if of == name})
        except NotataError:
            ranks = []
        where = f"in run {self.run_id!r} at {self.url}"
        if rank is not None:
            hint = f"; the ranks that have it: {display.listed(ranks, _SHOWN)}" if ranks else ""
            existing = hint or existing_names(name, lambda: self._series_names(rank))
            message = f"there is no series {name!r} of the worker with rank {rank!r} {where}{existing}"
        elif ranks:
            message = (
                f"there is no series {name!r} of the owner {where}; only workers have it. Pass workers=True, or rank= "
                f"with one of {display.listed(ranks, _SHOWN)}"
            )
        else:
            return self._unknown(name, lambda: self._series_names(None))
        return UnknownNameError(message, url=self.url, key=name)

    def follow(
        self, name: str = SCALARS, *, rank: int | str | None = None, start: int = 0, interval: float = 1.0
    ) -> Iterator[SeriesData]:
        """Yield the rows of a series as they come, until the run has ended.

        If another run overwrites this one meanwhile, the rows of the new run follow, from its first row on. In a
        bucket, a run that fails stores its last rows after its status: they are waited for, at most 10 seconds.

        Args:
            name: The name of the series, which may not exist yet.
            rank: The rank of a worker, for its series.
            start: The first byte to read, as for `series`.
            interval: Seconds between two requests.

        Yields:
            The rows that were added since the last request, those of repeated steps included.

        Raises:
            ConfigurationError: `interval` or `start` is invalid, or no row of the file ends at `start`.
            StorageError: The file cannot be read.

        >>> with Logbook("followed", "memory://outputs") as run:
        ...     run.scalars(step=1, loss=0.5)
        >>> [data["loss"].tolist() for data in run.reader.follow()]
        [[0.5]]
        """
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval <= TIMEOUT_MAX:
            raise ConfigurationError(f"invalid interval {display.brief(interval)}: pass a number of seconds")
        return self._followed(
            keys.series_file(name, None if rank is None else keys.worker(rank)), name, start, interval
        )

    def _followed(self, key: str, name: str, start: int, interval: float) -> Iterator[SeriesData]:
        from notata.series.reading import read_series

        began: object = None
        checked = is_other = False
        pause = Event()
        while True:
            fields, state = read_state(self._store)
            if began not in (None, fields.get(_BEGAN)):  # another run
                start = start if is_other else 0
                is_other = False
            began = fields.get(_BEGAN)
            try:
                data = read_series(self._store, key, name, start=start, repeated=True, missing_ok=True)
            except ConfigurationError:
                if not checked:
                    raise
                start, is_other = 0, True  # its file; a copy changes metadata.json last
                continue
            checked = True
            start = data.end
            if data.rows:
                yield data
            if state.status not in ("running", "replacing") and not self._may_add_rows(fields, state):
                return
            pause.wait(interval)

    def _may_add_rows(self, fields: Mapping[str, Any], state: RunState) -> bool:
        """Check whether rows can follow the end: a run that fails in a bucket stores its status before them."""
        return state.status == "failed" and not self._store.is_local and may_write(fields, state)

    @property
    def files(self) -> list[str]:
        """The keys of all files of the run, sorted. One request per 1000 on a bucket.

        A folder that cannot be opened is skipped, and so is a file whose name no key can have; an
        `IncompleteListingWarning` names each.

        >>> run = Logbook("files", "memory://reading")
        >>> path = run.text("debug/notes", "converged")
        >>> LogReader("memory://reading/log_files").files
        ['artifacts/debug/notes.txt', 'log.txt', 'metadata.json']
        """
        return [entry.key for entry in self._store.list(skipped=self._warn_skipped)]

    @property
    def artifacts(self) -> list[str]:
        """Every file below ``artifacts/``, its folders and suffix included, sorted. One request per 1000 on a bucket.

        >>> run = Logbook("artifacts", "memory://reading")
        >>> path = run.text("debug/notes", "converged")
        >>> LogReader("memory://reading/log_artifacts").artifacts
        ['debug/notes.txt']
        """
        return self._names(keys.ARTIFACTS)

    @property
    def plots(self) -> list[str]:
        """Every file below ``plots/``, its folders and suffix included, sorted. One request per 1000 on a bucket."""
        return self._names(keys.PLOTS)

    @property
    def arrays(self) -> list[str]:
        """The names that `load_array` takes, sorted: ``name`` for ``data/<name>.npy``, ``bundle:name`` for a bundle.

        Cost: one listing, and one request for each bundle, for its last 64 KiB. The arrays of a damaged bundle cannot
        be listed, and a `DamagedFileWarning` names it.

        >>> run = Logbook("arrays", "memory://reading")
        >>> paths = run.array("states/t", [0.0, 0.5]), run.arrays("trajectory", x=[1.0], v=[0.0])
        >>> LogReader("memory://reading/log_arrays").arrays
        ['states/t', 'trajectory:v', 'trajectory:x']
        """
        return self._arrays(self._warn)

    def _arrays(self, tell: Callable[[str, DecodeError], None]) -> list[str]:
        found = self._store.list(keys.DATA, skipped=self._warn_skipped)
        names = [_stem(entry.key, formats.NPY) for entry in found if entry.key.endswith(formats.NPY.suffix)]
        bundles = [entry for entry in found if entry.key.endswith(formats.NPZ.suffix)]
        ends = self._store.read_ends(bundles, _TAIL)
        for bundle in bundles:
            try:
                members = self._members(bundle.key, ends[bundle.key])
            except MissingError:  # removed since the listing
                continue
            except DecodeError as error:
                tell(bundle.key, error)
                continue
            names += [f"{_stem(bundle.key, formats.NPZ)}:{name}" for name in members]
        return sorted(names)

    def _members(self, key: str, end: bytes) -> list[str]:
        """Return the names in a bundle; from its end, if that contains the table of contents."""
        try:
            return formats.NPZ.members(io.BytesIO(end))
        except DecodeError:
            with self._opened(key) as file:
                return formats.NPZ.members(file)

    def _warn(self, key: str, error: DecodeError) -> None:
        warn(one_line(f"{self.url}/{key} is damaged: {error}", 1000), DamagedFileWarning)

    def _known_arrays(self) -> list[str]:
        """Return the arrays for an error message, without warnings before it."""
        return self._arrays(lambda key, error: None)

    def _bundles(self) -> list[str]:
        names = self._names(keys.DATA)
        return [name.removesuffix(formats.NPZ.suffix) for name in names if name.endswith(formats.NPZ.suffix)]

    def _names(self, folder: str) -> list[str]:
        return [entry.key[len(folder) + 1 :] for entry in self._store.list(folder, skipped=self._warn_skipped)]

    # -- load ----------------------------------------------------------------------------------------------

    def load_array(self, name: str) -> npt.NDArray[Any]:
        """Return an array, with the shape, dtype and order in which it was stored.

        Args:
            name: A name from `arrays`: ``energy``, ``states/t``, or ``bundle:name`` for an array of a bundle.

        Returns:
            The array, in memory.

        Raises:
            UnknownNameError: There is no such array; the message lists existing ones. It is a `FileNotFoundError` and a
                `KeyError`.
            DecodeError: The file is damaged, or contains Python objects.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-array", "memory://reading")
        >>> paths = run.array("t", [0.0, 0.5]), run.arrays("trajectory", x=[1.0])
        >>> reader = LogReader("memory://reading/log_load-array")
        >>> reader.load_array("t").tolist(), reader.load_array("trajectory:x").tolist()
        ([0.0, 0.5], [1.0])
        """
        name = str(name)  # numbers are accepted, as by `Logbook.array`
        for bundle, member in _splits(name):
            try:
                key = keys.data(bundle, formats.NPZ.suffix)
                with self._opened(key) as file, self._reading(key):
                    return formats.NPZ.read_member(file, member)
            except (MissingError, FolderError, KeyNameError, KeyError):  # "a:b" may be the name of a file
                continue
        array: npt.NDArray[Any] = self._load(formats.NPY, name, keys.DATA, self._known_arrays)
        return array

    def load_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return all arrays of a bundle ``data/<name>.npz`` as a dictionary, in memory.

        Args:
            name: The name that was given to `Logbook.arrays`; the suffix may be left out.

        Raises:
            UnknownNameError: There is no such bundle.
            DecodeError: The file is damaged, or contains Python objects.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-arrays", "memory://reading")
        >>> path = run.arrays("trajectory", x=[1.0], v=[0.0])
        >>> sorted(LogReader("memory://reading/log_load-arrays").load_arrays("trajectory"))
        ['v', 'x']
        """
        arrays: dict[str, npt.NDArray[Any]] = self._load(formats.NPZ, name, keys.DATA, self._bundles)
        return arrays

    def load_json(self, name: str, default: Any = _RAISE) -> Any:
        """Return the value of a JSON artifact; the suffix may be left out.

        Args:
            name: The name that was given to `Logbook.json`.
            default: The value to return if there is no such artifact.

        Raises:
            UnknownNameError: There is no such artifact, and no `default`. (notata 0.3.0 returned ``{}``.)
            DecodeError: The file is not valid JSON.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-json", "memory://reading")
        >>> path = run.json("metrics", {"loss": 0.5})
        >>> reader = LogReader("memory://reading/log_load-json")
        >>> reader.load_json("metrics"), reader.load_json("losses", default=None)
        ({'loss': 0.5}, None)
        """
        if default is _RAISE:
            return self._load(formats.JSON, name)
        try:
            return self._load(formats.JSON, name, names=list)  # the error is caught, so it need not list names
        except UnknownNameError:
            return default

    def load_text(self, name: str) -> str:
        """Return a text artifact, in UTF-8. One request.

        Args:
            name: The name that was given to `Logbook.text`. The suffix ``.txt`` may be left out; any other suffix is
                part of the name.

        Raises:
            UnknownNameError: There is no such artifact.
            DecodeError: The file is not UTF-8.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-text", "memory://reading")
        >>> path = run.text("notes", "converged")
        >>> LogReader("memory://reading/log_load-text").load_text("notes")
        'converged'
        """
        return str(self._load(formats.TEXT, name, exact=True))

    def load_bytes(self, name: str) -> bytes:
        r"""Return the bytes of any artifact. One request up to 8 MiB.

        Args:
            name: The key below ``artifacts/``, suffix included.

        Raises:
            UnknownNameError: There is no such artifact.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-bytes", "memory://reading")
        >>> path = run.bytes("weights.raw", b"\x01\x02")
        >>> LogReader("memory://reading/log_load-bytes").load_bytes("weights.raw")
        b'\x01\x02'
        """
        return bytes(self._load(formats.BYTES, name))

    def load_pickle(self, name: str) -> Any:
        """Return the object of a pickle; the suffix may be left out.

        **Unpickling runs any code that the pickle names**: a pickle that another person made or changed can do
        everything that you can, such as deleting your files or sending your credentials away. Load only pickles whose
        origin you are sure of. No other method unpickles anything: neither `load` nor `load_array` does.

        Raises:
            UnknownNameError: There is no such artifact.
            DecodeError: The file cannot be unpickled: it is damaged, or its classes cannot be imported.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-pickle", "memory://reading")
        >>> path = run.pickle("model", {"weights": [1, 2]})
        >>> LogReader("memory://reading/log_load-pickle").load_pickle("model")
        {'weights': [1, 2]}
        """
        return self._load(formats.PICKLE, name)

    def load_table(self, name: str, library: Literal["pandas", "polars", "arrow"] = "pandas") -> Any:
        """Return a table that was saved as Parquet; the suffix may be left out.

        Args:
            name: The name that was given to `Logbook.save`.
            library: The library whose table type to return.

        Raises:
            UnknownNameError: There is no such artifact.
            PackageMissingError: pyarrow, or that library, is not installed.
            DecodeError: The file is not valid Parquet.
            StorageError: The file cannot be read.

        >>> run = Logbook("load-table", "memory://reading")
        >>> path = run.save("table.parquet", {"t": [0.0, 0.5], "x": [1.0, 0.9]})
        >>> LogReader("memory://reading/log_load-table").load_table("table")["x"].tolist()
        [1.0, 0.9]
        """
        return formats.table_as(self._load(formats.named("parquet"), name), library)

    def load(self, key: str, format: formats.Format | type | str | None = None) -> Any:
        """Return the content of any file of the run, decoded by its suffix.

        ``.json``, ``.yaml``, ``.txt``, ``.npy``, ``.npz`` (a dictionary of arrays), ``.csv``, ``.nc``, and suffixes of
        installed formats; bytes for all others. Pickles are refused for safety, see `load_pickle`.

        Args:
            key: The key relative to the run's folder, or to ``artifacts/``.
            format: The format, if the suffix does not determine it: the name of a registered one, such as ``json``, or
                an object or class with `suffix` and ``read(file)``. `key` may then lack the suffix.

        Raises:
            UnknownNameError: There is no such file; the message lists existing ones.
            ConfigurationError: The file is a pickle, or `format` is not a format.
            DecodeError: The file is not of its format.
            StorageError: The file cannot be read.

        >>> run = Logbook("load", "memory://reading", params={"omega": 2.0})
        >>> path = run.array("t", [0.0, 0.5])
        >>> reader = LogReader("memory://reading/log_load")
        >>> reader.load("data/t.npy").tolist(), reader.load("params.yaml")
        ([0.0, 0.5], {'omega': 2.0})
        """
        key = keys.check(key)
        form = (formats.of_file(key) or formats.BYTES) if format is None else formats.as_format(format)
        if format is None and isinstance(form, formats.Pickle):
            raise ConfigurationError(
                f"{key} is a pickle, and loading a pickle can run any code; if you trust its author, use load_pickle",
                url=self.url,
                key=key,
            )
        names = [key, keys.join(keys.ARTIFACTS, key)]
        if format is not None and form.suffix and not key.endswith(form.suffix):
            names = [name + form.suffix for name in reversed(names)] + names
        return self._first(form, names, key, lambda: self.files)

    def _load(
        self,
        form: formats.Format,
        name: str,
        folder: str = keys.ARTIFACTS,
        names: Callable[[], list[str]] | None = None,
        *,
        exact: bool = False,
    ) -> Any:
        below = {keys.ARTIFACTS: keys.artifact, keys.DATA: keys.data}[folder]
        candidates = [below(name, form.suffix)]
        if exact and candidates[0] != below(name, ""):
            candidates.append(below(name, ""))
        return self._first(form, candidates, name, names or (lambda: self._names(folder)))

    def _first(self, form: formats.Format, candidates: Sequence[str], name: str, names: Callable[[], list[str]]) -> Any:
        """Return the value of the first of these files that exists."""
        for key in candidates:
            try:
                file = self._opened(key)
            except (MissingError, FolderError) as error:  # FolderError: on a disk the key is a folder
                missing = error
                continue
            with file, self._reading(key):
                return formats.read(form, file)
        raise self._unknown(name, names) from missing

    def _opened(self, key: str) -> IO[bytes]:
        return self._store.open(key, "rb")

    # -- verification --------------------------------------------------------------------------------------

    def verify(self, *, progress: Wanted = False) -> VerifyReport:
        """Read every file of the run, and compare it with ``manifest.json``, which the run stored at its end.

        Many files are read at once, large ones in pieces, so that memory is bounded. Only the recorded beginning of a
        log is compared: lines added later are no damage.

        Args:
            progress: Show a progress bar in the terminal; or any `fsspec.callbacks.Callback`, which counts bytes.

        Returns:
            Missing, changed and extra files; `VerifyReport.ok` is true if all files match.

        Raises:
            MissingError: There is no manifest, or only one of an earlier attempt; the message has the reason.
            DecodeError: The manifest is damaged.
            StorageError: A read failed. If files cannot be read, a `BatchError`.

        Cost: reads of metadata.json and the manifest, a listing, and the reads of all files.

        >>> with Logbook("verify", "memory://reading") as run:
        ...     path = run.text("notes", "converged")
        >>> reader = LogReader("memory://reading/log_verify")
        >>> reader.verify().ok
        True
        >>> path.write_text("diverged!")
        9
        >>> reader.verify().changed
        ('artifacts/notes.txt',)
        """
        document = self._manifest()
        with shown(progress, self.run_id) as callback:
            tally = Tally(callback, sum(receipt.size for receipt in document.files.values()))
            return verify(self._store, document.files, tally)

    def _manifest(self) -> Document:
        """Return the manifest that the run stored at its end.

        Raises:
            MissingError: There is none.
        """
        fields, state = read_state(self._store)
        document = None
        has_ended = fields.get("status") in ENDED
        if has_ended:
            try:
                document = Document.parse(self._store.read(keys.MANIFEST))
            except MissingError:
                pass
            except TooLargeError:
                raise
            except ValueError as error:
                message = f"{self.url}/{keys.MANIFEST} is damaged: {error}"
                raise DecodeError(message, url=self.url, key=keys.MANIFEST) from error
        owner = str(lease_of(fields).get("owner", ""))
        if document is not None and is_of_run(document, has_ended=has_ended, owner=owner):
            return document
        why = _why_no_manifest(fields, state, document)
        raise MissingError(
            f"run {self.run_id!r} at {self.url} cannot be verified: {why}", url=self.url, key=keys.MANIFEST
        )

    # -- any file ------------------------------------------------------------------------------------------

    def __getitem__(self, key: str | os.PathLike[str]) -> StoredPath:
        """Return the path object of any file of the run; the file need not exist, and no folder is created. No request.

        On a local disk, this is a `pathlib.Path`, elsewhere a `upath.UPath`.

        Args:
            key: Key relative to the run's folder.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.

        >>> run = Logbook("any-file", "memory://reading")
        >>> path = run.text("notes", "converged")
        >>> LogReader("memory://reading/log_any-file")["artifacts/notes.txt"].read_text()
        'converged'
        """
        return self._store.path_for(keys.check(key))

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Provide a real `pathlib.Path` of a file, or of a folder with all its files, for libraries that need a name.

        For a run on a local disk it is the path of the file itself: open it only for reading. For any other run it is a
        copy in the system's temporary folder (TMPDIR), which is removed at the end of the block.

        Args:
            key: The key relative to the run's folder; its last segment is the name of the path.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.
            UnknownNameError: There is neither a file nor a folder with this name. It is a `FileNotFoundError`.
            StorageError: The file cannot be read. For several files, a `BatchError`.

        Cost: the reads of the file; for a folder, a listing and the reads of its files, many at once. None on a disk.

        >>> run = Logbook("local", "memory://reading")
        >>> path = run.text("mesh", "# vtk DataFile Version 3.0")
        >>> with LogReader("memory://reading/log_local").local("artifacts/mesh.txt") as path:
        ...     path.read_text()
        '# vtk DataFile Version 3.0'
        """
        key = keys.check(key)
        place = self._store.path_for(key)
        if isinstance(place, Path):
            if not place.exists():
                raise self._unknown(key, lambda: self.files)
            yield Path(os.fspath(place))
            return
        with tempfile.TemporaryDirectory(prefix="notata-") as folder:
            path = Path(folder, key.rpartition("/")[2])
            self._fetch(key, path)
            yield path

    def _fetch(self, key: str, path: Path) -> None:
        """Copy a file of the run, or all files of a folder, to a local disk."""
        target = open_store(path.parent)
        try:
            wanted = {path.name: self._store.locate(key)}
        except (MissingError, FolderError):
            below = self._store.list(key)
            if not below:
                raise self._unknown(key, lambda: self.files) from None
            wanted = {f"{path.name}{entry.key.removeprefix(key)}": entry for entry in below}
        target.copy_from(wanted, self._store)

    def __contains__(self, key: object) -> bool:
        """Check whether there is a file with this key. One request."""
        if not isinstance(key, str | os.PathLike):
            return False
        try:
            return self._store.exists(keys.check(key))
        except KeyNameError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    # -- show ----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        meta, state = read_state(self._store)
        stored = meta.get("status", "unknown")
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        lines = [
            f"<LogReader '{self.run_id}'>",
            f"  params: {params or '(missing)'}",
            f"  meta: status={stored if stored in ENDED or state.status == 'running' else state.status}",
        ]
        for label, names in (("arrays", self.arrays), ("artifacts", self.artifacts), ("plots", self.plots)):
            lines += [f"  {label}:", *(f"    - {name}" for name in names)] if names else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the run as HTML for a notebook: state, parameters, values over time, and files.

        An error of the storage is shown beside what can be read.

        Cost: a listing and three reads, and one of the series `scalars`, or of the first one, if it has at most 8 MiB.
        """
        from notata.reader.notebook import run_page

        return run_page(self._store, self.run_id)

    # -- errors --------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Add the file to errors of a format, which does not know it."""
        try:
            yield
        except DecodeError as error:
            named = DecodeError(f"{self.url}/{key} cannot be read: {error}", url=self.url, key=key)
            raise named from error

    def _unknown(self, name: str, names: Callable[[], list[str]]) -> UnknownNameError:
        where = f"run {self.run_id!r} at {self.url}"
        return UnknownNameError(f"there is no {name!r} in {where}{existing_names(name, names)}", url=self.url, key=name)


def _why_no_manifest(fields: Mapping[str, Any], state: RunState, document: Document | None) -> str:
    """Return the reason why there is no manifest."""
    if state.status == "running":
        return "it is still being written, and the manifest is stored when it ends"
    if state.status == "died":
        return f"it died before its manifest was stored ({state.why})"
    if state.status == "replacing":
        return "another run is replacing it"
    if document is not None:
        return f"its {keys.MANIFEST} is from an earlier attempt; the last attempt stored none"
    if not lease_of(fields):
        return f"it has no {keys.MANIFEST}, because notata 0.3.0 wrote none"
    return f"it has no {keys.MANIFEST}: it was written with manifest=False, or the manifest could not be stored"


def existing_names(name: str, names: Callable[[], list[str]]) -> str:
    """Return a hint with existing names, the most similar first."""
    try:
        there = names()
    except NotataError:
        return ""
    import difflib

    close = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
    others = (other for other in there if other not in close)
    return f"; there is {display.listed([*close, *others], _SHOWN) or 'nothing'}"


def _stem(key: str, form: formats.Format) -> str:
    return key[len(keys.DATA) + 1 :].removesuffix(form.suffix)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield the possible meanings of ``bundle:name``, as both may contain a colon."""
    for at, character in enumerate(name):
        if character == ":" and 0 < at < len(name) - 1:
            yield name[:at], name[at + 1 :]
