"""Config specs: the document that server SDKs evaluate, in both formats that they read.

`dcs-v1` holds lists of specs with their conditions inside; `dcs-v2` holds maps by name, and the
conditions stand once in a map of their own. A document is kept as it was pushed; the other format is
made from it. What is checked here is what makes a real SDK reject the document, or skip an entity
without a word.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from schemas.limits import SPECS_BYTES, STORE_MAX_MS
from schemas.wire import text_of

Json = dict[str, Any]
Format = Literal["dcs-v1", "dcs-v2"]
Section = Literal["gate", "config", "layer"]
Kind = Literal["gate", "experiment", "dynamic_config", "layer"]

_SECTIONS: Final[dict[Section, str]] = {"gate": "feature_gates", "config": "dynamic_configs", "layer": "layer_configs"}
_SECTION_OF_KIND: Final[dict[str, Section]] = {
    "gate": "gate",
    "config": "config",
    "experiment": "config",
    "dynamic_config": "config",
    "layer": "layer",
}

_TEXT: Final = (str,)
_ANY: Final = (object,)
_SPEC_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "type": _TEXT,
    "salt": _TEXT,
    "enabled": (bool,),
    "defaultValue": _ANY,
    "idType": _TEXT,
    "entity": _TEXT,
    "rules": (list,),
}
_RULE_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "id": _TEXT,
    "name": _TEXT,
    "passPercentage": (int, float),
    "returnValue": _ANY,
    "idType": _TEXT,
    "conditions": (list,),
}


class SpecsError(ValueError):
    """A document is refused. `field` says where, `reason` what is wrong there."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True)
class Entity:
    """A gate, experiment, dynamic config or layer; `rules` gives the group name of each rule id."""

    kind: Kind
    name: str
    id_type: str
    version: str
    rules: Mapping[str, str]


class Specs:
    """A document that was checked. `time` is its version, ms since the epoch."""

    def __init__(self, document: Json, source: bytes) -> None:
        self.document = document
        self.source = source
        self.time = int(document["time"])
        self.format: Format = "dcs-v1" if isinstance(document["feature_gates"], list) else "dcs-v2"
        self._entities: dict[Section, dict[str, Entity]] = {
            section: {name: _entity(section, name, spec) for name, spec in _specs_of(document, key)}
            for section, key in _SECTIONS.items()
        }

    @property
    def checksum(self) -> str:
        """The document's own checksum, "" if it has none."""
        checksum = self.document.get("checksum")
        return checksum if isinstance(checksum, str) else ""

    def entity(self, kind: str, name: str) -> Entity | None:
        """Return an entity by name, None if there is none.

        `kind` is `gate`, `layer`, or `config` for what exposures call so: `experiment` and
        `dynamic_config` find the same.
        """
        section = _SECTION_OF_KIND.get(kind)
        return self._entities[section].get(name) if section else None

    def entities(self) -> Iterator[Entity]:
        """Yield every entity of the document."""
        for by_name in self._entities.values():
            yield from by_name.values()

    def entities_as_v1(self) -> Iterator[tuple[Section, str, Kind, str, Json]]:
        """Yield section, name, kind, version and spec of every entity; conditions stand in their rules."""
        conditions = self.document.get("condition_map") if self.format == "dcs-v2" else None
        for section, key in _SECTIONS.items():
            for name, spec in _specs_of(self.document, key):
                entity = self._entities[section][name]
                whole = {field: value for field, value in spec.items() if field != "name"}
                if conditions is not None:
                    whole["rules"] = _with_inline(spec["rules"], conditions)
                yield section, name, entity.kind, entity.version, whole

    def as_format(self, wanted: Format) -> bytes:
        """Return the document as SDKs read it in `wanted` format."""
        document = {key: value for key, value in self.document.items() if key not in _NOT_SERVED}
        if self.format != wanted:
            document = _to_v2(document) if wanted == "dcs-v2" else _to_v1(document)
        document["has_updates"] = True
        document["response_format"] = wanted
        if wanted == "dcs-v2":
            document.setdefault("experiment_to_layer", self._experiment_to_layer())
        return orjson.dumps(document)

    def _experiment_to_layer(self) -> dict[str, str]:
        return {
            rule["configDelegate"]: name
            for name, spec in _specs_of(self.document, "layer_configs")
            for rule in spec["rules"]
            if rule.get("configDelegate")
        }


# An SDK that finds the hash of another key here than its own rejects the document.
_NOT_SERVED: Final = frozenset({"hashed_sdk_key_used"})


def record_key(project: str, time: int) -> bytes:
    """Return the key of a document's record in `config.specs`."""
    return orjson.dumps({"project": project, "time": time}, option=orjson.OPT_SORT_KEYS)


