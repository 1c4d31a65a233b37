"""Dead letters from their topics into the table `dead_letters`, in the order of the log.

The table itself says how far it is: what an insert wrote is one part of the table or nothing, so whoever
goes on asks for the last offset. No offset is committed to Kafka; its group only shares the partitions out.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from processors.landing.dead_letter_rows import row_of
from processors.landing.store_thread import StoreThread
from schemas.kafka import KafkaConnection
from schemas.large_records import large_records
from schemas.limits import MIB
from schemas.logs import LogReader
from schemas.metrics import DeadLetterMetrics
from schemas.store import StoreAddress
from schemas.topics import DEAD_LETTER_GROUP, DEAD_LETTERS

log = structlog.get_logger()

_POLL_MS: Final = 250
_BATCH_RECORDS: Final = 5_000
_BATCH_BYTES: Final = 16 * MIB
_FETCH_BYTES: Final = 2 * MIB
_SESSION_MS: Final = 10_000
_RETRY_S: Final = 1.0
_IDLE_S: Final = 0.05

_POSITIONS: Final = (
    "SELECT stage, dlq_partition, max(dlq_offset) FROM dead_letters WHERE log = {log:UInt8} "
    "GROUP BY stage, dlq_partition"
)


class DeadLetterLander(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Lands dead letters beside the lander. When the store or Kafka is away it waits and says so."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress, metrics: DeadLetterMetrics) -> None:
        self._kafka = kafka
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
        self._task = asyncio.create_task(self._run(), name="dead_letters")

    async def stop(self) -> None:
        """Finish the insert that is under way, leave the group, close the store."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._store.close()

    def readiness(self) -> dict[str, str]:
        """Return why dead letters do not land, {} when they do."""
        return dict(self._waiting_for)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._land_until_disturbed()
            except (KafkaError, ClickHouseError, OSError) as error:
                self._waiting_for = {"dead_letters": f"they do not land: {error}"}
                log.warning("dead_letters_disturbed", error=repr(error))
            except Exception as error:
                self._waiting_for = {"dead_letters": f"they do not land: {error!r}"}
                log.exception("dead_letters_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _RETRY_S)

    async def _land_until_disturbed(self) -> None:
        reader = asyncio.ensure_future(LogReader(self._kafka).wait_current())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([reader, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stopping.is_set():
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            return
        self._log = reader.result()
        self._consumer = AIOKafkaConsumer(
            **self._kafka.client_settings(),
            group_id=DEAD_LETTER_GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_SESSION_MS // 3,
        )
        try:
            self._consumer.subscribe(list(DEAD_LETTERS), listener=self)
            await self._consumer.start()
            while not self._stopping.is_set():
                await self._land_some()
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await self._consumer.stop()

    async def _land_some(self) -> None:
        if self._must_seek:
            await self._seek()
        found = await large_records(
            self._consumer, timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS, max_bytes=_BATCH_BYTES
        )
        if not found or self._must_seek:
            return
        try:
            # In the thread of the store: to mask what is shown takes seconds where letters are large.
            await self._store.run(lambda client: _insert(client, _block(found, self._log)))
        except BaseException:
            self._must_seek = True
            raise
        self._metrics.landed.inc(sum(map(len, found.values())))
        self._waiting_for = {}

    async def _seek(self) -> None:
        """Go on behind what stands in the table."""
        parameters = {"log": self._log}
        answer = await self._store.run(lambda client: client.query(_POSITIONS, parameters).result_rows)
        last = {(stage, partition): offset for stage, partition, offset in answer}
        self._must_seek = False
        for tp in self._consumer.assignment():
            offset = last.get((DEAD_LETTERS[tp.topic].value, tp.partition))
            self._consumer.seek(tp, 0 if offset is None else offset + 1)

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """Read nothing more before the table was asked again."""
        self._must_seek = True

    async def on_partitions_assigned(self, _assigned: Iterable[TopicPartition]) -> None:
        """Read nothing before the table was asked how far it is: another may have landed since."""
        self._must_seek = True


def _block(found: dict[TopicPartition, list[Any]], log: int) -> bytes:
    return b"\n".join(
        row_of(record, log, DEAD_LETTERS[tp.topic]) for tp, records in found.items() for record in records
    )


def _insert(client: Client, block: bytes) -> None:
    client.raw_insert("dead_letters", insert_block=block, fmt="JSONEachRow")
