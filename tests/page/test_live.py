"""Changes that the live page notices: new rows, lines and runs, and outages; and their cost in requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from notata import Experiment, Logbook
from notata.errors import KeyNameError, UnreachableError
from notata.page import catalog as catalogs
from notata.page.catalog import Catalog, Choice, Snapshot
from notata.page.live import Event, Item, Live
from notata.page.rows import RowCache, RowFile, files_of
from notata.page.streams import BusyError, Readers, Stream, Streams
from notata.search.target import targets
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests.far import FarBackend, faults_in
from tests.page.visiting import Clock, Visit, page_of

PLACE = "memory://live"
ROWS = Item("log_a", "scalars")
LOG = Item("log_a")
OUTPUT = Item("log_a", text="output")


def raising(error: Exception) -> None:
    raise error


class World:
    """The server's knowledge of one storage whose operations can fail, and a clock."""

    def __init__(self, *, near: bool = True, place: str = PLACE, limit: int = 2**20) -> None:
        self.store: FaultyBackend = faults_in(open_store(place), near)
        self.clock = Clock()
        self.told: list[str] = []
        self.catalog = Catalog(targets(Store(self.store)))
        self.rows = RowCache(limit, 1.0, self.clock)
        self.live = Live(self.catalog, self.rows, tell=self.told.append, clock=self.clock)

    def poll(self, *items: Item) -> list[Item]:
        """Poll, and return which items have grown since the last poll."""
        before = self.live.known(items)
        positions, _ = self.live.poll(items)
        return [item for item, position in positions.items() if before.get(item) != position]

    def requests(self, action: Callable[[], object]) -> list[tuple[str, str]]:
        """Return the requests that an action made."""
        del self.store.operations[:]
        action()
        return [(one.verb, one.key) for one in self.store.operations]

    def files(self, name: str = "log_a") -> list[RowFile]:
        return files_of(self.catalog.find(name), "scalars")

    def read(self, *names: str) -> list[int]:
        """Return the number of rows of each run."""
        files = [file for name in names or ("log_a",) for file in self.files(name)]
        return [0 if rows.data is None else rows.data.rows for _, rows in self.rows.read(files, raising)]


@pytest.fixture
def log() -> Logbook:
    log = Logbook("a", PLACE)
    log.scalars(step=0, loss=1.0)
    log.flush()
    return log


# -- the catalog -------------------------------------------------------------------------------------------


def test_a_listing_reads_new_and_running_runs_only() -> None:
    for name in ("a", "b"):
        Logbook(name, PLACE, params={"lr": 1}).mark_complete()
    running = Logbook("c", PLACE, params={"lr": 1})
    world = World()
    world.catalog.refresh()
    listed = world.requests(world.catalog.refresh)
    assert [key for verb, key in listed if verb == "get"] == ["metadata.json"]
    Logbook("d", PLACE).mark_complete()
    listed = world.requests(world.catalog.refresh)
    assert [key for verb, key in listed if verb == "get"] == ["metadata.json"] * 2
    assert world.catalog.snapshot.changed == ("log_d",)
    running.mark_complete()
    world.catalog.refresh()
    assert world.catalog.snapshot.changed == ("log_c",)
    assert [run.status for run in world.catalog.snapshot.runs] == ["complete"] * 4
    assert [run.params for run in world.catalog.snapshot.runs] == [{"lr": 1}] * 3 + [{}]


def test_a_removed_run_is_gone_and_its_id_is_reported(log: Logbook) -> None:
    Logbook("b", PLACE).mark_complete()
    world = World()
    world.catalog.refresh()
    store = open_store(PLACE)
    store.below("log_b").clear()
    assert world.catalog.refresh().changed == ("log_b",)
    assert [*world.catalog.snapshot.ids] == ["log_a"]


def test_nothing_changed_means_the_same_number(log: Logbook) -> None:
    log.mark_complete()
    world = World()
    first, second = world.catalog.refresh(), world.catalog.refresh()
    assert (second.number, second.changed) == (first.number, ())


def test_metrics_that_are_not_numbers_do_not_change_all_the_time() -> None:
    log = Logbook("a", PLACE)
    log.json("metrics", {"loss": float("nan")})
    world = World()
    world.catalog.refresh()
    assert world.catalog.refresh().changed == ()


