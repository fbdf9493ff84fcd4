"""The metadata of a crate: ``ro-crate-metadata.json``, JSON-LD of RO-Crate 1.1 and Process Run Crate 0.5.

Version 0.5 of the profile extends RO-Crate 1.1; version 0.6 needs RO-Crate 1.3, which few programs read yet. The terms
that RO-Crate 1.1 lacks, such as ``sha256``, come from the context of the profile.

References:
    https://w3id.org/ro/crate/1.1, https://w3id.org/ro/wfrun/process/0.5
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final
from urllib.parse import quote

from notata import __version__
from notata._base import keys
from notata._base.secrets import redacted
from notata.formats.plain import utf8
from notata.publish.action import Program, Programs, action_of
from notata.publish.chosen import ChosenRun
from notata.publish.entities import Entity, encoding_of, file_id, refs
from notata.publish.pack import Packed
from notata.publish.people import Author, License

__all__ = ["CITATION", "METADATA", "PREVIEW", "CrateFacts", "CrateMetadata"]

METADATA: Final = "ro-crate-metadata.json"
PREVIEW: Final = "ro-crate-preview.html"
CITATION: Final = "CITATION.cff"

_CRATE: Final = "https://w3id.org/ro/crate/1.1"
_PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
_CONTEXT: Final = [f"{_CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
_NOTATA: Final = "#notata"
_UNLICENSED: Final = "No license is named. Ask the authors before you use the files of this crate."
"""A crate must say how it may be used."""

_DESCRIPTIONS: Final = {
    keys.PATCH: "Changes of the code since the commit",
    keys.PACKAGES: "Installed packages",
    keys.UNTRACKED: "Files of the checkout that are not under version control",
    keys.INPUTS: "Files that the run read",
    keys.OUTPUT: "Output of the program",
    keys.LOG: "Log of the run",
    keys.MANIFEST: "Files of the run with their sizes and digests",
    keys.METADATA: "State and environment of the run",
    keys.METRICS: "Metrics of the run",
    keys.PARAMS_JSON: "Parameters of the run",
    keys.PARAMS_YAML: "Parameters of the run",
}


@dataclass(frozen=True, slots=True)
class CrateFacts:
    """The facts of a crate that the user gives.

    Attributes:
        name: Its title.
        description: Its description.
        published: The date of publication.
        authors: The authors, who also started the runs.
        license: The license.
        repository: The URL of the code of runs that did not record it.
    """

    name: str
    description: str
    published: date
    authors: Sequence[Author] = ()
    license: License | None = None
    repository: str = ""


@dataclass(slots=True)
class CrateMetadata:
    """Collects the entities of a crate.

    Args:
        facts: The facts that the user gives.
        runs: The runs.
    """

    facts: CrateFacts
    runs: Sequence[ChosenRun]
    programs: Programs = field(init=False)

    def __post_init__(self) -> None:
        self.programs = Programs(self.facts.repository)

    def program_of(self, one: ChosenRun) -> Program:
        """Return the program of a run."""
        return self.programs.of(one.run, one.origin.store.redacted)

    def encode(self, files: Mapping[str, Packed], own: Mapping[str, Packed]) -> bytes:
        """Return the content of the metadata file.

        Args:
            files: The files of the runs, by their path in the crate.
            own: The other files of the crate, by name.
        """
        lines = ",\n".join(_encoded(entity) for entity in self._entities(files, own))
        return utf8(f'{{\n"@context": {json.dumps(_CONTEXT)},\n"@graph": [\n{lines}\n]\n}}\n')

    def _entities(self, files: Mapping[str, Packed], own: Mapping[str, Packed]) -> Iterator[Entity]:
        people = [_person(author) for author in self.facts.authors]
        of_runs = {one.folder: [name for name in files if name.startswith(f"{one.folder}/")] for one in self.runs}
        actions = [
            entity
            for one in self.runs
            for entity in action_of(one, self.program_of(one), of_runs[one.folder], self.runs, refs(people))
        ]
        yield from self._head(own, people, [entity for entity in actions if entity["@type"] == "CreateAction"])
        for one in self.runs:
            yield self._dataset(one, of_runs[one.folder])
            for name in of_runs[one.folder]:
                yield _file(name, files[name], _DESCRIPTIONS.get(name[len(one.folder) + 1 :], ""))
        yield from actions
        yield from self.programs.entities()
        yield from people
        if (terms := self.facts.license) is not None:
            described = f"The license of the files of this crate: {terms.name}"
            yield {
                "@id": terms.url,
                "@type": "CreativeWork",
                "name": terms.name,
                "description": described,
                "url": terms.url,
            }

    def _head(self, own: Mapping[str, Packed], people: Sequence[Entity], actions: Sequence[Entity]) -> Iterator[Entity]:
        """Yield the descriptor, the crate itself, the profile, and the files that describe the crate."""
        facts = self.facts
        yield {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": _CRATE},
            "sdPublisher": {"@id": _NOTATA},
        }
        parts = [{"@id": f"{file_id(one.folder)}/"} for one in self.runs]
        root: Entity = {
            "@id": "./",
            "@type": "Dataset",
            "name": redacted(facts.name),
            "description": redacted(facts.description),
            "datePublished": facts.published.isoformat(),
            "license": _UNLICENSED if facts.license is None else {"@id": facts.license.url},
            "conformsTo": {"@id": _PROFILE},
            "hasPart": [*({"@id": name} for name in own if name == CITATION), *parts],
            "mentions": refs(actions),
        }
        if people:
            root["author"] = refs(people)
        yield root
        yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
        yield {
            "@id": _NOTATA,
            "@type": "SoftwareApplication",
            "name": "notata",
            "softwareVersion": __version__,
            "url": "https://pypi.org/project/notata/",
        }
        for name, file in own.items():
            yield _file(name, file, "How to cite this crate") if name == CITATION else _preview(file)

    def _dataset(self, one: ChosenRun, names: Sequence[str]) -> Entity:
        text = f"Run {one.run.run_id}"
        return {
            "@id": f"{file_id(one.folder)}/",
            "@type": "Dataset",
            "name": text,
            "description": f"The files of the run, status {one.run.shown_status}",
            "hasPart": [{"@id": file_id(name)} for name in names],
        }


def _file(name: str, file: Packed, description: str = "") -> Entity:
    entity: Entity = {
        "@id": file_id(name),
        "@type": "File",
        "name": name,
        "contentSize": str(file.size),
        "encodingFormat": encoding_of(name),
        "sha256": file.sha256,
    }
    return entity | ({"description": description} if description else {})


def _preview(file: Packed) -> Entity:
    return {
        "@id": PREVIEW,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "name": "The runs as a page",
        "contentSize": str(file.size),
        "encodingFormat": "text/html",
        "sha256": file.sha256,
    }


def _person(author: Author) -> Entity:
    fields = {"name": author.name, "givenName": author.given, "familyName": author.family}
    own = f"#author/{quote(author.name, safe='')}"
    return {"@id": author.orcid or own, "@type": "Person"} | {name: text for name, text in fields.items() if text}


def _encoded(entity: Entity) -> str:
    """Return an entity as JSON; as RO-Crate recommends, a list with one value is that value."""
    kept = {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in entity.items()}
    shown = {name: value for name, value in kept.items() if value != []}
    return json.dumps(shown, indent=1, ensure_ascii=False, allow_nan=False)
