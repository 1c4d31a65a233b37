"""`/api/experiments`: what was exposed to whom, by arm, from the store; and how well it is."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.fresh import Fresh
from console.health import assess
from console.health import route as health_route
from console.health.route import Health, Lights
from console.questions import iso_s, rows, window_s
from console.store_pool import StorePool

KINDS: Final = ("experiment", "gate", "layer", "dynamic_config")
ENTITIES_MAX: Final = 500
ARMS_MAX: Final = 50

_SCOPE: Final = ("kind", "tier", "environment", "project")

# A gate decides by a rule and answers true or false; everything else puts a unit into a group.
_ARM: Final = "group_name, rule_id, if(kind = 'gate', value, '') AS answer, allocated_experiment"

_COUNTS: Final = """
    uniqExact(unit_id) AS units,
    count() AS exposures,
    toUnixTimestamp64Milli(min(received_at)) AS first_ms,
    toUnixTimestamp64Milli(max(received_at)) AS last_ms
"""


def _where(scope: Mapping[str, str], name: str | None, *, by_layer: bool) -> tuple[str, dict[str, Any]]:
    """Return the condition and its parameters; `by_layer` is for experiments that a layer allocates."""
    window = window_s(scope["window"])
    conditions = ["received_at >= fromUnixTimestamp64Milli({since_ms:Int64})"]
    if by_layer:
        scope = {field: value for field, value in scope.items() if field != "kind"}
        conditions += ["e.kind = 'layer'", "allocated_experiment != ''"]
    parameters: dict[str, Any] = {"since_ms": int((time.time() - window) * 1000)}
    for field in _SCOPE:
        if scope.get(field):
            conditions.append(f"{field} = {{{field}:String}}")
            parameters[field] = scope[field]
    if name is not None:
        conditions.append("allocated_experiment = {name:String}" if by_layer else "name = {name:String}")
        parameters["name"] = name
    return " AND ".join(conditions), parameters


def _scope_of(request: Request) -> dict[str, str]:
    given = request.query_params
    unknown = set(given) - {*_SCOPE, "window"}
    if unknown:
        raise RefusedError(
            400,
            "unknown_parameter",
            f"There is no parameter {min(unknown)[:60]!r}.",
            f"There are window, {', '.join(_SCOPE)}.",
        )
    if given.get("kind") and given["kind"] not in KINDS:
        raise RefusedError(400, "unknown_kind", f"There is no kind {given['kind'][:40]!r}.", f"Use {', '.join(KINDS)}.")
    window_s(given.get("window", "24h"))
    return {"window": given.get("window") or "24h", **{field: given[field] for field in _SCOPE if given.get(field)}}


def _times(row: Mapping[str, Any]) -> dict[str, str]:
    return {"first_seen": iso_s(row["first_ms"] / 1000), "last_seen": iso_s(row["last_ms"] / 1000)}


def gather(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the arms under their entities; rows with `whole` = 1 are of entities, others of arms."""
    entities: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found:
        if row["whole"]:
            entities[row["kind"], row["name"]] = {
                "name": row["name"],
                "kind": row["kind"],
                "units": row["units"],
                "exposures": row["exposures"],
                **_times(row),
                "layer": row["layer"] or None,
                "arms": [],
            }
    for row in found:
        if not row["whole"] and (row["kind"], row["name"]) in entities:
            entities[row["kind"], row["name"]]["arms"].append(
                {
                    "group": row["group_name"],
                    "rule_id": row["rule_id"],
                    "value": row["answer"],
                    "allocated_experiment": row["allocated_experiment"],
                    "units": row["units"],
                    "exposures": row["exposures"],
                    **_times(row),
                }
            )
    for entity in entities.values():
        entity["arms"].sort(key=lambda arm: (arm["allocated_experiment"], arm["group"], arm["rule_id"], arm["value"]))
    return list(entities.values())


async def _entities(store: StorePool, scope: Mapping[str, str], name: str | None = None) -> list[dict[str, Any]]:
    """Return what was exposed, and the experiments that layers allocated as experiments too."""
    found = await _exposed(store, scope, name, by_layer=False)
    if scope.get("kind", "experiment") != "experiment":
        return found
    own = {entity["name"] for entity in found if entity["kind"] == "experiment"}
    inner = await _exposed(store, scope, name, by_layer=True)
    found += [entity for entity in inner if entity["name"] not in own]
    return sorted(found, key=lambda entity: -entity["exposures"])


async def _exposed(
    store: StorePool, scope: Mapping[str, str], name: str | None, *, by_layer: bool
) -> list[dict[str, Any]]:
    where, parameters = _where(scope, name, by_layer=by_layer)
    entity = "'experiment' AS kind, allocated_experiment AS name, any(e.name)" if by_layer else "kind, name, ''"
    statement = f"""
        SELECT {entity} AS layer, {_ARM}, grouping(rule_id) AS whole, {_COUNTS}
        FROM exposures AS e WHERE {where}
        GROUP BY GROUPING SETS ((kind, name), (kind, name, group_name, rule_id, answer, allocated_experiment))
        ORDER BY whole DESC, exposures DESC
        LIMIT {ENTITIES_MAX} BY whole LIMIT {ENTITIES_MAX * ARMS_MAX}
    """  # noqa: S608  # the condition is built of our own words; what was asked for are parameters
    return gather(await rows(store, statement, parameters))


