"""The lander: exposures and custom events from the log into the store, each origin once.

The order of things, which exactness rests on: look up what may have landed; insert what is missing
and wait for it; put dead letters on the broker; only then commit. A batch that is cut off anywhere
comes again, and the look-up finds what of it landed.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from processors.landing import batch, dead_letters, registry
from processors.landing.batch import Rejected, Row
from processors.landing.gather import Gathered, Limits, gather
from processors.landing.land import TableLander
from processors.landing.tables import BY_TOPIC, LANDINGS
from schemas import migrations, topics
from schemas.crash_points import CrashPoint, reach
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.limits import MIB
from schemas.metrics import LanderMetrics
from schemas.reasons import Reason
from schemas.store import StoreAddress

log = structlog.get_logger()

T = TypeVar("T")

BATCH_BYTES: Final = 32 * MIB
"""Bytes of one insert at the most; with what the consumer fetches ahead, the lander's memory."""

_FETCH_BYTES: Final = 2 * MIB
_FETCH_WAIT_MS: Final = 100
_SESSION_TIMEOUT_MS: Final = 10_000
_BACK_OFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class LanderConfig:
    """Where from, where to, and when a batch is cut."""

    kafka: KafkaConnection
    store: StoreAddress
    batch_rows: int = 20_000
    batch_ms: int = 500


class LanderTooOldError(Exception):
    """The log holds records of a schema that is newer than this code."""


class _StaleError(Exception):
    """The partitions were taken away while their batch was in hand; it comes again elsewhere."""


