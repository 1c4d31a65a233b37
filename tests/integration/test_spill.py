"""Kafka goes away, and the gateway with it: what was answered 202 has landed once, with a spill and without."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from support.gateway_process import GatewayProcess
from support.ports import free_port_block
from support.read_log import read_whole
from support.waiting import until

from ingest.outbox import Outbox
from ops.demo.landed import ConsoleSql
from ops.kafka import publish
from ops.settings import Settings
from ops.stack.local import LocalStack
from schemas import chunk, keys
from schemas.chunk import SPILLED_HEADER
from schemas.crash_points import CrashPoint
from schemas.kafka import PRODUCER
from schemas.keys import KeyKind
from schemas.limits import CLAIMS_WINDOW_MS
from schemas.topics import EVENTS_RAW, KEYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

PARTITIONS = 2
PATIENCE_S = 90.0
SENDERS = 4
BATCH = 10
HOUR_MS = 3600 * 1000


def event_of(name: str, number: int) -> dict[str, Any]:
    user = {"userID": f"user-{number % 37}"}
    return {"eventName": name, "user": user, "time": 1_763_740_000_000 + number, "value": number}


class Pipeline:
    """Everything but the gateway, which each test starts as it wants it."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._sql = ConsoleSql(stack.settings.console_address)
        self.key = keys.generate(KeyKind.SECRET)
        self._probes = 0

    def gateway(self, name: str, *, spills: bool = True, **settings: Any) -> GatewayProcess:
        """Return a gateway that has not been started."""
        changes = {"spill_dir": str(self._folder / name) if spills else "", **settings}
        return GatewayProcess(self._stack.settings.model_copy(update=changes), self._folder / f"{name}.log")

    def signal_broker(self, number: signal.Signals) -> None:
        state = self._stack.state
        assert state is not None
        os.kill(state.children["broker"].pid, number)

    async def know_key(self) -> None:
        record = keys.record_of(self.key, KeyKind.SECRET, "default", "production", 0)
        await publish(self._stack.settings.kafka, KEYS, [(record.key_hash.encode(), keys.encode(record))])

    async def landed_once(self, name: str, numbers: int) -> None:
        """Wait until as many rows have landed, and see that each of these events is one of them."""
        query = (
            "SELECT count() AS rows, uniqExact(value_number) AS events, max(value_number) AS last "
            f"FROM custom_events WHERE event_name = '{name}'"
        )

        async def found() -> dict[str, Any] | None:
            [line] = await self._sql.lines(query)
            counts: dict[str, Any] = orjson.loads(line)
            return counts if int(counts["rows"]) >= numbers else None

        counts = await until(found, PATIENCE_S, f"fewer than {numbers} rows of {name}")
        assert {key: int(value) for key, value in counts.items()} == {
            "rows": numbers,
            "events": numbers,
            "last": numbers - 1,
        }

    async def rows_of(self, name: str) -> int:
        [line] = await self._sql.lines(f"SELECT count() AS rows FROM custom_events WHERE event_name = '{name}'")
        return int(orjson.loads(line)["rows"])

    async def let_writers_tell_the_time(self, they_do: bool) -> None:
        """Let who writes to events.raw say when, for what takes days; else the broker does, as it must."""
        admin = AIOKafkaAdminClient(**self._stack.settings.kafka.client_settings())
        try:
            await admin.start()
            setting = {"message.timestamp.type": "CreateTime" if they_do else "LogAppendTime"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, EVENTS_RAW, setting)])
        finally:
            await admin.close()

        async def is_so() -> bool:
            self._probes += 1
            return (
                await self.write("probe", self._probes, 1, append_ms=1_763_740_000_000) == 1_763_740_000_000
            ) is they_do

        await until(is_so, PATIENCE_S)

    async def write(self, name: str, number: int, received_at: int, append_ms: int, spilled_ms: int = 0) -> int:
        """Append a chunk of one event, as a gateway does; return the time that the log gave it."""
        content = msgspec.Raw(orjson.dumps(event_of(name, number)))
        part = chunk.RequestPart("default", "production", "k", "r", received_at, events=[content])
        producer = AIOKafkaProducer(**self._stack.settings.kafka.client_settings(), **PRODUCER)
        try:
            await producer.start()
            headers, value = list(chunk.headers(1, spilled_ms)), chunk.encode(chunk.Chunk([part]))
            record = await producer.send_and_wait(
                EVENTS_RAW, value, partition=0, timestamp_ms=append_ms, headers=headers
            )
        finally:
            await producer.stop()
        timestamp_ms: int = record.timestamp
        return timestamp_ms

    async def records(self, name: str) -> list[tuple[bool, list[int]]]:
        """Return the chunks that hold events of this name: whether each was spilled, and which events."""
        partitions = [TopicPartition(EVENTS_RAW, number) for number in range(PARTITIONS)]
        found = []
        for record in await read_whole(self._stack.settings.kafka, partitions):
            parts = chunk.decode(record.value).requests
            events = [orjson.loads(bytes(event)) for part in parts for event in part.events]
            numbers = [event["value"] for event in events if event["eventName"] == name]
            if numbers:
                found.append((SPILLED_HEADER in dict(record.headers), numbers))
        return found

    async def close(self) -> None:
        await self._sql.close()


