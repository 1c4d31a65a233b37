"""The part of `/openapi.json` that tells of experiments and their health."""

from typing import Any, Final

from console.health.read import DIMENSIONS
from console.health.signals import MEANINGS
from console.schema import (
    COUNT,
    NUMBER,
    TEXT,
    TIME,
    answer,
    array,
    boolean,
    name_in_path,
    one_of,
    or_null,
    query,
    ref,
    refusals,
)
from console.schema import object_ as obj

Json = dict[str, Any]

_LIGHT: Final[Json] = one_of("green", "yellow", "red", "unknown")
_BRIEF: Final[Json] = {"type": ["object", "null"], "properties": {"light": _LIGHT, "why": TEXT, "at": or_null(TIME)}}
_OTHERS: Final[Json] = array(obj(project=TEXT, environment=TEXT, units=COUNT))
_BY_GROUP: Final[Json] = {"type": "object", "additionalProperties": COUNT}
_HIT: Final[Json] = {
    **obj(group=TEXT, of=COUNT, rate=NUMBER),
    "additionalProperties": COUNT,
    "description": "And `lost` or `late`: how many of them.",
}
_POINTS: Final[Json] = obj(
    step_s=COUNT, points=array(obj(at=TIME, is_final=boolean(), users=_BY_GROUP, checks=_BY_GROUP))
)

OF_EXPERIMENTS: Final[Json] = {
    "project": or_null(TEXT),
    "environment": or_null(TEXT),
    "others": _OTHERS,
    "health": _BRIEF,
    "population": {**ref("Population"), "description": "Over the whole life of the experiment."},
    "timeline": array(
        obj(
            version=TEXT,
            **{"from": TIME},
            until=or_null(TIME),
            is_gone=boolean(),
            planned={"type": ["array", "null"], "items": obj(group=TEXT, share=NUMBER)},
            plan_why=TEXT,
            units=COUNT,
            light=_LIGHT,
        )
    ),
    "crossover": obj(units=COUNT, of=COUNT, rate=or_null(NUMBER)),
}
"""What the details of an experiment have besides what those of every entity have."""

BRIEF: Final = _BRIEF

SCHEMAS: Final[Json] = {
    "Population": obj(
        units=COUNT,
        checks=COUNT,
        groups=array(obj(group=TEXT, units=COUNT, share=or_null(NUMBER), planned_share=or_null(NUMBER), checks=COUNT)),
        excluded=array(obj(reason=TEXT, checks=COUNT)),
        plan=obj(config_version=or_null(TEXT), why=TEXT),
    ),
    "SplitOfVersion": obj(
        version=TEXT,
        config_time=or_null(TIME),
        light=_LIGHT,
        why=TEXT,
        units=COUNT,
        plan_why=TEXT,
        groups=array(
            obj(
                group=TEXT,
                units=COUNT,
                expected=or_null(NUMBER),
                share=or_null(NUMBER),
                planned_share=or_null(NUMBER),
                deviation=or_null(NUMBER),
            )
        ),
        chi_squared={
            "type": ["object", "null"],
            "properties": {"statistic": NUMBER, "degrees": COUNT, "p": NUMBER, "deviation": NUMBER, "light": _LIGHT},
        },
        sequential={
            "type": ["object", "null"],
            "properties": {
                **dict.fromkeys(("log10_e", "log10_e_max", "boundary_log10", "p_always"), NUMBER),
                "crossed_at": or_null(TIME),
                "light": _LIGHT,
            },
        },
        path=array(obj(at=TIME, units=COUNT, log10_e=NUMBER, log10_e_max=NUMBER)),
    ),
    "Signal": obj(
        key=one_of(*MEANINGS),
        title=TEXT,
        light=_LIGHT,
        why=TEXT,
        value=or_null(NUMBER),
        unit=one_of("share", "ms", "p"),
        threshold=obj(yellow=NUMBER, red=or_null(NUMBER)),
        count=or_null(COUNT),
        of=or_null(COUNT),
        by_group={"type": ["array", "null"], "items": _HIT},
        meaning=TEXT,
        action=TEXT,
    ),
    "Health": obj(
        name=TEXT,
        project=TEXT,
        environment=TEXT,
        others=_OTHERS,
        at=TIME,
        as_of=or_null(TIME),
        final_until=or_null(TIME),
        light=_LIGHT,
        why=TEXT,
        population=ref("Population"),
        srm=obj(
            light=_LIGHT,
            why=TEXT,
            meaning=TEXT,
            action=TEXT,
            alpha=NUMBER,
            boundary_log10=or_null(NUMBER),
            tests=COUNT,
            versions=array(ref("SplitOfVersion")),
        ),
        segments=array(
            obj(
                dimension=one_of(*DIMENSIONS),
                segment=TEXT,
                version=TEXT,
                units=COUNT,
                light=_LIGHT,
                log10_e_max=or_null(NUMBER),
                boundary_log10=NUMBER,
                groups=array(obj(group=TEXT, units=COUNT, planned_share=or_null(NUMBER))),
                why=TEXT,
            )
        ),
        segments_tested=COUNT,
        signals=array(ref("Signal")),
    ),
    "UsersAndChecks": obj(
        name=TEXT,
        project=TEXT,
        environment=TEXT,
        others=_OTHERS,
        at=TIME,
        as_of=or_null(TIME),
        window=TEXT,
        final_until=or_null(TIME),
        final_at=NUMBER,
        groups=array(TEXT),
        course=_POINTS,
        last_hour=_POINTS,
    ),
}

_SCOPE: Final = [
    query("project", "Of this project; else of the project and environment with most units."),
    query("environment", "Of this environment (that of the key)."),
]

PATHS: Final[Json] = {
    "/api/experiments/{name}/health": {
        "get": {
            "summary": "Whether an experiment can be trusted, and why",
            "description": "Over its whole life, for each config version: the split against the plan (docs/health.md), "
            "segments, crossovers, configs, lateness and losses. At most some ten seconds behind what has landed.",
            "parameters": [name_in_path("The experiment."), *_SCOPE],
            "responses": {"200": answer("Its health.", ref("Health")), **refusals(400, 404, 503)},
        }
    },
    "/api/experiments/{name}/users-and-checks": {
        "get": {
            "summary": "First exposures and exposures by group in the course of time",
            "description": "By hour (beyond 31d by day), and by minute for the last hour, by the time at which they "
            "happened. `users` are units exposed for the first time, `checks` all exposures that count.",
            "parameters": [
                name_in_path("The experiment."),
                query("window", "How far back: 90m, 24h, 7d.", {"type": "string", "default": "7d"}),
                *_SCOPE,
            ],
            "responses": {"200": answer("Its course.", ref("UsersAndChecks")), **refusals(400, 404, 503)},
        }
    },
}
