"""Files of a run, damaged and forged: bytes changed anywhere, and values changed where a parser reads them."""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any, Final

__all__ = ["changed"]

_NUMBERS: Final = (
    "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1" * 4300, "1" * 5000, "-0", "1e-400", "0.1e308", "9" * 400,
    str(2**63), str(2**64), str(-(2**63)), "1e308", "253402300800", "-62135596801", "0", "true", "null",
)  # fmt: skip

_TEXTS: Final = (
    "", "\\ud800", "\\udfff\\ud800", "a" * 5000, "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999-23:59",
    "2026-02-30T00:00:00", "0001-01-01T00:00:00+23:59", "2026-11-28", "2026-W48-6", "../../etc/passwd", "\\u0000",
    "complete", "failed", "replacing", "initialized", "=1+1", "\\u001b]0;x\\u0007", "s3://user:key@host/x", "%s%n{0}",
    "{a}", "\\u202e", "x/y", "C:\\\\x", "nan", "host:1:2", "1:2:3:4", "log_", "\\ufeff", "0" * 64, "zz",
)  # fmt: skip

_NAMES: Final = (
    "status", "lease", "heartbeat", "beat", "pid", "process", "host", "owner", "start_time", "end_time", "runtime_sec",
    "row", "params", "metrics", "resumes", "mirror", "workers", "environment", "failure_reason", "frames", "line",
    "file", "type", "message", "files", "size", "sha256", "etag", "created", "run_id", "dt", "error", "metrics_file",
    "metrics_version", "metrics_error", "copied", "time", "failure_type", "git", "packages", "argv", "md5", "version",
    "series_summary", "params.yaml", "artifacts/metrics.json", "series/scalars.jsonl",
)  # fmt: skip


def changed(random_: random.Random, path: str, data: bytes) -> bytes:
    """Return changed content for a file: damaged, or forged in its own format."""
    way = random_.random()
    if way < 0.35:
        return _damaged(random_, data)
    if way < 0.4:
        return random_.choice(_WHOLE)(random_)
    forged = _FORGERS.get(path.rpartition(".")[2], _damaged)
    return forged(random_, data)


# -- any bytes -----------------------------------------------------------------------------------------------

_PIECES: Final = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"[", b"{", b"}", b"]", b'"', b",", b":", b"\n", b"\r\n", b"\\",
    b"\\ud800", b"&a [*a]", b"*a", b"<<: *a\n", b"!!pairs ", b"- ", b"? ", b"1" * 5000, b"Level 9",
    b"[2026-01-01T00:00:00]",
    b"NaN", b"1e999", b"PK\x05\x06", b"\x93NUMPY", b"\x80\x05", b"\xed\xa0\x80", b"\x1b[2J", b"'", b"~", b"0x", b"=",
)  # fmt: skip


def _damaged(random_: random.Random, data: bytes) -> bytes:
    for _ in range(random_.choice((1, 1, 2, 4, 8))):
        at, to = sorted(random_.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + random_.choice((1, 4, 16, 64, 1024)))
        way = random_.randrange(7)
        if way == 0:
            data = data[:at]
        elif way == 1:
            data = data[:at] + data[to:]
        elif way == 2:
            data = data[:at] + data[at:to] * random_.choice((2, 3, 50)) + data[to:]
        elif way == 3:
            data = data[:at] + random_.randbytes(to - at) + data[to:]
        elif way == 4:
            data = data[:at] + random_.choice(_PIECES) * random_.choice((1, 1, 3, 200)) + data[at:]
        elif way == 5 and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << random_.randrange(8))]) + data[at + 1 :]
        else:
            data = data[:at] + random_.choice((b"\xff", b"\0", b"\x7f\xff\xff\xff", b"\x80")) + data[at + 1 :]
    return data


def _empty(_: random.Random) -> bytes:
    return b""


def _noise(random_: random.Random) -> bytes:
    return random_.randbytes(random_.choice((1, 10, 1000)))