class Lander(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One lander process: a member of the consumer group, and the only writer of its partitions."""

    def __init__(self, config: LanderConfig, metrics: LanderMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self.registry = metrics.registry
        self._limits = Limits(config.batch_rows, BATCH_BYTES, config.batch_ms / 1000)
        self._tables = {landing.topic: TableLander(landing, config.store.is_embedded, metrics) for landing in LANDINGS}
        self._waiting_for = {"lander": "it has not been started"}
        self._generation = 0
        self._stopping = asyncio.Event()
        self._in_hand = asyncio.Lock()
        self._failure: asyncio.Future[BaseException] | None = None
        self._work: asyncio.Task[None] | None = None
        # One thread: the embedded engine's client serves one at a time, and so calls stay in order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lander-store")
        self._client: Client | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None

    # --- the stage's contract ------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to land in the background; `readiness` tells how far it is."""
        self._failure = asyncio.get_running_loop().create_future()
        self._waiting_for = {"store": "it is being opened"}
        self._work = asyncio.create_task(self._run(), name="lander")

    async def stop(self) -> None:
        """Land and commit what is in hand, leave the group, close the store."""
        self._waiting_for = {"lander": "it is stopping"}
        self._stopping.set()
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)
        await self._in_thread(self._close_client)
        self._thread.shutdown()

    def readiness(self) -> dict[str, str]:
        """Return what is not ready yet, and why; {} when records are being landed."""
        return dict(self._waiting_for)

    async def failed(self) -> BaseException:
        """Wait for an error that the process must end for, because going on could land wrong rows."""
        assert self._failure is not None
        return await asyncio.shield(self._failure)

    # --- running -------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._open_store()
            while not self._stopping.is_set():
                await self._consume_until_disturbed()
        except Exception as error:  # noqa: BLE001 - whatever it is, going on could land wrong rows
            self._waiting_for = {"lander": str(error)}
            log.critical("lander_failed", error=str(error))
            if self._failure is not None and not self._failure.done():
                self._failure.set_result(error)

    async def _open_store(self) -> None:
        """Open the store and see that its tables are there; retry until it is so."""
        for wait_s in _back_off():
            if self._stopping.is_set():
                return
            try:
                missing = await self._in_thread(self._missing_migrations)
            except (ClickHouseError, OSError) as error:
                self._waiting_for = {"store": f"{error}; is another process using it, or is the server down?"}
                log.warning("store_unavailable", error=str(error))
            else:
                if not missing:
                    return
                self._waiting_for = {"store": f"migrations {missing} are not applied; run `headrace init`"}
            await self._sleep(wait_s)

    async def _consume_until_disturbed(self) -> None:
        """Join the group and land batch after batch, until a stop or an error of the log."""
        self._waiting_for = {"kafka": f"no answer yet from {self._config.kafka.bootstrap}"}
        settings = self._config.kafka.client_settings()
        self._consumer = consumer = AIOKafkaConsumer(
            **settings,
            group_id=topics.LANDER_GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 3,
        )
        self._producer = producer = AIOKafkaProducer(**settings, **PRODUCER)
        try:
            await producer.start()
            consumer.subscribe(list(BY_TOPIC), listener=self)
            await consumer.start()
            while not self._stopping.is_set():
                await self._take_one_batch(consumer)
        except (KafkaError, OSError) as error:
            self._waiting_for = {"kafka": f"{error!r}"}
            log.warning("kafka_unavailable", error=repr(error))
            await self._sleep(1.0)
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()
            with contextlib.suppress(KafkaError, OSError):
                await producer.stop()

    async def _take_one_batch(self, consumer: AIOKafkaConsumer) -> None:
        generation = self._generation
        gathered = await gather(consumer, self._limits)
        if not gathered.count:
            return
        reach(CrashPoint.LANDER_AFTER_CONSUME)
        async with self._in_hand:
            try:
                await self._land(consumer, gathered, generation)
            except _StaleError:
                log.info("batch_given_up", records=gathered.count, why="the partitions were taken away")

    async def _land(self, consumer: AIOKafkaConsumer, gathered: Gathered, generation: int) -> None:
        rejected: list[Rejected] = []
        read = {topic: batch.Batch() for topic in BY_TOPIC}
        for partition, records in gathered.records.items():
            batch.read(records, BY_TOPIC[partition.topic], into=read[partition.topic])
        for topic, found in read.items():
            rejected += found.rejected
            rejected += await self._judge_unknown(found.unknown)
            rejected += await self._land_rows(consumer, topic, found.rows, generation)
        if rejected:
            await self._keep(rejected)
        reach(CrashPoint.LANDER_BEFORE_COMMIT)
        await self._commit(consumer, gathered, generation)

    async def _land_rows(
        self, consumer: AIOKafkaConsumer, topic: str, rows: list[Row], generation: int
    ) -> list[Rejected]:
        """Land rows, for as long as it takes and the partitions are ours."""
        if not rows:
            return []
        table = self._tables[topic]
        for wait_s in _back_off():
            try:
                landed = await self._in_thread(
                    lambda: table.land(self._open_client(), rows, self._query_id(table.landing.table))
                )
            except (ClickHouseError, OSError) as error:
                self._waiting_for = {"store": f"{error}"}
                log.warning("insert_failed", table=table.landing.table, rows=len(rows), error=str(error))
                # After an error a client may hand the rest of one answer to the next question.
                await self._in_thread(self._close_client)
                await self._wait_paused(consumer, wait_s, generation)
            else:
                self._waiting_for = {}
                return landed.rejected
        raise AssertionError("retries do not end")

    async def _wait_paused(self, consumer: AIOKafkaConsumer, wait_s: float, generation: int) -> None:
        """Wait without reading on, and without being taken for dead by the group."""
        partitions = consumer.assignment()
        consumer.pause(*partitions)
        try:
            await self._sleep(wait_s)
            if self._stopping.is_set():
                raise _StaleError
            self._check(generation)
            await consumer.getmany(timeout_ms=0)
        finally:
            consumer.resume(*(partitions & consumer.assignment()))

    async def _judge_unknown(self, unknown: list[batch.UnknownSchema]) -> list[Rejected]:
        """Return the records whose schema nobody knows. Raises LanderTooOldError."""
        if not unknown:
            return []
        known = await registry.known_ids(self._config.kafka)
        for record, schema_id in unknown:
            if schema_id in known:
                raise LanderTooOldError(
                    f"lander too old: {record.topic} holds records of schema {schema_id}, which the topic "
                    f"`{topics.SCHEMAS}` knows and this lander does not; upgrade it and start it again"
                )
        return [
            Rejected(record, Reason.UNKNOWN_SCHEMA, f"schema {schema_id} is known to nobody")
            for record, schema_id in unknown
        ]

    async def _keep(self, rejected: list[Rejected]) -> None:
        assert self._producer is not None
        await dead_letters.publish(self._producer, rejected, time.time_ns() // 1_000_000)
        for one in rejected:
            self._metrics.dead_letters.labels(one.reason.value).inc()
        log.warning("dead_letters", count=len(rejected), first=rejected[0].message)
        reach(CrashPoint.LANDER_AFTER_DEAD_LETTER)

    async def _commit(self, consumer: AIOKafkaConsumer, gathered: Gathered, generation: int) -> None:
        self._check(generation)
        try:
            await consumer.commit(gathered.offsets())
        except (CommitFailedError, IllegalStateError) as error:
            raise _StaleError from error
        reach(CrashPoint.LANDER_AFTER_COMMIT)
        self._measure_lag(consumer, gathered.offsets())

    def _measure_lag(self, consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int]) -> None:
        lag = dict.fromkeys(BY_TOPIC, 0)
        for partition, position in positions.items():
            lag[partition.topic] += max(0, (consumer.highwater(partition) or position) - position)
        for topic, records in lag.items():
            self._metrics.lag.labels(topic).set(records)

    # --- membership ----------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Give up what is in hand; return when no insert is under way any more."""
        self._generation += 1
        async with self._in_hand:
            log.info("partitions_revoked", partitions=len(list(revoked)))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Trust nothing that was known of the table: another may have landed since."""
        self._generation += 1
        for table in self._tables.values():
            table.forget()
        self._waiting_for = {}
        log.info("partitions_assigned", partitions=len(list(assigned)))

    def _check(self, generation: int) -> None:
        if generation != self._generation:
            raise _StaleError

    # --- the store's thread --------------------------------------------------------------------

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open_client(self) -> Client:
        if self._client is None:
            self._client = self._config.store.connect()
        return self._client

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _missing_migrations(self) -> list[str]:
        return [migration.name for migration in migrations.pending(self._open_client())]

    def _query_id(self, table: str) -> str:
        return f"headrace-lander:{table}:{self._generation}:{time.time_ns()}"

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _back_off() -> Iterable[float]:
    yield from _BACK_OFF_S
    while True:
        yield _BACK_OFF_S[-1]


__all__ = ["Lander", "LanderConfig", "LanderTooOldError"]
