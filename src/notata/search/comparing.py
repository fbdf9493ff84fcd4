"""Comparison of two runs on any storage, which downloads a file only if nothing else shows whether it differs.

Two runs always differ in id, times, process, log and manifests. These differences are listed, but do not count.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final, Literal, TypeAlias

from notata._base import keys
from notata._base.display import counted
from notata._base.threads import Pool
from notata.errors import (
    ConfigurationError,
    DecodeError,
    MissingError,
    NotataError,
    StorageError,
    TooLargeError,
)
from notata.manifest import Document, valid_receipts
from notata.manifest.trust import whole_digest
from notata.mirror.evidence import digest_of
from notata.run.inputs import stored
from notata.run.parameters import FILES as PARAMS
from notata.search.finding import look_up
from notata.search.places import File, Run
from notata.search.prefetch import open_listed
from notata.search.record import records
from notata.search.target import URL, Failed, Target, raise_error, targets
from notata.store import Entry, Store
from notata.store.in_flight import mapped

__all__ = ["PARTS", "Comparison", "Difference", "compare"]

Change: TypeAlias = Literal["equal", "changed", "only_a", "only_b", "unknown"]

PARTS: Final = ("run", "params", "metrics", "environment", "files")
"""The parts of a comparison, in this order."""

_OWN: Final = frozenset({"environment", "lease", "row", "copied"})  # in metadata.json: in another part, or internal
_ALWAYS: Final = frozenset({"run_id", "url", "start_time", "end_time", "runtime_sec", "resumes", "mirror", "size"})
_JOB: Final = (
    "JOB_ID", "LSB_JOBID", "LSB_JOBINDEX", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "PBS_ARRAY_INDEX",
    "PBS_JOBID", "PMI_RANK", "SGE_TASK_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_PROCID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID",
)  # fmt: skip
_IMPLIED: Final = ("git.patch.size", "git.untracked.files", "installed.packages")  # their digests differ, too
_ALWAYS_AROUND: Final = frozenset({"pid", *_IMPLIED, *(f"scheduler.{name}" for name in _JOB)})
_CODE: Final = (keys.PATCH, keys.UNTRACKED, keys.PACKAGES)  # whose digests are in the environment
_PIECE: Final = 2**20
_READ_AT_ONCE: Final = 8  # files


@dataclass(frozen=True, slots=True)
class Difference:
    """One compared value or file, which both runs have or only one.

    Attributes:
        part: One of `PARTS`.
        name: A dotted path for values, a key for files.
        change: ``changed``, ``only_a``, ``only_b``, ``equal``, or ``unknown`` if only a download could tell.
        a: The value, or the size of the file, in the first run; None if it has none.
        b: The same in the second run.
        relative: For two numbers, the change as a fraction of the first one; None if undefined.
        counts: Whether this makes the runs different; values that differ between any two runs do not count.
        why: For a file, the evidence: ``size``, ``sha256``, ``digest``, ``content``, ``version`` (both are the same
            file); empty if there is none.
    """

    part: str
    name: str
    change: Change
    a: Any = None
    b: Any = None
    relative: float | None = None
    counts: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing two runs.

    Attributes:
        a: The first run.
        b: The second run.
        items: Every compared value and file, equal or not.
    """

    a: Run
    b: Run
    items: Sequence[Difference] = field(repr=False)

    def __repr__(self) -> str:
        count = sum(item.counts and item.change != "unknown" for item in self.differences)
        return f"<Comparison of {self.a.name} and {self.b.name}: {counted(count, 'difference')}>"

    @property
    def differences(self) -> list[Difference]:
        """The items that differ or may differ."""
        return [item for item in self.items if item.change != "equal"]

    @property
    def differs(self) -> bool:
        """True if a difference that counts is known."""
        return any(item.counts and item.change != "unknown" for item in self.differences)

    @property
    def unknown(self) -> bool:
        """True if the comparison of an item that counts is unknown."""
        return any(item.counts and item.change == "unknown" for item in self.differences)

    @property
    def code(self) -> str:
        """The result for the code of the two runs: ``equal``, ``changed``, or ``unknown``.

        The code is the commit and, with changes, the patch and the untracked files.
        """
        a, b = (_code_of(run.metadata) for run in (self.a, self.b))
        if a is None or b is None:
            return "unknown"
        if a[0] != b[0] or (all(a[1:]) and all(b[1:]) and a != b):
            return "changed"
        return "equal" if a == b and all(a[1:]) else "unknown"

    @property
    def equal(self) -> bool:
        """True if no difference counts, and none is unknown."""
        return not self.differs and not self.unknown


