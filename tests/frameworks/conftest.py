"""Settings of these tests: frameworks warn of much that is not about notata."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # the rules of a test come after these, so they win
            for rule in ("error:.*not (added to|recorded in)", "ignore"):
                item.add_marker(pytest.mark.filterwarnings(rule), append=False)
