"""One turn of the rollups: look what changed, make one day, put it in place."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from processors.rollups import statements
from processors.rollups.days import expected, gone, next_day
from schemas.limits import CLAIMS_WINDOW_MS

_SETTINGS: Final = {"max_threads": 1}
"""The pipeline comes first: a turn takes one core, and who calls it leaves pauses between."""

_COPY_LATE_MS: Final = CLAIMS_WINDOW_MS // 2
"""A copy comes after the claims window; its own clock may have been corrected, by less than half of that."""

_ABANDONED_S: Final = 3600

_ROWS: Final = """
    SELECT toDate(parseDateTimeBestEffort(partition)) AS day, sum(rows)
    FROM system.parts WHERE active AND database = currentDatabase() AND table = 'exposures' GROUP BY day
"""
_RULES: Final = """
    SELECT toDate(time), toString((project, name, time, rule_id, asks_gate)) FROM experiment_rules WHERE NOT is_arm
"""
_MADE: Final = "SELECT day, made_of FROM rollup_days FINAL WHERE made_of != ''"
_NOTE: Final = "INSERT INTO rollup_days SELECT {day:Date}, {made_of:String}, {as_of:DateTime64(3)}, now64(3)"
_SINCE: Final = "SELECT dateDiff('ms', max(made_at), now64(3)) / 1000 FROM rollup_days"
_ABANDONED: Final = """
    SELECT name FROM system.tables
    WHERE database = currentDatabase() AND match(name, '^rollup_[0-9a-f]{16}_')
        AND metadata_modification_time <= now() - {seconds:UInt32}
"""


def turn(client: Client, token: str = "") -> date | None:
    """Make the day that needs it most and return it; None when there is none. Raises clickhouse_connect's Error.

    A crash at any point leaves the day as it was or as it is to be in each table, and not noted: it is made
    again. Two that do it at the same time do the same. What takes long is told by `token`, see `end`.
    """
    as_of = _now(client)
    wanted = expected(_days(client), [(day, rule) for day, rule in client.query(_RULES).result_rows])
    made = {day: str(made_of) for day, made_of in client.query(_MADE).result_rows}
    for day in gone(wanted, made):
        for table in statements.TABLES:
            client.command(f"ALTER TABLE {table} DROP PARTITION '{day}'")
        _note(client, day, "", as_of)
    chosen = next_day(wanted, made)
    if chosen is None:
        if wanted:
            _note(client, max(wanted), wanted[max(wanted)], as_of)
        return None
    day, made_of = chosen
    _make(client, day, token or new_token())
    _note(client, day, made_of, as_of)
    return day


def new_token() -> str:
    """Return what tells one turn's tables and statements from any other's: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def end(client: Client, token: str) -> None:
    """End the statement that the turn with this token is at, from another client; the turn raises."""
    client.command(f"KILL QUERY WHERE startsWith(query, 'INSERT INTO rollup_{token}_') ASYNC")


def seconds_since_last(client: Client) -> float:
    """Return how long ago somebody has looked."""
    return float(client.query(_SINCE).result_rows[0][0])


def clean_up(client: Client, idle_s: int = _ABANDONED_S) -> None:
    """Drop what crashed turns have left behind, of which nothing was heard for `idle_s`."""
    for (name,) in client.query(_ABANDONED, parameters={"seconds": idle_s}).result_rows:
        client.command(f"DROP TABLE IF EXISTS {name} SYNC")


def _days(client: Client) -> dict[date, int]:
    return {day: int(rows) for day, rows in client.query(_ROWS).result_rows}


def _now(client: Client) -> Any:
    return client.query("SELECT toString(now64(3, 'UTC'))").result_rows[0][0]


def _note(client: Client, day: date, made_of: str, as_of: Any) -> None:
    client.command(_NOTE, parameters={"day": day, "made_of": made_of, "as_of": as_of})


def _make(client: Client, day: date, token: str) -> None:
    of_day = {"day": day}
    late = client.query(statements.late_exposures(_COPY_LATE_MS), parameters=of_day).result_rows[0][0]
    with _scratch(client, token):
        for statement in (
            statements.todays_units(token),
            statements.units(token),
            statements.counts_of_units(token),
            statements.checks(token, _COPY_LATE_MS, may_have_copies=bool(late)),
        ):
            client.command(statement, parameters=of_day, settings=_SETTINGS)
        for table, copy in zip(statements.TABLES, statements.scratch(token)[1:], strict=True):
            client.command(f"ALTER TABLE {table} REPLACE PARTITION '{day}' FROM {copy}")


@contextmanager
def _scratch(client: Client, token: str) -> Iterator[None]:
    try:
        for statement in statements.make_scratch(token):
            client.command(statement)
        yield
    finally:
        for name in statements.scratch(token):
            client.command(f"DROP TABLE IF EXISTS {name} SYNC")
