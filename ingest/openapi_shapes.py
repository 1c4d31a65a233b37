"""What requests and answers of the gateway look like, as JSON Schema with examples, for its OpenAPI document."""

from typing import Any, Final

from schemas.limits import EVENT_BYTES, EVENT_DEPTH, EVENTS_PER_REQUEST, METADATA_KEYS, REQUEST_METADATA_BYTES
from schemas.reasons import Reason

Json = dict[str, Any]

EVENT_REASONS: Final = (
    Reason.MALFORMED_EVENT,
    Reason.EVENT_TOO_LARGE,
    Reason.EVENT_TOO_DEEP,
    Reason.TOO_MANY_METADATA_KEYS,
)
"""Why one event of a request is refused."""

_USER: Final = {"userID": "u-1"}
_EVENT: Final = {"eventName": "purchase", "value": 9.5, "time": "2026-01-01T12:00:00Z", "metadata": {"sku": "SKU-1"}}
LOG_EXAMPLES: Final = {
    "iso_time": {"summary": "An ISO time", "value": {"events": [{**_EVENT, "user": _USER}]}},
    "ms_time": {"summary": "Milliseconds", "value": {"events": [{**_EVENT, "user": _USER, "time": 1767268800000}]}},
    "one_user": {"summary": "One user for all events", "value": {"user": _USER, "events": [_EVENT, _EVENT]}},
    "exposure": {
        "summary": "An exposure as SDKs log it",
        "value": {
            "events": [
                {
                    "eventName": "statsig::gate_exposure",
                    "user": _USER,
                    "time": 1767268800000,
                    "metadata": {"gate": "fast_search", "gateValue": "true", "ruleID": "search_half"},
                }
            ],
            "statsigMetadata": {"sdkType": "py-server", "sdkVersion": "0.72.1", "sessionID": "s-1"},
        },
    },
}
EXPOSURE_EXAMPLES: Final = {
    "group": {
        "summary": "An experiment, by the name of the group",
        "value": {"exposures": [{"user": _USER, "experimentName": "button_color", "group": "Green"}]},
    },
    "gate": {
        "summary": "A gate",
        "value": {
            "exposures": [{"user": _USER, "gateName": "fast_search", "passes": True, "ruleID": "search_half"}],
        },
    },
}


def object_of(properties: Json, *required: str, **more: Any) -> Json:
    """Return the schema of an object."""
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


def shape(name: str) -> Json:
    """Return a reference to one of `SHAPES`."""
    return {"$ref": f"#/components/schemas/{name}"}


_TIME: Final = {
    "description": "Ms since the epoch, or ISO-8601 (UTC where no zone is named). Absent: the time of receipt.",
    "oneOf": [{"type": "integer"}, {"type": "string"}],
}

OTLP_EXAMPLES: Final = {
    "tracking": {
        "summary": "A conversion told by OpenFeature's tracking",
        "value": {
            "resourceLogs": [
                {
                    "scopeLogs": [
                        {
                            "logRecords": [
                                {
                                    "timeUnixNano": "1767268800000000000",
                                    "eventName": "feature_flag.track",
                                    "attributes": [
                                        {"key": "feature_flag.event_name", "value": {"stringValue": "checkout"}},
                                        {"key": "feature_flag.context.id", "value": {"stringValue": "u-1"}},
                                        {"key": "value", "value": {"doubleValue": 99.77}},
                                    ],
                                }
                            ]
                        }
                    ]
                }
            ]
        },
    },
}

SHAPES: Final[Json] = {
    "User": object_of(
        {
            "userID": {"type": ["string", "number"]},
            "customIDs": object_of({"stableID": {"type": "string", "description": "The device."}}),
            "country": {"type": "string"},
            "appVersion": {"type": "string"},
            "userAgent": {"type": "string"},
            "custom": {"type": "object"},
            "privateAttributes": {"type": "object", "description": "Removed before anything is written."},
            "statsigEnvironment": object_of({"tier": {"type": "string", "examples": ["production", "staging"]}}),
        },
        description="Who it is about. Further attributes are kept.",
    ),
    "Event": object_of(
        {
            "eventName": {"type": "string", "minLength": 1},
            "time": _TIME,
            "value": {"type": ["number", "string", "null"]},
            "user": shape("User"),
            "metadata": {"type": ["object", "null"], "maxProperties": METADATA_KEYS},
            "secondaryExposures": {"type": ["array", "null"], "items": {"type": "object"}},
        },
        "eventName",
        description=f"At most {EVENT_BYTES} bytes and {EVENT_DEPTH} levels deep.",
    ),
    "LogRequest": object_of(
        {
            "events": {"type": "array", "items": shape("Event"), "maxItems": EVENTS_PER_REQUEST},
            "user": {**shape("User"), "description": "The user of the events that have none of their own."},
            "statsigMetadata": {
                "type": ["object", "null"],
                "description": f"Who is sending. At most {REQUEST_METADATA_BYTES} bytes.",
                "properties": {name: {"type": "string"} for name in ("sdkType", "sdkVersion", "sessionID", "stableID")},
            },
        },
        "events",
    ),
    "GateExposure": object_of(
        {
            "user": shape("User"),
            "gateName": {"type": "string"},
            "passes": {"type": "boolean"},
            "ruleID": {"type": "string"},
            "time": _TIME,
        },
        "gateName",
    ),
    "ExperimentExposure": object_of(
        {
            "user": shape("User"),
            "experimentName": {"type": "string"},
            "group": {"type": "string", "description": "Name of the group as the config specs have it."},
            "ruleID": {"type": "string", "description": "Rule of the group; may stand instead of its name."},
            "time": _TIME,
        },
        "experimentName",
    ),
    "CustomExposures": object_of(
        {
            "exposures": {
                "type": "array",
                "maxItems": EVENTS_PER_REQUEST,
                "items": {"anyOf": [shape("GateExposure"), shape("ExperimentExposure")]},
            },
            "user": {
                **shape("User"),
                "description": "The user of the exposures that have none of their own.",
            },
        },
        "exposures",
    ),
    "Accepted": object_of(
        {
            "success": {"const": True},
            "refused": {
                "type": "array",
                "description": "Events that could not be read; they wait in the dead letters. Do not send them again.",
                "items": object_of(
                    {"index": {"type": "integer", "minimum": 0}, "reason": {"enum": [*EVENT_REASONS]}},
                    "index",
                    "reason",
                ),
            },
        },
        "success",
    ),
    "ExportLogsRequest": object_of(
        {"resourceLogs": {"type": "array", "items": {"type": "object"}}},
        description="An ExportLogsServiceRequest of the OpenTelemetry protocol.",
    ),
    "ExportLogsResponse": object_of(
        {
            "partialSuccess": object_of(
                {"rejectedLogRecords": {"type": "string", "pattern": "^[0-9]+$"}, "errorMessage": {"type": "string"}}
            )
        },
        description="An ExportLogsServiceResponse. Records that are rejected are not to be sent again.",
    ),
    "Status": object_of(
        {"code": {"type": "integer"}, "message": {"type": "string"}},
        "code",
        "message",
        description="A google.rpc.Status; its message begins with the reason.",
        additionalProperties=False,
    ),
    "Specs": {"type": "object", "description": 'The document, or `{"has_updates": false}` to an SDK that has it.'},
}
