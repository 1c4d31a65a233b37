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
_FIRST: Final = "(exposed_at, received_at, origin_log, origin_partition, origin_offset, origin_index, origin_part)"


def scratch(token: str) -> tuple[str, ...]:
    """Return the names of a turn's own tables: that of the day's units, and one for each of `TABLES`."""
    return (f"rollup_{token}_today", *(f"rollup_{token}_{table}" for table in TABLES))


def make_scratch(token: str) -> list[str]:
    """Return what makes them."""
    today, *copies = scratch(token)
    columns = """
        day Date, project LowCardinality(String), environment LowCardinality(String),
        experiment LowCardinality(String), config_version LowCardinality(String), version_time DateTime64(3, 'UTC'),
        unit_key FixedString(16), unit_type LowCardinality(String), unit_id String,
        first Tuple(group_name String, rule_id String, layer String, sdk_type String, sdk_version String,
            country String, app_version String, exposed_at DateTime64(3, 'UTC'), late_ms Int64),
        received_at DateTime64(3, 'UTC'), arms Array(String)
    """
    return [
        f"CREATE TABLE {today} ({columns}) ENGINE = MergeTree ORDER BY unit_key",
        *(f"CREATE TABLE {copy} AS {table}" for copy, table in zip(copies, TABLES, strict=True)),
    ]


def todays_units(token: str) -> str:
    """Return what finds the units of the day with the first of their exposures and the groups they were in."""
    today, *_ = scratch(token)
    return f"""
        INSERT INTO {today}
        SELECT {{day:Date}}, {_VERSION},
            sipHash128(project, environment, experiment, unit_type, unit_id) AS unit_key, unit_type, unit_id,
            argMin((arm, rule_id, layer, sdk_type, sdk_version, country, app_version, exposed_at,
                dateDiff('ms', exposed_at, received_at)), {_FIRST}),
            min(received_at), groupUniqArray(2)(arm)
        FROM experiment_exposures AS e
        WHERE {_OF_THE_DAY} AND excluded = ''
        GROUP BY {_VERSION}, unit_type, unit_id
    """  # noqa: S608 - our own words, here and below


def units(token: str) -> str:
    """Return what compares them with the days before: who is new, and who is in another group now."""
    today, copy, *_ = scratch(token)
    return f"""
        INSERT INTO {copy}
        WITH
            before AS (
                SELECT unit_key AS b_key,
                    groupArray((toString(config_version), version_time, what = 'first', toString(group_name))) AS seen
                FROM exposed_units WHERE day < {{day:Date}} AND unit_key IN (SELECT unit_key FROM {today})
                GROUP BY unit_key
            ),
            several AS (
                SELECT unit_key AS s_key, count() AS versions,
                    min((first.exposed_at, received_at, version_time, toString(config_version))) AS earliest
                FROM {today} GROUP BY unit_key HAVING versions > 1
            )
        SELECT
            day, {_VERSION}, arrayJoin(happened) AS what,
            what = 'first' AND empty(seen) AND (versions = 0
                OR earliest = (first.exposed_at, received_at, version_time, toString(config_version))) AS is_newcomer,
            unit_key, unit_type, unit_id, first_group AS group_name, first.rule_id, first.layer, first.exposed_at,
            first.late_ms, received_at, first.sdk_type, first.sdk_version, first.country, first.app_version
        FROM (
            SELECT *,
                arrayFilter(was -> was.1 = config_version AND was.2 = version_time, seen) AS own,
                arrayExists(was -> was.3, own) AS is_known,
                if(is_known, arrayFirst(was -> was.3, own).4, first.group_name) AS first_group,
                arrayConcat(
                    if(is_known, [], ['first']),
                    if(NOT arrayExists(was -> NOT was.3, own) AND arrayExists(arm -> arm != first_group, arms),
                        ['crossed'], [])
                ) AS happened
            FROM {today} AS t
            LEFT ANY JOIN before ON b_key = unit_key
            LEFT ANY JOIN several ON s_key = unit_key
        )
        WHERE notEmpty(happened)
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
        SELECT {head}, part.1, part.2, group_name, layer, toStartOfHour(received_at) AS minute, {numbers}
        FROM {source} ARRAY JOIN {segments} AS part
        WHERE what = 'first' AND trimBoth(part.2) != '' GROUP BY ALL
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
