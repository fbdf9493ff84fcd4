"""A run as an action: the program that ran, with its inputs, parameters and results."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

from notata._base import keys
from notata._base.secrets import HIDDEN, arguments, is_secret_name, redacted, shown_url
from notata._base.terminal import one_line
from notata.errors import NotataError
from notata.formats import flattened
from notata.formats.plain import utf8
from notata.publish.chosen import ChosenRun
from notata.publish.entities import Entity, file_id, refs
from notata.publish.private import hidden_names
from notata.run.inputs import Input, stored
from notata.search.places import Run

__all__ = ["Program", "Programs", "action_of", "command_of"]

_PARAMETERS: Final = 1000  # of one run
_INPUTS: Final = 10_000
_PACKAGES: Final = 1000
_TEXT: Final = 2000  # characters of a text from a run
_NAME: Final = 100  # characters of a name that is part of an identifier
_DESCRIBING: Final = frozenset({keys.MANIFEST, keys.METADATA, keys.INPUTS})
_PARTS: Final = (keys.PARAMS_JSON, keys.PARAMS_YAML, keys.PATCH, keys.UNTRACKED, keys.PACKAGES)
"""Files that say how the run was made. All others are results."""

_STATUS: Final = {"complete": "Completed", "failed": "Failed", "died": "Failed"}
_SHELLS: Final = frozenset({"-c", "-m"})  # options of Python that take the program


@dataclass(frozen=True, slots=True)
class Program:
    """A program, as it ran.

    Attributes:
        id: The identifier of its entity.
        name: Its name.
        version: The commit of its code; empty if unknown.
        repository: The URL of its code; empty if unknown.
    """

    id: str
    name: str
    version: str = ""
    repository: str = ""


@dataclass(slots=True)
class Programs:
    """The programs of all runs, and the packages that they need, each once.

    Args:
        repository: The URL of the code of runs that did not record it.
    """

    repository: str = ""
    _known: dict[tuple[Any, ...], Program] = field(default_factory=dict)
    _needs: dict[str, list[str]] = field(default_factory=dict)
    _packages: dict[str, Entity] = field(default_factory=dict)
    _platforms: dict[str, str] = field(default_factory=dict)

    def of(self, run: Run, redact: Callable[[str], str]) -> Program:
        """Return the program of a run."""
        environment = _mapping(run.metadata.get("environment"))
        name = _shown(_name_of(command_of(run), run), redact)
        git = _mapping(environment.get("git"))
        version = _text(git.get("commit"), 100) + ("-dirty" if git.get("dirty") is True and git.get("commit") else "")
        repository = _repository(git) or self.repository
        needs = [*self._python(environment), *self._of_packages(environment)]
        platform = _shown(_text(environment.get("platform"), 200), redact)
        facts = (name, version, repository, platform, *needs)
        if facts not in self._known:
            program = Program(f"#program-{len(self._known) + 1}", name, version, repository)
            self._known[facts] = program
            self._needs[program.id] = needs
            self._platforms[program.id] = platform
        return self._known[facts]

    def _python(self, environment: Mapping[str, Any]) -> Iterator[str]:
        python = _mapping(environment.get("python"))
        if version := _text(python.get("version"), 50):
            name = _text(python.get("implementation"), 50) or "Python"
            own = f"#python-{quote(name, safe='')}-{quote(version, safe='')}"
            yield self._package(own, name, version, "https://www.python.org/")

    def _of_packages(self, environment: Mapping[str, Any]) -> Iterator[str]:
        packages = _mapping(environment.get("packages"))
        for name, version in islice(sorted(packages.items()), _PACKAGES):
            if isinstance(version, str):
                short, number = _text(name, 100), _text(version, 100)
                own = f"#package-{quote(short, safe='')}-{quote(number, safe='')}"
                yield self._package(own, short, number)

    def _package(self, own: str, name: str, version: str, url: str = "") -> str:
        fields = {"@id": own, "@type": "SoftwareApplication", "name": redacted(name), "softwareVersion": version}
        fields |= {"url": url} if url else {}
        self._packages.setdefault(own, fields)
        return own

    def entities(self) -> Iterator[Entity]:
        """Yield the entities of all programs, and of the packages that they need."""
        for program in self._known.values():
            entity: Entity = {
                "@id": program.id,
                "@type": "SoftwareApplication",
                "name": program.name,
            }
            if program.version:
                entity["softwareVersion"] = program.version
            if program.repository:
                entity |= {"url": program.repository, "codeRepository": program.repository}
            if platform := self._platforms[program.id]:
                entity["runtimePlatform"] = platform
            if needs := self._needs[program.id]:
                entity["softwareRequirements"] = [{"@id": need} for need in needs]
            yield entity
        yield from self._packages.values()


def action_of(
    one: ChosenRun,
    program: Program,
    names: Sequence[str],
    runs: Sequence[ChosenRun],
    agents: Sequence[Mapping[str, str]],
) -> Iterator[Entity]:
    """Yield the action of a run, and the entities of its parameters and inputs.

    Args:
        one: The run.
        program: Its program.
        names: Its files, by their path in the crate.
        runs: All runs of the crate, as an input can be a file of another one.
        agents: References to the people who started it.
    """
    run, redact = one.run, one.origin.store.redacted
    own = f"#{quote(one.folder, safe='')}"
    keys_of = {name[len(one.folder) + 1 :]: name for name in names}
    parameters = [*_parameters(own, run.params, redact)]
    inputs = [*_inputs(own, one, runs)]
    parts = [{"@id": file_id(keys_of[key])} for key in _PARTS if key in keys_of]
    results = [name for key, name in keys_of.items() if key not in _DESCRIBING and not _is_part(key)]
    action: Entity = {"@id": own, "@type": "CreateAction", "name": f"Run {_shown(run.run_id, redact)}"}
    if command := command_of(run):
        action["description"] = _shown(shlex.join(arguments(command)), redact)
    for name, moment in (("startTime", run.started), ("endTime", run.ended)):
        if moment is not None:
            action[name] = moment.isoformat(timespec="milliseconds")
    if agents:
        action["agent"] = agents
    action["instrument"] = {"@id": program.id}
    objects = [*parts, *refs(inputs), *refs(parameters)]
    action["object"] = [{"@id": one_id} for one_id in dict.fromkeys(item["@id"] for item in objects)]
    action["result"] = [{"@id": file_id(name)} for name in results]
    if status := _STATUS.get(run.status):
        action["actionStatus"] = f"http://schema.org/{status}ActionStatus"  # a text, as the profile has it
    if run.status in ("failed", "died"):
        action["error"] = _shown(run.failure_reason or run.why, redact)
    yield action
    yield from parameters
    yield from (entity for entity in inputs if len(entity) > 1)


def _is_part(key: str) -> bool:
    return key in _PARTS or key.startswith(f"{keys.CODE}/")


def command_of(run: Run) -> list[str]:
    """Return the command line of a run; empty if it is unknown."""
    environment = _mapping(run.metadata.get("environment"))
    for found in (
        _mapping(run.metadata.get("command")).get("argv"),
        environment.get("command"),
        environment.get("argv"),
    ):
        if isinstance(found, list) and found:
            return [str(argument) for argument in found]
    return []


def _name_of(command: Sequence[str], run: Run) -> str:
    """Return the name of the program: of a Python script, the script or module."""
    if not command:
        return f"Program of run {run.run_id}"
    is_python = command[0].rpartition("/")[2].startswith("python") and len(command) > 1
    if not is_python or _mapping(run.metadata.get("command")).get("argv"):
        return command[0].rpartition("/")[2] or command[0]
    at = next((at for at, word in enumerate(command[1:], 1) if word in _SHELLS or word[:1] != "-"), 0)
    if command[at] == "-m" and at + 1 < len(command):
        return command[at + 1]
    return "python" if command[at] == "-c" or not at else command[at].rpartition("/")[2]


def _repository(git: Mapping[str, Any]) -> str:
    """Return the URL of the repository that the run recorded, without credentials; empty if there is none."""
    url = git.get("remote") or git.get("url")
    if not isinstance(url, str) or "://" not in url:
        return ""
    try:
        return redacted(shown_url(_text(url, 500)))
    except ValueError:
        return ""


def _parameters(own: str, params: Mapping[str, Any], redact: Callable[[str], str]) -> Iterator[Entity]:
    for number, (name, value) in enumerate(islice(flattened(params).items(), _PARAMETERS), 1):
        last = quote(utf8(str(name)), safe="") if len(str(name)) <= _NAME else number
        yield {
            "@id": f"{own}/param/{last}",
            "@type": "PropertyValue",
            "name": _shown(str(name), redact),
            "value": _value(str(name), value, redact),
        }


def _value(name: str, value: Any, redact: Callable[[str], str]) -> Any:
    """Return a parameter as a JSON value: a number or text; lists and dictionaries as JSON in a text."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str):
        return HIDDEN if is_secret_name(name, value) else _shown(value, redact)
    try:
        return _shown(json.dumps(value, default=str), redact)
    except (TypeError, ValueError, RecursionError):
        return _shown(type(value).__name__, redact)


