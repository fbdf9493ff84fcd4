"""Read-only access to many runs: an experiment, or any folder of runs, finished or not."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from notata._base import display, keys
from notata.errors import DecodeError, KeyNameError, MissingError, RunMissingError
from notata.reader.base import Reader
from notata.reader.run import LogReader, existing_names
from notata.run.listings import outline_of_runs
from notata.run.state import SUMMARY, metadata, parsed
from notata.series.summary import SCALARS
from notata.store import Location, open_store
from notata.table import Table, experiment_of_index_file, freshness, gather, listed_or_index, runs_below, to_pandas

if TYPE_CHECKING:
    import pandas as pd

    from notata.series.many import RunSeries
    from notata.store.stored_path import StoredPath

__all__ = ["ExperimentReader"]


class ExperimentReader(Reader):
    """A reader of the runs of an experiment, or of any folder with runs. It never writes.

    It supports ``len(exp)``, iteration over `LogReader`, ``exp[run_id]`` and ``exp[0]``. Each access lists the folder
    again, so that a running experiment can be watched.

    The runs of an experiment with more than 10,000 of them are those of its index: they are not listed, so running ones
    are missing, and so may be runs of killed processes. ``exp[run_id]`` finds these, too.

    Attributes:
        path: The folder.
        index_path: ``index.csv`` in it.
        runs_path: ``runs/`` in it.

    Args:
        path: The folder of an experiment, with ``runs/log_<run_id>`` in it, or a folder with ``log_<run_id>`` in it:
            any fsspec URL, local path or UPath.
        storage_options: Options for fsspec. They appear in no file, message or repr.

    Raises:
        RunMissingError: There is no such folder, or no run in it. It is a `FileNotFoundError`.
        StorageError: The folder cannot be listed.

    >>> from notata import Experiment
    >>> experiment = Experiment("sweep", "memory://reading-many")
    >>> for dt in (0.1, 0.2):
    ...     with experiment.add(dt=dt) as run:
    ...         path = run.json("metrics", {"error": dt**2})
    >>> reader = ExperimentReader("memory://reading-many/sweep")
    >>> [run.params["dt"] for run in reader], len(reader)
    ([0.1, 0.2], 2)
    >>> reader.table()[0]["status"]
    'complete'
    """

    def __init__(
        self,
        path: Location,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = open_store(path, storage_options)
        listed = []
        outline = outline_of_runs()
        for entry in self._store.scan(skipped=self._warn_skipped, outline=outline):
            if (
                experiment_of_index_file(entry.key) == ""
            ):  # only an experiment has an index; it may be large, and is not read here
                return
            listed.append(entry)
        if runs_below(listed, outline.found) or self._begun():
            return
        if any(entry.key == keys.METADATA for entry in listed):
            raise RunMissingError(f"{self.url} is a run, not a folder of runs: open it with LogReader", url=self.url)
        raise RunMissingError(
            f"there is no experiment at {self.url}: it contains neither {keys.RUNS}/log_<run_id> nor log_<run_id>",
            url=self.url,
        )

    def _folders(self) -> list[str]:
        """Return the folders of the runs, sorted; those of a large index, if there is one."""
        outline = outline_of_runs()
        listed, index = listed_or_index(self._store, self._warn_skipped, outline=outline)
        if index is None:
            return [*runs_below(listed, outline.found)]
        return [f"{keys.RUNS}/log_{run_id}" for run_id in sorted(index.rows)]

    def _begun(self) -> bool:
        """Check whether the folder is an experiment without runs, which only a disk can show."""
        return self._store.folders and bool(self.runs_path.is_dir())

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def index_path(self) -> StoredPath:
        """The path of ``index.csv``, which need not exist."""
        return self._store.path_for(keys.INDEX)

    @property
    def runs_path(self) -> StoredPath:
        """The path of ``runs/``."""
        return self._store.path_for(keys.RUNS)

    @property
    def runs(self) -> list[StoredPath]:
        """The folders of all runs, sorted by name. One request per 1000 files on a bucket."""
        return [self._store.path_for(folder) for folder in self._folders()]

    # -- runs ----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[LogReader]:
        return (LogReader._of(self._store.below(folder)) for folder in self._folders())

    def __len__(self) -> int:
        return len(self._folders())

    def __contains__(self, run_id: object) -> bool:
        return isinstance(run_id, str) and self._folder_of(run_id) is not None

    def __getitem__(self, run_id: str | int) -> LogReader:
        """Return one run, by its id, which takes one request or two, or by its position in the order of names.

        Raises:
            RunMissingError: There is no run with this id; the message lists existing ids. It is a `KeyError`.
            IndexError: There are fewer runs.
            TypeError: `run_id` is neither a string nor an integer.
        """
        if isinstance(run_id, bool) or not isinstance(run_id, str | int):
            raise TypeError(f"pass a run id or a position, not {display.indefinite(type(run_id).__name__)}")
        if isinstance(run_id, int):
            folders = self._folders()
            if not -len(folders) <= run_id < len(folders):
                raise IndexError(f"there is no run {run_id} in {self.url}; it has {len(folders)}")
            return LogReader._of(self._store.below(folders[run_id]))
        folder = self._folder_of(run_id)
        if folder is None:
            others = existing_names(run_id, lambda: sorted(map(keys.run_id, self._folders())))
            raise RunMissingError(f"there is no run {run_id!r} in {self.url}{others}", url=self.url, key=run_id)
        return LogReader._of(self._store.below(folder))

    def _folder_of(self, run_id: str) -> str | None:
        """Return the folder of a run; None if there is no such run. One request, or two."""
        try:
            name = keys.run_folder(run_id)
        except KeyNameError:
            return None
        folders = (f"{keys.RUNS}/{name}", name)
        return next((one for one in folders if self._store.exists(f"{one}/{keys.METADATA}")), None)

    # -- tables --------------------------------------------------------------------------------------------

    @property
    def params(self) -> dict[str, dict[str, Any]]:
        """The parameters of all runs, by run id.

        Cost on a bucket: one listing for each 1000 files, one read of index.csv, and one for each run without a current
        row.
        """
        return {row.run_id: dict(row.params) for row in self._table().rows}

    @property
    def meta(self) -> dict[str, dict[str, Any]]:
        """The metadata.json of all runs, by run id. Cost: a listing and one read a run, 32 at once.

        Raises:
            StorageError: A metadata.json is damaged.
        """
        found = self._store.fetch_many(f"{folder}/{keys.METADATA}" for folder in self._folders())
        return {keys.run_id(key.rpartition("/")[0]): metadata(blob, self.url, key) for key, blob in found.items()}

    def index(self) -> Iterator[dict[str, Any]]:
        """Return the rows of index.csv as stored, each by column and as text; none without the file. One request.

        The row of a removed run stays until index.csv is written again. Use `table` for the values as they were stored,
        and for exactly the existing runs.

        Raises:
            DecodeError: The file is not a CSV table.

        >>> experiment = Experiment("index", "memory://reading-many")
        >>> with experiment.add(dt=0.1) as run:
        ...     path = run.json("metrics", {"error": 0.01})
        >>> row = next(ExperimentReader("memory://reading-many/index").index())
        >>> row["run_id"], row["dt"], row["status"]
        ('index_dt_0.1', '0.1', 'complete')
        """
        try:
            data = self._store.read(keys.INDEX)
        except MissingError:
            return iter(())
        return iter(self._indexed(data)[1])

    def _indexed(self, data: bytes) -> tuple[Sequence[str], list[dict[str, Any]]]:
        """Return the names of the columns of index.csv, and its rows."""
        import csv

        try:
            reader = csv.DictReader(io.StringIO(data.decode("utf-8", "replace"), newline=""))
            rows = list(reader)
            return reader.fieldnames or [], rows
        except csv.Error as error:
            message = f"{self.url}/{keys.INDEX} is not a CSV table: {error}"
            raise DecodeError(message, url=self.url, key=keys.INDEX) from error

    def table(self, *, fresh: bool = False) -> list[dict[str, Any]]:
        """Return a row for each run, by column: id, parameters, status and metrics; missing values are left out.

        A removed run has no row, even if index.csv still has one. Checksums in index.csv detect changes, but not
        forgery: pass ``fresh=True`` if you do not trust every writer of that file.

        Rows are in the order of index.csv, then by start. `status` is that of `RunState`; for a failed or dead run
        `failure_reason` has the reason. A parameter or metric with the name of another column is ``params.<name>`` or
        ``metrics.<name>``. Each value in a dictionary is a column, such as ``optimizer.lr``.

        Cost: one listing per 1000 files, one read for index.csv, and one for each run without a current row; up to
        three for a run that has not ended, or was written by notata 0.3.0. 32 reads at once. The index of an experiment
        with more than 10,000 runs is the table: that takes one listing, and one read for each of its parts.

        Args:
            fresh: Read every run; do not use rows of index.csv or of an index.

        Raises:
            StorageError: The folder cannot be listed. If reads fail, a `BatchError`.

        >>> experiment = Experiment("rows", "memory://reading-many")
        >>> with experiment.add(dt=0.1) as run:
        ...     path = run.json("metrics", {"error": 0.01})
        >>> ExperimentReader("memory://reading-many/rows").table()
        [{'run_id': 'rows_dt_0.1', 'status': 'complete', 'dt': 0.1, 'error': 0.01}]
        """
        return self._table(fresh=fresh).records()

    def _table(self, *, fresh: bool = False) -> Table:
        return gather(self._store, skipped=self._warn_skipped, fresh=fresh)

    def to_pandas(self, *, fresh: bool = False) -> pd.DataFrame:
        """Return the rows of `table` as a pandas DataFrame; missing values are NaN. The cost is that of `table`.

        Args:
            fresh: Read every run; do not use rows of index.csv or of an index.

        Raises:
            PackageMissingError: pandas is not installed. It is an `ImportError`.
            StorageError: The folder cannot be listed. If reads fail, a `BatchError`.

        >>> experiment = Experiment("frame", "memory://reading-many")
        >>> with experiment.add(dt=0.1) as run:
        ...     path = run.json("metrics", {"error": 0.01})
        >>> ExperimentReader("memory://reading-many/frame").to_pandas()[["dt", "error"]].values.tolist()
        [[0.1, 0.01]]
        """
        return to_pandas(self._table(fresh=fresh))

    def series(
        self,
        name: str = SCALARS,
        *,
        columns: str | Iterable[str] | None = None,
        workers: bool = False,
        repeated: bool = False,
    ) -> RunSeries:
        """Return the rows of a series of all runs, which can become one long DataFrame.

        Runs without this series are left out.

        Args:
            name: The name of the series.
            columns: Keep only these columns; patterns with ``*``, ``?`` and ``[…]`` are allowed. By default, all.
            workers: Include the series of this name of all workers; the column `rank` names the worker.
            repeated: Include rows of earlier attempts that a resumed run repeated.

        Raises:
            UnknownNameError: No run has such a series, or such a column; the message names those that exist.
            StorageError: The folder cannot be listed, or a file cannot be read.

        Cost: one listing for each 1000 files, and one request for each 8 MiB of each run, 32 at once.

        >>> experiment = Experiment("frames", "memory://reading-many")
        >>> for dt in (0.1, 0.2):
        ...     with experiment.add(dt=dt) as run:
        ...         run.scalars(step=1, loss=dt)
        >>> frame = experiment.reader.series("scalars").to_pandas()
        >>> frame.groupby("run_id")["loss"].min().tolist()
        [0.1, 0.2]
        """
        from notata.series.columns import chosen, unknown_columns, unmatched
        from notata.series.many import gathered, series_files, unknown_series  # imports numpy

        runs = runs_below(self._store.list(skipped=self._warn_skipped))
        files = [
            file
            for folder, entries in runs.items()
            for file in series_files(folder, self._store.below(folder), entries, name, workers=workers)
        ]
        if not files:
            raise unknown_series(name, self.url, runs.values())
        wanted = chosen(columns)
        found = gathered(files, name, columns=wanted, repeated=repeated)
        there = {column for data in found.data for column in data}
        missing = unmatched(wanted or (), there) if found.rows else []
        if missing:
            stored = self._store.fetch_many(f"{folder}/{keys.METADATA}" for folder in runs)
            summaries = ((parsed(blob.data) or {}).get(SUMMARY) for blob in stored.values())
            raise next(unknown_columns(missing[:1], name, self.url, summaries))
        return found

    # -- show ----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        table = self._table()
        if table.index is not None and table.index.is_large:
            return f"<ExperimentReader '{self.name}'>\n{freshness(table.index, 'Index')}"
        fields, rows = self._indexed(table.found.data) if table.found else ([], [])
        return "\n".join(
            [
                f"<ExperimentReader '{self.name}'>",
                f"Index file: {keys.INDEX} with {len(rows)} entries",
                f"Fields: {', '.join(fields) or '(missing)'}",
                f"Runs directory: {self._holder(table.runs.values())} with {len(table.runs)} runs",
                *(f"- {row.run_id}: {row.status}" for row in table.rows),
            ]
        )

    def _holder(self, folders: Iterable[str]) -> str:
        """Return the name of the folder that contains the runs: this one, if it is a plain folder of runs."""
        return self.name if any("/" not in folder for folder in folders) else keys.RUNS

    def _repr_html_(self) -> str:
        """Return the first rows of the table, and curves of the first 10 runs, as HTML for a notebook.

        An error of the storage is shown beside what can be read.

        Cost: that of `table`, and one read for each of these runs, of 8 MiB in all.
        """
        from notata.reader.notebook import experiment_page

        return experiment_page(self._store, self.name)
