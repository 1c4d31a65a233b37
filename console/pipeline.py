"""`/api/pipeline`: what flows, how far behind each stage is, and what has landed."""

import asyncio
import time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.fresh import Fresh
from console.log_watch import NOT_ASKED, LogWatch, rate
from console.questions import iso_s, rows
from console.store_pool import StorePool
from schemas.topics import CUSTOM_EVENTS, DEAD_LETTERS, EVENTS_RAW, EXPOSURES, LANDER_GROUP
from schemas.topics import WORKER_APP_ID as WORKER_GROUP

TABLES: Final = ("exposures", "custom_events")

_TOTAL: Final = "SELECT '{table}' AS table, count() AS rows FROM {table}"

# Bounded by received_at so that only the newest parts are read.
_LATELY: Final = """
    SELECT '{table}' AS table,
        toUnixTimestamp64Milli(max(landed_at)) AS last_landed_ms,
        countIf(landed_at > now64(3) - INTERVAL 1 MINUTE) AS last_minute,
        quantilesIf(0.5, 0.99)(toUnixTimestamp64Milli(landed_at) - toUnixTimestamp64Milli(received_at),
            landed_at > now64(3) - INTERVAL 1 MINUTE) AS delays_ms
    FROM {table} WHERE received_at > now64(3) - INTERVAL {minutes} MINUTE
"""
_DAYS_BACK: Final = 400 * 24 * 60


def _of_all_tables(statement: str, **values: Any) -> str:
    return " UNION ALL ".join(statement.format(table=table, **values) for table in TABLES)


async def _landed(store: StorePool) -> dict[str, Any]:
    """Return, per table, what there is and what came lately."""
    total = {row["table"]: int(row["rows"]) for row in await rows(store, _of_all_tables(_TOTAL))}
    lately = {row["table"]: row for row in await rows(store, _of_all_tables(_LATELY, minutes=10))}
    if any(total[table] and not lately[table]["last_landed_ms"] for table in TABLES):
        older = {row["table"]: row for row in await rows(store, _of_all_tables(_LATELY, minutes=_DAYS_BACK))}
        lately = {table: row if row["last_landed_ms"] else older[table] for table, row in lately.items()}
    landed = {}
    for table in TABLES:
        row = lately[table]
        p50, p99 = row["delays_ms"] if row["last_minute"] else (None, None)
        landed[table] = {
            "rows": total[table],
            "last_landed_at": iso_s(row["last_landed_ms"] / 1000) if row["last_landed_ms"] else None,
            "rows_last_minute": row["last_minute"],
            "delay_p50_ms": p50,
            "delay_p99_ms": p99,
        }
    return landed


def _log(watch: LogWatch) -> dict[str, Any]:
    """Return what the log says; nulls where it cannot be asked."""
    sample = watch.samples[-1] if watch.samples and not watch.trouble else None
    samples = watch.samples
    return {
        "state": "starting" if watch.trouble == NOT_ASKED else "unreachable" if watch.trouble else "ok",
        "message": watch.trouble,
        "events_per_s": rate(samples, EXPOSURES, CUSTOM_EVENTS) if sample else None,
        "exposures_per_s": rate(samples, EXPOSURES) if sample else None,
        "over_s": round(samples[-1].at_s - samples[0].at_s, 1) if sample else None,
        "lag": {
            "worker": {
                "records": sample.lag(WORKER_GROUP) if sample else None,
                "of": ", ".join(sample.raw) if sample else EVENTS_RAW,
                "group": WORKER_GROUP,
            },
            "lander": {
                "records": sample.lag(LANDER_GROUP) if sample else None,
                "of": f"{EXPOSURES}, {CUSTOM_EVENTS}",
                "group": LANDER_GROUP,
            },
        },
        "dead_letters": {topic: sample.kept(topic) if sample else None for topic in DEAD_LETTERS},
    }


def routes(store: StorePool, watch: LogWatch) -> list[Route]:
    """Return the routes of this surface."""
    shared: Fresh[dict[str, Any]] = Fresh(shared_s=1.0)

    async def show(_request: Request) -> Response:
        body: dict[str, Any] = {"at": iso_s(time.time()), "log": _log(watch)}
        try:
            async with asyncio.timeout(5):
                tables = await shared.get("landed", lambda: _landed(store))
            body |= {"store": {"state": "ok", "message": ""}, "tables": tables}
        except RefusedError as error:
            body |= {"store": {"state": error.reason, "message": f"{error.message} {error.remedy}"}, "tables": None}
        except TimeoutError:
            body |= {"store": {"state": "slow", "message": "The store has not answered for 5 s."}, "tables": None}
        return json_answer(body)

    return [Route("/api/pipeline", show)]
