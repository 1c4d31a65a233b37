"""What the gateway says of itself: the OpenAPI 3.1 document that `GET /openapi.json` answers.

Reasons, statuses and limits are read from where they are decided, so that the document cannot tell
anything else. Tests hold its paths against the application's routes and send its examples.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from ingest.answer import Answer
from ingest.durability import Durability
from ingest.openapi_shapes import EXPOSURE_EXAMPLES, LOG_EXAMPLES, OTLP_EXAMPLES, SHAPES, Json, object_of, shape
from ingest.otlp import JSON_TYPE, OTLP_LOGS_PATH, PROTOBUF_TYPE
from ingest.receive import Request
from ingest.refusal import Refusal
from schemas.dead_letter import CODE_VERSION
from schemas.limits import (
    ANSWER_DEADLINE_S,
    DECODED_BODY_BYTES,
    EVENTS_PER_REQUEST,
    HEADER_BLOCK_BYTES,
    MIB,
    UNFINISHED_REQUEST_S,
    WIRE_BODY_BYTES,
)
from schemas.reasons import Reason

OPENAPI_PATH: Final = "/openapi.json"

_ANY: Final = (
    Reason.MALFORMED_REQUEST,
    Reason.UNFINISHED_REQUEST,
    Reason.HEADERS_TOO_LARGE,
    Reason.OVERLOADED,
    Reason.UNEXPECTED_ERROR,
)
_KEY: Final = (Reason.MISSING_KEY, Reason.UNKNOWN_KEY, Reason.KEY_NOT_ALLOWED, Reason.KEYS_NOT_READY)
_BODY: Final = (Reason.BODY_TOO_LARGE, Reason.UNDECODABLE_BODY, Reason.UNSUPPORTED_ENCODING)
_WRITE: Final = (
    *_KEY,
    *_BODY,
    Reason.TOO_MANY_EVENTS,
    Reason.LOG_UNAVAILABLE,
    Reason.OVER_QUOTA,
    Reason.DRAINING,
)

_ABOUT: Final = f"""\
Takes exposures and events from SDKs and from plain HTTP.

* **202** means that every event is kept: in the log, in the spill (`x-headrace-durability` says which), or, if it
  could not be read, whole in the dead letters, listed under `refused`. OTLP has its own answers, and 200.
* **503** means: send the same request again. It comes within {ANSWER_DEADLINE_S} s. 429 is never answered: a key
  that has sent more events than its quota is answered 503 (`{Reason.OVER_QUOTA}`), which SDKs keep their events for.
