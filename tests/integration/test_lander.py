"""The lander on a real broker and a real store: killed, frozen, starved, fed garbage and repeats.

Doubles are counted on plain MergeTree tables, which hide nothing.
"""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from support.brokers import run_apart, running_broker
from support.lander_process import (
    ALL,
    PARTITIONS,
    LanderProcess,
    committed,
    dead_letters_since,
    ends_of,
    events,
    join_at_end,
    nobody_is_in,
    write,
)
from support.landing import exposure_at, id_of
from support.waiting import until

from ops.topics import ensure_topics
from processors.landing.tables import BY_TOPIC
from schemas.avro import DEAD_LETTER, EXPOSURE
from schemas.crash_points import CrashPoint
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.ledger import decode_dropped
from schemas.limits import KIB
from schemas.origin import HEADER, Origin
from schemas.topics import DLQ_LANDER, LEDGER, SCHEMAS

pytestmark = pytest.mark.slow

COUNTS = (
    "SELECT sum(n), sum(o), sum(e) FROM ("
    "SELECT count() n, uniqExact(origin_log, origin_partition, origin_offset, origin_index, origin_part) o,"
    " uniqExact(event_id_bytes) e FROM {} UNION ALL "
    "SELECT count() n, uniqExact(origin_log, origin_partition, origin_offset, origin_index, origin_part) o,"
    " uniqExact(event_id_bytes) e FROM {})"
).format(*(landing.table for landing in BY_TOPIC.values()))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConnection]:
    """A broker whose public topics hold what these tests write and nothing else."""
    with running_broker(tmp_path_factory.mktemp("broker")) as connection:
        run_apart(ensure_topics(connection, PARTITIONS, store_log=0))
        yield connection


@pytest.fixture
def lander(connection: KafkaConnection, tmp_path: Path) -> Iterator[LanderProcess]:
    """A lander with a store and a group of its own, not yet started."""
    lander = LanderProcess(connection, tmp_path, group=f"lander-{uuid.uuid4()}")
    run_apart(join_at_end(connection, lander.group))
    yield lander
    lander.clean_up()


async def landed(lander: LanderProcess, expected: int) -> None:
    """Wait until `expected` events are in the tables; see that none is there twice."""

    async def is_there() -> bool:
        answer = await lander.asked(COUNTS)
        assert answer is not None, lander.log.read_text()[-2000:]
        rows, origins, ids = answer[0]
        assert rows == origins == ids, "an event landed twice"
        assert rows <= expected
        return bool(rows == expected)

    await until(is_there, timeout_s=120)


async def nothing_left(lander: LanderProcess) -> None:
    """Wait until the group has committed everything."""
    ends: dict[TopicPartition, int] = {}
    for topic in BY_TOPIC:
        ends |= await ends_of(lander.connection, topic)

    async def is_committed() -> bool:
        return await committed(lander.connection, lander.group) == ends

    await until(is_committed)


async def test_events_land_once_and_a_lone_one_waits_for_no_other(lander: LanderProcess):
    lander.start()
    await until(lambda: lander.ask("readiness") == {})
    await write(lander.connection, events(range(200)))
    await landed(lander, 1_000)
    await write(lander.connection, events([500], size=1))  # alone: had it to wait for company, it would not land
    await landed(lander, 1_001)
    await nothing_left(lander)
    assert await lander.stop() == 0


async def test_a_replayed_event_that_landed_under_another_origin_is_dropped_and_the_ledger_names_its_owner(
    lander: LanderProcess,
):
    landed_first, replayed = Origin(1, 0, 900, 0), Origin(1, 1, 901, 0)
    before = await ends_of(lander.connection, LEDGER, partitions=1)
    lander.start()
    await write(lander.connection, [("exposures", landed_first, exposure_at(landed_first))])
    await landed(lander, 1)
    copy = exposure_at(replayed, event_id_bytes=id_of(landed_first))
    await write(lander.connection, [("exposures", replayed, copy)], replay=b"r1")
    await nothing_left(lander)
    [record] = await dead_letters_since(lander.connection, before)
    assert (record.key, decode_dropped(record.value)) == (replayed.pack(), landed_first.pack())
    await landed(lander, 1)
    assert await lander.stop() == 0


