"""A notebook's kernel: what its cells show, and the status of a run when it restarts or is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from notata import LogReader
from tests.backends import Place
from tests.contract.conftest import make_place
from tests.notebook import cells, pictures, points, title

SECONDS = 120


@pytest.fixture(params=["local", "s3", pytest.param("seaweed", marks=pytest.mark.real)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture
def kernel() -> Iterator[Any]:
    manager: Any = KernelManager(kernel_name="python3", shutdown_wait_time=2 * SECONDS)  # before it kills the kernel
    manager.start_kernel(env={**os.environ, "PYTHONWARNINGS": "ignore"})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=SECONDS)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def run(client: Any, code: str) -> str:
    reply = client.execute_interactive(code, timeout=SECONDS, output_hook=lambda _: None)
    return str(reply["content"]["status"])


def begin(client: Any, place: Place) -> None:
    code = f"from notata import Logbook\nlog = Logbook('run', {place.url!r}, storage_options={place.options!r})\n"
    assert run(client, code + "log.info('from a cell')") == "ok"
    assert run(client, "1 / 0") == "error"  # the error of an earlier cell did not end the run


def display_of(client: Any, code: str) -> dict[str, str]:
    """Return what a cell displays for its last line, by MIME type."""
    shown: list[dict[str, Any]] = []
    reply = client.execute_interactive(code, timeout=SECONDS, output_hook=shown.append)
    assert reply["content"]["status"] == "ok"
    [data] = [one["content"]["data"] for one in shown if one["msg_type"] == "execute_result"]
    return dict(data)


def state(place: Place) -> str:
    return LogReader(f"{place.url}/log_run", storage_options=place.options).state.status


@pytest.mark.slow
def test_a_kernel_that_restarts(place: Place, kernel: Any) -> None:
    manager, client = kernel
    begin(client, place)
    assert state(place) == "running"
    manager.restart_kernel(now=False)
    assert state(place) == "failed"
    fields = json.loads(place.bytes("log_run/metadata.json"))
    assert fields["failure_reason"] == "the process ended without mark_complete() or mark_failed()"
    assert place.log()[1] == "INFO from a cell"
    assert place.log()[-1].startswith("ERROR Marked failed")


@pytest.mark.slow
def test_a_kernel_that_is_killed(place: Place, kernel: Any) -> None:
    manager, client = kernel
    begin(client, place)
    manager.restart_kernel(now=True)
    assert state(place) == "died"
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "initialized"


@pytest.mark.slow
def test_the_last_line_of_a_cell_shows_a_run_and_its_curves(place: Place, kernel: Any) -> None:
    manager, client = kernel
    begin(client, place)
    assert run(client, "for step in range(5):\n    log.scalars(step=step, loss=0.5**step)\nlog.flush()") == "ok"
    for code in ("log", "log.reader", "from notata import search\nsearch.show(log.path)", "log.reader.series()"):
        data = display_of(client, code)
        assert "text/plain" in data
        [loss] = pictures(data["text/html"])
        assert title(loss) == "loss"
        assert len(points(loss)[0]) == 5
    assert dict(cells(display_of(client, "log")["text/html"]))["status"] == "● running"
    manager.restart_kernel(now=False)
