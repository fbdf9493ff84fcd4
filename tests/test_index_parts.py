"""The parts of an index: no row is missing, whichever process writes, merges, reads or is killed."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import BatchError, ConflictError, Experiment, TooLargeError
from notata._base import limits
from notata.store import Backend, Blob, Entry, Store, open_store
from notata.store.gaps import Gap
from notata.store.wrapper import Wrapper
from notata.table import IndexWriter, Row, gather, read_index, record_removed, write_parts
from notata.table.compaction import claimed, merge_parts, tidy
from notata.table.lines import encoded_row
from notata.table.sizes import Sizes
from notata.testing import FaultyBackend
from tests.exiting import run_at_exit
from tests.far import FarBackend, faults_in

SMALL = Sizes(csv_local=3, csv_bucket=3, large=5, part=300, merged=20_000, together=4, look_every=2)
"""An index that has parts after 3 rows, and merges 4 of them."""

SEALED = Sizes(csv_local=3, csv_bucket=3, large=5, part=300, merged=20_000, together=4, sealed_after=0, look_every=2)
"""The same, where no part is left alone because its writer may still extend it."""


def later(call: Callable[[], None]) -> None:
    """Stands for a thread that does not get to run."""


def at_once(call: Callable[[], None]) -> None:
    """Stands for a thread that is quick."""
    call()


def row(number: int, **fields: Any) -> Row:
    values: dict[str, Any] = {"started": f"2026-11-01T10:00:{number % 60:02}+00:00", "revision": "0a1b2c3d", **fields}
    return Row(f"run-{number:04}", "complete", {"number": number}, {"error": number / 7}, **values)


def ids(numbers: range) -> set[str]:
    return {f"run-{number:04}" for number in numbers}


def lines(store: Store) -> list[dict[str, Any]]:
    """Return all objects in the parts, read with json."""
    found = []
    for entry in store.list("index"):
        if entry.key.endswith(".jsonl"):
            found += [json.loads(line) for line in store.read(entry.key).decode().splitlines()]
    return found


def names(store: Store) -> list[str]:
    return [entry.key.removeprefix("index/") for entry in store.list("index")]


def rows_of(store: Store) -> set[str]:
    index = read_index(store)
    return set(index.rows) if index else set()


@pytest.fixture
def memory() -> Store:
    return open_store("memory://parts")


@pytest.fixture(params=["local", "remote"])
def faulty(request: pytest.FixtureRequest, memory: Store) -> FaultyBackend:
    """Storage that is near, so that rows are appended, or far, so that each flush is a new part."""
    return faults_in(memory, near=request.param == "local")


def run(store: Store, number: int) -> None:
    """Store the metadata.json of the run of a row."""
    one = row(number)
    fields = {"status": one.status, "start_time": one.started, "row": {"params": one.params, "metrics": one.metrics}}
    store.write(f"runs/log_{one.run_id}/metadata.json", json.dumps(fields).encode())


def full_csv(store: Store, sizes: Sizes = SMALL) -> None:
    """Put the first rows into index.csv, which is full then."""
    writer = IndexWriter(store, sizes)
    for number in range(3):
        run(store, number)
        writer.put(row(number))
    run_at_exit(writer)


# -- writing -----------------------------------------------------------------------------------------------


def test_rows_beyond_the_border_go_to_parts_and_index_csv_stays(faulty: FaultyBackend) -> None:
    store = Store(faulty)
    full_csv(store)
    before = store.read("index.csv")
    assert names(store) == []
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    for number in range(3, 12):
        writer.put(row(number))
    run_at_exit(writer)
    assert store.read("index.csv") == before
    assert {line["run_id"] for line in lines(store)} == ids(range(3, 12))
    assert rows_of(store) == ids(range(12))
    [line] = [line for line in lines(store) if line["run_id"] == "run-0007"]
    assert (line["params"], line["metrics"]) == ({"number": 7}, {"error": 1.0})
    assert line["time"] > 1.7e9


def test_a_row_on_a_disk_is_there_when_put_returns(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    full_csv(store)
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    for number in range(3, 20):
        writer.put(row(number))
        files = sorted((tmp_path / "index").iterdir())
        text = "".join(file.read_text() for file in files)
        assert f'"run-{number:04}"' in text.splitlines()[-1]
    assert len(files) > 3  # a new part begins after 300 bytes


def test_a_flush_in_a_bucket_is_one_request_for_one_new_part(memory: Store) -> None:
    far = FarBackend(memory)
    store = Store(far)
    full_csv(store)
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(3))
    before = len(far.operations)
    for number in range(4, 9):
        writer.put(row(number))
    writer.flush()
    sent = [(done.verb, done.key) for done in far.operations[before:]]
    assert {verb for verb, _ in sent} == {"put"}
    assert 1 < len(sent) < 5  # one for about each 300 bytes, one for the rest
    assert {line["run_id"] for line in lines(store)} == ids(range(3, 9))


def test_a_row_that_cannot_be_appended_is_written_with_the_next_one(
    memory: Store, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = FaultyBackend(memory)
    store = Store(faulty)
    full_csv(store)
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(3))
    for after in (False, True):
        faulty.fail(1, error=lambda: OSError(28, "No space left on device"), after=after)
        writer.put(row(4 + after))
    assert "run run-0004 ended, but the index was not updated" in caplog.text
    faulty.heal()
    writer.put(row(6))
    assert rows_of(store) == ids(range(7))
    run_at_exit(writer)
    assert rows_of(store) == ids(range(7))


def test_a_row_with_values_that_json_cannot_hold_keeps_no_other_row_back(memory: Store) -> None:
    full_csv(memory)
    writer = IndexWriter(memory, SMALL, chance=lambda: 1.0, start=later)
    writer.put(Row("odd", "complete", {"x": object()}))
    index = read_index(memory)
    assert index is not None
    assert "cannot add run 'odd'" in index.rows["odd"].metrics_error


def test_a_pickled_writer_has_no_pending_rows_and_a_part_of_its_own(memory: Store) -> None:
    full_csv(memory)
    writer = IndexWriter(memory, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(3))
    other = pickle.loads(pickle.dumps(writer))
    other.put(row(4))
    writer.put(row(5))
    assert rows_of(memory) == ids(range(6))
    assert len({name.split("-")[1] for name in names(memory)}) == 2


def test_a_forked_child_has_a_part_of_its_own(tmp_path: Path) -> None:
    script = f"""
        import os, sys
        from notata.store import open_store
        from notata.table import IndexWriter
        from tests.test_index_parts import SMALL, full_csv, row
        store = open_store({str(tmp_path)!r})
        full_csv(store)
        writer = IndexWriter(store, SMALL, chance=lambda: 1.0)
        writer.put(row(3))
        pid = os.fork()
        writer.put(row(4 if pid else 5))
        if not pid:
            sys.exit()
        os.waitpid(pid, 0)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)], check=True)
    store = open_store(tmp_path)
    assert rows_of(store) == ids(range(6))
    assert len({name.split("-")[1] for name in names(store)}) == 2


