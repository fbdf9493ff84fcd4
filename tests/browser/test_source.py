"""Where the page finds its data: the keys of a report, and the addresses of the live page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from notata.page.model import curves_key
from tests.browser.modules import script

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

NAMES = [["x", "y/z"], ["x/y", "z"], ["val/fine", "100%"], ["x%2Fy", "a b"]]


def test_curves_whose_names_have_slashes_are_those_of_their_column(page: Page) -> None:
    blocks = [["runs", {}]]
    blocks += [[curves_key(*names), {"column": names, "curves": []}] for names in NAMES]
    found = page.evaluate(
        f"""async ([blocks, names]) => {{
            for (const [key, value] of blocks) {{
                const block = document.createElement("script");
                block.type = "application/json";
                block.dataset.key = key;
                block.textContent = JSON.stringify(value);
                document.body.append(block);
            }}
            const source = {script("source.js")}.openSource();
            return Promise.all(names.map(async (one) => (await source.curves(...one)).column));
        }}""",
        [blocks, NAMES],
    )
    assert found == NAMES


def test_the_live_page_requests_curves_by_two_parts(page: Page) -> None:
    asked = page.evaluate(
        f"""async (names) => {{
            const asked = [];
            globalThis.fetch = async (address) => {{
                asked.push(address.split("?")[0].split("/").slice(2).map(decodeURIComponent));
                return new Response('{{"curves": []}}');
            }};
            const source = {script("source.js")}.openSource();
            for (const one of names) await source.curves(...one);
            return asked;
        }}""",
        NAMES,
    )
    assert asked == NAMES
