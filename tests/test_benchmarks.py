"""The benchmarks run, at sizes too small to measure speed."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_WR, create_connection

import pytest

from notata import LogReader
from tests.tools.benchmarks import environments, peers, report, runs
from tests.tools.benchmarks.command import arguments, described, letters
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.environments import NOTATA, S5CMD
from tests.tools.benchmarks.measures import MEASURES, disk_tables, imports, large_index, local, sweeps, whole_runs
from tests.tools.benchmarks.processes import Command, take_turns
from tests.tools.benchmarks.proxy import Passed, RequestCounter, distant, proxied
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result, median_of
from tests.tools.benchmarks.sites import LOCAL, MEMORY, Site, Sites
from tests.tools.benchmarks.sizes import QUICK

TINY = replace(
    QUICK,
    local=2,
    locals=2,
    imports=1,
    run_files=4,
    value_mib=1,
    whole_runs=2,
    whole_samples=1,
    disk_runs=25,
    index_runs=30,
    sweep_runs=3,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Sites(tmp_path) as sites:
        yield Bench({NOTATA: Path(sys.executable)}, TINY, sites)


def test_libraries_of_other_environments_take_no_part_without_them(bench: Bench) -> None:
    wanted = [peers.OURS, peers.MLFLOW, peers.OLD, peers.RENAMED]
    assert bench.known(wanted) == [peers.OURS, peers.RENAMED]
    with bench.contest(wanted[1:3], bench.sites.at(LOCAL)) as contest:
        assert contest.each("begin") == {}
        assert contest.refused == {peers.MLFLOW: "not installed", peers.OLD: "not installed"}
    assert bench.program(S5CMD, "s5cmd") is None


def test_files_on_the_local_disk_are_measured(bench: Bench, tmp_path: Path) -> None:
    result = local.artifacts(bench)
    assert {row: len(cells[local.TIME]) for row, cells in result.rows.items()} == {peers.OURS: 2, peers.RENAMED: 2}
    (budget,) = result.budgets
    assert budget.measured == result.median(peers.OURS, local.TIME)
    assert f"{peers.MLFLOW}: not installed" in result.notes
    last = list(tmp_path.glob("local-*/**/a6.json"))  # two for warm-up, then twice two
    assert len(last) == 2
    assert all(1950 <= path.stat().st_size <= 2050 for path in last)


@pytest.mark.slow
def test_options_and_digests_are_measured(bench: Bench) -> None:
    options, value = local.options(bench), local.value(bench)
    assert list(options.rows) == [*local.KINDS, peers.RENAMED, peers.SYNCED]
    assert {row for row in options.rows if options.median(row, local.END)} == set(local.KINDS)
    assert list(value.rows) == list(local.VALUES)


@pytest.mark.slow
def test_whole_runs_are_measured(bench: Bench, tmp_path: Path) -> None:
    (result,) = whole_runs.measure(bench)
    assert list(result.rows) == [peers.OURS, peers.NO_CODE, peers.NO_ENVIRONMENT, peers.NO_MANIFEST]
    runs = list(tmp_path.glob("local-*/log_*"))
    per_contestant = 1 + 2 + TINY.whole_runs * TINY.whole_samples
    assert len(runs) == 4 * per_contestant
    logs = [path.read_text().count("residual") for path in tmp_path.glob("local-*/log_*/log.txt")]
    assert sorted(logs) == [0] * 4 + [10] * (len(runs) - 4)
    assert [budget.measured for budget in result.budgets] == [
        result.median(peer, whole_runs.TIME) for peer in (peers.OURS, peers.NO_CODE, peers.NO_ENVIRONMENT)
    ]


@pytest.mark.slow
def test_tables_on_the_local_disk_are_measured(bench: Bench) -> None:
    (result,) = disk_tables.measure(bench)
    assert list(result.rows) == [peers.OURS, disk_tables.COLD, disk_tables.OUTSIDE]
    assert result.notes[:2] == [f"{peer}: not installed" for peer in (peers.SIGNAC_TABLE, peers.MLFLOW_TABLE)]
    assert not [note for note in result.notes if "failed" in note]


@pytest.mark.slow
def test_sweeps_are_measured(bench: Bench) -> None:
    measured = [peers.SWEPT, peers.SWEPT_AGAIN, peers.FUTURES]
    (result,) = sweeps.measure(bench, measured)
    assert list(result.rows) == measured
    assert all(result.median(row, sweeps.PROCESSOR) for row in measured)


@pytest.mark.slow
def test_an_index_is_measured(bench: Bench) -> None:
    result = large_index.Tables(bench, "m", 30, 1, [large_index.TABLE]).measured(2.0, distant=False)
    assert list(result.rows) == [large_index.TABLE, large_index.COMMAND]
    assert not [note for note in result.notes if "failed" in note]


def test_small_runs_are_copied_with_ids_of_their_own(tmp_path: Path) -> None:
    sweep, outside = runs.write_small_runs(tmp_path, 30)
    for folder in (sweep / "runs", outside):
        found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metadata.json")}
        assert len(found) == 30
        assert all(name == f"log_{fields['run_id']}" for name, fields in found.items())
        assert {fields["status"] for fields in found.values()} == {"complete"}
        assert all(LogReader(path).verify().ok for path in folder.iterdir())
    assert len((sweep / "index.csv").read_text().splitlines()) == 31
    assert (sweep / "runs").stat().st_mtime_ns > 0


def test_large_runs_are_searched(tmp_path: Path) -> None:
    runs.write_large_runs(Site(str(tmp_path)))
    runs.copy_runs(tmp_path, 22)
    assert len(list(tmp_path.iterdir())) == 22
    assert {len([path for path in run.rglob("*") if path.is_file()]) for run in tmp_path.iterdir()} == {10}
    assert len([run for run in tmp_path.iterdir() if "ERROR" in (run / "log.txt").read_text()]) == 8


def test_commands_take_turns_and_a_failure_is_kept() -> None:
    calls: list[str] = []
    good = Command([sys.executable, "-c", "print(6 * 7)"], before=lambda: calls.append("good"))
    bad = Command([sys.executable, "-c", "raise SystemExit('no such bucket')"], before=lambda: calls.append("bad"))
    samples, failed = take_turns({"good": good, "bad": bad, "absent": Command(["/no/such/program"])}, 2)
    assert [sample.output for sample in samples["good"]] == ["42\n", "42\n"]
    assert all(sample.processor > 0 for sample in samples["good"])
    assert list(samples) == ["good"]
    assert "no such bucket" in failed["bad"]
    assert "/no/such/program" in failed["absent"]
    assert sorted(calls) == ["bad", "good", "good", "good"]


@pytest.mark.slow
def test_a_peer_does_each_task_and_is_not_asked_again_after_a_refusal(bench: Bench) -> None:
    with bench.contest([peers.OURS, peers.PORT], bench.sites.at(MEMORY)) as contest:
        contest.each("begin")
        assert [answer.value for answer in contest.each("many", 4, 2)[peers.OURS]] == [2]
        contest.one(peers.OURS, "hold", 800)
        where = contest.one(peers.OURS, "up", "npy").value
        contest.one(peers.OURS, "down", "npy", where)
        assert contest.one(peers.OURS, "check", 800).value is True
        assert contest.one(peers.OURS, "check", 1600).value is False
        cost = contest.one(peers.OURS, "lines", 50).value
        assert (cost["whole"], cost["requests"]) == (True, 0)
        slow = contest.one(peers.OURS, "slow_lines", 50, 0.1).value
        assert (slow["whole"], round(slow["seconds"], 6)) == (True, 5.0)
        runs = contest.one(peers.OURS, "fill", 3, True).value
        assert contest.one(peers.OURS, "table", runs, 1).value == 3
        assert not contest.refused
        assert list(contest.each("up", "npy")) == [peers.OURS]
        assert contest.refused == {peers.PORT: "it stores no arrays"}
        assert list(contest.each("artifact", times=2)) == [peers.OURS]
        assert contest.one(peers.PORT, "artifact").refused == "it stores no arrays"


@pytest.mark.slow
def test_imports_are_measured(bench: Bench) -> None:
    (result,) = imports.measure(bench)
    assert list(result.rows) == [imports.OURS, imports.FLOOR]
    assert result.budgets[-1].measured == 0


class Echo(socketserver.StreamRequestHandler):
    """A server that echoes the data when it has received all of it."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read())


