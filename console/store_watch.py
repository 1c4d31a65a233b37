"""Whether the store answers, asked every few seconds."""

import asyncio
from contextlib import suppress
from typing import Final

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from console.answers import RefusedError
from console.store_pool import StorePool

log = structlog.get_logger()

EVERY_S: Final = 5.0
_ANSWER_S: Final = 5.0


class StoreWatch:
    """Keeps why the store cannot be asked, for `readiness`."""

    def __init__(self, store: StorePool) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None
        self.trouble = "the store has not answered yet"

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._run(), name="store-watch")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            trouble = await self._asked()
            if trouble and trouble != self.trouble:
                log.warning("store_unreachable", error=trouble)
            self.trouble = trouble
            await asyncio.sleep(1.0 if trouble else EVERY_S)

    async def _asked(self) -> str:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._store.ask(lambda client: client.raw_query("SELECT 1 FORMAT TSV"))
        except RefusedError as error:
            return f"{error.message} {error.remedy}"
        except ClickHouseError as error:
            return str(error)[:300]
        except TimeoutError:
            return f"the store has not answered for {_ANSWER_S:g} s"
        return ""
