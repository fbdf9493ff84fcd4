"""Summaries of runs: status and reason, environment, content, and the end of the log and of the output.

Few requests are made: a listing, metadata.json, parameters and metrics if metadata.json does not contain them, the
files that describe a failure, and the ends of the log and of the output. Damaged or missing files are reported, and
the rest is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notata import formats
from notata._base import display, keys, limits
from notata._base.notebook import names, page, problem
from notata.errors import ConfigurationError, NotataError
from notata.formats import flattened
from notata.reader.notebook import files_table, shown_time, state_facts
from notata.run import parameters
from notata.run.inputs import Input, parsed
from notata.run.state import COMMAND, EXIT, MIRROR, PARENT, RESUMES, SUMMARY, lease_of
from notata.run.values import metrics_of
from notata.search.choosing import Query
from notata.search.finding import look_up
from notata.search.places import Place, Run
from notata.search.record import records
from notata.search.target import URL, Failed, Target, URLs, raise_error
from notata.series import flat_values, loaded
from notata.series.labels import Named
from notata.store import Blob
from notata.store.in_flight import InFlight
from notata.table.row import named_values

__all__ = ["Failure", "Frame", "Overview", "Tail", "overviews", "overviews_of", "show"]

_LINE: Final = 200  # estimated bytes of a line in a log
_END: Final = 2**20  # maximum bytes read from the end of a log
_FAILURE: Final = 2**20  # maximum size of a failure.json that is read
_TEXT: Final = 2**14  # bytes read from the end of a traceback
_FRAMES: Final = 5  # frames kept of a traceback
_CHAIN: Final = 10  # maximum length of a chain of exceptions
_MEMBERS: Final = 5  # exceptions kept of a group
_CAUGHT: Final = 3  # last caught exceptions that are read
_PARAMETERS: Final = 2**20  # maximum size of parameters or metrics that are read
_WORKERS: Final = 20  # workers whose inputs are read
_NAMED: Final = 3  # runs that an error message names

_TAILS: Final = (keys.LOG, keys.OUTPUT)  # files whose end is shown

_WORKER_INPUTS: Final = re.compile(rf"{keys.WORKERS}/[^/]+/{re.escape(keys.INPUTS)}")

_OWN: Final = frozenset({
    "command", "copied", "end_time", "environment", "exit", "failure_reason", "failure_type", "lease", "mirror",
    "parent", "resumes", "row", "run_id", "runtime_sec", "series_summary", "start_time", "status", "workers",
})  # fmt: skip
"""Fields of metadata.json that are shown in other parts; all other fields are the user's."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a traceback.

    Attributes:
        file: The source file.
        line: The line number.
        function: The name of the function.
        code: The source line.
    """

    file: str
    line: int
    function: str
    code: str

    def __str__(self) -> str:
        return f'File "{self.file}", line {self.line}, in {self.function}'


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that ended a run, or that the run caught.

    Attributes:
        key: The file that describes it.
        type: The name of the exception type.
        message: The text of the exception.
        frames: The last frames, the innermost at the end.
        text: The end of the traceback as text, if the frames are unknown.
        cause: The exception that it was raised from.
        context: The exception that was being handled when it was raised.
        exceptions: The first members of a group.
    """

    key: str
    type: str = ""
    message: str = ""
    frames: tuple[Frame, ...] = ()
    text: str = ""
    cause: Failure | None = None
    context: Failure | None = None
    exceptions: tuple[Failure, ...] = ()

    def chain(self, relation: str = "") -> Iterator[tuple[str, Failure]]:
        """Yield this exception and those that led to it, each with its relation to the one before.

        >>> failure = Failure("", "ValueError", "h = -1", cause=Failure("", "KeyError", "'h'"))
        >>> [(relation, one.type) for relation, one in failure.chain()]
        [('', 'ValueError'), ('caused by', 'KeyError')]
        """
        yield relation, self
        for number, member in enumerate(self.exceptions, 1):
            yield from member.chain(f"member {number}:")
        for before, other in (("caused by", self.cause), ("raised while handling", self.context)):
            if other is not None:
                yield from other.chain(before)


