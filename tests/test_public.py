"""The public names, the cost of importing them, and the memory that a large value takes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import notata
from notata import Experiment, ExperimentReader, Logbook, LogReader, experiment, logbook, reader, search
from notata.run.parameters import Parameters
from tests.servers import Server
from tests.tools.memory import measure


def test_the_public_names() -> None:
    assert sorted(notata.__all__) == [
        "AccessError", "BatchError", "Capture", "Caught", "ConfigurationError", "ConflictError",
        "ContainerMissingError",
        "DamagedFileWarning", "DeadlineError", "DecodeError", "EncodeError", "ExistsError", "Experiment",
        "ExperimentReader", "FolderError", "FullError", "IncompleteListingWarning", "KeyNameError", "LinkError",
        "LogLine", "LogReader", "Logbook", "MirrorStorage", "MissingError", "NotataError", "PackageMissingError",
        "RunDisplacedError", "RunEndedError", "RunExistsError", "RunLog", "RunMissingError", "RunState", "Series",
        "SeriesData", "Storage", "StorageError", "StoredNameError", "SweepError", "SyncReport",
        "TooLargeError", "UnknownNameError", "UnprotectedWarning", "UnreachableError", "VerifyReport",
        "Worker", "__version__", "sync",
    ]  # fmt: skip
    assert all(hasattr(notata, name) for name in notata.__all__)


def test_the_public_names_of_search_and_their_arguments() -> None:
    assert sorted(search.__all__) == [
        "Alert", "Ancestor", "Check", "Comparison", "Content", "Curve", "Decision", "Description", "Difference",
        "Export", "FACTS", "File", "Files", "Lineage", "Link", "Look", "Match", "Overview", "Patterns", "Pinning",
        "Published", "Query", "Removal", "Report", "Retention", "Run", "RunTable", "Runs", "URLs",
        "Undelivered", "Usage", "Verdict", "Watcher", "Where", "compare", "contents", "curves", "decisions",
        "describe", "diagnose", "export", "follow", "grep", "lineage", "overviews", "pin", "publish", "removable",
        "removals", "remove", "report", "runs", "series", "show", "table", "tail", "trees", "unpin", "usage",
        "verdicts",
    ]  # fmt: skip
    for name in search.__all__:
        if inspect.isfunction(function := getattr(search, name)) and name != "removals":  # it takes runs instead
            parameters = inspect.signature(function).parameters
            assert parameters["storage_options"].kind is inspect.Parameter.KEYWORD_ONLY, name
            assert name == "diagnose" or "timeout" not in parameters, name
            assert parameters["storage_options"].annotation == "Mapping[str, Any] | None"
            assert ">>> " in (function.__doc__ or ""), name
    modules = [path.stem for path in Path(search.__path__[0]).glob("*.py")]
    assert not set(modules) & set(search.__all__)  # otherwise a function would hide a module


def test_the_names_of_the_logbook() -> None:
    assert sorted(name for name in dir(Logbook) if not name.startswith("_")) == [
        "array", "arrays", "artifactsdir", "attach", "bytes", "catch", "current", "datadir", "debug", "elapsed",
        "error", "exception", "file", "flush", "folder", "info", "input", "json", "local", "log_path", "mark_complete",
        "mark_failed", "meta", "mirror", "note", "open", "params", "path", "pickle", "plot", "plotdir", "reader",
        "save", "scalars", "series", "status", "text", "url", "warning", "worker",
    ]  # fmt: skip


def test_a_worker_cannot_end_its_run() -> None:
    names = {name for name in dir(notata.Worker) if not name.startswith("_")}
    of_life = {
        "attach", "catch", "elapsed", "mark_complete", "mark_failed", "meta", "mirror", "params", "status", "worker",
    }  # fmt: skip
    of_a_logbook = {name for name in dir(Logbook) if not name.startswith("_")}
    assert of_a_logbook - names == of_life | {"artifactsdir", "datadir", "plotdir"}
    assert names - of_a_logbook == {"close", "rank", "run_id"}


def test_the_names_of_the_readers_and_of_an_experiment() -> None:
    assert sorted(name for name in dir(LogReader) if not name.startswith("_")) == [
        "arrays", "artifacts", "files", "follow", "inputs", "load", "load_array", "load_arrays", "load_bytes",
        "load_json", "load_pickle", "load_table", "load_text", "local", "log", "meta", "output", "params", "path",
        "plots", "run_id", "series", "series_names", "state", "url", "verify",
    ]  # fmt: skip
    assert sorted(name for name in dir(ExperimentReader) if not name.startswith("_")) == [
        "index", "index_path", "meta", "name", "params", "path", "runs", "runs_path", "series", "table",
            "to_pandas", "url",
    ]  # fmt: skip
    assert sorted(name for name in dir(Experiment) if not name.startswith("_")) == [
        "add", "base_dir", "exp_dir", "index_file", "reader", "record", "run_id", "runs_dir", "select", "sweep",
        "to_dataframe", "url", "write_index",
    ]  # fmt: skip
    assert reader.LogReader is LogReader  # the modules keep their names
    assert reader.ExperimentReader is ExperimentReader
    assert logbook.Logbook is Logbook
    assert experiment.Experiment is Experiment


def test_the_arguments_have_the_order_of_the_original() -> None:
    arguments = list(inspect.signature(Logbook).parameters)
    assert arguments[:6] == ["run_id", "base_dir", "params", "overwrite", "preallocate", "callback"]
    assert list(inspect.signature(Logbook.pickle).parameters) == ["self", "name", "obj", "protocol"]
    assert list(inspect.signature(Logbook.text).parameters) == ["self", "name", "content"]
    assert list(inspect.signature(Logbook.json).parameters) == ["self", "name", "data"]
    assert list(inspect.signature(Logbook.bytes).parameters) == ["self", "name", "data"]
    assert list(inspect.signature(Logbook.note).parameters) == ["self", "message", "level"]
    assert list(inspect.signature(Logbook.mark_failed).parameters)[:2] == ["self", "reason"]
    assert list(inspect.signature(Logbook.array).parameters) == ["self", "name", "array"]
    assert list(inspect.signature(Logbook.arrays).parameters) == ["self", "name", "compressed", "arrays"]
    assert list(inspect.signature(Logbook.plot).parameters) == ["self", "name", "fig", "dpi", "formats"]
    assert list(inspect.signature(Parameters.__call__).parameters) == ["self", "ext", "values"]
    assert list(inspect.signature(Experiment).parameters)[:2] == ["name", "base_dir"]
    assert list(inspect.signature(Experiment.add).parameters) == ["self", "skip_existing", "params"]
    assert list(inspect.signature(Experiment.record).parameters) == ["self", "log", "metrics_file"]
    assert list(inspect.signature(LogReader).parameters)[:1] == ["path"]
    assert list(inspect.signature(ExperimentReader).parameters)[:1] == ["path"]
    log = Logbook(None, "memory://public")
    for name in ("run_id", "path", "callback", "log_path", "logger", "datadir", "plotdir", "artifactsdir"):
        assert hasattr(log, name)


def public_methods() -> Iterator[tuple[str, Any]]:
    for kind in (Logbook, notata.Worker, Experiment, LogReader, ExperimentReader, notata.store.Store):
        for name in dir(kind):
            value = getattr(kind, name)
            if callable(value) and not name.startswith("_"):
                yield f"{kind.__name__}.{name}", value


@pytest.mark.parametrize(("name", "method"), list(public_methods()))
def test_public_methods_are_documented(name: str, method: Any) -> None:
    assert method.__doc__, name
    if not name.startswith("Store") and not name.endswith((".mark_complete", ".mark_failed", ".table")):
        assert ">>> " in method.__doc__, name


def test_importing_is_light() -> None:
    code = "import sys, notata; print([name for name in sys.argv[1:] if name in sys.modules])"
    heavy = [
        "numpy",
        "yaml",
        "s3fs",
        "gcsfs",
        "matplotlib",
        "aiohttp",
        "botocore",
        "pandas",
        "pyarrow",
        "click",
        "pytest",
        "obstore",
        "polars",
        "PIL",
        "rich",
        "fsspec",  # so neither asyncio nor ssl: both are loaded with the first store
        "upath",
        "asyncio",
        "ssl",
        "csv",
        "decimal",
        "difflib",
        "fractions",
        "html",
        "sqlite3",
        "unittest",
        "uuid",
        "xml",
    ]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_on_a_disk_or_in_memory_imports_no_cloud(tmp_path: Path) -> None:
    code = (
        "import sys, notata\n"
        "for base in (sys.argv[1], 'memory://x'):\n"
        "    with notata.Logbook('a', base) as log:\n"
        "        log.text('t', 'x'); log.json('j', {}); log.pickle('p', 1); log.bytes('b', b'')\n"
        "print([name for name in ('numpy', 'yaml', 's3fs', 'gcsfs', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["local", "s3", "gcs"])
def test_a_large_pickle_needs_no_second_copy(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, options = str(tmp_path), {}
    if kind != "local":
        server: Server = request.getfixturevalue({"s3": "moto_server", "gcs": "gcs_server"}[kind])
        url, options = f"{server.url}/memory", server.options
    grown, size = measure(96, url, options)
    assert size > 96 * 2**20
    # Two parts of 8 MiB being filled, four in flight, and as many again where the network is slow.
    assert grown < (2 + 4 + 4 + 1) * 8, f"{grown} MiB more for a value of 96 MiB"
