"""What stock Faust and aiokafka do on a real broker, and that the worker's measures hold there."""

import asyncio
import struct
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from faust.types import TP
from support.brokers import run_apart, running_broker
from support.stock_faust import measured_app, stock_app
from support.waiting import until

from ops.kafka import admin_client
from ops.topics import ensure_topics
from processors.claims import encode_entry, entry_key, without_log
from processors.claims_log import read_claims
from processors.config import WorkerConfig
from processors.log_bounds import RecordsLostError
from processors.slot import SlotTakenError
from processors.watchdog import StalledError
from processors.worker import Worker
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.metrics import WorkerMetrics
from schemas.topics import CLAIMS_CHANGELOG, EVENTS_RAW, WORKER_APP_ID

pytestmark = pytest.mark.slow

RECORDS = 10
STALL_S = 10.0
"""Longer than a busy machine takes for a step; where stalling is not the subject, the worker's own limit stands."""
"""Short for a test, and longer than any start of a consumer on a machine that does other things as well."""


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConnection]:
    with running_broker(tmp_path_factory.mktemp("broker")) as connection:
        run_apart(ensure_topics(connection, 1, store_log=0))
        yield connection


async def produce(connection: KafkaConnection, topic: str, *records: tuple[bytes, bytes | None]) -> None:
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    await producer.start()
    for key, value in records:
        await producer.send_and_wait(topic, value, key=key, partition=0)
    await producer.stop()


async def delete_all(connection: KafkaConnection, topic: str, before: int) -> None:
    async with admin_client(connection) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})


# --- what the fetch does ---------------------------------------------------------------------------


@pytest.fixture
async def partition(connection: KafkaConnection) -> TP:
    """A partition with ten records."""
    topic = f"faults-{uuid.uuid4()}"
    async with admin_client(connection) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    await produce(connection, topic, *[(b"k", b"v")] * RECORDS)
    return TP(topic, 0)


@asynccontextmanager
async def fetching(connection: KafkaConnection, app: faust.App, partition: TP) -> AsyncIterator[Any]:
    """Yield the app's consumer thread over a real consumer that is assigned `partition`, in a group without commits."""
    consumer = AIOKafkaConsumer(
        **connection.client_settings(),
        group_id=partition.topic,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    consumer.assign([TopicPartition(*partition)])
    app.consumer.resume_flow()
    thread = app.consumer._thread
    thread._consumer = consumer
    thread.call_thread = _call
    yield thread
    await consumer.stop()
    thread.thread_loop.close()


async def _call(function: Any, *arguments: Any, **named: Any) -> Any:
    return await function(*arguments, **named)


async def test_a_fetch_for_no_partitions_takes_all_of_them_in_stock_faust_and_none_in_ours(
    connection: KafkaConnection, partition: TP
):
    """Measure b: at the end of a recovery the set of active partitions is empty for a moment."""
    async with fetching(connection, stock_app(), partition) as thread:
        taken = await thread.getmany(set(), timeout=30)
        assert sum(len(records) for records in taken.values()) == RECORDS
        assert await thread.position(TopicPartition(*partition)) == RECORDS, "and Faust drops them"
    async with fetching(connection, measured_app(), partition) as thread:
        assert await thread.getmany(set(), timeout=30) == {}
        assert await thread.position(TopicPartition(*partition)) == 0


async def test_what_a_stray_fetch_took_on_a_first_start_is_skipped_by_stock_faust_and_read_by_ours(
    connection: KafkaConnection, partition: TP
):
    """Measure c: where nothing was ever committed, stock Faust seeks nowhere."""
    async with fetching(connection, stock_app(), partition) as thread:
        await thread.getmany(set(), timeout=30)
        await thread.seek_to_committed()
        assert await thread.position(TopicPartition(*partition)) == RECORDS
    async with fetching(connection, measured_app(), partition) as thread:
        await thread.getmany({partition}, timeout=30)
        assert await thread.committed_offsets([partition]) == {partition: None}
        await thread.seek_all({partition: 0})
        assert await thread.position(TopicPartition(*partition)) == 0


# --- the claims ------------------------------------------------------------------------------------


async def test_a_table_notes_its_own_record_as_read_up_to_and_the_claims_are_read_whole(connection: KafkaConnection):
    """Measure f: a frozen worker that wakes writes its claim behind those of the new owner."""
    app = stock_app()
    table = app.Table("claims", partitions=1, key_type=bytes, value_type=bytes)
    noted: dict[TP, int] = {}
    table.data.set_persisted_offset = noted.__setitem__
    sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    sent.set_result(TopicPartitionOffset("claims", 0, 7))
    table._on_changelog_sent(sent)
    assert noted == {TP("claims", 0): 7}, "records 0 to 6 may be another's, and were never read"

    mine, others = bytes(16), bytes([1] * 16)
    await produce(
        connection,
        CLAIMS_CHANGELOG,
        (entry_key(1, 0, 1), encode_entry(1000, [others])),
        (entry_key(1, 0, 2), encode_entry(2000, [mine])),
        (entry_key(1, 0, 3), encode_entry(3000, [others])),
        (entry_key(1, 0, 1), None),
    )
    found = await read_claims(connection, [0], 1, lambda *_: None)
    assert [(entry.offset, entry.ids) for entry in found.entries[1, 0]] == [(2, mine), (3, others)]
    await produce(connection, CLAIMS_CHANGELOG, (entry_key(1, 0, 2), None), (entry_key(1, 0, 3), None))


async def test_claims_that_name_no_log_are_those_of_the_first_and_are_forgotten_under_the_key_they_have(
    connection: KafkaConnection,
):
    """Workers wrote no log before one could follow another."""
    old = [entry_key(7, 0, offset) for offset in range(4)]
    ids = [bytes([offset] * 16) for offset in range(4)]
    await produce(
        connection,
        CLAIMS_CHANGELOG,
        *((without_log(key), encode_entry(1000, [ids[offset]])) for offset, key in enumerate(old)),
        (old[0], encode_entry(1000, [ids[0]])),  # read again after the upgrade
        (old[1], None),
        (without_log(old[1]), None),
        (entry_key(8, 0, 3), encode_entry(2000, [ids[1]])),
    )
    assert without_log(old[3]) == struct.pack(">IQ", 0, 3)
    found = await read_claims(connection, [0], 7, lambda *_: None)
    assert [(entry.offset, entry.ids) for entry in found.entries[7, 0]] == [(at, ids[at]) for at in (0, 2, 3)]
    assert [(entry.offset, entry.ids) for entry in found.entries[8, 0]] == [(3, ids[1])]
    assert found.without_log == {old[0], old[2], old[3]}
    gone = [*old, entry_key(8, 0, 3), *map(without_log, old)]
    await produce(connection, CLAIMS_CHANGELOG, *((key, None) for key in gone))


# --- a worker that must end ------------------------------------------------------------------------


@asynccontextmanager
async def working(connection: KafkaConnection, **config: Any) -> AsyncIterator[Worker]:
    """Yield a worker that is ready."""
    worker = Worker(WorkerConfig(connection, **config), WorkerMetrics())
    await worker.start()
    try:
        await ready(worker)
        yield worker
    finally:
        await worker.stop()


async def ready(worker: Worker) -> None:
    ended = asyncio.ensure_future(worker.failed())
    await until(lambda: ended.done() or not worker.readiness(), what="the worker is not ready")
    if ended.done():
        raise ended.result()
    ended.cancel()


async def failure(worker: Worker) -> BaseException:
    return await asyncio.wait_for(worker.failed(), 120)


async def committed(connection: KafkaConnection) -> int | None:
    consumer = AIOKafkaConsumer(**connection.client_settings(), group_id=WORKER_APP_ID, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(EVENTS_RAW, 0)])
    found: int | None = await consumer.committed(TopicPartition(EVENTS_RAW, 0))
    await consumer.stop()
    return found


