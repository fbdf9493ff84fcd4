"""Parts of JSON-LD entities: identifiers of files, media types, references."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias
from urllib.parse import quote

__all__ = ["Entity", "encoding_of", "file_id", "refs"]

Entity: TypeAlias = dict[str, Any]

_UNKNOWN: Final = "application/octet-stream"

# A table of our own, as that of the machine (`mimetypes`) differs between systems.
_TYPES: Final = {
    "cff": "text/yaml", "csv": "text/csv", "gif": "image/gif", "gz": "application/gzip", "h5": "application/x-hdf5",
    "hdf5": "application/x-hdf5", "html": "text/html", "jpeg": "image/jpeg", "jpg": "image/jpeg",
    "json": "application/json", "jsonl": "application/jsonl", "log": "text/plain", "md": "text/markdown",
    "mp4": "video/mp4", "nc": "application/x-netcdf", "npy": "application/x-npy", "npz": "application/zip",
    "parquet": "application/vnd.apache.parquet", "patch": "text/x-diff", "pdf": "application/pdf",
    "pkl": "application/x-python-pickle", "png": "image/png", "py": "text/x-python", "svg": "image/svg+xml",
    "tif": "image/tiff", "tiff": "image/tiff", "toml": "application/toml", "txt": "text/plain", "vtk": "model/vtk",
    "webp": "image/webp", "xml": "application/xml", "yaml": "text/yaml", "yml": "text/yaml", "zip": "application/zip",
}  # fmt: skip


def file_id(name: str) -> str:
    """Return the ``@id`` of a file of the crate: its path as a URI reference, percent-encoded (RFC 3986).

    >>> file_id("log_a/data/50 % #1.npy"), file_id("log_é/x:y")
    ('log_a/data/50%20%25%20%231.npy', 'log_%C3%A9/x%3Ay')
    """
    return quote(name, safe="/")


def encoding_of(name: str) -> str:
    """Return the media type of a file by its suffix.

    >>> encoding_of("log_a/plots/e.PNG"), encoding_of("log_a/artifacts/model")
    ('image/png', 'application/octet-stream')
    """
    return _TYPES.get(name.rpartition("/")[2].rpartition(".")[2].lower(), _UNKNOWN)


def refs(entities: Iterable[Entity]) -> list[dict[str, str]]:
    """Return references to entities."""
    return [{"@id": entity["@id"]} for entity in entities]