def read_record_key(key: bytes) -> tuple[str, int]:
    """Return (project, time) of a record key. Raises ValueError."""
    try:
        fields = orjson.loads(key)
        return str(fields["project"]), int(fields["time"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"not the key of a specs document: {key[:80]!r}") from error


def parse(source: bytes) -> Specs:
    """Read and check a document in either format. Raises SpecsError."""
    if len(source) > SPECS_BYTES:
        raise SpecsError("document", f"{len(source)} bytes; the limit is {SPECS_BYTES}")
    try:
        document = orjson.loads(source)
    except orjson.JSONDecodeError as error:
        raise SpecsError("document", f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecsError("document", "not a JSON object")
    _check_top(document)
    for section in _SECTIONS.values():
        for name, spec in _specs_of(document, section):
            _check_spec(f"{section}.{name}", spec, document.get("condition_map"))
    return Specs(document, source)


def _check_top(document: Json) -> None:
    if document.get("has_updates") is False:
        raise SpecsError("has_updates", "false: this is the answer that nothing changed, and no document")
    time = document.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or time != int(time) or time <= 0:
        raise SpecsError("time", "missing, or not a whole number of ms; SDKs and exposures name a version by it")
    if time > STORE_MAX_MS:
        raise SpecsError("time", f"{time} is after the year 2299; it is told in ms since the epoch")
    kinds = set()
    for section in _SECTIONS.values():
        content = document.get(section)
        if not isinstance(content, list | dict):
            raise SpecsError(section, "missing; SDKs on the core engine reject the whole document without it")
        kinds.add(type(content))
        _check_names(section, content)
    if len(kinds) > 1:
        raise SpecsError("document", "some sections are lists (dcs-v1) and some are maps (dcs-v2)")
    if dict in kinds and not isinstance(document.get("condition_map"), dict):
        raise SpecsError("condition_map", "missing; the rules of a dcs-v2 document refer to it")


def _check_names(section: str, content: list[Any] | Json) -> None:
    seen = set()
    for position, spec in enumerate(content if isinstance(content, list) else content.values()):
        if not isinstance(spec, dict):
            raise SpecsError(f"{section}[{position}]", "not an object")
        if isinstance(content, list):
            name = spec.get("name")
            if not isinstance(name, str) or not name:
                raise SpecsError(f"{section}[{position}].name", "missing")
            if name in seen:
                raise SpecsError(f"{section}.{name}", "stands there twice")
            seen.add(name)


def _check_spec(path: str, spec: Json, condition_map: Json | None) -> None:
    _check_fields(path, spec, _SPEC_FIELDS)
    for position, rule in enumerate(spec["rules"]):
        rule_path = f"{path}.rules[{position}]"
        if not isinstance(rule, dict):
            raise SpecsError(rule_path, "not an object")
        _check_fields(rule_path, rule, _RULE_FIELDS)
        if not isinstance(rule.get("configDelegate"), str | None):
            raise SpecsError(f"{rule_path}.configDelegate", "is not the name of an experiment")
        for number, condition in enumerate(rule["conditions"]):
            _check_condition(f"{rule_path}.conditions[{number}]", condition, condition_map)


def _check_fields(path: str, found: Json, wanted: Mapping[str, tuple[type, ...]]) -> None:
    for field, types in wanted.items():
        if field not in found:
            raise SpecsError(f"{path}.{field}", "missing; some SDKs would skip the entity without a word")
        value = found[field]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
            raise SpecsError(f"{path}.{field}", f"is {type(value).__name__}, not {types[0].__name__}")


def _check_condition(path: str, condition: Any, condition_map: Json | None) -> None:
    if condition_map is not None:
        if not isinstance(condition, str) or condition not in condition_map:
            raise SpecsError(path, f"{condition!r} is not in condition_map")
        condition = condition_map[condition]
    if not isinstance(condition, dict):
        raise SpecsError(path, "not an object")
    if not isinstance(condition.get("type"), str):
        raise SpecsError(f"{path}.type", "missing")


def _specs_of(document: Json, section: str) -> Iterator[tuple[str, Json]]:
    content = document[section]
    if isinstance(content, dict):
        yield from content.items()
    else:
        for spec in content:
            yield spec["name"], spec


def _entity(section: Section, name: str, spec: Json) -> Entity:
    kind: Kind
    if section == "config":
        kind = "dynamic_config" if spec["entity"] == "dynamic_config" else "experiment"
    else:
        kind = "gate" if section == "gate" else "layer"
    rules = {rule["id"]: str(rule.get("groupName") or "") for rule in spec["rules"]}
    return Entity(kind, name, spec["idType"], text_of(spec.get("version")), rules)


def _to_v2(document: Json) -> Json:
    conditions: Json = {}
    changed = {section: dict(_without_inline(document[section], conditions)) for section in _SECTIONS.values()}
    return {**document, **changed, "condition_map": conditions}


def _without_inline(specs: list[Json], conditions: Json) -> Iterator[tuple[str, Json]]:
    for spec in specs:
        rules = [{**rule, "conditions": [_key_of(c, conditions) for c in rule["conditions"]]} for rule in spec["rules"]]
        rest = {key: value for key, value in spec.items() if key != "name"}
        yield spec["name"], {**rest, "rules": rules}


def _key_of(condition: Json, conditions: Json) -> str:
    """Return the key of a condition, from its content, so that equal conditions share one."""
    content = orjson.dumps(condition, option=orjson.OPT_SORT_KEYS)
    key = str(int.from_bytes(hashlib.sha256(content).digest()[:8], "big"))
    conditions[key] = condition
    return key


def _with_inline(rules: list[Json], conditions: Json) -> list[Json]:
    return [{**rule, "conditions": [conditions[key] for key in rule["conditions"]]} for rule in rules]


def _to_v1(document: Json) -> Json:
    conditions = document["condition_map"]
    changed = {
        section: [
            {**spec, "name": name, "rules": _with_inline(spec["rules"], conditions)}
            for name, spec in document[section].items()
        ]
        for section in _SECTIONS.values()
    }
    return {**{key: value for key, value in document.items() if key != "condition_map"}, **changed}
