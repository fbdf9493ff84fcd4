"""Record the run of a program: its command at the start, how it ended at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from notata import formats
from notata.errors import ConfigurationError
from notata.logbook import Logbook
from notata.program.exit import Exit
from notata.provenance.code import Extent
from notata.provenance.environment import RunEnvironment, environment_of_program
from notata.run.state import COMMAND, EXIT, OWN_FIELDS
from notata.store import Location

if TYPE_CHECKING:
    from notata.program.program import Program

__all__ = ["ProgramRun"]


class ProgramRun(Logbook):
    """The run of a program.

    Attributes:
        exit: How the program ended; None before that.

    Args:
        program: The program.
        base_dir: As for `Logbook`.
        path: The file of the program.
        terminal: Whether it has a pseudo-terminal.
        meta: More fields of metadata.json.
        **options: As for `Logbook`.

    Raises:
        ConfigurationError: A name in `meta` is reserved.
    """

    _code_extent = "checkout"  # not the packages of notata's interpreter

    def __init__(
        self,
        program: Program,
        base_dir: Location | None = None,
        *,
        path: str,
        terminal: bool,
        meta: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._program = program
        self._program_path = path
        self._has_terminal = terminal
        if taken := sorted({*OWN_FIELDS, COMMAND, EXIT, "environment"} & (meta or {}).keys()):
            names = ("this name", "another name") if len(taken) == 1 else ("these names", "other names")
            raise ConfigurationError(
                f"cannot set {', '.join(taken)} in metadata.json: notata reserves {names[0]}. Choose {names[1]}"
            )
        self._meta = formats.plain(dict(meta or {}), "metadata")
        self.exit: Exit | None = None
        super().__init__(options.pop("run_id", None), base_dir, dict(program.params) or None, **options)

    def _environment(self, extent: Extent) -> RunEnvironment:
        argv = self._program.filled(self.run_id)
        return environment_of_program(argv, self._program.folder, self._program_path, self._redact, extent)

    def _first_fields(self) -> Mapping[str, Any]:
        return {**self._meta, COMMAND: self._program.fields(self._redact, terminal=self._has_terminal)}

    def _end_fields(self, summary: object) -> Mapping[str, Any]:
        ended = {} if self.exit is None else {EXIT: self.exit.fields}
        return {**super()._end_fields(summary), **ended}
