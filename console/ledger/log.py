"""What the log knows: what was appended, what became of it, and what is still on its way.

The order of reading is what makes the answer exact while everything moves. Ends of `events.raw` and
the worker's position first, then the ledger, then the lander's position, then its dead letters; the
store is asked last. An event that moves on meanwhile is met again further down, never missed.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from console.answers import RefusedError
from console.ledger.balance import LARGEST_INDEX, Coordinate, Indexes
from console.ledger.envelopes import refused_at_gateway, refused_at_lander
from console.ledger.raw import accepted_of
from console.ledger.weigh import LogSide, Place
from schemas import topics
from schemas.kafka import KafkaConnection
from schemas.large_records import large_records
from schemas.ledger import coordinate_of, decode, decode_dropped, is_of_replay, key_of
from schemas.limits import MIB
from schemas.logs import LogRecord, read_logs
from schemas.origin import HEADER, PACKED_BYTES, Origin
from schemas.topics import CUSTOM_EVENTS, DLQ_INGEST, DLQ_LANDER, EXPOSURES, LEDGER

SKEW_MS: Final = 10 * 60_000
"""How far a gateway's clock may be from the broker's; so much earlier is looked for chunks of the first minute."""

RECORDS_MAX: Final = 2_000_000
"""Records of the ledger that are weighed at once: an hour of 28,000 events a second."""

BEHIND_MAX: Final = 1_000_000
"""Records that a stage may be behind: they are all read, to say exactly what is in flight."""

_CONNECT_S: Final = 5.0
_BACK_OFF_MS: Final = 20
"""The client waits so long before it looks up a topic that is new to it: with the default of 100, seven times."""

_POLL_MS: Final = 500
_POLL_RECORDS: Final = 1_000
_POLL_BYTES: Final = 16 * MIB

_CHUNK_BYTES: Final = len(key_of(0, 0, 0))

Range = tuple[int, int]
"""Offsets from, and up to but without."""

OnRecord = Callable[[Any], None]


async def read_log(connection: KafkaConnection, since_ms: int) -> LogSide:
    """Read what concerns events received at `since_ms` or later.

    Raises RefusedError when that is too much; KafkaError, OSError or TimeoutError when the log does
    not answer; LedgerError when a record is of a later version.
    """
    settings = connection.client_settings()
    admin: Any = AIOKafkaAdminClient(**settings)
    consumer: Any = AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        retry_backoff_ms=_BACK_OFF_MS,
        max_partition_fetch_bytes=4 * MIB,
        **settings,
    )
    try:
        async with asyncio.timeout(_CONNECT_S):
            await admin.start()
            await consumer.start()
            side = LogSide()
            counts = await _partition_counts(consumer)
            logs = [record for record in (await read_logs(connection)).line if record.topic in counts]
        # While partitions are added some topics have them before others; nothing is in those yet.
        partitions = min(counts[topic] for topic in (EXPOSURES, CUSTOM_EVENTS, DLQ_INGEST, DLQ_LANDER))
        await _Reading(admin, consumer, side, since_ms).run(logs, list(range(partitions)))
        return side
    finally:
        await consumer.stop()
        await admin.close()


async def _partition_counts(consumer: Any) -> dict[str, int]:
    needed = (LEDGER, EXPOSURES, CUSTOM_EVENTS, DLQ_INGEST, DLQ_LANDER, topics.LOGS)
    known = await consumer._client.fetch_all_metadata()
    if lacking := [topic for topic in needed if not known.partitions_for_topic(topic)]:
        raise RefusedError(503, "log_not_ready", f"The log has no topic {lacking[0]}.", "Make it with `headrace init`.")
    return {topic: len(known.partitions_for_topic(topic)) for topic in known.topics()}


def holes(known: Sequence[int], begin: int, end: int) -> list[Range]:
    """Return what of [begin, end) is not in `known`, which is sorted."""
    inside = known[bisect_left(known, begin) : bisect_left(known, end)]
    found = []
    for before, after in pairwise((begin - 1, *inside, end)):
        if before + 1 < after:
            found.append((before + 1, after))
    return found


class _Reading:
    """One pass over the log."""

    def __init__(self, admin: Any, consumer: Any, side: LogSide, since_ms: int) -> None:
        self._admin = admin
        self._consumer = consumer
        self._side = side
        self._since_ms = since_ms
        self._ledger: dict[TopicPartition, Range] = {}
        self._logs: dict[str, int] = {}

    async def run(self, logs: Sequence[LogRecord], numbers: list[int]) -> None:
        """Read what concerns these logs, and all `numbers` of the partitions of the other topics."""
        side = self._side
        self._logs = {record.topic: record.log for record in logs}
        # First what was accepted and how far the worker is …
        accepted: dict[TopicPartition, int] = {}
        for record in logs:
            accepted |= await self._ends(record.topic, list(range(record.partitions)))
        refused = await self._ends(DLQ_INGEST, numbers)
        side.ends = {self._place(tp): end for tp, end in accepted.items()}
        for record in logs:
            mine = [tp for tp in accepted if tp.topic == record.topic]
            judged = await self._committed(topics.worker_group(record.topic), mine)
            side.judged |= {self._place(tp): at for tp, at in judged.items()}
        # … then what became of it …
        await self._read_ledger()
        await self._read_unrecorded(accepted)
        # … then how far the lander is, and at last what it dropped and refused.
        await self._read_on_the_way(numbers)
        await self._read_dropped()
        rejected = await self._ends(DLQ_LANDER, numbers)
        await self._read(await self._since(refused, SKEW_MS), self._on_refused_at_gateway, are_large=True)
        await self._read(await self._since(rejected, SKEW_MS), self._on_refused_at_lander, are_large=True)

    def _place(self, tp: TopicPartition) -> Place:
        return self._logs[tp.topic], tp.partition

    # --- step by step --------------------------------------------------------------------------

    async def _read_ledger(self) -> None:
        # Twice the skew: the record follows its chunk, but a cluster's brokers have a clock each.
        ranges = self._ledger = await self._since(await self._ends(LEDGER, [0]), 2 * SKEW_MS)
        if sum(end - start for start, end in ranges.values()) > RECORDS_MAX:
            raise RefusedError(
                400,
                "window_too_wide",
                f"The ledger has more than {RECORDS_MAX:,} records of this time.",
                "Ask for a shorter window.",
            )
        await self._read(ranges, self._on_ledger)

    async def _read_dropped(self) -> None:
        """Read on in the ledger: what the lander dropped before its position was taken may have come since."""
        ends = await self._ends(LEDGER, [0])
        ranges = {tp: (self._ledger[tp][1], end) for tp, end in ends.items()}
        await self._read(ranges, lambda record: self._on_ledger(record, dropped_only=True))

    def _on_ledger(self, record: Any, *, dropped_only: bool = False) -> None:
        if len(record.key or b"") == PACKED_BYTES:
            self._on_dropped(record)
            return
        if dropped_only:
            return  # what the worker did since counts in the next balance
        _, partition, _ = coordinate_of(record.key or b"")
        records = self._side.ledger.setdefault(partition, {})
        if record.value is None:
            records.pop(record.key, None)
            return
        records[record.key] = record.value
        if is_of_replay(record.value):
            for first in decode(record.value).copied_firsts():
                self._add(self._side.dropped, first)

    def _on_dropped(self, record: Any) -> None:
        if record.value is not None and decode_dropped(record.value):
            self._add(self._side.dropped, record.key)

    def _add(self, indexes: dict[bytes, Indexes], packed: bytes) -> None:
        """Add an event to a chunk's indexes; secondary exposures are made of it, and not weighed."""
        origin = Origin.unpack(packed)
        if origin.part == 0 and origin.index < LARGEST_INDEX:
            chunk = packed[:_CHUNK_BYTES]
            indexes[chunk] = indexes.get(chunk, 0) | 1 << origin.index

    async def _read_unrecorded(self, accepted: Mapping[TopicPartition, int]) -> None:
        """Read the chunks that no record speaks of: as a rule, what the worker has yet to read."""
        windows = await self._since(accepted, SKEW_MS)
        missing = await asyncio.to_thread(self._unrecorded, windows)
        self._check_backlog("The worker", sum(end - begin for ranges in missing.values() for begin, end in ranges))
        for turn in zip_longest(*([(tp, one) for one in ranges] for tp, ranges in missing.items())):
            await self._read(dict(filter(None, turn)), self._on_unrecorded, are_large=True)

    def _unrecorded(self, windows: Mapping[TopicPartition, Range]) -> dict[TopicPartition, list[Range]]:
        missing = {}
        for tp, (begin, end) in windows.items():
            places = map(coordinate_of, self._side.ledger.get(tp.partition, ()))
            known = sorted(offset for log, _, offset in places if log == self._logs[tp.topic])
            missing[tp] = holes(known, begin, end)
        return missing

    def _on_unrecorded(self, record: Any) -> None:
        at = Coordinate(self._logs[record.topic], record.partition, record.offset)
        is_judged = record.offset < self._side.judged[at[:2]]
        self._side.unrecorded.append(accepted_of(at, record, is_judged=is_judged))

    async def _read_on_the_way(self, numbers: list[int]) -> None:
        ranges: dict[TopicPartition, Range] = {}
        public = [TopicPartition(topic, number) for topic in (EXPOSURES, CUSTOM_EVENTS) for number in numbers]
        begun = await self._committed(topics.LANDER_GROUP, public)
        for tp, end in (await self._consumer.end_offsets(public)).items():
            ranges[tp] = (begun[tp], end)
        self._check_backlog("The lander", sum(max(0, end - start) for start, end in ranges.values()))
        await self._read(ranges, self._on_the_way)

    def _on_the_way(self, record: Any) -> None:
        origin = dict(record.headers).get(HEADER, b"")
        if len(origin) == PACKED_BYTES:
            self._add(self._side.on_the_way, origin)

    def _on_refused_at_gateway(self, record: Any) -> None:
        if (one := refused_at_gateway(record)) is not None:
            self._side.refused_at_gateway.append(one)

    def _on_refused_at_lander(self, record: Any) -> None:
        if (one := refused_at_lander(record)) is not None:
            origin, reason = one
            reasons = self._side.refused_at_lander.setdefault(origin.pack()[:_CHUNK_BYTES], {})
            reasons[reason] = reasons.get(reason, 0) | 1 << min(origin.index, LARGEST_INDEX)

    # --- asking Kafka --------------------------------------------------------------------------

    async def _ends(self, topic: str, numbers: list[int]) -> dict[TopicPartition, int]:
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets([TopicPartition(topic, n) for n in numbers])
        return ends

    async def _since(self, ends: Mapping[TopicPartition, int], earlier_ms: int) -> dict[TopicPartition, Range]:
        """Return from where to `ends` there are records of the window, begun `earlier_ms` before it."""
        moment = max(0, self._since_ms - earlier_ms)
        found = await self._consumer.offsets_for_times(dict.fromkeys(ends, moment))
        return {tp: (min(at.offset, ends[tp]) if at else ends[tp], ends[tp]) for tp, at in found.items()}

    async def _committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where a group goes on; where it has never committed, the beginning."""
        wanted = list(partitions)
        try:
            offsets = await self._admin.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:
            offsets = {}  # a new cluster: it makes the topic of the offsets when it is first asked for one
        begins = await self._consumer.beginning_offsets(wanted)
        return {tp: offsets[tp].offset if tp in offsets and offsets[tp].offset >= 0 else begins[tp] for tp in wanted}

    async def _read(
        self, ranges: Mapping[TopicPartition, Range], on_record: OnRecord, *, are_large: bool = False
    ) -> None:
        """Hand over every record of these ranges; `are_large` where one may be as large as a body."""
        behind = {tp for tp, (start, end) in ranges.items() if start < end}
        if not behind:
            return
        consumer = self._consumer
        consumer.assign(behind)
        for tp in behind:
            consumer.seek(tp, ranges[tp][0])
        while behind:
            if are_large:
                found = await large_records(
                    consumer, *behind, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS, max_bytes=_POLL_BYTES
                )
            else:
                found = await consumer.getmany(*behind, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            for tp, records in found.items():
                end = ranges[tp][1]
                for record in records:
                    if record.offset < end:
                        on_record(record)
            done = {tp for tp in behind if await consumer.position(tp) >= ranges[tp][1]}
            behind -= done
            consumer.pause(*done)

    @staticmethod
    def _check_backlog(who: str, records: int) -> None:
        if records > BEHIND_MAX:
            raise RefusedError(
                503,
                "too_far_behind",
                f"{who} is {records:,} records behind; the ledger can tell what is in flight up to {BEHIND_MAX:,}.",
                "Ask again when it has caught up, or for a shorter window.",
            )
