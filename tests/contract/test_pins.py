"""Pinned runs on every storage: nothing removes or replaces them, and a running writer goes on writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from notata import BatchError, Logbook, MirrorStorage, RunExistsError, Storage, search, sync
from notata.search import Retention
from tests.backends import Place
from tests.command import notata
from tests.counting import counted


def fields(place: Place, run_id: str = "run") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    return found


def at(place: Place) -> Storage:
    return Storage(place.url, place.options)


def options(place: Place) -> list[str]:
    return [f"--storage-option={name}={value}" for name, value in place.options.items()]


def test_a_pinned_run_is_neither_removed_nor_replaced(place: Place, tmp_path: Path) -> None:
    with place.logbook() as log:
        log.text("n", "kept")
    before = place.files()
    given = [f"{place.url}/log_run", *options(place)]
    assert notata("pin", *given, folder=tmp_path).stdout == "Pinned 1 run\n"
    assert notata("pin", *given, folder=tmp_path).stdout == "Pinned 0 runs; 1 was already pinned\n"
    assert fields(place) == {**json.loads(before["log_run/metadata.json"]), "pinned": True}
    refused = notata("rm", "--force", "--yes", *given, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "is pinned, and was kept; unpin it with notata unpin, or remove it with notata rm --pinned" in refused.stderr
    with pytest.raises(RunExistsError, match=r"it is pinned\. Choose another run_id, or unpin the run") as caught:
        place.logbook(overwrite=True)
    assert caught.value.status == "complete"
    assert search.remove(at(place), recursive=True, retention=Retention(older=0)) == []
    after = place.files()
    assert {**after, "log_run/metadata.json": b""} == {**before, "log_run/metadata.json": b""}
    assert [verdict.code for verdict in search.verdicts(at(place))] == [0]
    assert notata("unpin", *given, folder=tmp_path).stdout == "Unpinned 1 run\n"
    assert fields(place)["pinned"] is False
    assert notata("rm", "--yes", *given, folder=tmp_path).returncode == 0
    assert place.names() == []


def test_a_pinned_run_is_removed_if_that_is_asked(place: Place) -> None:
    for name in ("a", "b"):
        log = place.logbook(name)
        log.meta(pinned=True)
        log.mark_complete()
    done = search.remove(at(place), recursive=True, pinned=True, where="run_id == 'a'")
    assert [one.removed for one in done] == [True]
    assert {name.split("/")[0] for name in place.names()} == {"log_b"}


def test_a_run_that_is_pinned_after_it_was_listed_is_kept(place: Place) -> None:
    place.logbook().mark_complete()
    found = search.removable(at(place), recursive=True)
    search.pin(at(place), recursive=True)
    errors: list[Exception] = []
    assert [one.removed for one in search.removals(found, failed=errors.append)] == [False]
    assert "is pinned, and was kept" in str(errors[0])
    assert fields(place)["pinned"] is True


def test_a_running_writer_adopts_the_pin(place: Place) -> None:
    log = place.logbook()
    assert [one.changed for one in search.pin(at(place), recursive=True)] == [True]
    log.meta(machine="node17")
    log.text("n", "kept")
    assert fields(place)["pinned"] is True
    log.mark_complete()
    stored = fields(place)
    assert (stored["status"], stored["pinned"], stored["machine"]) == ("complete", True, "node17")
    again = place.logbook(resume=True)
    again.mark_complete()
    assert fields(place)["pinned"] is True
    assert log.reader.verify().ok


def test_a_pin_takes_two_requests_beside_those_of_the_search(place: Place) -> None:
    place.logbook().mark_complete()
    with counted() as sent:
        search.pin(at(place), recursive=True)
    assert len(sent) <= 4 * place.bucket  # a listing, a read, and a read and a write of the pin


def test_sync_carries_a_pin_and_keeps_pinned_copies(place: Place) -> None:
    here = f"memory://pins-{place.url.rpartition('/')[2]}"
    with Logbook("run", here) as log:
        log.text("n", "kept")

    def synced(**given: Any) -> Any:
        return sync(here, place.url, destination_options=place.options, **given)

    synced()
    search.pin(at(place), recursive=True)  # the copy alone
    synced()
    assert fields(place)["pinned"] is True
    assert synced().copied == {}
    search.pin(here, recursive=True)
    synced()
    search.unpin(here, recursive=True)
    synced()
    assert fields(place)["pinned"] is False
    search.pin(here, recursive=True)
    synced()
    assert fields(place)["pinned"] is True
    search.remove(here, recursive=True, pinned=True)
    with Logbook("other", here) as log:
        log.text("n", "other")
    for dry_run in (True, False):
        with pytest.raises(BatchError, match="is pinned, and was kept"):
            synced(delete=True, dry_run=dry_run)
    assert place.bytes("log_run/artifacts/n.txt") == b"kept"
    with Logbook("run", here) as log:
        log.text("n", "another run of this id")
    with pytest.raises(BatchError, match="contains a different run with this id, which is pinned"):
        synced(delete=True)
    assert place.bytes("log_run/artifacts/n.txt") == b"kept"


def test_a_mirror_does_not_replace_a_pinned_run(place: Place) -> None:
    place.logbook().mark_complete()
    search.pin(at(place), recursive=True)
    before = place.files()
    here = f"memory://pins-near-{place.url.rpartition('/')[2]}"
    log = Logbook("run", here, mirror=MirrorStorage(place.url, place.options), overwrite=True)
    assert log.mirror is not None
    with pytest.raises(RunExistsError, match="contains a different run with this id, which is pinned"):
        log.mirror.flush()
    log.mark_complete()
    assert place.files() == before
