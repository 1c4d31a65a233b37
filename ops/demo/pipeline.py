"""What the pipeline itself counted: duplicates at the worker, and dead letters of every stage."""

import asyncio
import http.client
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.avro import DEAD_LETTER, unframe
from schemas.kafka import KafkaConnection
from schemas.topics import DEAD_LETTERS

_READ_FOR_REASONS: Final = 1_000
_READ_TIMEOUT_MS: Final = 2_000
_METRICS_TIMEOUT_S: Final = 10.0


async def duplicates(worker_admin_port: int) -> int:
    """Return how many events the running worker has dropped as duplicates. Raises OSError."""
    return int(await counted(worker_admin_port, "headrace_worker_duplicates_total"))


async def counted(admin_port: int, name: str) -> float:
    """Return the sum of a counter of a running process. Raises OSError."""
    return counter(await asyncio.to_thread(_metrics, admin_port), name)


def _metrics(admin_port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=_METRICS_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except http.client.HTTPException as error:
        raise ConnectionError(f"the metrics on port {admin_port} cannot be read: {error!r}") from error
    finally:
        connection.close()


def counter(metrics: str, name: str) -> float:
    """Return the sum of a counter over its labels, 0 where it is not there."""
    lines = [line for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


class DeadLetters:
    """The dead letters of every stage that are written after `mark`."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._begins: dict[TopicPartition, int] = {}

    async def mark(self) -> None:
        """Begin to count from here. Raises KafkaError."""
        async with self._consumer() as consumer:
            self._begins = await consumer.end_offsets(await self._partitions())

    async def count(self) -> int:
        """Return how many there are. Raises KafkaError."""
        async with self._consumer() as consumer:
            ends = await consumer.end_offsets(list(self._begins))
        return sum(ends[partition] - begin for partition, begin in self._begins.items())

    async def reasons(self) -> Counter[str]:
        """Return why, by stage, reason and message, of the first thousand or so. Raises KafkaError."""
        found: Counter[str] = Counter()
        async with self._consumer() as consumer:
            ends = await consumer.end_offsets(list(self._begins))
            consumer.assign([partition for partition, begin in self._begins.items() if ends[partition] > begin])
            for partition in consumer.assignment():
                consumer.seek(partition, self._begins[partition])
            while consumer.assignment() and found.total() < _READ_FOR_REASONS:
                batch = await consumer.getmany(timeout_ms=_READ_TIMEOUT_MS)
                if not batch:
                    break
                found.update(reason_of(record.value) for records in batch.values() for record in records)
        return found

    async def _partitions(self) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(**self._connection.client_settings())
        try:
            await admin.start()
            described = await admin.describe_topics(list(DEAD_LETTERS))
        finally:
            await admin.close()
        return [TopicPartition(each["topic"], part["partition"]) for each in described for part in each["partitions"]]

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(**self._connection.client_settings(), enable_auto_commit=False)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


def reason_of(value: bytes) -> str:
    """Return stage, reason and message of a dead letter."""
    letter = DEAD_LETTER.decode(unframe(value)[1])
    return f"{letter['stage']}: {letter['reason']}, {letter['message']}"
