"""``notata watch`` and `notata.search.Watcher`: each new state of a run is reported once, whatever fails meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notata import ConfigurationError, DecodeError, Logbook, UnreachableError, search
from notata.cli import main
from notata.search import Alert, Watcher
from notata.search.alert_state import AlertState, default_folder
from notata.search.alerts import ON
from notata.search.notifying import Command, DeliveryError, Webhook
from notata.store import Blob, open_store
from notata.store.in_flight import started_in_thread
from notata.store.wrapper import Wrapper
from notata.table import LARGE, Row, write_parts
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata, process
from tests.contract.conftest import make_place

HOSTILE = "$(touch hacked) `touch hacked`; touch hacked\n\x1b[2J\x00 <!channel> " + "x" * 5000


@pytest.fixture(params=["memory", "local", "s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture
def base() -> str:
    return f"memory://watch-{uuid.uuid4().hex}"


def fail(base: str, name: str, why: str = "diverged", **given: Any) -> None:
    Logbook(name, base, **given).mark_failed(why)


def watcher(base: Any, tmp_path: Path, **given: Any) -> Watcher:
    return Watcher(base, state=tmp_path / "state.json", **given)


def ids(alerts: list[Alert]) -> list[str]:
    return [alert.run_id for alert in alerts]


# -- what is new ---------------------------------------------------------------------------------------------


def test_each_new_state_is_reported_once(place: Place, tmp_path: Path) -> None:
    place.logbook("old").mark_failed("before")
    place.logbook("good").mark_complete()
    got: list[Alert] = []
    watching = Watcher(place.url, state=tmp_path / "state.json", notify=got.append, storage_options=place.options)
    first = watching.look()
    assert (first.alerts, first.old, got) == ([], 1, [])
    place.logbook("new").mark_failed("diverged at step 7")
    assert watching.look().alerts == got
    [alert] = got
    assert (alert.run_id, alert.status, alert.why, alert.attempt) == ("new", "failed", "diverged at step 7", 0)
    assert alert.url == f"{place.url}/log_new"
    assert alert.text == f"{place.url}/log_new failed: diverged at step 7 (on {alert.host})"
    assert datetime.fromisoformat(str(alert.ended)) <= datetime.now(UTC)
    assert watching.look().alerts == []
    place.logbook("new", resume=True).mark_failed("diverged again")
    assert [(one.why, one.attempt) for one in watching.look().alerts] == [("diverged again", 1)]
    place.logbook("new", overwrite=True).mark_failed("a new run")
    assert [(one.why, one.attempt) for one in watching.look().alerts] == [("a new run", 0)]
    assert watching.look().alerts == []


def test_the_first_look_can_report_everything(base: str, tmp_path: Path) -> None:
    fail(base, "old")
    assert ids(watcher(base, tmp_path, report_all=True).look().alerts) == ["old"]
    assert ids(watcher(base, tmp_path, report_all=True).look().alerts) == []


def test_a_place_without_runs_has_been_looked_at(base: str, tmp_path: Path) -> None:
    errors: list[Exception] = []
    watcher(base, tmp_path, failed=errors.append).look()
    assert "there is no run" in str(errors[0])
    fail(base, "first")
    assert ids(watcher(base, tmp_path).look().alerts) == ["first"]


def test_states_and_filters(base: str, tmp_path: Path) -> None:
    watching = watcher(base, tmp_path, on="complete", where="lr > 0.1", failed=lambda error: None)
    watching.look()
    for name, lr in (("a", 0.5), ("b", 0.01)):
        Logbook(name, base, params={"lr": lr}).mark_complete()
    fail(base, "c", params={"lr": 0.5})
    assert [alert.text.partition(" (")[0] for alert in watching.look().alerts] == [f"{base}/log_a is complete"]
    for given, message in (({"on": "lost"}, "cannot report 'lost'; choose from died, failed"), ({"on": ()}, "nothing")):
        with pytest.raises(ConfigurationError, match=message):
            watcher(base, tmp_path, **given)


def test_a_state_can_be_reported_only_once_it_is_old(base: str, tmp_path: Path) -> None:
    later = timedelta(0)
    watching = watcher(base, tmp_path, older="10m", now=lambda: datetime.now(UTC) + later, failed=lambda error: None)
    watching.look()
    fail(base, "a")
    assert watching.look().alerts == []
    later = timedelta(minutes=11)
    assert ids(watching.look().alerts) == ["a"]


def test_a_running_run_stalls_and_goes_on_and_stalls(base: str, tmp_path: Path) -> None:
    later = timedelta(0)
    log = Logbook("a", base)
    watching = watcher(base, tmp_path, on=["stalled"], now=lambda: datetime.now(UTC) + later)
    assert watching.look().old == 0
    later = timedelta(hours=3)
    [alert] = watching.look().alerts
    assert (alert.status, alert.ended) == ("stalled", None)
    assert alert.why.startswith("it has written nothing for 3 h")
    assert watching.look().alerts == []
    later = timedelta(0)
    log.text("n", "more")
    assert watching.look().alerts == []
    later = timedelta(hours=3)
    assert ids(watching.look().alerts) == ["a"]
    log.mark_complete()
    assert watching.look().alerts == []


def test_several_places_have_a_first_look_each(base: str, tmp_path: Path) -> None:
    fail(f"{base}/x", "x1")
    watcher(f"{base}/x", tmp_path).look()
    fail(f"{base}/x", "x2")
    fail(f"{base}/y", "y1")
    look = watcher([f"{base}/x", f"{base}/y"], tmp_path).look()
    assert (ids(look.alerts), look.old) == (["x2"], 1)


def test_runs_of_a_large_index_are_not_listed(base: str, tmp_path: Path) -> None:
    store = open_store(f"{base}/large")
    began = "2026-11-01T10:00:00+00:00"
    rows = [Row(f"r{n:05}", "complete", started=began, ended=began, seconds=1.0, host="n1") for n in range(LARGE)]
    write_parts(store, [*rows, Row("bad", "failed", failure_reason="old", started=began)])
    watching = watcher(base, tmp_path)
    first = watching.look()
    assert (first.alerts, first.old) == ([], 1)
    assert "10,001 runs from the index" in first.notes[0]
    write_parts(store, [Row("bad", "failed", failure_reason="again", started=began, attempt=1, time=2e9, host="n2")])
    [alert] = watching.look().alerts
    assert (alert.run_id, alert.why, alert.attempt, alert.host) == ("bad", "again", 1, "n2")
    assert watching.look().alerts == []


# -- what fails ----------------------------------------------------------------------------------------------


def test_a_failed_notification_is_tried_again(base: str, tmp_path: Path) -> None:
    got: list[str] = []
    broken = True

    def notify(alert: Alert) -> None:
        if broken and alert.run_id != "b":
            raise OSError("cannot connect with password=hunter2hunter2")
        got.append(alert.run_id)

    watching = watcher(base, tmp_path, notify=notify, failed=lambda error: None)
    watching.look()
    for name in "abc":
        fail(base, name)
    look = watching.look()
    assert (ids(look.alerts), got) == (["b"], ["b"])
    assert [one.alert.run_id for one in look.undelivered] == ["a", "c"]
    assert look.undelivered[0].why.startswith("OSError: cannot connect with password=")
    assert "hunter2" not in look.undelivered[0].why
    broken = False
    assert ids(watching.look().alerts) == ["a", "c"]
    assert got == ["b", "a", "c"]


def test_many_alerts_wait_for_the_next_look(base: str, tmp_path: Path) -> None:
    calls: list[str] = []

    def down(alert: Alert) -> None:
        calls.append(alert.run_id)
        raise ConnectionError

    watcher(base, tmp_path, failed=lambda error: None).look()
    for number in range(105):
        fail(base, f"{number:03}", environment=False, manifest=False)
    look = watcher(base, tmp_path, notify=down).look()
    assert (len(look.undelivered), look.waiting, len(calls)) == (3, 102, 3)
    look = watcher(base, tmp_path, notify=lambda alert: None).look()
    assert (len(look.alerts), look.waiting) == (100, 5)
    assert len(watcher(base, tmp_path).look().alerts) == 5


def test_alerts_that_always_fail_do_not_hold_up_others(base: str, tmp_path: Path) -> None:
    got: list[str] = []

    def notify(alert: Alert) -> None:
        if alert.run_id.startswith("bad"):
            raise ValueError("this one cannot be shown")
        got.append(alert.run_id)

    watching = watcher(base, tmp_path, notify=notify, failed=lambda error: None)
    watching.look()
    for name in ("bad1", "bad2", "bad3", "bad4", "good1", "good2"):
        fail(base, name)
    for _ in range(3):
        watching.look()
    assert got == ["good1", "good2"]


def test_a_run_at_two_places_is_reported_once(base: str, tmp_path: Path) -> None:
    watching = watcher([base, f"{base}/log_*"], tmp_path, failed=lambda error: None)
    watching.look()
    fail(base, "a")
    assert ids(watching.look().alerts) == ["a"]


def test_a_place_that_cannot_be_listed_has_no_first_look_yet(base: str, tmp_path: Path) -> None:
    fail(base, "a")
    storage = FaultyBackend(open_store(base))
    storage.fail(1)
    errors: list[Exception] = []
    watcher(storage, tmp_path, failed=errors.append).look()
    assert len(errors) == 1
    look = watcher(storage, tmp_path).look()
    assert (look.alerts, look.old) == ([], 1)


class Down(Wrapper):
    """A storage that lists, but refuses each read."""

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        raise ConnectionError("on purpose")

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        return started_in_thread(self.get, key, start, end, version, limit)


def test_a_storage_that_is_down_gives_one_error_and_changes_nothing(base: str, tmp_path: Path) -> None:
    for name in "abc":
        fail(base, name)
    store = open_store(base)
    down = Down(store.backend)
    errors: list[Exception] = []
    look = watcher(down, tmp_path, failed=errors.append).look()
    assert [type(error) for error in errors] == [UnreachableError]
    assert (look.more_errors, look.alerts, look.old) == (2, [], 0)
    look = watcher(store, tmp_path).look()  # of these runs, it is the first look
    assert (look.alerts, look.old) == ([], 3)
    fail(base, "d")
    assert watcher(down, tmp_path, failed=errors.append).look().alerts == []
    assert ids(watcher(store, tmp_path).look().alerts) == ["d"]


# -- the state file ------------------------------------------------------------------------------------------


def test_the_state_file_stays_small(tmp_path: Path) -> None:
    state = AlertState(tmp_path / "deep" / "state.json")
    with state.locked() as is_mine:
        assert is_mine
        state.runs = {f"memory://a/log_{number}": "failed" for number in range(10_500)}
        state.store(["memory://a/log_0"])
    kept = AlertState(state.path).load().runs
    assert len(kept) == 10_001
    assert {"memory://a/log_0", "memory://a/log_10499"} <= kept.keys()
    assert state.path.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in state.path.parent.iterdir()) == ["state.json", "state.json.lock"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"notata_watch": 2}', b'{"notata_watch": 1, "places": 5, "failed": [], "runs": {}}']
)
def test_a_damaged_state_file_is_no_first_look(data: bytes, base: str, tmp_path: Path) -> None:
    fail(base, "a")
    (tmp_path / "state.json").write_bytes(data)
    with pytest.raises(DecodeError, match="Remove it to start again"):
        watcher(base, tmp_path).look()
    assert (tmp_path / "state.json").read_bytes() == data


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_in_place_of_the_state_file_is_an_error(base: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(DecodeError, match="Remove it to start again"):
        watcher(base, tmp_path).look()


def test_the_default_file_depends_on_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "notata"
    requests: list[dict[str, Any]] = [
        {}, {"on": "failed"}, {"where": "lr > 1"}, {"notify": "true"}, {"notify": "https://h.example/secret-of-the-hook"},
    ]  # fmt: skip
    files = [Watcher("memory://default", **given).state_file for given in requests]
    assert len(set(files)) == len(files)
    assert Watcher("memory://default/").state_file == files[0]
    assert all(file.parent == tmp_path / "notata" for file in files)
    assert "secret" not in str(files)
    monkeypatch.chdir(tmp_path)
    here = Watcher("outputs").state_file
    assert Watcher(tmp_path / "outputs").state_file == here


def test_a_second_process_does_not_report_the_same(tmp_path: Path) -> None:
    fail(str(tmp_path / "out"), "a")
    given = ("watch", "out", "--all", "--state", "state.json")
    with AlertState(tmp_path / "state.json").locked() as is_mine:
        assert is_mine
        done = process(*given, folder=tmp_path)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == "Note: another process is looking (state.json); nothing was done\n"
    done = process(*given, folder=tmp_path)
    assert done.stdout.startswith("out/log_a failed: diverged (on ")


# -- a web address -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler], int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server; yield its address and the requests: path, headers and JSON."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            code = answer(self)
            if code:
                self.send_response(code)
                if 300 <= code < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_GET(self) -> None:
            requests.append({"path": self.path})

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", requests
        finally:
            server.shutdown()
            thread.join()


def test_a_webhook_gets_the_facts_as_json(base: str, tmp_path: Path) -> None:
    with served(lambda request: 204) as (server, requests):
        url = f"http://ada:s%40cret@{server}/services/T0/token?x=1"
        watcher(base, tmp_path, failed=lambda error: None).look()
        fail(base, "a", HOSTILE)
        assert ids(watcher(base, tmp_path, notify=url).look().alerts) == ["a"]
    [request] = requests
    assert request["path"] == "/services/T0/token?x=1"
    assert request["headers"]["Authorization"] == "Basic YWRhOnNAY3JldA=="
    assert request["headers"]["Content-Type"] == "application/json"
    body = request["body"]
    assert {"text", "run_id", "url", "status", "why", "host", "ended"} <= body.keys()
    assert (body["run_id"], body["status"], body["url"]) == ("a", "failed", f"{base}/log_a")
    assert len(body["why"]) == 500
    assert body["text"] == body["content"]
    assert "\\x1b[2J" in body["text"]
    assert not {"<", ">", "\n", "\x1b", "\x00"} & set(body["text"])
    assert body["allowed_mentions"] == {"parse": []}


ALERT = Alert("out/log_a", "a", "memory://out/log_a", "failed", "diverged", "n1", None, None, 0)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (500, "answered 500"),
        (404, "answered 404; check the address of the webhook"),
        (302, "answered 302, a redirect, which notata does not follow"),
        (307, "answered 307, a redirect, which notata does not follow"),
    ],
)
def test_other_answers_are_failures_and_redirects_are_not_followed(code: int, why: str) -> None:
    with served(lambda request: code) as (server, requests):
        with pytest.raises(DeliveryError, match=why) as caught:
            Webhook(f"http://{server}/secret-of-the-hook")(ALERT)
        assert str(caught.value).startswith(f"http://{server} answered")
    assert [request["path"] for request in requests] == ["/secret-of-the-hook"]
    assert caught.value.__cause__ is None


def test_a_server_that_does_not_answer() -> None:
    silent = threading.Event()
    with served(lambda request: int(silent.wait(30)) * 0) as (server, _):
        hook = Webhook(f"http://{server}/secret-of-the-hook", timeout=0.1)
        with pytest.raises(DeliveryError, match=r"could not be reached: no answer within 0\.1 s"):
            hook(ALERT)
        silent.set()
    with pytest.raises(DeliveryError, match="could not be reached: Connection refused") as caught:
        hook(ALERT)
    assert "secret" not in f"{caught.value}{hook!r}"


@pytest.mark.parametrize(
    "url", ["http://", "https:///x", "http://h ost/x", "http://host:x/", "http://h\n/x", "http://[::1"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the address for notify is not a web address"):
        Watcher("memory://x", notify=url)


# -- a command -----------------------------------------------------------------------------------------------


def test_a_command_gets_the_facts_and_interprets_nothing(tmp_path: Path) -> None:
    script = tmp_path / "notify.py"
    script.write_text(
        "import json, os, sys\n"
        "facts = {name: value for name, value in os.environ.items() if name.startswith('NOTATA_')}\n"
        "json.dump([sys.argv[1:], json.load(sys.stdin), facts], open('got.json', 'a'))\n"
    )
    out = str(tmp_path / "out")
    Logbook("good", out).mark_complete()
    line = f"{sys.executable} {script} '$NOTATA_WHY' '*' ';' {{why}}"
    given = ("watch", "out", "--notify", line, "--state", "state.json")
    assert notata(*given, folder=tmp_path).returncode == 0
    fail(out, "$(touch hacked)", HOSTILE)
    done = notata(*given, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    arguments, facts, variables = json.loads((tmp_path / "got.json").read_text())
    assert arguments == ["$NOTATA_WHY", "*", ";", "{why}"]
    assert (facts["run_id"], facts["status"]) == ("$(touch hacked)", "failed")
    assert variables["NOTATA_RUN_ID"] == "$(touch hacked)"
    assert variables["NOTATA_STATUS"] == "failed"
    assert variables["NOTATA_WHY"] == facts["why"]
    assert len(facts["why"]) == 500
    assert not {"\n", "\x1b", "\x00"} & set(facts["why"] + variables["NOTATA_TEXT"])
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("false", "false ended with exit code 1"),
        ("sh -c 'kill -9 $$'", "sh ended with signal 9"),
        ("/no/such/program --token secret", "program cannot be started: No such file or directory"),
    ],
)
def test_a_command_that_fails(line: str, why: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        Command(line)(ALERT)
    assert str(caught.value) == why


def test_a_command_that_does_not_end_is_killed() -> None:
    with pytest.raises(DeliveryError, match=r"sleep did not end within 0.1 s, so notata killed it"):
        Command("sleep 60", timeout=0.1)(ALERT)


@pytest.mark.parametrize("line", ["", "  ", "mail 'ada"])
def test_what_is_no_command_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError, match="the command for notify"):
        Watcher("memory://x", notify=line)


# -- the command line ----------------------------------------------------------------------------------------


def test_the_command_line(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    given = ("watch", "out", "--state", "state.json")
    assert notata(*given, folder=tmp_path).returncode == 1
    fail(out, "a")
    done = notata(*given, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("out/log_a failed: diverged (on ")
    fail(out, "b")
    broken = notata(*given, "--notify", "false", folder=tmp_path)
    assert (broken.returncode, broken.stdout) == (3, "")
    assert broken.stderr == "Error: not notified of out/log_b (failed): false ended with exit code 1\n"
    done = notata(*given, "--json", folder=tmp_path)
    assert [json.loads(line)["run_id"] for line in done.stdout.splitlines()] == ["b"]
    assert notata(*given, folder=tmp_path).stdout == ""
    first = notata("watch", "out", "--state", "other.json", folder=tmp_path)
    assert first.stderr == "Note: first look: 2 states are not new; pass --all to report them\n"
    for options, message in (
        (["--on", "lost"], "'lost' is not one of 'died', 'failed', 'complete', 'stalled'"),
        (["--older", "soon"], "'soon' is not a time span"),
        (["--every", "-1"], "'-1' is not a time span"),
        (["--every", "0s"], "--every 0s looks without a pause"),
    ):
        refused = notata(*given, *options, folder=tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_the_command_stays_and_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(tmp_path / "out")
    Logbook("good", out).mark_complete()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt
        fail(out, f"{len(pauses)}")

    monkeypatch.setattr(sys.modules["notata.cli.watch"], "time", SimpleNamespace(sleep=sleep))
    done = notata("watch", "out", "--every", "5m", "--state", "state.json", "--json", folder=tmp_path)
    assert (done.returncode, done.stderr, pauses) == (130, "Interrupted\n", [300.0] * 3)
    assert [json.loads(line)["run_id"] for line in done.stdout.splitlines()] == ["1", "2"]


def test_the_names_in_search_are_those_of_the_command() -> None:
    [option] = [one for one in main.commands["watch"].params if one.name == "on"]
    assert str(option.metavar) == f"[{'|'.join(ON)}]"
    assert search.Watcher is Watcher
