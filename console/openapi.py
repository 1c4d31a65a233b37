"""The description of the API, `/openapi.json`: kept by hand, held against the routes by a test."""

from typing import Final

from console import openapi_page
from console.events import EVENTS_MAX, HOPS
from console.experiments import KINDS
from console.export.encode import MEDIA_TYPES
from console.health import openapi as health
from console.ledger.balance import GAPS_LISTED, Flaw
from console.live.filters import FIELDS
from console.live.route import RECENT_MAX
from console.schema import (
    COUNT,
    NUMBER,
    TEXT,
    TIME,
    Json,
    answer,
    array,
    body,
    boolean,
    name_in_path,
    one_of,
    or_null,
    query,
    ref,
    refusals,
)
from console.schema import object_ as obj
from console.sql.formats import FORMATS
from schemas.dead_letter_counts import GROUPINGS

_SEEN: Final = {"first_seen": TIME, "last_seen": TIME}
_COUNTED: Final = {"units": COUNT, "exposures": COUNT}
_ARM: Final = obj(
    group=TEXT, rule_id=TEXT, value=TEXT, allocated_experiment=TEXT, **_COUNTED, **_SEEN
)  # fmt: skip
_ENTITY: Final = {"name": TEXT, "kind": {"type": "string", "enum": list(KINDS)}, **_COUNTED, **_SEEN}
_BALANCE: Final = dict.fromkeys(("accepted", "landed", "duplicate", "dead", "in_flight", "missing"), COUNT)
_LAG: Final = obj(records=or_null(COUNT), of=TEXT, group=TEXT)

_SCHEMAS: Final[Json] = {
    "DeadLetters": obj(
        stage=TEXT,
        reason=TEXT,
        dead=COUNT,
        landed=COUNT,
        **{"class": {"type": "string", "enum": ["ours", "theirs"]}},
        first=TIME,
        last=TIME,
        sample=TEXT,
        message=TEXT,
    ),
    "Event": obj(
        **dict.fromkeys(("event_id", "name", "unit_id", "project", "environment", "origin"), TEXT),
        received_at=TIME,
        hops=array(obj(hop={"type": "string", "enum": list(HOPS)}, at=TIME)),
    ),
    "Refusal": obj(
        error={
            **obj(
                reason={"type": "string", "description": "A word for programs."},
                message={"type": "string", "description": "What is wrong."},
                remedy={"type": "string", "description": "What to do about it."},
            ),
            "required": ["reason", "message", "remedy"],
        }
    ),
    "Table": obj(
        columns=array(obj(name=TEXT, type=TEXT)),
        rows=array(array({})),
        statistics=obj(rows=COUNT, elapsed_ms=NUMBER, truncated=boolean()),
    ),
    "Experiment": obj(**_ENTITY, layer=or_null(TEXT), arms=array(ref("Arm")), health=health.BRIEF),
    "Arm": _ARM,
    "ExperimentDetails": obj(
        **_ENTITY,
        arms=array(ref("Arm")),
        window=TEXT,
        other_kinds=array(TEXT),
        course=obj(
            bucket_s=COUNT,
            points=array(obj(at=TIME, group=TEXT, rule_id=TEXT, value=TEXT, **_COUNTED)),
        ),
        config_versions=array(obj(version=TEXT, match=TEXT, **_COUNTED, **_SEEN)),
        sdks=array(obj(type=TEXT, version=TEXT, **_COUNTED, **_SEEN)),
        units_in_several_arms=COUNT,
        layer=or_null(TEXT),
        **health.OF_EXPERIMENTS,
    ),
    **health.SCHEMAS,
    "Ledger": obj(
        at=TIME,
        window=TEXT,
        since=TIME,
        balanced=boolean(),
        totals=obj(**_BALANCE),
        dead_reasons={"type": "object", "additionalProperties": COUNT},
        flaws={"type": "object", "additionalProperties": COUNT},
        gaps=array(
            obj(
                flaw={"type": "string", "enum": [flaw.value for flaw in Flaw]},
                range={"type": "string", "description": "log/partition/offset/index, or index-index."},
                log=COUNT,
                partition=COUNT,
                offset=COUNT,
                first_index=COUNT,
                last_index=COUNT,
                project=or_null(TEXT),
                environment=or_null(TEXT),
                key_id=or_null(TEXT),
                minute=or_null(TIME),
            )
        ),
        lines=array(obj(project=TEXT, environment=TEXT, key_id=TEXT, minute=TIME, **_BALANCE)),
    ),
    "Pipeline": obj(
        at=TIME,
        log=obj(
            state={"type": "string", "enum": ["ok", "starting", "unreachable"]},
            message=TEXT,
            events_per_s=or_null(NUMBER),
            exposures_per_s=or_null(NUMBER),
            over_s=or_null(NUMBER),
            lag=obj(worker=_LAG, lander=_LAG),
            dead_letters={"type": "object", "additionalProperties": or_null(COUNT)},
        ),
        store=obj(state=TEXT, message=TEXT),
        tables={
            "type": ["object", "null"],
            "additionalProperties": obj(
                rows=COUNT,
                last_landed_at=or_null(TIME),
                rows_last_minute=COUNT,
                delay_p50_ms=or_null(NUMBER),
                delay_p99_ms=or_null(NUMBER),
            ),
        },
    ),
}

