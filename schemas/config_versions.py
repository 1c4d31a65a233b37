"""The records of the topic `config.versions`: each version of each entity, and each document, with its time.

A document of 5 MB changes in one place at a time, and SDKs are given a new one several times an hour.
So what exposures are matched with is not the documents (`config.specs`) but what changed from one to
the next: an entity has a record for each document in which it is another than in the one before. A
document's own record comes last, so that whoever reads it has all of the document.
"""

import hashlib
from typing import Any, Final, Literal

import msgspec
import orjson

from schemas.specs import Kind, Section, Specs

DOCUMENT: Final = "document"
"""The kind of the record that stands for a whole document."""

SECTION_OF: Final[dict[str, Section]] = {
    "gate": "gate",
    "experiment": "config",
    "dynamic_config": "config",
    "layer": "layer",
}


class VersionRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One version of one entity; or, with the kind `document`, a document.

    `time` is the document's, ms since the epoch: from then on the version was in force. `pushed_at` is
    when this registry was first told, by the clock of who pushed. `spec` is the entity as JSON in the
    form of dcs v1, without its name; "" where the document of that time has the entity no more.
    """

    project: str
    kind: Literal["gate", "experiment", "dynamic_config", "layer", "document"]
    name: str
    version: str
    time: int
    pushed_at: int
    spec: str = ""
    sha256: str = ""
    """Of the entity's canonical JSON, or of the document as it was pushed."""
    size_bytes: int = 0
    checksum: str = ""


class RecordError(ValueError):
    """A record of `config.versions` that this code cannot read."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(VersionRecord).decode


def key_of(record: VersionRecord) -> bytes:
    """Return the key of a record: project, kind, name, version and time."""
    fields = {name: getattr(record, name) for name in ("project", "kind", "name", "version", "time")}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def encode(record: VersionRecord) -> bytes:
    """Return the value of a record."""
    return _encode(record)


def decode(value: bytes) -> VersionRecord:
    """Read a record. Raises RecordError."""
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not a version of a config: {error}") from error


def entity_records(project: str, document: Specs, pushed_at: int) -> dict[tuple[Section, str], VersionRecord]:
    """Return a record for each entity of a document, by section and name."""
    found = {}
    for section, name, kind, version, spec in document.entities_as_v1():
        content = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        found[section, name] = VersionRecord(
            project,
            kind,
            name,
            version,
            document.time,
            pushed_at,
            spec=content.decode(),
            sha256=hashlib.sha256(content).hexdigest(),
        )
    return found


def document_record(project: str, document: Specs, pushed_at: int) -> VersionRecord:
    """Return the record that stands for the whole document."""
    return VersionRecord(
        project,
        DOCUMENT,
        "",
        "",
        document.time,
        pushed_at,
        sha256=hashlib.sha256(document.source).hexdigest(),
        size_bytes=len(document.source),
        checksum=document.checksum,
    )


def gone(project: str, kind: Kind, name: str, time: int, pushed_at: int) -> VersionRecord:
    """Return the record of an entity that the document of `time` does not have any more."""
    return VersionRecord(project, kind, name, "", time, pushed_at)


def djb2(name: str) -> str:
    """Return the hash by which js-client calls a config: `h = (h << 5) - h + code`, 32 bits, in decimal.

    Over UTF-16 code units, as JavaScript's `charCodeAt` gives them.
    """
    units = name.encode("utf-16-le", "surrogatepass")
    value = 0
    for place in range(0, len(units), 2):
        value = (value * 31 + units[place] + (units[place + 1] << 8)) & 0xFFFFFFFF
    return str(value)


def rules_of(spec: dict[str, Any]) -> dict[str, str]:
    """Return the group name of each rule id of an entity."""
    return {rule["id"]: str(rule.get("groupName") or "") for rule in spec["rules"]}
