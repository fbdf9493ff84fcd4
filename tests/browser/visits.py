"""Visits of pages: everything that a browser reports about a page is a failure of the test that opened it."""

from __future__ import annotations

import shutil
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Dialog,
        Error,
        Locator,
        Page,
        Playwright,
        Request,
    )

__all__ = ["Scheme", "Visits", "chromium", "count", "findings", "picture_width"]

_PATIENCE: Final = 90_000.0  # milliseconds until something must be there
Scheme = Literal["light", "dark"]

_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`), true);
"""

_FIND = """
options => axe.run(document, options).then(({violations}) => violations.flatMap(({id, help, nodes}) =>
    nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.failureSummary ?? ""}`)))
"""


def chromium(playwright: Playwright) -> Browser:
    """Start the system's Chromium. A test without a browser fails; it is not skipped."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "there is no Chromium: run `apt-get install chromium`"
    return playwright.chromium.launch(executable_path=program)


class Visits:
    """Opens pages, each in a context of its own, and collects what is wrong with them.

    Attributes:
        problems: Errors and warnings on the console, exceptions, violations of the policy, and requests that are
            neither for the page itself nor below `origin`.
        expected: Parts of messages that are no problem from now on.
        requests: The addresses of all requests.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.expected: list[str] = []
        self.problems: list[str] = []
        self.requests: list[str] = []

    def open(
        self,
        address: str = "about:blank",
        *,
        origin: str = "",
        scheme: Scheme = "light",
        width: int = 1280,
        height: int = 800,
        touch: bool = False,
    ) -> Page:
        """Open an address. Only its own file, or addresses below `origin`, may be requested."""
        context = self._browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            has_touch=touch,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(_PATIENCE)
        context.add_init_script(_REPORT_VIOLATIONS)
        own = address.partition("#")[0]

        def see(request: Request) -> None:
            self.requests.append(request.url)
            if request.url.partition("#")[0] != own and not (origin and request.url.startswith(origin)):
                self.problems.append(f"request: {request.url[:300]}")

        context.on("request", see)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self._fail(error.error))
        context.on("dialog", self._dismiss)
        self._contexts.append(context)
        page = context.new_page()
        context.on("page", lambda other: self.problems.append(f"another page: {other.url}"))
        page.on("download", lambda download: self.requests.append(download.url))
        page.goto(address)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.expected):
            self.problems.append(f"{message.type}: {message.text[:500]}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _fail(self, error: Error) -> None:
        self.problems.append(f"exception: {error.message[:500]} {error.stack or ''}"[:1000])

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()


def count(elements: Locator, wanted: int) -> None:
    """Wait until there are this many elements, without eval, which `wait_for_function` needs and the policy forbids."""
    from playwright.sync_api import expect

    expect(elements).to_have_count(wanted, timeout=_PATIENCE)


def picture_width(picture: Locator) -> int:
    """Return the width of a picture, once it is decoded."""
    return int(picture.evaluate("async (picture) => { await picture.decode(); return picture.naturalWidth; }"))


def findings(page: Page, **options: Any) -> list[str]:
    """Return what axe-core finds on a page as it is, one text an element."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8") + ";0")
    return list(page.evaluate(_FIND, {"preload": False, "resultTypes": ["violations"], **options}))
