"""Taking events while Kafka is away: what it does not acknowledge in time goes to the outbox.

Order within a partition: while anything of it waits in the outbox, what is new goes behind it; when
the last batch is on its way to Kafka, what is new waits for that batch, as it waits for any batch
before it, and then goes straight to Kafka again. Only where the disk of the outbox fails is Kafka
written to at once, past what waits: to take events matters more than their order.

A batch that Kafka did not acknowledge in time stays with the producer, and may be acknowledged late:
then it is deleted from the outbox. If that answer never comes (the gateway ends, the producer is
replaced) it is appended once more, and the worker's claims drop the copy.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import structlog

from ingest.durability import Durability, DurableLog, Lane, LogUnavailableError, Record
from ingest.group_commit import GroupCommit, OutboxRefusedError
from ingest.outbox import LaneContents, Outbox, Row
from ingest.repartition import repartitioned
from schemas.crash_points import CrashPoint, reach
from schemas.limits import ANSWER_DEADLINE_S
from schemas.metrics import GatewayMetrics
from schemas.topics import DLQ_INGEST

log = structlog.get_logger()

PATIENCE: Final = 0.4
"""Share of the answer's deadline after which Kafka counts as away.

Less than half: an event may wait for the batch before it that long, and then as long for its own."""

_BATCH_BYTES: Final = 512 * 1024
_RETRY_S: Final = 0.2

Sending = asyncio.Task[Durability]


class _Backlog:
    """What of one lane waits in the outbox, and what drains it."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.rows = 0
        self.last_id = 0
        self.sent_to = 0  # id of the last row of the batch that is on its way to Kafka
        self.late: dict[Sending, list[Row]] = {}  # what the producer may still acknowledge by itself
        self.over = asyncio.Event()
        self.draining: asyncio.Task[None] | None = None

    @property
    def is_last_batch_sent(self) -> bool:
        return self.sent_to == self.last_id


