"""Names of runs in the legend of curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notata.formats import flattened

__all__ = ["Named", "labels"]

_PARAMS: Final = 3  # parameters in a label


@dataclass(frozen=True, slots=True)
class Named:
    """The names of a run.

    Attributes:
        run_id: Its id.
        name: Its name for users, which is unique.
        params: Its parameters.
    """

    run_id: str
    name: str
    params: Mapping[str, Any]


def labels(runs: Sequence[Named]) -> list[str]:
    """Return a label for each run: the parameters that differ if there are few, else its id or whole name.

    >>> labels([Named("a", "x/a", {"dt": 0.1, "n": 2}), Named("b", "x/b", {"dt": 0.2, "n": 2})])
    ['dt=0.1', 'dt=0.2']
    >>> labels([Named("a", "x/a", {}), Named("a", "y/a", {})])
    ['x/a', 'y/a']
    """
    params = [flattened(run.params) for run in runs]
    names = [*dict.fromkeys(name for one in params for name in one)]
    texts = [{name: _value(one[name]) for name in one} for one in params]
    differing = [name for name in names if len({one.get(name) for one in texts}) > 1]
    if len(runs) > 1 and 0 < len(differing) <= _PARAMS:
        found = [" ".join(f"{name}={one[name]}" for name in differing if name in one) for one in texts]
        if all(found) and len({*found}) == len(found):
            return found
    has_ids = len({run.run_id for run in runs}) == len(runs)
    return [run.run_id if has_ids else run.name for run in runs]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
