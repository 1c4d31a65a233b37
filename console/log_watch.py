"""How far each stage has read the log: ends of the topics, and what the groups have committed."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.topics import (
    CUSTOM_EVENTS,
    DLQ_INGEST,
    DLQ_LANDER,
    DLQ_WORKER,
    EVENTS_RAW,
    EXPOSURES,
    LANDER_GROUP,
    LOGS,
    worker_group,
)
from schemas.topics import WORKER_APP_ID as WORKER_GROUP

log = structlog.get_logger()

_TOPICS: Final = (EXPOSURES, CUSTOM_EVENTS, DLQ_INGEST, DLQ_WORKER, DLQ_LANDER)

NOT_ASKED: Final = "the log has not answered yet"
EVERY_S: Final = 2.0
KEPT_S: Final = 60.0
_ANSWER_S: Final = 5.0
_METADATA_S: Final = 20.0

Offsets = dict[TopicPartition, int]


@dataclass(frozen=True)
class Sample:
    """Where everything stood at one moment (monotonic seconds)."""

    at_s: float
    ends: Offsets
    begins: Offsets
    committed: dict[str, Offsets]
    raw: tuple[str, ...] = (EVENTS_RAW,)
    """The topics of raw events that are not drained."""

    def records(self, *topics: str) -> int:
        """Return how many records these topics have been given."""
        return sum(end for partition, end in self.ends.items() if partition.topic in topics)

    def kept(self, *topics: str) -> int:
        """Return how many records these topics hold now."""
        return self.records(*topics) - sum(at for partition, at in self.begins.items() if partition.topic in topics)

    def lag(self, group: str) -> int | None:
        """Return how many records a group has still to read; None before it has committed anything."""
        committed = self.committed.get(group)
        if not committed:
            return None
        lag = 0
        read = self.raw if group == WORKER_GROUP else (EXPOSURES, CUSTOM_EVENTS)
        for partition, end in self.ends.items():
            if partition.topic in read:
                lag += max(0, end - committed.get(partition, self.begins.get(partition, 0)))
        return lag


def rate(samples: "deque[Sample]", *topics: str) -> float | None:
    """Return records a second over the samples; None while there is only one."""
    if len(samples) < 2:
        return None
    first, last = samples[0], samples[-1]
    return max(0.0, (last.records(*topics) - first.records(*topics)) / (last.at_s - first.at_s))


class LogWatch:
    """Takes a sample every two seconds and keeps those of the last minute."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._task: asyncio.Task[None] | None = None
        self.samples: deque[Sample] = deque()
        self.trouble = NOT_ASKED
        """Why there is no current sample; empty when there is."""

    def start(self) -> None:
        """Begin to sample."""
        self._task = asyncio.create_task(self._run(), name="log-watch")

    async def stop(self) -> None:
        """Stop sampling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._watch()
            except (KafkaError, OSError, TimeoutError) as error:
                trouble = str(error) or f"no answer within {_ANSWER_S:g} s"
                if trouble != self.trouble:
                    log.warning("log_unreachable", error=trouble)
                self.trouble = trouble
            except Exception:
                log.exception("log_watch_failed")
                self.trouble = "the console failed; its log says why"
            await asyncio.sleep(EVERY_S)

    async def _watch(self) -> None:
        settings = self._kafka.client_settings()
        admin: Any = AIOKafkaAdminClient(request_timeout_ms=int(_ANSWER_S * 1000), **settings)
        consumer: Any = AIOKafkaConsumer(group_id=None, request_timeout_ms=int(_ANSWER_S * 1000), **settings)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await admin.start()
                await consumer.start()
            while True:
                async with asyncio.timeout(_ANSWER_S):
                    raw = await self._raw(admin)
                    partitions = await _partitions(admin, raw)
                known_at = time.monotonic()
                while time.monotonic() - known_at < _METADATA_S and partitions:
                    async with asyncio.timeout(_ANSWER_S):
                        self._keep(await _sample(admin, consumer, partitions, raw))
                    await asyncio.sleep(EVERY_S)
                if not partitions:
                    self.trouble = "the topics do not exist yet; `headrace init` makes them"
                    await asyncio.sleep(EVERY_S)
        finally:
            await consumer.stop()
            await admin.close()

    async def _raw(self, admin: Any) -> tuple[str, ...]:
        """Return the topics of raw events that are not drained."""
        [logs] = await admin.describe_topics([LOGS])
        if logs["error_code"]:
            return (EVENTS_RAW,)
        return tuple(record.topic for record in (await read_logs(self._kafka)).to_process)

    def _keep(self, sample: Sample) -> None:
        if self.trouble and self.samples:
            log.info("log_reachable")
        if self.samples and sample.records(*_TOPICS) < self.samples[-1].records(*_TOPICS):
            self.samples.clear()  # another log than before
        self.trouble = ""
        self.samples.append(sample)
        while self.samples[-1].at_s - self.samples[0].at_s > KEPT_S:
            self.samples.popleft()


async def _partitions(admin: Any, raw: tuple[str, ...]) -> list[TopicPartition]:
    found = await admin.describe_topics([*raw, *_TOPICS])
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in found
        if not topic["error_code"]
        for partition in topic["partitions"]
    ]


async def _sample(admin: Any, consumer: Any, partitions: list[TopicPartition], raw: tuple[str, ...]) -> Sample:
    ends = await consumer.end_offsets(partitions)
    begins = await consumer.beginning_offsets(partitions)
    worked = [await _committed(admin, worker_group(topic)) for topic in raw]
    committed = {
        WORKER_GROUP: {tp: at for offsets in worked for tp, at in offsets.items()},
        LANDER_GROUP: await _committed(admin, LANDER_GROUP),
    }
    return Sample(time.monotonic(), ends, begins, committed, raw)


async def _committed(admin: Any, group: str) -> Offsets:
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:
        offsets = {}  # a new cluster: it makes the topic of the offsets when it is first asked for one
    return {partition: meta.offset for partition, meta in offsets.items() if meta.offset >= 0}
