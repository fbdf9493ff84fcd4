"""Sampling the system: each metric from fakes, the thread with a fake clock, and the rows that a run stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from notata import ConfigurationError, Experiment, Logbook, PackageMissingError, RunDisplacedError, Worker, search
from notata.run.monitor import Monitor, cgroup, interval_of, thread
from notata.run.monitor.gpus import gpu_probes
from notata.run.monitor.metrics import Growth, Machine, Metrics, ProcessTree
from notata.run.monitor.thread import Clocks
from tests.backends import Place

A_DAY = 86400
GIB = 2**30


class Warnings(list[str]):
    """Collects warnings, formatted as `logging` does."""

    def __call__(self, message: str, *args: object) -> None:
        self.append(message % args)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the last sample, however busy the machine is."""
    monkeypatch.setattr(thread, "LAST", 60.0)


# -- the argument ------------------------------------------------------------------------------------------


def test_the_interval() -> None:
    assert [interval_of(value) for value in (None, False, 0, True, 5, 0.5)] == [None, None, None, 10.0, 5.0, 0.5]


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "10", [10]])
def test_an_invalid_interval_begins_no_run(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid monitor .*: pass the seconds between two samples"):
        Logbook("a", tmp_path, monitor=wrong)
    assert list(tmp_path.iterdir()) == []


def test_without_psutil_no_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(PackageMissingError) as caught:
        Logbook("a", tmp_path, monitor=True)
    assert str(caught.value) == "monitor= needs psutil: pip install 'psutil>=5.9.4' (the extra 'system')"
    assert list(tmp_path.iterdir()) == []
    Logbook("a", tmp_path).mark_complete()


# -- control groups ----------------------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Return a function that writes the files of control groups, and /proc/self/cgroup."""

    def write(own: str, **files: str) -> tuple[str, str]:
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "own").write_text(own)
        return str(tmp_path / "cgroup"), str(tmp_path / "own")

    return write


def test_the_lowest_limit_of_version_2_holds(groups: Callable[..., tuple[str, str]]) -> None:
    files = {
        "job/memory.max": f"{4 * GIB}\n",
        "job/step/memory.max": "max\n",
        "job/cpu.max": "max 100000\n",
        "job/step/cpu.max": "150000 100000\n",
    }
    places = groups("0::/job/step\n", **files)
    assert cgroup.memory_limit(*places) == 4 * GIB
    assert cgroup.cpu_limit(*places) == 1.5


def test_the_lowest_limit_of_version_1_holds(groups: Callable[..., tuple[str, str]]) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/slurm/job_7/memory.limit_in_bytes": f"{2 * GIB}\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/slurm/cpu.cfs_quota_us": "400000\n",
        "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000\n",
    }
    places = groups("5:cpu,cpuacct:/slurm\n4:memory:/slurm/job_7\n1:name=systemd:/slurm\n", **files)
    assert cgroup.memory_limit(*places) == 2 * GIB
    assert cgroup.cpu_limit(*places) == 4


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/\n", "memory.max"),
        ("4:memory:/docker/0a1b\n", "memory/memory.limit_in_bytes"),  # the path on the host
        ("0::/../../other\n", "memory.max"),
        ("4:memory:/\n0::/job\n", "unified/job/memory.max"),
    ],
)
def test_the_limit_of_a_container(groups: Callable[..., tuple[str, str]], own: str, file: str) -> None:
    assert cgroup.memory_limit(*groups(own, **{file: str(GIB)})) == GIB


@pytest.mark.parametrize("text", ["max", "", "x", "0 0"])
def test_without_a_limit(groups: Callable[..., tuple[str, str]], text: str) -> None:
    places = groups("0::/job\n", **{"job/memory.max": text, "job/cpu.max": text})
    assert cgroup.memory_limit(*places) is None
    assert cgroup.cpu_limit(*places) is None
    assert cgroup.memory_limit(places[0], places[1] + "-missing") is None


