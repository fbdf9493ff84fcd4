"""The graph of a lineage: runs and files, the links between them, and its text for Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from notata._base.terminal import one_line

__all__ = ["Ancestor", "Lineage", "Link", "what_of"]

_FILES: Final = 5  # files that one arrow names


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run, or a file outside of runs, in a `Lineage`.

    Attributes:
        url: Its URL, without credentials.
        name: Its name for users: below the place as it was given, else its URL.
        kind: ``run`` or ``file``; a folder is a ``file``, too.
        status: The status of a run; empty if it was not looked at.
        note: Why a run was not looked at: ``missing``, ``not followed``, ``unreadable``, ``too far``; empty otherwise.
        run_id: The id of a run; empty for a file.
    """

    url: str
    name: str
    kind: str = "run"
    status: str = ""
    note: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """The link from a run to a run or file that it was made from.

    Attributes:
        child: The URL of the run that was made.
        source: The URL of the run or file that it was made from.
        how: ``input``: it read a file; ``parent``: it continues or varies the other run; ``rerun``: it repeats it.
        file: The key of the file in the source, if that is a run and `how` is ``input``; empty if it is the whole run.
        size: The size of the file in bytes when it was read; None if unknown.
        sha256: Its digest then; empty if unknown.
        check: ``same`` or ``changed``: what the manifest of the source says now about the file; ``gone``: it has no
            such file any more; empty if that is unknown.
    """

    child: str
    source: str
    how: str
    file: str = ""
    size: int | None = None
    sha256: str = ""
    check: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The graph of what a run was made from, and what was made from it.

    Attributes:
        url: The URL of the run.
        nodes: All runs and files, by URL.
        links: All links between them.
        notes: What is left out.
    """

    url: str
    nodes: Mapping[str, Ancestor]
    links: Sequence[Link]
    notes: Sequence[str] = field(default=())

    @property
    def problems(self) -> list[Link]:
        """Links to files that have changed, or are gone, and to runs that are missing."""
        return [
            link
            for link in self.links
            if link.check in ("changed", "gone") or self.nodes[link.source].note in ("missing", "unreadable")
        ]

    def upstream(self, url: str) -> list[Link]:
        """Return the links from a run to what it was made from."""
        return [link for link in self.links if link.child == url]

    def downstream(self, url: str) -> list[Link]:
        """Return the links from a run or file to the runs that were made from it."""
        return [link for link in self.links if link.source == url]

    def record(self) -> dict[str, Any]:
        """Return its fields by name, as plain values."""
        names = ("url", "name", "kind", "status", "note", "run_id")
        of_link = ("child", "source", "how", "file", "size", "sha256", "check")
        return {
            "url": self.url,
            "nodes": [{name: getattr(node, name) for name in names} for node in self.nodes.values()],
            "links": [{name: getattr(link, name) for name in of_link} for link in self.links],
            "notes": list(self.notes),
        }

    def dot(self) -> str:
        r"""Return the graph as text for Graphviz; arrows point from the source to the run that was made from it.

        >>> print(Lineage("memory://a/log_b", {"memory://a/log_b": Ancestor("memory://a/log_b", 'a"b')}, []).dot())
        digraph lineage {
          rankdir=LR;
          node [shape=box];
          n0 [label="a\"b", style=bold];
        }
        """
        at = {url: f"n{number}" for number, url in enumerate(self.nodes)}
        lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
        for url, node in self.nodes.items():
            label = [node.name, *filter(None, [node.note or node.status])]
            shape = ", shape=note" if node.kind == "file" else ", style=bold" if url == self.url else ""
            lines.append(f"  {at[url]} [label={_dot_text(label)}{shape}];")
        for child, source, links in self.grouped():
            colour = ", color=red" if any(link.check in ("changed", "gone") for link in links) else ""
            files = _dot_text([what_of(link) for link in links[:_FILES]] + ["…"] * (len(links) > _FILES))
            lines.append(f"  {at[source]} -> {at[child]} [label={files}{colour}];")
        return "\n".join([*lines, "}"])

    def grouped(self) -> list[tuple[str, str, list[Link]]]:
        """Return all links of each pair of a child and a source."""
        found: dict[tuple[str, str], list[Link]] = {}
        for link in self.links:
            found.setdefault((link.child, link.source), []).append(link)
        return [(child, source, links) for (child, source), links in found.items()]


def what_of(link: Link) -> str:
    """Return what a link says, in a few words: ``data/mesh.npy (changed)``, ``parent``."""
    check = f" ({link.check})" if link.check in ("changed", "gone") else ""
    return f"{one_line(link.file or link.how, 200)}{check}"


def _dot_text(lines: Iterable[str]) -> str:
    """Return lines as a quoted string of Graphviz, in which nothing has a special meaning."""
    escaped = [one_line(line, 200).replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(escaped) + '"'
