"""Identity links on their way: from a worker that dies, through their topic, into the store."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import orjson
import pytest
from aiokafka import TopicPartition
from clickhouse_connect.driver.client import Client
from support.brokers import run_apart
from support.ports import free_port_block
from support.read_log import read_whole
from support.waiting import until

from ops.archive.replay import ArchiveReplay, Plan
from ops.kafka import publish
from ops.topics import ensure_topics
from processors.identity_lander import IdentityLander
from processors.reprocess import Known, Span
from schemas import avro, chunk, migrations
from schemas.archive import Archive, ArchivedRecord, Place
from schemas.crash_points import VARIABLE, CrashPoint
from schemas.identity_links import IdentityLink, decode, encode, key_of
from schemas.kafka import KafkaConnection
from schemas.metrics import IdentityLanderMetrics
from schemas.store import StoreAddress
from schemas.topics import CUSTOM_EVENTS, EVENTS_RAW, IDENTITY_LINKS, SHADOWS

T = 1_790_000_000_000
PATIENCE_S = 60


@pytest.fixture
def address(tmp_path: Path) -> StoreAddress:
    return StoreAddress(path=tmp_path / "store")


@pytest.fixture
def client(address: StoreAddress) -> Iterator[Client]:
    client = address.connect()
    migrations.apply(client)
    yield client
    client.close()


def link(project: str, device: str, user: str, first_seen: int) -> IdentityLink:
    return IdentityLink(project, "production", "stableID", device, user, first_seen)


async def tell(broker: KafkaConnection, *links: IdentityLink) -> None:
    await publish(broker, IDENTITY_LINKS, [(key_of(each), encode(each)) for each in links])


async def test_the_table_has_each_link_with_its_earliest_time_and_none_that_was_taken_back(
    broker: KafkaConnection, address: StoreAddress, client: Client
):
    """A worker that had forgotten a link tells it later; one that starts again lands what came meanwhile."""
    project = uuid4().hex

    def landed() -> list[tuple[Any, ...]]:
        columns = "id, user_id, toUnixTimestamp64Milli(first_seen)"
        asked = f"SELECT {columns} FROM identity_links FINAL WHERE project = '{project}' ORDER BY id, user_id"
        return list(client.query(asked).result_rows)

    await tell(broker, link(project, "d", "u", T), link(project, "e", "v", T), link(project, "d", "w", T - 5))
    lander = IdentityLander(broker, address, IdentityLanderMetrics())
    await lander.start()
    await until(lambda: landed() == [("d", "u", T), ("d", "w", T - 5), ("e", "v", T)], PATIENCE_S)
    await tell(broker, link(project, "d", "u", T + 9), link(project, "e", "v", T - 9))
    await publish(broker, IDENTITY_LINKS, [(b"garbage", b"{}"), (key_of(link(project, "d", "w", T)), None)])
    await until(lambda: landed() == [("d", "u", T), ("e", "v", T - 9)], PATIENCE_S)
    await lander.stop()
    await tell(broker, link(project, "d", "w", T + 1), link(project, "last", "x", T))
    metrics = IdentityLanderMetrics()
    lander = IdentityLander(broker, address, metrics)
    await lander.start()
    await until(lambda: ("last", "x", T) in landed(), PATIENCE_S)
    await lander.stop()
    assert landed() == [("d", "u", T), ("d", "w", T + 1), ("e", "v", T - 9), ("last", "x", T)]
    assert metrics.landed._value.get() < 9, "what stands in the table is not read again"


POINTS = (CrashPoint.WORKER_BEFORE_SEND, CrashPoint.WORKER_CLAIM_DURABLE)
"""At which a worker knows a link that is in no log yet."""


@pytest.mark.slow
async def test_no_link_is_lost_wherever_a_worker_dies_and_the_next_one_knows_them_all(
    new_broker: Callable[[], KafkaConnection], tmp_path: Path
):
    """The chunk is not committed before its links are in the log, so that whoever comes next tells them again."""
    broker = new_broker()
    run_apart(ensure_topics(broker, 1, store_log=0))
    own = {"HEADRACE_KAFKA_BOOTSTRAP": broker.bootstrap, "HEADRACE_DATA_DIR": str(tmp_path)}
    own["HEADRACE_ADMIN_PORT_BASE"] = str(free_port_block(4))

    def worker(**more: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "ops.cli", "worker"]
            return subprocess.Popen(command, env=os.environ | own | more, stdout=log, stderr=log)

    for number, point in enumerate(POINTS):
        await publish(broker, EVENTS_RAW, [(b"", chunk_of(seen(f"device-{number}", f"user-{number}", number)))])
        dying = worker(**{VARIABLE: point.value})
        await until(lambda dying=dying: dying.poll() is not None, PATIENCE_S, f"the worker lives on at {point}")
        assert await records(broker, IDENTITY_LINKS) == [], f"the worker lived on after {point}"
    visitors = [seen(f"device-{number}", "", 100 + number) for number in range(len(POINTS))]
    await publish(broker, EVENTS_RAW, [(b"", chunk_of(*visitors))])
    last = worker()
    try:

        async def rows() -> list[dict[str, Any]]:
            found = [avro.CUSTOM_EVENT.decode(avro.unframe(value)[1]) for value in await records(broker, CUSTOM_EVENTS)]
            return [row for row in found if not row["user_id"]]

        await until(lambda: all_of(rows, len(POINTS)), PATIENCE_S, "the worker emits nothing")
    finally:
        last.kill()
        last.wait()
    assert {row["stable_id"]: row["canonical_id"] for row in await rows()} == {
        f"device-{number}": f"user-{number}" for number in range(len(POINTS))
    }
    told = {decode(value) for value in await records(broker, IDENTITY_LINKS)}
    assert told == {link("default", f"device-{n}", f"user-{n}", T + n) for n in range(len(POINTS))}


@pytest.mark.slow
async def test_a_replay_of_the_archive_tells_the_links_of_what_it_lands_and_no_others(
    new_broker: Callable[[], KafkaConnection], tmp_path: Path
):
    """After a broker and a store were lost nothing else knows whose the devices are."""
    broker = new_broker()
    run_apart(ensure_topics(broker, 1, store_log=0))
    archive = Archive(str(tmp_path / "archive"))
    events = seen("lost", "u", 1), seen("lost", "u", 2), seen("landed", "v", 3), seen("known", "w", 4)
    archive.write(Place(1, 0), [ArchivedRecord(0, T + 1_000, None, chunk_of(*events), [])])

    async def replay(**topics: str) -> None:
        known = Known()
        known.identities.learn(link("default", "known", "w", T))
        plan = Plan(
            span=Span(T, T + 10_000), choose=lambda emitted: [one for one in emitted if b"landed" not in one.value],
            claims_window_ms=1_000, known=known, partitions=1, into="live", passed_over="landed", topics=topics,
        )  # fmt: skip
        done = await ArchiveReplay(broker, archive, plan, dry=False, swap_since={}).run(lambda _read, _total: None)
        assert done.sent == 3

    await replay(**SHADOWS)
    assert await records(broker, IDENTITY_LINKS) == [], "what is only compared tells nothing"
    await replay()
    assert [decode(value) for value in await records(broker, IDENTITY_LINKS)] == [link("default", "lost", "u", T + 1)]


async def all_of(rows: Callable[[], Any], count: int) -> bool:
    return len(await rows()) >= count


async def records(broker: KafkaConnection, topic: str) -> list[bytes]:
    return [record.value for record in await read_whole(broker, [TopicPartition(topic, 0)])]


def seen(device: str, user: str, later_ms: int) -> msgspec.Raw:
    ids = {"userID": user, "customIDs": {"stableID": device}}
    return msgspec.Raw(orjson.dumps({"eventName": "visit", "time": T + later_ms, "user": ids}))


def chunk_of(*events: msgspec.Raw) -> bytes:
    part = chunk.RequestPart("default", "production", "k", "r", T + 1_000, events=list(events))
    return chunk.encode(chunk.Chunk([part]))