# -- processes and machine ---------------------------------------------------------------------------------


class GoneError(Exception):
    pass


class Times(NamedTuple):
    user: float
    system: float = 0.0
    children_user: float = 0.0
    children_system: float = 0.0
    iowait: float = 99.0


class FakeProcess:
    def __init__(self, times: Times, rss: int = 0, files: int = 0, read: int = 0, written: int = 0) -> None:
        self.times = times
        self.rss = rss
        self.files = files
        self.bytes = SimpleNamespace(read_bytes=read, write_bytes=written)
        self.found: list[FakeProcess] = []
        self.is_gone = False

    def children(self, *, recursive: bool) -> list[FakeProcess]:
        assert recursive
        return list(self.found)

    def _checked(self, value: Any) -> Any:
        if self.is_gone:
            raise GoneError
        return value

    def cpu_times(self) -> Times:
        times: Times = self._checked(self.times)
        return times

    def memory_info(self) -> Any:
        return self._checked(SimpleNamespace(rss=self.rss))

    def num_fds(self) -> int:
        files: int = self._checked(self.files)
        return files

    def io_counters(self) -> Any:
        return self._checked(self.bytes)


class Tree:
    """A fake process tree with a clock."""

    def __init__(self, own: FakeProcess) -> None:
        self.now = 0.0
        psutil = SimpleNamespace(Error=GoneError, Process=lambda: own)
        self.tree = ProcessTree(psutil, clock=lambda: self.now)

    def cpu(self, seconds: float) -> object:
        self.now += seconds
        self.tree.find()
        return self.tree.cpu().get("cpu_percent")


def test_the_values_of_all_processes_are_added() -> None:
    own, child = FakeProcess(Times(5.0), rss=100, files=3), FakeProcess(Times(1.0), rss=20, files=2)
    hidden = FakeProcess(Times(1.0), rss=7)
    hidden.is_gone = True
    own.found = [child, hidden]
    tree = Tree(own).tree
    assert tree.find() == {"processes": 3}
    assert tree.memory() == {"memory_bytes": 120}
    assert tree.open_files() == {"open_files": 5}


def test_the_processor_time_of_children_that_ended_counts_too() -> None:
    own, child = FakeProcess(Times(user=5.0, system=1.0)), FakeProcess(Times(1.0))
    own.found = [child]
    tree = Tree(own)
    assert tree.cpu(0) is None  # nothing to compare with
    own.times, child.times = Times(7.0, 1.0), Times(4.0)
    assert tree.cpu(10) == 50.0
    own.times, own.found = Times(7.0, 1.0, children_user=8.0, children_system=1.0), []  # the child used 5 more
    assert tree.cpu(10) == 50.0
    own.times = Times(7.5, 1.0, 8.0, 1.0)
    assert tree.cpu(0.05) is None  # too short, and not lost
    assert tree.cpu(0.95) == 50.0


def test_a_child_that_ends_while_the_tree_is_read_makes_no_peak() -> None:
    own, child = FakeProcess(Times(0.0)), FakeProcess(Times(3600.0))
    own.found = [child]
    tree = Tree(own)
    tree.cpu(0)
    child.is_gone = True  # its parent was read before it got the time of the child
    assert tree.cpu(10) == 0.0
    own.found, own.times = [], Times(1.0, children_user=3600.0)
    assert tree.cpu(10) == 10.0


def test_a_child_that_leaves_the_tree_is_forgotten() -> None:
    own, child = FakeProcess(Times(0.0)), FakeProcess(Times(3600.0))
    own.found = [child]
    tree = Tree(own)
    tree.cpu(0)
    own.found = []
    assert [tree.cpu(10), tree.cpu(10)] == [0.0, 0.0]
    own.times = Times(5.0)
    assert tree.cpu(10) == 50.0


