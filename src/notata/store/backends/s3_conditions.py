"""Find out which write conditions an S3 store supports. Amazon's supports all; others are tested once per process.

A test writes a few bytes under a reserved name, never under that of a file. Its result is kept for the endpoint and the
bucket, as one gateway may serve buckets of different kinds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self
from urllib.parse import urlsplit

from notata._base import keys
from notata.errors import UnprotectedWarning
from notata.store.backend import ABSENT
from notata.store.unfinished import new_name

__all__ = [
    "ALL",
    "NO_COPIES",
    "Conditions",
    "Known",
    "is_amazon",
    "tag_of",
    "try_completions",
    "try_conditions",
    "try_copies",
]

Call = Callable[..., dict[str, Any]]
"""Makes one request. Arguments: the name of a method of botocore's client, the name of the object, and others."""

_REFUSED: Final = (409, 412)
_NO_COPIES: Final = (400, 403, 404, 405, 409, 412, 500, 501)
_NOT_IMPLEMENTED: Final = 501  # the response of stores that do not support such a condition


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions that a store supports, and their form.

    Attributes:
        supports_exclusive_create: Whether it supports ``If-None-Match: *``.
        supports_cas: Whether it supports ``If-Match``.
        quoted: Whether it accepts the ETag of ``If-Match`` in quotes, as HTTP requires. Ceph RGW refuses quotes; most
            stores accept both forms.
        copies: Whether it copies objects itself.
    """

    supports_exclusive_create: bool = True
    supports_cas: bool = True
    quoted: bool = False
    copies: bool = True

    def tag(self, version: str) -> str:
        """Return a version in the form that ``If-Match`` accepts."""
        return f'"{version}"' if self.quoted else version

    def header(self, match: str) -> dict[str, str]:
        """Return the argument for a condition; `match` is a version, or `ABSENT`. Empty if the store ignores it."""
        if match == ABSENT:
            return {"IfNoneMatch": "*"} if self.supports_exclusive_create else {}
        return {"IfMatch": self.tag(match)} if self.supports_cas else {}

    @property
    def ignored(self) -> list[str]:
        """The headers that the store ignores or refuses."""
        supported = {"If-None-Match": self.supports_exclusive_create, "If-Match": self.supports_cas}
        return [name for name, is_supported in supported.items() if not is_supported]


ALL: Final = Conditions(quoted=True)
"""Conditions of Amazon's S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""


NO_COPIES: Final = Conditions(False, False, copies=False)
"""Those of a store that copies nothing itself."""


def is_amazon(endpoint: str) -> bool:
    """Check whether an endpoint is Amazon's own."""
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def tag_of(mark: str) -> str:
    """Return an ETag without its quotes, as some stores send them in one reply and not in another.

    >>> tag_of('"9f"'), tag_of("9f")
    ('9f', '9f')
    """
    return mark[1:-1] if len(mark) > 1 and mark[0] == mark[-1] == '"' else mark


def try_conditions(call: Call, folder: str, status: Callable[[BaseException], int]) -> Conditions:
    """Find out which conditions a store supports in plain writes. Five requests, more if it does not support all.

    Args:
        call: Makes a request.
        folder: A folder in which a reserved name may be written and removed.
        status: Returns the HTTP status of an error, 0 for others.
    """
    with _Trial(call, folder, status) as trial:
        creates = trial.writes(b"1", IfNoneMatch="*")
        first = trial.version if creates else trial.written(b"1")
        bare = trial.writes(b"22", IfMatch=first)
        quoted = not bare and trial.writes(b"22", IfMatch=f'"{first}"')
        stale = f'"{first}"' if quoted else first
        return Conditions(
            supports_exclusive_create=creates and trial.refuses(b"333", IfNoneMatch="*"),
            supports_cas=(bare or quoted) and trial.refuses(b"4444", IfMatch=stale),
            quoted=quoted,
        )


def try_completions(
    call: Call, folder: str, status: Callable[[BaseException], int], conditions: Conditions
) -> Conditions:
    """Find out the same as `try_conditions` for the completion of a multipart upload. Seven requests.

    Ceph RGW 16 ignores conditions there, although it supports them in plain writes.
    """
    with _Trial(call, folder, status) as trial:
        trial.written(b"1")
        with trial.upload(b"22") as complete:
            creates = trial.refuses_completion(complete, IfNoneMatch="*")
            swaps = creates and trial.refuses_completion(complete, IfMatch=conditions.tag("0" * 32))
    return Conditions(creates, swaps, conditions.quoted)


def try_copies(
    call: Call, bucket: str, folder: str, status: Callable[[BaseException], int], conditions: Conditions
) -> Conditions:
    """Find out the same as `try_conditions` for a copy that the store makes itself. Six requests at most.

    A store that does not know such a request takes it for an empty object, or refuses it.
    """
    with _Trial(call, folder, status) as trial:
        trial.written(b"1")
        if not trial.copies(bucket):
            return NO_COPIES
        creates = conditions.supports_exclusive_create and trial.refuses_copy(bucket, IfNoneMatch="*")
        swaps = conditions.supports_cas and trial.refuses_copy(bucket, IfMatch=conditions.tag("0" * 32))
    return Conditions(creates, swaps, conditions.quoted)


