"""Faust's own consumer, conductor and stream, fed with records of our making and no broker.

What decides which records count as processed is driven here as it is: the loop that fetches, the
queue, the stream, acknowledgements, and the choice of offsets to commit. The start-up self-test runs
on it, and the tests that show what stock Faust does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import faust
from aiokafka.structs import ConsumerRecord
from faust.types import TP

TOPIC: Final = "rehearsal"
_PARTITION: Final = TP(TOPIC, 0)
_PATIENCE_S: Final = 10.0


class Rehearsal:
    """One stream over one partition; `delivered` are its events, in order."""

    def __init__(self, app: faust.App) -> None:
        self.app = app
        self.delivered: list[Any] = []
        self._batches: asyncio.Queue[list[int]] = asyncio.Queue()
        self._idle = asyncio.Event()

    def begin_generation(self, number: int, committed: int) -> None:
        """Assign the partition, committed up to `committed`."""
        consumer = self.app.consumer
        self.app.consumer_generation_id = number
        for state in (consumer._gap, consumer._acked, consumer._acked_index):
            state.pop(_PARTITION, None)
        consumer._committed_offset[_PARTITION] = committed or None
        consumer._read_offset[_PARTITION] = committed or None
        self.app.flow_control.resume()
        consumer.resume_flow()

    async def feed(self, *offsets: int) -> None:
        """Let the broker hand out records; return when Faust has asked for the next ones."""
        self._idle.clear()
        self._batches.put_nowait(list(offsets))
        await self._settle()

    async def feed_into_generation(self, number: int, *offsets: int) -> None:
        """Let records be fetched in the present generation, and reach the stream in the next."""
        self.app.flow_control.suspend()
        self._idle.clear()
        self._batches.put_nowait(list(offsets))
        await _some_turns()
        self.begin_generation(number, 0)
        await self._settle()

    async def _settle(self) -> None:
        await asyncio.wait_for(self._idle.wait(), _PATIENCE_S)
        await _some_turns()

    def committable(self) -> int | None:
        """Return the offset that would be committed now, None for none. Takes what it returns."""
        offset: int | None = self.app.consumer._filter_committable_offsets([_PARTITION]).get(_PARTITION)
        return offset

    async def _fetch(self, **_: object) -> dict[TP, list[ConsumerRecord]]:
        if self._batches.empty():
            self._idle.set()
        offsets = await self._batches.get()
        return {_PARTITION: [_record(offset) for offset in offsets]}


async def _some_turns() -> None:
    # From the fetch into the stream takes some turns of the loop, and no I/O.
    for _ in range(20):
        await asyncio.sleep(0)


def _record(offset: int) -> ConsumerRecord:
    return ConsumerRecord(TOPIC, _PARTITION.partition, offset, 0, 0, b"k", b"v", None, 1, 1, ())


@asynccontextmanager
async def rehearsing(
    app: faust.App, work: Callable[[Rehearsal, Any], Coroutine[Any, Any, None]]
) -> AsyncIterator[Rehearsal]:
    """Yield a rehearsal in generation 1 whose agent is `work(rehearsal, stream)`. `app` is never started."""
    rehearsal = Rehearsal(app)
    as_bytes = faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    stream = app.topic(TOPIC, schema=as_bytes).stream()
    consumer = app.consumer
    consumer._getmany = rehearsal._fetch
    consumer.highwater = lambda _: 0
    tasks = [asyncio.create_task(work(rehearsal, stream))]
    try:
        while not app.topics._topics:  # noqa: ASYNC110 - the stream names its topic within some turns of the loop
            await asyncio.sleep(0)
        consumer._set_active_tps({_PARTITION})
        await app.topics._update_indices()
        await app.topics.on_partitions_assigned({_PARTITION})
        rehearsal.begin_generation(1, 0)
        tasks.append(asyncio.create_task(consumer._drain_messages(consumer)))
        yield rehearsal
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Faust makes the loop of its consumer's thread before the thread is started.
        consumer._thread.thread_loop.close()
