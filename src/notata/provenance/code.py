"""Record the code of a run: its changes against the commit, untracked files, and installed packages.

What git reports is kept with its answer, see `notata.provenance.git`, so that many runs in a row ask once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from notata._base import keys, secrets
from notata.provenance.git import Checkout, hold
from notata.provenance.packages import installed_packages, packages_facts
from notata.provenance.patch import changed_files
from notata.provenance.untracked import Untracked, untracked_files

__all__ = ["Code", "Extent", "code_of"]

Extent: TypeAlias = Literal["all", "checkout", "changes", "none"]
"""The parts that are recorded: all; the patch and untracked files; the same of a checkout with changes only; none."""


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a run.

    Attributes:
        git: What ``environment.git`` says about it.
        installed: What ``environment.installed`` says about it.
        files: The files to store, by key.
    """

    git: Mapping[str, Any] = field(default_factory=dict)
    installed: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


_NOTHING: Final = Code()


def code_of(checkout: Checkout | None, extent: Extent) -> Code:
    """Return the code of a run; later calls return the same, as long as git's answer holds.

    Cost: up to three calls of git, which take at most five seconds together, and the time to hash files, at most two
    seconds.

    Args:
        checkout: The checkout of the script; None if there is none.
        extent: How much to record.
    """
    if extent == "none":
        return _NOTHING
    of_checkout = _NOTHING if checkout is None else _of_checkout(checkout, untracked=extent != "changes")
    if extent != "all":
        return of_checkout
    packages = installed_packages()
    return Code(of_checkout.git, packages_facts(packages), {**of_checkout.files, keys.PACKAGES: packages})


def _of_checkout(checkout: Checkout, *, untracked: bool) -> Code:
    """Return patch and untracked files; without `untracked`, only of a checkout with changes."""
    commit, is_dirty = checkout.state.get("commit"), checkout.state.get("dirty")
    if not commit or is_dirty is None or not checkout.top or not (is_dirty or untracked):
        return _NOTHING
    known = secrets.known_forms()
    found = checkout.found.get(Code)
    if found is None or found[0] is not known:
        began = time.monotonic()
        found = checkout.found[Code] = known, _read(checkout, commit)
        hold(checkout, time.monotonic() - began)
    code: Code = found[1]
    return code


def _read(checkout: Checkout, commit: str) -> Code:
    patch = changed_files(checkout, commit)
    untracked = untracked_files(checkout, patch)
    git: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    if data := patch.encode():
        files[keys.PATCH], git["patch"] = data, patch.facts(data)
    if untracked is None:
        git["untracked"] = {"why": "git did not list them, or took too long"}
    elif untracked.found:
        files[keys.UNTRACKED] = data = _json(untracked)
        git["untracked"] = {"files": untracked.found, "sha256": hashlib.sha256(data).hexdigest()}
    return Code(git, {}, files)


def _json(untracked: Untracked) -> bytes:
    """Return the content of ``code/untracked.json``, with one file a line."""
    document = untracked.document()
    files = ",\n".join(json.dumps(file, ensure_ascii=False, sort_keys=True) for file in document.pop("files"))
    return f'{json.dumps(document)[:-1]}, "files": [\n{files}\n]}}\n'.encode("utf-8", "backslashreplace")
