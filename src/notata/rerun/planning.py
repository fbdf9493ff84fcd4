"""Plan how a run is repeated, from what it recorded. Nothing that the run names is run or looked up here."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted, listed, size
from notata._base.terminal import one_line, safe
from notata.errors import ConfigurationError, KeyNameError, RunExistsError, RunMissingError
from notata.rerun.arguments import interpreter, shown_command, texts_of, with_values
from notata.rerun.checkout import Repository, find_repository
from notata.rerun.inputs import inputs_of, scheme_of
from notata.rerun.packages import differing, editable_folders
from notata.rerun.places import places_of
from notata.rerun.recorded import Recorded, recorded
from notata.run.inputs import Input
from notata.search.target import URL, Target
from notata.store import Store, open_base

__all__ = ["POINT", "Plan", "plan", "program_texts", "refuse_existing"]

POINT: Final = "notata.rerun.point"
"""The module that runs a point of a sweep."""

_PACKAGES: Final = 10  # shown
_INPUTS: Final = 20  # shown
_KEPT: Final = 20  # shown
_RANDOM: Final = 3  # bytes of a new id
_INDEX: Final = "index"


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan to repeat a run. Making it runs nothing that the run names, and writes nothing.

    Attributes:
        run: What the run recorded.
        run_id: The id of the new run.
        base: The store of the folder that contains the new run.
        repository: The local repository with the commit.
        top: The top of the checkout in which the run was made; empty if unknown.
        folder: The working folder, relative to the top; an absolute path if it was outside of the checkout.
        argv: The command as it is shown, with the paths of the old checkout.
        values: The new values of parameters, as given.
        inputs: The recorded inputs.
        python: The interpreter of a script.
        notes: Sentences about what is not as it was.
        editable: Folders of the checkout from which packages are imported that were installed from there.
        options: Storage options for the old run.
        base_options: Storage options for the new run.
    """

    run: Recorded
    run_id: str
    base: Store
    repository: Repository
    top: str
    folder: str
    argv: tuple[str, ...]
    values: Mapping[str, str]
    inputs: tuple[Input, ...] = ()
    python: str = ""
    notes: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    base_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what will be done, as names and texts without control characters."""
        run = self.run
        yield "run", f"{one_line(run.run_id)} at {one_line(run.url, 1000)}"
        yield "new run", f"{one_line(self.run_id)} in {one_line(self.base.url, 1000)}"
        yield "command", shown_command(self.argv)
        yield "folder", f"{one_line(self.folder or '.', 1000)}, in a worktree of {one_line(self.repository.top, 1000)}"
        yield "commit", f"{run.commit} {self.repository.subject(run.commit)}".rstrip()
        if run.patch:
            files = run.patch.count(b"\ndiff --git ") + run.patch.startswith(b"diff --git ")
            yield (
                "patch",
                f"{counted(files, 'file')}, {size(len(run.patch))}: see {one_line(run.url, 1000)}/{keys.PATCH}",
            )
        for pattern in run.keep[:_KEPT]:
            yield "keep", one_line(pattern, 1000)
        if len(run.keep) > _KEPT:
            yield "keep", f"and {len(run.keep) - _KEPT} more"
        for one in self.inputs[:_INPUTS]:
            yield "input", one_line(one.url, 1000)
        if len(self.inputs) > _INPUTS:
            yield "input", f"and {len(self.inputs) - _INPUTS} more"
        for note in self.notes:
            yield "note", safe(note)


def plan(
    url: URL,
    *,
    params: Mapping[str, str] | None = None,
    run_id: str | None = None,
    base_dir: URL | None = None,
    repository: str | os.PathLike[str] | None = None,
    force: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Plan:
    """Return how a run is repeated. Nothing that the run names is run, and no address that it names is looked up.

    Args:
        url: The run.
        params: New values of parameters, as texts.
        run_id: The id of the new run; by default that of the old one and a random part.
        base_dir: The folder for the new run; by default that of the old one.
        repository: A folder of a local repository that has the commit; by default that of the current folder, or that
            of the working folder that the run recorded.
        force: Accept runs of experiments whose script makes other runs, too.
        storage_options: Options for fsspec, for the old run, and for the new one on the same kind of storage.

    Cost: up to ten reads, a look-up of the new run, and a listing if the run has workers; some calls of git.

    Raises:
        ConfigurationError: The run cannot be repeated; the message says why.
        RunExistsError: A run with the new id exists.
        RunMissingError: There is no run.
        StorageError: The run cannot be read.
    """
    target, run = _recorded(url if isinstance(url, Target) else Target(url, storage_options))
    store = target.folder
    new_id = _new_id(run.run_id) if run_id is None else run_id
    keys.run_folder(new_id)
    base, base_options = _base_of(target, store, base_dir)
    refuse_existing(base, new_id)
    _check(run, target, store, base, force=force)
    found = find_repository(repository, run.folder, run.commit)
    places = places_of(run, found)
    run = replace(run, argv=places.argv)
    argv, python, note = _command(run, dict(params or {}))
    editable = editable_folders(python or sys.executable, places.top) if places.top else ()
    return Plan(
        run=run,
        run_id=new_id,
        base=base,
        repository=found,
        top=places.top,
        folder=places.folder,
        argv=tuple(argv),
        values=dict(params or {}),
        inputs=tuple(inputs_of(store)),
        python=python,
        notes=tuple(filter(None, (*places.notes, note, *_notes(run, python or sys.executable, places.top, editable)))),
        editable=editable,
        options=target.storage_options,
        base_options=base_options,
    )


def refuse_existing(base: Store, run_id: str) -> None:
    """Refuse an id that is in use: the script fails or replaces that run, which is then taken for the new one.

    Raises:
        RunExistsError: A run with this id exists.
    """
    new = base.below(keys.run_folder(run_id))
    if new.exists(keys.METADATA):
        raise RunExistsError(
            f"cannot create run {run_id!r}: it already exists at {new.url}. Choose another id with run_id= (--id), or "
            "omit it to generate one",
            url=new.url,
            key=keys.METADATA,
        )


def _check(run: Recorded, target: Target, store: Store, base: Store, *, force: bool) -> None:
    """Refuse runs whose command would do other things, too, or could not store the new run.

    Raises:
        ConfigurationError: The run is one of these.
    """
    if run.kind == "script" and not force and _is_of_experiment(target, store):
        raise ConfigurationError(
            f"cannot rerun run {run.run_id!r} at {run.url}: it belongs to an experiment, and its script may make "
            "all runs of the experiment again. Start the script yourself, or pass force=True (--force) if it makes "
            "this run only. A point of notata sweep run can be rerun alone"
        )
    if run.kind != "program" and not base.shared:
        raise ConfigurationError(
            f"cannot store the new run in {base.url}: the script runs in another process, which cannot see it. Pass a "
            "disk or a bucket as base_dir= (--base-dir)"
        )


def _notes(run: Recorded, python: str, top: str, editable: tuple[str, ...]) -> Iterator[str]:
    """Yield what is not as it was."""
    yield from _packages_note(run, python)
    if editable:
        names = listed((one_line(os.path.relpath(path, top)) for path in editable), _PACKAGES)
        yield f"packages that are installed from the checkout are imported from the worktree: {names}"
    if run.is_other_patch:
        yield f"{keys.PATCH} has changed since the run: its digest is not the one in {keys.METADATA}"
    if run.left_out:
        yield f"changed files that the patch does not have: {listed(run.left_out, _PACKAGES)}"


def _recorded(target: Target) -> tuple[Target, Recorded]:
    """Return the target and the record of its run; the URL can end with the id of the run instead of its folder."""
    try:
        return target, recorded(target.folder)
    except RunMissingError:
        other = target.of_id()
        if other is None or not other.folder.exists(keys.METADATA):
            raise
        return other, recorded(other.folder)


def _new_id(old: str) -> str:
    """Return an id for the new run."""
    new = f"{old}-rerun-{secrets.token_hex(_RANDOM)}"
    try:
        keys.run_folder(new)
    except KeyNameError:  # too long
        return f"rerun-{secrets.token_hex(2 * _RANDOM)}"
    return new


def _is_of_experiment(target: Target, store: Store) -> bool:
    """Check whether a run is one of those of an experiment, which has an index. At most two look-ups."""
    above = target.above(2) if store.url.rstrip("/").rpartition("/")[0].endswith(f"/{keys.RUNS}") else None
    return above is not None and (above.exists(keys.INDEX) or above.has_folder(_INDEX))


def _base_of(target: Target, store: Store, base_dir: URL | None) -> tuple[Store, Mapping[str, Any] | None]:
    """Return the store of the folder for the new run, and its storage options.

    By default, it is the folder that contains the old run. The options of the old run also hold for another folder on
    the same kind of storage.

    Raises:
        ConfigurationError: The folder that contains the old run has no address.
    """
    options = target.storage_options
    if isinstance(base_dir, Target):
        return base_dir.folder, base_dir.storage_options
    if base_dir is not None:
        own = options if scheme_of(str(getattr(base_dir, "url", base_dir))) == scheme_of(store.url) else None
        return open_base(base_dir, own), own
    above = target.above(1) if not target.pattern else None
    if above is None or store.url.rpartition("/")[0] != above.url.rstrip("/"):
        raise ConfigurationError(
            f"cannot find the folder that contains {store.url}: pass a folder for the new run as base_dir= (--base-dir)"
        )
    return above, options


def _command(run: Recorded, values: dict[str, str]) -> tuple[list[str], str, str]:
    """Return the command to show, the interpreter of a script, and a note if that is another one.

    Raises:
        ConfigurationError: A parameter cannot be replaced.
    """
    if run.kind == "program":
        from notata.program.arguments import check_placeholders, fill

        names = {**run.params, **values}
        check_placeholders(run.argv, names)
        if unknown := [name for name in values if not any(f"{{{name}}}" in argument for argument in run.argv)]:
            raise ConfigurationError(
                f"cannot set {one_line(unknown[0], 100)}: the recorded command has no {{{one_line(unknown[0], 100)}}}: "
                f"{shown_command(run.argv)[:500]}"
            )
        texts = program_texts(run, values)
        return fill(run.argv, {**texts, "run_id": "{run_id}"}), "", ""
    python, note = interpreter(run.python, run.argv[0])
    if run.kind == "point":
        if values and (unknown := [name for name in values if name not in run.params]):
            raise ConfigurationError(f"cannot set {one_line(unknown[0], 100)}: the point has no such parameter")
        return [python, "-m", POINT, run.task, *_shown_values(run, values)], python, note
    return with_values([python, *run.argv[1:]], values), python, note


def program_texts(run: Recorded, values: Mapping[str, str]) -> dict[str, str]:
    """Return the texts for placeholders: new values, those of the old command line, or the parameters."""
    from notata.program.arguments import text_of

    stored = {str(name): text_of(value) for name, value in run.params.items()}
    return {**stored, **texts_of(run.argv, run.filled), **values}


def _shown_values(run: Recorded, values: Mapping[str, str]) -> list[str]:
    return [
        f"{name}={value}"
        for name, value in {**{str(one): str(found) for one, found in run.params.items()}, **values}.items()
    ]


def _packages_note(run: Recorded, python: str) -> list[str]:
    found = differing(run.packages, python, complete=run.has_packages)
    if not found:
        return []
    named = [f"{one_line(name, 60)} {one_line(was, 40)} → {one_line(now, 40) or 'missing'}" for name, was, now in found]
    more = f" and {len(named) - _PACKAGES} more" if len(named) > _PACKAGES else ""
    return [f"other versions of packages, which are not installed by notata: {', '.join(named[:_PACKAGES])}{more}"]
