"""A worker that starts on a log with exposures and configs in it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from support.brokers import run_apart
from support.many_configs import document_of
from support.ports import free_port_block
from support.read_log import read_whole
from support.waiting import until

from ops.config import registry
from ops.topics import ensure_topics
from schemas import avro, chunk, specs
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.topics import CONFIG_VERSIONS, EVENTS_RAW, EXPOSURES

FIRST_MS = 1_790_000_000_000
EXPOSED = 200
PATIENCE_S = 120

pytestmark = pytest.mark.slow


async def test_a_worker_knows_every_config_before_its_first_chunk(
    new_broker: Callable[[], KafkaConnection], tmp_path: Path
):
    """Else the first exposures after each deployment would be called unknown. Garbage there keeps nothing back."""
    broker = new_broker()
    run_apart(ensure_topics(broker, 1, store_log=0))
    history = await registry.read_history(broker)
    for version in (1, 2, 3):
        document = document_of(version, FIRST_MS + version, 1, gates=120, experiments=120)
        await registry.push(broker, history, "default", specs.parse(orjson.dumps(document)), FIRST_MS)
    await write(broker, CONFIG_VERSIONS, b"garbage", b"{}")
    await write(broker, EVENTS_RAW, None, chunk.encode(chunk.Chunk([part_of([exposure(n) for n in range(EXPOSED)])])))

    async def rows() -> list[dict[str, Any]]:
        found = await read_whole(broker, [TopicPartition(EXPOSURES, 0)])
        return [avro.EXPOSURE.decode(avro.unframe(record.value)[1]) for record in found]

    own = {"HEADRACE_KAFKA_BOOTSTRAP": broker.bootstrap, "HEADRACE_DATA_DIR": str(tmp_path)}
    own["HEADRACE_ADMIN_PORT_BASE"] = str(free_port_block(4))
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "worker"], env=os.environ | own, stdout=log, stderr=log
        )
    try:

        async def all_are_there() -> bool:
            return len(await rows()) == EXPOSED

        await until(all_are_there, PATIENCE_S, "the worker emits nothing")
    finally:
        worker.kill()
        worker.wait()
    told = {(row["config_match"], row["config_version"], row["config_time"]) for row in await rows()}
    assert told == {("exact", "3", FIRST_MS + 3)}


def exposure(number: int) -> msgspec.Raw:
    name = f"gate_{number % 120}"
    metadata = {"gate": name, "gateValue": "true", "ruleID": f"{name}_p", "configVersion": "3", "lcut": FIRST_MS + 3}
    event = {"eventName": "statsig::gate_exposure", "time": FIRST_MS + 9, "user": {"userID": f"u{number}"}}
    return msgspec.Raw(orjson.dumps(event | {"metadata": metadata}))


def part_of(events: list[msgspec.Raw]) -> chunk.RequestPart:
    return chunk.RequestPart("default", "production", "k", "r", FIRST_MS + 10, events=events)


async def write(broker: KafkaConnection, topic: str, key: bytes | None, value: bytes) -> None:
    producer = AIOKafkaProducer(**broker.client_settings(), **PRODUCER)
    try:
        await producer.start()
        await producer.send_and_wait(topic, value, key=key, partition=0)
    finally:
        await producer.stop()
