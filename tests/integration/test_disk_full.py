"""R16: a disk that is full, for the store and for the broker: nothing is lost once there is room again.

The file system is told by a limit on the size of files (`RLIMIT_FSIZE`), which needs no privileges: a
write beyond it fails as one does for which there is no room, and both Kafka and the engine only see that
a write failed.
"""

import itertools
import os
import resource
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import TopicPartition
from support.brokers import run_apart, running_broker
from support.lander_process import PARTITIONS, LanderProcess, committed, ends_of, events, join_at_end, write
from support.landing import exposure_at
from support.read_log import read_whole
from support.waiting import until

from ops.demo.push import demo_key, make_known
from ops.settings import Settings
from ops.stack import record
from ops.stack.local import LocalStack
from ops.stack.pids import ProcessId
from ops.topics import ensure_topics
from processors.landing.tables import BY_TOPIC
from schemas.avro import CUSTOM_EVENT
from schemas.limits import KIB
from schemas.origin import Origin
from schemas.topics import CUSTOM_EVENTS

pytestmark = pytest.mark.slow

ROOM_BYTES = 64 * KIB
"""Enough for what a process says of itself, and for no batch of the size below."""


def fill_disk(pid: int) -> None:
    """Let no file of a process grow beyond a few bytes."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, hard))


def make_room(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.fixture
def lander(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanderProcess]:
    with running_broker(tmp_path_factory.mktemp("broker")) as connection:
        run_apart(ensure_topics(connection, PARTITIONS, store_log=0))
        lander = LanderProcess(connection, tmp_path, group=f"lander-{uuid.uuid4()}")
        run_apart(join_at_end(connection, lander.group))
        yield lander
        lander.clean_up()


async def test_a_store_without_room_stops_the_lander_and_all_lands_when_there_is_some(lander: LanderProcess):
    lander.start()
    await write(lander.connection, events(range(4)))
    narrow, wide = 16, [Origin(1, 1, 1_000 + number, 0) for number in range(6)]

    async def are_there(expected: int) -> bool:
        answer = await lander.asked("SELECT count() FROM exposures")
        assert answer[0][0] <= expected, "landed twice"
        return bool(answer[0][0] == expected)

    await until(lambda: are_there(narrow))
    await until(lambda: is_committed(lander))
    before = await committed(lander.connection, lander.group)
    assert lander._process is not None
    fill_disk(lander._process.pid)
    # A row is larger than the room, whatever batch it is in.
    rows = [("exposures", at, exposure_at(at, metadata=os.urandom(2 * ROOM_BYTES).hex())) for at in wide]
    await write(lander.connection, rows)
    await until(lambda: "store" in lander.ask("readiness"), what="the lander does not say that its store fails")
    assert await committed(lander.connection, lander.group) == before
    make_room(lander._process.pid)
    await until(lambda: are_there(narrow + len(wide)))
    await until(lambda: lander.ask("readiness") == {})


async def is_committed(lander: LanderProcess) -> bool:
    ends: dict[Any, int] = {}
    for topic in BY_TOPIC:
        ends |= await ends_of(lander.connection, topic)
    return await committed(lander.connection, lander.group) == ends


async def test_a_broker_without_room_makes_the_gateway_refuse_and_nothing_that_it_took_is_lost(
    stack: Callable[..., LocalStack],
):
    """Kafka ends itself when its only disk fails. Its supervisor starts it again, and then there is room."""
    async with stack(processes=("gateway", "worker")) as running:
        settings = running.settings
        key = demo_key(settings.data_dir)
        await make_known(settings, key)
        address = f"http://127.0.0.1:{settings.gateway_port}/v1/log_event"
        async with httpx.AsyncClient(headers={"statsig-api-key": key}, timeout=30, trust_env=False) as client:
            sender = Sender(client, address)
            for _ in range(5):
                await sender.log_until_taken()
            assert sender.refused == 0
            fill_disk(_broker(settings).pid)
            while not sender.refused:
                await sender.log_until_taken()
            await sender.log_until_taken()

        async def all_are_out() -> bool:
            found = await read_whole(settings.kafka, [TopicPartition(CUSTOM_EVENTS, p) for p in range(PARTITIONS)])
            origins: dict[bytes, set[bytes]] = defaultdict(set)
            for one in found:
                origins[CUSTOM_EVENT.decode(one.value[5:])["event_name"]].add(dict(one.headers)["origin"])
            assert all(len(its) == 1 for its in origins.values()), "one event under two origins"
            return sorted(origins) == sorted(sender.acknowledged)

        await until(all_are_out, timeout_s=120, what="what was acknowledged has not come out of the worker")


class Sender:
    """Sends requests of twenty events as SDKs do: the same bytes again until they are taken."""

    def __init__(self, client: httpx.AsyncClient, address: str) -> None:
        self._client = client
        self._address = address
        self._numbers = itertools.count()
        self.acknowledged: list[str] = []
        self.refused = 0

    async def log_until_taken(self) -> None:
        names = [f"disk-{next(self._numbers)}" for _ in range(20)]
        padding = {"pad": "x" * 4_000}
        now_ms = time.time_ns() // 1_000_000
        events = [{"eventName": n, "time": now_ms, "user": {"userID": n}, "metadata": padding} for n in names]
        sender = {"sdkType": "py-server", "sdkVersion": "1", "sessionID": "s"}
        body = orjson.dumps({"events": events, "statsigMetadata": sender})

        async def is_taken() -> bool:
            answer = await self._client.post(self._address, content=body)
            assert answer.status_code in (202, 503)
            self.refused += answer.status_code == 503
            return bool(answer.status_code == 202)

        await until(is_taken, timeout_s=120)
        self.acknowledged += names


def _broker(settings: Settings) -> ProcessId:
    found = record.read(settings.data_dir)
    assert found is not None
    return found.children["broker"].id
