"""Every error of notata; it knows only how a text becomes one line without secrets.

Each is also the builtin that a caller would expect, so ``except FileExistsError`` works::

    NotataError
    ├── KeyNameError (ValueError)              a name that cannot be a key, refused before anything is written
    ├── EncodeError (TypeError, ValueError)    a value that its format cannot hold
    ├── DecodeError (ValueError)               a file that its format cannot read
    ├── PackageMissingError (ImportError, RuntimeError)  an optional package is not installed
    ├── ConfigurationError (ValueError)        a base_dir, protocol or option that cannot work
    ├── RunExistsError (FileExistsError)       the run id is taken
    ├── RunDisplacedError (RuntimeError)       another writer owns the run by now
    ├── RunEndedError (RuntimeError)           the run has ended and takes no second ending
    ├── BatchError (ExceptionGroup)            several keys of one batch failed, each with its own error
    └── StorageError (OSError)                 the storage refused or failed
        ├── MissingError (FileNotFoundError)         nothing under this key
        │   ├── ContainerMissingError                no such bucket
        │   └── UnknownNameError (KeyError)          no file, array or run of this name; the message lists what there is
        │       └── RunMissingError (ValueError)     no run, or no experiment
        ├── ExistsError (FileExistsError)            an exclusive create that lost
        ├── ConflictError                            compare and swap, or append: the content is another one by now
        ├── FolderError (IsADirectoryError, NotADirectoryError)  a file where a folder is needed, or the reverse
        ├── LinkError                                a link where a file or a folder is needed; it is not followed
        ├── AccessError (PermissionError)            credentials or permissions
        ├── UnreachableError (ConnectionError)       no server answered at this address
        ├── TooLargeError (DecodeError)              a file is too large to be read whole
        ├── DeadlineError (TimeoutError)             no answer in time; the effect is unknown
        ├── FullError                                no space left
        └── StoredNameError (KeyNameError)           a stored file has a name that cannot be used here

    UnprotectedWarning (UserWarning)           the storage cannot promise that a run has one writer
    DamagedFileWarning (UserWarning)           a listing cannot look into a file
    IncompleteListingWarning (UserWarning)     a listing skipped a folder or a file

    Terminated (SystemExit)                    SIGTERM asked the process to end
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
    "TooLargeError",
    "UnknownNameError",
    "UnprotectedWarning",
    "UnreachableError",
]


_LONGEST: Final = 4000  # characters of a message


def _message(text: str, url: str | None = None) -> str:
    return one_line(redacted(text[: 10 * _LONGEST], url or ""), _LONGEST)


class NotataError(Exception):
    """The root of all errors of notata.

    Its message is one printable line of at most 4000 characters without credentials, whatever a file or a server put
    into it.

    Attributes:
        url: The storage location concerned, without credentials; None where none is.
        key: The key below `url`; None where the error is not about one key.
    """

    def __init__(self, message: str, *, url: str | None = None, key: str | None = None) -> None:
        super().__init__(_message(message, url))
        self.url = url
        self.key = key


class KeyNameError(NotataError, ValueError):
    """A name that cannot be a key on every backend."""


class EncodeError(NotataError, TypeError, ValueError):
    """A value that its format cannot hold.

    Attributes:
        where: The path to the offending part inside the value, e.g. ``"metrics.layers[3].weight"``.
    """

    def __init__(self, message: str, *, where: str = "", url: str | None = None, key: str | None = None) -> None:
        super().__init__(message, url=url, key=key)
        self.where = where


class DecodeError(NotataError, ValueError):
    """A stored file that its format cannot read: damaged, cut off, or of another format than its name says."""


class PackageMissingError(NotataError, ImportError, RuntimeError):
    """An optional package is not installed; the message says how to get it."""


class ConfigurationError(NotataError, ValueError):
    """A base folder, protocol or option that cannot work."""


class RunExistsError(NotataError, FileExistsError):
    """The run id is taken.

    Attributes:
        status: The status of the run that has the id, such as ``complete`` or ``running``; None if it is not known.
        reader: That run as a `notata.LogReader`; None if the error does not come from a `notata.Logbook`. It is not
            pickled with the error, as it holds credentials.

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
    """Another writer owns the run by now: nothing of the run's state was changed."""


