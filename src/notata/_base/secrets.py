"""Find secrets by value and by form, and redact them in files, log lines, errors and reprs.

By value: credentials that this process knows. These are the storage options of its connections, credentials that the
client libraries resolved, and environment variables with secret names. By form: ``password=…``, ``Authorization: …``,
``//user:password@host``, signed URLs, private keys, and the tokens of well-known services.

A *hard* name (``password``) redacts any value. A *medium* name (``token``) redacts any value in a command line, but not
plain words and numbers in other text. A *weak* name (``key``) redacts only values that look random.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit, urlunsplit
from weakref import WeakSet

__all__ = [
    "HIDDEN",
    "HINTS",
    "USER_HINTS",
    "Holder",
    "Values",
    "arguments",
    "is_secret_name",
    "known_forms",
    "leaves",
    "redacted",
    "refresh",
    "shown_url",
    "watch",
    "within",
    "without_secrets",
]

HIDDEN: Final = "***"

_HARD, _MEDIUM, _WEAK, _NONE = 3, 2, 1, 0

_ANYWHERE: Final = 12  # minimum characters of a known value that is redacted within longer words, too
_SHORT: Final = 4  # minimum characters of a secret option
_SHORT_ELSEWHERE: Final = 6  # the same in other text, where shorter values would redact ordinary words
_CHECKED: Final = 80  # characters of a value that are checked
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # of XML; faster than importing `html`
_CHAIN: Final = 10  # causes of an error that are checked
_UPDATE_INTERVAL: Final = 1.0  # seconds between two checks of the environment

_TRIVIAL: Final = frozenset({"", "none", "null", "true", "false", "yes", "no", "default", HIDDEN, "nil", "undefined"})
_WORDS: Final = frozenset({"anon", "browser", "cache", "cloud", "google_default"})  # values of `token` in gcsfs
_FOLDERS: Final = frozenset({"PWD", "OLDPWD"})  # the working folder, not a password

# -- names ---------------------------------------------------------------------------------------------------

_HARD_NAMES: Final = frozenset({
    "password", "passwords", "passwd", "passphrase", "passcode", "passkey", "pwd", "pswd", "secret", "secrets",
    "credential", "credentials", "creds", "authorization", "apikey",
})  # fmt: skip
_MEDIUM_NAMES: Final = frozenset({
    "token", "pass", "pat", "auth", "sig", "signature", "pw", "cred", "sas", "jwt", "bearer", "otp", "totp",
    "cookie", "cookies", "authentication",
})  # fmt: skip
_WEAK_NAMES: Final = frozenset({"key", "pin", "webhook", "p"})
_HARD_KEYS: Final = "api|access|account|private|secret|shared|auth|master"
_ABOUT: Final = frozenset({
    "id", "file", "path", "value", "string", "str", "env", "b64", "base64", "hash", "data", "provided", "header",
})  # fmt: skip
_COMPOUND_HARD: Final = re.compile(rf"\w*(?:password|passwd|passphrase|secret)|(?:\w*(?:{_HARD_KEYS}))keys?")
_COMPOUND_MEDIUM: Final = re.compile(
    r"(?:auth|access|api|refresh|bearer|session|id|csrf|xsrf|security|sas|bot|job|app|hf|gh|personal|deploy)token"
)
_OTHER_TOKENS: Final = frozenset({
    "pad", "eos", "bos", "unk", "mask", "sep", "cls", "special", "next", "per", "stop", "start", "end", "max",
    "min", "num", "n", "prev", "current", "image", "vocab", "first", "last", "new",
})  # fmt: skip
_OTHER_PASSES: Final = frozenset({
    "forward", "backward", "first", "second", "third", "low", "high", "band", "n", "num", "single", "multi",
    "by", "one", "two", "per", "each", "final", "last", "max", "all",
})  # fmt: skip
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_secret_name(name: str, value: str = "") -> bool:
    """Check whether a value with this name is secret; with a weak name, such as ``key``, only if it looks random.

    >>> is_secret_name("db_password"), is_secret_name("tokenizer"), is_secret_name("key", "5")
    (True, False, False)
    """
    level = _level(name)
    return level > _WEAK or (level == _WEAK and _is_random(value))


@functools.lru_cache(4096)
def _level(name: str) -> int:
    words = [word.lower() for word in _PART.findall(name[-80:])]
    told_about = False
    while words and (words[-1].isdigit() or words[-1] in _ABOUT):
        told_about |= not words.pop().isdigit()
    if not words:
        return _NONE
    level = _level_of(words[-1], words[-2] if len(words) > 1 else "")
    return min(level, _WEAK) if told_about else level


def _level_of(last: str, before: str) -> int:
    if (last == "token" and before in _OTHER_TOKENS) or (last == "pass" and before in _OTHER_PASSES):
        return _NONE
    if last in _HARD_NAMES or _COMPOUND_HARD.fullmatch(last) or _COMPOUND_HARD.fullmatch(before + last):
        return _HARD
    if last in _MEDIUM_NAMES or _COMPOUND_MEDIUM.fullmatch(last):
        return _MEDIUM
    return _WEAK if last in _WEAK_NAMES else _NONE


# -- values --------------------------------------------------------------------------------------------------

_PATH: Final = re.compile(r"[~.]{0,2}[/\\]|[A-Za-z]:[/\\]|~")
_WORDY: Final = re.compile(r"(?:[A-Z]+|(?:[A-Z]?[a-z]{1,24}){1,6})\d{0,4}|\d+[A-Za-z]{0,4}\d{0,4}")
_NUMBER: Final = re.compile(r"[-+]?(?:\d{1,3}|\d*\.\d+)(?:[eE][-+]?\d+)?")
_CODE: Final = re.compile(r"[A-Za-z_][A-Za-z_.]*(?:[(\[{<].*)?")
_ALPHABETIC: Final = re.compile(r"[A-Za-z]{1,24}[.!?:]*")


def _is_random(value: str) -> bool:
    """Check whether a value looks random, unlike words, numbers, a version, a date or a path."""
    if len(value) < 8 or len(value.split(None, 1)) != 1 or _PATH.match(value):
        return False
    value = value[:_CHECKED]
    return sum(len(part) for part in re.split(r"[-_./:,+=@~]", value) if part and not _WORDY.fullmatch(part)) >= 8


def _must_redact(level: int, value: str, *, command: bool, quoted: bool = False, colon: bool = False) -> bool:
    """Check whether to redact a value after a name of this level."""
    if value.lower() in _TRIVIAL:
        return False
    if level == _WEAK or (level == _MEDIUM and colon and not quoted and not command):
        return _is_random(value)
    if level == _MEDIUM:
        return not _NUMBER.fullmatch(value) and (command or not _CODE.fullmatch(value))
    return command or quoted or not (colon and _ALPHABETIC.fullmatch(value))


# -- by value ------------------------------------------------------------------------------------------------


class Holder(Protocol):
    """An object that knows credentials, such as a connection to a storage."""

    def secret_values(self) -> Iterable[str]: ...


class Values:
    """Secret values to redact in a text: unchanged, or as encoded in a repr, JSON, XML or a URL.

    Args:
        values: The secrets. Short ones are redacted as whole words, long ones within words, too.

    Attributes:
        forms: The values and their encoded forms.

    >>> Values(["s3cr3t/key=value"]).hide("GET /?k=s3cr3t%2Fkey%3Dvalue")
    'GET /?k=***'
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self.forms = frozenset(forms)
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    def hide(self, text: str, kept: str = "") -> str:
        """Return the text without the values; parts of `kept`, an address that can be shown, are kept."""
        if self._pattern is None or self._pattern.search(text) is None:
            return text
        return self._pattern.sub(lambda found: found[0] if found[0] in kept or _in_word(found) else HIDDEN, text)


