"""Starting, asking, killing a lander; and writing what it is to land."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from support import lander_child
from support.landing import custom_event_at, exposure_at

from processors.landing.tables import BY_TOPIC
from schemas.crash_points import VARIABLE
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.origin import HEADER, Origin

PARTITIONS = 4
FAILED = 3
ALL = [TopicPartition(topic, partition) for topic in BY_TOPIC for partition in range(PARTITIONS)]


class LanderProcess:
    """One store folder and one consumer group, and the lander that is or is not running on them."""

    def __init__(
        self, connection: KafkaConnection, folder: Path, group: str, batch_rows: int = 500, migrates: bool = True
    ) -> None:
        self.connection = connection
        self.store = folder / "store"
        self.group = group
        self.log = folder / "lander.log"
        self._arguments = [
            connection.bootstrap,
            str(self.store),
            group,
            str(batch_rows),
            "6000",
            "90",
            "yes" if migrates else "",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, crash_at: str = "", stall_s: float = 90) -> None:
        """Start the lander; `crash_at` names the point at which it kills itself, `stall_s` its patience."""
        self._arguments[-2] = str(stall_s)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, lander_child.__file__, *self._arguments],
                env=os.environ | ({VARIABLE: crash_at} if crash_at else {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ask(self, question: str) -> Any:
        """Return the answer to `readiness`, `metrics` or a SELECT; None when it died instead."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(question.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    async def asked(self, question: str) -> Any:
        """Ask without holding up the test's own event loop."""
        return await asyncio.to_thread(self.ask, question)

    def signal(self, number: int) -> None:
        """Send a signal to the lander alone."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self) -> int:
        """Wait for it to end by itself; return its exit code, negative for a signal."""
        assert self._process is not None
        code = await asyncio.to_thread(self._process.wait, 60)
        self._close_pipes()
        return code

    async def failure(self) -> dict[str, str]:
        """Wait for it to give up; return what it said."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert await self.end() == FAILED
        answer: dict[str, str] = json.loads(line)
        return answer

    def _close_pipes(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        await self.end()

    async def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.signal(signal.SIGTERM)
        return await self.end()

    def clean_up(self) -> None:
        """Leave nothing running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close_pipes()


async def join_at_end(connection: KafkaConnection, group: str) -> None:
    """Let a group begin behind what other tests have written."""
    consumer = AIOKafkaConsumer(**connection.client_settings(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(ALL)
    await consumer.commit(await consumer.end_offsets(ALL))
    await consumer.stop()


async def committed(connection: KafkaConnection, group: str) -> dict[TopicPartition, int | None]:
    """Return what a group has committed."""
    consumer = AIOKafkaConsumer(**connection.client_settings(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(ALL)
    found = {partition: await consumer.committed(partition) for partition in ALL}
    await consumer.stop()
    return found


async def nobody_is_in(connection: KafkaConnection, group: str) -> bool:
    """Whether a group has no member any more."""
    admin = AIOKafkaAdminClient(**connection.client_settings())
    try:
        await admin.start()
        [answer] = await admin.describe_consumer_groups([group])
        [described] = answer.to_object()["groups"]
        return described["members"] == []
    finally:
        await admin.close()


async def write(connection: KafkaConnection, records: Iterable[tuple[str, Origin, bytes]], **headers: bytes) -> None:
    """Write (topic, origin, value) as the worker does: same partition, header `origin`."""
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    await producer.start()
    for topic, origin, value in records:
        own = [(HEADER, origin.pack()), *headers.items()]
        await producer.send(topic, value, key=b"u1", partition=origin.partition, headers=own)
    await producer.flush()
    await producer.stop()


def events(offsets: Iterable[int], size: int = 5, log: int = 1) -> list[tuple[str, Origin, bytes]]:
    """Return chunks of `size` events: exposures, and of each chunk the last as a custom event."""
    found = []
    for offset in offsets:
        for index in range(size):
            origin = Origin(log, offset % PARTITIONS, offset, index)
            is_exposure = index < size - 1
            value = exposure_at(origin) if is_exposure else custom_event_at(origin)
            found.append(("exposures" if is_exposure else "custom_events", origin, value))
    return found


async def dead_letters_since(connection: KafkaConnection, positions: dict[TopicPartition, int]) -> list[Any]:
    """Return the records of `dlq.lander` behind `positions`."""
    consumer = AIOKafkaConsumer(**connection.client_settings(), enable_auto_commit=False)
    await consumer.start()
    consumer.assign(list(positions))
    ends = await consumer.end_offsets(list(positions))
    found: list[Any] = []
    for partition, position in positions.items():
        consumer.seek(partition, position)
    while any([await consumer.position(partition) < ends[partition] for partition in positions]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += records
    await consumer.stop()
    return found


async def ends_of(connection: KafkaConnection, topic: str, partitions: int = PARTITIONS) -> dict[TopicPartition, int]:
    """Return the present end of each partition of a topic."""
    consumer = AIOKafkaConsumer(**connection.client_settings(), enable_auto_commit=False)
    await consumer.start()
    ends: dict[TopicPartition, int] = await consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
    await consumer.stop()
    return ends
