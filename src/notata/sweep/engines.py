"""Run functions for a sweep: the interface of an `Engine`, which hides the executor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any, Protocol

__all__ = ["Engine", "Future"]


class Future(Protocol):
    """The result of a call that has been submitted, as of `concurrent.futures.Future`."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Call `fn` with this object once the call has ended, in any thread."""

    def result(self) -> Any:
        """Return the result of the call, or raise its exception."""

    def cancel(self) -> object:
        """Cancel the call if it has not begun."""


class Engine(ABC):
    """Runs functions for a sweep. All methods are called by one thread, `halt` by a signal handler in it, too.

    Attributes:
        in_process: Whether the functions run in this process, so that objects need not be pickled.
        imports_main: Whether the other processes import the script of this one, so that pickle can refer to its
            functions. If not, cloudpickle sends their code.
        most: The number of calls to submit at most, before one has ended; None: any.
    """

    in_process = False
    imports_main = False
    most: int | None = None

    @abstractmethod
    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Begin a call, or queue it.

        Raises:
            Exception: Any; no further call can be submitted.
        """

    def share(self, job: bytes) -> Any:
        """Return what is passed to each call in place of `job`, such as the address of a copy near the workers."""
        return job

    def is_loss(self, error: BaseException) -> bool:
        """Check whether a call has ended because its worker was lost, and is worth another submission."""
        return isinstance(error, BrokenExecutor | CancelledError)

    def halt(self) -> None:  # noqa: B027 - an executor has no such verb
        """Begin none of the queued calls, as far as that takes no waiting."""

    def stop(self) -> None:
        """Begin none of the queued calls, as far as possible; their futures are cancelled by the caller, too."""
        self.halt()

    def close(self) -> None:  # noqa: B027 - an executor of the user stays open
        """Wait for the calls that have begun, and end what this engine has started."""

    def abandon(self) -> None:
        """End what this engine has started, without waiting for calls."""
        self.close()