@dataclass(frozen=True, slots=True)
class Tail:
    r"""The end of a text file: its last lines as they are stored. The last one may have no end yet.

    Attributes:
        data: The lines. If the file has fewer lines, or long ones, it can begin within a line.
        start: The byte of the file at which they begin.

    >>> Tail(b"one\r\ntwo").lines
    ('one', 'two')
    """

    data: bytes = b""
    start: int = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines without their ends; bytes that are not UTF-8 are decoded with ``surrogateescape``."""
        if not self.data:
            return ()
        lines = self.data.removesuffix(b"\n").split(b"\n")
        return tuple(line.decode("utf-8", "surrogateescape").removesuffix("\r") for line in lines)


@dataclass(frozen=True, slots=True)
class Overview:
    """A run and its summary.

    Attributes:
        run: The status, parameters and metrics.
        environment: The environment at the start, as captured by `notata.provenance.environment.capture`. Host and
            process id are present for each run that has an owner.
        fields: The fields that the user added to metadata.json.
        failure: The exception that ended the run, with its last frames; None if the run did not fail, or it is unknown.
        caught: The last exceptions that `notata.Logbook.catch` recorded, the latest at the end.
        caught_in_all: The number of all such exceptions.
        sizes: The sizes of its files in bytes, by key.
        workers: The ranks of workers that wrote files of the run.
        mirror: The URL of the mirror; empty if there is none.
        resumes: Times and reasons of resumptions, as recorded in metadata.json.
        parent: The URL of its parent; empty if there is none.
        inputs: The files and folders that it has recorded with `log.input`; those of the first 20 workers follow.
        series: For each series number of rows, last step, and the summary of each column, as in `Series.summary`. Of a
            run that has not ended, as of its last heartbeat.
        log: The last lines of log.txt.
        log_size: The size of log.txt, in bytes.
        problems: Messages about files that cannot be read.
        command: What `notata run` recorded of its program: arguments, folder, patterns. Empty for other runs.
        exit: How that program ended: exit code or signal, processor time, memory.
        output: The last lines that the program printed.
        output_size: The size of output.txt, in bytes.
        tails: The ends of log.txt and output.txt as they are stored, by key, as far as they could be read.
    """

    run: Run
    environment: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    caught: tuple[Failure, ...] = ()
    caught_in_all: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    workers: tuple[str, ...] = ()
    mirror: str = ""
    resumes: tuple[Mapping[str, Any], ...] = ()
    parent: str = ""
    inputs: tuple[Input, ...] = ()
    series: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    log_size: int = 0
    problems: tuple[str, ...] = ()
    command: Mapping[str, Any] = field(default_factory=dict)
    exit: Mapping[str, Any] = field(default_factory=dict)
    output: tuple[str, ...] = ()
    output_size: int = 0
    tails: Mapping[str, Tail] = field(default_factory=dict, repr=False)

    def below(self, folder: str) -> dict[str, int]:
        """Return the sizes of the files in one folder of the run, by their path in the folder.

        Args:
            folder: A folder such as ``artifacts``, ``data`` or ``plots``.
        """
        start = f"{folder}/"
        return {key[len(start) :]: size for key, size in self.sizes.items() if key.startswith(start)}

    def record(self) -> dict[str, Any]:
        """Return its fields by name, as plain values: those of its `Run`, and its own."""
        first = ("environment", "fields", "failure", "caught", "caught_in_all")
        last = ("sizes", "workers", "mirror", "resumes", "parent", "inputs", "series")
        ends = ("log", "log_size", "output", "output_size", "problems")
        return {
            **self.run.record(),
            "params": self.run.params,
            "metrics": self.run.metrics,
            **{name: getattr(self, name) for name in first},
            **{folder: self.below(folder) for folder in (keys.ARTIFACTS, keys.DATA, keys.PLOTS)},
            **{name: getattr(self, name) for name in (*last, *ends)},
            "mirror": self.mirror or None,
            "parent": self.parent or None,
            **{name: getattr(self, name) for name in (COMMAND, EXIT) if getattr(self, name)},
            "inputs": [{**one.record(), **({"rank": one.rank} if one.rank else {})} for one in self.inputs],
        }

    def _failure_facts(self) -> dict[str, str]:
        facts: dict[str, str] = {}
        for relation, one in self.failure.chain() if self.failure else ():
            facts |= {f"{relation} {one.type}".lstrip(): one.message} | {str(frame): frame.code for frame in one.frames}
        return facts

    def _repr_html_(self) -> str:
        """Return the summary, with curves of one series, as HTML for a notebook.

        Cost: one read of the series `scalars`, or of the first one, if it has at most 8 MiB.
        """
        from notata.series.figures import Source, run_pictures  # imports numpy
        from notata.series.pictures import summary

        run, of_series = self.run, flat_values(self.series)
        times: dict[str, str] = {
            **{name: shown_time(at) for name, at in (("started", run.started), ("ended", run.ended)) if at is not None},
            "took": display.duration(run.seconds),
        }
        facts = state_facts(run.status, run.why, is_certain=run.certain)
        sources = [Source(Named(run.run_id, run.name, run.params), run.store, run.entries)] if run.entries else []
        return page(
            f"run {run.run_id}",
            *map(problem, self.problems),
            names("", {**facts, **{name: value for name, value in times.items() if value}, "url": run.url}),
            names("failure", self._failure_facts()),
            names("params", flattened(run.params)),
            names("metrics", {name: value for name, value in flattened(run.metrics).items() if name not in of_series}),
            *(summary(name, fields) for name, fields in self.series.items()),
            run_pictures(sources),
            files_table(self.sizes),
        )


def show(
    url: URL,
    *,
    lines: int = 10,
    storage_options: Mapping[str, Any] | None = None,
) -> Overview:
    """Return a summary of one run.

    Cost: one listing, one read of metadata.json, one of the end of the log, one of the end of the output if there is
    some, and one each of parameters and metrics, unless metadata.json contains them, as for ended runs. A failed run
    takes one more read, and each of the last three caught exceptions one.

    Args:
        url: The run as an fsspec URL, a path or a `Target`; or a folder with one run at or below it.
        lines: Number of last lines of the log, and of the output.
        storage_options: Options for fsspec.

    Raises:
        RunMissingError: There is no run.
        ConfigurationError: There are several runs.
        StorageError: The place cannot be listed.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://overview", params={"dt": 0.1}) as log:
    ...     path = log.json("metrics", {"error": 0.01})
    >>> run = show("memory://overview/log_a", lines=1)
    >>> run.run.status, run.run.params, run.below("artifacts")
    ('complete', {'dt': 0.1}, {'metrics.json': 20})
    >>> print(run.log[0].rpartition("] ")[2])
    INFO Marked complete
    """
    query = Query([url], storage_options=storage_options)
    return next(_overviews_at(query.targets[0], query, lines))


def overviews(
    urls: URLs | Query | None = None,
    *,
    lines: int = 10,
    every: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Iterator[Overview]:
    """Yield summaries of runs: status, parameters, metrics, failure, files, and the end of the log and of the output.

    Cost: one listing a place, and for each run one read of metadata.json, one of the end of the log, one of the end of
    the output if there is some, and up to six of parameters, metrics and descriptions of failures; 32 reads at once.

    Args:
        urls: Runs, patterns that match runs, or folders with one run each, see `URLs`; or a `Query` of those. By
            default the base folder.
        lines: Number of last lines of the log, and of the output.
        every: Accept folders with several runs.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that has no run or cannot be listed; the others are shown. By
            default, the first such error is raised.

    Raises:
        RunMissingError: There is no run.
        ConfigurationError: There are several runs, and neither `every` nor a pattern.
        StorageError: A place cannot be listed.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://overviews").mark_complete()
    >>> [one.run.run_id for one in overviews("memory://overviews/log_*")]
    ['a', 'b']
    """
    query = Query.of(urls, storage_options=storage_options, failed=failed)
    return query.each(lambda target: _overviews_at(target, query, lines, every=every or bool(target.pattern)))


def _overviews_at(target: Target, query: Query, lines: int, *, every: bool = False) -> Iterator[Overview]:
    place = query.look_up(target) if query.filters else look_up(target, failed=query.failed, by_id=True)
    if not (place.runs or query.filters):
        raise place.no_run()
    if len(place.runs) > 1 and not every:
        raise _several(place)
    yield from overviews_of(list(records(place, values=True)), lines)


def _several(place: Place) -> ConfigurationError:
    names = ", ".join([run.name for run in place.runs.values()][:_NAMED])
    message = (
        f"{place.given} has {len(place.runs)} runs, such as {names}; name one of them, pass a pattern, or pass --all "
        "to show all"
    )
    return ConfigurationError(message, url=place.store.url)


def overviews_of(runs: Sequence[Run], lines: int = 10) -> Iterator[Overview]:
    """Yield the summaries of runs whose metadata, parameters and metrics are known.

    Cost: one read of the end of the log for each run, one of the end of the output if there is some, and up to six of
    parameters, metrics and descriptions of failures; 32 at once. The files of all these runs are held together.

    Args:
        runs: The runs, such as those of `notata.search.runs` with ``values=True``.
        lines: Number of last lines of the log, and of the output.
    """
    flying = InFlight[tuple[str, str], Blob]()
    with flying.until_landed():
        for run in runs:
            for key, start, end in _wanted(run, lines):
                flying.begin((run.url, key), end - start, run.store.start_fetch, key, start, end)
    blobs: dict[str, dict[str, Blob]] = {}
    errors: dict[str, list[Exception]] = {}
    for (url, key), blob in flying.results.items():
        blobs.setdefault(url, {})[key] = blob
    for (url, _), error in flying.errors.items():
        errors.setdefault(url, []).append(error)
    for run in runs:
        yield _OverviewBuilder(run, blobs.get(run.url, {}), errors.get(run.url, ())).overview(lines)


def _wanted(run: Run, lines: int) -> Iterator[tuple[str, int, int]]:
    """Yield the files to read of a run besides metadata.json: key, first byte and end."""
    sizes = {key: max(0, entry.size) for key, entry in run.entries.items()}
    for key in _TAILS if lines else ():
        if sizes.get(key):
            yield key, max(0, sizes[key] - max(4096, lines * _LINE)), sizes[key]
    if run.status not in ("complete", "running", "replacing"):
        if 0 < sizes.get(keys.FAILURE, 0) <= _FAILURE:
            yield keys.FAILURE, 0, sizes[keys.FAILURE]
        elif sizes.get(keys.TRACEBACK):
            yield keys.TRACEBACK, max(0, sizes[keys.TRACEBACK] - _TEXT), sizes[keys.TRACEBACK]
    yield from ((key, 0, sizes[key]) for key, _ in _input_files(sizes))
    for key in _caught(sizes)[-_CAUGHT:]:
        if 0 < sizes[key] <= _FAILURE:
            yield key, 0, sizes[key]
    if not run.params:  # there are none, they are not in metadata.json, or they are damaged
        yield from ((key, 0, sizes[key]) for key in parameters.FILES if 3 < sizes.get(key, 0) <= _PARAMETERS)
    if run.metrics.keys() == _of_series(run).keys() and 3 < sizes.get(keys.METRICS, 0) <= _PARAMETERS:
        yield keys.METRICS, 0, sizes[keys.METRICS]


def _input_files(sizes: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the keys of the files with inputs that are read, with the rank of the worker; empty for the owner."""
    found = sorted((key, key.split("/")[1]) for key in sizes if _WORKER_INPUTS.fullmatch(key))[:_WORKERS]
    return [(key, rank) for key, rank in [(keys.INPUTS, ""), *found] if 0 < sizes.get(key, 0) <= limits.INPUTS]


