"""Topics of little into a table that replaces by key, in the order of the log: dead letters, identity links.

The table itself says how far it is: what an insert wrote is one part of the table or nothing, so whoever
goes on asks for the last offset. No offset is committed to Kafka; its group only shares the partitions out.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from processors.landing.store_thread import StoreThread
from schemas.kafka import METADATA_MAX_AGE_MS, KafkaConnection
from schemas.large_records import large_records
from schemas.limits import MIB
from schemas.logs import Logs, read_logs
from schemas.metrics import LandedMetrics
from schemas.store import StoreAddress

log = structlog.get_logger()

_POLL_MS: Final = 250
_BATCH_RECORDS: Final = 5_000
_BATCH_BYTES: Final = 16 * MIB
_FETCH_BYTES: Final = 2 * MIB
_SESSION_MS: Final = 10_000
_RETRY_S: Final = 1.0
_IDLE_S: Final = 0.05

Found = dict[TopicPartition, list[Any]]
"""Records as aiokafka hands them out."""


@dataclass(frozen=True)
class Landing:
    """What is landed, and how. `table` is its name in health and logs."""

    table: str
    topics: tuple[str, ...]
    group: str
    positions: Callable[[Client, int], dict[tuple[str, int], int]]
    """Of a log number: the last offset that stands in the table, by topic and partition."""
    insert: Callable[[Client, Found, int], None]
    """Put records of a log number into the table; those that are there already change nothing."""


class TopicLander(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Lands topics beside the lander. When the store or Kafka is away it waits and says so."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress, metrics: LandedMetrics, landing: Landing) -> None:
        self._kafka = kafka
        self._landing = landing
        self._metrics = metrics
        self.registry = metrics.registry
        self._store = StoreThread(store)
        self._waiting_for: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = 0
        self._must_seek = False
        self._consumer: Any = None

    async def start(self) -> None:
        """Begin to land in the background."""
        self._task = asyncio.create_task(self._run(), name=self._landing.table)

    async def stop(self) -> None:
        """Finish the insert that is under way, leave the group, close the store."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._store.close()

    def readiness(self) -> dict[str, str]:
        """Return why the records do not land, {} when they do."""
        return dict(self._waiting_for)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._land_until_disturbed()
            except (KafkaError, ClickHouseError, OSError) as error:
                self._waiting_for = {self._landing.table: f"they do not land: {error}"}
                log.warning("landing_disturbed", table=self._landing.table, error=repr(error))
            except Exception as error:
                self._waiting_for = {self._landing.table: f"they do not land: {error!r}"}
                log.exception("landing_failed", table=self._landing.table)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _RETRY_S)

    async def _land_until_disturbed(self) -> None:
        reader = asyncio.ensure_future(self.known_logs())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([reader, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stopping.is_set():
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            return
        self._log = reader.result().incarnation
        self._consumer = AIOKafkaConsumer(
            **self._kafka.client_settings(),
            group_id=self._landing.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_SESSION_MS // 3,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        try:
            self._consumer.subscribe(list(self._landing.topics), listener=self)
            await self._consumer.start()
            while not self._stopping.is_set():
                await self._land_some()
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await self._consumer.stop()

    async def known_logs(self) -> Logs:
        """Return the logs there are, waiting until there is one; nothing is landed before."""
        return await read_logs(self._kafka)

    async def _land_some(self) -> None:
        if self._must_seek:
            await self._seek()
        found = await large_records(
            self._consumer, timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS, max_bytes=_BATCH_BYTES
        )
        if not found or self._must_seek:
            return
        try:
            # All of it in the thread of the store: to mask what is shown of large dead letters takes seconds.
            await self._store.run(lambda client: self._landing.insert(client, found, self._log))
        except BaseException:
            self._must_seek = True
            raise
        self._metrics.landed.inc(sum(map(len, found.values())))
        self._waiting_for = {}

    async def _seek(self) -> None:
        """Go on behind what stands in the table."""
        last = await self._store.run(lambda client: self._landing.positions(client, self._log))
        self._must_seek = False
        for tp in self._consumer.assignment():
            offset = last.get((tp.topic, tp.partition))
            self._consumer.seek(tp, 0 if offset is None else offset + 1)

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """Read nothing more before the table was asked again."""
        self._must_seek = True

    async def on_partitions_assigned(self, _assigned: Iterable[TopicPartition]) -> None:
        """Read nothing before the table was asked how far it is: another may have landed since."""
        self._must_seek = True
