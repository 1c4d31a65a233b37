"""The description of the API, `/openapi.json`: kept by hand, held against the routes by a test."""

from typing import Any, Final

from console.events import EVENTS_MAX, HOPS
from console.experiments import KINDS
from console.ledger.balance import GAPS_LISTED, Flaw
from console.live.filters import FIELDS
from console.live.route import RECENT_MAX
from console.sql.formats import FORMATS
from schemas.dead_letter_counts import GROUPINGS

Json = dict[str, Any]

_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_TEXT: Final[Json] = {"type": "string"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, description: str, schema: Json | None = None, *, required: bool = False) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema or _TEXT,
    }


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> Json:
    return {str(status): _answer(_STATUS[status], _ref("Refusal")) for status in statuses}


_STATUS: Final = {
    400: "The request cannot be understood or answered as it is.",
    403: "The statement would change something or reach outside the store.",
    404: "There is nothing of that name.",
    408: "The query took too long and was ended.",
    503: "The store or the log cannot be asked now; try again.",
}

_SEEN: Final = {"first_seen": _TIME, "last_seen": _TIME}
_COUNTED: Final = {"units": _COUNT, "exposures": _COUNT}
_ARM: Final = _object(
    group=_TEXT, rule_id=_TEXT, value=_TEXT, allocated_experiment=_TEXT, **_COUNTED, **_SEEN
)  # fmt: skip
_ENTITY: Final = {"name": _TEXT, "kind": {"type": "string", "enum": list(KINDS)}, **_COUNTED, **_SEEN}
_BALANCE: Final = dict.fromkeys(("accepted", "landed", "duplicate", "dead", "in_flight", "missing"), _COUNT)
_LAG: Final = _object(records=_or_null(_COUNT), of=_TEXT, group=_TEXT)

_SCHEMAS: Final[Json] = {
    "DeadLetters": _object(
        stage=_TEXT,
        reason=_TEXT,
        dead=_COUNT,
        landed=_COUNT,
        **{"class": {"type": "string", "enum": ["ours", "theirs"]}},
        first=_TIME,
        last=_TIME,
        sample=_TEXT,
        message=_TEXT,
    ),
    "Event": _object(
        **dict.fromkeys(("event_id", "name", "unit_id", "project", "environment", "origin"), _TEXT),
        received_at=_TIME,
        hops=_array(_object(hop={"type": "string", "enum": list(HOPS)}, at=_TIME)),
    ),
    "Refusal": _object(
        error={
            **_object(
                reason={"type": "string", "description": "A word for programs."},
                message={"type": "string", "description": "What is wrong."},
                remedy={"type": "string", "description": "What to do about it."},
            ),
            "required": ["reason", "message", "remedy"],
        }
    ),
    "Table": _object(
        columns=_array(_object(name=_TEXT, type=_TEXT)),
        rows=_array(_array({})),
        statistics=_object(rows=_COUNT, elapsed_ms={"type": "number"}, truncated={"type": "boolean"}),
    ),
    "Experiment": _object(**_ENTITY, arms=_array(_ref("Arm"))),
    "Arm": _ARM,
    "ExperimentDetails": _object(
        **_ENTITY,
        arms=_array(_ref("Arm")),
        window=_TEXT,
        other_kinds=_array(_TEXT),
        course=_object(
            bucket_s=_COUNT,
            points=_array(_object(at=_TIME, group=_TEXT, rule_id=_TEXT, value=_TEXT, **_COUNTED)),
        ),
        config_versions=_array(_object(version=_TEXT, match=_TEXT, **_COUNTED, **_SEEN)),
        sdks=_array(_object(type=_TEXT, version=_TEXT, **_COUNTED, **_SEEN)),
        units_in_several_arms=_COUNT,
    ),
    "Ledger": _object(
        at=_TIME,
        window=_TEXT,
        since=_TIME,
        balanced={"type": "boolean"},
        totals=_object(**_BALANCE),
        dead_reasons={"type": "object", "additionalProperties": _COUNT},
        flaws={"type": "object", "additionalProperties": _COUNT},
        gaps=_array(
            _object(
                flaw={"type": "string", "enum": [flaw.value for flaw in Flaw]},
                range={"type": "string", "description": "log/partition/offset/index, or index-index."},
                log=_COUNT,
                partition=_COUNT,
                offset=_COUNT,
                first_index=_COUNT,
                last_index=_COUNT,
                project=_or_null(_TEXT),
                environment=_or_null(_TEXT),
                key_id=_or_null(_TEXT),
                minute=_or_null(_TIME),
            )
        ),
        lines=_array(_object(project=_TEXT, environment=_TEXT, key_id=_TEXT, minute=_TIME, **_BALANCE)),
    ),
    "Pipeline": _object(
        at=_TIME,
        log=_object(
            state={"type": "string", "enum": ["ok", "starting", "unreachable"]},
            message=_TEXT,
            events_per_s=_or_null({"type": "number"}),
            exposures_per_s=_or_null({"type": "number"}),
            over_s=_or_null({"type": "number"}),
            lag=_object(worker=_LAG, lander=_LAG),
            dead_letters={"type": "object", "additionalProperties": _or_null(_COUNT)},
        ),
        store=_object(state=_TEXT, message=_TEXT),
        tables={
            "type": ["object", "null"],
            "additionalProperties": _object(
                rows=_COUNT,
                last_landed_at=_or_null(_TIME),
                rows_last_minute=_COUNT,
                delay_p50_ms=_or_null({"type": "number"}),
                delay_p99_ms=_or_null({"type": "number"}),
            ),
        },
    ),
}