class SpillingLog:
    """A log that takes events without Kafka, as long as its outbox has room."""

    def __init__(
        self,
        kafka: DurableLog,
        outbox: Outbox,
        max_bytes: int,
        metrics: GatewayMetrics,
        answer_deadline_s: float = ANSWER_DEADLINE_S,
    ) -> None:
        self._kafka = kafka
        self._commits = GroupCommit(outbox, max_bytes, metrics)
        self._metrics = metrics
        self._patience_s = answer_deadline_s * PATIENCE
        self._backlogs: dict[Lane, _Backlog] = {}
        self._ids = itertools.count(1)

    @property
    def problem(self) -> str:
        """Why nothing can be taken, "" when it can."""
        if self._backlogs and self._commits.is_full:
            return self._commits.problem
        why = self._kafka.problem
        if not why or not self._kafka.partitions:
            return why
        return f"{why}; {self._commits.problem}" if self._commits.problem else ""

    @property
    def spill_problem(self) -> str:
        """Why nothing can be spilled, "" when it can."""
        return self._commits.problem

    @property
    def holds_any(self) -> bool:
        """Whether anything waits for Kafka."""
        return bool(self._backlogs)

    @property
    def topic(self) -> str:
        """The topic that events are appended to now."""
        return self._kafka.topic

    @property
    def partitions(self) -> int:
        """How many partitions it has, as far as it was ever known."""
        return self._kafka.partitions

    async def start(self) -> None:
        """Begin to drain what waits from an earlier life. Raises sqlite3.Error."""
        found = await self._commits.start()
        self._ids = itertools.count(1 + max((contents.last_id for contents in found), default=0))
        for contents in found:
            self._take_over(contents)

    async def stop(self) -> None:
        """Stop draining, and let the folder go. What waits stays in it, for the next start."""
        tasks: list[asyncio.Task[Any]] = []
        for backlog in self._backlogs.values():
            tasks += backlog.late
            if backlog.draining is not None:
                tasks.append(backlog.draining)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._backlogs:
            log.warning("spill_not_drained", chunks=sum(backlog.rows for backlog in self._backlogs.values()))
        await self._commits.stop()

    async def append(self, lane: Lane, records: Sequence[Record]) -> Durability:
        """Append chunks to a partition of the log, else of the outbox. Raises LogUnavailableError."""
        due_s = self._due_s()
        backlog = self._backlogs.get(lane)
        is_behind = self._earlier_backlog() is not None
        if backlog is not None and not is_behind and not self._commits.disk_error:
            is_behind = not await _is_drained_by(due_s, backlog)
        if is_behind and not self._commits.disk_error:
            return await self._spill(self._rows(lane, records), LogUnavailableError("earlier chunks wait"))
        if problem := self._kafka.problem:
            return await self._spill(self._rows(lane, records), LogUnavailableError(problem))
        return await self._send(self._kafka.append(lane, records), due_s, lane, records)

    async def append_dead_letter(self, partition: int, value: bytes) -> Durability:
        """Append to `dlq.ingest`, else to the outbox. Raises LogUnavailableError."""
        lane, records = Lane(DLQ_INGEST, partition), [Record(value, 1)]
        if problem := self._kafka.problem:
            return await self._spill(self._rows(lane, records), LogUnavailableError(problem))
        return await self._send(self._kafka.append_dead_letter(partition, value), self._due_s(), lane, records)

    def _due_s(self) -> float:
        return asyncio.get_running_loop().time() + self._patience_s

    async def _send(
        self, work: Coroutine[Any, Any, Durability], due_s: float, lane: Lane, records: Sequence[Record]
    ) -> Durability:
        sending: Sending = asyncio.create_task(work, name="spill:send")
        try:
            await asyncio.wait((sending,), timeout=max(0.0, due_s - asyncio.get_running_loop().time()))
        except asyncio.CancelledError:
            sending.cancel()
            raise
        if sending.done():
            failure = sending.exception()
            if failure is None:
                return Durability.KAFKA
            return await self._spill(self._rows(lane, records), failure)
        rows = self._rows(lane, records)
        try:
            await self._put(rows)
        except OutboxRefusedError:
            return await sending  # as without an outbox: its requests are answered when they are due
        self._backlog_of(lane).late[sending] = rows
        return Durability.SPILL

    async def _spill(self, rows: list[Row], why: BaseException) -> Durability:
        try:
            await self._put(rows)
        except OutboxRefusedError as refused:
            raise LogUnavailableError(f"{why}; {refused}") from why
        return Durability.SPILL

    def _earlier_backlog(self) -> _Backlog | None:
        """Return what waits of a log before the present one: any of it may go to any partition of this."""
        current = (self._kafka.topic, DLQ_INGEST)
        return next((backlog for lane, backlog in self._backlogs.items() if lane.topic not in current), None)

    async def _put(self, rows: list[Row]) -> None:
        await self._commits.put(rows)
        reach(CrashPoint.SPILL_AFTER_COMMIT)
        backlog = self._backlog_of(rows[0].lane)
        backlog.rows += len(rows)
        backlog.last_id = max(backlog.last_id, rows[-1].id)

    def _rows(self, lane: Lane, records: Sequence[Record]) -> list[Row]:
        now_ms = time.time_ns() // 1_000_000
        return [Row(next(self._ids), lane, record.events, now_ms, record.value) for record in records]

    def _backlog_of(self, lane: Lane) -> _Backlog:
        backlog = self._backlogs.get(lane)
        if backlog is None:
            backlog = self._backlogs[lane] = _Backlog(lane)
            backlog.draining = asyncio.create_task(self._drain(backlog), name=f"spill:drain:{lane}")
        return backlog

    def _take_over(self, contents: LaneContents) -> None:
        log.info("spill_found", topic=contents.lane.topic, partition=contents.lane.partition, chunks=contents.rows)
        backlog = self._backlog_of(contents.lane)
        backlog.rows, backlog.last_id = contents.rows, contents.last_id

    async def _drain(self, backlog: _Backlog) -> None:
        """Append what waits, in order, until nothing does."""
        # Its maker tells how much waits before anything is drained.
        await asyncio.sleep(0)
        drained = 0
        while backlog.rows:
            if backlog.lane.topic == self._kafka.topic and self._earlier_backlog() is not None:
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                rows = await self._acknowledged_late(backlog) or await self._append_batch(backlog)
            except (LogUnavailableError, OutboxRefusedError):
                rows = []
            except Exception:
                log.exception("spill_drain_failed", topic=backlog.lane.topic, partition=backlog.lane.partition)
                rows = []
            if not rows:
                backlog.sent_to = 0
                await asyncio.sleep(_RETRY_S)
                continue
            reach(CrashPoint.SPILL_AFTER_APPEND)
            self._metrics.drained_chunks.inc(len(rows))
            await self._delete(rows)
            backlog.rows -= len(rows)
            drained += len(rows)
        del self._backlogs[backlog.lane]
        backlog.over.set()
        topic, partition = backlog.lane
        log.info("spill_drained", topic=topic, partition=partition, chunks=drained)

    async def _acknowledged_late(self, backlog: _Backlog) -> list[Row]:
        """Wait for what the producer still has in hand; return what of it Kafka acknowledged."""
        found: list[Row] = []
        while backlog.late:
            done, _ = await asyncio.wait(backlog.late, return_when=asyncio.FIRST_COMPLETED)
            for sending in done:
                rows = backlog.late.pop(sending)
                if sending.exception() is None:
                    found += rows
        return found

    async def _append_batch(self, backlog: _Backlog) -> list[Row]:
        topic, partition = backlog.lane
        # Beyond `last_id` stands what is committed and not counted yet.
        rows = await self._commits.read(backlog.lane, backlog.last_id, _BATCH_BYTES)
        assert rows, f"{backlog.rows} records of {backlog.lane} are not in the outbox"
        late = {row.id for sent in backlog.late.values() for row in sent}
        rows = list(itertools.takewhile(lambda row: row.id not in late, rows))
        if not rows:
            return []
        backlog.sent_to = rows[-1].id
        reach(CrashPoint.SPILL_BEFORE_APPEND)
        if topic == DLQ_INGEST:
            for row in rows:
                await self._kafka.append_dead_letter(partition, row.value)
            return rows
        records = [Record(row.value, row.events, row.spilled_ms) for row in rows]
        if not self._kafka.partitions:
            raise LogUnavailableError("it is not known where events are appended")
        if topic == self._kafka.topic:
            await self._kafka.append(backlog.lane, records)
            return rows
        for number, of_partition in repartitioned(records, self._kafka.partitions).items():
            await self._kafka.append(Lane(self._kafka.topic, number), of_partition)
        return rows

    async def _delete(self, rows: Sequence[Row]) -> None:
        """Delete what Kafka has, however long the disk fails: appended again it would be a copy."""
        while True:
            with contextlib.suppress(OutboxRefusedError):
                return await self._commits.delete(rows)
            await asyncio.sleep(_RETRY_S)


async def _is_drained_by(due_s: float, backlog: _Backlog) -> bool:
    """Wait for the last batch of a backlog, if it is on its way."""
    if not backlog.is_last_batch_sent:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(due_s):
            await backlog.over.wait()
    return backlog.over.is_set()
