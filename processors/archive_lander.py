"""Chunks from `events.raw` into the archive, before Kafka's retention takes them.

The order of things: gather the records of a partition; make one file of them and wait until it is durable;
only then commit. The archive itself says how far it is, so a file that was finished and not committed is
not made again, and the committed offset only tells others how far this is.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from processors.erase import without_erased
from processors.log_bounds import Bounds, RecordsLostError
from schemas.archive import ARCHIVE_ERRORS, Archive, ArchivedRecord, ArchiveFile, Place
from schemas.crash_points import CrashPoint, reach
from schemas.erasures import ErasureList
from schemas.kafka import KafkaConnection
from schemas.large_records import large_records
from schemas.limits import MIB
from schemas.logs import LogReader
from schemas.metrics import ArchiveMetrics
from schemas.reference import ReferenceReader
from schemas.topics import ARCHIVE_GROUP, ERASURES, EVENTS_RAW

log = structlog.get_logger()

HELD_BYTES: Final = 64 * MIB
"""Values that wait for a file at the most, of all partitions; beyond, the largest partition's file is made."""

FILE_RECORDS: Final = 50_000
"""Records of a file at the most."""

_POLL_MS: Final = 250
_POLL_RECORDS: Final = 2_000
_POLL_BYTES: Final = 8 * MIB
_FETCH_BYTES: Final = 2 * MIB
_SESSION_MS: Final = 10_000
_REBALANCE_TIMEOUT_MS: Final = 90_000
"""How long the group waits for a file that is under way."""
_RETRY_S: Final = 1.0


@dataclass
class _Held:
    """Records of one partition that wait for their file."""

    next_offset: int
    records: list[ArchivedRecord] = field(default_factory=list)
    size_bytes: int = 0
    since_s: float = 0.0


