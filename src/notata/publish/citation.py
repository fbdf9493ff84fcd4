"""CITATION.cff, version 1.2.0 of the Citation File Format: how to cite a crate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from notata.formats.plain import without_surrogates
from notata.publish.people import Author, License

__all__ = ["citation"]

_LISTED: Final = frozenset({
    "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0",
    "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-4.0", "CC0-1.0", "EPL-2.0", "EUPL-1.2",
    "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "ISC", "LGPL-2.1-only",
    "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MPL-2.0", "ODC-By-1.0", "ODbL-1.0", "PDDL-1.0",
    "Unlicense",
})  # fmt: skip
"""Usual licenses in the list that version 1.2.0 of the format accepts. Other licenses are given by their URL."""

_WEB: Final = re.compile(r"https?://.+")


def citation(
    title: str,
    *,
    description: str,
    released: date,
    authors: Sequence[Author] = (),
    license: License | None = None,
    repository: str = "",
    commit: str = "",
) -> bytes:
    """Return the content of CITATION.cff.

    The format requires an author: without one, the author is an entity: "The authors of" and the title.

    Args:
        title: The title of the crate.
        description: Its description.
        released: The date of publication.
        authors: The authors.
        license: The license.
        repository: The URL of the code, if all runs have the same; others than web addresses are left out.
        commit: The commit of the code, if all runs have the same.

    >>> print(citation("Pendulum", description="One run.", released=date(2026, 3, 1)).decode(), end="")
    abstract: One run.
    authors:
    - name: The authors of Pendulum
    cff-version: 1.2.0
    date-released: '2026-03-01'
    message: If you use these data, please cite them with the metadata of this file.
    title: Pendulum
    type: dataset
    """
    import yaml

    fields: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use these data, please cite them with the metadata of this file.",
        "type": "dataset",
        "title": title,
        "abstract": description,
        "authors": [*map(_person, authors)] or [{"name": f"The authors of {title}"}],
        "date-released": released.isoformat(),
    }
    if license is not None:
        fields |= {"license": license.name} if license.name in _LISTED else {"license-url": license.url}
    if _WEB.fullmatch(repository):
        fields["repository-code"] = repository
    if commit:
        fields["commit"] = commit
    text = yaml.safe_dump(_safe(fields), allow_unicode=True, width=100)
    return text.encode()


def _person(author: Author) -> dict[str, str]:
    fields = {"family-names": author.family, "given-names": author.given, "orcid": author.orcid}
    return {name: value for name, value in fields.items() if value}


def _safe(value: Any) -> Any:
    """Return the value with text that UTF-8 can hold."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {name: _safe(item) for name, item in value.items()}
    return [*map(_safe, value)] if isinstance(value, list) else value
