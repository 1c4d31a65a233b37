"""More partitions by a new log, on a real broker: when the old one counts as drained."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions
from support.brokers import run_apart
from support.lander_process import LanderProcess, events, write
from support.waiting import until

from ops.grow import grow
from ops.kafka import admin_client, publish
from ops.topics import ensure_topics
from processors.log_bounds import LogBounds
from processors.source import Source
from schemas import chunk
from schemas.kafka import KafkaConnection
from schemas.logs import LogRecord
from schemas.topics import CUSTOM_EVENTS, EVENTS_RAW, EXPOSURES, LOGS, worker_group

PATIENCE_S = 60

pytestmark = pytest.mark.slow


@pytest.fixture
def own_broker(new_broker: Callable[[], KafkaConnection]) -> KafkaConnection:
    """A broker whose log has two partitions, and no records."""
    connection = new_broker()
    run_apart(ensure_topics(connection, 2, store_log=0))
    return connection


@asynccontextmanager
async def following(connection: KafkaConnection) -> AsyncIterator[Source]:
    """Yield what tells a worker which log to process."""
    bounds = LogBounds(connection)
    source = Source(connection, bounds, lambda key, value: publish(connection, LOGS, [(key, value)]))
    await source.start()
    try:
        yield source
    finally:
        await source.stop()
        await bounds.stop()


async def ends(connection: KafkaConnection, topic: str) -> dict[int, int]:
    """Return where the two partitions of a topic end."""
    bounds = LogBounds(connection)
    try:
        return {number: end for number, (_, end) in (await bounds.of(topic, range(2))).items()}
    finally:
        await bounds.stop()


async def commit(connection: KafkaConnection, topic: str, offsets: dict[int, int]) -> None:
    """Commit as the workers of a log do."""
    group: Any = worker_group(topic)
    consumer = AIOKafkaConsumer(**connection.client_settings(), group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        places = {TopicPartition(topic, number): offset for number, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit(places)
    finally:
        await consumer.stop()


async def chooses(source: Source, wanted: LogRecord) -> bool:
    return await source.choose() == wanted


async def test_a_log_is_drained_when_all_that_it_holds_is_committed_though_some_partitions_never_held_anything(
    own_broker: KafkaConnection,
):
    nobody = chunk.encode(chunk.Chunk([]))
    await publish(own_broker, EVENTS_RAW, [(b"same", nobody)] * 3)
    await commit(own_broker, LOGS, {0: 0})  # a new cluster makes the topic of the offsets when it is first used
    found = await ends(own_broker, EVENTS_RAW)
    [used] = [number for number, end in found.items() if end]
    new = await grow(own_broker, 4, lambda _: None)
    async with following(own_broker) as source:
        assert (await source.choose()).topic == EVENTS_RAW, "nothing of it is committed"
        await commit(own_broker, EVENTS_RAW, {used: 2})
        assert (await source.choose()).topic == EVENTS_RAW, "one record of it is not"
        await commit(own_broker, EVENTS_RAW, {used: 3})
        assert await source.choose() == new
    async with following(own_broker) as later:
        assert await later.choose() == new


async def test_a_worker_that_was_frozen_while_its_log_and_the_next_were_drained_goes_on_with_the_third(
    own_broker: KafkaConnection,
):
    await commit(own_broker, LOGS, {0: 0})
    async with following(own_broker) as frozen, following(own_broker) as other:
        first = await frozen.choose()
        for partitions in (3, 4):
            newest = await grow(own_broker, partitions, lambda _: None)
            await until(partial(chooses, other, newest))
        async with asyncio.timeout(PATIENCE_S):
            await frozen.wait_drained(first)
        assert await frozen.choose() == newest


async def test_a_lander_that_was_away_while_the_topics_grew_lands_from_all_of_their_partitions(
    own_broker: KafkaConnection, tmp_path: Path
):
    lander = LanderProcess(own_broker, tmp_path, group=f"lander-{uuid.uuid4()}")
    try:
        lander.start()
        await until(lambda: lander.ask("readiness") == {}, PATIENCE_S, "the lander is not ready")
        async with admin_client(own_broker) as admin:
            await admin.create_partitions({topic: NewPartitions(4) for topic in (EXPOSURES, CUSTOM_EVENTS)})
        await lander.kill()
        lander.start()
        sent = events(range(4))
        await write(own_broker, sent)
        rows = "SELECT count() FROM (SELECT 1 FROM exposures UNION ALL SELECT 1 FROM custom_events)"

        async def all_landed() -> bool:
            return bool(await lander.asked(rows) == [[len(sent)]])

        await until(all_landed, PATIENCE_S, "some partitions are not read")
    finally:
        lander.clean_up()
