"""Describe exceptions as text and as structured data, and catch them with `Caught`."""

from __future__ import annotations

import functools
import inspect
import linecache
import reprlib
import traceback
from collections.abc import Callable, Coroutine, Iterator
from itertools import groupby
from types import FrameType, TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, overload

from notata._base.secrets import HIDDEN, is_secret_name
from notata.errors import ConfigurationError

__all__ = ["Caught", "Redact", "describe", "kind", "reason", "shortened", "text"]

Redact = Callable[[str], str]
"""Redacts secrets in a text."""

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N")  # additional return type of a decorated function: None, or Never if exceptions are raised again

_CHAIN: Final = 10  # maximum causes to follow; a retry loop can chain thousands
_FRAMES: Final = 200  # maximum frames of one traceback; a recursion has a thousand
_LONG: Final = 4096  # maximum characters of a reason, as each read of the run reads all of metadata.json


def reason(error: BaseException) -> str:
    """Return the message of an exception, or its type if it has no message.

    >>> reason(ValueError("h = -1")), reason(KeyboardInterrupt()), reason(SystemExit(3))
    ('h = -1', 'KeyboardInterrupt', 'sys.exit(3)')
    """
    if type(error) is SystemExit and error.args:
        return f"sys.exit({error.code!r})"
    if isinstance(error, BaseExceptionGroup):  # its text ends with a count
        return str(error.message)
    return _message(error) or type(error).__name__


def shortened(reason: str) -> str:
    """Return a reason of at most 4096 characters; a longer one is cut, and its length is noted.

    >>> shortened("x" * 20_000_000)[4090:]
    'xxxxxx… (20000000 characters)'
    """
    return reason if len(reason) <= _LONG else f"{reason[:_LONG]}… ({len(reason)} characters)"


def kind(error: BaseException) -> str:
    """Return the full name of the type of an exception, as in a traceback.

    >>> import zipfile
    >>> kind(ValueError()), kind(zipfile.BadZipFile())
    ('ValueError', 'zipfile.BadZipFile')
    """
    module, name = type(error).__module__, type(error).__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def text(error: BaseException, redact: Redact = str) -> str:
    """Return the traceback as Python prints it, with causes, notes and the members of groups.

    Args:
        error: Any exception.
        redact: A function applied to every line except those with a file name.

    Returns:
        The text. A NUL becomes an escape, as grep treats a file with a NUL as binary.
    """
    return _text_of(error, redact).replace("\0", "\\x00")


def _text_of(error: BaseException, redact: Redact) -> str:
    try:
        formatted = traceback.TracebackException.from_exception(error)
        whole = "".join(formatted.format())
    except Exception:  # for example, a SyntaxError with invalid attributes
        return redact(f"{kind(error)}: {_message(error)}\n")
    locations = set(_locations(formatted))
    parts: list[str] = []
    for is_location, lines in groupby(whole.split("\n"), lambda line: line.lstrip(" |+-") in locations):
        part = "\n".join(lines)  # redact all lines at once, as a secret can span several lines
        parts.append(part if is_location else redact(part))
    return "\n".join(parts)


def _locations(trace: traceback.TracebackException | None) -> Iterator[str]:
    """Yield the lines of a traceback that contain the location of a frame."""
    if trace is None:
        return
    for frame in trace.stack:
        yield f'File "{frame.filename}", line {frame.lineno}, in {frame.name}'
    for other in (trace.__cause__, trace.__context__, *(getattr(trace, "exceptions", None) or ())):
        yield from _locations(other)


def describe(error: BaseException, redact: Redact = str, *, variables: bool = False) -> dict[str, Any]:
    """Return an exception as plain values.

    Args:
        error: Any exception.
        redact: A function applied to messages, lines of code and variables.
        variables: Whether to include the local variables of each frame, as short representations.

    Returns:
        ``type``, ``message``, ``notes``, and ``frames``, the innermost last. Each frame has ``file``, ``line``,
        ``function``, ``code`` and, on request, ``variables``. If present, ``cause`` (or ``context``, the exception
        being handled) in the same form, and the members of a group in ``exceptions``.
    """
    return _Describer(redact, variables).of(error, _CHAIN)


