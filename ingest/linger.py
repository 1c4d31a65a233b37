"""Gathering what several requests send to one partition into one record.

A stream processor pays per record, and a server SDK's 50 events are 50 users on all partitions; so
events wait a few milliseconds for company. A gateway that is idle makes nobody wait. While records
are on their way the next ones gather, and a little longer, since those who were just answered send
again: else the quickest of them would go alone, in a request that costs Kafka as much as all others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog

from ingest.chunks import Part
from ingest.durability import Durability, Lane, Record
from schemas.crash_points import CrashPoint, reach
from schemas.limits import ANSWER_DEADLINE_S, CHUNK_BYTES, CHUNK_EVENTS
from schemas.topics import EVENTS_RAW

log = structlog.get_logger()

_SWEEP_S: Final = 0.1
_PATIENCE: Final = 4
"""Records under way hold up other partitions for so many lingers; one broker may be slower than the rest."""

_BATCH_BYTES: Final = 768 * 1024
"""Records sent at once to one partition; a Kafka broker takes batches up to 1 MiB by default."""


class Ticket:
    """What one request waits for: the acknowledgement of every record that holds a part of it."""

    __slots__ = ("due_s", "durability", "pending", "settled")

    def __init__(self, settled: asyncio.Future[bool], pending: int, due_s: float) -> None:
        self.settled = settled
        self.pending = pending
        self.due_s = due_s
        self.durability = Durability.KAFKA

    def acknowledge(self, durability: Durability) -> None:
        """Note that one of the records is in the log or spilled; the last one ends the wait."""
        if durability is Durability.SPILL:
            self.durability = durability
        self.pending -= 1
        if self.pending == 0 and not self.settled.done():
            self.settled.set_result(True)

    def fail(self) -> None:
        """End the wait without success."""
        if not self.settled.done():
            self.settled.set_result(False)


Waiting = tuple[Part, Ticket]
Append = Callable[[Lane, Sequence[Record]], Awaitable[Durability]]


class _Queue:
    """What waits for one partition."""

    __slots__ = ("lane", "sent_at_s", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: list[Waiting] = []
        self.sent_at_s = 0.0  # 0: nothing is on its way


class Linger:
    """Gathers parts by partition and hands them to `append`, which returns when no crash loses them.

    One call of `append` per partition is under way at any time. A part whose request was answered
    while it waited (in vain) is dropped: its sender was told to send it again.
    """

    def __init__(self, append: Append, linger_ms: float, answer_deadline_s: float = ANSWER_DEADLINE_S) -> None:
        self._append = append
        self._linger_s = linger_ms / 1000
        self._answer_deadline_s = answer_deadline_s
        self._loop: asyncio.AbstractEventLoop
        self._queues: dict[Lane, _Queue] = {}
        self._tickets: deque[Ticket] = deque()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._flush_handle: asyncio.Handle | None = None
        self._sweep_handle: asyncio.Handle | None = None
        self._last_busy_s = 0.0  # when records were last sent, or acknowledged
        self._stalled: frozenset[Lane] = frozenset()

    def start(self) -> None:
        """Work on the running loop; nothing may be put before."""
        self._loop = asyncio.get_running_loop()

    @property
    def stalled(self) -> frozenset[Lane]:
        """Partitions whose last record has waited for its acknowledgement longer than a client does."""
        return self._stalled

    def put(self, parts: Iterable[Part], besides: int = 0, topic: str = EVENTS_RAW) -> Ticket:
        """Queue the parts of one request, which were cut for `topic`, and return its ticket.

        `besides` acknowledgements will come from elsewhere (dead letters). Unless all have come when
        the answer is due, the ticket fails.
        """
        now_s = self._loop.time()
        ticket = Ticket(self._loop.create_future(), besides, now_s + self._answer_deadline_s - _SWEEP_S)
        for part in parts:
            ticket.pending += 1
            lane = Lane(topic, part.partition)
            queue = self._queues.get(lane)
            if queue is None:
                queue = self._queues[lane] = _Queue(lane)
            queue.waiting.append((part, ticket))
        if ticket.pending == 0:
            ticket.settled.set_result(True)
            return ticket
        self._tickets.append(ticket)
        if self._sweep_handle is None:
            self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)
        if self._flush_handle is None:
            self._schedule_flush(now_s)
        return ticket

    async def drain(self) -> None:
        """Return when all that was put has been answered; at the latest when the last answer is due."""
        while any(not ticket.settled.done() for ticket in self._tickets):
            await asyncio.wait([ticket.settled for ticket in self._tickets])
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)

    def _schedule_flush(self, now_s: float) -> None:
        due_s = self._last_busy_s + self._linger_s
        if due_s <= now_s:
            # Idle. One turn of the loop still brings together what arrived in it.
            self._flush_handle = self._loop.call_soon(self._flush)
        else:
            self._flush_handle = self._loop.call_at(due_s, self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        now_s = self._loop.time()
        sent_at_s = max((queue.sent_at_s for queue in self._queues.values()), default=0.0)
        patient_until_s = sent_at_s + _PATIENCE * self._linger_s
        if sent_at_s and now_s < patient_until_s:
            self._flush_handle = self._loop.call_at(patient_until_s, self._flush)
            return
        for queue in self._queues.values():
            if queue.waiting and not queue.sent_at_s:
                self._last_busy_s = queue.sent_at_s = now_s
                task = self._loop.create_task(self._deliver(queue))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)

    def _note_delivered(self, queue: _Queue) -> None:
        queue.sent_at_s = 0.0
        self._last_busy_s = now_s = self._loop.time()
        if any(other.sent_at_s for other in self._queues.values()):
            if not queue.waiting or self._flush_handle is not None:
                return
        elif self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if any(other.waiting for other in self._queues.values()):
            self._schedule_flush(now_s)

    async def _deliver(self, queue: _Queue) -> None:
        taken: list[Waiting] = []
        try:
            taken, queue.waiting = take(queue.waiting)
            durability = Durability.KAFKA
            if taken:
                reach(CrashPoint.GATEWAY_BEFORE_APPEND)
                durability = await self._append(queue.lane, records_of([part for part, _ in taken]))
        except Exception:
            log.exception("append_failed", topic=queue.lane.topic, partition=queue.lane.partition)
            for _, ticket in taken:
                ticket.fail()
        else:
            reach(CrashPoint.GATEWAY_AFTER_APPEND)
            for _, ticket in taken:
                ticket.acknowledge(durability)
            if taken and taken[-1][1].pending:
                reach(CrashPoint.GATEWAY_HALF_APPENDED)
        finally:
            self._note_delivered(queue)

    def _sweep(self) -> None:
        now_s = self._loop.time()
        tickets = self._tickets
        while tickets and (tickets[0].settled.done() or tickets[0].due_s <= now_s):
            tickets.popleft().fail()
        on_their_way = [queue for queue in self._queues.values() if queue.sent_at_s]
        self._note_stalled(on_their_way, now_s - self._answer_deadline_s)
        for queue in on_their_way:
            queue.waiting = [waiting for waiting in queue.waiting if not waiting[1].settled.done()]
        more = tickets or on_their_way
        self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep) if more else None

    def _note_stalled(self, on_their_way: Sequence[_Queue], late_s: float) -> None:
        stalled = frozenset(queue.lane for queue in on_their_way if queue.sent_at_s < late_s)
        if stalled != self._stalled:
            self._stalled = stalled
            if stalled:
                log.warning(
                    "log_does_not_acknowledge",
                    partitions=[f"{lane.topic}/{lane.partition}" for lane in sorted(stalled)],
                )
            else:
                log.info("log_acknowledges_again")


def take(waiting: list[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
    """Return what is to be sent now and what does not fit; what nobody waits for is in neither."""
    taken: list[Waiting] = []
    size = 0
    for position, item in enumerate(waiting):
        part, ticket = item
        if ticket.settled.done():
            continue
        size += len(part.json)
        if taken and size > _BATCH_BYTES:
            return taken, waiting[position:]
        taken.append(item)
    return taken, []


def records_of(parts: Sequence[Part]) -> list[Record]:
    """Join parts, in order, into records; a record is cut where it would exceed a chunk's limits."""
    records: list[Record] = []
    start = count = size = 0
    for position, part in enumerate(parts):
        if position > start and (count + part.events > CHUNK_EVENTS or size + len(part.json) > CHUNK_BYTES):
            records.append(_record(parts[start:position], count))
            start, count, size = position, 0, 0
        count += part.events
        size += len(part.json)
    if parts:
        records.append(_record(parts[start:], count))
    return records


def _record(parts: Sequence[Part], count: int) -> Record:
    return Record(b'{"requests":[%b]}' % b",".join([part.json for part in parts]), count)
