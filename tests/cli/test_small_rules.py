"""Small display rules: durations, shortened names, verdicts, and variables without secrets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from notata._base.display import duration, shortened
from notata.run.listings import name_of
from notata.search import Run, Runs, Verdict, surroundings
from tests.notebook import cells


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.999, "999 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599.6, "1 h 0 min"),
        (86_399, "23 h 59 min"), (86_400, "1 d 0 h"),
    ],
)  # fmt: skip
def test_spans_of_time_at_their_bounds(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_names_are_as_long_as_they_may_be() -> None:
    assert [shortened("abcd", width) for width in (1, 2, 3, 4, 5)] == ["…", "a…", "ab…", "abcd", "abcd"]
    assert [name_of(url) for url in ("s3://bucket/log_a/", "log_a", "/")] == ["log_a", "log_a", ""]


@pytest.mark.parametrize(
    ("missing", "changed", "ok", "code", "skipped"),
    [
        ([], [], True, 0, []),
        ([], [], False, 3, []),
        ([], [], True, 3, ["why"]),
        (["x"], [], False, 1, ["why"]),
        ([], ["x"], False, 1, []),
    ],
)
def test_a_verdict_is_the_worst_finding(
    missing: list[str], changed: list[str], ok: bool, code: int, skipped: list[str]
) -> None:
    report = SimpleNamespace(missing=missing, changed=changed, ok=ok, skipped=skipped)
    assert Verdict("a", "a", "memory://a", report).code == code  # type: ignore[arg-type]
    assert Verdict("a", None, None, None, "why").code == 3


def test_a_notebook_shows_what_is_not_certain() -> None:
    assert "● running?" in cells(Runs([Run("a", "a", "memory://a", "running", certain=False)])._repr_html_())[1]


def test_only_variables_without_secrets_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTATA_CODE")
    monkeypatch.setenv("NOTATA_BASE_DIR", "sftp://ada:hunter2@host/runs")
    monkeypatch.setenv("NOTATA_TOKEN", "hunter2")
    monkeypatch.setenv("NOTATA_LOG_LEVEL", "DEBUG")
    told = {check.name: check.told for check in surroundings.surroundings("", {}, str)}["variables"]
    assert told == "NOTATA_BASE_DIR=sftp://host/runs, NOTATA_LOG_LEVEL=DEBUG, NOTATA_TOKEN"
