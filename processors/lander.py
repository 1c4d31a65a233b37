"""The lander: exposures and custom events from the log into the store, each origin once.

The order of things, which exactness rests on: look up what may have landed; insert what is missing
and wait for it; put dead letters and dropped copies on the broker; only then commit. A batch that is cut off anywhere
comes again, and the look-up finds what of it landed.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from processors.landing import batch, copies, dead_letters, fence, registry
from processors.landing.batch import Rejected, Row
from processors.landing.bursts import Bursts
from processors.landing.fence import StaleError
from processors.landing.gather import Gathered, Limits, gather
from processors.landing.insert import Inserter
from processors.landing.land import LandedRows, TableLander
from processors.landing.positions import Positions
from processors.landing.store_table import StoreTable
from processors.landing.store_thread import StoreThread
from processors.landing.tables import LANDINGS, SHADOWS
from processors.log_bounds import LogBounds
from processors.watchdog import StalledError, Watchdog
from schemas import migrations, topics
from schemas.crash_points import CrashPoint, reach
from schemas.kafka import METADATA_MAX_AGE_MS, PRODUCER, KafkaConnection
from schemas.limits import LANDER_STALL_S, MIB
from schemas.metrics import LanderMetrics
from schemas.reasons import Reason
from schemas.store import StoreAddress

log = structlog.get_logger()

BATCH_BYTES: Final = 32 * MIB
"""Bytes of one insert at the most; with what the consumer fetches ahead, the lander's memory."""

_FETCH_BYTES: Final = 2 * MIB
_FETCH_WAIT_MS: Final = 100
_REBALANCE_TIMEOUT_MS: Final = 90_000
"""How long the group waits for an insert that is under way; longer than the store's time-out."""

_POLL_INTERVAL_MS: Final = 7 * 24 * 3600 * 1000
"""A store that is down for long must not cost the membership: heartbeats show that we live."""

_BACK_OFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_RETRY_S: Final = 1.0
_SILENCES_A_LIMIT: Final = 5
"""After how much of it a consumer without records is looked at."""

_LOOKS_A_LIMIT: Final = 12

# With the default of 700 objects the collector walks the batch over and over (2.5 µs an event).
_GC_THRESHOLDS: Final = (100_000, 20, 100)


@dataclass(frozen=True)
class LanderConfig:
    """Where from, where to, and when a batch is cut."""

    kafka: KafkaConnection
    store: StoreAddress
    batch_rows: int = 20_000
    batch_ms: int = 500
    group: str = topics.LANDER_GROUP
    session_timeout_ms: int = 10_000
    """How soon the group gives this lander up when its heartbeats stop."""
    burst_guard: bool = True
    stall_s: float = LANDER_STALL_S
    """How long a call of Kafka or of the store may stand still, while Kafka answers, before the process ends."""
    instance: str = ""
    """A fixed name gives a restarted lander its partitions back at once; no two may have the same."""
    is_shadow: bool = False
    """Lands the shadow topics in the shadow tables, of which the ledger knows nothing."""

    @property
    def group_instance(self) -> str | None:
        """The name by which the group knows this lander over restarts, None for none.

        On an embedded store there is no second lander, so that one needs no name of its own.
        """
        return self.instance or ("embedded" if self.store.is_embedded else None)


class LanderTooOldError(Exception):
    """The log holds records of a schema that is newer than this code."""


class SilentConsumerError(StalledError):
    """The consumer yields nothing although there is something to read."""


