"""Users and checks in the course of time: by hour or day, and by minute for the last hour."""

import asyncio
import time
from typing import Any, Final

from console.health.assess import FINAL_SHARE, final_until_ms
from console.health.read import Facts
from console.questions import iso_s, rows
from console.store_pool import StorePool

Json = dict[str, Any]

_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_BY_DAY_S: Final = 31 * _DAY_S
_POINTS_MAX: Final = 50_000

_SCOPE: Final = "project = {project:String} AND environment = {environment:String} AND experiment = {name:String}"
_AT: Final = "intDiv(toUnixTimestamp(minute), {step:UInt32}) * {step:UInt32}"

_COURSE: Final = f"""
    SELECT at, group_name, sum(users) AS users, sum(n) AS checks FROM (
        SELECT {_AT} AS at, group_name, newcomers AS users, 0 AS n
        FROM experiment_units WHERE {_SCOPE} AND axis = 'exposed' AND minute >= fromUnixTimestamp({{since:Int64}})
        UNION ALL
        SELECT {_AT} AS at, group_name, 0 AS users, checks AS n
        FROM experiment_checks WHERE {_SCOPE} AND excluded = '' AND minute >= fromUnixTimestamp({{since:Int64}})
    ) GROUP BY at, group_name ORDER BY at, group_name LIMIT {_POINTS_MAX}
"""  # noqa: S608 - our own words


async def course_of(store: StorePool, facts: Facts, window_s: int) -> Json:
    """Return users and checks by step over the window, by the time at which exposures happened."""
    now_s = int(time.time())
    step_s = _HOUR_S if window_s <= _BY_DAY_S else _DAY_S
    final_ms = final_until_ms(facts)

    async def points(step_s: int, length_s: int) -> Json:
        since = (now_s - length_s) // step_s * step_s
        found = await rows(store, _COURSE, {**facts.scope.parameters(), "step": step_s, "since": since})
        return {"step_s": step_s, "points": gather(found, step_s, final_ms)}

    course, last_hour = await asyncio.gather(points(step_s, window_s), points(60, _HOUR_S))
    groups = {group for part in (course, last_hour) for point in part["points"] for group in point["checks"]}
    return {
        "as_of": iso_s(facts.as_of_ms / 1000) if facts.as_of_ms else None,
        "final_until": iso_s(final_ms / 1000) if final_ms is not None else None,
        "final_at": FINAL_SHARE,
        "groups": sorted(groups | set(facts.newcomers)),
        "course": course,
        "last_hour": last_hour,
    }


def gather(found: list[Json], step_s: int, final_ms: float | None) -> list[Json]:
    """Put rows of (at, group, users, checks), in the order of time, under their moments. Pure."""
    points: dict[int, Json] = {}
    for row in found:
        ends_ms = (row["at"] + step_s) * 1000
        point = points.setdefault(
            row["at"],
            {
                "at": iso_s(row["at"]),
                "is_final": final_ms is not None and ends_ms <= final_ms,
                "users": {},
                "checks": {},
            },
        )
        for column in ("users", "checks"):
            if row[column]:
                point[column][row["group_name"]] = row[column]
    return list(points.values())