class RunEndedError(NotataError, RuntimeError):
    """The run has ended already, and its end stands."""


class StorageError(NotataError, OSError):
    """The storage refused or failed; its own error is the cause.

    `errno` is set as on the builtin twin, so code that looks at it works on every backend.
    """

    code: int = errno.EIO

    def __init__(self, message: str, *, url: str | None = None, key: str | None = None) -> None:
        super().__init__(message, url=url, key=key)
        self.errno = self.code


class MissingError(StorageError, FileNotFoundError):
    """Nothing is stored under this key."""

    code = errno.ENOENT


class ContainerMissingError(MissingError):
    """The bucket does not exist."""


class UnknownNameError(MissingError, KeyError):
    """Nothing has this name: no file of a run, no array of a bundle, no run of an experiment.

    The message lists what there is.
    """

    __str__ = Exception.__str__  # a KeyError would show the repr


class RunMissingError(UnknownNameError, ValueError):
    """There is no run, or no experiment, at this place or of this id."""


class ExistsError(StorageError, FileExistsError):
    """An exclusive create met an existing file; that file is untouched."""

    code = errno.EEXIST


class ConflictError(StorageError):
    """The stored content is not the one that was expected; it is untouched."""

    code = errno.EAGAIN


class FolderError(StorageError, IsADirectoryError, NotADirectoryError):
    """A file where a folder is needed, or a folder where a file is needed."""

    code = errno.ENOTDIR


class LinkError(StorageError):
    """A link lies where a file or a folder is needed. notata did not follow it, and changed nothing."""

    code = errno.ELOOP


class AccessError(StorageError, PermissionError):
    """The storage refused these credentials or permissions."""

    code = errno.EACCES


class UnreachableError(StorageError, ConnectionError):
    """Nobody answered at the storage's address."""

    code = errno.ECONNREFUSED


class DeadlineError(StorageError, TimeoutError):
    """No answer in time. Whether the operation took effect is unknown."""

    code = errno.ETIMEDOUT


class TooLargeError(StorageError, DecodeError):
    """A file exceeds the size that notata itself reads whole: it is damaged, forged, or far larger than usual."""

    code = errno.EFBIG


class FullError(StorageError):
    """No space left on the storage."""

    code = errno.ENOSPC


class StoredNameError(StorageError, KeyNameError):
    """A stored file has a name that no key can have, or that its disk takes for the name of another file."""

    code = errno.EINVAL


class BatchError(NotataError, ExceptionGroup[Exception]):
    """Several keys of one batch failed; `exceptions` holds each key's own error."""

    def __new__(cls, message: str, errors: Sequence[Exception]) -> Self:
        return ExceptionGroup.__new__(cls, _message(message), errors)

    def __init__(self, message: str, errors: Sequence[Exception]) -> None:
        ExceptionGroup.__init__(self, _message(message), errors)
        self.url = None
        self.key = None

    def derive(self, errors: Sequence[Exception]) -> BatchError:  # type: ignore[override]
        return BatchError(self.message, errors)


class UnprotectedWarning(UserWarning):
    """This storage cannot promise that a run has exactly one writer."""


class DamagedFileWarning(UserWarning):
    """A file is damaged, so a listing cannot tell what is in it; to load it is an error."""


class IncompleteListingWarning(UserWarning):
    """A listing skipped a folder that it could not open, or a file whose name no key can have."""


class Terminated(SystemExit):
    """The process was asked to end by SIGTERM; raised in its main thread by `notata._base.exits.Sigterm`.

    It is a `SystemExit` with the code 143, so ``except Exception`` does not swallow it.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "SIGTERM"
