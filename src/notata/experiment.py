"""Write many runs of one experiment: ids made of parameters, and a table with one row for each run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from notata import formats, table
from notata._base import keys
from notata._base.prepared import one_line
from notata.errors import ConfigurationError, NotataError, RunExistsError, UnknownNameError
from notata.logbook import Logbook
from notata.mirror.places import MirrorStorage, base_of_copies, exit_timeout
from notata.reader import ExperimentReader, LogReader
from notata.run import runids
from notata.run.state import ENDED, ROW, SUMMARY
from notata.store import Location, open_base

if TYPE_CHECKING:
    import pandas as pd

    from notata.capture.options import Capture
    from notata.store.stored_path import StoredPath
    from notata.sweep.point import Task
    from notata.sweep.result import SweepResult

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
    parent: Logbook | LogReader | Location | None
    code: bool | None
    capture: bool | Capture


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
            `failure_variables`, `background`, `manifest`, `monitor`, `parent`, `code`, `capture`.

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
                f"unknown option {', '.join(sorted(unknown))}: Experiment() takes name, base_dir, storage_options, "
                f"mirror, and for its runs {known}"
            )
        self.name = keys.experiment(name)
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

    def _repr_html_(self) -> str:
        """Return the table of the runs stored so far, and curves of the first 10, as HTML for a notebook.

        Nothing is written or flushed. The cost is that of `ExperimentReader.table`, and one read for each of these
        runs, of 8 MiB in all.
        """
        return self.reader._repr_html_()

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
        if alike := _alike("skip_existing", params):
            warnings.warn(f"{alike} was used as a parameter; did you mean skip_existing?", UserWarning, stacklevel=2)
        resume: Literal[False, "unfinished"] = "unfinished" if skip_existing == "complete" else False
        try:
            return self._start(self.run_id(**params), params, resume=resume, callback=self._ended)
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

    def _start(
        self,
        run_id: str,
        params: Mapping[str, Any],
        *,
        resume: Literal[False, "unfinished", "died"],
        callback: Callable[[Logbook], object] | None = None,
    ) -> Member:
        """Start a run. The `RunExistsError` of a refused run has its status.

        Args:
            run_id: Its id, made of the parameters.
            params: The parameters.
            resume: As in `Logbook`.
            callback: Called after the end; a run without it puts no row into the index.
        """
        return Member(
            run_id,
            self._runs,
            params=params,
            preallocate=True,
            callback=callback,
            resume=resume,
            mirror=self._mirror,
            **self._options,
        )

    def run_id(self, /, **params: Any) -> str:
        """Return the id of the run with these parameters; the run need not exist. No request.

        Raises:
            EncodeError: A parameter has no plain form.

        >>> Experiment("decay", "memory://experiments").run_id(rate=0.5, steps=100)
        'decay_rate_0.5_steps_100'
        """
        return runids.run_id(self.name.rpartition("/")[2], params)

    def sweep(
        self,
        task: Task,
        space: Iterable[Mapping[str, Any]],
        executor: object = None,
        *,
        retries: int = 1,
        max_in_flight: int = 1000,
        wait: bool | float = True,
        fresh: bool = False,
        progress: bool | None = None,
    ) -> SweepResult:
        """Run a function once for each point of a space of parameters, in this thread or on many machines.

        Each point is a run, as with `add`. A complete run is skipped, a dead or failed one is resumed, so the same call
        again does what is left. Several drivers can sweep the same space at once: each point is calculated once. When
        a task raises an exception, its run fails, and the sweep continues.

        Args:
            task: ``task(log, **params)`` calculates one point. `log` is the `Logbook` of its run. It returns a mapping
                of names and values, stored as ``artifacts/metrics.json``, or None.
            space: The points: an iterable of dictionaries, such as `notata.sweep.grid` returns. It is read as the sweep
                proceeds. A point that comes twice counts once.
            executor: Where the tasks run. None: in this thread. A number: in that many processes, which are started
                (``spawn``) for the sweep, and again if they are killed. Or an object that stays open: a
                ThreadPoolExecutor or anything else with the interface of `concurrent.futures.Executor`, a `Client` of
                Dask, the module ``ray``, or an executor of submitit. Other processes receive the task and the
                experiment, with its storage options. They must be able to import the task, unless cloudpickle is
                installed.
            retries: How often a point is tried again if it fails. With 0, runs that failed before are not tried either.
                A point whose worker was lost is submitted again in any case, until its run has died three times.
            max_in_flight: The number of points that are submitted to the executor at most.
            wait: Whether to wait at the end for runs that other processes are writing, until they have ended or
                died; a number: for that many seconds.
            fresh: Ask for the state of every run, also of those that are complete according to the index.
            progress: Show the progress on standard error or in a notebook; by default, if it is a terminal.

        Returns:
            The number of points by what became of them, the failures, and the table.

        Raises:
            SweepError: The executor takes no more work, 10 workers in a row were lost, or 30 runs in a row could not
                begin or be stored. Its `result` has what was done before.
            SweepInterrupted: Ctrl-C was pressed; it is a `KeyboardInterrupt`. After the first Ctrl-C, no run begins,
                and the sweep ends with those that have begun. A second one leaves them at once, with a plain
                KeyboardInterrupt.
            ConfigurationError: An argument is invalid, or the task cannot be sent to other processes.
            StorageError: The experiment cannot be listed.

        Cost: that of each run, as with `add`. A point that is skipped costs no request: the sweep reads the index once,
        and lists the files of the experiment, or the folders of its runs if there are more than 10,000.

        >>> from notata.sweep import grid
        >>> def task(log, dt, seed):
        ...     log.info("seed %d", seed)
        ...     return {"error": dt**2}
        >>> experiment = Experiment("sweep", "memory://experiments")
        >>> result = experiment.sweep(task, grid(dt=[0.1, 0.2], seed=range(3)))
        >>> result.complete, result.failed, len(result.table())
        (6, 0, 6)
        >>> experiment.sweep(task, grid(dt=[0.1, 0.2, 0.4], seed=range(3))).counts["skipped"]
        6
        """
        from notata.sweep.driver import Driver
        from notata.sweep.executors import engine_of
        from notata.sweep.options import Options, check_arguments

        check_arguments(task, space)
        options = Options(retries=retries, max_in_flight=max_in_flight, wait=wait, fresh=fresh, progress=progress)
        return Driver(self, task, engine_of(executor), options).sweep(space)

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
        row = log._values.current(log._lease.fields.get(SUMMARY), keys.check(metrics_file))
        if log._lease.fields.get(ROW) != row:
            log._lease.update(**{ROW: one_line(row)})
        if log.status in ENDED:
            self._ended(log)

    def _ended(self, log: Logbook) -> None:
        """Add the row of an ended run to index.csv. The run stores its row, too, so a failure here loses nothing."""
        self._keeper.put(table.of_ended(log.run_id, log._lease.fields, log._lease.version))

    # -- the table -----------------------------------------------------------------------------------------

    def to_dataframe(self, *, fresh: bool = False) -> pd.DataFrame:
        """Return the table of all runs as a pandas DataFrame: run_id, parameters, status, metrics. Gaps are NaN.

        The table has one row for each run in the folder, from the row stored with the run; removed runs have none. This
        also updates index.csv, if possible. A parameter or metric with the name of another column is ``params.<name>``
        or ``metrics.<name>``; each value in a dictionary is a column, such as ``optimizer.lr``.

        If the index has more than 10,000 runs, its rows are returned without a look at the runs. Running runs, and runs
        that were killed before they stored their rows, are then missing; see `write_index`.

        Args:
            fresh: Read every run, also of a large experiment.

        Cost on a bucket: one listing for each 1000 files and one more, one read of index.csv, one for each run without
        a current row, and one request to store the file if it has changed. With more than 10,000 runs: one listing, and
        one read for each 8 MiB of the index.

        Raises:
            PackageMissingError: pandas is not installed. It is an `ImportError`.
            StorageError: The experiment cannot be listed. Failed reads raise a `BatchError`.

        >>> experiment = Experiment("frame", "memory://experiments")
        >>> with experiment.add(dt=0.1) as log:
        ...     path = log.json("metrics", {"error": 0.01})
        >>> list(experiment.to_dataframe().columns)
        ['run_id', 'dt', 'status', 'error']
        """
        return table.to_pandas(self._keeper.gather(fresh=fresh))

    def select(self, /, *, fresh: bool | Any = False, **filters: Any) -> pd.DataFrame:
        """Return the rows of `to_dataframe` that match these values.

        Args:
            fresh: True to read every run, also of a large experiment. To filter by a column of this name, use the rows
                of `to_dataframe`.
            **filters: One filter for each column: a value; a list, tuple or set of values, one of which must match (a
                list also matches an equal list); or a function that takes the run's value and returns whether it
                matches. None matches None. A run without the column never matches. True does not match 1. For a part of
                a dictionary write ``select(optimizer={"lr": 0.1})`` or ``select(**{"optimizer.lr": 0.1})``.

        Raises:
            ConfigurationError: `fresh` is not a boolean.
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
        if not isinstance(fresh, bool):
            raise ConfigurationError(
                f"invalid fresh {fresh!r}: pass True or False. To filter by a column of this name, use to_dataframe()"
            )
        found = self._keeper.gather(fresh=fresh)
        frame = table.to_pandas(found)
        wanted = {name: _fitting(name, value) for name, value in formats.flattened(filters).items()}
        for name in wanted:
            if name not in frame:
                there = ", ".join(frame.columns) or "none, as there are no runs"
                raise UnknownNameError(f"the table of {self.url} has no column {name!r}; it has {there}", key=name)
        chosen = [all(name in row and fits(row[name]) for name, fits in wanted.items()) for row in found.records()]
        return frame[chosen] if chosen else frame

    def write_index(self, *, fresh: bool = False) -> StoredPath:
        """Update index.csv: one row for every run that has ended, from any process, and none for removed runs.

        An experiment with more than 10,000 runs has its index in the folder ``index/``. Then this reads the runs that
        the index lacks, and writes it anew in few files; index.csv too, while it can hold so many runs. If pyarrow is
        installed, ``index.parquet`` has the same rows for pandas, polars and DuckDB.

        Args:
            fresh: Read every run, also those that are in the index. That repairs the rows of a large index whose runs
                were begun over without the experiment, as by ``Logbook(…, overwrite=True)``.

        Returns:
            The path of index.csv.

        Raises:
            ConflictError: Other processes changed index.csv at every attempt.
            StorageError: The experiment cannot be listed, or index.csv cannot be written. Failed reads raise a
                `BatchError`.

        Cost on a bucket: one listing for each 1000 files and one more, one read of index.csv, one for each run without
        a current row, and one request to store the file. With more than 10,000 runs: one listing for each 1000 runs,
        one read for each run that the index lacks, and a read and a write of the whole index.

        >>> experiment = Experiment("index", "memory://experiments")
        >>> experiment.add(dt=0.1).mark_complete()
        >>> experiment.write_index().read_text().splitlines()[0]
        'run_id,dt,status,revision'
        """
        self._keeper.write(fresh=fresh)
        return self.index_file


