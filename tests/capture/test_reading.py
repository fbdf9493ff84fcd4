"""The readers of output.txt: in Python, and in the commands that know logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notata import Logbook, LogReader, MissingError, TooLargeError
from notata._base import limits
from notata.errors import ConfigurationError
from notata.search import follow, grep, show, tail
from notata.search.grepping import Files
from tests.command import notata

FOLDER = Path(__file__).parent


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A folder with a run that printed and failed, and one that printed nothing."""
    failed = Logbook("failed", tmp_path)
    failed._open_output().feed(b"".join(b"step %d\n" % number for number in range(30)) + b"NaN \xff")  # noqa: SLF001
    failed.mark_failed("diverged")
    Logbook("silent", tmp_path).mark_complete()
    return str(tmp_path)


def test_a_reader_returns_the_output_as_text(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LogReader(f"{base}/log_failed").output().endswith("step 29\nNaN \\xff")
    assert LogReader(f"{base}/log_silent").output() == ""
    monkeypatch.setattr(limits, "OUTPUT", 100)
    with pytest.raises(TooLargeError, match=r"output\.txt"):
        LogReader(f"{base}/log_failed").output()


def test_tail_prints_the_last_lines_of_the_output(base: str) -> None:
    assert notata("tail", "-n", "2", "--output", base, folder=FOLDER).stdout == "step 29\nNaN \ufffd"
    line = json.loads(notata("tail", "-n", "2", "--output", "--json", base, folder=FOLDER).stdout.splitlines()[0])
    assert (line["run_id"], line["key"], line["line"]) == ("failed", "output.txt", "step 29")
    assert tail(f"{base}/log_failed", 2, output=True)[0] == "step 29"
    assert next(iter(follow(f"{base}/log_failed", 2, output=True))) == "step 29"
    assert tail(f"{base}/log_failed/output.txt", 2)[0] == "step 29"


def test_a_run_without_output_is_an_error(base: str) -> None:
    missing = notata("tail", "--output", f"{base}/log_silent", folder=FOLDER)
    assert missing.returncode == 1
    assert "has recorded output" in missing.stderr
    assert notata("tail", "--output", "--series", "x", base, folder=FOLDER).returncode == 2
    with pytest.raises(MissingError, match="has recorded output"):
        tail(f"{base}/log_silent", output=True)
    with pytest.raises(ConfigurationError, match="not both"):
        tail(f"{base}/log_failed", output=True, series="x")


def test_grep_searches_the_output_also_as_a_log(base: str) -> None:
    assert [match.key for match in grep("NaN", base)] == ["output.txt"]
    assert [match.key for match in grep("NaN", base, files=Files(logs=True))] == ["output.txt"]


def test_show_prints_the_end_of_the_output_of_a_failed_run(base: str) -> None:
    overview = show(f"{base}/log_failed", lines=2)
    assert overview.output == ("step 29", "NaN \udcff")
    assert overview.output_size == (Path(base) / "log_failed/output.txt").stat().st_size
    text = notata("show", "-n", "2", f"{base}/log_failed", folder=FOLDER).stdout
    assert "step 29" in text
    assert "step 27" not in text
    assert show(f"{base}/log_silent").output == ()
