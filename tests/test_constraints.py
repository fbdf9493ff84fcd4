"""The constraints pin the packages that the README's commands install, so no new release breaks those commands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools.newest import CONSTRAINTS, pinned

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


FRAMEWORKS = ROOT / "tests/frameworks/constraints.txt"
ENGINES = ROOT / "tests/engines/constraints.txt"
IMPORTERS = ROOT / "tests/importers/constraints.txt"


def wanted() -> Iterator[tuple[Requirement, Path]]:
    groups: dict[str, list[Any]] = dict(PROJECT["dependency-groups"])
    large = [groups.pop("frameworks"), groups.pop("training")]
    engines, importers = groups.pop("engines"), groups.pop("importers")
    needed = PROJECT["project"]["dependencies"]
    for lists, file in (
        ([needed, PROJECT["project"]["optional-dependencies"]["test"], *groups.values()], CONSTRAINTS),
        ([needed, *large], FRAMEWORKS),
        ([needed, engines], ENGINES),
        ([needed, importers], IMPORTERS),
    ):
        for name in chain(*lists):
            if isinstance(name, str):  # no inclusion of another group
                yield Requirement(name), file


@pytest.mark.parametrize(
    ("requirement", "file"), [*wanted()], ids=[f"{name} {file.parent.name}" for name, file in wanted()]
)
def test_each_requirement_is_pinned_at_a_version_that_it_allows(requirement: Requirement, file: Path) -> None:
    version = pinned(file)[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)


def test_a_package_that_both_need_has_one_version() -> None:
    tests, frameworks = pinned(), pinned(FRAMEWORKS)
    assert {name: frameworks[name] for name in tests.keys() & frameworks.keys()} == {
        name: tests[name] for name in tests.keys() & frameworks.keys()
    }


def test_each_installation_in_readme_and_ci_takes_the_constraints() -> None:
    lines = (ROOT / "README.md").read_text().splitlines() + (ROOT / ".ci/run").read_text().splitlines()
    installs = [line for line in lines if ".venv/bin/pip install" in line]
    assert len(installs) >= 5
    assert [line for line in installs if not re.search(r"-c tests/(frameworks/)?constraints\.txt", line)] == []
