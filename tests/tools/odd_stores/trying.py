"""Test each promise of the store contract at one place; the result is a cell of the table.

A cell says ``yes`` if the promise held each time. Another process reads the data back with its own connection wherever
that could make a difference.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

from notata import (
    ConflictError,
    DeadlineError,
    Experiment,
    Logbook,
    LogReader,
    NotataError,
    RunExistsError,
    UnprotectedWarning,
    sync,
)
from notata.errors import ExistsError, MissingError, StorageError
from notata.store import Store, open_store
from notata.store.files import PART
from tests.tools.odd_stores.relay import Relay
from tests.tools.odd_stores.servers import Place, register

__all__ = ["CAPABILITIES", "tried"]

_SECONDS: Final = 120.0  # time limit of one capability
_READING: Final = 3.0  # seconds in which one process replaces a file and another one reads it
_RACES: Final = 20
_RACERS: Final = 4  # processes
_SIZE: Final = 300_000
_MAY: Final = "the server decides"


@dataclass(frozen=True)
class Site:
    """The place of a test: a separate folder, behind a relay if there is a server."""

    place: Place
    relay: Relay | None
    folder: str

    def store(self, **options: Any) -> Store:
        register(self.place.protocol)
        return open_store(self.place.url, self.place.options, **options).below(self.folder)


def _elsewhere(site: Site, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of this module in another process and return its result."""
    with _process(site, work, *arguments) as result:
        return result()


@contextlib.contextmanager
def _process(site: Site, work: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[], Any]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_report, args=(theirs, site.place, site.folder, work, arguments), daemon=True)
    process.start()
    theirs.close()

    def result() -> Any:
        if not ours.poll(_SECONDS):
            raise TimeoutError("the other process did not answer")
        ended, value = ours.recv()
        if not ended:
            raise AssertionError(value)
        return value

    try:
        if not ours.poll(_SECONDS) or ours.recv() != "ready":
            raise TimeoutError("the other process did not start")
        yield result
    finally:
        process.kill()
        process.join()


def _report(pipe: Any, place: Place, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    store = Site(place, None, folder).store()
    store.exists("connected")
    pipe.send("ready")
    try:
        pipe.send((True, work(store, *arguments)))
    except BaseException as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))


# -- the capabilities ----------------------------------------------------------------------------------------


def overwrite(site: Site) -> str:
    """Replace a file again and again, while another process reads it."""
    store = site.store()
    store.write("a", bytes([0]) * _SIZE)
    with _process(site, _watch, "a", _READING) as seen:
        until = time.monotonic() + _READING + 1
        number = 0
        while time.monotonic() < until:
            number = (number + 1) % 256
            store.write("a", bytes([number]) * _SIZE)
        missing, torn, refused, whole = seen()
    assert whole, "nothing was read"
    if torn:
        return "not atomic"
    if missing and store.gap == "":
        return "a gap"
    return "busy at times" if refused else {"": "yes"}.get(store.gap, "a gap" if "cannot rename" in store.gap else _MAY)


def _watch(store: Store, key: str, seconds: float) -> tuple[int, int, int, int]:
    """Count how often the file was missing, partial, refused and whole."""
    counts = [0, 0, 0, 0]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            data = store.read(key)
            counts[3 if len(data) == _SIZE and len(set(data)) == 1 else 1] += 1
        except MissingError:
            counts[0] += 1
        except ConflictError:
            counts[3] += 1  # the store detected a change; the reader would read again
        except StorageError:
            counts[2] += 1
    return counts[0], counts[1], counts[2], counts[3]


def failed_write(site: Site) -> str:
    """Abort writes by an error and by a lost connection: the old content stays, and nothing else."""
    store = site.store()
    store.write("a", b"old")
    for size in (10, 2 * PART):
        with contextlib.suppress(KeyboardInterrupt), store.open("a", "wb") as file:
            file.write(b"x" * size)
            raise KeyboardInterrupt
    if site.relay is not None:
        with contextlib.suppress(Exception), store.open("a", "wb") as file:
            file.write(b"x" * (PART + 1))
            file.write(b"x" * PART)
            site.relay.drop()
            file.write(b"x" * PART)
            raise RuntimeError
    content, names = _elsewhere(site, _read_and_list)
    return "yes" if (content, names) == (b"old", ["a"]) else "no"


def _read_and_list(store: Store) -> tuple[bytes, list[str]]:
    return store.read("a"), [entry.key for entry in store.list()]


def create(site: Site) -> str:
    """Create a file that exists, and one whose reply is lost; then race processes for one name."""
    store = site.store()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        store.create("a", b"1")
        try:
            store.create("a", b"2")
        except ExistsError:
            pass
        else:
            return "no"
    assert store.read("a") == b"1"
    if any(issubclass(warning.category, UnprotectedWarning) for warning in told):
        return "looks first"
    with _reply_lost(site):
        version = store.create("unanswered", b"1")
    store.replace("unanswered", b"2", version)
    return "yes" if _one_wins(site, _race_to_create) else "no"


