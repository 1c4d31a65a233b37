"""One reader of the log for all viewers: reads and decodes once, and only while somebody watches."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from console.live.decode import Outcome
from console.live.look import Look, Seen
from console.live.positions import FOLLOWED, Positions
from console.live.viewer import Viewer
from schemas.kafka import METADATA_MAX_AGE_MS, KafkaConnection
from schemas.large_records import large_records
from schemas.limits import KIB, MIB
from schemas.metrics import ConsoleMetrics
from schemas.topics import DEAD_LETTERS, LEDGER

log = structlog.get_logger()

GATHER_S: Final = 0.04
"""Records are gathered this long before they are decoded together: fewer wake-ups under load."""

BEHIND_MAX: Final = 20_000
"""When so many records wait, those are passed over for the newest: they count as read, and are not looked at."""

_RECORDS_MAX: Final = 2_000
_BYTES_MAX: Final = 16 * MIB
_AT_ONCE: Final = 100
_LETTERS_MAX: Final = 50
_PARTITION_BYTES: Final = 512 * KIB
"""One gathering takes no more than this, so that no flood fills the memory."""

_FETCH_WAIT_MS: Final = 100
_WAIT_MS: Final = 100
_QUIET_S: Final = 3.0
_ANSWER_S: Final = 5.0
_RETRY_S: Final = 1.0
_LINGER_S: Final = 5.0
"""A reader without viewers waits this long: a page that is loaded again finds it connected."""


class NoSuchTopicError(Exception):
    """The topic has not been made yet."""


class Hub:
    """Follows the topics of the stream from their ends and hands every batch to every viewer."""

    def __init__(
        self, kafka: KafkaConnection, look: Look, metrics: ConsoleMetrics, viewer_patience_s: float = 30.0
    ) -> None:
        self._kafka = kafka
        self._viewer_patience_s = viewer_patience_s
        self._look = look
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
            *FOLLOWED,
            group_id=None,
            auto_offset_reset="latest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
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
            await self._look.stop()

    async def _take_up(self, consumer: Any) -> None:
        """Go to where the viewers that are there were left, or to the end."""
        partitions: set[TopicPartition] = consumer.assignment()
        if missing := set(FOLLOWED) - {partition.topic for partition in partitions}:
            raise NoSuchTopicError(f"the topic {min(missing)} does not exist yet; `headrace init` makes it")
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        resumed = self._positions if self._viewers else {}
        self._positions = {}
        for partition in partitions:
            at = resumed.get(partition, ends[partition])
            if not begins[partition] <= at <= ends[partition]:
                at = ends[partition]  # the log was replaced, or has let go of it
            consumer.seek(partition, at)
            self._positions[partition] = at
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
            records = await _gathered(consumer)
            if records:
                heard_at = time.monotonic()
                skipped = await self._skip(consumer)
                await self._hand_out(records, skipped)
                await asyncio.sleep(GATHER_S)

    async def _skip(self, consumer: Any) -> dict[Outcome, int]:
        """Go to the end when that is too far away; return how many events of each outcome are passed over."""
        behind = {}
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None:
                behind[partition] = end - await consumer.position(partition)
        skipped = dict.fromkeys(Outcome, 0)
        if sum(behind.values()) <= BEHIND_MAX:
            return skipped
        for partition, count in behind.items():
            self._positions[partition] = consumer.highwater(partition)
            consumer.seek(partition, self._positions[partition])
            if partition.topic != LEDGER:  # what that names is not known
                skipped[Outcome.REJECTED if partition.topic in DEAD_LETTERS else Outcome.ACCEPTED] += count
        return skipped

    async def _hand_out(self, records: Sequence[ConsumerRecord], skipped: dict[Outcome, int]) -> None:
        for record in records:
            at = TopicPartition(record.topic, record.partition)
            self._positions[at] = max(self._positions.get(at, 0), record.offset + 1)
        # In this order: what has to be fetched first keeps nobody waiting.
        self._offer(self._look.rejected(records), skipped)
        self._offer(self._look.accepted(records), skipped)
        if any(Outcome.DUPLICATE in viewer.wanted.outcomes for viewer in self._viewers):
            self._offer(await self._look.duplicates(records), skipped)
        now = time.monotonic()
        for viewer in self._viewers:
            viewer.stand(self._positions)
            if viewer.is_stuck(now, self._viewer_patience_s):
                viewer.dropped.set()

    def _offer(self, seen: Seen, skipped: dict[Outcome, int]) -> None:
        seen.read += skipped[seen.outcome]
        chosen: dict[Any, list[bytes]] = {}
        for viewer in self._viewers:
            key = viewer.wanted.key
            if key not in chosen:
                chosen[key] = viewer.wanted.choose(seen.exposures)
            viewer.offer(seen, chosen[key])


async def _gathered(consumer: Any) -> list[ConsumerRecord]:
    """Return what there is now, within bounds; a dead letter may be as large as a body, so they are taken singly."""
    letters = {each for each in consumer.assignment() if each.topic in DEAD_LETTERS}
    others = consumer.assignment() - letters
    found = await large_records(
        consumer, *others, timeout_ms=_WAIT_MS, max_records=_RECORDS_MAX, max_bytes=_BYTES_MAX, at_once=_AT_ONCE
    )
    found |= await large_records(consumer, *letters, timeout_ms=0, max_records=_LETTERS_MAX, max_bytes=_BYTES_MAX)
    return [record for records in found.values() for record in records]
