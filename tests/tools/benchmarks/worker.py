"""A contestant as the benchmark sees it: a process that receives a method name and answers with result and costs."""

from __future__ import annotations

import json
import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tools.benchmarks.environments import ROOT
from tests.tools.benchmarks.sites import Site

LONGEST = 240.0  # usual time limit of an answer in seconds


@dataclass(frozen=True)
class Answer:
    """Result and costs of one call.

    Attributes:
        refused: The reason if there is no result; it starts with ``failed`` unless the peer lacks the feature.
        seconds: Duration of the call.
        thread: Processor time of its thread in seconds, which other load on the machine hardly changes.
        process: Processor time of the process.
        value: Its return value.
        grown: Increase of the process's peak memory in MiB.
        requests: Requests, if they were counted.
    """

    refused: str = ""
    seconds: float = 0.0
    thread: float = 0.0
    process: float = 0.0
    value: Any = None
    grown: float = 0.0
    requests: int | None = None


class Worker:
    """The process of one contestant, until `close`."""

    def __init__(self, python: Path, peer: str, site: Site, longest: float = LONGEST) -> None:
        self._longest = longest
        self._said = Path(site.scratch, f"{peer}.txt".replace("/", "-"))
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [python, "-m", "tests.tools.benchmarks.child", peer],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=ROOT,
            )
        self._tell({"url": site.url, "options": site.options, "scratch": site.scratch})

    def ask(self, verb: str, *arguments: Any, count: bool = False) -> Answer:
        """Call a method and wait for the answer."""
        try:
            self._tell({"verb": verb, "arguments": arguments, "count": count})
            return Answer(**json.loads(self._line()))
        except (OSError, ValueError) as error:
            return Answer(refused=f"failed: {error}; it said: {self._said.read_text(errors='replace')[-500:]}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], self._longest)[0]:
            self._process.kill()
            raise TimeoutError(f"no answer for {self._longest:.0f} s")
        return self._process.stdout.readline()
