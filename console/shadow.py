"""`/api/shadow`: the tables that a replay lands in to be compared, emptied and put in the place of the others.

A partition of a table is a day of receipt, and takes another's place in one step of the engine: whoever
reads sees the day as it was or as it is.
"""

import re
from typing import Any, Final

import orjson
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import JSON, RefusedError, json_answer
from console.store_pool import Profile, StorePool

TABLES: Final = ("exposures", "custom_events")

WRITING: Final = Profile("writing", (("max_execution_time", 600), ("mutations_sync", 2)))
"""What the few statements of ours run under that change something."""

_BODY_BYTES: Final = 64 * 1024
_DAY: Final = re.compile(r"[0-9]{8}", re.ASCII)
_DAYS_MAX: Final = 400

_STATE: Final = (
    "SELECT count(), toUnixTimestamp64Milli(max(landed_at)) FROM {table} WHERE toYYYYMMDD(received_at) = {day}"
)


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request that changes something.

    Its content type must say so: a page of somebody else cannot send that without being let in. Raises
    RefusedError (400, 415).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise RefusedError(415, "not_json", "The body is not said to be JSON.", f"Send Content-Type: {JSON}.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES:
            break
    try:
        if len(body) <= _BODY_BYTES and isinstance(given := orjson.loads(body), dict):
            return given
    except ValueError:
        pass
    raise RefusedError(400, "unreadable_body", "The body is no JSON object.", "See /openapi.json.")


class ShadowRoutes:
    """Changes the shadow tables, and by them the others."""

    def __init__(self, store: StorePool) -> None:
        self._store = store

    async def reset(self, request: Request) -> Response:
        """Make the shadow tables anew, empty and with the columns that the tables have now."""
        await body_of(request)
        await self._store.ask(_reset, WRITING)
        return json_answer({"tables": [f"shadow_{table}" for table in TABLES]})

    async def swap(self, request: Request) -> Response:
        """Put days of the shadow tables in the place of the tables' own, which `retired_…` keep."""
        given = await body_of(request)
        days: Any = given.get("days")
        expected: Any = given.get("expected")
        is_known = isinstance(days, list) and isinstance(expected, dict) and 0 < len(days) <= _DAYS_MAX
        if not is_known or not all(isinstance(day, str) and _DAY.fullmatch(day) for day in days):
            raise RefusedError(400, "unreadable_body", "It names no days.", "See /openapi.json.")
        try:
            return json_answer(await self._store.ask(lambda client: _swap(client, days, expected), WRITING))
        except DatabaseError as error:
            raise RefusedError(
                503,
                "store_failed",
                f"The store answered with an error (code {error.code}) while days were swapped.",
                "Swap again: what was swapped stays as it is. Its log says why.",
            ) from error


def state_statement(table: str, day: str) -> str:
    """Return the question for how many rows a day has, and when the last of them landed."""
    return _STATE.format(table=table, day=day)


def _reset(client: Client) -> None:
    for table in TABLES:
        client.command(f"CREATE OR REPLACE TABLE shadow_{table} AS {table}")


def _swap(client: Client, days: list[str], expected: dict[str, Any]) -> dict[str, Any]:
    rows: dict[tuple[str, str], int] = {}
    for table in (*TABLES, *(f"shadow_{table}" for table in TABLES)):
        for day in days:
            now = [int(value) for value in client.query(state_statement(table, day)).result_rows[0]]
            if now != expected.get(table, {}).get(day):
                raise RefusedError(
                    409, "changed", f"{table} has changed on {day} since it was compared.", "Compare once more."
                )
            rows[table, day] = now[0]
    for table in TABLES:
        client.command(f"CREATE OR REPLACE TABLE retired_{table} AS {table}")
        for day in days:
            # The engine refuses to replace by nothing.
            if rows[table, day]:
                client.command(f"ALTER TABLE retired_{table} REPLACE PARTITION {day} FROM {table}")
            if rows[f"shadow_{table}", day]:
                client.command(f"ALTER TABLE {table} REPLACE PARTITION {day} FROM shadow_{table}")
    return {"swapped": days}


def routes(store: StorePool) -> list[Route]:
    """Return the routes of this surface."""
    shadow = ShadowRoutes(store)
    return [
        Route("/api/shadow/reset", shadow.reset, methods=["POST"]),
        Route("/api/shadow/swap", shadow.swap, methods=["POST"]),
    ]
