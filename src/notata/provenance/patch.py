"""Describe the changes of a checkout against its commit as a patch that ``git apply`` accepts.

Git compares the text of changed files; this module writes the other parts itself: deletions, new files, and binary
files. So the patch has no content of deleted files, and secrets are found before a content is encoded. Each part, the
changes of one file, has its secrets redacted line by line, so that the other files can still be applied.

Large files and those that a filter of git changes, such as Git LFS, are left out. The head of the patch names them.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
import stat
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from notata._base.secrets import HIDDEN, redacted
from notata._base.terminal import one_line
from notata.provenance.files import Budget, digest_of, has_secrets, read_regular
from notata.provenance.git import Change, Checkout, output

__all__ = ["BINARY", "HASHED", "MOST", "Omitted", "Patch", "changed_files", "new_file"]

MOST: Final = 2**20
"""Bytes of a patch."""

BINARY: Final = 2**16
"""Bytes of a binary file in a patch."""

HASHED: Final = 64 * 2**20
"""Bytes of files that are read for their digest, as they are not in a patch."""

_FILES: Final = 500  # changed files whose text git compares
SECONDS: Final = 3.0  # time limit of git
HASHING: Final = 1.0  # seconds in which files are read for their digest
_NAMED: Final = 20  # files that metadata.json names; the head of a patch names more
_HEADED: Final = 1000
_SECTION: Final = b"diff --git "
_BINARY_MARK: Final = b"\nGIT binary patch\n"  # lines of text files begin with a space, + or -
_FULL: Final = "the patch would be too large"
_SECRET: Final = "it contains secrets"
_SLOW: Final = "it took too long"
_UNFILTERED: Final = (b"unspecified", b"unset", b"")
_ABSENT: Final = "000000"
_LINK: Final = "120"
_NOT_ENDED: Final = b"\n\\ No newline at end of file\n"
_KEY: Final = re.compile(rb"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL)
_LINES: Final = re.compile(rb"(\n[-+ ])[^\n]+")
_PLAIN_NAME: Final = re.compile(rb"[^\x00-\x1f\x7f-\xff\"\\]*")
_ESCAPES: Final = {b"\a": b"a", b"\b": b"b", b"\t": b"t", b"\n": b"n", b"\v": b"v", b"\f": b"f", b"\r": b"r"}

_DIFF: Final = (
    *("-c", "core.quotePath=true"),
    *("-c", "core.safecrlf=false"),
    *("-c", "diff.noprefix=false"),
    *("-c", "diff.mnemonicPrefix=false"),
    *("-c", "diff.suppressBlankEmpty=false"),
    "diff",
    *("--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative", "--no-color", "--full-index"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0", "--submodule=short"),
    "--ignore-submodules=all",
)


@dataclass(frozen=True, slots=True)
class Omitted:
    """A changed file that is not in the patch.

    Attributes:
        path: Relative to the top of the checkout.
        why: The reason.
        size: Its size in bytes; None if it has none.
        sha256: Its digest, hexadecimal; empty if it was not read.
    """

    path: str
    why: str
    size: int | None = None
    sha256: str = ""

    def record(self) -> dict[str, Any]:
        """Return its fields as plain values."""
        known = {"size": self.size, "sha256": self.sha256 or None}
        shown = {"path": shown_path(self.path), "why": self.why}
        return {**shown, **{name: value for name, value in known.items() if value is not None}}


@dataclass(slots=True)
class Patch:
    """A patch that grows part by part.

    Attributes:
        commit: The commit that it applies to.
        parts: The changes of each file.
        redacted: Paths of files in whose changes something was redacted.
        omitted: Files that are left out.
    """

    commit: str
    parts: list[bytes] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    omitted: list[Omitted] = field(default_factory=list)
    left: int = MOST

    def add(self, path: str, part: bytes) -> bool:
        """Add the changes of a file, with secrets redacted. Return False if the patch would be too large."""
        if len(part) > self.left:  # before the search for secrets, which takes 0.1 s for a megabyte
            return False
        shown = _redacted_part(part)
        if shown != part:
            self.redacted.append(path)
        self.parts.append(shown)
        self.left -= len(shown)
        return True

    def encode(self) -> bytes:
        """Return the content of the file; empty if there are no changes."""
        if not self.parts and not self.omitted:
            return b""
        lines = [f"Changes of the checkout against commit {self.commit}, for git apply."]
        if self.redacted:
            lines.append(f"Secrets are replaced by {HIDDEN} in:")
            lines += [f"  {one_line(shown_path(path), 1000)}" for path in self.redacted[:_HEADED]]
        if self.omitted:
            lines.append("Left out:")
            lines += [f"  {_omitted_line(one)}" for one in self.omitted[:_HEADED]]
            if len(self.omitted) > _HEADED:
                lines.append(f"  and {len(self.omitted) - _HEADED} more")
        head = "".join(f"# {line}\n" for line in lines)
        return head.encode("utf-8", "backslashreplace") + b"".join(self.parts)

    def facts(self, data: bytes) -> dict[str, Any]:
        """Return what metadata.json says about the patch with this content."""
        facts: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if self.redacted:
            facts |= {"redacted": True, "redacted_files": [shown_path(path) for path in self.redacted[:_NAMED]]}
        if self.omitted:
            facts["omitted"] = [one.record() for one in self.omitted[:_NAMED]]
            if len(self.omitted) > _NAMED:
                facts["omitted_more"] = len(self.omitted) - _NAMED
        return facts


def shown_path(path: str) -> str:
    """Return the name of a file as text that UTF-8 can encode, with secrets redacted."""
    return redacted(path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _omitted_line(one: Omitted) -> str:
    size = "" if one.size is None else f"{one.size} bytes"
    facts = filter(None, [one.why, size, one.sha256 and f"SHA-256 {one.sha256}"])
    return f"{one_line(shown_path(one.path), 1000)} ({', '.join(facts)})"


def changed_files(checkout: Checkout, commit: str) -> Patch:
    """Return the changes of the tracked files of a checkout. At most two calls of git.

    Args:
        checkout: The checkout.
        commit: Its commit.
    """
    return _Builder(checkout, commit).build()


class _Builder:
    """Builds the patch of one checkout."""

    def __init__(self, checkout: Checkout, commit: str) -> None:
        self._checkout = checkout
        self._until = time.monotonic() + SECONDS
        self._budget = Budget(HASHED, time.monotonic() + SECONDS + HASHING)
        self._patch = Patch(commit)

    def build(self) -> Patch:
        compared: list[Change] = []
        for change in self._unfiltered():
            if change.submodule:
                self._omit(change, "a submodule")
            elif not change.blob and change.after == _ABSENT:
                self._omit(change, "it has a conflict")
            elif change.before != _ABSENT and change.before[:3] != change.after[:3]:
                self._replace(change)
            elif change.before == _ABSENT:
                self._add_new(change)
            elif len(compared) == _FILES or (self._size(change) or 0) > MOST:
                self._omit(change, f"more than {_FILES} files" if len(compared) == _FILES else "too large")
            elif not self._is_readable(change):  # git would fail, and not compare the others either
                self._omit(change, "it cannot be read")
            else:
                compared.append(change)
        if compared:
            self._compare(compared)
        return self._patch

    def _unfiltered(self) -> Iterator[Change]:
        """Yield the changes of files that no filter changes. One call of git if there are filters."""
        changes = self._checkout.changes
        if not self._checkout.filters or not changes:
            yield from changes
            return
        asked = [change.path for change in changes[: 4 * _FILES]]
        found = output(self._checkout.top, self._until, "check-attr", "-z", "filter", "--", *asked)
        fields = [] if found is None else found.split(b"\0")
        off = {
            os.fsdecode(path) for path, value in zip(fields[::3], fields[2::3], strict=False) if value in _UNFILTERED
        }
        for change in changes:
            if change.path in off or change.after == _ABSENT:
                yield change
            else:
                self._omit(change, "a filter of git changes it, such as Git LFS")

    def _replace(self, change: Change) -> None:
        """Add a deletion, or a file that became a link or the reverse."""
        if not self._patch.add(change.path, _deletion(change)):
            self._omit(change, _FULL)
            return
        if change.after != _ABSENT:
            self._add_new(change)

    def _add_new(self, change: Change) -> None:
        if change.after == _ABSENT:  # staged, and deleted since
            return
        if (self._size(change) or 0) > self._patch.left or time.monotonic() > self._until:
            self._omit(change, _FULL if time.monotonic() <= self._until else _SLOW)
            return
        path = self._path(change)
        data = _link_target(path) if change.after.startswith(_LINK) else read_regular(path, MOST)
        part = None if data is None else new_file(change.path, change.after, data, digits=len(self._patch.commit))
        if part is None:
            self._omit(change, "too large, or it cannot be read" if data is None else _why_not(data))
        elif not self._patch.add(change.path, part):
            self._omit(change, _FULL)

    def _compare(self, changes: Sequence[Change]) -> None:
        """Add changes of text, as git finds them, and binary files as a whole."""
        wanted = [f":(top,literal){change.path}" for change in changes]
        arguments = (*self._checkout.safe, *_DIFF, self._patch.commit, "--", *wanted)
        found = output(self._checkout.top, self._until, *arguments, most=4 * MOST)
        by_name = {quoted_name(os.fsencode(change.path), b"a/"): change for change in changes}
        sections = [] if found is None else _sections(found, is_whole=len(found) <= 4 * MOST)
        seen = set()
        for section in sections:
            change = by_name.get(_name_of(section))
            if change is None:
                continue
            seen.add(change.path)
            if _is_binary(section):
                self._add_binary(change)
            elif not self._patch.add(change.path, section):
                self._omit(change, _FULL)
        if found is None or len(found) > 4 * MOST:
            for change in changes:
                if change.path not in seen:
                    self._omit(change, "git could not compare it" if found is None else _FULL)

    def _add_binary(self, change: Change) -> None:
        data = read_regular(self._path(change), BINARY) if change.blob else None
        if data is None or has_secrets(data):
            self._omit(change, "binary, and too large" if data is None else "it contains secrets")
            return
        mode = b"" if change.before == change.after else b"old mode %s\nnew mode %s\n" % _modes(change)
        index = b"index %s..%s" % (change.blob.encode(), _blob(data, len(change.blob)))
        index += b" %s\n" % change.after.encode() if not mode else b"\n"
        part = _head(change.path) + mode + index + _literal(data)
        if not self._patch.add(change.path, part):
            self._omit(change, _FULL)

    def _omit(self, change: Change, why: str) -> None:
        size = self._size(change)
        digest = ""
        if size is not None and len(self._patch.omitted) < _HEADED and why != _SECRET:
            digest = digest_of(self._path(change), size, self._budget)
        self._patch.omitted.append(Omitted(change.path, why, size, digest))

    def _is_readable(self, change: Change) -> bool:
        """Check whether git can read a file: a regular one with permission, or a link."""
        path = self._path(change)
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):
            return False
        return stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and os.access(path, os.R_OK))

    def _size(self, change: Change) -> int | None:
        """Return the size of a regular file; None for others."""
        try:
            found = os.lstat(self._path(change))
        except (OSError, ValueError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def _path(self, change: Change) -> str:
        return os.path.join(self._checkout.top, change.path)


def _why_not(data: bytes) -> str:
    return _SECRET if len(data) <= BINARY else "binary, and too large"


def _link_target(path: str) -> bytes | None:
    try:
        return os.fsencode(os.readlink(path))
    except (OSError, ValueError):
        return None


# -- parts -----------------------------------------------------------------------------------------------------


def new_file(path: str, mode: str, data: bytes, *, digits: int = 40) -> bytes | None:
    r"""Return the part of a patch that creates a file; None for a binary file that is large or contains secrets.

    Args:
        path: Relative to the top of the checkout.
        mode: The mode, octal, such as ``100644``.
        data: The content.
        digits: The number of digits of an object id.

    >>> print(new_file("a b.py", "100644", b"x = 1\n").decode(), end="")
    diff --git a/a b.py b/a b.py
    new file mode 100644
    index 0000000000000000000000000000000000000000..7d4290a117a4ddcc11daae7ea675841033830c8f
    --- /dev/null
    +++ b/a b.py
    @@ -0,0 +1 @@
    +x = 1
    """
    index = b"index %s..%s\n" % (b"0" * digits, _blob(data, digits))
    head = _head(path) + b"new file mode %s\n" % mode.encode() + index
    if not data:
        return head
    if not _is_text(data):
        return None if len(data) > BINARY or has_secrets(data) else head + _literal(data)
    lines = data.split(b"\n")
    is_ended = not lines[-1]
    lines = lines[:-1] if is_ended else lines
    name = quoted_name(os.fsencode(path), b"b/")
    names = b"--- /dev/null\n+++ %s%s\n" % (name, b"\t" if b" " in name else b"")
    hunk = b"@@ -0,0 +1%s @@\n" % (b"" if len(lines) == 1 else b",%d" % len(lines))
    return head + names + hunk + b"".join(b"+%s\n" % line for line in lines)[:-1] + (b"\n" if is_ended else _NOT_ENDED)


def _deletion(change: Change) -> bytes:
    """Return the part that deletes a file, as for a binary file: with the id of its content, and not the content."""
    none = b"0" * len(change.blob)
    index = b"index %s..%s\n" % (change.blob.encode(), none)
    return _head(change.path) + b"deleted file mode %s\n" % change.before.encode() + index + _literal(b"")


def _head(path: str) -> bytes:
    name = os.fsencode(path)
    return b"diff --git %s %s\n" % (quoted_name(name, b"a/"), quoted_name(name, b"b/"))


def _modes(change: Change) -> tuple[bytes, bytes]:
    return change.before.encode(), change.after.encode()


def quoted_name(name: bytes, prefix: bytes) -> bytes:
    r"""Return the name of a file as git shows it: in quotes with escapes, if it has unusual characters.

    >>> quoted_name("é\n.py".encode(), b"a/"), quoted_name(b"a b.py", b"a/")
    (b'"a/\\303\\251\\n.py"', b'a/a b.py')
    """
    if _PLAIN_NAME.fullmatch(name):
        return prefix + name
    return b'"%s%s"' % (prefix, b"".join(map(_escaped, (name[at : at + 1] for at in range(len(name))))))


def _escaped(character: bytes) -> bytes:
    if character in b'"\\':
        return b"\\" + character
    if character in _ESCAPES:
        return b"\\" + _ESCAPES[character]
    return character if 0x20 <= character[0] < 0x7F else b"\\%03o" % character[0]


def _blob(data: bytes, digits: int) -> bytes:
    """Return the id that git gives to a content."""
    kind = hashlib.sha256 if digits == 64 else hashlib.sha1
    return kind(b"blob %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest().encode()


def _literal(data: bytes) -> bytes:
    """Return a content in the encoding of binary patches: deflated, 52 bytes a line in base 85."""
    packed = zlib.compress(data)
    pieces = (packed[at : at + 52] for at in range(0, len(packed), 52))
    lines = b"".join(_length(len(piece)) + base64.b85encode(piece, pad=True) + b"\n" for piece in pieces)
    return _BINARY_MARK[1:] + b"literal %d\n%s\n" % (len(data), lines)


def _length(count: int) -> bytes:
    return struct.pack("B", ord("A") + count - 1 if count <= 26 else ord("a") + count - 27)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


# -- output of git ---------------------------------------------------------------------------------------------


def _sections(data: bytes, *, is_whole: bool) -> list[bytes]:
    """Return the parts of a patch, one for each file; without the last one if the patch is not whole."""
    starts = [0] if data.startswith(_SECTION) else []
    at = data.find(b"\n" + _SECTION)
    while at >= 0:  # lines of files begin with a space, + or -
        starts.append(at + 1)
        at = data.find(b"\n" + _SECTION, at + 1)
    ends = [*starts[1:], len(data)]
    found = [data[start:end] for start, end in itertools.zip_longest(starts, ends[: len(starts)])]
    return found if is_whole else found[:-1]


def _name_of(section: bytes) -> bytes:
    """Return the first name in the line ``diff --git a/… b/…``; both are the same, as there are no renames."""
    line = section[len(_SECTION) : section.index(b"\n")]
    return line[: len(line) // 2]


def _is_binary(section: bytes) -> bool:
    head = section.partition(b"\n@@ ")[0]
    return head.rpartition(b"\n")[2].startswith(b"Binary files ") or head.endswith(b" differ\n")


# -- secrets ---------------------------------------------------------------------------------------------------


def _redacted_part(part: bytes) -> bytes:
    """Return the changes of a file with secrets redacted; the number of lines stays the same."""
    head, binary, content = part.partition(_BINARY_MARK)  # checked before it was encoded
    text = _without_keys(head).decode("utf-8", "surrogateescape")
    shown = redacted(text)
    if shown.count("\n") != text.count("\n"):
        shown = "\n".join(map(redacted, text.split("\n")))
    return shown.encode("utf-8", "surrogateescape") + binary + content


def _without_keys(part: bytes) -> bytes:
    """Redact each line of private keys; the first character of a line says whether it is added or removed."""
    if b"PRIVATE KEY" not in part:
        return part
    return _KEY.sub(lambda found: found[1] + _LINES.sub(rb"\1***", found[0][len(found[1]) :]), part)
