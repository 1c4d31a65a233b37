"""Reading a compacted topic of reference data: keys, config specs, schemas.

One reader class serves them all. It reads every partition from the beginning, says when it has
caught up with what was there at its start, and then follows.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.kafka import KafkaConnection
from schemas.large_records import large_records
from schemas.limits import MIB

log = structlog.get_logger()

_RETRY_S: Final = 1.0
_POLL_MS: Final = 500
_POLL_RECORDS: Final = 1_000
_POLL_BYTES: Final = 16 * MIB
_AT_ONCE: Final = 4

OnRecord = Callable[[bytes, bytes | None], None]


class ReferenceReader:
    """Follows one compacted topic and hands each record to `on_record(key, value)`.

    A value of None is a tombstone. `on_record` sees records in order and reports itself what it cannot
    use; a record over which it raises is logged and passed by. While Kafka is away what was read stays
    valid; the reader retries for as long as it lives.
    """

    def __init__(self, connection: KafkaConnection, topic: str, on_record: OnRecord) -> None:
        self._connection = connection
        self._topic = topic
        self._on_record = on_record
        self._caught_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def caught_up(self) -> bool:
        """Whether everything that was in the topic when reading began has been handed over."""
        return self._caught_up.is_set()

    async def wait_caught_up(self, timeout_s: float | None = None) -> None:
        """Wait until `caught_up`. Raises TimeoutError."""
        await asyncio.wait_for(self._caught_up.wait(), timeout_s)

    async def start(self) -> None:
        """Begin to read in the background."""
        self._task = asyncio.create_task(self._follow(), name=f"reference:{self._topic}")

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        positions: dict[TopicPartition, int] = {}
        while True:
            consumer = AIOKafkaConsumer(
                **self._connection.client_settings(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=200,
            )
            try:
                await consumer.start()
                await self._read(consumer, positions)
            except Exception as error:  # noqa: BLE001 - who ended in silence would never see a key revoked
                log.warning("reference_topic_unavailable", topic=self._topic, error=repr(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int]) -> None:
        known = await consumer._client.fetch_all_metadata()  # partitions_for_topic() may be stale or empty
        numbers = known.partitions_for_topic(self._topic)
        if not numbers:
            raise KafkaError(f"topic {self._topic} does not exist; `headrace init` creates it")
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        for partition in partitions:
            if partition in positions:
                consumer.seek(partition, positions[partition])
        ends = await consumer.end_offsets(partitions)
        while True:
            if not self._caught_up.is_set():
                behind = [p for p in partitions if ends[p] > 0 and await consumer.position(p) < ends[p]]
                if not behind:
                    self._caught_up.set()
            # A specs document may be as large as an envelope.
            found = await large_records(
                consumer, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS, max_bytes=_POLL_BYTES, at_once=_AT_ONCE
            )
            for partition, records in found.items():
                for record in records:
                    self._hand_over(record)
                    positions[partition] = record.offset + 1

    def _hand_over(self, record: Any) -> None:
        try:
            self._on_record(record.key or b"", record.value)
        except Exception:
            log.exception("reference_record_failed", topic=self._topic, offset=record.offset)
