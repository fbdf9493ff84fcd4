"""What a pickle would do and hold, told without doing it: its opcodes are read, and nothing is imported or called.

The stack of the machine that pickles are programs for is played with stand-ins: numbers and short strings are
themselves, all else is a `_Thing` that knows its kind, its first parts, and how many there are. Long strings and
buffers are skipped, so that a pickle of gigabytes takes little memory and few reads.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Self

from notata.errors import DecodeError

__all__ = ["PickleFacts", "pickle_facts"]

_MOST: Final = 1_000_000  # opcodes: about two seconds, and at most some 200 MB of stand-ins
_LONG: Final = 200  # characters or bytes of a value that is kept
_LINE: Final = 4096  # bytes of a line that is looked at, in the text of protocol 0
_PIECE: Final = 2**20
_PARTS: Final = 8  # of a container that are kept
_DEEP: Final = 30  # levels of containers that are kept
_LEVELS: Final = 5  # and shown
_BYTES: Final = 16  # of a buffer that are shown
_WIDE: Final = 2000  # characters that are shown

_DANGEROUS: Final = frozenset({
    "_aix_support", "_osx_support", "_pickle", "_posixsubprocess", "_pyio", "_socket", "_thread", "aiohttp", "asyncio",
    "bdb", "bz2", "cloudpickle", "code", "codeop", "commands", "concurrent", "cProfile", "ctypes", "dbm", "dill",
    "distutils", "doctest", "ensurepip", "fileinput", "fsspec", "ftplib", "gzip", "http", "httplib", "httpx",
    "idlelib", "imaplib", "importlib", "linecache", "logging.config", "lzma", "mailbox", "marshal", "multiprocessing",
    "nntplib", "nt", "os", "paramiko", "pdb", "pickle", "pip", "pkgutil", "poplib", "posix", "profile", "pty", "pydoc",
    "pyimod", "requests", "runpy", "setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tarfile", "tempfile", "threading", "timeit", "torch.hub",
    "trace", "types", "unittest", "urllib", "urllib2", "venv", "webbrowser", "winreg", "xmlrpc", "zipfile",
    "zipimport",
})  # fmt: skip
"""Modules that start processes, touch files or the network, or run code that they are given."""

_HARMLESS: Final = frozenset({
    "bool", "bytearray", "bytes", "complex", "dict", "Ellipsis", "float", "frozenset", "int", "list", "NotImplemented",
    "object", "range", "reversed", "set", "slice", "str", "tuple",
})  # fmt: skip
"""What of the builtins makes values only; the exceptions are found by their names."""

_NAMES: Final = frozenset({
    "_io.FileIO", "_io.open", "_io.open_code", "builtins.map", "codecs.open", "functools.reduce", "io.FileIO",
    "io.open", "io.open_code", "logging.FileHandler", "numpy.fromfile", "numpy.load", "numpy.loadtxt", "numpy.memmap",
    "numpy.savetxt", "numpy.testing._private.utils.runstring", "operator.attrgetter", "operator.methodcaller",
    "pandas.eval", "pandas.read_pickle", "torch.load", "torch.serialization.load",
})  # fmt: skip
"""Single functions that call others, or read pickles in their turn."""


@dataclass(frozen=True, slots=True)
class PickleFacts:
    """What a pickle says of itself.

    Attributes:
        protocol: Of the pickle; 0 where it names none.
        imports: The modules and names that reading it would import, as ``numpy.dtype``, in order; what is called from
            among them, reading it would run.
        dangerous: Those of them that start processes, touch files or the network, or run code. Others may do so too:
            classes run what their packages wrote.
        value: What it would make, as far as the opcodes tell at a glance.
        operations: How many opcodes were looked at.
        warnings: What does not fit, such as an end that is missing, or that only a part was looked at.
    """

    protocol: int = 0
    imports: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()
    value: str = ""
    operations: int = 0
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        told = [f"pickle of protocol {self.protocol}, not opened: that would run code of whoever wrote it"]
        told += [f"value: {self.value}"] if self.value else []
        told += [f"imports: {', '.join(self.imports)}"] if self.imports else ["imports: nothing"]
        told += [f"DANGEROUS: {', '.join(self.dangerous)}"] if self.dangerous else []
        return told + [f"warning: {warning}" for warning in self.warnings]


def pickle_facts(file: IO[bytes], most: int = _MOST) -> PickleFacts:
    r"""Read the opcodes of a pickle; nothing is imported, called or unpickled.

    Memory is bounded by `most`, time too: by some two seconds a million, besides reading the file. A pickle that is cut
    off, or none, is told as far as it goes, with a warning.

    Args:
        file: A seekable binary file object; what is long in it is skipped.
        most: Opcodes that are looked at.

    References:
        PEP 3154; `pickletools`, whose table of opcodes this reads by.

    >>> import io, pickle
    >>> facts = pickle_facts(io.BytesIO(pickle.dumps({"name": "a", "layers": [3, 4]})))
    >>> facts.value, facts.imports
    ("{'name': 'a', 'layers': [3, 4]}", ())
    >>> pickle_facts(io.BytesIO(b"cos\nsystem\n(S'ls'\ntR.")).dangerous
    ('os.system',)
    """
    machine = _Machine()
    try:
        ended = machine.run(_Reader(file), most)
        if not ended:
            told = f"only its first {most:,} operations were looked at; what follows may import more"
        else:
            told = "more follows its end" if file.read(1) else ""
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, OSError):  # the file's own
            raise
        ended = False
        told = str(error) if isinstance(error, EOFError | DecodeError) else "its operations do not fit together"
        told = f"{told}, after {machine.count:,} operations"
    return machine.facts(ended, told)


class _Reader:
    """Opcodes of a file, one by one, with what is long in them left out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def next(self) -> tuple[Any, Any]:
        code = self._file.read(1)
        if not code:
            raise EOFError("it is cut off")
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise DecodeError(f"it is no pickle, or damaged: there is no operation {code!r}")
        return opcode, None if opcode.arg is None else self._argument(opcode.arg)

    def _argument(self, kind: Any) -> Any:
        if kind.n >= 0:
            return kind.reader(io.BytesIO(self._exactly(kind.n)))
        if kind.n == pickletools.UP_TO_NEWLINE:
            return self._text(kind)
        width = {-2: 1, -3: 4, -4: 4, -5: 8}[kind.n]
        head = self._exactly(width)
        length = int.from_bytes(head, "little", signed=kind.n == pickletools.TAKEN_FROM_ARGUMENT4)
        if length < 0:
            raise DecodeError("it is damaged: a length is negative")
        if length > _LONG:
            self._skip(length)
            return _Thing(_kind_of(kind), count=length)
        return kind.reader(io.BytesIO(head + self._exactly(length)))

    def _text(self, kind: Any) -> Any:
        """An argument up to the end of its line, or of two lines."""
        lines = [self._line() for _ in range(2 if kind.name == "stringnl_noescape_pair" else 1)]
        if any(len(line) > _LONG + 1 for line in lines):
            return _Thing(_kind_of(kind), count=sum(map(len, lines)))
        try:
            with warnings.catch_warnings(action="ignore"):  # of escapes in a string that mean nothing
                return kind.reader(io.BytesIO(b"".join(lines)))
        except UnicodeDecodeError:  # bytes, as Python 2 wrote them
            return _Thing(_kind_of(kind), count=sum(map(len, lines)))

    def _line(self) -> bytes:
        """A line with its end; of a long one only the beginning."""
        line = piece = self._file.readline(_LINE)
        while piece and not piece.endswith(b"\n"):
            piece = self._file.readline(_PIECE)
        if not piece:
            raise EOFError("it is cut off")
        return line

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError("it is cut off")
        return data

    def _skip(self, length: int) -> None:
        """Go on after so many bytes, the last of which is read, to know that it is there."""
        try:
            self._file.seek(length - 1, io.SEEK_CUR)
        except OverflowError as error:  # more than any file has
            raise EOFError("it is cut off") from error
        self._exactly(1)