def _deep(random_: random.Random) -> bytes:
    levels = random_.choice((90, 300, 900, 1100, 5000, 100_000))
    kind = random_.choice((b"[", b'{"a":', b'[{"a":', b"- "))
    end = {b"[": b"]", b'{"a":': b"}", b'[{"a":': b"}]", b"- ": b""}[kind]
    return random_.choice((b"", b'{"params":', b'{"row": {"params":', b"a: ")) + kind * levels + b"1" + end * levels


def _zeros(random_: random.Random) -> bytes:
    return bytes(random_.choice((10, 10_000, 3_000_000)))


def _one_line(random_: random.Random) -> bytes:
    return random_.choice((b"a", b" ", b"\n", b"[", b",", b'"', b"9", b"\xc3\xa9")) * random_.choice((100, 300_000))


_WHOLE: Final[tuple[Callable[[random.Random], bytes], ...]] = (_empty, _noise, _deep, _zeros, _one_line)


# -- JSON and YAML -------------------------------------------------------------------------------------------


class _Raw:
    """Text that is inserted into JSON or YAML unchanged."""

    def __init__(self, text: str) -> None:
        self.text = text


def _value(random_: random.Random, levels: int = 3) -> Any:
    way = random_.randrange(8)
    if way < 3:
        return _Raw(random_.choice(_NUMBERS))
    if way < 6 or not levels:
        return _Raw(f'"{random_.choice(_TEXTS)}"')
    if way == 6:
        return [_value(random_, levels - 1) for _ in range(random_.randrange(4))]
    return {random_.choice(_NAMES): _value(random_, levels - 1) for _ in range(random_.randrange(4))}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a value with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(value, key), *_places(item)]]


def _changed_value(random_: random.Random, value: Any) -> Any:
    for _ in range(random_.choice((1, 1, 2, 5))):
        places = _places(value)
        if not places or random_.random() < 0.05:
            return _value(random_)
        container, key = random_.choice(places)
        way = random_.randrange(6)
        if way == 0:
            del container[key]
        elif way == 1 and isinstance(container, dict):
            container[random_.choice((*_NAMES, "\ud800", "", "a.b", "x" * 300))] = _value(random_)
        elif way == 2:
            other, there = random_.choice(places)
            container[key] = json.loads(json.dumps(other[there], default=str)) if there in range(0) else _value(random_)
        else:
            container[key] = _value(random_)
    return value


def _written(value: Any) -> str:
    if isinstance(value, _Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value)


def _json(random_: random.Random, data: bytes) -> bytes:
    text = _written(_changed_value(random_, json.loads(data)))
    return text.encode(random_.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32")))


_SCALARS: Final = (
    "1" + ":59" * 3000, "0x" + "f" * 5000, "0b1", "1e400", ".inf", "-.INF", ".nan", "2026-99-99",
    "2001-12-14t21:59:43.10-99:99",
    "!!binary zzz", "!!python/name:os.system", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1, a: 2]", "~", "yes",
    "*none",
    "!!int a", "!!float x", "!!timestamp x", "!!bool x", "!!null x", "!!map []", "!!seq {}", "!!str [a]", "!<x> y",
    "=", "<<",
    "0o7", "190:20:30.15", "[[[[]]]]", "{? [a] : b}", "{1: 2, 1.0: 3}", "2026-01-01", "2026-01-01T00:00:00Z",
    "0001-01-01",
    '"\\ud800"', '"\\x00"', "'a''b'", "|\n  text\n", ">-\n  folded\n", "&x [*x]", "!!merge a", "10:10:10:10:10.5",
)  # fmt: skip


