"""The statements that make the rollups of one day. Pure: SQL as text.

`{day:Date}` is the day. The tables of a turn carry a token of their own, so that no half-made ones are in its way.
"""

from typing import Final

from schemas.limits import LATE_MS

TABLES: Final = ("exposed_units", "experiment_units", "experiment_checks")
"""What is made, in the order in which it is put in place: numbers never speak of units that are not there yet."""

_VERSION: Final = "project, environment, experiment, config_version, version_time"
_OF_THE_DAY: Final = (
    "received_at >= toDateTime64({day:Date}, 3, 'UTC') AND received_at < toDateTime64({day:Date} + 1, 3, 'UTC')"
)
# When an exposure happened, when it was received, and a hash of its origin, in one number of 44, 44 and 40 bits: to
# compare tuples takes ten times as long.
_ORDER: Final = """
    bitShiftLeft(toUInt128(greatest(0, toUnixTimestamp64Milli(exposed_at))), 84)
    + bitShiftLeft(toUInt128(greatest(0, toUnixTimestamp64Milli(received_at))), 40)
    + bitAnd(cityHash64(origin_log, origin_partition, origin_offset, origin_index, origin_part), 0xFFFFFFFFFF)
"""
_MS: Final = "bitAnd(bitShiftRight(first, {}), 0xFFFFFFFFFFF)"
_OF_FIRST: Final = f"{_VERSION}, arm, rule_id, layer, unit_type, sdk_type, sdk_version, country, app_version"


def scratch(token: str) -> tuple[str, ...]:
    """Return the names of a turn's own tables: that of the day's units, and one for each of `TABLES`."""
    return (f"rollup_{token}_today", *(f"rollup_{token}_{table}" for table in TABLES))


def make_scratch(token: str) -> list[str]:
    """Return what makes them."""
    today, *copies = scratch(token)
    columns = """
        unit_key FixedString(16), version_key UInt64, unit_id String, first UInt128, like UInt64,
        received_at DateTime64(3, 'UTC'), least_arm String, largest_arm String
    """
    return [
        f"CREATE TABLE {today} ({columns}) ENGINE = MergeTree ORDER BY unit_key",
        *(f"CREATE TABLE {copy} AS {table}" for copy, table in zip(copies, TABLES, strict=True)),
    ]


def todays_units(token: str) -> str:
    """Return what finds the units of the day with the first of their exposures and the groups they were in.

    What the first exposure is like is kept as a hash; there are few that differ, and `units` looks them up.
    """
    today, *_ = scratch(token)
    return f"""
        INSERT INTO {today}
        SELECT
            sipHash128(project, environment, experiment, unit_type, unit_id) AS unit_key,
            cityHash64(config_version, version_time) AS version_key,
            any(unit_id), min({_ORDER}) AS first, argMin(cityHash64({_OF_FIRST}), {_ORDER}), min(received_at),
            min(arm), max(arm)
        FROM experiment_exposures
        WHERE {_OF_THE_DAY} AND excluded = ''
        GROUP BY unit_key, version_key
    """  # noqa: S608 - our own words, here and below


def units(token: str) -> str:
    """Return what compares them with the days before: who is new, and who is in another group now."""
    today, copy, *_ = scratch(token)
    before = f"FROM exposed_units WHERE day < {{day:Date}} AND unit_key IN (SELECT unit_key FROM {today})"  # noqa: S608
    return f"""
        INSERT INTO {copy}
        SELECT
            {{day:Date}}, {_VERSION}, arrayJoin(arrayFilter(each -> each != '', [
                if(first_group = '', 'first', ''),
                if(NOT has_crossed AND (least_arm != own_group OR largest_arm != own_group), 'crossed', '')
            ])) AS what,
            what = 'first' AND unit_key NOT IN (SELECT unit_key {before}) AND (versions = 0 OR earliest = first),
            unit_key, unit_type, unit_id, own_group, rule_id, layer,
            fromUnixTimestamp64Milli(toInt64({_MS.format(84)}), 'UTC') AS exposed_at,
            toInt64({_MS.format(40)}) - toInt64({_MS.format(84)}) AS late_ms,
            t.received_at, sdk_type, sdk_version, country, app_version, version_key
        FROM (
            SELECT *, if(first_group = '', l.arm, first_group) AS own_group
            FROM {today} AS t
            INNER JOIN (
                SELECT DISTINCT {_OF_FIRST}, cityHash64({_OF_FIRST}) AS l_like
                FROM experiment_exposures WHERE {_OF_THE_DAY} AND excluded = ''
            ) AS l ON l_like = like
            LEFT ANY JOIN (
                SELECT unit_key AS b_unit, version_key AS b_version,
                    anyIf(toString(group_name), what = 'first') AS first_group, max(what = 'crossed') AS has_crossed
                {before} GROUP BY unit_key, version_key
            ) AS b ON b_unit = unit_key AND b_version = version_key
            LEFT ANY JOIN (
                SELECT unit_key AS s_unit, count() AS versions, min(first) AS earliest
                FROM {today} GROUP BY unit_key HAVING versions > 1
            ) AS s ON s_unit = unit_key
        ) AS t
    """  # noqa: S608


