"""Logs: the numbered topics of raw events, told by the topic `logs`.

A log begins where `events.raw` was created, or where it was given more partitions: then it follows the
log before it, which is sealed (nothing can be appended any more), and drained (all of it is processed).
Three kinds of records tell this, each under a key of its own, so that no writer can undo another's.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import structlog

from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader
from schemas.topics import EVENTS_RAW, LOGS

log = structlog.get_logger()

_SEALED: Final = "sealed"
_DRAINED: Final = "drained"


class LogRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One log. `topic_id` is the broker's own id of the topic; `created_at` is ms since the epoch.

    `after` is the log that has to be drained before this one is read; 0 where there is none.
    """

    log: int
    topic: str
    topic_id: str
    partitions: int
    created_at: int
    after: int = 0


class SealedRecord(msgspec.Struct, frozen=True):
    """Nothing is appended to a log any more; `ends` are where its partitions end."""

    ends: list[int]


_encoder: Final = msgspec.json.Encoder()
_decode_log: Final = msgspec.json.Decoder(LogRecord).decode
_decode_sealed: Final = msgspec.json.Decoder(SealedRecord).decode

KeyValue = tuple[bytes, bytes]


def created(record: LogRecord) -> KeyValue:
    """Return the record (key, value) that makes a log known."""
    return b"%d" % record.log, _encoder.encode(record)


def sealed(number: int, ends: list[int]) -> KeyValue:
    """Return the record that says where a log ends for ever."""
    return f"{number}/{_SEALED}".encode(), _encoder.encode(SealedRecord(ends))


def drained(number: int) -> KeyValue:
    """Return the record that says that all of a log is processed."""
    return f"{number}/{_DRAINED}".encode(), b"{}"


class Logs:
    """What the topic tells: every log, where the sealed ones end, and which are drained."""

    def __init__(self) -> None:
        self.known: dict[int, LogRecord] = {}
        self.ends: dict[int, list[int]] = {}
        self.drained: set[int] = set()

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the topic. Raises msgspec.MsgspecError or ValueError for what is none."""
        if value is None:
            return
        number, _, kind = key.decode().partition("/")
        if kind == _SEALED:
            self.ends[int(number)] = _decode_sealed(value).ends
        elif kind == _DRAINED:
            self.drained.add(int(number))
        elif not kind:
            record = _decode_log(value)
            self.known[record.log] = record

    @property
    def newest(self) -> LogRecord | None:
        """The log that events are appended to, None while there is none."""
        return self.known[max(self.known)] if self.known else None

    @property
    def topic(self) -> str:
        """The topic that events are appended to."""
        return self.newest.topic if self.newest else EVENTS_RAW

    @property
    def incarnation(self) -> int:
        """The number of the log that began anew last: topics that grow live on under it. 0 while there is none."""
        return self.line[0].log if self.known else 0

    @property
    def line(self) -> list[LogRecord]:
        """The newest log and those before it, back to the one that followed none; the oldest first."""
        return list(self._back())[::-1]

    @property
    def to_process(self) -> list[LogRecord]:
        """The logs that are not drained, in the order in which they are."""
        line = self.line
        begin = max((place + 1 for place, record in enumerate(line) if record.log in self.drained), default=0)
        return line[begin:]

    def _back(self) -> Iterator[LogRecord]:
        record = self.newest
        while record is not None:
            yield record
            before = record.after
            record = self.known.get(before) if 0 < before < record.log else None


class LogReader:
    """Follows the topic `logs`; `on_change` is called when it has told something new."""

    def __init__(self, connection: KafkaConnection, on_change: Callable[[Logs], None] | None = None) -> None:
        self.logs = Logs()
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._reader = ReferenceReader(connection, LOGS, self._on_record)

    async def start(self) -> None:
        """Begin to read in the background."""
        await self._reader.start()

    async def stop(self) -> None:
        """Stop reading."""
        await self._reader.stop()

    async def wait(self) -> Logs:
        """Return what the topic tells, waiting until that is at least one log."""
        await self._reader.wait_caught_up()
        while not self.logs.known:
            self._changed.clear()
            await self._changed.wait()
        return self.logs

    def _on_record(self, key: bytes, value: bytes | None) -> None:
        try:
            self.logs.take(key, value)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("log_record_unreadable", error=str(error))
            return
        self._changed.set()
        if self._on_change is not None and self._reader.caught_up:
            self._on_change(self.logs)


async def read_logs(connection: KafkaConnection) -> Logs:
    """Return what the topic tells now, waiting until that is at least one log."""
    reader = LogReader(connection)
    await reader.start()
    try:
        return await reader.wait()
    finally:
        await reader.stop()