def compare(
    a: URL,
    b: URL,
    *,
    storage_options: Mapping[str, Any] | None = None,
    only: Sequence[str] = PARTS,
    tolerance: float = 0.0,
    content: bool = False,
    failed: Failed = raise_error,
) -> Comparison:
    """Compare two runs, on one storage or two.

    Cost: a listing of each run; their metadata.json and manifest.json; for runs that have not ended, or whose files
    have changed since, up to two reads of parameters and metrics. Local files (on a disk or in memory) are read if the
    manifests do not cover both. Other files are read only with `content`.

    Args:
        a: The first run, or a folder with one run: an fsspec URL, a path, or a `Target`, which has storage options of
            its own.
        b: The second run.
        storage_options: Options for fsspec, for both runs, unless they are targets.
        only: The `PARTS` to compare.
        tolerance: Numbers are equal if they differ by at most this fraction of the larger one.
        content: Download files if nothing else shows whether they differ.
        failed: Called with the error of a part that cannot be read; the other parts are compared. By default, the first
            such error is raised.

    Raises:
        RunMissingError: There is no run at one of the places.
        ConfigurationError: A place has several runs, or `only` contains an unknown part.
        StorageError: A storage cannot be read.

    >>> from notata import Logbook
    >>> for name, dt in (("a", 0.1), ("b", 0.2)):
    ...     Logbook(name, "memory://comparing", params={"dt": dt, "omega": 2}).mark_complete()
    >>> found = compare("memory://comparing/log_a", "memory://comparing/log_b", only=["params"])
    >>> [(item.name, item.a, item.b, item.relative) for item in found.differences]
    [('dt', 0.1, 0.2, 1.0)]
    >>> found
    <Comparison of memory://comparing/log_a and memory://comparing/log_b: 1 difference>
    """
    if strange := [part for part in only if part not in PARTS]:
        raise ConfigurationError(f"cannot compare unknown part {strange[0]!r}; choose from {', '.join(PARTS)}")
    if not 0 <= tolerance < math.inf:
        raise ConfigurationError(f"tolerance must be a finite number of 0 or more, not {tolerance!r}")
    values = not {"params", "metrics"}.isdisjoint(only)
    sides = [_Side(_run_at(target, values=values)) for target in targets([a, b], storage_options)]
    items: list[Difference] = []
    for part in (part for part in PARTS if part in only):
        try:
            if part == "files":
                items += _files(
                    sides[0].files(), sides[1].files(), never_counts=_never_counts(only), content=content, failed=failed
                )
            else:
                items += _values(part, sides[0].values(part), sides[1].values(part), tolerance=tolerance)
        except NotataError as error:
            failed(error)
            items.append(Difference(part, "", "unknown"))
    return Comparison(sides[0].run, sides[1].run, items)


# -- one run -------------------------------------------------------------------------------------------------


def _run_at(target: Target, *, values: bool) -> Run:
    place = look_up(target, by_id=True)
    if not place.runs:
        raise place.no_run()
    if len(place.runs) > 1:
        raise ConfigurationError(f"there are {len(place.runs)} runs at {place.given}; name one of them")
    return next(records(place, values=values))


