"""Keep the errors of lost writes until their keys are stored, and report each error once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from notata._base.display import listed
from notata.errors import BatchError, NotataError

__all__ = ["Losses", "Lost"]

_NAMED: Final = 5  # lost keys that a message names

Lost = Callable[[str, NotataError], None]
"""Called for each failed write, in any thread; it must not wait for the storage."""


class Losses:
    """The lost writes by key. Each change is one atomic operation of a dictionary, so there is no lock.

    Args:
        url: The location of the store, for messages.
        on_lost: Called for each lost write.
    """

    def __init__(self, url: str, on_lost: Lost) -> None:
        self._url = url
        self._on_lost = on_lost
        self._errors: dict[str, NotataError] = {}
        self._unreported: dict[str, NotataError] = {}
        self._deferring = 0

    def add(self, key: str, error: NotataError) -> None:
        """Record a lost write, to be reported."""
        self._errors[key] = self._unreported[key] = error

    def add_reported(self, key: str, error: NotataError) -> None:
        """Record a lost write whose error is raised to its writer now."""
        known, self._errors[key] = self._errors.get(key), error
        self._unreported.pop(key, None)
        if known is not error:
            self.announce(key, error)

    def announce(self, key: str, error: NotataError) -> None:
        """Call the function for lost writes."""
        with suppress(Exception):  # a foreign logging handler must not end this thread
            self._on_lost(key, error)

    def forget(self, key: str) -> None:
        """Forget the lost write of a key, as the key is stored now."""
        self._errors.pop(key, None)
        self._unreported.pop(key, None)

    def clear(self) -> None:
        """Forget all lost writes."""
        self._errors.clear()
        self._unreported.clear()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Raise the unreported errors now, and none within the block."""
        self.raise_unreported()
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1

    def raise_unreported(self, without: Collection[str] = ()) -> None:
        """Raise the errors that were not reported yet, except for these keys."""
        if self._unreported and not self._deferring and (group := self.take(without=without)) is not None:
            raise group

    def take(self, *, again: bool = False, without: Collection[str] = ()) -> BatchError | None:
        """Return the errors that were not reported yet, or with `again` all; mark them as reported."""
        chosen = {key: error for key, error in self._errors.copy().items() if again and key not in without}
        for key in [key for key in self._unreported.copy() if key not in without]:
            if (error := self._unreported.pop(key, None)) is not None:
                chosen[key] = error
        if not chosen:
            return None
        chosen = dict(sorted(chosen.items()))
        what = "1 write was" if len(chosen) == 1 else f"{len(chosen)} writes were"
        return BatchError(f"{what} lost in {self._url}: {listed(chosen, _NAMED)}", list(chosen.values()))
