"""What Faust 0.15.3 does wrong for us, and the measure against each.

Stock Faust skips records whenever it resumes after a rebalance, acknowledges what it skipped, and
recovers tables in ways that lose entries; measured on a real broker it lost 7,117 events in five
kills. With these measures the same design lost none in 144. The claims are therefore no Faust table
(`claims_log.py` reads them), and what is left of the faults is corrected here.
`docs/decisions/0002-faust.md` holds the evidence. The version is pinned exactly: each measure leans
on internals.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

log = structlog.get_logger()

_EMPTY_FETCH_PAUSE_S: Final = 0.05
_FETCH_POLL_S: Final = 0.005


class SnapshotConsumerThread(driver.AIOKafkaConsumerThread):
    """Measure b: fetches work on a snapshot of the active partitions, and are counted.

    The stock thread hands the live set by reference to a fetch that may be in flight. When recovery
    ends the set becomes empty, which aiokafka reads as "all partitions": source records are handed
    out, the position moves, and Faust drops them.
    """

    fetches_in_flight = 0

    async def _fetch_records(
        self, consumer: Any, active_partitions: Iterable[TP], timeout: Any = None, max_records: Any = None
    ) -> Any:
        wanted = frozenset(active_partitions)
        if not wanted:
            await asyncio.sleep(_EMPTY_FETCH_PAUSE_S)
            return {}
        self.fetches_in_flight += 1
        try:
            return await super()._fetch_records(consumer, wanted, timeout=timeout, max_records=max_records)
        finally:
            self.fetches_in_flight -= 1

    async def seek_to_processed(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Move to the committed offset of each partition, else to its beginning; return the offsets.

        Stock Faust seeks only where something was committed, so that a first start keeps whatever
        position a stray fetch has left. Raises IllegalStateError when a partition is no longer ours.
        """
        result: dict[TP, int] = await self.call_thread(self._seek_to_processed, list(partitions))
        return result

    async def _seek_to_processed(self, partitions: list[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        wanted = [driver.ensure_aiokafka_TP(tp) for tp in partitions]
        beginnings = await consumer.beginning_offsets(wanted)
        positions = {}
        for tp in wanted:
            committed = await consumer.committed(tp)
            positions[tp] = beginnings[tp] if committed is None else committed
            consumer.seek(tp, positions[tp])
        return {TP(tp.topic, tp.partition): offset for tp, offset in positions.items()}


class GaplessConsumer(driver.Consumer):
    """Measure a: a jump of the offset acknowledges nothing.

    The stock consumer counts a gap as processed, and commits past records it never saw. The raw
    topic has no holes (never compacted, never transactional), so a gap is always a mistake.
    """

    def _new_consumer_thread(self) -> SnapshotConsumerThread:
        return SnapshotConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        log.warning("offsets_jumped", topic=tp.topic, partition=tp.partition, first=offset_from, last=offset_to)


class MeasuredTransport(driver.Transport):
    """The transport whose consumer has the measures above."""

    Consumer = GaplessConsumer


class NoFoldersApp(faust.App):
    """Faust without its data folders: the stock app makes three wherever the process was started."""

    def _create_directories(self) -> None:
        """Make none; this app keeps nothing on disk."""


class NoWebBoot(BootStrategy):
    """`web_enabled=False` still starts a web server; health and metrics are on our admin port."""

    def web_server(self) -> Iterable[Any]:
        """Start none."""
        return []


class Recovery:
    """Measure c: nothing is processed before the index is rebuilt, and nothing is skipped then.

    The signal `on_rebalance_complete` is awaited between "partitions assigned" and "fetching
    resumed". It also runs for generations that are over by then; those are left to the next.
    """

    def __init__(self, app: faust.App, topic: str, rebuild: Callable[[set[int]], Awaitable[None]]) -> None:
        self._app = app
        self._topic = topic
        self._rebuild = rebuild
        self.generation = -1
        self.expected: dict[int, int] = {}

    async def on_rebalance_complete(self, *_: object, **__: object) -> None:
        """Rebuild the index of every assigned partition and seek to where processing must go on."""
        app = self._app
        generation = app.consumer_generation_id
        consumer = app.consumer
        partitions = {tp for tp in consumer.assignment() if tp.topic == self._topic}
        await self._rebuild({tp.partition for tp in partitions})
        consumer.stop_flow()
        thread = consumer._thread
        while thread.fetches_in_flight:  # noqa: ASYNC110 - counted in another thread, for milliseconds
            await asyncio.sleep(_FETCH_POLL_S)
        if app.consumer_generation_id != generation:
            return
        try:
            positions: Mapping[TP, int] = await thread.seek_to_processed(partitions)
        except IllegalStateError:
            log.info("recovery_overtaken_by_rebalance", generation=generation)
            return
        if app.consumer_generation_id != generation:
            return
        self.expected = {tp.partition: offset for tp, offset in positions.items()}
        self.generation = generation
        log.info("claims_recovered", generation=generation, expected=self.expected)


class SkippedRecordsError(Exception):
    """A record of the raw topic is missing before the one that arrived."""


class Guard:
    """Measure d: an event is processed only in its own generation, on its index, without a gap."""

    def __init__(self, app: faust.App, recovery: Recovery) -> None:
        self._app = app
        self._recovery = recovery

    def is_current(self, event: Any) -> bool:
        """Whether the event's generation is still the consumer's; acks of others must not count."""
        return bool(event.message.generation_id == self._app.consumer_generation_id)

    def admit(self, event: Any) -> None:
        """Accept the next event of its partition.

        Raises SkippedRecordsError when the index is not of this generation or records are missing:
        the process must end, and a restart recovers.
        """
        message = event.message
        recovery = self._recovery
        if recovery.generation != message.generation_id:
            raise SkippedRecordsError(
                f"the claims index is of generation {recovery.generation}, the record of {message.generation_id}"
            )
        expected = recovery.expected.get(message.partition)
        if expected is None or message.offset > expected:
            raise SkippedRecordsError(
                f"{message.topic}/{message.partition}: expected offset {expected}, got {message.offset}; where the "
                f"topic's retention has removed unprocessed records they are lost to Headrace, otherwise a restart "
                f"reads them"
            )
        if message.offset == expected:
            recovery.expected[message.partition] = expected + 1
