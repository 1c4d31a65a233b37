"""Keeps the rollups of experiments as they should be, beside the lander.

It runs where the store is written (`headrace lander`, or `headrace store`), so that the console only reads. Nothing is
remembered between turns: what a day was made of stands beside it, so a restart goes on where the last one was
killed. Where several landers run, each would do the same; who sees that another was there just now waits.
"""

import asyncio
import contextlib
import time
from typing import Final

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from processors.landing.store_thread import StoreThread
from processors.rollups.roll import clean_up, end, new_token, seconds_since_last, turn
from schemas.metrics import RollupMetrics
from schemas.store import StoreAddress

log = structlog.get_logger()

EVERY_S: Final = 10.0
_FRESH_S: Final = 30.0
"""Numbers are to be no older, as long as that takes half of a core at the most."""
_REST: Final = 4
"""A day that takes longer rests so many times longer: a fifth of a core. `as_of` tells how old the numbers are."""


def rest_s(took_s: float, least_s: float) -> float:
    """Return how long to rest after a turn that took so long."""
    rest = _FRESH_S - took_s if 2 * took_s <= _FRESH_S < (1 + _REST) * took_s else _REST * took_s
    return max(least_s, rest)


class Roller:
    """Makes one day after the other. When the store is away it waits and says so."""

    def __init__(self, store: StoreAddress, metrics: RollupMetrics, every_s: float = EVERY_S) -> None:
        self._store = StoreThread(store)
        self._metrics = metrics
        self.registry = metrics.registry
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._token = new_token()
        self._is_turning = False
        self._goes_on = False

    async def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="rollups")

    async def stop(self) -> None:
        """Stop, and end the statement under way; the next start goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._is_turning:
            await asyncio.to_thread(self._end)
        await self._store.close()

    def readiness(self) -> dict[str, str]:
        """Return nothing: numbers that are old say so themselves, and landing goes on without them."""
        return {}

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._goes_on = await self._store.run(self._turn)
                self._metrics.failing.set(0)
            except (ClickHouseError, OSError) as error:
                self._goes_on = False
                self._metrics.failing.set(1)
                log.warning("rollups_disturbed", error=str(error)[:500])
            took = time.monotonic() - began
            await asyncio.sleep(rest_s(took, 0.0 if self._goes_on else self._every_s))

    def _turn(self, client: Client) -> bool:
        """Return whether a day was made, so that another may wait."""
        if not self._goes_on and seconds_since_last(client) < self._every_s / 2:
            return False
        self._is_turning = True
        try:
            clean_up(client)
            began = time.monotonic()
            day = turn(client, self._token)
        finally:
            self._is_turning = False
        if day is not None:
            self._metrics.days.inc()
            self._metrics.seconds.observe(time.monotonic() - began)
        return day is not None

    def _end(self) -> None:
        with contextlib.suppress(ClickHouseError, OSError), contextlib.closing(self._store.address.connect()) as client:
            end(client, self._token)