@pytest.mark.parametrize("read", [0, 1000])
def test_many_new_runs_come_from_the_index(monkeypatch: pytest.MonkeyPatch, read: int) -> None:
    monkeypatch.setattr(catalogs, "_READ", read)
    experiment = Experiment("many", PLACE)
    for lr in (0.1, 0.2, 0.3):
        with experiment.add(lr=lr) as run:
            run.json("metrics", {"error": lr})
    world = World(place=f"{PLACE}/many")
    stale = world.catalog.open()
    assert (stale.is_stale, [run.metrics for run in stale.runs]) == (True, [{"error": lr} for lr in (0.1, 0.2, 0.3)])
    listed = world.requests(world.catalog.refresh)
    assert len([key for verb, key in listed if verb == "get" and key != "index.csv"]) == (0 if read == 0 else 3)
    now = world.catalog.snapshot
    assert (now.is_stale, [*now.ids] == [*stale.ids], len(now.changed)) == (False, True, 3)
    assert [run.metrics for run in now.runs] == [run.metrics for run in stale.runs]


def test_a_forged_index_leads_nowhere() -> None:
    store = open_store(PLACE)
    store.write("index.csv", b"run_id,status,revision\n../../secret,complete,0\n/etc,complete,0\n\x00,complete,0\n")
    world = World()
    assert [run.folder for run in world.catalog.open().runs if ".." in run.folder.split("/")] == []


def test_the_filter_and_the_order_are_those_of_a_query() -> None:
    for lr in (0.1, 0.2, 0.3):
        Logbook(f"lr_{lr}", PLACE, params={"lr": lr}).mark_complete()
    catalog = Catalog(targets(PLACE), Choice(where="lr > 0.1", sort="lr", reverse=True))
    snapshot = catalog.refresh()
    assert ([run.params["lr"] for run in snapshot.runs], snapshot.runs.total) == ([0.3, 0.2], 3)
    unknown = Catalog(targets(PLACE), Choice(where="nothing > 1")).refresh()
    assert unknown.problems == ("no run has nothing",)


def test_a_place_without_runs_is_a_problem_until_one_begins() -> None:
    world = World()
    assert "there is no run" in world.catalog.open().problems[0]
    Logbook("a", PLACE).mark_complete()
    assert world.catalog.refresh().problems == ()


