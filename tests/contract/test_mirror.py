"""A run on a disk and its mirror in a bucket: the cost there, and the content after every kind of process end."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from notata import BatchError, Logbook, LogReader, MirrorStorage, StorageError, sync
from notata.mirror import live
from notata.mirror.live import Behind, Mirror
from notata.mirror.schedule import RATE
from notata.store import open_store
from notata.store.files import PART
from tests import ending
from tests.backends import Place, next_moment
from tests.contract.conftest import make_place
from tests.counting import Send, counted, intercepted
from tests.nursery import Script
from tests.test_mirror import FastClock, settle

End: TypeAlias = Callable[..., tuple[int, str]]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Place:
    """A folder on the disk."""
    return Place("local", str(tmp_path / "outputs"))


def mirrored(here: Place, bucket: Place, **options: Any) -> Logbook:
    return here.logbook(mirror=MirrorStorage(bucket.url, bucket.options), **options)


class ByHand(Mirror):
    """A mirror for a run started without one: it copies on demand, and its clock stands still."""

    def __init__(self, log: Logbook, bucket: Place) -> None:
        self.clock = FastClock()
        super().__init__(open_store(log.url), bucket.store().below("log_run"), "run", clock=self.clock)


def turn(mirror: ByHand) -> None:
    """Advance the clock and run the next pass."""
    mirror.clock.seconds += live.POLL_INTERVAL
    mirror.poll()
    assert mirror.error is None


# -- the copy ----------------------------------------------------------------------------------------------


def test_the_copy_of_a_run_is_equal(here: Place, bucket: Place) -> None:
    with mirrored(here, bucket, params={"dt": 0.1}) as log:
        log.text("notes", "a")
        log.array("large", [0.5] * (PART // 8 + 5))
        log.info("half way")
        assert log.mirror is not None
        log.mirror.flush()
        assert LogReader(f"{bucket.url}/log_run", storage_options=bucket.options).state.status == "running"
    log.mirror.flush()
    assert here.files() == bucket.files()
    assert log.mirror.behind == Behind(0, 0)
    assert LogReader(f"{bucket.url}/log_run", storage_options=bucket.options).state.status == "complete"
    settle(log.mirror)


def test_no_credential_is_stored_or_shown(here: Place, bucket: Place) -> None:
    options = {"key": "AKIASECRET", "secret": "hush-hush"} if bucket.name != "gcs" else {"token": "anon"}
    with here.logbook(mirror=MirrorStorage(bucket.url, {**bucket.options, **options})) as log:
        assert log.mirror is not None
        try:
            log.mirror.flush()
        except (StorageError, BatchError) as error:
            assert "hush" not in str(error)  # noqa: PT017
    log.mirror.give_up()
    stored = b"".join(here.files().values())
    assert json.loads(here.bytes("log_run/metadata.json"))["mirror"] == f"{bucket.url}/log_run"
    assert b"hush-hush" not in stored
    assert b"AKIASECRET" not in stored
    assert "hush" not in repr(log.mirror)


def test_a_resumed_run_mirrors_only_new_data(here: Place, bucket: Place) -> None:
    with mirrored(here, bucket) as log:
        log.bytes("large", bytes(PART))
    assert log.mirror is not None
    log.mirror.flush()
    with counted() as sent, mirrored(here, bucket, resume=True) as log:
        log.text("notes", "a")
        assert log.mirror is not None
        log.mirror.flush()
    log.mirror.flush()
    assert here.files() == bucket.files()
    assert sent.bytes < 50_000


def test_two_runs_of_one_id(here: Place, bucket: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = Place("local", str(tmp_path / "elsewhere"))
    logs = []
    for place in (here, elsewhere):
        logs.append(mirrored(place, bucket))
        next_moment()
    for number, log in enumerate(logs):
        log.text(f"of_{number}", "a")
        log.mark_complete()
    for log in logs:
        assert log.mirror is not None
        settle(log.mirror)
    assert bucket.files() in [here.files(), elsewhere.files()]
    assert capsys.readouterr().err.count("is not mirrored") == 1


# -- what it costs -----------------------------------------------------------------------------------------


def test_requests_of_a_pass(here: Place, bucket: Place) -> None:
    log = here.logbook(heartbeat=0)
    mirror = ByHand(log, bucket)
    turn(mirror)
    with counted() as sent:
        turn(mirror)
        turn(mirror)
    assert sent == []
    log.text("notes", "a")  # this also writes a log line
    with counted() as sent:
        turn(mirror)
        turn(mirror)
    assert len(sent) == 4, sent  # the two files, each preceded by a check that the mirror still belongs to this run
    log.meta(step=1)
    with counted() as sent:
        turn(mirror)
    assert len(sent) == 1, sent
    assert here.files() == bucket.files()


def test_a_large_log_is_appended_to(here: Place, bucket: Place) -> None:
    log = here.logbook(heartbeat=0)
    mirror = ByHand(log, bucket)
    for number in range(6 * 2**10):
        log.info("%d %s", number, "x" * 1000)
    turn(mirror)
    with counted() as sent:
        for number in range(20):
            for _ in range(5):
                log.info("%d %s", number, "y" * 100)
            turn(mirror)
    added = 100 * 130
    assert here.files() == bucket.files()
    assert sent.bytes < 3 * added, "not 6 MB each time"


def test_a_small_log_costs_no_more_than_its_rate(here: Place, bucket: Place) -> None:
    """A bucket replaces the log as a whole, so a larger log is sent less often."""
    log = here.logbook(heartbeat=0)
    mirror = ByHand(log, bucket)
    for number in range(800):
        log.info("%d %s", number, "x" * 1000)
    turn(mirror)
    begun = mirror.clock.seconds
    with counted() as sent:
        for number in range(60):
            log.info("%d", number)
            turn(mirror)
    assert 0 < sent.bytes < 1.2 * RATE * (mirror.clock.seconds - begun)
    mirror.flush()
    assert here.files() == bucket.files()


@contextmanager
def max_bytes_in_flight() -> Iterator[list[int]]:
    """Record the total size of concurrent request bodies each time a request starts."""
    now, seen = 0, [0]

    async def request(send: Send, method: str, url: Any, **options: Any) -> Any:
        nonlocal now
        size = int((options.get("headers") or {}).get("Content-Length") or 0) if method in ("PUT", "POST") else 0
        now += size
        seen.append(now)
        try:
            await asyncio.sleep(0)
            return await send(method, url, **options)
        finally:
            now -= size

    with intercepted(request):
        yield seen


def test_one_part_at_a_time_and_few_small_files(here: Place, bucket: Place) -> None:
    with here.logbook() as log:
        for number in range(3):
            log.bytes(f"large/{number}", bytes(3 * PART))
        for number in range(100):
            here.put(f"log_run/data/{number}.npy", bytes(1000))
    mirror = ByHand(log, bucket)
    with max_bytes_in_flight() as seen:
        turn(mirror)
    assert here.files() == bucket.files()
    assert PART <= max(seen) <= PART + 5000 or bucket.name == "gcs", "gcsfs streams without a length"


# -- however a process ends --------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "gcs", pytest.param("seaweed", marks=pytest.mark.real)])
def named(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A bucket by *host name*, so that names are resolved again at exit."""
    place = make_place(request.param, request)
    options = {name: str(value).replace("127.0.0.1", "localhost") for name, value in place.options.items()}
    yield Place(place.name, place.url, options)
    place.store().clear()