def _inputs(own: str, one: ChosenRun, runs: Sequence[ChosenRun]) -> Iterator[Entity]:
    """Yield the inputs of a run: a reference for each file of the crate, an entity for each other one."""
    for number, found in enumerate(islice(_listed_inputs(one), _INPUTS), 1):
        if inside := _in_crate(found.url, runs):
            yield {"@id": inside}
            continue
        shown = _shown_place(found.url, one)
        entity: Entity = {
            "@id": f"{own}/input/{number}",
            "@type": "CreativeWork",
            "name": shown.rstrip("/").rpartition("/")[2] or shown,
            "url" if "://" in shown else "alternateName": shown,
        }
        facts = {
            "contentSize": "" if found.size is None else str(found.size),
            "sha256": found.sha256,
            "version": _shown(found.version, one.origin.store.redacted),
            "description": f"A file of run {_shown(found.run_id, one.origin.store.redacted)}" if found.run_id else "",
        }
        yield entity | {name: text for name, text in facts.items() if text}


def _listed_inputs(one: ChosenRun) -> Iterator[Input]:
    """Yield the inputs of a run and of its workers, as far as the files that list them are published."""
    for key in one.entries:
        if key == keys.INPUTS or (key.startswith(f"{keys.WORKERS}/") and key.endswith(f"/{keys.INPUTS}")):
            with suppress(NotataError):  # removed meanwhile; its copy was checked before
                yield from stored(one.origin.store, key)


def _in_crate(url: str, runs: Sequence[ChosenRun]) -> str:
    """Return the identifier of the file of the crate that has this URL; empty if there is none."""
    for one in runs:
        start = f"{one.origin.url.rstrip('/')}/"
        if url.startswith(start) and url[len(start) :] in one.entries:
            return file_id(f"{one.folder}/{url[len(start) :]}")
    return ""


def _shown_place(url: str, one: ChosenRun) -> str:
    """Return the address of an input without credentials, and without names if these are not published."""
    try:
        shown = shown_url(url) if "://" in url else url
    except ValueError:
        shown = url
    shown = _shown(shown, one.origin.store.redacted)
    is_hidden = one.run.metadata != one.origin.metadata
    return hidden_names(one.origin.metadata)(shown) if is_hidden else shown


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def _shown(text: str, redact: Callable[[str], str]) -> str:
    """Return a text of a run without secrets, as one line of bounded length."""
    return one_line(redacted(redact(text[: 2 * _TEXT])), _TEXT)
