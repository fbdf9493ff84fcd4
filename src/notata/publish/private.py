"""Remove the names of machines and users from the metadata of a run, before it is published."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from notata._base.secrets import Values
from notata.run.state import lease_of
from notata.search.places import Run

__all__ = ["hidden_names", "without_names"]

_OF_LEASE: Final = frozenset({"host", "pid", "process"})
_OF_ENVIRONMENT: Final = frozenset({"host", "pid", "user"})
_OF_SCHEDULER: Final = re.compile(r"node|host|user|account|uid|group", re.IGNORECASE)
_OF_USER: Final = frozenset({"metrics", "params", "row", "run_id", "series_summary", "status"})
"""Fields in which such a word is another value."""

_COMMON: Final = frozenset({"localhost", "localhost.localdomain"})


def without_names(run: Run) -> Run:
    """Return a run without the names of its machine and its user in metadata, status and reason.

    The fields that hold only such names are removed. In other fields the names become ``***``, as in a path. The owner
    of the run (``lease.owner``), a random token, is kept: it tells whether the manifest is that of the run.
    """
    hide = hidden_names(run.metadata)
    return replace(
        run,
        metadata=dict(_without(run.metadata, hide)),
        why=hide(run.why),
        failure_reason=hide(run.failure_reason),
    )


def hidden_names(metadata: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function that replaces the names of the machine and the user of a run in a text.

    >>> hide = hidden_names({"environment": {"host": "node17.cluster", "user": "ada"}})
    >>> hide("/home/ada/runs on node17, canada")
    '/home/***/runs on ***, canada'
    """
    return Values(_names(metadata)).hide


def _names(metadata: Mapping[str, Any]) -> Iterator[str]:
    environment = metadata.get("environment")
    found = environment if isinstance(environment, dict) else {}
    for name in (found.get("host"), lease_of(metadata).get("host"), found.get("user")):
        if isinstance(name, str) and name not in _COMMON:
            yield name
            yield name.partition(".")[0]


def _without(fields: Mapping[str, Any], hide: Callable[[str], str]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name in _OF_USER:
            yield name, value
            continue
        if isinstance(value, dict):
            removed = {"lease": _OF_LEASE, "environment": _OF_ENVIRONMENT}.get(name, frozenset())
            kept = {key: part for key, part in value.items() if key not in removed}
            scheduler = kept.get("scheduler")
            if name == "environment" and isinstance(scheduler, dict):
                kept["scheduler"] = {key: one for key, one in scheduler.items() if not _OF_SCHEDULER.search(key)}
            yield name, _hidden(kept, hide)
        else:
            yield name, _hidden(value, hide)


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """Return a value of metadata.json with the names replaced in all its texts."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        return {name: _hidden(part, hide) for name, part in value.items()}
    return [_hidden(part, hide) for part in value] if isinstance(value, list) else value