ON_S3 = pytest.mark.parametrize("named", ["s3"], indirect=True)
"""For behaviour that is the same in every bucket."""


@pytest.fixture(scope="module")
def end() -> End:
    """Run the script to its end and return its exit code and standard error."""

    def end(
        here: Place, how: Any, sent: signal.Signals | None = None, *, fresh: bool = False, **arguments: Any
    ) -> tuple[int, str]:
        if isinstance(mirror := arguments.get("mirror"), MirrorStorage):
            arguments["mirror"] = dataclasses.asdict(mirror)
        words = [how.__name__, here.url, "{}", "cold", json.dumps(arguments)]
        process: Any = started(words) if fresh else Script("tests.ending", words)
        assert process.stdout.readline() == "ready\n", process.communicate()
        assert LogReader(f"{here.url}/log_run").state.status == "running"
        if sent is not None:
            process.send_signal(sent)
            process.wait()
        _, errors = process.communicate()
        said = [line for line in errors.splitlines() if "waiting at most" not in line]  # on a slow machine
        return int(process.returncode), "\n".join(said)

    return end


def started(words: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tests.ending", *words]
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])
def test_a_script_that_ends_its_run_well(here: Place, named: Place, end: End, fresh: bool) -> None:
    assert end(here, ending.end_well, fresh=fresh, mirror=MirrorStorage(named.url, named.options)) == (0, "")
    assert LogReader(f"{here.url}/log_run").state.status == "complete"
    assert here.files() == named.files()


