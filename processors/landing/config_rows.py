"""A record of `config.versions` as a row of the table `config_versions`."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from schemas.config_history import spec_of
from schemas.config_versions import DOCUMENT, SECTION_OF, VersionRecord, djb2, rules_of
from schemas.limits import STORE_MAX_MS

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
        "time": _moment(record.time),
        "pushed_at": _moment(record.pushed_at),
        "is_gone": not is_document and not record.spec,
        "id_type": str(spec.get("idType") or ""),
        "groups": rules_of(spec) if rules else {},
        "delegates": list(dict.fromkeys(rule["configDelegate"] for rule in rules if rule.get("configDelegate"))),
        "spec": record.spec,
        "sha256": record.sha256,
        "name_hash": "" if is_document else djb2(record.name),
        "is_deleted": int(is_deleted),
        "landed_at": _moment(landed_ms),
    }


def record_of_key(key: bytes) -> VersionRecord:
    """Return a record that has nothing but its key. Raises msgspec.MsgspecError."""
    fields = msgspec.json.decode(key, type=dict[str, str | int])
    return msgspec.convert({**fields, "pushed_at": 0}, VersionRecord)


def _moment(ms: int) -> str:
    """Return a time as the store reads it into a DateTime64."""
    seconds, rest_ms = divmod(min(max(ms, 0), STORE_MAX_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest_ms:03d}"