def _kind_of(kind: Any) -> str:
    if "long" in kind.name or "decimal" in kind.name:
        return "int"
    if "unicode" in kind.name or "string" in kind.name:
        return "str"
    return "bytearray" if "bytearray" in kind.name else "bytes"


@dataclass(slots=True)
class _Thing:
    """A stand-in for a value.

    Attributes:
        kind: Its type, or what was called to make it.
        parts: The first things that it is made of; of a dict, pairs.
        count: How many there are, or how long it is.
        depth: Levels of what is kept below it.
    """

    kind: str
    parts: list[Any] = field(default_factory=list)
    count: int = 0
    depth: int = 0

    def take(self, parts: Sequence[Any]) -> None:
        """Have these parts as well."""
        self.count += len(parts)
        for part in parts[: _PARTS - len(self.parts)] if len(self.parts) < _PARTS else ():
            depth = max(map(_depth, part)) if isinstance(part, tuple) else _depth(part)
            too_deep = depth >= _DEEP
            self.parts.append(_Thing("…") if too_deep else part)
            self.depth = max(self.depth, 1 if too_deep else depth + 1)


def _depth(value: Any) -> int:
    return value.depth if type(value) is _Thing else 0


_BUILDS: Final = {
    "EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_DICT": "dict", "EMPTY_SET": "set",
    "LIST": "list", "TUPLE": "tuple", "FROZENSET": "frozenset",
    "TUPLE1": "tuple", "TUPLE2": "tuple", "TUPLE3": "tuple",
}  # fmt: skip
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NOTHING: Final = frozenset({"PROTO", "FRAME", "READONLY_BUFFER"})


