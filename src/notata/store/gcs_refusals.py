"""What notata does with each answer of GCS, before gcsfs has it; it knows no objects.

Some answers end a request at once, though gcsfs would ask again until the time limit. And each piece of an answer
gives the request its time anew.

gcsfs asks six times over half a minute whatever aiohttp raises, a refused certificate too, and after a 401, as a token
may have expired meanwhile. aiohttp calls what is here after each answer.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from notata.store.patience import note_progress

__all__ = ["RefusedError", "asking", "session_options"]

_refusals: ContextVar[list[int] | None] = ContextVar("refusals", default=None)

_TRIES: Final = {401: 2, 501: 1}
"""Answers that end a request, and after how many of them: gcsfs fetches a new token between two."""


class RefusedError(Exception):
    """An answer that another try does not change.

    Attributes:
        code: The HTTP status; 0 where there was no answer.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered {code}" if code else "no encrypted connection")
        self.code = code


@contextmanager
def asking() -> Iterator[None]:
    """Count the refusals of one request and its repetitions."""
    token = _refusals.set([])
    try:
        yield
    finally:
        _refusals.reset(token)


def session_options(given: dict[str, Any] | None) -> dict[str, Any]:
    """Return options for aiohttp's session: the given ones, and what ends hopeless requests and notes progress."""
    options = dict(given or {})
    traces = [*options.get("trace_configs", ()), _trace()]
    return {"response_class": _response_class(), **options, "trace_configs": traces}


@functools.cache
def _response_class() -> Any:
    """Return the class of answers: aiohttp's, which says how far it is; the same one each time, as in `_trace`."""
    from aiohttp import ClientResponse

    class Response(ClientResponse):
        async def read(self) -> bytes:  # the one method that gcsfs calls
            if not self.ok:  # a refusal is no progress: it would be repeated without end
                return await super().read()
            pieces = []
            note_progress()
            async for piece in self.content.iter_any():
                note_progress()
                pieces.append(piece)
            await super().read()  # nothing is left: this gives the connection back
            return b"".join(pieces)

    return Response


@functools.cache
def _trace() -> Any:
    """The same object each time: fsspec tells file systems apart by their options."""
    from aiohttp import TraceConfig

    trace = TraceConfig()
    trace.on_request_end.append(_ended)
    trace.on_request_exception.append(_failed)
    return trace


async def _ended(_session: object, _context: object, params: Any) -> None:
    status, seen = params.response.status, _refusals.get()
    if status not in _TRIES or seen is None:
        return
    seen.append(status)
    if seen.count(status) >= _TRIES[status]:
        params.response.close()
        raise RefusedError(status)


async def _failed(_session: object, _context: object, params: Any) -> None:
    if isinstance(params.exception, ssl.SSLError):
        raise RefusedError(0) from params.exception