@contextlib.contextmanager
def _reply_lost(site: Site) -> Iterator[None]:
    """Lose the next reply of the server, if there is one."""
    if site.relay is None:
        yield
        return
    site.relay.loses_reply = True
    yield
    assert not site.relay.loses_reply, "the server did not reply"


def swap(site: Site) -> str:
    """Replace an old version; then race processes to replace one version."""
    store = site.store()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = store.create("a", b"1")
    newer = store.replace("a", b"22", version)
    if store.supports_cas:
        with _reply_lost(site):
            newer = store.replace("a", b"22", newer)
    try:
        store.replace("a", b"3", version)
    except ConflictError:
        pass
    else:
        return "no"
    assert (store.read("a"), store.fetch("a").version) == (b"22", newer)
    if not store.supports_cas:
        return "looks first"
    for number in range(_RACES):
        store.write(f"race{number}", b"begin")
    versions = {f"race{number}": store.stat(f"race{number}").version for number in range(_RACES)}
    return "yes" if _one_wins(site, _race_to_swap, versions) else "no"


def _one_wins(site: Site, race: Callable[..., Any], *arguments: Any) -> bool:
    together = multiprocessing.get_context("spawn").Barrier(_RACERS)
    with contextlib.ExitStack() as running:
        results = [running.enter_context(_process(site, race, n, together, *arguments)) for n in range(_RACERS)]
        won = [result() for result in results]
    winners = [sum(one[race] for one in won) for race in range(_RACES)]
    if set(winners) != {1}:
        print(f"winners of each race at {site.place.url}: {winners}", file=sys.stderr)
    return set(winners) == {1}


def _race_to_create(store: Store, number: int, together: Barrier) -> list[bool]:
    return [_win(lambda key: store.create(key, b"%d" % number), f"race{at}", together) for at in range(_RACES)]


def _race_to_swap(store: Store, number: int, together: Barrier, versions: dict[str, str]) -> list[bool]:
    return [_win(lambda key: store.replace(key, b"%d" % number, versions[key]), key, together) for key in versions]


def _win(attempt: Callable[[str], object], key: str, together: Barrier) -> bool:
    together.wait(_SECONDS)  # all processes at the same moment
    try:
        attempt(key)
    except (ExistsError, ConflictError):
        return False
    return True


def append(site: Site) -> str:
    """Append bytes to a file; a repeated call appends once."""
    store = site.store()
    size = store.append("log", b"one\n", at=0)
    store.append("log", b"two\n", at=size)
    store.append("log", b"two\n", at=size)
    with store.open("log", "ab") as file:
        file.write(b"three\n")
    return "yes" if _elsewhere(site, _read, "log") == b"one\ntwo\nthree\n" else "no"


def _read(store: Store, key: str) -> bytes:
    return store.read(key)


