"""The one thread in which the lander talks to the store, so that the event loop goes on beating."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clickhouse_connect.driver.client import Client

from schemas.store import StoreAddress

T = TypeVar("T")


class StoreThread:
    """Runs questions and inserts one after the other on one client."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="lander-store")
        self._client: Client | None = None

    async def run(self, call: Callable[[Client], T]) -> T:
        """Call with an open client. Raises what `call` raises, ClickHouseError and OSError.

        After an error the client is replaced: the embedded engine may hand what a failed query had
        written to the next question of the same client (chDB 4.4).
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._call, call)

    def _call(self, call: Callable[[Client], T]) -> T:
        if self._client is None:
            self._client = self.address.connect()
        try:
            return call(self._client)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def close(self) -> None:
        """Wait for the call under way and close the client."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()
