"""Gathering requests: who waits for what, and what happens when the log does not answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from support.clocks import skip_waiting

from ingest.chunks import Part
from ingest.durability import Durability, Lane, Record
from ingest.linger import Linger, Ticket
from schemas import chunk
from schemas.limits import ANSWER_DEADLINE_S
from schemas.topics import EVENTS_RAW


def part(partition: int = 0, events: int = 1, name: str = "r") -> Part:
    raw = b",".join(b'{"n":%d}' % n for n in range(events))
    head = b'{"project":"p","environment":"e","key_id":"k","request_id":"%b","received_at":1,"events":[' % name.encode()
    return Part(partition, events, head + raw + b"]}")


class MemoryLog:
    """A log that keeps what is appended, and answers when it is told to."""

    def __init__(self) -> None:
        self.appends: list[tuple[int, list[Record]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failing = False
        self.spilled = Durability.KAFKA  # of partition 1

    async def append(self, lane: Lane, records: Sequence[Record]) -> Durability:
        partition = lane.partition
        self.appends.append((partition, list(records)))
        await self.open.wait()
        if self.failing:
            raise OSError("the log is gone")
        return self.spilled if partition == 1 else Durability.KAFKA

    def requests(self) -> list[str]:
        values = [record.value for _, records in self.appends for record in records]
        return [request.request_id for value in values for request in chunk.decode(value).requests]


@pytest.fixture(autouse=True)
async def _no_waiting() -> None:
    skip_waiting()


@pytest.fixture
async def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def linger(log: MemoryLog) -> AsyncIterator[Linger]:
    made = Linger(log.append, linger_ms=5)
    made.start()
    yield made
    log.open.set()
    await made.drain()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(ANSWER_DEADLINE_S * 2):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody when it happens
            await asyncio.sleep(0.001)


async def settled(*tickets: Ticket) -> list[bool]:
    return list(await asyncio.wait_for(asyncio.gather(*(ticket.settled for ticket in tickets)), ANSWER_DEADLINE_S * 2))


async def test_a_request_of_which_anything_was_spilled_says_so(linger: Linger, log: MemoryLog):
    log.spilled = Durability.SPILL
    some, none = linger.put([part(1), part(0)]), linger.put([part(0)])
    assert await settled(some, none) == [True, True]
    assert (some.durability, none.durability) == (Durability.SPILL, Durability.KAFKA)


async def test_an_idle_gateway_makes_nobody_wait(log: MemoryLog):
    linger = Linger(log.append, linger_ms=60_000)
    linger.start()
    assert await settled(linger.put([part()])) == [True]


async def test_requests_of_one_moment_share_a_record(linger: Linger, log: MemoryLog):
    tickets = [linger.put([part(name=f"r{n}")]) for n in range(10)]
    assert await settled(*tickets) == [True] * 10
    assert len(log.appends) == 1
    assert log.requests() == [f"r{n}" for n in range(10)]


async def test_a_request_waits_for_all_of_its_partitions(linger: Linger, log: MemoryLog):
    log.open.clear()
    ticket = linger.put([part(0), part(1), part(1)])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not ticket.settled.done()
    log.open.set()
    assert await settled(ticket) == [True]
    assert sorted(partition for partition, _ in log.appends) == [0, 1]


async def test_while_a_record_is_on_its_way_the_next_one_gathers(linger: Linger, log: MemoryLog):
    log.open.clear()
    first = linger.put([part(name="first")])
    await until(lambda: log.appends)
    later = [linger.put([part(name=f"later-{n}")]) for n in range(3)]
    await asyncio.sleep(0.02)  # several windows pass
    assert len(log.appends) == 1
    log.open.set()
    assert await settled(first, *later) == [True] * 4
    assert len(log.appends) == 2


async def test_those_who_were_just_answered_go_together_with_their_next(log: MemoryLog):
    linger = Linger(log.append, linger_ms=200)
    linger.start()
    assert await settled(linger.put([part(0)]), linger.put([part(1)])) == [True, True]
    tickets = []
    for partition in range(3):
        tickets.append(linger.put([part(partition, name=f"next-{partition}")]))
        await asyncio.sleep(0.01)
    assert [partition for partition, _ in log.appends] == [0, 1]
    assert await settled(*tickets) == [True] * 3
    assert [partition for partition, _ in log.appends] == [0, 1, 0, 1, 2]


async def test_while_records_are_on_their_way_other_partitions_gather_too(log: MemoryLog):
    linger = Linger(log.append, linger_ms=100)
    linger.start()
    log.open.clear()
    tickets = [linger.put([part(0)])]
    await until(lambda: log.appends)
    for name in ("one", "two"):
        tickets.append(linger.put([part(1, name=name)]))
        await asyncio.sleep(0.11)  # a window passes
    assert [partition for partition, _ in log.appends] == [0]
    log.open.set()
    assert await settled(*tickets) == [True] * 3
    assert [partition for partition, _ in log.appends] == [0, 1]


async def test_a_partition_that_does_not_answer_holds_up_no_other_for_long(log: MemoryLog):
    stuck = asyncio.Event()

    async def append(lane: Lane, records: Sequence[Record]) -> Durability:
        if lane.partition == 0:
            await stuck.wait()
        return await log.append(lane, records)

    linger = Linger(append, linger_ms=5)
    linger.start()
    held = linger.put([part(0)])
    for _ in range(3):
        assert await settled(linger.put([part(1)])) == [True]
    assert not held.settled.done()
    stuck.set()
    assert await settled(held) == [True]


async def test_what_fails_is_told_to_everybody_who_was_in_it(linger: Linger, log: MemoryLog):
    log.failing = True
    assert await settled(linger.put([part(0)]), linger.put([part(0), part(1)])) == [False, False]
    log.failing = False
    assert await settled(linger.put([part(0)])) == [True]


async def test_without_an_acknowledgement_a_request_fails_in_time_and_what_waited_is_dropped(
    linger: Linger, log: MemoryLog
):
    log.open.clear()
    began_s = asyncio.get_running_loop().time()
    sent = linger.put([part(name="sent")])
    await until(lambda: log.appends)
    waiting = linger.put([part(name="waiting")])
    assert await settled(sent, waiting) == [False, False]
    assert round(asyncio.get_running_loop().time() - began_s, 3) <= ANSWER_DEADLINE_S
    await until(lambda: linger.stalled == {Lane(EVENTS_RAW, 0)})
    log.open.set()
    await until(lambda: not linger.stalled)
    assert await settled(linger.put([part(name="next")])) == [True]
    assert log.requests() == ["sent", "next"]


async def test_dead_letters_are_waited_for_beside_the_parts(linger: Linger):
    ticket = linger.put([part()], besides=1)
    await asyncio.sleep(0.02)
    assert not ticket.settled.done()
    ticket.acknowledge(Durability.KAFKA)
    assert await settled(ticket) == [True]


async def test_a_request_without_events_waits_for_nothing(linger: Linger, log: MemoryLog):
    assert await settled(linger.put([])) == [True]
    assert log.appends == []


async def test_records_of_a_flood_are_sent_in_batches_that_a_broker_takes(linger: Linger, log: MemoryLog):
    big = Part(0, 1, b'{"pad":"' + b"x" * 500_000 + b'"}')
    assert await settled(*[linger.put([big]) for _ in range(8)]) == [True] * 8
    sizes = [sum(len(record.value) for record in records) for _, records in log.appends]
    assert len(sizes) == 8
    assert max(sizes) < 1024 * 1024


async def test_draining_waits_for_what_is_in_hand(linger: Linger, log: MemoryLog):
    log.open.clear()
    ticket = linger.put([part()])
    drained = asyncio.create_task(linger.drain())
    await asyncio.sleep(0.02)
    assert not drained.done()
    log.open.set()
    await drained
    assert ticket.settled.result() is True
