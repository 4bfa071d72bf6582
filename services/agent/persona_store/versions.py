"""Versions of personas, and what a change makes of them. Pure: time and who asks are passed in."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from services.agent.personas import Persona
from services.common.errors import UnknownIdError, WrongOrderError

MAX_PERSONAS = 1000


class StaleVersionError(WrongOrderError):
    """Somebody else changed the persona since it was read."""


class TakenError(WrongOrderError):
    """A name or a number belongs to another persona."""


class Source(Enum):
    """Who made a version; the values are stored."""

    FILE = "file"
    API = "api"


@dataclass(frozen=True)
class Version:
    """One version of a persona; it never changes.

    Attributes:
        settings: as `Persona.settings`; empty when this version is the persona's removal.
        changed: Unix time.
        by: name of the API key, or of the agent that read a file.
    """

    name: str
    number: int
    settings: Mapping[str, Any]
    source: Source
    changed: float
    by: str

    @property
    def removed(self) -> bool:
        """The persona was deleted."""
        return not self.settings

    @property
    def numbers(self) -> frozenset[str]:
        """Called numbers that it answers."""
        return frozenset(self.settings.get("numbers", ()))

    def fields(self) -> dict[str, str | int]:
        """As a Redis hash has it."""
        return {
            "version": self.number,
            "settings": json.dumps(self.settings, sort_keys=True, ensure_ascii=False),
            "source": self.source.value,
            "changed": repr(self.changed),
            "by": self.by,
        }

    @classmethod
    def from_fields(cls, name: str, fields: Mapping[str, str]) -> "Version":
        """From a Redis hash; what older releases wrote lacks some fields."""
        return cls(
            name,
            int(fields["version"]),
            json.loads(fields["settings"]),
            Source(fields.get("source", Source.FILE.value)),
            float(fields.get("changed", 0.0)),
            fields.get("by", ""),
        )


@dataclass(frozen=True)
class Change:
    """A wish to change one persona.

    Attributes:
        persona: its new settings; None deletes it.
        expected: the version that the wish was made for; 0: there must be none; None: whichever there is.
    """

    name: str
    persona: Persona | None
    source: Source
    by: str
    expected: int | None = None


Versions = Mapping[str, Version]
"""The newest version of each persona by its name, removed ones included."""


def plan(newest: Versions, changes: Iterable[Change], now: float) -> list[Version]:
    """The versions that some changes, carried out together, make; none for what is as wished already.

    Raises:
        UnknownIdError: the persona to be changed or deleted is not there.
        StaleVersionError: it has another version than expected.
        TakenError: a name that must be new is not, or a number would be answered by two personas.
        WrongOrderError: there would be too many personas.
    """
    after = dict(newest)
    made = []
    for change in changes:
        found = after.get(change.name)
        _check_expected(change, found)
        settings = change.persona.settings if change.persona is not None else {}
        if found is not None and found.settings == settings and (found.source is change.source or found.removed):
            continue
        number = found.number + 1 if found is not None else 1
        after[change.name] = Version(change.name, number, settings, change.source, now, change.by)
        made.append(after[change.name])
    _check_numbers(after)
    live = sum(not version.removed for version in after.values())
    if made and live > MAX_PERSONAS:
        raise WrongOrderError(f"there may be {MAX_PERSONAS} personas at most")
    return made


def _check_expected(change: Change, found: Version | None) -> None:
    there = found is not None and not found.removed
    if change.expected == 0:
        if there:
            raise TakenError(f"there is a persona {change.name!r} already")
        return
    if not there or found is None:
        brings_back = found is not None and change.expected == found.number  # made for the deletion
        if change.persona is None or not (change.expected is None or brings_back):
            raise UnknownIdError(f"no persona {change.name!r}")
        return
    if change.expected is not None and change.expected != found.number:
        raise StaleVersionError(
            f"persona {change.name!r} is at version {found.number}, not at {change.expected}: read it again"
        )


def _check_numbers(versions: Versions) -> None:
    answered: dict[str, str] = {}
    for version in versions.values():
        for number in version.numbers:
            if answered.setdefault(number, version.name) != version.name:
                first, second = sorted((answered[number], version.name))
                raise TakenError(f"number {number!r} would be answered by both {first!r} and {second!r}")


def from_files(
    newest: Versions, files: Mapping[str, Persona], default: str, agent: str
) -> tuple[list[Change], list[str]]:
    """What the files of an agent's directory change at its start.

    A file counts until its persona is changed through the API; from then on it does not, so that a restart takes no
    change back. The agent's default persona must be there: its file brings it back when it was deleted.

    Returns:
        The changes, and names of files that no longer count although they say something else than what is stored.
    """
    changes, ignored = [], []
    for name, persona in files.items():
        found = newest.get(name)
        wish = Change(name, persona, Source.FILE, agent)
        if found is None or (found.removed and name == default):
            changes.append(wish)
        elif found.settings != persona.settings:
            if found.source is Source.FILE:
                changes.append(wish)
            else:
                ignored.append(name)
    return changes, ignored


def as_yaml(settings: Mapping[str, Any]) -> str:
    """A persona as a file of the personas directory has it."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=100)


def difference(old: Version, new: Version) -> str:
    """What changed from one version to the other: a unified diff of their YAML; empty for none."""
    lines = difflib.unified_diff(
        _lines(old), _lines(new), f"{old.name} version {old.number}", f"{new.name} version {new.number}", n=3
    )
    return "".join(lines)


def _lines(version: Version) -> list[str]:
    return as_yaml(version.settings).splitlines(keepends=True) if version.settings else []
