"""The content types that objects in a bucket get when they are written, so that a browser shows them.

The table is fixed: that of the machine (`mimetypes`) differs between systems. Each object gets a type, as some S3
servers choose one by the suffix if it has none: SeaweedFS gives an ``.svg`` one with which browsers run its scripts.
"""

from __future__ import annotations

from typing import Final

__all__ = ["content_type"]

_TEXT: Final = "text/plain; charset=utf-8"
_PAGE: Final = ".html"

# Only types that cannot run a script in the bucket's origin. An SVG opened from a bucket runs the scripts of its author
# there, so it is left out: browsers save it. Text that has no type browsers show (YAML, JSON lines) is plain text.
_TYPES: Final = {
    ".csv": "text/csv; charset=utf-8",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": _TEXT,
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".txt": _TEXT,
    ".webp": "image/webp",
    ".yaml": _TEXT,
    ".yml": _TEXT,
}


def content_type(key: str, download: str, *, pages: bool = False) -> str:
    """Return the content type for a key.

    Args:
        key: The key; only its suffix counts, in upper or lower case.
        download: The storage's type of files that browsers save, for all other suffixes.
        pages: Whether an HTML file is a page for browsers. Elsewhere its author may be another person than the owner of
            the bucket, such as that of a run folder that was copied there.

    >>> content_type("log_a/summary.json", "a/b"), content_type("log_a/flow.PNG", "a/b")
    ('application/json', 'image/png')
    >>> content_type("log_a/flow.svg", "a/b"), content_type("log_a/model.pt", "a/b")
    ('a/b', 'a/b')
    >>> content_type("page.html", "a/b"), content_type("page.html", "a/b", pages=True)
    ('a/b', 'text/html; charset=utf-8')
    """
    suffix = "".join(key.rpartition("/")[2].rpartition(".")[1:]).lower()
    if suffix == _PAGE:
        return "text/html; charset=utf-8" if pages else download
    return _TYPES.get(suffix, download)
