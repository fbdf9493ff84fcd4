"""Human-readable sizes."""

from __future__ import annotations

import pytest

from notata._base import display


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (3_500_000, "3.5 MB"),
        (999_999_999, "1.0 GB"),
        (10**12, "1.0 TB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_human_readable_sizes(count: int, told: str) -> None:
    assert display.size(count) == told


def test_a_size_beyond_every_float_is_shown() -> None:
    """The size comes from a server and may be anything."""
    assert display.size(10**400).endswith(" TB")
