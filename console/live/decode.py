"""From a record of the topic `exposures` to what a viewer reads."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from console.live import sse
from schemas.avro import EXPOSURE, NotFramedError, unframe

SHOWN: Final = (
    "kind", "name", "group_name", "rule_id", "value", "parameter", "allocated_experiment",
    "unit_type", "unit_id", "user_id", "stable_id", "custom_ids", "canonical_id",
    "project", "environment", "tier", "time_flag", "lateness_ms",
    "sdk_type", "sdk_version", "session_id", "request_id", "country", "app_version",
    "config_version", "config_match", "assignment", "expected_group", "stamped_version", "reason",
    "is_manual", "is_bot", "weight",
)  # fmt: skip
"""Columns that are shown as they are. `user` and `metadata` are not: they may hold anything about a person."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = ("event_time", "corrected_time", "received_at", "stamped_time", "config_time")


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure: its fields for the filters, and its frame, which every viewer shares."""

    fields: dict[str, Any]
    frame: bytes


class UnreadableRecordError(ValueError):
    """A record that is no exposure of a schema this console knows."""


def decode(value: bytes | None, partition: int, offset: int) -> Exposure:
    """Decode one record. Raises UnreadableRecordError."""
    try:
        schema, body = unframe(value or b"")
    except NotFramedError as error:
        raise UnreadableRecordError(str(error)) from error
    if schema != EXPOSURE.id:
        raise UnreadableRecordError(f"schema {schema} is not known to this console; it may be older than the worker")
    try:
        record = EXPOSURE.decode(body)
        shown = readable(record, partition, offset)
    except Exception as error:  # fastavro raises whatever the bytes lead it to
        raise UnreadableRecordError(f"the body is no Avro exposure: {error!r}") from error
    return Exposure(shown, sse.message("exposure", orjson.dumps(shown)))


def readable(record: dict[str, Any], partition: int, offset: int) -> dict[str, Any]:
    """Return a decoded record as a viewer sees it: names of columns, times as ISO 8601, ids as hex."""
    parent: bytes = record["parent_event_id_bytes"]
    shown = {
        "event_id": record["event_id_bytes"].hex(),
        "parent_event_id": parent.hex() if any(parent) else "",
        "origin": "{origin_log}/{origin_partition}/{origin_offset}/{origin_index}/{origin_part}".format_map(record),
        "record": {"topic": "exposures", "partition": partition, "offset": offset},
    }
    shown |= {name: record[name] for name in SHOWN}
    shown |= {name: iso_time(record[name]) for name in _TIMES}
    return shown


def iso_time(time_ms: int | None) -> str | None:
    """Write milliseconds since the epoch as ISO 8601 in UTC; None stays None, and what no calendar holds a number."""
    if time_ms is None:
        return None
    try:
        time = _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return f"{time_ms} ms since 1970"
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