class Traffic:
    """Senders that send each batch until it is taken, byte for byte, as an SDK does."""

    def __init__(self, pipeline: Pipeline, settings: Settings, name: str) -> None:
        self._url = f"http://127.0.0.1:{settings.gateway_port}/v1/log_event"
        self._headers = {"statsig-api-key": pipeline.key}
        self._name = name
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.events = 0
        self.taken: Counter[str] = Counter()
        """Batches by where they were kept."""
        self.refused = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._send_on()) for _ in range(SENDERS)]

    async def stop(self) -> None:
        """Let each sender finish its batch."""
        self._stopped.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._tasks)

    async def more_taken(self, durability: str, batches: int) -> None:
        goal = self.taken[durability] + batches
        await until(lambda: self.taken[durability] >= goal, PATIENCE_S, f"not {batches} more batches in {durability}")

    async def more_refused(self, times: int) -> None:
        goal = self.refused + times
        await until(lambda: self.refused >= goal, PATIENCE_S, f"not {times} more refusals")

    def _batch(self) -> bytes:
        first, self.events = self.events, self.events + BATCH
        return orjson.dumps({"events": [event_of(self._name, number) for number in range(first, self.events)]})

    async def _send_on(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, headers=self._headers) as client:
            while not self._stopped.is_set():
                await self._send(client, self._batch())

    async def _send(self, client: httpx.AsyncClient, body: bytes) -> None:
        while True:
            try:
                answer = await client.post(self._url, content=body)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                self.taken[answer.headers["x-headrace-durability"]] += 1
                return
            assert answer is None or answer.status_code in (401, 503), answer.text  # 401 until the key is known
            self.refused += 1
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pipeline]:
    folder = tmp_path_factory.mktemp("spill")
    first = free_port_block(8)
    ports = {"gateway_port": first, "console_port": first + 1, "kafka_port": first + 2, "admin_port_base": first + 4}
    settings = Settings(data_dir=folder / "stack", partitions=PARTITIONS, **ports)
    async with LocalStack(settings, processes=("worker", "store")) as stack:
        made = Pipeline(stack, folder)
        await made.know_key()
        yield made
        await made.close()


async def drained(gateway: GatewayProcess) -> None:
    async def is_drained() -> bool:
        return await gateway.metric("headrace_gateway_spill_chunks") == 0

    await until(is_drained, PATIENCE_S, "the spill is not drained")


@pytest.mark.parametrize("spills", [True, False], ids=["spill", "no-spill"])
async def test_outages_of_kafka_and_of_the_gateway_within_them_cost_no_event_and_double_none(
    pipeline: Pipeline, spills: bool
):
    """Kafka is frozen, then killed; each time the gateway is killed while it does without Kafka."""
    name = "outages-" + ("spilled" if spills else "retried")
    gateway = pipeline.gateway(name, spills=spills)
    traffic = Traffic(pipeline, gateway.settings, name)
    try:
        gateway.start()
        traffic.start()
        for how in (signal.SIGSTOP, signal.SIGKILL):
            await traffic.more_taken("kafka", 50)
            pipeline.signal_broker(how)
            await (traffic.more_taken("spill", 100) if spills else traffic.more_refused(SENDERS))
            await gateway.kill()
            gateway.start()
            await traffic.more_refused(SENDERS)
            if how == signal.SIGSTOP:
                pipeline.signal_broker(signal.SIGCONT)
            await gateway.ready()
        await traffic.more_taken("kafka", 50)
        await traffic.stop()
        if spills:
            await drained(gateway)
        await pipeline.landed_once(name, traffic.events)
        assert spills == (traffic.taken["spill"] > 0)
    finally:
        gateway.clean_up()
        print(traffic.events, traffic.taken, traffic.refused)


