"""The benchmarks run, at sizes too small to measure speed."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from socket import SHUT_WR, create_connection

import pytest

from tests.tools.benchmarks import peers, report
from tests.tools.benchmarks.__main__ import letters
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.environments import NOTATA
from tests.tools.benchmarks.measures import MEASURES, imports, local
from tests.tools.benchmarks.proxy import distant
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result
from tests.tools.benchmarks.sites import MEMORY, Sites
from tests.tools.benchmarks.sizes import QUICK

TINY = replace(QUICK, local=2, locals=2, imports=1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Sites(tmp_path) as sites:
        yield Bench({NOTATA: Path(sys.executable)}, TINY, sites)


def test_libraries_of_other_environments_are_skipped_without_them(bench: Bench) -> None:
    assert bench.known([peers.OURS, peers.MLFLOW, peers.OLD, peers.RENAMED]) == [peers.OURS, peers.RENAMED]


def test_files_on_the_local_disk_are_measured(bench: Bench, tmp_path: Path) -> None:
    (result,) = local.measure(bench)
    assert {row: len(cells[local.TIME]) for row, cells in result.rows.items()} == {peers.OURS: 2, peers.RENAMED: 2}
    (budget,) = result.budgets
    assert budget.measured == result.median(peers.OURS, local.TIME)
    last = list(tmp_path.glob("local-*/**/a6.json"))  # two for warm-up, then twice two
    assert len(last) == 2
    assert all(1950 <= path.stat().st_size <= 2050 for path in last)


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


def test_budgets_are_met_or_not_or_unknown() -> None:
    lines = report.budgets(result().budgets).split("\n")
    assert lines[4:] == [
        "| time | ≤ 1.5 ms | 2 ms | **not met** |",
        "| speed | ≥ 2 | 2 | met |",
        f"| more | ≤ 1 | {report.NONE} | not measured |",
    ]


def test_figures_go_through_a_file_into_the_page(tmp_path: Path) -> None:
    found = report.document([result()], asdict(TINY), {"notata": {"fsspec": "1.2"}}, seconds=3.4, load=0.25)
    source, page = tmp_path / "results.json", tmp_path / "page.md"
    source.write_text(json.dumps(found))
    page.write_text(report.PAGE.read_text())
    report.write_docs(source, page)
    first = page.read_text()
    assert report.read(json.loads(source.read_text())) == [result()]
    assert report.tables([result()]) in first
    assert "fsspec 1.2, in 3 s. Before, the load of the machine was 0.2." in first
    report.write_docs(source, page)
    assert page.read_text() == first


def test_a_page_without_a_place_for_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="figures: begin"):
        report.fill("# Page\n", {})


def test_measurements_are_chosen_by_letter() -> None:
    assert letters("c,a") == ["a", "c"]
    assert list(MEASURES) == list("abcdefghi")
    with pytest.raises(ArgumentTypeError, match="no such measurement: x"):
        letters("a,x")
