"""The server of the live page: a Starlette application, and uvicorn, which runs it until Ctrl-C.

Addresses are relative to the page: ``static/…`` for the front end, and ``api/…`` for data, with the keys of a report.
An event stream (``api/events?watch=…``, see `notata.page.live.items_of`) tells the page what has changed.
"""

from __future__ import annotations

import asyncio
import errno
import html
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote

from notata._base.packages import needed
from notata._base.secrets import redacted
from notata.errors import (
    AccessError,
    ConfigurationError,
    DeadlineError,
    KeyNameError,
    MissingError,
    NotataError,
    PackageMissingError,
    TooLargeError,
    UnreachableError,
)
from notata.page.answers import Answers, CurveRequest, View
from notata.page.bundle import CHART_FILES, chart_library, static_files
from notata.page.catalog import Catalog, Choice
from notata.page.connections import bounded
from notata.page.guard import Guard, Rules
from notata.page.live import Event, Live, items_of
from notata.page.model import TEXTS
from notata.page.rows import RowCache
from notata.page.streams import BusyError, Readers, Streams
from notata.search.places import File
from notata.search.target import Target
from notata.store import Blob

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

__all__ = ["PORT", "PageServer", "bound", "check_packages", "serve"]

PORT: Final = 6682
"""The default port; if another program uses it, the server takes any free one."""

_PIECE: Final = 2**20  # bytes of a file that are read at once for a download
_LOOK: Final = 0.05  # seconds between two looks at the state of uvicorn
_ENDING: Final = 2  # seconds that answers may take after Ctrl-C
_FIELDS: Final = 20  # of the query of an address

_MIME: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}

_STATUS: Final = (
    (MissingError, 404),
    (TooLargeError, 413),
    (ConfigurationError, 400),
    (KeyNameError, 400),
    (PackageMissingError, 501),
    (UnreachableError, 503),
    (DeadlineError, 504),
    (AccessError, 502),
    (NotataError, 502),
)
"""The status code of an answer by the type of the error; the first that fits."""

_Handler = Callable[[Sequence[str], Mapping[str, str], "Request"], Awaitable["Response"]]


def check_packages() -> None:
    """Check that the packages of the server are installed.

    Raises:
        PackageMissingError: One is not.
    """
    with needed("notata view needs starlette, uvicorn and uplot-python", "notata[view]", "view"):
        for name in ("starlette", "uvicorn", "uplot"):
            if find_spec(name) is None:
                raise ImportError(name)


