"""The file system of s3fs with notata's defaults, and the replies that botocore would misunderstand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from notata.store.backends.http_errors import WebPageError
from notata.store.backends.patience import current
from notata.store.backends.s3_conditions import is_amazon
from notata.store.backends.s3_replies import parse_time

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["THROTTLED", "connect", "is_web_page"]

THROTTLED: Final = frozenset(
    {429, 503, "RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
)
"""Statuses and codes by which a store asks for fewer requests."""


def connect(options: dict[str, Any]) -> AbstractFileSystem:
    """Return an s3fs file system with our defaults, which the user and fsspec's configuration can override.

    * 64 connections: with botocore's 10, 1000 puts at 20 ms take 6.2 s instead of 2.5 s.
    * One layer of retries, botocore's. s3fs adds 5 retries around it, so a refused connection took 3 s to fail.
    * If a store asks for fewer requests, retry until the time limit, not only 4 times within about 4 s.
    * No checksums of responses. botocore compares the range of a reply with the checksum that comes with it, but some
      stores (rclone) send that of the whole object.
    * Bodies without a trailer, except for Amazon. aiobotocore adds one over https, and with it sends no length, which
      other stores (rclone, older Ceph) refuse. The signature protects the content instead.
    * No cached listings, which would hide another client's new files.
    * No ``Expect: 100-continue``: it costs each put a second round trip, and no read timeout applies to the wait for a
      silent server.
    * The standard library parses times: botocore's parser takes more than half of a listing's time in Python.
    * No search for all services: botocore reads some 900 folders to make sure that it knows S3.
    * A fixed user agent. botocore builds its own twice for each request, a tenth of the time of a small put in Python.
    """
    import fsspec.config
    import s3fs
    from botocore.handlers import add_expect_header

    given = {**fsspec.config.conf.get("s3", {}), **options}
    config: dict[str, Any] = {"max_pool_connections": 64}
    theirs = given.get("config_kwargs") or {}
    ours = "retries" not in theirs and not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & set(os.environ)
    if ours:
        config["retries"] = {"mode": "standard", "total_max_attempts": 4}
    if not os.environ.get("AWS_SDK_UA_APP_ID") and "user_agent_appid" not in theirs:
        config["user_agent"] = f"notata s3fs/{s3fs.__version__}"
    if "AWS_RESPONSE_CHECKSUM_VALIDATION" not in os.environ:
        config["response_checksum_validation"] = "when_required"
    config.update(theirs)
    fs = s3fs.S3FileSystem(**{"use_listings_cache": False, **given, "config_kwargs": config})
    fs.retries = 1
    if fs.session is None:
        fs.session = _session(fs.kwargs)
    fs.connect()
    if not is_amazon(fs.s3.meta.endpoint_url) and not _chooses_checksums(fs, theirs):
        fs.s3.meta.config.request_checksum_calculation = "when_required"
    fs.s3.meta.events.unregister("before-call.s3", add_expect_header)
    # s3fs may return a file system that it already has; with an id, each function is registered only once.
    fs.s3.meta.events.register_first("needs-retry.s3", _give_up, unique_id="notata-give-up")
    if ours:
        fs.s3.meta.events.register_first("needs-retry.s3", _slow_down, unique_id="notata-slow-down")
    fs.session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return fs


def _chooses_checksums(fs: Any, config: Mapping[str, Any]) -> bool:
    """Check whether options, environment or profile say which requests have a checksum."""
    name = "request_checksum_calculation"
    return name in config or f"AWS_{name.upper()}" in os.environ or name in fs.session.get_scoped_config()


def _give_up(caught_exception: Exception | None = None, response: Any = None, **_: Any) -> None:
    """Prevent retries after a refused certificate or a web page, which botocore would retry for seconds."""
    from botocore.exceptions import SSLError

    if isinstance(caught_exception, SSLError):
        raise caught_exception
    if response is not None and is_web_page(response[1]):
        raise WebPageError()


def _slow_down(response: Any, operation: Any, **context: Any) -> float | None:
    """Return the seconds after which botocore repeats a throttled request; None leaves it to botocore."""
    patience = current.get()
    if response is None or patience is None:
        return None
    head, parsed = response
    if head.status_code not in THROTTLED and parsed.get("Error", {}).get("Code") not in THROTTLED:
        return None
    wanted = str(head.headers.get("Retry-After", ""))
    seconds = patience.pause(float(wanted) if wanted.isdecimal() and len(wanted) < 6 else 0.0)
    if seconds is None:
        from botocore.exceptions import ClientError

        raise ClientError(parsed, operation.name)
    return seconds


def _session(options: Mapping[str, Any]) -> Any:
    """Return a session of aiobotocore, as s3fs makes it, with a quicker look at botocore's data."""
    from aiobotocore.session import AioSession
    from botocore.loaders import Loader, create_loader

    class Services:
        """The services that a loader knows; they are listed only if another one than S3 is used."""

        def __init__(self, listed: Any) -> None:
            self._listed = listed

        def __contains__(self, name: object) -> bool:
            return name == "s3" or name in self._listed()

        def __iter__(self) -> Iterator[str]:
            return iter(self._listed())

    class QuickLoader(Loader):  # type: ignore[misc]
        def list_available_services(self, type_name: str) -> Any:
            return Services(lambda: super(QuickLoader, self).list_available_services(type_name))

    session = AioSession(**options)
    usual = create_loader(session.get_config_variable("data_path"))
    session.register_component("data_loader", QuickLoader(usual.search_paths, include_default_search_paths=False))
    return session


def is_web_page(reply: Mapping[str, Any]) -> bool:
    """Check whether a reply is a web page: S3 responds in XML, and an object, which may be a page too, has an ETag.

    For a page that is not XML, botocore raises an error with the status 500.
    """
    metadata = reply.get("ResponseMetadata", {})
    head = metadata.get("HTTPHeaders", {})
    page = str(head.get("content-type", "")).lower().startswith("text/html") and "etag" not in head
    return page and head.get("content-length") != "0" and metadata.get("HTTPStatusCode") in (200, 500)
