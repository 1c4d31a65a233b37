"""Counting dead events in the store: one for each event, as its newest envelope says it stands. Pure: SQL as text."""

from collections.abc import Sequence
from typing import Final

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

# One row an event: its newest envelope. The gateway refuses each copy of an event, under an origin of its own,
# so events are told by their ids; what has none is told by its origin, or is itself.
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
    ) AS l GROUP BY if(l.event_id = '', l.origin, l.event_id)
"""  # noqa: S608 - our own words

_IDS: Final = "SELECT toFixedString(unhex(event_id), 16) FROM dead_letters WHERE length(event_id) = 32"
_LANDED: Final = (
    f"SELECT event_id FROM exposures WHERE event_id_bytes IN ({_IDS}) UNION ALL "  # noqa: S608
    f"SELECT event_id FROM custom_events WHERE event_id_bytes IN ({_IDS})"
)


def groups(where: str, by: Sequence[str], *, landed_too: bool) -> str:
    """Return the question for counts of events by `by`, keys of `GROUPINGS`: those dead now, or landed as well.

    `where` is a condition on what an event's newest envelope says.
    """
    keys = ", ".join(f"{GROUPINGS[name]} AS by_{name}" for name in by)
    having = "" if landed_too else "HAVING dead > 0"
    return (
        f"SELECT {keys}, countIf(NOT is_landed) AS dead, countIf(is_landed) AS landed, "  # noqa: S608
        "toString(min(first_failed_at)) AS first, toString(max(last_failed_at)) AS last, any(blame) AS class, "
        "argMin(if(event_id = '', origin, event_id), is_landed) AS sample, argMin(message, is_landed) AS said "
        f"FROM (SELECT *, event_id IN ({_LANDED}) AS is_landed FROM ({_EVENTS})) WHERE {where} "
        f"GROUP BY {', '.join(f'by_{name}' for name in by)} {having} ORDER BY dead DESC, landed DESC LIMIT 1000"
    )
