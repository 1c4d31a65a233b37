"""The gateway against a real broker: what 202 means, and what happens when the log goes away."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from support.brokers import run_apart
from support.ports import free_port_block
from support.read_log import read_whole

from ingest.config import GatewayConfig
from ingest.durability import Lane
from ingest.gateway import Gateway
from ingest.protocol import GatewayProtocol
from ops.http_server import HttpServer, bind
from ops.settings import Settings
from ops.stack.broker import Broker
from ops.topics import ensure_topics
from schemas import avro, chunk, keys, specs
from schemas.ids import partition_key, partition_of
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.keys import KeyKind
from schemas.limits import ANSWER_DEADLINE_S
from schemas.metrics import GatewayMetrics
from schemas.topics import CONFIG_SPECS, DLQ_INGEST, EVENTS_RAW, KEYS

PARTITIONS = 4
PATIENCE_S = 60.0
SPECS = Path(__file__).parents[1].joinpath("data", "specs.json").read_bytes()


class Running:
    """A gateway that serves, and the log behind it."""

    def __init__(self, connection: KafkaConnection, answer_deadline_s: float) -> None:
        self.connection = connection
        self.gateway = Gateway(GatewayConfig(connection, answer_deadline_s=answer_deadline_s), GatewayMetrics())
        self.server = HttpServer(self.gateway.app, bind("127.0.0.1", 0, "X"), protocol=GatewayProtocol)
        self.key = keys.generate(KeyKind.SECRET)
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.http = httpx.AsyncClient(base_url=self.url, headers={"statsig-api-key": self.key}, timeout=PATIENCE_S)

    async def write(self, topic: str, key: bytes, value: bytes) -> None:
        producer = AIOKafkaProducer(**self.connection.client_settings(), **PRODUCER)
        try:
            await producer.start()
            await producer.send_and_wait(topic, value, key=key)
        finally:
            await producer.stop()

    async def know(self, key: str, kind: KeyKind = KeyKind.SECRET, **changes: Any) -> None:
        made = keys.record_of(key, kind, "default", "production", int(time.time() * 1000))
        fields = {name: getattr(made, name) for name in made.__struct_fields__}
        record = keys.KeyRecord(**{**fields, **changes})
        await self.write(KEYS, record.key_hash.encode(), keys.encode(record))

    async def records(self, topic: str) -> list[Any]:
        return await read_whole(self.connection, [TopicPartition(topic, number) for number in range(PARTITIONS)])

    async def events(self) -> list[bytes]:
        """Return this gateway's events in the log, found by its key."""
        key_id = keys.record_of(self.key, KeyKind.SECRET, "", "", 0).key_id
        return [
            bytes(event)
            for record in await self.records(EVENTS_RAW)
            for part in chunk.decode(record.value).requests
            if part.key_id == key_id
            for event in part.events
        ]

    async def post(self, *events: bytes) -> httpx.Response:
        return await self.http.post("/v1/log_event", content=b'{"events":[' + b",".join(events) + b"]}")


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.05)


def event(number: int) -> bytes:
    return b'{"eventName":"purchase","user":{"userID":"u-%d"},"time":1767225600000,"value":%d}' % (number, number)


async def start(connection: KafkaConnection, answer_deadline_s: float = PATIENCE_S) -> Running:
    """Start a gateway. Unless a test is on the deadline, a busy machine must not make answers of it."""
    running = Running(connection, answer_deadline_s)
    await running.gateway.start()
    await running.server.start()
    return running


async def stop(running: Running) -> None:
    await running.http.aclose()
    await running.server.stop()
    await running.gateway.stop()


@pytest.fixture
async def running(broker: KafkaConnection) -> AsyncIterator[Running]:
    made = await start(broker)
    await made.know(made.key)
    await until(lambda: not made.gateway.readiness())
    await until(lambda: made.gateway._directory.find(made.key.encode(), 0))
    yield made
    await stop(made)


