"""From a record of the topic `exposures` to what a viewer reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import orjson

from console.live import sse
from schemas.avro import EXPOSURE, NotFramedError, unframe
from schemas.topics import EXPOSURES


class Outcome(StrEnum):
    """What became of an exposure."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


SHOWN: Final = (
    "kind", "name", "group_name", "rule_id", "value", "parameter", "allocated_experiment",
    "unit_type", "unit_id", "user_id", "stable_id", "custom_ids", "canonical_id",
    "project", "environment", "tier", "time_flag", "lateness_ms",
    "sdk_type", "sdk_version", "session_id", "request_id", "country", "app_version",
    "config_version", "config_match", "assignment", "expected_group", "stamped_version", "reason",
    "is_manual", "is_bot", "weight",
)  # fmt: skip
"""Columns that are shown as they are. `user` and `metadata` are not: they may hold anything about a person."""

REFUSAL: Final = ("rejected_at", "rejected_for", "rejected_why")
"""Of a rejected exposure: the stage, the reason and the message."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # in UTC, and written as such
_NO_PARENT: Final = bytes(16)
_ORIGIN: Final = ("origin_log", "origin_partition", "origin_offset", "origin_index", "origin_part")
_TIMES: Final = ("event_time", "corrected_time", "received_at", "stamped_time", "config_time")
_UNKNOWN: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("event_id", "parent_event_id", "origin", *SHOWN, *REFUSAL), ""),
    **dict.fromkeys(_TIMES),
    "custom_ids": {},
    "lateness_ms": 0,
    "is_manual": False,
    "is_bot": False,
    "weight": 1.0,
}


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure: its fields for the filters, its frame, which every viewer shares, and its append time."""

    fields: dict[str, Any]
    frame: bytes
    at_ms: int = 0


class UnreadableRecordError(ValueError):
    """A record that is no exposure of a schema this console knows."""


def framed(outcome: Outcome, fields: Mapping[str, Any], at_ms: int) -> Exposure:
    """Return what a viewer is shown; what is not known of it is empty."""
    shown = {**_UNKNOWN, **fields, "outcome": outcome.value}
    frame = sse.message("exposure", orjson.dumps(shown))
    # For the filters of that name; a layer's exposure is one of the experiment that it was allocated to.
    kind, name = shown["kind"], shown["name"]
    shown["gate"] = name if kind == "gate" else ""
    shown["layer"] = name if kind == "layer" else ""
    shown["experiment"] = name if kind == "experiment" else shown["allocated_experiment"]
    return Exposure(shown, frame, at_ms)


def decode(value: bytes | None, partition: int, offset: int, at_ms: int = 0) -> Exposure:
    """Decode one record. Raises UnreadableRecordError."""
    try:
        schema, body = unframe(value or b"")
        if schema != EXPOSURE.id:
            modern = EXPOSURE.modern(schema, body)
            if modern is None:
                raise UnreadableRecordError(
                    f"schema {schema} is not known to this console; it may be older than the worker"
                )
            _, body = unframe(modern)
    except NotFramedError as error:
        raise UnreadableRecordError(str(error)) from error
    try:
        return framed(Outcome.ACCEPTED, readable(EXPOSURE.decode(body), partition, offset), at_ms)
    except Exception as error:  # fastavro raises whatever the bytes lead it to
        raise UnreadableRecordError(f"the body is no Avro exposure: {error!r}") from error


def readable(record: dict[str, Any], partition: int, offset: int) -> dict[str, Any]:
    """Return a decoded record as a viewer sees it: names of columns, times as ISO 8601, ids as hex."""
    parent: bytes = record["parent_event_id_bytes"]
    shown = {
        "event_id": record["event_id_bytes"].hex(),
        "parent_event_id": "" if parent == _NO_PARENT else parent.hex(),
        "origin": "/".join([str(record[part]) for part in _ORIGIN]),
        "record": {"topic": EXPOSURES, "partition": partition, "offset": offset},
    }
    for name in SHOWN:
        shown[name] = record[name]
    for name in _TIMES:
        shown[name] = iso_time(record[name])
    return shown


def iso_time(time_ms: int | None) -> str | None:
    """Write milliseconds since the epoch as ISO 8601 in UTC; None stays None, and what no calendar holds a number."""
    if time_ms is None:
        return None
    second, ms = divmod(time_ms, 1000)
    try:
        return f"{_iso_second(second)}.{ms:03d}Z"
    except OverflowError:
        return f"{time_ms} ms since 1970"


@lru_cache(maxsize=1024)
def _iso_second(second: int) -> str:
    # Kept: the times of the exposures of one moment share their second, and writing it is most of the work.
    return (_EPOCH + timedelta(seconds=second)).isoformat()
