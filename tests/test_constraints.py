"""The constraints pin the packages that the README's commands install, so no new release breaks those commands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools.newest import pinned

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted() -> Iterator[Requirement]:
    groups = PROJECT["dependency-groups"]
    lists = [PROJECT["project"]["dependencies"], PROJECT["project"]["optional-dependencies"]["test"], *groups.values()]
    for names in lists:
        yield from map(Requirement, names)


@pytest.mark.parametrize("requirement", [*wanted()], ids=str)
def test_each_requirement_is_pinned_at_a_version_that_it_allows(requirement: Requirement) -> None:
    version = pinned()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)


def test_each_installation_in_readme_and_ci_takes_the_constraints() -> None:
    lines = (ROOT / "README.md").read_text().splitlines() + (ROOT / ".ci/run").read_text().splitlines()
    newest = '"${newest[@]}"'  # the pins as lower bounds, for the report on the newest packages
    installs = [line for line in lines if ".venv/bin/pip install" in line and newest not in line]
    assert len(installs) >= 5
    assert [line for line in installs if "-c tests/constraints.txt" not in line] == []
