"""Keeping what cannot land: each refused record goes to `dlq.lander` with its bytes."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaProducer

from processors.landing.batch import Record, Rejected
from schemas import topics
from schemas.avro import FRAME_BYTES
from schemas.chunk import ATTEMPT_HEADER
from schemas.dead_letter import DeadLetter
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import HEADER as ORIGIN_HEADER
from schemas.origin import PACKED_BYTES, Origin
from schemas.reasons import Reason, Stage

_ATTEMPT_DIGITS: Final = 9
"""The envelope has 32 bits for it."""


def dead_letter_of(rejected: Rejected, now_ms: int) -> DeadLetter:
    """Return the envelope of a record that cannot land; `original` is its value, frame included."""
    record: Record = rejected.record
    headers = {name: content or b"" for name, content in record.headers}
    value = record.value or b""
    packed = headers.get(ORIGIN_HEADER, b"")
    framed = rejected.reason is not Reason.UNDECODABLE_RECORD and len(value) >= FRAME_BYTES + EVENT_ID_BYTES
    return DeadLetter(
        stage=Stage.LANDER,
        reason=rejected.reason,
        message=rejected.message,
        original=value,
        failed_at=now_ms,
        origin=Origin.unpack(packed) if len(packed) == PACKED_BYTES else None,
        event_id=value[FRAME_BYTES : FRAME_BYTES + EVENT_ID_BYTES] if framed else None,
        chunk_headers={
            **headers,
            "source_topic": record.topic.encode(),
            "source_partition": b"%d" % record.partition,
            "source_offset": b"%d" % record.offset,
        },
        partition_key=record.key or b"",
        attempt=_attempt(headers.get(ATTEMPT_HEADER)),
        received_at=record.timestamp,
    )


def _attempt(header: bytes | None) -> int:
    return int(header) if header is not None and header.isdigit() and len(header) <= _ATTEMPT_DIGITS else 1


async def publish(producer: AIOKafkaProducer, rejected: Sequence[Rejected], now_ms: int) -> None:
    """Return when every dead letter is on the broker. Raises KafkaError."""
    acknowledged = []
    for one in rejected:
        letter = dead_letter_of(one, now_ms)
        acknowledged.append(
            await producer.send(
                topics.DLQ_LANDER,
                key=letter.origin.pack() if letter.origin else None,
                value=letter.encode(),
            )
        )
    await asyncio.gather(*acknowledged)