def ranges(site: Site) -> str:
    """Read ranges of a small file, and of one that was uploaded in several parts."""
    store = site.store()
    store.write("a", b"0123456789")
    big = bytes(range(256)) * (2 * PART // 256) + b"end"
    store.write("big", big)
    got = [store.read("a", 0, 3), store.read("a", 3, 5), store.read("a", 8), store.read("a", 20, 30)]
    with store.open("big", "rb") as file:
        file.seek(-3, 2)
        tail = file.read()
        file.seek(PART - 2)
        middle = file.read(4)
        file.seek(0)
        whole = file.read()
    right = [b"012", b"34", b"89", b""]
    return "yes" if got == right and (tail, middle, whole) == (b"end", big[PART - 2 : PART + 2], big) else "no"


def listing(site: Site) -> str:
    """Check that another process's writes and deletions are visible immediately."""
    store = site.store()
    assert store.list() == []
    for number in range(5):
        _elsewhere(site, _write, f"sub/{number}")
        if [entry.key for entry in store.list()] != [f"sub/{n}" for n in range(number + 1)]:
            return "no"
    _elsewhere(site, _remove, "sub/3")
    return "yes" if [entry.key for entry in store.list("sub")] == ["sub/0", "sub/1", "sub/2", "sub/4"] else "no"


def _write(store: Store, key: str) -> None:
    store.write(key, key.encode())


def _remove(store: Store, key: str) -> None:
    store.delete([key])


def delete(site: Site) -> str:
    """Delete exactly these names, including a missing one and special characters."""
    store = site.store()
    names = ["x1", "x[1]", "x*", "é b", "a+b", "a%20b", "a#b", "sub/x?", "a:b"]
    refused = ""
    for name in names:
        try:
            store.write(name, name.encode())
        except NotataError:
            refused += next(character for character in name if character in "[*é+%#?:")
    there = [name for name in names if not set(name) & set(refused)]
    if sorted(there) != [entry.key for entry in store.list()]:
        return "no"
    store.delete({"x[1]", "x*", "a%20b", "sub/x?"} & set(there) | {"gone", "sub/gone"})
    kept = sorted({"x1", "é b", "a+b", "a#b", "a:b"} & set(there))
    if _elsewhere(site, _names) != kept or any(_elsewhere(site, _read, name) != name.encode() for name in kept):
        return "no"
    return f"yes; no `{' '.join(refused)}` in names" if refused else "yes"


def _names(store: Store) -> list[str]:
    return [entry.key for entry in store.list()]


def threads(site: Site) -> str:
    """Use one store, and then separate stores, from many threads."""
    shared = site.store()

    def work(number: int) -> bool:
        store = shared if number % 2 else site.store()
        for round_ in range(5):
            store.write(f"t{number}/{round_}", b"%d" % number * 1000)
            assert store.read(f"t{number}/{round_}", 0, 1000 * len(str(number))) == b"%d" % number * 1000
            assert len(store.list(f"t{number}")) == round_ + 1
        return True

    with ThreadPoolExecutor(16) as pool:
        return "yes" if all(pool.map(work, range(16))) else "no"


def deadline(site: Site) -> str:
    """Silence the server: an error within the time limit, and normal operation when it answers again."""
    if site.relay is None:
        return "no server"
    store = site.store(timeout=2.0)
    store.write("a", b"1")
    site.relay.stalled = True
    begun = time.monotonic()
    try:
        store.read("a")
    except DeadlineError:
        told = "yes"
    except StorageError as error:
        told = type(error).__name__
    else:
        told = "no"
    took = time.monotonic() - begun
    site.relay.stalled = False
    if told == "yes" and took > 10:
        return f"after {took:.0f} s"
    store.write("a", b"2")
    return told if _elsewhere(site, _read, "a") == b"2" else "no"


def reconnect(site: Site) -> str:
    """Close every connection: reads, writes and a new run continue."""
    if site.relay is None:
        return "no server"
    store = site.store()
    store.write("a", b"1")
    store.write("sub/b", b"2")
    steps: list[Callable[[], Any]] = [
        lambda: store.read("a"),
        lambda: store.write("a", b"3"),
        lambda: store.list(),
        lambda: store.append("log", b"line\n"),
        lambda: store.delete(["sub/b"]),
        lambda: site.store().create("new", b"4"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in steps:
            site.relay.drop()
            step()
    names = _elsewhere(site, _names)
    assert names == ["a", "log", "new"], names
    return "yes"


def run(site: Site) -> str:
    """Run a complete cycle: record, resume, replace, read, copy there and back, verify."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _record(site)
    return "yes"


def _record(site: Site) -> None:
    base = site.store()
    with Logbook("a", base, params={"x": 1}) as log:
        log.text("notes", "é")
        log.array("field", [1.0, 2.0])
        log.bytes("big", bytes(PART + 1))
        log.info("a line")
    assert LogReader(base.below("log_a")).verify().ok
    try:
        Logbook("a", base)
    except RunExistsError:
        pass
    else:
        raise AssertionError("a taken id was given out")
    with Logbook("a", base, resume=True) as log:
        log.text("more", "b")
    reader = LogReader(base.below("log_a"))
    assert reader.load_text("notes") == "é"
    assert reader.load_array("field").tolist() == [1.0, 2.0]
    report = reader.verify()
    assert (report.changed, report.missing) == ((), ())
    assert LogReader(reader.url, storage_options=site.place.options).load_text("more") == "b"
    with contextlib.suppress(ValueError), Logbook("fails", base):
        raise ValueError("on purpose")
    with Logbook("a", base, overwrite=True) as log:
        log.text("new", "c")
    assert [entry.key for entry in base.list("log_a")] == [
        f"log_a/{name}" for name in ("artifacts/new.txt", "log.txt", "manifest.json", "metadata.json")
    ]
    experiment = Experiment("sweep", base)
    for value in range(2):
        with experiment.add(x=value) as one:
            one.json("result", {"x": value})
    experiment.write_index()
    with contextlib.ExitStack() as folders:
        here = Path(folders.enter_context(tempfile.TemporaryDirectory()))
        there = sync(base, here)
        assert there.runs >= 2, there
        sync(here, base.below("copies"))
        assert LogReader(base.below("copies/log_a")).verify().ok


CAPABILITIES: Final[dict[str, Callable[[Site], str]]] = {
    "replaced in one step": overwrite,
    "a failed write leaves the old": failed_write,
    "exclusive create": create,
    "compare and swap": swap,
    "append": append,
    "ranges": ranges,
    "fresh lists": listing,
    "exact deletes": delete,
    "threads": threads,
    "deadline": deadline,
    "reconnects": reconnect,
    "whole runs": run,
}


def tried(place: Place) -> dict[str, str]:
    """Test everything at a place; return the results by capability."""
    cells = {}
    for number, (name, attempt) in enumerate(CAPABILITIES.items()):
        relay = Relay(place.port) if place.port else None
        site = Site(place.at(relay.port) if relay else place, relay, f"try{number}")
        cells[name] = _within(_SECONDS, attempt, site)
        if relay is not None:
            relay.close()
    return cells


def _within(seconds: float, attempt: Callable[[Site], str], site: Site) -> str:
    """Return the result or the error of a test; a test that hangs is abandoned."""
    said: list[str] = []

    def work() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said.append(attempt(site))
        except BaseException as error:
            traceback.print_exc()
            said.append(f"fails ({type(error).__name__})")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else "hangs"