async def test_what_the_worker_emits_again_is_dropped(lander: LanderProcess):
    lander.start()
    await write(lander.connection, events(range(40)))
    await landed(lander, 200)
    await write(lander.connection, events(range(30, 60)) + events(range(20)) + events(range(58, 60)))
    await landed(lander, 300)
    await nothing_left(lander)
    metrics = await lander.asked("metrics")
    assert metrics["headrace_lander_repeats"] == 160
    assert metrics["headrace_lander_readbacks"] >= 1


@pytest.mark.parametrize("point", [point for point in CrashPoint if point.startswith("lander.")])
async def test_a_kill_at_any_point_neither_loses_nor_doubles(lander: LanderProcess, point: CrashPoint):
    await write(lander.connection, events(range(60)))
    await write(lander.connection, [("exposures", Origin(1, 0, 0, 0), b"garbage")])
    lander.start(crash_at=point.value)
    assert await lander.end() == -signal.SIGKILL, f"{point} was never reached"
    await write(lander.connection, events(range(55, 70)))
    lander.start()
    await landed(lander, 350)
    await nothing_left(lander)


async def test_kills_at_any_moment_neither_lose_nor_double(lander: LanderProcess):
    """R1 for the lander: it dies while it consumes, inserts and commits, and the worker repeats itself."""
    written = seen = 0
    enough = False

    def is_hungry() -> bool:
        # So much lasts until the next kill; what is beyond only makes the test long where landing is slow.
        return enough or written * 20 - seen < 10_000

    async def feed() -> None:
        nonlocal written
        while not enough:
            await until(is_hungry, timeout_s=240)
            await write(lander.connection, events(range(max(0, written - 10), written + 30), size=20))
            written += 30

    feeding = asyncio.create_task(feed())
    for delay_s in (0.9, 0.3, 1.7, 0.6, 1.2):
        lander.start()
        before = (await lander.asked(COUNTS))[0][0]

        async def is_landing(than: int = before) -> bool:
            nonlocal seen
            seen = (await lander.asked(COUNTS))[0][0]
            return seen > than

        await until(is_landing)
        await asyncio.sleep(delay_s)  # a moment, not a condition: that is the point
        await lander.kill()
    enough = True
    await feeding
    lander.start()
    await landed(lander, written * 20)
    await nothing_left(lander)


async def test_what_cannot_be_read_becomes_a_dead_letter_and_the_lander_lives(lander: LanderProcess):
    garbage: list[tuple[bytes | None, list[tuple[str, bytes]]]] = [
        (os.urandom(300), []),
        (b"", [(HEADER, Origin(1, 0, 1, 0).pack())]),
        (None, [(HEADER, Origin(1, 0, 1, 0).pack())]),
        (exposure_at(Origin(1, 0, 1, 0)), []),
        (exposure_at(Origin(1, 0, 1, 0)), [(HEADER, Origin(1, 0, 2, 0).pack())]),
        (EXPOSURE.frame + os.urandom(600), [(HEADER, Origin(1, 0, 1, 0).pack())]),
        (exposure_at(Origin(1, 0, 3, 0))[:-9], [(HEADER, Origin(1, 0, 3, 0).pack())]),
        (exposure_at(Origin(1, 0, 4, 0)) + exposure_at(Origin(1, 0, 5, 0)), [(HEADER, Origin(1, 0, 4, 0).pack())]),
        (b"\x00\x01\x02\x03\x04" + os.urandom(100), [(HEADER, Origin(1, 0, 1, 0).pack())]),
    ]
    before = await ends_of(lander.connection, DLQ_LANDER)
    producer = AIOKafkaProducer(**lander.connection.client_settings(), **PRODUCER)
    await producer.start()
    for value, headers in garbage:
        await producer.send_and_wait("exposures", value, key=b"u1", partition=0, headers=headers)
    await producer.stop()
    await write(lander.connection, events(range(100, 110)))
    lander.start()
    await landed(lander, 50)
    await nothing_left(lander)
    letters = [DEAD_LETTER.decode(record.value[5:]) for record in await dead_letters_since(lander.connection, before)]
    assert sorted(letter["original"] for letter in letters) == sorted(value or b"" for value, _ in garbage)
    reasons = {letter["original"]: letter["reason"] for letter in letters}
    assert reasons.pop(garbage[-1][0]) == "unknown_schema"
    assert set(reasons.values()) == {"undecodable_record"}