async def garbage(connection: KafkaConnection, records: int) -> None:
    """Give the worker something to process; a record that is no chunk becomes a dead letter."""
    await produce(connection, EVENTS_RAW, *[(b"k", b"\x00garbage")] * records)


async def silent(*_: object, **__: object) -> dict[Any, Any]:
    await asyncio.sleep(0.05)
    return {}


async def test_a_consumer_that_goes_silent_while_it_lives_ends_the_worker(connection: KafkaConnection):
    async with working(connection, stall_s=STALL_S) as worker:
        assert worker._app is not None
        thread = worker._app.consumer._thread
        thread._fetch_records = silent
        await until(lambda: not thread.fetches_in_flight)
        await garbage(connection, 3)
        error = await failure(worker)
    assert isinstance(error, StalledError)
    assert str(error) == f"reading of events.raw/0 has not moved for {STALL_S:g} s although Kafka answers"


async def test_a_commit_that_hangs_ends_the_worker(connection: KafkaConnection):
    async with working(connection, stall_s=STALL_S) as worker:
        assert worker._app is not None
        released = threading.Event()

        async def hang(_: object) -> bool:
            while not released.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.05)
            return False

        worker._app.consumer._thread._commit = hang
        await garbage(connection, 3)
        error = await failure(worker)
        assert isinstance(error, StalledError)
        assert str(error).startswith("commit of events.raw/0 has not moved")
        # A process is cut after 10 s; here Faust waits for the commit before it stops.
        released.set()


async def test_a_worker_with_nothing_to_do_is_not_stalled(connection: KafkaConnection):
    async with working(connection, stall_s=STALL_S) as worker:
        await garbage(connection, 1)
        end = (await worker._bounds.of(EVENTS_RAW, [0]))[0].end

        async def is_done() -> bool:
            return await committed(connection) == end

        await until(is_done)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.failed(), 1.5 * STALL_S)


async def test_of_two_workers_with_one_name_the_first_ends_and_says_why(connection: KafkaConnection):
    """Without the watch each drove the other out every 3 s, for ever, and neither processed anything."""
    async with working(connection, instance="twice") as first, working(connection, instance="twice") as second:
        error = await failure(first)
        assert isinstance(error, SlotTakenError)
        assert "another worker has taken the slot 'headrace-worker-twice'" in str(error)
        await garbage(connection, 2)
        end = (await second._bounds.of(EVENTS_RAW, [0]))[0].end

        async def is_done() -> bool:
            return await committed(connection) == end

        await until(is_done)


async def test_a_retention_that_overtook_what_was_committed_stops_the_worker_before_any_record_comes(
    connection: KafkaConnection,
):
    async with working(connection) as worker:
        await garbage(connection, 2)
        end = (await worker._bounds.of(EVENTS_RAW, [0]))[0].end

        async def is_done() -> bool:
            return await committed(connection) == end

        await until(is_done)
    await garbage(connection, 5)
    await delete_all(connection, EVENTS_RAW, before=end + 3)
    worker = Worker(WorkerConfig(connection), WorkerMetrics())
    await worker.start()
    error = await failure(worker)
    await worker.stop()
    assert isinstance(error, RecordsLostError)
    assert f"records {end} to {end + 2} of events.raw/0 were deleted before they were processed" in str(error)
    assert await committed(connection) == end, "an operator decides, not the worker"


class TopicPartitionOffset:
    """What Faust keeps of an acknowledged record, as far as a Table looks at it."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self.topic_partition = TP(topic, partition)
        self.offset = offset
