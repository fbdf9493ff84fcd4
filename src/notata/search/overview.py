"""One run at a glance: how it stands and why, where and with what it ran, what it holds, and how its log ends.

Little is read: a listing, metadata.json, parameters and metrics where that does not tell them, what tells of a failure,
and the end of the log. What is damaged or lost is told, and all else is shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from notata import formats
from notata._base import display, keys
from notata.errors import ConfigurationError, NotataError
from notata.run import parameters
from notata.run.state import MIRROR, RESUMES, lease_of
from notata.search.finding import Found, Place, URLs, each, is_pattern, look_up, no_run, tell_nobody
from notata.search.record import Run, records
from notata.store import TIMEOUT, Blob, Store
from notata.store.in_flight import InFlight
from notata.table.row import metrics_of, named_values

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["Failure", "Frame", "Overview", "overviews", "show"]

_LINE: Final = 200  # bytes of a line of a log, as a guess
_END: Final = 2**20  # bytes of a log's end that are read at most
_FAILURE: Final = 2**20  # bytes of a failure.json that is read
_TEXT: Final = 2**14  # bytes of a traceback's end
_FRAMES: Final = 5  # that are kept
_CHAIN: Final = 10  # exceptions that led to one another
_MEMBERS: Final = 5  # exceptions of a group
_CAUGHT: Final = 3  # exceptions that were caught, the last ones
_PARAMETERS: Final = 2**20  # bytes of them, or of metrics, that are read
_NAMED: Final = 3  # runs that an error names

_OWN: Final = frozenset({
    "copied", "end_time", "environment", "failure_reason", "failure_type", "lease", "mirror", "resumes", "row",
    "run_id", "runtime_sec", "start_time", "status", "workers",
})  # fmt: skip
"""Fields of metadata.json that are shown as what they mean; others are the user's."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a program was.

    Attributes:
        file: Of the code.
        line: Its number.
        function: Its name.
        code: The line itself.
    """

    file: str
    line: int
    function: str
    code: str

    def __str__(self) -> str:
        return f'File "{self.file}", line {self.line}, in {self.function}'


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that ended a run, or that it caught.

    Attributes:
        key: The file that tells of it.
        type: Of the exception.
        message: Its text.
        frames: The last ones, the innermost at the end.
        text: The end of the traceback, where nothing tells the frames.
        cause: The exception that it was raised from.
        context: The exception that was being handled when it was raised.
        exceptions: The members of a group, the first ones.
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
        """Yield this exception and those that led to it, each after what relates it to the one before.

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
class Overview:
    """A run, and what there is to see of it at a glance.

    Attributes:
        run: How it stands, with its parameters and metrics.
        environment: As `notata.provenance.environment.capture` described it at the start; host and process id are there
            for each run that has an owner.
        fields: What the user put into metadata.json.
        failure: Why it failed, with its last frames; None where it did not, or nothing tells.
        caught: The last exceptions that `notata.Logbook.catch` recorded, the latest at the end.
        caught_in_all: How many that are.
        sizes: Of its files in bytes, by key.
        workers: The ranks of those who wrote files of the run beside its owner.
        mirror: Where it is mirrored to; empty if it is not.
        resumes: When it went on, and after what, as metadata.json says.
        log: The last lines of log.txt.
        log_size: Of log.txt, in bytes.
        problems: What cannot be read, and why.
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
    log: tuple[str, ...] = ()
    log_size: int = 0
    problems: tuple[str, ...] = ()

    def below(self, folder: str) -> dict[str, int]:
        """The sizes of the files in one folder of the run, by the path from there.

        Args:
            folder: Such as ``artifacts``, ``data`` or ``plots``.
        """
        start = f"{folder}/"
        return {key[len(start) :]: size for key, size in self.sizes.items() if key.startswith(start)}

    def record(self) -> dict[str, Any]:
        """Its fields by name, as plain values: those of its `Run`, and its own."""
        return {
            **self.run.record(),
            "params": self.run.params,
            "metrics": self.run.metrics,
            "environment": self.environment,
            "fields": self.fields,
            "failure": self.failure,
            "caught": self.caught,
            "caught_in_all": self.caught_in_all,
            "artifacts": self.below(keys.ARTIFACTS),
            "data": self.below(keys.DATA),
            "plots": self.below(keys.PLOTS),
            "sizes": self.sizes,
            "workers": self.workers,
            "mirror": self.mirror or None,
            "resumes": self.resumes,
            "log": self.log,
            "log_size": self.log_size,
            "problems": self.problems,
        }

    def _told_failure(self) -> dict[str, str]:
        told: dict[str, str] = {}
        for relation, one in self.failure.chain() if self.failure else ():
            told |= {f"{relation} {one.type}".lstrip(): one.message} | {str(frame): frame.code for frame in one.frames}
        return told

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        run = self.run
        facts = {"status": f"{run.status} ({run.why})", "url": run.url, "started": run.started, "took": run.seconds}
        parts = {
            "state": {name: value for name, value in facts.items() if value is not None},
            "params": run.params,
            "metrics": run.metrics,
            "failure": self._told_failure(),
            "files": {key: display.size(size) for key, size in self.sizes.items()},
        }
        return display.sections(f"run {run.run_id}", parts)


def show(
    url: str | os.PathLike[str] | UPath | Store,
    *,
    lines: int = 10,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> Overview:
    """One run at a glance.

    Cost: one listing, one read of metadata.json, one of the end of the log, and one each of parameters and metrics,
    unless metadata.json tells them, as that of an experiment's run does at its end; one more of a failed run, and one
    for each of the last three exceptions that were caught.

    Args:
        url: The run, or a folder with one run at or below it.
        lines: Of the log's end.
        storage_options: For fsspec.
        timeout: As for `notata.Logbook`.

    Raises:
        RunMissingError: There is no run.
        ConfigurationError: There are several.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://overview", params={"dt": 0.1}) as log:
    ...     path = log.json("metrics", {"error": 0.01})
    >>> run = show("memory://overview/log_a", lines=1)
    >>> run.run.status, run.run.params, run.below("artifacts")
    ('complete', {'dt': 0.1}, {'metrics.json': 20})
    >>> print(run.log[0].rpartition("] ")[2])
    INFO Marked complete
    """
    place = _place(url, storage_options, timeout, tell_nobody)
    if len(place.runs) > 1:
        raise _several(place)
    return next(_overviews(place, lines))


def overviews(
    urls: URLs | None = None,
    *,
    lines: int = 10,
    every: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> Iterator[Overview]:
    """Runs at a glance, as `show` has one; what is read of many is read 32 at once.

    Args:
        urls: Runs, or patterns of them; a folder of one run, too.
        lines: Of the log's end.
        every: All runs of a folder, if it has several.
        storage_options: For fsspec.
        failed: Is told of each place where there is no run, or that cannot be looked at; the others are shown.
        timeout: As for `notata.Logbook`.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://overviews").mark_complete()
    >>> [one.run.run_id for one in overviews("memory://overviews/log_*")]
    ['a', 'b']
    """
    for url in each(urls):
        try:
            place = _place(url, storage_options, timeout, failed)
            if len(place.runs) > 1 and not every and not is_pattern(url):
                raise _several(place)
            yield from _overviews(place, lines)
        except NotataError as error:
            failed(error)


def _place(
    url: str | os.PathLike[str] | UPath | Store,
    options: Mapping[str, Any] | None,
    timeout: float,
    failed: Callable[[NotataError], None],
) -> Place:
    place = look_up(url, options, timeout=timeout, failed=failed, by_id=True)
    if not place.runs:
        raise no_run(place)
    return place


def _several(place: Place) -> ConfigurationError:
    names = ", ".join([run.name for run in place.runs.values()][:_NAMED])
    told = f"{place.given} has {len(place.runs)} runs, as {names}; name one, a pattern, or ask for all of them (--all)"
    return ConfigurationError(told, url=place.store.url)


def _overviews(place: Place, lines: int) -> Iterator[Overview]:
    """The runs of a place; what is to be read of them is read together."""
    runs = list(records(place, values=True))
    flying = InFlight[tuple[str, str], Blob]()
    with flying.until_landed():
        for run in runs:
            found = _found(run)
            for key, start, end in _wanted(run, found, lines):
                flying.begin((found.folder, key), end - start, found.store.start_fetch, key, start, end)
    blobs: dict[str, dict[str, Blob]] = {}
    errors: dict[str, list[Exception]] = {}
    for (folder, key), blob in flying.results.items():
        blobs.setdefault(folder, {})[key] = blob
    for (folder, _), error in flying.errors.items():
        errors.setdefault(folder, []).append(error)
    for run in runs:
        folder = _found(run).folder
        yield _Looking(run, blobs.get(folder, {}), errors.get(folder, ())).overview(lines)


def _found(run: Run) -> Found:
    assert run.found is not None  # those of `records` have it
    return run.found


def _wanted(run: Run, found: Found, lines: int) -> Iterator[tuple[str, int, int]]:
    """What is to be read of a run besides metadata.json: keys, and from where to where."""
    sizes = {key: max(0, entry.size) for key, entry in found.files.items()}
    if sizes.get(keys.LOG) and lines:
        yield keys.LOG, max(0, sizes[keys.LOG] - max(4096, lines * _LINE)), sizes[keys.LOG]
    if run.status not in ("complete", "running", "replacing"):
        if 0 < sizes.get(keys.FAILURE, 0) <= _FAILURE:
            yield keys.FAILURE, 0, sizes[keys.FAILURE]
        elif sizes.get(keys.TRACEBACK):
            yield keys.TRACEBACK, max(0, sizes[keys.TRACEBACK] - _TEXT), sizes[keys.TRACEBACK]
    for key in _caught(sizes)[-_CAUGHT:]:
        if 0 < sizes[key] <= _FAILURE:
            yield key, 0, sizes[key]
    if not run.params:  # there are none, or it has no metadata.json that could tell, or they are damaged
        yield from ((key, 0, sizes[key]) for key in parameters.FILES if 3 < sizes.get(key, 0) <= _PARAMETERS)
    if not run.metrics and 3 < sizes.get(keys.METRICS, 0) <= _PARAMETERS:
        yield keys.METRICS, 0, sizes[keys.METRICS]


def _caught(sizes: Mapping[str, int]) -> list[str]:
    return sorted(key for key in sizes if key.startswith(f"{keys.CAUGHT}/") and key.endswith(".json"))


class _Looking:
    """What the files of one run make of it; problems are collected on the way."""

    def __init__(self, run: Run, blobs: Mapping[str, Blob], errors: Iterable[Exception]) -> None:
        self._run = run
        self._found = _found(run)
        self._blobs = blobs
        self._sizes = {key: max(0, entry.size) for key, entry in self._found.files.items()}
        self._problems = [str(error) if isinstance(error, NotataError) else repr(error) for error in errors]

    def overview(self, lines: int) -> Overview:
        run, caught = self._completed(), _caught(self._sizes)
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
            self._log(lines),
            self._sizes.get(keys.LOG, 0),
            tuple(self._problems),
        )

    def _completed(self) -> Run:
        """With parameters and metrics from their files, where metadata.json does not tell them."""
        params, metrics = self._run.params, self._run.metrics
        for key in parameters.FILES:
            if not params and key in self._blobs:
                params = self._params(key)
        if keys.METRICS in self._blobs:
            metrics, problem = metrics_of(self._blobs[keys.METRICS].data, keys.METRICS)
            self._problems += [problem] if problem else []
        return replace(self._run, params=params, metrics=metrics)

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
        if keys.FAILURE in self._blobs and keys.TRACEBACK in self._sizes:  # it is damaged
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
        """An exception as `notata.provenance.failures.describe` told it."""
        if key not in self._blobs:
            return None
        try:
            return _exception(key, json.loads(self._blobs[key].data), _CHAIN)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError):
            self._problems.append(f"{key} does not tell of an exception")
            return None

    def _log(self, lines: int) -> tuple[str, ...]:
        """The last lines; more is read while they are not within what was."""
        if not lines or keys.LOG not in self._blobs:
            return ()
        data, size = self._blobs[keys.LOG].data, self._sizes[keys.LOG]
        while data.count(b"\n") <= lines and len(data) < min(size, _END):
            more = self._read(keys.LOG, max(0, size - 4 * len(data)), size - len(data))
            if not more:
                break
            data = more + data
        text = data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        if len(data) < size:  # the first one may be a part
            text = text[1:] or text
        return tuple(line.removesuffix("\r") for line in text[-lines:])

    def _read(self, key: str, start: int, end: int) -> bytes:
        try:
            return self._found.store.read(key, start, end)
        except NotataError as error:
            self._problems.append(str(error))
            return b""


def _exception(key: str, told: Mapping[str, Any], depth: int) -> Failure:
    """Return an exception of a failure.json, with those that led to it."""
    cause, context = (
        _exception(key, told[name], depth - 1) if depth and told.get(name) else None for name in ("cause", "context")
    )
    members = told.get("exceptions", ())[:_MEMBERS] if depth else ()
    return Failure(
        key,
        str(told.get("type", "")),
        str(told.get("message", "")),
        tuple(_frame(one) for one in told.get("frames", ())[-_FRAMES:]),
        cause=cause,
        context=context,
        exceptions=tuple(_exception(key, one, depth - 1) for one in members),
    )


def _frame(told: Mapping[str, Any]) -> Frame:
    return Frame(str(told["file"]), int(told["line"]), str(told["function"]), str(told.get("code", "")))


def _environment(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the surroundings; of a run without, what its owner said of itself."""
    told = fields.get("environment")
    lease = {name: value for name, value in lease_of(fields).items() if name in ("host", "pid")}
    return {**lease, **told} if isinstance(told, dict) else lease
