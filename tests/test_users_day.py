"""A day of a new user, on a disk and in a bucket; see `tests.users_day`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server

ROOT = Path(__file__).parents[1]
SECONDS = 240


def spend(base_dir: str, options: dict[str, Any]) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.users_day",
        base_dir,
        json.dumps(options),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (0, "a good day\n"), done.stderr


@pytest.mark.slow
def test_a_day_on_a_disk(tmp_path: Path) -> None:
    spend(str(tmp_path), {})


@pytest.mark.slow
def test_a_day_in_a_bucket(moto_server: Server) -> None:
    spend(f"{moto_server.url}/day", moto_server.options)
