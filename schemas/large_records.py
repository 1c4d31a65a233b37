"""Reading records that strangers make large: dead letters and chunks."""

from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

_AHEAD: Final = 64
"""Records that are taken at once at the most: so many may be larger than all before them."""


async def large_records(
    consumer: AIOKafkaConsumer,
    *partitions: TopicPartition,
    timeout_ms: int,
    max_records: int,
    max_bytes: int,
    at_once: int = _AHEAD,
) -> dict[TopicPartition, list[Any]]:
    """Do as `getmany` does, and take no record more once there are `max_bytes` of values. Raises KafkaError.

    A fetch is bounded as it was sent, compressed: 2 MiB of it may be some GiB of what strangers repeat. So as many
    are taken together as there is room for if they are like the largest before, `at_once` at the most, and the first
    alone: taken one by one they cost some 20 µs each. What exceeds `max_bytes` is larger than all before it.
    """
    taken: dict[TopicPartition, list[Any]] = {}
    count = size_bytes = 0
    ahead = largest = 1
    while count < max_records and size_bytes < max_bytes:
        found = await consumer.getmany(
            *partitions, timeout_ms=0 if count else timeout_ms, max_records=min(ahead, max_records - count)
        )
        if not found:
            break
        for partition, records in found.items():
            sizes = [len(record.value or b"") for record in records]
            taken.setdefault(partition, []).extend(records)
            count += len(records)
            size_bytes += sum(sizes)
            largest = max(largest, *sizes)
        ahead = max(1, min(at_once, (max_bytes - size_bytes) // largest))
    return taken
