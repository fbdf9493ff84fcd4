"""Write many runs of one experiment: ids made of parameters, and a table with one row for each run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from notata import formats, table
from notata._base import keys
from notata.errors import ConfigurationError, NotataError, RunExistsError, UnknownNameError
from notata.logbook import Logbook
from notata.mirror.places import MirrorStorage, base_of_copies, exit_timeout
from notata.reader import ExperimentReader
from notata.run import runids
from notata.run.state import ENDED, ROW
from notata.store import Location, open_base

if TYPE_CHECKING:
    import pandas as pd

    from notata.store.stored_path import StoredPath

__all__ = ["Experiment", "LogbookOptions"]


class LogbookOptions(TypedDict, total=False):
    """Options that an experiment passes to each of its runs; see `Logbook`."""

    heartbeat: float | None
    environment: bool
    log_level: int | str | None
    echo: bool
    handle_sigterm: bool
    failure_variables: bool
    background: bool | int
    manifest: bool
    monitor: bool | float | None


class Experiment:
    """A group of runs: a folder with ``runs/log_<run_id>`` for each run, and the table ``index.csv``.

    Many threads, processes and machines can use one folder: each run has one writer, and its row of the table is
    stored with the run. index.csv is a copy of the rows for people and for quick reading. On a disk and in memory, the
    row is there when the call that ends the run returns. In a bucket, it follows within half a minute, at the end of
    the process, and at `write_index`.

    Attributes:
        name: The given name.
        url: The location of the experiment, without credentials.
        base_dir: The folder that contains the experiment.
        exp_dir: The folder of the experiment.
        runs_dir: The folder ``runs/``.
        index_file: The path of ``index.csv``.

    Args:
        name: The name of the folder, and the beginning of each run id. It may contain ``/`` for nested folders; the run
            ids then begin with the last part.
        base_dir: The folder that contains the experiment: any fsspec URL (``s3://bucket/outputs``), local path or
            UPath. The default is the environment variable NOTATA_BASE_DIR, else ``outputs``.
        storage_options: Options for fsspec. They never appear in a file, message or repr.
        mirror: A base folder, any fsspec URL, local path or UPath, that copies of the runs are written to. A copy has
            the same path below it as the run: ``<mirror>/<name>/runs/log_<run_id>``. For storage options, pass a
            `MirrorStorage`.
        **options: Options for each `Logbook`: `heartbeat`, `environment`, `log_level`, `echo`, `handle_sigterm`,
            `failure_variables`, `background`, `manifest`, `monitor`.

    Raises:
        KeyNameError: The name is not legal on every backend.
        ConfigurationError: `base_dir` cannot contain runs, or an option is unknown.
        StorageError: The folders cannot be created on this disk.

    >>> experiment = Experiment("decay", "memory://experiments")
    >>> for rate in (0.5, 2.0):
    ...     with experiment.add(rate=rate) as log:
    ...         path = log.json("metrics", {"half_life": 0.693 / rate})
    >>> experiment.to_dataframe()[["rate", "status", "half_life"]].values.tolist()
    [[0.5, 'complete', 1.386], [2.0, 'complete', 0.3465]]
    """

    def __init__(
        self,
        name: str,
        base_dir: Location | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        mirror: Location | None = None,
        **options: Unpack[LogbookOptions],
    ) -> None:
        if unknown := options.keys() - LogbookOptions.__annotations__.keys():
            known = ", ".join(sorted(LogbookOptions.__annotations__))
            raise ConfigurationError(
                f"unknown option {', '.join(sorted(unknown))}: an experiment takes name, base_dir, storage_options, "
                f"mirror, and for its runs {known}"
            )
        self.name = keys.check(name)
        self._base = open_base(base_dir, storage_options)
        self._store = self._base.below(name)
        self._runs = self._store.below(keys.RUNS)
        self._options = options
        self._mirror = None
        if (copies := base_of_copies(self._base, mirror)) is not None:
            self._mirror = MirrorStorage(copies.below(name).below(keys.RUNS), exit_timeout=exit_timeout(mirror))
        self._keeper = table.IndexWriter(self._store)
        self._runs.make_folder()

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, {self._base.url!r})"

    # -- locations -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The location of the experiment, without credentials."""
        return self._store.url

    @property
    def base_dir(self) -> StoredPath:
        """The folder that contains the experiment."""
        return self._base.path_for()

    @property
    def exp_dir(self) -> StoredPath:
        """The folder of the experiment."""
        return self._store.path_for()

    @property
    def runs_dir(self) -> StoredPath:
        """The folder ``runs/`` of the experiment."""
        return self._runs.path_for()

    @property
    def index_file(self) -> StoredPath:
        """The path of ``index.csv``."""
        return self._store.path_for(keys.INDEX)

    @property
    def reader(self) -> ExperimentReader:
        """Return a reader of the runs stored so far. No request.

        >>> experiment = Experiment("read", "memory://experiments")
        >>> len(experiment.reader)
        0
        """
        return ExperimentReader._of(self._store)

    # -- runs ----------------------------------------------------------------------------------------------

    @overload
    def add(self, /, skip_existing: Literal[False], **params: Any) -> Logbook: ...
    @overload
    def add(self, /, skip_existing: bool | Literal["complete"], **params: Any) -> Logbook | None: ...
    @overload
    def add(self, /, **params: Any) -> Logbook: ...
    def add(self, /, skip_existing: bool | Literal["complete"] = False, **params: Any) -> Logbook | None:
        """Start the run that has these parameters.

        When the run ends as complete or failed, its row is recorded, with the current values of
        ``artifacts/metrics.json``.

        Args:
            skip_existing: How to handle an existing run. False: raise an error. True: skip the run, whatever its
                state. ``"complete"``: skip a run that is complete, running or of unknown state; resume a failed or dead
                run, with all its files. If many processes try at once, exactly one succeeds.
            **params: The parameters of the run. The run id is made of them: equal parameters give equal ids, different
                parameters give different ids.

        Returns:
            The logbook, with these parameters stored; None if the run is skipped, so check before `with`. To skip a
            block in one statement: ``with suppress(RunExistsError), experiment.add(dt=0.1) as log:``.

        Raises:
            RunExistsError: The run exists, and `skip_existing` is False.
            EncodeError: A parameter has no plain form; nothing was written.
            StorageError: The storage cannot be reached or written.

        Cost on a bucket: two requests. With ``"complete"``, a skipped run costs one request, a new run three, and a
        resumed run five. With True, a skipped run costs three.

        >>> experiment = Experiment("add", "memory://experiments")
        >>> with experiment.add(omega=2.0, dt=1e-3) as log:
        ...     log.run_id
        'add_dt_0.001_omega_2'
        >>> experiment.add(omega=2.0, dt=1e-3, skip_existing=True) is None
        True
        """
        if skip_existing not in (True, False, "complete"):
            raise ConfigurationError(
                f"invalid skip_existing {skip_existing!r}: pass True, False or 'complete', and parameters as keywords: "
                "add(dt=0.1), add(**values), add(**vars(args))"
            )
        import difflib

        if alike := difflib.get_close_matches("skip_existing", params, 1, 0.85):
            warnings.warn(f"{alike[0]} is used as a parameter; did you mean skip_existing?", UserWarning, stacklevel=2)
        try:
            return Member(
                self.run_id(**params),
                self._runs,
                params=params,
                preallocate=True,
                callback=self._ended,
                resume="unfinished" if skip_existing == "complete" else False,
                mirror=self._mirror,
                **self._options,
            )
        except RunExistsError as error:
            if skip_existing:
                return None
            refused = RunExistsError(
                f"cannot start the run at {error.url}: a run with these parameters already exists. Pass "
                "skip_existing=True to skip it, or skip_existing='complete' to resume it if it failed or died.",
                url=error.url,
                key=error.key,
            )
            refused.status, refused.reader = error.status, error.reader
            raise refused from error

    def run_id(self, /, **params: Any) -> str:
        """Return the id of the run with these parameters; the run need not exist. No request.

        Raises:
            EncodeError: A parameter has no plain form.

        >>> Experiment("decay", "memory://experiments").run_id(rate=0.5, steps=100)
        'decay_rate_0.5_steps_100'
        """
        return runids.run_id(self.name.rpartition("/")[2], params)

    def record(self, log: Logbook, metrics_file: str = keys.METRICS) -> None:
        """Update the row of a run: its parameters, its state, and its metrics as currently stored.

        Runs made by `add` do this at their end. Use `record` for metrics that are added later, or in another file.

        Args:
            log: The run.
            metrics_file: The key of a JSON file of names and values.

        Raises:
            RunDisplacedError: Another writer has taken over the run.
            StorageError: The row could not be stored with the run.

        Cost: one request, and one more if the row has changed. In a bucket, from time to time two more for index.csv.

        >>> experiment = Experiment("record", "memory://experiments")
        >>> with experiment.add(dt=0.1) as log:
        ...     pass
        >>> path = log.json("metrics", {"error": 0.01})
        >>> experiment.record(log)
        >>> experiment.reader.table()[0]["error"]
        0.01
        """
        row = table.described(log._store, log.params, keys.check(metrics_file))
        if log._lease.fields.get(ROW) != row:
            log._lease.update(**{ROW: row})
        if log.status in ENDED:
            self._ended(log)

    def _ended(self, log: Logbook) -> None:
        """Add the row of an ended run to index.csv. The run stores its row, too, so a failure here loses nothing."""
        self._keeper.put(table.of_ended(log.run_id, log._lease.fields, log._lease.version))

    # -- the table -----------------------------------------------------------------------------------------

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table of all runs as a pandas DataFrame: run_id, parameters, status, metrics. Gaps are NaN.

        The table has one row for each run in the folder, from the row stored with the run; removed runs have none. This
        also updates index.csv, if possible. A parameter or metric with the name of another column is ``params.<name>``
        or ``metrics.<name>``; each value in a dictionary is a column, such as ``optimizer.lr``.

        Cost on a bucket: one listing for each 1000 files, one read of index.csv, one for each run without a current
        row, and one request to store the file if it has changed.

        Raises:
            PackageMissingError: pandas is not installed. It is an `ImportError`.
            StorageError: The experiment cannot be listed. Failed reads raise a `BatchError`.

        >>> experiment = Experiment("frame", "memory://experiments")
        >>> with experiment.add(dt=0.1) as log:
        ...     path = log.json("metrics", {"error": 0.01})
        >>> list(experiment.to_dataframe().columns)
        ['run_id', 'dt', 'status', 'error']
        """
        return table.to_pandas(self._keeper.gather())

    def select(self, /, **filters: Any) -> pd.DataFrame:
        """Return the rows of `to_dataframe` that match these values.

        Args:
            **filters: One filter for each column: a value; a list, tuple or set of values, one of which must match (a
                list also matches an equal list); or a function that takes the run's value and returns whether it
                matches. None matches None. A run without the column never matches. True does not match 1. For a part of
                a dictionary write ``select(optimizer={"lr": 0.1})`` or ``select(**{"optimizer.lr": 0.1})``.

        Raises:
            UnknownNameError: There is no such column; the message lists the columns. It is a `KeyError`.
            EncodeError: A value has no plain form, so no run can have it.
            PackageMissingError: pandas is not installed.
            StorageError: The experiment cannot be listed. Failed reads raise a `BatchError`.

        >>> experiment = Experiment("select", "memory://experiments")
        >>> for dt in (0.1, 0.2):
        ...     experiment.add(dt=dt, method="rk4").mark_complete()
        >>> experiment.select(dt=0.1, status="complete")["run_id"].tolist()
        ['select_dt_0.1_method_rk4']
        >>> len(experiment.select(dt=[0.1, 0.2])), len(experiment.select(dt=lambda dt: dt > 0.15))
        (2, 1)
        """
        found = self._keeper.gather()
        frame = table.to_pandas(found)
        wanted = {name: _fitting(name, value) for name, value in formats.flattened(filters).items()}
        for name in wanted:
            if name not in frame:
                there = ", ".join(frame.columns) or "none, as there are no runs"
                raise UnknownNameError(f"the table of {self.url} has no column {name!r}; it has {there}", key=name)
        chosen = [all(name in row and fits(row[name]) for name, fits in wanted.items()) for row in found.records()]
        return frame[chosen] if chosen else frame

    def write_index(self) -> StoredPath:
        """Update index.csv: one row for every run that has ended, from any process, and none for removed runs.

        Returns:
            The path of index.csv.

        Raises:
            ConflictError: Other processes changed index.csv at every attempt.
            StorageError: The experiment cannot be listed, or index.csv cannot be written. Failed reads raise a
                `BatchError`.

        Cost on a bucket: one listing for each 1000 files, one read of index.csv, one for each run without a current
        row, and one request to store the file.

        >>> experiment = Experiment("index", "memory://experiments")
        >>> experiment.add(dt=0.1).mark_complete()
        >>> experiment.write_index().read_text().splitlines()[0]
        'run_id,dt,status,revision'
        """
        self._keeper.write()
        return self.index_file


def _fitting(name: str, wanted: Any) -> Callable[[Any], bool]:
    """Return a function that checks whether a value matches a filter of `Experiment.select`."""
    if callable(wanted) and not isinstance(wanted, type):
        return lambda value: bool(wanted(value))
    plain = formats.plain(wanted, name)
    several = [plain, *plain] if isinstance(plain, list) else [plain]
    return lambda value: any(formats.equal(value, one) for one in several)


class Member(Logbook):
    """A run of an experiment. It stores its row of the table in the request that stores its end."""

    def _end_fields(self) -> Mapping[str, Any]:
        try:
            return {ROW: table.described(self._store, self.params, table.metrics_file(self._lease.fields))}
        except NotataError:  # a resumed run with damaged parameters: a reader of the row reads the files instead
            return {}

    def _on_params_stored(self) -> None:
        if self.status in ENDED:  # the table includes parameters that are added after the end
            self._lease.update(**self._end_fields())
