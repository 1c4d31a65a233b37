"""From where to where the log reaches, asked on a connection of its own.

On the connection that reads records, a question waits behind the fetch that waits for records.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.kafka import KafkaConnection
from schemas.topics import worker_group

_REQUEST_TIMEOUT_MS: Final = 10_000


class Bounds(NamedTuple):
    """A partition holds the offsets from `begin` up to, not including, `end`."""

    begin: int
    end: int


class RecordsLostError(Exception):
    """Records that were not processed are not in the log any more."""


class LogBounds:
    """Asks the broker how far partitions reach. Whether it answers tells whether Kafka is there."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._consumer: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def of(self, topic: str, numbers: Iterable[int]) -> dict[int, Bounds]:
        """Return the bounds of partitions of `topic`. Raises KafkaError when no broker answers."""
        partitions = [TopicPartition(topic, number) for number in numbers]
        if not partitions:
            return {}
        consumer = await self._connected()
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return {tp.partition: Bounds(begins[tp], ends[tp]) for tp in partitions}

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **self._connection.client_settings(),
                    enable_auto_commit=False,
                    request_timeout_ms=_REQUEST_TIMEOUT_MS,
                )
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._consumer = consumer
            return self._consumer

    async def stop(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            await self._consumer.stop()


def first_to_process(topic: str, number: int, committed: int | None, bounds: Bounds) -> int:
    """Return where processing of a partition goes on: where it was committed, else at its beginning.

    Raises RecordsLostError when that is not in the log: aiokafka would go on at the beginning in silence.
    """
    if committed is None:
        return bounds.begin
    if committed < bounds.begin:
        raise RecordsLostError(
            f"records {committed} to {bounds.begin - 1} of {topic}/{number} were deleted before they were processed: "
            f"retention overtook the worker. To accept the loss, set the offset of the group {worker_group(topic)} to "
            f"{bounds.begin} with kafka-consumer-groups.sh and start it again"
        )
    if committed > bounds.end:
        raise RecordsLostError(
            f"{topic}/{number} ends at {bounds.end} although {committed} was committed: the broker has lost records "
            f"that it had acknowledged, and would give their offsets to others. Restore its disk, or make the topic "
            f"anew and run `headrace init`, which gives it a new log number"
        )
    return committed