async def test_a_schema_that_only_the_registry_knows_stops_the_lander(lander: LanderProcess):
    producer = AIOKafkaProducer(**lander.connection.client_settings(), **PRODUCER)
    await producer.start()
    newer = EXPOSURE.id + 1
    await producer.send_and_wait(SCHEMAS, b"{}", key=b"%d" % newer, partition=0)
    await producer.stop()
    origin = Origin(1, 1, 1, 0)
    value = b"\x00" + newer.to_bytes(4, "big") + exposure_at(origin)[5:]
    await write(lander.connection, [("exposures", origin, value)])
    before = await ends_of(lander.connection, DLQ_LANDER)
    lander.start()
    failure = await lander.failure()
    assert failure["kind"] == "LanderTooOldError"
    assert f"lander too old: exposures holds records of schema {newer}" in failure["failed"]
    assert await dead_letters_since(lander.connection, before) == []
    assert await committed(lander.connection, lander.group) != await ends_of(lander.connection, "exposures")


async def test_another_event_at_a_landed_origin_stops_the_lander(lander: LanderProcess):
    """A broker was wiped and its log not given a new number: going on would drop its events."""
    lander.start()
    await write(lander.connection, events(range(10)))
    await landed(lander, 50)
    await nothing_left(lander)
    origin = Origin(1, 3, 3, 0)
    await write(lander.connection, [("exposures", origin, exposure_at(origin, event_id_bytes=b"another event id"))])
    failure = await lander.failure()
    assert failure["kind"] == "LogReplacedError"
    assert "origin 1/3/3/0" in failure["failed"]
    lander.start()
    assert (await lander.failure())["kind"] == "LogReplacedError", "a restart must not heal what is wrong"


async def test_a_replayed_event_lands_once_whatever_its_origin(lander: LanderProcess):
    lander.start()
    await write(lander.connection, events(range(10)))
    await landed(lander, 50)
    known, missing = Origin(1, 2, 2, 0), Origin(1, 2, 2, 9)
    refused = Origin(255, 2, 7, 0)
    replays = [("exposures", origin, exposure_at(origin)) for origin in (known, missing, refused)]
    copy = Origin(255, 3, 8, 0)
    replays.append(("exposures", copy, exposure_at(copy, event_id_bytes=exposure_at(known)[5:21])))
    for _ in range(2):
        await write(lander.connection, replays, replay=b"r-1")
        await nothing_left(lander)
        await landed(lander, 52)


async def test_a_store_that_fails_is_retried_and_nothing_is_committed_meanwhile(lander: LanderProcess):
    lander.start()
    await write(lander.connection, events(range(4)))
    await landed(lander, 20)
    await nothing_left(lander)
    before = await committed(lander.connection, lander.group)
    await lander.asked("RENAME TABLE exposures TO away")
    await write(lander.connection, events(range(10, 20)))
    await until(lambda: "store" in lander.ask("readiness"))
    assert {tp: n for tp, n in (await committed(lander.connection, lander.group)).items() if n != before[tp]} == {}
    await lander.asked("RENAME TABLE away TO exposures")
    await landed(lander, 70)
    await until(lambda: lander.ask("readiness") == {})
    await nothing_left(lander)


async def test_a_store_in_use_is_waited_for(lander: LanderProcess):
    script = "import sys, chdb; c = chdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(lander.store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"open\n"
        lander.start()
        await write(lander.connection, events(range(4)))
        await until(lambda: "another process has the store" in lander.ask("readiness").get("store", ""))
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
    await until(lambda: "run `headrace init`" in lander.ask("readiness").get("store", ""))
    await lander.stop()
    lander.start()
    await landed(lander, 20)