async def test_a_gateway_that_dies_at_each_point_of_the_spill_in_turn_loses_and_doubles_nothing(pipeline: Pipeline):
    name = "crashes"
    gateway = pipeline.gateway(name)
    traffic = Traffic(pipeline, gateway.settings, name)
    try:
        gateway.start(CrashPoint.SPILL_AFTER_COMMIT, times=50)
        await gateway.ready()
        traffic.start()
        await traffic.more_taken("kafka", 5)
        pipeline.signal_broker(signal.SIGSTOP)
        assert await gateway.end() == -signal.SIGKILL
        assert traffic.taken["spill"] > 0
        pipeline.signal_broker(signal.SIGCONT)
        for point in (CrashPoint.SPILL_BEFORE_APPEND, CrashPoint.SPILL_AFTER_APPEND):
            gateway.start(point)
            assert await gateway.end() == -signal.SIGKILL
        gateway.start()
        await traffic.more_taken("kafka", 5)
        await traffic.stop()
        await drained(gateway)
        await pipeline.landed_once(name, traffic.events)
        chunks = await pipeline.records(name)
        spilled = Counter(number for is_spilled, numbers in chunks for number in numbers if is_spilled)
        assert max(spilled.values()) > 1, "nothing was appended twice: this has not shown that copies are dropped"
    finally:
        pipeline.signal_broker(signal.SIGCONT)
        gateway.clean_up()


async def test_a_copy_that_was_spilled_for_longer_than_its_first_is_claimed_is_found_where_that_landed(
    pipeline: Pipeline,
):
    """Without the time of its spilling it lands again: that is the limit of the claims, and shows that this bites."""
    now_ms = time.time_ns() // 1_000_000
    first_ms, spilled_ms = now_ms - CLAIMS_WINDOW_MS - HOUR_MS, now_ms - CLAIMS_WINDOW_MS // 2 - HOUR_MS
    await pipeline.let_writers_tell_the_time(True)
    try:
        for name, header_ms in (("outlived", spilled_ms), ("outlived-unknown", 0)):
            await pipeline.write(name, 0, received_at=first_ms, append_ms=first_ms)
            await pipeline.landed_once(name, 1)
            await pipeline.write(name, 0, received_at=spilled_ms, append_ms=now_ms, spilled_ms=header_ms)
        await pipeline.write("outlived", 1, received_at=now_ms, append_ms=now_ms)
    finally:
        await pipeline.let_writers_tell_the_time(False)
    await pipeline.landed_once("outlived", 2)
    assert await pipeline.rows_of("outlived-unknown") == 2


async def test_beyond_its_bytes_a_spill_takes_nothing_and_the_gateway_says_why(pipeline: Pipeline):
    name = "full"
    gateway = pipeline.gateway(name, spill_max_bytes=20_000)
    traffic = Traffic(pipeline, gateway.settings, name)
    try:
        gateway.start()
        await gateway.ready()
        traffic.start()
        await traffic.more_taken("kafka", 5)
        pipeline.signal_broker(signal.SIGSTOP)
        await until(lambda: "HEADRACE_SPILL_MAX_BYTES" in gateway.why_not_ready(), PATIENCE_S)
        assert traffic.taken["spill"] > 0
        await traffic.more_refused(2 * SENDERS)
        pipeline.signal_broker(signal.SIGCONT)
        await traffic.more_taken("kafka", 5)
        await traffic.stop()
        await drained(gateway)
        assert gateway.why_not_ready() == ""
        await pipeline.landed_once(name, traffic.events)
    finally:
        pipeline.signal_broker(signal.SIGCONT)
        gateway.clean_up()


async def test_a_gateway_that_is_told_to_stop_spills_what_kafka_does_not_take(pipeline: Pipeline):
    name = "stopped"
    gateway = pipeline.gateway(name)
    traffic = Traffic(pipeline, gateway.settings, name)
    try:
        gateway.start()
        await gateway.ready()
        traffic.start()
        await traffic.more_taken("kafka", 5)
        pipeline.signal_broker(signal.SIGSTOP)

        async def is_in_hand() -> bool:
            return await gateway.metric("headrace_gateway_in_flight_bytes") > 0

        await until(is_in_hand, PATIENCE_S)
        gateway.signal(signal.SIGTERM)
        assert await gateway.end() == 0
        assert traffic.taken["spill"] > 0
        pipeline.signal_broker(signal.SIGCONT)
        gateway.start()
        await traffic.more_taken("kafka", 5)
        await traffic.stop()
        await drained(gateway)
        await pipeline.landed_once(name, traffic.events)
    finally:
        pipeline.signal_broker(signal.SIGCONT)
        gateway.clean_up()


async def test_a_gateway_whose_folder_another_one_has_ends_and_says_what_to_do(pipeline: Pipeline):
    gateway = pipeline.gateway("shared")
    assert gateway.settings.spill_folder is not None
    other = Outbox(gateway.settings.spill_folder)
    try:
        gateway.start()
        assert await gateway.end() == 1
    finally:
        gateway.clean_up()
        other.close()
    said = orjson.loads(gateway.log.read_text().splitlines()[-1])
    assert (said["event"], said["level"]) == ("cannot_start", "critical")
    assert f"process {os.getpid()}" in said["error"]
    assert "HEADRACE_SPILL_DIR" in said["error"]
    assert "exception" not in said
