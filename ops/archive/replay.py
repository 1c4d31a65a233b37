"""A replay of the archive: the worker's code over chunks of long ago, and on to a lander what of it is wanted.

Everything that is sent may be sent again, for an event keeps its id and its origin. So a replay can be cut
off anywhere, gone on with by its id, and repeated.
"""

import asyncio
import getpass
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from ops.archive.reading import Reading, readings, records
from ops.dlq.reenter import Again
from ops.dlq.replay import OnProgress, new_id, now_ms
from ops.dlq.send import Pace, Sender
from processors.reprocess import Emitted, Known, Reprocessor, Span
from schemas import chunk, identity_links, replays
from schemas.archive import Archive
from schemas.dead_letter import CODE_VERSION
from schemas.kafka import KafkaConnection
from schemas.origin import HEADER
from schemas.replays import ReplayRecord
from schemas.topics import IDENTITY_LINKS, REPLAYS

_AT_ONCE_EVENTS: Final = 5_000
_AT_ONCE_RECORDS: Final = 500
_WRITE_DOWN_S: Final = 1.0

Choose = Callable[[Sequence[Emitted]], list[Emitted]]
"""Which of the events that are emitted again are sent; asks the store, so it blocks."""


@dataclass(frozen=True)
class Plan:
    """What is replayed, by which code, and where to: `topics` says where a public topic's records go instead."""

    span: Span
    choose: Choose
    claims_window_ms: int
    known: Known
    partitions: int
    into: str
    passed_over: str
    """Why `choose` leaves some out, in a word for counting."""
    topics: dict[str, str] = field(default_factory=dict)
    rate: int = 0
    note: str = ""


class Passed(NamedTuple):
    """What became of the events of some records that stand behind each other."""

    end: int
    records: int
    emitted: list[Emitted]


