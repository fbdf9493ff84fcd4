"""Redirect a run of a script that ``notata rerun`` has started: it gets a new id and base folder.

The variable `RERUN` names the old run. The first `Logbook` of the process that would have recorded it takes the new id
and the new base folder, and records where it comes from. All other runs of the process are as without the variable.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notata._base.secrets import shown_url
from notata.store import Location, Storage, default_base, open_base

__all__ = ["GENERATED", "ORIGIN", "RERUN", "Redirection", "origin_of", "redirected"]

RERUN: Final = "NOTATA_RERUN"
"""Environment variable: a `Redirection` as JSON."""

ORIGIN: Final = "origin"
"""Field of metadata.json: the run that this one repeats."""

GENERATED: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z-[0-9a-f]{6}")
"""Pattern of the ids that notata makes for runs without one."""

_LONGEST: Final = 2**20  # characters of the variable


@dataclass(frozen=True, slots=True)
class Redirection:
    """Where a run goes instead.

    Attributes:
        old: The id of the run that is repeated.
        new: The id of the new run.
        base: The base folder of the new run: a URL or path without credentials.
        origin: The field `origin` of the new run.
        options: Storage options for the base folder, without secrets.
        task: The task of a sweep, for `notata.rerun.point`.
        params: The parameters of its point.
        worktree: The top of the worktree in which the script runs.
        checkout: The top of the checkout that the worktree stands for; empty if that is unknown.
    """

    old: str
    new: str
    base: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    worktree: str = ""
    checkout: str = ""

    def encode(self) -> str:
        """Return the value of the variable."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def parse(cls, text: str) -> Redirection | None:
        """Parse the value of the variable; None if it is none.

        >>> Redirection.parse(Redirection("a", "b", "outputs").encode()) == Redirection("a", "b", "outputs")
        True
        >>> Redirection.parse("{}")
        """
        try:
            found = json.loads(text) if len(text) <= _LONGEST else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        texts = [found.get(name, "") for name in ("old", "new", "base", "task", "worktree", "checkout")]
        maps = [found.get(name, {}) for name in ("origin", "options", "params")]
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(one, dict) for one in maps):
            return None
        old, new, base, task, *tops = texts
        return cls(old, new, base, maps[0], maps[1], task, maps[2], *tops) if old and new and base else None

    def matches(self, run_id: str | int | None) -> bool:
        """Check whether a run with this id, None for a generated one, is the run that is repeated."""
        return GENERATED.fullmatch(self.old) is not None if run_id is None else str(run_id) == self.old

    def find(self, path: Any) -> Any:
        """Return where a file is: in the checkout if the worktree does not have it, as git ignores data and outputs."""
        if not self.worktree or not self.checkout or not isinstance(path, str | os.PathLike) or "://" in str(path):
            return path
        full = os.path.abspath(path)
        if not full.startswith(f"{self.worktree}{os.sep}") or os.path.lexists(full):
            return path
        beside = os.path.join(self.checkout, os.path.relpath(full, self.worktree))
        return beside if os.path.exists(beside) else path

    def place(
        self, base: Location | None, options: Mapping[str, Any] | None
    ) -> tuple[Location, Mapping[str, Any] | None]:
        """Return base folder and storage options of the new run.

        If the script itself stores its runs there, its arguments are kept, as they have the credentials. Its options
        are also kept if its base folder is on the same kind of storage.
        """
        if open_base(base, options).url == self.base:
            return (default_base() if base is None else base), options
        own = options if _scheme(base) == _scheme(self.base) else None
        merged = {**(own or {}), **self.options} or None
        if isinstance(base, Storage) and (base.url is None or isinstance(base.url, str)):
            kept = base.options if _scheme(base) == _scheme(self.base) else None
            return replace(base, url=self.base, options={**(kept or {}), **(merged or {})} or None), None
        return self.base, merged


def _scheme(place: Location | None) -> str:
    """Return the protocol of a place; empty for a path, and for a place that is no URL."""
    url = place.url if isinstance(place, Storage) else place
    return url.partition("://")[0] if isinstance(url, str) and "://" in url else ""


def redirected(run_id: str | int | None) -> Redirection | None:
    """Return the redirection of a run that begins, once: the variable is removed then.

    Args:
        run_id: The id that the script gave; None if it gave none.
    """
    text = os.environ.get(RERUN)
    if not text:
        return None
    found = Redirection.parse(text)
    if found is None or found.task or not found.matches(run_id):
        return None
    del os.environ[RERUN]
    return found


def origin_of(run_id: str, url: str, commit: str, script_run_id: str = "") -> dict[str, Any]:
    """Return the field `origin` of a run that repeats another one.

    Args:
        run_id: The id of that run.
        url: Its location.
        commit: The commit of its code.
        script_run_id: The id that the script gives to its run, if that run was itself a repetition.
    """
    try:
        shown = shown_url(url) if "://" in url else url
    except ValueError:
        shown = ""
    fields = {"run_id": run_id, "url": shown, "commit": commit, "how": "rerun", "script_run_id": script_run_id}
    return {name: value for name, value in fields.items() if value}
