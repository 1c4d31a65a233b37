"""From OpenTelemetry log records to events: evaluations of flags that are exposures, and OpenFeature's tracking.

Attributes: OpenTelemetry semantic conventions, "Semantic conventions for feature flags in events". For
tracking there is no convention; `feature_flag.track` is what OpenFeature's own examples write.
"""

import base64
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.refusal import Refusal
from schemas.exposure_rule import ExposureRule
from schemas.limits import DECODED_BODY_BYTES, OTLP_BODY_BYTES, OTLP_PARTS
from schemas.reasons import Reason
from schemas.wire import text_of

EVALUATION: Final = "feature_flag.evaluation"
TRACKING: Final = "feature_flag.track"

_KEY: Final = "feature_flag.key"
_VARIANT: Final = "feature_flag.result.variant"
_VALUE: Final = "feature_flag.result.value"
_REASON: Final = "feature_flag.result.reason"
_CONTEXT_ID: Final = "feature_flag.context.id"
_VERSION: Final = "feature_flag.version"
_TRACKED_NAME: Final = "feature_flag.event_name"
_TRACKED_VALUE: Final = "value"
_OLD_EVENT_NAME: Final = "event.name"
"""Where an event's name stood before log records had a field for it."""

_OF_SERVICE: Final = ("service.name", "service.instance.id")
_SENDER: Final = b'{"sdkType":"otlp"}'

RuleOf = Callable[[str, str], str]
"""(experiment, group name) → the group's rule id, "" where it is not known."""


class NotTaken(StrEnum):
    """Why a log record becomes no event. The value is a metric's label."""

    OTHER_RECORD = "other_record"
    OUTSIDE_RULE = "outside_rule"
    NO_FLAG_KEY = "no_flag_key"
    NO_CONTEXT_ID = "no_context_id"
    NO_EVENT_NAME = "no_event_name"


@dataclass
class Mapped:
    """The log request that the taken records make, and how many were not taken."""

    body: bytes
    not_taken: Counter[NotTaken] = field(default_factory=Counter)


