"""Adapters of engines, with clients that fail on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from types import SimpleNamespace
from typing import Any

import pytest

from notata.sweep.adapters import Dask, adapted


class Client:
    """A Dask client whose results cannot be fetched."""

    asynchronous = False

    def __init__(self, status: str, error: BaseException) -> None:
        self.loop = SimpleNamespace(add_callback=lambda call, *arguments: asyncio.run(call(*arguments)))
        self._status = status
        self._error = error
        self.status = "running"

    def submit(self, function: Callable[..., Any], *arguments: Any, pure: bool) -> Any:
        assert not pure
        return SimpleNamespace(status=self._status, cancelled=lambda: self._status == "cancelled", key="a")

    async def gather(self, future: Any, asynchronous: bool) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("status", "error", "raised", "is_loss"),
    [
        ("finished", OSError("closed"), BrokenExecutor, True),  # the scheduler ended while it sent the result
        ("cancelled", AttributeError("no exception"), CancelledError, True),
        ("error", type("KilledWorker", (Exception,), {})("4 workers"), Exception, True),
        ("error", ImportError("no module"), ImportError, False),
    ],
)
def test_a_result_of_dask_that_cannot_be_fetched(
    status: str, error: BaseException, raised: type[BaseException], is_loss: bool
) -> None:
    engine = Dask(Client(status, error))
    with pytest.raises(raised) as caught:
        engine.submit(print).result(timeout=0)
    assert engine.is_loss(caught.value) is is_loss


def test_an_executor_is_recognised_by_its_class() -> None:
    known = type("Client", (Client,), {"__module__": "distributed.client"})
    assert isinstance(adapted(known("", OSError())), Dask)
    assert adapted(Client("", OSError())) is None
    assert adapted(asyncio) is None
