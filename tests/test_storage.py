"""`Storage` as a value: the arguments it accepts, and that its options appear in no file or text."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import ConfigurationError, EncodeError, Logbook, MirrorStorage, Storage
from notata.store import open_store

SECRET = "hunter2-hunter2"
STORAGE = Storage(f"https://ada:{SECRET}@host/x?sig={SECRET}", {"secret": SECRET}, timeout=5)


def test_a_repr_shows_no_secret() -> None:
    assert SECRET not in repr(STORAGE)
    assert repr(Storage("s3://b/o", {"key": SECRET})).startswith("Storage('s3://b/o', timeout=30.0, ")
    assert repr(MirrorStorage("s3://b/o", {"key": SECRET}, exit_timeout=1)).endswith("exit_timeout=1)")


@pytest.mark.parametrize("nested", [False, True])
def test_a_storage_is_stored_as_its_url_without_secrets(tmp_path: Path, nested: bool) -> None:
    value: Any = {"where": [STORAGE]} if nested else STORAGE
    with Logbook("a", tmp_path, {"where": STORAGE}) as log:
        log.json("value", value)
        log.pickle("value", value)
    whole = b"".join(path.read_bytes() for path in (tmp_path / "log_a").rglob("*") if path.is_file())
    assert SECRET.encode() not in whole
    assert "host/x" in str(log.params["where"])
    with (tmp_path / "log_a/artifacts/value.pkl").open("rb") as file:
        found = pickle.load(file)
    assert type(found["where"][0] if nested else found) is Storage


def test_a_backend_is_not_pickled_into_a_file(tmp_path: Path) -> None:
    log = Logbook("a", tmp_path)
    with pytest.raises(EncodeError, match="keep its url"):
        log.pickle("backend", open_store("memory://x").backend)


@pytest.mark.parametrize("arguments", [{"durable": np.zeros(2)}, {"timeout": "5"}, {"timeout": -1}, {"options": 3}])
def test_values_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Storage("memory://x", **arguments)


def test_numbers_of_numpy_are_numbers() -> None:
    assert Storage("memory://x", timeout=np.int64(5)).timeout == 5  # type: ignore[arg-type]
    assert hash(Storage("memory://x", {"a": 1})) == hash(Storage("memory://x", {"a": 1}))


def test_a_mirror_needs_a_place() -> None:
    with pytest.raises(ConfigurationError, match="needs a URL"):
        MirrorStorage()


def test_options_cannot_change_an_open_store() -> None:
    with pytest.raises(ConfigurationError, match="cannot change memory://x, which is already open"):
        open_store(Storage(open_store("memory://x"), {"a": 1}))
