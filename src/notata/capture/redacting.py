"""Redact secrets in blocks of output, as fast as a program prints numbers.

The result is that of `notata._base.secrets.redacted` for each line. Three tests find the few lines that need it:

1. A line without digits, signs and spaces is its *template*. Programs print many lines with few templates, so a block
   has few new ones. If a template has none of the words without which a text has no secret, its lines have none;
2. for other lines, the *shape*, a line with all its digits equal, is redacted once. If that changes nothing, neither
   does it for other lines of this shape, as no rule depends on a digit, except for `_DIGITS`;
3. only the lines that are left are redacted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from notata._base import secrets

__all__ = ["Redactor"]

_NUMERIC: Final = b"0123456789.+- \t"
_LOWER: Final = bytes(range(256)).lower()
_SHAPE: Final = bytes.maketrans(b"123456789", b"000000000")
_DIGITS: Final = re.compile(rb"%0|ya00\.|dop_v0_")
"""Shapes of forms with certain digits: ``%3D``, ``ya29.``, ``dop_v1_``."""

_SIGNS: Final = re.compile(rb"(?i)[=:%<_-]|bearer|eyj|akia|asia|abia|acca|aiza|ya00\.|sg\.")
"""Parts of shapes without which no rule applies: prose with words such as ``path`` and ``key``."""

_TEMPLATES: Final = 10_000  # templates and shapes that are remembered
_LONGEST: Final = 1000  # bytes of a template or shape that is remembered
_TAIL: Final = 4096  # bytes at the end of a piece of a long line in which it can be cut
_CUTS: Final = 8  # places between words that are tried
_HELD: Final = 512  # bytes that wait for the next piece: a name, and the characters by which a value is recognised
_CUT: Final = re.compile(rb"[\s,;&]+")
_VALUE: Final = re.compile(rb"""[^\s&"',;]*""")
_KEY_LINES: Final = 500  # lines of a private key
_KEY_BEGIN: Final = re.compile(rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?!.*-----END)")


