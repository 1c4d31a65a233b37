"""What the store knows of an experiment, from the rollups and the configs: questions in, facts out."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from console.health.plan import Plan, plan_of, unknown
from console.questions import rows
from console.store_pool import StorePool

Row = dict[str, Any]
Version = tuple[str, int]
"""A config version: its number, and the time of its document in ms (0: not known)."""

Course = list[tuple[int, dict[str, int]]]
"""(moment in ms, units of each group that came then), in order."""

DIMENSIONS: Final = ("sdk", "sdk_version", "country", "app_version")
SEGMENT_UNITS: Final = 500
"""Smaller segments are not tested."""
SEGMENTS_MAX: Final = 60
_VERSIONS_MAX: Final = 200

_SCOPE: Final = "project = {project:String} AND environment = {environment:String} AND experiment = {name:String}"
_VERSION: Final = "config_version, toUnixTimestamp64Milli(version_time) AS version_ms"
_OF_NAME: Final = (
    "experiment = {name:String} AND ({project:String} = '' OR project = {project:String}) "
    "AND ({environment:String} = '' OR environment = {environment:String})"
)

_SCOPES: Final = f"""
    SELECT project, environment, sum(newcomers) AS units, sum(checks) AS checks, max(l) AS layer FROM (
        SELECT project, environment, newcomers, 0 AS checks, toString(layer) AS l
        FROM experiment_units WHERE {_OF_NAME} AND axis = 'received'
        UNION ALL
        SELECT project, environment, 0, checks, '' FROM experiment_checks WHERE {_OF_NAME}
    ) GROUP BY project, environment ORDER BY units DESC, checks DESC, project, environment LIMIT 100
"""  # noqa: S608 - our own words, here and below
_UNITS: Final = f"""
    SELECT axis, {_VERSION}, toUnixTimestamp(minute) AS at, group_name, sum(units) AS units,
        sum(newcomers) AS newcomers, sum(crossed) AS crossed
    FROM experiment_units WHERE {_SCOPE} AND axis IN ('received', 'late')
    GROUP BY axis, config_version, version_ms, at, group_name ORDER BY at, group_name
"""  # noqa: S608
_SEGMENTS: Final = f"""
    SELECT axis, segment, {_VERSION}, sum(units) AS units
    FROM experiment_units WHERE {_SCOPE} AND axis IN {DIMENSIONS}
    GROUP BY axis, segment, config_version, version_ms HAVING units >= {SEGMENT_UNITS}
    ORDER BY units DESC, axis, segment LIMIT 10000
"""  # noqa: S608
_SEGMENT_COURSES: Final = f"""
    SELECT axis, segment, {_VERSION}, toUnixTimestamp(minute) AS at, group_name, sum(units) AS units
    FROM experiment_units WHERE {_SCOPE} AND axis IN {DIMENSIONS} AND segment IN {{segments:Array(String)}}
    GROUP BY axis, segment, config_version, version_ms, at, group_name ORDER BY at, group_name
"""  # noqa: S608
_CHECKS: Final = f"""
    SELECT excluded, group_name, sum(checks) AS checks, sum(stale) AS stale, sum(audited) AS audited,
        sum(mismatched) AS mismatched, sum(bots) AS bots, sum(copies) AS copies
    FROM experiment_checks WHERE {_SCOPE} GROUP BY excluded, group_name ORDER BY excluded, group_name
"""  # noqa: S608
_LATENESS: Final = f"""
    SELECT lateness, sum(checks) AS checks FROM experiment_checks
    WHERE {_SCOPE} AND excluded = '' GROUP BY lateness ORDER BY lateness
"""  # noqa: S608
_CONFIGS: Final = f"""
    SELECT version, toUnixTimestamp64Milli(time) AS time_ms, is_gone, spec, groups, name_hash
    FROM config_versions FINAL
    WHERE project = {{project:String}} AND section = 'config' AND name = {{name:String}}
    ORDER BY time DESC LIMIT {_VERSIONS_MAX}
"""  # noqa: S608
_AS_OF: Final = "SELECT toUnixTimestamp64Milli(max(as_of)) AS as_of_ms FROM rollup_days FINAL"

_OF_ARMS: Final = (
    "project = {project:String} AND environment = {environment:String} AND experiment IN {names:Array(String)} "
    "AND rule_id IN {rules:Array(String)}"
)
# A refused event is told by its id, under which it lands when it is replayed, at the same time of receipt.
_LOST: Final = f"""
    SELECT rule, uniqExact(unit) AS units FROM (
        SELECT event, argMax(rule_id, attempt) AS rule, argMax(if(unit_id = '', event, unit_id), attempt) AS unit
        FROM (
            SELECT *, if(event_id != '', event_id,
                concat(stage, '/', toString(dlq_partition), '/', toString(dlq_offset))) AS event
            FROM dead_letters FINAL WHERE {_OF_ARMS}
        ) GROUP BY event
    ) WHERE event NOT IN (
        SELECT event_id FROM exposures
        WHERE project = {{project:String}} AND environment = {{environment:String}} AND name IN {{names:Array(String)}}
            AND received_at IN (SELECT received_at FROM dead_letters WHERE {_OF_ARMS})
    ) GROUP BY rule
