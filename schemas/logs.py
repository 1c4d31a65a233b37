"""Logs: the numbered creations of `events.raw`, told by the topic `logs`."""

import asyncio
from typing import Final

import msgspec
import structlog

from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader
from schemas.topics import LOGS

log = structlog.get_logger()


class LogRecord(msgspec.Struct, frozen=True):
    """One log. `topic_id` is the broker's own id of the topic; `created_at` is ms since the epoch."""

    log: int
    topic: str
    topic_id: str
    partitions: int
    created_at: int


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(LogRecord)


def encode(record: LogRecord) -> bytes:
    """Return the record's value; its key is the number as text."""
    return _encoder.encode(record)


def decode(value: bytes) -> LogRecord:
    """Read a record's value. Raises msgspec.MsgspecError."""
    return _decoder.decode(value)


class LogReader:
    """Finds out which log is the current one."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._known: dict[int, LogRecord] = {}
        self._changed = asyncio.Event()
        self._reader = ReferenceReader(connection, LOGS, self._on_record)

    async def wait_current(self) -> int:
        """Return the number of the newest log, waiting until there is one."""
        await self._reader.start()
        try:
            await self._reader.wait_caught_up()
            await self._changed.wait()
            return max(self._known)
        finally:
            await self._reader.stop()

    def _on_record(self, _key: bytes, value: bytes | None) -> None:
        if value is None:
            return
        try:
            record = decode(value)
        except msgspec.MsgspecError as error:
            log.warning("log_record_unreadable", error=str(error))
            return
        self._known[record.log] = record
        self._changed.set()