class Lander(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One lander process: a member of the consumer group, and the only writer of its partitions."""

    def __init__(self, config: LanderConfig, metrics: LanderMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self.registry = metrics.registry
        self._limits = Limits(config.batch_rows, BATCH_BYTES, config.batch_ms / 1000)
        landings = SHADOWS if config.is_shadow else LANDINGS
        self._landings = {landing.topic: landing for landing in landings}
        self._tables = {landing.topic: TableLander(landing, metrics) for landing in landings}
        self._inserters = {landing.topic: Inserter(landing, config.store.is_embedded) for landing in landings}
        self._store = StoreThread(config.store)
        self._positions = Positions()
        self._pulse = fence.Pulse(config.session_timeout_ms / 1000)
        self._waiting_for = {"lander": "it has not been started"}
        self._assignments = 0
        self._settled = -1
        self._bursts = Bursts()
        self._stopping = asyncio.Event()
        self._in_hand = asyncio.Lock()
        self._failure: asyncio.Future[BaseException] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._consumer: Any = None
        self._producer: Any = None
        self._bounds = LogBounds(config.kafka)
        self._step = ("start", 0)
        """What is being done, and how often anything was begun."""

    # --- the stage's contract ------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to land in the background; `readiness` tells how far it is."""
        gc.set_threshold(*_GC_THRESHOLDS)
        self._failure = asyncio.get_running_loop().create_future()
        self._waiting_for = {"store": "it is being opened"}
        self._tasks = [
            asyncio.create_task(self._run(), name="lander"),
            asyncio.create_task(self._beat(), name="lander:pulse"),
            asyncio.create_task(self._watch(), name="lander:watch"),
        ]

    async def stop(self) -> None:
        """Land and commit what is in hand, leave the group, close the store."""
        self._waiting_for = {"lander": "it is stopping"}
        self._stopping.set()
        if self._failure is not None and self._failure.done():
            for task in self._tasks:
                task.cancel()  # what stands still would be waited for in vain
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bounds.stop()
        await self._store.close()

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
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._waiting_for = {"lander": str(error)}
        log.critical("lander_failed", error=str(error), kind=type(error).__name__)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    def _begin(self, step: str) -> None:
        self._step = (step, self._step[1] + 1)

    async def _watch(self) -> None:
        """End the process when a call stands still that a new process would get through."""
        limit_s = self._config.stall_s
        watchdog = Watchdog(limit_s, limit_s / _LOOKS_A_LIMIT)
        while not self._stopping.is_set():
            await self._sleep(limit_s / _LOOKS_A_LIMIT)
            try:
                await self._bounds.of(next(iter(self._landings)), [0])
            except (KafkaError, OSError):
                watchdog.forget()
                continue
            step, number = self._step
            if watchdog.look(asyncio.get_running_loop().time(), {step: number}):
                self._fail(StalledError(f"{step} has not moved for {limit_s:g} s although Kafka answers"))
                return

    async def _open_store(self) -> None:
        """Open the store and see that its tables are there; retry until it is so."""
        for wait_s in _back_off():
            if self._stopping.is_set():
                return
            self._begin("opening the store")
            try:
                missing = [migration.name for migration in await self._store.run(migrations.pending)]
            except (ClickHouseError, OSError) as error:
                self._waiting_for = {"store": f"{error}; does another process use it, or is the server down?"}
                log.warning("store_unavailable", error=str(error))
            else:
                if not missing:
                    return
                self._waiting_for = {"store": f"{', '.join(missing)} is not applied; run `headrace init`"}
                log.warning("store_not_migrated", missing=missing)
            await self._sleep(wait_s)

    async def _consume_until_disturbed(self) -> None:
        """Join the group and land batch after batch, until a stop or an error of the log."""
        self._waiting_for = {"kafka": f"no answer yet from {self._config.kafka.bootstrap}"}
        settings = self._config.kafka.client_settings()
        self._producer = AIOKafkaProducer(**settings, **PRODUCER)
        self._consumer = None
        self._begin("joining the group")
        try:
            await self._producer.start()
            self._consumer = AIOKafkaConsumer(
                **settings,
                group_id=self._config.group,
                group_instance_id=await self._instance(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=_FETCH_WAIT_MS,
                max_partition_fetch_bytes=_FETCH_BYTES,
                session_timeout_ms=self._config.session_timeout_ms,
                heartbeat_interval_ms=self._config.session_timeout_ms // 3,
                rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
                max_poll_interval_ms=_POLL_INTERVAL_MS,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
            )
            self._consumer.subscribe(list(self._landings), listener=self)
            await self._consumer.start()
            await self._land_batches()
        except (KafkaError, OSError) as error:
            self._waiting_for = {"kafka": repr(error)}
            log.warning("kafka_unavailable", error=repr(error))
            await self._sleep(_RETRY_S)
        finally:
            for client in (self._consumer, self._producer):
                if client is not None:
                    with contextlib.suppress(KafkaError, OSError):
                        await client.stop()

    async def _instance(self) -> str | None:
        """Return the name by which the group knows this lander.

        It holds how many partitions there are: whoever comes back under a name that is known gets what it
        had, without anybody looking whether there are more partitions meanwhile (KIP-345).
        """
        if self._config.group_instance is None:
            return None
        known = await self._producer.client.fetch_all_metadata()
        count = sum(len(known.partitions_for_topic(topic) or ()) for topic in self._landings)
        return f"{self._config.group_instance}-{count}"

    async def _land_batches(self) -> None:
        clock = asyncio.get_running_loop().time
        heard = clock()
        silence_s = self._config.stall_s / _SILENCES_A_LIMIT
        while not self._stopping.is_set():
            assignment = self._assignments
            self._begin("reading")
            gathered = await gather(self._consumer, self._limits)
            if gathered.count:
                heard = clock()
                await self._land_unless_stale(gathered, assignment)
            elif clock() - heard > silence_s:
                heard = clock()
                await self._suspect_silence()

    async def _suspect_silence(self) -> None:
        """See whether there really is nothing to read: a consumer can go silent while it is alive.

        (aiokafka #847, #625, #1037.) Raises SilentConsumerError.
        """
        partitions = self._consumer.assignment()
        ends = await self._consumer.end_offsets(partitions)
        positions = {partition: await self._consumer.position(partition) for partition in partitions}
        if behind := [partition for partition in partitions if positions[partition] < ends[partition]]:
            places = ", ".join(f"{tp.topic}/{tp.partition}" for tp in behind)
            raise SilentConsumerError(f"reading has brought nothing, although there are records in {places}")
        self._measure_lag(positions)

    # --- one batch -----------------------------------------------------------------------------

    async def _land_unless_stale(self, gathered: Gathered, assignment: int) -> None:
        reach(CrashPoint.LANDER_AFTER_CONSUME)
        async with self._in_hand:
            try:
                self._check(assignment)
                await self._expect(gathered)
                await self._land(gathered, assignment)
            except StaleError:
                log.info("batch_given_up", records=gathered.count, why="its partitions were taken away")
                await self._go_back(gathered)

    async def _expect(self, gathered: Gathered) -> None:
        """See that nothing was lost between the last batch, or the last commit, and this one."""
        firsts = gathered.first_offsets()
        for partition in self._positions.unknown(firsts):
            committed = await self._consumer.committed(partition)
            self._positions.learn(partition, committed, firsts[partition])
        self._positions.check(firsts)

    async def _go_back(self, gathered: Gathered) -> None:
        """Read what was given up once more where the partition is still, or again, ours."""
        for partition, first in gathered.first_offsets().items():
            committed = await self._consumer.committed(partition)
            if partition in self._consumer.assignment():
                self._consumer.seek(partition, first if committed is None else committed)

    async def _land(self, gathered: Gathered, assignment: int) -> None:
        read = {topic: batch.Batch() for topic in self._landings}
        for partition, records in gathered.records.items():
            batch.read(records, self._landings[partition.topic], into=read[partition.topic])
        rejected: list[Rejected] = []
        owners: dict[bytes, bytes] = {}
        for topic, found in read.items():
            rejected += found.rejected
            rejected += await self._judge_unknown(found.unknown)
            if found.rows:
                landed = await self._land_rows(self._tables[topic], found.rows, assignment)
                rejected += landed.rejected
                owners |= landed.owners
        if self._config.burst_guard:
            await self._hold_burst(gathered, rejected, assignment)
        self._begin("sending what did not land")
        if rejected:
            await self._keep(rejected)
        if owners and not self._config.is_shadow:
            await copies.publish(self._producer, owners)
        reach(CrashPoint.LANDER_BEFORE_COMMIT)
        await self._commit(gathered.next_offsets(), assignment)

    async def _land_rows(self, table: TableLander, rows: list[Row], assignment: int) -> LandedRows:
        """Land rows, for as long as it takes and the partitions are ours."""
        inserter = self._inserters[table.landing.topic]
        for wait_s in _back_off():
            self._begin(f"landing in {table.landing.table}")
            try:
                await self._settle()
                landed = await self._store.run(
                    lambda client: table.land(StoreTable(client, inserter), rows, partial(self._permit, assignment))
                )
            except (ClickHouseError, OSError) as error:
                # Whether the insert happened is not known; the next try reads back first.
                self._settled = -1
                self._waiting_for = {"store": str(error)}
                log.warning("insert_failed", table=table.landing.table, rows=len(rows), error=str(error))
                await self._wait_holding(wait_s, assignment)
            else:
                self._waiting_for = {}
                return landed
        raise AssertionError("retries do not end")

    async def _settle(self) -> None:
        """On a shared server, end what is still being inserted by older generations, or by a lost request."""
        group = self._consumer._coordinator
        generation, member = group.generation, group.member_id
        if not self._config.store.is_embedded and self._settled != generation:
            await self._store.run(lambda client: fence.end_older(client, generation, member))
        self._settled = generation

    def _permit(self, assignment: int, table: str) -> str:
        self._check(assignment)
        if not self._pulse.is_alive():
            raise StaleError
        coordinator = self._consumer._coordinator
        return fence.query_id(coordinator.generation, coordinator.member_id, table)

    async def _wait_holding(self, wait_s: float, assignment: int) -> None:
        """Wait with the batch in hand: nothing more is read, and heartbeats keep the membership."""
        self._begin("waiting with a batch in hand")
        await self._sleep(wait_s)
        self._check(assignment)
        if self._stopping.is_set():
            raise StaleError

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

    async def _hold_burst(self, gathered: Gathered, rejected: list[Rejected], assignment: int) -> None:
        """Stand still, red, where too much was refused through us: neither a dead letter nor a commit of the batch."""
        if (why := self._bursts.judge(gathered, rejected)) is None:
            return
        self._waiting_for = {"burst_guard": why}
        log.critical("lander_stopped", why=why)
        while True:
            await self._wait_holding(_RETRY_S, assignment)

    async def _keep(self, rejected: list[Rejected]) -> None:
        await dead_letters.publish(self._producer, rejected, time.time_ns() // 1_000_000)
        for one in rejected:
            self._metrics.dead_letters.labels(one.reason.value).inc()
        log.warning("dead_letters", count=len(rejected), first=rejected[0].message)
        reach(CrashPoint.LANDER_AFTER_DEAD_LETTER)

    async def _commit(self, offsets: dict[TopicPartition, int], assignment: int) -> None:
        self._check(assignment)
        self._begin("commit")
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            raise StaleError from error
        reach(CrashPoint.LANDER_AFTER_COMMIT)
        self._positions.advance(offsets)
        self._measure_lag(offsets)

    def _measure_lag(self, positions: dict[TopicPartition, int]) -> None:
        lag = dict.fromkeys(self._landings, 0)
        for partition, position in positions.items():
            lag[partition.topic] += max(0, (self._consumer.highwater(partition) or position) - position)
        for topic, records in lag.items():
            self._metrics.lag.labels(topic).set(records)

    # --- membership ----------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Give up what is in hand; return when no insert is under way any more."""
        self._assignments += 1
        async with self._in_hand:
            log.info("partitions_revoked", partitions=len(list(revoked)))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Trust nothing that was known of the tables: another may have landed since."""
        self._assignments += 1
        self._settled = -1
        self._positions.forget()
        for table in self._tables.values():
            table.forget()
        self._waiting_for = {}
        log.info("partitions_assigned", partitions=len(list(assigned)))

    def _check(self, assignment: int) -> None:
        if assignment != self._assignments:
            raise StaleError

    async def _beat(self) -> None:
        while not self._stopping.is_set():
            await self._sleep(fence.TICK_S)
            if self._pulse.beat():
                self._assignments += 1
                log.warning("was_frozen", why="longer than the group waits for a member")

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _back_off() -> Iterator[float]:
    yield from _BACK_OFF_S
    while True:
        yield _BACK_OFF_S[-1]


__all__ = ["Lander", "LanderConfig", "LanderTooOldError"]
