"""From records of all topics of the stream to what viewers are offered, by outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from console.live.as_sent import Names
from console.live.copies import Chunks, Copied, copied, exposures_of
from console.live.decode import Exposure, Outcome, UnreadableRecordError, decode
from console.live.rejects import rejected
from schemas.kafka import KafkaConnection
from schemas.ledger import LedgerError
from schemas.topics import DEAD_LETTERS, EXPOSURES, LEDGER

log = structlog.get_logger()

DECODED_MAX: Final = 250
"""Of one gathering, this many exposures are decoded at the most: 6,000 a second, at 45 µs each."""

_REJECTS_MAX: Final = 50
_CHUNKS_MAX: Final = 6
"""Chunks that are fetched for one gathering: some 4 ms each."""

_FETCH_S: Final = 0.5


@dataclass(slots=True)
class Seen:
    """Exposures of one outcome. `read` counts events, of which `looked_at` were decoded; some are no exposures."""

    outcome: Outcome
    exposures: list[Exposure] = field(default_factory=list)
    read: int = 0
    looked_at: int = 0
    unreadable: int = 0


class Look:
    """Makes records readable; remembers of accepted exposures what those of others do not say."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._chunks = Chunks(kafka)
        self._names = Names()

    async def stop(self) -> None:
        """Let go of the log."""
        await self._chunks.stop()

    def accepted(self, records: Sequence[Any]) -> Seen:
        """Decode the records of `exposures`, a fair sample when there are too many."""
        seen = decode_all(_of(records, EXPOSURES), DECODED_MAX)
        for exposure in seen.exposures:
            self._names.learn(exposure.fields)
        return seen

    def rejected(self, records: Sequence[Any]) -> Seen:
        """Decode the records of the dead-letter topics."""
        letters = [record for record in records if record.topic in DEAD_LETTERS]
        seen = Seen(Outcome.REJECTED, read=len(letters))
        for record in evenly(letters, _REJECTS_MAX):
            seen.looked_at += 1
            try:
                exposure = rejected(record, self._names)
            except UnreadableRecordError as error:
                _complain(record, error)
                seen.unreadable += 1
                continue
            if exposure is not None:
                seen.exposures.append(exposure)
        return seen

    async def duplicates(self, records: Sequence[Any]) -> Seen:
        """Fetch what the records of the ledger name as duplicates."""
        chunks: list[Copied] = []
        seen = Seen(Outcome.DUPLICATE)
        for record in _of(records, LEDGER):
            try:
                one = copied(record)
            except LedgerError as error:
                _complain(record, error)
                seen.unreadable += 1
                continue
            if one is not None:
                chunks.append(one)
                seen.read += one.count
        if chunks:
            for one, record in await self._chunks.fetch(evenly(chunks, _CHUNKS_MAX), _FETCH_S):
                seen.exposures += exposures_of(one, record, self._names)
                seen.looked_at += len(one.indexes)
        return seen


def decode_all(records: Sequence[Any], count_max: int) -> Seen:
    """Decode records of `exposures` in the order of their time, at most `count_max`, evenly chosen."""
    seen = Seen(Outcome.ACCEPTED, read=len(records))
    for record in sorted(evenly(records, count_max), key=lambda record: record.timestamp):
        seen.looked_at += 1
        try:
            seen.exposures.append(decode(record.value, record.partition, record.offset, record.timestamp))
        except UnreadableRecordError as error:
            _complain(record, error)
            seen.unreadable += 1
    return seen


def evenly(records: Sequence[Any], count_max: int) -> Sequence[Any]:
    """Return at most `count_max` of the records, evenly spread."""
    if len(records) <= count_max:
        return records
    return [records[index * len(records) // count_max] for index in range(count_max)]


def _of(records: Sequence[Any], topic: str) -> list[Any]:
    return [record for record in records if record.topic == topic]


def _complain(record: Any, error: Exception) -> None:
    where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    log.warning("stream_record_unreadable", **where, error=str(error))
