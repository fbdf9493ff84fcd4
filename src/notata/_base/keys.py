"""Build and check keys, the names of files in a run folder.

A key is a relative POSIX path below the run's folder, such as ``artifacts/debug/dump.txt``. The rules below are those
of the strictest backend, so a valid key names the same file on every backend.
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from typing import Final

from notata._base.terminal import quoted
from notata.errors import KeyNameError

__all__ = [
    "ARTIFACTS",
    "CAUGHT",
    "CODE",
    "DATA",
    "FAILURE",
    "INDEX",
    "INPUTS",
    "LOG",
    "MANIFEST",
    "METADATA",
    "METRICS",
    "OUTPUT",
    "PACKAGES",
    "PARAMS_JSON",
    "PARAMS_YAML",
    "PATCH",
    "PLOTS",
    "RESERVED",
    "RUNS",
    "SERIES",
    "TRACEBACK",
    "UNTRACKED",
    "WORKERS",
    "artifact",
    "check",
    "data",
    "experiment",
    "is_growing",
    "is_log",
    "is_manifest",
    "is_output",
    "is_reserved",
    "is_run_id",
    "join",
    "plot",
    "problem_of_stored",
    "run_folder",
    "run_id",
    "series_file",
    "series_name",
    "stays_below",
    "worker",
    "worker_file",
]

INDEX: Final = "index.csv"
INPUTS: Final = "inputs.json"
LOG: Final = "log.txt"
MANIFEST: Final = "manifest.json"
METADATA: Final = "metadata.json"
METRICS: Final = "artifacts/metrics.json"
OUTPUT: Final = "output.txt"
PARAMS_YAML: Final = "params.yaml"
PARAMS_JSON: Final = "params.json"
ARTIFACTS: Final = "artifacts"
CAUGHT: Final = "artifacts/debug/caught"
CODE: Final = "code"
PATCH: Final = "code/diff.patch"
UNTRACKED: Final = "code/untracked.json"
PACKAGES: Final = "code/packages.txt"
DATA: Final = "data"
FAILURE: Final = "artifacts/debug/failure.json"
TRACEBACK: Final = "artifacts/debug/traceback.txt"
PLOTS: Final = "plots"
RUNS: Final = "runs"
SERIES: Final = "series"
WORKERS: Final = "workers"

RESERVED: Final = ".notata-"
"""Prefix of names reserved for unfinished writes and locks. Listings hide such names, and they are invalid as keys."""

_SEGMENT_BYTES: Final = 255  # NAME_MAX of Linux and macOS
_KEY_BYTES: Final = 1024  # S3 and GCS
_RUN: Final = "the run's folder"
_LOGS: Final = re.compile(r"(?:workers/[^/]+/)?log\.txt")
_OUTPUTS: Final = re.compile(r"(?:workers/[^/]+/)?output\.txt")
_JSON_LINES: Final = ".jsonl"
_SERIES: Final = re.compile(r"(?:workers/([^/]+)/)?series/(.+)\.jsonl")
_MANIFESTS: Final = re.compile(r"(?:workers/[^/]+/)?manifest\.json")

_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.=+-]*)*")
"""Pattern of nearly all keys. A short key that matches is valid without further checks."""

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.=+-]{1,200}")
"""Pattern of nearly all run ids, which need no further check."""


def check(key: str | os.PathLike[str], *, prefix: str = "") -> str:
    """Return `key` as a string if it is legal on every backend.

    Args:
        key: Relative POSIX path. No empty, ``.`` or ``..`` segment, no leading or trailing slash, no
            backslash, no control character or lone surrogate, no ``?versionId=``; at most 255 bytes of
            UTF-8 per segment.
        prefix: The prefix of the key in a bucket; together they have at most 1024 bytes.

    Raises:
        KeyNameError: The key is not legal; the message states the reason.

    >>> check("artifacts/debug/dump.txt")
    'artifacts/debug/dump.txt'
    """
    text = os.fspath(key) if not isinstance(key, str) and isinstance(key, os.PathLike) else key
    if not isinstance(text, str):
        raise KeyNameError(f"invalid key {text!r} of type {type(text).__name__}: pass a string")
    if len(text) + len(prefix) <= _SEGMENT_BYTES and _PLAIN.fullmatch(text):
        return text
    if problem := _problem(text, prefix):
        raise KeyNameError(f"{quoted(text)} cannot be a key: {problem}", key=text)
    return text


def experiment(name: str | os.PathLike[str]) -> str:
    """Return the name of an experiment as a string if it can be a folder on every backend.

    Raises:
        KeyNameError: It cannot; the message states the reason.

    >>> experiment("pendulum/large")
    'pendulum/large'
    """
    text = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(text, str):
        raise KeyNameError(f"invalid name of an experiment {text!r} of type {type(text).__name__}: pass a string")
    if problem := _problem(text, ""):
        reason = problem.replace(_RUN, "the base folder")
        raise KeyNameError(f"{quoted(text)} is not a valid name for an experiment: {reason}", key=text)
    return text


def problem_of_stored(name: str) -> str | None:
    """Return the reason why a stored name is neither a valid key nor an unfinished write; None if it is.

    >>> problem_of_stored("artifacts/.notata-3f9a"), problem_of_stored("artifacts//x")
    (None, "it has an empty segment ('//')")
    """
    if len(name) <= _SEGMENT_BYTES and _PLAIN.fullmatch(name):
        return None
    return _problem(name, "", reserved=True)


def stays_below(name: str) -> bool:
    """Check whether a stored name stays below its folder, even if the storage resolves ``..`` in it.

    >>> stays_below("artifacts/../x"), stays_below("../x"), stays_below("a/../../x")
    (True, False, False)
    """
    depth = 0
    for segment in re.split(r"[/\\]", name):
        depth += -1 if segment == ".." else segment not in ("", ".")
        if depth < 0:
            return False
    return depth > 0


def _problem(key: str, prefix: str, *, reserved: bool = False) -> str | None:
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return f"it is absolute, but keys are relative to {_RUN}"
    if key.endswith("/"):
        return "it ends with a slash; pass the name of a file, or a folder without the slash"
    if "\\" in key:
        return "it contains a backslash; separate folders with '/'"
    if "?versionId=" in key:
        return "S3 interprets '?versionId=' as a version of another file"
    return _character_problem(key) or _segment_problem(key, reserved) or _size_problem(key, prefix)


def _character_problem(key: str) -> str | None:
    if key.isascii() and key.isprintable():  # nearly all keys: 20 times faster than the loop below
        return None
    for character in key:
        if unicodedata.category(character) == "Cc":
            return f"it contains the control character {character!r}"
        if unicodedata.category(character) == "Cs":
            return f"it contains the lone surrogate {character!r}, which UTF-8 cannot encode"
        if character in "\ufffe\uffff":
            return f"it contains {character!r}, which is invalid in the XML listing of a bucket"
    return None


def _segment_problem(key: str, reserved: bool) -> str | None:
    for segment in key.split("/"):
        if not segment:
            return "it has an empty segment ('//')"
        if segment in (".", ".."):
            return f"it has the segment {segment!r}, which could leave {_RUN}"
        if segment.startswith(RESERVED) and not reserved:
            return f"names that begin with {RESERVED!r} are reserved for unfinished writes"
        if len(segment.encode()) > _SEGMENT_BYTES:
            return f"a segment has {len(segment.encode())} bytes; file systems allow at most {_SEGMENT_BYTES}"
    return None


def _size_problem(key: str, prefix: str) -> str | None:
    size = len(f"{prefix}{key}".encode())
    return f"with its prefix it is {size} bytes long; buckets allow {_KEY_BYTES}" if size > _KEY_BYTES else None


def is_reserved(key: str) -> bool:
    """Check whether a stored name is an unfinished write or a lock of notata, not a file of the user.

    >>> is_reserved("artifacts/.notata-3f9a")
    True
    """
    return key.startswith(RESERVED) or f"/{RESERVED}" in key


def is_log(key: str) -> bool:
    """Check whether a file of a run is one of its logs, which only grow.

    >>> is_log("log.txt"), is_log("workers/3/log.txt"), is_log("artifacts/log.txt")
    (True, True, False)
    """
    return _LOGS.fullmatch(key) is not None


def is_output(key: str) -> bool:
    """Check whether a file of a run has what a program printed, which only grows.

    >>> is_output("output.txt"), is_output("workers/3/output.txt"), is_output("artifacts/output.txt")
    (True, True, False)
    """
    return _OUTPUTS.fullmatch(key) is not None


@functools.lru_cache(1024)  # each log line and each row of a series asks
def is_growing(key: str) -> bool:
    """Check whether a file of a run only grows: a log, the output of a program, or a series.

    >>> is_growing("workers/3/log.txt"), is_growing("series/scalars.jsonl"), is_growing("data/t.npy")
    (True, True, False)
    """
    return is_log(key) or is_output(key) or _SERIES.fullmatch(key) is not None


def is_manifest(key: str) -> bool:
    """Check whether a file is the manifest of a run, or of one of its workers.

    >>> is_manifest("manifest.json"), is_manifest("workers/3/manifest.json"), is_manifest("data/manifest.json")
    (True, True, False)
    """
    return _MANIFESTS.fullmatch(key) is not None


def join(folder: str, name: str) -> str:
    """Join two keys, either of which may be empty.

    >>> join("artifacts", "notes.txt"), join("", "log.txt")
    ('artifacts/notes.txt', 'log.txt')
    """
    return f"{folder}/{name}" if folder and name else folder or name


def artifact(name: str | int, suffix: str = "") -> str:
    """Return the key of an artifact below ``artifacts/``; `suffix` is added if it is missing.

    >>> artifact("debug/traceback", ".txt"), artifact("notes.txt", ".txt")
    ('artifacts/debug/traceback.txt', 'artifacts/notes.txt')
    """
    return _below(ARTIFACTS, name, suffix)


def data(name: str | int, suffix: str) -> str:
    """Return the key of an array below ``data/``.

    >>> data("states/T", ".npy")
    'data/states/T.npy'
    """
    return _below(DATA, name, suffix)


def plot(name: str | int, suffix: str) -> str:
    """Return the key of a figure below ``plots/``.

    >>> plot("energy", ".png")
    'plots/energy.png'
    """
    return _below(PLOTS, name, suffix)


def _below(folder: str, name: str | int, suffix: str) -> str:
    if isinstance(name, int):
        name = str(name)
    name = check(name)  # before joining, to distinguish "/etc/passwd" from "etc/passwd"
    return check(f"{folder}/{name if suffix and name.endswith(suffix) else name + suffix}")


def run_folder(run_id: str) -> str:
    """Return the name of a run folder, one segment: ``log_<run_id>``.

    Raises:
        KeyNameError: The id is empty, contains a ``/`` or cannot be part of a file name.

    >>> run_folder("oscillator_dt1e-3")
    'log_oscillator_dt1e-3'
    """
    if not run_id:
        raise KeyNameError("invalid run id: it is empty; omit run_id to generate one")
    if "/" in run_id:
        raise KeyNameError(f"{quoted(run_id)} cannot be a run id: it contains a '/'; put folders into base_dir")
    folder = f"log_{run_id}"
    if problem := _problem(folder, ""):
        raise KeyNameError(f"{quoted(folder)} cannot be a run's folder: {problem}", key=folder)
    return folder


def is_run_id(text: str) -> bool:
    """Check whether a run can have this id: a forged row may name another folder.

    >>> is_run_id("oscillator_dt_0.001"), is_run_id("../../a"), is_run_id("")
    (True, False, False)
    """
    if _PLAIN_ID.fullmatch(text):
        return True
    try:
        run_folder(text)
    except KeyNameError:
        return False
    return True


def run_id(folder: str) -> str:
    """Return the id of a run from the name, path or URL of its folder.

    >>> run_id("s3://bucket/outputs/log_log_a")
    'log_a'
    """
    return folder.rstrip("/").rpartition("/")[2].removeprefix("log_")


def worker(rank: int | str) -> str:
    """Return the name of a worker, one segment of a key.

    Raises:
        KeyNameError: The rank cannot be part of a file name on every backend.

    >>> worker(3), worker("node17-0")
    ('3', 'node17-0')
    """
    if isinstance(rank, bool) or not isinstance(rank, int | str):
        raise KeyNameError(f"invalid rank {rank!r} of type {type(rank).__name__}: pass an int or a string")
    name = check(str(rank))
    if "/" in name:
        raise KeyNameError(f"{quoted(name)} cannot be a rank: it contains a '/'", key=name)
    return name


def worker_file(rank: str, name: str) -> str:
    """Return the key of a worker's own file.

    >>> worker_file("3", LOG)
    'workers/3/log.txt'
    """
    return check(f"{WORKERS}/{rank}/{name}")


def series_file(name: str, rank: str | None = None) -> str:
    """Return the key of a series of the run, or of one of its workers.

    >>> series_file("scalars"), series_file("val/loss", "3")
    ('series/scalars.jsonl', 'workers/3/series/val/loss.jsonl')
    """
    key = _below(SERIES, name, _JSON_LINES)
    if f"{_JSON_LINES}/" in key:
        raise KeyNameError(
            f"{quoted(str(name))} cannot be a series: a folder in it ends with {_JSON_LINES}, the suffix of a series "
            "file",
            key=key,
        )
    return key if rank is None else worker_file(rank, key)


def series_name(key: str) -> tuple[str | None, str] | None:
    """Return the rank of the worker and the name of a series from its key; None for other files.

    >>> series_name("series/scalars.jsonl"), series_name("workers/3/series/val/loss.jsonl"), series_name("log.txt")
    ((None, 'scalars'), ('3', 'val/loss'), None)
    """
    found = _SERIES.fullmatch(key)
    return None if found is None else (found[1], found[2])
