"""Take pictures of the page of `notata report` for the docs: real runs, a real report, a real browser.

    python -m tests.tools.page_screenshots

writes ``docs/pictures/page-<name>.png``, one for each of `SCENES`. It needs the dependency group ``browser`` and the
system's Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import io
import math
import platform
import random
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from notata import Experiment, Logbook, search
from tests.browser.visits import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["SCENES", "Scene", "fill"]

PICTURES = Path(__file__).parents[2] / "docs/pictures"

_STEPS = 400
_SAME: Final[dict[str, Any]] = {"model": "conv4", "epochs": _STEPS, "optimizer": {"name": "sgd", "momentum": 0.9}}


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture.

    Attributes:
        address: The part of the address after ``#``.
        width: The width of the window, in pixels.
        height: Its height.
        scheme: Light or dark colours.
        scroll: The text of a heading to scroll to; empty for none.
    """

    address: str = "/runs"
    width: int = 1400
    height: int = 860
    scheme: Literal["light", "dark"] = "light"
    scroll: str = ""


_BEST = "log_training_batch_64_rate_0.3_seed_1"
_FAILED = "log_training_batch_16_rate_1_seed_2"

SCENES: Final = {
    "table": Scene("/runs?where=rate%20%3E%200.01&sort=loss"),
    "dark": Scene("/runs?sort=loss&group=seed&log=y", scheme="dark"),
    "curve": Scene("/curve/scalars/loss?group=seed&log=y&sel=*", height=900),
    "plots": Scene("/plots", height=900),
    "run": Scene(f"/run/{_BEST}", height=1000),
    "failed": Scene(f"/run/{_FAILED}", height=900),
    "compare": Scene(f"/compare/{_BEST}/{_FAILED}", height=900),
    "phone": Scene("/runs?sort=loss", width=390, height=844),
}


def fill(base: str) -> Logbook:
    """Record a sweep of trainings, of which some fail, and return one that is still being written."""
    experiment = Experiment("training", base)
    for rate in (0.01, 0.1, 0.3, 1.0):
        for batch in (16, 64):
            for seed in (1, 2, 3):
                with suppress(FloatingPointError), experiment.add(rate=rate, batch=batch, seed=seed) as log:
                    _train(log, rate, batch, seed)
    running = experiment.add(rate=0.2, batch=64, seed=1)
    running.params(**_SAME)
    for step in range(120):
        running.scalars(step=step, **_row(step, 0.2, 64, random.Random(9)))
    running.flush()
    return running


def _row(step: int, rate: float, batch: int, noise: random.Random) -> dict[str, float]:
    fall = math.exp(-step * rate / 25)
    shake = 1 + noise.gauss(0, 0.6 * rate / math.sqrt(batch))
    loss = (2.3 * fall + 0.03 + 0.2 * rate**2 / math.sqrt(batch)) * abs(shake)
    return {
        "loss": loss,
        "val/loss": 1.2 * loss + 0.05 + 0.0002 * step * rate,
        "val/accuracy": min(0.99, 1 - 0.9 * fall - 0.05 * rate) + noise.gauss(0, 0.004),
        "grad_norm": 4 * loss * abs(1 + noise.gauss(0, 0.2)),
    }


def _train(log: Logbook, rate: float, batch: int, seed: int) -> None:
    """Follow a loss that falls; with a large rate and a small batch it diverges."""
    log.params(**_SAME)
    noise = random.Random(seed * 1000 + batch)
    log.info("%d steps, rate %g, batches of %d", _STEPS, rate, batch)
    for step in range(_STEPS):
        row = _row(step, rate, batch, noise)
        if rate == 1.0 and batch == 16 and step > 150 + 40 * seed:
            log.scalars(step=step, loss=float("nan"))
            log.error("the loss is not a number at step %d", step)
            raise FloatingPointError(f"loss is NaN at step {step}: the rate {rate:g} is too large")
        log.scalars(step=step, **row)
        if step % 100 == 0:
            log.info("step %d: loss %.4f", step, row["loss"])
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    log.array("filters/first", np.exp(-4 * (x**2 + y**2)) * np.cos(9 * x + seed) * (1 + 0.1 * noise.random()))
    predictions = [{"sample": i, "class": i % 10, "probability": round(noise.random(), 4)} for i in range(200)]
    log.save("predictions.csv", predictions)
    _plot(log, noise)
    log.json("metrics", {"test_accuracy": round(row["val/accuracy"] - 0.01, 4)})


def _plot(log: Logbook, noise: random.Random) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    matrix = np.array(
        [[90 + 8 * noise.random() if i == j else 6 * noise.random() for j in range(10)] for i in range(10)]
    )
    axes.imshow(matrix, cmap="viridis")
    axes.set(xlabel="predicted", ylabel="true", title="Confusion (%)")
    log.plot("confusion", figure, formats="png")


def rename(base: Path) -> None:
    """Replace the names of the machine, its user and this folder in the files of runs that have ended."""
    names = {str(PICTURES.parents[1]): "/home/ada/project", platform.node(): "node17", getpass.getuser(): "ada"}
    for path in base.rglob("*.json"):
        text = path.read_text()
        for name, other in names.items():
            text = text.replace(f'"{name}', f'"{other}').replace(f"{name}/", f"{other}/")
        path.write_text(text)


def take(browser: Browser, report: Path, scene: Scene) -> bytes:
    """Return a picture as PNG."""
    context = browser.new_context(
        viewport={"width": scene.width, "height": scene.height}, color_scheme=scene.scheme, timezone_id="UTC"
    )
    page = context.new_page()
    page.goto(f"{report.as_uri()}#{scene.address}")
    page.wait_for_function("document.querySelector('main').children.length > 0")
    page.wait_for_timeout(1500)  # until the charts are drawn
    if scene.scroll:
        page.get_by_role("heading", name=scene.scroll).first.scroll_into_view_if_needed()
    data = page.screenshot()
    context.close()
    return small(data)


def small(png: bytes) -> bytes:
    """Return a picture with 128 colours, in a third of the bytes."""
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="Names of pictures, separated by commas.")
    parser.add_argument("--into", type=Path, default=PICTURES, help="Folder of the pictures.")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or [*SCENES]
    into = options.into.resolve()
    sys.argv = ["train.py"]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), sync_playwright() as playwright:
        running = fill("outputs")
        rename(Path("outputs"))
        search.report("outputs/training", "report.html", title="training", group="seed")
        browser = chromium(playwright)
        for name in names:
            data = take(browser, Path(folder, "report.html"), SCENES[name])
            into.joinpath(f"page-{name}.png").write_bytes(data)
            print(f"{name}: {len(data):,} bytes")
        browser.close()
        running.mark_complete()


if __name__ == "__main__":
    main()