class Redactor:
    r"""Redacts the secrets in a stream of lines.

    A private key is redacted up to its last line. In a line that comes in pieces, a secret that two pieces share is
    found, too, unless it has more than `_TAIL` bytes without a space or comma; then all of it that follows is removed.

    Args:
        redact: Redacts the secrets in a text, such as `Backend.redacted`.

    >>> Redactor(secrets.redacted).lines(b"step 1\npassword=hunter2\n")
    b'step 1\npassword=***\n'
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._harmless: set[bytes] = set()
        self._shapes: set[bytes] = set()
        self._forms: frozenset[str] = frozenset()
        self._encoded: list[bytes] = []
        self._raw_forms: list[bytes] = []
        self._words: list[bytes] = []  # a template with one of them may have a secret
        self._users: list[bytes] = []  # the same, if it also has a colon
        self._carried = b""  # the end of a piece, which belongs to the next one
        self._is_continued = False
        self._skips_value = False
        self._key_lines = 0

    @property
    def is_empty(self) -> bool:
        """True if nothing is held."""
        return not self._is_continued

    def lines(self, block: bytes) -> bytes:
        r"""Return whole lines with secrets redacted. Each line ends with ``\n``, except perhaps the last one."""
        first = b""
        if self._is_continued:
            end = block.find(b"\n") + 1 or len(block)
            first, block = self._last_piece(block[:end]), block[end:]
        self._update()
        if self._key_lines or self._is_suspicious(block):
            block = self._redacted(block)
        return first + block

    def piece(self, data: bytes) -> bytes:
        """Return a piece of a long line with secrets redacted; the last bytes may come with the next piece."""
        data, self._carried = self._carried + data, b""
        self._is_continued = True
        data = self._without_value(data)
        if self._skips_value:
            return b""
        whole = self._changed(data)
        cuts = self._cuts(data)
        if whole is data:  # no cut divides a secret
            self._carried = data[cuts[0] :]
            return data[: cuts[0]]
        for cut in cuts:
            if self._changed(data[:cut]) + self._changed(data[cut:]) == whole:
                self._carried = data[cut:]
                return self._changed(data[:cut])
        self._skips_value = whole.endswith(secrets.HIDDEN.encode())
        return whole

    def _cuts(self, data: bytes) -> list[int]:
        """Return where a piece can be cut, so that a secret which begins in it and is not recognised yet is held."""
        self._update()
        last = max(0, len(data) - max(_HELD, *map(len, self._encoded), 0))
        words = [found.end() for found in _CUT.finditer(data, max(0, last - _TAIL), last)]
        return [*reversed(words[-_CUTS:]), *(max(0, last - back) for back in (0, _TAIL // 2, _TAIL))]

    def finish(self) -> bytes:
        """Return the end of a long line that the output ends with."""
        return self._last_piece(b"") if self._is_continued else b""

    def _last_piece(self, data: bytes) -> bytes:
        data, self._carried, self._is_continued = self._carried + data, b"", False
        data = self._without_value(data)
        self._skips_value = False
        return self._changed(data)

    def _without_value(self, data: bytes) -> bytes:
        """Remove the rest of a secret value that began in the piece before."""
        if self._skips_value and (found := _VALUE.match(data)) is not None:
            self._skips_value = found.end() == len(data)
            return data[found.end() :]
        return data

    # -- tests ---------------------------------------------------------------------------------------------

    def _update(self) -> None:
        """Forget what was harmless if there is a new known secret."""
        forms = secrets.known_forms()
        if forms is self._forms:
            return
        self._forms = forms
        self._harmless.clear()
        self._shapes.clear()
        self._encoded = [form.encode("utf-8", "surrogatepass") for form in forms]
        templates = {form: form.translate(_LOWER, _NUMERIC) for form in self._encoded}
        self._raw_forms = [form for form, template in templates.items() if len(template) < 3]
        users = {_template(hint) for hint in secrets.USER_HINTS}
        hints = {_template(hint) for hint in secrets.HINTS} - users
        self._words = sorted(hints | {template for template in templates.values() if len(template) >= 3})
        self._users = sorted(users)

    def _is_suspicious(self, block: bytes) -> bool:
        """Check whether a block may contain a secret, by the templates of its lines."""
        for form in self._raw_forms:
            if form in block:
                return True
        templates = block.translate(_LOWER, _NUMERIC)
        first = templates[: templates.find(b"\n") + 1]
        if first[:-1] in self._harmless and templates.count(first) * len(first) == len(templates):
            return False  # all lines have the same template
        new = set(templates.split(b"\n")) - self._harmless
        if not new:
            return False
        text = b"\n".join(new)
        words = [word for word in self._words if word in text]
        if b":" in text and any(word in text for word in self._users):
            words.append(b":")
        if words:
            suspicious = {line for line in new if any(word in line for word in words)}
            self._remember(self._harmless, new - suspicious)
            return True
        self._remember(self._harmless, new)
        return False

    def _remember(self, known: set[bytes], new: set[bytes]) -> None:
        if len(known) + len(new) > _TEMPLATES:
            known.clear()
        if len(new) <= _TEMPLATES:
            known.update(line for line in new if len(line) <= _LONGEST)

    # -- lines ---------------------------------------------------------------------------------------------

    def _redacted(self, block: bytes) -> bytes:
        """Redact the lines of a block, one by one except those whose shape is known."""
        block, end = (block[:-1], b"\n") if block.endswith(b"\n") else (block, b"")
        lines, shapes = block.split(b"\n"), block.translate(_SHAPE).split(b"\n")
        values = [form for form in self._encoded if form in block]
        harmless = self._shapes
        if not values and not self._key_lines and harmless.issuperset(shapes):
            return block + end
        kept: list[bytes] = []
        for line, shape in zip(lines, shapes, strict=True):
            if self._key_lines:
                kept += self._of_key(line)
            elif values and any(value in line for value in values):
                kept.append(self._changed(line))
            elif shape not in harmless and (_DIGITS.search(shape) or not self._is_harmless(shape)):
                kept.append(self._begins_key(line))
            else:
                kept.append(line)
        return b"\n".join(kept) + (end if kept else b"")

    def _is_harmless(self, shape: bytes) -> bool:
        if _SIGNS.search(shape) is None:
            return True
        if self._changed(shape) != shape:
            return False
        self._remember(self._shapes, {shape})
        return True

    def _changed(self, line: bytes) -> bytes:
        text = line.decode("utf-8", "surrogateescape")
        shown = self._redact(text)
        return line if shown == text else shown.encode("utf-8", "surrogateescape")

    def _begins_key(self, line: bytes) -> bytes:
        if _KEY_BEGIN.search(line):
            self._key_lines = _KEY_LINES
        return self._changed(line)

    def _of_key(self, line: bytes) -> list[bytes]:
        """Return what is kept of a line after the first one of a private key: only the last one."""
        self._key_lines -= 1
        if b"-----END" not in line:
            return []
        self._key_lines = 0
        return [line]


def _template(hint: str) -> bytes:
    return hint.encode().translate(_LOWER, _NUMERIC)