class _Machine:
    """The stack, the marks and the memo."""

    def __init__(self) -> None:
        self.count = 0
        self._protocol = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._imports: dict[str, bool] = {}  # whether they are dangerous
        self._hidden = False

    def run(self, reader: _Reader, most: int) -> bool:
        """Go on to the end, if it is within so many operations; whether it was."""
        for number in range(most):
            opcode, argument = reader.next()
            self.count = number + 1
            if opcode.name == "STOP":
                if not self._stack:
                    raise DecodeError("it makes nothing")
                return True
            self.do(opcode, argument)
        return False

    def facts(self, ended: bool, told: str) -> PickleFacts:
        hidden = "some of what it imports is named in a way that cannot be told" if self._hidden else ""
        outermost = self._stack[-1:] if ended else [*self._marks, self._stack][0][:1]
        value = "".join(map(_shown, outermost)) + " so far" * (bool(outermost) and not ended)
        warnings = tuple(filter(None, (hidden, told)))
        dangerous = tuple(name for name, is_so in self._imports.items() if is_so)
        return PickleFacts(self._protocol, tuple(self._imports), dangerous, value, self.count, warnings)

    def do(self, opcode: Any, argument: Any) -> None:
        name = opcode.name
        if name in _NOTHING:
            self._protocol = argument if name == "PROTO" else self._protocol
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _BUILDS:
            self._build(name)
        elif (method := _METHODS.get(name)) is not None:
            method(self, argument)
        elif opcode.stack_before == [] and len(opcode.stack_after) == 1:  # numbers and strings
            self._stack.append(argument)
        else:
            raise DecodeError(f"its operation {name} is not known here")

    def _build(self, name: str) -> None:
        if name.startswith("EMPTY_"):
            parts = []
        elif name[-1].isdigit():
            parts = self._popped(int(name[-1]))
        else:
            parts = self._to_mark()
        thing = _Thing(_BUILDS[name])
        thing.take(parts)
        self._stack.append(thing)

    def _popped(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError(count)
        parts = self._stack[-count:]
        del self._stack[-count:]
        return parts

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        parts = self._stack
        self._stack = self._marks.pop()
        return parts

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _dict(self, _: Any) -> None:
        self._stack.append(_Thing("dict"))
        self._items(self._to_mark_below())

    def _to_mark_below(self) -> list[Any]:
        """What lies above the last mark, with what has just been put there moved below it."""
        new = self._stack.pop()
        parts = self._to_mark()
        self._stack.append(new)
        return parts

    def _items(self, parts: list[Any]) -> None:
        self._taken(list(zip(parts[::2], parts[1::2], strict=False)))

    def _taken(self, parts: Sequence[Any]) -> None:
        """Put parts into the container on top."""
        top = self._stack[-1]
        if isinstance(top, _Thing):
            top.take(parts)

    # -- the memo ------------------------------------------------------------------------------------------

    def _put(self, number: Any) -> None:
        self._memo[int(number)] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, number: Any) -> None:
        self._stack.append(self._memo[int(number)])

    # -- imports and calls ---------------------------------------------------------------------------------

    def _named(self, module: Any, name: Any) -> None:
        if type(module) is str and type(name) is str:
            module = _MODULES.get(module, module)
            self._imports[f"{module}.{name}"] = _is_dangerous(module, name)
            self._stack.append(_Thing(f"{module}.{name}"))
        else:
            self._hidden = True
            self._stack.append(_Thing("?"))

    def _global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ") if type(argument) is str else (argument, "", argument)
        self._named(module, name)

    def _stack_global(self, _: Any) -> None:
        self._named(*self._popped(2))

    def _extension(self, number: Any) -> None:
        self._named("copyreg", f"extension {number}")

    def _instance(self, argument: Any) -> None:
        parts = self._to_mark()
        self._global(argument)
        self._call(self._stack.pop(), parts)

    def _object(self, _: Any) -> None:
        called, *parts = self._to_mark()
        self._call(called, parts)

    def _reduce(self, _: Any) -> None:
        called, arguments = self._popped(2)
        self._call(called, arguments.parts if isinstance(arguments, _Thing) else [], arguments)

    def _reduce_with_names(self, _: Any) -> None:
        called, arguments, names = self._popped(3)
        self._call(called, [*(arguments.parts if isinstance(arguments, _Thing) else []), names], arguments)

    def _call(self, called: Any, parts: list[Any], arguments: Any = None) -> None:
        thing = _Thing(f"{called.kind if isinstance(called, _Thing) else called}()")
        thing.take(parts)
        if isinstance(arguments, _Thing):
            thing.count = max(thing.count, arguments.count)
        self._stack.append(thing)

    def _state(self, _: Any) -> None:
        (state,) = self._popped(1)
        self._taken([_State(state)])

    def _persistent(self, argument: Any) -> None:
        if argument is None:
            self._popped(1)
        self._stack.append(_Thing("persistent object"))


