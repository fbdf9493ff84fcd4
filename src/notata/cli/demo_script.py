"""An example computation: one run that stores every kind of file, a small sweep with curves, and a report of both.

It is an ordinary script: it uses `Logbook`, `Experiment`, `search.report` and numpy, and the same lines run on every
storage. To show the run with one listing it uses the store of the logbook.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

from notata.experiment import Experiment
from notata.logbook import Logbook

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

__all__ = ["PARAMS", "record", "report", "show", "show_sweep", "sweep"]

PARAMS: Final[dict[str, float | int]] = {"beta": 8 / 3, "dt": 0.005, "rho": 28.0, "sigma": 10.0, "steps": 8000}
"""E. N. Lorenz, Deterministic Nonperiodic Flow, J. Atmos. Sci. 20 (1963) 130: his parameters, dimensionless."""

_SPAN: Final = 100  # steps between two rescalings of the neighbour's distance
_LINES: Final = 4
_WIDTH: Final = 100
_CLOSE: Final = 1e-8  # distance of two neighbours
_FAR: Final = 1000.0  # no state of the attractor is so far out
_EVERY: Final = 10  # steps between two rows of a series


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
        for step in range(0, len(states), 4 * _EVERY):
            log.scalars(dict(zip("xyz", states[step].tolist(), strict=True)), step=step)
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


def sweep(
    base_dir: str | os.PathLike[str] | None = None, storage_options: Mapping[str, Any] | None = None
) -> Experiment:
    """Record how fast two close states part: for three values of rho, from two random states each; one run fails.

    Runs of an earlier call are skipped. The last run has a time step that is too large for the method.

    Args:
        base_dir: As for `Experiment`.
        storage_options: As for `Experiment`.
    """
    experiment = Experiment("lorenz", base_dir, storage_options=storage_options)
    cases = [{"rho": rho, "seed": seed, "dt": 0.01} for rho in (14.0, 22.0, 28.0) for seed in (1, 2)]
    for case in [*cases, {"rho": 28.0, "seed": 1, "dt": 0.18}]:
        log = experiment.add(skip_existing=True, **case)
        if log is not None:
            with suppress(FloatingPointError), log:
                _follow(log, {**PARAMS, **case, "steps": _EVERY})
    return experiment


def _follow(log: Logbook, params: Mapping[str, Any], rows: int = 250) -> None:
    """Integrate from two close states, and record one of them and the distance of both.

    Raises:
        FloatingPointError: The numbers grow without bound.
    """
    import numpy as np

    state = np.random.default_rng(params["seed"]).normal((0.0, 0.0, 25.0), 5.0)
    neighbour = state + np.array([_CLOSE, 0.0, 0.0])
    highest = 0.0
    for step in range(0, rows * _EVERY, _EVERY):
        highest = max(highest, float(state[2]))
        distance = np.linalg.norm(neighbour - state)
        log.scalars(step=step, log10_distance=np.log10(distance), x=state[0], z=state[2])
        with np.errstate(over="ignore", invalid="ignore"):
            state, neighbour = _integrate(params, state)[-1], _integrate(params, neighbour)[-1]
        if not abs(state).max() < _FAR:
            raise FloatingPointError(
                f"the state grows without bound within {step + _EVERY} steps: dt = {params['dt']} is too large for the "
                "Runge-Kutta method, choose 0.01"
            )
    log.json("metrics", {"z_max": highest, "final_distance": np.linalg.norm(neighbour - state)})


def report(log: Logbook, experiment: Experiment, output: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Write a report of the run and of the sweep, whose curves it averages over the seeds.

    Args:
        log: The run.
        experiment: The sweep.
        output: The file, as any fsspec URL or path.
        storage_options: Options for fsspec.
    """
    from notata import search

    search.report(
        [experiment.url, log.url],
        output,
        title="The Lorenz system",
        group="seed",
        storage_options=storage_options,
        output_options=storage_options,
    )


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


def _lyapunov(params: Mapping[str, Any], states: npt.NDArray[np.float64], distance: float = _CLOSE) -> float:
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


def show_sweep(experiment: Experiment) -> str:
    """Return the number of runs of each status, and the reason of each failure. The cost is that of a table."""
    rows = experiment.reader.table()
    statuses = [row["status"] for row in rows]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    reasons = (f"  {row['run_id']}: {row['failure_reason']}" for row in rows if "failure_reason" in row)
    return "\n".join([f"{experiment.url}  ({counts})", *reasons, ""])


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
