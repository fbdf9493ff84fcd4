"""Detect misspelled storage options before the first request; no store is involved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from notata.errors import ConfigurationError

__all__ = ["check", "names"]

_ALIKE: Final = 0.8  # of 1; "endpont_url" and "endpoint_url" have 0.96, "session" and "version" 0.71


def check(protocol: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown option that closely resembles one of the protocol's file system.

    Many file systems of fsspec ignore unknown options, so notata would look for the bucket on another server.

    Raises:
        ConfigurationError: An option looks misspelled.

    >>> try:
    ...     check("s3", {"endpont_url": "http://127.0.0.1:9000"})
    ... except ConfigurationError as error:
    ...     print(error)
    s3:// has no storage option 'endpont_url'; did you mean 'endpoint_url'?
    """
    if not options:
        return
    import difflib

    known = _known(protocol)
    for name in options:
        if name not in known and (close := difflib.get_close_matches(str(name).lower(), known, 1, _ALIKE)):
            raise ConfigurationError(f"{protocol}:// has no storage option {name!r}; did you mean {close[0]!r}?")


def _known(protocol: str) -> set[str]:
    import inspect

    from fsspec import get_filesystem_class

    try:
        bases = inspect.getmro(get_filesystem_class(protocol))
    except (ImportError, ValueError):  # the first request explains it
        return set()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    begins = [vars(base)["__init__"] for base in bases[:-1] if "__init__" in vars(base)]
    parameters = [each for begin in begins for each in inspect.signature(begin).parameters.values()]
    return {each.name for each in parameters if each.kind in named} - {"self"}


def names(options: object) -> Iterator[str]:
    """Yield the names of all options, including those in dictionaries.

    >>> list(names({"client_kwargs": {"verify": False}, "anon": True}))
    ['client_kwargs', 'verify', 'anon']
    """
    for name, value in options.items() if isinstance(options, Mapping) else ():
        yield str(name)
        yield from names(value)
