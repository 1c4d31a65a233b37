"""Many that wait for the disk share one commit: a sync takes as long for a hundred records as for one."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

import structlog

from ingest.durability import Lane
from ingest.outbox import LaneContents, Outbox, Row
from schemas.metrics import GatewayMetrics

log = structlog.get_logger()

T = TypeVar("T")

_PROBE_S: Final = 1.0


class OutboxRefusedError(Exception):
    """The outbox did not take or find what it should; the message says why."""


class _Asked(NamedTuple):
    rows: Sequence[Row]
    gone: Sequence[int]
    done: asyncio.Future[None]


class GroupCommit:
    """The outbox as the event loop sees it, bounded in bytes. Its file is touched in one thread only.

    After an error of the disk nothing is taken until a probe, tried every second, has gone through.
    """

    def __init__(self, outbox: Outbox, max_bytes: int, metrics: GatewayMetrics) -> None:
        self._outbox = outbox
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, "outbox")
        self._asked: list[_Asked] = []
        self._committing: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._held_bytes = 0
        self._wanted_bytes = 0  # 0: nothing was refused for want of room
        self._oldest_ms = 0
        self.disk_error = ""
        metrics.spill_oldest_seconds.set_function(self._oldest_s)

    @property
    def is_full(self) -> bool:
        """Whether what was refused last for want of room would be refused again."""
        return self._wanted_bytes > 0 and self._held_bytes + self._wanted_bytes > self._max_bytes

    @property
    def problem(self) -> str:
        """Why nothing can be put, "" when it can."""
        if self.disk_error:
            return f"the spill in {self._outbox.folder} fails: {self.disk_error}; look at the disk"
        if self.is_full:
            return (
                f"the spill in {self._outbox.folder} holds {self._held_bytes} bytes of {self._max_bytes}; "
                "it empties when Kafka is back, HEADRACE_SPILL_MAX_BYTES allows more"
            )
        return ""

    async def start(self) -> list[LaneContents]:
        """Return what waits from an earlier life. Raises sqlite3.Error."""
        found = await self._in_thread(self._outbox.contents)
        self._held_bytes = sum(contents.size_bytes for contents in found)
        self._metrics.spill_chunks.set(sum(contents.rows for contents in found))
        self._metrics.spill_bytes.set(self._held_bytes)
        await self._note_oldest()
        return found

    async def stop(self) -> None:
        """Finish the commit under way and let the folder go."""
        if self._probing is not None:
            self._probing.cancel()
        while self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)
        await self._in_thread(self._outbox.close)
        self._thread.shutdown()

    async def put(self, rows: Sequence[Row]) -> None:
        """Return when the disk has the rows. Raises OutboxRefusedError; then it has none of them."""
        size = sum(len(row.value) for row in rows)
        if self.disk_error:
            raise OutboxRefusedError(self.problem)
        if self._held_bytes + size > self._max_bytes:
            if not self.is_full:
                log.error("spill_full", held_bytes=self._held_bytes, max_bytes=self._max_bytes)
            self._wanted_bytes = size
            raise OutboxRefusedError(self.problem)
        self._held_bytes += size
        try:
            await self._commit(rows, ())
        except OutboxRefusedError:
            self._held_bytes -= size
            raise
        self._oldest_ms = self._oldest_ms or rows[0].spilled_ms
        self._metrics.spilled_chunks.inc(len(rows))
        self._metrics.spill_chunks.inc(len(rows))
        self._metrics.spill_bytes.set(self._held_bytes)

    async def delete(self, rows: Sequence[Row]) -> None:
        """Return when the rows are gone for good. Raises OutboxRefusedError."""
        await self._commit((), [row.id for row in rows])
        self._held_bytes -= sum(len(row.value) for row in rows)
        self._metrics.spill_chunks.dec(len(rows))
        self._metrics.spill_bytes.set(self._held_bytes)
        await self._note_oldest()

    async def read(self, lane: Lane, last_id: int, size_bytes: int) -> list[Row]:
        """Return the first rows of a lane, see `Outbox.read`. Raises OutboxRefusedError."""
        try:
            return await self._in_thread(lambda: self._outbox.read(lane, last_id, size_bytes))
        except sqlite3.Error as error:
            self._fail(error)
            raise OutboxRefusedError(self.problem) from error

    async def _commit(self, rows: Sequence[Row], gone: Sequence[int]) -> None:
        asked = _Asked(rows, gone, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(), name="outbox:commit")
        # Whoever waits may go away; what it asked for is done or fails all the same.
        await asyncio.shield(asked.done)

    async def _commit_all(self) -> None:
        try:
            while self._asked:
                group, self._asked = self._asked, []
                failure = await self._commit_group(group)
                for asked in group:
                    if failure is None:
                        asked.done.set_result(None)
                    else:
                        asked.done.set_exception(failure)
                        asked.done.exception()  # somebody may have gone away without waiting for it
        finally:
            self._committing = None

    async def _commit_group(self, group: Sequence[_Asked]) -> OutboxRefusedError | None:
        rows = [row for asked in group for row in asked.rows]
        gone = [row_id for asked in group for row_id in asked.gone]
        began_s = time.perf_counter()
        try:
            await self._in_thread(lambda: self._outbox.commit(rows, gone))
        except sqlite3.Error as error:
            self._fail(error)
            return OutboxRefusedError(self.problem)
        finally:
            self._metrics.spill_commit_seconds.observe(time.perf_counter() - began_s)
        return None

    async def _note_oldest(self) -> None:
        try:
            self._oldest_ms = await self._in_thread(self._outbox.oldest_ms)
        except sqlite3.Error as error:
            self._fail(error)

    def _oldest_s(self) -> float:
        return time.time() - self._oldest_ms / 1000 if self._oldest_ms else 0.0

    def _fail(self, error: sqlite3.Error) -> None:
        if not self.disk_error:
            log.error("spill_failed", folder=str(self._outbox.folder), error=str(error))
        self.disk_error = str(error)
        self._metrics.spill_errors.inc()
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe(), name="outbox:probe")

    async def _probe(self) -> None:
        while self.disk_error:
            await asyncio.sleep(_PROBE_S)
            try:
                await self._in_thread(self._outbox.probe)
            except sqlite3.Error as error:
                self.disk_error = str(error)
            else:
                self.disk_error = ""
                log.info("spill_works_again", folder=str(self._outbox.folder))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
