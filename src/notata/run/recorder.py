"""Write the files of a run: values by name, and any file by its key."""

from __future__ import annotations

import builtins
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, Final, overload

from notata import formats
from notata._base import display, keys, limits
from notata._base.display import listed
from notata._base.progress import Wanted, shown
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, EncodeError, FolderError, MissingError, NotataError, StorageError
from notata.formats import Drawing, current_figure, encode
from notata.run.inputs import InputRecords
from notata.run.inspection import Inspector
from notata.run.lines import LogMethods
from notata.series import SCALARS, Series, SeriesWriters
from notata.store import Entry, Store, open_beside, open_store

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure
    from typing_extensions import Buffer
    from upath import UPath

    from notata.store.stored_path import StoredPath

__all__ = ["Recorder"]

_NAMED: Final = 20  # files that a warning names


class Recorder(LogMethods, ABC):
    """The writers of one run. Each writer stores one file atomically and logs a line.

    Attributes:
        url: The location of the run, without credentials.
        path: The run's folder, a `pathlib.Path` on a local disk and a `upath.UPath` on any storage.
    """

    _store: Store
    _series: SeriesWriters
    _inputs: InputRecords
    _inspector: Inspector

    @abstractmethod
    def _check(self) -> None:
        """Raise an error if another writer is known to own the run."""

    @property
    def url(self) -> str:
        """The location of the run, without credentials."""
        return self._store.url

    @property
    def path(self) -> StoredPath:
        """The run's folder."""
        return self._store.path_for()

    # -- artifacts -----------------------------------------------------------------------------------------

    def text(self, name: str, content: str) -> StoredPath:
        r"""Store text as ``artifacts/<name>.txt``, replacing a previous file.

        The write is atomic: a reader sees the whole text or the previous one. Cost: one request up to 8 MiB, then one
        for each part.

        Args:
            name: Key below ``artifacts/``. It may contain folders. The suffix is added if it is missing.
            content: The text, stored as UTF-8 with its newlines unchanged. A lone surrogate, which UTF-8 cannot encode,
                becomes its escape (``\udc80``), so that a crash dump is still stored.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: `content` is not a string.
            StorageError: The storage refused; the previous file is unchanged.

        >>> log.text("debug/traceback", "Traceback …").read_text()
        'Traceback …'
        """
        return self._save(formats.TEXT, "text", name, content)

    def json(self, name: str, data: Any) -> StoredPath:
        """Store structured data as ``artifacts/<name>.json``, replacing a previous file: 2 spaces, sorted keys, UTF-8.

        `notata.formats.plain` converts numpy scalars and arrays, dates and times, paths, enumerations, dataclasses,
        sets and similar values. NaN and infinities are written as ``NaN``, ``Infinity`` and ``-Infinity``. The write is
        atomic. Cost: one request up to 8 MiB, then one for each part.

        Args:
            name: Key below ``artifacts/``. It may contain folders. The suffix is added if it is missing.
            data: Any value that has a plain form.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: A part has no plain form; the message names it, as in ``metrics.layers[3].weight``.
            StorageError: The storage refused; the previous file is unchanged.

        >>> print(log.json("metrics", {"max": 0.92, "at": {3, 1}}).read_text(), end="")
        {
          "at": [
            1,
            3
          ],
          "max": 0.92
        }
        """
        return self._save(formats.JSON, "JSON", name, data)

    def pickle(self, name: str, obj: Any, protocol: int = formats.PICKLE.protocol) -> StoredPath:
        """Store a Python object as ``artifacts/<name>.pkl``, replacing a previous file.

        The write is atomic and streamed, without a second copy of the object in memory. Load pickles only from sources
        you trust. Cost: one request up to 8 MiB, then one for each part.

        Args:
            name: Key below ``artifacts/``. It may contain folders. The suffix is added if it is missing.
            obj: Any object that can be pickled. A path object of a run is stored without its storage options.
            protocol: The version of the pickle format, 0 to 5. The default is the highest one of this Python.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: The object cannot be pickled; the previous file is unchanged.
            StorageError: The storage refused; the previous file is unchanged.

        >>> log.pickle("model", {"weights": [1, 2]}).name
        'model.pkl'
        """
        return self._save(formats.Pickle(protocol), "pickle", name, obj)

    def bytes(self, name: str, data: Buffer | npt.NDArray[Any]) -> StoredPath:
        r"""Store raw bytes as ``artifacts/<name>``, replacing a previous file.

        The write is atomic. Cost: one request up to 8 MiB, then one for each part.

        Args:
            name: Key below ``artifacts/``, including the suffix: none is added. It may contain folders.
            data: bytes, bytearray, memoryview, array or a numpy array, stored as in memory. A strided array is stored
                in C order.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: `data` is not bytes-like.
            StorageError: The storage refused; the previous file is unchanged.

        >>> log.bytes("weights.raw", b"\x01\x02").read_bytes()
        b'\x01\x02'
        """
        return self._save(formats.BYTES, "bytes", name, data)

    def save(self, name: str, value: Any, format: formats.Format | type | str | None = None) -> StoredPath:
        r"""Store a value as ``artifacts/<name>`` in a given format, or in the format of its suffix.

        The write is atomic and streamed; it replaces a previous file. Cost: one request up to 8 MiB, then one for each
        part.

        Args:
            name: Key below ``artifacts/``. It may contain folders. The suffix of `format` is added if it is missing.
            value: A value that the format supports.
            format: An object or class with `suffix`, ``write(value, file)`` and ``read(file)``; or the name of a
                registered format: ``text``, ``json``, ``yaml``, ``pickle``, ``npy``, ``npz``, ``csv``, ``netcdf``,
                ``parquet``, and those of the entry point group ``notata.formats``. By default, the suffix of `name`
                selects the format.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            ConfigurationError: There is no format with this name or suffix.
            EncodeError: The format cannot store the value; the previous file is unchanged.
            StorageError: The storage refused; the previous file is unchanged.

        >>> class Lines:
        ...     suffix = ".lines"
        ...     def write(self, value, file):
        ...         file.writelines(f"{item}\n".encode() for item in value)
        ...     def read(self, file):
        ...         return file.read().decode().splitlines()
        >>> log.save("species", ["H2", "O2"], format=Lines).name
        'species.lines'
        >>> log.save("species.yaml", {"H2": 2.016}).read_text()
        'H2: 2.016\n'
        """
        form = formats.of_file(str(name)) if format is None else formats.as_format(format)
        if form is None:
            raise ConfigurationError(
                f"cannot save {name!r}: no format has this suffix. Use a name with the suffix of a format, or pass "
                f"format=. Known formats: {', '.join(sorted(formats.known()))}",
                url=self.url,
            )
        suffix = "" if format is None else form.suffix  # keep a given suffix: .yaml and .yml are the same format
        what = form.suffix.removeprefix(".") or formats.kind_of(form)
        return self._write(form, what, name, keys.artifact(name, suffix), value)

    def file(
        self, path: str | os.PathLike[str] | UPath, name: str | None = None, *, progress: Wanted = False
    ) -> StoredPath:
        """Store a file that another program wrote as ``artifacts/<name>``, replacing a previous file.

        The copy is atomic and streamed, with bounded memory. Cost: one request up to 8 MiB, then one for each part; for
        a file in a bucket also the requests to read it.

        Args:
            path: A local path, any fsspec URL, or a UPath.
            name: Key below ``artifacts/``, including the suffix. The default is the name of the file.
            progress: Show a progress bar in the terminal; or pass any `fsspec.callbacks.Callback`, which gets the
                number of bytes.

        Returns:
            The path of the copy.

        Raises:
            MissingError: The file does not exist.
            FolderError: The path is a folder; use `folder`.
            KeyNameError: The name is not legal on every backend; pass another one.
            StorageError: The file could not be read, or the storage refused; the previous file is unchanged.

        >>> with log.local("artifacts/mesh.vtk") as mesh:
        ...     size = mesh.write_text("# vtk DataFile Version 3.0")
        ...     log.file(mesh, "meshes/first.vtk").name
        'first.vtk'
        """
        folder, own = open_beside(path)
        source = folder.following_links()
        key = keys.artifact(own if name is None else name)
        self._check()
        with shown(progress, own) as callback:
            self._store.copy_from({key: source.locate(own)}, source, callback=callback)
        self.info("Saved file %s in %s", own, key)
        return self._store.path_for(key)

    def folder(
        self, path: str | os.PathLike[str] | UPath, name: str | None = None, *, progress: Wanted = False
    ) -> StoredPath:
        """Store all files of a folder and its subfolders below ``artifacts/<name>/``, up to 32 at once.

        Each file is stored atomically, but not the folder as a whole. Empty folders are skipped, as a bucket has none.
        Links to folders, sockets and the like are skipped, too, and a warning in the log names them. If the folder
        contains this run, the run is skipped. A folder within the run can be stored. Cost: at least one request for
        each file.

        Args:
            path: A local path, any fsspec URL, or a UPath.
            name: Key below ``artifacts/``. The default is the name of the folder.
            progress: Show a progress bar in the terminal; or pass any `fsspec.callbacks.Callback`, which gets the
                number of bytes.

        Returns:
            The path of the folder with the copies.

        Raises:
            MissingError: The folder does not exist, or has no files.
            KeyNameError: A name is not legal on every backend; nothing was stored.
            BatchError: Some files could not be stored; it contains one error for each. The other files are stored.

        >>> with log.local("artifacts/ignored") as beside:
        ...     for step in range(3):
        ...         size = beside.with_name(f"step{step}.dat").write_text("0.0")
        ...     size = beside.write_text("x")
        ...     sorted(file.name for file in log.folder(beside.parent, "steps").iterdir())
        ['ignored', 'step0.dat', 'step1.dat', 'step2.dat']
        """
        source = open_store(path).following_links()
        own = PurePath(source.url.rpartition("://")[2]).name
        target = keys.artifact(own if name is None else name)
        self._check()
        found = self._files_to_store(source, target)
        if not found:
            raise _no_files_error(path, source)
        wanted = {keys.check(f"{target}/{entry.key}"): entry for entry in found}
        with shown(progress, own) as callback:
            self._store.copy_from(wanted, source, callback=callback)
        if left_out := source.irregular():
            names = listed(map(one_line, left_out), _NAMED)
            self.warning("Skipped in folder %s, because they are not regular files: %s", own, names)
        size = sum(entry.size for entry in found)
        self.info("Saved folder %s (%d files, %d bytes) in %s", own, len(found), size, target)
        return self._store.path_for(target)

    def _files_to_store(self, source: Store, target: str) -> list[Entry]:
        """Return the files of a folder except those of this run; for a folder in the run, except earlier copies."""
        own_root, root = _location(self._store), _location(source)
        within = root != own_root and root.startswith(own_root)
        left_out = f"{own_root}{target}/" if within else own_root
        return [entry for entry in source.list() if not f"{root}{entry.key}".startswith(left_out)]

    # -- inputs --------------------------------------------------------------------------------------------

    def input(
        self,
        path: str | os.PathLike[str] | UPath,
        *,
        digest: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> StoredPath:
        """Record a file or folder that the run reads in ``inputs.json``, and return its path to open it.

        notata stores the URL without credentials, the size, the time, the SHA-256 of a file on a local disk or in
        memory, and the version (ETag or generation) of a file in a bucket. If the input lies in another run, notata
        stores the id of that run, and takes the digest from its manifest if the manifest still holds for the file. The
        same input is recorded once. If it has changed since, both states are recorded. A run records at most 2000
        inputs; a folder counts as one.

        Args:
            path: A file or folder: a local path, any fsspec URL, or a UPath. It can be large: it is read in pieces.
            digest: Whether to read the content for its SHA-256. By default notata reads it on a local disk and in
                memory, but does not download it from a bucket. True reads it there, too; False never does.
            storage_options: Options for fsspec. They never appear in a file, message or repr.

        Returns:
            The path of the input: a `pathlib.Path` on a local disk, a `upath.UPath` elsewhere.

        Raises:
            MissingError: The file or folder does not exist. It is a `FileNotFoundError`.
            StorageError: It cannot be read, or the record cannot be stored.

        Cost in a bucket: one request to look up a file, or one for each 1000 files of a folder; two for the manifest of
        each run that the inputs lie in; and one to store the record.

        >>> from notata import Logbook
        >>> mesh = log.json("mesh", {"cells": 4})
        >>> later = Logbook("later", "memory://docstrings")
        >>> later.input(mesh).name
        'mesh.json'
        >>> [(one.url.rpartition("/")[2], one.size) for one in later.reader.inputs]
        [('mesh.json', 17)]
        """
        self._check()
        found = self._inspector.inspect(path, digest, storage_options)
        one = found.found
        for problem in found.problems:
            self.warning("Input: %s", one_line(problem, 1000))
        if self._inputs.add(one):
            size = "unknown size" if one.size is None else display.size(one.size)
            self.info("Input %s (%s%s)", one_line(one.url, 1000), size, f", of run {one.run_id}" if one.run_id else "")
        else:
            most = limits.INPUTS_NUMBER
            self.warning("Input %s is not in %s: a run records at most %d", one_line(one.url, 1000), keys.INPUTS, most)
        return found.path

    # -- values over time ----------------------------------------------------------------------------------

    def scalars(self, values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **more: Any) -> None:
        """Add a row of values to the series ``series/scalars.jsonl``. Short for ``series("scalars").add(…)``.

        Args:
            values: Values by name, for names that are not Python identifiers.
            step: An integer. The default is one more than that of the row before, or 0.
            **more: More values.

        For values, errors and cost see `notata.series.Series.add`.

        >>> log.scalars(step=120, loss=0.31)
        >>> log.scalars({"val/loss": 0.4, "val/acc": 0.9}, step=120)
        >>> log.reader.series("scalars").to_pandas()[["step", "loss", "val/acc"]]
           step  loss  val/acc
        0   120  0.31      NaN
        1   120   NaN      0.9
        """
        self._series[SCALARS].add_row(values, step, more)

    def series(self, name: str) -> Series:
        """Return the series ``series/<name>.jsonl``, to which rows are added. The same object for each call.

        Args:
            name: Key below ``series/``, without the suffix. It may contain folders.

        Raises:
            KeyNameError: `name` is not legal on every backend.

        >>> residual = log.series("residual")
        >>> residual.add(iteration=7, r=1e-6, t=0.01)
        >>> log.reader.series("residual")["r"]
        array([1.e-06])
        """
        return self._series[name]

    # -- data and plots ------------------------------------------------------------------------------------

    def array(self, name: str, array: npt.ArrayLike) -> StoredPath:
        """Store one array as ``data/<name>.npy``, replacing a previous file.

        The write is streamed and atomic: a reader sees the whole array or the previous one. npy has no units: put them
        into the name or into `params`. Cost: one request up to 8 MiB, then one for each part.

        Args:
            name: Key below ``data/``. It may contain folders. The suffix is added if it is missing.
            array: A numpy array, an object with `__array__` (torch and jax tensors are copied from their device), or
                nested lists of numbers. Any shape, including ``()``; any dtype except object. C or Fortran order and
                byte order are kept.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: The dtype is object, or npy cannot restore it; or a masked array has masked elements. The
                message states the solution.
            StorageError: The storage refused; the previous file is unchanged.

        References:
            NEP 1, the npy format.

        >>> log.array("states/t", [0.0, 0.5]).name
        't.npy'
        """
        return self._write(formats.NPY, "array", name, keys.data(name, formats.NPY.suffix), array)

    @overload
    def arrays(self, name: str, /, compressed: bool = True, **arrays: npt.ArrayLike) -> StoredPath: ...
    @overload
    def arrays(self, /, *, name: str, compressed: bool = True, **arrays: npt.ArrayLike) -> StoredPath: ...
    def arrays(self, name: str | None = None, /, compressed: bool = True, **arrays: Any) -> StoredPath:
        """Store several arrays as one bundle ``data/<name>.npz``, replacing a previous file.

        The write is streamed and atomic. Cost: one request up to 8 MiB, then one for each part.

        Args:
            name: Key below ``data/``. It may contain folders. The suffix is added if it is missing.
            compressed: Compress with zlib; without compression, writing is faster and the file larger.
            **arrays: The arrays; the keywords are their names in the bundle, ``name`` included. Each may have any
                shape, and any dtype except object.

        Returns:
            The path of the file.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: An array has dtype object or masked elements, or npz cannot restore its dtype; the message
                names the array.
            StorageError: The storage refused; the previous file is unchanged.

        References:
            numpy.savez; each member has the npy format (NEP 1).

        >>> log.arrays("trajectory", x=[0.0, 1.0], v=[1.0, 0.0]).name
        'trajectory.npz'
        """
        if not isinstance(compressed, bool | int):
            raise ConfigurationError(
                f"invalid compressed of type {type(compressed).__name__}: pass True or False, and arrays as keywords, "
                "arrays('a', x=…)"
            )
        if name is None:  # by keyword, as in 0.3.0
            name = arrays.pop("name", None)
            if not isinstance(name, str):
                raise ConfigurationError(
                    "cannot store arrays without a name: pass the name of the bundle first, arrays('trajectory', x=…)"
                )
        form = formats.Npz(bool(compressed))
        return self._write(form, "arrays", name, keys.data(name, form.suffix), arrays)

    def plot(
        self, name: str, fig: Figure | None = None, dpi: int = 200, formats: str | Iterable[str] = ("png",)
    ) -> list[StoredPath]:
        """Store a matplotlib figure as ``plots/<name>.<format>``, in one or more formats.

        All formats are drawn before the first one is stored. Each file is written atomically. The figure is cropped to
        its content (``bbox_inches="tight"``) and stays open. Cost: one request for each format.

        Args:
            name: Key below ``plots/``. It may contain folders. The suffix is added if it is missing.
            fig: A figure, or the axes of a figure. The default is the current figure of pyplot.
            dpi: Dots per inch of raster formats.
            formats: Suffixes that matplotlib can write: ``png``, ``pdf``, ``svg``, …

        Returns:
            The path of each file, in the order of `formats`.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            PackageMissingError: matplotlib is not installed. It is an `ImportError` and a `RuntimeError`.
            EncodeError: There is no current figure, `fig` is not a figure, or matplotlib cannot write the format.
            StorageError: The storage refused; previous files are unchanged. Several formats raise a `BatchError`.

        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from matplotlib import pyplot
        >>> figure, axes = pyplot.subplots()
        >>> lines = axes.plot([0, 1], [1, 0])
        >>> [path.name for path in log.plot("energy", figure, formats=("png", "pdf"))]
        ['energy.png', 'energy.pdf']
        >>> pyplot.close(figure)
        """
        kinds = [formats] if isinstance(formats, str) else list(formats)
        forms = [Drawing(kind.removeprefix("."), dpi) for kind in kinds]
        wanted = [keys.plot(name, form.suffix) for form in forms]
        self._check()
        drawn: dict[str, builtins.bytes] = {}
        for key, form in zip(wanted, forms, strict=True):
            with self._locating_errors(key):
                drawn[key] = encode(form, current_figure() if fig is None else fig)
        if len(drawn) == 1:
            self._store.write(*next(iter(drawn.items())))
        else:
            self._store.write_many(drawn)
        self.info("Saved plot %s (%s) in %s", name, "/".join(kinds), keys.PLOTS)
        return [self._store.path_for(key) for key in wanted]

    def _save(self, form: formats.WriteFormat, what: str, name: str, value: Any) -> StoredPath:
        return self._write(form, what, name, keys.artifact(name, form.suffix), value)

    def _write(self, form: formats.WriteFormat, what: str, name: str, key: str, value: Any) -> StoredPath:
        self._check()
        with self._locating_errors(key), self._store.open(key, "wb") as file:
            formats.write(_with_root(form, name), value, file)
        self.info("Saved %s %s in %s", what, name, key)
        return self._store.path_for(key)

    @contextmanager
    def _locating_errors(self, key: str) -> Iterator[None]:
        """Add the URL and key to the errors of a format, which knows neither."""
        try:
            yield
        except EncodeError as error:
            error.url, error.key = self.url, key
            raise

    # -- any file ------------------------------------------------------------------------------------------

    def __getitem__(self, key: str | os.PathLike[str]) -> StoredPath:
        """Return the path object of any file of the run; the file need not exist.

        On a local disk, this is a `pathlib.Path` whose parents exist, for `np.save` and the builtin `open`. On any
        storage, its methods `open`, ``read_*``, ``write_*`` and `touch` are atomic: a failed write changes nothing.

        Args:
            key: Key relative to the run's folder.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.

        >>> log["artifacts/settings/config.json"].write_text("{}")
        2
        """
        return self._store.path(self._check_key(key))

    def _check_key(self, key: str | os.PathLike[str]) -> str:
        """Return a valid key; raise an error if another writer is known to own the run."""
        checked = keys.check(key)
        self._check()
        return checked

    def open(
        self,
        key: str,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        r"""Open any file of the run, for libraries that take a file object (`np.savez`, `torch.save`, pandas).

        Args:
            key: Key relative to the run's folder.
            mode: ``w``: the file becomes visible when it is closed; after an exception in its ``with`` block, nothing
                changes. ``x``: the same, but the file must not exist. ``a``: data is kept in memory and appended at
                close, on GCS, too. ``r``: read, seekable. Add ``b`` for bytes; the default is text. Files opened for
                writing are not seekable: for a library that seeks (HDF5), use `local`.
            encoding: The encoding of text; UTF-8 by default, independent of the locale.
            errors: How to handle text that cannot be encoded or decoded: ``strict`` (the default, an error),
                ``replace``, ``ignore``, …
            newline: How to translate line ends in text, with the values of the builtin `open`. By default they are
                written unchanged.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.
            MissingError: The file to read does not exist.
            ExistsError: Mode ``x``, and the file exists.

        >>> with log.open("artifacts/table.csv", "w") as file:
        ...     size = file.write("t,x\n0,1\n")
        >>> log["artifacts/table.csv"].read_text()
        't,x\n0,1\n'
        """
        return self._store.open(self._check_key(key), mode, encoding=encoding, errors=errors, newline=newline)

    def local(self, key: str) -> AbstractContextManager[Path]:
        """Return a context manager with a temporary local path, for libraries that need one (HDF5, netCDF, SQLite).

        There is no file at the path yet. When the block ends, the file is stored under `key` atomically. After an
        exception nothing is stored.

        Args:
            key: Key relative to the run's folder. Its last segment is the name of the path.

        Raises:
            KeyNameError: The key is not legal on every backend, or leaves the run's folder.
            MissingError: No file was written to the path.

        >>> with log.local("artifacts/mesh.vtk") as path:
        ...     size = path.write_text("# vtk DataFile Version 3.0")
        >>> log["artifacts/mesh.vtk"].exists()
        True
        """
        return self._local(self._check_key(key))

    @contextmanager
    def _local(self, key: str) -> Iterator[Path]:
        with self._store.local(key) as path:
            yield path
        self.info("Saved file %s in %s", key.rpartition("/")[2], key)


def _no_files_error(path: str | os.PathLike[str] | UPath, folder: Store) -> StorageError:
    """Return the error for a folder without files to store."""
    beside, name = open_beside(path)
    with suppress(NotataError):
        if name and beside.locate(name):
            return FolderError(f"cannot store {folder.url} as a folder: it is a file; use file()", url=folder.url)
    return MissingError(
        f"cannot store folder {folder.url}: it does not exist, or has no files besides those of this run. "
        "Check the path",
        url=folder.url,
    )


def _location(store: Store) -> str:
    """Return the canonical location of a store, with links of a local disk resolved."""
    place = store.path_for()
    url = place.resolve().as_posix() if isinstance(place, Path) else store.url
    return url if url.endswith("/") else f"{url}/"


def _with_root(form: formats.WriteFormat, name: str | int) -> formats.WriteFormat:
    """Return the format with `name` as the root in its error messages, as in ``metrics.layers[3].weight``."""
    if not isinstance(form, formats.Json | formats.Yaml | formats.Npy | formats.Npz):
        return form
    return dataclasses.replace(form, root=str(name).rpartition("/")[2].removesuffix(form.suffix))
