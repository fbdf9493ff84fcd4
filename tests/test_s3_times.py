"""Times of S3 are parsed without dateutil, with the same result."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import fsspec
import pytest
from botocore.utils import parse_timestamp

from notata.store import open_store
from notata.store.backends import s3
from tests.servers import Server


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T09:30:00.000Z",
        "2026-03-01T09:30:00Z",
        "2026-03-01T09:30:00.123456Z",
        "Sun, 01 Mar 2026 09:30:00 GMT",
        "2026-03-01T09:30:00+01:00",
        "1772357400",
        1772357400,
        1772357400.5,
    ],
)
def test_a_time_is_what_botocore_says(text: str | float) -> None:
    assert s3.parse_time(text) == parse_timestamp(text)
    assert s3.parse_time(text).tzinfo is not None


def test_what_is_no_time_is_refused_as_by_botocore() -> None:
    for text in ("nonsense", "Z", " GMT", "2026-13-01T00:00:00Z"):
        with pytest.raises(ValueError):
            parse_timestamp(text)
        with pytest.raises(ValueError):
            s3.parse_time(text)


def test_a_listing_has_the_time_of_each_file(moto_server: Server) -> None:
    folder = f"{moto_server.url}/{uuid.uuid4().hex}"
    store = open_store(folder, moto_server.options)
    store.write_many({"a": b"1", "b/c": b"2"})
    plain = fsspec.filesystem("s3", use_listings_cache=False, **moto_server.options).find(folder, detail=True)
    assert {entry.key: entry.modified for entry in store.list()} == {
        name.partition("/")[2].partition("/")[2]: told["LastModified"] for name, told in plain.items()
    }
    assert all(abs((datetime.now(UTC) - entry.modified).total_seconds()) < 3600 for entry in store.list())
    store.clear()