class _Trial:
    """Requests for one object with a unique name. Each write has another size, to recognize it."""

    def __init__(self, call: Call, folder: str, status: Callable[[BaseException], int]) -> None:
        self._call = call
        self._name = keys.join(folder, new_name())
        self._status = status
        self.version = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        with suppress(Exception):  # listings hide it
            self._call("delete_object", self._name)

    def written(self, data: bytes, **condition: str) -> str:
        """Write, and return the version."""
        reply = self._call("put_object", self._name, size=len(data), Body=data, **condition)
        self.version = tag_of(str(reply["ETag"]))
        return self.version

    def writes(self, data: bytes, **condition: str) -> bool:
        """Write with a condition that holds. Return whether the store did so.

        A refusal may belong to a second try after a lost reply to the first: then the data is there.
        """
        refused = self._refusal(partial(self.written, data, **condition))
        return refused is None or (refused and self._has(data))

    def refuses(self, data: bytes, **condition: str) -> bool:
        """Write with a condition that does not hold. Return whether the store refused."""
        return bool(self._refusal(partial(self.written, data, **condition)))

    @contextmanager
    def upload(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Start a multipart upload of one part and yield the arguments that complete it; abort it afterwards."""
        upload = str(self._call("create_multipart_upload", self._name)["UploadId"])
        try:
            reply = self._call("upload_part", self._name, size=len(data), Body=data, UploadId=upload, PartNumber=1)
            parts = [{"PartNumber": 1, "ETag": reply["ETag"]}]
            yield {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        finally:
            with suppress(Exception):  # it was completed
                self._call("abort_multipart_upload", self._name, UploadId=upload)

    def refuses_completion(self, complete: dict[str, Any], **condition: str) -> bool:
        """Complete an upload with a condition that does not hold. Return whether the store refused."""
        request = partial(self._call, "complete_multipart_upload", self._name, **complete, **condition)
        return bool(self._refusal(request))

    def copies(self, bucket: str) -> bool:
        """Copy the object over itself. Return whether the store did so."""
        try:
            reply = self._copied(bucket)
        except Exception as error:
            if self._status(error) not in _NO_COPIES:
                raise
            return False
        return "CopyObjectResult" in reply and self._has(b"1")

    def refuses_copy(self, bucket: str, **condition: str) -> bool:
        """Copy the object over itself with a condition that does not hold. Return whether the store refused."""
        return bool(self._refusal(partial(self._copied, bucket, **condition)))

    def _copied(self, bucket: str, **condition: str) -> dict[str, Any]:
        source, metadata = {"Bucket": bucket, "Key": self._name}, {"notata-trial": "1"}
        return self._call(
            "copy_object", self._name, CopySource=source, MetadataDirective="REPLACE", Metadata=metadata, **condition
        )

    def _refusal(self, request: Callable[[], object]) -> bool | None:
        """Make a conditional request. Return None if it was done, False if the store does not know the condition."""
        try:
            request()
        except Exception as error:
            status = self._status(error)
            if status not in (*_REFUSED, _NOT_IMPLEMENTED):
                raise
            return status in _REFUSED
        return None

    def _has(self, data: bytes) -> bool:
        try:
            head = self._call("head_object", self._name)
        except FileNotFoundError:
            return False
        self.version = tag_of(str(head["ETag"]))
        return int(head["ContentLength"]) == len(data)


class Known:
    """The test results of this process, by store.

    Several threads may test a store at the same time, which does no harm.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Conditions] = {}
        self._warned: set[tuple[str, ...]] = set()

    def forget(self) -> None:
        """Forget all results, so that each store is tested again at its next use, and warned of again."""
        self._found.clear()
        self._warned.clear()

    def find(self, place: tuple[str, ...], attempt: Callable[[], Conditions]) -> Conditions:
        """Return the result for a place, testing it if there is none."""
        if place not in self._found:
            self._found[place] = attempt()
        return self._found[place]

    def note(self, place: tuple[str, ...], found: Conditions) -> None:
        """Keep what was found out otherwise."""
        self._found[place] = found

    def warn_once(self, place: tuple[str, ...], bucket: str, conditions: Conditions) -> None:
        """Warn once of a bucket that cannot keep two writers from one run id.

        If the user turned the warning into an error, it is raised each time.
        """
        if not conditions.ignored or place in self._warned:
            return
        warnings.warn(
            f"s3://{bucket}: this S3 store ignores {' and '.join(conditions.ignored)}, so it cannot prevent two "
            "writers from using the same run id. notata checks before it writes, but another writer may "
            "intervene. Give each run its own id, or use a store with conditional writes.",
            UnprotectedWarning,
            stacklevel=2,
        )
        self._warned.add(place)
