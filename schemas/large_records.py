"""Reading records that strangers make large: dead letters and chunks."""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


async def large_records(
    consumer: AIOKafkaConsumer,
    *partitions: TopicPartition,
    timeout_ms: int,
    max_records: int,
    max_bytes: int,
    at_once: int = 1,
) -> dict[TopicPartition, list[Any]]:
    """Do as `getmany` does, and take no record more once there are `max_bytes` of values. Raises KafkaError.

    A fetch is bounded as it was sent, compressed: 2 MiB of it may be some GiB of what strangers repeat.
    Taken one by one they cost some 20 µs each, which is for records that may be as large as an envelope;
    `at_once` takes more, and may exceed `max_bytes` by as many.
    """
    taken: dict[TopicPartition, list[Any]] = {}
    count = size_bytes = 0
    while count < max_records and size_bytes < max_bytes:
        found = await consumer.getmany(*partitions, timeout_ms=0 if count else timeout_ms, max_records=at_once)
        if not found:
            break
        for partition, records in found.items():
            taken.setdefault(partition, []).extend(records)
            count += len(records)
            size_bytes += sum(len(record.value or b"") for record in records)
    return taken
