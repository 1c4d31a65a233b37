"""Small errands to Kafka: is it there, write some records, read a compacted topic."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from schemas.erasures import ErasureList
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.reference import ReferenceReader
from schemas.topics import ERASURES

_CONNECT_TIMEOUT_S: Final = 2
_READ_S: Final = 60


@asynccontextmanager
async def admin_client(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a started admin client. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**connection.client_settings())
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def answers(connection: KafkaConnection) -> str:
    """Return "" when the cluster serves clients, else why not."""
    # aiokafka logs an error for each port that nobody listens on, so look first.
    if not any([await _is_open(server) for server in connection.bootstrap.split(",")]):
        return f"nothing listens on {connection.bootstrap} yet"
    client = AIOKafkaClient(**connection.client_settings(), request_timeout_ms=_CONNECT_TIMEOUT_S * 1000)
    try:
        await client.bootstrap()
        return "" if client.cluster.brokers() else "no broker has registered yet"
    except (KafkaError, OSError) as error:
        return f"it does not serve clients yet ({error})"
    finally:
        await client.close()


async def _is_open(server: str) -> bool:
    host, _, port = server.strip().rpartition(":")
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            await writer.wait_closed()
    except (OSError, ValueError):
        return False
    return True


async def publish(connection: KafkaConnection, topic: str, records: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Append (key, value) records, and return when the log has acknowledged all of them. Raises KafkaError."""
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    try:
        await producer.start()
        for key, value in records:
            await producer.send_and_wait(topic, value, key=key)
    finally:
        await producer.stop()


async def read_compacted(connection: KafkaConnection, topic: str) -> dict[bytes, bytes]:
    """Return the last value of each key that stands in the topic now. Raises TimeoutError."""
    found: dict[bytes, bytes] = {}

    def keep(key: bytes, value: bytes | None) -> None:
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value

    await read_reference(connection, topic, keep)
    return found


async def read_reference(
    connection: KafkaConnection, topic: str, take: Callable[[bytes, bytes | None], None], timeout_s: float = _READ_S
) -> None:
    """Hand over every record that stands in a compacted topic now, None for a tombstone. Raises TimeoutError."""
    reader = ReferenceReader(connection, topic, take)
    await reader.start()
    try:
        await reader.wait_caught_up(timeout_s)
    finally:
        await reader.stop()


async def read_erasures(connection: KafkaConnection) -> ErasureList:
    """Return the units that were erased until now. Raises TimeoutError."""
    erasures = ErasureList()
    await read_reference(connection, ERASURES, erasures.take)
    return erasures
