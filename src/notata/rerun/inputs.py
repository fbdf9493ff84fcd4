"""Check whether the inputs that a run recorded are still there and unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from notata._base import keys
from notata._base.terminal import one_line
from notata.errors import MissingError, NotataError
from notata.run.inputs import Input, stored
from notata.run.inspection import Inspector
from notata.store import Store

__all__ = ["ChangedInput", "changed_inputs", "inputs_of", "scheme_of"]

_WORKERS: Final = 1000


@dataclass(frozen=True, slots=True)
class ChangedInput:
    """An input that is not as the run recorded it.

    Attributes:
        url: Its address, as recorded.
        was: Its recorded size, digest or version.
        now: The same now; or why it cannot be read.
    """

    url: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{one_line(self.url, 300)}: was {one_line(self.was, 100)}, now {one_line(self.now, 200)}"


def inputs_of(store: Store) -> list[Input]:
    """Return the inputs of a run and of its workers, each once. One read; for workers a listing, and one read each."""
    found = stored(store)
    for entry in store.list(keys.WORKERS, skipped=lambda _error: None)[:_WORKERS]:
        if entry.key.endswith(f"/{keys.INPUTS}"):
            found += stored(store, entry.key)
    last: dict[str, Input] = {}
    for one in found:
        last.setdefault(one.url, one)  # the first record: later ones may be of a file that the run itself changed
    return [*last.values()]


def scheme_of(place: str) -> str:
    """Return the protocol of a URL; empty for a path.

    >>> scheme_of("s3://bucket/a"), scheme_of("/data/a")
    ('s3', '')
    """
    return place.partition("://")[0] if "://" in place else ""


def changed_inputs(
    inputs: list[Input], place: Callable[[str], str], run: str, options: Mapping[str, Any] | None
) -> list[ChangedInput]:
    """Return the inputs that have changed or are missing.

    Cost: a look-up for each input; the content is read if the record has a digest and the size is the same.

    Args:
        inputs: The inputs.
        place: Returns where an input is looked up, as a file of the checkout is in the worktree.
        run: The URL of the run.
        options: Its storage options, which also hold for inputs on the same kind of storage.
    """
    inspector = Inspector("")
    found = []
    for one in inputs:
        where = place(one.url)
        given = options if scheme_of(where) == scheme_of(run) else None
        if (changed := _changed(one, inspector, where, given)) is not None:
            found.append(changed)
    return found


def _changed(one: Input, inspector: Inspector, place: str, options: Mapping[str, Any] | None) -> ChangedInput | None:
    try:
        now = inspector.inspect(place, False, options).found
        if None not in (one.size, now.size) and one.size != now.size:
            return ChangedInput(one.url, f"{one.size} bytes", f"{now.size} bytes")
        if one.version and now.version and not one.sha256:
            return None if one.version == now.version else ChangedInput(one.url, one.version, now.version)
        if not one.sha256:
            return None
        now = inspector.inspect(place, True, options).found
    except MissingError:
        return ChangedInput(one.url, _facts(one), "missing")
    except NotataError as error:
        return ChangedInput(one.url, _facts(one), f"unreadable: {error}")
    if now.sha256 == one.sha256:
        return None
    return ChangedInput(one.url, f"SHA-256 {one.sha256}", f"SHA-256 {now.sha256 or 'unknown'}")


def _facts(one: Input) -> str:
    known = [f"{one.size} bytes" if one.size is not None else "", f"SHA-256 {one.sha256}" if one.sha256 else ""]
    return ", ".join(filter(None, known)) or "of unknown size"
