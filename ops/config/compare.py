"""What differs between two states of the configs, to the field."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from schemas.config_history import ProjectConfigs, spec_of
from schemas.specs import Section, Specs

State = Mapping[tuple[Section, str], dict[str, Any]]


class Difference(NamedTuple):
    """One field of one entity; a whole entity has the path ""."""

    change: Literal["added", "removed", "changed"]
    section: Section
    name: str
    path: str
    before: Any
    after: Any


def state_of_document(document: Specs) -> State:
    """Return the entities of a document by section and name."""
    return {(section, name): spec for section, name, _, _, spec in document.entities_as_v1()}


def state_of_history(configs: ProjectConfigs, time: int) -> State:
    """Return the entities that were in force at a time by section and name."""
    return {at: spec_of(record) for at, record in configs.state_at(time).items()}


def differences(before: State, after: State) -> list[Difference]:
    """Return what has to change in `before` to make it `after`, by name."""
    found = []
    for section, name in sorted({*before, *after}):
        old, new = before.get((section, name)), after.get((section, name))
        if old is None:
            found.append(Difference("added", section, name, "", None, new))
        elif new is None:
            found.append(Difference("removed", section, name, "", old, None))
        else:
            found += [Difference("changed", section, name, *at) for at in _fields(old, new, "")]
    return found


def _fields(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _fields(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif _are_rules(old) and _are_rules(new):
        # A rule that moved down because another was put in front has not changed itself.
        named = [{rule["id"]: rule for rule in rules} for rules in (old, new)]
        for key in dict.fromkeys([*named[0], *named[1]]):
            yield from _fields(named[0].get(key), named[1].get(key), f"{path}[{key}]")
        if list(named[0]) != list(named[1]) and set(named[0]) == set(named[1]):
            yield f"{path} in order", list(named[0]), list(named[1])
    elif old != new:
        yield path, old, new


def _are_rules(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and isinstance(each.get("id"), str) for each in value)
