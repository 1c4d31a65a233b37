"""One reader of the log for all viewers: reads and decodes once, and only while somebody watches."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from console.live.decode import Exposure, UnreadableRecordError, decode
from console.live.positions import Positions
from console.live.viewer import Viewer
from schemas.kafka import KafkaConnection
from schemas.metrics import ConsoleMetrics
from schemas.topics import EXPOSURES

log = structlog.get_logger()

GATHER_S: Final = 0.04
"""Records are gathered this long before they are decoded together: fewer wake-ups under load."""

DECODED_MAX: Final = 250
"""Of one gathering, this many are decoded at the most: 6,000 a second, at 45 µs each."""

_FETCH_WAIT_MS: Final = 100
_QUIET_S: Final = 3.0
_ANSWER_S: Final = 5.0
_RETRY_S: Final = 1.0
_LINGER_S: Final = 5.0
"""A reader without viewers waits this long: a page that is loaded again finds it connected."""


class NoSuchTopicError(Exception):
    """The topic has not been made yet."""


class Hub:
    """Follows the topic `exposures` from its end and hands every batch to every viewer."""

    def __init__(self, kafka: KafkaConnection, metrics: ConsoleMetrics) -> None:
        self._kafka = kafka
        self._metrics = metrics
        self._viewers: set[Viewer] = set()
        self._waiting: dict[Viewer, asyncio.Future[Positions]] = {}
        self._wanted = asyncio.Event()
        self._positions: Positions = {}
        self._task: asyncio.Task[None] | None = None
        self._is_hanging_up = False
        self.trouble = ""
        """Why nothing can be read, empty when it can or nobody asked yet."""

    def start(self) -> None:
        """Begin to wait for viewers."""
        self._task = asyncio.create_task(self._run(), name="live-hub")

    async def stop(self) -> None:
        """End every stream and let go of the log."""
        self.hang_up()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def hang_up(self) -> None:
        """End every stream, and those that are opened from now on."""
        self._is_hanging_up = True
        for viewer in (*self._viewers, *self._waiting):
            viewer.close()

    @property
    def viewer_count(self) -> int:
        """How many watch."""
        return len(self._viewers) + len(self._waiting)

    def join(self, viewer: Viewer) -> asyncio.Future[Positions]:
        """Add a viewer; the future tells, once the log can be read, from where on it is handed everything."""
        joined: asyncio.Future[Positions] = asyncio.get_running_loop().create_future()
        self._waiting[viewer] = joined
        if self._is_hanging_up:
            viewer.close()
        self._metrics.viewers.set(self.viewer_count)
        if self.trouble:
            viewer.notify("status", {"state": "waiting", "message": self.trouble})
        self._wanted.set()
        return joined

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer."""
        self._viewers.discard(viewer)
        self._waiting.pop(viewer, None)
        self._metrics.viewers.set(self.viewer_count)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._read_while_watched()
            except (KafkaError, OSError, TimeoutError, NoSuchTopicError) as error:
                self._in_trouble(error)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                log.exception("live_stream_failed")
                self._in_trouble(RuntimeError("the console failed; its log says why"))
                await asyncio.sleep(_RETRY_S)

    def _in_trouble(self, error: Exception) -> None:
        trouble = str(error) or type(error).__name__
        if trouble != self.trouble:
            log.warning("live_stream_waits", error=trouble)
            self._tell({"state": "waiting", "message": trouble})
        self.trouble = trouble

    def _tell(self, status: dict[str, str]) -> None:
        for viewer in (*self._viewers, *self._waiting):
            viewer.notify("status", status)

    async def _read_while_watched(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            EXPOSURES,
            group_id=None,
            auto_offset_reset="latest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            metadata_max_age_ms=60_000,
            request_timeout_ms=int(_ANSWER_S * 1000),
            **self._kafka.client_settings(),
        )
        try:
            async with asyncio.timeout(2 * _ANSWER_S):
                await consumer.start()
                await self._take_up(consumer)
            await self._follow(consumer)
        finally:
            await consumer.stop()

    async def _take_up(self, consumer: Any) -> None:
        """Go to where the viewers that are there were left, or to the end."""
        partitions: set[TopicPartition] = consumer.assignment()
        if not partitions:
            raise NoSuchTopicError(f"the topic {EXPOSURES} does not exist yet; `headrace init` makes it")
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        resumed = self._positions if self._viewers else {}
        self._positions = {}
        for partition in partitions:
            at = resumed.get(partition.partition, ends[partition])
            if not begins[partition] <= at <= ends[partition]:
                at = ends[partition]  # the log was replaced, or has let go of it
            consumer.seek(partition, at)
            self._positions[partition.partition] = at
        if self.trouble:
            self.trouble = ""
            self._tell({"state": "live", "message": ""})

    def _admit(self) -> None:
        for viewer, joined in self._waiting.items():
            self._viewers.add(viewer)
            if not joined.done():
                joined.set_result(dict(self._positions))
        self._waiting.clear()

    async def _follow(self, consumer: Any) -> None:
        unwatched_since = heard_at = time.monotonic()
        while True:
            self._admit()
            now = time.monotonic()
            if self._viewers:
                unwatched_since = now
            elif now - unwatched_since > _LINGER_S:
                self._wanted.clear()
                return
            if now - heard_at > _QUIET_S:
                # The client keeps silent about a broker that is away; only asking tells.
                async with asyncio.timeout(_ANSWER_S):
                    await consumer.end_offsets(consumer.assignment())
                heard_at = time.monotonic()
            gathered = await consumer.getmany(timeout_ms=250)
            if gathered:
                heard_at = time.monotonic()
                self._hand_out([record for records in gathered.values() for record in records])
                await asyncio.sleep(GATHER_S)

    def _hand_out(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            self._positions[record.partition] = record.offset + 1
        if not self._viewers:
            return
        batch, unreadable = decode_all(evenly(records, DECODED_MAX))
        for viewer in self._viewers:
            viewer.offer(batch, self._positions, len(records), unreadable)


def evenly(records: Sequence[ConsumerRecord], count_max: int) -> Sequence[ConsumerRecord]:
    """Return at most `count_max` of the records, evenly spread."""
    if len(records) <= count_max:
        return records
    return [records[index * len(records) // count_max] for index in range(count_max)]


def decode_all(records: Sequence[ConsumerRecord]) -> tuple[list[Exposure], int]:
    """Decode records in the order of their time; return (exposures, how many cannot be read)."""
    batch, unreadable = [], 0
    for record in sorted(records, key=lambda record: record.timestamp):
        try:
            batch.append(decode(record.value, record.partition, record.offset))
        except UnreadableRecordError as error:
            log.warning("exposure_unreadable", partition=record.partition, offset=record.offset, error=str(error))
            unreadable += 1
    return batch, unreadable