class _Side:
    """One of the two runs."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def values(self, part: str) -> dict[str, Any]:
        """Return the values of a part by dotted path."""
        if not self.run.metadata:
            raise StorageError(f"{self.run.name}: {self.run.why}", url=self.run.url, key=keys.METADATA)
        if part == "run":
            return self._state()
        if part == "environment":
            return dict(_flattened(_without_argv(self.run.metadata.get("environment"))))
        params = part == "params"
        if unread := _unread(self.run.metrics_error, params):
            raise DecodeError(f"{self.run.name}: {unread}", url=self.run.url)
        return dict(_flattened(self.run.params if params else self.run.metrics))

    def _state(self) -> dict[str, Any]:
        own = {name: value for name, value in self.run.metadata.items() if name not in _OWN}
        names = ("run_id", "url", "status", "size")
        state: dict[str, Any] = {name: getattr(self.run, name) for name in names}
        if self.run.seconds is not None:
            state["runtime_sec"] = self.run.seconds
        return {**dict(_flattened({**own, **self._inputs()})), **state}

    def _inputs(self) -> dict[str, Any]:
        """Return digest, version or size of each input that the run recorded. One request if there are some."""
        if keys.INPUTS not in self.run.entries:
            return {}
        found = stored(self.run.store)
        return {"inputs": {one.url: one.sha256 or one.version or one.size for one in found}}

    def files(self) -> dict[str, _File]:
        """Return the files by key, with the manifest entries that match them."""
        documents, entries = [], self.run.entries
        for key in sorted(filter(keys.is_manifest, entries), key=len):  # that of the run before those of workers
            with suppress(MissingError, TooLargeError):  # removed meanwhile, or not written by notata
                documents.append(Document.parse_undamaged(self.run.store.read(key)))
        receipts = valid_receipts(entries.values(), {}, filter(None, documents))[0]
        return {key: _File(self.run.file(key), whole_digest(receipts.get(key), entries[key])) for key in entries}


def _code_of(metadata: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the commit, and the digests of patch and untracked files; empty ones are unknown. None without a commit.

    >>> _code_of({"environment": {"git": {"commit": "3f", "dirty": False}}})
    ('3f', 'clean', 'unlisted')
    """
    environment = metadata.get("environment")
    git = environment.get("git") if isinstance(environment, dict) else None
    if not isinstance(git, dict) or not isinstance(git.get("commit"), str):
        return None
    patch, untracked = (found if isinstance(found := git.get(name), dict) else {} for name in ("patch", "untracked"))
    changes = str(patch.get("sha256") or ("clean" if git.get("dirty") is False else ""))
    return git["commit"], changes, str(untracked.get("sha256") or "unlisted")


def _without_argv(environment: object) -> object:
    """Return the environment with only the beginning of `command`, as `argv` repeats its end."""
    if not isinstance(environment, dict):
        return environment
    command, argv = environment.get("command"), environment.get("argv")
    if isinstance(command, list) and isinstance(argv, list) and argv and command[-len(argv) :] == argv:
        return {**environment, "command": command[: -len(argv)]}
    return environment


def _unread(why: str, params: bool) -> str:
    """Return the part of a run's `metrics_error` that concerns its parameters, or its metrics."""
    first, both, rest = why.partition(f"; {keys.METRICS}")
    if params or not both:
        return first if first.startswith(PARAMS) is params else ""
    return f"{keys.METRICS}{rest}"


# -- values --------------------------------------------------------------------------------------------------


def _values(part: str, a: Mapping[str, Any], b: Mapping[str, Any], *, tolerance: float) -> Iterator[Difference]:
    """Compare two mappings of names to values."""
    always = {"run": _ALWAYS, "environment": _ALWAYS_AROUND}.get(part, frozenset())
    for name in sorted({**a, **b}):
        counts = name not in always and name.partition(".")[0] not in always
        if name not in b:
            yield Difference(part, name, "only_a", a[name], counts=counts)
        elif name not in a:
            yield Difference(part, name, "only_b", None, b[name], counts=counts)
        else:
            change: Change = "equal" if _same(a[name], b[name], tolerance) else "changed"
            yield Difference(part, name, change, a[name], b[name], _relative(a[name], b[name]), counts)


