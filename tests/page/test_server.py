"""The server of the live page: what it answers, and what it refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from notata import Experiment, Logbook
from notata.page import answers, guard
from notata.page.guard import host_of
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.page.visiting import PORT, RULES, Visit, page_of

PLACE = "memory://page"


@pytest.fixture
def run() -> Logbook:
    log = Logbook("a", PLACE, params={"lr": 0.1})
    for step in range(3):
        log.scalars(step=step, loss=1 / (step + 1))
    log.text("notes", "first line\n")
    log.mark_complete()
    return log


@pytest.fixture
def visit(run: Logbook) -> Visit:
    return Visit(page_of(PLACE))


# -- security ----------------------------------------------------------------------------------------------


def test_the_token_of_the_address_becomes_a_cookie_and_leaves_the_address(run: Logbook) -> None:
    visit = Visit(page_of(PLACE), has_cookie=False)
    answer = visit.get(f"/?token={RULES.token}")
    assert (answer.status, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"notata-view-{PORT}={RULES.token};")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert Visit(page_of(PLACE)).get("/").status == 200


def test_a_link_on_another_site_leads_to_the_clean_address_by_a_refresh(run: Logbook) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    answer = Visit(page_of(PLACE), has_cookie=False).get(f"/?token={RULES.token}", link)
    assert (answer.status, 'content="0; url=./"' in answer.text) == (200, True)
    assert RULES.token not in answer.text
    for at, to in (("%2Fruns%3Fsort%3D-a%2522", "./#/runs?sort=-a%22"), ("%2F%22%3E", "./#/&quot;&gt;"), ("x:y", "./")):
        answer = Visit(page_of(PLACE), has_cookie=False).get(f"/?token={RULES.token}&at={at}", link)
        assert f'content="0; url={to}"' in answer.text


@pytest.mark.parametrize("path", ["/", "/static/page.css", "/api/runs", "/api/events", "/api/raw/log_a/log.txt", "/x"])
def test_nothing_is_answered_without_the_token(run: Logbook, path: str) -> None:
    visit = Visit(page_of(PLACE), has_cookie=False)
    assert visit.get(path).status == 403
    for wrong in ("", "a-secret", "a-secret-token-", "\u00e9", '"'):
        assert visit.get(path, {"cookie": f"{RULES.cookie}={wrong}"}).status == 403
    assert visit.get("/?token=wrong").status == 403
    assert visit.get("/?token=").status == 403


def test_the_token_of_an_address_works_on_the_first_page_only(run: Logbook) -> None:
    visit = Visit(page_of(PLACE), has_cookie=False)
    assert visit.get(f"/api/runs?token={RULES.token}").status == 403


def test_the_cookie_of_another_port_does_not_work(run: Logbook) -> None:
    visit = Visit(page_of(PLACE), has_cookie=False)
    assert visit.get("/", {"cookie": f"notata-view-1={RULES.token}"}).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(visit: Visit, method: str) -> None:
    answer = visit.get("/api/runs", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    head = visit.get("/api/runs", method="HEAD")
    assert (head.status, head.content) == (200, b"")


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1.evil.example", "", "127.0.0.1:x", "[::1", "localhost@x"]
)
def test_another_host_name_is_refused(visit: Visit, host: str) -> None:
    answer = visit.get("/api/runs", {"host": host})
    assert answer.status == 421
    assert answer.error


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}", "localhost:9000"])
def test_the_names_of_this_machine_are_allowed_also_behind_a_tunnel(visit: Visit, host: str) -> None:
    assert visit.get("/api/runs", {"host": host}).status == 200


def test_the_name_of_the_option_host_is_allowed(run: Logbook) -> None:
    rules = guard.Rules(token=RULES.token, port=PORT, hosts=("lab.example",))
    scope: dict[str, Any] = {"method": "GET", "query_string": b"", "path": "/", "server": ("10.0.0.5", PORT)}

    def refused(rules: guard.Rules, host: str) -> bool:
        return rules.refusal({**scope, "headers": [(b"host", host.encode())]}) is not None

    assert not refused(rules, f"LAB.example:{PORT}")
    assert refused(rules, f"10.0.0.5:{PORT}")
    anywhere = guard.Rules(token=RULES.token, port=PORT, accepts_own_address=True)
    assert not refused(anywhere, f"10.0.0.5:{PORT}")
    assert refused(anywhere, "evil.example")


def test_requests_for_other_sites_are_refused(visit: Visit) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://localhost:{PORT}"},
        {"origin": f"http://127.0.0.1:{PORT + 1}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ):
        assert visit.get("/api/runs", headers).status == 403
    frame = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert visit.get("/", frame).status == 403
    for headers in (
        {"origin": f"http://127.0.0.1:{PORT}"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        assert visit.get("/api/runs", headers).status == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/static/main.js", 200), ("/api/runs", 200), ("/api/run/x", 404), ("/x", 404)]
)
def test_every_answer_has_the_headers_that_protect_it(visit: Visit, path: str, status: int) -> None:
    answer = visit.get(path)
    assert answer.status == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == ("private, no-cache" if "static" in path else "no-store")
    assert "server" not in answer.headers
    refused = Visit(page_of(PLACE), has_cookie=False).get(path)
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_file_is_a_download_that_no_browser_runs() -> None:
    with Logbook("a", PLACE) as log:
        (log.path / 'artifacts/evil \u00fc";.html').write_text("<script>alert(1)</script>")
    answer = Visit(page_of(PLACE)).get("/api/raw/log_a/artifacts%2Fevil%20%C3%BC%22;.html")
    assert answer.text == "<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    name = answer.headers["content-disposition"]
    assert name == "attachment; filename=\"evil __;.html\"; filename*=UTF-8''evil%20%C3%BC%22%3B.html"


@pytest.mark.parametrize(
    "path",
    [
        "run/log_b",
        "run/..",
        "run/%2e%2e%2fsecret",
        "run/" + "a" * 5000,
        "run/",
        "run/%00",
        "run/%ff%fe",
        "run/log_a/more",
        "log/..%2Flog_a",
        "output/..%2Flog_a",
        "output/log_a/more",
        "file/log_a/..%2F..%2Fetc%2Fpasswd",
        "file/log_a/%2Fetc%2Fpasswd",
        "file/log_a/",
        "file/log_a",
        "raw/log_a/../../secret.txt",
        "raw/log_a/..%2F..%2Fsecret.txt",
        "raw/..%2Flog_a/log.txt",
        "raw/log_a/memory:%2F%2Fpage%2Flog_a%2Flog.txt",
        "curves/scalars",
        "curves/..%2F..%2Fsecret/x/y",
        "nothing",
    ],
)
def test_names_that_no_listing_has_are_never_looked_for(run: Logbook, path: str) -> None:
    store = FaultyBackend(open_store(PLACE))
    visit = Visit(page_of(store))
    visit.data("runs")
    del store.operations[:]
    answer = visit.get(f"/api/{path}")
    assert answer.status == 404
    assert answer.error
    assert [one for one in store.operations if one.verb != "list"] == []
    assert {one.key for one in store.operations} <= {""}


def test_the_size_of_requests_is_bounded(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert visit.get("/api/runs?x=" + "a" * guard.LONGEST_QUERY).status == 414
    assert visit.get("/api/run/" + "a" * 9000).status == 414
    fields = visit.get("/api/runs?" + "&".join(f"x{at}=1" for at in range(21)))
    assert (fields.status, fields.error) == (400, "an address has at most 20 fields")
    many = json.dumps({"logs": [f"log_{number}" for number in range(1000)]})
    assert "at once" in visit.get(f"/api/events?watch={many}").error
    for watch in ("[1]", "{", '{"logs": [1]}', '{"outputs": [1]}', '{"outputs": 3}', '{"series": 3}', "[" * 10_000):
        assert visit.get(f"/api/events?watch={watch}").status == 400
    monkeypatch.setattr(answers, "RUNS", 0)
    assert visit.get("/api/curves/scalars/loss").status == 400


@pytest.mark.parametrize("query", ["x=loss", "from=a", "to=nan", "smooth=1", "smooth=-1", "smooth=x", "from=inf"])
def test_an_invalid_query_is_refused(visit: Visit, query: str) -> None:
    answer = visit.get(f"/api/curves/scalars/loss?{query}")
    assert (answer.status, "invalid" in answer.error) == (400, True)


def test_host_names() -> None:
    assert [host_of(one) for one in ("localhost", "LOCALHOST.:1", "[::1]", "[::1]:80", "::1", "a:", "a:1:2")] == [
        "localhost", "localhost", "[::1]", "[::1]", "", "", "",
    ]  # fmt: skip


# -- data --------------------------------------------------------------------------------------------------


def test_the_page_and_its_files(visit: Visit) -> None:
    page = visit.get("/")
    assert "<title>a page</title>" in page.text
    for name in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        answer = visit.get(f"/{name}")
        assert answer.status == 200
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"].startswith(kind)
    for name in ("server.py", "..%2Fserver.py", "", "page.html.py"):
        assert visit.get(f"/static/{name}").status == 404


def test_the_title_is_text(run: Logbook) -> None:
    page = Visit(page_of(PLACE, title="</title><script>alert(1)</script>")).get("/").text
    assert ("<script>alert" in page, "&lt;script&gt;alert" in page) == (False, True)


def test_the_table_has_a_tag_so_that_it_is_sent_once(visit: Visit) -> None:
    first = visit.get("/api/runs")
    assert json.loads(first.content)["count"] == 1
    again = visit.get("/api/runs", {"if-none-match": first.headers["etag"]})
    assert (again.status, again.content) == (304, b"")


def test_curves_run_log_and_file(visit: Visit) -> None:
    visit.data("runs")
    found = visit.data("curves", "scalars", "loss", runs="log_a")
    assert [(one["run"], one["step"], one["y"]) for one in found["curves"]] == [
        ("log_a", [0, 1, 2], [1.0, 0.5, 0.3333333])
    ]
    part = visit.data("curves", "scalars", "loss", from_="2", to="2", x="step", smooth="0.5")
    assert part["curves"][0]["step"] == [1, 2]
    assert visit.data("run", "log_a")["params"] == {"lr": 0.1}
    log = visit.data("log", "log_a")
    assert visit.data("log", "log_a", start=str(log["end"]))["text"] == ""
    assert visit.get("/api/log/log_a?start=x").status == 400
    assert visit.data("run", "log_a")["output"] is None
    assert visit.data("output", "log_a") == {"text": "", "start": 0, "end": 0, "size": 0}
    assert visit.data("file", "log_a", "artifacts/notes.txt")["text"] == "first line\n"
    assert json.loads(visit.get("/api/file/log_a/artifacts/notes.txt").content)["text"] == "first line\n"
    assert visit.get("/api/curves/scalars/loss?runs=log_x").status == 404


def test_output_costs_requests_only_where_there_is_some(run: Logbook) -> None:
    store = FaultyBackend(open_store(PLACE))
    visit = Visit(page_of(store))
    visit.data("runs")

    def requests(*parts: str, **query: str) -> list[str]:
        del store.operations[:]
        visit.data(*parts, **query)
        return sorted(one.key for one in store.operations if one.verb != "list")

    assert requests("run", "log_a") == ["log.txt", "manifest.json", "metadata.json"]
    open_store(PLACE).write("log_a/output.txt", b"t = 0.5\nt = 1\n")
    assert requests("run", "log_a") == ["log.txt", "manifest.json", "metadata.json", "output.txt"]
    assert visit.data("run", "log_a")["output"] == {"text": "t = 0.5\nt = 1\n", "start": 0, "end": 14, "size": 14}
    assert requests("output", "log_a", start="8") == ["output.txt"]
    assert visit.data("output", "log_a", start="8")["text"] == "t = 1\n"
    assert visit.get("/api/output/log_a?start=-1").status == 400
    assert visit.get("/api/raw/log_a/output.txt").text == "t = 0.5\nt = 1\n"


def test_a_program_that_has_printed_nothing_yet_may_print() -> None:
    with Logbook("a", PLACE) as log:
        log.meta(command={"argv": ["./solver"]})
        assert Visit(page_of(PLACE)).data("run", "log_a")["output"]["size"] == 0


def test_names_with_slashes_can_stand_in_a_path() -> None:
    with Logbook("a", PLACE) as log:
        log.series("x").add({"y/z": 1.0}, step=0)
        log.series("x/y").add({"z": 2.0}, step=0)
    visit = Visit(page_of(PLACE))
    for names, value in ((("x", "y/z"), 1.0), (("x/y", "z"), 2.0)):
        assert visit.data("curves", *names)["curves"][0]["y"] == [value]
    for path in ("x/y/z", "x" + "/y" * 4000):  # a series and a column are two parts, so that a name has one meaning
        assert visit.get(f"/api/curves/{path}").error == "no run has this series"


def test_ids_with_separators_in_a_list_of_runs() -> None:
    for name in ("a,b", "a b", "100%"):
        with Logbook(name, PLACE) as log:
            log.scalars(step=0, loss=1.0)
    visit = Visit(page_of(PLACE))
    ids = [*visit.data("runs")["columns"]]
    assert ids
    found = visit.data("curves", "scalars", "loss", runs="log_a%2Cb,log_a b,log_100%25")
    assert [one["run"] for one in found["curves"]] == ["log_a,b", "log_a b", "log_100%"]


def test_a_large_file_is_sent_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 10_000
    with Logbook("a", PLACE) as log:
        log.bytes("large.bin", content)
    store = FaultyBackend(open_store(PLACE))
    visit = Visit(page_of(store))
    visit.data("runs")
    del store.operations[:]
    answer = visit.get("/api/raw/log_a/artifacts/large.bin")
    assert (answer.content == content, answer.headers["content-length"]) == (True, str(len(content)))
    assert [one.verb for one in store.operations] == ["get"] * 3
    assert visit.get("/api/raw/log_a/artifacts/large.bin", method="HEAD").headers["content-length"] == str(len(content))


def test_an_unexpected_error_is_reported_in_the_page_and_once_in_the_terminal(
    run: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(answers, "run_page", lambda *_, **__: 1 / 0)
    visit = Visit(page_of(PLACE, tell=told.append))
    visit.data("runs")
    for _ in range(2):
        answer = visit.get("/api/run/log_a")
        assert (answer.status, "a bug in notata" in answer.error) == (500, True)
    assert ["ZeroDivisionError" in one for one in told] == [True]


def test_a_storage_that_fails_is_an_error_with_a_code(run: Logbook) -> None:
    store = FaultyBackend(open_store(PLACE))
    visit = Visit(page_of(store))
    visit.data("runs")
    store.fail(1)
    answer = visit.get("/api/log/log_a")
    assert (answer.status, "no server answered" in answer.error) == (503, True)
    store.fail(1, error=PermissionError)
    assert visit.get("/api/log/log_a").status == 502
    assert visit.data("log", "log_a")["text"]


def test_errors_have_no_credentials(run: Logbook) -> None:
    store = FaultyBackend(open_store(PLACE))
    visit = Visit(page_of(store))
    visit.data("runs")
    store.fail(1, error=lambda: ConnectionError("https://ada:hunter22@host/x password=hunter22"))
    assert "hunter22" not in visit.get("/api/log/log_a").text


# -- cost --------------------------------------------------------------------------------------------------


def test_opening_an_experiment_reads_its_index_only() -> None:
    experiment = Experiment("many", "memory://cost")
    for lr in (0.1, 0.2):
        with experiment.add(lr=lr) as log:
            log.scalars(step=0, loss=lr)
    store = FaultyBackend(open_store("memory://cost/many"))
    visit = Visit(page_of(store))
    found = visit.data("runs")
    assert [(one.verb, one.key) for one in store.operations] == [("get", "index.csv")]
    assert (found["stale"], found["count"], found["series"]) == (True, 2, {})
    visit.data("runs")
    assert len(store.operations) == 1


def test_rows_that_were_read_are_not_read_again(run: Logbook) -> None:
    store = FaultyBackend(open_store(PLACE))
    visit = Visit(page_of(store))
    visit.data("runs")
    del store.operations[:]
    for _ in range(3):
        visit.data("curves", "scalars", "loss")
    assert [(one.verb, one.key) for one in store.operations] == [("get", "series/scalars.jsonl")]