@ON_S3
def test_a_script_that_forgets_to(here: Place, named: Place, end: End) -> None:
    assert end(here, ending.forget_to_end, mirror=MirrorStorage(named.url, named.options)) == (0, "")
    assert LogReader(f"{here.url}/log_run").state.status == "failed"
    assert "INFO the last line" in named.log()
    assert here.files() == named.files()


@ON_S3
def test_a_script_that_fails(here: Place, named: Place, end: End) -> None:
    code, errors = end(here, ending.raise_without_a_block, mirror=MirrorStorage(named.url, named.options))
    assert code == 1
    assert "notata" not in errors.replace("/notata/", "")
    assert b"ValueError: h = -1" in named.bytes("log_run/artifacts/debug/traceback.txt")
    assert here.files() == named.files()


@ON_S3
@pytest.mark.parametrize("how", [ending.wait_for_sigterm, ending.wait_for_sigterm_in_the_block])
def test_sigterm(here: Place, named: Place, end: End, how: Any) -> None:
    code, errors = end(here, how, signal.SIGTERM, mirror=MirrorStorage(named.url, named.options))
    assert (code, errors) == (143, "")
    assert LogReader(f"{named.url}/log_run", storage_options=named.options).meta["failure_reason"] == "SIGTERM"
    assert here.files() == named.files()


@ON_S3
def test_files_written_after_the_end_are_mirrored(here: Place, named: Place, end: End) -> None:
    assert end(here, ending.write_after_the_end, mirror=MirrorStorage(named.url, named.options)) == (0, "")
    assert named.bytes("log_run/artifacts/late.txt") == b"a"
    assert named.bytes("log_run/artifacts/later.txt") == b"b"
    assert here.files() == named.files()


@ON_S3
def test_two_runs_and_a_forked_child(here: Place, named: Place, end: End) -> None:
    assert end(here, ending.fork, mirror=MirrorStorage(named.url, named.options)) == (0, "")
    assert here.files() == named.files()


def test_a_script_that_is_killed_is_finished_by_sync(here: Place, named: Place, end: End) -> None:
    code, _ = end(here, ending.wait, signal.SIGKILL, mirror=MirrorStorage(named.url, named.options))
    assert code == -signal.SIGKILL
    with here.logbook(resume=True) as log:
        log.text("more", "b")
    assert log.mirror is None
    sync(f"{here.url}/log_run", named.url, destination_options=named.options)
    assert here.files() == named.files()


def test_a_target_that_cannot_be_reached(here: Place, named: Place, end: End) -> None:
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        options = {**named.options, "endpoint_url": f"http://localhost:{unused.getsockname()[1]}"}
        arguments = {"mirror": MirrorStorage(named.url, options, exit_timeout=0.5)}
        code, errors = end(here, ending.forget_to_end, **arguments)
    assert code == 0
    assert len(errors.splitlines()) == 1, errors
    line = errors.strip()
    assert line.startswith("notata: 3 files (")
    command = f"notata sync {here.url}/log_run {named.url}/log_run"
    assert line.endswith(f"; finish with: {command}")
    assert "of run 'run' are not mirrored yet" in line
    assert LogReader(f"{here.url}/log_run").state.status == "failed"
    assert named.names() == []
    sync(*command.split()[2:], destination_options=named.options)
    assert here.files() == named.files()


@pytest.mark.parametrize("how", [ending.end_well_with_a_mirror_that_stalls, ending.end_well_with_an_upload_that_stalls])
@pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])
def test_a_target_that_never_answers(here: Place, end: End, how: Any, fresh: bool) -> None:
    code, errors = end(here, how, fresh=fresh)
    assert code == 0
    assert errors.splitlines()[-1].endswith(f"finish with: notata sync {here.url}/log_run memory://far/log_run")
    assert LogReader(f"{here.url}/log_run").state.status == "complete"


def test_hosts_can_be_found_where_no_thread_starts_any_more(bucket: Place) -> None:
    """Python 3.12 starts no threads at exit, and a short script may send its first request only then."""
    with counted() as sent:
        bucket.store().prepare()
    assert sent == []
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]) >= 4


def test_the_threads_of_a_mirror_end_with_its_run(here: Place, bucket: Place) -> None:
    others = set(threading.enumerate())
    with mirrored(here, bucket) as log:
        log.text("notes", "a")
    assert log.mirror is not None
    log.mirror.flush()
    own = [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("notata-mirror")]
    for thread in own:
        thread.join(60)
    assert not any(thread.is_alive() for thread in own)