* Other refusals are for what stays worthless however often it is sent; `reason` is one of a closed list.
* Bodies may be gzip, zstd, br or deflate, by `Content-Encoding` or unannounced. `Content-Type` matters to OTLP only.
* Limits of a request: {WIRE_BODY_BYTES // MIB} MiB on the wire, {DECODED_BODY_BYTES // MIB} MiB decompressed,
  {EVENTS_PER_REQUEST} events, {HEADER_BLOCK_BYTES} bytes of headers, {UNFINISHED_REQUEST_S} s to send it all.
* `OPTIONS` is answered on every path (CORS preflight). An operator may have set further paths that do what
  `/v1/log_event` does.
* A path that is not listed is answered 404 (`{Reason.UNKNOWN_PATH}`), a method that is not 405
  (`{Reason.WRONG_METHOD}`).
"""

_BY_HEADER: Final[Json] = {"key": []}
_BY_QUERY: Final[Json] = {"clientKeyInQuery": []}
_BY_BEARER: Final[Json] = {"bearer": []}
_BY_NOTHING: Final[Json] = {}

_HEADERS: Final[Json] = {
    "x-headrace-request-id": {
        "description": "Names the request in the rows and the logs.",
        "schema": {"type": "string"},
    }
}
_DURABILITY: Final[Json] = {
    "x-headrace-durability": {"description": "Where the events are.", "schema": {"enum": [*Durability]}}
}


def _parameter(place: str, name: str, description: str, schema: str | Json = "string") -> Json:
    typed = {"type": schema} if isinstance(schema, str) else schema
    return {"name": name, "in": place, "description": description, "schema": typed}


_ENCODING: Final = _parameter(
    "header", "content-encoding", "gzip, zstd, br or deflate, or two of them behind one another."
)
_SENDER: Final = [
    _parameter("header", "idempotency-key", "Makes a retry of events without a time known as one."),
    _parameter("header", "statsig-client-time", "The sender's clock in ms, which corrects a wrong one.", "integer"),
    _ENCODING,
    _parameter("query", "t", "As `statsig-client-time`, for browsers.", "integer"),
    _parameter("query", "st", "Type of the SDK; its events have their own users.", "string"),
    _parameter("query", "se", "1: the body is base64, reversed.", {"enum": ["1"]}),
]
_KNOWN_SPECS: Final = [
    _parameter("query", "sinceTime", "Time of the document that the SDK has.", "integer"),
    _parameter("query", "checksum", "Checksum of the document that the SDK has."),
    _parameter("header", "if-none-match", "ETag of the document that the SDK has."),
]
_KEY_IN_PATH: Final = {**_parameter("path", "key", "A secret key; the header counts more."), "required": True}


def _json(schema: Json, examples: Mapping[str, Json] | None = None) -> Json:
    return {"content": {JSON_TYPE: {"schema": schema, **({"examples": examples} if examples else {})}}}


def _refusals(reasons: Iterable[Reason], forbidden: Iterable[Reason]) -> Json:
    by_status: dict[int, list[Reason]] = {}
    for reason in reasons:
        by_status.setdefault(Refusal(reason, "").status, []).append(reason)
    for reason in forbidden:
        by_status.setdefault(403, []).append(reason)
    return {
        str(status): {
            "description": "Send it again." if status == 503 else "Refused as a whole; `reason` says why.",
            "headers": _HEADERS,
            **_json(
                object_of(
                    {"success": {"const": False}, "reason": {"enum": found}, "message": {"type": "string"}},
                    "success",
                    "reason",
                    "message",
                )
            ),
        }
        for status, found in sorted(by_status.items())
    }


def _operation(
    summary: str,
    answers: Json,
    reasons: Iterable[Reason],
    *,
    forbidden: Iterable[Reason] = (),
    security: Iterable[Json] = (_BY_NOTHING,),
    parameters: Iterable[Json] = (),
    body: Json | None = None,
) -> Json:
    made: Json = {
        "summary": summary,
        "security": [*security],
        "parameters": [*parameters],
        "responses": {**answers, **_refusals([*reasons, *_ANY], forbidden)},
    }
    return {**made, "requestBody": body} if body is not None else made


def _answer(description: str, schema: Json, **headers: Json) -> Json:
    return {"description": description, "headers": {**_HEADERS, **headers}, **_json(schema)}


def _takes_events(summary: str, schema: str, examples: Mapping[str, Json]) -> Json:
    kept = _answer("Every event is kept.", shape("Accepted"), **_DURABILITY)
    return {
        "post": _operation(
            summary,
            {"202": kept},
            _WRITE,
            security=(_BY_HEADER, _BY_QUERY),
            parameters=_SENDER,
            body={"required": True, **_json(shape(schema), examples)},
        )
    }


def _serves_specs(*path_parameters: Json) -> Json:
    etag = {"etag": {"description": "Of this document.", "schema": {"type": "string"}}}
    answers = {
        "200": _answer("The newest document, or that there is none newer.", shape("Specs"), **etag),
        "304": {"description": "The SDK has it.", "headers": {**_HEADERS, **etag}},
    }
    security = (_BY_HEADER, _BY_NOTHING) if path_parameters else (_BY_HEADER,)
    reasons = (*_KEY, Reason.NO_SPECS)
    has = object_of({"sinceTime": {"type": "integer"}, "checksum": {"type": "string"}})
    return {
        "get": _operation(
            "Config specs of the key's project",
            answers,
            reasons,
            forbidden=(Reason.KEY_NOT_ALLOWED,),
            security=security,
            parameters=[*path_parameters, *_KNOWN_SPECS],
        ),
        "post": _operation(
            "Config specs of the key's project",
            answers,
            (*reasons, *_BODY),
            forbidden=(Reason.KEY_NOT_ALLOWED,),
            security=security,
            parameters=[*path_parameters, _KNOWN_SPECS[-1]],
            body=_json(has, {"at_start": {"value": {"sinceTime": 0}}}),
        ),
    }


def _takes_log_records() -> Json:
    kept = _answer(
        "Every log record is kept, or counted as rejected with why.", shape("ExportLogsResponse"), **_DURABILITY
    )
    made = _operation(
        "OpenTelemetry log records: evaluations of feature flags and tracking",
        {"200": kept},
        _WRITE,
        security=(_BY_HEADER, _BY_BEARER, _BY_QUERY),
        parameters=[_ENCODING],
        body={"required": True, **_json(shape("ExportLogsRequest"), OTLP_EXAMPLES)},
    )
    for status, answer in made["responses"].items():
        refused = answer["content"][JSON_TYPE]["schema"]
        if status != "200":
            # What is refused before its path is read is refused as everywhere.
            answer["content"][JSON_TYPE]["schema"] = {"anyOf": [shape("Status"), refused]}
    for told in (made["requestBody"], *made["responses"].values()):
        told["content"][PROTOBUF_TYPE] = {"schema": {"description": "The same message in protobuf."}}
    return {"post": made}


def _paths() -> Json:
    logs = "Events and exposures"
    log_event = _takes_events(logs, "LogRequest", LOG_EXAMPLES)
    specs, specs_by_path = _serves_specs(), _serves_specs(_KEY_IN_PATH)
    taken = {"202": _answer("It was taken; nothing of it is kept.", shape("Accepted"))}
    no_lists = {"200": _answer("There are none.", object_of({}, maxProperties=0))}
    itself = {"200": _answer("This document.", {"type": "object"})}
    anything = _json({}, {"report": {"value": {"exception": "Error", "info": "a stack"}}})
    return {
        "/v1/log_event": log_event,
        "/v1/rgstr": log_event,
        "/v1/log_event_beacon": log_event,
        "/v1/log_custom_exposure": _takes_events(
            "Exposures that an application decided by itself", "CustomExposures", EXPOSURE_EXAMPLES
        ),
        OTLP_LOGS_PATH: _takes_log_records(),
        "/v1/sdk_exception": {
            "post": _operation("An SDK's report of its own exception", taken, (Reason.BODY_TOO_LARGE,), body=anything)
        },
        "/v1/download_config_specs": specs,
        "/v2/download_config_specs": specs,
        "/v1/download_config_specs/{key}.json": specs_by_path,
        "/v2/download_config_specs/{key}.json": specs_by_path,
        "/v1/get_id_lists": {
            "post": _operation("Id lists", no_lists, _KEY, forbidden=(Reason.KEY_NOT_ALLOWED,), security=(_BY_HEADER,))
        },
        "/v1/initialize": {"post": _operation("Values for a browser", {}, (Reason.NOT_BUILT,))},
        OPENAPI_PATH: {"get": _operation("This document", itself, ())},
    }


def document() -> Json:
    """Return the OpenAPI document of a gateway, less the alias paths that an operator set."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace gateway",
            "version": CODE_VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {
            "schemas": SHAPES,
            "securitySchemes": {
                "key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "statsig-api-key",
                    "description": "`headrace keys create` makes one. Config specs and id lists are for secret keys.",
                },
                "bearer": {"type": "http", "scheme": "bearer", "description": "The same key, for OTLP exporters."},
                "clientKeyInQuery": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "k",
                    "description": "Client keys only: query strings end up in logs.",
                },
            },
        },
    }


_CONTENT: Final = orjson.dumps(document())


async def serve_openapi(_: Request) -> Answer:
    """Answer with the document, to anybody: it holds nothing that this source does not."""
    return Answer(200, _CONTENT)
