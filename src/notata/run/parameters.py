"""Merge, store and read the parameters of one run, params.yaml or params.json."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from notata import formats
from notata._base import keys, limits
from notata._base.display import indefinite
from notata._base.nesting import is_running
from notata._base.processes import Lock
from notata.errors import ConfigurationError, DecodeError, EncodeError, MissingError
from notata.formats.yaml_loader import check_values
from notata.store import Store

__all__ = ["FILES", "Parameters", "decoded", "encoded", "named", "parameters"]

_KEYS: Final = {"yaml": keys.PARAMS_YAML, "json": keys.PARAMS_JSON}
_FORMS: Final[dict[str, formats.Format]] = {
    "yaml": formats.Yaml("params", most_values=limits.VALUES),
    "json": formats.Json("params"),
}

FILES: Final = tuple(_KEYS.values())
"""Keys of the parameter files. If both exist, the first one is used, as in 0.3.0."""


def encoded(store: Store, values: Mapping[str, Any], ext: str = "yaml") -> bytes:
    """Return the content of the file for these parameters.

    Raises:
        EncodeError: A value has no plain form; the message names it. Or the parameters exceed the limits for reading
            them, see `notata._base.limits`.
    """
    try:
        data = limits.check_stored(formats.encode(_FORMS[ext], values), _KEYS[ext])
        _check_values(data, ext)
        return data
    except EncodeError as error:
        error.url, error.key = store.url, _KEYS[ext]
        raise


def _check_values(data: bytes, ext: str) -> None:
    try:
        if ext == "yaml":
            check_values(data, limits.VALUES)
        elif len(data) > limits.VALUES:
            decoded(data, ext)
    except DecodeError as error:
        raise EncodeError(
            f"cannot store params, because they could not be read back: {error}; store arrays with array() or json()",
            where="params",
        ) from error


def named(values: object) -> Mapping[str, Any]:
    """Return the names and values of a mapping, or of an object that has named values.

    Raises:
        ConfigurationError: The object has no named values.

    >>> from argparse import Namespace
    >>> named(Namespace(omega=2.0))
    {'omega': 2.0}
    """
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return values
    found = formats.members(values)
    if found is None:
        raise ConfigurationError(
            f"invalid params of type {type(values).__name__}: pass names and values, such as {{'omega': 2.0}}, an "
            "argparse.Namespace, a dataclass, or an attrs or pydantic object"
        )
    return {str(name): value for name, value in found}


def decoded(data: bytes, ext: str = "yaml") -> dict[str, Any]:
    """Return the parameters in the content of a file; empty YAML has none.

    Raises:
        DecodeError: The content is damaged, or has no names and values.

    >>> decoded(b"omega: 2.0")
    {'omega': 2.0}
    """
    values = formats.decode(_FORMS[ext], data)
    if ext == "json" and limits.has_too_many_values(values):
        raise DecodeError(f"this JSON has more than {limits.VALUES:,} values")
    if values is not None and not isinstance(values, dict):
        raise DecodeError(f"it contains {indefinite(type(values).__name__)} instead of names and values")
    return values or {}


def parameters(store: Store) -> dict[str, Any]:
    """Return the parameters of the run in a store; empty if it has none.

    Cost: one request if there is a YAML file, else two.

    Raises:
        DecodeError: The file is damaged.
        StorageError: The file cannot be read.
    """
    ext, data = _stored(store)
    return _values(store, ext, data)


def _stored(store: Store) -> tuple[str, bytes]:
    """Return the suffix and content of the parameter file; empty if there is none."""
    for ext, key in _KEYS.items():
        try:
            return ext, store.read(key)
        except MissingError:
            continue
    return "", b""


def _values(store: Store, ext: str, data: bytes) -> dict[str, Any]:
    if not ext:
        return {}
    try:
        return decoded(data, ext)
    except DecodeError as error:
        key = _KEYS[ext]
        raise DecodeError(f"cannot read {store.url}/{key}: {error}", url=store.url, key=key) from error


class Parameters(Mapping[str, Any]):
    """The parameters of a run: a mapping to read them, and a call to add to them.

    The values are the same as for a reader of the run: a ``numpy.float32`` becomes a float, and a path a string.
    Reading costs no request, except for the first read in a resumed run.

    Safe to use from many threads.
    """

    def __init__(
        self,
        store: Store,
        check: Callable[[], None],
        log: Callable[..., None],
        stored: Callable[[], None],
        *,
        new: bool,
    ) -> None:
        self._store = store
        self._check = check
        self._log = log
        self._on_stored = stored
        self._lock = Lock()
        self._file: tuple[str, bytes] | None = ("", b"") if new else None
        self._values: dict[str, Any] | None = {} if new else None
        self._given: tuple[bytes, dict[str, Any]] = (b"", {})  # the content of a file, and its values with text as keys
        self._existing: set[str] = set()  # suffixes of files that may exist
        self._merging: FrameType | None = None  # the call that merges values; see `is_running`
        self._from_handlers: dict[str, Any] = {}  # values that a signal handler leaves to that call

    def __call__(self, /, ext: str = "yaml", **values: Any) -> None:
        """Merge values into the parameters, and store them as ``params.yaml`` or ``params.json``.

        The write is atomic. A run has one parameter file: if the file with the other suffix exists, it is removed.
        Cost: one request, and one more to remove the other file.

        Args:
            ext: ``yaml`` or ``json``.
            **values: Values that have a plain form, such as numbers, text, lists, dictionaries, numpy values, dates and
                paths. A new value overwrites a previous one.

        Raises:
            ConfigurationError: `ext` is neither.
            EncodeError: A value has no plain form; nothing was changed.
            RunDisplacedError: Another writer has taken over the run.
            StorageError: The storage refused; the previous file is unchanged.

        >>> log.params(omega=2.0, steps=100)
        >>> log.params(steps=200)
        >>> log.params["steps"], dict(log.params)
        (200, {'omega': 2.0, 'steps': 200})
        """
        if not isinstance(ext, str) or ext not in _KEYS:
            if formats.members(ext) is not None:
                raise ConfigurationError(
                    f"cannot add parameters from {indefinite(type(ext).__name__)}: pass them as keywords, "
                    "params(omega=2.0) or params(**values), or params(**vars(obj)) for an object"
                )
            raise ConfigurationError(f"invalid ext {ext!r}: pass 'yaml' or 'json'", url=self._store.url)
        self._check()
        with self._lock.held():
            self._merge(ext, values)
        self._on_stored()

    def _merge(self, ext: str, values: Mapping[str, Any]) -> None:
        """Store the current values merged with these.

        In a signal handler that interrupts this method, the interrupted call stores the values.
        """
        if is_running(self._merging):
            encoded(self._store, values, ext)  # refuse invalid values here
            self._from_handlers = {**self._from_handlers, **values}
            return
        self._merging = sys._getframe()
        try:
            self._store_values(ext, {**self, **values})
        finally:
            self._store_from_handlers(ext)

    def _store_from_handlers(self, ext: str) -> None:
        """Store the values of signal handlers, even after one interrupt, as their calls have already returned."""
        interrupt: BaseException | None = None
        while left := self._from_handlers:
            try:
                self._store_values(ext, {**self, **left})
            except Exception:
                raise
            except BaseException as error:
                if interrupt is not None:
                    raise
                interrupt = error
                continue
            if self._from_handlers is left:
                self._from_handlers = {}
        if interrupt is not None:
            raise interrupt

    def _store_values(self, ext: str, values: Mapping[str, Any]) -> None:
        self._store_file(ext, values, encoded(self._store, values, ext))

    def _store_file(self, ext: str, values: Mapping[str, Any], data: bytes) -> None:
        self._existing |= {self._current_file()[0], ext} - {""}
        self._store.write(_KEYS[ext], data)
        if others := self._existing - {ext}:
            self._file = self._values = None  # if the next request fails, read the files again
            self._store.delete([_KEYS[other] for other in others])
            self._existing = {ext}
        with suppress(EncodeError):  # two keys, such as 1 and "1", become the same text; YAML tells them apart
            given = formats.plain(values)
            if b"\\ud" not in data:  # the escape of a lone surrogate, which is no longer one in the file
                self._given = data, given
        self._file, self._values = (ext, data), None
        self._log(logging.INFO, "Saved params (%s) in %s", ext, _KEYS[ext])

    def begin(self, values: Mapping[str, Any], content: bytes) -> None:
        """Store the parameters of a new run, or replace those of a resumed run.

        Args:
            values: The parameters.
            content: The same, as `encoded` returns them.
        """
        with self._lock.held():
            ext, _ = self._current_file()
            if ext:
                if self._equals(values):
                    return
                self._log(
                    logging.WARNING, "The parameters differ from the previous ones; notata replaces %s", _KEYS[ext]
                )
            self._store_file("yaml", values, content)

    def _equals(self, values: Mapping[str, Any]) -> bool:
        """Check whether the stored values equal these, as stored: NaN equals NaN, and JSON keys are strings."""
        try:
            stored, (ext, _) = self._stored(), self._current_file()
        except DecodeError:
            return False
        data = encoded(self._store, values, ext)
        if formats.equal(stored, _values(self._store, ext, data)):
            return True
        with suppress(EncodeError):  # a file written by hand can contain values that notata does not write
            return encoded(self._store, stored, ext) == data
        return False

    def _current_file(self) -> tuple[str, bytes]:
        with self._lock.held():
            if self._file is None:
                self._file = _stored(self._store)
            return self._file

    def _stored(self) -> dict[str, Any]:
        known = self._values
        if known is not None:  # readers do not wait for writers
            return known
        with self._lock.held():
            values = _values(self._store, *self._current_file())
            self._values = values
            return values

    def known(self) -> Mapping[str, Any] | None:
        """Return the values if they are in memory, without a request and without waiting for a writer, else None.

        Raises:
            DecodeError: The file of an earlier attempt is damaged.
        """
        values, file = self._values, self._file
        return _values(self._store, *file) if values is None and file is not None else values

    def file(self, *, look: bool = False) -> tuple[str, bytes] | None:
        """Return key and content of the file, both empty if there is none; None if that is unknown.

        Args:
            look: Read the file of an earlier attempt, if it is unknown. Otherwise no request is made.
        """
        file = self._current_file() if look else self._file
        return None if file is None else (_KEYS.get(file[0], ""), file[1])

    def plain(self, key: str, data: bytes) -> dict[str, Any]:
        """Return the values in a content of the file, with text as keys, as metadata.json repeats them. No request.

        Raises:
            DecodeError: The content is damaged.
            EncodeError: Two keys become the same text.
        """
        content, values = self._given
        if content is data:
            return values
        return dict(formats.plain(decoded(data, "json" if key == keys.PARAMS_JSON else "yaml"), "params"))

    def __getitem__(self, name: str) -> Any:
        return copy.deepcopy(self._stored()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._stored()))

    def __len__(self) -> int:
        return len(self._stored())

    def __repr__(self) -> str:
        return f"Parameters({self._stored()!r})"