def test_index_csv_that_was_removed_is_not_begun_again_beside_parts(faulty: FaultyBackend) -> None:
    store = Store(faulty)
    write_parts(store, [row(0)])
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(1))
    run_at_exit(writer)
    assert not store.exists("index.csv")
    assert rows_of(store) == ids(range(2))


# -- the rows of index.csv ---------------------------------------------------------------------------------


def test_the_process_that_fills_index_csv_adds_its_rows_to_the_parts_once(tmp_path: Path) -> None:
    experiment = Experiment("sweep", tmp_path)
    for number in range(4):
        experiment.add(number=number).mark_complete()
    store = open_store(tmp_path / "sweep")
    write_parts(store, [row(9)], level=0)
    tidy(store, SMALL)
    [part] = [name for name in names(store) if name.startswith("2-")]
    header, *rows = [json.loads(line) for line in store.read(f"index/{part}").splitlines()]
    assert header == {"notata_index": 1, "covers": {"index.csv": store.stat("index.csv").version}}
    assert {line["params"]["number"] for line in rows} == {0, 1, 2, 3}
    assert all(line["started"] and line["host"] and line["seconds"] >= 0 for line in rows)
    before = names(store)
    tidy(store, SMALL)
    assert names(store) == before
    faulty = FaultyBackend(store)
    index = read_index(Store(faulty))
    assert index is not None
    assert len(index.rows) == 5
    assert "get" not in {done.verb for done in faulty.operations if done.key == "index.csv"}