class ArchiveLander(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Archives beside the lander. When the archive or Kafka is away it waits and says so."""

    def __init__(
        self,
        kafka: KafkaConnection,
        location: str,
        file_s: float,
        metrics: ArchiveMetrics,
        held_bytes: int = HELD_BYTES,
        group: str = ARCHIVE_GROUP,
        instance: str | None = None,
    ) -> None:
        """`file_s`: how long a record waits for its file at the most.

        `instance`: a fixed name gives a restarted writer its partitions back at once; no two may have the same.
        """
        self._kafka = kafka
        self._location = location
        self._file_s = file_s
        self._held_bytes = held_bytes
        self._group = group
        self._instance = instance
        self._metrics = metrics
        self.registry = metrics.registry
        self._waiting_for = {"archive": "it has not been started"}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._in_hand = asyncio.Lock()
        self._consumer: Any = None
        self._archive: Archive | None = None
        self._logs: dict[str, int] = {}
        """The topics that are archived, each with the number of its log."""
        self._grown = asyncio.Event()
        self._must_seek = True
        self._held: dict[TopicPartition, _Held] = {}
        self._erasures = ErasureList()
        self._erasures_reader = ReferenceReader(kafka, ERASURES, self._erasures.take)

    async def start(self) -> None:
        """Begin to archive in the background."""
        await self._erasures_reader.start()
        self._task = asyncio.create_task(self._run(), name="archive")

    async def stop(self) -> None:
        """Leave the group; what is in no file yet is read again after the next start."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._erasures_reader.stop()

    def readiness(self) -> dict[str, str]:
        """Return why nothing is archived, {} when it is."""
        return dict(self._waiting_for)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._archive_until_disturbed()
            except RecordsLostError as error:
                # Nothing that a new try would change, and events must land meanwhile.
                self._waiting_for = {"archive": str(error)}
                log.critical("archive_stopped", why=str(error))
                await self._stopping.wait()
            except (KafkaError, *ARCHIVE_ERRORS) as error:
                self._waiting_for = {"archive": f"chunks are not archived: {error}"}
                log.warning("archive_disturbed", error=repr(error))
            except Exception as error:
                self._waiting_for = {"archive": f"chunks are not archived: {error!r}"}
                log.exception("archive_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _RETRY_S)

    async def _archive_until_disturbed(self) -> None:
        logs = LogReader(self._kafka, lambda _: self._grown.set())
        try:
            await logs.start()
            known = await self._unless_stopped(logs.wait())
            await self._unless_stopped(self._erasures_reader.wait_caught_up())
            if known is not None:
                self._grown.clear()
                await self._archive_logs({record.topic: record.log for record in known.line})
        finally:
            await logs.stop()

    async def _archive_logs(self, logs: dict[str, int]) -> None:
        """Archive topics of raw events, each of its log, until another log begins."""
        self._archive = await asyncio.to_thread(Archive, self._location)
        self._must_seek = True
        self._consumer = AIOKafkaConsumer(
            **self._kafka.client_settings(),
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_SESSION_MS // 3,
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
        )
        try:
            await self._consumer.start()
            # One that is drained may be deleted, and asking for it would make it anew.
            there = await self._consumer._client.fetch_all_metadata()
            self._logs = {topic: number for topic, number in logs.items() if there.partitions_for_topic(topic)}
            self._consumer.subscribe(list(self._logs), listener=self)
            while not self._stopping.is_set() and not self._grown.is_set():
                await self._archive_some()
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await self._consumer.stop()

    async def _unless_stopped(self, work: Any) -> Any:
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return None

    async def _archive_some(self) -> None:
        async with self._in_hand:
            if self._must_seek:
                await self._seek()
        found = await large_records(
            self._consumer, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS, max_bytes=_POLL_BYTES
        )
        async with self._in_hand:
            if self._must_seek:
                return
            for tp, records in found.items():
                self._hold(tp, records)
            for tp in self._due():
                await self._finish(tp)
            self._measure()

    async def _seek(self) -> None:
        """Go on behind what the archive has. Raises RecordsLostError."""
        assert self._archive is not None
        assignment = self._consumer.assignment()
        files = list(await asyncio.to_thread(self._archive.files))
        begins = await self._consumer.beginning_offsets(list(assignment))
        log_ends = await self._consumer.end_offsets(list(assignment))
        self._held = {}
        for tp in assignment:
            number = self._logs[tp.topic]
            ends = archived_ends(files, number)
            await asyncio.to_thread(self._archive.tidy, Place(number, tp.partition))
            committed = await self._consumer.committed(tp)
            bounds = Bounds(begins[tp], log_ends[tp])
            first = first_to_archive(tp.partition, ends.get(tp.partition), committed, bounds)
            self._consumer.seek(tp, first)
            self._held[tp] = _Held(first)
        self._must_seek = False
        self._waiting_for = {}

    def _hold(self, tp: TopicPartition, records: list[Any]) -> None:
        held = self._held[tp]
        if records[0].offset != held.next_offset:
            raise RecordsLostError(_lost(tp.partition, held.next_offset, records[0].offset))
        if not held.records:
            held.since_s = time.monotonic()
        held.records += [
            ArchivedRecord(one.offset, one.timestamp, one.key, one.value, list(one.headers)) for one in records
        ]
        held.size_bytes += sum(len(one.value or b"") for one in records)
        held.next_offset = records[-1].offset + 1

    def _due(self) -> list[TopicPartition]:
        """Return the partitions whose files are to be made now."""
        now_s = time.monotonic()
        due = [
            tp
            for tp, held in self._held.items()
            if held.records and (now_s - held.since_s >= self._file_s or len(held.records) >= FILE_RECORDS)
        ]
        left = sum(held.size_bytes for tp, held in self._held.items() if tp not in due)
        for tp in sorted(self._held, key=lambda tp: -self._held[tp].size_bytes):
            if left < self._held_bytes:
                break
            if tp not in due:
                due.append(tp)
                left -= self._held[tp].size_bytes
        return due

    async def _finish(self, tp: TopicPartition) -> None:
        """Make the file of what is held of a partition, and commit it."""
        assert self._archive is not None
        held = self._held[tp]
        place = Place(self._logs[tp.topic], tp.partition)
        size_bytes = await asyncio.to_thread(self._write, place, held.records)
        self._metrics.files.inc()
        self._metrics.records.inc(len(held.records))
        self._metrics.written.inc(size_bytes)
        self._held[tp] = _Held(held.next_offset)
        # Of a partition that was taken away meanwhile the new owner sees the file.
        with contextlib.suppress(CommitFailedError, IllegalStateError):
            await self._consumer.commit({tp: held.next_offset})
        reach(CrashPoint.ARCHIVE_AFTER_COMMIT)

    def _write(self, place: Place, records: list[ArchivedRecord]) -> int:
        assert self._archive is not None
        if self._erasures:
            records = [without_erased(record, self._erasures) for record in records]
        return self._archive.write(place, records)

    def _measure(self) -> None:
        lag = 0
        for tp, held in self._held.items():
            in_files = held.next_offset - len(held.records)
            lag += max(0, (self._consumer.highwater(tp) or held.next_offset) - in_files)
        self._metrics.lag.set(lag)

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """Let go of what is held: the next owner reads it again. A file under way is finished first."""
        async with self._in_hand:
            self._must_seek = True

    async def on_partitions_assigned(self, _assigned: Iterable[TopicPartition]) -> None:
        """Read nothing before the archive was asked how far it is."""
        self._must_seek = True


def archived_ends(files: Iterable[ArchiveFile], log_number: int) -> dict[int, int]:
    """Return, of each partition of a log, the offset behind the last that has a file."""
    ends: dict[int, int] = {}
    for file in files:
        if file.place.log == log_number:
            number = file.place.partition
            ends[number] = max(ends.get(number, 0), file.last + 1)
    return ends


def first_to_archive(number: int, archived: int | None, committed: int | None, bounds: Bounds) -> int:
    """Return where the archive of a partition goes on: behind its last file, `archived`, else where it was committed.

    Raises RecordsLostError when the log does not have that any more, unless somebody has accepted the loss by
    setting the committed offset to what it still has.
    """
    wanted = archived if archived is not None else bounds.begin if committed is None else committed
    if wanted > bounds.end:
        raise RecordsLostError(
            f"{EVENTS_RAW}/{number} ends at {bounds.end} although {wanted} was archived: the broker has lost records, "
            "or this archive is of another. Restore the broker's disk, or make the topic anew and run `headrace init`"
        )
    if wanted >= bounds.begin:
        return wanted
    if committed is not None and bounds.begin <= committed <= bounds.end:
        return committed
    raise RecordsLostError(_lost(number, wanted, bounds.begin))


def _lost(number: int, wanted: int, begin: int) -> str:
    return (
        f"records {wanted} to {begin - 1} of {EVENTS_RAW}/{number} were deleted before they were archived: retention "
        f"overtook the archive. To accept the gap, set the offset of the group {ARCHIVE_GROUP} to {begin} with "
        "kafka-consumer-groups.sh and start it again"
    )


__all__ = ["ArchiveLander", "archived_ends", "first_to_archive"]
