"""Record a program from its start to its end: `record`, which the command ``notata run`` calls."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from notata._base import display
from notata._base.progress import shown
from notata._base.secrets import arguments
from notata._base.terminal import one_line, quoted, safe, show
from notata.capture import Output, SeriesPattern
from notata.errors import BatchError, MissingError, NotataError
from notata.program.arguments import RUN_ID
from notata.program.exit import NOT_RECORDED, Exit
from notata.program.keep import MOST, Found, Keeper
from notata.program.program import Program
from notata.program.run import ProgramRun
from notata.program.screen import HAS_TERMINALS, Screen, Terminals
from notata.program.start import StartError, find_program
from notata.run.inherited import child_variables
from notata.run.monitor import cgroup
from notata.store import Location, Storage, open_store

__all__ = ["record", "record_program"]

_LISTED: Final = 10  # names in a line of the log
_REASONS: Final = 3  # errors of one batch in a line of the log


def record(
    command: Sequence[str],
    base_dir: Location | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    series: Sequence[str] = (),
    keep: Sequence[str] = (),
    cwd: str | None = None,
    environ: Mapping[str, str] | None = None,
    terminal: bool | None = None,
    echo: bool = True,
    **options: Any,
) -> int:
    r"""Run a program and record it as a run, and return its exit code.

    Args:
        command: The program and its arguments. ``{name}`` is replaced by the parameter of this name, ``{run_id}`` by
            the id of the run.
        base_dir: As for `notata.Logbook`.
        params: The parameters of the run.
        series: Regular expressions that find values in the output, see `notata.capture.SeriesPattern.parse`.
        keep: Patterns of files that are kept when the program has ended, if they are new or have changed.
        cwd: The working folder of the program.
        environ: Its environment variables.
        terminal: Whether the program gets a pseudo-terminal. By default, it gets one if standard output is a terminal.
        echo: Show the output of the program, too.
        **options: `run_id`, `resume`, `storage_options`, `monitor`, `meta`, and others of `notata.Logbook`.

    Returns:
        The exit code of the program, or 128 and the number of the signal that ended it. If it succeeded, but the record
        could not be stored, 3.

    Raises:
        ConfigurationError: An argument is invalid, or there is no such program; nothing was recorded.
        RunExistsError: A run with this id already exists.
        StorageError: The run could not be created; the program was not started.

    >>> record(["sh", "-c", "echo re = {re}"], "memory://programs", run_id="a", params={"re": 100}, echo=False)
    0
    >>> from notata import LogReader
    >>> LogReader("memory://programs/log_a")["output.txt"].read_text()
    're = 100\n'
    """
    program = Program(
        command, dict(params or {}), {}, tuple(series), tuple(keep), cwd, environ, terminal=terminal, echo=echo
    )
    done = record_program(program, base_dir, **options)
    return done.shell_code


def record_program(program: Program, base_dir: Location | None = None, **options: Any) -> Exit:
    """Run a program and record it as a run; see `record`.

    Returns:
        How it ended. If it succeeded, but the record could not be stored, an exit code of 3.
    """
    environ = dict(os.environ if program.environ is None else program.environ)
    path = find_program(program.filled(RUN_ID)[0], program.folder, environ)
    terminals = Terminals.found(program.terminal)
    log = ProgramRun(program, base_dir, path=path, terminal=terminals.is_terminal, **options)
    if program.echo:
        show(f"notata: run {log.run_id!r} at {log.url}")
    done: Exit | None = None
    try:
        with log:
            if log._store.shared:
                storage_options = {**_options_of(base_dir), **(options.get("storage_options") or {})}
                environ |= child_variables(log.url, storage_options, environ)
            run = _Recording(log, program, path, environ, terminals)
            done = run.run()
            run.finish(done)
    except StartError:
        raise
    except NotataError as error:
        if done is None:
            raise
        show(f"notata: the record of the program is incomplete: {safe(str(error))}")
        return replace(done, code=NOT_RECORDED) if done.is_success else done
    if not done.is_success and program.echo:
        show(f"notata: run {log.run_id!r} failed: {done.reason}")
    return replace(done, code=NOT_RECORDED) if run.problems and done.is_success else done


def _options_of(base: Location | None) -> dict[str, Any]:
    """Return the storage options that a location has itself."""
    options = base.options if isinstance(base, Storage) else getattr(base, "storage_options", None)
    return dict(options or {})


class _Recording:
    """The steps of one recording.

    Attributes:
        problems: What could not be stored.
    """

    def __init__(
        self, log: ProgramRun, program: Program, path: str, environ: Mapping[str, str], terminals: Terminals
    ) -> None:
        self._log = log
        self._program = program
        self._path = path
        self._environ = environ
        self._terminals = terminals
        self._keeper = Keeper(program.keep, program.folder)
        self._output: Output | None = None
        self.problems: list[str] = []

    def run(self) -> Exit:
        """Run the program to its end, and keep its output."""
        screen = Screen() if self._program.echo else None
        patterns = SeriesPattern.all_of(self._program.series)
        output = self._output = self._log._open_output(patterns, None if screen is None else screen.write)
        argv = self._program.filled(self._log.run_id)
        arrangement = (argv, self._path, self._program.folder, self._environ)
        kills = cgroup.oom_kills()
        if HAS_TERMINALS:
            from notata.program.session import run_program

            status = run_program(*arrangement, self._terminals, output.feed, self._began)
        else:
            from notata.program.pipes import run_program

            status = run_program(*arrangement, self._terminals, output.feed, self._began)
        if status.is_held_open:
            self._say(
                "The program has ended, but a process that it started still has its output open. notata has stopped "
                "waiting for it, and does not record what it prints from now on",
            )
        return replace(
            status.exit,
            memory_limit_bytes=cgroup.memory_available(),
            out_of_memory=kills is not None and (cgroup.oom_kills() or 0) > kills,
        )

    def _began(self, pid: int) -> None:
        words = " ".join(arguments(self._program.filled(self._log.run_id)))
        self._log.info("Started process %d: %s", pid, one_line(self._log._redact(words), 1000))

    def finish(self, done: Exit) -> None:
        """Keep the files, and end the run if it has failed; otherwise the end of its block does so."""
        memory = "" if done.peak_memory_bytes is None else f", peak memory {display.size(done.peak_memory_bytes)}"
        used = "" if done.cpu_seconds is None else f", {display.duration(done.cpu_seconds)} of processor time"
        self._log.info("The program ended: %s%s%s", done.reason or "exit code 0", used, memory)
        self._log.exit = done
        self._show_unmatched()
        if self._program.keep:
            self._keep(self._keeper.find())
        if not done.is_success or self.problems:
            self._log.mark_failed("; ".join(filter(None, [done.reason, *self.problems])))

    def _show_unmatched(self) -> None:
        """Show patterns that no line of the output matches; the end of the output logs them."""
        if self._output is not None and self._program.echo:
            self._output.end()
            for expression in self._output.unmatched:
                show(f"notata: No line of the output matches --series {quoted(expression)}")

    def _keep(self, found: Found) -> None:
        for pattern in found.missed:
            self._say("No file matches --keep %s", repr(pattern))
        if found.unchanged:
            names = display.listed(map(one_line, found.unchanged), _LISTED)
            self._say("Not kept, because they have not changed since the start: %s", names)
        if found.refused:
            names = display.listed((f"{one_line(name)} ({why})" for name, why in found.refused.items()), _LISTED)
            self._say("Not kept, because the names are not legal on every storage: %s", names)
        if found.is_cut:
            self._say("Only the first %d files are kept", MOST)
        if not found.files:
            return
        try:
            size = self._store_files(found.files)
        except NotataError as error:
            why = _reasons(error)
            self.problems.append(f"files of --keep were not stored: {why}")
            self._say("Not all files of --keep were stored: %s", why)
            return
        names = display.listed((key.partition("/")[2] for key in found.files), _LISTED)
        self._log.info("Kept %s (%s): %s", display.counted(len(found.files), "file"), display.size(size), names)

    def _store_files(self, files: Mapping[str, str]) -> int:
        """Store files, by key, and return their size in bytes. Up to 32 requests at once."""
        size = 0
        by_folder: dict[str, dict[str, str]] = {}
        for key, path in files.items():
            folder, name = _split(path, self._program.folder)
            by_folder.setdefault(folder, {})[key] = name
        with shown(self._program.echo, "kept files") as callback:
            for folder, names in by_folder.items():
                source = open_store(folder).following_links()
                entries = {}
                for key, name in names.items():
                    with suppress(MissingError):  # removed meanwhile
                        entries[key] = source.locate(name)
                size += sum(entry.size for entry in entries.values())
                self._log._store.copy_from(entries, source, callback=callback)
        return size

    def _say(self, text: str, *values: object) -> None:
        """Log a warning, and show it."""
        self._log.warning(text, *values)
        if self._program.echo:
            show(f"notata: {text % values if values else text}")


def _reasons(error: NotataError) -> str:
    """Return the message of an error; of a batch, those of its first errors."""
    errors = error.exceptions if isinstance(error, BatchError) else [error]
    return display.listed(map(str, errors), _REASONS)


def _split(path: str, folder: str) -> tuple[str, str]:
    """Return the folder of a store for a file, and its name in there."""
    folder = os.path.realpath(folder)
    if path.startswith(f"{folder}{os.sep}"):
        return folder, os.path.relpath(path, folder).replace(os.sep, "/")
    return os.path.dirname(path), os.path.basename(path)
