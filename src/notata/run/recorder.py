"""What a run writes: values under names, and any file by its key; it does not know who owns the run, or how it ends."""

from __future__ import annotations

import builtins
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, Final, overload

from notata import formats
from notata._base import keys
from notata._base.display import listed
from notata._base.progress import Wanted, shown
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, EncodeError, FolderError, MissingError, NotataError, StorageError
from notata.formats import Drawing, current_figure, encode
from notata.run.lines import Lines
from notata.store import Entry, Store, open_beside, open_store

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure
    from typing_extensions import Buffer
    from upath import UPath

    from notata.store.stored_path import StoredPath

__all__ = ["Recorder"]

_NAMED: Final = 20  # files that a warning names


class Recorder(Lines, ABC):
    """The writers of one run. Each stores one file whole or not at all, and leaves a line in the log.

    Attributes:
        url: Where the run lies, without credentials.
        path: The run's folder, a `pathlib.Path` on a local disk and a `upath.UPath` anywhere.
    """

    _store: Store

    @abstractmethod
    def _check(self) -> None:
        """Refuse to write where the run is known to be another writer's."""

    @property
    def url(self) -> str:
        """Where the run lies, without credentials."""
        return self._store.url

    @property
    def path(self) -> StoredPath:
        """The run's folder."""
        return self._store.path_for()

    # -- artifacts -----------------------------------------------------------------------------------------

    def text(self, name: str, content: str) -> StoredPath:
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
        return self._save(formats.TEXT, "text", name, content)

    def json(self, name: str, data: Any) -> StoredPath:
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
        return self._save(formats.JSON, "JSON", name, data)

    def pickle(self, name: str, obj: Any, protocol: int = formats.PICKLE.protocol) -> StoredPath:
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
        return self._save(formats.Pickle(protocol), "pickle", name, obj)

    def bytes(self, name: str, data: Buffer | npt.NDArray[Any]) -> StoredPath:
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
        return self._save(formats.BYTES, "bytes", name, data)

    def save(self, name: str, value: Any, format: formats.Format | type | str | None = None) -> StoredPath:
        r"""Store a value as ``artifacts/<name>`` in a format of your own, of an installed package, or by its suffix.

        Args:
            name: As for `text`. The format's suffix is added unless it is there.
            value: What the format takes.
            format: An object (or class) with `suffix`, ``write(value, file)`` and ``read(file)``; or the name of one
                that is registered: ``text``, ``json``, ``yaml``, ``pickle``, ``npy``, ``npz``, ``csv``, ``netcdf``,
                ``parquet``, and those of the entry point group ``notata.formats``. When not given, the suffix of
                `name` says which.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            ConfigurationError: No format has that name, or that suffix.
            EncodeError: The format cannot hold the value; the previous file is untouched.
            StorageError: The storage refused; the previous file is untouched.

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
                f"no format is known for {name!r}: give it a suffix of one, or say format=. "
                f"Known: {', '.join(sorted(formats.known()))}",
                url=self.url,
            )
        suffix = "" if format is None else form.suffix  # a suffix that was given stays: .yaml and .yml are one format
        what = form.suffix.removeprefix(".") or formats.kind_of(form)
        return self._write(form, what, name, keys.artifact(name, suffix), value)

    def file(
        self, path: str | os.PathLike[str] | UPath, name: str | None = None, *, progress: Wanted = False
    ) -> StoredPath:
        """Store a file that another program wrote as ``artifacts/<name>``. Streamed, bounded in memory.

        Args:
            path: A local path, any fsspec URL, or a UPath.
            name: Key below ``artifacts/``, with the suffix that you want; the file's own name when not given.
            progress: Show a bar in the terminal; or any `fsspec.callbacks.Callback`, which is told of bytes.

        Returns:
            Where the copy lies.

        Raises:
            MissingError: There is no such file.
            FolderError: It is a folder; `folder` takes those.
            KeyNameError: The name is not legal on every backend; give another one.
            StorageError: The file could not be read, or the storage refused; what was there is untouched.

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
        """Store all files of a folder, and of the folders in it, below ``artifacts/<name>/``: many at once, streamed.

        Each file is stored whole or not at all; the folder is not one unit. Empty folders are not kept, as a bucket
        has none; links to folders, sockets and the like are left out, and a warning in the log names them. Of a folder
        that holds this run, the run is left out; one within the run may be stored too.

        Args:
            path: A local path, any fsspec URL, or a UPath.
            name: Key below ``artifacts/``; the folder's own name when not given.
            progress: As for `file`.

        Returns:
            Where the copies lie.

        Raises:
            MissingError: There is no such folder, or no file in it.
            KeyNameError: A name is not legal on every backend; nothing was stored.
            BatchError: Some files could not be stored; it holds each one's error, and the others are.

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
        found = self._wanted(source, target)
        if not found:
            raise _nothing(path, source)
        wanted = {keys.check(f"{target}/{entry.key}"): entry for entry in found}
        with shown(progress, own) as callback:
            self._store.copy_from(wanted, source, callback=callback)
        if left_out := source.irregular():
            names = listed(map(one_line, left_out), _NAMED)
            self.warning("Left out of folder %s, as they are no regular files: %s", own, names)
        size = sum(entry.size for entry in found)
        self.info("Saved folder %s (%d files, %d bytes) in %s", own, len(found), size, target)
        return self._store.path_for(target)

    def _wanted(self, source: Store, target: str) -> list[Entry]:
        """The files of a folder without those of this run; of one within it, without what was stored of it before."""
        mine, there = _root(self._store), _root(source)
        within = there != mine and there.startswith(mine)
        left_out = f"{mine}{target}/" if within else mine
        return [entry for entry in source.list() if not f"{there}{entry.key}".startswith(left_out)]

    # -- data and plots ------------------------------------------------------------------------------------

    def array(self, name: str, array: npt.ArrayLike) -> StoredPath:
        """Store one array as ``data/<name>.npy``, in place of what was there.

        Streamed into one atomic write: a reader sees the whole array or the previous one. Units are the caller's:
        record them in `params`.

        Args:
            name: Key below ``data/``; folders are welcome, the suffix is added unless it is there.
            array: Any shape, ``()`` included, and any dtype but object: of numpy, or of whatever has `__array__` (torch
                and jax tensors are fetched from their device), or nested lists of numbers. C or Fortran order is
                kept, byte order too.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: The dtype is object, or one that npy does not bring back; or a masked array has masked
                elements. The message says what to do.
            StorageError: The storage refused; the previous file is untouched.

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
        """Store several arrays as one bundle ``data/<name>.npz``, in place of what was there.

        Args:
            name: As for `array`.
            compressed: By zlib; else as they are, which is faster and larger.
            **arrays: Each as for `array`; the keywords are their names in the bundle. One may be called ``name``.

        Returns:
            Where the file lies.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            EncodeError: As for `array`; the message names which.
            StorageError: The storage refused; the previous file is untouched.

        >>> log.arrays("trajectory", x=[0.0, 1.0], v=[1.0, 0.0]).name
        'trajectory.npz'
        """
        if not isinstance(compressed, bool | int):
            raise ConfigurationError(
                f"compressed is True or False, not {type(compressed).__name__}; arrays are keywords, arrays('a', x=…)"
            )
        if name is None:  # by keyword, as in 0.3.0
            name = arrays.pop("name", None)
            if not isinstance(name, str):
                raise ConfigurationError("the first argument is the name of the bundle: arrays('trajectory', x=…)")
        form = formats.Npz(bool(compressed))
        return self._write(form, "arrays", name, keys.data(name, form.suffix), arrays)

    def plot(
        self, name: str, fig: Figure | None = None, dpi: int = 200, formats: str | Iterable[str] = ("png",)
    ) -> list[StoredPath]:
        """Store a matplotlib figure as ``plots/<name>.<format>``, in one format or several.

        All formats are drawn before the first is stored. Each file is atomic. The figure is cut to its content
        (``bbox_inches="tight"``) and stays open.

        Args:
            name: Key below ``plots/``; folders are welcome, the suffix is added unless it is there.
            fig: A figure, or axes of one; the current figure of pyplot when not given.
            dpi: Dots per inch of raster formats.
            formats: Suffixes that matplotlib can write: ``png``, ``pdf``, ``svg``, …

        Returns:
            Where each file lies, in the order of `formats`.

        Raises:
            KeyNameError: `name` is not legal on every backend.
            PackageMissingError: matplotlib is not installed. It is an `ImportError` and a `RuntimeError`.
            EncodeError: There is no current figure, it is none, or matplotlib cannot write that format.
            StorageError: The storage refused; what was there is untouched. Of several, a `BatchError`.

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
            with self._telling(key):
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
        with self._telling(key), self._store.open(key, "wb") as file:
            formats.write(_rooted(form, name), value, file)
        self.info("Saved %s %s in %s", what, name, key)
        return self._store.path_for(key)

    @contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        """Tell errors of a format, which knows neither, where the value was to go."""
        try:
            yield
        except EncodeError as error:
            error.url, error.key = self.url, key
            raise

    # -- any file ------------------------------------------------------------------------------------------

    def __getitem__(self, key: str | os.PathLike[str]) -> StoredPath:
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
        return self._store.path(self._allowed(key))

    def _allowed(self, key: str | os.PathLike[str]) -> str:
        """A legal key, while the run is this writer's as far as is known."""
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
        return self._store.open(self._allowed(key), mode, encoding=encoding, errors=errors, newline=newline)

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
        return self._local(self._allowed(key))

    @contextmanager
    def _local(self, key: str) -> Iterator[Path]:
        with self._store.local(key) as path:
            yield path
        self.info("Saved file %s in %s", key.rpartition("/")[2], key)


def _nothing(path: str | os.PathLike[str] | UPath, folder: Store) -> StorageError:
    """What is wrong with a folder in which there is nothing to store."""
    beside, name = open_beside(path)
    with suppress(NotataError):
        if name and beside.locate(name):
            return FolderError(f"{folder.url} is a file, which file() stores", url=folder.url)
    return MissingError(f"there is no file in {folder.url}, besides those of this run", url=folder.url)


def _root(store: Store) -> str:
    """Where a store's keys begin, by one name however it was reached: on a local disk through links, say."""
    place = store.path_for()
    url = place.resolve().as_posix() if isinstance(place, Path) else store.url
    return url if url.endswith("/") else f"{url}/"


def _rooted(form: formats.WriteFormat, name: str | int) -> formats.WriteFormat:
    """The format whose errors call the value by its name, as in ``metrics.layers[3].weight``."""
    if not isinstance(form, formats.Json | formats.Yaml | formats.Npy | formats.Npz):
        return form
    return dataclasses.replace(form, root=str(name).rpartition("/")[2].removesuffix(form.suffix))
