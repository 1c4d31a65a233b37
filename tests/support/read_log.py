"""Reading what stands in the log."""

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.kafka import KafkaConnection


async def read_whole(connection: KafkaConnection, partitions: Sequence[TopicPartition]) -> list[Any]:
    """Return every record up to the present end, partition by partition."""
    # Not `seek_to_beginning`: aiokafka's reset to the latest offset may overtake it.
    consumer = AIOKafkaConsumer(**connection.client_settings(), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                found += (await consumer.getmany(partition, timeout_ms=500)).get(partition, [])
        return found
    finally:
        await consumer.stop()
