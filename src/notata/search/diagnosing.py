"""Tests of a storage, which try the operations that notata needs and remove their files afterwards.

All test files are in one hidden folder, which is removed at the end. No secret is shown: of credentials only their
sources.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from notata._base.display import duration
from notata.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    ContainerMissingError,
    DeadlineError,
    ExistsError,
    FolderError,
    KeyNameError,
    MissingError,
    NotataError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.search.checks import READ_AFTER_END, USE_UNIQUE_IDS, WRONG_KEY, Check, advice_on, clock_check
from notata.search.surroundings import file_system, space, surroundings
from notata.search.target import URL, targets
from notata.store import Entry, Store
from notata.store.gaps import Gaps

__all__ = ["diagnose"]

T = TypeVar("T")

_TIMEOUT: Final = 5.0  # seconds for one request
_GRACE: Final = 10.0  # additional seconds for one check, to load libraries and to find credentials
_REQUESTS: Final = 5  # requests that measure the round trip time
FAR: Final = 0.25  # seconds
_WRITING: Final = ("write", "overwrite", "claim", "append", "links", "fsync", "names", "clock")
_HOPELESS: Final = (ConfigurationError, ContainerMissingError, DeadlineError, UnreachableError)
_DATA: Final = b"This file was written by notata doctor, and may be removed.\n"


def diagnose(
    url: URL | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    read_only: bool = False,
    timeout: float = _TIMEOUT,
) -> list[Check]:
    """Check whether a storage can hold runs: write, claim, swap, append and delete there.

    The test files are in one hidden folder below the place, which is removed. No error is raised: a check has it, and
    what to do about it. Cost: about 25 requests, 5 with `read_only`.

    Args:
        url: The place for runs as an fsspec URL, a path or a `Target`; by default the base folder of this machine.
        storage_options: Options for fsspec.
        read_only: Write nothing; run only the checks that read.
        timeout: Seconds for one request. After a timeout, no more requests are sent.

    >>> {check.name: check.state for check in diagnose("memory://diagnosing") if check.name in ("write", "claim")}
    {'write': 'yes', 'claim': 'yes'}
    """
    [target] = targets(url, storage_options, timeout)
    try:
        store = target.folder
    except NotataError as error:
        invalid = Check("url", "no", str(error), "Correct the URL, or install the package that the message names.")
        return [invalid, *surroundings("", {}, str)]
    found = [
        Check("url", "info", store.url),
        *_StorageChecks(store, target.timeout + _GRACE, read_only=read_only).checks(),
    ]
    found += surroundings(store.url, target.storage_options or {}, store.redacted)
    return [replace(check, told=store.redacted(check.told), advice=store.redacted(check.advice)) for check in found]


class _StorageChecks:
    """The checks of one storage."""

    def __init__(self, store: Store, seconds: float, *, read_only: bool) -> None:
        self._store = store
        self._seconds = seconds
        self._read_only = read_only
        self._probe = store.hidden_folder()
        self._first: Entry | None = None
        self._wrote = False
        self._skip_reason = ""  # why no more checks are run

    def checks(self) -> Iterator[Check]:
        made = self._folders_to_make()
        yield from self._check_reach()
        if self._read_only:
            yield self._try("read", self._can_read_first)
            yield self._try("distance", self._distance)
            yield self._try("clock", self._clock_of_reply)
        else:
            yield from self._checks_that_write(made)
        if self._store.is_local and self._store.shared:
            yield from self._disk_checks()

    def _checks_that_write(self, made: list[str]) -> Iterator[Check]:
        """Run the checks that write; in any case, remove the files afterwards."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnprotectedWarning)  # "claim" and "swap" report it
            try:
                for name, check in self._writing_checks():
                    yield self._try(name, check)
            except BaseException:  # an interrupt
                self._clean(made)
                raise
        if not self._clean(made):
            message = f"the test files could not be removed: {self._probe.url}"
            yield Check("left", "poor", message, "Remove them later, or with other credentials.")

    def _writing_checks(self) -> Iterator[tuple[str, Callable[[], Check]]]:
        yield from (("write", self._can_write), ("read", self._can_read))
        if not self._skip_reason and not self._store.is_local and not self._store.supports_cas:
            yield "overwrite", self._can_overwrite
        yield from (("claim", self._can_claim), ("swap", self._can_swap), ("append", self._can_append))
        yield from (("distance", self._distance), ("clock", self._clock))
        if self._store.is_local and self._store.shared:
            yield from (("links", self._can_link), ("fsync", self._can_sync), ("names", self._distinguishes_case))
        yield "delete", self._can_delete

    def _try(self, name: str, work: Callable[[], Check]) -> Check:
        """Run one check. An error is its result; after a timeout, all other checks are skipped."""
        if self._skip_reason:
            return Check(name, "skipped", self._skip_reason)
        wrote, hopeless = True, False
        try:
            found = _within_seconds(self._seconds, work)
        except NotataError as error:
            found = Check(name, "no", str(error), advice_on(name, error))
            wrote = isinstance(error, DeadlineError)  # the file may have been written
            hopeless = isinstance(error, _HOPELESS) or found.advice == WRONG_KEY
        except TimeoutError:
            advice, hopeless = advice_on(name, DeadlineError("")), True
            found = Check(name, "no", f"no answer within {duration(self._seconds)}", advice)
        except Exception as error:  # from a library, before any request
            found, wrote = (
                Check(name, "no", f"it failed with {type(error).__name__}", "Check the storage options."),
                False,
            )
        self._wrote |= wrote and name in _WRITING
        if hopeless:
            self._skip_reason = "skipped after an earlier error"
        return found

    # -- without writing -----------------------------------------------------------------------------------

    def _check_reach(self) -> Iterator[Check]:
        """Check whether the storage answers and can be listed."""
        listed = self._try("list", self._can_list)
        if self._skip_reason and listed.advice != WRONG_KEY:
            yield replace(listed, name="reach")
            yield Check("list", "skipped", self._skip_reason)
        else:
            yield Check("reach", "yes", "it answers")
            yield listed

    def _can_list(self) -> Check:
        try:
            gaps = Gaps()
            self._first = next(self._store.scan(skipped=gaps), None)
        except ContainerMissingError:
            raise
        except MissingError as error:  # only the bucket can be missing: a listing of no objects is no error
            raise ContainerMissingError(f"there is no bucket for {self._store.url}", url=self._store.url) from error
        if gaps.count:
            message = (
                "listings skip entries that cannot be opened, or whose names cannot be used: "
                f"{gaps.errors(self._store.url)[0]}"
            )
            return Check("list", "poor", message, "Make them readable, rename them, or store runs in another folder.")
        if self._first is not None:
            return Check("list", "yes", "files are there")
        if self._store.is_local and self._store.shared and os.path.isfile(self._store.url):
            raise FolderError(f"{self._store.url} is a file; runs need a folder")
        return Check("list", "yes", "there is nothing yet")

    def _can_read_first(self) -> Check:
        if self._first is None:
            return Check("read", "skipped", "there is no file to read")
        try:
            self._store.read(self._first.key, 0, 1)
        except (KeyNameError, MissingError):
            return Check("read", "skipped", "there is no file that notata may have written")
        return Check("read", "yes", "a file was read")

    def _clock_of_reply(self) -> Check:
        if self._first is None:
            return Check("clock", "skipped", "there is no file with a time")
        begun = time.time()
        age = self._store.fetch(self._first.key, 0, 1).age
        if age is None:
            return Check("clock", "skipped", "the storage does not report its time")
        return clock_check(_ahead(age + self._first.modified.timestamp(), begun, time.time()))

    def _distance(self) -> Check:
        """Return the median time of a few small requests, one after the other."""
        took = []
        for _ in range(_REQUESTS):
            begun = time.perf_counter()
            try:
                self._probe.exists("nothing")
            except AccessError:  # S3 says so for a missing object if the credentials may not list
                self._store.occupied()
            took.append(time.perf_counter() - begun)
        median = statistics.median(took)
        if self._store.is_local:
            message = f"{median * 1000:.3f} ms a request; each line of a log is stored immediately"
            return Check("distance", "yes", message, value=median)
        message = (
            f"{median * 1000:.0f} ms a round trip; a log call does not wait (lines are sent together, every 5 s at "
            f"most), an artifact takes about {duration(median)}"
        )
        if median <= FAR:
            return Check("distance", "yes", message, value=median)
        return Check(
            "distance", "poor", message, "Write with background=True, or to a local disk with mirror=.", median
        )

    # -- by writing ----------------------------------------------------------------------------------------

    def _can_write(self) -> Check:
        self._probe.write("probe", _DATA)
        return Check("write", "yes", "a file was written")

    def _can_read(self) -> Check:
        if self._probe.read("probe") != _DATA:
            return Check("read", "no", "the content read differs from the content written", "Do not keep runs there.")
        return Check("read", "yes", "the content read is the content written")

    def _can_overwrite(self) -> Check:
        self._probe.write("probe", _DATA)
        if self._probe.read("probe") != _DATA:
            return Check(
                "overwrite", "no", "an overwritten file still has its old content", "Runs cannot be kept there."
            )
        if gap := self._store.gap:
            return Check("overwrite", "poor", gap, READ_AFTER_END)
        return Check("overwrite", "yes", "files are replaced atomically: readers see the old file or the new one")

    def _can_claim(self) -> Check:
        self._probe.create("claim", b"first")
        try:
            self._probe.create("claim", b"second")
        except ExistsError:
            if self._store.supports_exclusive_create:
                return Check("claim", "yes", "a second create of the same name was refused")
            message = "notata checks for the file before it writes, so another writer may intervene"
            return Check("claim", "poor", message, USE_UNIQUE_IDS)
        return Check("claim", "poor", "two creates of the same name both succeeded", USE_UNIQUE_IDS)

    def _can_swap(self) -> Check:
        version = self._probe.fetch("probe").version
        self._probe.replace("probe", _DATA + b"swapped\n", version)
        try:
            self._probe.replace("probe", _DATA + b"again\n", version)
        except ConflictError:
            if self._store.supports_cas:
                return Check("swap", "yes", "a swap of an old version was refused")
            message = "notata reads before it writes, which is not a guarantee: another writer may intervene"
            return Check("swap", "poor", message, USE_UNIQUE_IDS)
        return Check("swap", "poor", "a swap of an old version succeeded", USE_UNIQUE_IDS)

    def _can_append(self) -> Check:
        at = self._probe.append("log", b"first\n", at=0)
        self._probe.append("log", b"second\n", at=at)
        if self._probe.read("log") != b"first\nsecond\n":
            return Check("append", "no", "the appended lines are missing", "Logs cannot be kept there.")
        return Check("append", "yes", "two lines were appended")

    def _can_delete(self) -> Check:
        self._probe.delete(["probe", "claim", "log"])
        if self._probe.exists("probe"):
            return Check("delete", "no", "a deleted file is still there", "Is the bucket under a retention policy?")
        return Check("delete", "yes", "the test files were removed")

    def _clock(self) -> Check:
        begun = time.time()
        self._probe.write("probe", _DATA)
        ended = time.time()
        written = self._probe.stat("probe").modified.timestamp()
        if written <= 0:
            return Check("clock", "skipped", "the storage does not report its time")
        return clock_check(_ahead(written, begun, ended))

    def _can_link(self) -> Check:
        path = str(self._probe.path("linked"))
        self._probe.write("linked", _DATA)
        try:
            os.link(path, f"{path}-too")
        except OSError as error:
            message = f"it has no hard links ({error.strerror}); runs are claimed by exclusive creation instead"
            return Check(
                "links", "poor", message, "You need not do anything, unless several machines share this folder."
            )
        os.unlink(f"{path}-too")
        return Check("links", "yes", "hard links work")

    def _can_sync(self) -> Check:
        begun = time.perf_counter()
        with open(str(self._probe.path("synced")), "wb") as file:
            file.write(_DATA)
            file.flush()
            try:
                os.fsync(file.fileno())
            except OSError as error:
                advice = "Storage(…, durable=True) cannot be used there."
                return Check("fsync", "poor", f"fsync fails ({error.strerror})", advice)
        took = time.perf_counter() - begun
        return Check("fsync", "yes", f"a file is on the disk after {took * 1000:.1f} ms, as for durable=True", "", took)

    def _distinguishes_case(self) -> Check:
        if not self._store.folds_names():
            return Check("names", "yes", "it distinguishes upper and lower case")
        message = "it does not distinguish upper and lower case: A.txt and a.txt are the same file"
        return Check(
            "names", "poor", message, "Use file names that differ in more than case; notata refuses names that do not."
        )

    def _folders_to_make(self) -> list[str]:
        """Return folders of a disk that do not exist yet, the innermost first."""
        folders = []
        path = self._store.url
        while self._store.is_local and self._store.shared and not os.path.lexists(path):
            folders.append(path)
            path = os.path.dirname(path)
        return folders

    def _clean(self, made: list[str]) -> bool:
        """Remove the test files and the folders created for them; return whether nothing is left."""

        def clean() -> None:
            self._probe.clear()
            self._probe.remove_empty_folders()
            for folder in made:
                if os.path.isdir(folder):
                    os.rmdir(folder)

        if self._skip_reason and not self._wrote:
            return True
        try:
            _within_seconds(self._seconds, clean)
        except Exception:
            return not self._wrote
        return True

    # -- a disk --------------------------------------------------------------------------------------------

    def _disk_checks(self) -> Iterator[Check]:
        folder = self._store.url
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        yield self._try("space", lambda: space(folder))
        yield self._try("file system", lambda: file_system(folder))


def _ahead(moment: float, begun: float, ended: float) -> float:
    """Return by how much the storage's clock is ahead, by what it said at a moment between two of this machine.

    >>> _ahead(7.0, 0.0, 60.0), _ahead(3607.0, 0.0, 60.0)
    (0.0, 3577.0)
    """
    return 0.0 if begun <= moment <= ended else moment - (begun + ended) / 2


def _within_seconds(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of a call, or raise its error, if it ends in time; otherwise abandon the call."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="notata-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError("no answer in time")
    return results[0]