def test_a_row_of_index_csv_with_an_impossible_id_keeps_no_other_one_back(memory: Store) -> None:
    full_csv(memory)
    memory.write("index.csv", memory.read("index.csv").replace(row(0).run_id.encode(), b"../../log_victim"))
    write_parts(memory, [row(9)], level=0)
    tidy(memory, SMALL)
    assert {line["run_id"] for line in lines(memory) if "run_id" in line} == {
        row(number).run_id for number in (1, 2, 9)
    }
    assert rows_of(memory) == {row(number).run_id for number in (1, 2, 9)}


def test_rows_that_index_csv_gets_later_are_read_and_added(tmp_path: Path) -> None:
    experiment = Experiment("sweep", tmp_path)
    for number in range(4):
        experiment.add(number=number).mark_complete()
    store = open_store(tmp_path / "sweep")
    write_parts(store, [row(9)], level=0)
    tidy(store, SMALL)
    experiment.add(number=4).mark_complete()  # a process whose index.csv may have more rows
    assert len(rows_of(store)) == 6
    tidy(store, SMALL)
    [old, new] = sorted((name for name in names(store) if name.startswith("2-")), key=lambda name: name[-7:])
    assert {line.get("params", {}).get("number") for line in map(json.loads, store.read(f"index/{old}").splitlines())}
    assert len(lines(store)) == 1 + (1 + 4) + (1 + 1)  # only the row that the parts lacked
    assert len(rows_of(store)) == 6
    assert new


def test_rows_of_0_3_0_in_index_csv_are_read(memory: Store) -> None:
    memory.write("index.csv", b"run_id,dt,status\na,0.1,complete\nb,0.2,failed\n")
    write_parts(memory, [row(0)])
    index = read_index(memory)
    assert index is not None
    assert index.rows["a"].params == {"dt": 0.1}
    assert not index.is_large


# -- one row for each run ----------------------------------------------------------------------------------


def test_rows_of_a_resumed_run_count_by_attempt_in_whatever_order_they_come(memory: Store) -> None:
    first = row(1, started="2026-11-01T12:00:00+02:00", attempt=0, time=50.0)
    second = row(1, started="2026-11-01T10:00:00+00:00", attempt=1, time=20.0)  # the same moment, by a slower clock
    changed = row(1, started="2026-11-01T10:00:00+00:00", attempt=1, time=30.0)
    again = row(1, started="2026-11-01T10:00:01+00:00", attempt=0, time=10.0)
    for count, latest in ((2, second), (3, changed), (4, again)):
        for order in itertools.permutations([first, second, changed, again][:count]):
            store = memory.hidden_folder()
            for one in order:
                write_parts(store, [one], level=0)
            index = read_index(store)
            assert index is not None
            assert index.rows == {"run-0001": latest}


def test_a_tombstone_hides_earlier_rows_in_whatever_order_they_come(memory: Store) -> None:
    for order in itertools.permutations(range(3)):
        store = memory.hidden_folder()
        for step in order:
            if step == 2:
                store.write("index/0-aa-000000.jsonl", b"")
                record_removed(store, ["run-0001", "run-0002", "run-0003"], now=20.0)
            else:
                write_parts(store, [row(1, time=20.0), row(2, time=20.5)] if step else [row(0, time=1.0)], level=0)
        index = read_index(store)
        assert index is not None
        assert set(index.rows) == {"run-0000", "run-0002"}


def test_a_removal_is_recorded_only_if_there_are_parts(memory: Store) -> None:
    record_removed(memory, ["run-0001"])
    record_removed(memory, [])
    assert not memory.occupied()


def test_a_row_of_index_csv_of_a_removed_run_is_hidden(memory: Store) -> None:
    full_csv(memory)
    write_parts(memory, [row(5)])
    record_removed(memory, ["run-0001"])
    assert rows_of(memory) == {"run-0000", "run-0002", "run-0005"}


