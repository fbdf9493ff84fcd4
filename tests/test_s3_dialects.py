"""S3 dialects: moto imitating one deviation of another store at a time."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from notata import (
    ConflictError,
    Experiment,
    Logbook,
    LogReader,
    MirrorStorage,
    RunExistsError,
    StorageError,
    UnprotectedWarning,
    sync,
)
from notata._base import processes
from notata.store.backends import s3
from notata.store.backends.s3_conditions import is_amazon
from notata.store.files import PART
from tests.backends import Place
from tests.contract.conftest import make_place
from tests.counting import Send, counted, intercepted

pytestmark = pytest.mark.usefixtures("forget_s3_capabilities")

Headers = dict[str, str]
Habit = Callable[[str, str, Headers], "Headers | None"]
"""Return the changed headers of a request with this method and URL; None if the store answers 412."""


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place("s3", request)
    yield place
    place.store().clear()


@contextmanager
def habit(habit: Habit) -> Iterator[None]:
    """Make moto behave like another store by changing requests on their way."""

    async def request(send: Send, verb: str, url: Any, **kwargs: Any) -> Any:
        headers = habit(verb, str(url), dict(kwargs["headers"]))
        if headers is None:  # a condition that no object satisfies
            headers = {**_without(kwargs["headers"], "If-Match"), "If-Match": '"refused"'}
        return await send(verb, url, **{**kwargs, "headers": headers})

    with intercepted(request):
        yield


def _without(headers: Headers, *names: str) -> Headers:
    return {name: value for name, value in headers.items() if name.lower() not in {each.lower() for each in names}}


def _if_match(headers: Headers) -> str | None:
    return next((value for name, value in headers.items() if name.lower() == "if-match"), None)


def bare_only(verb: str, url: str, headers: Headers) -> Headers | None:
    """Ceph RGW: a quoted If-Match of a write never matches."""
    return None if verb == "PUT" and (_if_match(headers) or "").startswith('"') else headers


def quoted_only(verb: str, url: str, headers: Headers) -> Headers | None:
    """Strict HTTP: a bare ETag in If-Match never matches."""
    found = _if_match(headers)
    return None if found is not None and not found.startswith('"') else headers


def ignores(*names: str) -> Habit:
    return lambda verb, url, headers: _without(headers, *names)


def ignores_at_completion(verb: str, url: str, headers: Headers) -> Headers:
    """Ceph RGW 16: it ignores the conditions of the request that completes an upload."""
    return _without(headers, "If-Match", "If-None-Match") if verb == "POST" else headers


def refuses_to_swap(verb: str, url: str, headers: Headers) -> Headers | None:
    """A store that broke after it was tested: it refuses each swap of a run's state."""
    return None if "metadata.json" in url and _if_match(headers) is not None else headers


BOTH = ignores("If-None-Match", "If-Match")