def counts_of_units(token: str) -> str:
    """Return what counts them by minute of receipt and of exposure, and by hour in each segment."""
    _, source, copy, _ = scratch(token)
    head, numbers = f"day, {_VERSION}", "countIf(what = 'first'), countIf(is_newcomer), countIf(what = 'crossed')"
    segments = """[
        ('sdk', toString(sdk_type)), ('sdk_version', concat(sdk_type, ' ', sdk_version)),
        ('country', toString(country)), ('app_version', toString(app_version))
    ]"""
    return f"""
        INSERT INTO {copy}
        SELECT {head}, 'received', '', group_name, layer, toStartOfMinute(received_at) AS minute, {numbers}
        FROM {source} GROUP BY ALL
        UNION ALL
        SELECT {head}, 'exposed', '', group_name, layer, toStartOfMinute(exposed_at) AS minute, {numbers}
        FROM {source} WHERE what = 'first' GROUP BY ALL
        UNION ALL
        SELECT {head}, 'late', '', group_name, layer, toStartOfHour(received_at) AS minute, {numbers}
        FROM {source} WHERE what = 'first' AND late_ms > {LATE_MS} GROUP BY ALL
        UNION ALL
        SELECT {head}, part.1, part.2, group_name, layer, minute, sum(units), sum(newcomers), 0
        FROM (
            SELECT {head}, group_name, layer, toStartOfHour(received_at) AS minute, sdk_type, sdk_version, country,
                app_version, count() AS units, countIf(is_newcomer) AS newcomers
            FROM {source} WHERE what = 'first' GROUP BY ALL
        ) ARRAY JOIN {segments} AS part
        WHERE trimBoth(part.2) != '' GROUP BY ALL
    """  # noqa: S608


def checks(token: str, late_ms: int, *, may_have_copies: bool) -> str:
    """Return what counts exposures; a copy that came after the claims window is `late_ms` late or more."""
    *_, copy = scratch(token)
    candidates = f"SELECT event_id_bytes FROM exposures WHERE {_OF_THE_DAY} AND lateness_ms >= {late_ms}"  # noqa: S608
    landed = (
        "SELECT event_id_bytes FROM exposures WHERE received_at < toDateTime64({day:Date}, 3, 'UTC') "  # noqa: S608
        f"AND event_id_bytes IN ({candidates})"
    )
    copies = f"countIf(lateness_ms >= {late_ms} AND event_id_bytes IN ({landed}))" if may_have_copies else "0"
    return f"""
        INSERT INTO {copy}
        SELECT {{day:Date}}, {_VERSION}, excluded, if(excluded = '', arm, '') AS group_name,
            toStartOfMinute(exposed_at) AS minute,
            if(lateness_ms <= 1000, 0, least(255, ceil(4 * log2(lateness_ms / 1000)))) AS lateness,
            count(), countIf(config_match = 'stale'), countIf(assignment IN ('match', 'mismatch')),
            countIf(assignment = 'mismatch'), countIf(is_bot), {copies}
        FROM experiment_exposures WHERE {_OF_THE_DAY}
        GROUP BY {_VERSION}, excluded, group_name, minute, lateness
    """  # noqa: S608


def late_exposures(late_ms: int) -> str:
    """Return the question whether any exposure of the day is as late as a copy must be."""
    return f"SELECT count() FROM (SELECT 1 FROM exposures WHERE {_OF_THE_DAY} AND lateness_ms >= {late_ms} LIMIT 1)"  # noqa: S608
