"""Taking events without Kafka: what was acknowledged is not lost and not overtaken."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.waiting import until

from ingest.durability import Durability, Lane, LogUnavailableError, Record
from ingest.outbox import Outbox
from ingest.spill import SpillingLog
from schemas.limits import SPILL_BYTES
from schemas.metrics import GatewayMetrics
from schemas.topics import EVENTS_RAW

PATIENCE_S = 60.0
AT_ONCE_S = 0.02
"""An answer's deadline where Kafka is never to be in time."""


class Kafka:
    """A log that acknowledges when it is told to, and remembers what reached it."""

    def __init__(self) -> None:
        self.problem = ""
        self.topic, self.partitions = EVENTS_RAW, 2
        self.reached: list[tuple[int, Record]] = []
        self.letters: list[bytes] = []
        self.acknowledges = asyncio.Event()
        self.acknowledges.set()
        self.fails = False

    async def append(self, lane: Lane, records: Sequence[Record]) -> Durability:
        await self._until_acknowledged()
        self.reached += [(lane.partition, record) for record in records]
        return Durability.KAFKA

    async def append_dead_letter(self, partition: int, value: bytes) -> Durability:
        assert partition < self.partitions
        await self._until_acknowledged()
        self.letters.append(value)
        return Durability.KAFKA

    async def _until_acknowledged(self) -> None:
        if self.problem:
            raise LogUnavailableError(self.problem)
        await self.acknowledges.wait()
        if self.fails:
            raise LogUnavailableError("the producer was replaced")

    def values(self, partition: int = 0) -> list[bytes]:
        return [record.value for at, record in self.reached if at == partition]


