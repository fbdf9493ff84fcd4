"""Runs for the tests of the page, as users record them, and runs whose every text tries to take over the page."""

from __future__ import annotations

import json
import math
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from notata import Experiment, Logbook
from tests.test_hostile_text import HOSTILE, plant

__all__ = ["ATTACKS", "ATTACK_KEYS", "QUIET", "attack", "png", "record", "sweep"]

QUIET: Final[dict[str, Any]] = {"environment": False, "heartbeat": None, "monitor": None}


def png(width: int = 8, height: int = 6) -> bytes:
    """Return a picture in one colour (PNG specification, third edition)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x20\x80\xc0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sweep(base: str, *, options: dict[str, Any] | None = None) -> None:
    """Record six runs with series, of which one fails, with files of several kinds."""
    experiment = Experiment("sweep", base, storage_options=options, **QUIET)
    for lr in (0.01, 0.1, 1.0):
        for seed in (0, 1):
            with suppress(FloatingPointError), experiment.add(lr=lr, seed=seed) as log:
                record(log, lr, seed)


def record(log: Logbook, lr: float, seed: int, steps: int = 40) -> None:
    """Write what one run of the sweep writes."""
    log.params(optimizer={"name": "adam"}, model="conv4")
    log.info("begun with the rate %g", lr)
    for step in range(steps):
        log.scalars(step=step, loss=math.exp(-step * lr) + lr / 10 + seed / 100, accuracy=step / steps - lr / 10)
    log.text("notes", "first line\nsecond line")
    log.array("field", np.outer(np.arange(8.0), np.arange(6.0)))
    log.save("table.csv", [{"x": 1, "y": 0.5}, {"x": 2, "y": 0.25}])
    log.bytes("dot.png", png())
    if lr == 1.0 and seed == 1:
        log.error("the loss is not a number")
        raise FloatingPointError(f"loss is NaN: the rate {lr:g} is too large")
    log.json("metrics", {"error": lr + seed / 10})


ATTACKS: Final = (
    "<script>window.owned = 1</script>",
    "</script><script>window.owned = 1</script>",
    "</title></style></textarea><img src=http://127.0.0.1:9/x onerror='window.owned = 1'>",
    "\"><svg onload='window.owned = 1'><a href='javascript:window.owned = 1'>x</a>",
    "<iframe srcdoc='<script>parent.owned = 1</script>'></iframe><base href=http://127.0.0.1:9/>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "{{constructor.constructor('window.owned = 1')()}}<!--",
    "javascript:window.owned=1",
    "url(http://127.0.0.1:9/x.png)",
    "__proto__",
    HOSTILE,
)
"""Texts that a page would run, fetch or show wrongly if it took them for markup."""

ATTACK_KEYS: Final = ("page.html", "picture.svg", "data.json", "notes.txt", "table.csv", "fake.png", "style.css")

_SVG: Final = (
    "<svg xmlns='http://www.w3.org/2000/svg' onload='top.owned = 1' width='9' height='9'>"
    "<script>top.owned = 1; fetch('http://127.0.0.1:9/x')</script><image href='http://127.0.0.1:9/x.png'/>"
    "<style>@import 'http://127.0.0.1:9/x.css';</style><foreignObject><iframe src='http://127.0.0.1:9/'/></foreignObject>"
    "</svg>"
)


def attack(base: Path) -> list[Path]:
    """Create runs on a disk of which every text is one of `ATTACKS`, and one whose files are pages and pictures."""
    folders = [plant(base, f"attack_{number}", text=text, status="failed") for number, text in enumerate(ATTACKS)]
    for folder, text in zip(folders, ATTACKS, strict=True):
        (folder / "params.json").write_text(json.dumps({text: text, "lr": [text, {text: text}], "safe": text}))
        (folder / "metrics.json").write_text(json.dumps({text: 0.5, "loss": 1.0}))
        (folder / "log.txt").write_text(f"[2026-01-01T00:00:00] INFO {text}\n")
        (folder / "output.txt").write_text(f"{text}\n\x1b]8;;javascript:window.owned=1\x07{text}\x1b]8;;\x07\r{text}")
        (folder / "series").mkdir()
        row = {"step": 0, "time": 1.0, "loss": 0.5, text: 0.25}
        (folder / "series/scalars.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"step": 1}) + "\n")
        names = {key: "\n".join(ATTACKS) for key in ATTACK_KEYS} | {"picture.svg": _SVG}
        names["data.json"] = json.dumps({text: ATTACKS})
        for key, content in names.items():
            (folder / key).write_text(content)
        with suppress(OSError, ValueError):  # a name that a disk does not have
            (folder / f"{text.replace('/', '_')[:100]}.html").write_text(text)
    return folders
