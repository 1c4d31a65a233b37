"""The worker on a real broker: killed, restarted, fed copies and garbage."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from support.brokers import run_apart
from support.ports import free_port_block
from support.read_log import read_whole
from support.waiting import until

from ops.kafka import admin_client
from ops.topics import ensure_topics
from schemas import avro, chunk, ledger
from schemas.ids import EventIds, partition_key, partition_of
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.origin import Origin
from schemas.reasons import Reason
from schemas.topics import CUSTOM_EVENTS, DLQ_WORKER, EVENTS_RAW, EXPOSURES, IDENTITY_LINKS, LEDGER, SCHEMAS

PARTITIONS = 4
SENDER = {"sdkType": "py-server", "sdkVersion": "1", "sessionID": "one-process"}
PATIENCE_S = 150

pytestmark = pytest.mark.slow


@pytest.fixture
def own_broker(new_broker: Callable[[], KafkaConnection]) -> KafkaConnection:
    """A broker whose topics hold this test's records only."""
    connection = new_broker()
    run_apart(ensure_topics(connection, PARTITIONS, store_log=0))
    return connection


class WorkerProcess:
    """`headrace worker` as a child, started again after each kill."""

    def __init__(self, connection: KafkaConnection, folder: Path) -> None:
        self._admin = free_port_block(4)
        self._folder = folder
        self._environment = os.environ | {
            "HEADRACE_KAFKA_BOOTSTRAP": connection.bootstrap,
            "HEADRACE_ADMIN_PORT_BASE": str(self._admin),
            "HEADRACE_DATA_DIR": str(folder),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli", "worker"], env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    async def ready(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        answer = "nothing"
        while time.monotonic() < deadline_s:
            answer = await self.answer()
            if answer.startswith("200"):
                return
            await asyncio.sleep(0.05)
        log = (self._folder / "worker.log").read_text()[-3000:]
        raise AssertionError(f"the worker is not ready after {PATIENCE_S} s: {answer}\n{log}")

    async def answer(self) -> str:
        """Return status and text of /readyz, or why there is none."""
        async with httpx.AsyncClient() as client:
            try:
                response = await client.get(f"http://127.0.0.1:{self._admin + 1}/readyz")
            except httpx.HTTPError as error:
                return repr(error)
        return f"{response.status_code} {response.text}"

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        code = self._process.wait(PATIENCE_S)
        self._process = None
        return code

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()


def purchase(number: int) -> bytes:
    return orjson.dumps(
        {"eventName": "purchase", "user": {"userID": f"user-{number % 97}"}, "time": 1_763_740_000_000 + number}
    )


def exposure(number: int) -> bytes:
    return orjson.dumps(
        {
            "eventName": "statsig::config_exposure",
            "user": {"userID": f"user-{number % 97}"},
            "time": 1_763_740_000_000 + number,
            "metadata": {"config": "button_color", "ruleID": f"arm-{number % 3}", "rulePassed": "true"},
        }
    )


def event_id(event: bytes) -> bytes:
    return EventIds("default", "production", "one-process", "").of(event, 0, has_time=True)


@asynccontextmanager
async def sending(connection: KafkaConnection) -> AsyncIterator[Callable[[list[bytes]], Any]]:
    """Yield `send(events)`: chunks them by partition as the gateway does, and waits for the broker."""
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    await producer.start()

    async def send(events: list[bytes]) -> None:
        parted: dict[int, list[bytes]] = defaultdict(list)
        for event in events:
            parted[partition_of(partition_key(event, ""), PARTITIONS)].append(event)
        for partition, mine in parted.items():
            part = chunk.RequestPart(
                project="default",
                environment="production",
                key_id="k",
                request_id="r",
                received_at=1_763_740_001_000,
                statsigMetadata=msgspec.Raw(orjson.dumps(SENDER)),
                events=[msgspec.Raw(event) for event in mine],
            )
            value = chunk.encode(chunk.Chunk([part]))
            await producer.send_and_wait(EVENTS_RAW, value, partition=partition, headers=list(chunk.headers(len(mine))))

    try:
        yield send
    finally:
        await producer.stop()


async def read_all(connection: KafkaConnection, *names: str) -> list[Any]:
    """Return every record of these topics."""
    parts = [
        TopicPartition(n, p) for n in names for p in range(1 if n in (SCHEMAS, LEDGER, IDENTITY_LINKS) else PARTITIONS)
    ]
    return await read_whole(connection, parts)


async def origins_of(connection: KafkaConnection) -> dict[bytes, set[Origin]]:
    """Return the origins under which each event id was emitted; re-emits share theirs."""
    found: dict[bytes, set[Origin]] = defaultdict(set)
    for record in await read_all(connection, EXPOSURES, CUSTOM_EVENTS):
        assert record.partition == Origin.unpack(dict(record.headers)["origin"]).partition
        found[record.value[5:21]].add(Origin.unpack(dict(record.headers)["origin"]))
    return found


async def emitted_at_least(connection: KafkaConnection, count: int) -> dict[bytes, set[Origin]]:
    async def is_there() -> dict[bytes, set[Origin]]:
        found = await origins_of(connection)
        return found if len(found) >= count else {}

    return await until(is_there, PATIENCE_S, f"fewer than {count} events were emitted")


async def test_a_worker_that_is_killed_again_and_again_loses_nothing_and_gives_each_event_one_origin(
    own_broker: KafkaConnection, tmp_path: Path
):
    """Kills bite in mid-flight: what was emitted and not acknowledged comes again with its origin."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sent: list[bytes] = []
    with WorkerProcess(own_broker, tmp_path) as worker:
        await worker.ready()
        async with sending(own_broker) as send:
            for _ in range(4):
                for _ in range(chance.randrange(20, 40)):
                    fresh = [(purchase if chance.random() < 0.5 else exposure)(len(sent) + i) for i in range(20)]
                    copies = chance.sample(sent, 2) if len(sent) > 50 else []
                    sent += fresh
                    await send([*fresh, *copies])
                worker.kill()
                worker.start()
                await worker.ready()
        found = await emitted_at_least(own_broker, len(sent))
        code = worker.terminate()
    assert code == 0
    assert set(found) == {event_id(event) for event in sent}, "lost, or made up"
    assert {i: o for i, o in found.items() if len(o) > 1} == {}, "landed twice"
    await assert_ledger_tells(own_broker, {origin for origins in found.values() for origin in origins})


async def assert_ledger_tells(connection: KafkaConnection, emitted: set[Origin]) -> None:
    """Every chunk has a record, the same however often it was written, that names all but what was emitted."""
    written: dict[bytes, set[bytes]] = defaultdict(set)
    for record in await read_all(connection, LEDGER):
        written[record.key].add(record.value)
    assert {key.hex(): values for key, values in written.items() if len(values) > 1} == {}
    raw = await read_all(connection, EVENTS_RAW)
    assert set(written) == {ledger.key_of(1, record.partition, record.offset) for record in raw}
    expected = set()
    for key, values in written.items():
        told = ledger.decode(values.pop())
        silent = {index for run in (*told.copies, *told.dead) for index in range(run.first, run.first + run.count)}
        expected |= {Origin(*ledger.coordinate_of(key), index) for index in set(range(told.events)) - silent}
    assert expected == emitted


async def test_bad_records_are_dead_letters_and_stop_nothing(own_broker: KafkaConnection, tmp_path: Path):
    bad = orjson.dumps({"eventName": "purchase", "time": "yesterday"})
    # Its record would hold the device five times, and be more than the broker takes.
    large = orjson.dumps({"eventName": "purchase", "time": 1, "user": {"customIDs": {"stableID": "d" * 250_000}}})
    async with sending(own_broker) as send:
        producer = AIOKafkaProducer(**own_broker.client_settings(), **PRODUCER)
        await producer.start()
        for partition in range(PARTITIONS):
            await producer.send_and_wait(EVENTS_RAW, b"\x00garbage", partition=partition)
            await producer.send_and_wait(EVENTS_RAW, None, key=b"tombstone", partition=partition)
            await producer.send_and_wait(EVENTS_RAW, b"\x00", partition=partition, headers=[(chunk.COUNT_HEADER, None)])
        await producer.stop()
        await send([bad, large, purchase(1), exposure(2)])
        with WorkerProcess(own_broker, tmp_path) as worker:
            await worker.ready()
            found = await emitted_at_least(own_broker, 2)

            async def dead_letters() -> list[Any]:
                records = await read_all(own_broker, DLQ_WORKER)
                return records if len(records) > 3 * PARTITIONS + 1 else []

            records = await until(dead_letters)
    assert set(found) == {event_id(purchase(1)), event_id(exposure(2))}
    letters = [avro.DEAD_LETTER.decode(record.value[5:]) for record in records]
    reasons = sorted(letter["reason"] for letter in letters)
    assert reasons == [Reason.EVENT_TOO_LARGE, Reason.INVALID_TIME] + [Reason.UNDECODABLE_CHUNK] * 3 * PARTITIONS
    assert {bad, large} <= {letter["original"] for letter in letters}


async def test_the_schema_of_every_public_record_is_published_before_it(own_broker: KafkaConnection, tmp_path: Path):
    async with sending(own_broker) as send:
        await send([purchase(1), exposure(2)])
        with WorkerProcess(own_broker, tmp_path) as worker:
            await worker.ready()
            await emitted_at_least(own_broker, 2)
    published = {int(record.key): orjson.loads(record.value) for record in await read_all(own_broker, SCHEMAS)}
    for record in await read_all(own_broker, EXPOSURES, CUSTOM_EVENTS):
        schema_id, _ = avro.unframe(record.value)
        assert avro.schema_id(published[schema_id]) == schema_id


async def test_a_worker_on_topics_of_an_earlier_version_says_what_to_do_and_goes_on_when_it_is_done(
    own_broker: KafkaConnection, tmp_path: Path
):
    """It must not end again and again, nor have the broker make a topic that forgets."""
    async with admin_client(own_broker) as admin:
        await admin.delete_topics([IDENTITY_LINKS])
    login = {"eventName": "login", "user": {"userID": "u", "customIDs": {"stableID": "d"}}, "time": 1_763_740_000_000}
    async with sending(own_broker) as send:
        await send([orjson.dumps(login)])
    with WorkerProcess(own_broker, tmp_path) as worker:

        async def says_what_to_do() -> bool:
            answer = await worker.answer()
            return f"{IDENTITY_LINKS} does not exist; `headrace init`" in answer

        await until(says_what_to_do, PATIENCE_S, "the worker does not say what is missing")
        await ensure_topics(own_broker, PARTITIONS, store_log=0)
        await worker.ready()
        await until(lambda: read_all(own_broker, IDENTITY_LINKS), PATIENCE_S, "the link is not told")
        await emitted_at_least(own_broker, 1)