class ArchiveReplay:
    """One replay under way. Without a broker to send to (`dry`) it only counts."""

    def __init__(
        self,
        kafka: KafkaConnection,
        archive: Archive,
        plan: Plan,
        resumed: ReplayRecord | None = None,
        *,
        dry: bool,
        swap_since: Mapping[str, int],
    ) -> None:
        """`swap_since`: see `ReplayRecord`; of a replay that begins."""
        self._kafka = kafka
        self._archive = archive
        self._plan = plan
        self._before = resumed
        self._dry = dry
        self._counts: Counter[str] = Counter()
        self.sent_ids: list[bytes] = []
        self.is_warm = True
        self.record = resumed or self._first_record(dict(swap_since))

    def _first_record(self, swap_since: dict[str, int]) -> ReplayRecord:
        started, plan = now_ms(), self._plan
        return ReplayRecord(
            id=new_id(started),
            state="running",
            who=f"{getpass.getuser()}@{socket.gethostname()}",
            started_at=started,
            code_version=CODE_VERSION,
            selection={"archive": [str(plan.span.since), str(plan.span.until)], "into": [plan.into]},
            ends={},
            note=plan.note,
            rate=plan.rate,
            swap_since=swap_since,
        )

    async def run(self, on_progress: OnProgress) -> ReplayRecord:
        """Send what is wanted of the span; return when the broker has it.

        Raises KafkaError, StoreError, httpx.TransportError, ArchiveGapError and `ARCHIVE_ERRORS`; then it can be
        gone on with by its id.
        """
        warm_ms = self._plan.span.since - self._plan.claims_window_ms
        found = await asyncio.to_thread(readings, self._archive, warm_ms)
        self.is_warm = all(reading.is_warm for reading in found)
        total, read = sum(reading.records for reading in found), 0
        if not self.record.ends:
            self.record = msgspec.structs.replace(self.record, ends={one.name: one.end for one in found})
        async with AsyncExitStack() as open_:
            sender = None if self._dry else await open_.enter_async_context(Sender(self._kafka, self.record.id))
            await self._write_down(sender, "running")
            written_s = time.monotonic()
            pace = Pace(self._plan.rate)
            for reading in found:
                passing = _Passing(self._archive, reading, self._plan, self._done_before(reading))
                while (passed := await asyncio.to_thread(passing.next)) is not None:
                    await self._send(passed.emitted, reading, sender, pace)
                    read += passed.records
                    self._advance(reading, passed.end)
                    on_progress(read, total)
                    if time.monotonic() - written_s >= _WRITE_DOWN_S:
                        await self._write_down(sender, "running")
                        written_s = time.monotonic()
                self._count_rest(passing)
            self._advance(None, 0)
            await self._write_down(sender, "sent")
        return self.record

    def _done_before(self, reading: Reading) -> int:
        return self._before.done.get(reading.name, 0) if self._before is not None else 0

    async def _send(self, emitted: list[Emitted], reading: Reading, sender: Sender | None, pace: Pace) -> None:
        if not emitted:
            return
        wanted = await asyncio.to_thread(self._plan.choose, emitted)
        self._counts[self._plan.passed_over] += len(emitted) - len(wanted)
        self.sent_ids += [one.event_id for one in wanted]
        if sender is None:
            return
        step = pace.step or len(wanted) or 1
        for start in range(0, len(wanted), step):
            some = wanted[start : start + step]
            await pace.wait(len(some))
            await sender.send_records([*(self._again(one, reading) for one in some), *self._links_of(some)])

    def _again(self, one: Emitted, reading: Reading) -> Again:
        headers = [(HEADER, one.origin), (chunk.REPLAY_HEADER, self.record.id.encode())]
        topic = self._plan.topics.get(one.topic, one.topic)
        # As the worker does: the partition of the chunk that it was in.
        partition = reading.place.partition % self._plan.partitions
        return Again(topic, partition, one.key, one.value, headers, [one.event_id])

    def _links_of(self, some: Sequence[Emitted]) -> Iterator[Again]:
        """Yield what rows that land tell of identities and nobody knows: Kafka may have lost it with the rows."""
        if self._plan.topics:
            return
        for link in (link for one in some for link in one.links):
            if self._plan.known.identities.learn(link):
                yield Again(IDENTITY_LINKS, 0, identity_links.key_of(link), identity_links.encode(link), [], [])

    def _count_rest(self, passing: "_Passing") -> None:
        tally = passing.reprocessor.tally
        self._counts["erased"] += tally.erased
        for reason, count in tally.dead.items():
            self._counts[f"dead: {reason}"] += count

    def _advance(self, reading: Reading | None, end: int) -> None:
        before = self._before
        counts = {name: count for name, count in self._counts.items() if count}
        sent = len(self.sent_ids) + (before.sent if before is not None else 0)
        done = self.record.done | ({reading.name: max(end, self._done_before(reading))} if reading else {})
        selected = (
            len(self.sent_ids) + self._counts[self._plan.passed_over] + (before.selected if before is not None else 0)
        )
        self.record = msgspec.structs.replace(self.record, done=done, sent=sent, selected=selected, passed_over=counts)

    async def _write_down(self, sender: Sender | None, state: replays.State) -> None:
        self.record = msgspec.structs.replace(self.record, state=state)
        if sender is not None:
            await sender.write(REPLAYS, self.record.id.encode(), replays.encode(self.record))


class _Passing:
    """Reads and judges one partition, some records at a time. Blocks; one thread at a time."""

    def __init__(self, archive: Archive, reading: Reading, plan: Plan, done: int) -> None:
        self.reprocessor = Reprocessor(reading.place, plan.span, plan.claims_window_ms, plan.known)
        self._records = records(archive, reading)
        self._done = done
        """What stands before was sent by the run that this one goes on with; it is read for its claims."""

    def next(self) -> Passed | None:
        """Return what some records emit, None behind the last one."""
        emitted: list[Emitted] = []
        end = count = 0
        for record in self._records:
            found = self.reprocessor.take(record)
            end, count = record.offset + 1, count + 1
            if record.offset >= self._done:
                emitted += found
            if count >= _AT_ONCE_RECORDS or len(emitted) >= _AT_ONCE_EVENTS:
                break
        return Passed(end, count, emitted) if count else None
