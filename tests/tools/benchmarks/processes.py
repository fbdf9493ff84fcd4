"""Whole processes, from their start to their end, that take turns."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.children import ChildError
from tests.servers import CLOUD_ENVIRONMENT
from tests.tools.benchmarks.environments import ROOT

__all__ = ["Command", "Ran", "run", "take_turns"]


@dataclass(frozen=True)
class Command:
    """A program with its arguments.

    Attributes:
        arguments: The program and its arguments.
        environment: Environment variables besides those of this process.
        before: A call before each start, which is not measured.
    """

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None


@dataclass(frozen=True)
class Ran:
    """One run of a command.

    Attributes:
        seconds: From its start to its end.
        processor: The processor time of the process, and of its children that have ended.
        output: Its standard output.
    """

    seconds: float
    processor: float
    output: str


def run(command: Command) -> Ran:
    """Run a command.

    Raises:
        ChildError: It ended with an error.
    """
    if command.before:
        command.before()
    environment = {**os.environ, **CLOUD_ENVIRONMENT, **command.environment}
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command.arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout
        with process.stdout:
            output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            shown = " ".join(map(str, command.arguments))[:200]
            end = said.read().decode(errors="replace").strip()[-500:]
            raise ChildError(f"{shown} ended with exit code {process.returncode}: {end}")
    return Ran(seconds, used.ru_utime + used.ru_stime, output.decode(errors="replace"))


def take_turns(
    commands: Mapping[str, Command], times: int, *, warm: int = 1
) -> tuple[dict[str, list[Ran]], dict[str, str]]:
    """Run all commands `times` times, each round in another order, after `warm` rounds that do not count.

    Returns:
        The samples by name, and by name the error of a command that failed. It is not started again.
    """
    samples: dict[str, list[Ran]] = {name: [] for name in commands}
    failed: dict[str, str] = {}
    names = list(commands)
    for turn in range(-warm, times):
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            if name in failed:
                continue
            try:
                sample = run(commands[name])
            except (ChildError, OSError) as error:
                failed[name] = f"failed: {error}"
            else:
                samples[name] += [sample] if turn >= 0 else []
    return {name: found for name, found in samples.items() if name not in failed}, failed
