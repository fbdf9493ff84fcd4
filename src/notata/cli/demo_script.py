"""An example computation that stores every kind of file: it integrates the Lorenz system and shows its run.

It is an ordinary script: it uses `Logbook` and numpy, and the same lines run on every storage. To show the run with one
listing it uses the store of the logbook.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from notata.logbook import Logbook

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

__all__ = ["PARAMS", "record", "show"]

PARAMS: Final[dict[str, float | int]] = {"beta": 8 / 3, "dt": 0.005, "rho": 28.0, "sigma": 10.0, "steps": 8000}
"""E. N. Lorenz, Deterministic Nonperiodic Flow, J. Atmos. Sci. 20 (1963) 130: his parameters, dimensionless."""

_SPAN: Final = 100  # steps between two rescalings of the neighbour's distance
_LINES: Final = 4
_WIDTH: Final = 100


def record(
    base_dir: str | os.PathLike[str] | None = None,
    run_id: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] = PARAMS,
) -> Logbook:
    """Integrate the system and record the run.

    Args:
        base_dir: As for `Logbook`.
        run_id: As for `Logbook`.
        storage_options: As for `Logbook`.
        params: Parameters of the system, and `dt` and `steps` of the integration.

    Returns:
        The logbook, complete.
    """
    import numpy as np

    with Logbook(run_id, base_dir, params=dict(params), storage_options=storage_options) as log:
        states = _integrate(params)
        log.info("Integrated %d steps of %g", params["steps"], params["dt"])
        exponent = _lyapunov(params, states)
        if exponent > 0:
            log.warning("Chaotic: a neighbour parts by e in %.2f units of time", 1 / exponent)
        log.text("notes", "Lorenz system, classical Runge-Kutta, started at (1, 1, 1).\nChaotic where λ > 0.\n")
        log.json(
            "metrics",
            {
                "final_state": states[-1],
                "lobe_changes": np.count_nonzero(np.diff(np.sign(states[:, 0]))),
                "lyapunov_exponent": round(exponent, 6),
                "z_max": states[:, 2].max(),
            },
        )
        log.pickle("checkpoint", {"params": dict(params), "state": states[-1]})
        log.bytes("trajectory.f64", states)
        log["artifacts/settings/solver.ini"].write_text("[solver]\nmethod = rk4\nadaptive = no\n")
        with log.open("artifacts/debug/extremes.csv", "w") as table:
            table.write("axis,min,max\n")
            table.writelines(
                f"{axis},{low:.6f},{high:.6f}\n"
                for axis, low, high in zip("xyz", states.min(axis=0), states.max(axis=0), strict=True)
            )
        log.array("crossings", np.array(list(_crossings(states))))
        log.arrays("trajectory", t=np.arange(len(states)) * params["dt"], xyz=states)
        log.params(lyapunov_span=_SPAN)
        _draw(log, states)
        with log.local("artifacts/crossings.sqlite") as path, closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE crossings (step INTEGER, y REAL, z REAL)")
            database.executemany("INSERT INTO crossings VALUES (?, ?, ?)", _crossings(states))
    return log


def _draw(log: Logbook, states: npt.NDArray[np.float64]) -> None:
    """Plot the attractor from the side, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("No plot, as matplotlib is not installed")
        return
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.plot(states[:, 0], states[:, 2], linewidth=0.3)
    axes.set_axis_off()
    log.plot("attractor", figure, dpi=100)


def _flow(params: Mapping[str, Any]) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    import numpy as np

    sigma, rho, beta = params["sigma"], params["rho"], params["beta"]

    def flow(state: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y, z = state.tolist()
        return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])

    return flow


def _integrate(params: Mapping[str, Any], start: npt.ArrayLike = (1.0, 1.0, 1.0)) -> npt.NDArray[np.float64]:
    """Return the states at each step, shape (steps + 1, 3), by the classical fourth-order Runge-Kutta method."""
    import numpy as np

    flow, dt = _flow(params), params["dt"]
    states = np.empty((params["steps"] + 1, 3))
    states[0] = start
    for step in range(params["steps"]):
        state = states[step]
        k1 = flow(state)
        k2 = flow(state + dt / 2 * k1)
        k3 = flow(state + dt / 2 * k2)
        k4 = flow(state + dt * k3)
        states[step + 1] = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return states


def _lyapunov(params: Mapping[str, Any], states: npt.NDArray[np.float64], distance: float = 1e-8) -> float:
    """Return the rate at which close trajectories diverge, per unit of time: the largest Lyapunov exponent.

    G. Benettin, L. Galgani, J.-M. Strelcyn, Kolmogorov entropy and numerical experiments, Phys. Rev. A 14 (1976) 2338:
    follow a neighbour, rescale its distance repeatedly, and average its growth.
    """
    import numpy as np

    steps = min(_SPAN, params["steps"])
    neighbour, growth = states[0] + [distance, 0.0, 0.0], []
    for step in range(steps, len(states), steps):
        arrived = _integrate({**params, "steps": steps}, neighbour)[-1]
        apart = np.linalg.norm(arrived - states[step])
        growth.append(np.log(apart / distance))
        neighbour = states[step] + (arrived - states[step]) * distance / apart
    settled = growth[len(growth) // 4 :]
    return float(np.mean(settled) / (steps * params["dt"]))


def _crossings(states: npt.NDArray[np.float64]) -> Iterator[tuple[int, float, float]]:
    """Yield the steps at which x changes its sign, with y and z at these steps."""
    import numpy as np

    for step in np.flatnonzero(np.diff(np.sign(states[:, 0]))).tolist():
        yield step, float(states[step, 1]), float(states[step, 2])


def show(log: Logbook) -> str:
    """Return the run as a tree with sizes, and the first lines of each file. Cost: one listing, and one read a file."""
    out = io.StringIO()
    entries = log._store.list()
    print(f"{log.url}  ({log.status})", file=out)
    for depth, name, size in _tree([(entry.key, entry.size) for entry in entries]):
        print(f"{'  ' * depth}  {name}" + (f"  {size:,} bytes" if size is not None else "/"), file=out)
    heads = log._store.read_many(entry.key for entry in entries)
    for key in sorted(heads):
        print(f"\n── {key}\n{_head(heads[key])}", file=out)
    return out.getvalue()


def _tree(files: list[tuple[str, int]]) -> Iterator[tuple[int, str, int | None]]:
    seen: set[str] = set()
    for key, size in files:
        *folders, name = key.split("/")
        for depth, folder in enumerate(folders):
            path = "/".join(folders[: depth + 1])
            if path not in seen:
                seen.add(path)
                yield depth, folder, None
        yield len(folders), name, size


def _head(data: bytes) -> str:
    """Return the first lines of a text file, or the first bytes of any other file."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "   " + data[:24].hex(" ") + (" …" if len(data) > 24 else "")
    if not text.isprintable() and any(not (c.isprintable() or c in "\n\t") for c in text[:1000]):
        return "   " + data[:24].hex(" ") + (" …" if len(data) > 24 else "")
    lines = text.splitlines()
    shown = [f"   {line[:_WIDTH]}" for line in lines[:_LINES]]
    return "\n".join(shown + (["   …"] if len(lines) > _LINES else []))
