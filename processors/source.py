"""Which log a worker processes: the first that is not drained.

A log that follows another is left alone until that one is sealed and all of it is committed, by whichever
workers: only then is it known that no event of a unit comes behind its later ones.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from processors.log_bounds import LogBounds
from schemas import logs
from schemas.kafka import KafkaConnection
from schemas.logs import LogReader, LogRecord
from schemas.topics import worker_group

log = structlog.get_logger()

_LOOK_S: Final = 1.0

Publish = Callable[[bytes, bytes], Awaitable[None]]


class LogDrainedError(Exception):
    """The log that this worker processed has come to its end, and another follows: a new start goes on there."""


class Source:
    """Follows the topic `logs`, and tells which of them is to be processed."""

    def __init__(self, connection: KafkaConnection, bounds: LogBounds, publish: Publish) -> None:
        """`publish` appends a record (key, value) to the topic `logs`."""
        self._connection = connection
        self._bounds = bounds
        self._publish = publish
        self._reader = LogReader(connection)

    async def start(self) -> None:
        """Begin to read the topic."""
        await self._reader.start()

    async def stop(self) -> None:
        """Stop reading it."""
        await self._reader.stop()

    async def choose(self) -> LogRecord:
        """Return the log that is to be processed, waiting until there is one. Raises KafkaError."""
        known = await self._reader.wait()
        for record in known.to_process[:-1]:
            if not await self._is_drained(record):
                return record
        return known.line[-1]

    def earlier(self, source: LogRecord) -> list[LogRecord]:
        """Return every log before this one."""
        return [record for number, record in self._reader.logs.known.items() if number < source.log]

    @property
    def first_log(self) -> int:
        """The number of the log before which there was none, of those that followed each other."""
        return self._reader.logs.incarnation

    async def wait_drained(self, source: LogRecord) -> LogRecord:
        """Wait until another log follows and all of `source` is processed; return the one that follows."""
        while True:
            await asyncio.sleep(_LOOK_S)
            # Who was frozen may find that the one that follows is drained as well.
            followers = [record for record in self._reader.logs.line if record.after == source.log]
            try:
                if followers and await self._is_drained(source):
                    return followers[0]
            except (KafkaError, OSError) as error:
                log.warning("drain_unknown", log=source.log, error=repr(error))

    async def _is_drained(self, record: LogRecord) -> bool:
        """Tell whether all of a log is processed, and write it down: offsets of a group are not kept for ever."""
        known = self._reader.logs
        if record.log in known.drained:
            return True
        ends = known.ends.get(record.log)
        if ends is None:
            return False
        bounds = await self._bounds.of(record.topic, range(record.partitions))
        # As the workers do: where nothing is committed they begin with what there is, and that may be nothing.
        done = {number: bounds[number].begin for number in bounds} | await self._committed(record)
        if any(done[number] < max(end, bounds[number].end) for number, end in enumerate(ends)):
            return False
        await self._publish(*logs.drained(record.log))
        known.drained.add(record.log)
        log.info("log_drained", log=record.log, topic=record.topic, ends=ends)
        return True

    async def _committed(self, record: LogRecord) -> dict[int, int]:
        admin: Any = AIOKafkaAdminClient(**self._connection.client_settings())
        try:
            await admin.start()
            partitions = [TopicPartition(record.topic, number) for number in range(record.partitions)]
            found = await admin.list_consumer_group_offsets(worker_group(record.topic), partitions=partitions)
        finally:
            await admin.close()
        return {tp.partition: meta.offset for tp, meta in found.items() if meta.offset >= 0}
