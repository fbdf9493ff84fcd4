"""Tell child processes which run they belong to, and find that run in a child: the variables ``NOTATA_RUN…``.

References:
    Variables of ranks: ``OMPI_COMM_WORLD_RANK`` of Open MPI, ``PMI_RANK`` of PMI (MPICH, Intel MPI), ``PMIX_RANK`` of
    PMIx, ``SLURM_PROCID`` of Slurm.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from typing import Any, Final

from notata._base.secrets import is_secret_name, redacted

__all__ = ["RUN", "child_variables", "inherited_rank", "mpi_rank", "open_options", "process_rank", "public_options"]

RUN: Final = "NOTATA_RUN"
"""Environment variable: the URL of the run of the parent process, without credentials."""

OPTIONS: Final = "NOTATA_RUN_OPTIONS"
"""Environment variable: the storage options of that run as JSON, without secrets."""

OUTER: Final = "NOTATA_RUN_OUTER_RANKS"
"""Environment variable: the variables of ranks that were set outside of the run, so that they name none in it."""

_RANKS: Final = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
_SECRET: Final = ("key", "secret", "token", "user", "pass", "credential", "sas", "connection_string", "auth")
_LONGEST: Final = 100_000  # characters of the options


def child_variables(url: str, options: Mapping[str, Any] | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for the child processes of a run.

    Args:
        url: The location of the run, without credentials.
        options: The storage options of the run.
        environ: The environment of this process.

    >>> variables = child_variables("s3://b/log_a", {"endpoint_url": "http://h", "secret": "x"}, {"PMI_RANK": "0"})
    >>> variables["NOTATA_RUN"], variables["NOTATA_RUN_OPTIONS"]
    ('s3://b/log_a', '{"endpoint_url": "http://h"}')
    """
    outer = ",".join(name for name in _RANKS if name in environ)
    return {RUN: url, OPTIONS: json.dumps(public_options(options or {})), OUTER: outer}


def public_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without those that may be secret, by their name or their form, and without objects."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if not isinstance(name, str) or any(part in name.lower() for part in _SECRET):
            continue
        if isinstance(value, Mapping):
            found[name] = public_options(value)
        elif value is None or isinstance(value, bool | int | float) or _is_plain(name, value):
            found[name] = value
    return found


def _is_plain(name: str, value: object) -> bool:
    return isinstance(value, str) and not is_secret_name(name, value) and redacted(value) == value


def open_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the storage options that a parent process has passed on; empty if there are none."""
    text = environ.get(OPTIONS, "")
    if not text or len(text) > _LONGEST:
        return {}
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}


def inherited_rank(environ: Mapping[str, str], pid: int) -> str:
    """Return the rank of a process in the run of its parent: that of MPI or Slurm, or else host and process id.

    >>> inherited_rank({"OMPI_COMM_WORLD_RANK": "3"}, 1)
    '3'
    >>> inherited_rank({"SLURM_PROCID": "0", "NOTATA_RUN_OUTER_RANKS": "SLURM_PROCID"}, 4711).endswith("-4711")
    True
    """
    if rank := mpi_rank(environ):
        return rank
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40].strip("-")
    return f"{host or 'host'}-{pid}"


def mpi_rank(environ: Mapping[str, str]) -> str:
    """Return the rank that MPI or Slurm gave to a process within the run of its parent; empty if there is none."""
    outer = environ.get(OUTER, "").split(",")
    for name in _RANKS:
        rank = environ.get(name, "")
        if name not in outer and re.fullmatch("[0-9]{1,9}", rank):
            return rank
    return ""


def process_rank() -> str:
    """Return the rank of this process in the run of its parent."""
    return inherited_rank(os.environ, os.getpid())