def _alike(option: str, names: Iterable[str]) -> str | None:
    """Return the name that is probably a misspelled option."""
    close = [name for name in names if abs(len(name) - len(option)) <= 4]  # others cannot be as similar as below
    if not close:
        return None
    import difflib

    return next(iter(difflib.get_close_matches(option, close, 1, 0.85)), None)


def _fitting(name: str, wanted: Any) -> Callable[[Any], bool]:
    """Return a function that checks whether a value matches a filter of `Experiment.select`."""
    if callable(wanted) and not isinstance(wanted, type):
        return lambda value: bool(wanted(value))
    plain = formats.plain(wanted, name)
    several = [plain, *plain] if isinstance(plain, list) else [plain]
    return lambda value: any(formats.equal(value, one) for one in several)


class Member(Logbook):
    """A run of an experiment. It stores its row of the table in the request that stores its end."""

    _code_extent = "changes"

    def _end_fields(self, summary: object) -> Mapping[str, Any]:
        try:
            return {ROW: one_line(self._values.current(summary, table.metrics_file(self._lease.fields)))}
        except NotataError:  # a resumed run with damaged parameters: a reader of the row reads the files instead
            return {}

    def _on_params_stored(self) -> None:
        if self.status in ENDED:  # the table includes parameters that are added after the end
            self._lease.update(**self._end_fields(self._lease.fields.get(SUMMARY)))
