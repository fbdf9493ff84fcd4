"""The tools show why a child process failed."""

from __future__ import annotations

import sys

import pytest

from tests import children


def test_the_error_of_a_child_is_shown() -> None:
    with pytest.raises(children.ChildError, match=r"(?s)exit code 1:.*ZeroDivisionError"):
        children.run([sys.executable, "-c", "1/0"])


def test_the_output_of_a_child_is_text() -> None:
    assert children.run([sys.executable, "-c", "print('done')"]).stdout == "done\n"