_SQL_PARAMETERS: Final = [
    _query("query", "One statement that only reads."),
    _query("format", "The form of the answer.", {"type": "string", "enum": list(FORMATS), "default": "json"}),
    _query("download", "Any value: the browser saves the answer as a file."),
]
_SQL_ANSWERS: Final = {
    "200": {
        "description": "The answer. `json` and `pretty` are cut off after 10,000 rows (and `json` says so); the other "
        "formats come whole or are refused.",
        "content": {
            each.media_type.partition(";")[0]: {"schema": _ref("Table") if each.name == "json" else _TEXT}
            for each in FORMATS.values()
        },
    },
    **_refusals(400, 403, 408, 503),
}
_SCOPE: Final = [
    _query("window", "How far back: 90m, 24h, 7d.", {"type": "string", "default": "24h"}),
    _query("kind", "Only entities of this kind.", {"type": "string", "enum": list(KINDS)}),
    _query("tier", "Only this tier (what the SDK calls its environment)."),
    _query("environment", "Only this environment (that of the key)."),
    _query("project", "Only this project."),
]
_STREAM: Final = [
    *[
        _query(name, f"Only exposures whose {' or '.join(fields)} is one of these (commas; `*` and `?` match any).")
        for name, fields in FIELDS.items()
    ],
    _query("rate", "Show at most so many a second, fairly chosen; 0 is all.", {"type": "number", "default": 0}),
    _query(
        "recent",
        "Begin with the last few.",
        {"type": "integer", "minimum": 0, "maximum": RECENT_MAX, "default": 0},
    ),
    _query("last_event_id", "Go on after this `id`; the same as the header Last-Event-ID."),
    {"name": "Last-Event-ID", "in": "header", "required": False, "schema": _TEXT},
]

DOCUMENT: Final[Json] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Headrace console",
        "version": "1",
        "description": "What is my experiment doing right now? Every answer that is not 2xx has the same shape.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "paths": {
        "/api/sql": {
            "get": {"summary": "Ask in SQL", "parameters": _SQL_PARAMETERS, "responses": _SQL_ANSWERS},
            "post": {
                "summary": "Ask in SQL, the statement in the body",
                "parameters": _SQL_PARAMETERS[1:],
                "requestBody": {
                    "required": True,
                    "content": {
                        "text/plain": {"schema": _TEXT},
                        "application/json": {"schema": {**_object(query=_TEXT, format=_TEXT), "required": ["query"]}},
                    },
                },
                "responses": _SQL_ANSWERS,
            },
        },
        "/api/exposures/stream": {
            "get": {
                "summary": "Exposures as they happen (server-sent events)",
                "description": "Events: `exposure` (one each), `tally` (every second: records read, looked at, "
                "matched, shown, sampled_out, missed, unreadable), `status` (live or waiting, with a message).",
                "parameters": _STREAM,
                "responses": {
                    "200": {"description": "A stream that does not end.", "content": {"text/event-stream": {}}},
                    **_refusals(400, 503),
                },
            }
        },
        "/api/experiments": {
            "get": {
                "summary": "Entities that were exposed, by arm",
                "parameters": _SCOPE,
                "responses": {
                    "200": _answer(
                        "Most exposed first.", _object(window=_TEXT, experiments=_array(_ref("Experiment")))
                    ),
                    **_refusals(400, 503),
                },
            }
        },
        "/api/experiments/{name}": {
            "get": {
                "summary": "One entity in detail",
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": _TEXT}, *_SCOPE],
                "responses": {
                    "200": _answer("Its arms, course in time, versions and SDKs.", _ref("ExperimentDetails")),
                    **_refusals(400, 404, 503),
                },
            }
        },
        "/api/ledger": {
            "get": {
                "summary": "Whether everything that was accepted is somewhere, once",
                "description": "accepted = landed + duplicate + dead + in_flight + missing, per key and minute of "
                f"receipt. At most {GAPS_LISTED:,} ranges that do not balance are named; `flaws` counts all their "
                "events.",
                "parameters": [_query("window", "How far back: 90m, 24h, 7d.", {"type": "string", "default": "1h"})],
                "responses": {"200": _answer("The balance as it is now.", _ref("Ledger")), **_refusals(400, 503)},
            }
        },
        "/api/dead-letters": {
            "get": {
                "summary": "How many events are dead, where and why",
                "parameters": [
                    _query("window", "Failed within: 90m, 24h, 7d; everything unless given."),
                    _query("by", f"Grouped by some of {', '.join(GROUPINGS)}, with commas between."),
                    _query("landed", "1: also groups of which every event has landed since."),
                ],
                "responses": {
                    "200": _answer("Largest first.", _object(groups=_array(_ref("DeadLetters")))),
                    **_refusals(400, 503),
                },
            }
        },
        "/api/events/{name}": {
            "get": {
                "summary": "Where an event is, hop by hop",
                "parameters": [
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "description": "An event's id, a request's id or a unit's.",
                        "schema": _TEXT,
                    }
                ],
                "responses": {
                    "200": _answer(
                        f"At most {EVENTS_MAX} events, newest first.",
                        _object(asked=_TEXT, truncated={"type": "boolean"}, events=_array(_ref("Event"))),
                    ),
                    **_refusals(404, 503),
                },
            }
        },
        "/api/pipeline": {
            "get": {
                "summary": "What flows, how far behind each stage is, what has landed",
                "responses": {"200": _answer("Nulls where it cannot be asked.", _ref("Pipeline"))},
            }
        },
    },
    "components": {"schemas": _SCHEMAS},
}
