"""A worker whose code is broken stops before it makes dead letters of everything; a mended one goes on."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from support.brokers import run_apart
from support.ports import free_port_block
from support.read_log import read_whole
from support.waiting import until

from ops.stack.local import why_not_ready
from ops.topics import ensure_topics
from processors.burst_guard import IN_A_ROW
from schemas import chunk, dead_letter
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.reasons import Reason
from schemas.topics import CUSTOM_EVENTS, DLQ_WORKER, EVENTS_RAW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_S = 120.0
A_CHUNK = 30
CHUNKS = 20

# A bad deploy: whatever a user does on a Tuesday fails in our own code.
_BROKEN = """
import sys
from processors.map_event import EventMapper
mapped = EventMapper.map

def fails(self, event, *rest):
    if event.value == "tuesday":
        raise KeyError("tuesday")
    return mapped(self, event, *rest)

EventMapper.map = fails
from ops.cli import main
sys.argv = ["headrace", "worker"]
main()
"""
_MENDED = "import sys; from ops.cli import main; sys.argv = ['headrace', 'worker']; main()"


@contextmanager
def worker(connection: KafkaConnection, folder: Path, code: str, **settings: str) -> Iterator[int]:
    """Run a worker; yield its admin port."""
    base = free_port_block(4)
    environment = os.environ | settings | {
        "HEADRACE_KAFKA_BOOTSTRAP": connection.bootstrap,
        "HEADRACE_ADMIN_PORT_BASE": str(base),
        "HEADRACE_DATA_DIR": str(folder),
    }  # fmt: skip
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=log, stderr=log)
    try:
        yield base + 1
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


async def send(connection: KafkaConnection, partition: int, chunks: int, value: str) -> None:
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    await producer.start()
    for number in range(chunks):
        events = [
            orjson.dumps({"eventName": "e", "time": 1_763_740_000_000 + number * A_CHUNK + n, "value": value})
            for n in range(A_CHUNK)
        ]
        raw = [msgspec.Raw(event) for event in events]
        part = chunk.RequestPart("default", f"p{partition}", "k", "r", 1_763_740_000_000, events=raw)
        headers = list(chunk.headers(A_CHUNK))
        await producer.send_and_wait(
            EVENTS_RAW, chunk.encode(chunk.Chunk([part])), partition=partition, headers=headers
        )
    await producer.stop()


async def test_a_bad_deploy_stops_its_partition_and_nothing_is_lost_when_it_is_mended(
    new_broker: Callable[[], KafkaConnection], tmp_path: Path
):
    connection = new_broker()
    run_apart(ensure_topics(connection, 2, store_log=0))

    async def count(topic: str, partition: int) -> int:
        return len(await read_whole(connection, [TopicPartition(topic, partition)]))

    await send(connection, 0, CHUNKS, "tuesday")
    await send(connection, 1, CHUNKS, "wednesday")
    with worker(connection, tmp_path, _BROKEN) as port:

        async def said() -> str:
            why = await asyncio.to_thread(why_not_ready, "127.0.0.1", port)
            return why if "partition 0 is stopped" in why else ""

        why = await until(said, PATIENCE_S, "the worker goes on")
        assert "KeyError('tuesday')" in why
        assert "HEADRACE_BURST_GUARD=false" in why

        async def other_partition_goes_on() -> bool:
            return await count(CUSTOM_EVENTS, 1) == CHUNKS * A_CHUNK

        await until(other_partition_goes_on, PATIENCE_S, "the other partition stands still as well")
    dead = await read_whole(connection, [TopicPartition(DLQ_WORKER, 0)])
    assert len(dead) == IN_A_ROW // A_CHUNK * A_CHUNK
    assert {dead_letter.read(one.value).reason for one in dead} == {Reason.UNEXPECTED_ERROR}
    assert await count(CUSTOM_EVENTS, 0) == 0

    with worker(connection, tmp_path, _MENDED):

        async def the_rest_goes_on() -> bool:
            return await count(CUSTOM_EVENTS, 0) == CHUNKS * A_CHUNK - len(dead)

        await until(the_rest_goes_on, PATIENCE_S, "the mended worker does not go on")

    await send(connection, 0, 1, "another")
    await send(connection, 1, CHUNKS, "tuesday")
    with worker(connection, tmp_path, _BROKEN, HEADRACE_BURST_GUARD="false"):

        async def all_are_dead() -> bool:
            return await count(DLQ_WORKER, 1) == CHUNKS * A_CHUNK

        await until(all_are_dead, PATIENCE_S, "the guard stops although it is off")