class _State(tuple[Any, ...]):
    """What an object is given after it was made."""

    __slots__ = ()

    def __new__(cls, state: Any) -> Self:
        return super().__new__(cls, (state,))


_OPCODES: Final = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

_MODULES: Final = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""As Python 2 called them."""

_METHODS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": lambda machine, _: machine._to_mark().clear(),
    "DUP": lambda machine, _: machine._stack.append(machine._stack[-1]),
    "DICT": _Machine._dict,
    "APPEND": lambda machine, _: machine._taken(machine._popped(1)),
    "APPENDS": lambda machine, _: machine._taken(machine._to_mark()),
    "ADDITEMS": lambda machine, _: machine._taken(machine._to_mark()),
    "SETITEM": lambda machine, _: machine._items(machine._popped(2)),
    "SETITEMS": lambda machine, _: machine._items(machine._to_mark()),
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "EXT1": _Machine._extension,
    "EXT2": _Machine._extension,
    "EXT4": _Machine._extension,
    "INST": _Machine._instance,
    "OBJ": _Machine._object,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._reduce_with_names,
    "BUILD": _Machine._state,
    "PERSID": _Machine._persistent,
    "BINPERSID": _Machine._persistent,
    "NEXT_BUFFER": lambda machine, _: machine._stack.append(_Thing("buffer elsewhere")),
}


def _is_dangerous(module: str, name: str) -> bool:
    full, parts = f"{module}.{name}", name.split(".")
    if full in _NAMES or not _DANGEROUS.isdisjoint(parts[:-1]):  # x.os.system, of whatever imports os
        return True
    modules = module.split(".")
    if any(".".join(modules[:count]) in _DANGEROUS for count in range(1, len(modules) + 1)):
        return True
    ends = ("Error", "Exception", "Warning")
    return module == "builtins" and (name not in _HARMLESS and not name.endswith(ends))


# -- for people --------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    text = _text(value, _LEVELS)
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}…"


def _text(value: Any, levels: int) -> str:
    if isinstance(value, _State):
        return f"state={_text(value[0], levels)}"
    if isinstance(value, tuple):
        return ": ".join(_text(part, levels) for part in value)
    if isinstance(value, bytes | bytearray) and len(value) > _BYTES:
        value = _Thing(type(value).__name__, count=len(value))
    if not isinstance(value, _Thing):
        return repr(value)
    if value.kind in _SKIPPED:
        return f"<{value.kind} of {value.count:,}{'' if value.kind == 'str' else ' bytes'}>"
    more = value.count - len(value.parts)
    parts = [_text(part, levels - 1) for part in value.parts] if levels else ["…"] * bool(value.count)
    parts += [f"… {more:,} more"] if more > 0 and levels else []
    return _bracketed(value.kind, parts)


def _bracketed(kind: str, parts: list[str]) -> str:
    text = ", ".join(parts)
    if kind in ("set", "frozenset") and not parts:
        return f"{kind}()"
    if kind == "tuple":
        return f"({text},)" if len(parts) == 1 else f"({text})"
    if kind.endswith("()"):
        return f"{kind[:-1]}{text})"
    left, right = _BRACKETS.get(kind, (kind, ""))
    return f"{left}{text}{right}"


_SKIPPED: Final = ("str", "bytes", "bytearray", "int")
_BRACKETS: Final = {"list": "[]", "dict": "{}", "set": "{}", "frozenset": ("frozenset({", "})")}
