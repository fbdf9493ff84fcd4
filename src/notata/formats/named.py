"""Which format a name means, and which one a file's suffix; it knows no file.

The formats of other packages come by the entry point group ``notata.formats``, whose names are the formats' and whose
objects are formats, or classes of them. ``parquet`` is registered so by notata itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, cast

from notata.errors import ConfigurationError
from notata.formats.arrays import NPY, NPZ
from notata.formats.base import Format
from notata.formats.basic import BYTES, JSON, TEXT, YAML
from notata.formats.labelled import CSV, NETCDF
from notata.formats.pickles import PICKLE

if TYPE_CHECKING:
    from importlib import metadata

__all__ = ["as_format", "known", "named", "of_file"]

_GROUP: Final = "notata.formats"
_BUILT_IN: Final[dict[str, Format]] = {
    "bytes": BYTES, "csv": CSV, "json": JSON, "netcdf": NETCDF, "npy": NPY, "npz": NPZ, "pickle": PICKLE, "text": TEXT,
    "yaml": YAML,
}  # fmt: skip
_ALSO: Final[dict[str, Format]] = {".yml": YAML}


def named(name: str) -> Format:
    """The format of a name, as ``json`` or ``parquet``.

    A built-in one goes before an entry point of the same name, and the first entry point that is found before others.

    Raises:
        ConfigurationError: There is none; the message lists those there are. Or its package cannot be imported, or
            offers something else: then the cause says why.

    >>> named("npy").suffix
    '.npy'
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for entry in _entries():
        if entry.name == name:
            return _loaded(entry)
    raise ConfigurationError(f"no format is called {name!r}; known: {_listed()}")


def of_file(name: str) -> Format | None:
    """The format that the end of a file name means, upper case or lower; the longest one that fits.

    Of two with the same suffix, a built-in one goes first, then the one whose name does. An entry point that cannot be
    imported is passed over, so that one broken package breaks no other; only where nothing else fits, and the file
    ends in the entry point's name (``vtk`` for ``mesh.vtk``), is it an error.

    Returns:
        The format, or None where no suffix fits. Mind that ``.pkl`` means pickle, and reading one runs code.

    Raises:
        ConfigurationError: The format that it seems to be is broken.

    >>> of_file("results/Mesh.JSON") is named("json")
    True
    >>> of_file("README") is None
    True
    """
    name = name.rpartition("/")[2].lower()
    ours = _longest(name, {form.suffix: form for form in _BUILT_IN.values()} | _ALSO)
    if ours is not None and "." not in name.removesuffix(ours[0]):  # no other suffix can be longer
        return ours[1]
    others: dict[str, Format] = {}
    broken: ConfigurationError | None = None
    for entry in _entries():
        try:
            form = _loaded(entry)
        except ConfigurationError as error:
            broken = error if name.endswith(f".{entry.name.lower()}") else broken
            continue
        others.setdefault(form.suffix, form)
    found = max(filter(None, [ours, _longest(name, others)]), key=lambda item: len(item[0]), default=None)
    if found is None and broken is not None:
        raise broken
    return None if found is None else found[1]


def known() -> dict[str, Format]:
    """All formats by their names, in order; without those whose package cannot be imported.

    >>> "json" in known()
    True
    """
    forms: dict[str, Format] = {}
    for entry in _entries():
        try:
            forms.setdefault(entry.name, _loaded(entry))
        except ConfigurationError:
            continue
    return dict(sorted((forms | _BUILT_IN).items()))


def as_format(format: object) -> Format:
    """A format from what a user gave for one.

    Args:
        format: The name of one; or an object with `suffix` and ``write(value, file)`` and, if it reads too,
            ``read(file)``; or a class of such objects, which is called without arguments.

    Raises:
        ConfigurationError: It is none of these; the message lists the names that are known.

    >>> class Lines:
    ...     suffix = ".lines"
    ...     def write(self, words, file):
    ...         file.writelines(word.encode() for word in words)
    >>> as_format(Lines).suffix
    '.lines'
    """
    return named(format) if isinstance(format, str) else _instance(format)


def _instance(given: object) -> Format:
    form = given
    if isinstance(given, type) and callable(getattr(given, "write", None)):
        try:
            form = given()
        except Exception as error:
            raise ConfigurationError(
                f"{given.__qualname__} cannot be made without arguments: {error}; give an object of it instead"
            ) from error
    suffix = getattr(form, "suffix", None)
    if isinstance(form, type) or not isinstance(suffix, str) or not callable(getattr(form, "write", None)):
        raise ConfigurationError(
            f"{given!r} is no format: that is the name of one ({_listed()}), "
            "or an object or class with suffix, write(value, file) and read(file)"
        )
    if suffix and (not suffix.startswith(".") or {"/", "\\", "\0"} & set(suffix)):
        raise ConfigurationError(f"a suffix is as '.vtk', with the dot and without a slash, or empty; not {suffix!r}")
    return cast("Format", form)  # where it has no read, `read` says so


def _longest(name: str, forms: dict[str, Format]) -> tuple[str, Format] | None:
    fitting = [suffix for suffix in forms if suffix and name.endswith(suffix.lower())]
    best = max(fitting, key=len, default=None)
    return None if best is None else (best.lower(), forms[best])


def _entries() -> list[metadata.EntryPoint]:
    """By name; of one name in the order in which Python finds their packages."""
    from importlib import metadata  # takes 20 ms, so only where a name is none of ours

    found: Iterable[metadata.EntryPoint] = metadata.entry_points(group=_GROUP)
    return sorted(found, key=lambda entry: entry.name)


def _loaded(entry: metadata.EntryPoint) -> Format:
    try:
        return _instance(entry.load())
    except Exception as error:  # whatever an import raises
        raise ConfigurationError(f"the format {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error


def _listed() -> str:
    return ", ".join(sorted({*_BUILT_IN, *(entry.name for entry in _entries())}))