def decode_export(body: bytes, *, is_json: bool) -> ExportLogsServiceRequest:
    """Read an export request. Raises Refusal (400, 413)."""
    if len(body) > OTLP_BODY_BYTES:
        raise Refusal(Reason.BODY_TOO_LARGE, f"{len(body)} bytes of OTLP; the limit is {OTLP_BODY_BYTES}")
    if is_json:
        # Read whole, a body of nothing but objects would take a hundred times its size.
        _check_parts(body.count(b"{"))
    export = ExportLogsServiceRequest()
    try:
        if not is_json:
            export.ParseFromString(body)
            return export
        told = orjson.loads(body)
        if not isinstance(told, dict):
            raise Refusal(Reason.UNDECODABLE_BODY, "the body is not a JSON object")
        _write_ids_as_protobuf_does(told)
        json_format.ParseDict(told, export, ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        message = f"this is no ExportLogsServiceRequest: {error}"
        raise Refusal(Reason.UNDECODABLE_BODY, message[:500]) from error
    return export


def as_log_request(export: ExportLogsServiceRequest, rule: ExposureRule, rule_of: RuleOf) -> Mapped:
    """Return the log request that means the same. Raises Refusal (413).

    Each event is canonical JSON, so that a record has one event id in both encodings, however an
    agent on the way has put its batches together.
    """
    mapped = Mapped(b"")
    events = []
    size = 0
    parts = 0
    for resource_logs in export.resource_logs:
        parts += 1 + len(resource_logs.scope_logs)
        _check_parts(parts)
        told = {pair.key: pair.value for pair in resource_logs.resource.attributes if pair.key in _OF_SERVICE}
        service = {name: _value_of(value) for name, value in told.items()}
        for scope_logs in resource_logs.scope_logs:
            parts += len(scope_logs.log_records)
            _check_parts(parts)
            for record in scope_logs.log_records:
                event = _event_of(record, service, rule, rule_of)
                if isinstance(event, NotTaken):
                    mapped.not_taken[event] += 1
                    continue
                events.append(orjson.dumps(event, option=orjson.OPT_SORT_KEYS))
                size += len(events[-1]) + 1
                if size > DECODED_BODY_BYTES:
                    message = f"its events are larger than {DECODED_BODY_BYTES} bytes; send smaller batches"
                    raise Refusal(Reason.BODY_TOO_LARGE, message)
    mapped.body = b'{"events":[%b],"statsigMetadata":%b}' % (b",".join(events), _SENDER)
    return mapped


def _check_parts(parts: int) -> None:
    if parts > OTLP_PARTS:
        raise Refusal(Reason.TOO_MANY_EVENTS, f"more than {OTLP_PARTS} parts of OTLP; send smaller batches")


def _event_of(
    record: LogRecord, service: Mapping[str, Any], rule: ExposureRule, rule_of: RuleOf
) -> dict[str, Any] | NotTaken:
    name = record.event_name or _old_name_of(record)
    if name not in (EVALUATION, TRACKING):
        return NotTaken.OTHER_RECORD
    told = {pair.key: _value_of(pair.value) for pair in record.attributes}
    event = _exposure(told, rule, rule_of) if name == EVALUATION else _tracked(told)
    if isinstance(event, NotTaken):
        return event
    metadata = {**service, **told, **event["metadata"]}
    if record.trace_id:
        metadata["trace_id"], metadata["span_id"] = record.trace_id.hex(), record.span_id.hex()
    if nanoseconds := record.time_unix_nano or record.observed_time_unix_nano:
        event["time"] = nanoseconds // 1_000_000
        # Two records of one millisecond are two events.
        metadata["time_unix_nano"] = str(nanoseconds)
    if context_id := text_of(told.get(_CONTEXT_ID)):
        event["user"] = {"userID": context_id}
    return {**event, "metadata": metadata}


def _exposure(told: Mapping[str, Any], rule: ExposureRule, rule_of: RuleOf) -> dict[str, Any] | NotTaken:
    key, reason = told.get(_KEY), _text(told.get(_REASON))
    if not rule.takes(reason):
        return NotTaken.OUTSIDE_RULE
    if not isinstance(key, str) or not key:
        return NotTaken.NO_FLAG_KEY
    if not text_of(told.get(_CONTEXT_ID)):
        return NotTaken.NO_CONTEXT_ID
    value = told.get(_VALUE)
    group = _text(told.get(_VARIANT)) or _text(value)
    rule_id = rule_of(key, group)
    metadata = {"ruleID": rule_id or group, "group": group, "reason": reason}
    if version := _text(told.get(_VERSION)):
        metadata["configVersion"] = version
    if isinstance(value, bool) and not rule_id:
        named = {"gate": key, "gateValue": _text(value)}
        return {"eventName": "statsig::gate_exposure", "metadata": {**metadata, **named}}
    return {"eventName": "statsig::config_exposure", "metadata": {**metadata, "config": key}}


def _tracked(told: Mapping[str, Any]) -> dict[str, Any] | NotTaken:
    name = told.get(_TRACKED_NAME)
    if not isinstance(name, str) or not name:
        return NotTaken.NO_EVENT_NAME
    value = told.get(_TRACKED_VALUE)
    is_kept = isinstance(value, int | float | str) and not isinstance(value, bool)
    return {"eventName": name, "metadata": {}, **({"value": value} if is_kept else {})}


def _old_name_of(record: LogRecord) -> str:
    return next((pair.value.string_value for pair in record.attributes if pair.key == _OLD_EVENT_NAME), "")


def _text(value: object) -> str:
    """Return a value as one would write it: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _value_of(value: AnyValue) -> Any:
    """Return what JSON can hold of a value: bytes as base64, and no number as the word for it (proto3 JSON)."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return _number(value.double_value)
        case "array_value":
            return [_value_of(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: _value_of(pair.value) for pair in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case _:
            return None


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_ids_as_protobuf_does(told: dict[str, Any]) -> None:
    """Write trace and span ids, which OTLP/JSON has in hex, as the library reads bytes: in base64."""
    for resource_logs in told.get("resourceLogs") or ():
        for scope_logs in resource_logs.get("scopeLogs") or ():
            for record in scope_logs.get("logRecords") or ():
                for name in ("traceId", "spanId"):
                    if record.get(name):
                        record[name] = base64.b64encode(bytes.fromhex(record[name])).decode()