# -- merging -----------------------------------------------------------------------------------------------


def add_parts(store: Store, numbers: range) -> None:
    for number in numbers:
        write_parts(store, [row(number)], level=0)


def test_many_parts_are_merged_and_few_are_left_alone(memory: Store) -> None:
    add_parts(memory, range(3))
    tidy(memory, SEALED)
    assert len(names(memory)) == 3
    add_parts(memory, range(3, 16))
    tidy(memory, SEALED)
    [part] = names(memory)  # 16 parts of level 0 became 4 of level 1, and these one of level 2
    assert part.startswith("2-")
    assert part.endswith("-16.jsonl")
    assert rows_of(memory) == ids(range(16))
    add_parts(memory, range(16, 20))
    tidy(memory, SEALED)
    assert [name[0] for name in names(memory)] == ["1", "2"]


def test_parts_that_their_writer_may_extend_are_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for writer in range(8):
        for number in range(2):
            store.write(f"index/0-{writer:02x}-{number:06}.jsonl", encoded_row(row(2 * writer + number)))
    os.utime(tmp_path / "index" / "0-00-000001.jsonl", (0, 0))  # it was not changed for long
    merge_parts(store, SMALL)
    left = {name for name in names(store) if name[0] == "0"}
    assert left >= {f"0-{writer:02x}-000001.jsonl" for writer in range(1, 8)}  # the last one of each writer
    assert len(left) < 16
    assert rows_of(store) == ids(range(16))


def test_a_part_without_its_last_newline_is_merged_without_damage(memory: Store) -> None:
    for number in range(4):
        memory.write(f"index/0-a{number}-000000.jsonl", encoded_row(row(number)) + encoded_row(row(number + 10))[:-1])
    memory.write("index/0-aa-000000.jsonl", encoded_row(row(20)) + encoded_row(row(21))[:30])  # torn
    tidy(memory, SEALED)
    assert rows_of(memory) == ids(range(4)) | ids(range(10, 14)) | {"run-0020"}


def test_a_merged_part_has_a_largest_size(memory: Store) -> None:
    size = len(encoded_row(row(0)))
    add_parts(memory, range(64))
    tiny = Sizes(merged=5 * size, together=8, sealed_after=0)
    merge_parts(memory, tiny)
    assert max(entry.size for entry in memory.list("index")) <= 5 * size
    assert rows_of(memory) == ids(range(64))
    before = names(memory)
    assert merge_parts(memory, tiny) == 0
    assert names(memory) == before


def test_one_process_merges_at_a_time_and_a_stale_claim_is_taken_over(memory: Store) -> None:
    with claimed(memory) as first:
        assert first
        with claimed(memory) as second:
            assert not second
        add_parts(memory, range(8))
        tidy(memory, SEALED)
        assert len([name for name in names(memory) if name.endswith(".jsonl")]) == 8
        with claimed(memory, Sizes(stale_after=0.0)) as third:
            assert third
    assert not memory.exists("index/compacting.json")
    tidy(memory, SEALED)
    assert [name[0] for name in names(memory)] == ["1", "1"]


class WithoutClaims(Wrapper):
    """A storage that cannot compare and swap."""

    supports_cas = False


def test_without_compare_and_swap_parts_are_merged_without_a_claim(memory: Store) -> None:
    store = Store(WithoutClaims(memory.backend))
    with claimed(store) as first, claimed(store) as second:
        assert first
        assert second
    add_parts(store, range(8))
    tidy(store, SEALED)
    assert rows_of(store) == ids(range(8))


# -- processes that are killed -----------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def killed_at_each(store: FaultyBackend, work: Callable[[], object], prepare: Callable[[], object]) -> Iterator[int]:
    """Kill `work` at each of its operations, before and after each takes effect; yield after each kill."""
    for nth in itertools.count(1):
        for after in (False, True):
            Store(store).clear()
            prepare()
            store.fail(nth, error=Killed, after=after)
            try:
                work()
            except (Killed, InterruptedError, BatchError):  # the others if it was in a thread of the storage
                store.heal()
                yield nth
            else:
                store.heal()
                return


