"""Find the format for a name, or for the suffix of a file.

Other packages provide formats through the entry point group ``notata.formats``. Each entry point has the name of its
format, and its object is a format or a class of one. notata itself registers ``parquet`` this way.
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
    """Return the format of a name, such as ``json`` or ``parquet``.

    A built-in format takes precedence over an entry point of the same name, and the first entry point over later ones.

    Raises:
        ConfigurationError: There is no such format; the message lists the known ones. Or its package cannot be
            imported or offers no format; the cause says why.

    >>> named("npy").suffix
    '.npy'
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for entry in _entries():
        if entry.name == name:
            return _loaded(entry)
    raise ConfigurationError(f"there is no format {name!r}; known formats: {_listed()}")


def of_file(name: str) -> Format | None:
    """Return the format for the suffix of a file name, in any case; the longest matching suffix wins.

    If two formats have the same suffix, a built-in one takes precedence, then the one whose name sorts first. An entry
    point that cannot be imported is skipped, so that one broken package does not break others. It is an error only if
    no other format matches and the file ends in the entry point's name (``vtk`` for ``mesh.vtk``).

    Returns:
        The format, or None if no suffix matches. Note that ``.pkl`` means pickle, and reading one runs code.

    Raises:
        ConfigurationError: The format that the name suggests is broken.

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
    """Return all formats by name, in order, without those whose package cannot be imported.

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
    """Return the format that a user passed in any form.

    Args:
        format: The name of one; or an object with `suffix` and ``write(value, file)`` and, if it reads too,
            ``read(file)``; or a class of such objects, which is called without arguments.

    Raises:
        ConfigurationError: It is none of these; the message lists the known names.

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
                f"cannot create {given.__qualname__} without arguments: {error}; pass an instance instead"
            ) from error
    suffix = getattr(form, "suffix", None)
    if isinstance(form, type) or not isinstance(suffix, str) or not callable(getattr(form, "write", None)):
        raise ConfigurationError(
            f"{given!r} is not a format; pass the name of one ({_listed()}), or an object or class with suffix, "
            "write(value, file) and read(file)"
        )
    if suffix and (not suffix.startswith(".") or {"/", "\\", "\0"} & set(suffix)):
        raise ConfigurationError(
            f"a suffix must look like '.vtk', with the dot and without a slash, or be empty; not {suffix!r}"
        )
    return cast("Format", form)  # if it has no read, the function `read` raises


def _longest(name: str, forms: dict[str, Format]) -> tuple[str, Format] | None:
    fitting = [suffix for suffix in forms if suffix and name.endswith(suffix.lower())]
    best = max(fitting, key=len, default=None)
    return None if best is None else (best.lower(), forms[best])


def _entries() -> list[metadata.EntryPoint]:
    """Return the entry points by name, those of the same name in the order in which Python finds their packages."""
    from importlib import metadata  # takes 20 ms, so only where a name is none of ours

    found: Iterable[metadata.EntryPoint] = metadata.entry_points(group=_GROUP)
    return sorted(found, key=lambda entry: entry.name)


def _loaded(entry: metadata.EntryPoint) -> Format:
    try:
        return _instance(entry.load())
    except Exception as error:  # an import may raise anything
        raise ConfigurationError(f"the format {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error


def _listed() -> str:
    return ", ".join(sorted({*_BUILT_IN, *(entry.name for entry in _entries())}))