def _of_series(run: Run) -> dict[str, Any]:
    """Return the values that tables have from the series of a run."""
    return flat_values(run.metadata.get(SUMMARY))


def _caught(sizes: Mapping[str, int]) -> list[str]:
    return sorted(key for key in sizes if key.startswith(f"{keys.CAUGHT}/") and key.endswith(".json"))


class _OverviewBuilder:
    """Builds the summary of one run from its files, and collects problems."""

    def __init__(self, run: Run, blobs: Mapping[str, Blob], errors: Iterable[Exception]) -> None:
        self._run = run
        self._blobs = blobs
        self._sizes = {key: max(0, entry.size) for key, entry in run.entries.items()}
        self._problems = [str(error) if isinstance(error, NotataError) else repr(error) for error in errors]

    def overview(self, lines: int) -> Overview:
        run, caught = self._completed(), _caught(self._sizes)
        tails = {key: self._tail(key, lines) for key in _TAILS if lines and key in self._blobs}
        log, output = (tails.get(key, Tail()).lines for key in _TAILS)
        fields = run.metadata
        resumes = fields.get(RESUMES)
        return Overview(
            run,
            _environment(fields),
            {name: value for name, value in fields.items() if name not in _OWN},
            self._failure(),
            tuple(failure for key in caught if (failure := self._described(key)) is not None),
            len(caught),
            self._sizes,
            tuple(sorted({key.split("/")[1] for key in self._sizes if key.startswith(f"{keys.WORKERS}/")})),
            str(fields.get(MIRROR) or ""),
            tuple(one for one in resumes if isinstance(one, dict)) if isinstance(resumes, list) else (),
            str(fields.get(PARENT) or ""),
            tuple(self._inputs()),
            loaded(fields.get(SUMMARY)),
            log,
            self._sizes.get(keys.LOG, 0),
            tuple(self._problems),
            _dictionary(fields.get(COMMAND)),
            _dictionary(fields.get(EXIT)),
            output,
            self._sizes.get(keys.OUTPUT, 0),
            tails,
        )

    def _completed(self) -> Run:
        """Return the run with parameters and metrics from their files, if metadata.json does not contain them."""
        params, metrics = self._run.params, self._run.metrics
        for key in parameters.FILES:
            if not params and key in self._blobs:
                params = self._params(key)
        if keys.METRICS in self._blobs:
            found, problem = metrics_of(self._blobs[keys.METRICS].data, keys.METRICS)
            metrics = {**_of_series(self._run), **found}
            self._problems += [problem] if problem else []
        return replace(self._run, params=params, metrics=metrics)

    def _inputs(self) -> Iterator[Input]:
        for key, rank in _input_files(self._sizes):
            if key in self._blobs:
                yield from parsed(self._blobs[key].data, rank)

    def _params(self, key: str) -> Mapping[str, Any]:
        try:
            values = parameters.decoded(self._blobs[key].data, "json" if key == keys.PARAMS_JSON else "yaml")
            return named_values(formats.plain(values))
        except NotataError as error:
            self._problems.append(f"{key}: {error}")
            return {}

    def _failure(self) -> Failure | None:
        described = self._described(keys.FAILURE)
        if described is not None:
            return described
        if keys.FAILURE in self._blobs and keys.TRACEBACK in self._sizes:  # failure.json is damaged
            size = self._sizes[keys.TRACEBACK]
            return self._of_text(self._read(keys.TRACEBACK, max(0, size - _TEXT), size))
        return self._of_text(self._blobs[keys.TRACEBACK].data) if keys.TRACEBACK in self._blobs else None

    def _of_text(self, data: bytes) -> Failure:
        text = data.decode("utf-8", "replace")
        whole = len(data) == self._sizes[keys.TRACEBACK]
        text = text if whole else text.partition("\n")[2]
        fields = self._run.metadata
        return Failure(
            keys.TRACEBACK, str(fields.get("failure_type") or ""), str(fields.get("failure_reason") or ""), (), text
        )

    def _described(self, key: str) -> Failure | None:
        """Return an exception that `notata.provenance.failures.describe` recorded."""
        if key not in self._blobs:
            return None
        try:
            return _exception(key, json.loads(self._blobs[key].data), _CHAIN)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError):
            self._problems.append(f"{key} does not describe an exception")
            return None

    def _tail(self, key: str, lines: int) -> Tail:
        """Return the last lines of a file; read more if needed."""
        size, data = self._sizes[key], self._blobs[key].data
        while data.count(b"\n") <= lines and len(data) < min(size, _END):
            more = self._read(key, max(0, size - 4 * len(data)), size - len(data))
            if not more:
                break
            data = more + data
        found = data.removesuffix(b"\n").split(b"\n")
        if len(data) < size:  # the first line may be incomplete
            found = found[1:] or found
        end = b"\n".join(found[-lines:]) + b"\n" * data.endswith(b"\n")
        return Tail(end, max(0, size - len(end)))

    def _read(self, key: str, start: int, end: int) -> bytes:
        try:
            return self._run.store.read(key, start, end)
        except NotataError as error:
            self._problems.append(str(error))
            return b""


def _exception(key: str, description: Mapping[str, Any], depth: int) -> Failure:
    """Return an exception of a failure.json, with those that led to it."""
    cause, context = (
        _exception(key, description[name], depth - 1) if depth and description.get(name) else None
        for name in ("cause", "context")
    )
    members = description.get("exceptions", ())[:_MEMBERS] if depth else ()
    return Failure(
        key,
        str(description.get("type", "")),
        str(description.get("message", "")),
        tuple(_frame(one) for one in description.get("frames", ())[-_FRAMES:]),
        cause=cause,
        context=context,
        exceptions=tuple(_exception(key, one, depth - 1) for one in members),
    )


def _frame(description: Mapping[str, Any]) -> Frame:
    return Frame(
        str(description["file"]),
        int(description["line"]),
        str(description["function"]),
        str(description.get("code", "")),
    )


def _dictionary(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _environment(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the environment; without a capture, host and process id of the owner."""
    environment = fields.get("environment")
    lease = {name: value for name, value in lease_of(fields).items() if name in ("host", "pid")}
    return {**lease, **environment} if isinstance(environment, dict) else lease
