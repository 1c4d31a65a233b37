"""The gateway's end of the log: a producer that is always being brought back.

The producer is idempotent and waits for all replicas. Its batches never expire: what was answered
503 may still land later, and the copy that the client sends is then known by its event id.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest.linger import Record
from schemas import chunk
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.metrics import GatewayMetrics
from schemas.topics import DLQ_INGEST, EVENTS_RAW

log = structlog.get_logger()

_RETRY_S: Final = 0.5
_STOP_S: Final = 2.0
_REQUEST_TIMEOUT_MS: Final = 10_000
_BATCH_BYTES: Final = 1_000_000


class LogUnavailableError(Exception):
    """The log cannot be written to at the moment."""


class Publisher:
    """Appends to `events.raw` and `dlq.ingest`. Returning from an append means: it is in the log."""

    def __init__(self, connection: KafkaConnection, metrics: GatewayMetrics) -> None:
        self._connection = connection
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._broken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._why = "connecting"
        self.partitions = 0

    @property
    def problem(self) -> str:
        """Why nothing can be appended, "" when it can."""
        return "" if self._producer is not None else self._why

    async def start(self) -> None:
        """Connect in the background, and again after every failure, until `stop`."""
        self._task = asyncio.create_task(self._keep_connected(), name="publisher")

    async def stop(self) -> None:
        """Disconnect. What was not acknowledged by now was not answered with success."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def append(self, partition: int, records: Sequence[Record]) -> None:
        """Append chunks to a partition. Raises LogUnavailableError."""
        producer = self._ready()
        began_s = time.perf_counter()
        try:
            await self._append(producer, partition, records)
        except KafkaError as error:
            self._give_up(producer, error)
            raise LogUnavailableError(str(error)) from error
        self._metrics.append_seconds.observe(time.perf_counter() - began_s)
        self._metrics.chunks.inc(len(records))
        self._metrics.events.inc(sum(record.events for record in records))

    async def append_dead_letter(self, partition: int, value: bytes) -> None:
        """Append to `dlq.ingest`. Raises LogUnavailableError."""
        producer = self._ready()
        try:
            await producer.send_and_wait(DLQ_INGEST, value, partition=partition)
        except KafkaError as error:
            self._give_up(producer, error)
            raise LogUnavailableError(str(error)) from error

    def _ready(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise LogUnavailableError(self._why)
        return self._producer

    async def _append(self, producer: AIOKafkaProducer, partition: int, records: Sequence[Record]) -> None:
        batch = producer.create_batch()
        for record in records:
            headers = list(chunk.headers(record.events))
            if batch.append(key=None, value=record.value, timestamp=None, headers=headers) is None:
                await (await producer.send_batch(batch, EVENTS_RAW, partition=partition))
                batch = producer.create_batch()
                batch.append(key=None, value=record.value, timestamp=None, headers=headers)
        await (await producer.send_batch(batch, EVENTS_RAW, partition=partition))

    def _give_up(self, producer: AIOKafkaProducer, error: KafkaError) -> None:
        """Have the producer replaced: after a batch that failed for good its sequence has a hole."""
        if self._producer is producer:
            log.error("producer_failed", error=repr(error))
            self._producer = None
            self._why = f"the producer failed ({error!r}) and is being replaced"
            self._broken.set()

    async def _keep_connected(self) -> None:
        while True:
            producer = AIOKafkaProducer(
                **self._connection.client_settings(),
                **PRODUCER,
                max_batch_size=_BATCH_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
            )
            try:
                await producer.start()
                partitions = await producer.partitions_for(EVENTS_RAW)
                await producer.partitions_for(DLQ_INGEST)
                self._broken.clear()
                self.partitions, self._producer, self._why = len(partitions), producer, ""
                log.info("producer_ready", partitions=self.partitions)
                await self._broken.wait()
            except (KafkaError, OSError) as error:
                self._why = f"Kafka at {self._connection.bootstrap} cannot be used: {error!r}"
                log.warning("log_unavailable", bootstrap=self._connection.bootstrap, error=repr(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                self._producer = None
                await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer without waiting for batches that may never be acknowledged."""
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.stop(), _STOP_S)
    await producer.client.close()