class PageServer:
    """The live page of the runs at some places.

    Args:
        targets: The places.
        view: The title and the options of the page.
        choice: Which runs are shown.
        interval: Seconds between two polls of rows and texts, and up to ten times as many without new ones; by
            default 1 to 1.5 on a local disk, else 2 to 4.
        rules: Which requests are allowed.
        tell: Called with messages for the terminal.
        rows: The rows that are kept.
        live: Makes the part that looks for changes.

    Raises:
        ConfigurationError: A place or the filter is invalid.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        view: View,
        *,
        choice: Choice | None = None,
        interval: float | None = None,
        rules: Rules | None = None,
        tell: Callable[[str], object] = bool,
        rows: RowCache | None = None,
        live: Callable[..., Live] = Live,
    ) -> None:
        self._view = view
        self._rules = rules or Rules()
        self._tell = tell
        self._reported: set[str] = set()
        catalog = Catalog(targets, choice)
        rows = rows or RowCache()
        self._live = live(catalog, rows, interval=interval, tell=tell)
        self._answers = Answers(view, catalog, rows, self._live)
        self._readers = Readers()
        self.streams = Streams(self._live, failed=self._report)
        self._handlers: dict[str, _Handler] = {
            "runs": self._runs,
            "curves": self._curves,
            "run": self._run,
            "file": self._file,
            **{name: partial(self._text, name) for name in TEXTS},
            "raw": self._raw,
            "events": self._events,
        }

    def look(self) -> None:
        """Look for the runs before a page asks for them, and report if there are none. Cost: as the first page."""
        self._answers.runs()

    def app(self) -> ASGIApp:
        """Return the application with its protection.

        Raises:
            PackageMissingError: starlette is not installed.
        """
        with needed("notata view needs starlette", "notata[view]", "view"):
            from starlette.applications import Starlette
            from starlette.routing import Route

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            self.streams.close_all()

        routes = [
            Route("/", self._page),
            Route("/static/{name}", self._static),
            Route("/{path:path}", self._api),
        ]
        return Guard(Starlette(routes=routes, lifespan=lifespan), self._rules)

    # -- the page ------------------------------------------------------------------------------------------

    async def _page(self, _: Request) -> Response:
        from starlette.responses import HTMLResponse

        page = static_files()["page.html"].replace("<!-- notata: title -->", html.escape(self._view.title))
        if chart_library() is None:
            page = "\n".join(line for line in page.splitlines() if not any(name in line for name in CHART_FILES))
        return HTMLResponse(page)

    async def _static(self, request: Request) -> Response:
        from starlette.responses import Response

        name = request.path_params["name"]
        chart = chart_library()
        library = {} if chart is None else dict(zip(CHART_FILES, (chart.script, chart.styles), strict=True))
        text = library.get(name) or static_files().get(name)
        kind = _MIME.get(f".{name.rpartition('.')[2]}")
        if text is None or kind is None:
            return _error(404, "there is no such file")
        return Response(text.encode(), media_type=kind, headers={"cache-control": "private, no-cache"})

    # -- data ----------------------------------------------------------------------------------------------

    async def _api(self, request: Request) -> Response:
        """Answer a request for data; an error becomes JSON with its message."""
        path = request.scope.get("raw_path") or quote(request.url.path).encode()
        first, *rest = path.decode("latin-1").partition("?")[0].lstrip("/").split("/")
        kind, *parts = [unquote(part) for part in rest] or [""]
        handler = self._handlers.get(kind) if first == "api" else None
        if handler is None:
            return _error(404, "there is no such page")
        try:
            given = dict(parse_qsl(request.url.query, max_num_fields=_FIELDS))
        except ValueError:
            return _error(400, f"an address has at most {_FIELDS} fields")
        try:
            return await handler(parts, given, request)
        except BusyError as error:
            return _error(503, str(error))
        except NotataError as error:
            for event in self._live.note_failed(error):
                self.streams.put(event)
            status = next(code for kind, code in _STATUS if isinstance(error, kind))
            return _error(status, str(error))
        except Exception as error:
            self._report(error)
            return _error(
                500,
                f"{type(error).__name__}: this is a bug in notata. Please report it, with the message in the terminal",
            )

    def _report(self, error: Exception) -> None:
        """Report an unexpected error in the terminal, once."""
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1:]
        text = f"Error: {type(error).__name__}: {error} ({''.join(f'{one.name}, line {one.lineno}' for one in where)})"
        if text not in self._reported and len(self._reported) < 100:
            self._reported.add(text)
            self._tell(f"{redacted(text)}: this is a bug in notata. Report it")

    async def _runs(self, parts: Sequence[str], _: Mapping[str, str], request: Request) -> Response:
        from starlette.responses import Response

        _only(parts, 0)
        table = await self._readers.run(self._answers.runs)
        headers = {"etag": f'"{self._rules.port}-{id(self._answers):x}-{table.number}"', "vary": "accept-encoding"}
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return _json(table.compressed, headers | {"content-encoding": "gzip"})
        return _json(table.plain, headers)

    async def _curves(self, parts: Sequence[str], given: Mapping[str, str], _: Request) -> Response:
        if len(parts) < 2:
            raise MissingError("pass the name of a series and of a column")
        runs = [unquote(one) for one in given["runs"].split(",")] if given.get("runs") else None
        wanted = CurveRequest.of(runs, given)
        return _json(await self._readers.run(partial(self._answers.curves, parts, wanted)))

    async def _run(self, parts: Sequence[str], _: Mapping[str, str], __: Request) -> Response:
        _only(parts, 1)
        return _json(await self._readers.run(partial(self._answers.run, parts[0])))

    async def _file(self, parts: Sequence[str], _: Mapping[str, str], __: Request) -> Response:
        run_id, key = _file_of(parts)
        return _json(await self._readers.run(partial(self._answers.file, run_id, key)))

    async def _text(self, name: str, parts: Sequence[str], given: Mapping[str, str], _: Request) -> Response:
        _only(parts, 1)
        return _json(await self._readers.run(partial(self._answers.text, parts[0], name, given.get("start", ""))))

    async def _raw(self, parts: Sequence[str], _: Mapping[str, str], request: Request) -> Response:
        """Send the bytes of a file as a download, which no browser shows or runs."""
        from starlette.responses import StreamingResponse

        run_id, key = _file_of(parts)
        file = await self._readers.run(partial(self._answers.listed, run_id, key))
        first = await self._readers.run(partial(_piece, file, 0, ""))
        name = key.rpartition("/")[2]
        headers = {
            "content-disposition": _attachment(name),
            "content-length": str(first.size),
            "content-security-policy": "sandbox; default-src 'none'",
        }

        async def pieces() -> AsyncIterator[bytes]:
            blob, at = first, 0
            while blob.data:
                yield blob.data
                at += len(blob.data)
                if at >= first.size:
                    return
                blob = await self._readers.run(partial(_piece, file, at, first.version))

        body = pieces() if request.method == "GET" else _nothing()
        return StreamingResponse(body, headers=headers, media_type="application/octet-stream")

    async def _events(self, parts: Sequence[str], given: Mapping[str, str], request: Request) -> Response:
        from starlette.responses import StreamingResponse

        _only(parts, 0)
        stream = self.streams.open(items_of(given.get("watch", "")))
        if self._answers.number != self._answers.served or "last-event-id" in request.headers:
            stream.put(Event("runs"))

        async def texts() -> AsyncIterator[str]:
            try:
                async for text in stream.texts():
                    yield text
            finally:
                self.streams.close(stream)

        return StreamingResponse(texts(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes, ...]():
        yield piece


def _only(parts: Sequence[str], count: int) -> None:
    if len(parts) != count:
        raise MissingError("there is no such page")


def _file_of(parts: Sequence[str]) -> tuple[str, str]:
    """Return the run and the key of a path; the key may have slashes."""
    if len(parts) < 2:
        raise MissingError("pass the id of a run and the key of a file")
    return parts[0], "/".join(parts[1:])


def _piece(file: File, start: int, version: str) -> Blob:
    """Return a part of a file; of this version, unless it is empty."""
    end = min(start + _PIECE, max(file.entry.size, start + 1)) if not version else start + _PIECE
    future: Future[Blob] = file.store.start_fetch(file.entry.key, start, end, version or None)
    return future.result()


def _json(data: bytes, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import Response

    return Response(data, headers=dict(headers or {}), media_type="application/json")


def _error(status: int, text: str) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": redacted(text)}, status)


def _attachment(name: str) -> str:
    r"""Return a ``Content-Disposition`` with a file name (RFC 6266, with the encoding of RFC 8187).

    >>> print(_attachment('loss "1" ü.txt'))
    attachment; filename="loss _1_ _.txt"; filename*=UTF-8''loss%20%221%22%20%C3%BC.txt
    """
    plain = "".join(one if one.isascii() and one.isprintable() and one not in '"\\%' else "_" for one in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


# -- running -----------------------------------------------------------------------------------------------


def bound(host: str, port: int | None) -> socket.socket:
    """Return a listening socket.

    Args:
        host: The address.
        port: The port; None for `PORT`, or any free one if that is taken.

    Raises:
        ConfigurationError: The port is taken, or the address is not one of this machine.
    """
    for tried in [port] if port is not None else [PORT, 0]:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=128)
        except OSError as error:
            if port is None and tried == PORT:
                continue
            raise _not_bound(host, tried or 0, error) from error
    raise AssertionError("unreachable")


def _not_bound(host: str, port: int, error: OSError) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"cannot listen on port {port}: another program is using it. Pass another --port, or omit --port to use a "
            "free one"
        )
    if error.errno == errno.EACCES:
        return ConfigurationError(
            f"cannot listen on port {port}: you do not have permission to use this port. Pass a --port above 1023"
        )
    reason = error.strerror or "the address is unknown"
    return ConfigurationError(f"cannot listen on {host}: {reason}. Pass --host with an address of this machine")


def serve(server: PageServer, listening: socket.socket, started: Callable[[], object]) -> None:
    """Run the server until an interrupt, which also ends open event streams.

    Args:
        server: The page.
        listening: The socket.
        started: Called when requests are answered.

    Raises:
        PackageMissingError: uvicorn is not installed.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    with needed("notata view needs uvicorn", "notata[view]", "view"):
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol

    options: dict[str, Any] = {
        "http": bounded(H11Protocol), "ws": "none",
        "loop": "asyncio", "interface": "asgi3", "log_config": None, "access_log": False,
        "server_header": False, "proxy_headers": False, "timeout_graceful_shutdown": _ENDING,
    }  # fmt: skip
    running = uvicorn.Server(uvicorn.Config(server.app(), log_level="critical", **options))

    async def attend() -> None:
        while not (running.started or running.should_exit):
            await asyncio.sleep(_LOOK)
        if running.started:
            started()
        while not running.should_exit:
            await asyncio.sleep(_LOOK)
        server.streams.close_all()  # uvicorn waits until all answers have ended

    async def run() -> None:
        attending = asyncio.create_task(attend())
        await running.serve(sockets=[listening])
        await attending

    asyncio.run(run())
