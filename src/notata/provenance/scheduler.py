"""Record facts about the job of this process, from a fixed list of environment variables.

No other environment variable is ever recorded, as they can contain secrets.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from notata._base.secrets import redacted
from notata._base.terminal import one_line

__all__ = ["VARIABLES", "job_facts", "job_variables"]

_LONGEST: Final = 500  # characters of a value

_SLURM: Final = (
    "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME", "SLURM_CPUS_PER_TASK",
    "SLURM_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK", "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST", "SLURM_JOB_PARTITION", "SLURM_LOCALID", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE",
    "SLURM_NNODES", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID",
)  # fmt: skip
_MPI: Final = (
    "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
)  # fmt: skip
_OTHERS: Final = (
    "LSB_JOBID", "LSB_JOBINDEX", "LSB_QUEUE", "PBS_ARRAY_INDEX", "PBS_JOBID", "PBS_QUEUE",
)  # fmt: skip
_GRID_ENGINE: Final = ("JOB_ID", "SGE_TASK_ID")  # other programs use JOB_ID, too, so it needs its companion
_SETTINGS: Final = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")

VARIABLES: Final = (*_SLURM, *_MPI, *_OTHERS, *_GRID_ENGINE, *_SETTINGS)
"""The environment variables that can be recorded."""


def job_facts(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the facts by the name of their variable; None if there are none.

    Those of the job are read once for each process, as looking for all of them takes a tenth of a short run; a script
    may change the others between two runs.

    Args:
        environment: The variables.

    >>> job_facts({"OMP_NUM_THREADS": "4", "API_TOKEN": "x"})["OMP_NUM_THREADS"]
    '4'
    """
    facts = {**_facts_of_process(os.getpid()), **_facts(_SETTINGS, environment)}
    if (library := _mpi_library()) is not None:
        facts["mpi"] = library
    return facts or None


@functools.lru_cache(1)
def _facts_of_process(_pid: int) -> Mapping[str, str]:
    return job_variables(os.environ)


def job_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the facts about the job.

    >>> job_variables({"SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "API_TOKEN": "x", "JOB_ID": "5"})
    {'SLURM_JOB_ID': '4711', 'SLURM_PROCID': '0'}
    """
    grid_engine = _GRID_ENGINE if "SGE_TASK_ID" in environment else ()
    return _facts((*_SLURM, *_MPI, *_OTHERS, *grid_engine), environment)


def _facts(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    return {name: redacted(one_line(value, _LONGEST)) for name in names if (value := environment.get(name))}


def _mpi_library() -> str | None:
    """Return the version of MPI, if the process has imported mpi4py already."""
    module = sys.modules.get("mpi4py.MPI")
    if module is None:
        return None
    with suppress(Exception):
        return one_line(str(module.Get_library_version()).splitlines()[0].strip("\0 "), _LONGEST)
    return None
