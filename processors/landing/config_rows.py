"""A record of `config.versions` as a row of the table `config_versions`."""

from typing import Any, Final

import msgspec

from processors.landing.moments import moment
from schemas.config_history import spec_of
from schemas.config_versions import DOCUMENT, SECTION_OF, VersionRecord, djb2, rules_of

Row = dict[str, Any]

COLUMNS: Final = (
    "project",
    "section",
    "kind",
    "name",
    "version",
    "time",
    "pushed_at",
    "is_gone",
    "id_type",
    "groups",
    "delegates",
    "spec",
    "sha256",
    "name_hash",
    "is_deleted",
    "landed_at",
)


def row_of(record: VersionRecord, landed_ms: int, *, is_deleted: bool = False) -> Row:
    """Return the row; `is_deleted` is that of a tombstone, whose other columns are those of its key."""
    is_document = record.kind == DOCUMENT
    spec: Any = {} if is_document else spec_of(record)
    rules = spec.get("rules", [])
    return {
        "project": record.project,
        "section": "" if is_document else SECTION_OF[record.kind],
        "kind": record.kind,
        "name": record.name,
        "version": record.version,
        "time": moment(record.time),
        "pushed_at": moment(record.pushed_at),
        "is_gone": not is_document and not record.spec,
        "id_type": str(spec.get("idType") or ""),
        "groups": rules_of(spec) if rules else {},
        "delegates": list(dict.fromkeys(rule["configDelegate"] for rule in rules if rule.get("configDelegate"))),
        "spec": record.spec,
        "sha256": record.sha256,
        "name_hash": "" if is_document else djb2(record.name),
        "is_deleted": int(is_deleted),
        "landed_at": moment(landed_ms),
    }


def record_of_key(key: bytes) -> VersionRecord:
    """Return a record that has nothing but its key. Raises msgspec.MsgspecError."""
    fields = msgspec.json.decode(key, type=dict[str, str | int])
    return msgspec.convert({**fields, "pushed_at": 0}, VersionRecord)
