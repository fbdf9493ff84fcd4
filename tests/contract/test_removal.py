"""Removal on every store: files as listed, unfinished files, a separate folder, and empty folders."""

from __future__ import annotations

from pathlib import Path

from notata.store import Store
from tests.backends import Place
from tests.counting import counted


def test_the_folder_for_temporary_files_is_hidden_and_can_be_listed(store: Store, place: Place) -> None:
    aside = store.hidden_folder()
    assert store.hidden_folder().url != aside.url
    aside.write("a", b"1")
    aside.create("deep/b", b"2")
    assert [entry.key for entry in aside.list()] == ["a", "deep/b"]
    assert (store.list(), store.occupied()) == ([], False)
    assert [entry.key for entry in store.list_all()] == [
        f"{aside.url.rpartition('/')[2]}/{key}" for key in ("a", "deep/b")
    ]
    aside.clear()
    aside.remove_empty_folders()
    assert place.names() == []


def test_files_are_removed_as_they_were_listed(store: Store, place: Place) -> None:
    for key in ("a", "b/c", "kept"):
        store.write(key, b"1")
    store.hidden_folder().write("unfinished", b"2")
    listed = [entry for entry in store.list_all() if entry.key != "kept"]
    if place.name in ("memory", "local"):  # S3 deletes by name, and the test server of GCS ignores conditions
        store.write("a", b"another")
    store.remove(listed)
    assert place.names() == (["a", "kept"] if place.name in ("memory", "local") else ["kept"])
    store.remove([])
    store.remove(listed)


def test_any_file_is_found_by_one_request(store: Store, place: Place) -> None:
    assert next(store.scan(), None) is None
    for number in range(3):
        store.write(f"deep/{number}", b"1")
    with counted() as sent:
        found = next(store.scan(), None)
    assert found is not None
    assert found.key.startswith("deep/")
    assert len(sent) == int(place.bucket)


def test_only_empty_folders_are_removed(tmp_path: Path) -> None:
    from notata.store import open_store

    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/c").mkdir()
    (tmp_path / "root/c/file").touch()
    store = open_store(tmp_path / "root")
    store.remove_empty_folders()
    assert sorted(path.name for path in (tmp_path / "root").rglob("*")) == ["c", "file"]
    store.delete(["c/file"])
    store.remove_empty_folders()
    assert list(tmp_path.iterdir()) == []
