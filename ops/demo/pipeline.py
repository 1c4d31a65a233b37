"""What the pipeline itself counted: duplicates at the worker, and dead letters of every stage."""

from typing import Final

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from schemas.kafka import KafkaConnection
from schemas.topics import DLQ_INGEST, DLQ_LANDER, DLQ_WORKER

_DEAD_LETTER_TOPICS: Final = (DLQ_INGEST, DLQ_WORKER, DLQ_LANDER)


async def duplicates(worker_admin_port: int) -> int:
    """Return how many events the running worker has dropped as duplicates. Raises httpx.HTTPError."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"http://127.0.0.1:{worker_admin_port}/metrics")
        answer.raise_for_status()
    return int(counter(answer.text, "headrace_worker_duplicates_total"))


def counter(metrics: str, name: str) -> float:
    """Return the sum of a counter over its labels, 0 where it is not there."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name
    )


async def dead_letters(connection: KafkaConnection) -> int:
    """Return how many records the dead-letter topics have ever had. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**connection.client_settings())
    await admin.start()
    try:
        described = await admin.describe_topics(list(_DEAD_LETTER_TOPICS))
    finally:
        await admin.close()
    partitions = [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
    ]
    consumer = AIOKafkaConsumer(**connection.client_settings())
    await consumer.start()
    try:
        return sum((await consumer.end_offsets(partitions)).values()) if partitions else 0
    finally:
        await consumer.stop()
