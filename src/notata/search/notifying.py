"""Delivery of alerts: a POST to a webhook, or a call of a command. The text of a run is data in both.

Nothing of a run becomes part of a command line or an address. The address of a webhook is often a secret itself, so
messages show only its server.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

from notata._base.secrets import redacted
from notata._base.terminal import one_line
from notata.errors import ConfigurationError
from notata.search.alert import Alert

__all__ = ["Command", "DeliveryError", "Notify", "Webhook", "deliverer"]

Notify: TypeAlias = "Callable[[Alert], object]"
"""Called with each new alert; an exception means that it was not delivered."""

_TIMEOUT: Final = 10.0  # seconds for each step of a request
_LONGEST: Final = 60.0  # seconds that a command may take
_WHY: Final = 300  # characters of the reason of a server


class DeliveryError(RuntimeError):
    """An alert was not delivered. The message is one line without secrets; it begins with what failed."""


def deliverer(notify: str) -> Notify:
    """Return the function that delivers alerts to a webhook (``https://…``, ``http://…``) or a command.

    Raises:
        ConfigurationError: It is neither.

    >>> deliverer("https://hooks.example.org/services/T0/B0/secret"), deliverer("mail -s 'a run failed' ada")
    (Webhook('https://hooks.example.org'), Command('mail'))
    """
    return Webhook(notify) if notify.lower().startswith(("http://", "https://")) else Command(notify)


class Webhook:
    """Posts each alert as JSON to a web address, within 10 seconds and without following a redirect.

    The body has the fields of `Alert.record`, ``text`` (as Slack, Mattermost and Teams expect) and ``content`` (as
    Discord expects). A user and password in the address become basic authentication.

    Args:
        url: The address, of the scheme http or https.
        timeout: Seconds for each step of the request.

    Raises:
        ConfigurationError: It is no web address.
    """

    def __init__(self, url: str, timeout: float = _TIMEOUT) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in ("http", "https") or any(ord(one) <= 32 for one in url):
            raise ConfigurationError(
                "the address for notify is not a web address. Write it as https://server/path, in quotes"
            )
        place = f"[{host}]" if ":" in host else host
        server = f"{place}:{port}" if port else place
        self._shown = f"{parts.scheme}://{server}"
        self._url = urlunsplit((parts.scheme, server, parts.path, parts.query, ""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "notata"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        return f"Webhook({self._shown!r})"

    def __call__(self, alert: Alert) -> None:
        """Post an alert.

        Raises:
            DeliveryError: No server answered in time, or its status is not 2xx.
        """
        body = json.dumps(_body(alert)).encode()
        request = urllib.request.Request(self._url, body, self._headers, method="POST")  # noqa: S310 - checked above
        try:
            with self._opener.open(request, timeout=self._timeout) as reply:
                reply.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            raise DeliveryError(f"{self._shown} answered {error.code}{_advice(error.code)}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise DeliveryError(f"{self._shown} could not be reached: {self._reason(error)}") from None

    def _reason(self, error: BaseException) -> str:
        """Return the reason without the address, which may be a secret."""
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError | socket.timeout):
            return f"no answer within {self._timeout:g} s"
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(redacted(cause.strerror), _WHY)
        return type(cause).__name__


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would send the alert, as a GET without it, to an address that the user did not name."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _advice(code: int) -> str:
    if 300 <= code < 400:
        return ", a redirect, which notata does not follow; pass the address that it leads to"
    return "; check the address of the webhook" if code in (401, 403, 404, 410) else ""


def _body(alert: Alert) -> dict[str, Any]:
    text = alert.text.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")  # "<!channel>" calls everyone
    text = text.replace(">", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}")
    return {"text": text, "content": text, "allowed_mentions": {"parse": []}, **alert.record()}


class Command:
    """Calls a program for each alert, without a shell: the alert is JSON on its standard input, and in variables.

    The variables are ``NOTATA_RUN_ID``, ``NOTATA_NAME``, ``NOTATA_URL``, ``NOTATA_STATUS``, ``NOTATA_WHY``,
    ``NOTATA_HOST``, ``NOTATA_STARTED``, ``NOTATA_ENDED`` and ``NOTATA_TEXT``. Each is one line without control
    characters.

    Args:
        line: The command line, split into words as a shell does; nothing else in it is interpreted.
        timeout: Seconds after which the program is killed.

    Raises:
        ConfigurationError: It has no words, or a quote is missing.
    """

    def __init__(self, line: str, timeout: float = _LONGEST) -> None:
        try:
            self._words = shlex.split(line)
        except ValueError as error:
            raise ConfigurationError(f"the command for notify cannot be split into words: {error}") from None
        if not self._words or "\0" in line:
            raise ConfigurationError("the command for notify is empty. Write a program and its arguments")
        self._timeout = timeout

    @property
    def _shown(self) -> str:
        return one_line(os.path.basename(self._words[0]), 100)

    def __repr__(self) -> str:
        return f"Command({self._shown!r})"

    def __call__(self, alert: Alert) -> None:
        """Call the program.

        Raises:
            DeliveryError: It cannot be started, takes too long, or its exit code is not 0.
        """
        body = f"{json.dumps({'text': alert.text, **alert.record()})}\n".encode()
        try:
            done = subprocess.run(
                self._words, input=body, env={**os.environ, **_variables(alert)}, timeout=self._timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"{self._shown} did not end within {self._timeout:g} s, so notata killed it") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise DeliveryError(f"{self._shown} cannot be started: {reason}") from None
        if done.returncode:
            how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
            raise DeliveryError(f"{self._shown} ended with {how}")


def _variables(alert: Alert) -> Mapping[str, str]:
    names = ("run_id", "name", "url", "status", "why", "host", "started", "ended")
    fields = alert.record()
    return {f"NOTATA_{name.upper()}": str(fields[name] or "") for name in names} | {"NOTATA_TEXT": alert.text}