async def _details(store: StorePool, scope: Mapping[str, str], name: str, *, by_layer: bool) -> dict[str, Any]:
    """Return one entity with its course in time, its config versions, SDKs and units seen in several arms."""
    where, parameters = _where(scope, name, by_layer=by_layer)
    bucket_s = bucket_of(window_s(scope["window"]))
    course = f"""
        SELECT intDiv(toUnixTimestamp(received_at), {bucket_s}) * {bucket_s} AS at, {_ARM},
               uniqExact(unit_id) AS units, count() AS exposures
        FROM exposures AS e WHERE {where} GROUP BY ALL ORDER BY at, exposures DESC LIMIT 10000
    """  # noqa: S608
    versions = f"""
        SELECT config_version, config_match, {_COUNTS} FROM exposures AS e WHERE {where}
        GROUP BY ALL ORDER BY last_ms DESC LIMIT 100
    """  # noqa: S608
    sdks = f"""
        SELECT sdk_type, sdk_version, {_COUNTS} FROM exposures AS e WHERE {where}
        GROUP BY ALL ORDER BY exposures DESC LIMIT 100
    """  # noqa: S608
    crossed = f"""
        SELECT count() AS units FROM (
            SELECT unit_id FROM exposures AS e WHERE {where} GROUP BY unit_id
            HAVING uniqExact(group_name, rule_id, if(kind = 'gate', value, '')) > 1
        )
    """  # noqa: S608
    return {
        "course": {
            "bucket_s": bucket_s,
            "points": [
                {
                    "at": iso_s(row["at"]),
                    "group": row["group_name"],
                    "rule_id": row["rule_id"],
                    "value": row["answer"],
                    "units": row["units"],
                    "exposures": row["exposures"],
                }
                for row in await rows(store, course, parameters)
            ],
        },
        "config_versions": [
            {
                "version": row["config_version"],
                "match": row["config_match"],
                "units": row["units"],
                "exposures": row["exposures"],
                **_times(row),
            }
            for row in await rows(store, versions, parameters)
        ],
        "sdks": [
            {
                "type": row["sdk_type"],
                "version": row["sdk_version"],
                "units": row["units"],
                "exposures": row["exposures"],
                **_times(row),
            }
            for row in await rows(store, sdks, parameters)
        ],
        "units_in_several_arms": (await rows(store, crossed, parameters))[0]["units"],
    }


def bucket_of(window: int) -> int:
    """Return the seconds of one step in time, so that a window has 24 to 120 of them."""
    for bucket_s in (10, 60, 300, 900, 3600, 6 * 3600, 86400):
        if window / bucket_s <= 120:
            return bucket_s
    return 7 * 86400


async def _healthy(health: Health, name: str, scope: Mapping[str, str]) -> dict[str, Any]:
    """Return what the rollups say of an experiment over its whole life; nulls where they know nothing."""
    facts = await health.facts(name, scope.get("project", ""), scope.get("environment", ""))
    if facts is None:
        return dict.fromkeys(("project", "environment", "health", "population", "timeline", "crossover")) | {
            "others": []
        }
    found = await asyncio.to_thread(assess.health, facts)
    return {
        "project": facts.scope.project,
        "environment": facts.scope.environment,
        "others": facts.scope.others,
        "health": {"light": found["light"], "why": found["why"], "at": found["as_of"]},
        "population": found["population"],
        "timeline": assess.timeline(facts, assess.verdicts(facts)),
        "crossover": assess.crossover(facts),
    }


def routes(store: StorePool, health: Health) -> list[Route]:
    """Return the routes of this surface."""
    lights = Lights(health)
    lists: Fresh[list[dict[str, Any]]] = Fresh(shared_s=1.5)
    single: Fresh[dict[str, Any]] = Fresh(shared_s=1.5)

    async def list_them(request: Request) -> Response:
        scope = _scope_of(request)
        found = await lists.get(tuple(sorted(scope.items())), lambda: _entities(store, scope))
        experiments = [entity["name"] for entity in found if entity["kind"] == "experiment"]
        known = await lights.of(experiments, scope.get("project", ""), scope.get("environment", ""))
        with_lights = [
            {**entity, "health": known.get(entity["name"]) if entity["kind"] == "experiment" else None}
            for entity in found
        ]
        return json_answer({"window": scope["window"], "experiments": with_lights})

    async def show_one(request: Request) -> Response:
        scope, name = _scope_of(request), request.path_params["name"]
        entities = await _entities(store, scope, name)
        if not entities:
            raise RefusedError(
                404,
                "unknown_experiment",
                f"There were no exposures of {name[:200]!r} in the last {scope['window']}.",
                "Widen `window` (for example 30d), or see /api/experiments for what there is.",
            )
        chosen, *others = entities
        scope = {**scope, "kind": chosen["kind"]}
        by_layer = bool(chosen["layer"])
        details = await single.get(
            (name, *sorted(scope.items())), lambda: _details(store, scope, name, by_layer=by_layer)
        )
        body = {**chosen, "window": scope["window"], "other_kinds": [other["kind"] for other in others], **details}
        if chosen["kind"] == "experiment":
            body |= await _healthy(health, name, scope)
        return json_answer(body)

    return [
        Route("/api/experiments", list_them),
        *health_route.routes(health),
        Route("/api/experiments/{name:path}", show_one),
    ]