def test_bytes_read_and_written_count_from_the_start() -> None:
    own = FakeProcess(Times(0.0), read=1000, written=10)
    tree = Tree(own).tree
    assert tree.disk() == {"disk_read_bytes": 0, "disk_written_bytes": 0}
    own.bytes = SimpleNamespace(read_bytes=1500, write_bytes=10)
    assert tree.disk() == {"disk_read_bytes": 500, "disk_written_bytes": 0}


def test_growth_of_integers_stays_an_integer() -> None:
    growth = Growth()
    assert repr([growth.add(counter) for counter in (7, 9)]) == "[0, 2]"


class CPU(NamedTuple):
    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    guest: float


def test_the_processors_of_the_machine() -> None:
    psutil = SimpleNamespace(cpu_times=lambda: CPU(100, 0, 0, 100, 0, 50), virtual_memory=lambda: None)
    machine = Machine(psutil)
    assert machine.cpu() == {}
    psutil.cpu_times = lambda: CPU(104, 1, 1, 112, 2, 54)  # 6 of 20 s busy; `user` includes `guest`
    assert machine.cpu() == {"machine_cpu_percent": 30.0}
    psutil.virtual_memory = lambda: SimpleNamespace(percent=41.5)
    assert machine.memory() == {"machine_memory_percent": 41.5}


def interfaces(**received: int) -> Callable[..., dict[str, Any]]:
    def counters(*, pernic: bool, nowrap: bool) -> dict[str, Any]:
        assert (pernic, nowrap) == (True, False)
        return {name: SimpleNamespace(bytes_recv=number, bytes_sent=2 * number) for name, number in received.items()}

    return counters


@pytest.mark.parametrize(("physical", "expected"), [([], 5 + 7), (["eth0"], 5)])
def test_the_network_without_loopback_and_with_physical_interfaces(
    tmp_path: Path, physical: list[str], expected: int
) -> None:
    for name in ("lo", "eth0", "docker0"):
        (tmp_path / name).mkdir()
    for name in physical:
        (tmp_path / name / "device").mkdir()
    psutil = SimpleNamespace(net_io_counters=interfaces(lo=10, eth0=100, docker0=100))
    machine = Machine(psutil, sys_net=str(tmp_path))
    assert machine.network() == {"network_received_bytes": 0, "network_sent_bytes": 0}
    psutil.net_io_counters = interfaces(lo=90, eth0=105, docker0=107)
    assert machine.network() == {"network_received_bytes": expected, "network_sent_bytes": 2 * expected}


# -- GPUs --------------------------------------------------------------------------------------------------


