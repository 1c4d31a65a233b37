"""The gateway's end of the log: a producer that is always being brought back.

The producer is idempotent and waits for all replicas. Its batches never expire: what was answered
503 may still land later, and the copy that the client sends is then known by its event id.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from ingest.durability import Durability, Lane, LogUnavailableError, Record
from schemas import chunk
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.limits import KIB
from schemas.logs import LogReader, LogRecord, Logs
from schemas.metrics import GatewayMetrics
from schemas.topics import DLQ_INGEST, EVENTS_RAW, LOGS

log = structlog.get_logger()

_RETRY_S: Final = 0.5
_STOP_S: Final = 1.0
_LOGS_S: Final = 10.0
_REQUEST_TIMEOUT_MS: Final = 10_000
_BATCH_BYTES: Final = 1_000_000

_SMALL_BATCH_BYTES: Final = 8 * KIB
"""A batch below is sent as it is: zstd takes 19 µs however little there is, more than it saves later."""


class _Life:
    """One producer, from its connection to its replacement."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def settle(self, delivery: "asyncio.Future[Any]") -> None:
        """Wait for a delivery, as long as the producer lives. Raises KafkaError, LogUnavailableError."""
        await asyncio.wait((delivery, self.over), return_when=asyncio.FIRST_COMPLETED)
        if not delivery.done():
            # It may yet reach the log; nobody will ever hear of it.
            delivery.cancel()
            raise LogUnavailableError("the producer was replaced")
        delivery.result()


