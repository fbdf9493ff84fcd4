"""Parse log.txt into times, levels and messages."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, overload

from notata._base.packages import needed
from notata._base.times import YEARS
from notata.formats import without_surrogates
from notata.run.journal import level_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LogLine", "RunLog"]

_HEAD: Final = re.compile(
    r"\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)([+-]\d\d:\d\d(?::\d\d)?)?\] (Level -?\d+|\S+) (.*)", re.DOTALL
)
_NUMBERED: Final = re.compile(r"Level[ -](-?[0-9]{1,18})")
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message of a log.

    Attributes:
        time: The time of the message, in the local time of the machine that wrote it; None for text before the first
            line with a time.
        level: ``INFO``, ``WARNING``, …; empty without a time.
        message: The text; continuation lines without their indent.
        offset: The offset of the local time from UTC; None if the log does not contain it, as in notata 0.3.0.
    """

    time: datetime | None
    level: str
    message: str
    offset: timedelta | None = None

    @property
    def utc(self) -> datetime | None:
        """The time of the message in UTC; None if the log does not contain the offset.

        >>> RunLog("[2026-10-25T02:30:00+01:00] INFO begun")[0].utc.isoformat()
        '2026-10-25T01:30:00+00:00'
        """
        return None if self.time is None or self.offset is None else (self.time - self.offset).replace(tzinfo=UTC)

    def __str__(self) -> str:
        return self.message if self.time is None else f"[{self.time.isoformat()}] {self.level} {self.message}"


class RunLog(Sequence[LogLine]):
    r"""The messages of a log.txt in file order. The format of notata 0.3.0 is supported, too.

    Attributes:
        text: The text of the whole file.

    >>> log = RunLog("[2026-03-01T09:30:00] INFO begun\n[2026-03-01T09:30:02] ERROR no mean flow\n  h = 0\n")
    >>> log[1].level, log[1].message
    ('ERROR', 'no mean flow\nh = 0')
    >>> [line.message for line in log.at("warning")]
    ['no mean flow\nh = 0']
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = list(_parsed(text))

    @overload
    def __getitem__(self, index: int) -> LogLine: ...
    @overload
    def __getitem__(self, index: slice) -> list[LogLine]: ...
    def __getitem__(self, index: int | slice) -> LogLine | list[LogLine]:
        return self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)

    def at(self, level: int | str) -> list[LogLine]:
        """Return the messages of this level and above.

        Args:
            level: A level of `logging`, by number or name.

        Raises:
            ConfigurationError: There is no such level.
        """
        least = level_of(level)
        numbers = {name: _number(name) for name in {line.level for line in self}}
        return [line for line in self if numbers[line.level] >= least]

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with one row per message and columns ``time``, ``level``, ``message`` and ``utc``.

        ``time`` is local time. ``utc`` has no repeated hours; it is NaT if the log does not contain the offset.

        Raises:
            PackageMissingError: pandas is not installed.

        >>> RunLog("[2026-03-01T09:30:00] INFO begun").to_pandas().shape
        (1, 4)
        """
        with needed("a DataFrame needs pandas", "pandas", "pandas"):
            import pandas as pd

        return pd.DataFrame(
            {
                "time": pd.Series([line.time for line in self], dtype="datetime64[s]"),
                "level": [without_surrogates(line.level) for line in self],
                "message": [without_surrogates(line.message) for line in self],
                "utc": pd.Series([line.utc for line in self], dtype="datetime64[s, UTC]"),
            }
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"RunLog({len(self)} messages)"


def _parsed(whole_text: str) -> Iterator[LogLine]:
    head: tuple[datetime | None, str] = (None, "")
    offset: timedelta | None = None
    message: list[str] = []
    lines = whole_text.split("\n")  # not splitlines, which splits at ten other characters, too
    if not lines[-1]:
        lines.pop()
    for whole in lines:
        line = whole.removesuffix("\r")  # line ends of Windows
        found = _parse_head(line)
        if found is None:
            message.append(line.removeprefix(_INDENT) if head[0] is not None else line)
            continue
        if message:
            yield LogLine(*head, "\n".join(message), offset)
        time, level, text = found
        if (utc_offset := time.utcoffset()) is not None:
            offset = utc_offset
        head, message = (time.replace(tzinfo=None), level), [text]
    if message:
        yield LogLine(*head, "\n".join(message), offset)


def _parse_head(line: str) -> tuple[datetime, str, str] | None:
    """Return time, level and text of a line that begins a message; the time has an offset if the line has one."""
    match = _HEAD.fullmatch(line)
    try:
        time = datetime.fromisoformat(match[1] + (match[2] or "")) if match else None
    except ValueError:  # for example, the 31st of February
        return None
    return (time, match[3], match[4]) if match and time and time.year in YEARS else None


def _number(level: str) -> int:
    """Return the number of a level name without spaces, as in a log line; 0 for an unknown name."""
    if numbered := _NUMBERED.fullmatch(level):
        return int(numbered[1])
    return {name.replace(" ", "-"): number for name, number in logging.getLevelNamesMapping().items()}.get(level, 0)
