"""Describe a pickle without running it: the opcodes are read, and nothing is imported or called.

`pickle_machine` simulates the opcodes. This module classifies the imports and formats the simulated value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

from notata.errors import DecodeError
from notata.formats.pickle_machine import Machine, OpcodeReader, State, Thing

__all__ = ["PickleFacts", "pickle_facts"]

_MOST: Final = 300_000  # opcodes: about a second, and at most about 100 MB of stand-ins
_LEVELS: Final = 5  # levels of containers to show
_BYTES: Final = 16  # bytes of a buffer to show
_WIDE: Final = 2000  # characters to show

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
"""Modules that start processes, access files or the network, or run given code."""

_HARMLESS: Final = frozenset({
    "bool", "bytearray", "bytes", "complex", "dict", "Ellipsis", "float", "frozenset", "int", "list", "NotImplemented",
    "object", "range", "reversed", "set", "slice", "str", "tuple",
})  # fmt: skip
"""Builtins that only make values; exceptions are recognized by their names."""

_NAMES: Final = frozenset({
    "_io.FileIO", "_io.open", "_io.open_code", "builtins.map", "codecs.open", "functools.reduce", "io.FileIO",
    "io.open", "io.open_code", "logging.FileHandler", "numpy.fromfile", "numpy.load", "numpy.loadtxt", "numpy.memmap",
    "numpy.savetxt", "numpy.testing._private.utils.runstring", "operator.attrgetter", "operator.methodcaller",
    "pandas.eval", "pandas.read_pickle", "torch.load", "torch.serialization.load",
})  # fmt: skip
"""Single functions that call given functions, or read pickles themselves."""


@dataclass(frozen=True, slots=True)
class PickleFacts:
    """Facts about a pickle.

    Attributes:
        protocol: Of the pickle; 0 if it states none.
        imports: The modules and names that reading it would import, such as ``numpy.dtype``, in order. Reading it may
            also call them.
        dangerous: The imports that start processes, access files or the network, or run code. Other imports may do so
            too: classes run the code of their packages.
        value: The value that it would make, as far as the opcodes show.
        operations: Number of opcodes examined.
        warnings: Problems, such as a missing end, or that only a part was examined.
    """

    protocol: int = 0
    imports: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()
    value: str = ""
    operations: int = 0
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the facts as lines of text."""
        lines = [f"pickle of protocol {self.protocol}, not loaded, because loading it would run code of its author"]
        lines += [f"value: {self.value}"] if self.value else []
        lines += [f"imports: {', '.join(self.imports)}"] if self.imports else ["imports: nothing"]
        lines += [f"DANGEROUS: {', '.join(self.dangerous)}"] if self.dangerous else []
        return lines + [f"warning: {warning}" for warning in self.warnings]


def pickle_facts(file: IO[bytes], most: int = _MOST) -> PickleFacts:
    r"""Read the opcodes of a pickle; nothing is imported, called or unpickled.

    Time and memory are bounded by `most`: about 3 µs for each opcode, besides reading the file. A pickle that is cut
    Time and memory are bounded by `most`: about 3 µs for each opcode, plus reading the file. A truncated pickle, or a
    file that is none, is described as far as possible, with a warning.

    Args:
        file: A seekable binary file object; long values in it are skipped.
        most: Largest number of opcodes to examine.

    References:
        PEP 3154; `pickletools`, whose opcode table this uses.

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
            note = f"only the first {machine.count:,} operations were examined; the rest may import more"
        else:
            note = "there is more data after its end" if file.read(1) else ""
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, OSError):  # an error of the file itself
            raise
        ended = False
        note = str(error) if isinstance(error, EOFError | DecodeError) else "its operations are inconsistent"
        note = f"{note}, after {machine.count:,} operations"
    return _facts(machine, ended, note)


def _facts(machine: Machine, ended: bool, note: str) -> PickleFacts:
    hidden = "some of its imports have names that cannot be determined" if machine.hidden else ""
    value = "".join(map(_shortened, made := machine.made(ended=ended))) + " so far" * (bool(made) and not ended)
    imports = tuple(dict.fromkeys(map(".".join, machine.imports)))
    dangerous = tuple(dict.fromkeys(".".join(one) for one in machine.imports if _is_dangerous(*one)))
    return PickleFacts(machine.protocol, imports, dangerous, value, machine.count, tuple(filter(None, (hidden, note))))


def _is_dangerous(module: str, name: str) -> bool:
    full, parts = f"{module}.{name}", name.split(".")
    if full in _NAMES or not _DANGEROUS.isdisjoint(parts[:-1]):  # x.os.system, for any x that imports os
        return True
    modules = module.split(".")
    if any(".".join(modules[:count]) in _DANGEROUS for count in range(1, len(modules) + 1)):
        return True
    ends = ("Error", "Exception", "Warning")
    return module == "builtins" and (name not in _HARMLESS and not name.endswith(ends))


# -- text --------------------------------------------------------------------------------------------------


def _shortened(value: Any) -> str:
    """Return the text of a value, cut at `_WIDE` characters, without making the rest.

    A container is shown once for each reference, so a pickle of 400 bytes may stand for gigabytes of text.
    """
    text = ""
    for part in _text(value, _LEVELS):
        text += part
        if len(text) > _WIDE:
            return f"{text[:_WIDE]}…"
    return text


def _text(value: Any, levels: int) -> Iterator[str]:
    """Yield the text of a value in pieces, as needed."""
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
    """Yield the text of a container."""
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
    """Return the text before and after the parts of a container."""
    if kind in ("set", "frozenset") and not count:
        return f"{kind}()", ""
    if kind == "tuple":
        return "(", ",)" if count == 1 else ")"
    if kind.endswith("()"):
        return kind[:-1], ")"
    return _BRACKETS.get(kind, (kind, ""))


_SKIPPED: Final = ("str", "bytes", "bytearray", "int")
_BRACKETS: Final = {"list": ("[", "]"), "dict": ("{", "}"), "set": ("{", "}"), "frozenset": ("frozenset({", "})")}