class Publisher:
    """Appends to the newest log and `dlq.ingest`. Returning from an append means: it is in the log."""

    def __init__(self, connection: KafkaConnection, metrics: GatewayMetrics) -> None:
        self._connection = connection
        self._metrics = metrics
        self._life: _Life | None = None
        self._task: asyncio.Task[None] | None = None
        self._why = "connecting"
        self._logs = LogReader(connection, self._on_logs)
        self._newest: LogRecord | None = None
        self._switching: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str:
        """Why nothing can be appended, "" when it can."""
        return "" if self._life is not None else self._why

    @property
    def topic(self) -> str:
        """The topic of the newest log."""
        return self._newest.topic if self._newest else EVENTS_RAW

    @property
    def partitions(self) -> int:
        """How many partitions it has, as far as it was ever known; 0 before."""
        return self._newest.partitions if self._newest else 0

    async def start(self) -> None:
        """Connect in the background, and again after every failure, until `stop`."""
        await self._logs.start()
        self._task = asyncio.create_task(self._keep_connected(), name="publisher")

    async def stop(self) -> None:
        """Disconnect. What was not acknowledged by now was not answered with success."""
        tasks = [task for task in (self._task, self._switching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._logs.stop()

    async def append(self, lane: Lane, records: Sequence[Record]) -> Durability:
        """Append chunks to a partition. Raises LogUnavailableError."""
        began_s = time.perf_counter()
        life = self._ready()
        await self._guard(life, self._append(life, lane, records))
        self._metrics.append_seconds.observe(time.perf_counter() - began_s)
        self._metrics.chunks.inc(len(records))
        self._metrics.events.inc(sum(record.events for record in records))
        return Durability.KAFKA

    async def append_dead_letter(self, partition: int, value: bytes) -> Durability:
        """Append to `dlq.ingest`. Raises LogUnavailableError."""
        life = self._ready()
        await self._guard(life, self._append_dead_letter(life, partition, value))
        return Durability.KAFKA

    def _ready(self) -> _Life:
        if self._life is None:
            raise LogUnavailableError(self._why)
        return self._life

    async def _append(self, life: _Life, lane: Lane, records: Sequence[Record]) -> None:
        topic, partition = lane
        batch = _first_batch(life.producer, sum(len(record.value) for record in records))
        for record in records:
            headers = list(chunk.headers(record.events, record.spilled_ms))
            if batch.append(key=None, value=record.value, timestamp=None, headers=headers) is None:
                await life.settle(await life.producer.send_batch(batch, topic, partition=partition))
                batch = life.producer.create_batch()
                batch.append(key=None, value=record.value, timestamp=None, headers=headers)
        await life.settle(await life.producer.send_batch(batch, topic, partition=partition))

    async def _append_dead_letter(self, life: _Life, partition: int, value: bytes) -> None:
        await life.settle(await life.producer.send(DLQ_INGEST, value, partition=partition))

    async def _guard(self, life: _Life, work: Awaitable[None]) -> None:
        try:
            await work
        except KafkaError as error:
            # A batch that failed for good leaves a hole in the producer's sequence: replace it.
            if not life.over.done():
                log.warning("producer_failed", error=repr(error))
                self._end(life, f"the producer failed ({error!r}) and is being replaced")
            raise LogUnavailableError(str(error)) from error

    def _end(self, life: _Life, why: str) -> None:
        if not life.over.done():
            life.over.set_result(None)
        if self._life is life:
            self._life, self._why = None, why

    def _on_logs(self, logs: Logs) -> None:
        """Go over to a newer log as soon as the producer knows it."""
        if self._life is not None and logs.newest != self._newest:
            if self._switching is not None:
                self._switching.cancel()
            self._switching = asyncio.create_task(self._switch(self._life.producer), name="publisher:switch")

    async def _switch(self, producer: AIOKafkaProducer) -> None:
        newest = self._logs.logs.newest
        assert newest is not None
        await _learn(producer, newest)
        if self._newest is not None and newest != self._newest:
            log.info("log_switched", log=newest.log, topic=newest.topic, partitions=newest.partitions)
        self._newest = newest

    async def _keep_connected(self) -> None:
        while True:
            producer = AIOKafkaProducer(
                **self._connection.client_settings(),
                **PRODUCER,
                max_batch_size=_BATCH_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
            )
            life = None
            try:
                await producer.start()
                await _check_topics(producer)
                async with asyncio.timeout(_LOGS_S):
                    await self._logs.wait()
                    await self._switch(producer)
                life = self._life = _Life(producer)
                log.info("producer_ready", topic=self.topic, partitions=self.partitions)
                await life.over
            except (KafkaError, OSError, TimeoutError, LogUnavailableError) as error:
                why = str(error) or f"{LOGS} and what it names were not found in {_LOGS_S:g} s"
                self._why = f"Kafka at {self._connection.bootstrap} cannot be used: {why}"
                log.warning("log_unavailable", bootstrap=self._connection.bootstrap, error=why)
                await asyncio.sleep(_RETRY_S)
            finally:
                if life is not None:
                    self._end(life, "reconnecting")
                await _stop(producer)


def _first_batch(producer: AIOKafkaProducer, size_bytes: int) -> BatchBuilder:
    if size_bytes < _SMALL_BATCH_BYTES:
        return BatchBuilder(_BATCH_BYTES, DefaultRecordBatch.CODEC_NONE)
    return producer.create_batch()


async def _check_topics(producer: AIOKafkaProducer) -> None:
    # Asking for a topic by its name would make it, on a broker that makes topics by itself.
    known = await producer.client.fetch_all_metadata()
    for topic in (LOGS, DLQ_INGEST):
        if not known.partitions_for_topic(topic):
            raise LogUnavailableError(f"topic {topic} does not exist; `headrace init` creates it")


async def _learn(producer: AIOKafkaProducer, newest: LogRecord) -> None:
    """Let a producer know the partitions of a log, and of the dead letters' topic, which grew before it."""
    client = producer.client
    topics = (newest.topic, DLQ_INGEST)
    known = await client.fetch_all_metadata()
    while min(len(known.partitions_for_topic(topic) or ()) for topic in topics) < newest.partitions:
        await asyncio.sleep(_RETRY_S)
        known = await client.fetch_all_metadata()
    while True:
        for topic in topics:
            await client.add_topic(topic)
        if min(len(client.cluster.partitions_for_topic(topic) or ()) for topic in topics) >= newest.partitions:
            return
        await client.force_metadata_update()


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer without waiting for batches that may never be acknowledged."""
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.stop(), _STOP_S)
    await producer.client.close()
