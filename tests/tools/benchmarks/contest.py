"""Contestants side by side: they take turns sample by sample, so that other load on the machine affects all equally."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.tools.benchmarks.peers import PEERS
from tests.tools.benchmarks.sites import Site, Sites
from tests.tools.benchmarks.sizes import Sizes
from tests.tools.benchmarks.worker import LONGEST, Answer, Worker

MISSING = "not installed"


@dataclass(frozen=True)
class Bench:
    """The environment of the measurements.

    Attributes:
        pythons: The interpreter of each existing environment.
        sizes: Sizes and repetitions.
        sites: The places to write to.
    """

    pythons: Mapping[str, Path]
    sizes: Sizes
    sites: Sites

    def known(self, peers: Iterable[str]) -> list[str]:
        """Return the given contestants that take part."""
        return [name for name in peers if PEERS[name].environment in self.pythons]

    def missing(self, peers: Iterable[str]) -> dict[str, str]:
        """Return the given contestants that take no part, with the reason."""
        return {name: MISSING for name in peers if PEERS[name].environment not in self.pythons}

    def program(self, environment: str, name: str) -> Path | None:
        """Return a program of an environment, None if it is not installed."""
        found = self.pythons[environment].parent / name if environment in self.pythons else None
        return found if found and found.exists() else None

    def contest(self, peers: Iterable[str], site: Site, longest: float = LONGEST) -> Contest:
        """Start a contest of the given contestants that take part, on one site. No answer takes more than `longest`."""
        wanted = list(peers)
        workers = {
            name: Worker(self.pythons[PEERS[name].environment], name, site, longest) for name in self.known(wanted)
        }
        return Contest(workers, self.missing(wanted))

    def say(self, text: str) -> None:
        """Print progress."""
        print(text, file=sys.stderr, flush=True)


class Contest:
    """Workers by name. A worker that refuses is left out afterwards.

    Attributes:
        refused: Who takes no part, and the reason.
    """

    def __init__(self, workers: dict[str, Worker], missing: Mapping[str, str] | None = None) -> None:
        self._workers = workers
        self._turn = 0
        self.refused: dict[str, str] = dict(missing or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers.values():
            worker.close()

    def each(self, verb: str, *arguments: Any, times: int = 1, count: bool = False) -> dict[str, list[Answer]]:
        """Take `times` samples of all; each round starts with a different worker."""
        answers: dict[str, list[Answer]] = {}
        for _ in range(times):
            for name in self._round():
                answers.setdefault(name, []).append(self.one(name, verb, *arguments, count=count))
        return {name: answers[name] for name in self._workers if name in answers and name not in self.refused}

    def _round(self) -> list[str]:
        names = [name for name in self._workers if name not in self.refused]
        self._turn += 1
        first = self._turn % max(1, len(names))
        return names[first:] + names[:first]

    def one(self, name: str, verb: str, *arguments: Any, count: bool = False) -> Answer:
        """Take one sample of one worker."""
        if name in self.refused:
            return Answer(refused=self.refused[name])
        answer = self._workers[name].ask(verb, *arguments, count=count)
        if answer.refused:
            self.refused[name] = answer.refused
        return answer