class FakeNVML(ModuleType):
    """The functions of `pynvml` that notata calls, for GPUs with the serial numbers 0, 1, …"""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801
        pass

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801
        pass

    class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801
        pass

    def __init__(self, count: int = 2, init: Exception | None = None) -> None:
        super().__init__("pynvml")
        self.count = count
        self.init = init
        self.users = 0
        self.power: Exception | None = None

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init is not None:
            raise self.init
        self.users += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= self.count:
            raise self.NVMLError("invalid argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return self.nvmlDeviceGetHandleByIndex(int(uuid.partition("-")[2]))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=90 + handle, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=(handle + 1) * GIB, free=0, total=80 * GIB)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return 60 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if self.power is not None:
            raise self.power
        return 250_500 + handle


def read(nvml: FakeNVML, visible: str | None = None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for probe in gpu_probes(nvml, visible).values():
        values |= probe()
    return values


def test_the_metrics_of_each_gpu() -> None:
    nvml = FakeNVML()
    assert read(nvml) == {
        "gpu0_percent": 90,
        "gpu0_memory_bytes": GIB,
        "gpu0_memory_total_bytes": 80 * GIB,
        "gpu0_celsius": 60,
        "gpu0_watts": 250.5,
        "gpu1_percent": 91,
        "gpu1_memory_bytes": 2 * GIB,
        "gpu1_memory_total_bytes": 80 * GIB,
        "gpu1_celsius": 61,
        "gpu1_watts": 250.501,
    }
    assert nvml.users == 1


@pytest.mark.parametrize(
    ("visible", "serials"),
    [
        (None, [0, 1, 2, 3]),
        ("2", [2]),
        ("3, 1", [3, 1]),
        ("GPU-2,MIG-0", [2, 0]),
        ("1,9,0", [1]),
        ("1,-1,0", [1]),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_gpus_that_cuda_shows_are_counted_from_zero(visible: str | None, serials: list[int]) -> None:
    nvml = FakeNVML(4)
    values = read(nvml, visible)
    assert [values[f"gpu{number}_percent"] - 90 for number in range(len(values) // 5)] == serials
    assert nvml.users == (1 if serials else 0)


@pytest.mark.parametrize("kind", ["LibraryNotFound", "DriverNotLoaded"])
def test_without_an_nvidia_driver_there_are_no_columns(kind: str) -> None:
    assert gpu_probes(FakeNVML(init=getattr(FakeNVML, f"NVMLError_{kind}")())) == {}


def test_nvml_is_shut_down_if_the_gpus_cannot_be_listed() -> None:
    nvml = FakeNVML(4)
    nvml.nvmlDeviceGetHandleByIndex = nvml.nvmlDeviceGetHandleByUUID  # type: ignore[method-assign,assignment]
    with pytest.raises(AttributeError):  # an index is no UUID
        gpu_probes(nvml)
    assert nvml.users == 0


def test_a_metric_that_a_gpu_does_not_have_is_left_out() -> None:
    nvml = FakeNVML(1)
    nvml.power = nvml.NVMLError_NotSupported()
    assert sorted(read(nvml)) == ["gpu0_celsius", "gpu0_memory_bytes", "gpu0_memory_total_bytes", "gpu0_percent"]


def test_the_temperature_with_a_later_nvml() -> None:
    nvml = FakeNVML(1)
    del FakeNVML.nvmlDeviceGetTemperature
    try:
        vars(nvml)["nvmlDeviceGetTemperatureV"] = lambda handle, sensor: 71 + handle
        assert read(nvml)["gpu0_celsius"] == 71
    finally:
        FakeNVML.nvmlDeviceGetTemperature = lambda self, handle, sensor: 60 + handle  # type: ignore[method-assign]


# -- metrics and thread ------------------------------------------------------------------------------------


def test_a_metric_that_fails_is_left_out_with_one_warning() -> None:
    warnings = Warnings()
    results: Iterator[Any] = iter([OSError("busy"), OSError("busy"), {"a": 1}, OSError("busy")])

    def failing() -> Mapping[str, float]:
        found = next(results)
        if isinstance(found, Exception):
            raise found
        values: Mapping[str, float] = found
        return values

    metrics = Metrics({"a": failing, "b": lambda: {"b": 2, "c": None}}, warnings)
    assert [metrics.sample() for _ in range(4)] == [{"b": 2}, {"b": 2}, {"a": 1, "b": 2}, {"b": 2}]
    assert warnings == ["The metric a cannot be read: OSError: busy"]


class FakeClocks(Clocks):
    """Time passes only while the thread waits or samples."""

    def __init__(self, rounds: int) -> None:
        self.time = self.cpu = 0.0
        self.pauses: list[float | None] = []
        self.rounds = rounds
        super().__init__(lambda: self.time, lambda: self.cpu, self)

    def set(self) -> None:
        self.rounds = 0

    def wait(self, seconds: float | None = None) -> bool:
        self.pauses.append(seconds)
        self.time += seconds or 0
        self.rounds -= 1
        return self.rounds <= 0


class Sampled:
    """A monitor with fake clocks, and the rows that it adds."""

    def __init__(self, rounds: int, *, cost: float = 0.0, error: Exception | None = None) -> None:
        self.clocks = FakeClocks(rounds)
        self.warnings = Warnings()
        self.rows: list[tuple[float, Mapping[str, Any]]] = []
        self.closed = 0
        self.cost = cost
        self.error = error
        self.monitor = Monitor(10, self.metrics, add=self.add, warn=self.warnings, clocks=self.clocks)

    def metrics(self) -> Metrics:
        return Metrics({"n": self.probe}, self.warnings, self.close)

    def probe(self) -> Mapping[str, float]:
        self.clocks.time += self.cost
        self.clocks.cpu += self.cost
        return {"n": 1}

    def add(self, values: Mapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.rows.append((self.clocks.time, values))

    def close(self) -> None:
        self.closed += 1


def test_a_row_at_the_start_every_interval_and_at_the_end() -> None:
    sampled = Sampled(3, cost=0.02)
    sampled.monitor.work()
    assert [round(time, 2) for time, _ in sampled.rows] == [0.02, 10.02, 20.02, 30.02]
    assert sampled.rows[0][1] == {"n": 1}
    assert (sampled.closed, sampled.warnings) == (1, [])


def test_an_expensive_sample_waits_so_long_that_it_takes_one_percent() -> None:
    sampled = Sampled(2, cost=0.5)
    sampled.monitor.work()
    assert sampled.clocks.pauses == [pytest.approx(50), pytest.approx(50)]


def test_after_stop_there_is_no_row() -> None:
    sampled = Sampled(1)
    sampled.monitor.stop()
    sampled.monitor.work()
    assert (sampled.rows, sampled.closed) == ([], 1)


def test_a_sample_during_which_the_run_ends_is_dropped() -> None:
    sampled = Sampled(1)
    monitor = Monitor(
        10,
        lambda: Metrics({"n": lambda: [monitor.stop(), {"n": 1}][1]}, sampled.warnings),  # type: ignore[dict-item,func-returns-value,return-value]
        add=sampled.add,
        warn=sampled.warnings,
        clocks=sampled.clocks,
    )
    monitor.work()
    assert sampled.rows == []


def test_a_displaced_run_is_no_longer_sampled() -> None:
    sampled = Sampled(9, error=RunDisplacedError("gone"))
    sampled.monitor.work()
    assert (sampled.clocks.pauses, sampled.closed, sampled.warnings) == ([], 1, [])


def test_rows_that_cannot_be_added_make_one_warning() -> None:
    sampled = Sampled(3, error=OSError("full"))
    sampled.monitor.work()
    assert sampled.warnings == ["A sample of the system was not stored: OSError: full"]
    assert len(sampled.clocks.pauses) == 3


def test_metrics_that_cannot_begin_make_one_warning() -> None:
    def fail() -> Metrics:
        raise OSError("no /proc")

    warnings = Warnings()
    Monitor(10, fail, add=print, warn=warnings).work()
    assert warnings == ["The system is no longer monitored: OSError: no /proc"]


# -- runs --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path / "runs"))


def rows(place: Place, key: str = "log_run/series/system.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.bytes(key).decode().splitlines()]


def summary(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.bytes("log_run/metadata.json"))["series_summary"]["system"]
    return found


def monitors() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == thread.THREAD]


def assert_monitors_end() -> None:
    """Wait for threads that have taken their last sample."""
    for one in monitors():
        one.join(60)
    assert monitors() == []


ALWAYS = {
    "processes", "cpu_limit_percent", "memory_bytes", "memory_limit_bytes", "machine_memory_percent", "open_files",
    "disk_read_bytes", "disk_written_bytes", "network_received_bytes", "network_sent_bytes", "load",
}  # fmt: skip


@pytest.mark.usefixtures("patient")
def test_a_short_run_has_two_rows_and_its_peaks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with place.logbook(monitor=A_DAY) as log:
        ballast = b"x" * 50_000_000
        assert len(ballast) == 50_000_000
    first, last = rows(place)
    assert (first["step"], last["step"]) == (0, 1)
    own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert own / 3 < last["memory_bytes"] < 3 * own + len(ballast)
    expected = ALWAYS | ({"disk_free_bytes"} if place.name == "local" else set())
    assert set(first) - {"step", "time"} == expected
    assert set(last) - {"step", "time"} - {"cpu_percent", "machine_cpu_percent"} == expected
    assert all(type(value) in (int, float) for value in last.values())
    assert summary(place)["rows"] == 2
    memory = summary(place)["columns"]["memory_bytes"]
    assert memory["max"] == max(first["memory_bytes"], last["memory_bytes"])
    assert 0 < last["cpu_limit_percent"] <= 100 * len(os.sched_getaffinity(0))
    assert log.reader.series("system")["memory_bytes"].tolist() == [first["memory_bytes"], last["memory_bytes"]]
    assert [line for line in place.log() if line.startswith("WARNING")] == []
    assert log.reader.verify().ok
    assert_monitors_end()


@pytest.mark.usefixtures("patient")
def test_a_run_that_fails_has_its_last_row_too(place: Place) -> None:
    with pytest.raises(ZeroDivisionError), place.logbook(monitor=A_DAY):
        raise ZeroDivisionError
    assert len(rows(place)) == summary(place)["rows"] == 2
    assert_monitors_end()


@pytest.mark.usefixtures("patient")
def test_a_resumed_run_goes_on_with_the_steps(place: Place) -> None:
    place.logbook(monitor=A_DAY).mark_failed("preempted")
    place.logbook(monitor=A_DAY, resume=True).mark_complete()
    assert [(row["step"], row.get("try", 0)) for row in rows(place)] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert summary(place)["columns"]["memory_bytes"]["count"] == 4


def test_without_monitor_there_is_no_thread(place: Place) -> None:
    before = monitors()  # those of other tests may still be ending
    with place.logbook():
        assert set(monitors()) <= set(before)
    assert not any("series" in name for name in place.names())


@pytest.mark.usefixtures("patient")
def test_gpus_of_a_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNVML(4)
    nvml.power = nvml.NVMLError("GPU is lost")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    place.logbook(monitor=A_DAY).mark_complete()
    names = [name for name in rows(place)[-1] if name.startswith("gpu")]
    assert names == ["gpu0_percent", "gpu0_memory_bytes", "gpu0_memory_total_bytes", "gpu0_celsius"]
    assert summary(place)["columns"]["gpu0_memory_bytes"]["max"] == 4 * GIB
    warnings = [line for line in place.log() if line.startswith("WARNING")]
    assert warnings == ["WARNING The metric gpu0_watts cannot be read: NVMLError: GPU is lost"]
    assert nvml.users == 0


@pytest.mark.usefixtures("patient")
def test_gpus_that_cannot_be_initialized_make_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML(init=FakeNVML.NVMLError("version mismatch")))
    place.logbook(monitor=A_DAY).mark_complete()
    assert "WARNING The GPUs cannot be read: NVMLError: version mismatch" in place.log()
    assert len(rows(place)) == 2


@pytest.mark.usefixtures("patient")
def test_a_table_has_the_peaks(place: Place) -> None:
    experiment = Experiment("sweep", place.url, monitor=A_DAY)
    experiment.add(dt=0.1).mark_complete()
    peak = experiment.reader.table()[0]["system.memory_bytes.max"]
    run_id = experiment.run_id(dt=0.1)
    found = rows(place, f"sweep/runs/log_{run_id}/series/system.jsonl")
    assert peak == max(row["memory_bytes"] for row in found)


@pytest.mark.usefixtures("patient")
def test_a_worker_samples_its_own_process(place: Place) -> None:
    with place.logbook() as log:
        worker = Worker(log.url, 1, monitor=A_DAY)
        assert monitors()
        worker.close()
        assert_monitors_end()
        assert [row["step"] for row in rows(place, "log_run/workers/1/series/system.jsonl")] == [0, 1]
        worker.info("still writes")
        worker.close()
        assert len(rows(place, "log_run/workers/1/series/system.jsonl")) == 2


# -- exits and forks ---------------------------------------------------------------------------------------


def run(script: str, tmp_path: Path) -> str:
    """Run a script, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


FORK = """
import os, sys, threading
from notata import Logbook
from notata.run.monitor import thread
thread.LAST = 60.0
log = Logbook("run", sys.argv[1], monitor=86400)
pid = os.fork()
if not pid:
    print([one.name for one in threading.enumerate()], flush=True)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
log.mark_complete()
"""


def test_a_forked_child_samples_nothing(tmp_path: Path) -> None:
    assert run(FORK, tmp_path) == "['MainThread']\n"
    assert len(rows(Place("local", str(tmp_path)))) == 2


LEFT_OPEN = """
import sys
from notata import Logbook
from notata.run.monitor import thread
thread.LAST = 60.0
log = Logbook("run", sys.argv[1], monitor=86400)
"""


def test_a_run_that_ends_with_the_interpreter_has_its_last_row(tmp_path: Path) -> None:
    run(LEFT_OPEN, tmp_path)
    place = Place("local", str(tmp_path))
    assert len(rows(place)) == summary(place)["rows"] == 2


UNUSED = """
import sys
from notata import Logbook, LogReader
with Logbook("run", sys.argv[1], monitor=False) as log:
    log.scalars(loss=1.0)
LogReader(log.url).series()
print([name for name in ("psutil", "pynvml", "notata.run.monitor.metrics") if name in sys.modules])
"""


def test_without_monitor_its_packages_are_not_imported(tmp_path: Path) -> None:
    assert run(UNUSED, tmp_path) == "[]\n"


SIGTERM = """
import os, signal, sys
from notata import Logbook
from notata.run.monitor import thread
thread.LAST = 60.0
try:
    with Logbook("run", sys.argv[1], monitor=86400, handle_sigterm=True) as log:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
except SystemExit:
    print(log.status)
"""


def test_sigterm_leaves_the_last_row_and_the_peaks(tmp_path: Path) -> None:
    assert run(SIGTERM, tmp_path) == "failed\n"
    place = Place("local", str(tmp_path))
    assert len(rows(place)) == summary(place)["rows"] == 2


KILLED = """
import os, signal, sys, threading
from notata import Logbook, LogReader
log = Logbook("run", sys.argv[1], monitor=0.01, heartbeat=0.1)
while "series_summary" not in LogReader(log.url).meta:
    threading.Event().wait(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_has_its_peaks_up_to_the_last_heartbeat(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    place = Place("local", str(tmp_path))
    peak = summary(place)["columns"]["memory_bytes"]["max"]
    assert peak in [row["memory_bytes"] for row in rows(place)]
    assert search.runs(place.url, where="system.memory_bytes.max > 1e6", status="died")


HANGING = """
import sys, threading, types
nvml = types.ModuleType("pynvml")
nvml.nvmlInit = threading.Event().wait
sys.modules["pynvml"] = nvml
from notata import Logbook
from notata.run.monitor import thread
thread.LAST = 0.1
with Logbook("run", sys.argv[1], monitor=86400) as log:
    pass
print(log.status)
"""


def test_a_gpu_that_hangs_does_not_delay_the_end(tmp_path: Path) -> None:
    assert run(HANGING, tmp_path) == "complete\n"


PATIENT_EXIT = """
import sys, threading
is_over = threading.Event()
threading._register_atexit(is_over.set)  # called after the function of notata, which is registered later
from notata import Logbook
from notata._base import exits
from notata.run.monitor import thread
exits.PATIENCE, thread.LAST = 2.0, 60.0
log = Logbook("run", sys.argv[1], monitor=0.001)
threading.Thread(target=is_over.wait).start()
"""


def test_the_rows_do_not_prolong_the_wait_for_threads_at_exit(tmp_path: Path) -> None:
    run(PATIENT_EXIT, tmp_path)
    assert len(rows(Place("local", str(tmp_path)))) >= 2