def once_each(store: Store, numbers: range) -> None:
    """Check the rows by a reader of their latest ones, and by json: each is there, with its own values."""
    index = read_index(store)
    assert index is not None
    assert set(index.rows) == ids(numbers)
    assert {one.params["number"] for one in index.rows.values()} == set(numbers)


def test_a_kill_at_any_operation_of_a_merge_loses_no_row(faulty: FaultyBackend) -> None:
    store = Store(faulty)
    kills = 0
    for _ in killed_at_each(faulty, lambda: tidy(store, SEALED), lambda: add_parts(store, range(16))):
        once_each(store, range(16))
        tidy(store, Sizes(**{**fields(SEALED), "stale_after": 0.0}))  # another process takes over
        once_each(store, range(16))
        kills += 1
    assert kills > 40


def fields(sizes: Sizes) -> dict[str, Any]:
    return {name: getattr(sizes, name) for name in Sizes.__slots__}


def test_a_kill_at_any_operation_of_the_transition_loses_no_row(faulty: FaultyBackend) -> None:
    store = Store(faulty)

    def prepare() -> None:
        full_csv(store)
        write_parts(store, [row(3)], level=0)

    kills = 0
    for _ in killed_at_each(faulty, lambda: tidy(store, SMALL), prepare):
        once_each(store, range(4))
        kills += 1
    assert kills > 15


def test_a_kill_at_any_operation_of_a_put_loses_no_row_that_was_put_before(memory: Store) -> None:
    faulty = FaultyBackend(memory)
    store = Store(faulty)
    done = 0

    def work() -> None:
        nonlocal done
        done = 0
        writer = IndexWriter(store, SEALED, chance=lambda: 1.0, start=at_once)
        for number in range(12):
            writer.put(row(number))
            done = number + 1

    def prepare() -> None:
        for number in range(12):
            run(memory, number)

    kills = 0
    for _ in killed_at_each(faulty, work, prepare):
        found = rows_of(store)
        assert ids(range(done)) <= found <= ids(range(done + 1))
        kills += 1
    assert kills > 25


def test_a_kill_at_any_operation_of_write_index_loses_no_row(memory: Store) -> None:
    faulty = FaultyBackend(memory)
    store = Store(faulty)
    writer = IndexWriter(store, Sizes(**{**fields(SEALED), "stale_after": 0.0}), chance=lambda: 1.0, start=later)

    def prepare() -> None:
        for number in range(7):
            run(store, number)
        IndexWriter(store, SMALL).write()
        record_removed(store, ["gone"])
        run(store, 7)  # in no part, as its process was killed

    kills = 0
    for _ in killed_at_each(faulty, writer.write, prepare):
        index = read_index(store)
        assert index is not None
        assert ids(range(7)) <= set(index.rows) <= ids(range(8))
        writer.write()
        once_each(store, range(8))
        kills += 1
    assert kills > 20


WRITER = """
    import sys
    from notata.store import open_store
    from notata.table import IndexWriter
    from tests.test_index_parts import SEALED, row
    writer = IndexWriter(open_store(sys.argv[1]), SEALED, chance=lambda: 1.0)
    for number in range(int(sys.argv[2]), int(sys.argv[2]) + 1000):
        writer.put(row(number))
        print(number, flush=True)
"""


