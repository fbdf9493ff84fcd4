"""Simulate the machine that runs pickles, with stand-ins for values: it imports and calls nothing.

Numbers and short strings are kept. Everything else is a `Thing` with its kind, its first parts and their number. Long
strings and buffers are skipped, so that a pickle of gigabytes needs little memory and few reads.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Self

from notata.errors import DecodeError

__all__ = ["Machine", "OpcodeReader", "State", "Thing"]

_LONG: Final = 200  # characters or bytes of the longest value to keep
_LINE: Final = 4096  # bytes of a line to examine, in the text of protocol 0
_PIECE: Final = 2**20
_PARTS: Final = 8  # parts of a container to keep
_DEEP: Final = 30  # levels of containers to keep
_KEPT: Final = 2**25  # bytes of values and names to keep in total
_IMPORTS: Final = 10_000  # imports to keep
_LONGEST_LINE: Final = 2**26  # bytes of a line to skip


class OpcodeReader:
    """Reads the opcodes of a file one by one, and skips long arguments.

    Attributes:
        kept: Bytes of the arguments returned so far.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.kept = 0

    def next(self) -> tuple[Any, Any]:
        """Return the next opcode of `pickletools`, and its argument."""
        code = self._file.read(1)
        if not code:
            raise EOFError("it is truncated")
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise DecodeError(f"it is not a pickle, or it is damaged: there is no operation {code!r}")
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
            return Thing(_kind_of(kind), count=length)
        return kind.reader(io.BytesIO(head + self._exactly(length)))

    def _text(self, kind: Any) -> Any:
        """Read an argument that ends with its line, or with the second line."""
        lines = [self._line() for _ in range(2 if kind.name == "stringnl_noescape_pair" else 1)]
        self.kept += sum(map(len, lines))
        if any(len(line) > _LONG + 1 for line in lines):
            return Thing(_kind_of(kind), count=sum(map(len, lines)))
        try:
            return kind.reader(io.BytesIO(b"".join(lines)))
        except UnicodeDecodeError:  # bytes, as written by Python 2
            return Thing(_kind_of(kind), count=sum(map(len, lines)))

    def _line(self) -> bytes:
        """Read a line with its end; return only the beginning of a long one."""
        line = piece = self._file.readline(_LINE)
        skipped = 0
        while piece and not piece.endswith(b"\n"):
            piece = self._file.readline(_PIECE)
            skipped += len(piece)
            if skipped > _LONGEST_LINE:
                raise DecodeError("it is not a pickle, or it is damaged: one of its lines does not end")
        if not piece:
            raise EOFError("it is truncated")
        return line

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError("it is truncated")
        self.kept += size
        return data

    def _skip(self, length: int) -> None:
        """Skip `length` bytes; the last one is read, to check that it exists."""
        try:
            self._file.seek(length - 1, io.SEEK_CUR)
        except OverflowError as error:  # larger than any file
            raise EOFError("it is truncated") from error
        self._exactly(1)


def _kind_of(kind: Any) -> str:
    if "long" in kind.name or "decimal" in kind.name:
        return "int"
    if "unicode" in kind.name or "string" in kind.name:
        return "str"
    return "bytearray" if "bytearray" in kind.name else "bytes"


@dataclass(slots=True)
class Thing:
    """A stand-in for a value.

    Attributes:
        kind: Its type, or the callable that made it.
        parts: Its first parts; for a dict, pairs.
        count: The number of its parts, or its length.
        depth: Number of kept levels below it.
    """

    kind: str
    parts: list[Any] = field(default_factory=list)
    count: int = 0
    depth: int = 0

    def add(self, parts: Sequence[Any]) -> None:
        """Add parts."""
        self.count += len(parts)
        for part in parts[: _PARTS - len(self.parts)] if len(self.parts) < _PARTS else ():
            depth = max(map(_depth, part)) if isinstance(part, tuple) else _depth(part)
            too_deep = depth >= _DEEP
            self.parts.append(Thing("…") if too_deep else part)
            self.depth = max(self.depth, 1 if too_deep else depth + 1)


def _depth(value: Any) -> int:
    return value.depth if type(value) is Thing else 0


_BUILDS: Final = {
    "EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_DICT": "dict", "EMPTY_SET": "set",
    "LIST": "list", "TUPLE": "tuple", "FROZENSET": "frozenset",
    "TUPLE1": "tuple", "TUPLE2": "tuple", "TUPLE3": "tuple",
}  # fmt: skip
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NOTHING: Final = frozenset({"PROTO", "FRAME", "READONLY_BUFFER"})