_SQL_PARAMETERS: Final = [
    query("query", "One statement that only reads."),
    query("format", "The form of the answer.", {"type": "string", "enum": list(FORMATS), "default": "json"}),
    query("download", "Any value: the browser saves the answer as a file."),
]
_SQL_ANSWERS: Final = {
    "200": {
        "description": "The answer. `json` and `pretty` are cut off after 10,000 rows (and `json` says so); the other "
        "formats come whole or are refused.",
        "content": {
            each.media_type.partition(";")[0]: {"schema": ref("Table") if each.name == "json" else TEXT}
            for each in FORMATS.values()
        },
    },
    **refusals(400, 403, 408, 503),
}
_SCOPE: Final = [
    query("window", "How far back: 90m, 24h, 7d.", {"type": "string", "default": "24h"}),
    query("kind", "Only entities of this kind.", {"type": "string", "enum": list(KINDS)}),
    query("tier", "Only this tier (what the SDK calls its environment)."),
    query("environment", "Only this environment (that of the key)."),
    query("project", "Only this project."),
]
_STREAM: Final = [
    *[
        query(name, f"Only exposures whose {' or '.join(fields)} is one of these (commas; `*` and `?` match any).")
        for name, fields in FIELDS.items()
    ],
    query("rate", "Show at most so many a second, fairly chosen; 0 is all.", {"type": "number", "default": 0}),
    query(
        "recent",
        "Begin with the last few.",
        {"type": "integer", "minimum": 0, "maximum": RECENT_MAX, "default": 0},
    ),
    query("last_event_id", "Go on after this `id`; the same as the header Last-Event-ID."),
    {"name": "Last-Event-ID", "in": "header", "required": False, "schema": TEXT},
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
                        "text/plain": {"schema": TEXT},
                        "application/json": {"schema": {**obj(query=TEXT, format=TEXT), "required": ["query"]}},
                    },
                },
                "responses": _SQL_ANSWERS,
            },
        },
        "/api/exposures/stream": {
            "get": {
                "summary": "Exposures as they happen (server-sent events)",
                "description": "Events: `exposure` (one each; `outcome` says whether it was accepted, a duplicate or "
                "rejected), `tally` (every second: events read, looked at, matched, shown, sampled_out, missed, "
                "unreadable, and the true rate of each outcome), `status` (live or waiting, with a message). Without "
                "`tier` only production.",
                "parameters": _STREAM,
                "responses": {
                    "200": {"description": "A stream that does not end.", "content": {"text/event-stream": {}}},
                    **refusals(400, 503),
                },
            }
        },
        "/api/experiments": {
            "get": {
                "summary": "Entities that were exposed, by arm",
                "parameters": _SCOPE,
                "responses": {
                    "200": answer("Most exposed first.", obj(window=TEXT, experiments=array(ref("Experiment")))),
                    **refusals(400, 503),
                },
            }
        },
        "/api/experiments/{name}": {
            "get": {
                "summary": "One entity in detail",
                "parameters": [name_in_path("The entity."), *_SCOPE],
                "responses": {
                    "200": answer("Its arms, course in time, versions and SDKs.", ref("ExperimentDetails")),
                    **refusals(400, 404, 503),
                },
            }
        },
        **health.PATHS,
        "/api/export/exposures": {
            "get": {
                "summary": "Exposures of a span of receipt as one file",
                "description": "Sent while it is read; a file that did not come whole ends without its last chunk. The "
                "headers `x-headrace-rows`, `-since` and `-until` tell what it holds.",
                "parameters": [
                    query("since", "From then on: 24h (ago), a date, or a time in ISO 8601.", required=True),
                    query("until", "Before then; now unless given."),
                    query("format", "Its form.", {**one_of(*sorted(MEDIA_TYPES)), "default": "parquet"}),
                ],
                "responses": {
                    "200": {
                        "description": "The file.",
                        "content": {media.partition(";")[0]: {"schema": TEXT} for media in MEDIA_TYPES.values()},
                    },
                    **refusals(400, 503),
                },
            }
        },
        "/api/ledger": {
            "get": {
                "summary": "Whether everything that was accepted is somewhere, once",
                "description": "accepted = landed + duplicate + dead + in_flight + missing, per key and minute of "
                f"receipt. At most {GAPS_LISTED:,} ranges that do not balance are named; `flaws` counts all their "
                "events.",
                "parameters": [query("window", "How far back: 90m, 24h, 7d.", {"type": "string", "default": "1h"})],
                "responses": {"200": answer("The balance as it is now.", ref("Ledger")), **refusals(400, 503)},
            }
        },
        "/api/dead-letters": {
            "get": {
                "summary": "How many events are dead, where and why",
                "parameters": [
                    query("window", "Failed within: 90m, 24h, 7d; everything unless given."),
                    query("by", f"Grouped by some of {', '.join(GROUPINGS)}, with commas between."),
                    query("landed", "1: also groups of which every event has landed since."),
                ],
                "responses": {
                    "200": answer("Largest first.", obj(groups=array(ref("DeadLetters")))),
                    **refusals(400, 503),
                },
            }
        },
        "/api/events/{name}": {
            "get": {
                "summary": "Where an event is, hop by hop",
                "parameters": [name_in_path("An event's id, a request's id or a unit's.")],
                "responses": {
                    "200": answer(
                        f"At most {EVENTS_MAX} events, newest first.",
                        obj(asked=TEXT, truncated=boolean(), events=array(ref("Event"))),
                    ),
                    **refusals(404, 503),
                },
            }
        },
        **openapi_page.PATHS,
        "/api/erasures": {
            "post": {
                "summary": "Take one unit out of every table, or count its rows",
                "description": "Of what was received before `before` (ms since the epoch). Dead letters lose their "
                "bytes and stay counted. `headrace erase` does this, and the rest.",
                "requestBody": body(
                    project=TEXT,
                    unit_type=TEXT,
                    unit_id=TEXT,
                    before={"type": "integer"},
                    erasure=TEXT,
                    dry_run=boolean(),
                ),
                "responses": {
                    "200": answer("Rows by table.", obj(rows={"type": "object"})),
                    **refusals(400, 415, 503),
                },
            }
        },
        "/api/shadow/reset": {
            "post": {
                "summary": "Empty the tables that a replay lands in to be compared",
                "requestBody": body(),
                "responses": {"200": answer("Made anew.", obj(tables=array(TEXT))), **refusals(400, 415, 503)},
            }
        },
        "/api/shadow/swap": {
            "post": {
                "summary": "Put days of those tables in the place of the tables' own",
                "description": "A day of a table is replaced in one step; `retired_exposures` and "
                "`retired_custom_events` keep what it was. `expected` has, by table and day, the number of rows and "
                "when the last of them landed (ms since the epoch), of both kinds of tables: 409 where that is not so "
                "any more.",
                "requestBody": body(days=array(TEXT), expected={"type": "object"}),
                "responses": {
                    "200": answer("All of them are swapped.", obj(swapped=array(TEXT))),
                    **refusals(400, 409, 415, 503),
                },
            }
        },
        "/api/pipeline": {
            "get": {
                "summary": "What flows, how far behind each stage is, what has landed",
                "responses": {"200": answer("Nulls where it cannot be asked.", ref("Pipeline"))},
            }
        },
    },
    "components": {"schemas": _SCHEMAS},
}
