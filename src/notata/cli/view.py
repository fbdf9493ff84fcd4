"""``notata view``: show runs in the browser, live."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from notata.cli import output
from notata.cli.frame import Command, storage_option, urls_argument
from notata.cli.picking import filter_options, fresh_option

if TYPE_CHECKING:
    import threading

    from notata.page.guard import Rules

__all__ = ["view"]

_WILDCARDS: Final = ("0.0.0.0", "::", "")  # noqa: S104 - only with --host, and after a warning
_LOCAL: Final = ("127.0.0.1", "localhost", "::1")
_LOOKING: Final = 5.0  # maximum seconds that the end waits for a thread that still looks for runs


@click.command(
    cls=Command,
    short_help="Show runs in the browser and keep the page up to date.",
    examples=(
        "notata view outputs/sweep",
        "notata view s3://bucket/outputs --where 'omega > 1' --sort loss --group seed",
        "notata view outputs --no-browser --port 6682",
    ),
    epilog="Exit codes: 0 after Ctrl-C; 2 usage error; 3 storage error.",
)
@urls_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Port of the server; 0 for any free port.  [default: 6682, or a free port if 6682 is taken]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address that the server listens on. With any other address, other machines can open the page, without "
    "encryption.",
)
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.  [default: yes]")
@filter_options
@click.option("--sort", metavar="KEY", help="Sort the runs by a column, a parameter or a metric.")
@click.option("-r", "--reverse", is_flag=True, help="Reverse the order.")
@click.option(
    "--group", multiple=True, metavar="NAME", help="Show the mean and a band over this parameter, such as seed."
)
@click.option(
    "--series", multiple=True, metavar="NAME", help="Show only this series, or a quoted pattern; may be repeated."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Time between polls of the curves and logs on the screen; up to ten times longer while there are no new "
    "rows.  [default: 1 to 1.5 on a local disk, else 2 to 4]",
)
@fresh_option
@storage_option()
def view(
    urls: list[str] | None,
    port: int | None,
    host: str,
    browser: bool,
    group: tuple[str, ...],
    series: tuple[str, ...],
    interval: float | None,
    storage_options: dict[str, Any],
    **choice: Any,
) -> None:
    """Show the runs at or below each URL in the browser, with table, curves, files and logs, and update them live.

    The page can be opened only on this machine, and its address contains a secret token. The command never writes to
    runs, and reads only what is on the screen. If an experiment has more than 10,000 runs, the page shows those in its
    index. Stop the command with Ctrl-C. For a page that needs no server, use notata report.
    """
    from notata.page.answers import View
    from notata.page.catalog import Choice
    from notata.page.model import title_of
    from notata.page.server import PageServer, bound, check_packages, serve
    from notata.search.target import targets

    check_packages()
    places = targets(urls, storage_options or None)
    listening = bound(host, port)
    with listening:
        rules = _rules(host, listening.getsockname()[1])
        names = tuple(place.name for place in places)
        server = PageServer(
            places,
            View(title_of(names), names, group, series),
            choice=Choice(**choice),
            interval=interval,
            rules=rules,
            tell=output.error_line,
        )
        state = _hash(choice, group)
        address = f"http://{_shown(host)}:{rules.port}/?token={quote(rules.token)}"
        _warn(host)
        look = server.look if all(place.store.is_local for place in places) else None
        opening = _leading_to(f"{address}&at={quote(state[1:], safe='')}") if browser else nullcontext("")
        looking: list[threading.Thread] = []
        with opening as opened, suppress(KeyboardInterrupt):
            serve(server, listening, lambda: looking.extend(_begin(address + state, names, opened=opened, look=look)))
        output.error_line("Stopped")
    with suppress(KeyboardInterrupt):
        for thread in looking:  # it may import a package in C, while the interpreter must not end
            thread.join(_LOOKING)


def _rules(host: str, port: int) -> Rules:
    from notata.page.guard import Rules

    if host in _WILDCARDS:
        return Rules(port=port, hosts=(socket.gethostname(), socket.getfqdn()), accepts_own_address=True)
    return Rules(port=port, hosts=(_shown(host),))


def _warn(host: str) -> None:
    """Print a warning if other machines can reach the page."""
    if host not in _LOCAL:
        output.error_line(
            f"Warning: other machines can reach this page at {host}, and the connection is not encrypted: others in "
            "the network may read the token and the runs. An SSH tunnel is safer"
        )


def _shown(host: str) -> str:
    """Return the host part of an address."""
    host = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _hash(choice: dict[str, Any], group: Sequence[str]) -> str:
    """Return the part of the address that tells the page how to begin."""
    sort = choice.get("sort")
    state = {"sort": f"{'-' if choice.get('reverse') else ''}{sort}" if sort else "", "group": ",".join(group)}
    query = "&".join(f"{name}={quote(value)}" for name, value in state.items() if value)
    return f"#/runs?{query}" if query else ""


def _begin(
    address: str, names: Sequence[str], *, opened: str, look: Callable[[], None] | None
) -> list[threading.Thread]:
    """Print the address, and open the file that leads to it, if there is one.

    Meanwhile look for runs on a local disk, which costs no request; return the thread that does so.
    """
    output.line(f"notata view: {', '.join(names[:3])}{', …' * (len(names) > 3)}")
    click.echo(f"Open {address}")  # not by `output.line`, which would redact the token
    click.echo("Press Ctrl-C to stop.")
    from notata._base.threads import start_thread

    looking = [] if look is None else [start_thread(look, "notata-look")]
    if opened:
        start_thread(lambda: _open(opened), "notata-browser")  # a browser in the terminal would block the server
    return looking


@contextmanager
def _leading_to(address: str) -> Iterator[str]:
    """Write a file that leads a browser to an address, and yield the file's URL; it is removed at the end.

    Only this user can read the file, while all users of a machine can see the arguments with which a browser starts.
    """
    import html
    import tempfile
    from pathlib import Path

    try:
        number, name = tempfile.mkstemp(prefix="notata-view-", suffix=".html")
    except OSError:
        output.error_line("Cannot write to the folder for temporary files: open the address below in a browser")
        yield ""
        return
    file = Path(name)
    try:
        with open(number, "w", encoding="utf-8") as page:
            page.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
        yield file.as_uri()
    finally:
        file.unlink(missing_ok=True)


def _open(address: str) -> None:
    import webbrowser

    try:
        is_open = webbrowser.open(address)
    except (webbrowser.Error, OSError):
        is_open = False
    if not is_open:
        output.error_line("No browser was found on this machine: open the address above in a browser")