class Caught(Generic[N]):
    """The context manager and decorator of `Logbook.catch`, which records exceptions and suppresses them.

    Attributes:
        error: The exception of the block, or None.
    """

    def __init__(
        self, record: Callable[[BaseException], None], kinds: tuple[type[BaseException], ...], reraise: bool
    ) -> None:
        for one in kinds:
            if not (isinstance(one, type) and issubclass(one, BaseException)):
                raise ConfigurationError(
                    f"invalid argument {one!r} for catch(): pass exception types; to use it as a decorator, write "
                    "@log.catch()"
                )
        self._record = record
        self._kinds = kinds
        self._reraise = reraise
        self.error: BaseException | None = None

    def _copy(self) -> Caught[N]:
        """Return a new object for each call of a decorated function."""
        return Caught(self._record, self._kinds, self._reraise)

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R | N]]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Callable[P, R | N]: ...
    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function or a coroutine function; type checkers keep its signature."""
        if not callable(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                "cannot decorate a generator with catch(): it decorates functions; use `with log.catch():` inside"
            )

        @functools.wraps(function)
        def catching(*arguments: Any, **options: Any) -> Any:
            with self._copy():
                return function(*arguments, **options)

        @functools.wraps(function)
        async def awaiting(*arguments: Any, **options: Any) -> Any:
            with self._copy():
                return await function(*arguments, **options)

        return awaiting if inspect.iscoroutinefunction(function) else catching

    def __enter__(self) -> Self:
        self.error = None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, self._kinds):
            return False
        self.error = error
        self._record(error)
        return not self._reraise


class _Describer:
    def __init__(self, redact: Redact, variables: bool) -> None:
        self._redact = redact
        self._repr = _ShortRepr(redact) if variables else None
        self._seen: set[int] = set()

    def of(self, error: BaseException, depth: int) -> dict[str, Any]:
        self._seen.add(id(error))
        found: dict[str, Any] = {
            "type": kind(error),
            "message": self._redact(_message(error)),
            "frames": [self._frame(frame, line) for frame, line in _frames_of(error.__traceback__)],
        }
        if notes := _notes(error):
            found["notes"] = [self._redact(note) for note in notes]
        if isinstance(error, BaseExceptionGroup):
            found["exceptions"] = [self.of(member, depth - 1) for member in error.exceptions if depth > 1]
        name, before = _cause_or_context(error)
        if before is not None and id(before) not in self._seen and depth > 1:
            found[name] = self.of(before, depth - 1)
        return found

    def _frame(self, frame: FrameType, line: int) -> dict[str, Any]:
        code = frame.f_code
        described: dict[str, Any] = {
            "file": code.co_filename,
            "line": line,
            "function": code.co_qualname,
            "code": self._redact(linecache.getline(code.co_filename, line, frame.f_globals).strip()),
        }
        if self._repr is not None:
            described["variables"] = {
                name: HIDDEN if _is_secret(name, value) else self._repr.of(value)
                for name, value in frame.f_locals.items()
                if _is_data(name, value)
            }
        return described


def _frames_of(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """Yield frames and line numbers, the innermost last; for a long traceback, only its beginning and end."""
    frames = list(traceback.walk_tb(trace))
    if len(frames) > _FRAMES:
        frames = frames[: _FRAMES // 2] + frames[-_FRAMES // 2 :]
    yield from frames


def _cause_or_context(error: BaseException) -> tuple[str, BaseException | None]:
    if error.__cause__ is not None or error.__suppress_context__:
        return "cause", error.__cause__
    return "context", error.__context__


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its message cannot be shown>"


def _is_data(name: str, value: object) -> bool:
    """Check whether a variable is data, not a module, class or function."""
    code = inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value)
    return not code and not (name.startswith("__") and name.endswith("__"))


def _is_secret(name: str, value: object) -> bool:
    """Check whether a variable is a text with a secret name."""
    return isinstance(value, str | bytes) and is_secret_name(name, str(value))


def _notes(error: BaseException) -> list[str]:
    """Return the notes of `add_note`. Python allows any object as `__notes__`."""
    notes = getattr(error, "__notes__", None)
    if notes is None:
        return []
    return [_text(note) for note in notes] if isinstance(notes, list | tuple) else [_text(notes)]


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__}, which cannot be shown>"


class _ShortRepr(reprlib.Repr):
    """Short representations. Secrets are redacted before the text is shortened."""

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact
        self.maxstring = self.maxother = 200
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 10

    def of(self, value: object) -> str:
        try:
            return self._redact(self.repr(value))
        except Exception:
            return f"<{type(value).__qualname__}, which cannot be shown>"

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(self._redact(x), level)

    def repr_instance(self, x: Any, level: int) -> str:
        shown = self._redact(repr(x))
        half = (self.maxother - 3) // 2
        return shown if len(shown) <= self.maxother else f"{shown[:half]}...{shown[-half:]}"
