"""Endless queries, as many as a console takes: then nothing depends on when each of them began."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from support.console_process import PATIENCE_S, RunningConsole

from console.config import SqlLimits

PLACES = SqlLimits.concurrent + SqlLimits.waiting
TOO_MANY = 10
ENDLESS = "SELECT count() FROM system.numbers"


@dataclass
class Crowd:
    """What was asked, and by whom."""

    client: httpx.AsyncClient
    inside: list["asyncio.Task[httpx.Response]"]
    turned_away: list[httpx.Response]

    async def ask(self, query: str) -> httpx.Response:
        """Ask one more."""
        return await self.client.post("/api/sql", content=query.encode())


@asynccontextmanager
async def crowd(console: RunningConsole, count: int = PLACES + TOO_MANY) -> AsyncIterator[Crowd]:
    """Ask so many endless queries at once, and hang up at the end.

    Yields when those that find no place have been answered, and so all others are in.
    """
    async with httpx.AsyncClient(base_url=console.address, timeout=None, trust_env=False) as client:
        asked = [asyncio.create_task(client.post("/api/sql", content=ENDLESS.encode())) for _ in range(count)]
        try:
            answered: set[asyncio.Task[httpx.Response]] = set()
            async with asyncio.timeout(PATIENCE_S):
                while len(answered) < count - PLACES:
                    answered, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(0.02)
            inside = [each for each in asked if each not in answered]
            yield Crowd(client, inside, [each.result() for each in answered])
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