"""  # noqa: S608


@dataclass(frozen=True)
class Scope:
    """One experiment of one project and environment."""

    name: str
    project: str
    environment: str
    layer: str = ""
    others: list[Row] = field(default_factory=list)

    def parameters(self) -> dict[str, Any]:
        """Return it as parameters of the questions here."""
        return {"name": self.name, "project": self.project, "environment": self.environment}


@dataclass(frozen=True)
class Config:
    """A version of the experiment's config."""

    version: Version
    is_gone: bool
    plan: Plan
    groups: dict[str, str]
    name_hash: str


@dataclass
class Facts:
    """All that health is made of."""

    scope: Scope
    as_of_ms: int | None
    configs: list[Config]
    """Oldest first."""
    courses: dict[Version, Course]
    """Units by minute of receipt, in the order in which versions were first exposed."""
    newcomers: dict[str, int]
    crossed: int
    late: dict[str, int]
    checks: list[Row]
    lateness: list[Row]
    segments: dict[tuple[str, str, Version], Course]
    segments_of: dict[Version, int]
    """How many segments of a version are large enough to be tested."""
    lost: dict[str, int]
    """Units whose exposures were refused, by group."""

    @classmethod
    def nothing(cls, scope: Scope) -> "Facts":
        """Return what is known of an experiment that nobody has counted yet."""
        return cls(scope, None, [], {}, {}, 0, {}, [], [], {}, {}, {})

    def plan(self, version: Version) -> Plan:
        """Return the planned split of a version, or why it is not known."""
        if not version[0] and not version[1]:
            return unknown("No config of it was known when these exposures came: push it with `headrace config push`.")
        for config in self.configs:
            if config.version == version:
                return config.plan
        return unknown(f"Version {version[0] or 'without a number'} is not among the configs that the store has.")


async def scope_of(store: StorePool, name: str, project: str = "", environment: str = "") -> Scope | None:
    """Return where an experiment of that name has most units; None where the rollups do not know it."""
    asked = {"name": name, "project": project, "environment": environment}
    found = await rows(store, _SCOPES, asked)
    if not found:
        return None
    first, *rest = found
    others = [{"project": row["project"], "environment": row["environment"], "units": row["units"]} for row in rest]
    return Scope(name, first["project"], first["environment"], first["layer"], others)


async def facts_of(store: StorePool, scope: Scope) -> Facts:
    """Ask everything that health is made of. Raises RefusedError (503)."""
    given = scope.parameters()
    units, segments, checks, lateness, configs, as_of = await asyncio.gather(
        *(rows(store, each, given) for each in (_UNITS, _SEGMENTS, _CHECKS, _LATENESS, _CONFIGS, _AS_OF))
    )
    tested = segments[:SEGMENTS_MAX]
    wanted = {(row["axis"], row["segment"], version_of(row)) for row in tested}
    courses = (
        await rows(store, _SEGMENT_COURSES, {**given, "segments": sorted({row["segment"] for row in tested})})
        if tested
        else []
    )
    known = [_config(row) for row in reversed(configs)]
    received = [row for row in units if row["axis"] == "received"]
    segments_of: dict[Version, int] = defaultdict(int)
    for row in segments:
        segments_of[version_of(row)] += 1
    return Facts(
        scope,
        (as_of[0]["as_of_ms"] or None) if as_of else None,
        known,
        _courses(received, version_of),
        _by_group(received, "newcomers"),
        sum(row["crossed"] for row in received),
        _by_group([row for row in units if row["axis"] == "late"], "newcomers"),
        checks,
        lateness,
        {
            key: course
            for key, course in _courses(courses, lambda row: (row["axis"], row["segment"], version_of(row))).items()
            if key in wanted
        },
        dict(segments_of),
        await _lost(store, scope, known),
    )


def version_of(row: Mapping[str, Any]) -> Version:
    """Return the config version of a row."""
    return row["config_version"], row["version_ms"]


async def _lost(store: StorePool, scope: Scope, configs: list[Config]) -> dict[str, int]:
    """Return the units of refused exposures by group; those of rules that no config has are nobody's."""
    group_of: dict[str, str] = {}
    for config in configs:
        group_of.update({rule: group or rule for rule, group in config.groups.items() if group in config.plan.shares})
    if not group_of:
        return {}
    names = {scope.name, scope.layer, *(config.name_hash for config in configs)} - {""}
    found = await rows(store, _LOST, {**scope.parameters(), "names": sorted(names), "rules": sorted(group_of)})
    lost: dict[str, int] = defaultdict(int)
    for row in found:
        lost[group_of[row["rule"]]] += row["units"]
    return dict(lost)


def _config(row: Row) -> Config:
    try:
        spec = orjson.loads(row["spec"]) if row["spec"] else {}
    except orjson.JSONDecodeError:
        spec = {}
    plan = unknown("It is not in this document any more.") if row["is_gone"] else plan_of(spec)
    return Config((row["version"], row["time_ms"]), row["is_gone"], plan, row["groups"], row["name_hash"])


def _courses(found: list[Row], key_of: Any) -> dict[Any, Course]:
    """Gather rows that are in the order of time into a course for each key."""
    courses: dict[Any, Course] = {}
    for row in found:
        course = courses.setdefault(key_of(row), [])
        at_ms = row["at"] * 1000
        if not course or course[-1][0] != at_ms:
            course.append((at_ms, {}))
        came = course[-1][1]
        came[row["group_name"]] = came.get(row["group_name"], 0) + row["units"]
    return courses


def _by_group(found: list[Row], column: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in found:
        counts[row["group_name"]] = counts.get(row["group_name"], 0) + row[column]
    return counts