def _flattened(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by dotted path; a name that contains a dot is quoted.

    >>> dict(_flattened({"solver": {"order": 4, "name": "rk4"}, "a.b": [1, 2]}))
    {'solver.order': 4, 'solver.name': 'rk4', '"a.b"': [1, 2]}
    """
    if isinstance(value, Mapping) and (value or not path):
        for name, item in value.items():
            shown = json.dumps(str(name), ensure_ascii=False) if "." in str(name) or not str(name) else str(name)
            yield from _flattened(item, f"{path}.{shown}" if path else shown)
    elif path:
        yield path, value


def _same(a: object, b: object, tolerance: float) -> bool:
    if _is_number(a) and _is_number(b):
        return _close(a, b, tolerance)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(*pair, tolerance) for pair in zip(a, b, strict=True))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[name], b[name], tolerance) for name in a)
    return type(a) is type(b) and a == b


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if a == b or (a != a and b != b):  # equal, or both NaN
        return True
    try:
        return bool(tolerance) and math.isclose(a, b, rel_tol=tolerance)
    except OverflowError:
        return False


def _relative(a: Any, b: Any) -> float | None:
    if not (_is_number(a) and _is_number(b)) or a == 0:
        return None
    try:
        found = (b - a) / abs(a)
    except OverflowError:
        return None
    return float(found) if math.isfinite(found) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    """A file of one of the runs, with its checksum in a manifest, if that is known."""

    file: File
    sha256: bytes

    @property
    def store(self) -> Store:
        return self.file.store

    @property
    def entry(self) -> Entry:
        return self.file.entry

    @property
    def kind(self) -> str:
        return self.entry.digest.partition(":")[0]

    def pieces(self) -> Iterator[bytes]:
        with open_listed(self.file) as file:
            while piece := file.read(_PIECE):
                yield piece


_Verdict: TypeAlias = "tuple[bool | None, str]"
"""True if two files have the same content, if known, and the evidence."""


def _files(
    a: Mapping[str, _File],
    b: Mapping[str, _File],
    *,
    never_counts: Callable[[str], bool],
    content: bool,
    failed: Failed,
) -> Iterator[Difference]:
    """Compare the files of two runs."""
    both = {key: (a[key], b[key]) for key in a.keys() & b.keys()}
    verdicts = {key: _compare_listed(*pair) for key, pair in both.items()}
    near = any(file.store.is_local for pair in both.values() for file in pair)
    unsure = [key for key in sorted(both) if verdicts[key][0] is None and (near or not never_counts(key))]
    with Pool(_READ_AT_ONCE, "notata-compare") as pool:
        for key, verdict in zip(unsure, mapped(lambda key: _read(*both[key], content), unsure, pool), strict=True):
            if isinstance(verdict, NotataError):
                failed(verdict)
            else:
                verdicts[key] = verdict
    for key in sorted({**a, **b}):
        same, why = verdicts.get(key, (None, ""))
        change: Change = "unknown" if same is None else "equal" if same else "changed"
        change = change if key in both else "only_a" if key in a else "only_b"
        one, other = (side[key].entry.size if key in side else None for side in (a, b))
        yield Difference("files", key, change, one, other, counts=not never_counts(key), why=why)


def _never_counts(only: Sequence[str]) -> Callable[[str], bool]:
    """Return a check for files that never count by themselves: they always differ, or their values are compared."""

    def never_counts(key: str) -> bool:
        if key == keys.METADATA or keys.is_manifest(key) or keys.is_growing(key):
            return True
        if ("environment" in only and key in _CODE) or ("run" in only and key == keys.INPUTS):
            return True
        return ("params" in only and key in PARAMS) or ("metrics" in only and key == keys.METRICS)

    return never_counts


def _compare_listed(a: _File, b: _File) -> _Verdict:
    """Compare by listings and manifests. A different digest of an S3 object proves nothing, see `Entry.digest`."""
    if a.entry.size >= 0 and b.entry.size >= 0:
        if a.entry.size != b.entry.size:
            return False, "size"
        if a.entry.size == 0:
            return True, "size"
    if (a.store.url, a.entry.version) == (b.store.url, b.entry.version):
        return True, "version"
    if a.sha256 and b.sha256:
        return a.sha256 == b.sha256, "sha256"
    if (
        a.kind
        and a.kind == b.kind
        and (a.entry.digest == b.entry.digest or (_has_content_digest(a) and _has_content_digest(b)))
    ):
        return a.entry.digest == b.entry.digest, "digest"
    return None, ""


def _has_content_digest(file: _File) -> bool:
    """Check whether a digest in a listing is certain to be a digest of the content."""
    return file.kind in ("md5", "crc32c") and file.store.url.startswith(("gs://", "gcs://"))


def _read(a: _File, b: _File, content: bool) -> _Verdict | NotataError:
    """Compare by reading local files, or with `content` both."""
    try:
        if a.store.is_local and b.store.is_local:
            return _have_equal_bytes(a, b), "content"
        for near, far in ((a, b), (b, a)):
            if near.store.is_local and (verdict := _compare_with_checksum(near, far))[0] is not None:
                return verdict
        return (_have_equal_bytes(a, b), "content") if content else (None, "")
    except NotataError as error:
        return error


def _compare_with_checksum(near: _File, far: _File) -> _Verdict:
    """Compare a local file, which is read, with the known checksums of another one."""
    if far.sha256:
        digest = hashlib.sha256()
        for piece in near.pieces():
            digest.update(piece)
        return digest.digest() == far.sha256, "sha256"
    computed = digest_of(near.pieces(), far.entry.digest) if far.entry.digest else ""
    if computed and (computed == far.entry.digest or _has_content_digest(far)):
        return computed == far.entry.digest, "digest"
    return None, ""


def _have_equal_bytes(a: _File, b: _File) -> bool:
    return all(one == other for one, other in zip_longest(a.pieces(), b.pieces()))
