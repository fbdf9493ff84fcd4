"""The parameters of one run, params.yaml or params.json: merged, stored and read; it knows no other file of the run."""

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
"""The keys of the files that may hold the parameters of a run; of both the first one counts, as in 0.3.0."""


def encoded(store: Store, values: Mapping[str, Any], ext: str = "yaml") -> bytes:
    """The bytes of the file that holds these values.

    Raises:
        EncodeError: A value has no plain form; the message names it. Or they are too many or too large to be read
            again, see `notata._base.limits`.
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
            f"params has too many values to be read again: {error}; store arrays by array() or json()", where="params"
        ) from error


def named(values: object) -> Mapping[str, Any]:
    """Return the names and values of a mapping, or of an object that has named values.

    Raises:
        ConfigurationError: It has none.

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
            f"params are names and values, such as {{'omega': 2.0}}, an argparse.Namespace, a dataclass, or an attrs "
            f"or pydantic object, not {type(values).__name__}"
        )
    return {str(name): value for name, value in found}


def decoded(data: bytes, ext: str = "yaml") -> dict[str, Any]:
    """The values that the bytes of such a file hold; an empty YAML holds none.

    Raises:
        DecodeError: They are damaged, or no names and values.

    >>> decoded(b"omega: 2.0")
    {'omega': 2.0}
    """
    values = formats.decode(_FORMS[ext], data)
    if ext == "json" and limits.has_too_many_values(values):
        raise DecodeError(f"this JSON has more than {limits.VALUES:,} values")
    if values is not None and not isinstance(values, dict):
        raise DecodeError(f"it holds {indefinite(type(values).__name__)}, where names and values are needed")
    return values or {}


def parameters(store: Store) -> dict[str, Any]:
    """The parameters of the run at a store's root; empty if it has none. One request for YAML, two for JSON or none.

    Raises:
        DecodeError: The file is damaged.
        StorageError: It cannot be read.
    """
    ext, data = _stored(store)
    return _values(store, ext, data)


def _stored(store: Store) -> tuple[str, bytes]:
    """Which file there is, and its bytes."""
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
        raise DecodeError(f"{store.url}/{key} cannot be read: {error}", url=store.url, key=key) from error


class Parameters(Mapping[str, Any]):
    """The parameters of a run: a mapping to read them, and a call to add to them.

    What is read is what a reader of the run gets: a ``numpy.float32`` that was given is a float here, and a path a
    string. No request, but the first time in a run that went on.

    Safe to use from many threads.
    """

    def __init__(
        self,
        store: Store,
        check: Callable[[], None],
        say: Callable[..., None],
        stored: Callable[[], None],
        *,
        new: bool,
    ) -> None:
        self._store = store
        self._check = check
        self._say = say
        self._tell = stored
        self._lock = Lock()
        self._file: tuple[str, bytes] | None = ("", b"") if new else None
        self._values: dict[str, Any] | None = {} if new else None
        self._there: set[str] = set()  # files that there may be
        self._merging: FrameType | None = None  # the call that merges values; see `is_running`
        self._left: dict[str, Any] = {}  # what a signal handler has left to it

    def __call__(self, /, ext: str = "yaml", **values: Any) -> None:
        """Merge values into the parameters, and store them as ``params.yaml`` or ``params.json``.

        Atomic. One request; one more where the other file is there, which is removed: there is one set of parameters.

        Args:
            ext: ``yaml`` or ``json``.
            **values: As for `Logbook.json`; a parameter that was there is replaced.

        Raises:
            ConfigurationError: `ext` is neither.
            EncodeError: A value has no plain form; nothing was changed.
            RunDisplacedError: Another writer has the run by now.
            StorageError: The storage refused; the previous file is untouched.

        >>> log.params(omega=2.0, steps=100)
        >>> log.params(steps=200)
        >>> log.params["steps"], dict(log.params)
        (200, {'omega': 2.0, 'steps': 200})
        """
        if not isinstance(ext, str) or ext not in _KEYS:
            if formats.members(ext) is not None:
                raise ConfigurationError(
                    "parameters are keywords: params(omega=2.0), or params(**values); of an object params(**vars(it))"
                )
            raise ConfigurationError(f"ext is 'yaml' or 'json', not {ext!r}", url=self._store.url)
        self._check()
        with self._lock.held():
            self._merge(ext, values)
        self._tell()

    def _merge(self, ext: str, values: Mapping[str, Any]) -> None:
        """Store the present values with these. A signal handler leaves its own to the call that it interrupts."""
        if is_running(self._merging):
            encoded(self._store, values, ext)  # what cannot be stored is refused here
            self._left = {**self._left, **values}
            return
        self._merging = sys._getframe()
        try:
            self._put(ext, {**self, **values})
        finally:
            self._store_left(ext)

    def _store_left(self, ext: str) -> None:
        """Store what signal handlers left; their calls have returned, so one interrupt does not keep it from that."""
        interrupt: BaseException | None = None
        while left := self._left:
            try:
                self._put(ext, {**self, **left})
            except Exception:
                raise
            except BaseException as error:
                if interrupt is not None:
                    raise
                interrupt = error
                continue
            if self._left is left:
                self._left = {}
        if interrupt is not None:
            raise interrupt

    def _put(self, ext: str, values: Mapping[str, Any]) -> None:
        data = encoded(self._store, values, ext)
        self._there |= {self._now()[0], ext} - {""}
        self._store.write(_KEYS[ext], data)
        if others := self._there - {ext}:
            self._file = self._values = None  # which of them counts if the next request fails, the storage tells
            self._store.delete([_KEYS[other] for other in others])
            self._there = {ext}
        self._file, self._values = (ext, data), None
        self._say(logging.INFO, "Saved params (%s) in %s", ext, _KEYS[ext])

    def begin(self, values: Mapping[str, Any]) -> None:
        """Store those of a run that begins, or in place of those that a run had which goes on."""
        with self._lock.held():
            ext, _ = self._now()
            if ext:
                if self._are(values):
                    return
                self._say(logging.WARNING, "The parameters are not those of before: %s is replaced", _KEYS[ext])
            self._put("yaml", values)

    def _are(self, values: Mapping[str, Any]) -> bool:
        """Whether the stored ones are these; a NaN is one that is there, and in JSON every key is a string."""
        try:
            stored, (ext, _) = self._stored(), self._now()
        except DecodeError:
            return False
        data = encoded(self._store, values, ext)
        if formats.equal(stored, _values(self._store, ext, data)):
            return True
        with suppress(EncodeError):  # what was written by hand may hold what we do not write
            return encoded(self._store, stored, ext) == data
        return False

    def _now(self) -> tuple[str, bytes]:
        with self._lock.held():
            if self._file is None:
                self._file = _stored(self._store)
            return self._file

    def _stored(self) -> dict[str, Any]:
        known = self._values
        if known is not None:  # who reads does not wait for who writes
            return known
        with self._lock.held():
            values = _values(self._store, *self._now())
            self._values = values
            return values

    def __getitem__(self, name: str) -> Any:
        return copy.deepcopy(self._stored()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._stored()))

    def __len__(self) -> int:
        return len(self._stored())

    def __repr__(self) -> str:
        return f"Parameters({self._stored()!r})"
