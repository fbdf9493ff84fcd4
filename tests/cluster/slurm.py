"""A Slurm cluster of one node on this machine: munged, slurmctld and slurmd as processes, without systemd.

It needs the Debian packages slurmctld, slurmd, slurm-client and munge, whose services need not run. All files are in
one folder, and the servers listen on free ports of 127.0.0.1. No cgroups are used, and no accounting database.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import free_port

__all__ = ["Cluster", "cluster", "wait_until"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
_SECONDS = 60.0  # for a server to start
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
KillWait=30
MinJobAge=600
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        environment: The environment of its commands and jobs.
    """

    environment: dict[str, str]

    def run(self, *command: str, **environment: str) -> str:
        """Run a command of Slurm, and return its output."""
        done = subprocess.run(
            command,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, folder: Path, command: str, *options: str, **environment: str) -> str:
        """Submit a batch job that runs a command in a folder, and return its id; its output is in ``job-*.txt``."""
        script = folder / "job.sh"
        script.write_text(f"#!/bin/bash\n{command}\necho exit code $?\n")
        arguments = [*options, f"--chdir={folder}", f"--output={folder}/job-%A-%a.txt", str(script)]
        return self.run("sbatch", "--parsable", *arguments, **environment)

    def is_queued(self, job: str) -> bool:
        """Check whether a job, or a task of a job array, is pending or running."""
        done = subprocess.run(["squeue", "-h", "-j", job], env=self.environment, capture_output=True, check=False)
        return done.returncode == 0 and bool(done.stdout.strip())

    def wait(self, job: str, seconds: float = 240) -> None:
        """Wait until a job has ended."""
        wait_until(lambda: not self.is_queued(job), f"job {job} has not ended", seconds)


def wait_until(check: Callable[[], bool], problem: str, seconds: float = 60) -> None:
    """Wait until a check succeeds."""
    give_up = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < give_up, problem
        time.sleep(0.3)


@contextmanager
def cluster(folder: Path, processors: int = 6) -> Iterator[Cluster]:
    """Start a cluster with its files in a folder, and end its servers at the end of the block.

    Args:
        folder: An empty folder.
        processors: The number of jobs that run at once.
    """
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=_path())]
    assert not missing, f"{', '.join(missing)} not found: apt-get install slurmctld slurmd slurm-client munge"
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    host = os.uname().nodename.partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=host,
            controller=free_port(),
            node=free_port(),
            user=getpass.getuser(),
            folder=folder,
            processors=processors,
        )
    )
    found = Cluster({**os.environ, "SLURM_CONF": str(configuration), "PATH": _path()})
    munge = [f"--{name}={folder}/munge.{end}" for name, end in _MUNGE.items()]
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", "--num-threads=2", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D"],
        ):
            stack.enter_context(_server(command, folder, found.environment))
            if command[0] == "munged":
                wait_until((folder / "munge.socket").exists, "munged does not start", _SECONDS)
        wait_until(lambda: _is_idle(found), f"the node does not start; see {folder}/*.txt", _SECONDS)
        yield found


_MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _is_idle(found: Cluster) -> bool:
    done = subprocess.run(
        ["sinfo", "-h", "-o", "%t"], env=found.environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() == "idle"


@contextmanager
def _server(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Start a server, and end it at the end of the block."""
    with open(folder / f"{command[0]}.txt", "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