async def test_what_is_acknowledged_is_in_the_log_byte_for_byte(running: Running) -> None:
    sent = [event(number) for number in range(50)] + [event(7)]
    assert (await running.post(*sent)).status_code == 202
    assert sorted(await running.events()) == sorted(sent)


async def test_records_are_in_the_partition_of_their_device_and_say_how_many_they_hold(running: Running) -> None:
    await running.post(*[event(number) for number in range(50)])
    for record in await running.records(EVENTS_RAW):
        parts = chunk.decode(record.value).requests
        headers = dict(record.headers)
        assert headers["chunk"] == chunk.VERSION
        assert int(headers["n"]) == sum(len(part.events) for part in parts)
        assert record.timestamp_type == 1  # LogAppendTime: claims live by it
        for part in parts:
            for raw in part.events:
                stable_id = json.loads(bytes(part.statsigMetadata)).get("stableID") or ""
                assert partition_of(partition_key(bytes(raw), stable_id), PARTITIONS) == record.partition


async def test_requests_of_one_moment_share_records(running: Running) -> None:
    before = len(await running.records(EVENTS_RAW))
    answers = await asyncio.gather(*(running.post(event(number)) for number in range(200)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(await running.records(EVENTS_RAW)) - before < 200
    assert sorted(await running.events()) == sorted(event(number) for number in range(200))


async def test_a_refused_event_is_in_the_dead_letters_before_the_answer(running: Running) -> None:
    bad = b'{"eventName":"purchase","user":{"userID":"u-1"},"value":"\\ud800"}'
    answer = await running.post(event(1), bad, event(2))
    assert answer.json() == {"success": True, "refused": [{"index": 1, "reason": "malformed_event"}]}
    letters = [
        avro.DEAD_LETTER.decode(record.value[avro.FRAME_BYTES :]) for record in await running.records(DLQ_INGEST)
    ]
    (letter,) = [found for found in letters if found["request_id"] == answer.headers["x-headrace-request-id"]]
    assert letter["original"] == bad
    assert sorted(await running.events()) == [event(1), event(2)]


async def test_a_large_dead_letter_is_taken_whole(running: Running) -> None:
    large = b'{"eventName":"' + b"x" * 7_000_000 + b'"}'
    assert (await running.post(large)).status_code == 202
    letters = [
        avro.DEAD_LETTER.decode(record.value[avro.FRAME_BYTES :]) for record in await running.records(DLQ_INGEST)
    ]
    assert large in [letter["original"] for letter in letters]


async def test_a_full_request_is_taken_whole(running: Running) -> None:
    padding = b"x" * 1500
    sent = [event(number)[:-1] + b',"pad":"' + padding + b'"}' for number in range(5000)]
    assert (await running.post(*sent)).status_code == 202
    assert sorted(await running.events()) == sorted(sent)


async def test_keys_take_effect_while_the_gateway_runs(running: Running) -> None:
    async def status(key: str) -> int:
        return (
            await running.http.post("/v1/log_event", content=b'{"events":[]}', headers={"statsig-api-key": key})
        ).status_code

    new = keys.generate(KeyKind.SECRET)
    assert await status(new) == 401

    async def becomes(wanted: int) -> bool:
        return await status(new) == wanted

    await running.know(new)
    await until(lambda: becomes(202))
    await running.know(new, revoked_at=1)
    await until(lambda: becomes(401))


async def test_specs_are_served_once_they_are_pushed(running: Running) -> None:
    document = {**json.loads(SPECS), "time": int(time.time() * 1000)}
    await running.write(CONFIG_SPECS, specs.record_key("default", document["time"]), json.dumps(document).encode())

    async def served() -> bool:
        answer = await running.http.get("/v1/download_config_specs")
        return answer.status_code == 200 and answer.json()["time"] >= document["time"]

    await until(served)


SDK_PROGRAM = """
import sys
from statsig_python_core import Statsig, StatsigOptions, StatsigUser
base, key = sys.argv[1:]
options = StatsigOptions()
options.specs_url = base + "/v2/download_config_specs"
options.log_event_url = base + "/v1/log_event"
options.id_lists_url = base + "/v1/get_id_lists"
options.output_log_level = "none"
statsig = Statsig(key, options)
statsig.initialize().wait()
user = StatsigUser(user_id="sdk-user", private_attributes={"secret_plan": "gold"})
print(statsig.check_gate(user, "gate_public"), statsig.get_experiment(user, "button_color_exp").rule_id)
statsig.log_event(user, "sdk_purchase", 12.5, {"sku": "SKU-1"})
statsig.shutdown().wait()
"""


async def test_a_real_sdk_initialises_here_and_its_events_arrive(running: Running) -> None:
    document = {**json.loads(SPECS), "time": int(time.time() * 1000)}
    await running.write(CONFIG_SPECS, specs.record_key("default", document["time"]), json.dumps(document).encode())
    await until(lambda: running.gateway._shelf.find("default", "dcs-v2", document["time"] - 1, ""))
    # The SDK reports its own exceptions to a host of its vendor; nothing here may leave the machine.
    quiet = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SDK_PROGRAM, running.url, running.key, stdout=subprocess.PIPE, env=quiet
    )
    async with asyncio.timeout(PATIENCE_S):
        printed, _ = await program.communicate()
    gate, rule_id = printed.decode().split()
    assert (program.returncode, gate) == (0, "True")
    events = [json.loads(raw) for raw in await running.events()]
    by_name = {found["eventName"]: found for found in events}
    assert by_name["sdk_purchase"]["value"] == 12.5
    assert by_name["statsig::gate_exposure"]["metadata"]["gate"] == "gate_public"
    assert by_name["statsig::config_exposure"]["metadata"]["ruleID"] == rule_id
    assert running.key not in json.dumps(events)  # it stands in the diagnostics that the SDK sends
    assert "gold" not in json.dumps(events)


class KillableBroker:
    """A broker of this test alone that may be killed and started again over the same files."""

    def __init__(self, folder: Path) -> None:
        self._broker = Broker(folder, free_port_block(2), Settings().cache_dir)
        self._command = run_apart(self._broker.prepare()).command
        self._process: subprocess.Popen[bytes] | None = None
        self.connection = self._broker.connection

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[KillableBroker]:
    made = KillableBroker(tmp_path)
    made.start()
    yield made
    made.kill()


async def until_topics(connection: KafkaConnection) -> None:
    async def made() -> bool:
        try:
            await ensure_topics(connection, PARTITIONS, store_log=0)
        except Exception:  # noqa: BLE001 - the broker is coming up, and says so in many ways
            return False
        return True

    await until(made)


def partition_at(number: int) -> int:
    return partition_of(partition_key(event(number), ""), PARTITIONS)


def is_known_to_be_away(running: Running, number: int) -> bool:
    """Whether the gateway knows that it cannot append where the event of this number belongs."""
    stalled = running.gateway._linger.stalled
    return bool(running.gateway._publisher.problem) or Lane(EVENTS_RAW, partition_at(number)) in stalled


async def taken_from(running: Running, number: int) -> dict[int, int]:
    """Send an event after the other until one is taken; return the status of each by its number."""
    statuses: dict[int, int] = {}
    async with asyncio.timeout(PATIENCE_S):
        while 202 not in statuses.values():
            statuses[number] = (await running.post(event(number))).status_code
            number += 1
            await asyncio.sleep(0.05)
    return statuses


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_the_log_requests_are_503_in_time_and_202_again_after_it(
    killable: KillableBroker, how: int
) -> None:
    """That the answer is in time to the moment is a law of `Linger`, which is held to it on a clock of its own."""
    await until_topics(killable.connection)
    running = await start(killable.connection, ANSWER_DEADLINE_S)
    try:
        await running.know(running.key)
        await until(lambda: running.gateway._directory.find(running.key.encode(), 0))
        await until(lambda: not running.gateway.readiness())
        statuses = await taken_from(running, 0)
        sent = range(len(statuses), len(statuses) + 8)

        killable.kill() if how == signal.SIGKILL else killable.signal(signal.SIGSTOP)
        away = await asyncio.gather(*(running.post(event(number)) for number in sent))
        assert {answer.status_code for answer in away} == {503}
        known = next(n for n in itertools.count(sent.stop) if partition_at(n) in map(partition_at, sent))
        await until(lambda: is_known_to_be_away(running, known))
        assert "log" in running.gateway.readiness()
        answer = await running.post(event(known))
        assert (answer.status_code, answer.json()["reason"]) == (503, "log_unavailable")
        assert "in time" not in answer.json()["message"], "it is known to be away, and somebody waited for it"
        statuses |= dict.fromkeys([*sent, known], 503)

        killable.start() if how == signal.SIGKILL else killable.signal(signal.SIGCONT)
        statuses |= await taken_from(running, known + 1)
        await until(lambda: not running.gateway.readiness())

        landed = await running.events()
        assert len(set(landed)) == len(landed)
        assert {event(n) for n, status in statuses.items() if status == 202} <= set(landed)
        assert set(landed) <= {event(n) for n in statuses}
    finally:
        await stop(running)


@pytest.mark.slow
async def test_a_producer_that_failed_for_good_is_replaced(new_broker: Callable[[], KafkaConnection]) -> None:
    connection = new_broker()
    running = await start(connection)

    async def limit_messages(size: int) -> None:
        admin = AIOKafkaAdminClient(**connection.client_settings())
        try:
            await admin.start()
            resource = ConfigResource(ConfigResourceType.TOPIC, EVENTS_RAW, {"max.message.bytes": str(size)})
            await admin.alter_configs([resource])
        finally:
            await admin.close()

    try:
        await until(lambda: "headrace init" in running.gateway.readiness().get("log", ""))
        await until_topics(connection)
        await running.know(running.key)
        await until(lambda: not running.gateway.readiness())
        await until(lambda: running.gateway._directory.find(running.key.encode(), 0))
        await limit_messages(200)

        async def is_refused() -> bool:
            return (await running.post(event(1))).status_code == 503

        await until(is_refused)
        await limit_messages(1_000_000)

        async def is_taken() -> bool:
            return (await running.post(event(2))).status_code == 202

        await until(is_taken)
        answers = await asyncio.gather(*(running.post(event(n)) for n in range(3, 60)))
        assert {answer.status_code for answer in answers} == {202}
        assert {event(n) for n in range(2, 60)} <= set(await running.events())
    finally:
        await stop(running)


@pytest.mark.slow
async def test_a_gateway_that_starts_before_its_log_waits_for_it(killable: KillableBroker) -> None:
    running = await start(killable.connection)
    try:
        answer = await running.post(event(1))
        assert (answer.status_code, answer.json()["reason"]) == (503, "keys_not_ready")
        assert {"log", "keys", "specs"} <= set(running.gateway.readiness())
        await until_topics(killable.connection)
        await running.know(running.key)
        await until(lambda: not running.gateway.readiness())
        await until(lambda: running.gateway._directory.find(running.key.encode(), 0))
        assert (await running.post(event(1))).status_code == 202
    finally:
        await stop(running)


@pytest.mark.slow
async def test_a_gateway_stops_while_the_log_is_away(killable: KillableBroker) -> None:
    await until_topics(killable.connection)
    running = await start(killable.connection, ANSWER_DEADLINE_S)
    await running.know(running.key)
    await until(lambda: not running.gateway.readiness())
    await until(lambda: running.gateway._directory.find(running.key.encode(), 0))
    killable.kill()
    waiting = asyncio.create_task(running.post(event(1)))
    await until(lambda: running.gateway._log_events.held_bytes() > 0 or waiting.done())
    async with asyncio.timeout(PATIENCE_S):  # the log stays away: it does not wait for that to end
        stopping = asyncio.create_task(running.server.stop())
        assert (await waiting).status_code == 503
        await stopping
        await running.gateway.stop()
    await running.http.aclose()
