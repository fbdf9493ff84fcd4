"""Exceptions and warnings of notata.

Each exception is also the builtin that a caller expects, so ``except FileExistsError`` works::

    NotataError
    ├── KeyNameError (ValueError)              the name is not a valid key; nothing was written
    ├── EncodeError (TypeError, ValueError)    the format cannot store this value
    ├── DecodeError (ValueError)               the format cannot read this file
    ├── PackageMissingError (ImportError, RuntimeError)  an optional package is not installed
    ├── ConfigurationError (ValueError)        invalid base_dir, protocol or option
    ├── RunExistsError (FileExistsError)       a run with this id already exists
    ├── RunDisplacedError (RuntimeError)       another writer has taken over the run
    ├── RunEndedError (RuntimeError)           the run has already ended
    ├── SweepError (RuntimeError)              a sweep could not continue, or has points without a complete run
    ├── BatchError (ExceptionGroup)            several keys of one batch failed, each with its own error
    └── StorageError (OSError)                 the storage refused the request or failed
        ├── MissingError (FileNotFoundError)         there is no file under this key
        │   ├── ContainerMissingError                the bucket does not exist
        │   └── UnknownNameError (KeyError)          no file, array or run has this name; the message lists valid names
        │       └── RunMissingError (ValueError)     the run or experiment does not exist
        ├── ExistsError (FileExistsError)            exclusive create: the file already exists
        ├── ConflictError                            compare-and-swap or append: the content has changed
        ├── FolderError (IsADirectoryError, NotADirectoryError)  a file where a folder is needed, or the reverse
        ├── LinkError                                a link where a file or folder is needed; notata does not follow it
        ├── AccessError (PermissionError)            missing credentials or permissions
        ├── UnreachableError (ConnectionError)       no server answered at this address
        ├── TooLargeError (DecodeError)              the file is too large to read whole
        ├── DeadlineError (TimeoutError)             no answer in time; it is unknown whether the operation took effect
        ├── FullError                                no space left
        └── StoredNameError (KeyNameError)           the name of a stored file cannot be used here

    UnprotectedWarning (UserWarning)           the storage cannot guarantee that a run has only one writer
    DamagedFileWarning (UserWarning)           a listing cannot read a damaged file
    IncompleteListingWarning (UserWarning)     a listing skipped a folder or a file

    Terminated (SystemExit)                    the process received SIGTERM
    SweepInterrupted (KeyboardInterrupt)       Ctrl-C ended a sweep
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence
from typing import Any, Final, Self

from notata._base.secrets import redacted
from notata._base.terminal import one_line

__all__ = [
    "AccessError",
    "BatchError",
    "ConfigurationError",
    "ConflictError",
    "ContainerMissingError",
    "DamagedFileWarning",
    "DeadlineError",
    "DecodeError",
    "EncodeError",
    "ExistsError",
    "FolderError",
    "FullError",
    "IncompleteListingWarning",
    "KeyNameError",
    "LinkError",
    "MissingError",
    "NotataError",
    "PackageMissingError",
    "RunDisplacedError",
    "RunEndedError",
    "RunExistsError",
    "RunMissingError",
    "StorageError",
    "StoredNameError",
    "SweepError",
    "TooLargeError",
    "UnknownNameError",
    "UnprotectedWarning",
    "UnreachableError",
]


_LONGEST: Final = 4000  # characters of a message


def _message(text: str, url: str | None = None) -> str:
    return one_line(redacted(text[: 10 * _LONGEST], url or ""), _LONGEST)


class NotataError(Exception):
    """Base class of all notata exceptions.

    The message is one printable line of at most 4000 characters. Credentials are redacted, also in text that comes
    from a file or a server.

    Attributes:
        url: The storage location concerned, without credentials; None if there is none.
        key: The key below `url`; None if the error does not concern a single key.
    """

    def __init__(self, message: str, *, url: str | None = None, key: str | None = None) -> None:
        super().__init__(_message(message, url))
        self.url = url
        self.key = key


class KeyNameError(NotataError, ValueError):
    """The name is not a valid key on every backend, so notata wrote nothing. Choose another name.

    >>> from notata import Logbook
    >>> try:
    ...     path = Logbook("names", "memory://errors").text("../other/notes", "")
    ... except ValueError as error:
    ...     print(type(error).__name__)
    KeyNameError
    """


class EncodeError(NotataError, TypeError, ValueError):
    """The format cannot store this value. notata stored nothing; a previous file is unchanged.

    Attributes:
        where: The path to the unsupported part of the value, e.g. ``"metrics.layers[3].weight"``.
    """

    def __init__(self, message: str, *, where: str = "", url: str | None = None, key: str | None = None) -> None:
        super().__init__(message, url=url, key=key)
        self.where = where


class DecodeError(NotataError, ValueError):
    """The format cannot read this file: it is damaged, truncated, or its suffix does not match its content.

    The message says what is wrong. `LogReader.load_bytes` returns the bytes of any artifact.
    """


class PackageMissingError(NotataError, ImportError, RuntimeError):
    """An optional package is not installed; the message says how to install it."""


class ConfigurationError(NotataError, ValueError):
    """A base folder, protocol, option or argument is invalid, or its package is missing. The message says which."""


class RunExistsError(NotataError, FileExistsError):
    """A run with this id already exists, is running and cannot be resumed, or is pinned and cannot be removed.

    Pass another id or none, ``resume=True`` to continue the run, or ``overwrite=True`` to start over.

    Attributes:
        status: The status of the existing run, such as ``complete`` or ``running``; None if it is unknown.
        reader: The existing run as a `notata.LogReader`; None if the error does not come from a `notata.Logbook`. It
            contains credentials, so it is not pickled with the error.

    >>> from notata import Logbook
    >>> Logbook("once", "memory://taken").mark_complete()
    >>> try:
    ...     log = Logbook("once", "memory://taken", resume="unfinished")
    ... except RunExistsError as error:
    ...     print(error.status, error.reader.meta["status"])
    complete complete
    """

    status: str | None = None
    reader: Any = None  # a LogReader, which this module cannot import

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments, state = (*super().__reduce__(), None)[:3]
        return kind, arguments, {name: value for name, value in (state or {}).items() if name != "reader"}


class RunDisplacedError(NotataError, RuntimeError):
    """Another writer has taken over the run, whose state is unchanged. Stop this writer: it can store nothing more."""


class RunEndedError(NotataError, RuntimeError):
    """The run has already ended, and its status cannot change. Start a new run, or resume it with ``resume=True``."""


class SweepError(NotataError, RuntimeError):
    """A sweep could not continue, or has points without a complete run. Make the same call again to run the rest.

    Attributes:
        result: The `notata.sweep.SweepResult`: what was done, and what failed. It contains credentials, so it is not
            pickled with the error.
    """

    result: Any = None  # a SweepResult, which this module cannot import

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments, state = (*super().__reduce__(), None)[:3]
        return kind, arguments, {name: value for name, value in (state or {}).items() if name != "result"}


class StorageError(NotataError, OSError):
    """The storage refused the request or failed. The exception of the storage library is the cause.

    `errno` has the value of the corresponding builtin exception, so code that checks it works on every backend.
    """

    code: int = errno.EIO

    def __init__(self, message: str, *, url: str | None = None, key: str | None = None) -> None:
        super().__init__(message, url=url, key=key)
        self.errno = self.code


class MissingError(StorageError, FileNotFoundError):
    """There is no file under this key. It is a `FileNotFoundError`."""

    code = errno.ENOENT


class ContainerMissingError(MissingError):
    """The bucket does not exist. notata does not create buckets."""


class UnknownNameError(MissingError, KeyError):
    """No file of the run, array of the bundle or run of the experiment has this name.

    The message lists the names that exist.
    """

    __str__ = Exception.__str__  # KeyError.__str__ returns the repr of the message


class RunMissingError(UnknownNameError, ValueError):
    """There is no run or experiment with this id or at this location."""


class ExistsError(StorageError, FileExistsError):
    """An exclusive create found an existing file, which is unchanged."""

    code = errno.EEXIST


class ConflictError(StorageError):
    """Another process has changed the stored content, which stays as it is. Read it again, then write."""

    code = errno.EAGAIN


class FolderError(StorageError, IsADirectoryError, NotADirectoryError):
    """There is a file where a folder is needed, or a folder where a file is needed."""

    code = errno.ENOTDIR


class LinkError(StorageError):
    """There is a link where a file or a folder is needed. notata did not follow it and changed nothing."""

    code = errno.ELOOP


class AccessError(StorageError, PermissionError):
    """The storage refused these credentials or permissions. It is a `PermissionError`."""

    code = errno.EACCES


class UnreachableError(StorageError, ConnectionError):
    """No server answered at the address of the storage. It is a `ConnectionError`."""

    code = errno.ECONNREFUSED


class DeadlineError(StorageError, TimeoutError):
    """The storage did not answer in time. It is unknown whether the operation took effect; writing again is safe."""

    code = errno.ETIMEDOUT


class TooLargeError(StorageError, DecodeError):
    """A file exceeds the size limit for files that notata reads as a whole. It may be damaged or forged."""

    code = errno.EFBIG


class FullError(StorageError):
    """No space or quota is left on the storage. The previous content is unchanged."""

    code = errno.ENOSPC


class StoredNameError(StorageError, KeyNameError):
    """A stored file has a name that is not a valid key, or that its disk treats as the name of another file."""

    code = errno.EINVAL


class BatchError(NotataError, ExceptionGroup[Exception]):
    """Several files of one call failed; `exceptions` has one error for each. The call succeeded for all other files.

    It is an `ExceptionGroup`, so ``except* OSError`` handles the errors of the storage among them.
    """

    def __new__(cls, message: str, errors: Sequence[Exception]) -> Self:
        return ExceptionGroup.__new__(cls, _message(message), errors)

    def __init__(self, message: str, errors: Sequence[Exception]) -> None:
        ExceptionGroup.__init__(self, _message(message), errors)
        self.url = None
        self.key = None

    def derive(self, errors: Sequence[Exception]) -> BatchError:  # type: ignore[override]
        return BatchError(self.message, errors)


class UnprotectedWarning(UserWarning):
    """The storage cannot guarantee that a run has exactly one writer. Give each run its own id."""


class DamagedFileWarning(UserWarning):
    """A damaged file cannot be read for a listing. Loading the file raises an error."""


class IncompleteListingWarning(UserWarning):
    """A listing skipped a folder that it could not open, or a file whose name is not a valid key."""


class Terminated(SystemExit):
    """The process received SIGTERM. `notata._base.exits.Sigterm` raises this exception in the main thread.

    It is a `SystemExit` with code 143, so ``except Exception`` does not catch it.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "SIGTERM"


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a sweep, after the runs that had begun. Make the same call again to run the rest.

    It is a `KeyboardInterrupt`, so ``except Exception`` does not catch it.

    Attributes:
        result: The `notata.sweep.SweepResult` of what was done.
    """

    def __init__(self, result: Any = None) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        done = f" ({self.result})" if self.result is not None else ""
        return f"the sweep was interrupted{done}; make the same call again to run the rest"