def _yaml(random_: random.Random, data: bytes) -> bytes:
    way = random_.randrange(4)
    if way == 0:
        return _aliases(random_)
    lines = data.decode().splitlines() or ["a: 1"]
    for _ in range(random_.choice((1, 2, 4))):
        name = random_.choice((*_NAMES, "? [a]", "1", "null", "<<", "2026-01-01", "!!binary YQ==", "&k k"))
        lines.insert(random_.randrange(len(lines) + 1), f"{name}: {random_.choice(_SCALARS)}")
    text = "\n".join(lines)
    return text.encode(random_.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16")))


def _aliases(random_: random.Random) -> bytes:
    """Return nested collections; each contains the previous one several times."""
    tag = random_.choice(("", "!!pairs ", "!!omap ", "!!set "))
    width, levels = random_.choice((2, 9, 30)), random_.choice((2, 5, 12, 40))
    item = {"": "{}", "!!pairs ": "x: {}", "!!omap ": "{}: {}", "!!set ": "{}"}[tag]
    lines = ["a0: &a0 " + random_.choice(("[lol, lol]", "{k: 1}", f'"{"a" * random_.choice((3, 10_000))}"'))]
    merge = random_.random() < 0.3
    for level in range(1, levels):
        above = [f"*a{level - 1} "] * width
        inside = ", ".join(item.format(*[alias] * item.count("{}")) for alias in above)
        brackets = ("{", "}") if tag == "!!set " else ("[", "]")
        body = f"\n  <<: [{', '.join(above)}]" if merge else f" {tag}{brackets[0]}{inside}{brackets[1]}"
        lines.append(f"a{level}: &a{level}{body}")
    return "\n".join(lines).encode()


# -- the log, and the table ----------------------------------------------------------------------------------


_STAMPS: Final = (
    b"2026-11-28T12:00:00", b"0001-01-01T00:00:00", b"9999-12-31T23:59:59", b"2026-13-01T00:00:00",
    "٢٠٢٦-11-28T12:00:00".encode(),
)  # fmt: skip


def _log(random_: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    for _ in range(random_.choice((1, 3, 10))):
        stamp = random_.choice(_STAMPS)
        level = random_.choice(
            (b"INFO", b"Level " + b"9" * 5000, b"Level -1", b"Level-" + b"8" * 400, b"\xff", b"ERROR", "É".encode())
        )
        line = random_.choice(
            (b"[" + stamp + b"] " + level + b" text \xed\xa0\x80\xff", b"  indented", b"\0" * 50, b"\r", b"x" * 10_000)
        )
        lines.insert(random_.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def _csv(random_: random.Random, data: bytes) -> bytes:
    rows = [line.split(",") for line in data.decode().split("\n")]
    for _ in range(random_.choice((1, 2, 5))):
        row = random_.choice(rows)
        cell = random_.choice((
            *_NUMBERS[:8], '"""\\ud800"""', '"[' + "[" * 2000 + '"', '"{""a"": 1e999}"', "nan", "True", "null", '"',
            '""', "\ufeff",
            "+5", ".5", "1_0", "٣", "params.x", "metrics.x", "run_id", "status", "revision", "x" * 40_000, '"a\nb"',
            "[1,2", "{}",
        ))  # fmt: skip
        way = random_.randrange(4)
        if way == 0:
            row.insert(random_.randrange(len(row) + 1), cell)
        elif way == 1:
            rows.insert(random_.randrange(len(rows) + 1), list(row))
        else:
            row[random_.randrange(len(row))] = cell
    return "\n".join(map(",".join, rows)).encode("utf-8", random_.choice(("surrogatepass", "backslashreplace")))


# -- arrays, pickles -----------------------------------------------------------------------------------------

_HEADERS: Final = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (%s, %s), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (%s,), }",
    "{'descr': '<U%s', 'fortran_order': True, 'shape': (1,), }",
    "{'descr': '|V%s', 'fortran_order': False, 'shape': (0,), }",
    "{'descr': [('a', '<f8', (%s,))], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': [('a', '|O'), ('b', '<M8[s]')], 'fortran_order': False, 'shape': (%s,), }",
    "{'descr': '<M8[%s]', 'fortran_order': False, 'shape': (), }",
    "{'descr': '<m8[Y]', 'fortran_order': 1, 'shape': (%s,), }", "[" * 200,
    "{'descr': '<c16', 'fortran_order': False, 'shape': (%s,)}",
    "{'descr': '>f2', 'fortran_order': False, 'shape': %s, }",
    "{'descr': '<g', 'fortran_order': False, 'shape': (%s,)}", "%s", "{}",
)  # fmt: skip
_SIZES: Final = (
    "0",
    "1",
    "2",
    "-1",
    "10**9",
    str(2**31),
    str(2**62),
    str(2**63),
    "9" * 4000,
    "1L",
    "True",
    "1,1,1",
    "()",
    "1.5",
)


def _npy_bytes(random_: random.Random) -> bytes:
    header = random_.choice(_HEADERS).replace("%s", random_.choice(_SIZES)).encode("latin-1")
    version = random_.choice((b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\0"))
    packed = struct.pack("<H", len(header) % 65536) if version == b"\x01\0" else struct.pack("<I", len(header))
    return b"\x93NUMPY" + version + packed + header + random_.randbytes(random_.choice((0, 8, 100, 5000)))


def _npy(random_: random.Random, _: bytes) -> bytes:
    return _npy_bytes(random_)


def _npz(random_: random.Random, data: bytes) -> bytes:
    if random_.random() < 0.3:  # the end, which contains sizes and offsets
        return data[:-60] + _damaged(random_, data[-60:])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random_.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in random_.sample(
            ["x.npy", "y.npy", "z", "../a.npy", "é.npy", ".npy", "a/b.npy"], random_.randrange(5)
        ):
            archive.writestr(name, _npy_bytes(random_))
        if random_.random() < 0.02:
            archive.writestr(
                "zeros.npy",
                b"\x93NUMPY\x01\0\x46\0"
                + b"{'descr': '|u1', 'fortran_order': False, 'shape': (20000000,), }".ljust(69)
                + b"\n"
                + bytes(20_000_000),
            )
    made = file.getvalue()
    return _damaged(random_, made) if random_.random() < 0.4 else made


_OPCODES: Final = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def _pickle(random_: random.Random, _data: bytes) -> bytes:
    parts = [b"\x80" + bytes([random_.randrange(7)])]
    for _ in range(random_.choice((3, 30, 300))):
        way = random_.randrange(10)
        if way == 0:
            parts.append(
                b"X" + struct.pack("<i", length := random_.choice((0, 5, 200, 201, -1))) + b"\x01" * max(0, length)
            )
        elif way == 1:
            parts.append(b"c" + random_.choice((b"os\nsystem\n", b"builtins\neval\n", b"a b\nc d\n", b"\xff\n\xff\n")))
        elif way == 2:
            parts.append(random_.choice((b"q\x00", b"h\x00", b"\x94", b"h\x01", b"q\x01", b"p5000000000\n", b"g1\n")))
        elif way == 3:
            parts.append(
                random_.choice(
                    (
                        b"(h\x00h\x00h\x00h\x00u",
                        b"}(h\x00h\x00u",
                        b"](h\x00h\x00h\x00e",
                        b")R",
                        b")\x81",
                        b"\x85",
                        b"\x86",
                        b"2",
                    )
                )
            )
        elif way == 4:
            parts.append(
                random_.choice(
                    (
                        b"L" + b"9" * 6000 + b"\n",
                        b"I01\n",
                        b"F1e999\n",
                        b"S'\\q\\xZZ'\n",
                        b"V\\ud800\n",
                        b"\x8a\xff",
                        b"K\x01",
                    )
                )
            )
        else:
            parts.append(random_.choice(_OPCODES) + random_.randbytes(random_.choice((0, 0, 1, 4))))
    return b"".join(parts) + random_.choice((b".", b"", b".more"))


_FORGERS: Final[dict[str, Callable[[random.Random, bytes], bytes]]] = {
    "csv": _csv, "json": _json, "npy": _npy, "npz": _npz, "pkl": _pickle, "txt": _log, "yaml": _yaml,
}  # fmt: skip