def test_the_proxy_hands_on_every_byte_in_order_and_the_end_of_each_direction() -> None:
    said = bytes(range(256)) * 8192
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            port = server.server_address[1]
            with distant(port, 0) as near:
                assert near == port
            with distant(port, 2) as far, create_connection(("127.0.0.1", far), timeout=30) as connection:
                assert far != port
                connection.sendall(said)
                connection.shutdown(SHUT_WR)
                with connection.makefile("rb") as heard:
                    assert heard.read() == said
        finally:
            server.shutdown()
            thread.join()


class Answering(BaseHTTPRequestHandler):
    """An HTTP server that keeps connections open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"x" * 5000)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_the_proxy_counts_requests_and_bytes() -> None:
    body = b"GET /no HTTP/1.1\r\n\r\n" * 5000  # not a request, although it looks like many
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with proxied(server.server_address[1], 2) as proxy:
                connection = HTTPConnection("127.0.0.1", proxy.port, timeout=30)
                for method, sent in (("GET", None), ("PUT", body), ("GET", None)):
                    connection.request(method, "/key", sent)
                    connection.getresponse().read()
                before = proxy.passed()
                connection.request("GET", "/key")
                connection.getresponse().read()
                after = proxy.passed()
                connection.close()
        finally:
            server.shutdown()
            thread.join()
    assert before.requests == 3
    assert len(body) < before.sent < len(body) + 1000
    assert (after - before).requests == 1
    assert 5000 < (after - before).received < 5500


def test_a_body_in_chunks_is_not_counted_as_a_request() -> None:
    passed = Passed()
    count = RequestCounter(passed)
    put = b"PUT /key HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    for data in (put[:30], put[30:] + b"GET /key HT", b"TP/1.1\r\nHost: here\r\n", b"\r\n"):
        count(data)
    assert (passed.requests, passed.sent) == (2, len(put) + 33)


def result() -> Result:
    made = Result("a", "Something", [Column("time", "ms"), Column("requests", "", ratio=False)])
    made.add("notata", "time", [3, 1, 2])
    made.add("notata", "requests", [1])
    made.add("other", "time", [1234.5])
    made.refuse({"absent": "it is not there"})
    made.budgets += [Budget("time", 1.5, made.median("notata", "time"), "ms"), Budget("speed", 2, 2, least=True)]
    made.budgets.append(Budget("more", 1, None))
    return made


def test_a_table_has_medians_ratios_and_who_is_missing() -> None:
    assert report.table(result()).split("\n") == [
        "**(a) Something**",
        "",
        "|  | time, ms | requests |",
        "| --- | --- | --- |",
        "| notata | 2 | 1 |",
        f"| other | 1 234 (617{TIMES}) | {report.NONE} |",
        "",
        "absent: it is not there",
    ]


def test_a_title_says_how_often_something_was_measured() -> None:
    assert (median_of(3), median_of(1)) == ("median of 3", "once")


def test_budgets_are_met_or_not_or_unknown() -> None:
    lines = report.budgets(result().budgets).split("\n")
    assert lines[2:] == [
        "| time | ≤ 1.5 ms | 2 ms | **not met** |",
        "| speed | ≥ 2 | 2 | met |",
        f"| more | ≤ 1 | {report.NONE} | not measured |",
    ]


ABOUT = report.About("1a2b3c4", asdict(TINY), {"notata": {"fsspec": "1.2"}}, 0.25)
PLACES = "".join(f"<!-- figures: {name} -->\nold\n<!-- figures: end -->\n" for name in ("machine", "a", "b", "budgets"))


def test_figures_go_through_a_file_into_the_page(tmp_path: Path) -> None:
    source, page = tmp_path / "results.json", tmp_path / "page.md"
    source.write_text(json.dumps(report.document([result()], ABOUT, 3.4)))
    page.write_text(f"# Page\n\n{PLACES}The end.\n")
    report.write_docs(source, page)
    first = page.read_text()
    assert report.read(json.loads(source.read_text())) == [result()]
    assert f"<!-- figures: a -->\n\n{report.table(result())}\n\n<!-- figures: end -->" in first
    assert f"<!-- figures: b -->\n\n{report.NOT_MEASURED}\n\n<!-- figures: end -->" in first
    assert report.budgets(result().budgets) in first
    assert "in 3 s, at commit 1a2b3c4. Before, the load of the machine was 0.2. Packages: fsspec 1.2." in first
    assert first.startswith("# Page\n")
    assert first.endswith("The end.\n")
    report.write_docs(source, page)
    assert page.read_text() == first


def test_the_page_has_a_place_for_each_measurement() -> None:
    places = [name for _, name, _ in report.PLACE.findall(report.PAGE.read_text())]
    assert sorted(places) == sorted([report.MACHINE, report.BUDGETS, *MEASURES])


def test_a_page_without_a_place_for_figures_is_refused() -> None:
    found = report.document([result()], ABOUT, 3.4)
    with pytest.raises(ValueError, match="no place '<!-- figures: a -->'"):
        report.fill(PLACES.replace("figures: a", "figures: z"), found)


def test_figures_of_the_same_commit_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    other = replace(result(), letter="b")
    source.write_text(json.dumps(report.document([result(), other], ABOUT, 3.4)))
    kept = report.kept(source, ABOUT, ["a"])
    found = report.document([replace(result(), title="Again")], replace(ABOUT, load=3), 5.2, kept)
    assert [(each.letter, each.title) for each in report.read(found)] == [("a", "Again"), ("b", "Something")]
    assert found["seconds"] == 8
    for changed in (replace(ABOUT, commit="other"), replace(ABOUT, sizes={"runs": 1})):
        with pytest.raises(ValueError, match="cannot be kept"):
            report.kept(source, changed, ["a"])


def test_measurements_are_chosen_by_letter() -> None:
    assert letters("c,a") == ["a", "c"]
    assert list(MEASURES) == list("abcdefghijklmnopqrstu")
    assert arguments([]).only == list("abcdefghijklmnos")
    with pytest.raises(ArgumentTypeError, match="no such measurement: x"):
        letters("a,x")


def test_a_python_without_packages_continues_in_an_environment(tmp_path: Path) -> None:
    """It is made by then: a stamp says so, and a script stands for its Python."""
    own = tmp_path / "repository"
    ignored = shutil.ignore_patterns("data", "__pycache__")
    shutil.copytree(environments.ROOT / "tests", own / "tests", ignore=ignored)
    shutil.copy(environments.ROOT / "pyproject.toml", own)
    folder = own / ".benchmarks" / "notata"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    (folder / "made-of.txt").write_text(environments.stamp("notata"))
    command = [sys.executable, "-S", "-m", "tests.tools.benchmarks", "--only", "g", "--no-peers"]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(command, cwd=own, env=bare, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("-m tests.tools.benchmarks --only g --no-peers\n", "")


def test_each_measurement_is_described_by_its_letter() -> None:
    assert [line[:3] for line in described()] == [f"({letter})" for letter in MEASURES]
