"""What a pickle would do and hold, told without doing it: its opcodes are read, and nothing is imported or called.

What they do, `pickle_machine` plays; this judges what they import, and writes for people what they make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

from notata.errors import DecodeError
from notata.formats.pickle_machine import Machine, OpcodeReader, State, Thing

__all__ = ["PickleFacts", "pickle_facts"]

_MOST: Final = 300_000  # opcodes: about a second, and at most some 100 MB of stand-ins
_LEVELS: Final = 5  # of containers that are shown
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

    Time and memory are bounded by `most`: about 3 µs for each opcode, besides reading the file. A pickle that is cut
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
    machine = Machine()
    try:
        ended = machine.run(OpcodeReader(file), most)
        if not ended:
            told = f"only its first {machine.count:,} operations were looked at; what follows may import more"
        else:
            told = "more follows its end" if file.read(1) else ""
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, OSError):  # the file's own
            raise
        ended = False
        told = str(error) if isinstance(error, EOFError | DecodeError) else "its operations do not fit together"
        told = f"{told}, after {machine.count:,} operations"
    return _facts(machine, ended, told)


def _facts(machine: Machine, ended: bool, told: str) -> PickleFacts:
    hidden = "some of what it imports is named in a way that cannot be told" if machine.hidden else ""
    value = "".join(map(_shortened, made := machine.made(ended=ended))) + " so far" * (bool(made) and not ended)
    imports = tuple(dict.fromkeys(map(".".join, machine.imports)))
    dangerous = tuple(dict.fromkeys(".".join(one) for one in machine.imports if _is_dangerous(*one)))
    return PickleFacts(machine.protocol, imports, dangerous, value, machine.count, tuple(filter(None, (hidden, told))))


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


def _shortened(value: Any) -> str:
    """Return the text of a value, cut off at `_WIDE` characters; no more of it is made.

    A container is shown as often as it is referred to, so a pickle of 400 bytes may stand for gigabytes of text.
    """
    text = ""
    for part in _text(value, _LEVELS):
        text += part
        if len(text) > _WIDE:
            return f"{text[:_WIDE]}…"
    return text


def _text(value: Any, levels: int) -> Iterator[str]:
    """Give the text of a value in pieces, as far as they are asked for."""
    if isinstance(value, State):
        yield "state="
        yield from _text(value[0], levels)
    elif isinstance(value, tuple):
        yield from _joined([_text(part, levels) for part in value], ": ")
    elif isinstance(value, bytes | bytearray) and len(value) > _BYTES:
        yield from _text(Thing(type(value).__name__, count=len(value)), levels)
    elif not isinstance(value, Thing):
        yield repr(value)
    elif value.kind in _SKIPPED:
        yield f"<{value.kind} of {value.count:,}{'' if value.kind == 'str' else ' bytes'}>"
    else:
        yield from _contents(value, levels)


def _contents(thing: Thing, levels: int) -> Iterator[str]:
    """Give the text of a container."""
    more = thing.count - len(thing.parts)
    parts = [_text(part, levels - 1) for part in thing.parts] if levels else [iter("…")] * bool(thing.count)
    parts += [iter([f"… {more:,} more"])] if more > 0 and levels else []
    left, right = _brackets(thing.kind, len(parts))
    yield left
    yield from _joined(parts, ", ")
    yield right


def _joined(parts: Iterable[Iterator[str]], between: str) -> Iterator[str]:
    for number, part in enumerate(parts):
        if number:
            yield between
        yield from part


def _brackets(kind: str, count: int) -> tuple[str, str]:
    """Return what stands before and after the parts of a container."""
    if kind in ("set", "frozenset") and not count:
        return f"{kind}()", ""
    if kind == "tuple":
        return "(", ",)" if count == 1 else ")"
    if kind.endswith("()"):
        return kind[:-1], ")"
    return _BRACKETS.get(kind, (kind, ""))


_SKIPPED: Final = ("str", "bytes", "bytearray", "int")
_BRACKETS: Final = {"list": ("[", "]"), "dict": ("{", "}"), "set": ("{", "}"), "frozenset": ("frozenset({", "})")}
