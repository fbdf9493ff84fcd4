"""Facts about the job of this process, from the environment: Slurm, PBS, LSF and Grid Engine."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

from notata.errors import ConfigurationError

__all__ = ["job_of", "parsed_seconds", "seconds_left"]

_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9.-]+")
_CLOCK: Final = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def job_of(environment: Mapping[str, str]) -> str | None:
    """Return a name of the job array, or of the parallel job step, that this process belongs to; None without one.

    All processes of the job have the same name, also after the scheduler has started one of them again.

    >>> job_of({"SLURM_ARRAY_JOB_ID": "4711", "SLURM_JOB_ID": "4720"}), job_of({"PBS_JOBID": "17[3].server"})
    ('slurm-4711', 'pbs-17')
    """

    def found(name: str) -> str:
        return environment.get(name, "")

    cluster = f"{found('SLURM_CLUSTER_NAME')}-" if found("SLURM_CLUSTER_NAME") else ""
    if found("SLURM_ARRAY_JOB_ID"):
        return _name("slurm", cluster + found("SLURM_ARRAY_JOB_ID"))
    if found("SLURM_JOB_ID") and found("SLURM_STEP_ID").isdigit():
        return _name("slurm", f"{cluster}{found('SLURM_JOB_ID')}.{found('SLURM_STEP_ID')}")
    if "[" in found("PBS_JOBID"):
        return _name("pbs", found("PBS_JOBID").partition("[")[0])
    if found("LSB_JOBID") and found("LSB_JOBINDEX") not in ("", "0"):
        return _name("lsf", found("LSB_JOBID"))
    if found("JOB_ID") and found("SGE_TASK_ID") not in ("", "undefined"):
        return _name("sge", found("JOB_ID"))
    return None


def _name(scheduler: str, job: str) -> str:
    return f"{scheduler}-{_ILLEGAL.sub('-', job)}"[:100]


def seconds_left(environment: Mapping[str, str]) -> float | None:
    """Return the seconds until the end of the job, if the scheduler says so: Slurm does from version 23.02 on."""
    end = environment.get("SLURM_JOB_END_TIME", "")
    return float(end) - time.time() if end.isdigit() and end != "0" else None


def parsed_seconds(text: str) -> float:
    """Return a duration in seconds from a number of seconds, or from hours, minutes and seconds as for Slurm.

    Raises:
        ConfigurationError: The text is neither.

    >>> parsed_seconds("90"), parsed_seconds("3:50:00"), parsed_seconds("2:30"), parsed_seconds("1-00:00:00")
    (90.0, 13800.0, 150.0, 86400.0)
    """
    if found := _CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        if not days or found[2]:
            return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 0 <= number < 1e9:
        return number
    raise ConfigurationError(
        f"invalid duration {text!r}: write seconds, or hours, minutes and seconds such as 3:50:00; with days, "
        "1-12:00:00"
    )
