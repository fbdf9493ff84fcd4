"""Handle certain GCS responses before gcsfs sees them; no objects are involved.

Some responses end a request at once, although gcsfs would retry until the time limit. Each piece of a response restarts
the request's time limit.

gcsfs retries six times over half a minute for every error of aiohttp, even a refused certificate, and after a 401, as a
token may have expired. aiohttp calls this module after each response.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from notata.store.backends.patience import note_progress

__all__ = ["RefusedError", "asking", "session_options"]

_refusals: ContextVar[list[int] | None] = ContextVar("refusals", default=None)

_TRIES: Final = {401: 2, 501: 1}
"""Responses that end a request, and after how many of them: gcsfs fetches a new token between two."""


class RefusedError(Exception):
    """A response that a retry cannot change.

    Attributes:
        code: The HTTP status; 0 if there was no response.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered {code}" if code else "no encrypted connection")
        self.code = code


@contextmanager
def asking() -> Iterator[None]:
    """Count the refusals of one request, including its retries."""
    token = _refusals.set([])
    try:
        yield
    finally:
        _refusals.reset(token)


def session_options(given: dict[str, Any] | None) -> dict[str, Any]:
    """Return options for aiohttp's session: the given ones, plus ours to end hopeless requests and note progress."""
    options = dict(given or {})
    traces = [*options.get("trace_configs", ()), _trace()]
    return {"response_class": _response_class(), **options, "trace_configs": traces}


@functools.cache
def _response_class() -> Any:
    """Return aiohttp's response class, extended to report progress; always the same class, as for `_trace`."""
    from aiohttp import ClientResponse

    class Response(ClientResponse):
        async def read(self) -> bytes:  # the one method that gcsfs calls
            if not self.ok:  # a refusal is no progress: it would be repeated for ever
                return await super().read()
            pieces = []
            note_progress()
            async for piece in self.content.iter_any():
                note_progress()
                pieces.append(piece)
            await super().read()  # nothing remains: this releases the connection
            return b"".join(pieces)

    return Response


@functools.cache
def _trace() -> Any:
    """Return the trace hooks; always the same object, as fsspec distinguishes file systems by their options."""
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