async def test_a_store_without_tables_is_waited_for(connection: KafkaConnection, tmp_path: Path):
    lander = LanderProcess(connection, tmp_path, group=f"lander-{uuid.uuid4()}", migrates=False)
    try:
        lander.start()
        await until(lambda: "run `headrace init`" in lander.ask("readiness").get("store", ""))
        await lander.stop()
    finally:
        lander.clean_up()


async def test_partitions_that_come_and_go_lose_and_double_nothing(lander: LanderProcess):
    """Another member takes half of the partitions, lands nothing, and leaves."""
    chunks = 400

    async def feed() -> None:
        for first in range(0, chunks, 20):
            await write(lander.connection, events(range(first, first + 20)))

    lander.start()
    await until(lambda: lander.ask("readiness") == {})
    feeding = asyncio.create_task(feed())
    for _ in range(3):
        other = AIOKafkaConsumer(
            *BY_TOPIC, **lander.connection.client_settings(), group_id=lander.group, enable_auto_commit=False
        )
        await other.start()
        await until(lambda: 0 < len(other.assignment()) < len(ALL))  # noqa: B023 - awaited here
        await other.stop()
    await feeding
    await landed(lander, chunks * 5)
    await nothing_left(lander)


async def test_a_frozen_lander_that_wakes_lands_nothing_twice(lander: LanderProcess):
    """R3: stopped for longer than the group waits; what it held is landed by whoever owns it then."""
    lander.start()
    await write(lander.connection, events(range(40)))
    await landed(lander, 200)
    lander.signal(signal.SIGSTOP)
    await write(lander.connection, events(range(30, 80)))
    await until(lambda: nobody_is_in(lander.connection, lander.group))
    lander.signal(signal.SIGCONT)
    await landed(lander, 400)
    await nothing_left(lander)


async def test_records_that_retention_took_before_they_landed_stop_the_lander(lander: LanderProcess):
    lander.start()
    await write(lander.connection, events(range(8)))
    await landed(lander, 40)
    await nothing_left(lander)
    await lander.stop()
    await write(lander.connection, events(range(8, 24)))
    gone = await ends_of(lander.connection, "exposures")
    admin = AIOKafkaAdminClient(**lander.connection.client_settings())
    await admin.start()
    await admin.delete_records({partition: RecordsToDelete(before_offset=end) for partition, end in gone.items()})
    await admin.close()
    await write(lander.connection, events(range(24, 32)))
    lander.start()
    failure = await lander.failure()
    assert failure["kind"] == "RecordsLostError"
    assert "were deleted before they landed" in failure["failed"]


async def test_large_and_odd_events_land_unchanged(lander: LanderProcess):
    origin = Origin(1, 0, 1, 0)
    texts: dict[str, Any] = {
        "metadata": "ä😀\0" * (64 * KIB // 7),
        "user": "x" * (256 * KIB),
        "name": "'; DROP TABLE--",
    }
    await write(lander.connection, [("exposures", origin, exposure_at(origin, **texts))])
    lander.start()
    await landed(lander, 1)
    [found] = await lander.asked(f"SELECT {', '.join(texts)} FROM exposures")
    assert found == list(texts.values())


@pytest.mark.parametrize(
    ("hang", "stands_still"),
    [
        ("hang commit", "commit has not moved for 6 s although Kafka answers"),
        ("hang store", "landing in exposures has not moved for 6 s although Kafka answers"),
        ("read nothing", "reading has brought nothing, although there are records in "),
    ],
)
async def test_a_call_that_never_returns_ends_the_lander_which_says_so_and_the_next_lands_all_once(
    lander: LanderProcess, hang: str, stands_still: str
):
    lander.start(stall_s=6)
    await until(lambda: lander.ask("readiness") == {})
    await lander.asked(hang)
    await write(lander.connection, events(range(300)))
    said = await lander.failure()
    assert said["failed"].startswith(stands_still)
    lander.start()
    await landed(lander, 1_500)
    await nothing_left(lander)
    assert await lander.stop() == 0