class Bench:
    """A log with an outbox in a folder, and Kafka behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = Kafka()
        self.metrics = GatewayMetrics()
        self.outbox: Outbox
        self.log: SpillingLog

    async def start(self, deadline_s: float = PATIENCE_S, max_bytes: int = SPILL_BYTES) -> SpillingLog:
        self.outbox = Outbox(self.folder)
        self.metrics = GatewayMetrics()
        self.log = SpillingLog(self.kafka, self.outbox, max_bytes, self.metrics, deadline_s)
        await self.log.start()
        return self.log

    async def drained(self) -> None:
        await until(lambda: not self.log.holds_any)

    def count(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"headrace_gateway_{name}") or 0.0


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def records(*numbers: int) -> list[Record]:
    return [Record(b"chunk-%d" % number, 1) for number in numbers]


def values(*numbers: int) -> list[bytes]:
    return [record.value for record in records(*numbers)]


async def test_what_kafka_acknowledges_in_time_never_sees_the_outbox(bench: Bench):
    log = await bench.start()
    assert await log.append(Lane(EVENTS_RAW, 0), records(1)) is Durability.KAFKA
    assert bench.kafka.reached == [(0, Record(b"chunk-1", 1, 0))]
    assert bench.count("spilled_chunks_total") == 0
    await log.stop()


async def test_without_kafka_chunks_are_spilled_and_reach_it_in_order_with_the_time_of_their_spilling(bench: Bench):
    log = await bench.start()
    bench.kafka.problem = "away"
    for number in range(5):
        assert await log.append(Lane(EVENTS_RAW, 0), records(number, number + 100)) is Durability.SPILL
    assert await log.append_dead_letter(1, b"a letter") is Durability.SPILL
    assert (bench.count("spilled_chunks_total"), bench.count("spill_chunks")) == (11, 11)
    assert bench.count("spill_oldest_seconds") > 0
    bench.kafka.problem = ""
    await bench.drained()
    assert bench.kafka.values() == [value for number in range(5) for value in values(number, number + 100)]
    assert all(record.spilled_ms > 1_700_000_000_000 for _, record in bench.kafka.reached)
    assert bench.kafka.letters == [b"a letter"]
    assert bench.outbox.contents() == []
    assert (bench.count("spill_chunks"), bench.count("spill_bytes"), bench.count("drained_chunks_total")) == (0, 0, 11)
    assert bench.count("spill_oldest_seconds") == 0
    assert await log.append(Lane(EVENTS_RAW, 0), records(9)) is Durability.KAFKA
    await log.stop()


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_the_limit_on_bytes_is_inclusive_and_beyond_it_nothing_is_acknowledged(bench: Bench, more: int):
    limit = 1_000
    log = await bench.start(max_bytes=limit)
    bench.kafka.problem = "away"
    assert await log.append(Lane(EVENTS_RAW, 0), [Record(b"x" * 400, 1)]) is Durability.SPILL
    last = [Record(b"y" * (600 + more), 1)]
    if more <= 0:
        assert await log.append(Lane(EVENTS_RAW, 0), last) is Durability.SPILL
        assert log.problem == ""
        last = [Record(b"z" * 2, 1)]
    with pytest.raises(LogUnavailableError, match="HEADRACE_SPILL_MAX_BYTES"):
        await log.append(Lane(EVENTS_RAW, 0), last)
    assert "HEADRACE_SPILL_MAX_BYTES" in log.problem
    assert await log.append(Lane(EVENTS_RAW, 1), [Record(b"", 1)]) is Durability.SPILL
    bench.kafka.problem = ""
    await bench.drained()
    assert log.spill_problem == ""
    assert len(bench.kafka.reached) == (2 if more > 0 else 3)
    await log.stop()


async def test_what_kafka_acknowledges_late_is_not_sent_to_it_again(bench: Bench):
    log = await bench.start(AT_ONCE_S)
    bench.kafka.acknowledges.clear()
    assert await log.append(Lane(EVENTS_RAW, 0), records(1)) is Durability.SPILL
    assert await log.append(Lane(EVENTS_RAW, 0), records(2)) is Durability.SPILL
    bench.kafka.acknowledges.set()
    await bench.drained()
    assert bench.kafka.values() == values(1, 2)
    assert [record.spilled_ms > 0 for _, record in bench.kafka.reached] == [False, True]
    await log.stop()


async def test_what_the_producer_gave_up_is_sent_again(bench: Bench):
    log = await bench.start(AT_ONCE_S)
    bench.kafka.acknowledges.clear()
    assert await log.append(Lane(EVENTS_RAW, 0), records(1)) is Durability.SPILL
    bench.kafka.fails = True
    bench.kafka.acknowledges.set()
    await until(lambda: not log._backlogs or all(not backlog.late for backlog in log._backlogs.values()))
    bench.kafka.fails = False
    await bench.drained()
    assert bench.kafka.values() == values(1)
    await log.stop()


async def test_a_producer_that_fails_at_once_costs_nothing(bench: Bench):
    log = await bench.start()
    bench.kafka.fails = True
    assert await log.append(Lane(EVENTS_RAW, 0), records(1)) is Durability.SPILL
    bench.kafka.fails = False
    await bench.drained()
    assert bench.kafka.values() == values(1)
    await log.stop()


async def test_nothing_overtakes_within_a_partition_however_kafka_comes_and_goes(bench: Bench):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = await bench.start(AT_ONCE_S)
    taken: dict[Durability, int] = dict.fromkeys(Durability, 0)

    async def send(partition: int) -> None:
        # As the linger does it: one append of a partition at a time.
        for number in range(120):
            taken[await log.append(Lane(EVENTS_RAW, partition), records(number))] += 1
            if number % 2 == 0:
                await asyncio.sleep(chance.random() * AT_ONCE_S)

    async def disturb() -> None:
        while True:
            bench.kafka.problem = chance.choice(["", "", "away"])
            chance.choice(
                [bench.kafka.acknowledges.set, bench.kafka.acknowledges.set, bench.kafka.acknowledges.clear]
            )()
            await asyncio.sleep(chance.random() * 2 * AT_ONCE_S)

    disturbing = asyncio.create_task(disturb())
    await asyncio.gather(send(0), send(1))
    disturbing.cancel()
    bench.kafka.problem = ""
    bench.kafka.acknowledges.set()
    await bench.drained()
    for partition in (0, 1):
        assert bench.kafka.values(partition) == values(*range(120))
    print(taken)
    await log.stop()


async def test_what_waits_is_there_for_the_next_start_and_goes_before_what_is_new(bench: Bench):
    log = await bench.start()
    bench.kafka.problem = "away"
    await log.append(Lane(EVENTS_RAW, 0), records(1, 2))
    await log.stop()
    log = await bench.start()
    assert log.holds_any
    assert (bench.count("spill_chunks"), bench.count("spill_bytes")) == (2, 14)
    assert await log.append(Lane(EVENTS_RAW, 0), records(3)) is Durability.SPILL
    bench.kafka.problem = ""
    await bench.drained()
    assert bench.kafka.values() == values(1, 2, 3)
    await log.stop()


async def test_an_event_waits_for_the_last_batch_before_it_and_then_goes_straight_to_kafka(bench: Bench):
    log = await bench.start()
    bench.kafka.problem = "away"
    await log.append(Lane(EVENTS_RAW, 0), records(1))
    bench.kafka.acknowledges.clear()
    bench.kafka.problem = ""
    [backlog] = log._backlogs.values()
    await until(lambda: backlog.is_last_batch_sent)
    new = asyncio.create_task(log.append(Lane(EVENTS_RAW, 0), records(2)))
    await asyncio.sleep(0)
    bench.kafka.acknowledges.set()
    assert await new is Durability.KAFKA
    assert bench.kafka.values() == values(1, 2)
    await log.stop()


@pytest.fixture
def full_disk(bench: Bench) -> Iterator[Callable[[int], None]]:
    def limit(more_pages: int) -> None:
        [pages] = bench.outbox._db.execute("PRAGMA page_count").fetchone()
        bench.outbox._db.execute(f"PRAGMA max_page_count = {pages + more_pages}").fetchone()

    return limit


async def test_a_disk_that_fails_is_no_acknowledgement_and_is_tried_again(
    bench: Bench, full_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.group_commit._PROBE_S", 0.01)
    log = await bench.start()
    bench.kafka.problem = "away"
    full_disk(2)
    large = [Record(b"x" * 50_000, 1)]
    with pytest.raises(LogUnavailableError, match="full"):
        await log.append(Lane(EVENTS_RAW, 0), large)
    assert str(bench.folder) in log.problem
    assert "away" in log.problem
    assert bench.count("spill_errors_total") == 1
    with pytest.raises(LogUnavailableError, match="full"):
        await log.append(Lane(EVENTS_RAW, 0), records(1))
    full_disk(1_000)
    await until(lambda: not log.problem)
    assert await log.append(Lane(EVENTS_RAW, 0), large) is Durability.SPILL
    bench.kafka.problem = ""
    await bench.drained()
    assert bench.kafka.values() == [large[0].value]
    await log.stop()


async def test_while_the_disk_fails_kafka_alone_is_enough(bench: Bench, full_disk: Callable[[int], None]):
    log = await bench.start(AT_ONCE_S)
    bench.kafka.acknowledges.clear()
    full_disk(2)
    waiting = asyncio.create_task(log.append(Lane(EVENTS_RAW, 0), [Record(b"x" * 50_000, 1)]))
    await until(lambda: log.spill_problem)
    assert not waiting.done()
    bench.kafka.acknowledges.set()
    assert await waiting is Durability.KAFKA
    assert await log.append(Lane(EVENTS_RAW, 0), records(1)) is Durability.KAFKA
    assert log.problem == ""
    await log.stop()


async def test_a_gateway_that_never_knew_its_log_takes_nothing(bench: Bench):
    bench.kafka.partitions = 0
    bench.kafka.problem = "connecting"
    log = await bench.start()
    assert log.problem == "connecting"
    bench.kafka.partitions = 2
    assert log.problem == ""
    await log.stop()
