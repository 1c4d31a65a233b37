"""`/api/events/{name}`: where an event is, hop by hop, by its id, its request's id or its unit's."""

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.questions import rows
from console.store_pool import StorePool

EVENTS_MAX: Final = 100

HOPS: Final = ("accepted", "dead", "enriched", "landed", "landed again")

_EVENT_ID: Final = re.compile(r"[0-9a-f]{32}")

_ORIGIN: Final = (
    "concat(toString(origin_log), '/', toString(origin_partition), '/', toString(origin_offset), '/',"
    " toString(origin_index), if(origin_part = 0, '', concat('.', toString(origin_part))))"
)
_COMMON: Final = f"""
    event_id, {_ORIGIN} AS origin, project, environment, tier, key_id, request_id, sdk_type, sdk_version,
    unit_type, unit_id, time_flag, lateness_ms, toString(event_time) AS event_at, toString(received_at) AS received,
    toString(landed_at) AS landed
"""
_BY_ID: Final = "event_id_bytes = toFixedString(unhex({name:String}), 16)"
_BY_NAME: Final = "request_id = {name:String} OR unit_id = {name:String} OR user_id = {name:String}"
_NEWEST: Final = f"ORDER BY received_at DESC LIMIT {EVENTS_MAX + 1}"

_EXPOSURES: Final = f"""
    SELECT 'exposures' AS table, name, {_COMMON}, kind, group_name, rule_id, config_match, config_version, assignment,
        parent_event_id
    FROM exposures WHERE {{where}} {_NEWEST}
"""  # noqa: S608 - our own words
_CUSTOM_EVENTS: Final = f"""
    SELECT 'custom_events' AS table, event_name AS name, {_COMMON} FROM custom_events WHERE {{where}} {_NEWEST}
"""  # noqa: S608
_LETTERS: Final = f"""
    SELECT event_id, if(has_origin, {_ORIGIN}, '') AS origin, stage, reason, blame, message, attempt, replay,
        event_name, unit_id, request_id, key_id, project, environment, toString(received_at) AS received,
        toString(last_failed_at) AS failed,
        concat('dlq.', stage, '/', toString(dlq_partition), '/', toString(dlq_offset)) AS place
    FROM dead_letters FINAL WHERE {{where}} ORDER BY last_failed_at DESC LIMIT {EVENTS_MAX + 1}
"""  # noqa: S608
_LETTERS_BY_ID: Final = "event_id = {name:String}"
_LETTERS_BY_NAME: Final = "request_id = {name:String} OR unit_id = {name:String}"

_ENRICHED: Final = ("kind", "group_name", "rule_id", "config_match", "config_version", "assignment")


class EventsRoute:
    """Answers from the landing tables and the dead letters."""

    def __init__(self, store: StorePool) -> None:
        self._store = store

    async def show(self, request: Request) -> Response:
        """Answer a request."""
        name = request.path_params["name"]
        if not name:
            raise RefusedError(
                404, "not_found", "No event, request or unit was named.", "Write it behind the last slash."
            )
        is_id = _EVENT_ID.fullmatch(name.lower()) is not None
        parameters = {"name": name.lower() if is_id else name}
        where = _BY_ID if is_id else _BY_NAME
        landed = []
        for statement in (_EXPOSURES, _CUSTOM_EVENTS):
            landed += await rows(self._store, statement.replace("{where}", where), parameters)
        of_letters = _LETTERS_BY_ID if is_id else _LETTERS_BY_NAME
        letters = await rows(self._store, _LETTERS.replace("{where}", of_letters), parameters)
        events = events_of(landed, letters)
        if not events:
            raise RefusedError(
                404,
                "not_found",
                f"No event, request or unit is called {name[:80]!r}.",
                "What was accepted a moment ago may still be on its way: `headrace ledger` says what is in flight.",
            )
        return json_answer({"asked": name, "events": events[:EVENTS_MAX], "truncated": len(events) > EVENTS_MAX})


def events_of(landed: list[dict[str, Any]], letters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry an event with its hops in the order of time, newest event first. Pure."""
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(landed, key=lambda one: str(one["received"])):
        event = _event(found, row, row["name"])
        if event["hops"][1:]:
            event["hops"].append({"hop": "landed again", "at": _moment(row["landed"]), "origin": row["origin"]})
            continue
        if row.get("kind"):
            event["hops"].append({"hop": "enriched", **{name: row[name] for name in _ENRICHED}})
        event["hops"].append(
            {"hop": "landed", "at": _moment(row["landed"]), "table": row["table"], "origin": row["origin"]}
        )
    for letter in sorted(letters, key=lambda one: (one["failed"], one["attempt"])):
        event = _event(found, letter, letter["event_name"])
        dead = {name: letter[name] for name in ("stage", "reason", "blame", "message", "attempt", "replay", "place")}
        landing = next(
            (n for n, hop in enumerate(event["hops"]) if hop["hop"] != "accepted" and hop["hop"] != "dead"), None
        )
        hop = {"hop": "dead", "at": _moment(letter["failed"]), **dead}
        event["hops"].insert(len(event["hops"]) if landing is None else landing, hop)
    return sorted(found.values(), key=lambda event: str(event["received_at"]), reverse=True)


def _event(found: dict[str, dict[str, Any]], row: dict[str, Any], name: str) -> dict[str, Any]:
    key = row["event_id"] or row["place"]
    event = found.get(key)
    if event is None:
        accepted = {"hop": "accepted", "at": _moment(row["received"]), "key_id": row["key_id"]}
        event = found[key] = {
            "event_id": row["event_id"],
            "name": name,
            "unit_id": row["unit_id"],
            "project": row["project"],
            "environment": row["environment"],
            "origin": row["origin"],
            "received_at": _moment(row["received"]),
            "hops": [{**accepted, "request_id": row["request_id"], "origin": row["origin"]}],
        }
    return event


def _moment(text: str) -> str:
    return text.replace(" ", "T") + "Z"


def routes(store: StorePool) -> list[Route]:
    """Return the routes of this surface."""
    return [Route("/api/events/{name:path}", EventsRoute(store).show)]
