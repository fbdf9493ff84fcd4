"""Runs of Sacred: one that ends, one that fails, one of another experiment."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from sacred import Experiment
from sacred.observers import FileStorageObserver


def body(_run: Any, rate: float, steps: int) -> dict[str, float]:
    print("half-lives of", rate)
    for step in range(steps):
        _run.log_scalar("loss", rate**step, step)
        _run.log_scalar("accuracy", np.float64(step))
    _run.info["grid"] = np.arange(3)
    Path("notes.txt").write_text("kept")
    _run.add_artifact("notes.txt", "sub.txt")
    if steps > 3:
        raise ValueError("too many steps")
    return {"final": rate}


for name, count in (("decay", 3), ("decay", 4), ("other", 1)):
    experiment = Experiment(name, save_git_info=False)
    experiment.observers.append(FileStorageObserver("sacred"))
    experiment.add_config({"rate": 0.5, "seed": 1, "nested": {"a": [1, 2], "b": None}, "steps": count})
    experiment.main(body)
    with suppress(ValueError):
        experiment.run()
