"""notata in this version, with its different options."""

from __future__ import annotations

import sys
import uuid
import warnings
from typing import Any, ClassVar

from tests.tools.benchmarks.peers.base import LINES, METRICS, PARAMS, Peer, UnavailableError, payload, row
from tests.tools.benchmarks.sites import Site


class Notata(Peer):
    """A run with default options."""

    arguments: ClassVar[dict[str, Any]] = {}
    engine: ClassVar[dict[str, Any]] = {}

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.options = site.options | self.engine
        self.base: Any = site.url
        self.log: Any = None

    def begin(self) -> None:
        from notata import UnprotectedWarning

        warnings.simplefilter("ignore", UnprotectedWarning)  # accept the fast server, which is measured and not chosen
        self.log = self._logbook({"omega": 2.0})

    def _logbook(self, params: dict[str, Any]) -> Any:
        from notata import Logbook

        options = self.options or None
        return Logbook(uuid.uuid4().hex, self.base, params, storage_options=options, **self.arguments)

    def end(self) -> None:
        if self.log is not None:
            self.log.mark_complete()

    def store(self, number: int) -> None:
        self.log.json(f"a{number}", payload(number))

    def add(self, number: int) -> None:
        self.log.scalars(step=number, **row(number))

    def settle(self) -> None:
        self.log.flush()

    def run_once(self, number: int) -> None:
        with self._logbook(PARAMS | {"seed": number}) as log:
            for step in range(LINES):
                log.info("step %7d residual %.6e", step, 1.0 / (step + 1))
            log.json("metrics", METRICS)

    def series(self) -> str:
        """Return the path of the series that `rows` wrote."""
        return str(self.log.path / "series" / "scalars.jsonl")

    def count_rows(self, count: int) -> dict[str, Any]:
        """Add rows to a series in a bucket as fast as possible; return what was sent for them."""
        from tests.backends import Place
        from tests.tools.lines import measure_rows, wanted_rows

        cost = measure_rows(Place("bucket", self.site.url, self.options), count)
        whole = cost.lines == wanted_rows(count)
        return {"size": cost.size, "sent": cost.sent, "requests": cost.requests, "whole": whole}

    def read_rows(self, path: str) -> float:
        from notata import LogReader

        found = LogReader(path.rpartition("/series/")[0]).series("scalars")
        return float(found["c"].sum())

    def log_lines(self, count: int) -> None:
        """Log this number of lines, one after another."""
        for step in range(count):
            self.log.info("step %7d residual %.6e", step, 1.0 / (step + 1))

    def value(self) -> None:
        self.log.bytes("value", self.data)

    def verify(self) -> None:
        """Compare all files of the run with its manifest."""
        from notata import LogReader

        LogReader(str(self.log.path)).verify()

    def up(self, form: str) -> str:
        if form == "npy":
            self.log.array("large", self.array)
        else:
            self.log.pickle("large", self.array)
        return str(self.log.url)

    def down(self, form: str, where: str) -> None:
        from notata import LogReader

        reader = LogReader(where, storage_options=self.options)
        self.found = reader.load_array("large") if form == "npy" else reader.load_pickle("large")

    def lines(self, count: int) -> dict[str, Any]:
        from tests.backends import Place
        from tests.tools.lines import measure, wanted

        cost = measure(Place("bucket", self.site.url, self.options), count)
        whole = cost.lines == wanted(count)
        return {"size": cost.size, "sent": cost.sent, "requests": cost.requests, "whole": whole}

    def slow_lines(self, count: int, pause: float) -> dict[str, Any]:
        """Log lines with a simulated clock: a line, then `pause` seconds in which due lines are stored."""
        from notata.store import open_store
        from tests.counting import counted
        from tests.tools.benchmarks.peers.slowly import logged

        store = open_store(f"{self.site.url}/{uuid.uuid4().hex}", self.options)
        with counted() as sent:
            seconds = logged(store.appender("log.txt", new=True), count, pause)
        stored = store.read("log.txt")
        whole = stored.count(b"\n") == count
        return {"size": len(stored), "sent": sent.bytes, "requests": len(sent), "whole": whole, "seconds": seconds}

    def fill(self, runs: int, index: bool) -> str:
        """Create the experiment for the read: written in memory, copied by plain fsspec, index.csv by notata."""
        import fsspec

        from notata import Experiment

        name = uuid.uuid4().hex
        experiment = Experiment(name, "memory://runs")
        for number in range(runs):
            with experiment.add(dt=number / runs, scheme="leapfrog") as log:
                log.json("metrics", {"error": number**2, "steps": 10 * number})
        memory, bucket = fsspec.filesystem("memory"), fsspec.filesystem(self.site.protocol, **self.site.options)
        files = {
            path: memory.cat_file(path) for path in memory.find(f"/runs/{name}") if not path.endswith("/index.csv")
        }
        where = f"{self.site.url}/{name}"
        bucket.pipe({where + path.removeprefix(f"/runs/{name}"): data for path, data in files.items()})
        if index:
            Experiment(name, self.site.url, storage_options=self.options).write_index()
        return where

    def table(self, where: str, few: int) -> int:
        from notata import ExperimentReader

        return len(ExperimentReader(where, storage_options=self.options).table())


class InBackground(Notata):
    """Writes return when they are queued; `flush` waits for all."""

    arguments: ClassVar[dict[str, Any]] = {"background": True}

    def begin(self) -> None:
        import inspect

        from notata import Logbook

        if "background" not in inspect.signature(Logbook).parameters:
            raise UnavailableError("this Logbook has no background=True")
        super().begin()

    def many(self, count: int, few: int) -> int:
        self.artifacts(count)
        self.log.flush()
        return count


class WithoutCode(Notata):
    """Without the files below code/."""

    arguments: ClassVar[dict[str, Any]] = {"code": False}


class WithoutEnvironment(Notata):
    """Without the environment in metadata.json."""

    arguments: ClassVar[dict[str, Any]] = {"environment": False}


class WithoutManifest(Notata):
    """Without a manifest."""

    arguments: ClassVar[dict[str, Any]] = {"manifest": False}


class Durable(Notata):
    """Each call waits for the disk."""

    def __init__(self, site: Site) -> None:
        from notata import Storage

        super().__init__(site)
        self.base = Storage(site.url, durable=True)


class ManyAtOnce(Notata):
    """`Store.write_many`, without a run."""

    def many(self, count: int, few: int) -> int:
        from notata.formats import JSON
        from notata.store import open_store

        files = {f"a{number}.json": _encoded(JSON, payload(number)) for number in range(count)}
        open_store(f"{self.site.url}/{uuid.uuid4().hex}", self.options).write_many(files)
        return count


class Obstore(Notata):
    """Through obstore instead of s3fs."""

    engine: ClassVar[dict[str, Any]] = {"engine": "obstore"}

    def begin(self) -> None:
        from notata import ConfigurationError

        try:
            super().begin()
        except ConfigurationError as error:
            raise UnavailableError("this notata refuses the engine obstore") from error
        if "obstore" not in sys.modules:
            raise UnavailableError("this version of notata does not support the engine obstore")


class ObstoreInBackground(Obstore, InBackground):
    """With obstore and in the background."""


def _encoded(form: Any, value: object) -> bytes:
    import io

    file = io.BytesIO()
    form.write(value, file)
    return file.getvalue()
