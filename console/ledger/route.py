"""`/api/ledger`: the balance of a window, computed anew for everyone who asks."""

import asyncio
import time
from typing import Any, Final

from aiokafka.errors import KafkaError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.ledger.balance import Balance, Coordinate, Counts, Gap
from console.ledger.landed import landed_of
from console.ledger.log import read_log
from console.ledger.weigh import slices, weigh
from console.questions import iso_s, window_s
from console.store_pool import StorePool
from schemas.kafka import KafkaConnection
from schemas.ledger import MINUTE_MS, LedgerError
from schemas.topics import RAW_DAYS

_ANSWER_S: Final = 120.0
_WAITING_MAX: Final = 8


class LedgerRoute:
    """Weighs one window at a time. Nothing is shared: whoever asks again wants to know what is so now."""

    def __init__(self, kafka: KafkaConnection, store: StorePool) -> None:
        self._kafka = kafka
        self._store = store
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def show(self, request: Request) -> Response:
        """Answer a request."""
        if unknown := set(request.query_params) - {"window"}:
            raise RefusedError(
                400, "unknown_parameter", f"There is no parameter {min(unknown)[:60]!r}.", "There is window."
            )
        window = request.query_params.get("window") or "1h"
        length_s = window_s(window)
        if length_s > RAW_DAYS * 86_400:
            raise RefusedError(
                400, "window_too_wide", f"window={window} is longer than the log is kept.", f"At most {RAW_DAYS}d."
            )
        if self._waiting >= _WAITING_MAX:
            raise RefusedError(503, "overloaded", "Too many ask for the ledger at once.", "Ask again in a moment.")
        self._waiting += 1
        try:
            async with self._turn, asyncio.timeout(_ANSWER_S):
                return json_answer(await self._balance(window, length_s))
        except TimeoutError as error:
            raise RefusedError(
                503, "log_unavailable", "Kafka does not answer in time.", "See that it runs, or shorten the window."
            ) from error
        except (KafkaError, OSError) as error:
            raise RefusedError(
                503,
                "log_unavailable",
                f"Kafka at {self._kafka.bootstrap} cannot be asked: {error}",
                "See that it runs and that HEADRACE_KAFKA_BOOTSTRAP names it.",
            ) from error
        except LedgerError as error:
            raise RefusedError(
                503,
                "ledger_unreadable",
                f"{error}.",
                "Upgrade the console (it goes before the worker), or see who else writes to the topic.",
            ) from error
        finally:
            self._waiting -= 1

    async def _balance(self, window: str, length_s: int) -> dict[str, Any]:
        now_s = time.time()
        since_minute = int(now_s - length_s) // 60
        since_ms = since_minute * MINUTE_MS
        # Asked first, so that a store that is away is said at once, and also when nothing was accepted.
        await landed_of(self._store, Coordinate(0, 0, 0), 0, since_ms)
        side = await read_log(self._kafka, since_ms)
        balance = Balance(since_minute)
        # In threads, because the lander may share this process, and a wide window takes seconds.
        parts = slices(side)
        while chunks := await asyncio.to_thread(next, parts, None):
            first, last = chunks[0].at, chunks[-1].at
            landed = await landed_of(self._store, first, last.offset, since_ms)
            await asyncio.to_thread(weigh, balance, side, chunks, landed)
        return answer(balance, window, now_s, since_minute)


def answer(balance: Balance, window: str, now_s: float, since_minute: int) -> dict[str, Any]:
    """Return the body of the answer."""
    return {
        "at": iso_s(now_s),
        "window": window,
        "since": iso_s(since_minute * 60),
        "balanced": balance.is_balanced,
        "totals": _counts(balance.totals()),
        "dead_reasons": dict(sorted(balance.dead_reasons.items())),
        "flaws": {flaw.value: count for flaw, count in balance.flaws.items()},
        "gaps": [_gap(gap) for gap in balance.gaps],
        "lines": [
            {
                "project": project,
                "environment": environment,
                "key_id": key_id,
                "minute": _moment(minute),
                **_counts(counts),
            }
            for (project, environment, key_id, minute), counts in sorted(balance.lines.items())
        ],
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "accepted": counts.accepted,
        "landed": counts.landed,
        "duplicate": counts.duplicate,
        "dead": counts.dead,
        "in_flight": counts.in_flight,
        "missing": counts.missing,
    }


def _gap(gap: Gap) -> dict[str, Any]:
    run = gap.run
    return {
        "flaw": gap.flaw.value,
        "range": str(gap),
        "log": gap.at.log,
        "partition": gap.at.partition,
        "offset": gap.at.offset,
        "first_index": gap.first,
        "last_index": gap.last,
        "project": run.project if run else None,
        "environment": run.environment if run else None,
        "key_id": run.key_id if run else None,
        "minute": _moment(run.minute) if run else None,
    }


_LAST_MINUTE: Final = 253_402_300_799 // 60


def _moment(minute: int) -> str:
    return iso_s(min(minute, _LAST_MINUTE) * 60)


def routes(kafka: KafkaConnection, store: StorePool) -> list[Route]:
    """Return the routes of this surface."""
    return [Route("/api/ledger", LedgerRoute(kafka, store).show)]
