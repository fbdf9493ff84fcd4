"""Draw the terminal output of commands as pictures for the docs: real runs in a test bucket, and real output.

    python -m tests.tools.screenshots

writes ``docs/pictures/<name>.svg``, one for each of `SCENES`. The pictures replace only the names of the machine, its
user, this folder and its branch.
"""

from __future__ import annotations

import getpass
import io
import os
import platform
import re
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import fsspec
from rich.console import Console
from rich.text import Text

from notata import Experiment, Logbook
from tests import servers
from tests.command import terminal

__all__ = ["SCENES", "picture"]

PICTURES = Path(__file__).parents[2] / "docs/pictures"
COLUMNS = 112

SCENES = {
    "ls": ["ls", "s3://my-bucket/outputs"],
    "where": ["ls", "s3://my-bucket/outputs", "--where", "length_m > 0.5 and drift < 1e-6", "--sort", "drift"],
    "show": ["show", "s3://my-bucket/outputs/lengths/runs/log_lengths_length_m_1.6"],
    "grep": ["grep", "-n", "drift|WARNING", "s3://my-bucket/outputs", "--logs"],
    "compare": [
        "compare",
        "s3://my-bucket/outputs/lengths/runs/log_lengths_length_m_0.2",
        "s3://my-bucket/outputs/lengths/runs/log_lengths_length_m_0.8",
    ],
}
"""Command lines by the name of their picture."""


def fill(base: str) -> Logbook:
    """Record an experiment with a run that fails, and a single run; return a run that is still being written."""
    experiment = Experiment("lengths", base)
    for length in (0.2, 0.4, 0.8, 1.6):
        with suppress(FloatingPointError), experiment.add(length_m=length) as log:
            log.info("%d steps of %g s", 20_000, 1e-3)
            _swing(log, length)
    with Logbook("calibration", base, params={"gravity_m_s2": 9.81}) as log:
        log.json("metrics", {"offset_rad": 2.5e-4})
    running = Logbook("long-arm", base, params={"length_m": 12.0, "method": "leapfrog"})
    running.warning("step size %g s is at its minimum", 1e-6)
    running.flush()
    return running


def _swing(log: Logbook, length: float) -> None:
    """Integrate a pendulum of this length; the longest one fails."""
    angle, speed, dt = 0.2, 0.0, 1e-3
    track = []
    for step in range(20_000):
        speed -= dt * 9.81 / length * angle
        angle += dt * speed
        if step % 20 == 0:
            track.append(angle)
        if length > 1 and step == 15_000:
            log.warning("drift of the energy: %.1e", 3e-4)
            raise FloatingPointError(f"the energy drifted by {3e-4:.1e} at step {step}")
    log.array("angle", track)
    drift = abs(speed**2 / 2 + 9.81 / length * angle**2 / 2 - 9.81 / length * 0.02) * dt
    log.json("metrics", {"period_s": round(6.2832 * (length / 9.81) ** 0.5, 4), "drift": float(f"{drift:.2e}")})


def picture(command: list[str], printed: bytes) -> str:
    """Return the terminal's content as SVG, without external fonts."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    quoted = " ".join(f"'{word}'" if re.search(r"[ |<>]", word) else word for word in command)
    console.print(Text("$ ", style="bold green") + Text(f"notata {quoted}", style="bold"))
    console.print(Text.from_ansi(printed.decode().replace("\r\n", "\n").rstrip("\n")), soft_wrap=True)
    svg = console.export_svg(title="notata", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def anonymous(printed: bytes) -> bytes:
    """Replace the names of the machine, its user, this folder and its branch in the output."""
    folder = PICTURES.parents[1]
    branch = subprocess.run(["git", "branch", "--show-current"], cwd=folder, capture_output=True, text=True).stdout
    names = {str(folder): "/home/ada", platform.node(): "node17", getpass.getuser(): "ada", branch.strip(): "main"}
    names.pop("", None)
    for name, other in names.items():
        printed = re.sub(rb"(?:(?<!\w)|(?<=\x1b\[0m))" + re.escape(name.encode()) + rb"(?!\w)", other.encode(), printed)
    return re.sub(rb"Linux-[\w.-]+", b"Linux-6.12", printed)


def main() -> None:
    """Draw all scenes."""
    PICTURES.mkdir(exist_ok=True)
    with servers.moto() as server, tempfile.TemporaryDirectory() as folder:
        # Not with FSSPEC_S3_…: the command is forked from a process that imported fsspec, which has read these
        # variables.
        os.environ |= servers.CLOUD_ENVIRONMENT | {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.options["key"],
            "AWS_SECRET_ACCESS_KEY": server.options["secret"],
        }
        fsspec.filesystem("s3", **server.options).mkdir("my-bucket")
        running = fill("s3://my-bucket/outputs")
        for name, command in SCENES.items():
            code, printed = terminal(*command, folder=Path(folder), columns=COLUMNS)
            if code not in (0, 1):
                raise SystemExit(f"{name}: exit code {code}\n{printed.decode()}")
            (PICTURES / f"{name}.svg").write_text(picture(command, anonymous(printed)))
            print(f"{name}: exit code {code}, {len(printed.splitlines())} lines")
        running.mark_complete()


if __name__ == "__main__":
    main()
