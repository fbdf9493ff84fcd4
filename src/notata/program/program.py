"""A program to be recorded: its arguments, its parameters, and what to take from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from notata._base.secrets import arguments
from notata.capture import SeriesPattern
from notata.errors import ConfigurationError
from notata.program.arguments import RUN_ID, check_placeholders, fill, text_of
from notata.program.keep import check_patterns

__all__ = ["Program"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program to be recorded.

    Attributes:
        argv: Its arguments with its name, with placeholders such as ``{re}``.
        params: The parameters of the run.
        texts: Texts for placeholders; by default those of `params`.
        series: Patterns of values in its output, see `SeriesPattern.parse`.
        keep: Patterns of files to keep, see `notata.program.keep`.
        cwd: Its working folder; by default that of this process.
        environ: Its environment variables; by default those of this process.
        terminal: Whether it gets a pseudo-terminal; by default if standard output is a terminal.
        echo: Whether its output is shown, too.

    Raises:
        ConfigurationError: A placeholder, a pattern or the folder is invalid.
        StartError: There is no such program.
    """

    argv: Sequence[str]
    params: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    series: Sequence[str] = ()
    keep: Sequence[str] = ()
    cwd: str | None = None
    environ: Mapping[str, str] | None = None
    terminal: bool | None = None
    echo: bool = True

    def __post_init__(self) -> None:
        if RUN_ID in self.params:
            raise ConfigurationError(f"a parameter cannot be named {RUN_ID}: that is the id of the run. Rename it")
        check_placeholders(self.argv, self.params)
        check_patterns(self.keep)
        if not os.path.isdir(self.folder):
            raise ConfigurationError(f"cannot start a program in {self.folder!r}: there is no such folder")

    @property
    def folder(self) -> str:
        """The absolute path of the working folder."""
        return os.path.abspath(self.cwd or os.getcwd())

    def filled(self, run_id: str) -> list[str]:
        """Return the arguments with values in place of placeholders."""
        texts = {name: text_of(value) for name, value in self.params.items()} | dict(self.texts) | {RUN_ID: run_id}
        return fill(self.argv, texts)

    def fields(self, redact: Callable[[str], str], *, terminal: bool) -> dict[str, Any]:
        """Return the field `command` of metadata.json."""
        series: dict[str, list[str]] = {}
        for pattern in SeriesPattern.all_of(self.series):
            series.setdefault(pattern.series, []).append(pattern.expression)
        return {
            "argv": [redact(argument) for argument in arguments(self.argv)],
            "cwd": redact(self.folder),
            "series": series,
            "keep": list(self.keep),
            "terminal": terminal,
        }