class Machine:
    """The state of the simulation: stack, marks and memo.

    Attributes:
        count: Number of operations done.
        protocol: The protocol that the pickle states.
        imports: Modules and names that reading it would import, in order, each once.
        hidden: Whether the name of an import cannot be determined.
    """

    def __init__(self) -> None:
        self.count = 0
        self.protocol = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.imports: dict[tuple[str, str], None] = {}
        self.hidden = False

    def run(self, reader: OpcodeReader, most: int) -> bool:
        """Run up to `most` operations, within bounds of memory. Return whether the end was reached."""
        with warnings.catch_warnings(action="ignore"):  # about invalid escapes in a string
            return self._run(reader, most)

    def _run(self, reader: OpcodeReader, most: int) -> bool:
        for number in range(most):
            if reader.kept > _KEPT or len(self.imports) > _IMPORTS:
                return False
            opcode, argument = reader.next()
            self.count = number + 1
            if opcode.name == "STOP":
                if not self._stack:
                    raise DecodeError("it does not create a value")
                return True
            self.do(opcode, argument)
        return False

    def made(self, *, ended: bool) -> list[Any]:
        """Return the finished value or, before the end, the outermost unfinished one, as a list of at most one."""
        return self._stack[-1:] if ended else [*self._marks, self._stack][0][:1]

    def do(self, opcode: Any, argument: Any) -> None:
        """Do one operation."""
        name = opcode.name
        if name in _NOTHING:
            self.protocol = argument if name == "PROTO" else self.protocol
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _BUILDS:
            self._build(name)
        elif (method := _METHODS.get(name)) is not None:
            method(self, argument)
        elif opcode.stack_before == [] and len(opcode.stack_after) == 1:  # numbers and strings
            self._stack.append(argument)
        else:
            raise DecodeError(f"its operation {name} is not supported here")

    def _build(self, name: str) -> None:
        if name.startswith("EMPTY_"):
            parts = []
        elif name[-1].isdigit():
            parts = self._popped(int(name[-1]))
        else:
            parts = self._to_mark()
        thing = Thing(_BUILDS[name])
        thing.add(parts)
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
        self._stack.append(Thing("dict"))
        self._items(self._to_mark_below())

    def _to_mark_below(self) -> list[Any]:
        """Pop the values above the last mark, except the newest one, which moves below it."""
        new = self._stack.pop()
        parts = self._to_mark()
        self._stack.append(new)
        return parts

    def _items(self, parts: list[Any]) -> None:
        self._taken(list(zip(parts[::2], parts[1::2], strict=False)))

    def _taken(self, parts: Sequence[Any]) -> None:
        """Add parts to the container on top of the stack."""
        top = self._stack[-1]
        if isinstance(top, Thing):
            top.add(parts)

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
            self.imports[module, name] = None
            self._stack.append(Thing(f"{module}.{name}"))
        else:
            self.hidden = True
            self._stack.append(Thing("?"))

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
        self._call(called, arguments.parts if isinstance(arguments, Thing) else [], arguments)

    def _reduce_with_names(self, _: Any) -> None:
        called, arguments, names = self._popped(3)
        self._call(called, [*(arguments.parts if isinstance(arguments, Thing) else []), names], arguments)

    def _call(self, called: Any, parts: list[Any], arguments: Any = None) -> None:
        kind = called.kind if isinstance(called, Thing) else str(called)
        thing = Thing(kind if len(kind) > 3 * _LONG else f"{kind}()")  # repeated calls would make it ever longer
        thing.add(parts)
        if isinstance(arguments, Thing):
            thing.count = max(thing.count, arguments.count)
        self._stack.append(thing)

    def _state(self, _: Any) -> None:
        (state,) = self._popped(1)
        self._taken([State(state)])

    def _persistent(self, argument: Any) -> None:
        if argument is None:
            self._popped(1)
        self._stack.append(Thing("persistent object"))


class State(tuple[Any, ...]):
    """The state that an object receives after it was made."""

    __slots__ = ()

    def __new__(cls, state: Any) -> Self:
        return super().__new__(cls, (state,))


_OPCODES: Final = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

_MODULES: Final = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Python 2's names of modules."""

_METHODS: Final[dict[str, Callable[[Machine, Any], None]]] = {
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": lambda machine, _: machine._to_mark().clear(),
    "DUP": lambda machine, _: machine._stack.append(machine._stack[-1]),
    "DICT": Machine._dict,
    "APPEND": lambda machine, _: machine._taken(machine._popped(1)),
    "APPENDS": lambda machine, _: machine._taken(machine._to_mark()),
    "ADDITEMS": lambda machine, _: machine._taken(machine._to_mark()),
    "SETITEM": lambda machine, _: machine._items(machine._popped(2)),
    "SETITEMS": lambda machine, _: machine._items(machine._to_mark()),
    "GET": Machine._get,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "PUT": Machine._put,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._memoize,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "EXT1": Machine._extension,
    "EXT2": Machine._extension,
    "EXT4": Machine._extension,
    "INST": Machine._instance,
    "OBJ": Machine._object,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._reduce_with_names,
    "BUILD": Machine._state,
    "PERSID": Machine._persistent,
    "BINPERSID": Machine._persistent,
    "NEXT_BUFFER": lambda machine, _: machine._stack.append(Thing("buffer elsewhere")),
}
