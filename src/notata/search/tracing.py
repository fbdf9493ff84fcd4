"""Lineage of runs: what a run was made from, and which runs were made from it.

The addresses in a run folder are data, which the author of the folder chose. So notata opens no address that it finds
there. It follows one only as a key below a place that the user has named, or below the folder of the run's siblings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys
from notata._base.secrets import redacted
from notata._base.terminal import one_line
from notata.errors import KeyNameError, MissingError, NotataError, RunMissingError
from notata.manifest import Document
from notata.run.inputs import Input
from notata.run.inspection import digest_of_lines
from notata.run.listings import name_of
from notata.run.state import ENDED, find_metadata
from notata.search.finding import look_up
from notata.search.graphs import Ancestor, Lineage, Link
from notata.search.places import Place, Run
from notata.search.record import NO_METADATA, records
from notata.search.sources import inputs_of, parent_of, plain_url
from notata.search.target import URL, Failed, Target, below, raise_error, targets
from notata.store import Blob, Store
from notata.store.in_flight import InFlight

if TYPE_CHECKING:
    from notata.search.target import URLs

__all__ = ["lineage"]

DEPTH: Final = 20
"""Default number of generations in each direction."""

MOST: Final = 1000
"""Default number of runs in each direction."""

_LINKS: Final = 20_000  # links in all, as a forged inputs.json may have 2000
_MANIFEST: Final = 4 * 2**20  # bytes of a manifest that is read to compare digests
_AT_ONCE: Final = 16  # manifests in memory
_LONG: Final = 2000  # characters of a URL


def lineage(
    url: URL,
    *,
    up: bool = True,
    down: bool = True,
    within: URLs | None = None,
    follow: URLs = (),
    moved: str | Iterable[str] = (),
    depth: int = DEPTH,
    most: int = MOST,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Lineage:
    """Return what a run was made from, and which runs were made from it, over several generations.

    The sources of a run are its inputs (`Logbook.input`), its parent (``Logbook(parent=…)``) and the run that it
    repeats. A run elsewhere is followed only if it lies below the folder that contains the run's base folder or
    experiment, or below a place in `within` or `follow`; others are named, but not looked at.

    Args:
        url: The run: a URL, a path or a `Target`.
        up: Whether to look for what the run was made from.
        down: Whether to look for runs that were made from it.
        within: The places whose runs are looked through for `down`, see `URLs`; by default the base folder of the run.
        follow: More places below which runs may be looked at.
        moved: URLs or paths at which the base folder of the run was before, if it was moved or copied since: addresses
            below them are taken for addresses below the base folder now.
        depth: The number of generations in each direction.
        most: The number of runs in each direction.
        storage_options: Options for fsspec.
        failed: Called with the error of each place and file that cannot be read. By default, the first one is raised.

    Cost: for `up`, one read of metadata.json, inputs.json and manifest.json for each run, those of a generation at
    once, and one listing of a run with workers. For `down`, one listing a place, one read for each run there, and one
    for each that has inputs.

    Raises:
        RunMissingError: There is no run.
        StorageError: A storage failed.

    >>> from notata import Logbook
    >>> with Logbook("mesh", "memory://lineage") as log:
    ...     path = log.text("mesh", "0 1 2")
    >>> with Logbook("fit", "memory://lineage", parent="memory://lineage/log_mesh") as log:
    ...     path = log.input("memory://lineage/log_mesh/artifacts/mesh.txt")
    >>> found = lineage("memory://lineage/log_fit")
    >>> [(link.source.rpartition("/")[2], link.how, link.file, link.check) for link in found.links]
    [('log_mesh', 'parent', '', ''), ('log_mesh', 'input', 'artifacts/mesh.txt', 'same')]
    """
    target, store = _run_of(Target(url, storage_options) if not isinstance(url, Target) else url)
    base = _base_of(target, store)
    looked = [base] if within is None else [_Root.of(one) for one in targets(within, storage_options)]
    followed = [_Root.of(one) for one in targets(follow, storage_options)] if follow else []
    before = {plain_url(one): base.store.url for one in ([moved] if isinstance(moved, str) else moved)}
    tracer = _Tracer([base, *looked, *followed], before, failed, depth, most)
    start = tracer.address(store.url)
    if down:
        for root in looked:
            tracer.look_through(root)
        tracer.trace_down(start)
    tracer.load([start])
    if up:
        tracer.trace_up(start)
    return tracer.result(start)


def _run_of(target: Target) -> tuple[Target, Store]:
    """Return the target that is a run, which may be named by its id, and its store. One request or two."""
    store = target.folder if not target.pattern else target.store
    if not target.pattern and find_metadata(store) is not None:
        return target, store
    other = target.of_id()
    if other is not None and find_metadata(other.store) is not None:
        return other, other.store
    raise RunMissingError(f"there is no run at {target.name}; name one run", url=store.url)


@dataclass(frozen=True, slots=True)
class _Root:
    """A place below which runs may be looked at.

    Attributes:
        name: Its name for users.
        store: Its store.
        target: The target to look up; its names are not shown.
    """

    name: str
    store: Store
    target: Target

    @classmethod
    def of(cls, target: Target) -> _Root:
        """Return the root for a place that the user has named."""
        name = target.name.removesuffix(target.pattern).rstrip("/") if target.pattern else target.name
        return cls(name, target.store, target)

    def key_of(self, url: str) -> str | None:
        """Return the key of a URL below this place, or an empty text for the place itself; None for all others."""
        own = plain_url(self.store.url)
        if url == own:
            return ""
        beginning = own if own.endswith("/") else f"{own}/"
        if not url.startswith(beginning):
            return None
        try:
            return keys.check(url[len(beginning) :])
        except KeyNameError:
            return None


def _base_of(target: Target, store: Store) -> _Root:
    """Return the base folder of a run: the folder above it, or that above its experiment."""
    above = target.above(1)
    if above is None:
        return _Root(target.name, store, Target(store))
    levels = 1
    if name_of(above.url) == keys.RUNS and (base := target.above(3)) is not None:
        above, levels = base, 3
    name = target.name
    for _ in range(levels):
        name = name.rstrip("/").rpartition("/")[0] if "/" in name else ""
    return _Root(name, above, Target(above))


class _Tracer:
    """Looks at runs, each once, and collects the links between them.

    Args:
        roots: The places below which runs may be looked at.
        moved: By the address of a place in the past, its address now.
        failed: Called with the error of each place and file that cannot be read.
        depth: The number of generations.
        most: The number of runs in one direction.
    """

    def __init__(self, roots: Sequence[_Root], moved: Mapping[str, str], failed: Failed, depth: int, most: int) -> None:
        self._roots = roots
        self._moved = moved
        self._failed = failed
        self._depth = depth
        self._most = most
        self._runs: dict[str, Run] = {}
        self._links: dict[str, list[Link]] = {}
        self._ancestors: dict[str, None] = {}  # URLs of the result, in order
        self._descendants: dict[str, None] = {}
        self._known_as_runs: set[str] = set()  # sources that are runs, looked at or not
        self._names: dict[str, str] = {}
        self._notes: dict[str, None] = {}

    def address(self, url: str) -> str:
        """Return a URL of a run in the form by which it is known here."""
        return plain_url(url)

    # -- looking at runs -----------------------------------------------------------------------------------

    def look_through(self, root: _Root) -> None:
        """Look at all runs at or below a place."""
        try:
            place = look_up(root.target, failed=self._failed)
        except NotataError as error:
            self._failed(error)
            return
        place = replace(place, runs={folder: run for folder, run in place.runs.items() if self._is_new(run)})
        self._add(root, place)

    def load(self, urls: Iterable[str]) -> None:
        """Look at runs by URL, as far as they lie below one of the places."""
        found: dict[int, dict[str, Run]] = {}
        for url in urls:
            if url in self._runs:
                continue
            for number, root in enumerate(self._roots):
                key = root.key_of(url)
                if key is not None:
                    store = root.store.below(key) if key else root.store
                    found.setdefault(number, {})[key] = Run.listed(below(root.name, key), store, key, {}, {})
                    break
        for number, runs in found.items():
            root = self._roots[number]
            self._add(root, Place(root.name, root.name, root.store, {}, runs))

    def _is_new(self, run: Run) -> bool:
        return plain_url(run.url) not in self._runs

    def _add(self, root: _Root, place: Place) -> None:
        """Read metadata.json and inputs.json of the runs of a place."""
        for run, inputs in inputs_of(list(records(place, failed=self._failed)), self._failed, self._note_size):
            url = plain_url(run.url)
            self._runs[url] = run
            self._names[url] = below(root.name, run.folder) if root.name else run.folder or run.name
            self._links[url] = self._links_of(url, run, inputs)

    def _note_size(self, name: str) -> None:
        self._notes[f"{name} is too large and was not read"] = None

    def _links_of(self, url: str, run: Run, inputs: Iterable[Input]) -> list[Link]:
        """Return the links of a run to what it was made from, each once."""
        links = [Link(url, self._source(parent), "parent") for parent in [parent_of(run)] if parent]
        origin = run.metadata.get("origin")
        repeated = origin.get("url") if isinstance(origin, dict) else None
        if isinstance(repeated, str) and repeated:
            links.append(Link(url, self._source(repeated), "rerun"))
        for one in inputs:
            source = self._source(one.run_url or one.url)
            self._known_as_runs |= {source} if one.run_url else set()
            file = self._source(one.url)[len(source) + 1 :] if one.run_url else ""
            links.append(Link(url, source, "input", file, one.size, one.sha256))
        self._known_as_runs.update(link.source for link in links if link.how != "input")
        return list({(one.source, one.how, one.file, one.sha256): one for one in links if one.source != url}.values())

    def _source(self, url: str) -> str:
        """Return the address that a run names, as it is now."""
        url = plain_url(url[:_LONG])
        for before, now in self._moved.items():
            if url.startswith(f"{before}/"):
                return plain_url(f"{now.rstrip('/')}{url[len(before) :]}")
        return url

    # -- following -----------------------------------------------------------------------------------------

    def trace_up(self, start: str) -> None:
        """Look at the runs that a run was made from, generation by generation."""
        self._ancestors |= self._trace(
            start, lambda url: [one.source for one in self._links.get(url, ()) if one.source in self._known_as_runs]
        )

    def trace_down(self, start: str) -> None:
        """Find the runs that were made from a run, among those that were looked at."""
        children: dict[str, list[str]] = {}
        for url, links in self._links.items():
            for link in links:
                children.setdefault(link.source, []).append(url)
        self._descendants |= self._trace(start, lambda url: children.get(url, ()))

    def _trace(self, start: str, next_of: Callable[[str], Iterable[str]]) -> dict[str, None]:
        """Return a run and its relatives in one direction, up to the limits."""
        seen: dict[str, None] = {start: None}
        generation = [start]
        self.load(generation)
        for _ in range(self._depth):
            found = dict.fromkeys(one for url in generation for one in next_of(url) if one not in seen)
            room = self._most - len(seen)
            if len(found) > room:
                self._notes[f"only {self._most} runs are shown"] = None
            generation = list(found)[:room]
            seen |= dict.fromkeys(generation)
            self.load(generation)
            if not generation:
                break
        else:
            if any(one not in seen for url in generation for one in next_of(url)):
                self._notes[f"only {self._depth} generations are shown"] = None
        return seen

    # -- the result ----------------------------------------------------------------------------------------

    def result(self, start: str) -> Lineage:
        """Return the lineage of a run, with the runs that were found."""
        runs = dict.fromkeys([start, *self._ancestors, *self._descendants])
        links = list(itertools.islice((link for url in runs for link in self._links_to_show(url, runs)), _LINKS))
        if len(links) == _LINKS:
            self._notes[f"only {_LINKS} links are shown"] = None
        urls = dict.fromkeys([*runs, *(link.source for link in links)])
        shown = {url: one_line(redacted(url), _LONG) for url in urls}
        nodes = {shown[url]: self._node(url, shown[url]) for url in urls}
        checked = [replace(one, child=shown[one.child], source=shown[one.source]) for one in self._checked(links)]
        return Lineage(shown[start], nodes, checked, list(self._notes))

    def _links_to_show(self, url: str, runs: Container[str]) -> Iterator[Link]:
        """Yield the links of a run to what it was made from; of a descendant, only those to runs of the result."""
        for link in self._links.get(url, ()):
            if url in self._ancestors or link.source in runs:
                yield link

    def _checked(self, links: Sequence[Link]) -> Iterator[Link]:
        """Yield links with what the manifests of their sources say now. One read for each source, 16 at once."""
        wanted = list(dict.fromkeys(one.source for one in links if one.sha256 and one.file and self._has_ended(one)))
        checks: dict[Link, str] = {}
        by_source: dict[str, list[Link]] = {}
        for one in links:
            by_source.setdefault(one.source, []).append(one)
        for start in range(0, len(wanted), _AT_ONCE):
            for url, manifest in self._manifests_of(wanted[start : start + _AT_ONCE]):
                checks |= {one: _check(one, manifest) for one in by_source[url]}
        yield from (replace(link, check=checks.get(link, "")) for link in links)

    def _has_ended(self, link: Link) -> bool:
        return link.source in self._runs and self._runs[link.source].status in ENDED

    def _manifests_of(self, urls: Iterable[str]) -> Iterator[tuple[str, Document]]:
        """Yield the manifests of runs; those that are missing, damaged or too large are left out."""
        flying = InFlight[str, Blob]()
        with flying.until_landed():
            for url in urls:
                flying.begin(url, _MANIFEST, self._runs[url].store.start_fetch, keys.MANIFEST, 0, _MANIFEST + 1)
        self._report(flying.errors.values())
        for url, blob in flying.results.items():
            manifest = Document.parse_undamaged(blob.data) if len(blob.data) <= _MANIFEST else None
            if manifest is not None:
                yield url, manifest

    def _report(self, errors: Iterable[Exception]) -> None:
        """Report what the storage refused; a missing file is not an error."""
        for error in errors:
            if isinstance(error, NotataError) and not isinstance(error, MissingError):
                self._failed(error)

    def _node(self, url: str, shown: str) -> Ancestor:
        run = self._runs.get(url)
        name = one_line(redacted(self._names[url]), _LONG) if url in self._names else shown
        if run is None and url not in self._known_as_runs:
            return Ancestor(shown, name, "file")
        if run is None:
            is_near = any(root.key_of(url) is not None for root in self._roots)
            return Ancestor(shown, name, note="too far" if is_near else "not followed", run_id=keys.run_id(url))
        if run.status == "unreadable":
            note = "missing" if run.why == NO_METADATA else "unreadable"
            return Ancestor(shown, name, note=note, run_id=run.run_id)
        return Ancestor(shown, name, status=run.status, run_id=run.run_id)


def _check(link: Link, manifest: Document) -> str:
    """Return what the manifest of its source says now about a file or folder that a run has read."""
    if not link.sha256 or not link.file or keys.is_growing(link.file):
        return ""
    receipt = manifest.files.get(link.file)
    if receipt is not None:
        return _verdict(receipt.sha256.hex(), link) if receipt.sha256 else ""
    inside = f"{link.file}/"
    digests = {key[len(inside) :]: one.sha256.hex() for key, one in manifest.files.items() if key.startswith(inside)}
    if not digests:
        return "gone"
    return _verdict(digest_of_lines(digests), link) if all(digests.values()) else ""


def _verdict(digest: str, link: Link) -> str:
    return "same" if digest == link.sha256 else "changed"
