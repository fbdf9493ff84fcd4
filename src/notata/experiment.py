"""Many runs of one name: each with an id made of its parameters, and a row in a table; it knows nothing of bytes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from notata import formats, table
from notata._base import keys
from notata.errors import ConfigurationError, NotataError, RunExistsError, UnknownNameError
from notata.logbook import Logbook
from notata.mirror.places import base_of_copies
from notata.reader import ExperimentReader
from notata.run import runids
from notata.run.state import ENDED, ROW
from notata.store import TIMEOUT, Store, open_base

if TYPE_CHECKING:
    import pandas as pd
    from upath import UPath

    from notata.store.stored_path import StoredPath

__all__ = ["Experiment", "LogbookOptions"]


class LogbookOptions(TypedDict, total=False):
    """What an experiment hands on to each of its runs; `Logbook` says what it means."""

    heartbeat: float | None
    environment: bool
    log_level: int | str | None
    echo: bool
    handle_sigterm: bool
    failure_variables: bool
    background: bool
    max_pending: int
    manifest: bool
    durable: bool
    mirror_timeout: float


class Experiment:
    """Runs that belong together: a folder with ``runs/log_<run_id>`` for each, and the table ``index.csv``.

    Safe with many threads, processes and machines on one folder: each run has one writer, and what the table says of
    a run is stored with that run. index.csv is a copy of it for people and for a quick look: on a disk and in memory
    it has a run's row when the run's end returns; in a bucket it follows within half a minute, at the end of the
    process, and at `write_index`.

    Attributes:
        name: As given.
        url: Where the experiment lies, without credentials.
        base_dir: The folder that it lies in.
        exp_dir: Its folder.
        runs_dir: ``runs/`` in it.
        index_file: ``index.csv`` in it.

    Args:
        name: Of the folder, and the beginning of each run's id. With ``/`` for folders in folders; the ids begin with
            the last part then.
        base_dir: As for `Logbook`.
        storage_options: For fsspec. They reach no file, no message and no repr.
        timeout: As for `Logbook`.
        mirror: Where copies of the runs are to follow them: a base folder as for `base_dir`. Each run is at the same
            place below it as below `base_dir`: ``<mirror>/<name>/runs/log_<run_id>``.
        mirror_options: `storage_options` of `mirror`.
        **options: For each `Logbook`: `heartbeat`, `environment`, `log_level`, `echo`, `handle_sigterm`,
            `failure_variables`, `background`, `max_pending`, `manifest`, `durable` (which has index.csv outlast a power
            cut as well), `mirror_timeout`.

    Raises:
        KeyNameError: The name is not legal on every backend.
        ConfigurationError: `base_dir` cannot hold runs, or an option is none.
        StorageError: The folders cannot be made on this disk.

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
        base_dir: str | os.PathLike[str] | UPath | Store | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
        mirror: str | os.PathLike[str] | UPath | Store | None = None,
        mirror_options: Mapping[str, Any] | None = None,
        **options: Unpack[LogbookOptions],
    ) -> None:
        if unknown := options.keys() - LogbookOptions.__annotations__.keys():
            known = ", ".join(sorted(LogbookOptions.__annotations__))
            raise ConfigurationError(
                f"{', '.join(sorted(unknown))}: an experiment takes name, base_dir, storage_options, timeout, "
                f"mirror, mirror_options, and for its runs {known}"
            )
        self.name = keys.check(name)
        self._base = open_base(base_dir, storage_options, timeout=timeout)
        if options.get("durable"):
            self._base = self._base.durably()
        self._store = self._base.below(name)
        self._runs = self._store.below(keys.RUNS)
        self._options = options
        self._mirror = base_of_copies(self._base, mirror, mirror_options, timeout)
        if self._mirror is not None:
            self._mirror = self._mirror.below(name).below(keys.RUNS)
        self._keeper = table.IndexWriter(self._store)
        self._runs.make_folder()

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, {self._base.url!r})"

    # -- where ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the experiment lies, without credentials."""
        return self._store.url

    @property
    def base_dir(self) -> StoredPath:
        """The folder that the experiment lies in."""
        return self._base.place()

    @property
    def exp_dir(self) -> StoredPath:
        """The experiment's folder."""
        return self._store.place()

    @property
    def runs_dir(self) -> StoredPath:
        """``runs/`` in it."""
        return self._runs.place()

    @property
    def index_file(self) -> StoredPath:
        """``index.csv`` in it."""
        return self._store.place(keys.INDEX)

    @property
    def reader(self) -> ExperimentReader:
        """The runs so far, as others see them. No request.

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
        """Begin the run that has these parameters.

        At its end, complete or failed, its row is recorded, with what ``artifacts/metrics.json`` holds then.

        Args:
            skip_existing: What to do about a run that is there already. False: that is an error. True: leave it,
                however it stands. ``"complete"``: leave it if it is complete, or lives and may become so; go on with
                it, with all its files, if it failed or died. Of many processes that try at once, one gets it.
            **params: Of the run; they make its id. The same parameters make the same id, others another one.

        Returns:
            The logbook, with these parameters stored; None if the run was left as it is, so check before `with`. To
            skip a block in one statement: ``with suppress(RunExistsError), experiment.add(dt=0.1) as log:``.

        Raises:
            RunExistsError: `skip_existing` is False, and the run is there.
            EncodeError: A parameter has no plain form; nothing was written.
            StorageError: The storage cannot be reached or written.

        Cost: as a `Logbook` with parameters. With ``"complete"`` one request for a run that is left, one more than that
        for one that begins, and as for `resume` of a `Logbook` for one that goes on.

        >>> experiment = Experiment("add", "memory://experiments")
        >>> with experiment.add(omega=2.0, dt=1e-3) as log:
        ...     log.run_id
        'add_dt_0.001_omega_2'
        >>> experiment.add(omega=2.0, dt=1e-3, skip_existing=True) is None
        True
        """
        if skip_existing not in (True, False, "complete"):
            raise ConfigurationError(
                f"skip_existing is True, False or 'complete', not {skip_existing!r}; parameters are keywords: "
                "add(dt=0.1), add(**values), add(**vars(args))"
            )
        import difflib

        if alike := difflib.get_close_matches("skip_existing", params, 1, 0.85):
            warnings.warn(
                f"{alike[0]} is taken for a parameter; did you mean skip_existing?", UserWarning, stacklevel=2
            )
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
                f"{error.url} exists already, as these parameters were used before. Pass skip_existing=True to leave "
                "that run as it is, or skip_existing='complete' to go on with it if it failed or died.",
                url=error.url,
                key=error.key,
            )
            refused.status, refused.reader = error.status, error.reader
            raise refused from error

    def run_id(self, /, **params: Any) -> str:
        """The id of the run that has these parameters, whether there is one or not. No request.

        Raises:
            EncodeError: A parameter has no plain form.

        >>> Experiment("decay", "memory://experiments").run_id(rate=0.5, steps=100)
        'decay_rate_0.5_steps_100'
        """
        return runids.run_id(self.name.rpartition("/")[2], params)

    def record(self, log: Logbook, metrics_file: str = keys.METRICS) -> None:
        """Record a run's row anew: its parameters, its state, and its metrics as they are stored now.

        Runs made by `add` do so at their end. This is for metrics that came later, or lie elsewhere.

        Args:
            log: The run.
            metrics_file: The key of a JSON file of names and values.

        Raises:
            RunDisplacedError: Another writer has the run by now.
            StorageError: The row could not be stored with the run.

        Cost: one request, one more if the row is another one than before, and in a bucket from time to time two for
        index.csv.

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
        """Put the row of a run that has ended into index.csv. It is stored with the run, so no failure here matters."""
        self._keeper.put(table.of_ended(log.run_id, log._lease.fields, log._lease.version))

    # -- the table -----------------------------------------------------------------------------------------

    def to_dataframe(self) -> pd.DataFrame:
        """The table of all runs as a pandas DataFrame: run_id, parameters, status, metrics; NaN where a run has none.

        There is one row for each run in the folder, from what the run itself has stored; a removed run has none.
        This brings index.csv up to date too, if it can. `ExperimentReader.table` says which columns there are, and what
        it costs.

        Raises:
            PackageMissingError: pandas is not installed. It is an `ImportError`.
            StorageError: The experiment cannot be listed. Of reads, a `BatchError`.

        >>> experiment = Experiment("frame", "memory://experiments")
        >>> with experiment.add(dt=0.1) as log:
        ...     path = log.json("metrics", {"error": 0.01})
        >>> list(experiment.to_dataframe().columns)
        ['run_id', 'dt', 'status', 'error']
        """
        return table.to_pandas(self._keeper.gather())

    def select(self, /, **filters: Any) -> pd.DataFrame:
        """The rows of `to_dataframe` whose columns have these values.

        Args:
            **filters: Values by column: a value; several in a list, tuple or set, of which one must be the run's (a
                list is also found by itself); or a function that is called with the run's value and says whether it
                fits. None is found where a run has None, and a run without the column is never found. True is not 1.
                For a part of a dictionary write ``select(optimizer={"lr": 0.1})`` or
                ``select(**{"optimizer.lr": 0.1})``.

        Raises:
            UnknownNameError: There is no such column; the message lists those that there are. It is a `KeyError`.
            EncodeError: A value has no plain form, so no run can have it.
            PackageMissingError: pandas is not installed.
            StorageError: As for `to_dataframe`.

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
                there = ", ".join(frame.columns) or "none, as it has no run"
                raise UnknownNameError(f"the table of {self.url} has no column {name!r}; it has {there}", key=name)
        chosen = [all(name in row and fits(row[name]) for name, fits in wanted.items()) for row in found.records()]
        return frame[chosen] if chosen else frame

    def write_index(self) -> StoredPath:
        """Bring index.csv up to date: a row for every run that has ended, whoever wrote it, and none for removed runs.

        Returns:
            Where it lies.

        Raises:
            ConflictError: Others wrote it all the time.
            StorageError: The experiment cannot be listed, or index.csv not be written. Of reads, a `BatchError`.

        Cost: as `ExperimentReader.table`, and one request.

        >>> experiment = Experiment("index", "memory://experiments")
        >>> experiment.add(dt=0.1).mark_complete()
        >>> experiment.write_index().read_text().splitlines()[0]
        'run_id,dt,status,revision'
        """
        self._keeper.write()
        return self.index_file


def _fitting(name: str, wanted: Any) -> Callable[[Any], bool]:
    """Return what tells whether a value is one that `Experiment.select` was asked for."""
    if callable(wanted) and not isinstance(wanted, type):
        return lambda value: bool(wanted(value))
    plain = formats.plain(wanted, name)
    several = [plain, *plain] if isinstance(plain, list) else [plain]
    return lambda value: any(formats.equal(value, one) for one in several)


class Member(Logbook):
    """A run of an experiment: with its end, and in the same request, it stores what the table says of it."""

    def _last_fields(self) -> Mapping[str, Any]:
        try:
            return {ROW: table.described(self._store, self.params, table.metrics_file(self._lease.fields))}
        except NotataError:  # damaged parameters of a run that went on: who reads the row looks for itself
            return {}

    def _params_stored(self) -> None:
        if self.status in ENDED:  # parameters that come late are in the table too
            self._lease.update(**self._last_fields())
