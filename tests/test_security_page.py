"""Each sentence of the page on security refers to existing tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/explanation/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))
DEFINED = {
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_page_names_exists(name: str) -> None:
    assert name in DEFINED


def test_each_promise_names_a_test() -> None:
    promises = re.findall(r"^- (?!\*\*)(.*?)(?=^- |^$|^[A-Z#])", PAGE, re.MULTILINE | re.DOTALL)
    assert len(promises) > 30
    assert [promise for promise in promises if "`test_" not in promise and "Not held by a test" not in promise] == []