def _in_word(found: re.Match[str]) -> bool:
    """Check whether a short value is only a part of a longer word."""
    start, end = found.span()
    if end - start >= _ANYWHERE:
        return False
    value = found[0].replace("_", "x") if found[0].isalpha() else found[0]
    text = found.string.replace("_", "x") if found[0].isalpha() else found.string  # as `test` is part of `test_data`
    before, after = text[start - 1 : start], text[end : end + 1]
    return (value[0].isalnum() and before.isalnum()) or (value[-1].isalnum() and after.isalnum())


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret unchanged, as encoded in a repr, JSON, XML or a URL, and line by line."""
    if not secret:
        return
    encoded = [quote(secret, safe=safe, errors="replace") for safe in ("", "/")]
    shown = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], *encoded}
    shown |= {re.sub("[&<>]", lambda found: _ENTITIES[found[0]], secret)}
    shown |= {re.sub("%..", lambda found: found[0].lower(), form) for form in encoded}
    yield from shown
    yield from (repr(form)[1:-1] for form in shown)
    yield from (line for line in secret.splitlines() if len(line) >= 8)


def leaves(options: object, name: str = "") -> Iterator[str]:
    """Yield each string in nested storage options that can be secret; a plain word only if its name is secret."""
    for name_, value in _named(options, name):
        if len(value) >= _SHORT and value not in _WORDS and (_level(name_) or not re.fullmatch("[A-Za-z_]+", value)):
            yield value


def within(options: object, name: str = "", *, users: bool = False) -> Iterator[str]:
    """Yield the secret strings in nested storage options, by name, by form, or as part of a URL.

    Args:
        options: Mappings and sequences of any values.
        name: The name of strings outside of a mapping.
        users: Also yield the user names of URLs.
    """
    for name_, value in _named(options, name):
        if len(value) >= _SHORT and value not in _WORDS and is_secret_name(name_, value):
            yield value
        else:
            yield from _hidden_in(value, users=users)


def _named(options: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield from _named(value, str(key))
    elif isinstance(options, list | tuple | set | frozenset):
        for value in options:
            yield from _named(value, name)
    elif isinstance(options, bytes):
        yield name, options.decode("utf-8", "replace")
    elif isinstance(options, str):
        yield name, options


class _Environment:
    """The secrets in environment variables, to redact them if a message repeats them.

    `os.environ` decodes each variable each time. Its own dictionary, if it has one, shows that nothing has changed.
    """

    def __init__(self) -> None:
        self._before: dict[Any, Any] | None = None
        self._secrets: frozenset[str] = frozenset()

    def secrets(self) -> frozenset[str]:
        now: dict[Any, Any] | None = getattr(os.environ, "_data", None)
        if now is None or now != self._before:
            before = None if now is None else now.copy()  # first, as another thread may set a variable
            with suppress(RuntimeError):
                self._secrets, self._before = frozenset(_of_environment(list(os.environ.items()))), before
        return self._secrets


class _Known:
    """The secrets of this process: those of living holders, and of the environment."""

    def __init__(self) -> None:
        self._holders: WeakSet[Holder] = WeakSet()
        self._lock = threading.Lock()
        self._environment = _Environment()
        self._found: frozenset[str] = frozenset()
        self._values = Values(())
        self._due = float("-inf")

    def add(self, holder: Holder) -> None:
        self._holders.add(holder)
        self.refresh()

    def refresh(self) -> None:
        self._due = float("-inf")

    def values(self) -> Values:
        if time.monotonic() >= self._due and self._lock.acquire(blocking=False):  # as a signal handler can log
            try:
                self._due = time.monotonic() + _UPDATE_INTERVAL
                self._update()
            finally:
                self._lock.release()
        return self._values

    def _update(self) -> None:
        found = set(self._environment.secrets())
        holders: list[Holder] = []
        with suppress(RuntimeError):  # another thread added a holder
            holders = list(self._holders)
        for holder in holders:
            with suppress(Exception):  # a client library can raise anything
                found.update(value for value in holder.secret_values() if len(value) >= _SHORT_ELSEWHERE)
        if found != self._found:
            self._values, self._found = Values(found), frozenset(found)


_known = _Known()


def watch(holder: Holder) -> None:
    """Redact the secret values of a holder in every text, as long as the holder exists."""
    _known.add(holder)


def refresh() -> None:
    """Check the environment and the connections again before the next text, not only once a second."""
    _known.refresh()


def known_forms() -> frozenset[str]:
    """Return the known secrets of this process, as `redacted` finds them in a text; the same object until they change.

    The environment and the connections are checked once a second.
    """
    return _known.values().forms


def _of_environment(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in variables:
        if is_secret_name(name, value) and name not in _FOLDERS:
            plain = value.lower() in _TRIVIAL or _NUMBER.fullmatch(value) or _PATH.match(value)
            if len(value) >= _SHORT_ELSEWHERE and (not plain or _is_random(value.lstrip("~./\\"))):
                yield value
        elif "://" in value or ";" in value:
            yield from (part for part in _hidden_in(value) if len(part) >= _SHORT_ELSEWHERE)


# -- by form -------------------------------------------------------------------------------------------------

_SIGN: Final = re.compile(r"(?:=>?|:(?!//|\d\d[:\]])|%3[dD])[ \t]{0,3}")  # except the colon of a time
# The name before a sign, matched in the reversed text.
_NAME_BEFORE: Final = re.compile(r"[ \t]{0,3}(?:[\"']\\{0,8})?([\w.-]{1,120})")
_QUOTED: Final = re.compile(r"""(?P<open>[bBrRuU]{0,2}(?P<mark>\\*["']))""")
_BARE: Final = re.compile(r"""[^\s&"',;]+""")
_BEGINNING: Final = re.compile(rf"""[^\s&"',;]{{1,{_CHECKED}}}""")
_CONNECTION: Final = re.compile(r"""[^;&"'=\r\n]{1,200};[ \w]{1,40}=""")
_TO_SEMICOLON: Final = re.compile(r"""[^;&"'\r\n]+""")
_FLAG: Final = re.compile(r"""(?<![\w-])--?([A-Za-z][\w.-]*+)["']?,?[ \t]+["']?(?=([^\s"',]+))""")
_USER: Final = r"""(?<![\w-])(?:-u|--user|--userpwd|--proxy-user|--login)(?:["']?(?:=|,?[ \t]+)["']?)"""


def _same(found: re.Match[str]) -> str:
    return f"{found[1]}{HIDDEN}"


def _if_random(found: re.Match[str]) -> str:
    return f"{found[1]}{HIDDEN}" if _is_random(found[2]) else found[0]


def _token(found: re.Match[str]) -> str:
    return HIDDEN if _is_random(found[1]) or len(found[1]) >= 30 else found[0]


def _if_signed(found: re.Match[str]) -> str:
    return HIDDEN if found[1] else found[0]  # consume a word without a second part, so that it is checked only once


def _user(found: re.Match[str]) -> str:
    numbers = found[2].isdigit() and len(found[2]) <= 5  # user and group ids, ports and times
    return found[0] if numbers else f"{found[1]}{HIDDEN}"


def _element(found: re.Match[str]) -> str:
    level = _level(found[2])
    secret = level > _WEAK or (level == _WEAK and _is_random(found[3])) or found[2] in _SIGNED
    return f"{found[1]}{HIDDEN}" if secret else found[0]


_SIGNED: Final = frozenset({"StringToSign", "CanonicalRequest", "StringToSignBytes", "CanonicalRequestBytes"})

USER_HINTS: Final = ("-u", "--proxy", "--login")
"""Those of `HINTS` that count only together with a colon: ``-u name:password``."""

_Rule = tuple[tuple[str, ...], re.Pattern[str], Callable[[re.Match[str]], str]]

_RULES: Final[tuple[_Rule, ...]] = (
    (("://",), re.compile(r"(://)[^/\s\"'<>]*(?=@)"), _same),
    # A URL with a slash in the password is invalid but common. host:port/path@x is not such a URL.
    (("://",), re.compile(r"(://[^/\s@:\"'<>]+:)(?!\d{1,5}(?:/|$))[^\s\"'<>@]{1,200}(?=@)"), _same),
    (("://",), re.compile(r"(hooks\.slack\.com/(?:services|workflows)/|/api/webhooks/|/webhookb2/|"
                          r"api\.telegram\.org/bot)[^\s\"'<>]+"), _same),
    (("authorization",),
     re.compile(r"(?i)(\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:[a-z][\w-]*[ \t]+)?)"
                r"(?!\*\*\*)[^\"'\r\n]+"), _same),
    (("bearer",), re.compile(r"(?i)(\bbearer[ \t]+)([\w.~+/=-]{8,})"), _if_random),
    (("cookie",), re.compile(r"(?i)(\bcookie[\"']?:[ \t]{0,3}[\"']?)[^\"'\r\n]+"), _same),
    (("private key",),
     re.compile(r"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL), _same),
    (("eyj",), re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{8,4000}+(\.[\w-]{8,}(?:\.[\w-]*)?)?"), _if_signed),
    (("akia", "asia", "abia", "acca"), re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}"),
     lambda _: HIDDEN),
    (("gh", "glpat-", "hf_", "sk-", "k_", "xox", "xapp", "npm_", "pypi-", "dop_", "aiza", "ya29.", "sg."),
     re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|[sr]k_(?:live|test)_|xox[a-z]-|xapp-|npm_|"
                r"pypi-|dop_v1_|AIza|ya29\.|SG\.)([\w.-]{8,})"), _token),
    (("</",), re.compile(r"(<([\w:-]+)>)([^<>]+)(?=</)"), _element),
    (USER_HINTS, re.compile(rf"""({_USER}[^\s"':/]+:)([^\s"']+)"""), _user),
)  # fmt: skip

_NAMED: Final = (
    "pass", "pw", "pswd", "secret", "token", "key", "auth", "cred", "sig", "pat", "sas", "jwt", "bearer", "otp",
    "cookie", "webhook", "pin",
)  # fmt: skip
_HINTS: Final = tuple(dict.fromkeys(hint for hints, _, _ in _RULES for hint in hints))

HINTS: Final = (*_HINTS, *_NAMED)
"""Words in lower case: `redacted` changes no text without one of them and without a known value."""


def redacted(text: str, kept: str = "") -> str:
    """Return a text with all secrets redacted: known values of this process, and text in the form of a secret.

    Args:
        text: Any text that leaves the process.
        kept: An address that can be shown; known values that are part of it are kept.

    >>> redacted("PUT https://ada:hunter2@host/x?X-Amz-Signature=0f3b9c1d2e&n_tokens=5")
    'PUT https://***@host/x?X-Amz-Signature=***&n_tokens=5'
    """
    return _by_form(_known.values().hide(text, kept))


def without_secrets(error: Exception) -> Exception:
    """Return an error with secrets redacted in its text and in the text of its causes. Most errors are unchanged.

    Client libraries include signed addresses and parts of requests in their errors, and Python prints the whole chain
    of causes.
    """
    seen: set[int] = set()
    first, above = error, None
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < _CHAIN:
        clean = _clean(link)
        seen |= {id(link), id(clean)}
        if clean is not link and above is None and isinstance(clean, Exception):
            first = clean
        elif clean is not link and above is not None:
            _put_below(above, link, clean)
        above, link = clean, clean.__cause__ or clean.__context__
    return first


def _put_below(above: BaseException, old: BaseException, new: BaseException) -> None:
    if above.__cause__ is old:
        above.__cause__ = new
    if above.__context__ is old:
        above.__context__ = new


def _clean(error: BaseException) -> BaseException:
    """Return an error without secrets in its text: the same error with new arguments, or else a new error."""
    text = _text(error)
    shown = redacted(text)
    if shown == text and not any(isinstance(one, str) and redacted(one) != one for one in error.args):
        return error
    error.args = tuple(redacted(one) if isinstance(one, str) else one for one in error.args)
    if _text(error) == shown:
        return error
    other = RuntimeError(f"{type(error).__module__}.{type(error).__qualname__}: {shown}")
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    return other.with_traceback(error.__traceback__)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def arguments(given: Iterable[object]) -> list[str]:
    """Return the arguments of a command line with secrets redacted: values of ``--password`` etc., and by form.

    >>> arguments(["fit.py", "--token", "hunter2", "--tokenizer", "bpe", "-u", "ada:hunter2", "--key-size", "5"])
    ['fit.py', '--token', '***', '--tokenizer', 'bpe', '-u', 'ada:***', '--key-size', '5']
    """
    shown: list[str] = []
    before = ""
    for argument in map(str, given):
        shown.append(_argument(before, argument))
        before = argument
    return [redacted(argument) for argument in shown]


def shown_url(url: str) -> str:
    """Return a URL without user and password, and without the query of a web address, in each part of a chain.

    Raises:
        ValueError: The text is not a URL.

    >>> shown_url("sftp://ada:secret@host/runs")
    'sftp://host/runs'
    """
    parts = []
    for part in url.split("::"):
        split = urlsplit(part)
        parts.append(
            urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))
            if "@" in split.netloc or split.scheme in ("http", "https")
            else part
        )
    return "::".join(parts)


def _argument(before: str, argument: str) -> str:
    """Return one argument with secrets redacted; the previous argument can be its name."""
    option = before[:1] == "-" and "=" not in before
    level = _level(before) if option else _NONE
    value = argument.lstrip("-") if argument.startswith("--") else argument
    if level and _must_redact(level if value is argument else _WEAK, value, command=True):
        return HIDDEN
    if option and before.lstrip("-") in ("u", "user", "userpwd", "proxy-user", "login"):
        user, colon, password = argument.partition(":")
        if colon and "/" not in user and not (password.isdigit() and len(password) <= 5):
            return f"{user}:{HIDDEN}"
    if argument[:2] in ("-p", "-P") and argument[2:3] not in ("", "=", "-") and _is_random(argument[2:]):
        return f"{argument[:2]}{HIDDEN}"
    return _assignments(_rules(argument, argument.lower()), command=True)


def _by_form(text: str) -> str:
    low = text.lower()
    for hint in _HINTS:  # searching for plain words takes a third of the time of a pattern
        if hint in low:
            text = _rules(text, low)
            break
    for hint in _NAMED:
        if hint in low:
            return _assignments(_flags(text))
    return text


def _rules(text: str, low: str) -> str:
    for hints, pattern, hide in _RULES:
        for hint in hints:
            if hint in low:
                text = pattern.sub(hide, text)
                break
    return text


def _flags(text: str) -> str:
    """Redact the values of options in a text that quotes a command line."""
    if not (" -" in text or "'-" in text or '"-' in text or text.startswith("-")):
        return text
    return _without(text, _flag_values(text))


def _flag_values(text: str) -> Iterator[tuple[int, int]]:
    for found in _FLAG.finditer(text):
        level, value = _level(found[1]), found[2]
        quoted_command = len(value) >= 6 and value[0] != "-" and not _ALPHABETIC.fullmatch(value)
        if level and quoted_command and _must_redact(min(level, _MEDIUM), value, command=False):
            yield found.span(2)


def _assignments(text: str, *, command: bool = False) -> str:
    """Redact the values of ``name=value``, ``name: value`` and ``"name": "value"`` with secret names."""
    return _without(text, _assigned(text, command=command))


def _assigned(text: str, *, command: bool) -> Iterator[tuple[int, int]]:
    hidden = 0  # end of the last redacted value; not searched again, as "pw=pw=pw=…" would take hours
    for sign in _SIGN.finditer(text):
        end_of_name = sign.start()
        before = _NAME_BEFORE.match(text[max(0, end_of_name - 160) : end_of_name][::-1])
        if before is None:
            continue
        name = before[1][::-1]
        at = end_of_name - before.end()  # start of the name
        preceding = text[max(0, at - 3) : at]
        escaped = preceding[-1:] == "%" and name[:2] in ("3F", "3f", "26")
        if not (level := _level(name[2:] if escaped else name)):
            continue
        if preceding == "://":
            continue  # the user of a URL
        start, end, quoted = _value_at(text, at, sign.end(), command=command)
        value = text[start:end]
        if start < hidden or not value or (value.rpartition(".")[2] == name.rpartition(".")[2] and not command):
            continue  # password=self.password
        in_query = escaped or preceding[-1:] in ("?", "&")  # in a query
        colon = sign[0][0] == ":" and not quoted
        if _must_redact(level, value, command=command or (in_query and level > _WEAK), quoted=quoted, colon=colon):
            hidden = end if quoted or end - start < _CHECKED - 4 else _whole_value(text, end)
            yield start, hidden


def _value_at(text: str, name: int, start: int, *, command: bool) -> tuple[int, int, bool]:
    """Return the start and end of the value of a name, and whether the value is in quotes."""
    if opened := _QUOTED.match(text, start):
        mark = opened["mark"]
        at = opened.end()
        while (end := text.find(mark, at)) > 0 and len(mark) == 1 and text[end - 1] == "\\":
            at = end + 1
        if end < 0:  # the quote is not closed, as in a part of a longer text
            end = len(text) if command else _end_of_line(text, start)
        return opened.end(), end, True
    whole = command and not text[:name].strip("-+")  # --secret=several words
    connection = text[name - 1 : name] == ";"  # Server=x;Password=a b
    if not connection and text.find(";", start, start + 200) > 0:
        connection = _CONNECTION.match(text, start) is not None
    bare = (_TO_SEMICOLON if whole or connection else _BEGINNING).match(text, start)
    if bare is None:
        return start, start, False
    return start, start + len(bare[0].rstrip(")]}> ")), False


def _whole_value(text: str, end: int) -> int:
    """Return the end of a value of which only the beginning was checked, to save time."""
    rest = _BARE.match(text, end)
    return rest.end() if rest else end


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, end in spans:
        if start >= at:
            parts += [text[at:start], HIDDEN]
            at = end
    return "".join([*parts, text[at:]]) if parts else text


def _hidden_in(text: str, *, users: bool = False) -> Iterator[str]:
    """Yield the parts of a setting that have the form of a secret, such as the password of a URL."""
    for found in re.finditer(r"://([^/\s@:]*):([^\s@]+)@|://([^/\s@:]+)@", text):
        yield from (part for part in found.groups()[not users :] if part and len(part) >= _SHORT)
    yield from (text[start:end] for start, end in _assigned(text, command=True) if end - start >= _SHORT)
