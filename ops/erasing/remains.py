"""What stays in Kafka after an erasure, and until when: topics that nobody can take a record out of."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ops.dlq.scan import Scan
from ops.kafka import admin_client
from ops.kafka_metadata import describe
from processors.erase import is_erased_letter
from schemas.erasures import ErasureList
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.topics import CUSTOM_EVENTS, DEAD_LETTERS, EXPOSURES, SHADOWS

_HOLDING: Final = (EXPOSURES, CUSTOM_EVENTS, *SHADOWS.values(), *DEAD_LETTERS)
"""Beside those of raw events, topics whose records may be of any unit. Their cleanup is `delete`, so a tombstone would
be one record more."""

_PLACES_NAMED: Final = 100


async def remaining(kafka: KafkaConnection, erased_ms: int) -> list[dict[str, Any]]:
    """Return each such topic with its retention as the broker says it, and when its last record of then is gone.

    Raises KafkaError.
    """
    async with admin_client(kafka) as admin:
        raw = [record.topic for record in (await read_logs(kafka)).line]
        names = list((await describe(admin, [*raw, *_HOLDING])).topics)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        (answer,) = await admin.describe_configs(resources)
    found = {name: {entry[0]: entry[1] for entry in entries} for _, _, _, name, entries in answer.resources}
    return [_remainder(name, found[name], erased_ms) for name in names]


def _remainder(name: str, settings: Mapping[str, str], erased_ms: int) -> dict[str, Any]:
    retention_ms, segment_ms = int(settings["retention.ms"]), int(settings["segment.ms"])
    # A segment is deleted as a whole, when the newest of its records is old enough.
    until = _iso(erased_ms + retention_ms + segment_ms) if retention_ms >= 0 else None
    return {"topic": name, "retention_ms": retention_ms, "segment_ms": segment_ms, "until": until}


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


async def letters_of(kafka: KafkaConnection, erasures: ErasureList) -> dict[str, Any]:
    """Return how many dead letters of erased units there are, and where. Raises KafkaError.

    Letters whose event cannot be read are counted apart: whose they are nobody can say.
    """
    count, places, last = 0, list[str](), dict[str, int]()
    async with Scan(kafka) as scan:
        await scan.find_ends()
        await scan.learn_newest()
        async for letters, _ in scan.letters():
            for letter in letters:
                if not is_erased_letter(erasures, letter.envelope):
                    continue
                count += 1
                if len(places) < _PLACES_NAMED:
                    places.append(str(letter.place))
                partition = f"{letter.place.topic}/{letter.place.partition}"
                last[partition] = max(last.get(partition, 0), letter.place.offset)
        return {"records": count, "places": places, "last_offsets": last, "unreadable": scan.unreadable.count}
