"""Scripts that the nursery forks: nothing waits for one forever."""

from __future__ import annotations

import subprocess
import sys

from tests.nursery import ROOT, Script


def test_processes_left_by_tests_end_with_the_tests() -> None:
    """A failed test does not wait for its script, and the script waits for its input to end."""
    left = (
        "from tests.nursery import Script\n"
        "script = Script('tests.ending', ['wait', 'memory://left', '{}'])\n"
        "assert script.stdout.readline() == 'ready\\n'\n"
        "raise SystemExit(3)"
    )
    assert subprocess.run([sys.executable, "-c", left], cwd=ROOT, timeout=60).returncode == 3


def test_a_script_may_say_more_than_a_pipe_holds() -> None:
    script = Script("tests.test_nursery", [])
    assert script.communicate() == ("a" * 10**6, "b" * 10**6)
    assert script.returncode == 0


if __name__ == "__main__":
    sys.stderr.write("b" * 10**6)
    sys.stdout.write("a" * 10**6)
