"""Translate errors of storage client libraries to ours, whether or not those libraries are installed.

Their classes are identified by name, and HTTP responses by status.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from notata.errors import (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    DeadlineError,
    FullError,
    MissingError,
    NotataError,
    StorageError,
    UnreachableError,
)
from notata.store.builtin_errors import failure_of_builtin

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["as_builtin", "class_names", "failure_of_client", "is_dropped"]

_REFUSED: Final = frozenset({
    "AuthenticationException",  # paramiko
    "BadHostKeyException",
    "ClientAuthenticationError",  # azure
    "HostKeyNotVerifiable",  # asyncssh
    "LogonFailure",  # smbprotocol
    "PasswordRequiredException",
    "PermissionDenied",
    "SMBAuthenticationError",
})  # fmt: skip

_DROPPED: Final = frozenset({
    "ChannelException",  # paramiko
    "ChannelOpenError",  # asyncssh
    "ConnectionLost",
    "NoValidConnectionsError",
    "SFTPConnectionLost",
    "SFTPNoConnection",
    "SMBConnectionClosed",  # smbprotocol
    "SSHException",
    "ServiceRequestError",  # azure
    "TransportError",  # httpx
    "gaierror",
})  # fmt: skip

_CLOSED: Final = frozenset({errno.EBADF, errno.ENOTCONN})
"""Errors of a closed socket: a thread of smbprotocol may close one that another thread is about to use."""

_FTP: Final[dict[str, tuple[type[NotataError], str]]] = {
    "421": (UnreachableError, "the server closed the connection (421); try again later"),
    "530": (AccessError, "the server refused the login (530); check user and password"),
    "532": (AccessError, "the server requires an account to store files (532); pass acct in storage_options"),
    "452": (FullError, "no space left (452); free some space and write again, the previous content is unchanged"),
    "552": (FullError, "quota exceeded (552); free some space and write again, the previous content is unchanged"),
}
"""By the code of a reply, RFC 959."""

_SILENT: Final = frozenset({"ServiceResponseTimeoutError", "TimeoutException"})  # azure, httpx


def class_names(thing: object) -> set[str]:
    """Return the class names of an object and its bases. They identify classes of packages that may be missing."""
    return {kind.__name__ for kind in type(thing).__mro__}


def is_dropped(error: BaseException, fs: AbstractFileSystem | None = None) -> bool:
    """Check whether an error means that the connection is lost, so that a new one may succeed."""
    names = class_names(error)
    if fs is not None and _is_unnamed_login(names):
        return True
    if names & (_REFUSED | _SILENT) or isinstance(error, TimeoutError):
        return False
    return isinstance(error, ConnectionError | EOFError) or _is_lost(error, names) or _is_closed(fs)


def _is_lost(error: BaseException, names: set[str]) -> bool:
    return bool(names & _DROPPED) or (type(error) is OSError and error.errno in _CLOSED)


def _is_closed(fs: AbstractFileSystem | None) -> bool:
    """Check whether a client reports that it is not connected; some then raise arbitrary errors."""
    transport = getattr(getattr(fs, "client", None), "get_transport", None)  # paramiko
    if transport is not None:
        present = transport()
        return present is None or not present.is_active()
    ftp: Any = getattr(fs, "ftp", None)  # ftplib
    return hasattr(ftp, "lastresp") and (ftp.sock is None or str(ftp.lastresp).startswith("421"))


def _is_unnamed_login(names: set[str]) -> bool:
    """Check whether smbclient lost its session and then failed to log in without user and password."""
    return "SMBAuthenticationError" in names


def as_builtin(error: Exception) -> Exception:
    """Return the builtin twin of a call's error: smbprotocol's errors have the errno of one, but not its class."""
    if _is_unnamed_login(class_names(error)):
        return EOFError("the session was lost")
    if not isinstance(error, OSError) or type(error) is OSError or error.errno is None:
        return error
    twin = OSError(error.errno, error.strerror or "")
    return error if type(twin) is OSError or isinstance(error, type(twin)) else twin


def failure_of_client(error: BaseException) -> tuple[type[NotataError], str] | None:
    """Return our error class for an error and a hint for the user, or None if the error is unknown."""
    names = class_names(error)
    if isinstance(error, FileExistsError):
        return None  # it is more precise than the status of the response behind it
    if type(error) is ValueError and isinstance(cause := error.__cause__ or error.__context__, OSError):
        return failure_of_client(cause) or failure_of_builtin(cause, type(cause).__name__)  # smbprotocol, to connect
    if names & _REFUSED:
        return AccessError, "the server refused the credentials or the host key; check user, password and key"
    if names & _SILENT:
        return DeadlineError, (
            "no answer in time; the network or the server is stalled, and it is unknown whether the request took effect"
        )
    if "gaierror" in names:
        return UnreachableError, "the host name cannot be resolved; check the address"
    if isinstance(error, EOFError) or (_is_lost(error, names) and not isinstance(error, ConnectionRefusedError)):
        return UnreachableError, (
            "the connection was lost or could not be established; check the address and the network"
        )
    if "SFTPFailure" in names or (type(error) is OSError and str(error) == "Failure"):  # asyncssh, paramiko
        return StorageError, "the server reported only 'Failure' (SFTP); check for a full disk or an exceeded quota"
    if {"error_perm", "error_temp"} & names:  # ftplib
        return _FTP.get(str(error)[:3])
    status = _status(error)
    return None if status is None else _failure_of_status(status, str(getattr(error, "error_code", "")))


def _status(error: BaseException) -> int | None:
    """Return the status of the HTTP response that an error is, or was raised for."""
    for thing in (error, getattr(error, "response", None), error.__cause__):
        status = getattr(thing, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _failure_of_status(status: int, code: str) -> tuple[type[NotataError], str]:
    if status == 404 and "ContainerNotFound" in code:
        return ContainerMissingError, "there is no such container; create it, or correct its name"
    if status in (404, 410):
        return MissingError, "there is no such file"
    if status in (401, 403):
        return AccessError, f"the server refused the request ({status}); check user, password and permissions"
    if status == 507:
        return FullError, "no space left; free some space and write again, the previous content is unchanged"
    if status in (405, 501):
        return ConfigurationError, f"the server does not support this ({status}); check that this address is writable"
    return StorageError, f"the server answered {status} {code}".rstrip()
