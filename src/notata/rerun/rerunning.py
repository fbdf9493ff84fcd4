"""Repeat a run as planned: in a worktree, with its command; then compare the results."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted, listed
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, MissingError, RunMissingError
from notata.rerun.arguments import moved
from notata.rerun.checkout import Worktree
from notata.rerun.inputs import ChangedInput, changed_inputs
from notata.rerun.planning import POINT, Plan, program_texts, refuse_existing
from notata.rerun.results import Comparison, compared
from notata.run.inherited import public_options
from notata.run.redirection import RERUN, Redirection, origin_of
from notata.run.state import read_state
from notata.search.target import Target

__all__ = ["Rerun", "rerun"]

_VARIABLE: Final = 100_000  # characters of an environment variable; Linux allows 128 KiB
_NAMED: Final = 3  # changed inputs in an error
_LISTED: Final = 10  # untracked files in a note
_CLOSED: Final = frozenset({"NOTATA_RUN", "NOTATA_RUN_OPTIONS", "NOTATA_RUN_OUTER_RANKS", RERUN})


@dataclass(frozen=True, slots=True)
class Rerun:
    """A run that was repeated.

    Attributes:
        run_id: The id of the new run.
        url: Its location, without credentials.
        status: Its status.
        comparison: The files of both runs; None if the new run was not recorded.
        reason: Why it failed, if it did.
        worktree: The worktree, if it was kept.
        notes: Sentences about what is not as it was.
    """

    run_id: str
    url: str
    status: str
    comparison: Comparison | None = None
    reason: str = ""
    worktree: str = ""
    notes: tuple[str, ...] = ()


def rerun(
    planned: Plan,
    *,
    agree: Callable[[list[ChangedInput]], bool] = lambda changed: False,
    tell: Callable[[str], object] = bool,
    before: str = "",
    keep_worktree: bool = False,
    check: bool = False,
    echo: bool = True,
) -> Rerun:
    """Repeat a run as planned. **This runs the command that the run folder names**: look at the plan first.

    Args:
        planned: The plan.
        agree: Called with the inputs that have changed or are missing, if there are any; returns whether to go on.
        tell: Called with each note about the worktree before the command runs.
        before: A shell command of yours that runs at the top of the worktree first, such as ``make``.
        keep_worktree: Leave the worktree.
        check: Download files in a bucket if nothing else shows whether they are equal.
        echo: Show the output of a program of ``notata run``.

    Raises:
        ConfigurationError: Inputs have changed, and `agree` returned False; the changes of the code do not apply; or
            the command cannot be started.
        RunExistsError: A run with the new id exists.
        StorageError: A storage failed.
    """
    run, notes = planned.run, list(planned.notes)
    refuse_existing(planned.base, planned.run_id)
    with planned.repository.worktree(run.commit, keep=keep_worktree) as worktree:
        worktree.apply(run.patch)
        for note in _notes_about(worktree, planned):
            tell(note)
            notes.append(note)
        changed = changed_inputs([*planned.inputs], _places(planned, worktree), run.url, planned.options)
        if changed and not agree(changed):
            raise ConfigurationError(_changed_message(changed))
        if before:
            _build(before, worktree)
        _start(planned, worktree, echo=echo)
        kept = worktree.path if keep_worktree else ""
    return _result(planned, kept, tuple(notes), check=check)


def _notes_about(worktree: Worktree, planned: Plan) -> Iterator[str]:
    """Copy untracked files into the worktree, and yield what is not as it was in the checkout."""
    copied, others = worktree.copy_untracked(planned.run.untracked, planned.top or planned.repository.top)
    if copied:
        yield f"{counted(copied, 'untracked file')} copied from the checkout"
    if others:
        names = listed(map(one_line, others), _LISTED)
        yield f"not in the worktree, because they are missing or have changed in the checkout: {names}"
    if worktree.has_lfs_pointers():
        yield "git filters are off, so files of Git LFS and similar filters are pointers in the worktree"


def _build(command: str, worktree: Worktree) -> None:
    """Run a shell command of the user at the top of the worktree.

    Raises:
        ConfigurationError: It failed.
    """
    done = subprocess.run(["sh", "-c", command], cwd=worktree.path, check=False)
    if done.returncode:
        raise ConfigurationError(
            f"the run was not repeated, because the command before it failed with exit code {done.returncode}: "
            f"{one_line(command)}"
        )


def _changed_message(changed: list[ChangedInput]) -> str:
    named = [*map(str, changed)]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return (
        f"the run was not repeated, because inputs have changed: {'; '.join(named[:_NAMED])}{more}. Restore them, or "
        "pass --force to continue"
    )


def _places(planned: Plan, worktree: Worktree) -> Callable[[str], str]:
    """Return a function that finds a local input: a file of the checkout is looked up in the worktree, too."""

    def place(url: str) -> str:
        start = f"{planned.top}{os.sep}"
        inside = os.path.join(worktree.path, url[len(start) :]) if planned.top and url.startswith(start) else ""
        return inside if inside and os.path.exists(inside) else url

    return place


def _start(planned: Plan, worktree: Worktree, *, echo: bool) -> None:
    """Run the command in the worktree, and wait for its end."""
    folder = os.path.join(worktree.path, planned.folder)
    if os.path.isabs(planned.folder):
        folder = planned.folder
    elif not os.path.realpath(folder).startswith(worktree.path):
        raise ConfigurationError(f"the working folder {one_line(planned.folder)} leads out of the worktree")
    if not os.path.isdir(folder):
        raise ConfigurationError(
            f"the working folder {one_line(planned.folder)} is not in the commit. It may have been untracked; create "
            "it in the repository, or start the command yourself"
        )
    environ = _environment(planned, worktree)
    if planned.run.kind == "program":
        _run_program(planned, worktree, folder, environ, echo=echo)
    else:
        _run_python(planned, worktree, folder, environ)


def _environment(planned: Plan, worktree: Worktree) -> dict[str, str]:
    """Return the environment variables of the command: those of this process, with paths in the worktree."""
    environ = {name: value for name, value in os.environ.items() if name not in _CLOSED}
    parts = [*planned.editable, *environ.get("PYTHONPATH", "").split(os.pathsep)]
    if planned.top and any(parts):
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, moved(parts, planned.top, worktree.path)))
    return environ


def _origin(planned: Plan) -> dict[str, Any]:
    run = planned.run
    return origin_of(run.run_id, run.url, run.commit, run.script_id if run.script_id != run.run_id else "")


def _run_program(planned: Plan, worktree: Worktree, folder: str, environ: dict[str, str], *, echo: bool) -> None:
    """Run a program of ``notata run`` again."""
    from notata.program import Program, record_program
    from notata.program.arguments import parse_values

    run = planned.run
    values = parse_values([f"{name}={value}" for name, value in planned.values.items()], "-p")[0]
    texts = program_texts(run, planned.values)
    program = Program(
        moved(run.argv, planned.top, worktree.path),
        {**run.params, **values},
        {
            name: moved([text], planned.top, worktree.path)[0]
            for name, text in texts.items()
            if name in {**run.params, **values}
        },
        [f"{name}:: {pattern}" for name, patterns in run.series.items() for pattern in patterns],
        moved(run.keep, planned.top, worktree.path),
        folder,
        environ,
        echo=echo,
    )
    record_program(
        program,
        planned.base,
        run_id=planned.run_id,
        meta={"origin": _origin(planned)},
    )


def _run_python(planned: Plan, worktree: Worktree, folder: str, environ: dict[str, str]) -> None:
    """Run a script, or a point of a sweep, in another process."""
    run = planned.run
    is_point = run.kind == "point"
    redirection = Redirection(
        run.script_id,
        planned.run_id,
        planned.base.url,
        _origin(planned),
        public_options(planned.base_options or {}),
        run.task if is_point else "",
        {**run.params, **_parsed(planned.values)} if is_point else {},
        worktree.path,
        planned.top if planned.top == planned.repository.top else "",  # a path of the record alone is not trusted
    )
    environ[RERUN] = redirection.encode()
    if len(environ[RERUN]) > _VARIABLE:
        raise ConfigurationError(
            f"cannot rerun run {run.run_id!r}: its parameters are too large to pass to the process that runs its task"
        )
    argv = [planned.python, "-m", POINT] if is_point else moved(planned.argv, planned.top, worktree.path)
    _wait(argv, folder, environ)


def _parsed(values: Mapping[str, str]) -> dict[str, Any]:
    from notata.program.arguments import parse_values

    return parse_values([f"{name}={value}" for name, value in values.items()], "-p")[0]


def _wait(argv: list[str], folder: str, environ: dict[str, str]) -> None:
    """Run a command to its end; it gets the signals of the terminal itself, and SIGTERM from here.

    Raises:
        ConfigurationError: It cannot be started.
    """
    try:
        process = subprocess.Popen(argv, cwd=folder, env=environ)
    except OSError as error:
        raise ConfigurationError(f"cannot start {one_line(argv[0], 200)}: {error.strerror}") from error
    with _passing_on(process):
        while True:
            try:
                process.wait()
                return
            except KeyboardInterrupt:  # the process gets Ctrl-C too, and ends its run
                continue


@contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass SIGTERM on to a process in the block, so that the worktree is removed after its end."""

    def pass_on(number: int, _frame: object) -> None:
        with suppress(OSError):
            process.send_signal(number)

    try:
        before = signal.signal(signal.SIGTERM, pass_on)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _result(planned: Plan, kept: str, notes: tuple[str, ...], *, check: bool) -> Rerun:
    """Return what became of the new run."""
    new = planned.base.below(keys.run_folder(planned.run_id))
    try:
        fields, state = read_state(new)
    except MissingError as error:
        raise RunMissingError(
            f"the command has ended, but recorded no run {planned.run_id!r} in {planned.base.url}: it created no run "
            f"with the id {planned.run.script_id!r}. Perhaps its id is generated anew at each start",
            url=new.url,
        ) from error
    old = Target(planned.run.url, planned.options).folder
    comparison = compared(old, new, content=check)
    return Rerun(
        planned.run_id,
        new.url,
        state.status,
        comparison,
        one_line(fields.get("failure_reason") or "", 500),
        kept,
        notes,
    )
