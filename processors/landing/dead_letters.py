"""Keeping what cannot land: each refused record goes to `dlq.lander` with its bytes."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from processors.landing.batch import Record, Rejected
from processors.landing.tables import LANDINGS, SHADOWS
from schemas import topics
from schemas.avro import FRAME_BYTES
from schemas.chunk import ATTEMPT_HEADER, FAILED_HEADER, REPLAY_HEADER, attempt_of
from schemas.dead_letter import DeadLetter
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import HEADER as ORIGIN_HEADER
from schemas.origin import PACKED_BYTES, Origin
from schemas.reasons import Reason, Stage

_MS_DIGITS: Final = 15
_SCHEMAS: Final = {landing.topic: landing.schema for landing in (*LANDINGS, *SHADOWS)}


def dead_letter_of(rejected: Rejected, now_ms: int) -> DeadLetter:
    """Return the envelope of a record that cannot land; `original` is its value, frame included."""
    record: Record = rejected.record
    headers = {name: content or b"" for name, content in record.headers}
    value = record.value or b""
    packed = headers.get(ORIGIN_HEADER, b"")
    framed = rejected.reason is not Reason.UNDECODABLE_RECORD and len(value) >= FRAME_BYTES + EVENT_ID_BYTES
    said = _readable(record.topic, value) if framed else {}
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
        project=said.get("project", ""),
        environment=said.get("environment", ""),
        key_id=said.get("key_id", ""),
        request_id=said.get("request_id", ""),
        sdk_type=said.get("sdk_type", ""),
        sdk_version=said.get("sdk_version", ""),
        event_name=said.get("event_name", ""),
        experiment=said.get("name", ""),
        rule_id=said.get("rule_id", ""),
        unit_id=said.get("unit_id", ""),
        attempt=attempt_of(headers.get(ATTEMPT_HEADER)),
        received_at=said.get("received_at", record.timestamp),
        first_failed_at=_failed_ms(headers.get(FAILED_HEADER)),
        replay=headers.get(REPLAY_HEADER, b"").decode("utf-8", "replace"),
    )


def _readable(topic: str, value: bytes) -> dict[str, Any]:
    """Return the columns of a record, {} where it is none of this topic's schema."""
    schema = _SCHEMAS[topic]
    body = value[FRAME_BYTES:]
    return schema.decode(body) if value.startswith(schema.frame) and not schema.flaw(body) else {}


def _failed_ms(header: bytes | None) -> int:
    return int(header) if header is not None and header.isdigit() and len(header) <= _MS_DIGITS else 0


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