def test_a_part_is_read_from_a_store_that_sends_the_checksum_of_the_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``rclone serve s3`` does this for each range."""
    checksum = "x-amz-checksum-crc32", "AAAAAA=="
    original = aiohttp.ClientResponse.start

    async def start(self: aiohttp.ClientResponse, connection: Any) -> aiohttp.ClientResponse:
        answer = await original(self, connection)
        fields = {**answer.headers, checksum[0]: checksum[1]}
        monkeypatch.setattr(answer, "_headers", CIMultiDictProxy(CIMultiDict(fields)))
        monkeypatch.setattr(answer, "_raw_headers", tuple((k.encode(), v.encode()) for k, v in fields.items()))
        return answer

    place.put("a", b"0123456789")
    monkeypatch.setattr(aiohttp.ClientResponse, "start", start)
    store = place.store()
    assert (store.read("a", 2, 5), store.read("a")) == (b"234", b"0123456789")
    assert store.append("a", b"x", at=10) == 11


@pytest.mark.parametrize("dialect", [bare_only, quoted_only])
def test_a_run_ends_whatever_form_of_an_etag_the_store_takes(place: Place, dialect: Habit) -> None:
    with habit(dialect):
        log = place.logbook()
        log.mark_complete()
        assert place.logbook(resume=True).status == "initialized"
        version = place.store().create("x", b"1")
        assert place.store().replace("x", b"2", version)
        with pytest.raises(ConflictError):
            place.store().replace("x", b"3", version)
    assert place.bytes("x") == b"2"


@pytest.mark.parametrize("dialect", [bare_only, quoted_only])
def test_a_large_file_is_read_and_appended_to_in_either_form(place: Place, dialect: Habit) -> None:
    large = bytes(2 * PART + 1)
    place.put("large", large)
    with habit(dialect):
        store = place.store()
        assert store.read("large") == large
        assert store.append("large", b"end", at=len(large)) == len(large) + 3
    assert place.bytes("large") == large + b"end"


def test_a_store_that_refuses_each_swap_is_an_error_after_a_few(place: Place) -> None:
    """Without a limit, a run never ended and sent 30 requests a second."""
    log = place.logbook()
    with counted() as sent, habit(refuses_to_swap), pytest.raises(StorageError) as caught:
        log.mark_complete()
    assert 4 < len(sent) < 60
    assert "its conditional writes (If-Match) do not work" in str(caught.value)
    assert caught.value.key == "metadata.json"
    log.mark_complete()


def test_the_trial_touches_no_file_and_leaves_nothing(place: Place) -> None:
    with counted() as sent:
        place.store().below("sweep/log_a").create("metadata.json", b"{}")
    trial, claim = sent[:-1], sent[-1]
    assert "metadata.json" in claim
    prefix = place.url.removeprefix("s3:/")
    begun = f"{prefix}/.notata-{processes.tag()}"
    assert {request.split()[1].rpartition("?")[0].rpartition("-")[0] for request in trial} == {begun}
    assert len(trial) == 5
    assert place.names() == ["sweep/log_a/metadata.json"]


def test_amazon_is_never_tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_amazon("https://s3.eu-central-1.amazonaws.com")
    monkeypatch.setattr(s3, "is_amazon", lambda endpoint: True)
    with counted() as sent:
        place.store().create("x", b"1")
    assert len(sent) == 1
    assert place.store().supports_exclusive_create
    assert place.store().supports_cas


@pytest.mark.parametrize(
    ("dialect", "creates", "swaps", "told"),
    [
        (BOTH, False, False, "ignores If-None-Match and If-Match"),
        (ignores("If-None-Match"), False, True, "ignores If-None-Match,"),
        (ignores("If-Match"), True, False, "ignores If-Match,"),
        (bare_only, True, True, ""),
    ],
)
def test_each_condition_is_tried_for_itself(
    place: Place, dialect: Habit, creates: bool, swaps: bool, told: str
) -> None:
    store = place.store()
    with habit(dialect):
        assert (store.supports_exclusive_create, store.supports_cas) == (creates, swaps)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            log = place.logbook()
        assert told in str(caught[0].message) if told else not caught, caught
        assert (json.loads(place.bytes("log_run/metadata.json"))["lease"]["heartbeat"] is None) is (not swaps)
        log.mark_complete()


@pytest.mark.filterwarnings("ignore::notata.UnprotectedWarning")
def test_without_conditions_a_taken_id_is_refused_and_the_run_is_untouched(place: Place) -> None:
    with habit(BOTH):
        first = place.logbook(params={"x": 1})
        first.mark_complete()
        before = place.bytes("log_run/metadata.json")
        s3.known.forget()  # simulate another process
        with pytest.raises(RunExistsError):
            place.logbook()
        assert place.bytes("log_run/metadata.json") == before
        with pytest.raises(FileExistsError), place.store().open("log_run/params.yaml", "xb") as file:
            file.write(bytes(PART + 1))
        assert LogReader(f"{place.url}/log_run", storage_options=place.options).params == {"x": 1}


def test_without_conditions_a_changed_file_is_not_replaced(place: Place) -> None:
    store = place.store()
    with habit(BOTH), pytest.warns(UnprotectedWarning):
        version = store.create("x", b"1")
    place.put("x", b"theirs")
    large = bytes(PART)
    place.put("large", large)
    appender = store.appender("large")
    place.put("large", large + b"theirs")
    with habit(BOTH):
        with pytest.raises(ConflictError):
            store.replace("x", b"2", version)
        with pytest.raises(ConflictError):
            appender.append(b"ours")
    assert (place.bytes("x"), place.bytes("large")) == (b"theirs", large + b"theirs")


def test_conditions_that_completions_ignore_are_checked(place: Place) -> None:
    with habit(ignores_at_completion), warnings.catch_warnings():
        warnings.simplefilter("error")
        store = place.store()
        store.write("x", b"theirs")
        with pytest.raises(FileExistsError), store.open("x", "xb") as file:
            file.write(bytes(PART + 1))
    assert place.bytes("x") == b"theirs"
    assert not [entry for entry in store.list_all() if entry.key != "x"]


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_resume_and_an_overwrite_warn_as_a_claim(place: Place, how: str) -> None:
    place.logbook(run_id="run").mark_failed("on purpose")
    s3.known.forget()
    with habit(BOTH), pytest.warns(UnprotectedWarning, match="cannot prevent two writers from using the same run id"):
        log = place.logbook(**{how: True})
    assert log.status == "initialized"


def test_a_warning_that_is_an_error_leaves_a_run_as_it_was(place: Place) -> None:
    place.logbook().mark_failed("on purpose")
    before = place.files()
    s3.known.forget()
    with habit(BOTH), warnings.catch_warnings():
        warnings.simplefilter("error", UnprotectedWarning)
        for options in ({}, {"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(UnprotectedWarning):
                place.logbook(**options)
    assert place.files() == before


@pytest.mark.filterwarnings("ignore::notata.UnprotectedWarning")
def test_without_conditions_tables_and_copies_work(place: Place, tmp_path: Path) -> None:
    with habit(BOTH):
        sweep = Experiment("sweep", place.url, storage_options=place.options)
        for dt in (0.1, 0.2):
            with sweep.add(dt=dt) as log:
                log.text("notes", "x")
        sweep.write_index()
        with Logbook("mirrored", tmp_path / "here", mirror=MirrorStorage(place.url, place.options)) as log:
            log.text("notes", "converged")
        assert log.mirror is not None
        log.mirror.flush()  # two copies at once agree in the end only, as no request of either can be refused
        with Logbook("synced", tmp_path / "here") as log:
            log.text("notes", "converged")
        report = sync(tmp_path / "here", place.url, destination_options=place.options)
    assert report.runs == 2
    for name in ("mirrored", "synced"):
        assert place.bytes(f"log_{name}/artifacts/notes.txt") == b"converged"
        assert json.loads(place.bytes(f"log_{name}/metadata.json"))["status"] == "complete"
    index = place.bytes("sweep/index.csv").decode().splitlines()
    assert len(index) == 3


def test_where_reads_ignore_if_match_a_changed_file_is_an_error(place: Place) -> None:
    place.put("x", bytes(3 * PART))
    with habit(ignores("If-Match")):
        file = place.store().open("x", "rb")
        file.read(10)
        place.put("x", b"1" * 3 * PART)
        with pytest.raises(ConflictError, match="it changed while it was read"):
            file.read()


def test_a_store_without_part_copies_gets_the_file_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    large = bytes(range(256)) * (PART // 256) + b"tail"
    place.put("large", large)
    with habit(lambda verb, url, headers: _without(headers, "x-amz-copy-source", "x-amz-copy-source-range")):
        store = place.store()
        assert store.append("large", b"more", at=len(large)) == len(large) + 4
    assert place.bytes("large") == large + b"more"
    assert not uploads(place)


def no_copies(verb: str, url: str, headers: Headers) -> Headers:
    """A store that takes a copy for an upload of nothing."""
    return {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-copy-source")}


def ignores_at_copy(verb: str, url: str, headers: Headers) -> Headers:
    """A store that ignores the conditions for the target of a copy."""
    is_copy = any(name.lower() == "x-amz-copy-source" for name in headers)
    return _without(headers, "If-Match", "If-None-Match") if is_copy else headers


@pytest.mark.parametrize("dialect", [no_copies, ignores_at_copy])
def test_a_store_that_copies_nothing_safely_gets_the_content(place: Place, dialect: Habit) -> None:
    with Logbook("a", place.url + "/here", storage_options=place.options) as log:
        log.text("notes", "converged")
    options: Any = {"source_options": place.options, "destination_options": place.options}
    with habit(dialect), warnings.catch_warnings():
        warnings.simplefilter("error")
        sync(f"{place.url}/here/log_a", f"{place.url}/there", **options)
        store = place.store()
        assert store.copies_from(store) is (dialect is ignores_at_copy)
    key = "log_a/artifacts/notes.txt"
    assert place.bytes(f"there/{key}") == place.bytes(f"here/{key}") == b"converged"
    with habit(dialect), counted() as sent:
        place.put("here/log_a/artifacts/later", b"later")
        sync(f"{place.url}/here/log_a", f"{place.url}/there", **options)
    assert [each for each in sent if each.startswith("GET") and "later" in each]
    assert place.bytes("there/log_a/artifacts/later") == b"later"


def test_parts_of_another_size_are_copied_as_they_are(place: Place) -> None:
    """The copy has the ETag of the original, whatever program sent it."""
    data = bytes(range(256)) * (11 * 2**20 // 256)
    place.raw().pipe_file(f"{place.url}/x", data, chunksize=5 * 2**20)
    store = place.store()
    entry = store.stat("x")
    assert entry.version.endswith("-3")
    assert store.copy_on_server("y", store, entry, "") == entry.version
    assert place.bytes("y") == data
    with pytest.raises(ConflictError):
        store.copy_on_server("y", store, entry, "0" * 32)


def test_a_copy_of_another_version_is_no_success(place: Place) -> None:
    """Some stores ignore the condition for the source of a copy. The ETag of the copy tells."""
    store = place.store()
    store.write("x", b"one")
    entry = store.stat("x")
    store.write("x", b"two")
    with habit(ignores("x-amz-copy-source-if-match")), pytest.raises(ConflictError, match="changed its source"):
        store.copy_on_server("y", store, entry, "")


def test_a_list_with_a_repeated_token_is_an_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store()
    store.write("x", b"1")
    page = {"Contents": [], "IsTruncated": True, "NextContinuationToken": "again"}
    asked: list[str] = []

    def call(self: s3.S3Backend, method: str, name: str | None = None, **arguments: Any) -> dict[str, Any]:
        asked.append(method)
        return page

    monkeypatch.setattr(s3.S3Backend, "_call", call)
    with pytest.raises(StorageError, match="sent an incomplete list"):
        store.list()
    assert len(asked) == 2


def uploads(place: Place) -> list[Any]:
    """Return uploads that are neither completed nor aborted."""
    prefix = place.url.split("/", 3)[3]
    found = place.raw().list_multipart_uploads("test-bucket")
    return [upload for upload in found if upload["Key"].startswith(prefix)]


def test_a_store_that_is_opened_often_handles_each_reply_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        place.store().exists("a")
    with caplog.at_level(logging.DEBUG, "botocore.hooks"):  # names each function that it calls
        place.store().exists("a")
    called = [message for message in caplog.messages if "needs-retry.s3" in message]
    assert [message for message in called if "_give_up" in message]
    assert len(called) == len(set(called))