@pytest.mark.slow
def test_writers_that_are_killed_while_they_merge_lose_no_row_they_reported(tmp_path: Path) -> None:
    write_parts(open_store(tmp_path), [row(9999)])
    arguments = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WRITER), str(tmp_path)]
    running = [subprocess.Popen([*arguments, str(1000 * n)], stdout=subprocess.PIPE, text=True) for n in range(3)]
    reported: set[int] = set()
    for process, count in zip(running, (60, 90, 120), strict=True):
        assert process.stdout is not None
        reported |= {int(next(process.stdout)) for _ in range(count)}
        process.send_signal(signal.SIGKILL)
    for process in running:
        assert process.stdout is not None
        reported |= {int(line) for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()
    store = open_store(tmp_path)
    missing = {f"run-{number:04}" for number in reported} - rows_of(store)
    assert not missing
    tidy(store, Sizes(**{**fields(SEALED), "stale_after": 0.0}))
    assert not {f"run-{number:04}" for number in reported} - rows_of(store)


# -- many at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "local", "remote"])
def test_writers_mergers_and_readers_at_once_lose_no_row(kind: str, memory: Store, tmp_path: Path) -> None:
    backend: Backend = memory.backend
    if kind == "local":
        backend = open_store(tmp_path).backend
    elif kind == "remote":
        backend = FarBackend(memory)
    store = Store(backend)
    write_parts(store, [row(9999)])
    written = [0] * 4
    problems: list[str] = []
    ended = threading.Event()

    def write(who: int) -> None:
        writer = IndexWriter(store, SEALED, chance=lambda: 1.0)
        for number in range(40):
            writer.put(row(1000 * who + number))
            if kind == "remote":
                writer.flush()
            written[who] = number + 1

    def merge() -> None:
        while not ended.is_set():
            tidy(store, SEALED)

    def read() -> None:
        index = None
        while not ended.is_set():
            before = list(written)
            index = read_index(store, index)
            found = set(index.rows) if index else set()
            due = {f"run-{1000 * who + number:04}" for who, count in enumerate(before) for number in range(count)}
            problems.extend(due - found)

    others = [threading.Thread(target=merge) for _ in range(2)] + [threading.Thread(target=read)]
    writers = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in (*others, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in others:
        thread.join()
    assert problems == []
    assert rows_of(store) == ids(range(9999, 10000)).union(*(ids(range(n, n + 40)) for n in range(0, 4000, 1000)))


class Sent(FarBackend):
    """A bucket that counts the bytes that it gets."""

    def __init__(self, inner: Store | Backend) -> None:
        super().__init__(inner)
        self.sent: Counter[str] = Counter()

    def put(self, key: str, data: bytes, match: str | None) -> str:
        self.sent["parts" if key.endswith(".jsonl") else key] += len(data)
        return super().put(key, data, match)


def test_a_sweep_of_many_processes_sends_each_row_at_most_three_times(memory: Store) -> None:
    """Here 32 writers, each with a new part after each 5 rows; a part of 64 parts of 64 parts would be the last one."""
    counting = Sent(memory)
    store = Store(counting)
    sizes = Sizes(csv_bucket=10, together=8, look_every=4, part=5 * len(encoded_row(row(0))))
    for number in range(11):
        write_parts(store, [row(number)], level=0)
    writers = [IndexWriter(store, sizes, chance=lambda: 1.0, start=later) for _ in range(32)]
    for number in range(11, 4000):
        writers[number % 32].put(row(number))
        if number % 320 == 0:
            tidy(store, sizes)
    for writer in writers:
        run_at_exit(writer)
    for _ in range(3):
        tidy(store, sizes)
    assert rows_of(store) == ids(range(4000))
    size = sum(entry.size for entry in store.list("index"))
    assert counting.sent["parts"] <= 3 * size
    assert len(names(store)) < 100
    assert counting.sent["index/compacting.json"] < size / 20


# -- reading -----------------------------------------------------------------------------------------------


class Between(Wrapper):
    """A backend that does something between two operations of a reader.

    Attributes:
        before_get: Called once, before the next file is read.
        during_list: Called once, when half of the next listing was returned.
    """

    before_get: Callable[[], object] | None = None
    during_list: Callable[[], object] | None = None

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        if (call := self.before_get) is not None:
            self.before_get = None
            call()
        return super().get(key, start, end, version, limit)

    def start_get(self, *arguments: Any) -> Any:
        from notata.store.in_flight import started_in_thread

        return started_in_thread(self.get, *arguments)

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        found = [*super().list(folder, beginning)]
        found.sort(key=lambda entry: entry.key, reverse=True)  # new names would be in the half that was returned
        half = len(found) // 2
        yield from found[:half]
        if (call := self.during_list) is not None:
            self.during_list = None
            call()
            found = [entry for entry in found if self.has(entry.key)]
        yield from found[half:]

    def has(self, key: str) -> bool:
        try:
            self.stat(key)
        except FileNotFoundError:
            return False
        return True


@pytest.mark.parametrize("moment", ["before_get", "during_list"])
def test_parts_that_are_merged_while_they_are_read_hide_no_row(memory: Store, moment: str) -> None:
    between = Between(memory.backend)
    add_parts(memory, range(16))
    setattr(between, moment, lambda: tidy(memory, SEALED))
    assert rows_of(Store(between)) == ids(range(16))
    assert len(names(memory)) == 1


def test_an_index_that_never_holds_still_is_given_up(memory: Store) -> None:
    class Vanishing(Wrapper):
        def start_get(self, *arguments: Any) -> Any:
            raise FileNotFoundError("gone")

    add_parts(memory, range(2))
    with pytest.raises(ConflictError, match="other processes kept replacing its parts; try again"):
        read_index(Store(Vanishing(memory.backend)))


def test_only_what_is_new_is_read_again(memory: Store) -> None:
    faulty = FaultyBackend(memory)
    store = Store(faulty)
    add_parts(store, range(3))
    store.append("index/0-aa-000000.jsonl", encoded_row(row(3)) + encoded_row(row(4))[:20], 0)
    first = read_index(store)
    assert first is not None
    before = len(faulty.operations)
    assert read_index(store, first) == first
    assert [done.verb for done in faulty.operations[before:]] == ["list", "stat"]
    at = store.stat("index/0-aa-000000.jsonl").size
    store.append("index/0-aa-000000.jsonl", encoded_row(row(4))[20:] + encoded_row(row(5)), at)
    add_parts(store, range(6, 7))
    before = len(faulty.operations)
    second = read_index(store, first)
    assert second is not None
    assert set(second.rows) == ids(range(7))
    assert set(first.rows) == ids(range(4))  # as it was
    gets = [done for done in faulty.operations[before:] if done.verb == "get"]
    assert len(gets) == 2
    record_removed(store, ["run-0002"])
    third = read_index(store, second)
    assert third is not None
    assert set(third.rows) == ids(range(7)) - {"run-0002"}


def test_a_known_index_forgets_runs_that_are_in_no_part_any_more(memory: Store) -> None:
    add_parts(memory, range(4))
    known = read_index(memory)
    old = memory.list("index")
    write_parts(memory, [row(1), row(2)])  # as write_index does, without removed runs
    memory.remove(old)
    index = read_index(memory, known)
    assert index is not None
    assert set(index.rows) == {"run-0001", "run-0002"}


def test_a_part_beyond_its_limit_is_refused_and_small_tables_read_the_runs(
    memory: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment("sweep", memory)
    experiment.add(number=1).mark_complete()
    store = memory.below("sweep")
    write_parts(store, [row(number) for number in range(9)])
    monkeypatch.setattr(limits, "INDEX_PART", 100)
    with pytest.raises(TooLargeError, match="the limit for this file is 100 B"):
        read_index(store)
    with pytest.warns(UserWarning, match="the table is read from the runs instead"):
        found = gather(store, large=5)
    assert [one.run_id for one in found.rows] == ["sweep_number_1"]


def test_an_index_that_only_looks_large_is_read_once(memory: Store) -> None:
    write_parts(memory, [row(number) for number in range(9)])
    faulty = FaultyBackend(memory)
    assert gather(Store(faulty), large=10).rows == []  # no such run exists
    assert [done.key.partition("/")[0] for done in faulty.operations if done.verb == "get"] == ["index"]


def test_other_files_in_the_folder_are_no_parts(memory: Store) -> None:
    add_parts(memory, range(2))
    for name in ("notes.txt", "0-xyz.jsonl", "deep/0-aa-000000.jsonl", "0-aa-000000.jsonl.bak"):
        memory.write(f"index/{name}", encoded_row(row(5)))
    assert rows_of(memory) == ids(range(2))


def test_the_index_says_when_it_last_changed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add_parts(store, range(2))
    for number, path in enumerate(sorted((tmp_path / "index").iterdir())):
        os.utime(path, (1.7e9 + number, 1.7e9 + number))
    index = read_index(store)
    assert index is not None
    assert index.as_of.timestamp() == 1.7e9 + 1
    assert len(index.parts) == 2
