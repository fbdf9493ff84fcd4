"""Authors and licenses, as a user names them for a crate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from notata._base.terminal import quoted
from notata.errors import ConfigurationError

__all__ = ["Author", "License", "authors_of"]

_AUTHOR: Final = re.compile(r"\s*([^<>]*?)\s*(?:<\s*([^<>]*?)\s*>)?\s*")
_ORCID: Final = re.compile(r"(?:https?://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])/?")
_SPDX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,99}")
_URL: Final = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True, slots=True)
class Author:
    """A person who made the runs.

    Attributes:
        given: The given names; empty if there is only one name.
        family: The family name.
        orcid: The URL of the person's ORCID; empty if there is none.
    """

    given: str
    family: str
    orcid: str = ""

    @classmethod
    def parse(cls, text: str) -> Author:
        """Parse ``Ada Lovelace``, ``Lovelace, Ada`` or ``Ada Lovelace <0000-0002-1825-0097>``.

        Without a comma, the last word is the family name.

        Raises:
            ConfigurationError: There is no name, or the ORCID is invalid.

        >>> Author.parse("Ada King Lovelace <0000-0002-1825-0097>")
        Author(given='Ada King', family='Lovelace', orcid='https://orcid.org/0000-0002-1825-0097')
        >>> Author.parse("King Lovelace, Ada").name
        'Ada King Lovelace'
        """
        match = _AUTHOR.fullmatch(text)
        if match is None or not match[1].strip(" ,"):
            raise ConfigurationError(f"invalid author {quoted(text)}: write a name, or 'Name <ORCID>'")
        name = " ".join(match[1].split())
        family, comma, given = name.partition(",")
        if not comma:
            given, _, family = name.rpartition(" ")
        return cls(given.strip(), family.strip(), "" if match[2] is None else _orcid(match[2]))

    @property
    def name(self) -> str:
        """The whole name."""
        return f"{self.given} {self.family}".strip()


def _orcid(text: str) -> str:
    """Return the URL of an ORCID, whose last character checks the others (ISO 7064, MOD 11-2)."""
    match = _ORCID.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"invalid ORCID {quoted(text)}: write it like 0000-0002-1825-0097")
    digits = match[1].replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    if "0123456789X"[(12 - total % 11) % 11] != digits[-1]:
        raise ConfigurationError(f"invalid ORCID {quoted(text)}: its last character does not match the others")
    return f"https://orcid.org/{match[1]}"


def authors_of(given: str | Iterable[str]) -> tuple[Author, ...]:
    """Return the authors of an argument, each once.

    Raises:
        ConfigurationError: One of them is invalid.
    """
    texts = [given] if isinstance(given, str) else given
    return tuple(dict.fromkeys(map(Author.parse, texts)))


@dataclass(frozen=True, slots=True)
class License:
    """A license: an identifier of SPDX, or the URL of a text.

    Attributes:
        name: The identifier, or the URL.
        url: The URL.
    """

    name: str
    url: str

    @classmethod
    def parse(cls, text: str) -> License:
        """Parse an SPDX identifier, such as ``CC-BY-4.0``, or a URL.

        Raises:
            ConfigurationError: It is neither.

        >>> License.parse("CC-BY-4.0").url
        'https://spdx.org/licenses/CC-BY-4.0'
        """
        if _URL.fullmatch(text):
            return cls(text, text)
        if _SPDX.fullmatch(text):
            return cls(text, f"https://spdx.org/licenses/{text}")
        raise ConfigurationError(
            f"invalid license {quoted(text)}: write an SPDX identifier, such as CC-BY-4.0, or the URL of the license"
        )
