"""`/api/erasures`: one unit taken out of every table, or counted there.

Which tables hold units is read from their columns, so that a table that came later is not forgotten.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.shadow import WRITING, body_of
from console.store_pool import OWN, StorePool

_USER_ID: Final = "userID"
_STABLE_ID: Final = "stableID"
_LANDING: Final = ("exposures", "custom_events")
_LETTERS: Final = "dead_letters"
_NAME_CHARS: Final = 1_000

# Tables in which a rollup is being made are gone in a moment, and are made of those that are searched.
_TABLES: Final = """
    SELECT table, groupArray(name) FROM system.columns
    WHERE database = currentDatabase() AND default_kind != 'ALIAS' AND table IN (
        SELECT name FROM system.tables
        WHERE database = currentDatabase() AND endsWith(engine, 'MergeTree') AND NOT startsWith(name, 'rollup_'))
    GROUP BY table ORDER BY table
"""
_ORIGINS: Final = "origin_log, origin_partition, origin_offset, origin_index, origin_part, received_at"

_BLANK: Final = "original = '', request = '', headers = map(), unit_id = '', message = 'erased'"
"""Of a dead letter. Its row stays: it is counted, and says how far the landing of dead letters is."""


class Asked(NamedTuple):
    """The unit, and before when (ms since the epoch) its events were received; `erasure` names what is done."""

    project: str
    unit_type: str
    unit_id: str
    before_ms: int
    erasure: str


def condition(table: str, columns: frozenset[str], asked: Asked) -> str:
    """Return which rows of a table are of the unit, as SQL; "" where the table holds no units."""
    unit_type, unit_id = _literal(asked.unit_type), _literal(asked.unit_id)
    found = []
    if {"unit_type", "unit_id"} <= columns:
        found.append(f"(unit_type = {unit_type} AND unit_id = {unit_id})")
    elif "unit_id" in columns:
        found.append(f"unit_id = {unit_id}")
    if {"id_type", "id"} <= columns:
        found.append(f"(id_type = {unit_type} AND id = {unit_id})")
    if asked.unit_type == _USER_ID:
        found += [f"user_id = {unit_id}"] if "user_id" in columns else []
    if asked.unit_type == _STABLE_ID and "stable_id" in columns:
        found.append(f"stable_id = {unit_id}")
    if "custom_ids" in columns:
        found.append(f"custom_ids[{unit_type}] = {unit_id}")
    if table == _LETTERS:
        found += _in_letters(asked, unit_type, unit_id)
    if not found:
        return ""
    where = f"({' OR '.join(found)})"
    if "project" in columns:
        where += f" AND project = {_literal(asked.project)}"
    if "received_at" in columns:
        where += f" AND received_at < fromUnixTimestamp64Milli({asked.before_ms}, 'UTC')"
    return where


def _in_letters(asked: Asked, unit_type: str, unit_id: str) -> list[str]:
    if asked.unit_type == _USER_ID:
        return [f"JSONExtractString(original, 'user', 'userID') = {unit_id}"]
    found = [f"JSONExtractString(original, 'user', 'customIDs', {unit_type}) = {unit_id}"]
    if asked.unit_type == _STABLE_ID:
        found.append(f"JSONExtractString(request, 'statsigMetadata', 'stableID') = {unit_id}")
    return found


def _literal(text: str) -> str:
    return f"unhex('{text.encode('utf-8', 'surrogatepass').hex()}')"


def _tables(client: Client, asked: Asked) -> Iterator[tuple[str, str]]:
    for table, columns in client.query(_TABLES).result_rows:
        if where := condition(table, frozenset(columns), asked):
            yield table, where


def _count(client: Client, asked: Asked) -> dict[str, int]:
    return {table: _rows(client, table, where) for table, where in _tables(client, asked)}


def _rows(client: Client, table: str, where: str) -> int:
    if table == _LETTERS:
        where = f"({where}) AND message != 'erased'"
    return int(client.query(f"SELECT count() FROM {table} WHERE {where}").result_rows[0][0])  # noqa: S608


def _erase(client: Client, asked: Asked) -> dict[str, int]:
    removed = {}
    for table, where in _tables(client, asked):
        removed[table] = _rows(client, table, where)
        if not removed[table]:
            continue
        if table in _LANDING:
            # Before the rows go: whoever is cut off in between finds the origins twice, and they count once.
            client.command(
                f"INSERT INTO erased_origins ({_ORIGINS}, erasure) "  # noqa: S608
                f"SELECT {_ORIGINS}, {_literal(asked.erasure)} FROM {table} WHERE {where}"
            )
        change = f"UPDATE {_BLANK}" if table == _LETTERS else "DELETE"
        client.command(f"ALTER TABLE {table} {change} WHERE {where} SETTINGS mutations_sync = 2")
    if asked.unit_type == _USER_ID:
        _unlink(client, asked)
    return removed


def _unlink(client: Client, asked: Asked) -> None:
    """Let events of a device that were told to be the user's be the device's alone: they name the user nowhere else."""
    where = f"canonical_id = {_literal(asked.unit_id)} AND project = {_literal(asked.project)}"
    for table in _LANDING:
        if int(client.query(f"SELECT count() FROM {table} WHERE {where}").result_rows[0][0]):  # noqa: S608
            client.command(f"ALTER TABLE {table} UPDATE canonical_id = '' WHERE {where} SETTINGS mutations_sync = 2")


def _asked(given: dict[str, Any]) -> Asked:
    texts = [given.get(name) for name in ("project", "unit_type", "unit_id", "erasure")]
    before_ms = given.get("before")
    if not all(isinstance(text, str) and 0 < len(text) <= _NAME_CHARS for text in texts) or type(before_ms) is not int:
        raise RefusedError(400, "unreadable_body", "It names no unit.", "See /openapi.json.")
    project, unit_type, unit_id, erasure = map(str, texts)
    return Asked(project, unit_type, unit_id, before_ms, erasure)


def routes(store: StorePool) -> list[Route]:
    """Return the routes of this surface."""

    async def erase(request: Request) -> Response:
        """Take a unit out of every table, or count its rows."""
        given = await body_of(request)
        asked = _asked(given)
        counts = given.get("dry_run") is True
        try:
            if counts:
                rows = await store.ask(lambda client: _count(client, asked), OWN)
            else:
                rows = await store.ask(lambda client: _erase(client, asked), WRITING)
        except DatabaseError as error:
            raise RefusedError(
                503,
                "store_failed",
                f"The store answered with an error (code {error.code}).",
                "Erase again; what is gone is gone. Its log says why.",
            ) from error
        return json_answer({"rows": rows})

    return [Route("/api/erasures", erase, methods=["POST"])]