def test_ids_that_change_because_of_a_new_run_are_still_known(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    Logbook("b", f"{PLACE}/more").mark_complete()
    world.catalog.refresh()
    assert world.catalog.find("log_a").run_id == "a"


# -- rows --------------------------------------------------------------------------------------------------


def test_only_new_bytes_are_read(log: Logbook) -> None:
    world = World()
    assert world.read() == [1]
    assert world.requests(lambda: world.read()) == []  # just now
    log.scalars(step=1, loss=0.5)
    log.flush()
    world.clock.now += 1
    assert world.read() == [2]
    log.mark_complete()
    world.catalog.refresh()
    world.clock.now += 1
    assert world.requests(lambda: world.read()) == []  # it has ended, and all of it is known


def test_a_replaced_file_is_read_again_even_if_it_is_larger(log: Logbook) -> None:
    world = World()
    world.read()
    log.mark_complete()
    again = Logbook("a", PLACE, overwrite=True)
    for step in range(20):
        again.scalars(step=step, loss=2.0)
    again.mark_complete()
    world.clock.now += 60
    world.catalog.refresh()
    (found,) = [rows.data for _, rows in world.rows.read(world.files(), raising)]
    assert found is not None
    assert (found.rows, set(found["loss"].tolist())) == (20, {2.0})


def test_each_further_replacement_by_a_larger_file_is_noticed(log: Logbook) -> None:
    world = World()
    world.read()
    for first, rows in enumerate((5, 6, 9), 1):
        log = Logbook("a", PLACE, overwrite=True)
        for step in range(rows):
            log.scalars(step=step, loss=first + step / 10)
        log.flush()
        world.clock.now += 60
        world.catalog.refresh()
        (found,) = [one.data for _, one in world.rows.read(world.files(), raising)]
        assert found is not None
        assert found["loss"].tolist() == [first + step / 10 for step in range(rows)]


def test_memory_is_bounded() -> None:
    for name in "abc":
        with Logbook(name, PLACE) as log:
            for step in range(100):
                log.scalars(step=step, loss=1.0)
    world = World(limit=8000)  # two files of 100 rows with four columns of 8 bytes
    assert world.read("log_a", "log_b", "log_c") == [100] * 3
    assert 3200 <= world.rows.size <= 8000
    got = world.requests(lambda: world.read("log_c"))
    assert got == []
    assert world.requests(lambda: world.read("log_a")) == [("get", "series/scalars.jsonl")]
    tiny = World(limit=1)
    assert (tiny.read("log_a", "log_b"), tiny.rows.size) == ([100, 100], 3200)


def test_a_missing_file_and_an_unreadable_one() -> None:
    log = Logbook("a", PLACE)
    world = World()
    assert (world.files(), world.read()) == ([], [])
    log.scalars(step=0, loss=1.0)
    log.flush()
    world.catalog.refresh()
    world.store.fail(1)
    errors: list[Exception] = []
    assert [rows.data for _, rows in world.rows.read(world.files(), errors.append)] == [None]
    assert ["no server answered" in str(error) for error in errors] == [True]
    assert world.read() == [1]
    open_store(PLACE).delete(["log_a/series/scalars.jsonl"])
    world.clock.now += 1
    assert world.read() == []


# -- polls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("near", "seconds"), [(True, 1.5), (False, 4.0)])
def test_a_new_row_is_noticed_in_time(log: Logbook, near: bool, seconds: float) -> None:
    world = World(near=near)
    world.read()
    world.poll(ROWS)
    for step in range(1, 10):
        end = world.clock.now + (20 if step < 9 else 3600)
        while world.clock.now < end:
            world.clock.now += world.live.wait([ROWS])
            assert world.poll(ROWS) == []
        log.scalars(step=step, loss=0.5)
        log.flush()
        written = world.clock.now
        while not world.poll(ROWS):
            world.clock.now += world.live.wait([ROWS])
        assert world.clock.now - written <= seconds


def test_polls_become_rarer_while_nothing_changes(log: Logbook) -> None:
    world = World(near=False)
    world.read()
    began, polls = world.clock.now, 0
    while world.clock.now < began + 3600:
        assert world.requests(lambda: world.poll(ROWS)) == [("get", "series/scalars.jsonl")]
        polls += 1
        world.clock.now += world.live.wait([ROWS])
    assert polls < 950  # at most one every four seconds, as a new row must be on the screen within five


def test_a_poll_before_its_time_makes_no_request(log: Logbook) -> None:
    world = World()
    world.read()
    world.poll(ROWS, LOG)
    assert 0 < world.live.wait([ROWS, LOG]) <= 1
    assert world.requests(lambda: world.poll(ROWS, LOG)) == []
    assert world.live.wait([]) == float("inf")


def test_a_run_that_has_ended_is_not_polled(log: Logbook) -> None:
    log.mark_complete()
    world = World()
    world.read()
    world.clock.now += 10
    assert world.requests(lambda: world.poll(ROWS)) == []


def test_the_last_rows_of_a_run_are_read_after_its_end(log: Logbook) -> None:
    world = World()
    world.read()
    world.poll(ROWS)
    log.scalars(step=1, loss=0.5)
    log.mark_complete()
    world.catalog.refresh()
    world.clock.now += 2
    assert world.poll(ROWS) == [ROWS]
    assert world.read() == [2]


@pytest.mark.parametrize(("item", "key"), [(LOG, "log.txt"), (OUTPUT, "output.txt")])
def test_a_text_is_looked_up_only(item: Item, key: str, log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    store = open_store(PLACE)
    store.write(f"log_a/{key}", b"one\n")
    world.poll(item)
    world.live.note_text(item, store.stat(f"log_a/{key}").size)
    store.write(f"log_a/{key}", b"one\ntwo\n")
    world.clock.now += 2
    assert world.requests(lambda: world.poll(item)) == [("stat", key)]
    assert world.live.known([item]) == {item: 4}
    world.clock.now += 2
    assert world.poll(item) == [item]


@pytest.mark.parametrize(("near", "seconds"), [(True, 2.0), (False, 5.0)])
def test_new_output_is_noticed_in_time(log: Logbook, near: bool, seconds: float) -> None:
    world = World(near=near)
    world.catalog.refresh()
    world.live.note_text(OUTPUT, 0)  # a program that has printed nothing yet
    for lines in range(1, 6):
        end = world.clock.now + 3600
        while world.clock.now < end:
            world.clock.now += world.live.wait([OUTPUT])
            assert world.poll(OUTPUT) == []
        data = b"a line\n" * lines
        open_store(PLACE).write("log_a/output.txt", data)
        written = world.clock.now
        while not world.poll(OUTPUT):
            world.clock.now += world.live.wait([OUTPUT])
        assert world.clock.now - written <= seconds
        world.live.note_text(OUTPUT, len(data))  # the page reads it


def test_workers_and_unknown_names(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    unknown = [Item("log_x", "scalars"), Item("log_a", "../x"), Item("log_a", "other"), Item("log_x")]
    assert world.live.poll(unknown)[0] == {}


# -- outages -----------------------------------------------------------------------------------------------


def test_an_outage_is_reported_once_and_its_end(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    for _ in range(2):
        world.store.fail(1)
        kinds = [one.kind for one in world.live.list_again()]
    assert kinds == []
    assert [one.kind for one in world.live.outage] == ["problem"]
    assert [run.run_id for run in world.catalog.snapshot.runs] == ["a"]
    kinds = [one.kind for one in world.live.list_again()]
    assert kinds[-1] == "recovered"
    assert world.live.outage == []
    assert [text.partition(":")[0] for text in world.told] == ["Error", "The storage is available again"]


def test_a_page_that_opens_before_the_storage_answers_is_complete_later(log: Logbook) -> None:
    world = World()
    world.store.fail(1)
    first = world.catalog.open()
    assert (first.is_stale, "no server answered" in first.problems[0], [*first.runs]) == (True, True, [])
    world.live.note_opened(first)
    world.live.note_opened(world.catalog.open())
    assert len(world.told) == 1
    assert [one.kind for one in world.live.list_again()] == ["runs", "recovered"]
    assert [run.run_id for run in world.catalog.snapshot.runs] == ["a"]


def test_an_outage_during_a_poll(log: Logbook) -> None:
    world = World()
    world.read()
    world.clock.now += 5
    world.store.fail(1)
    events = world.live.poll([ROWS])[1]
    assert [(one.kind, "no server answered" in one.text) for one in events] == [("problem", True)]
    world.clock.now += 5
    assert [one.kind for one in world.live.poll([ROWS])[1]] == ["recovered"]


def test_a_failed_answer_is_an_outage_until_a_listing_succeeds(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    assert world.live.note_failed(KeyNameError("no such file")) == []
    assert [one.kind for one in world.live.note_failed(UnreachableError("no server answered"))] == ["problem"]
    assert world.live.listing_wait == 0
    assert [one.kind for one in world.live.list_again()] == ["recovered"]


def test_a_poll_that_takes_long_is_an_outage_until_it_ends(log: Logbook) -> None:
    world = World()
    world.read()
    assert [one.text for one in world.live.note_slow()] == ["the storage does not answer"]
    assert [one.kind for one in world.live.poll([ROWS])[1]] == ["recovered"]


class SlowCatalog(Catalog):
    """Places whose listing takes half a minute."""

    def __init__(self, world: World) -> None:
        super().__init__(targets(Store(world.store)))
        self._clock = world.clock

    def refresh(self) -> Snapshot:
        self._clock.now += 30
        return super().refresh()


def test_listings_take_a_tenth_of_the_time(log: Logbook) -> None:
    log.mark_complete()
    world = World()
    live = Live(SlowCatalog(world), world.rows, clock=world.clock)
    live.list_again()
    assert live.listing_wait >= 269


def test_between_two_listings_the_state_of_running_runs_is_read(log: Logbook) -> None:
    Logbook("b", PLACE).mark_complete()
    world = World(near=False)
    catalog = SlowCatalog(world)
    live = Live(catalog, world.rows, clock=world.clock)
    live.list_again()
    assert live.listing_wait == 15
    world.clock.now += 15
    assert world.requests(live.list_again) == [("get", "metadata.json")]
    log.json("metrics", {"error": 0.5})
    log.mark_complete()
    world.clock.now += 15
    assert live.list_again() == [Event("runs", ("log_a",))]
    assert (catalog.find("log_a").status, catalog.find("log_a").metrics["error"]) == ("complete", 0.5)
    assert live.listing_wait > 200  # nothing runs


@pytest.mark.parametrize(("near", "first", "last"), [(True, 5, 20), (False, 15, 60)])
def test_listings_become_rare_while_nothing_changes(log: Logbook, near: bool, first: float, last: float) -> None:
    log.mark_complete()
    world = World(near=near)
    world.live.list_again()
    waits = []
    for _ in range(60):
        waits.append(world.live.listing_wait)
        world.clock.now += waits[-1]
        assert world.live.list_again() == []
    assert (waits[0], waits[-1]) == (first, last)


def test_new_runs_are_reported(log: Logbook) -> None:
    world = World()
    world.live.list_again()
    Logbook("b", PLACE).mark_complete()
    world.clock.now += 5
    assert world.live.list_again() == [Event("runs", ("log_b",))]


# -- streams -----------------------------------------------------------------------------------------------


async def first(texts: AsyncIterator[str], kind: str) -> dict[str, object]:
    """Return the first event of a kind."""
    async for text in texts:
        if text.startswith("data: "):
            event: dict[str, object] = json.loads(text[6:])
            if event["kind"] == kind:
                return event
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_an_open_page_hears_of_rows_lines_and_runs(kind: str, tmp_path: Path) -> None:
    place = PLACE if kind == "memory" else str(tmp_path)
    log = Logbook("a", place)
    log.scalars(step=0, loss=1.0)
    log.flush()
    catalog = Catalog(targets(place))
    rows = RowCache()
    live = Live(catalog, rows, interval=0.01)

    async def visit() -> None:
        streams = Streams(live, failed=raising)
        [*rows.read(files_of(catalog.find("log_a"), "scalars"), raising)]
        live.note_text(LOG, open_store(place).stat("log_a/log.txt").size)
        live.note_text(OUTPUT, 0)
        stream = streams.open(frozenset({ROWS, LOG, OUTPUT}))
        texts = stream.texts()
        assert await anext(texts) == "retry: 2000\n\n"
        log.scalars(step=1, loss=0.5)
        log.flush()
        assert await first(texts, "rows") == {"kind": "rows", "ids": ["log_a"]}
        log.info("line")
        assert await first(texts, "log") == {"kind": "log", "ids": ["log_a"]}
        open_store(place).write("log_a/output.txt", b"printed\n")
        assert await first(texts, "output") == {"kind": "output", "ids": ["log_a"]}
        streams.close(stream)
        assert [text async for text in texts] in ([], [": quiet\n\n"])
        assert len(streams) == 0

    asyncio.run(visit())


def test_streams_are_bounded_and_end_together(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()

    async def visit() -> None:
        streams = Streams(world.live, most=2, failed=raising)
        opened = [streams.open(frozenset()) for _ in range(2)]
        with pytest.raises(BusyError, match="2 pages are open already"):
            streams.open(frozenset())
        streams.close_all()
        for stream in opened:
            assert [text async for text in stream.texts()] == ["retry: 2000\n\n"]
        assert len(streams) == 0

    asyncio.run(visit())


def test_no_open_page_means_no_request(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    del world.store.operations[:]

    async def visit() -> None:
        streams = Streams(world.live, failed=raising)
        streams.close(streams.open(frozenset({ROWS})))
        world.clock.now += 1000
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(visit())
    assert world.store.operations == []


def test_a_page_that_opens_during_an_outage_hears_of_it(log: Logbook) -> None:
    world = World()
    world.catalog.refresh()
    world.store.fail(1)
    world.live.list_again()

    async def visit() -> dict[str, object]:
        streams = Streams(world.live, failed=raising)
        event = await first(streams.open(frozenset()).texts(), "problem")
        streams.close_all()
        return event

    assert "no server answered" in str(asyncio.run(visit())["text"])


def test_events_that_wait_are_joined() -> None:
    async def texts() -> list[str]:
        stream = Stream(frozenset({ROWS}), {ROWS: 1})
        stream.compare({ROWS: 1, LOG: 5})
        for name in ("log_a", "log_b", "log_a"):
            stream.put(Event("runs", (name,)))
        stream.compare({ROWS: 2})
        stream.put(Event("problem", (), "away"))
        stream.put(Event("recovered"))
        found = stream.texts()
        return [await anext(found) for _ in range(4)]

    events = [json.loads(text[6:]) for text in asyncio.run(texts())[1:]]
    assert events == [
        {"kind": "runs", "ids": ["log_a", "log_b"]},
        {"kind": "rows", "ids": ["log_a"]},
        {"kind": "recovered", "ids": []},
    ]
    assert Event("runs", tuple(map(str, range(1000)))).record() == {"kind": "runs", "ids": []}


def test_readers_are_bounded_and_pass_errors_on() -> None:
    async def calls() -> None:
        readers = Readers(1, 1)
        with pytest.raises(ZeroDivisionError):
            await readers.run(lambda: 1 / 0)
        busy = asyncio.create_task(readers.run(lambda: 1))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await readers.run(lambda: 2)
        assert await busy == 1
        assert await readers.run(lambda: 3) == 3

    asyncio.run(calls())


def test_the_far_backend_is_far() -> None:
    assert isinstance(World(near=False).store, FarBackend)


def test_places_without_a_run_are_reported_once(tmp_path: Path) -> None:
    told: list[str] = []
    server = page_of(str(tmp_path / "nothing"), tell=told.append)
    server.look()
    Visit(server).data("runs")
    assert [line.partition(" at ")[0] for line in told] == ["Warning: there is no run"]
    server = page_of(str(tmp_path), tell=told.append)
    with Logbook("a", tmp_path, environment=False, heartbeat=None):
        pass
    server.look()
    assert len(told) == 1
