"""What `list` and `show` ask of the table `dead_letters`. Pure: SQL as text."""

from collections.abc import Sequence
from typing import Final

from ops.dlq.choose import Choice, quoted

GROUPINGS: Final = {
    "reason": "reason",
    "stage": "stage",
    "project": "project",
    "environment": "environment",
    "event": "event_name",
    "code": "code_version",
    "sdk": "sdk_type",
    "hour": "formatDateTime(toStartOfHour(last_failed_at), '%Y-%m-%dT%H:00Z')",
}
"""What dead letters can be grouped by, and the column that it is."""

_AGE: Final = "(l.attempt, l.last_failed_at, l.dlq_offset)"
_NEWEST: Final = (
    "stage", "reason", "blame", "message", "project", "environment", "event_name", "experiment", "code_version",
    "sdk_type", "sdk_version", "unit_id", "attempt",
)  # fmt: skip

# One row an event: its newest envelope, and the place of its first. What has no origin is itself.
_EVENTS: Final = f"""
    SELECT {", ".join(f"argMax(l.{name}, {_AGE}) AS {name}" for name in _NEWEST)},
        min(l.first_failed_at) AS first_failed_at, max(l.last_failed_at) AS last_failed_at,
        any(l.event_id) AS event_id, any(origin) AS origin
    FROM (
        SELECT *, if(has_origin,
            concat(toString(origin_log), '/', toString(origin_partition), '/', toString(origin_offset), '/',
                toString(origin_index), if(origin_part = 0, '', concat('.', toString(origin_part)))),
            concat('dlq.', stage, '/', toString(dlq_partition), '/', toString(dlq_offset))) AS origin
        FROM dead_letters FINAL
    ) AS l GROUP BY l.origin
"""  # noqa: S608 - our own words

_IDS: Final = "SELECT toFixedString(unhex(event_id), 16) FROM dead_letters WHERE length(event_id) = 32"
_LANDED: Final = (
    f"SELECT event_id FROM exposures WHERE event_id_bytes IN ({_IDS}) UNION ALL "  # noqa: S608
    f"SELECT event_id FROM custom_events WHERE event_id_bytes IN ({_IDS})"
)


def groups(choice: Choice, by: Sequence[str], *, landed_too: bool) -> str:
    """Return the question for counts of events by `by`, keys of `GROUPINGS`: those dead now, or landed as well."""
    keys = ", ".join(f"{GROUPINGS[name]} AS by_{name}" for name in by)
    having = "" if landed_too else "HAVING dead > 0"
    return (
        f"SELECT {keys}, countIf(NOT is_landed) AS dead, countIf(is_landed) AS landed, "  # noqa: S608
        "toString(min(first_failed_at)) AS first, toString(max(last_failed_at)) AS last, any(blame) AS class, "
        "anyIf(if(event_id = '', origin, event_id), NOT is_landed OR 1) AS sample, any(message) AS said "
        f"FROM (SELECT *, event_id IN ({_LANDED}) AS is_landed FROM ({_EVENTS})) WHERE {choice.where()} "
        f"GROUP BY {', '.join(f'by_{name}' for name in by)} {having} ORDER BY dead DESC, landed DESC LIMIT 1000"
    )


def one(name: str) -> str:
    """Return the question for all envelopes of an event, by its id, its origin or the place of its dead letter."""
    place = name.removeprefix("dlq.").split("/")
    if len(place) == 3 and place[1].isdigit() and place[2].isdigit():
        condition = f"stage = {quoted(place[0])} AND dlq_partition = {place[1]} AND dlq_offset = {place[2]}"
    elif "/" in name:
        log, partition, offset, rest = (*name.split("/"), "", "", "")[:4]
        index, _, part = rest.partition(".")
        numbers = (log, partition, offset, index, part or "0")
        columns = ("origin_log", "origin_partition", "origin_offset", "origin_index", "origin_part")
        condition = " AND ".join(
            ["has_origin", *(f"{column} = {int(number)}" for column, number in zip(columns, numbers, strict=True))]
        )
    else:
        condition = f"event_id = {quoted(name.lower())}"
    return f"SELECT * FROM dead_letters FINAL WHERE {condition} ORDER BY attempt, last_failed_at LIMIT 100"  # noqa: S608
